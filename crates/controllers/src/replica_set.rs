//! ReplicaSet, and with the same code ReplicationController: keeps as many pods of a template as are wanted.
//!
//! ```text
//! claim pods (adopt, release) ─► too few: create, in batches of 1, 2, 4 ...
//!                             ─► too many: delete the least useful
//!                             ─► status
//! ```
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>

mod form;

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    cache::Key,
    queue::{Next, Queue},
    selector::matches,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{ObjectReference, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::Client;
use task::Task;

pub use form::Form;

use crate::{
    caches::Caches,
    expectations::Expectations,
    hands::{BURST, Hands, is_ending, refusal, slowly},
    ownership::Owner,
    pods::{Availability, availability, controller_of, count, deletion_order, from_template, is_active, is_ready},
};

const WORKERS: usize = 4;

#[derive(Clone)]
struct Controller {
    form: Form,
    hands: Hands,
    caches: Caches,
    expectations: Arc<Expectations>,
}

/// Runs the controller of one of the two kinds.
pub fn run(form: Form, task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let expectations: Arc<Expectations> = Arc::default();
    let add = queue.clone();
    form.listen(caches, move |key| add.add(key));
    let (add, all, expected) = (queue.clone(), caches.clone(), expectations.clone());
    caches.pods.listen(move |change| {
        let owner = |pod: &Arc<Pod>| owner_key(form, pod);
        let before = change.old.as_ref().and_then(owner);
        let after = change.new.as_ref().and_then(owner);
        match (&change.old, &change.new) {
            (None, Some(_)) => after.iter().for_each(|owner| expected.created(owner)),
            (Some(old), None) => {
                let uid = old.metadata.uid.as_deref().unwrap_or_default();
                before.iter().for_each(|owner| expected.deleted(owner, uid));
            }
            // A pod that has been told to go counts as gone.
            (Some(old), Some(new)) if new.metadata.deletion_timestamp.is_some() => {
                let uid = old.metadata.uid.as_deref().unwrap_or_default();
                after.iter().for_each(|owner| expected.deleted(owner, uid));
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
                for set in form.list_in(&all, namespace) {
                    if matches(&set.spec.selector, pod.metadata.labels.as_ref()) {
                        add.add(Key::of(&*set));
                    }
                }
            }
            _ => {}
        }
    });
    let controller =
        Controller { form, hands: Hands::new(task, client, form.component()), caches: caches.clone(), expectations };
    queue.run(form.component(), WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn owner_key(form: Form, pod: &Arc<Pod>) -> Option<Key> {
    let owner = controller_of(pod.metadata.owner_references.as_ref()).filter(|owner| owner.kind == form.kind())?;
    Some(Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name))
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.pods.ready().await;
        self.form.ready(&self.caches).await;
        let Some(set) = self.form.get(&self.caches, key) else {
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        let met = self.expectations.met(key);
        let pods = self.claim(&set).await?;
        let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let failure = if met && set.metadata.deletion_timestamp.is_none() {
            self.scale(key, &set, &active).await.err().filter(|error| !is_ending(error))
        } else {
            None
        };
        let leaving = self.form.counts_leaving().then(|| count(&pods, |pod| pod.metadata.deletion_timestamp.is_some()));
        let (status, again) = status(&set, &active, leaving, failure.as_ref().map(refusal), Timestamp::now());
        if set.status.as_ref() != Some(&status) {
            self.form.write_status(&self.hands.client, &set, status).await?;
        }
        match (failure, again) {
            (Some(error), _) => Err(error),
            (None, Some(delay)) => Ok(Next::After(delay)),
            (None, None) => Ok(Next::Done),
        }
    }

    /// The pods of the set, orphans adopted and strangers released.
    async fn claim(&self, set: &ReplicaSet) -> kube::Result<Vec<Arc<Pod>>> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let owner = Owner {
            reference: &self.form.reference(set),
            plural: self.form.plural(),
            namespace,
            selector: &set.spec.selector,
            leaving: set.metadata.deletion_timestamp.is_some(),
            finalizer: None,
        };
        owner.claim(&self.hands.client, self.caches.pods.list_in(namespace), |_| true).await
    }

    async fn scale(&self, key: &Key, set: &ReplicaSet, active: &[Arc<Pod>]) -> kube::Result<()> {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let about = self.form.object_ref(set);
        if active.len() < wanted {
            self.create(key, set, &about, (wanted - active.len()).min(BURST)).await
        } else {
            self.delete(key, &about, active, (active.len() - wanted).min(BURST)).await
        }
    }

    async fn create(&self, key: &Key, set: &ReplicaSet, about: &ObjectReference, count: usize) -> kube::Result<()> {
        let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
        let pod = from_template(template, &self.form.reference(set), &key.namespace);
        self.expectations.expect_creations(key, count);
        let (made, failed) =
            slowly(vec![&pod; count], |pod| async { self.hands.create(about, pod).await.map(drop) }).await;
        (made..count).for_each(|_| self.expectations.created(key));
        failed.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &Key, about: &ObjectReference, active: &[Arc<Pod>], count: usize) -> kube::Result<()> {
        if count == 0 {
            return Ok(());
        }
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
        let done = join_all(doomed.iter().map(|pod| self.hands.delete(about, pod))).await;
        let mut failed = None;
        for (pod, outcome) in doomed.iter().zip(done) {
            if let Err(error) = outcome {
                self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The status that follows from the pods, and when it changes by time alone.
fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    leaving: Option<i32>,
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
        terminating_replicas: leaving,
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|all| !all.is_empty()),
    };
    (status, again)
}
