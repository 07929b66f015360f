//! Nodes, namespaces and leases.
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/cluster>

use counts::page::Page;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node},
};

use super::{
    Allowed,
    rows::{Rows, number, text},
};

const ROLE: &str = "node-role.kubernetes.io/";

pub(super) fn node(page: &mut Page, allowed: &Allowed, object: &Node) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("node", text(&meta.name))]);
    rows.life("kube_node_created", Some("kube_node_deletion_timestamp"), meta);
    rows.allowed("kube_node_labels", "kube_node_annotations", allowed, meta);
    for role in meta.labels.iter().flatten().filter_map(|(label, _)| label.strip_prefix(ROLE)) {
        rows.info("kube_node_role", &[("role", role)]);
    }
    let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
    let machine = status.node_info.clone().unwrap_or_default();
    let addresses = || status.addresses.iter().flatten();
    let internal = addresses().find(|address| address.type_ == "InternalIP");
    rows.info(
        "kube_node_info",
        &[
            ("kernel_version", &machine.kernel_version),
            ("os_image", &machine.os_image),
            ("container_runtime_version", &machine.container_runtime_version),
            ("kubelet_version", &machine.kubelet_version),
            ("kubeproxy_version", "deprecated"),
            ("provider_id", text(&spec.provider_id)),
            ("pod_cidr", text(&spec.pod_cidr)),
            ("system_uuid", &machine.system_uuid),
            ("internal_ip", internal.map_or("", |address| &address.address)),
        ],
    );
    for address in addresses() {
        rows.info("kube_node_status_addresses", &[("type", &address.type_), ("address", &address.address)]);
    }
    for taint in spec.taints.iter().flatten() {
        let labels = [("key", taint.key.as_str()), ("value", text(&taint.value)), ("effect", &taint.effect)];
        rows.info("kube_node_spec_taint", &labels);
    }
    rows.value("kube_node_spec_unschedulable", &[], number(spec.unschedulable.unwrap_or(false)));
    rows.amounts("kube_node_status_allocatable", &[], &status.allocatable);
    rows.amounts("kube_node_status_capacity", &[], &status.capacity);
    for condition in status.conditions.iter().flatten() {
        let labels = [("condition", text(&condition.type_))];
        rows.condition("kube_node_status_condition", "status", &labels, text(&condition.status));
    }
}

pub(super) fn namespace(page: &mut Page, allowed: &Allowed, object: &Namespace) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.name))]);
    rows.life("kube_namespace_created", None, meta);
    rows.allowed("kube_namespace_labels", "kube_namespace_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    for phase in ["Active", "Terminating"] {
        let is = number(status.phase.as_deref() == Some(phase));
        rows.value("kube_namespace_status_phase", &[("phase", phase)], is);
    }
    for condition in status.conditions.iter().flatten() {
        let labels = [("condition", text(&condition.type_))];
        rows.condition("kube_namespace_status_condition", "status", &labels, text(&condition.status));
    }
}

pub(super) fn lease(page: &mut Page, _: &Allowed, object: &Lease) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("lease", text(&meta.name))]);
    let spec = object.spec.clone().unwrap_or_default();
    let namespace = ("namespace", text(&meta.namespace));
    let mut owner = |kind: &str, name: &str| {
        let holder = ("lease_holder", text(&spec.holder_identity));
        rows.info("kube_lease_owner", &[("owner_kind", kind), ("owner_name", name), namespace, holder]);
    };
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if owners.is_empty() {
        owner("", "");
    }
    owners.iter().for_each(|found| owner(&found.kind, &found.name));
    if let Some(time) = &spec.renew_time {
        rows.value("kube_lease_renew_time", &[namespace], time.0.as_second() as f64);
    }
}
