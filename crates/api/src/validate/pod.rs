//! Pods and pod templates.
//!
//! A pod and each of its sub-resources have rules of their own for what may change; all share the rules of the spec, which
//! templates share too.

use std::collections::BTreeSet;

use super::check::{choice, faults};
use super::metadata::{self, IMMUTABLE, NEGATIVE, label_key};
use super::{Errors, Path, address, format, resources};
use crate::meta::View;
use crate::quantity::Quantity;
use container::Pod;

pub mod container;
pub mod scheduling;
mod security;
mod update;
pub mod volume;

/// What differs between a pod and a template.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The object is a pod itself.
    pub is_pod: bool,
}

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// On a pod that a node runs from a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A new pod.
pub fn create(pod: View<'_>, errors: &mut Errors) {
    pod_spec(pod, errors);
    let spec = pod.at("spec");
    if !spec.slice("ephemeralContainers").is_empty() {
        errors.forbidden(&SPEC.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.slice("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&SPEC.child("nodeName"), detail);
    }
}

/// A changed pod, or a changed part of it.
pub fn update(subresource: &str, new: View<'_>, old: View<'_>, errors: &mut Errors) {
    match subresource {
        "status" => update::status(new, old, errors),
        "ephemeralcontainers" => update::ephemeral_containers(new, old, errors),
        "resize" => update::resize(new, old, errors),
        _ => update::main(new, old, errors),
    }
}

/// Everything about a pod but its metadata and status.
fn pod_spec(pod: View<'_>, errors: &mut Errors) {
    let spec = pod.at("spec");
    annotations(pod.at("metadata").at("annotations"), spec, &METADATA.child("annotations"), errors);
    let name = pod.at("metadata").text("name");
    self::spec(spec, name, Options { is_pod: true }, &SPEC, errors);
    if spec.text("serviceAccountName").is_empty() {
        let volumes = SPEC.child("volumes");
        for (index, volume) in spec.list("volumes").enumerate() {
            for (position, source) in volume.at("projected").list("sources").enumerate() {
                if source.has("serviceAccountToken") {
                    let at = volumes.index(index);
                    let at = at.child("projected");
                    let at = at.child("sources");
                    let at = at.index(position);
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&at.child("serviceAccountToken"), detail);
                }
            }
        }
    }
    if let Some(period) = spec.int("terminationGracePeriodSeconds").filter(|period| *period < 0) {
        errors.invalid(&SPEC.child("terminationGracePeriodSeconds"), period, NEGATIVE);
    }
    for list in ["containers", "initContainers"] {
        let at = SPEC.child(list);
        for (position, container) in spec.list(list).enumerate() {
            container::image_without_spaces(container, &at.index(position), errors);
        }
    }
}

/// Annotations that mean something for pods.
fn annotations(annotations: View<'_>, spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if annotations.has(MIRROR) && spec.text("nodeName").is_empty() {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), annotations.text(MIRROR), detail);
    }
    if annotations.has(DELETION_COST) {
        let cost = annotations.text(DELETION_COST);
        let canonical =
            !cost.starts_with('+') && (cost.len() == 1 || !cost.starts_with('0')) && !cost.starts_with("-0");
        if cost.parse::<i32>().is_err() || !canonical {
            errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
        }
    }
}

/// `template` of a workload.
pub fn template(template: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let metadata = template.at("metadata");
    metadata::labels(metadata.at("labels"), &path.child("labels"), errors);
    metadata::annotations(metadata.at("annotations"), &path.child("annotations"), errors);
    let spec = template.at("spec");
    annotations(metadata.at("annotations"), spec, &path.child("annotations"), errors);
    self::spec(spec, "", Options { is_pod: false }, &path.child("spec"), errors);
    if !spec.slice("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), detail);
    }
}

/// Calls `visit` with each container of a pod and its path: init containers, containers, ephemeral ones.
pub fn each_container(spec: View<'_>, path: &Path<'_>, visit: &mut dyn FnMut(View<'_>, &Path<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let at = path.child(list);
        for (position, container) in spec.list(list).enumerate() {
            visit(container, &at.index(position));
        }
    }
}

fn spec(spec: View<'_>, pod_name: &str, options: Options, path: &Path<'_>, errors: &mut Errors) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(spec, pod_name, &path.child("volumes"), errors);
    resource_claims(spec, &path.child("resourceClaims"), errors);
    let claims = spec.list("resourceClaims").map(|claim| claim.text("name")).filter(|name| !name.is_empty());
    let pod = Pod {
        spec,
        volumes,
        claims: claims.collect(),
        grace_period: spec.int("terminationGracePeriodSeconds"),
        host_users: spec.bool("hostUsers") != Some(false),
    };
    container::containers(&pod, &path.child("containers"), errors);
    container::init_containers(&pod, &path.child("initContainers"), errors);
    container::ephemeral_containers(&pod, &path.child("ephemeralContainers"), errors);
    if spec.has("resources") {
        whole_resources(&pod, &path.child("resources"), errors);
    }
    container::host_network_ports(spec, options, path, errors);
    choice(spec.text("restartPolicy"), &["Always", "OnFailure", "Never"], &path.child("restartPolicy"), errors);
    const DNS: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    choice(spec.text("dnsPolicy"), &DNS, &path.child("dnsPolicy"), errors);
    metadata::labels(spec.at("nodeSelector"), &path.child("nodeSelector"), errors);
    security::of_pod(spec.at("securityContext"), spec, &path.child("securityContext"), errors);
    if spec.is("hostPID") && spec.is("shareProcessNamespace") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    scheduling::affinity(spec.at("affinity"), &path.child("affinity"), errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    let gates = path.child("readinessGates");
    for (position, gate) in spec.list("readinessGates").enumerate() {
        label_key(gate.text("conditionType"), &gates.index(position).child("conditionType"), errors);
    }
    scheduling_gates(spec, &path.child("schedulingGates"), errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    host_users(spec, path, errors);
    hostname_override(spec, path, errors);
    names(spec, path, errors);
    if let Some(seconds) = spec.int("activeDeadlineSeconds").filter(|seconds| !(1..=MAX_SECONDS).contains(seconds)) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, format::between(1, MAX_SECONDS));
    }
    for member in ["hostname", "subdomain"] {
        let name = spec.text(member);
        if !name.is_empty() {
            faults(format::dns_label(name), name, &path.child(member), errors);
        }
    }
    scheduling::tolerations(spec, &path.child("tolerations"), errors);
    let aliases = path.child("hostAliases");
    for (position, alias) in spec.list("hostAliases").enumerate() {
        let at = aliases.index(position);
        address::ip(&at.child("ip"), alias.text("ip"), &[], errors);
        let at = at.child("hostnames");
        for (position, name) in alias.list("hostnames").map(|name| name.string()).enumerate() {
            faults(format::dns_subdomain(name), name, &at.index(position), errors);
        }
    }
    let class = spec.text("priorityClassName");
    if !class.is_empty() {
        faults(format::dns_subdomain(class), class, &path.child("priorityClassName"), errors);
    }
    if let Some(class) = spec.at("runtimeClassName").as_str() {
        faults(format::dns_subdomain(class), class, &path.child("runtimeClassName"), errors);
    }
    if let Some(policy) = spec.at("preemptionPolicy").as_str() {
        choice(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy"), errors);
    }
    if spec.has("overhead") {
        let at = path.child("overhead");
        let at = at.child("limits");
        for (resource, value) in spec.entries("overhead") {
            resources::container_name(resource, &at.key(resource), errors);
            resources::amount(resource, value.value(), &at.key(resource), errors);
        }
    }
    security::operating_system(spec, path, errors);
    file_key_volumes(spec, path, errors);
}

const MAX_SECONDS: i64 = i32::MAX as i64;

fn names(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (account, deprecated) = (spec.text("serviceAccountName"), spec.text("serviceAccount"));
    if !account.is_empty() {
        faults(format::dns_subdomain(account), account, &path.child("serviceAccountName"), errors);
    }
    if deprecated != account {
        let detail = format!("must be the same as serviceAccountName: {}", crate::status::quote(account));
        errors.invalid(&path.child("deprecatedServiceAccount"), deprecated, detail);
    }
    let node = spec.text("nodeName");
    if !node.is_empty() {
        faults(format::dns_subdomain(node), node, &path.child("nodeName"), errors);
    }
}

fn resource_claims(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, claim) in spec.list("resourceClaims").enumerate() {
        let at = path.index(position);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            faults(format::dns_label(name), name, &at.child("name"), errors);
        }
        match (claim.has("resourceClaimName"), claim.has("resourceClaimTemplateName")) {
            (true, true) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&at, claim.value().clone(), detail);
            }
            (false, false) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&at, claim.value().clone(), detail);
            }
            _ => {}
        }
        for member in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(name) = claim.at(member).as_str() {
                faults(format::dns_subdomain(name), name, &at.child(member), errors);
            }
        }
    }
}

/// Resources of the pod as a whole: no less than its containers need, no less than any of them may use.
fn whole_resources(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let whole = pod.spec.at("resources");
    if pod.spec.at("os").text("name") == "windows" {
        errors.forbidden(path, "may not be set for a windows pod");
        return;
    }
    if whole.has("claims") {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    resources::of_pod(whole, &pod.claims, path, errors);
    let requests = path.child("requests");
    for (resource, request) in whole.entries("requests") {
        let mut sum = Quantity::ZERO;
        for container in pod.spec.list("containers") {
            sum.add(&Quantity::of(container.at("resources").at("requests").at(resource).value()));
        }
        let request = Quantity::of(request.value());
        if sum > request {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&requests.key(resource), request.to_string(), detail);
        }
    }
    let containers = path.child("containers");
    for (position, container) in pod.spec.list("containers").enumerate() {
        for (resource, limit) in container.at("resources").entries("limits") {
            if !whole.at("limits").has(resource) {
                continue;
            }
            let (limit, most) = (Quantity::of(limit.value()), Quantity::of(whole.at("limits").at(resource).value()));
            if limit > most {
                let at = containers.index(position);
                let at = at.key(resource);
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.invalid(&at.child("limits"), limit.to_string(), detail);
            }
        }
    }
}

fn dns_config(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const NAMESERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const SEARCH_LETTERS: usize = 2048;
    let config = spec.at("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if !config.exists() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if config.slice("nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
            return;
        }
    }
    let servers = config.at("nameservers");
    if servers.items_slice().len() > NAMESERVERS {
        let detail = format!("must not have more than {NAMESERVERS} nameservers");
        errors.invalid(&path.child("nameservers"), servers.value().clone(), detail);
    }
    for (position, server) in config.list("nameservers").enumerate() {
        address::ip(&path.child("nameservers").index(position), server.string(), &[], errors);
    }
    let searches: Vec<&str> = config.list("searches").map(|search| search.string()).collect();
    let shown = || config.at("searches").value().clone();
    if searches.len() > SEARCHES {
        let detail = format!("must not have more than {SEARCHES} search paths");
        errors.invalid(&path.child("searches"), shown(), detail);
    }
    if searches.join(" ").len() > SEARCH_LETTERS {
        let detail =
            format!("must not have more than {SEARCH_LETTERS} characters (including spaces) in the search list");
        errors.invalid(&path.child("searches"), shown(), detail);
    }
    for (position, search) in searches.into_iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        faults(format::dns_subdomain_with_underscore(search), search, &path.child("searches").index(position), errors);
    }
    for (position, option) in config.list("options").enumerate() {
        if option.text("name").is_empty() {
            errors.required(&path.child("options").index(position), "must not be empty");
        }
    }
}

fn scheduling_gates(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, gate) in spec.list("schedulingGates").enumerate() {
        let name = gate.text("name");
        label_key(name, &path.index(position), errors);
        if !seen.insert(name) {
            errors.duplicate(&path.index(position), name);
        }
    }
}

fn host_users(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const DETAIL: &str = "when `hostUsers` is false";
    if spec.bool("hostUsers") != Some(false) {
        return;
    }
    for (member, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.is(member) {
            errors.forbidden(&path.child(shown), DETAIL);
        }
    }
    each_container(spec, path, &mut |container, at| {
        if !container.slice("volumeDevices").is_empty() {
            errors.forbidden(&at.child("volumeDevices"), DETAIL);
        }
    });
}

fn hostname_override(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let Some(name) = spec.at("hostnameOverride").as_str() else { return };
    let at = path.child("hostnameOverride");
    if spec.is("setHostnameAsFQDN") {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.is("hostNetwork") {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&at, 64);
    }
    faults(format::dns_subdomain(name), name, &at, errors);
}

fn file_key_volumes(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    each_container(spec, path, &mut |container, at| {
        for (position, variable) in container.list("env").enumerate() {
            let reference = variable.at("valueFrom").at("fileKeyRef");
            if !reference.exists() {
                continue;
            }
            let at = at.child("env");
            let at = at.index(position);
            let at = at.child("valueFrom");
            let at = at.child("fileKeyRef");
            let name = reference.text("volumeName");
            match spec.list("volumes").find(|volume| volume.text("name") == name) {
                None => errors.not_found(&at.child("volumeName"), name),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(&at.child("volumeName"), name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}

/// A Binding: which node a pod goes to.
pub fn binding(binding: View<'_>, errors: &mut Errors) {
    let path = Path::new("target");
    let target = binding.at("target");
    let (kind, name) = (target.text("kind"), target.text("name"));
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if matches!(kind, "" | "Node") {
        faults(format::dns_subdomain(name), name, &path.child("name"), errors);
    }
}

/// What is said of a template that must stay as it is.
pub fn immutable_template(new: View<'_>, old: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !new.same(old) {
        errors.invalid(path, new.value().clone(), IMMUTABLE);
    }
}
