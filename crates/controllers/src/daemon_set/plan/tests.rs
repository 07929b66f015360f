//! Daemon sets on a few nodes.

use serde_json::{Value, json};

use super::*;

fn set(spec: Value) -> DaemonSet {
    let mut whole = json!({"metadata": {"name": "d", "namespace": "n", "uid": "d"},
        "spec": {"selector": {}, "template": {"spec": {"containers": []}}}});
    let merged = whole["spec"].as_object_mut().unwrap();
    spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
    serde_json::from_value(whole).unwrap()
}

/// `NAME [LABEL] [!TAINT:EFFECT]`.
fn node(text: &str) -> Arc<Node> {
    let mut node = json!({"metadata": {"name": text.split(' ').next(), "labels": {}}, "spec": {"taints": []}});
    for word in text.split(' ').skip(1) {
        match word.strip_prefix('!').and_then(|taint| taint.split_once(':')) {
            Some((key, effect)) => node["spec"]["taints"] = json!([{"key": key, "effect": effect}]),
            None => node["metadata"]["labels"][word] = json!(""),
        }
    }
    Arc::new(serde_json::from_value(node).unwrap())
}

/// `NODE HASH PHASE|ready`; a node that begins with `-` has a pod that is being deleted.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let node = words[0].trim_start_matches('-');
    let ready = words[2] == "ready";
    let phase = if ready { "Running" } else { words[2] };
    let mut pod = json!({"metadata": {"name": format!("{node}-{}", words[1]), "labels": {HASH: words[1]}},
        "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    if words[0].starts_with('-') {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn check(spec: Value, nodes: &[&str], pods: &[&str], create: &[&str], delete: &[&str]) {
    let set = set(spec.clone());
    let nodes: Vec<_> = nodes.iter().map(|text| node(text)).collect();
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let known = Known { set: &set, hash: "new", nodes: &nodes, pods: &pods, now: Timestamp::UNIX_EPOCH };
    let plan = known.plan(|_| None);
    let names: Vec<_> = plan.delete.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    assert_eq!((plan.create, names), (create.iter().map(ToString::to_string).collect(), delete.to_vec()), "{spec}");
}

#[test]
fn each_node_that_suits_has_one_pod() {
    let none: &[&str] = &[];
    check(json!({}), &["a", "b"], &["b new ready"], &["a"], none);
    check(json!({}), &["a"], &["a new ready", "a old ready"], none, &["a-old"]);
    let labelled = json!({"template": {"spec": {"containers": [], "nodeSelector": {"disk": ""}}}});
    check(labelled, &["a disk", "b"], &["b new ready"], &["a"], &["b-new"]);
    // A taint that only keeps new pods away lets those that are there stay; one that drives away does not.
    check(json!({}), &["a !x:NoSchedule", "b !x:NoSchedule"], &["b new ready"], none, none);
    check(json!({}), &["a !x:NoExecute"], &["a new ready"], none, &["a-new"]);
    check(json!({}), &["a !node.kubernetes.io/unschedulable:NoSchedule"], &[], &["a"], none);
    check(json!({}), &["a"], &["a new Failed"], none, &["a-new"]);
    // While the old one is on its way out, nothing new comes.
    check(json!({}), &["a"], &["-a old ready"], none, none);
}

#[test]
fn old_pods_are_replaced_as_far_as_some_may_be_missing() {
    let none: &[&str] = &[];
    let nodes = &["a", "b", "c"];
    let old = &["a old ready", "b old ready", "c old ready"];
    let rolling = |rolling: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
    check(json!({}), nodes, old, none, &["a-old"]);
    check(rolling(json!({"maxUnavailable": 2})), nodes, old, none, &["a-old", "b-old"]);
    check(rolling(json!({"maxUnavailable": "50%"})), nodes, old, none, &["a-old", "b-old"]);
    check(json!({"updateStrategy": {"type": "OnDelete"}}), nodes, old, none, none);
    check(json!({}), nodes, &["a new Pending", "b old ready", "c old ready"], none, none);
    // What does not work anyway does not count against the limit.
    check(json!({}), nodes, &["a new Pending", "b old Pending", "c old ready"], none, &["b-old"]);
}

#[test]
fn with_surge_the_new_pod_comes_before_the_old_one_goes() {
    let none: &[&str] = &[];
    let surge =
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let nodes = &["a", "b"];
    check(surge.clone(), nodes, &["a old ready", "b old ready"], &["a"], none);
    check(surge.clone(), nodes, &["a old ready", "a new Pending", "b old ready"], none, none);
    check(surge.clone(), nodes, &["a old ready", "a new ready", "b old ready"], none, &["a-old"]);
    check(surge, nodes, &["-a old ready", "b new ready"], &["a"], none);
}

#[test]
fn a_pinned_pod_tells_its_node() {
    let mut spec = PodSpec::default();
    pin(&mut spec, "a");
    let pod = Pod { spec: Some(spec), ..Pod::default() };
    assert_eq!(node_of(&pod), Some("a"));
}

#[test]
fn the_status_counts_nodes() {
    let set = set(json!({}));
    let nodes: Vec<_> = ["a", "b", "c", "d !x:NoSchedule"].iter().map(|text| node(text)).collect();
    let pods: Vec<_> = ["a new ready", "b old Pending", "d old ready"].iter().map(|text| pod(text)).collect();
    let known = Known { set: &set, hash: "new", nodes: &nodes, pods: &pods, now: Timestamp::UNIX_EPOCH };
    let status = known.status(None);
    let counts = (status.desired_number_scheduled, status.current_number_scheduled, status.number_misscheduled);
    assert_eq!(counts, (3, 2, 1));
    assert_eq!((status.number_ready, status.number_available, status.number_unavailable), (1, Some(1), Some(2)));
    assert_eq!(status.updated_number_scheduled, Some(1));
}
