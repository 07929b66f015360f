//! Requests that are handed on to a node.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use crate::*;

/// A node's API that tells what it was asked.
async fn node(cluster: &Cluster) -> Arc<Mutex<Vec<(String, http::HeaderMap)>>> {
    let asked: Arc<Mutex<Vec<(String, http::HeaderMap)>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = asked.clone();
    let handler = move |request: Request<Body>| {
        seen.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        async move { Response::new(body::full("from the node\n")) }
    };
    let task = cluster.task.clone();
    let limits = serve::http::Limits::default();
    cluster.task.spawn("node", serve::http::serve(task, listener, None, limits, handler));
    cluster.post("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.ok();
    let status = json!({"status": {
        "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    cluster.patch("/api/v1/nodes/n1/status", status).await.ok();
    cluster.post("/api/v1/namespaces/default/pods", pod("p")).await.ok();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    cluster.post("/api/v1/namespaces/default/pods/p/binding", binding).await;
    asked
}

#[tokio::test]
async fn logs_and_commands_go_to_the_node_of_the_pod() {
    let cluster = Cluster::start().await;
    let asked = node(&cluster).await;
    let pods = "/api/v1/namespaces/default/pods/p";
    let cases = [
        ("GET", "log?follow=true&tailLines=5&previous=0", "/containerLogs/default/p/c?follow=true&tailLines=5"),
        (
            "POST",
            "exec?command=sh&command=-c&command=a%20b&stdin=1&stdout=true&stderr=false&tty=1",
            "/exec/default/p/c?input=1&output=1&tty=1&command=sh&command=-c&command=a%20b",
        ),
        ("POST", "attach?stdout=1&stderr=1&container=c", "/attach/default/p/c?output=1&error=1"),
        ("POST", "portforward?ports=80", "/portForward/default/p?port=80"),
    ];
    for (method, path, wanted) in cases {
        let headers = [
            ("authorization", "Bearer mine"),
            ("impersonate-user", "admin"),
            ("impersonate-group", "system:masters"),
            ("x-own", "1"),
        ];
        let answer = cluster.send(Some(admin()), request(method, &format!("{pods}/{path}"), &headers, "")).await;
        assert_eq!((answer.code, &answer.bytes[..]), (200, &b"from the node\n"[..]), "{path}");
        let (uri, headers) = asked.lock().unwrap().pop().unwrap();
        assert_eq!(uri, wanted);
        assert!(!headers.contains_key("authorization") && !headers.contains_key("impersonate-user"), "{headers:?}");
        assert!(headers.contains_key("x-own"));
    }
    let proxied = cluster.get("/api/v1/nodes/n1/proxy/metrics/a%20b?c=d").await;
    assert_eq!(proxied.code, 200);
    assert_eq!(asked.lock().unwrap().pop().unwrap().0, "/metrics/a%20b?c=d");
    let bare = cluster.get("/api/v1/nodes/n1/proxy?x=y").await;
    assert_eq!((bare.code, bare.headers["location"].to_str().unwrap()), (301, "/api/v1/nodes/n1/proxy/?x=y"));
    cluster.post(&format!("{pods}/exec?command=ls"), Value::Null).await.refused(
        400,
        "BadRequest",
        "at least 1 of stdin, stdout, stderr",
    );
    cluster.post(&format!("{pods}/exec?stdout=1"), Value::Null).await.refused(400, "BadRequest", "at least 1 command");
}

#[tokio::test]
async fn a_websocket_needs_the_right_that_its_action_needs() {
    let cluster = Cluster::start().await;
    let _asked = node(&cluster).await;
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    cluster.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.ok();
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
    });
    cluster.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.ok();
    let alice = User::new("alice", &[]);
    let path = "/api/v1/namespaces/default/pods/p/exec?command=ls&stdout=1";
    let answer = cluster.as_user(&alice, "GET", path, Value::Null).await;
    answer.refused(403, "Forbidden", "User \"alice\" cannot create resource \"pods/exec\"");
}

#[tokio::test]
async fn addresses_that_are_nobodys_business_are_not_proxied() {
    let cluster = Cluster::start().await;
    let _asked = node(&cluster).await;
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    cluster.patch("/api/v1/namespaces/default/pods/p/status", status).await.ok();
    cluster.get("/api/v1/namespaces/default/pods/p:80/proxy/").await.refused(400, "BadRequest", "address not allowed");
    cluster.get("/api/v1/nodes/n1:22/proxy/").await.refused(400, "BadRequest", "address not allowed");
    let services = "/api/v1/namespaces/default/services";
    let body = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    cluster.post(services, body).await.ok();
    cluster.get(&format!("{services}/s/proxy/")).await.refused(
        503,
        "ServiceUnavailable",
        "no endpoints available for service \"s\"",
    );
    cluster.get(&format!("{services}/s:81/proxy/")).await.refused(
        503,
        "ServiceUnavailable",
        "no service port 81 found",
    );
    cluster.get(&format!("{services}/a:b:c:d/proxy/")).await.refused(400, "BadRequest", "invalid service request");
}
