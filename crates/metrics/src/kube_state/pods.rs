//! Pods. <https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/pod-metrics.md>

use std::collections::BTreeSet;

use counts::page::Page;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use super::{
    Allowed,
    rows::{Rows, amount_of, flag, number, seconds, text},
};

const PHASES: [&str; 5] = ["Pending", "Succeeded", "Failed", "Unknown", "Running"];
const CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];
const REASONS: [&str; 5] = ["Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError"];

pub(super) fn pod(page: &mut Page, allowed: &Allowed, pod: &Pod) {
    let meta = &pod.metadata;
    let own = [("namespace", text(&meta.namespace)), ("pod", text(&meta.name)), ("uid", text(&meta.uid))];
    let mut rows = Rows::new(page, &own);
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let (spec, status) = (pod.spec.as_ref().unwrap_or(&no_spec), pod.status.as_ref().unwrap_or(&no_status));
    rows.life("kube_pod_created", Some("kube_pod_deletion_timestamp"), meta);
    rows.owners("kube_pod_owner", &meta.owner_references, true);
    rows.allowed("kube_pod_labels", "kube_pod_annotations", allowed, meta);
    information(&mut rows, pod, spec, status);
    self::status(&mut rows, status);
    let node = text(&spec.node_name);
    for container in &spec.containers {
        let labels = [("container", container.name.as_str()), ("node", node)];
        rows.resources(
            "kube_pod_container_resource_limits",
            "kube_pod_container_resource_requests",
            &labels,
            &container.resources,
        );
    }
    for container in spec.init_containers.iter().flatten() {
        let labels = [("container", container.name.as_str()), ("node", node)];
        rows.resources(
            "kube_pod_init_container_resource_limits",
            "kube_pod_init_container_resource_requests",
            &labels,
            &container.resources,
        );
    }
    for status in status.container_statuses.iter().flatten() {
        container(&mut rows, spec, status);
    }
    for status in status.init_container_statuses.iter().flatten() {
        init_container(&mut rows, spec, status);
    }
}

fn information(rows: &mut Rows<'_>, pod: &Pod, spec: &PodSpec, status: &PodStatus) {
    let owners = pod.metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    let (kind, name) = controller.map_or(("", ""), |owner| (owner.kind.as_str(), owner.name.as_str()));
    rows.info(
        "kube_pod_info",
        &[
            ("host_ip", text(&status.host_ip)),
            ("pod_ip", text(&status.pod_ip)),
            ("node", text(&spec.node_name)),
            ("created_by_kind", kind),
            ("created_by_name", name),
            ("priority_class", text(&spec.priority_class_name)),
            ("host_network", flag(spec.host_network.unwrap_or(false))),
        ],
    );
    for address in status.pod_ips.iter().flatten() {
        let family = if address.ip.contains(':') { "6" } else { "4" };
        rows.info("kube_pod_ips", &[("ip", &address.ip), ("ip_family", family)]);
    }
    rows.info("kube_pod_restart_policy", &[("type", text(&spec.restart_policy))]);
    rows.info("kube_pod_service_account", &[("service_account", text(&spec.service_account_name))]);
    rows.info("kube_pod_scheduler", &[("name", text(&spec.scheduler_name))]);
    if let Some(class) = &spec.runtime_class_name {
        rows.info("kube_pod_runtimeclass_name_info", &[("runtimeclass_name", class)]);
    }
    let overhead = |resource: &str| spec.overhead.as_ref().and_then(|map| map.get(resource)).map(amount_of);
    rows.numbers([
        ("kube_pod_overhead_cpu_cores", overhead("cpu")),
        ("kube_pod_overhead_memory_bytes", overhead("memory")),
    ]);
    for volume in spec.volumes.iter().flatten() {
        let Some(claim) = &volume.persistent_volume_claim else { continue };
        let labels = [("volume", volume.name.as_str()), ("persistentvolumeclaim", &claim.claim_name)];
        rows.info("kube_pod_spec_volumes_persistentvolumeclaims_info", &labels);
        let read_only = number(claim.read_only.unwrap_or(false));
        rows.value("kube_pod_spec_volumes_persistentvolumeclaims_readonly", &labels, read_only);
    }
    let mut seen = BTreeSet::new();
    for toleration in spec.tolerations.iter().flatten() {
        let wait = toleration.toleration_seconds.map(|wait| wait.to_string()).unwrap_or_default();
        let labels = [
            ("key", text(&toleration.key)),
            ("operator", text(&toleration.operator)),
            ("value", text(&toleration.value)),
            ("effect", text(&toleration.effect)),
            ("toleration_seconds", wait.as_str()),
        ];
        if seen.insert(labels.map(|(_, value)| value.to_owned())) {
            rows.info("kube_pod_tolerations", &labels);
        }
    }
}

fn status(rows: &mut Rows<'_>, status: &PodStatus) {
    rows.one_of("kube_pod_status_phase", "phase", &PHASES, status.phase.as_deref());
    rows.one_of("kube_pod_status_qos_class", "qos_class", &CLASSES, status.qos_class.as_deref());
    rows.time("kube_pod_start_time", status.start_time.as_ref());
    let conditions = || status.conditions.iter().flatten();
    let containers = || status.container_statuses.iter().flatten();
    let ended = |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.clone());
    let last = containers().filter_map(ended).filter_map(|end| end.finished_at.as_ref().map(seconds));
    rows.numbers([("kube_pod_completion_time", last.reduce(f64::max).filter(|time| *time > 0.0))]);
    for reason in REASONS {
        let is = status.reason.as_deref() == Some(reason)
            || conditions().any(|condition| condition.reason.as_deref() == Some(reason))
            || containers().filter_map(ended).any(|end| end.reason.as_deref() == Some(reason));
        rows.value("kube_pod_status_reason", &[("reason", reason)], number(is));
    }
    for condition in conditions() {
        let since = condition.last_transition_time.as_ref();
        match (text(&condition.type_), text(&condition.status)) {
            ("Ready", status) => {
                rows.condition("kube_pod_status_ready", "condition", &[], status);
                rows.time("kube_pod_status_ready_time", since.filter(|_| status == "True"));
            }
            ("PodScheduled", status) => {
                rows.condition("kube_pod_status_scheduled", "condition", &[], status);
                rows.time("kube_pod_status_scheduled_time", since.filter(|_| status == "True"));
                rows.time("kube_pod_status_unscheduled_time", since.filter(|_| status == "False"));
                if status == "False" {
                    rows.info("kube_pod_status_unschedulable", &[]);
                }
            }
            ("Initialized", "True") => rows.time("kube_pod_status_initialized_time", since),
            ("ContainersReady", "True") => rows.time("kube_pod_status_container_ready_time", since),
            _ => {}
        }
    }
}

fn container(rows: &mut Rows<'_>, spec: &PodSpec, status: &ContainerStatus) {
    let own = [("container", status.name.as_str())];
    if let Some(container) = spec.containers.iter().find(|container| container.name == status.name) {
        rows.info("kube_pod_container_info", &identity(container, status));
    }
    let state = status.state.clone().unwrap_or_default();
    rows.value("kube_pod_container_status_ready", &own, number(status.ready));
    rows.count("kube_pod_container_status_restarts_total", &own, f64::from(status.restart_count));
    rows.value("kube_pod_container_status_running", &own, number(state.running.is_some()));
    rows.value("kube_pod_container_status_terminated", &own, number(state.terminated.is_some()));
    rows.value("kube_pod_container_status_waiting", &own, number(state.waiting.is_some()));
    let running = state.running.as_ref().map(|running| &running.started_at);
    let began = running.or(state.terminated.as_ref().map(|end| &end.started_at));
    if let Some(began) = began.and_then(Option::as_ref) {
        rows.value("kube_pod_container_state_started", &own, seconds(began));
    }
    if let Some(end) = &state.terminated {
        let labels = [own[0], ("reason", text(&end.reason))];
        rows.info("kube_pod_container_status_terminated_reason", &labels);
    }
    if let Some(waiting) = &state.waiting {
        let labels = [own[0], ("reason", text(&waiting.reason))];
        rows.info("kube_pod_container_status_waiting_reason", &labels);
    }
    if let Some(end) = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()) {
        let labels = [own[0], ("reason", text(&end.reason))];
        rows.info("kube_pod_container_status_last_terminated_reason", &labels);
        rows.value("kube_pod_container_status_last_terminated_exitcode", &own, f64::from(end.exit_code));
        if let Some(time) = &end.finished_at {
            rows.value("kube_pod_container_status_last_terminated_timestamp", &own, seconds(time));
        }
    }
}

fn identity<'a>(container: &'a Container, status: &'a ContainerStatus) -> [(&'static str, &'a str); 5] {
    [
        ("container", &status.name),
        ("image_spec", text(&container.image)),
        ("image", &status.image),
        ("image_id", &status.image_id),
        ("container_id", text(&status.container_id)),
    ]
}

fn init_container(rows: &mut Rows<'_>, spec: &PodSpec, status: &ContainerStatus) {
    let own = [("container", status.name.as_str())];
    if let Some(container) = spec.init_containers.iter().flatten().find(|container| container.name == status.name) {
        let mut labels = identity(container, status).to_vec();
        labels.push(("restart_policy", text(&container.restart_policy)));
        rows.info("kube_pod_init_container_info", &labels);
    }
    let state = status.state.clone().unwrap_or_default();
    rows.value("kube_pod_init_container_status_ready", &own, number(status.ready));
    rows.count("kube_pod_init_container_status_restarts_total", &own, f64::from(status.restart_count));
    rows.value("kube_pod_init_container_status_running", &own, number(state.running.is_some()));
    rows.value("kube_pod_init_container_status_terminated", &own, number(state.terminated.is_some()));
    rows.value("kube_pod_init_container_status_waiting", &own, number(state.waiting.is_some()));
    if let Some(end) = &state.terminated {
        rows.info("kube_pod_init_container_status_terminated_reason", &[own[0], ("reason", text(&end.reason))]);
    }
    if let Some(waiting) = &state.waiting {
        rows.info("kube_pod_init_container_status_waiting_reason", &[own[0], ("reason", text(&waiting.reason))]);
    }
    if let Some(end) = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()) {
        rows.info("kube_pod_init_container_status_last_terminated_reason", &[own[0], ("reason", text(&end.reason))]);
    }
}
