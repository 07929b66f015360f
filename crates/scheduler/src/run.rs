//! The owner task: takes changes in, schedules what waits, binds in parallel.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use client::{
    cache::{Cache, Change, Key},
    events::{Recorder, Severity},
};
use counts::counter::Counts;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::Request,
};
use serde_json::json;
use task::Task;
use tokio::sync::mpsc;

use crate::{
    filter::obstacles,
    preempt::{Candidate, choose, may_preempt, priority},
    report,
    score::score,
    state,
    volumes::{Choice, Needs, Storage, claims_of},
};

/// The scheduler that pods name unless they name another.
const NAME: &str = "default-scheduler";
/// How long after a refused binding a pod is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Upstream's bounds, seconds: of an attempt, a millisecond doubled fourteen times; of all until a pod has a node, ten
/// milliseconds doubled nineteen times.
const ATTEMPT: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const UNTIL_PLACED: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1310.72, 2621.44, 5242.88,
];

enum Heard {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    /// A claim, volume or class has changed.
    Storage,
    /// A binding was refused; its pod may be tried again.
    Refused(Key),
}

/// What the scheduler looks at: caches of the whole process.
#[derive(Clone, Debug)]
pub struct Sources {
    /// All pods.
    pub pods: Cache<Pod>,
    /// All nodes.
    pub nodes: Cache<Node>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// All claims of volumes.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All volumes.
    pub volumes: Cache<PersistentVolume>,
    /// All classes of volumes.
    pub classes: Cache<StorageClass>,
    /// All disruption budgets.
    pub budgets: Cache<PodDisruptionBudget>,
}

/// Schedules pods until `task` ends, and counts that in `counts` under upstream's names. Changes that the caches already hold
/// are taken in at once.
pub fn run(task: &Task, client: Client, sources: Sources, counts: &Counts) {
    let Sources { pods, nodes, namespaces, claims, volumes, classes, budgets } = sources;
    let (hear, heard) = mpsc::unbounded_channel();
    let (pod_changes, node_changes, storage_changes) = (hear.clone(), hear.clone(), hear.clone());
    let namespace_changes = hear.clone();
    namespaces.listen(move |change| drop(namespace_changes.send(Heard::Namespace(change.clone()))));
    let storage = Storage::new(claims, volumes, classes, move || drop(storage_changes.send(Heard::Storage)));
    pods.listen(move |change| drop(pod_changes.send(Heard::Pod(change.clone()))));
    nodes.listen(move |change| drop(node_changes.send(Heard::Node(change.clone()))));
    let owner = Owner {
        task: task.clone(),
        events: Recorder::new(task, &client, NAME, None),
        client,
        hear,
        state: state::State::default(),
        storage: storage.clone(),
        budgets,
        nominated: BTreeMap::new(),
        active: BTreeSet::new(),
        waiting: BTreeMap::new(),
        binding: BTreeMap::new(),
        arrivals: 0,
        tries: BTreeMap::new(),
        counts: counts.clone(),
    };
    task.spawn_until_cancelled("scheduler", async move {
        pods.ready().await;
        nodes.ready().await;
        namespaces.ready().await;
        storage.ready().await;
        owner.work(heard).await;
    });
}

/// Larger priorities first, then in order of arrival.
type Place = (Reverse<i32>, u64, Key);

struct Owner {
    task: Task,
    client: Client,
    events: Recorder,
    hear: mpsc::UnboundedSender<Heard>,
    state: state::State,
    storage: Storage,
    budgets: Cache<PodDisruptionBudget>,
    /// Pods for which others have to go, and from which node: until they come, nobody less important takes their place.
    nominated: BTreeMap<Key, (String, Arc<Pod>)>,
    /// Pods to be tried now.
    active: BTreeSet<Place>,
    /// Pods without a node, as last seen.
    waiting: BTreeMap<Key, (Arc<Pod>, Place)>,
    /// Pods whose binding is on its way.
    binding: BTreeMap<Key, Arc<Pod>>,
    arrivals: u64,
    /// Since when pods wait, and how often they were tried.
    tries: BTreeMap<Key, (Instant, u32)>,
    counts: Counts,
}

impl Owner {
    async fn work(mut self, mut heard: mpsc::UnboundedReceiver<Heard>) {
        while let Some(first) = heard.recv().await {
            self.take(first);
            while let Ok(next) = heard.try_recv() {
                self.take(next);
            }
            while let Some(place) = self.active.pop_first() {
                self.schedule(&place.2);
            }
            let pending = [("active", self.active.len()), ("unschedulable", self.waiting.len() - self.active.len())];
            for (queue, count) in pending {
                self.counts.set("scheduler_pending_pods", &[("queue", queue)], count as f64);
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Pod(change) => self.pod(change),
            Heard::Node(Change { key, new: Some(node), old }) => {
                // Heartbeats change nothing that matters here.
                let matters = old.is_none_or(|old| {
                    old.spec != node.spec
                        || old.metadata.labels != node.metadata.labels
                        || old.status.as_ref().map(|status| &status.allocatable)
                            != node.status.as_ref().map(|status| &status.allocatable)
                });
                self.state.put_node(&key.name, node);
                if matters {
                    self.retry_all();
                }
            }
            Heard::Node(Change { key, new: None, .. }) => self.state.remove_node(&key.name),
            Heard::Namespace(Change { key, new, old }) => {
                let labels = |namespace: &Option<Arc<Namespace>>| {
                    namespace.as_ref().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default())
                };
                if labels(&new) != labels(&old) {
                    self.state.put_namespace(&key.name, labels(&new));
                    self.retry_all();
                }
            }
            Heard::Storage => {
                let waiting = self.waiting.values().filter(|(pod, _)| !claims_of(pod).is_empty());
                self.active.extend(waiting.map(|(_, place)| place.clone()));
            }
            Heard::Refused(key) => {
                if self.binding.remove(&key).is_some() {
                    self.state.remove_pod(&key);
                }
                if let Some((_, place)) = self.waiting.get(&key) {
                    self.active.insert(place.clone());
                }
            }
        }
    }

    fn pod(&mut self, change: Change<Pod>) {
        let key = change.key;
        let live = change.new.filter(|pod| !state::has_ended(pod));
        let Some(pod) = live else {
            self.leave(&key);
            self.binding.remove(&key);
            let nominated = self.nominated.remove(&key).is_some();
            if self.state.remove_pod(&key) || nominated {
                self.retry_all();
            }
            return;
        };
        if let Some(node) = state::node_of(&pod) {
            self.leave(&key);
            self.binding.remove(&key);
            self.nominated.remove(&key);
            let node = node.to_owned();
            self.state.place(&key, pod, &node);
            return;
        }
        let spec = pod.spec.as_ref();
        let mine = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME) == NAME;
        let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
        if !mine || gated || pod.metadata.deletion_timestamp.is_some() || self.binding.contains_key(&key) {
            return;
        }
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        if let Some(node) = nominated.filter(|node| !node.is_empty()) {
            self.nominated.entry(key.clone()).or_insert_with(|| (node, pod.clone()));
        }
        // A change of its status alone, such as the one written here, is no reason to try again.
        let news = self.waiting.get(&key).is_none_or(|(old, _)| {
            old.metadata.uid != pod.metadata.uid || old.spec != pod.spec || old.metadata.labels != pod.metadata.labels
        });
        let place = match self.waiting.get(&key) {
            Some((_, place)) => place.clone(),
            None => {
                self.arrivals += 1;
                self.tries.insert(key.clone(), (Instant::now(), 0));
                let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
                (Reverse(priority), self.arrivals, key.clone())
            }
        };
        if news {
            self.active.insert(place.clone());
        }
        self.waiting.insert(key, (pod, place));
    }

    fn leave(&mut self, key: &Key) {
        self.tries.remove(key);
        if let Some((_, place)) = self.waiting.remove(key) {
            self.active.remove(&place);
        }
    }

    fn retry_all(&mut self) {
        self.active.extend(self.waiting.values().map(|(_, place)| place.clone()));
    }

    fn schedule(&mut self, key: &Key) {
        if self.binding.contains_key(key) {
            return;
        }
        let Some((pod, _)) = self.waiting.get(key) else { return };
        let pod = pod.clone();
        let began = Instant::now();
        let tries = self.tries.entry(key.clone()).or_insert((began, 0));
        tries.1 = tries.1.saturating_add(1);
        let tries = *tries;
        let needs = match self.storage.needs(&pod) {
            Ok(needs) => needs,
            Err(reason) => {
                tried(&self.counts, "unschedulable", began);
                let message = match self.state.count() {
                    0 => report::summary(0, &[]),
                    count => format!("0/{count} nodes are available: {reason}."),
                };
                return self.refuse(&pod, message);
            }
        };
        // Whoever waits for others to go has taken its place already.
        let ahead: Vec<(Key, String, Arc<Pod>)> = self
            .nominated
            .iter()
            .filter(|(other, (_, waiting))| *other != key && priority(waiting) >= priority(&pod))
            .filter(|(other, _)| !self.binding.contains_key(other))
            .map(|(other, (node, waiting))| (other.clone(), node.clone(), waiting.clone()))
            .collect();
        for (other, node, waiting) in &ahead {
            self.state.place(other, waiting.clone(), node);
        }
        let (best, refusals) = self.best(&pod, &needs);
        let candidate = if best.is_none() && self.may_preempt(key, &pod) {
            let budgets = self.budgets.list();
            let reaches = |name: &str| {
                let place = self.state.nodes().find(|(other, _)| *other == name);
                let node = place.and_then(|(_, place)| place.node.as_ref());
                node.is_some_and(|node| self.storage.obstacle(&needs, node).is_none())
            };
            choose(&self.state, &pod, &budgets, reaches)
        } else {
            None
        };
        for (other, ..) in &ahead {
            self.state.remove_pod(other);
        }
        let thought = began.elapsed().as_secs_f64();
        self.counts.observe("scheduler_scheduling_algorithm_duration_seconds", ATTEMPT, &[], thought);
        match best {
            Some(node) => self.bind(key.clone(), pod, node, &needs, began, tries),
            None => {
                tried(&self.counts, "unschedulable", began);
                let message = report::summary(self.state.count(), &refusals);
                self.refuse(&pod, message);
                if let Some(candidate) = candidate {
                    self.counts.add("scheduler_preemption_attempts_total", &[]);
                    self.preempt(key.clone(), pod, candidate);
                }
            }
        }
    }

    /// The best node that takes the pod, and why the others do not.
    fn best(&self, pod: &Pod, needs: &Needs) -> (Option<String>, Vec<Vec<String>>) {
        let mut refusals = Vec::new();
        let mut best: Option<(i64, Reverse<usize>, &str)> = None;
        for (name, place) in self.state.nodes() {
            let mut found = obstacles(&self.state, name, place, pod);
            if found.is_empty()
                && let Some(reason) = place.node.as_ref().and_then(|node| self.storage.obstacle(needs, node))
            {
                found.push(reason.to_owned());
            }
            if !found.is_empty() {
                refusals.push(found);
                continue;
            }
            let candidate = (score(&self.state, place, pod), Reverse(place.pods.len()), name);
            if best.is_none_or(|best| candidate > best) {
                best = Some(candidate);
            }
        }
        (best.map(|(_, _, name)| name.to_owned()), refusals)
    }

    fn refuse(&self, pod: &Arc<Pod>, message: String) {
        if report::says(pod, &message) {
            return;
        }
        self.events.say(&pod.object_ref(&()), Severity::Warning, "FailedScheduling", message.clone());
        let (client, pod) = (self.client.clone(), pod.clone());
        self.task.spawn_until_cancelled("unschedulable", async move {
            report::unschedulable(&client, &pod, &message).await;
        });
    }

    /// Whether others may be made to go: not again while those that were told to are still on their way.
    fn may_preempt(&self, key: &Key, pod: &Pod) -> bool {
        let waits = self.nominated.get(key).is_some_and(|(node, _)| {
            let place = self.state.nodes().find(|(name, _)| name == node).map(|(_, place)| place);
            place.is_some_and(|place| {
                let leaving = |other: &Arc<Pod>| other.metadata.deletion_timestamp.is_some();
                place.pods.values().any(|other| leaving(other) && priority(other) < priority(pod))
            })
        });
        may_preempt(pod) && !waits
    }

    /// Tells the victims to go and keeps their place for the pod.
    fn preempt(&mut self, key: Key, pod: Arc<Pod>, candidate: Candidate) {
        let node = candidate.node.clone();
        // Less important pods that were promised a place here have to look again.
        self.nominated.retain(|_, (other, waiting)| *other != node || priority(waiting) >= priority(&pod));
        self.nominated.insert(key, (node.clone(), pod.clone()));
        let (client, events) = (self.client.clone(), self.events.clone());
        self.task.spawn_until_cancelled("preempt", async move {
            for (victim, other) in &candidate.victims {
                if let Err(error) = evict(&client, other).await {
                    tracing::warn!(pod = %victim, %error, "preempt");
                    continue;
                }
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                let message = format!("Preempted by pod {uid} on node {node}");
                events.say(&other.object_ref(&()), Severity::Normal, "Preempted", message);
            }
            let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or_default());
            let patch = Patch::Strategic(json!({"status": {"nominatedNodeName": node}}));
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            if let Err(error) = api.patch_status(name, &PatchParams::default(), &patch).await {
                tracing::debug!(pod = name, %error, "write the nominated node");
            }
        });
    }

    fn bind(
        &mut self,
        key: Key,
        pod: Arc<Pod>,
        name: String,
        needs: &Needs,
        began: Instant,
        (since, tries): (Instant, u32),
    ) {
        let node = self.state.nodes().find(|(other, _)| *other == name).and_then(|(_, place)| place.node.clone());
        let Some(node) = node else { return };
        let Some(choices) = self.storage.choose(needs, &node) else { return };
        self.storage.reserve(&choices);
        self.state.place(&key, pod.clone(), &name);
        self.binding.insert(key.clone(), pod.clone());
        let (client, hear, events) = (self.client.clone(), self.hear.clone(), self.events.clone());
        let (storage, counts) = (self.storage.clone(), self.counts.clone());
        self.task.spawn_until_cancelled("bind", async move {
            let done = place(&client, &storage, &choices, &pod, &node).await;
            storage.release(&choices);
            match done {
                Ok(()) => {
                    tried(&counts, "scheduled", began);
                    let attempts = if tries < 15 { tries.to_string() } else { "15+".to_owned() };
                    let (family, took) =
                        ("scheduler_pod_scheduling_sli_duration_seconds", since.elapsed().as_secs_f64());
                    counts.observe(family, UNTIL_PLACED, &[("attempts", &attempts)], took);
                    let message = format!("Successfully assigned {key} to {name}");
                    events.say(&pod.object_ref(&()), Severity::Normal, "Scheduled", message);
                }
                Err(error) => {
                    tried(&counts, "error", began);
                    tracing::debug!(pod = %key, node = name, error, "bind");
                    if !choices.is_empty() {
                        events.say(&pod.object_ref(&()), Severity::Warning, "FailedScheduling", error);
                    }
                    tokio::time::sleep(RETRY).await;
                    let _ = hear.send(Heard::Refused(key));
                }
            }
        });
    }
}

/// Counts an attempt that came to this result.
fn tried(counts: &Counts, result: &str, began: Instant) {
    let labels = [("profile", NAME), ("result", result)];
    counts.add("scheduler_schedule_attempts_total", &labels);
    let took = began.elapsed().as_secs_f64();
    counts.observe("scheduler_scheduling_attempt_duration_seconds", ATTEMPT, &labels, took);
}

/// Binds the pod's claims, then the pod.
async fn place(client: &Client, storage: &Storage, choices: &[Choice], pod: &Pod, node: &Node) -> Result<(), String> {
    if !choices.is_empty() {
        storage.bind(client, choices, node).await?;
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    post(client, pod, name).await.map_err(|error| error.to_string())
}

/// Says on a pod why it goes, and deletes it.
async fn evict(client: &Client, pod: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": Timestamp::now().to_string(),
    }]}}));
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let gone = |error: &kube::Error| matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
    for done in [
        api.patch_status(name, &PatchParams::default(), &patch).await.map(drop),
        api.delete(name, &params).await.map(drop),
    ] {
        match done {
            Err(error) if gone(&error) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

async fn post(client: &Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
        .create_subresource("binding", name, &Default::default(), binding.to_string().into_bytes())
        .map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}
