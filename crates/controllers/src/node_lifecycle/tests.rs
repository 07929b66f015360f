//! When a node counts as lost, and how long its pods bear it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::json;

use super::{Tolerates, judge, taints, tolerates, wanted};

#[test]
fn silence_and_conditions_decide_the_taint() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let cases = [
        ("True", 10, None, false),
        ("False", 10, Some("node.kubernetes.io/not-ready"), false),
        ("Unknown", 10, Some("node.kubernetes.io/unreachable"), false),
        ("True", 41, Some("node.kubernetes.io/unreachable"), true),
        ("Unknown", 300, Some("node.kubernetes.io/unreachable"), false),
    ];
    let began = now - SignedDuration::from_mins(10);
    for (status, silent, taint, unknown) in cases {
        let node = beaten(status, now - SignedDuration::from_secs(silent));
        let verdict = judge(&node, None, began, now);
        assert_eq!((verdict.taint, verdict.unknown), (taint, unknown), "{status} after {silent} s");
        assert_eq!(taints(&node, &wanted(&node, verdict.taint), now).is_some(), taint.is_some());
    }
}

fn beaten(status: &str, heartbeat: Timestamp) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
        {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat.to_string()}]}}))
    .unwrap()
}

#[test]
fn a_server_that_was_down_gives_its_nodes_time_to_speak() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let node = beaten("True", now - SignedDuration::from_hours(3));
    let verdict = judge(&node, None, now - SignedDuration::from_secs(5), now);
    assert_eq!((verdict.taint, verdict.unknown), (None, false));
    let verdict = judge(&node, None, now - SignedDuration::from_secs(41), now);
    assert_eq!((verdict.taint, verdict.unknown), (Some("node.kubernetes.io/unreachable"), true));
}

#[test]
fn foreign_taints_stay_and_ours_are_replaced() {
    let now = Timestamp::now();
    let node: Node = serde_json::from_value(json!({"spec": {"taints": [
        {"key": "own", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}}))
    .unwrap();
    let silent = |key: &'static str| wanted(&node, Some(key));
    assert_eq!(taints(&node, &silent("node.kubernetes.io/not-ready"), now), None);
    assert_eq!(taints(&node, &[], now).unwrap().len(), 1);
    assert_eq!(taints(&node, &silent("node.kubernetes.io/unreachable"), now).unwrap().len(), 3);
}

#[test]
fn a_node_that_is_short_of_something_keeps_new_pods_away() {
    let now = Timestamp::now();
    let node: Node = serde_json::from_value(json!({"spec": {"unschedulable": true}, "status": {"conditions": [
        {"type": "DiskPressure", "status": "True"}, {"type": "MemoryPressure", "status": "False"}]}}))
    .unwrap();
    let all = wanted(&node, None);
    let expected =
        [("node.kubernetes.io/disk-pressure", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule")];
    assert_eq!(all, expected);
    assert_eq!(taints(&node, &all, now).unwrap().len(), 2);
}

#[test]
fn a_pod_bears_a_taint_as_long_as_its_shortest_toleration() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let taint: Taint = serde_json::from_value(
        json!({"key": "k", "effect": "NoExecute", "timeAdded": (now - SignedDuration::from_secs(60)).to_string()}),
    )
    .unwrap();
    let cases = [
        (json!([]), Tolerates::No),
        (json!([{"key": "k", "operator": "Exists"}]), Tolerates::ForEver),
        (
            json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 300}]),
            Tolerates::For(Duration::from_secs(240)),
        ),
        (json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]), Tolerates::No),
        (json!([{"key": "other", "operator": "Exists"}]), Tolerates::No),
    ];
    for (tolerations, expected) in cases {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap();
        assert_eq!(tolerates(&pod, &[&taint], now), expected, "{tolerations}");
    }
}
