//! Pods with claims.

use serde_json::{Value, json};

use super::*;

fn pod(claim: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [], "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}}))
    .unwrap()
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"zone": name}}})).unwrap()
}

fn claim(name: &str, class: &str, annotations: Value, volume: Option<&str>) -> PersistentVolumeClaim {
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "n", "uid": name, "annotations": annotations},
        "spec": {"storageClassName": class, "volumeName": volume}}),
    )
    .unwrap()
}

fn class(name: &str, provisioner: &str, mode: &str, zone: Option<&str>) -> StorageClass {
    let topologies = zone.map(|zone| json!([{"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]));
    serde_json::from_value(json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode,
        "allowedTopologies": topologies}))
    .unwrap()
}

fn volume(name: &str, class: &str, on: &str) -> PersistentVolume {
    serde_json::from_value(json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "storageClassName": class, "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [on]}]}]}}}}))
    .unwrap()
}

#[test]
fn a_claim_decides_which_nodes_suit() {
    let late = "WaitForFirstConsumer";
    let classes = [
        class("made", "p", late, None),
        class("zoned", "p", late, Some("b")),
        class("static", NOBODY, late, None),
        class("now", "p", "Immediate", None),
    ];
    let mut mine = volume("mine", "static", "b");
    mine.spec.as_mut().unwrap().claim_ref = serde_json::from_value(json!({"namespace": "n", "name": "bound"})).unwrap();
    let volumes = [volume("free", "static", "a"), mine];
    let done = json!({client::volumes::BIND_COMPLETED: "yes"});
    let claims = [
        claim("made", "made", json!({}), None),
        claim("started", "made", json!({SELECTED_NODE: "b"}), None),
        claim("zoned", "zoned", json!({}), None),
        claim("static", "static", json!({}), None),
        claim("now", "now", json!({}), None),
        claim("bound", "static", done.clone(), Some("mine")),
        claim("orphan", "static", done, Some("gone")),
    ];
    let storage = Storage::new(Cache::holding(claims), Cache::holding(volumes), Cache::holding(classes), || {});
    let affinity = Some("node(s) had volume node affinity conflict");
    let none = Some("node(s) didn't find available persistent volumes to bind");
    let cases = [
        ("made", Ok((None, None))),
        ("started", Ok((none, None))),
        ("zoned", Ok((none, None))),
        ("static", Ok((None, none))),
        ("bound", Ok((affinity, None))),
        ("now", Err("pod has unbound immediate PersistentVolumeClaims")),
        ("missing", Err("persistentvolumeclaim \"missing\" not found")),
        ("orphan", Err("persistentvolumeclaim \"orphan\" bound to non-existent persistentvolume \"gone\"")),
    ];
    for (name, expected) in cases {
        let found = storage.needs(&pod(name));
        let found = found.map(|needs| (storage.obstacle(&needs, &node("a")), storage.obstacle(&needs, &node("b"))));
        assert_eq!(found.as_ref().map(|pair| *pair).map_err(String::as_str), expected, "{name}");
    }
    // What one pod is about to get no other gets.
    let needs = storage.needs(&pod("static")).unwrap();
    let choices = storage.choose(&needs, &node("a")).unwrap();
    storage.reserve(&choices);
    assert_eq!(storage.obstacle(&needs, &node("a")), none);
    storage.release(&choices);
    assert_eq!(storage.obstacle(&needs, &node("a")), None);
}
