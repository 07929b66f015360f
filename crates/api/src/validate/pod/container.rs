//! Containers of all three lists of a pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::{Errors, Path, format, resources};
use super::{Options, security, volume};
use crate::meta::View;
use crate::quantity::Quantity;
use crate::status::quote;

/// What containers need to know of their pod.
pub struct Pod<'a> {
    /// `spec`.
    pub spec: View<'a>,
    /// Volumes that are well-formed, by name.
    pub volumes: BTreeMap<&'a str, View<'a>>,
    /// Names of resource claims.
    pub claims: BTreeSet<&'a str>,
    /// `terminationGracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// Whether users are the machine's, not the pod's own.
    pub host_users: bool,
}

/// `containers`.
pub fn containers(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = pod.spec.slice("containers");
    if list.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (position, container) in list.iter().map(View::new).enumerate() {
        let at = path.index(position);
        common(container, pod, &at, errors);
        let name = container.text("name");
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        lifecycle(container, pod, &at, errors);
        probes(container, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_port_conflicts(list, path, errors);
}

/// `initContainers`.
pub fn init_containers(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = pod.spec.list("containers").map(|container| container.text("name")).collect();
    for (position, container) in pod.spec.slice("initContainers").iter().enumerate() {
        let view = View::new(container);
        let at = path.index(position);
        common(view, pod, &at, errors);
        restart_policy(view, &at, errors);
        let name = view.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        host_port_conflicts(std::slice::from_ref(container), path, errors);
        let sidecar = view.text("restartPolicy") == "Always";
        if sidecar {
            lifecycle(view, pod, &at, errors);
            probes(view, &at, errors);
        } else {
            for member in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if view.has(member) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.forbidden(&at.child(member), detail);
                }
            }
            for (position, policy) in view.list("resizePolicy").enumerate() {
                if policy.text("restartPolicy") == "RestartContainer" {
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    let at = at.child("resizePolicy");
                    let at = at.index(position);
                    errors.invalid(&at.child("restartPolicy"), "RestartContainer", detail);
                }
            }
        }
    }
}

/// `ephemeralContainers`.
pub fn ephemeral_containers(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    const FORBIDDEN: [&str; 9] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    let others: BTreeSet<&str> = pod
        .spec
        .list("containers")
        .chain(pod.spec.list("initContainers"))
        .map(|container| container.text("name"))
        .collect();
    let mut names = others.clone();
    for (position, container) in pod.spec.list("ephemeralContainers").enumerate() {
        let at = path.index(position);
        common(container, pod, &at, errors);
        image_without_spaces(container, &at, errors);
        let name = container.text("name");
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        for member in FORBIDDEN.into_iter().filter(|member| !container.at(member).is_zero()) {
            errors.forbidden(&at.child(member), DETAIL);
        }
        let mounts = at.child("volumeMounts");
        for (position, mount) in container.list("volumeMounts").enumerate() {
            for member in ["subPath", "subPathExpr"] {
                if !mount.text(member).is_empty() {
                    errors.forbidden(&mounts.index(position).child(member), DETAIL);
                }
            }
        }
    }
}

/// An image's name without spaces around it: asked of pods, not of templates.
pub fn image_without_spaces(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let image = container.text("image");
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(container: View<'_>, pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for fault in format::dns_label(name) {
            errors.invalid(&path.child("name"), name, fault);
        }
    }
    if container.text("image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    let at = path.child("terminationMessagePolicy");
    match container.text("terminationMessagePolicy") {
        "File" | "FallbackToLogsOnError" => {}
        "" => errors.required(&at, ""),
        other => errors.not_supported(&at, other, &["File", "FallbackToLogsOnError"]),
    }
    ports(container, &path.child("ports"), errors);
    environment(container, &path.child("env"), errors);
    environment_from(container, &path.child("envFrom"), errors);
    mounts(container, pod, &path.child("volumeMounts"), errors);
    devices(container, pod, &path.child("volumeDevices"), errors);
    pull_policy(container.text("imagePullPolicy"), &path.child("imagePullPolicy"), errors);
    resources::of_container(container.at("resources"), &pod.claims, &path.child("resources"), errors);
    resize_policy(container, pod.spec.text("restartPolicy"), &path.child("resizePolicy"), errors);
    security::of_container(container.at("securityContext"), pod.host_users, &path.child("securityContext"), errors);
}

/// When an image is pulled.
pub fn pull_policy(policy: &str, path: &Path<'_>, errors: &mut Errors) {
    match policy {
        "Always" | "IfNotPresent" | "Never" => {}
        "" => errors.required(path, ""),
        other => errors.not_supported(path, other, &["Always", "IfNotPresent", "Never"]),
    }
}

/// A protocol above IP.
pub fn protocol(protocol: &str, path: &Path<'_>, errors: &mut Errors) {
    match protocol {
        "TCP" | "UDP" | "SCTP" => {}
        "" => errors.required(path, ""),
        other => errors.not_supported(path, other, &["SCTP", "TCP", "UDP"]),
    }
}

fn ports(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (position, port) in container.list("ports").enumerate() {
        let at = path.index(position);
        let name = port.text("name");
        if !name.is_empty() {
            let faults = format::port_name(name);
            if faults.is_empty() && !names.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
            for fault in faults {
                errors.invalid(&at.child("name"), name, fault);
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(&at.child("containerPort"), ""),
            number => {
                for fault in format::port_number(number) {
                    errors.invalid(&at.child("containerPort"), number, fault);
                }
            }
        }
        let host_port = port.int("hostPort").unwrap_or(0);
        if host_port != 0 {
            for fault in format::port_number(host_port) {
                errors.invalid(&at.child("hostPort"), host_port, fault);
            }
        }
        protocol(port.text("protocol"), &at.child("protocol"), errors);
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().map(View::new).enumerate() {
        let at = path.index(index);
        let at = at.child("ports");
        for (position, port) in container.list("ports").enumerate() {
            let number = port.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if !seen.insert(key.clone()) {
                errors.duplicate(&at.index(position).child("hostPort"), key);
            }
        }
    }
}

fn environment(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    for (position, variable) in container.list("env").enumerate() {
        let at = path.index(position);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            for fault in format::environment_name(name) {
                errors.invalid(&at.child("name"), name, fault);
            }
        }
        let from = variable.at("valueFrom");
        if !from.exists() {
            continue;
        }
        let at = at.child("valueFrom");
        let mut sources = 0;
        if from.has("fieldRef") {
            sources += 1;
            field_ref(from.at("fieldRef"), &FIELDS, &at.child("fieldRef"), errors);
        }
        if from.has("resourceFieldRef") {
            sources += 1;
            resource_field_ref(from.at("resourceFieldRef"), false, &at.child("resourceFieldRef"), errors);
        }
        for member in ["configMapKeyRef", "secretKeyRef"] {
            if from.has(member) {
                sources += 1;
                key_ref(from.at(member), &at.child(member), errors);
            }
        }
        if from.has("fileKeyRef") {
            sources += 1;
            file_key_ref(from.at("fileKeyRef"), &at.child("fileKeyRef"), errors);
        }
        if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.invalid(&at, "", detail);
        } else if !variable.text("value").is_empty() {
            errors.invalid(&at, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            errors.invalid(&at, "", "may not have more than one field specified at a time");
        }
    }
}

fn key_ref(reference: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (name, key) = (reference.text("name"), reference.text("key"));
    for fault in format::dns_subdomain(name) {
        errors.invalid(&path.child("name"), name, fault);
    }
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        for fault in format::config_key(key) {
            errors.invalid(&path.child("key"), key, fault);
        }
    }
}

fn file_key_ref(reference: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (key, volume, file) = (reference.text("key"), reference.text("volumeName"), reference.text("path"));
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        for fault in format::environment_name(key) {
            errors.invalid(&path.child("key"), key, fault);
        }
    }
    if volume.is_empty() {
        errors.required(&path.child("volumeName"), "");
    } else {
        for fault in format::dns_label(volume) {
            errors.invalid(&path.child("volumeName"), volume, fault);
        }
    }
    if file.is_empty() {
        errors.required(&path.child("path"), "");
    } else {
        volume::no_backsteps(file, &path.child("path"), errors);
    }
}

/// A field of the pod itself, one of `fields` or an entry of its labels or annotations.
pub fn field_ref(reference: View<'_>, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    const KNOWN: [&str; 14] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let (version, field) = (reference.text("apiVersion"), reference.text("fieldPath"));
    for (member, text) in [("apiVersion", version), ("fieldPath", field)] {
        if text.is_empty() {
            errors.required(&path.child(member), "");
            return;
        }
    }
    let fault = |errors: &mut Errors, fault: String| {
        errors.invalid(&path.child("fieldPath"), field, format!("error converting fieldPath: {fault}"));
    };
    if version != "v1" {
        return fault(errors, format!("unsupported pod version: {version}"));
    }
    let entry = field.strip_suffix("']").and_then(|field| field.split_once("['")).filter(|(map, _)| !map.is_empty());
    if let Some((map, key)) = entry {
        match map {
            "metadata.annotations" => super::super::metadata::label_key(&key.to_lowercase(), path, errors),
            "metadata.labels" => super::super::metadata::label_key(key, path, errors),
            _ => fault(errors, format!("field label does not support subscript: {field}")),
        }
        return;
    }
    let known = if field == "spec.host" { "spec.nodeName" } else { field };
    if !KNOWN.contains(&known) {
        fault(errors, format!("field label not supported: {field}"));
    } else if !fields.contains(&known) {
        errors.not_supported(&path.child("fieldPath"), known, fields);
    }
}

/// A resource of a container, as a number.
pub fn resource_field_ref(reference: View<'_>, named: bool, path: &Path<'_>, errors: &mut Errors) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    const DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = reference.text("resource");
    let huge_pages = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if named && reference.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !KNOWN.contains(&resource) && !huge_pages {
        errors.not_supported(&path.child("resource"), resource, &KNOWN);
    }
    let divisor = Quantity::of(reference.at("divisor").value());
    if divisor.is_zero() {
        return;
    }
    let shown = divisor.to_string();
    let kind = resource.split_once('.').map_or("", |(_, kind)| kind);
    let (fine, what) = match kind {
        "cpu" => (matches!(shown.as_str(), "1m" | "1"), "1m and 1 are supported with the cpu resource"),
        _ => {
            let fine = DIVISORS.contains(&shown.as_str());
            let what = match kind {
                "memory" => "memory resource",
                "ephemeral-storage" => "local ephemeral storage resource",
                _ if huge_pages => "hugepages resource",
                _ => return,
            };
            let detail = format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {what}"
            );
            if !fine {
                errors.invalid(&path.child("divisor"), resource, detail);
            }
            return;
        }
    };
    if !fine {
        errors.invalid(&path.child("divisor"), resource, format!("only divisor's values {what}"));
    }
}

fn environment_from(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    for (position, from) in container.list("envFrom").enumerate() {
        let at = path.index(position);
        let prefix = from.text("prefix");
        if !prefix.is_empty() {
            for fault in format::environment_name(prefix) {
                errors.invalid(&at.child("prefix"), prefix, fault);
            }
        }
        let mut sources = 0;
        for member in ["configMapRef", "secretRef"] {
            if !from.has(member) {
                continue;
            }
            sources += 1;
            let (name, at) = (from.at(member).text("name"), at.child(member));
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                for fault in format::dns_subdomain(&format::without_trailing_dash(name)) {
                    errors.invalid(&at.child("name"), name, fault);
                }
            }
        }
        if sources == 0 {
            errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if sources > 1 {
            errors.invalid(path, "", "may not have more than one field specified at a time");
        }
    }
}

fn mounts(container: View<'_>, pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut places = BTreeSet::new();
    let devices: Vec<View<'_>> = container.list("volumeDevices").collect();
    for (position, mount) in container.list("volumeMounts").enumerate() {
        let at = path.index(position);
        let (name, place) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        if !pod.volumes.contains_key(name) {
            errors.not_found(&at.child("name"), name);
        }
        if place.is_empty() {
            errors.required(&at.child("mountPath"), "");
        }
        if !places.insert(place) {
            errors.invalid(&at.child("mountPath"), place, "must be unique");
        }
        if devices.iter().any(|device| device.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == place) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), place, detail);
        }
        let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub_path.is_empty() {
            volume::local_path(sub_path, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&at.child("subPathExpr"), expression, detail);
            }
            volume::local_path(expression, &path.child("subPathExpr"), errors);
        }
        propagation(mount, container, path, errors);
    }
}

fn propagation(mount: View<'_>, container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let propagation = mount.at("mountPropagation");
    if propagation.exists() {
        let at = path.child("mountPropagation");
        let text = propagation.string();
        if !matches!(text, "Bidirectional" | "HostToContainer" | "None") {
            errors.not_supported(&at, text, &["Bidirectional", "HostToContainer", "None"]);
        }
        if text == "Bidirectional" && !container.at("securityContext").is("privileged") {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&at, detail);
        }
    }
    let at = path.child("recursiveReadOnly");
    match mount.at("recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.is("readOnly") {
                errors.forbidden(&at, "may only be specified when readOnly is true");
            }
            if propagation.exists() && propagation.string() != "None" {
                errors.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(container: View<'_>, pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mounts: Vec<View<'_>> = container.list("volumeMounts").collect();
    for (position, device) in container.list("volumeDevices").enumerate() {
        let at = path.index(position);
        let (name, place) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        if names.contains(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        match pod.volumes.get(name) {
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.child("name"), name, detail);
            }
            Some(_) => {}
            None => errors.not_found(&at.child("name"), name),
        }
        if place.is_empty() {
            errors.required(&at.child("devicePath"), "");
        }
        if places.contains(place) {
            errors.invalid(&at.child("devicePath"), place, "must be unique");
        }
        if volume::has_backsteps(place) {
            errors.invalid(&at.child("devicePath"), place, "can not contain backsteps ('..')");
        } else {
            places.insert(place);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == place) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), place, detail);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn resize_policy(container: View<'_>, pod_restart: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, policy) in container.list("resizePolicy").enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&path.index(position), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["cpu", "memory"]),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            other => errors.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if pod_restart == "Never" && restart != "NotRequired" {
            errors.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn restart_policy(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let rules = container.slice("restartPolicyRules");
    let at = path.child("restartPolicy");
    match container.at("restartPolicy").as_str() {
        None if !rules.is_empty() => errors.required(&at, "must specify restartPolicy when restart rules are used"),
        None | Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => errors.not_supported(&at, other, &["Always", "Never", "OnFailure"]),
    }
    let at = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    for (position, rule) in rules.iter().map(View::new).enumerate() {
        let at = at.index(position);
        if !matches!(rule.text("action"), "Restart" | "RestartAllContainers") {
            errors.not_supported(&at.child("action"), rule.text("action"), &["Restart", "RestartAllContainers"]);
        }
        let (codes, at) = (rule.at("exitCodes"), at.child("exitCodes"));
        if !codes.exists() {
            errors.required(&at, "must be specified");
            continue;
        }
        if !matches!(codes.text("operator"), "In" | "NotIn") {
            errors.not_supported(&at.child("operator"), codes.text("operator"), &["In", "NotIn"]);
        }
        let count = codes.slice("values").len();
        if count > 255 {
            errors.too_many(&at.child("values"), count, 255);
        }
    }
}

fn lifecycle(container: View<'_>, pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let lifecycle = container.at("lifecycle");
    let path = path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            handler(lifecycle.at(hook), pod.grace_period, false, &path.child(hook), errors);
        }
    }
    if lifecycle.has("stopSignal") && !pod.spec.has("os") {
        let detail = "may not be set for containers with empty `spec.os.name`";
        errors.forbidden(&path.child("stopSignal"), detail);
    }
}

fn probes(container: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.at(name);
        if !probe.exists() {
            continue;
        }
        let at = path.child(name);
        handler(probe, None, true, &at, errors);
        for member in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            let value = probe.int(member).unwrap_or(0);
            if value < 0 {
                errors.invalid(&at.child(member), value, super::super::metadata::NEGATIVE);
            }
        }
        let grace = probe.int("terminationGracePeriodSeconds");
        if let Some(seconds) = grace.filter(|seconds| *seconds <= 0) {
            errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        if name == "readinessProbe" {
            if let Some(seconds) = grace {
                let detail = "must not be set for readinessProbes";
                errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, detail);
            }
        } else {
            let threshold = probe.int("successThreshold").unwrap_or(0);
            if threshold != 1 {
                errors.invalid(&at.child("successThreshold"), threshold, "must be 1");
            }
        }
    }
}

fn handler(handler: View<'_>, grace_period: Option<i64>, probe: bool, path: &Path<'_>, errors: &mut Errors) {
    let kinds: &[&str] =
        if probe { &["exec", "httpGet", "tcpSocket", "grpc"] } else { &["exec", "httpGet", "tcpSocket", "sleep"] };
    let mut found = false;
    for kind in kinds.iter().copied().filter(|kind| handler.has(kind)) {
        let (action, at) = (handler.at(kind), path.child(kind));
        if found {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match kind {
            "exec" => {
                if action.slice("command").is_empty() {
                    errors.required(&at.child("command"), "");
                }
            }
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" => port_or_name(action.at("port"), &at.child("port"), errors),
            "grpc" => {
                let port = action.int("port").unwrap_or(0);
                for fault in format::port_number(port) {
                    errors.invalid(&at.child("port"), port, fault);
                }
            }
            _ => {
                let seconds = action.int("seconds").unwrap_or(0);
                if let Some(grace) = grace_period.filter(|grace| seconds < 0 || seconds > *grace) {
                    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&at, seconds, detail);
                }
            }
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if action.text("path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port_or_name(action.at("port"), &path.child("port"), errors);
    if !matches!(action.text("scheme"), "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), action.text("scheme"), &["HTTP", "HTTPS"]);
    }
    for header in action.list("httpHeaders") {
        for fault in format::http_header_name(header.text("name")) {
            errors.invalid(&path.child("httpHeaders"), header.text("name"), fault);
        }
    }
}

/// A port's number, or the name of one.
pub fn port_or_name(port: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    match port.as_str() {
        Some(name) => {
            for fault in format::port_name(name) {
                errors.invalid(path, name, fault);
            }
        }
        None => {
            let number = port.as_int().unwrap_or(0);
            for fault in format::port_number(number) {
                errors.invalid(path, number, fault);
            }
        }
    }
}

/// Container ports on the host's network are the host's.
pub fn host_network_ports(spec: View<'_>, options: Options, path: &Path<'_>, errors: &mut Errors) {
    if !spec.is("hostNetwork") {
        return;
    }
    let path = path.child("containers");
    for (index, container) in spec.list("containers").enumerate() {
        let at = path.index(index);
        let at = at.child("ports");
        for (position, port) in container.list("ports").enumerate() {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if (options.is_pod || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&at.index(position).child("hostPort"), host, detail);
            }
        }
    }
}

/// How a changed part is shown in a message: what it was and what it is to be.
pub fn difference(old: View<'_>, new: View<'_>) -> String {
    let mut lines = Vec::new();
    let members: BTreeSet<&String> =
        [old, new].into_iter().filter_map(View::as_map).flat_map(|map| map.keys()).collect();
    for member in members.into_iter().filter(|member| !old.at(member).same(new.at(member))) {
        for (sign, side) in [("-", old), ("+", new)] {
            if side.has(member) {
                lines.push(format!("{sign} {}: {}", quote(member), side.at(member).value()));
            }
        }
    }
    lines.join("\n")
}
