//! Labels that objects give to targets, all of them beginning with `__meta_kubernetes_`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Node, Pod, Service},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use tsdb::labels::Labels;

use super::{super::label_name, groups::Around};

/// Labels on their way.
#[derive(Clone, Debug, Default)]
pub struct Meta(pub BTreeMap<String, String>);

impl Meta {
    /// Sets `__meta_kubernetes_NAME`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.insert(format!("__meta_kubernetes_{name}"), value.into());
        self
    }

    /// Sets it if there is a value.
    pub fn set_some(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.set(name, value.to_string());
        }
        self
    }

    /// Where to scrape.
    pub fn address(&mut self, address: String) -> &mut Self {
        self.0.insert("__address__".to_owned(), address);
        self
    }

    /// Name, labels and annotations of an object.
    pub fn object(&mut self, meta: &ObjectMeta, role: &str) -> &mut Self {
        self.set(&format!("{role}_name"), meta.name.clone().unwrap_or_default());
        self.notes(meta, role)
    }

    /// Labels and annotations of an object.
    pub fn notes(&mut self, meta: &ObjectMeta, role: &str) -> &mut Self {
        let sets = [("label", &meta.labels), ("annotation", &meta.annotations)];
        for (what, set) in sets {
            for (name, value) in set.iter().flatten() {
                let name = label_name(name);
                self.set(&format!("{role}_{what}_{name}"), value.clone());
                self.set(&format!("{role}_{what}present_{name}"), "true");
            }
        }
        self
    }

    /// Adds others; what is there already gives way.
    pub fn merge(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    /// The labels; empty ones are left out.
    pub fn labels(self) -> Labels {
        Labels::from_pairs(self.0)
    }
}

/// Host and port as an address.
pub fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Who controls an object.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// What a pod gives.
pub fn pod(pod: &Pod, around: &Around<'_>) -> Meta {
    let mut meta = Meta::default();
    let status = pod.status.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"))
        .map_or("unknown".to_owned(), |condition| condition.status.to_lowercase());
    meta.set("pod_ip", text(status.and_then(|status| status.pod_ip.as_ref())))
        .set("pod_ready", ready)
        .set("pod_phase", text(status.and_then(|status| status.phase.as_ref())))
        .set("pod_node_name", text(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())))
        .set("pod_host_ip", text(status.and_then(|status| status.host_ip.as_ref())))
        .set("pod_uid", text(pod.metadata.uid.as_ref()))
        .object(&pod.metadata, "pod");
    let Some(owner) = controller(&pod.metadata) else { return meta };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    meta.set("pod_controller_kind", owner.kind.clone()).set("pod_controller_name", owner.name.clone());
    match owner.kind.as_str() {
        "ReplicaSet" if around.attach.deployment => {
            if let Some(set) = around.set(namespace, &owner.name)
                && let Some(deployment) = controller(&set.metadata).filter(|owner| owner.kind == "Deployment")
            {
                meta.set("pod_deployment_name", deployment.name.clone());
            }
        }
        "Job" => {
            if around.attach.job {
                meta.set("pod_job_name", owner.name.clone());
            }
            if around.attach.cronjob
                && let Some(job) = around.job(namespace, &owner.name)
                && let Some(cron) = controller(&job.metadata).filter(|owner| owner.kind == "CronJob")
            {
                meta.set("pod_cronjob_name", cron.name.clone());
            }
        }
        _ => {}
    }
    meta
}

/// Containers of a pod, and whether they are initial ones.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let spec = pod.spec.as_ref();
    let usual = spec.into_iter().flat_map(|spec| &spec.containers).map(|container| (container, false));
    let init =
        spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten()).map(|container| (container, true));
    usual.chain(init)
}

/// What a container's port gives.
pub fn port(meta: &mut Meta, container: &Container, port: &ContainerPort, init: bool) {
    meta.set("pod_container_name", container.name.clone())
        .set("pod_container_image", container.image.clone().unwrap_or_default())
        .set("pod_container_port_name", port.name.clone().unwrap_or_default())
        .set("pod_container_port_number", port.container_port.to_string())
        .set("pod_container_port_protocol", port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))
        .set("pod_container_init", init.to_string());
}

/// What a service gives.
pub fn service(service: &Service) -> Meta {
    let mut meta = Meta::default();
    meta.set("namespace", service.metadata.namespace.clone().unwrap_or_default()).object(&service.metadata, "service");
    meta
}

/// What a node gives.
pub fn node(node: &Node) -> Meta {
    let mut meta = Meta::default();
    let provider = node.spec.as_ref().and_then(|spec| spec.provider_id.clone());
    meta.set("node_provider_id", provider.unwrap_or_default());
    for condition in node.status.iter().flat_map(|status| status.conditions.iter().flatten()) {
        let name = label_name(&condition.type_.to_lowercase());
        meta.set(&format!("node_condition_{name}"), condition.status.to_lowercase());
    }
    meta.object(&node.metadata, "node");
    meta
}
