//! Server-side apply, and who owns what after every write.

use crate::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const THINGS: &str = "/apis/apply.example.com/v1/namespaces/default/things";

/// A PATCH with a configuration; `query` follows the path.
async fn apply(cluster: &Cluster, path: &str, query: &str, config: &Value) -> Answer {
    apply_text(cluster, path, query, &config.to_string()).await
}

async fn apply_text(cluster: &Cluster, path: &str, query: &str, text: &str) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml"), ("user-agent", "tests/1")];
    cluster.send(Some(admin()), request("PATCH", &format!("{path}?{query}"), &headers, text.to_owned())).await
}

/// Who owns what of an object: `manager operation subresource` and the fields.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("manager"), text("operation"), text("subresource")).trim().to_owned()
    };
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

fn names(object: &Value) -> Vec<String> {
    owners(object).into_iter().map(|(name, _)| name).collect()
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_configuration_creates_changes_and_takes_away() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let made = apply(&cluster, &path, "fieldManager=m", &map("a", json!({"k": "v", "l": "w"}))).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(owners(&made), [("m Apply".to_owned(), json!({"f:data": {"f:k": {}, "f:l": {}}}))]);
    assert_eq!(made["metadata"]["namespace"], "default");
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("v1"), &json!("FieldsV1")));
    assert!(entry["time"].is_string());

    // The same again changes nothing, the version included.
    let again = apply(&cluster, &path, "fieldManager=m", &map("a", json!({"k": "v", "l": "w"}))).await;
    assert_eq!((again.code, again.ok()), (200, made.clone()));

    let next = apply(&cluster, &path, "fieldManager=m", &map("a", json!({"k": "x"}))).await.ok();
    assert_eq!(next["data"], json!({"k": "x"}));
    assert_ne!(next["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);

    // A dry run shows what would be.
    let dry = apply(&cluster, &path, "fieldManager=m&dryRun=All", &map("a", json!({"k": "y"}))).await.ok();
    assert_eq!(dry["data"]["k"], "y");
    assert_eq!(cluster.get(&path).await.ok(), next);
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&cluster, &path, "fieldManager=m", &deployment("d", 1)).await.ok();
    let answer = apply(&cluster, &path, "fieldManager=n", &deployment("d", 2)).await;
    let status = answer.value();
    answer.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"m\": .spec.replicas");
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"m\"", "field": ".spec.replicas"}])
    );
    let forced = apply(&cluster, &path, "fieldManager=n&force=true", &deployment("d", 2)).await.ok();
    assert_eq!(forced["spec"]["replicas"], 2);
    let mine = owners(&forced).into_iter().find(|(name, _)| name == "m Apply").unwrap().1;
    assert_eq!(mine["f:spec"].get("f:replicas"), None);

    // A patch takes without asking; its owner is told with version and time left out.
    cluster.patch(&format!("{path}?fieldManager=edit"), json!({"spec": {"replicas": 3}})).await.ok();
    apply(&cluster, &path, "fieldManager=n", &deployment("d", 2)).await.refused(
        409,
        "Conflict",
        "conflict with \"edit\" using apps/v1: .spec.replicas",
    );
    // What is written through status is another manager's by its sub-resource.
    let status =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"replicas": 1}});
    let shown = apply(&cluster, &format!("{path}/status"), "fieldManager=n", &status).await.ok();
    assert!(names(&shown).contains(&"n Apply status".to_owned()), "{:?}", names(&shown));
    let mut other = status.clone();
    other["status"]["replicas"] = json!(2);
    apply(&cluster, &format!("{path}/status"), "fieldManager=o", &other).await.refused(
        409,
        "Conflict",
        "conflict with \"n\" with subresource \"status\": .status.replicas",
    );
}

#[tokio::test]
async fn every_write_has_an_owner() {
    let cluster = Cluster::start().await;
    let headers = [("content-type", "application/json"), ("user-agent", "kubectl/v1.37.1 (linux/amd64)")];
    let body = map("a", json!({"k": "v"})).to_string();
    let made = cluster.send(Some(admin()), request("POST", MAPS, &headers, body)).await.ok();
    assert_eq!(owners(&made), [("kubectl Update".to_owned(), json!({"f:data": {".": {}, "f:k": {}}}))]);

    let path = format!("{MAPS}/a");
    let mut next = made.clone();
    next["data"]["l"] = json!("w");
    next["metadata"]["labels"] = json!({"x": "y"});
    let next = cluster.put(&format!("{path}?fieldManager=other"), next).await.ok();
    assert_eq!(
        owners(&next),
        [
            ("kubectl Update".to_owned(), json!({"f:data": {".": {}, "f:k": {}}})),
            (
                "other Update".to_owned(),
                json!({"f:data": {"f:l": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}})
            ),
        ]
    );
    // A write that changes nothing is nobody's.
    let same = cluster.put(&format!("{path}?fieldManager=third"), next.clone()).await.ok();
    assert_eq!(same, next);
    // What goes away is nobody's either.
    let less = cluster.patch(&format!("{path}?fieldManager=third"), json!({"data": {"l": null}})).await.ok();
    assert_eq!(names(&less), ["kubectl Update", "other Update"]);
    assert_eq!(owners(&less)[1].1, json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}));

    // The status is the status's owner's; a write of the object does not touch it.
    let pod = cluster.post("/api/v1/namespaces/default/pods", pod("p")).await.ok();
    assert_eq!(names(&pod), ["unknown Update"]);
    assert_eq!(owners(&pod)[0].1.get("f:status"), None);
    let status = json!({"status": {"phase": "Running"}});
    let pod = cluster.patch("/api/v1/namespaces/default/pods/p/status?fieldManager=kubelet", status).await.ok();
    assert!(names(&pod).contains(&"kubelet Update status".to_owned()));
    // Deleting with grace and binding leave entries alone.
    assert_eq!(cluster.delete(&path).await.code, 200);
}

#[tokio::test]
async fn entries_can_be_rewritten_and_forgotten() {
    let cluster = Cluster::start().await;
    for reset in [json!([{}]), json!([])] {
        let path = format!("{MAPS}/a");
        apply(&cluster, &path, "fieldManager=m", &map("a", json!({"k": "v"}))).await.ok();
        let cleared = cluster.patch(&path, json!({"metadata": {"managedFields": reset}})).await.ok();
        assert_eq!(cleared["metadata"].get("managedFields"), None);
        // From then on nothing is tracked, until somebody applies.
        let changed = cluster.patch(&path, json!({"data": {"l": "w"}})).await.ok();
        assert_eq!(changed["metadata"].get("managedFields"), None);
        let applied = apply(&cluster, &path, "fieldManager=m", &map("a", json!({"k": "v"}))).await.ok();
        assert_eq!(names(&applied), ["m Apply", "before-first-apply Update"]);
        cluster.delete(&path).await.ok();
    }
    // As kubectl moves client-side applying's entries to server-side applying's.
    let path = format!("{MAPS}/b");
    let made =
        cluster.post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), map("b", json!({"k": "v"}))).await.ok();
    let mut entries = made["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("kubectl");
    entries[0]["operation"] = json!("Apply");
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]);
    let moved = cluster.patch(&path, patch).await.ok();
    assert_eq!(names(&moved), ["kubectl Apply"]);
    let next = apply(&cluster, &path, "fieldManager=kubectl", &map("b", json!({"l": "w"}))).await.ok();
    assert_eq!(next["data"], json!({"l": "w"}));
}

#[tokio::test]
async fn bad_configurations_are_refused() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let good = map("a", json!({"k": "v"}));
    apply(&cluster, &path, "", &good).await.refused(
        422,
        "Invalid",
        "fieldManager: Required value: is required for apply patch",
    );
    cluster.call("PATCH", &format!("{path}?force=true"), json!({})).await.refused(
        422,
        "Invalid",
        "may not be specified for non-apply patch",
    );
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    let cases = [
        (with(&|c| c["kind"] = json!("Secret")), 400, "invalid object type: /v1, Kind=Secret"),
        (with(&|c| c["metadata"]["managedFields"] = json!([])), 400, "metadata.managedFields must be nil"),
        (with(&|c| c["metadata"]["name"] = json!("b")), 400, "does not match the name on the URL (a)"),
        (with(&|c| c["metadata"] = json!({"generateName": "a"})), 400, "name must be provided"),
        (
            with(&|c| c["metadata"]["namespace"] = json!("other")),
            400,
            "does not match the namespace sent on the request",
        ),
        (with(&|c| c["metadata"]["uid"] = json!("u")), 409, "uid mismatch: the provided object specified uid u"),
        (with(&|c| c["data"]["k"] = json!(1)), 500, ".data.k: expected string, got &value.valueUnstructured{Value:1}"),
        (
            with(&|c| c["spec"] = json!(1)),
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .spec: field not declared in schema",
        ),
    ];
    for (config, code, text) in cases {
        let answer = apply(&cluster, &path, "fieldManager=m", &config).await;
        assert_eq!(answer.code, code, "{config}");
        assert!(answer.message().contains(text), "{:?} lacks {text:?}", answer.message());
    }
    let headers = [("content-type", "application/apply-patch+cbor")];
    cluster.send(Some(admin()), request("PATCH", &path, &headers, "x")).await.refused(
        415,
        "UnsupportedMediaType",
        "application/apply-patch+yaml",
    );
    apply_text(&cluster, &path, "fieldManager=m", "a: [").await.refused(400, "BadRequest", "error decoding patch");
    apply_text(&cluster, &path, "fieldManager=m", "- a").await.refused(400, "BadRequest", "error decoding patch");
    // A status is applied to what is there.
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "none"}});
    apply(&cluster, &format!("{DEPLOYMENTS}/none/status"), "fieldManager=m", &status)
        .await
        .refused(404, "NotFound", "none");
    // Who may not create may not create by applying.
    let bytes = good.to_string();
    let headers = [("content-type", "application/apply-patch+yaml")];
    let user = User::new("alice", &["readers"]);
    cluster.send(Some(user), request("PATCH", &format!("{path}?fieldManager=m"), &headers, bytes)).await.refused(
        403,
        "Forbidden",
        "alice",
    );

    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  k: w\n";
    apply_text(&cluster, &path, "fieldManager=m&fieldValidation=Strict", yaml).await.refused(
        400,
        "BadRequest",
        "line 7: key \"k\" already set in map",
    );
    let warned = apply_text(&cluster, &path, "fieldManager=m", yaml).await;
    assert!(warned.headers["warning"].to_str().unwrap().contains("already set in map"));
    assert_eq!(warned.ok()["data"]["k"], "w");
    let silent = apply_text(&cluster, &path, "fieldManager=m&fieldValidation=Ignore", yaml).await;
    assert!(!silent.headers.contains_key("warning"));
}

#[tokio::test]
async fn configurations_are_yaml_of_any_style() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let texts = [
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\",}, \"data\": {\"k\": \"v\"}}",
        "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\",\n\t\"metadata\": {\n\t\t\"name\": \"a\",\n\t},\n\t\"data\": {\"k\": \"v\"}\n\t}",
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: >-\n    v\n",
    ];
    for text in texts {
        let shown = apply_text(&cluster, &path, "fieldManager=m&fieldValidation=Strict", text).await.ok();
        assert_eq!(shown["data"], json!({"k": "v"}), "{text}");
    }
}

#[tokio::test]
async fn the_size_of_a_workload_is_owned_through_its_scale() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&cluster, &path, "fieldManager=m", &deployment("d", 1)).await.ok();
    let scale = format!("{path}/scale");
    cluster.patch(&format!("{scale}?fieldManager=hpa"), json!({"spec": {"replicas": 5}})).await.ok();
    let after = cluster.get(&path).await.ok();
    let owned = owners(&after).into_iter().find(|(name, _)| name == "hpa Update scale").unwrap().1;
    assert_eq!(owned, json!({"f:spec": {"f:replicas": {}}}));
    apply(&cluster, &path, "fieldManager=m", &deployment("d", 1)).await.refused(
        409,
        "Conflict",
        "conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas",
    );
    // Left out, it stays as it was set.
    let mut without = deployment("d", 1);
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let kept = apply(&cluster, &path, "fieldManager=m", &without).await.ok();
    assert_eq!(kept["spec"]["replicas"], 5);
    let config =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 2}});
    apply(&cluster, &scale, "fieldManager=n", &config).await.refused(409, "Conflict", ".spec.replicas");
    let shown = apply(&cluster, &scale, "fieldManager=n&force=true", &config).await.ok();
    assert_eq!((&shown["kind"], &shown["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    let after = cluster.get(&path).await.ok();
    assert!(names(&after).contains(&"n Apply scale".to_owned()));
    assert!(!names(&after).contains(&"hpa Update scale".to_owned()));
}

fn definition() -> Value {
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": item["properties"]}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}})
    };
    json!({
        "metadata": {"name": "things.apply.example.com"},
        "spec": {"group": "apply.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", true), version("v2", false)]},
    })
}

#[tokio::test]
async fn custom_resources_are_applied_by_their_schema() {
    let cluster = Cluster::start().await;
    cluster.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await.ok();
    let thing = |version: &str, spec: Value| json!({"apiVersion": format!("apply.example.com/{version}"), "kind": "Thing", "metadata": {"name": "a"}, "spec": spec});
    let path = format!("{THINGS}/a");
    let made = apply(
        &cluster,
        &path,
        "fieldManager=m&fieldValidation=Strict",
        &thing("v1", json!({"tags": ["a"], "ports": [{"name": "x", "port": 1}], "free": {"y": {"z": 1}}})),
    )
    .await
    .ok();
    assert_eq!(made["spec"]["size"], 3, "defaults are filled in, and nobody's");
    assert_eq!(
        owners(&made),
        [(
            "m Apply".to_owned(),
            json!({"f:spec": {"f:tags": {"v:\"a\"": {}},
                "f:ports": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:port": {}}},
                "f:free": {"f:y": {".": {}, "f:z": {}}}}})
        )]
    );
    let next = apply(&cluster, &path, "fieldManager=n", &thing("v1", json!({"tags": ["b"], "ports": [{"name": "y"}]})))
        .await
        .ok();
    assert_eq!(next["spec"]["tags"], json!(["a", "b"]));
    assert_eq!(next["spec"]["ports"].as_array().unwrap().len(), 2);
    apply(&cluster, &path, "fieldManager=n", &thing("v1", json!({"other": 1}))).await.refused(
        500,
        "",
        ".spec.other: field not declared in schema",
    );

    // In another version the same manager goes on with what it applied.
    let second = path.replace("/v1/", "/v2/");
    let moved = apply(&cluster, &second, "fieldManager=m", &thing("v2", json!({"tags": ["c"]}))).await.ok();
    assert_eq!(moved["spec"]["tags"], json!(["b", "c"]));
    assert_eq!(moved["spec"].get("free"), None);
    let entry =
        moved["metadata"]["managedFields"].as_array().unwrap().iter().find(|entry| entry["manager"] == "m").unwrap();
    assert_eq!(entry["apiVersion"], "apply.example.com/v2");
    apply(&cluster, &path, "fieldManager=o", &thing("v1", json!({"ports": [{"name": "y", "port": 2}]}))).await.ok();
    apply(&cluster, &second, "fieldManager=p", &thing("v2", json!({"ports": [{"name": "y", "port": 3}]})))
        .await
        .refused(409, "Conflict", "conflict with \"o\": .spec.ports[name=\"y\"].port");
    // Keys that come twice are refused also where unknown fields are kept.
    let yaml =
        "apiVersion: apply.example.com/v1\nkind: Thing\nmetadata:\n  name: a\nspec:\n  free:\n    a: 1\n    a: 2\n";
    apply_text(&cluster, &path, "fieldManager=m&fieldValidation=Strict", yaml).await.refused(
        400,
        "BadRequest",
        "line 8: key \"a\" already set in map",
    );
}
