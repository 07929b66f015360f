//! Who may do what, with an API server that knows two users: `jane`, who may do everything in namespace `team`, and `node`,
//! who may pull everything.

use std::time::Duration;

use ::access::gate::Gate;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use oci::Digest;
use registry::{
    auth::{Door, Guard},
    cache::Cache,
};
use serde_json::{Value, json};

use crate::server::{NAME, Reply, Server};

/// Answers reviews as an API server does.
fn review(asked: &Value) -> Value {
    let spec = &asked["spec"];
    let status = match asked["kind"].as_str() {
        Some("TokenReview") => match spec["token"].as_str() {
            Some(token @ ("jane-token" | "node-token")) => {
                json!({"authenticated": true, "user": {"username": token.trim_end_matches("-token"), "groups": ["all"]}})
            }
            _ => json!({"authenticated": false}),
        },
        _ if !spec["nonResourceAttributes"].is_null() => {
            assert_eq!(spec["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
            json!({"allowed": spec["user"] == "node"})
        }
        _ => {
            let of = &spec["resourceAttributes"];
            assert_eq!((&of["group"], &of["resource"]), (&json!("registry.madang.dev"), &json!("repositories")));
            let allowed = match spec["user"].as_str() {
                Some("jane") => of["namespace"] == "team",
                Some("node") => of["verb"] == "get",
                _ => false,
            };
            json!({"allowed": allowed})
        }
    };
    json!({
        "apiVersion": asked["apiVersion"], "kind": asked["kind"], "metadata": {}, "spec": asked["spec"],
        "status": status,
    })
}

async fn guarded(dir: &std::path::Path, anonymous_pull: bool, local_only: bool) -> Server {
    let client = client::connection::in_process(|request: Request<kube::client::Body>| async move {
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let answer = review(&serde_json::from_slice(&asked).unwrap());
        Response::builder().status(201).body(Full::new(bytes::Bytes::from(answer.to_string()))).unwrap()
    });
    let guard = Guard::new(Gate::new(client), NAME).unwrap();
    let door = Door { guard: Some(guard), anonymous_pull, local_only, scheme: "http" };
    Server::with(dir, Duration::from_secs(3600), door, Cache::default()).await
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("anything:{token}")))
}

async fn ask(server: &Server, method: Method, path: &str, authorization: &str, content: &str) -> Reply {
    let headers = [("authorization", authorization)];
    let headers = if authorization.is_empty() { &[][..] } else { &headers[..] };
    server.ask(method, path, headers, content.to_owned()).await
}

/// The token that `/token` grants.
async fn token(server: &Server, scope: &str, authorization: &str) -> String {
    let reply = ask(server, Method::GET, &format!("/token?service={NAME}&scope={scope}"), authorization, "").await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    format!("Bearer {}", reply.json()["token"].as_str().unwrap())
}

#[tokio::test]
async fn pushing_takes_a_login_that_may_and_pulling_none_where_the_door_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let server = guarded(dir.path(), true, false).await;
    let digest = Digest::sha256(b"layer");
    let push = |name: &str| format!("/v2/{name}/blobs/uploads/?digest={digest}");
    let nobody = ask(&server, Method::POST, &push("team/app"), "", "layer").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let place = format!("Bearer realm=\"http://{}/token\",service=\"{NAME}\"", server.address);
    assert_eq!(nobody.header("www-authenticate"), format!("{place},scope=\"repository:team/app:pull,push\""));
    assert_eq!(ask(&server, Method::GET, "/v2/", "", "").await.header("www-authenticate"), place);
    // The password, a Kubernetes token as it is, and a token of the registry's own all do.
    for (number, authorization) in [
        basic("jane-token"),
        "Bearer jane-token".to_owned(),
        token(&server, "repository:team/app:pull,push", &basic("jane-token")).await,
    ]
    .into_iter()
    .enumerate()
    {
        let reply = ask(&server, Method::POST, &push("team/app"), &authorization, "layer").await;
        assert_eq!(reply.status, StatusCode::CREATED, "{number}: {:?}", reply.body);
        assert_eq!(ask(&server, Method::GET, "/v2/", &authorization, "").await.status, StatusCode::OK);
    }
    for (authorization, status) in [
        (basic("wrong"), StatusCode::UNAUTHORIZED),
        ("Bearer wrong".to_owned(), StatusCode::UNAUTHORIZED),
        ("Basic %%%".to_owned(), StatusCode::UNAUTHORIZED),
        ("Digest x".to_owned(), StatusCode::UNAUTHORIZED),
        (basic("node-token"), StatusCode::FORBIDDEN),
        (token(&server, "repository:team/app:pull", &basic("jane-token")).await, StatusCode::UNAUTHORIZED),
    ] {
        let reply = ask(&server, Method::POST, &push("team/app"), &authorization, "layer").await;
        assert_eq!(reply.status, status, "{authorization}");
    }
    assert_eq!(ask(&server, Method::POST, &push("other/app"), &basic("jane-token"), "layer").await.code(), "DENIED");
    let blob = format!("/v2/team/app/blobs/{digest}");
    assert_eq!(ask(&server, Method::GET, &blob, "", "").await.status, StatusCode::OK);
    let open = token(&server, "repository:team/app:pull,push", "").await;
    assert_eq!(ask(&server, Method::GET, &blob, &open, "").await.status, StatusCode::OK);
    assert_eq!(ask(&server, Method::DELETE, &blob, &open, "").await.status, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_shown_to_nobody_where_the_door_is_shut() {
    let dir = tempfile::tempdir().unwrap();
    let server = guarded(dir.path(), false, false).await;
    let digest = Digest::sha256(b"layer");
    let push = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(ask(&server, Method::POST, &push, &basic("jane-token"), "layer").await.status, StatusCode::CREATED);
    let blob = format!("/v2/team/app/blobs/{digest}");
    for path in [&*blob, "/v2/", "/v2/_catalog", "/v2/team/app/tags/list", "/token", "/metrics"] {
        assert_eq!(ask(&server, Method::GET, path, "", "").await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(ask(&server, Method::GET, &blob, &basic("node-token"), "").await.status, StatusCode::OK);
    let figures = ask(&server, Method::GET, "/metrics", &basic("node-token"), "").await;
    assert!(String::from_utf8_lossy(&figures.body).contains("registry_http_requests_total"));
    assert_eq!(ask(&server, Method::GET, "/metrics", &basic("jane-token"), "").await.status, StatusCode::FORBIDDEN);
    // A blob is not mounted from where one may not look.
    let mount = format!("/v2/team/copy/blobs/uploads/?mount={digest}&from=team/app");
    assert_eq!(ask(&server, Method::POST, &mount, &basic("jane-token"), "").await.status, StatusCode::CREATED);
    let push = format!("/v2/team/secret/blobs/uploads/?digest={}", Digest::sha256(b"secret"));
    assert_eq!(ask(&server, Method::POST, &push, &basic("jane-token"), "secret").await.status, StatusCode::CREATED);
    let granted = token(&server, "repository:team/app:pull,push", &basic("jane-token")).await;
    let mount = format!("/v2/team/app/blobs/uploads/?mount={}&from=team/secret", Digest::sha256(b"secret"));
    assert_eq!(ask(&server, Method::POST, &mount, &granted, "").await.status, StatusCode::ACCEPTED);
    // OAuth's way to the same token.
    let form = "grant_type=password&username=x&password=jane-token&scope=repository%3Ateam%2Fapp%3Apull";
    let reply = ask(&server, Method::POST, "/token", "", form).await;
    assert_eq!((reply.status, reply.json()["scope"].as_str()), (StatusCode::OK, Some("repository:team/app:pull")));
    let form = "grant_type=password&password=wrong";
    assert_eq!(ask(&server, Method::POST, "/token", "", form).await.status, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_hosts_get_no_answer_on_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let server = guarded(dir.path(), true, true).await;
    let own = server.get("/v2/_catalog").await;
    assert_eq!(own.status, StatusCode::OK);
    let foreign = server.ask(Method::GET, "/v2/_catalog", &[("origin", "http://evil.example")], "").await;
    assert_eq!((foreign.status, foreign.code().as_str()), (StatusCode::FORBIDDEN, "DENIED"));
    server.stop().await;
}
