//! The owner task: takes changes in, schedules what waits, binds in parallel.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::{
    cache::{Cache, Change, Key},
    events::{Recorder, Severity},
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Client, Resource, core::Request};
use serde_json::json;
use task::Task;
use tokio::sync::mpsc;

use crate::{filter::obstacles, report, score::score, state};

/// The scheduler that pods name unless they name another.
const NAME: &str = "default-scheduler";
/// How long after a refused binding a pod is tried again.
const RETRY: Duration = Duration::from_secs(1);

enum Heard {
    Pod(Change<Pod>),
    Node(Change<Node>),
    /// A binding was refused; its pod may be tried again.
    Refused(Key),
}

/// Schedules pods until `task` ends. The caches are those of the whole process; changes that they already hold are taken in
/// at once.
pub fn run(task: &Task, client: Client, pods: Cache<Pod>, nodes: Cache<Node>) {
    let (hear, heard) = mpsc::unbounded_channel();
    let (pod_changes, node_changes) = (hear.clone(), hear.clone());
    pods.listen(move |change| drop(pod_changes.send(Heard::Pod(change.clone()))));
    nodes.listen(move |change| drop(node_changes.send(Heard::Node(change.clone()))));
    let owner = Owner {
        task: task.clone(),
        events: Recorder::new(task, &client, NAME, None),
        client,
        hear,
        state: state::State::default(),
        active: BTreeSet::new(),
        waiting: BTreeMap::new(),
        binding: BTreeMap::new(),
        arrivals: 0,
    };
    task.spawn_until_cancelled("scheduler", async move {
        pods.ready().await;
        nodes.ready().await;
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
    /// Pods to be tried now.
    active: BTreeSet<Place>,
    /// Pods without a node, as last seen.
    waiting: BTreeMap<Key, (Arc<Pod>, Place)>,
    /// Pods whose binding is on its way.
    binding: BTreeMap<Key, Arc<Pod>>,
    arrivals: u64,
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
            if self.state.remove_pod(&key) {
                self.retry_all();
            }
            return;
        };
        if let Some(node) = state::node_of(&pod) {
            self.leave(&key);
            self.binding.remove(&key);
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
        // A change of its status alone, such as the one written here, is no reason to try again.
        let news = self.waiting.get(&key).is_none_or(|(old, _)| {
            old.metadata.uid != pod.metadata.uid || old.spec != pod.spec || old.metadata.labels != pod.metadata.labels
        });
        let place = match self.waiting.get(&key) {
            Some((_, place)) => place.clone(),
            None => {
                self.arrivals += 1;
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
        let mut refusals = Vec::new();
        let mut best: Option<(i64, Reverse<usize>, &str)> = None;
        for (name, place) in self.state.nodes() {
            let found = obstacles(&self.state, name, place, &pod);
            if !found.is_empty() {
                refusals.push(found);
                continue;
            }
            let candidate = (score(&self.state, place, &pod), Reverse(place.pods.len()), name);
            if best.is_none_or(|best| candidate > best) {
                best = Some(candidate);
            }
        }
        match best.map(|(_, _, name)| name.to_owned()) {
            Some(node) => self.bind(key.clone(), pod, node),
            None => {
                let message = report::summary(self.state.count(), &refusals);
                if !report::says(&pod, &message) {
                    self.events.say(&pod.object_ref(&()), Severity::Warning, "FailedScheduling", message.clone());
                    let client = self.client.clone();
                    self.task.spawn_until_cancelled("unschedulable", async move {
                        report::unschedulable(&client, &pod, &message).await;
                    });
                }
            }
        }
    }

    fn bind(&mut self, key: Key, pod: Arc<Pod>, node: String) {
        self.state.place(&key, pod.clone(), &node);
        self.binding.insert(key.clone(), pod.clone());
        let (client, hear, events) = (self.client.clone(), self.hear.clone(), self.events.clone());
        self.task.spawn_until_cancelled("bind", async move {
            match post(&client, &pod, &node).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    events.say(&pod.object_ref(&()), Severity::Normal, "Scheduled", message);
                }
                Err(error) => {
                    tracing::debug!(pod = %key, node, %error, "bind");
                    tokio::time::sleep(RETRY).await;
                    let _ = hear.send(Heard::Refused(key));
                }
            }
        });
    }
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
