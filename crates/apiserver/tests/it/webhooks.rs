//! Webhooks of admission and conversion, asked over TLS on a loopback port.

use std::sync::{Arc, Mutex};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair};
use serve::http::Limits;
use tokio::net::TcpListener;

use crate::*;

/// A server that answers each document it is sent with what `answer` makes of it, by path.
struct Hook {
    port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    async fn start(
        cluster: &Cluster,
        answer: impl Fn(&str, &Value) -> Option<Value> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::serve(cluster, "localhost", move |request, question| answer(request.uri.path(), question)).await
    }

    async fn serve(
        cluster: &Cluster,
        name: &str,
        answer: impl Fn(&http::request::Parts, &Value) -> Option<Value> + Clone + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        let tls = serve::tls::server_config(chain.as_bytes(), key.as_bytes(), None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = asked.clone();
        let handler = move |request: Request<Body>| {
            let (answer, seen) = (answer.clone(), seen.clone());
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let question: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                seen.lock().unwrap().push(question.clone());
                match answer(&parts, &question) {
                    Some(answer) => Response::new(body::full(Bytes::from(answer.to_string()))),
                    None => {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        Response::new(body::empty())
                    }
                }
            }
        };
        let task = cluster.task.clone();
        cluster.task.spawn("webhook", serve::http::serve(task, listener, Some(tls), Limits::default(), handler));
        Self { port, bundle: BASE64_STANDARD.encode(chain), asked }
    }

    fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.bundle})
    }

    fn webhook(&self, name: &str, path: &str) -> Value {
        json!({
            "name": format!("{name}.example.com"), "clientConfig": self.client(path), "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        })
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn allowed(question: &Value, more: Value) -> Value {
    let mut response = json!({"uid": question["request"]["uid"], "allowed": true});
    response.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
}

fn patched(question: &Value, patch: Value) -> Value {
    let patch = BASE64_STANDARD.encode(patch.to_string());
    allowed(question, json!({"patch": patch, "patchType": "JSONPatch"}))
}

/// What the tests' webhooks say, by path.
fn answer(path: &str, question: &Value) -> Option<Value> {
    Some(match path {
        "/allow" => allowed(question, json!({"warnings": ["look out"]})),
        "/deny" => allowed(question, json!({"allowed": false, "status": {"message": "not on my watch", "code": 403}})),
        "/first" => patched(question, json!([{"op": "add", "path": "/data/first", "value": "yes"}])),
        "/second" => patched(question, json!([{"op": "add", "path": "/data/second", "value": "yes"}])),
        "/wrong" => patched(question, json!([{"op": "add", "path": "/data/k/deep", "value": 1}])),
        "/nonsense" => json!({"hello": 1}),
        _ => return None,
    })
}

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

fn configuration(hooks: &[Value]) -> Value {
    json!({"metadata": {"name": "hooks"}, "webhooks": hooks})
}

#[tokio::test]
async fn a_webhook_is_told_all_and_may_refuse() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, answer).await;
    cluster.post(VALIDATING, configuration(&[hook.webhook("a", "/allow")])).await.ok();
    let made = cluster.post(MAPS, map("a")).await;
    assert_eq!(made.headers.get("warning").unwrap(), "299 - \"look out\"");
    made.ok();
    let asked = hook.take();
    let request = &asked[0]["request"];
    assert_eq!((&request["operation"], &request["name"]), (&json!("CREATE"), &json!("a")));
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&request["object"]["data"]["k"], &request["oldObject"]), (&json!("v"), &Value::Null));
    assert_eq!((&request["namespace"], &request["userInfo"]["username"]), (&json!("default"), &json!("admin")));
    assert_eq!((&request["dryRun"], &request["options"]["kind"]), (&json!(false), &json!("CreateOptions")));
    cluster.delete(&format!("{MAPS}/a")).await.ok();
    let asked = hook.take();
    let request = &asked[0]["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(request["oldObject"]["data"]["k"], "v");
    cluster.delete(&format!("{VALIDATING}/hooks")).await.ok();
    cluster.post(VALIDATING, configuration(&[hook.webhook("a", "/deny")])).await.ok();
    let text = "admission webhook \"a.example.com\" denied the request: not on my watch";
    let refused = cluster.post(MAPS, map("b")).await;
    assert_eq!((refused.code, refused.message()), (403, text.to_owned()));
    cluster.post("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "c"}})).await.ok();
    cluster.get(&format!("{MAPS}/b")).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn mutating_webhooks_change_objects_and_are_asked_again() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, answer).await;
    let mut first = hook.webhook("first", "/first");
    first["reinvocationPolicy"] = "IfNeeded".into();
    cluster.post(MUTATING, configuration(&[first, hook.webhook("second", "/second")])).await.ok();
    let made = cluster.post(MAPS, map("a")).await.ok();
    assert_eq!(made["data"], json!({"k": "v", "first": "yes", "second": "yes"}));
    let seen: Vec<bool> =
        hook.take().iter().map(|question| question["request"]["object"]["data"]["second"] == "yes").collect();
    assert_eq!(seen, [false, false, true], "the first is asked again after the second changed the object");
    cluster.delete(&format!("{MUTATING}/hooks")).await.ok();
    cluster.post(MUTATING, configuration(&[hook.webhook("w", "/wrong")])).await.ok();
    let answer = cluster.post(MAPS, map("b")).await;
    assert_eq!(answer.code, 500, "{:?}", answer.bytes);
}

#[tokio::test]
async fn a_webhook_that_fails_is_ignored_or_refuses_as_it_is_configured() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, answer).await;
    for (path, why) in [
        ("/never", "failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://localhost:"),
        ("/nonsense", "received invalid webhook response: webhook response was absent"),
    ] {
        let mut failing = hook.webhook("a", path);
        failing["timeoutSeconds"] = 1.into();
        for (policy, code) in [("Fail", 500), ("Ignore", 201)] {
            failing["failurePolicy"] = policy.into();
            let body = configuration(std::slice::from_ref(&failing));
            let _ = cluster.delete(&format!("{VALIDATING}/hooks")).await;
            cluster.post(VALIDATING, body).await.ok();
            let answer = cluster.post(MAPS, json!({"metadata": {"generateName": "a-"}})).await;
            assert_eq!(answer.code, code, "{path} {policy} {:?}", answer.bytes);
            if code == 500 {
                assert!(answer.message().contains(why), "{}", answer.message());
            }
        }
    }
}

#[tokio::test]
async fn webhooks_are_asked_only_of_what_concerns_them() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, answer).await;
    let mut deny = hook.webhook("a", "/deny");
    deny["objectSelector"] = json!({"matchLabels": {"watched": "yes"}});
    let mut elsewhere = hook.webhook("b", "/deny");
    elsewhere["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
    let mut effects = hook.webhook("c", "/deny");
    effects["sideEffects"] = "NoneOnDryRun".into();
    effects["rules"][0]["operations"] = json!(["UPDATE"]);
    cluster.post(VALIDATING, configuration(&[deny, elsewhere, effects])).await.ok();
    cluster.post(MAPS, map("a")).await.ok();
    let mut watched = map("b");
    watched["metadata"]["labels"] = json!({"watched": "yes"});
    cluster.post(MAPS, watched).await.refused(403, "", "a.example.com");
    cluster.post("/api/v1/namespaces/kube-system/configmaps", map("c")).await.refused(403, "", "b.example.com");
    cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": "w"}})).await.refused(403, "", "c.example.com");
    cluster.patch(&format!("{VALIDATING}/hooks"), json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
}

#[tokio::test]
async fn actions_are_shown_as_what_was_posted() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, answer).await;
    let rule = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*"]}]);
    let mut watching = hook.webhook("a", "/allow");
    watching["rules"] = rule.clone();
    cluster.post(VALIDATING, configuration(&[watching])).await.ok();
    cluster.post("/api/v1/namespaces/default/pods", pod("p")).await.ok();
    assert_eq!(hook.take().len(), 1, "the pod itself counts among its sub-resources");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    cluster.post("/api/v1/namespaces/default/pods/p/binding", binding).await.ok();
    let asked = hook.take();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let request = &asked[0]["request"];
    assert_eq!((&request["operation"], &request["subResource"]), (&json!("CREATE"), &json!("binding")));
    assert_eq!((&request["kind"]["kind"], &request["object"]["target"]["name"]), (&json!("Binding"), &json!("n")));
    let mut refusing = hook.webhook("a", "/deny");
    refusing["rules"] = rule;
    cluster.delete(&format!("{VALIDATING}/hooks")).await.ok();
    cluster.post(VALIDATING, configuration(&[refusing])).await.ok();
    let eviction = json!({"metadata": {"name": "p"}});
    cluster.post("/api/v1/namespaces/default/pods/p/eviction", eviction).await.refused(403, "", "not on my watch");
    let attach = "/api/v1/namespaces/default/pods/p/attach?stdin=1&container=c";
    cluster.post(attach, Value::Null).await.refused(403, "", "not on my watch");
    let asked = hook.take();
    let request = &asked[1]["request"];
    assert_eq!((&request["operation"], &request["kind"]["kind"]), (&json!("CONNECT"), &json!("PodAttachOptions")));
    assert_eq!((&request["object"]["stdin"], &request["object"]["container"]), (&json!(true), &json!("c")));
}

#[tokio::test]
async fn versions_are_converted_by_a_webhook() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(&cluster, |_, question| {
        let request = &question["request"];
        let convert = |object: &Value| {
            let mut new = object.clone();
            new["apiVersion"] = request["desiredAPIVersion"].clone();
            if request["desiredAPIVersion"] == "example.com/v2" {
                let (host, port) = object["hostPort"].as_str().unwrap_or(":").split_once(':').unwrap();
                (new["host"], new["port"]) = (host.into(), port.into());
                new.as_object_mut().unwrap().remove("hostPort");
            } else {
                let text = |key: &str| object[key].as_str().unwrap_or_default();
                new["hostPort"] = format!("{}:{}", text("host"), text("port")).into();
                for key in ["host", "port"] {
                    new.as_object_mut().unwrap().remove(key);
                }
            }
            new
        };
        let objects: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
        let response = json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
        Some(json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}))
    })
    .await;
    let version = |name: &str, fields: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let selectable: Vec<Value> = fields.iter().map(|field| json!({"jsonPath": format!(".{field}")})).collect();
        json!({
            "name": name, "served": true, "storage": name == "v1", "selectableFields": selectable,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        })
    };
    let definition = json!({
        "metadata": {"name": "places.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "places", "singular": "place", "kind": "Place"},
            "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": hook.client("/convert"),
            }},
        },
    });
    cluster.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.ok();
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/places");
    let place = |name: &str, host: &str| json!({"kind": "Place", "apiVersion": "example.com/v2", "metadata": {"name": name}, "host": host, "port": "80"});
    let watched = format!("{}?watch=true&fieldSelector=host%3Done&timeoutSeconds=2", path("v2"));
    let watch = cluster.get(&watched);
    let work = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let made = cluster.post(&path("v2"), place("a", "one")).await.ok();
        assert_eq!((&made["host"], &made["apiVersion"]), (&json!("one"), &json!("example.com/v2")));
        cluster.post(&path("v2"), place("b", "two")).await.ok();
        cluster.patch(&format!("{}/a", path("v1")), json!({"hostPort": "three:80"})).await.ok();
    };
    let (events, ()) = futures::future::join(watch, work).await;
    let events: Vec<Value> =
        events.bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let shown: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("ADDED", "a"), ("DELETED", "a")], "{events:?}");
    let stored = cluster.get(&format!("{}/b", path("v1"))).await.ok();
    assert_eq!((&stored["hostPort"], stored.get("host")), (&json!("two:80"), None));
    hook.take();
    let list = cluster.get(&format!("{}?fieldSelector=host%3Dtwo", path("v2"))).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    assert!(hook.take().is_empty(), "what was converted once is kept");
    let updated = cluster.patch(&format!("{}/b", path("v2")), json!({"port": "81"})).await.ok();
    assert_eq!(updated["port"], "81");
    assert_eq!(cluster.get(&format!("{}/b", path("v1"))).await.ok()["hostPort"], "two:81");
    // What was stored before the stored version changed is converted too.
    let place_of_storage = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/places.example.com";
    let change = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    cluster.patch(place_of_storage, change).await.ok();
    cluster.post(&path("v2"), place("c", "four")).await.ok();
    for (version, field, values) in
        [("v2", "host", ["three", "two", "four"]), ("v1", "hostPort", ["three:80", "two:81", "four:80"])]
    {
        let list = cluster.get(&path(version)).await.ok();
        let found: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item[field]).collect();
        assert_eq!(found, values, "{version}");
    }
}

#[tokio::test]
async fn other_api_servers_answer_for_their_groups() {
    let cluster = Cluster::start_with(|config| {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let (certificate, key) = (pem.clone().into_bytes(), key.serialize_pem().into_bytes());
        config.front_proxy = Some(apiserver::config::FrontProxy { authority: pem, certificate, key });
    })
    .await;
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "other.example.com/v1",
        "resources": [
            {"name": "fish", "singularName": "fish", "namespaced": true, "kind": "Fish", "verbs": ["get", "list"]},
            {"name": "fish/status", "singularName": "", "namespaced": true, "kind": "Fish", "verbs": ["get"]},
        ],
    });
    let hook = Hook::serve(&cluster, "fish.default.svc", move |request, _| {
        let header = |name: &str| {
            request.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        Some(match request.uri.path() {
            "/apis/other.example.com/v1" => list.clone(),
            path => json!({
                "path": path, "query": request.uri.query(), "user": header("x-remote-user"),
                "groups": header("x-remote-group"), "token": header("authorization"),
            }),
        })
    })
    .await;
    let published =
        cluster.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await.ok();
    assert_eq!(published["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    let service = json!({"metadata": {"name": "fish"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    cluster.post("/api/v1/namespaces/default/services", service).await.ok();
    let api = json!({
        "metadata": {"name": "v1.other.example.com"},
        "spec": {
            "group": "other.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "default", "name": "fish", "port": hook.port}, "caBundle": hook.bundle,
        },
    });
    let path = "/apis/apiregistration.k8s.io/v1/apiservices";
    cluster.post(path, api).await.ok();
    let mut seen = Value::Null;
    for _ in 0..100 {
        seen = cluster.get(&format!("{path}/v1.other.example.com")).await.ok()["status"]["conditions"][0].clone();
        if seen["status"] == "True" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((&seen["status"], &seen["reason"]), (&json!("True"), &json!("Passed")), "{seen}");
    let ann = User::new("ann", &["system:masters"]);
    let place = "/apis/other.example.com/v1/namespaces/default/fish/nemo?x=y";
    let answer = cluster.as_user(&ann, "GET", place, Value::Null).await.ok();
    assert_eq!(
        (&answer["path"], &answer["query"]),
        (&json!("/apis/other.example.com/v1/namespaces/default/fish/nemo"), &json!("x=y"))
    );
    assert_eq!((&answer["user"], &answer["token"]), (&json!(["ann"]), &json!([])));
    assert_eq!(answer["groups"], json!(["system:masters", "system:authenticated"]));
    let nobody = User::new("bob", &[]);
    cluster.as_user(&nobody, "GET", place, Value::Null).await.refused(403, "Forbidden", "other.example.com");
    assert_eq!(cluster.get("/apis/other.example.com/v1").await.ok()["resources"][0]["name"], "fish");
    let groups = cluster.get("/apis").await.ok();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "other.example.com"), "{groups}");
    assert_eq!(cluster.get("/apis/other.example.com").await.ok()["preferredVersion"]["version"], "v1");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let all = cluster.send(Some(admin()), request("GET", "/apis", &accept, Bytes::new())).await.ok();
    let group = all["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "other.example.com");
    let version = &group.unwrap()["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    assert_eq!(version["resources"][0]["subresources"][0]["subresource"], "status");
}
