//! ReplicaSet: keeps as many pods of a template as are wanted.
//!
//! ```text
//! claim pods (adopt, release) ─► too few: create, in batches of 1, 2, 4 ...
//!                             ─► too many: delete the least useful
//!                             ─► status
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
    selector::matches,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use task::Task;

use crate::{
    caches::Caches,
    expectations::Expectations,
    pods::{
        Availability, Claim, availability, claim, controller_of, count, deletion_order, from_template, is_active,
        is_ready,
    },
};

/// Pods created or deleted in one turn at most.
const BURST: usize = 500;
const WORKERS: usize = 4;

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Caches,
    expectations: Arc<Expectations>,
    events: Recorder,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let expectations: Arc<Expectations> = Arc::default();
    let add = queue.clone();
    caches.replica_sets.listen(move |change| add.add(change.key.clone()));
    let (add, sets, expected) = (queue.clone(), caches.replica_sets.clone(), expectations.clone());
    caches.pods.listen(move |change| {
        let owner = |pod: &Arc<Pod>| owner_key(pod);
        let before = change.old.as_ref().and_then(owner);
        let after = change.new.as_ref().and_then(owner);
        match (&change.old, &change.new) {
            (None, Some(_)) => after.iter().for_each(|owner| expected.created(owner)),
            (Some(old), None) => {
                let uid = old.metadata.uid.as_deref().unwrap_or_default();
                before.iter().for_each(|owner| expected.deleted(owner, uid));
            }
            _ => {}
        }
        if before != after {
            before.into_iter().for_each(|owner| add.add(owner));
        }
        match (after, &change.new) {
            (Some(owner), _) => add.add(owner),
            // An orphan may be adopted by any set that selects it.
            (None, Some(pod)) if controller_of(pod.metadata.owner_references.as_ref()).is_none() => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                for set in sets.list_in(namespace) {
                    if matches(&set.spec.selector, pod.metadata.labels.as_ref()) {
                        add.add(Key::of(&*set));
                    }
                }
            }
            _ => {}
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: caches.clone(),
        expectations,
        events: Recorder::new(task, client, "replicaset-controller", None),
    };
    queue.run("replica set", WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn owner_key(pod: &Arc<Pod>) -> Option<Key> {
    let owner = controller_of(pod.metadata.owner_references.as_ref()).filter(|owner| owner.kind == "ReplicaSet")?;
    Some(Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name))
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.pods.ready().await;
        self.caches.replica_sets.ready().await;
        let Some(set) = self.caches.replica_sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        let met = self.expectations.met(key);
        let pods = self.claim(&set).await?;
        let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let failure = if met && set.metadata.deletion_timestamp.is_none() {
            self.scale(key, &set, &active).await.err()
        } else {
            None
        };
        let leaving = count(&pods, |pod| pod.metadata.deletion_timestamp.is_some());
        let (status, again) =
            status(&set, &active, leaving, failure.as_ref().map(ToString::to_string), Timestamp::now());
        if set.status.as_ref() != Some(&status) {
            let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
            let mut whole = (*set).clone();
            whole.status = Some(status);
            api.replace_status(&key.name, &PostParams::default(), &whole).await?;
        }
        match (failure, again) {
            (Some(error), _) => Err(error),
            (None, Some(delay)) => Ok(Next::After(delay)),
            (None, None) => Ok(Next::Done),
        }
    }

    /// The pods of the set, orphans adopted and strangers released.
    async fn claim(&self, set: &ReplicaSet) -> kube::Result<Vec<Arc<Pod>>> {
        let spec = &set.spec;
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut mine = Vec::new();
        for pod in self.caches.pods.list_in(namespace) {
            let selected = matches(&spec.selector, pod.metadata.labels.as_ref());
            let leaving = pod.metadata.deletion_timestamp.is_some();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match claim(pod.metadata.owner_references.as_ref(), uid, selected, leaving) {
                Claim::Mine => mine.push(pod),
                Claim::Foreign => {}
                Claim::Adopt if set.metadata.deletion_timestamp.is_some() => {}
                Claim::Adopt => {
                    let patch =
                        json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": [owner_reference(set)]}});
                    if forgive_missing(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await)? {
                        mine.push(pod);
                    }
                }
                Claim::Release => {
                    let patch = json!({"metadata": {"uid": pod.metadata.uid,
                        "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
                    forgive_missing(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
                }
            }
        }
        Ok(mine)
    }

    async fn scale(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Pod>]) -> kube::Result<()> {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        if active.len() < wanted {
            self.create(key, set, (wanted - active.len()).min(BURST)).await
        } else {
            self.delete(key, set, active, (active.len() - wanted).min(BURST)).await
        }
    }

    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> kube::Result<()> {
        let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let pod = from_template(template, &owner_reference(set), &key.namespace);
        self.expectations.expect_creations(key, count);
        let params = PostParams::default();
        let (mut left, mut batch) = (count, 1);
        // A template that is refused is refused once, not once a pod.
        while left > 0 {
            let size = batch.min(left);
            let made = join_all((0..size).map(|_| api.create(&params, &pod))).await;
            let mut refused = None;
            for outcome in made {
                match outcome {
                    Ok(pod) => {
                        let name = pod.metadata.name.as_deref().unwrap_or_default();
                        self.events.say(
                            &set.object_ref(&()),
                            Severity::Normal,
                            "SuccessfulCreate",
                            format!("Created pod: {name}"),
                        );
                    }
                    Err(error) => {
                        self.expectations.created(key);
                        refused = Some(error);
                    }
                }
            }
            left -= size;
            if let Some(error) = refused {
                (0..left).for_each(|_| self.expectations.created(key));
                if !is_ending(&error) {
                    let message = format!("Error creating: {error}");
                    self.events.say(&set.object_ref(&()), Severity::Warning, "FailedCreate", message);
                }
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Pod>], count: usize) -> kube::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut crowds: HashMap<&str, usize> = HashMap::new();
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let nodes: Vec<String> = active.iter().map(|pod| node(pod)).collect();
        for name in &nodes {
            *crowds.entry(name).or_default() += 1;
        }
        let mut order: Vec<&Arc<Pod>> = active.iter().collect();
        order.sort_by(|a, b| deletion_order(a, b, |pod| crowds.get(node(pod).as_str()).copied().unwrap_or(0)));
        let doomed = &order[..count.min(order.len())];
        for pod in doomed {
            self.expectations.expect_deletion(key, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        let done = join_all(doomed.iter().map(|pod| {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            let api = api.clone();
            async move { api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await }
        }))
        .await;
        let mut failed = None;
        for (pod, outcome) in doomed.iter().zip(done) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match outcome {
                Ok(_) => {
                    let message = format!("Deleted pod: {name}");
                    self.events.say(&set.object_ref(&()), Severity::Normal, "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                    if !matches!(&error, kube::Error::Api(status) if status.code == 404) {
                        failed = Some(error);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// A namespace that ends refuses new pods, which is nothing to tell.
fn is_ending(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated"))
}

fn forgive_missing<T>(done: kube::Result<T>) -> kube::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The reference that pods of `set` carry.
fn owner_reference(set: &ReplicaSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The status that follows from the pods, and when it changes by time alone.
fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    leaving: i32,
    failure: Option<String>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = &set.spec;
    let least = spec.min_ready_seconds.unwrap_or(0);
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let mut again: Option<Duration> = None;
    let available = count(active, |pod| availability(pod, least, now) == Availability::Yes);
    for pod in active {
        if let Availability::In(left) = availability(pod, least, now) {
            again = Some(again.map_or(left, |sooner| sooner.min(left)));
        }
    }
    let old = set.status.as_ref();
    let mut conditions: Vec<ReplicaSetCondition> = old.and_then(|status| status.conditions.clone()).unwrap_or_default();
    let known = conditions
        .iter()
        .any(|condition| condition.type_.as_deref() == Some("ReplicaFailure") && condition.message == failure);
    if !known {
        conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure"));
        if let Some(message) = failure {
            conditions.push(ReplicaSetCondition {
                type_: Some("ReplicaFailure".into()),
                status: Some("True".into()),
                reason: Some("FailedCreate".into()),
                message: Some(message),
                last_transition_time: Some(Time(now)),
            });
        }
    }
    let status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: Some(count(active, |pod| {
            client::selector::holds(&labels, pod.metadata.labels.as_ref())
        }))
        .filter(|n| *n > 0),
        ready_replicas: Some(count(active, is_ready)).filter(|n| *n > 0),
        available_replicas: Some(available).filter(|n| *n > 0),
        terminating_replicas: Some(leaving),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|all| !all.is_empty()),
    };
    (status, again)
}
