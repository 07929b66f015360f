//! Whether a node takes a pod that was bound to it: room, ports, selector. Pure.
//!
//! The scheduler has asked the same; but pods may be bound by others, and two schedulers may have filled one gap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};

use crate::{
    field::Allocatable,
    pod::state::Resize,
    pressure::policy::{self, Pressures},
    resources::{self, Amount},
};

/// The node, as far as this matters.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What pods may use.
    pub allocatable: &'a Allocatable,
    /// Most pods.
    pub max_pods: u32,
    /// What there is a want of.
    pub pressures: Pressures,
}

fn taken(spec: &PodSpec) -> Vec<(&str, &str, i32)> {
    let host = spec.host_network == Some(true);
    let containers = spec.containers.iter().chain(
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always")),
    );
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0).or(host.then_some(port.container_port))?;
            Some((port.host_ip.as_deref().unwrap_or(""), port.protocol.as_deref().unwrap_or("TCP"), number))
        })
        .collect()
}

fn any(ip: &str) -> bool {
    matches!(ip, "" | "0.0.0.0" | "::")
}

/// Takes the pod, or says why not: reason and message. `others` are the pods already taken that have not ended.
pub fn admit(pod: &Pod, others: &[&Pod], place: Place<'_>) -> Result<(), (String, String)> {
    let refuse = |reason: &str, message: String| Err((reason.to_owned(), message));
    let Some(spec) = &pod.spec else { return refuse("NodeAffinity", "the pod has no spec".into()) };
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS".into());
    }
    if let Err(message) = policy::admits(pod, place.pressures) {
        return refuse("Evicted", message);
    }
    let used = others.iter().filter_map(|other| other.spec.as_ref()).map(resources::pod_requests);
    let used = used.fold(Amount::default(), |sum, amount| Amount {
        cpu: sum.cpu + amount.cpu,
        memory: sum.memory + amount.memory,
    });
    let short = |name: &str, requested: i64, used: i64, capacity: i64| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        refuse(&format!("OutOf{name}"), message)
    };
    let most = i64::from(place.max_pods);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count >= most {
        return short("pods", 1, count, most);
    }
    let wanted = resources::pod_requests(spec);
    let cpu = resources::milli(place.allocatable.get("cpu"));
    if wanted.cpu > 0 && used.cpu + wanted.cpu > cpu {
        return short("cpu", wanted.cpu, used.cpu, cpu);
    }
    let memory = resources::units(place.allocatable.get("memory"));
    if wanted.memory > 0 && used.memory + wanted.memory > memory {
        return short("memory", wanted.memory, used.memory, memory);
    }
    if !selected(spec, place) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return refuse("NodeAffinity", message.into());
    }
    let theirs: Vec<_> = others.iter().filter_map(|other| other.spec.as_ref()).flat_map(taken).collect();
    let clash = taken(spec).iter().any(|(ip, protocol, port)| {
        theirs.iter().any(|(other_ip, other_protocol, other_port)| {
            port == other_port && protocol == other_protocol && (ip == other_ip || any(ip) || any(other_ip))
        })
    });
    if clash {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return refuse("NodePorts", message.into());
    }
    Ok(())
}

/// Whether what a running pod's spec asks for by now can be granted, now or ever.
pub fn grant(pod: &Pod, others: &[&Pod], allocatable: &Allocatable) -> Result<(), Resize> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let wanted = resources::pod_requests(spec);
    let used = others.iter().filter_map(|other| other.spec.as_ref()).map(resources::pod_requests);
    let used = used.fold(Amount::default(), |sum, amount| Amount {
        cpu: sum.cpu + amount.cpu,
        memory: sum.memory + amount.memory,
    });
    let (cpu, memory) = (resources::milli(allocatable.get("cpu")), resources::units(allocatable.get("memory")));
    for (name, wanted, used, capacity) in
        [("cpu", wanted.cpu, used.cpu, cpu), ("memory", wanted.memory, used.memory, memory)]
    {
        if wanted > capacity {
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Err(Resize::Infeasible(message));
        }
        if wanted > 0 && wanted + used > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(Resize::Deferred(message));
        }
    }
    Ok(())
}

fn selected(spec: &PodSpec, place: Place<'_>) -> bool {
    let plain = spec.node_selector.iter().flatten().all(|(key, value)| place.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    plain
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| matches(term, place.name, place.labels))
        })
}

/// Whether a node of that name and with these labels satisfies a term. An empty one is satisfied by none.
pub fn matches(term: &NodeSelectorTerm, name: &str, node: &BTreeMap<String, String>) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    if labels.is_none_or(<[_]>::is_empty) && fields.is_none_or(<[_]>::is_empty) {
        return false;
    }
    let by_label =
        |requirement: &NodeSelectorRequirement| holds(requirement, node.get(&requirement.key).map(String::as_str));
    let by_field = |requirement: &NodeSelectorRequirement| {
        holds(requirement, (requirement.key == "metadata.name").then_some(name))
    };
    labels.unwrap_or_default().iter().all(by_label) && fields.unwrap_or_default().iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|other| other == value));
    let compared = || {
        let value: i64 = value?.parse().ok()?;
        let bound: i64 = values.first()?.parse().ok()?;
        Some(value.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared() == Some(std::cmp::Ordering::Greater),
        "Lt" => compared() == Some(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn with(cpu: &str, port: Value) -> Value {
        json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}, "ports": [port]}]})
    }

    #[test]
    fn a_pod_is_taken_or_refused_with_upstreams_reason() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())]);
        let allocatable: Allocatable = serde_json::from_value(json!({"cpu": "2", "memory": "1Gi"})).unwrap();
        let place = Place {
            name: "n1",
            labels: &labels,
            allocatable: &allocatable,
            max_pods: 3,
            pressures: Pressures::default(),
        };
        let port = |ip: &str, port: i32| json!({"containerPort": 80, "hostPort": port, "hostIP": ip});
        let there = [pod(with("1", port("10.0.0.1", 8080))), pod(with("500m", port("", 9090)))];
        let others: Vec<&Pod> = there.iter().collect();
        let affinity = |key: &str, operator: &str, value: &str| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]}}}})
        };
        let cases = [
            (with("500m", port("", 1)), None),
            (with("501m", port("", 1)), Some("OutOfcpu")),
            (with("1m", port("10.0.0.2", 8080)), None),
            (with("1m", port("10.0.0.1", 8080)), Some("NodePorts")),
            (with("1m", port("", 8080)), Some("NodePorts")),
            (with("1m", port("10.0.0.9", 9090)), Some("NodePorts")),
            (json!({"containers": [], "nodeSelector": {"zone": "a"}}), None),
            (json!({"containers": [], "nodeSelector": {"zone": "b"}}), Some("NodeAffinity")),
            (affinity("zone", "In", "a"), None),
            (affinity("zone", "NotIn", "a"), Some("NodeAffinity")),
            (affinity("cores", "Gt", "4"), None),
            (affinity("cores", "Lt", "4"), Some("NodeAffinity")),
            (json!({"containers": [], "os": {"name": "windows"}}), Some("PodOSNotSupported")),
        ];
        for (spec, wanted) in cases {
            let result = admit(&pod(spec.clone()), &others, place);
            assert_eq!(result.err().map(|(reason, _)| reason).as_deref(), wanted, "{spec}");
        }
        let full = Place { max_pods: 2, ..place };
        assert_eq!(admit(&pod(json!({"containers": []})), &others, full).unwrap_err().0, "OutOfpods");
    }
}
