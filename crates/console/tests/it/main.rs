//! The console in front of an API server that the test plays: who comes in, what is passed on, and how.

use std::net::SocketAddr;

use access::gate::Gate;
use console::{
    console::{Console, Entrance, Settings},
    session::Place,
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use serve::{
    Body, body,
    http::{Limits, serve},
    tunnel::Target,
};
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TOKEN: &str = "good-token";

/// A console with what it stands before; everything ends with the test.
struct Stage {
    address: SocketAddr,
    place: Place,
    _dir: tempfile::TempDir,
    _task: Task,
}

/// Knows one token.
fn gate() -> Gate {
    Gate::new(client::connection::in_process(|request: Request<kube::client::Body>| async move {
        let bytes = request.into_body().collect().await.expect("a body").to_bytes();
        let mut review: Value = serde_json::from_slice(&bytes).expect("a review");
        review["status"] = match review["spec"]["token"].as_str() {
            Some(TOKEN) => json!({"authenticated": true, "user": {"username": "ann", "groups": ["team"]}}),
            _ => json!({"authenticated": false}),
        };
        Response::new(Full::new(bytes::Bytes::from(review.to_string())))
    }))
}

/// An API server that tells what it was asked, and whose watches send two events.
async fn api(request: Request<Body>) -> Response<Body> {
    // The body can be sent to another thread and not be shared between them.
    let (request, _) = request.into_parts();
    let shown = |name: header::HeaderName| {
        request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
    };
    if shown(header::AUTHORIZATION) != format!("Bearer {TOKEN}") {
        let mut response = Response::new(body::full("{\"message\": \"who?\"}"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return response;
    }
    if request.uri.query().is_some_and(|query| query.contains("watch=true")) {
        let (sender, events) = body::channel(2);
        for event in ["{\"type\": \"ADDED\"}\n", "{\"type\": \"DELETED\"}\n"] {
            sender.try_send(Ok(bytes::Bytes::from_static(event.as_bytes()))).expect("room");
        }
        return Response::new(events);
    }
    let told = json!({
        "path": request.uri.to_string(), "cookie": shown(header::COOKIE), "origin": shown(header::ORIGIN),
    });
    let mut response = Response::new(body::full(told.to_string()));
    response.headers_mut().insert(header::SET_COOKIE, header::HeaderValue::from_static("evil=1"));
    response
}

async fn stage() -> Stage {
    let task = Task::root("test");
    let dir = tempfile::tempdir().expect("make a directory");
    let place = Place::of(dir.path());
    std::fs::create_dir_all(place.path()).expect("make a directory");
    let behind = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = behind.local_addr().expect("an address").port();
    task.spawn("api", serve(task.child("api"), behind, None, Limits::default(), api));
    let settings = Settings {
        place: place.clone(),
        api: Target { host: "127.0.0.1".into(), port, tls: None },
        prometheus: None,
        dashboards: dir.path().join("dashboards"),
        parts: Vec::new(),
        version: "1".into(),
    };
    let console = Console::open(&task, gate(), settings).expect("open the console");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("an address");
    let handler = move |request: Request<Body>| {
        let console = console.clone();
        async move {
            let entrance = Entrance { local_only: true, secure: false };
            // As the program does with paths of another part.
            if !request.uri().path().starts_with("/pipelines/") {
                return console.answer(entrance, request).await;
            }
            match console.admitted(entrance, request) {
                Ok(request) => Console::passed(api(request).await),
                Err(refusal) => *refusal,
            }
        }
    };
    task.spawn("console", serve(task.child("console"), listener, None, Limits::default(), handler));
    Stage { address, place, _dir: dir, _task: task }
}

impl Stage {
    /// Sends a request with these header lines and returns all that comes back.
    async fn ask(&self, method: &str, path: &str, headers: &[&str], sent: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.expect("connect");
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let close = if lines.contains("Upgrade") { "" } else { "Connection: close\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{close}Content-Length: {}\r\n{lines}\r\n{sent}",
            self.address,
            sent.len()
        );
        socket.write_all(request.as_bytes()).await.expect("send");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("read");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn origin(&self) -> String {
        format!("Origin: http://{}", self.address)
    }

    /// Signs in and returns the line with the cookie.
    async fn signed_in(&self) -> String {
        let answer = self.ask("POST", "/session", &[&self.origin()], &json!({"token": TOKEN}).to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"ann\""), "{answer}");
        let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        format!("Cookie: {}", set.split(';').next().expect("a pair"))
    }
}

#[tokio::test]
async fn a_person_signs_in_by_token_or_by_a_link_that_works_once() {
    let stage = stage().await;
    let wrong = stage.ask("POST", "/session", &[&stage.origin()], "{\"token\": \"bad\"}").await;
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    let nobody = stage.ask("GET", "/session", &[], "").await;
    assert!(nobody.starts_with("HTTP/1.1 200") && nobody.contains("{\"user\":null}"), "{nobody}");
    let cookie = stage.signed_in().await;
    assert!(stage.ask("GET", "/session", &[&cookie], "").await.contains("\"ann\""));
    let code = stage.place.leave(TOKEN, None).expect("leave a link");
    let posted = json!({"code": code}).to_string();
    assert!(stage.ask("POST", "/session", &[&stage.origin()], &posted).await.starts_with("HTTP/1.1 200"));
    assert!(stage.ask("POST", "/session", &[&stage.origin()], &posted).await.starts_with("HTTP/1.1 403"));
    assert!(stage.ask("POST", "/session", &["Origin: http://evil.example"], &posted).await.starts_with("HTTP/1.1 403"));
    let out = stage.ask("DELETE", "/session", &[&cookie, &stage.origin()], "").await;
    assert!(out.contains("Max-Age=0"), "{out}");
}

#[tokio::test]
async fn requests_go_on_with_the_persons_token_and_without_the_browsers_headers() {
    let stage = stage().await;
    assert!(stage.ask("GET", "/k8s/api/v1/pods", &[], "").await.starts_with("HTTP/1.1 401"));
    let cookie = stage.signed_in().await;
    let answer = stage.ask("GET", "/k8s/api/v1/pods?limit=1", &[&cookie, &stage.origin()], "").await;
    assert!(answer.contains("\"path\":\"/api/v1/pods?limit=1\""), "{answer}");
    assert!(answer.contains("\"cookie\":\"-\"") && answer.contains("\"origin\":\"-\""), "{answer}");
    assert!(!answer.contains("evil=1") && answer.contains("sandbox") && answer.contains("nosniff"), "{answer}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert!(stage.ask("GET", "/k8s/api", &[&bearer], "").await.starts_with("HTTP/1.1 200"));
    for (path, headers) in [
        ("/k8s/api/v1/namespaces/a/pods/b/proxy/", vec![cookie.as_str()]),
        ("/k8s/api/v1/pods", vec![cookie.as_str(), "Sec-Fetch-Mode: navigate"]),
        ("/k8s/api/v1/pods", vec![cookie.as_str(), "Sec-Fetch-Site: cross-site"]),
    ] {
        assert!(stage.ask("GET", path, &headers, "").await.starts_with("HTTP/1.1 403"), "{path} {headers:?}");
    }
    assert!(stage.ask("GET", "/prometheus/api/v1/query", &[&cookie], "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn watches_come_as_messages_of_a_websocket() {
    let stage = stage().await;
    let cookie = stage.signed_in().await;
    let origin = stage.origin();
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: binary.k8s.io",
    ];
    let path = "/k8s/api/v1/pods?watch=true";
    let refused = stage.ask("GET", path, &[&upgrade[..], &[cookie.as_str(), "Connection: close"]].concat(), "").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "without an origin: {refused}");
    let answer = stage.ask("GET", path, &[&upgrade[..], &[cookie.as_str(), origin.as_str()]].concat(), "").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let (added, deleted) = (answer.find("ADDED"), answer.find("DELETED"));
    assert!(added.is_some() && added < deleted, "{answer}");
}

#[tokio::test]
async fn other_parts_get_the_persons_token_and_what_they_answer_is_data() {
    let stage = stage().await;
    let path = "/pipelines/shop/run-1/log?start=7";
    assert!(stage.ask("GET", path, &[], "").await.starts_with("HTTP/1.1 401"));
    let cookie = stage.signed_in().await;
    let answer = stage.ask("GET", path, &[&cookie], "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(path), "{answer}");
    assert!(answer.contains("\"cookie\":\"-\"") && !answer.contains("evil=1"), "{answer}");
    assert!(answer.contains("sandbox") && answer.contains("nosniff"), "{answer}");
    for headers in [
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"],
        ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"],
        ["Origin: http://evil.example", "Sec-Fetch-Mode: cors"],
    ] {
        let refused = stage.ask("GET", path, &[&[cookie.as_str()], &headers[..]].concat(), "").await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{headers:?}: {refused}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert!(stage.ask("GET", path, &[&bearer], "").await.starts_with("HTTP/1.1 200"));
}
