//! PodDisruptionBudget: how many of a group of pods may be evicted just now.
//!
//! ```text
//! pods that the budget selects ─► how many there should be (their controllers' sizes) ─► how many must be healthy
//!                              ─► how many are ─► the difference may go
//! ```
//! Eviction itself takes from the number in the status; the pods that it took are held in `disruptedPods` until they are
//! seen to go, two minutes at most.
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
    selector::matches,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        autoscaling::v1::Scale,
        core::v1::{Pod, PodCondition},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, OwnerReference, Time},
        util::intstr::IntOrString,
    },
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;
use task::Task;

use crate::{
    caches::Caches,
    deployment::plan::share,
    namespace::discover,
    pods::{controller_of, is_ready, phase},
};

/// A pod that was evicted and is still there after this long was not.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
const TARGET: &str = "DisruptionTarget";

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Caches,
    events: Recorder,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let stale: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.budgets.listen(move |change| add.add(change.key.clone()));
    let (add, later, budgets) = (queue.clone(), stale.clone(), caches.budgets.clone());
    caches.pods.listen(move |change| {
        if change.new.as_ref().is_some_and(|pod| stale_after(pod, Timestamp::now()).is_some()) {
            later.add(change.key.clone());
        }
        for budget in budgets.list_in(&change.key.namespace) {
            let selects = |pod: &Option<Arc<Pod>>| pod.as_ref().is_some_and(|pod| selects(&budget, pod));
            if selects(&change.old) || selects(&change.new) {
                add.add(Key::of(&*budget));
            }
        }
    });
    // Another size of a controller is another number of pods that should be there.
    let (add, budgets) = (queue.clone(), caches.budgets.clone());
    let resized =
        move |namespace: &str| budgets.list_in(namespace).iter().for_each(|budget| add.add(Key::of(&**budget)));
    let resized = Arc::new(resized);
    let tell = resized.clone();
    caches.deployments.listen(move |change| {
        let size = |set: &Option<Arc<_>>| {
            set.as_ref().map(|set: &Arc<k8s_openapi::api::apps::v1::Deployment>| set.spec.replicas)
        };
        if size(&change.old) != size(&change.new) {
            tell(&change.key.namespace);
        }
    });
    let tell = resized.clone();
    caches.stateful_sets.listen(move |change| {
        let size = |set: &Option<Arc<_>>| {
            set.as_ref().map(|set: &Arc<k8s_openapi::api::apps::v1::StatefulSet>| set.spec.replicas)
        };
        if size(&change.old) != size(&change.new) {
            tell(&change.key.namespace);
        }
    });
    caches.replica_sets.listen(move |change| {
        let size = |set: &Option<Arc<_>>| {
            set.as_ref().map(|set: &Arc<k8s_openapi::api::apps::v1::ReplicaSet>| set.spec.replicas)
        };
        if size(&change.old) != size(&change.new) {
            resized(&change.key.namespace);
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: caches.clone(),
        events: Recorder::new(task, client, "controllermanager", None),
    };
    let mine = controller.clone();
    queue.run("disruption budget", 1, move |key| {
        let controller = mine.clone();
        async move { controller.reconcile(&key).await }
    });
    stale.run("pod that was not disrupted", 1, move |key| {
        let controller = controller.clone();
        async move { controller.clear(&key).await }
    });
}

/// Why it is not known how many pods there should be.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// An empty selector selects all pods, none at all selects none.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref()))
}

/// What a budget asks of the number of pods that should be there.
enum Wanted<'a> {
    /// So many, however many there are.
    Fixed(i32),
    /// A share of them.
    Share(&'a IntOrString),
    /// All but so many, or such a share.
    AllBut(&'a IntOrString),
}

fn wanted(spec: &PodDisruptionBudgetSpec) -> Wanted<'_> {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Wanted::AllBut(most),
        (None, Some(IntOrString::Int(least))) => Wanted::Fixed(*least),
        (None, Some(least)) => Wanted::Share(least),
        (None, None) => Wanted::Fixed(0),
    }
}

/// How many pods there should be, and how many of them healthy; `scale` is the sum of their controllers' sizes.
fn expected(wanted: &Wanted<'_>, pods: usize, scale: i32) -> (i32, i32) {
    match wanted {
        Wanted::Fixed(least) => (i32::try_from(pods).unwrap_or(i32::MAX), *least),
        Wanted::Share(least) => (scale, share(least, scale, true)),
        Wanted::AllBut(most) => (scale, (scale - share(most, scale, true)).max(0)),
    }
}

/// The status that follows, and when it changes by time alone.
fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    (expected, desired): (i32, i32),
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let old = budget.status.clone().unwrap_or_default();
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    let mut again: Option<Duration> = None;
    for (name, time) in old.disrupted_pods.into_iter().flatten() {
        let there = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name));
        let left = Duration::try_from(PATIENCE - now.duration_since(time.0)).unwrap_or_default();
        if there.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) && !left.is_zero() {
            again = Some(again.map_or(left, |sooner| sooner.min(left)));
            disrupted.insert(name, time);
        }
    }
    let healthy = pods.iter().filter(|pod| {
        let held = pod.metadata.name.as_ref().is_some_and(|name| disrupted.contains_key(name));
        pod.metadata.deletion_timestamp.is_none() && !held && is_ready(pod)
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let (verdict, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, verdict, reason, "", now)]),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(disrupted).filter(|all| !all.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    (status, again)
}

/// The condition `DisruptionAllowed`; the time of its last change stays if it does not change.
fn condition(budget: &PodDisruptionBudget, verdict: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    let conditions = budget.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let old = conditions.iter().find(|condition| condition.type_ == "DisruptionAllowed");
    let since = old.filter(|old| old.status == verdict).map_or(Time(now), |old| old.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".into(),
        status: verdict.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    }
}

/// How long the condition `DisruptionTarget` of a pod that does not go still stands; `None` if it has none.
fn stale_after(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase(pod), "Succeeded" | "Failed") {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found: &PodCondition = conditions.iter().find(|condition| {
        condition.type_ == TARGET
            && condition.status == "True"
            // The node may take as long as it likes.
            && condition.reason.as_deref() != Some("TerminationByKubelet")
    })?;
    let since = found.last_transition_time.as_ref().map_or(now, |time| time.0);
    Some(Duration::try_from(PATIENCE - now.duration_since(since)).unwrap_or_default())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.budgets.ready().await;
        self.caches.pods.ready().await;
        self.caches.replica_sets.ready().await;
        self.caches.replication_controllers.ready().await;
        self.caches.deployments.ready().await;
        self.caches.stateful_sets.ready().await;
        let Some(budget) = self.caches.budgets.get(key) else { return Ok(Next::Done) };
        if budget.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let Some(spec) = &budget.spec else { return Ok(Next::Done) };
        let mut pods = self.caches.pods.list_in(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let about = budget.object_ref(&());
        if pods.is_empty() {
            self.events.say(&about, Severity::Normal, "NoPods", "No matching pods found");
        }
        let wanted = wanted(spec);
        let scale = match wanted {
            Wanted::Fixed(_) => Ok(0),
            Wanted::Share(_) | Wanted::AllBut(_) => self.scale(key, &pods).await,
        };
        let now = Timestamp::now();
        let (status, again) = match &scale {
            Ok(scale) => status(&budget, &pods, expected(&wanted, pods.len(), *scale), now),
            Err(error) => {
                let message = format!("Failed to calculate the number of expected pods: {error}");
                self.events.say(&about, Severity::Warning, "CalculateExpectedPodCountFailed", message);
                // Nothing may go while it is not known how many there should be.
                let status = PodDisruptionBudgetStatus {
                    disruptions_allowed: Some(0),
                    observed_generation: budget.metadata.generation,
                    conditions: Some(vec![condition(&budget, "False", "SyncFailed", &error.to_string(), now)]),
                    ..budget.status.clone().unwrap_or_default()
                };
                (status, None)
            }
        };
        if budget.status.as_ref() != Some(&status) {
            let mut whole = (*budget).clone();
            whole.status = Some(status);
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
            api.replace_status(&key.name, &PostParams::default(), &whole).await?;
        }
        match scale {
            // A controller of pods that is not there yet, or not served: its coming is told by nobody.
            Err(_) => Ok(Next::After(Duration::from_secs(30))),
            Ok(_) => Ok(again.map_or(Next::Done, Next::After)),
        }
    }

    /// The sum of the sizes of the pods' controllers, each counted once. Pods without one count for nothing.
    async fn scale(&self, key: &Key, pods: &[Arc<Pod>]) -> Result<i32, Unknown> {
        let mut sizes: HashMap<String, i32> = HashMap::new();
        for pod in pods {
            let Some(owner) = controller_of(pod.metadata.owner_references.as_ref()) else { continue };
            if sizes.contains_key(&owner.uid) {
                continue;
            }
            let found = match self.known_size(&key.namespace, owner) {
                Some(found) => Some(found),
                None => self.asked_size(&key.namespace, owner).await?,
            };
            let Some((uid, size)) = found else {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(Unknown::NoController(name.to_owned()));
            };
            // All sets of a deployment stand for the deployment.
            sizes.insert(owner.uid.clone(), 0);
            sizes.insert(uid, size);
        }
        Ok(sizes.values().sum())
    }

    /// The size of a controller of one of the well-known kinds, and the uid that it counts under.
    fn known_size(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let key = Key::new(namespace, &owner.name);
        let same = |uid: &Option<String>| uid.as_ref() == Some(&owner.uid);
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let set = self.caches.replica_sets.get(&key).filter(|set| same(&set.metadata.uid))?;
                let above = controller_of(set.metadata.owner_references.as_ref());
                if let Some(above) = above.filter(|above| above.kind == "Deployment") {
                    let deployment = self.caches.deployments.get(&Key::new(namespace, &above.name))?;
                    return Some((above.uid.clone(), deployment.spec.replicas.unwrap_or(1)));
                }
                Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)))
            }
            ("apps", "StatefulSet") => {
                let set = self.caches.stateful_sets.get(&key).filter(|set| same(&set.metadata.uid))?;
                Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)))
            }
            ("", "ReplicationController") => {
                let set = self.caches.replication_controllers.get(&key).filter(|set| same(&set.metadata.uid))?;
                let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                Some((owner.uid.clone(), size))
            }
            _ => None,
        }
    }

    /// The size of a controller of any kind that has the sub-resource `scale`.
    async fn asked_size(&self, namespace: &str, owner: &OwnerReference) -> kube::Result<Option<(String, i32)>> {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kinds = discover(&self.client).await?;
        let Some(kind) = kinds.into_iter().find(|kind| kind.group == group && kind.kind == owner.kind) else {
            return Ok(None);
        };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            plural: kind.plural,
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let scale: Scale = match api.get_subresource("scale", &owner.name).await {
            Ok(found) => serde_json::from_value(json!(found)).map_err(kube::Error::SerdeError)?,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok((scale.metadata.uid.as_ref() == Some(&owner.uid)).then(|| (owner.uid.clone(), size)))
    }

    /// Takes the condition `DisruptionTarget` back from a pod that did not go.
    async fn clear(&self, key: &Key) -> kube::Result<Next> {
        let Some(pod) = self.caches.pods.get(key) else { return Ok(Next::Done) };
        match stale_after(&pod, Timestamp::now()) {
            None => Ok(Next::Done),
            Some(left) if !left.is_zero() => Ok(Next::After(left)),
            Some(_) => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{"type": TARGET,
                    "status": "False", "lastTransitionTime": Timestamp::now().to_string()}]}});
                let done = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                crate::pods::forgive_missing(done).map(|_| Next::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests;
