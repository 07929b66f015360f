//! Who goes first, and who belongs to whom.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Availability, Claim, availability, claim, deletion_order};

fn pod(name: &str, node: &str, phase: &str, ready_since: Option<&str>, created: &str) -> Pod {
    let conditions = ready_since.map(|since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]));
    serde_json::from_value(json!({
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"containers": [], "nodeName": node},
        "status": {"phase": phase, "conditions": conditions},
    }))
    .unwrap()
}

#[test]
fn the_least_useful_pod_goes_first() {
    let early = "2026-01-01T00:00:00Z";
    let late = "2026-01-01T01:00:00Z";
    let mut pods = [
        pod("old-ready", "n", "Running", Some(early), early),
        pod("new-ready", "n", "Running", Some(late), late),
        pod("unready", "n", "Running", None, early),
        pod("pending", "n", "Pending", None, early),
        pod("unassigned", "", "Pending", None, early),
    ];
    pods.sort_by(|a, b| deletion_order(a, b, |_| 1));
    let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["unassigned", "pending", "unready", "new-ready", "old-ready"]);
}

#[test]
fn a_ready_pod_becomes_available_in_time() {
    let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
    let ready = pod("a", "n", "Running", Some("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
    assert_eq!(availability(&ready, 0, now), Availability::Yes);
    assert_eq!(availability(&ready, 10, now), Availability::Yes);
    assert_eq!(availability(&ready, 15, now), Availability::In(Duration::from_secs(5)));
    assert_eq!(availability(&pod("b", "n", "Running", None, "2026-01-01T00:00:00Z"), 0, now), Availability::No);
}

#[test]
fn objects_are_claimed_by_owner_and_labels() {
    let owners = |uid: &str| {
        serde_json::from_value(json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true}]))
            .unwrap()
    };
    let (mine, other) = (owners("me"), owners("you"));
    let cases = [
        (Some(&mine), true, false, Claim::Mine),
        (Some(&mine), false, false, Claim::Release),
        (Some(&mine), false, true, Claim::Mine),
        (Some(&other), true, false, Claim::Foreign),
        (None, true, false, Claim::Adopt),
        (None, true, true, Claim::Foreign),
        (None, false, false, Claim::Foreign),
    ];
    for (owners, selected, leaving, expected) in cases {
        assert_eq!(claim(owners, "me", selected, leaving), expected);
    }
}
