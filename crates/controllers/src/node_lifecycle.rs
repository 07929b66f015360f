//! Watches the nodes' heartbeats: a silent node becomes unknown and tainted, and its pods are evicted once they no longer
//! tolerate that.
//!
//! ```text
//! lease renewed ──► Ready as the node says ──► no taint
//! 40 s silent ────► Ready=Unknown ───────────► unreachable:NoExecute ──► pods deleted after their toleration
//! Ready=False ───────────────────────────────► not-ready:NoExecute ────► likewise
//! short of memory, disk or pids, no network ─► a taint of its own, NoSchedule
//! ```
//! <https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller>

use std::time::Duration;

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod, Taint, Toleration},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use task::Task;

use crate::caches::{Caches, LEASES};

/// Silence after which a node counts as lost.
const GRACE: SignedDuration = SignedDuration::from_secs(40);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_EXECUTE: &str = "NoExecute";
const NO_SCHEDULE: &str = "NoSchedule";

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let (from_nodes, from_pods) = (queue.clone(), queue.clone());
    caches.nodes.listen(move |change| from_nodes.add(change.key.clone()));
    caches.pods.listen(move |change| {
        // Only pods that have just come to a node matter: a taint may already be waiting for them.
        let node = |pod: &Option<std::sync::Arc<Pod>>| {
            pod.as_ref().and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.node_name.clone())
        };
        if let Some(name) = node(&change.new).filter(|_| node(&change.old).is_none()) {
            from_pods.add(Key::new("", &name));
        }
    });
    let (caches, client) = (caches.clone(), client.clone());
    let began = Timestamp::now();
    queue.run("node lifecycle", 1, move |key| {
        let (caches, client) = (caches.clone(), client.clone());
        async move {
            caches.leases.ready().await;
            caches.pods.ready().await;
            let Some(node) = caches.nodes.get(&key) else { return Ok(Next::Done) };
            let lease = caches.leases.get(&Key::new(LEASES, &key.name));
            let now = Timestamp::now();
            let verdict = judge(&node, lease.as_deref(), began, now);
            let api: Api<Node> = Api::all(client.clone());
            if verdict.unknown {
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(unknown(now))).await?;
            }
            if let Some(taints) = taints(&node, &wanted(&node, verdict.taint), now) {
                let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
                    "spec": {"taints": taints}});
                api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                return Ok(Next::After(verdict.again));
            }
            let mut again = verdict.again;
            let hard: Vec<&Taint> = node
                .spec
                .iter()
                .flat_map(|spec| spec.taints.iter().flatten())
                .filter(|taint| taint.effect == NO_EXECUTE)
                .collect();
            if !hard.is_empty() {
                for pod in caches.pods.list() {
                    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(&*key.name)
                        || pod.metadata.deletion_timestamp.is_some()
                    {
                        continue;
                    }
                    match tolerates(&pod, &hard, now) {
                        Tolerates::ForEver => {}
                        Tolerates::For(left) => again = again.min(left),
                        Tolerates::No => evict(&client, &pod).await?,
                    }
                }
            }
            Ok::<_, kube::Error>(Next::After(again))
        }
    });
}

struct Verdict {
    /// The condition must be set to Unknown.
    unknown: bool,
    /// The taint that the node must have, of the two.
    taint: Option<&'static str>,
    /// When to look again.
    again: Duration,
}

/// Judges a node by its last heartbeat. What was before `began`, when this began to watch, is nobody's silence: the server may
/// have been down, and the node could tell nobody.
fn judge(node: &Node, lease: Option<&Lease>, began: Timestamp, now: Timestamp) -> Verdict {
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "Ready");
    let renewed =
        lease.and_then(|lease| lease.spec.as_ref()).and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let reported = ready.and_then(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0);
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let last = renewed.max(reported).or(created).unwrap_or(now).max(began);
    let silent = now.duration_since(last);
    if silent > GRACE {
        let known = ready.is_some_and(|condition| condition.status == "Unknown");
        return Verdict { unknown: !known, taint: Some(UNREACHABLE), again: Duration::from_secs(5) };
    }
    let left = Duration::try_from(GRACE - silent).unwrap_or_default() + Duration::from_secs(1);
    let taint = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    Verdict { unknown: false, taint, again: left }
}

fn unknown(now: Timestamp) -> Value {
    let condition = |kind: &str| {
        json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.", "lastTransitionTime": now.to_string()})
    };
    json!({"status": {"conditions":
        [condition("Ready"), condition("MemoryPressure"), condition("DiskPressure"), condition("PIDPressure")]}})
}

/// Conditions that keep new pods away while they hold, and their taints.
const CONDITIONS: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Keys and effects of the taints that a node must have, of those that are set here.
fn wanted(node: &Node, silent: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = silent.into_iter().flat_map(|key| [(key, NO_SCHEDULE), (key, NO_EXECUTE)]).collect();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    for (kind, key) in CONDITIONS {
        if conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True") {
            all.push((key, NO_SCHEDULE));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        all.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    all
}

/// The node's taints with those `wanted` and without others that are set here; `None` if they are right already.
fn taints(node: &Node, wanted: &[(&str, &str)], now: Timestamp) -> Option<Vec<Value>> {
    let present: Vec<&Taint> = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).collect();
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || CONDITIONS.iter().any(|(_, key)| *key == taint.key)
    };
    let right = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(key, effect)| !present.iter().any(|taint| taint.key == *key && taint.effect == *effect))
        .collect();
    if missing.is_empty() && !present.iter().any(|taint| ours(taint) && !right(taint)) {
        return None;
    }
    let kept = present.iter().filter(|taint| !ours(taint) || right(taint));
    let mut all: Vec<Value> = kept.filter_map(|taint| serde_json::to_value(taint).ok()).collect();
    all.extend(missing.iter().map(|(key, effect)| json!({"key": key, "effect": effect, "timeAdded": now.to_string()})));
    Some(all)
}

#[derive(Debug, PartialEq, Eq)]
enum Tolerates {
    ForEver,
    For(Duration),
    No,
}

/// How long a pod bears all of these taints.
fn tolerates(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Tolerates {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest = Tolerates::ForEver;
    for taint in taints {
        let covering: Vec<&Toleration> = tolerations.iter().filter(|toleration| covers(toleration, taint)).collect();
        if covering.is_empty() {
            return Tolerates::No;
        }
        let Some(seconds) = covering.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let left = SignedDuration::from_secs(seconds.max(0)) - now.duration_since(since);
        let Ok(left) = Duration::try_from(left) else { return Tolerates::No };
        if left.is_zero() {
            return Tolerates::No;
        }
        shortest = match shortest {
            Tolerates::For(shorter) if shorter < left => Tolerates::For(shorter),
            _ => Tolerates::For(left),
        };
    }
    shortest
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect, value) = (text(&toleration.key), text(&toleration.effect), text(&toleration.value));
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && (toleration.operator.as_deref() == Some("Exists") || value == text(&taint.value))
}

async fn evict(client: &Client, pod: &Pod) -> kube::Result<()> {
    let meta = &pod.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return Ok(()) };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let condition = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": Timestamp::now().to_string()}]}});
    ignore_missing(pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(condition)).await)?;
    tracing::info!(pod = format!("{namespace}/{name}"), "evicted: it does not tolerate its node's taint");
    ignore_missing(pods.delete(name, &DeleteParams::default()).await)
}

fn ignore_missing<T>(done: kube::Result<T>) -> kube::Result<()> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests;
