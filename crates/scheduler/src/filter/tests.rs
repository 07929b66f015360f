//! One row a reason for which a node refuses a pod.

use std::sync::Arc;

use client::cache::Key;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::obstacles;
use crate::state::State;

fn node(extra: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": "n", "labels": {"zone": "a", "disk": "ssd", "size": "4"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
    });
    for (key, value) in extra.as_object().unwrap() {
        node["spec"][key] = value.clone();
    }
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

#[test]
fn each_reason_has_its_words() {
    let anti = |app: &str| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    let near = |app: &str| {
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    let on = |key: &str, operator: &str, value: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]}}}})
    };
    let asks =
        |cpu: &str| json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]});
    let port = |number: i32, address: &str| json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": number, "hostIP": address}]}]});
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "new"}}}]});
    let cases: Vec<(Value, Value, Option<&str>)> = vec![
        (json!({}), json!({}), None),
        (json!({"unschedulable": true}), json!({}), Some("node(s) were unschedulable")),
        (
            json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}),
            json!({}),
            Some("node(s) had untolerated taint {k: v}"),
        ),
        (
            json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}),
            json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
            None,
        ),
        (json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}), json!({}), None),
        (
            json!({}),
            json!({"nodeSelector": {"disk": "hdd"}}),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        (json!({}), on("size", "Gt", "3"), None),
        (json!({}), on("size", "Lt", "3"), Some("node(s) didn't match Pod's node affinity/selector")),
        (json!({}), asks("1500m"), None),
        (json!({}), asks("1600m"), Some("Insufficient cpu")),
        (json!({}), port(80, ""), Some("node(s) didn't have free ports for the requested pod ports")),
        (json!({}), port(80, "127.0.0.2"), None),
        (json!({}), port(80, "127.0.0.1"), Some("node(s) didn't have free ports for the requested pod ports")),
        (json!({}), anti("old"), Some("node(s) didn't match pod anti-affinity rules")),
        (json!({}), anti("other"), None),
        (json!({}), near("old"), None),
        (json!({}), near("other"), Some("node(s) didn't match pod affinity rules")),
        (json!({}), near("new"), None),
        (json!({}), spread, Some("node(s) didn't match pod topology spread constraints (missing required label)")),
    ];
    for (node_spec, pod_spec, expected) in cases {
        let mut state = State::default();
        state.put_node("n", Arc::new(node(node_spec.clone())));
        let mut old = pod("old", json!({}));
        let container = &mut old.spec.as_mut().unwrap().containers[0];
        *container = serde_json::from_value(json!({"name": "c", "image": "i",
            "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}],
            "resources": {"requests": {"cpu": "500m"}}}))
        .unwrap();
        state.place(&Key::new("default", "old"), Arc::new(old), "n");
        let (name, place) = state.nodes().next().unwrap();
        let found = obstacles(&state, name, place, &pod("new", pod_spec.clone()));
        assert_eq!(found.first().map(String::as_str), expected, "{node_spec} {pod_spec}");
    }
}

#[test]
fn pods_already_there_may_refuse_a_neighbour_and_leaving_ones_make_room() {
    let mut state = State::default();
    state.put_node("n", Arc::new(node(json!({}))));
    let guard = pod(
        "guard",
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "new"}}}]}}}),
    );
    let key = Key::new("default", "guard");
    state.place(&key, Arc::new(guard), "n");
    let check = |state: &State| {
        let (name, place) = state.nodes().next().unwrap();
        obstacles(state, name, place, &pod("new", json!({})))
    };
    assert_eq!(check(&state), ["node(s) didn't satisfy existing pods anti-affinity rules"]);
    assert!(state.remove_pod(&key));
    assert!(check(&state).is_empty());
    for n in 0..3 {
        state.place(&Key::new("default", &format!("p{n}")), Arc::new(pod("x", json!({}))), "n");
    }
    assert_eq!(check(&state), ["Too many pods"]);
}

#[test]
fn pods_of_other_namespaces_count_where_the_term_selects_them() {
    let near = |extra: Value| {
        let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "old"}}});
        extra.as_object().unwrap().iter().for_each(|(key, value)| term[key] = value.clone());
        pod("new", json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let mut state = State::default();
    state.put_node("n", Arc::new(node(json!({}))));
    let mut old = pod("old", json!({}));
    old.metadata.namespace = Some("other".into());
    state.place(&Key::new("other", "old"), Arc::new(old), "n");
    state.put_namespace("other", Some([("team".to_owned(), "a".to_owned())].into()));
    let cases = [
        (json!({}), false),
        (json!({"namespaces": ["other"]}), true),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}), false),
    ];
    for (extra, fits) in cases {
        let (name, place) = state.nodes().next().unwrap();
        assert_eq!(obstacles(&state, name, place, &near(extra.clone())).is_empty(), fits, "{extra}");
    }
}

#[test]
fn nodes_that_the_pod_cannot_be_on_do_not_count_in_a_spread() {
    let spread = |policy: &str| {
        pod(
            "new",
            json!({"nodeSelector": {"disk": "ssd"}, "topologySpreadConstraints": [{"maxSkew": 1,
            "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "nodeAffinityPolicy": policy,
            "labelSelector": {"matchLabels": {"app": "new"}}}]}),
        )
    };
    let mut state = State::default();
    for (name, disk) in [("a", "ssd"), ("b", "hdd")] {
        let mut own = node(json!({}));
        own.metadata.name = Some(name.into());
        own.metadata.labels =
            Some([("rack", name), ("disk", disk)].map(|(key, value)| (key.into(), value.into())).into());
        state.put_node(name, Arc::new(own));
    }
    state.place(&Key::new("default", "new-1"), Arc::new(pod("new", json!({}))), "a");
    let refused = |policy: &str| {
        let (name, place) = state.nodes().find(|(name, _)| *name == "a").unwrap();
        obstacles(&state, name, place, &spread(policy)).len()
    };
    assert_eq!((refused("Honor"), refused("Ignore")), (0, 1));
}
