//! What the scheduler says about a pod that no node takes: why, and the condition `PodScheduled`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub fn summary(nodes: usize, obstacles: &[Vec<String>]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in obstacles.iter().flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

/// Whether the pod says already that it waits, for the same reason.
pub fn says(pod: &Pod, message: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.message.as_deref() == Some(message)
    })
}

/// Writes that no node takes the pod.
pub async fn unschedulable(client: &Client, pod: &Pod, message: &str) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let now = Timestamp::now().to_string();
    let patch = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": now,
    }]}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patched = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    if let Err(error) = patched {
        tracing::debug!(pod = format!("{namespace}/{name}"), %error, "write PodScheduled");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted() {
        let one = |reason: &str| vec![reason.to_owned()];
        let obstacles = [one("Insufficient cpu"), one("node(s) were unschedulable"), one("Insufficient cpu")];
        let expected = "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.";
        assert_eq!(summary(3, &obstacles), expected);
        assert_eq!(summary(0, &[]), "no nodes available to schedule pods");
    }
}
