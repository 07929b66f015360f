//! Pods and pod templates: what their spec, containers, volumes and probes leave out.

use serde_json::{Value, json};

use super::edit::{
    self, Object, amount, down, items, made, member, resource_list, resources, set, set_number, set_text,
};

const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// A Pod, which has some defaults that a template has not.
pub fn pod(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
            spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
        }
        let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
        for list in CONTAINER_LISTS {
            for container in items(spec, list) {
                requests_from_limits(container);
                if host_network {
                    host_ports(container);
                }
            }
        }
        set(spec, "enableServiceLinks", true);
        pod_spec(spec);
    }
    super::empty_status(object);
    if let Some(status) = member(object, "status") {
        pod_status(status);
    }
}

/// `template` of a workload's spec.
pub fn template(spec: &mut Object, key: &str) {
    let Some(template) = made(spec, key) else { return };
    set(template, "metadata", json!({}));
    if let Some(spec) = made(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Object) {
    let account = match edit::text(spec, "serviceAccountName") {
        "" => edit::text(spec, "serviceAccount"),
        name => name,
    };
    if account.is_empty() {
        spec.remove("serviceAccount");
        spec.remove("serviceAccountName");
    } else {
        let account = account.to_owned();
        spec.insert("serviceAccountName".to_owned(), account.as_str().into());
        spec.insert("serviceAccount".to_owned(), account.into());
    }
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    set_text(spec, "schedulerName", "default-scheduler");
    for volume in items(spec, "volumes") {
        self::volume(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            self::container(container);
        }
    }
    resource_list(spec, "overhead");
    resources(spec, "resources");
}

fn container(container: &mut Object) {
    let image = edit::text(container, "image");
    let policy = if tag(image) == "latest" { "Always" } else { "IfNotPresent" };
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    resources(container, "resources");
    for port in items(container, "ports") {
        set_text(port, "protocol", "TCP");
    }
    for variable in items(container, "env") {
        let Some(from) = member(variable, "valueFrom") else { continue };
        field_ref(from);
        resource_field_ref(from);
        if let Some(key) = member(from, "fileKeyRef") {
            set(key, "optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = member(container, name) {
            set_number(probe, "timeoutSeconds", 1);
            set_number(probe, "periodSeconds", 10);
            set_number(probe, "successThreshold", 1);
            set_number(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = member(probe, "grpc") {
                set(grpc, "service", "");
            }
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = down(container, &["lifecycle", hook]) {
            http_get(handler);
        }
    }
}

fn http_get(handler: &mut Object) {
    if let Some(action) = member(handler, "httpGet") {
        set_text(action, "path", "/");
        set_text(action, "scheme", "HTTP");
    }
}

fn field_ref(object: &mut Object) {
    if let Some(field) = member(object, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
}

fn resource_field_ref(object: &mut Object) {
    if let Some(field) = member(object, "resourceFieldRef") {
        set(field, "divisor", "0");
        amount(field, "divisor");
    }
}

fn volume(volume: &mut Object) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(source) = member(volume, "emptyDir") {
        amount(source, "sizeLimit");
    }
    if let Some(source) = member(volume, "image") {
        let policy = if tag(edit::text(source, "reference")) == "latest" { "Always" } else { "IfNotPresent" };
        set_text(source, "pullPolicy", policy);
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = member(volume, name) {
            set(source, "defaultMode", 0o644);
            downward_items(source);
        }
    }
    for source in member(volume, "projected").into_iter().flat_map(|projected| items(projected, "sources")) {
        if let Some(downward) = member(source, "downwardAPI") {
            downward_items(downward);
        }
        if let Some(token) = member(source, "serviceAccountToken") {
            set(token, "expirationSeconds", 3600);
        }
    }
    if let Some(template) = down(volume, &["ephemeral", "volumeClaimTemplate"]) {
        set(template, "metadata", json!({}));
        if let Some(spec) = made(template, "spec") {
            claim_spec(spec);
        }
    }
    volume_source(volume);
}

fn downward_items(source: &mut Object) {
    for item in items(source, "items") {
        field_ref(item);
        resource_field_ref(item);
    }
}

/// Sources that pods and persistent volumes share.
pub fn volume_source(holder: &mut Object) {
    if let Some(source) = member(holder, "hostPath") {
        set(source, "type", "");
    }
    if let Some(source) = member(holder, "iscsi") {
        set_text(source, "iscsiInterface", "default");
    }
    if let Some(source) = member(holder, "rbd") {
        set_text(source, "pool", "rbd");
        set_text(source, "user", "admin");
        set_text(source, "keyring", "/etc/ceph/keyring");
    }
    if let Some(source) = member(holder, "azureDisk") {
        set(source, "cachingMode", "ReadWrite");
        set(source, "fsType", "ext4");
        set(source, "readOnly", false);
        set(source, "kind", "Shared");
    }
    if let Some(source) = member(holder, "scaleIO") {
        set_text(source, "storageMode", "ThinProvisioned");
        set_text(source, "fsType", "xfs");
    }
}

/// Spec of a PersistentVolumeClaim, wherever it stands.
pub fn claim_spec(spec: &mut Object) {
    set(spec, "volumeMode", "Filesystem");
    set(spec, "resources", json!({}));
    resources(spec, "resources");
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = member(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Some(requests) = made(resources, "requests") {
        for (name, limit) in limits {
            set(requests, &name, limit);
        }
    }
}

fn host_ports(container: &mut Object) {
    for port in items(container, "ports") {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_number(port, "hostPort", number);
        }
    }
}

fn pod_status(status: &mut Object) {
    let first = status.get("podIPs").and_then(|ips| ips.get(0)).and_then(|ip| ip.get("ip")).and_then(Value::as_str);
    match (edit::text(status, "podIP"), first.unwrap_or("")) {
        ("", "") => {}
        ("", first) => {
            let first = first.to_owned();
            status.insert("podIP".to_owned(), first.into());
        }
        (ip, first) if ip != first => {
            let ips = json!([{ "ip": ip }]);
            status.insert("podIPs".to_owned(), ips);
        }
        _ => {}
    }
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in items(status, list) {
            resource_list(container, "allocatedResources");
            resources(container, "resources");
            set(container, "ready", false);
            set(container, "restartCount", 0);
            for key in ["image", "imageID"] {
                set(container, key, "");
            }
        }
    }
    resource_list(status, "allocatedResources");
    resources(status, "resources");
}

/// Tag of an image reference: `latest` if it names neither tag nor digest, "" if it has only a digest or cannot be read.
pub fn tag(image: &str) -> &str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    let first = repository.split('/').next().unwrap_or("");
    let is_domain = repository.contains('/')
        && (first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase()));
    let path = if is_domain { &repository[first.len() + 1..] } else { repository };
    let host = first
        .rsplit_once(':')
        .map_or(first, |(host, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { "" });
    let label = |label: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(fine)
    };
    let readable = (!is_domain || host.split('.').all(label) || host.starts_with('['))
        && !path.is_empty()
        && path.len() <= 255
        && path.split('/').all(|part| {
            !part.is_empty()
                && part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        });
    let tag_readable = tag.is_none_or(|tag| {
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    });
    match (readable && tag_readable, tag, digest) {
        (false, _, _) => "",
        (true, Some(tag), _) => tag,
        (true, None, Some(_)) => "",
        (true, None, None) => "latest",
    }
}
