//! The core group, pods and templates apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::edit::{self, Object, down, items, made, resource_list, set, set_text};
use super::pod;

/// Seconds that a client keeps its endpoint under `sessionAffinity: ClientIP`.
const CLIENT_IP_AFFINITY: i64 = 10800;

pub fn apply(kind: &str, object: &mut Object) {
    match kind {
        "Pod" => pod::pod(object),
        "PodTemplate" => pod::template(object, "template"),
        "ReplicationController" => replication_controller(object),
        "Service" => service(object),
        "Secret" => secret(object),
        "Namespace" => namespace(object),
        "Node" => node(object),
        "Endpoints" => endpoints(object),
        "Event" => event(object),
        "LimitRange" => limit_range(object),
        "ResourceQuota" => resource_quota(object),
        "PersistentVolume" => persistent_volume(object),
        "PersistentVolumeClaim" => persistent_volume_claim(object),
        _ => {}
    }
}

fn replication_controller(object: &mut Object) {
    let labels = down(object, &["spec", "template", "metadata", "labels"]).map(|labels| labels.clone());
    if let Some(spec) = made(object, "spec") {
        if let Some(labels) = &labels
            && edit::empty(spec, "selector")
        {
            spec.insert("selector".to_owned(), labels.clone().into());
        }
        set(spec, "replicas", 1);
        if !edit::absent(spec, "template") {
            pod::template(spec, "template");
        }
    }
    labels_from_template(object, labels);
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
    }
}

/// An object without labels takes those of its template.
pub fn labels_from_template(object: &mut Object, labels: Option<Object>) {
    if let Some(labels) = labels
        && let Some(metadata) = made(object, "metadata")
        && edit::empty(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), labels.into());
    }
}

fn service(object: &mut Object) {
    let Some(spec) = made(object, "spec") else { return };
    set_text(spec, "sessionAffinity", "None");
    match edit::text(spec, "sessionAffinity") {
        "None" => drop(spec.remove("sessionAffinityConfig")),
        "ClientIP" => {
            if let Some(client) = made(spec, "sessionAffinityConfig").and_then(|config| made(config, "clientIP")) {
                set(client, "timeoutSeconds", CLIENT_IP_AFFINITY);
            }
        }
        _ => {}
    }
    set_text(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        set_text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|target| target.is_null() || target == 0 || target == "")
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = edit::text(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !edit::empty(spec, "externalIPs"));
    if external {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if let Some(status) = made(object, "status") {
        let balancer = made(status, "loadBalancer");
        for ingress in balancer.into_iter().flat_map(|balancer| items(balancer, "ingress")) {
            if kind == "LoadBalancer" && !edit::text(ingress, "ip").is_empty() {
                set(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn secret(object: &mut Object) {
    set_text(object, "type", "Opaque");
    let Some(Value::Object(plain)) = object.remove("stringData") else { return };
    if plain.is_empty() {
        return;
    }
    if let Some(data) = made(object, "data") {
        for (key, value) in plain {
            let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
            data.insert(key, encoded.into());
        }
    }
}

fn namespace(object: &mut Object) {
    if let Some(metadata) = made(object, "metadata") {
        let name = edit::text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = made(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
    set(object, "spec", json!({}));
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Active");
    }
}

/// The older member names the first of the newer one.
fn pod_networks(spec: &mut Object) {
    let one = edit::text(spec, "podCIDR").to_owned();
    let first = spec.get("podCIDRs").and_then(|all| all.get(0)).and_then(Value::as_str).unwrap_or("").to_owned();
    if one.is_empty() && !first.is_empty() {
        spec.insert("podCIDR".to_owned(), first.into());
    } else if !one.is_empty() && one != first {
        spec.insert("podCIDRs".to_owned(), json!([one]));
    }
}

fn node(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        pod_networks(spec);
    }
    let Some(status) = made(object, "status") else { return };
    if edit::absent(status, "allocatable")
        && let Some(capacity) = status.get("capacity").filter(|capacity| !capacity.is_null()).cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
    resource_list(status, "capacity");
    resource_list(status, "allocatable");
    if let Some(kubelet) = made(status, "daemonEndpoints").and_then(|ports| made(ports, "kubeletEndpoint")) {
        set(kubelet, "Port", 0);
    }
    if let Some(info) = made(status, "nodeInfo") {
        for key in [
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "containerRuntimeVersion",
            "kubeletVersion",
            "kubeProxyVersion",
            "operatingSystem",
            "architecture",
        ] {
            set(info, key, "");
        }
    }
}

fn endpoints(object: &mut Object) {
    for subset in items(object, "subsets") {
        for port in items(subset, "ports") {
            set_text(port, "protocol", "TCP");
        }
    }
}

fn event(object: &mut Object) {
    set(object, "involvedObject", json!({}));
    set(object, "source", json!({}));
    set(object, "reportingComponent", "");
    set(object, "reportingInstance", "");
}

fn limit_range(object: &mut Object) {
    let Some(spec) = made(object, "spec") else { return };
    for item in items(spec, "limits") {
        if edit::text(item, "type") == "Container" {
            fill(item, "default", "max");
            fill(item, "defaultRequest", "default");
            fill(item, "defaultRequest", "min");
        }
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            resource_list(item, key);
        }
    }
}

fn fill(item: &mut Object, key: &str, from: &str) {
    let Some(source) = item.get(from).and_then(Value::as_object).filter(|source| !source.is_empty()).cloned() else {
        return;
    };
    if let Some(target) = made(item, key) {
        for (name, amount) in source {
            set(target, &name, amount);
        }
    }
}

fn resource_quota(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        resource_list(spec, "hard");
    }
    if let Some(status) = made(object, "status") {
        resource_list(status, "hard");
        resource_list(status, "used");
    }
}

fn persistent_volume(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        resource_list(spec, "capacity");
        pod::volume_source(spec);
    }
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Pending");
    }
}

/// A PersistentVolumeClaim, also as a template in a StatefulSet.
pub fn persistent_volume_claim(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        pod::claim_spec(spec);
    }
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Pending");
        resource_list(status, "capacity");
        resource_list(status, "allocatedResources");
    }
}

/// A Scale.
pub fn scale(object: &mut Object) {
    set(object, "spec", json!({}));
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
    }
}

/// A TokenRequest.
pub fn token_request(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set(spec, "expirationSeconds", 3600);
    }
    if let Some(status) = made(object, "status") {
        set(status, "token", "");
    }
}
