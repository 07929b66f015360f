//! Events about this node and its pods, in the words of the API: what `client::events` is told.

use std::sync::Arc;

use client::events::{self, Severity};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use task::Task;

/// Upstream's name for what looks after a node; tools look for its events under this name.
const COMPONENT: &str = "kubelet";

/// Takes events.
#[derive(Clone, Debug)]
pub struct Recorder {
    events: events::Recorder,
    node: Arc<str>,
}

/// The reference to a pod, or to one of its containers.
pub fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let spec = pod.spec.as_ref();
    let field = container.map(|name| {
        let init = spec.is_some_and(|spec| spec.init_containers.iter().flatten().any(|other| other.name == name));
        let ephemeral =
            spec.is_some_and(|spec| spec.ephemeral_containers.iter().flatten().any(|other| other.name == name));
        let list = if init {
            "initContainers"
        } else if ephemeral {
            "ephemeralContainers"
        } else {
            "containers"
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: field,
    }
}

impl Recorder {
    /// Writes events in the name of `node` until `task` ends.
    pub fn start(task: &Task, client: &kube::Client, node: &str) -> Self {
        Self { events: events::Recorder::new(task, client, COMPONENT, Some(node)), node: node.into() }
    }

    /// Records an event about a pod or a container of it.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: String) {
        self.events.say(&pod_reference(pod, container), severity(warning), reason, message);
    }

    /// Records an event about this node.
    pub fn node(&self, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node.to_string()),
            uid: Some(self.node.to_string()),
            ..Default::default()
        };
        self.events.say(&about, severity(warning), reason, message);
    }
}

fn severity(warning: bool) -> Severity {
    if warning { Severity::Warning } else { Severity::Normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_by_their_place_in_the_spec() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "web"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}}))
        .unwrap();
        let path = |name| pod_reference(&pod, Some(name)).field_path.unwrap();
        assert_eq!(path("i"), "spec.initContainers{i}");
        assert_eq!(path("a"), "spec.containers{a}");
    }
}
