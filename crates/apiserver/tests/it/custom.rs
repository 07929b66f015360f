//! Custom resources from their definition to their end.

use crate::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["color"], "properties": {
            "color": {"type": "string", "enum": ["red", "blue"]},
            "size": {"type": "integer", "default": 3, "minimum": 1},
            "replicas": {"type": "integer"},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "ready": {"type": "boolean"}}},
    }});
    json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                    "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                },
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    })
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn defined() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition()).await.ok();
    cluster
}

#[tokio::test]
async fn objects_can_follow_right_behind_their_definition() {
    let cluster = Cluster::start().await;
    cluster.get(THINGS).await.refused(404, "NotFound", "");
    let made = cluster.post(DEFINITIONS, definition()).await.ok();
    let conditions = made["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|item| item["type"] == "Established" && item["status"] == "True"));
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["spec"]["names"]["listKind"], "ThingList");
    let thing = cluster.post(THINGS, thing("a", json!({"color": "red"}))).await.ok();
    assert_eq!(thing["spec"]["size"], 3, "defaults are filled in");
    assert_eq!(thing["metadata"]["generation"], 1);
    let list = cluster.get(THINGS).await.ok();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("ThingList"), &json!("Thing")));
    let group = cluster.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let resources = cluster.get("/apis/example.com/v1").await.ok();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["th"]));
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let all = cluster.send(Some(admin()), request("GET", "/apis", &accept, "")).await.ok();
    let mut items = all["items"].as_array().unwrap().iter();
    let found =
        items.find(|item| item["metadata"]["name"] == "example.com").expect("the group in aggregated discovery");
    assert_eq!(found["versions"][0]["resources"][0]["resource"], "things");
    let open = cluster.get("/openapi/v3/apis/example.com/v1").await.ok();
    assert!(open["components"]["schemas"].as_object().unwrap().keys().any(|name| name.ends_with("Thing")));
}

#[tokio::test]
async fn objects_are_checked_and_pruned() {
    let cluster = defined().await;
    let post = |spec: Value| cluster.post(THINGS, thing("a", spec));
    post(json!({"color": "green"})).await.refused(422, "Invalid", "spec.color: Unsupported value: \"green\"");
    post(json!({})).await.refused(422, "Invalid", "spec.color: Required value");
    post(json!({"color": "red", "size": 0})).await.refused(422, "Invalid", "spec.size");
    post(json!({"color": "red", "size": "x"})).await.refused(422, "Invalid", "spec.size");
    let answer = post(json!({"color": "red", "other": 1})).await;
    assert!(answer.headers["warning"].to_str().unwrap().contains("unknown field \\\"spec.other\\\""));
    assert!(answer.ok()["spec"].get("other").is_none());
    let strict = cluster
        .post(&format!("{THINGS}?fieldValidation=Strict"), thing("b", json!({"color": "red", "other": 1})))
        .await;
    strict.refused(400, "BadRequest", "unknown field \"spec.other\"");
    let request =
        request("PATCH", &format!("{THINGS}/a"), &[("content-type", "application/strategic-merge-patch+json")], "{}");
    cluster.send(Some(admin()), request).await.refused(415, "UnsupportedMediaType", "");
    let proto = crate::request("GET", THINGS, &[("accept", "application/vnd.kubernetes.protobuf")], "");
    assert_eq!(cluster.send(Some(admin()), proto).await.code, 406);
}

#[tokio::test]
async fn status_scale_columns_and_fields_work() {
    let cluster = defined().await;
    let mut with_status = thing("a", json!({"color": "red", "replicas": 2}));
    with_status["status"] = json!({"replicas": 9});
    let made = cluster.post(THINGS, with_status).await.ok();
    assert!(made.get("status").is_none(), "a status cannot be created");
    let one = format!("{THINGS}/a");
    let status = json!({"status": {"replicas": 1}, "spec": {"color": "blue"}});
    let patched = cluster.patch(&format!("{one}/status"), status).await.ok();
    assert_eq!((&patched["status"]["replicas"], &patched["spec"]["color"]), (&json!(1), &json!("red")));
    assert_eq!(patched["metadata"]["generation"], 1);
    let scaled = cluster.patch(&format!("{one}/scale"), json!({"spec": {"replicas": 5}})).await.ok();
    assert_eq!((&scaled["spec"]["replicas"], &scaled["status"]["replicas"]), (&json!(5), &json!(1)));
    let now = cluster.get(&one).await.ok();
    assert_eq!((&now["spec"]["replicas"], &now["metadata"]["generation"]), (&json!(5), &json!(2)));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster.send(Some(admin()), request("GET", THINGS, &accept, "")).await.ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Color");
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red"]));
    cluster.post(THINGS, thing("b", json!({"color": "blue"}))).await.ok();
    let chosen = cluster.get(&format!("{THINGS}?fieldSelector=spec.color%3Dblue")).await.ok();
    assert_eq!(chosen["items"][0]["metadata"]["name"], "b");
    assert_eq!(chosen["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn every_served_version_shows_the_same_objects() {
    let cluster = defined().await;
    cluster.post(THINGS, thing("a", json!({"color": "red"}))).await.ok();
    let old = THINGS.replace("/v1/", "/v1beta1/");
    let answer = cluster.get(&format!("{old}/a")).await;
    assert!(answer.headers["warning"].to_str().unwrap().contains("example.com/v1beta1 Thing is deprecated"));
    assert_eq!(answer.ok()["apiVersion"], "example.com/v1beta1");
    let mut sent = thing("b", json!({"color": "blue"}));
    sent["apiVersion"] = json!("example.com/v1beta1");
    cluster.post(&old, sent).await.ok();
    assert_eq!(cluster.get(&format!("{THINGS}/b")).await.ok()["apiVersion"], "example.com/v1");
    let list = cluster.get(&old).await.ok();
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["apiVersion"] == "example.com/v1beta1"));
}

#[tokio::test]
async fn a_changed_schema_shows_in_objects_that_were_there_before() {
    let cluster = defined().await;
    cluster.post(THINGS, thing("a", json!({"color": "red"}))).await.ok();
    let mut new = cluster.get(&format!("{DEFINITIONS}/things.example.com")).await.ok();
    new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["shape"] =
        json!({"type": "string", "default": "round"});
    cluster.put(&format!("{DEFINITIONS}/things.example.com"), new).await.ok();
    assert_eq!(cluster.get(&format!("{THINGS}/a")).await.ok()["spec"]["shape"], "round");
    assert_eq!(cluster.get(THINGS).await.ok()["items"][0]["spec"]["shape"], "round");
}

#[tokio::test]
async fn taken_names_are_not_served() {
    let cluster = defined().await;
    let mut other = definition();
    other["metadata"]["name"] = json!("others.example.com");
    other["spec"]["names"]["plural"] = json!("others");
    other["spec"]["names"]["singular"] = json!("other");
    other["spec"]["names"]["shortNames"] = json!(["o"]);
    let made = cluster.post(DEFINITIONS, other).await.ok();
    let condition =
        made["status"]["conditions"].as_array().unwrap().iter().find(|item| item["type"] == "NamesAccepted").cloned();
    assert_eq!(condition.unwrap()["reason"], "ListKindConflict");
    cluster.get("/apis/example.com/v1/others").await.refused(404, "NotFound", "");
    cluster.delete(&format!("{DEFINITIONS}/things.example.com")).await.ok();
    for _ in 0..200 {
        if cluster.get("/apis/example.com/v1/others").await.code == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("names that became free were not given on");
}

#[tokio::test]
async fn a_definition_goes_with_all_of_its_objects() {
    let cluster = defined().await;
    for name in ["a", "b"] {
        cluster.post(THINGS, thing(name, json!({"color": "red"}))).await.ok();
    }
    cluster.patch(&format!("{THINGS}/b"), json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.ok();
    let one = format!("{DEFINITIONS}/things.example.com");
    let ending = cluster.delete(&one).await.ok();
    assert_eq!(ending["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.get(&one).await.code, 200, "held by an object");
    cluster.post(THINGS, thing("c", json!({"color": "red"}))).await.refused(
        405,
        "MethodNotAllowed",
        "while custom resource definition is terminating",
    );
    cluster.patch(&format!("{THINGS}/b"), json!({"metadata": {"finalizers": null}})).await.ok();
    for _ in 0..200 {
        if cluster.get(&one).await.code == 404 {
            cluster.get(THINGS).await.refused(404, "NotFound", "");
            cluster.post(DEFINITIONS, definition()).await.ok();
            assert_eq!(cluster.get(THINGS).await.ok()["items"], json!([]));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the definition did not go");
}

#[tokio::test]
async fn custom_resources_survive_a_restart() {
    let cluster = defined().await;
    let made = cluster.post(THINGS, thing("a", json!({"color": "red"}))).await.ok();
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir).await;
    assert_eq!(cluster.get(&format!("{THINGS}/a")).await.ok(), made);
}

#[tokio::test]
async fn bad_definitions_are_refused() {
    let cluster = Cluster::start().await;
    let mut wrong = definition();
    wrong["metadata"]["name"] = json!("other.example.com");
    cluster.post(DEFINITIONS, wrong).await.refused(422, "Invalid", "must be spec.names.plural+\".\"+spec.group");
    let mut two = definition();
    two["spec"]["versions"][1]["storage"] = json!(true);
    cluster.post(DEFINITIONS, two).await.refused(422, "Invalid", "exactly one version marked as storage version");
    let mut loose = definition();
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"properties": {"spec": {"type": "object"}}});
    cluster.post(DEFINITIONS, loose).await.refused(422, "Invalid", "type");
}
