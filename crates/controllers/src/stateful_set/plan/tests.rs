//! Stateful sets growing, shrinking and changing.

use serde_json::{Value, json};

use super::*;
use crate::{history::HASH, stateful_set::identity};

fn set(spec: Value, status: Value) -> StatefulSet {
    let mut whole = json!({"metadata": {"name": "s", "namespace": "n", "uid": "s"},
        "spec": {"selector": {}, "serviceName": "x", "replicas": 3, "template": {"spec": {"containers": []}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}, "status": status});
    let merged = whole["spec"].as_object_mut().unwrap();
    spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
    if whole["status"].is_null() {
        whole.as_object_mut().unwrap().remove("status");
    }
    serde_json::from_value(whole).unwrap()
}

/// `ORDINAL REVISION PHASE|ready`; an ordinal that begins with `-` is of a pod that is being deleted.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let ordinal = words[0].trim_start_matches('-');
    let ready = words[2] == "ready";
    let name = format!("s-{ordinal}");
    let mut pod = json!({"metadata": {"name": name, "uid": name, "labels": {HASH: words[1],
            "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": ordinal}},
        "status": {"phase": if ready { "Running" } else { words[2] },
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    if words[0].starts_with('-') {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn plan(set: &StatefulSet, pods: &[&str]) -> Plan {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    Known { set, pods: &pods, current: "old", update: "new", now: Timestamp::UNIX_EPOCH }.plan()
}

fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Create { ordinal, updated } => format!("+{ordinal}{}", if *updated { "" } else { " old" }),
        Action::Claims(ordinal) => format!("claims {ordinal}"),
        Action::Mend(_, ordinal) => format!("mend {ordinal}"),
        Action::Delete(pod) => {
            format!("-{}", pod.metadata.name.as_deref().unwrap_or_default().trim_start_matches("s-"))
        }
    };
    plan.actions.iter().map(word).collect()
}

#[test]
fn pods_come_and_go_in_order_or_all_at_once() {
    let (ordered, parallel) = (json!({}), json!({"podManagementPolicy": "Parallel"}));
    let cases: [(&Value, &[&str], &[&str]); 12] = [
        (&ordered, &[], &["+0"]),
        (&parallel, &[], &["+0", "+1", "+2"]),
        (&ordered, &["0 new Running"], &[]),
        (&ordered, &["0 new Pending"], &["claims 0"]),
        (&ordered, &["0 new ready"], &["+1"]),
        (&ordered, &["0 new ready", "2 new ready"], &["+1"]),
        (&ordered, &["0 new Failed", "1 new ready"], &["-0"]),
        (&ordered, &["-0 new Failed"], &[]),
        // From the highest, one at a time, each healthy but the one that is not.
        (&ordered, &["0 new ready", "1 new ready", "2 new ready", "3 new ready", "4 new ready"], &["-4"]),
        (&ordered, &["0 new ready", "1 new ready", "2 new ready", "3 new ready", "-4 new ready"], &[]),
        (&ordered, &["0 new ready", "1 new ready", "2 new ready", "3 new Running", "4 new Running"], &[]),
        (&parallel, &["0 new ready", "1 new ready", "2 new ready", "3 new Running", "4 new ready"], &["-4", "-3"]),
    ];
    for (spec, pods, expected) in cases {
        assert_eq!(words(&plan(&set(spec.clone(), json!(null)), pods)), expected, "{spec} {pods:?}");
    }
}

#[test]
fn old_pods_are_replaced_from_the_highest_down_to_the_partition() {
    let rolling = |partition: i32, unavailable: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition, "maxUnavailable": unavailable}}});
    let all: &[&str] = &["0 old ready", "1 old ready", "2 old ready"];
    let cases: [(Value, &[&str], &[&str]); 9] = [
        (rolling(0, json!(null)), all, &["-2"]),
        (rolling(2, json!(null)), all, &["-2"]),
        (rolling(3, json!(null)), all, &[]),
        (rolling(0, json!(2)), all, &["-2", "-1"]),
        (rolling(0, json!("50%")), all, &["-2", "-1"]),
        (rolling(2, json!(null)), &["0 old ready", "1 old ready", "2 new ready"], &[]),
        (rolling(1, json!(null)), &["0 old ready", "1 old ready", "2 new ready"], &["-1"]),
        (rolling(0, json!(null)), &["0 old ready", "1 old ready", "-2 old ready"], &[]),
        (json!({"updateStrategy": {"type": "OnDelete"}}), all, &[]),
    ];
    for (spec, pods, expected) in cases {
        assert_eq!(words(&plan(&set(spec.clone(), json!(null)), pods)), expected, "{spec} {pods:?}");
    }
    // In parallel an old pod that does not work goes at once, whatever is missing.
    let mut spec = rolling(0, json!(1));
    spec["podManagementPolicy"] = json!("Parallel");
    let broken = &["0 old Running", "1 old ready", "2 new ready"];
    assert_eq!(words(&plan(&set(spec, json!(null)), broken)), ["-0"]);
}

#[test]
fn a_missing_pod_below_the_partition_comes_back_as_it_was() {
    let spec = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    assert_eq!(words(&plan(&set(spec.clone(), json!(null)), &["0 old ready", "2 new ready"])), ["+1 old"]);
    assert_eq!(words(&plan(&set(spec, json!(null)), &["0 old ready", "1 old ready"])), ["+2"]);
}

#[test]
fn the_update_is_over_when_all_pods_are_new_and_ready() {
    let three = set(json!({}), json!(null));
    let status = plan(&three, &["0 new ready", "1 new ready", "2 new ready"]).status;
    assert_eq!((status.current_revision.as_deref(), status.current_replicas), (Some("new"), Some(3)));
    let status = plan(&three, &["0 old ready", "1 new ready", "2 new Running"]).status;
    assert_eq!((status.current_revision.as_deref(), status.current_replicas), (Some("old"), Some(1)));
    assert_eq!((status.updated_replicas, status.ready_replicas, status.replicas), (Some(2), Some(2), 3));
}

#[test]
fn ordinals_may_start_elsewhere() {
    let set = set(json!({"ordinals": {"start": 5}, "replicas": 2}), json!(null));
    assert_eq!(words(&plan(&set, &["5 new ready"])), ["+6"]);
    assert_eq!(words(&plan(&set, &["5 new ready", "6 new ready", "4 new ready"])), ["-4"]);
    let pod = identity::pod_of(&set, &set.spec.template, "new", 6);
    assert_eq!(pod.metadata.name.as_deref(), Some("s-6"));
    assert_eq!(pod.spec.unwrap().subdomain.as_deref(), Some("x"));
    assert_eq!(identity::ordinal(&set, &self::pod("7 new ready")), Some(7));
    let mut other = (*self::pod("7 new ready")).clone();
    for name in ["s-", "s-x", "t-7", "s--7"] {
        other.metadata.name = Some(name.into());
        assert_eq!(identity::ordinal(&set, &other), None, "{name}");
    }
}

#[test]
fn claims_go_with_the_owner_that_the_policy_names() {
    let claim = || serde_json::from_value(json!({"metadata": {"name": "data-s-1"}})).unwrap();
    let pod = pod("1 new ready");
    let cases = [
        ("Retain", "Retain", true, vec![]),
        ("Retain", "Retain", false, vec![]),
        ("Delete", "Retain", true, vec!["StatefulSet"]),
        ("Delete", "Retain", false, vec!["StatefulSet"]),
        ("Retain", "Delete", true, vec![]),
        ("Retain", "Delete", false, vec!["Pod"]),
        ("Delete", "Delete", true, vec!["StatefulSet"]),
        ("Delete", "Delete", false, vec!["Pod"]),
    ];
    for (deleted, scaled, kept, expected) in cases {
        let spec = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}});
        let owners = identity::claim_owners(&set(spec, json!(null)), &claim(), Some(&pod), kept);
        let kinds: Vec<_> = owners.iter().map(|owner| owner.kind.as_str()).collect();
        assert_eq!(kinds, expected, "{deleted} {scaled} {kept}");
    }
}
