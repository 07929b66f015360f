//! What happens to objects that are created, changed and deleted, whatever their kind.

use crate::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_created_object_has_what_the_server_gives_it() {
    let cluster = Cluster::start().await;
    let sent = json!({
        "metadata": {"name": "a", "uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "managedFields": [{}], "selfLink": "/x"},
        "data": {"b": "1", "a": "2"},
    });
    let made = cluster.post(MAPS, sent).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_ne!(made["metadata"]["uid"], "mine");
    assert!(made["metadata"]["creationTimestamp"].as_str().unwrap() > "2020");
    assert!(
        made["metadata"]["managedFields"][0]["fieldsV1"]["f:data"].is_object()
            && made["metadata"].get("selfLink").is_none()
    );
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let read = cluster.get(&format!("{MAPS}/a")).await;
    assert!(read.bytes.starts_with(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":""#));
    assert_eq!(read.ok(), made);
}

#[tokio::test]
async fn a_namespace_is_read_by_its_name() {
    let cluster = Cluster::start().await;
    let read = cluster.get("/api/v1/namespaces/default").await.ok();
    assert_eq!(read["metadata"]["name"], "default");
}

#[tokio::test]
async fn an_update_that_names_no_version_is_of_whatever_there_is() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "1"}})).await.ok();
    let changed = json!({"metadata": {"name": "a"}, "data": {"k": "2"}});
    let changed = cluster.put(&format!("{MAPS}/a"), changed).await.ok();
    assert_eq!(changed["data"]["k"], "2");
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = Cluster::start().await;
    let sent = json!({"metadata": {"generateName": "web-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = cluster.post(MAPS, sent.clone()).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    let made = cluster.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await.ok();
    assert!(made["metadata"]["uid"].is_string() && made["metadata"].get("resourceVersion").is_none());
    cluster.get(&format!("{MAPS}/a")).await.refused(404, "NotFound", "");
    let before = cluster.config_map("b").await;
    let patched = cluster.patch(&format!("{MAPS}/b?dryRun=All"), json!({"data": {"k": "new"}})).await.ok();
    assert_eq!(patched["data"]["k"], "new");
    let answer = cluster.call("DELETE", &format!("{MAPS}/b"), json!({"dryRun": ["All"]})).await;
    assert_eq!(answer.code, 200);
    assert_eq!(cluster.get(&format!("{MAPS}/b")).await.ok(), before);
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_its_revision() {
    let cluster = Cluster::start().await;
    let made = cluster.config_map("a").await;
    let same = cluster.put(&format!("{MAPS}/a"), made.clone()).await.ok();
    assert_eq!(same, made);
    let patched = cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": "v"}})).await.ok();
    assert_eq!(patched, made);
    let changed = cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": "w"}})).await.ok();
    assert!(version(&changed) > version(&made));
    assert_eq!(changed["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn patches_of_all_kinds_are_applied() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let path = format!("{MAPS}/a");
    let merged = cluster.patch(&path, json!({"data": {"x": "1", "k": null}})).await.ok();
    assert_eq!(merged["data"], json!({"x": "1"}));
    let patched = cluster.patch(&path, json!([{"op": "add", "path": "/data/y", "value": "2"}])).await.ok();
    assert_eq!(patched["data"], json!({"x": "1", "y": "2"}));
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, pod("p")).await.ok();
    let strategic = r#"{"spec":{"containers":[{"name":"c","image":"other"}]}}"#;
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    let answer = cluster.send(Some(admin()), request("PATCH", &format!("{pods}/p"), &kind, strategic)).await.ok();
    assert_eq!(answer["spec"]["containers"][0]["image"], "other");
    assert_eq!(answer["spec"]["containers"].as_array().map(Vec::len), Some(1));
    let kind = [("content-type", "application/apply-patch+cbor")];
    let answer = cluster.send(Some(admin()), request("PATCH", &format!("{path}?fieldManager=m"), &kind, "{}")).await;
    answer.refused(415, "UnsupportedMediaType", "application/merge-patch+json");
}

#[tokio::test]
async fn of_many_patches_at_once_none_is_lost() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let path = format!("{MAPS}/a");
    let all = (0..50).map(|at| {
        let (cluster, path) = (&cluster, &path);
        async move { cluster.patch(path, json!({"data": {at.to_string(): "x"}})).await.ok() }
    });
    futures::future::join_all(all).await;
    let found = cluster.get(&path).await.ok();
    assert_eq!(found["data"].as_object().map(serde_json::Map::len), Some(51));
}

#[tokio::test]
async fn of_many_creations_of_one_name_one_succeeds() {
    let cluster = Cluster::start().await;
    let all = (0..20).map(|_| cluster.post(MAPS, json!({"metadata": {"name": "a"}})));
    let codes: Vec<u16> = futures::future::join_all(all).await.into_iter().map(|answer| answer.code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == 409).count(), 19);
}

#[tokio::test]
async fn some_kinds_are_created_by_an_update() {
    let cluster = Cluster::start().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let answer = cluster.put("/apis/coordination.k8s.io/v1/namespaces/default/leases/l", lease).await;
    assert_eq!(answer.code, 201);
    cluster.put(&format!("{MAPS}/none"), json!({"metadata": {"name": "none"}})).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn a_generation_counts_what_users_want() {
    let cluster = Cluster::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}},
        "status": {"replicas": 7},
    });
    let made = cluster.post(path, deployment).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["status"].get("replicas").is_none(), "a status cannot be created");
    let one = format!("{path}/d");
    let status =
        cluster.patch(&format!("{one}/status"), json!({"status": {"replicas": 3}, "spec": {"replicas": 9}})).await.ok();
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(3), &json!(1)));
    assert_eq!(status["metadata"]["generation"], 1);
    let labelled =
        cluster.patch(&one, json!({"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 5}})).await.ok();
    assert_eq!((&labelled["metadata"]["generation"], &labelled["status"]["replicas"]), (&json!(1), &json!(3)));
    let scale = cluster.get(&format!("{one}/scale")).await.ok();
    assert_eq!((&scale["kind"], &scale["status"]["selector"]), (&json!("Scale"), &json!("a=b")));
    let scaled = cluster.patch(&format!("{one}/scale"), json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    assert_eq!(cluster.get(&one).await.ok()["metadata"]["generation"], 2);
    let mut put = scaled;
    put["spec"]["replicas"] = json!(6);
    assert_eq!(cluster.put(&format!("{one}/scale"), put.clone()).await.ok()["spec"]["replicas"], 6);
    cluster.put(&format!("{one}/scale"), put).await.refused(409, "Conflict", "the object has been modified");
}

#[tokio::test]
async fn finalizers_hold_a_deletion_back() {
    let cluster = Cluster::start().await;
    let made = cluster.post(MAPS, json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}})).await.ok();
    let path = format!("{MAPS}/a");
    let held = cluster.delete(&path).await.ok();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(held["kind"], "ConfigMap");
    assert_eq!(cluster.get(&path).await.code, 200);
    cluster.patch(&path, json!({"metadata": {"finalizers": null}})).await.ok();
    cluster.get(&path).await.refused(404, "NotFound", "");
    let gone = cluster.post(MAPS, json!({"metadata": {"name": "a"}})).await.ok();
    assert_ne!(gone["metadata"]["uid"], made["metadata"]["uid"]);
    let status = cluster.delete(&path).await.ok();
    assert_eq!((&status["kind"], &status["details"]["uid"]), (&json!("Status"), &gone["metadata"]["uid"]));
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.config_map(name).await;
    }
    let answer = cluster.delete(&format!("{MAPS}?labelSelector=app%20in%20(a,b)")).await.ok();
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(2));
    let left = cluster.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_namespace_ends_in_two_steps() {
    let cluster = Cluster::start().await;
    let made = cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "web"}})).await.ok();
    assert_eq!((&made["spec"]["finalizers"], &made["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "web");
    cluster.post("/api/v1/namespaces/web/configmaps", json!({"metadata": {"name": "a"}})).await.ok();
    let ending = cluster.delete("/api/v1/namespaces/web").await.ok();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let answer = cluster.post("/api/v1/namespaces/web/configmaps", json!({"metadata": {"name": "b"}})).await;
    assert_eq!(answer.value()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    answer.refused(403, "Forbidden", "because it is being terminated");
    let mut empty = ending.clone();
    empty["spec"]["finalizers"] = json!([]);
    cluster.put("/api/v1/namespaces/web/finalize", empty).await.ok();
    cluster.get("/api/v1/namespaces/web").await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let cluster = Cluster::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "message": "hello", "type": "Normal", "source": {"component": "test"},
    });
    cluster.post("/api/v1/namespaces/default/events", event).await.ok();
    let other = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.ok();
    assert_eq!((&other["note"], &other["regarding"]["name"]), (&json!("hello"), &json!("p")));
    assert_eq!(other["apiVersion"], "events.k8s.io/v1");
    let list = cluster.get("/apis/events.k8s.io/v1/events").await.ok();
    assert_eq!(list["items"][0]["note"], "hello");
    let path = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp";
    assert_eq!(cluster.get(path).await.ok()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_secrets_are_sealed() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct-horse-battery"}});
    let made = cluster.post("/api/v1/namespaces/default/secrets", secret).await.ok();
    assert!(made.get("stringData").is_none());
    let before = cluster.get("/api/v1/namespaces/default/configmaps/a").await.ok();
    let dir = cluster.stop().await;
    let encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    for entry in walk(dir.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        for needle in ["correct-horse-battery", encoded] {
            assert!(memchr::memmem::find(&bytes, needle.as_bytes()).is_none(), "{}", entry.display());
        }
    }
    let cluster = Cluster::start_in(dir).await;
    assert_eq!(cluster.get("/api/v1/namespaces/default/configmaps/a").await.ok(), before);
    let again = cluster.get("/api/v1/namespaces/default/secrets/s").await.ok();
    assert_eq!(again["data"]["password"], encoded);
    assert_eq!(again, made);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
