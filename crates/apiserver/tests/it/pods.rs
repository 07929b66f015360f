//! Pods: what admission adds, binding, graceful deletion, eviction, tokens, logs.

use crate::*;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn node(cluster: &Cluster, name: &str) {
    cluster.post("/api/v1/nodes", json!({"metadata": {"name": name}})).await.ok();
}

async fn bound(cluster: &Cluster, name: &str) -> Value {
    cluster.post(PODS, pod(name)).await.ok();
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(cluster.post(&format!("{PODS}/{name}/binding"), binding).await.code, 201);
    cluster.get(&format!("{PODS}/{name}")).await.ok()
}

#[tokio::test]
async fn a_pod_gets_account_token_priority_and_tolerations() {
    let cluster = Cluster::start().await;
    let made = cluster.post(PODS, pod("p")).await.ok();
    let spec = &made["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5);
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!((&made["status"]["phase"], &made["status"]["qosClass"]), (&json!("Pending"), &json!("BestEffort")));
    let mut critical = pod("c");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    assert_eq!(cluster.post(PODS, critical).await.ok()["spec"]["priority"], 2_000_001_000);
    let mut plain = pod("q");
    plain["spec"]["automountServiceAccountToken"] = json!(false);
    assert!(cluster.post(PODS, plain).await.ok()["spec"].get("volumes").is_none());
}

#[tokio::test]
async fn a_pod_waits_for_the_account_of_a_new_namespace() {
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "web"}})).await.ok();
    let account = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.post("/api/v1/namespaces/web/serviceaccounts", json!({"metadata": {"name": "default"}})).await.ok()
    };
    let (answer, _) = tokio::join!(cluster.post("/api/v1/namespaces/web/pods", pod("p")), account);
    assert_eq!(answer.code, 201);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = Cluster::start().await;
    node(&cluster, "n1").await;
    let pod = bound(&cluster, "p").await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let again = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n2"}});
    cluster.post(&format!("{PODS}/p/binding"), again.clone()).await.refused(
        409,
        "Conflict",
        "already assigned to node \"n1\"",
    );
    cluster.post("/api/v1/namespaces/default/bindings", again).await.refused(409, "Conflict", "already assigned");
    let on = cluster.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.ok();
    assert_eq!(on["items"].as_array().map(Vec::len), Some(1));
    let on = cluster.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2").await.ok();
    assert_eq!(on["items"], json!([]));
}

#[tokio::test]
async fn a_bound_pod_is_deleted_gracefully() {
    let cluster = Cluster::start().await;
    node(&cluster, "n1").await;
    bound(&cluster, "p").await;
    let path = format!("{PODS}/p");
    let dying = cluster.delete(&path).await.ok();
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(dying["metadata"]["generation"], 2);
    let shorter = cluster.call("DELETE", &path, json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let longer = cluster.call("DELETE", &path, json!({"gracePeriodSeconds": 60})).await.ok();
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 5);
    let gone = cluster.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    assert_eq!(gone["kind"], "Pod");
    cluster.get(&path).await.refused(404, "NotFound", "");
    cluster.post(PODS, pod("q")).await.ok();
    cluster.delete(&format!("{PODS}/q")).await.ok();
    cluster.get(&format!("{PODS}/q")).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let cluster = Cluster::start().await;
    node(&cluster, "n1").await;
    bound(&cluster, "p").await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.patch(&format!("{PODS}/p/status"), ready).await.ok();
    cluster.patch(&format!("{PODS}/p"), json!({"metadata": {"labels": {"app": "x"}}})).await.ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    cluster.post(budgets, budget).await.ok();
    let eviction = json!({"metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    let evict = || cluster.post(&path, eviction.clone());
    evict().await.refused(429, "TooManyRequests", "would violate the pod's disruption budget");
    let status = |allowed: i64| json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    cluster.patch(&format!("{budgets}/b/status"), status(0)).await.ok();
    let answer = evict().await;
    assert_eq!(
        answer.value()["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    answer.refused(429, "TooManyRequests", "disruption budget");
    cluster.patch(&format!("{budgets}/b/status"), status(1)).await.ok();
    let answer = evict().await;
    assert_eq!(answer.code, 201, "{:?}", answer.bytes);
    assert!(cluster.get(&format!("{PODS}/p")).await.ok()["metadata"]["deletionTimestamp"].is_string());
    let budget = cluster.get(&format!("{budgets}/b")).await.ok();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test]
async fn a_token_is_good_while_its_pod_lives() {
    let cluster = Cluster::start().await;
    node(&cluster, "n1").await;
    let pod = bound(&cluster, "p").await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request_body = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]}}});
    let issued = cluster.post(path, request_body).await.ok();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let review = |token: String| {
        let cluster = &cluster;
        async move {
            let body = json!({"spec": {"token": token}});
            cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", body).await.ok()["status"].clone()
        }
    };
    let status = review(token.clone()).await;
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/node-name"], json!(["n1"]));
    let other = json!({"spec": {"audiences": ["vault"]}});
    let foreign = cluster.post(path, other).await.ok()["status"]["token"].as_str().unwrap().to_owned();
    assert_ne!(review(foreign.clone()).await["authenticated"], true, "a token for others is none for the server");
    let body = json!({"spec": {"token": foreign, "audiences": ["vault", "x"]}});
    let status = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", body).await.ok()["status"].clone();
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    cluster.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await.ok();
    assert_ne!(review(token).await["authenticated"], true);
}

#[tokio::test]
async fn logs_of_a_pod_that_is_nowhere_are_empty() {
    let cluster = Cluster::start().await;
    let mut two = pod("p");
    two["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "d", "image": "i"}));
    cluster.post(PODS, two).await.ok();
    cluster.get(&format!("{PODS}/p/log")).await.refused(400, "BadRequest", "choose one of: [c d]");
    cluster.get(&format!("{PODS}/p/log?container=x")).await.refused(
        400,
        "BadRequest",
        "container x is not valid for pod p",
    );
    cluster.get(&format!("{PODS}/p/log?container=c&tailLines=-1")).await.refused(422, "Invalid", "tailLines");
    let answer = cluster.get(&format!("{PODS}/p/log?container=c")).await;
    assert_eq!((answer.code, answer.bytes.len()), (200, 0));
    let exec = format!("{PODS}/p/exec?container=c&command=ls&stdout=1");
    cluster.post(&exec, Value::Null).await.refused(400, "BadRequest", "does not have a host assigned");
}
