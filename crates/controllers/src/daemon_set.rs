//! DaemonSet: one pod on each node that suits, kept there through updates of its template.
//!
//! ```text
//! revisions ─► hash of the present template ─► [`plan`]: nodes that lack a pod, pods that must go ─► status
//! ```
//! Pods are bound to their nodes by affinity and placed by the scheduler.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>

mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use client::{
    cache::{Change, Key},
    events::Severity,
    queue::{Next, Queue},
    selector::matches,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource, api::PostParams};
use task::Task;

use self::plan::{Known, Plan, node_of, pin, suits, tolerations};
use crate::{
    caches::Caches,
    expectations::Expectations,
    hands::{BURST, Hands, is_ending, slowly},
    history::{self, HASH},
    ownership::Owner,
    pods::{controller_of, from_template},
};

const COMPONENT: &str = "daemonset-controller";
const GENERATION: &str = "deprecated.daemonset.template.generation";
/// How long a failed pod is left at first, and at most once it has failed again and again.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

#[derive(Clone)]
struct Controller {
    hands: Hands,
    caches: Caches,
    expectations: Arc<Expectations>,
    failures: Arc<Mutex<HashMap<(Key, String), Failure>>>,
}

/// Failed pods of a set on one node.
#[derive(Clone, Copy)]
struct Failure {
    delay: Duration,
    last: Instant,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let expectations: Arc<Expectations> = Arc::default();
    let add = queue.clone();
    caches.daemon_sets.listen(move |change| add.add(change.key.clone()));
    let (add, sets) = (queue.clone(), caches.daemon_sets.clone());
    caches.nodes.listen(move |change: &Change<Node>| {
        let face = |node: &Node| {
            let spec = node.spec.as_ref();
            (
                node.metadata.labels.clone(),
                spec.and_then(|spec| spec.taints.clone()),
                spec.and_then(|spec| spec.unschedulable),
            )
        };
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && face(old) == face(new)
        {
            return;
        }
        for set in sets.list() {
            let verdict = |node: &Option<Arc<Node>>| node.as_ref().map(|node| suits(&set, node));
            if verdict(&change.old) != verdict(&change.new) {
                add.add(Key::of(&*set));
            }
        }
    });
    let (add, sets, expected) = (queue.clone(), caches.daemon_sets.clone(), expectations.clone());
    caches.pods.listen(move |change| {
        let owner = |pod: &Option<Arc<Pod>>| {
            let pod = pod.as_ref()?;
            let owner =
                controller_of(pod.metadata.owner_references.as_ref()).filter(|owner| owner.kind == "DaemonSet")?;
            Some(Key::new(&change.key.namespace, &owner.name))
        };
        let (before, after) = (owner(&change.old), owner(&change.new));
        if let (None, Some(key)) = (&change.old, &after) {
            expected.created(key);
        }
        let leaves = change.new.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        if let Some((pod, key)) = change.old.as_ref().or(change.new.as_ref()).zip(after.as_ref().or(before.as_ref()))
            && leaves
        {
            expected.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        match &change.new {
            Some(pod) if controller_of(pod.metadata.owner_references.as_ref()).is_none() => {
                for set in sets.list_in(&change.key.namespace) {
                    if matches(&set.spec.selector, pod.metadata.labels.as_ref()) {
                        add.add(Key::of(&*set));
                    }
                }
            }
            _ => {}
        }
        before.into_iter().chain(after).for_each(|key| add.add(key));
    });
    let (add, sets) = (queue.clone(), caches.daemon_sets.clone());
    caches.revisions.listen(move |change| {
        let revision = change.new.as_ref().or(change.old.as_ref());
        let owner = revision.and_then(|revision| controller_of(revision.metadata.owner_references.as_ref()));
        let key =
            owner.filter(|owner| owner.kind == "DaemonSet").map(|owner| Key::new(&change.key.namespace, &owner.name));
        key.into_iter().filter(|key| sets.get(key).is_some()).for_each(|key| add.add(key));
    });
    let controller = Controller {
        hands: Hands::new(task, client, COMPONENT),
        caches: caches.clone(),
        expectations,
        failures: Arc::default(),
    };
    queue.run("daemon set", 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.daemon_sets.ready().await;
        self.caches.pods.ready().await;
        self.caches.nodes.ready().await;
        self.caches.revisions.ready().await;
        let Some(set) = self.caches.daemon_sets.get(key) else {
            self.expectations.forget(key);
            self.failures.lock().expect("failures").retain(|(owner, _), _| owner != key);
            return Ok(Next::Done);
        };
        let spec = &set.spec;
        if spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.hands.events.say(&set.object_ref(&()), Severity::Warning, "SelectingAll", message);
            return Ok(Next::Done);
        }
        let leaving = set.metadata.deletion_timestamp.is_some();
        if leaving {
            return Ok(Next::Done);
        }
        let reference = reference(&set);
        let owner = history::Owner {
            reference: &reference,
            namespace: &key.namespace,
            selector: &spec.selector,
            labels: spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default(),
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            leaving,
        };
        let client = &self.hands.client;
        let revisions = history::claimed(client, &owner, self.caches.revisions.list_in(&key.namespace)).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let (newest, collided) =
            history::newest(client, &owner, &revisions, &spec.template, collisions.unwrap_or(0)).await?;
        let collisions = collisions.or((collided > 0).then_some(collided)).map(|known| known.max(collided));
        let hash = newest.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).cloned().unwrap_or_default();
        let met = self.expectations.met(key);
        let pods = Owner {
            reference: &reference,
            plural: "daemonsets",
            namespace: &key.namespace,
            selector: &spec.selector,
            leaving,
            finalizer: None,
        }
        .claim(client, self.caches.pods.list_in(&key.namespace), |_| true)
        .await?;
        let nodes = self.caches.nodes.list();
        let known = Known { set: &set, hash: &hash, nodes: &nodes, pods: &pods, now: Timestamp::now() };
        let plan = if met { known.plan(|node| self.patience(key, node)) } else { Plan::default() };
        let again = plan.again;
        let done = self.act(key, &set, &hash, plan).await;
        let status = known.status(collisions);
        if set.status.as_ref() != Some(&status) {
            let mut whole = (*set).clone();
            whole.status = Some(status);
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), &key.namespace);
            api.replace_status(&key.name, &PostParams::default(), &whole).await?;
        }
        done?;
        let used = |revision: &ControllerRevision| {
            let own = revision.metadata.labels.as_ref().and_then(|labels| labels.get(HASH));
            own == Some(&hash)
                || pods.iter().any(|pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)) == own)
        };
        let limit = spec.revision_history_limit.unwrap_or(10);
        history::clean_up(client, &owner, &revisions, used, limit).await?;
        Ok(again.map_or(Next::Done, Next::After))
    }

    /// How long a failed pod on that node is still left.
    fn patience(&self, key: &Key, node: &str) -> Option<Duration> {
        let failures = self.failures.lock().expect("failures");
        let failure = failures.get(&(key.clone(), node.to_owned()))?;
        failure.delay.checked_sub(failure.last.elapsed()).filter(|left| !left.is_zero())
    }

    /// A failed pod on that node is deleted: the next one is left for longer.
    fn failed(&self, key: &Key, node: &str) {
        let mut failures = self.failures.lock().expect("failures");
        let at = (key.clone(), node.to_owned());
        let delay = match failures.get(&at) {
            Some(known) if known.last.elapsed() < 2 * PATIENCE.1 => (2 * known.delay).min(PATIENCE.1),
            _ => PATIENCE.0,
        };
        failures.insert(at, Failure { delay, last: Instant::now() });
    }

    async fn act(&self, key: &Key, set: &DaemonSet, hash: &str, mut plan: Plan) -> kube::Result<()> {
        let about = set.object_ref(&());
        for (pod, well) in &plan.ended {
            let name = Key::of(&**pod);
            let node = node_of(pod).unwrap_or_default();
            if *well {
                let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                self.hands.events.say(&about, Severity::Normal, "SucceededDaemonPod", message);
            } else {
                self.failed(key, node);
                let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.hands.events.say(&about, Severity::Warning, "FailedDaemonPod", message);
            }
        }
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
        self.expectations.expect_creations(key, plan.create.len());
        for pod in &plan.delete {
            self.expectations.expect_deletion(key, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        let wanted = plan.create.len();
        let create = |node: String| {
            let (pod, about) = (pod_of(set, hash, &node), &about);
            async move { self.hands.create(about, &pod).await.map(drop) }
        };
        let (made, mut failed) = slowly(plan.create, create).await;
        (made..wanted).for_each(|_| self.expectations.created(key));
        let outcomes = join_all(plan.delete.iter().map(|pod| self.hands.delete(&about, pod))).await;
        for (pod, outcome) in plan.delete.iter().zip(outcomes) {
            if let Err(error) = outcome {
                self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                failed = Some(error);
            }
        }
        failed.filter(|error| !is_ending(error)).map_or(Ok(()), Err)
    }
}

fn reference(set: &DaemonSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The pod of a node.
fn pod_of(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = from_template(&set.spec.template, &reference(set), namespace);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.to_owned());
    if let Some(generation) = set.metadata.annotations.as_ref().and_then(|all| all.get(GENERATION)) {
        labels.insert("pod-template-generation".into(), generation.clone());
    }
    if let Some(spec) = &mut pod.spec {
        spec.tolerations = Some(tolerations(spec));
        pin(spec, node);
    }
    pod
}
