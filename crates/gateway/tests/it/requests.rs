//! Requests by routes: what they match, what is changed of them, and who answers.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::bed::{Bed, PATIENCE, echo, gateway, route};

fn to(service: &str) -> serde_json::Value {
    json!([{"name": service, "port": 80}])
}

#[tokio::test]
async fn requests_go_where_the_best_match_says() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    let (two, _) = echo(&bed.task, "two").await;
    bed.endpoints("one", &[one]);
    bed.endpoints("two", &[two]);
    bed.serve(&[
        gateway(),
        route(json!([
            {"backendRefs": to("one")},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/v2"}}, {"headers": [{"name": "version", "value": "2"}]}],
             "backendRefs": to("two")},
            {"matches": [{"path": {"type": "Exact", "value": "/gone"}}], "backendRefs": to("nobody")},
        ])),
    ]);
    let cases = [
        ("/", "", "200", "\none\n"),
        ("/v2/x?a=b", "", "200", "GET /v2/x?a=b\n"),
        ("/v2", "", "200", "\ntwo\n"),
        ("/v22", "", "200", "\none\n"),
        ("/x", "Version: 2\r\n", "200", "\ntwo\n"),
        ("/x/../v2", "", "200", "GET /v2\n"),
        ("/gone", "", "500", ""),
        ("/status/404", "", "404", "\none\n"),
    ];
    for (path, more, status, part) in cases {
        let answer = bed.get("a.com", path, more).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {more}: {answer}");
        assert!(answer.contains(part), "{path} {more}: {answer}");
    }
    let page = bed.page();
    let line = "route=\"r\",namespace=\"shop\",service=\"two\",port=\"80\",code=\"200\"} 4\n";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn filters_change_requests_and_answers() {
    let mut bed = Bed::new().await;
    let (one, seen) = echo(&bed.task, "one").await;
    bed.endpoints("one", &[one]);
    let filters = json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{"name": "x-set", "value": "new"}], "remove": ["x-gone"]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-added", "value": "1"}]}},
        {"type": "URLRewrite", "urlRewrite": {
            "hostname": "inside.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}},
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "one", "port": 80}}},
    ]);
    let away = json!([{"type": "RequestRedirect", "requestRedirect": {
        "scheme": "https", "hostname": "b.com", "statusCode": 301,
        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/there"}}}]);
    bed.serve(&[
        gateway(),
        route(json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/old"}}], "filters": filters, "backendRefs": to("one")},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/away"}}], "filters": away},
        ])),
    ]);
    let request = "POST /old/x?q HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nX-Set: old\r\nX-Gone: 1\r\n\
                   X-Forwarded-Host: evil\r\nContent-Length: 5\r\n\r\nhello";
    let answer = bed.raw(request.as_bytes()).await;
    assert!(answer.contains("x-added: 1\r\n") && answer.contains("x-from: one\r\n"), "{answer}");
    for part in [
        "POST /new/x?q\n",
        "x-set: new\n",
        "host: inside.example\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: a.com\n",
        "body 5 bytes\n",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert!(!answer.contains("x-gone"), "{answer}");
    // The copy is the same request, and may come later.
    let copied = async {
        while seen.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, copied).await.expect("a copy arrives");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], seen[1]);
    let answer = bed.get("a.com", "/away/x?q", "").await;
    let location = format!("location: https://b.com:{}/there?q\r\n", bed.https.port());
    assert!(answer.starts_with("HTTP/1.1 301 ") && answer.contains(&location), "{answer}");
}

#[tokio::test]
async fn weights_timeouts_and_backends_without_endpoints() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    // Takes connections and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    bed.endpoints("one", &[one]);
    bed.endpoints("none", &[]);
    bed.endpoints("silent", &[silent.local_addr().unwrap()]);
    let path = |value: &str| json!([{"path": {"type": "PathPrefix", "value": value}}]);
    bed.serve(&[
        gateway(),
        route(json!([
            {"matches": path("/weighted"), "backendRefs": [
                {"name": "one", "port": 80, "weight": 1}, {"name": "none", "port": 80, "weight": 0}]},
            {"matches": path("/zero"), "backendRefs": [{"name": "one", "port": 80, "weight": 0}]},
            {"matches": path("/none"), "backendRefs": to("none")},
            {"matches": path("/slow"), "backendRefs": to("silent"), "timeouts": {"request": "50ms"}},
            {"matches": path("/attempt"), "backendRefs": to("silent"), "timeouts": {"backendRequest": "50ms"}},
            {"matches": path("/nowhere")},
        ])),
    ]);
    let cases = [
        ("/weighted", "200"),
        ("/zero", "500"),
        ("/none", "503"),
        ("/slow", "504"),
        ("/attempt", "504"),
        ("/nowhere", "500"),
    ];
    for (path, status) in cases {
        for _ in 0..5 {
            let answer = bed.get("a.com", path, "").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_passed_over() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    let gone = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    bed.endpoints("one", &[gone, one]);
    bed.serve(&[gateway(), route(json!([{"backendRefs": to("one")}]))]);
    for _ in 0..20 {
        let answer = bed.raw(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("body 2 bytes"), "{answer}");
    }
}

#[tokio::test]
async fn http2_is_spoken_to_backends_that_ask_for_it() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    bed.endpoints("one", &[one]);
    bed.serve(&[gateway(), route(json!([{"backendRefs": [{"name": "one", "port": 81}]}]))]);
    for _ in 0..3 {
        let answer = bed.get("a.com", "/x?y", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("GET http://a.com/x?y\n"), "{answer}");
    }
}

#[tokio::test]
async fn websockets_pass_through() {
    let mut bed = Bed::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    bed.endpoints("chat", &[listener.local_addr().unwrap()]);
    bed.serve(&[gateway(), route(json!([{"backendRefs": to("chat")}]))]);
    bed.task.spawn("chat", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-key: x\r\n"), "{head}");
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
        stream.write_all(agreed.as_bytes()).await.unwrap();
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).await.is_ok() {
            stream.write_all(&bytes).await.unwrap();
        }
    });
    let talk = async {
        let mut stream = TcpStream::connect(bed.http).await.unwrap();
        let asked = "GET /chat HTTP/1.1\r\nHost: a.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: x\r\n\r\n";
        stream.write_all(asked.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
        for sent in ["", "ping", "pong"] {
            stream.write_all(sent.as_bytes()).await.unwrap();
            let wanted = if sent.is_empty() { "hello" } else { sent };
            let mut bytes = vec![0; wanted.len()];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, wanted.as_bytes());
        }
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("what is said comes back");
}

/// Reads until the end of a head, byte by byte so that nothing of what follows is lost; header names in lower case.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(read).unwrap();
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}\r\n", name.to_lowercase()),
        None => format!("{line}\r\n"),
    };
    text.lines().map(lower).collect()
}

#[tokio::test]
async fn ingresses_are_served_beside_routes() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    let (two, _) = echo(&bed.task, "two").await;
    bed.endpoints("one", &[one]);
    bed.endpoints("two", &[two]);
    let back = |name: &str| json!({"service": {"name": name, "port": {"number": 80}}});
    let ingress = |class: &str, host: &str, name: &str| {
        json!({
            "kind": "Ingress", "metadata": {"name": class, "namespace": "shop"},
            "spec": {
                "ingressClassName": class, "defaultBackend": back("two"),
                "rules": [{"host": host, "http": {"paths": [
                    {"path": "/a", "pathType": "Prefix", "backend": back(name)},
                    {"path": "/a/exact", "pathType": "Exact", "backend": back("two")},
                    {"path": "/gone", "pathType": "Prefix", "backend": back("nobody")},
                ]}}],
            },
        })
    };
    let class = |name: &str, controller: &str| json!({"kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}});
    let plan = bed.serve(&[
        class("ours", gateway::plan::INGRESS_CONTROLLER),
        class("theirs", "example.com/other"),
        ingress("ours", "a.com", "one"),
        ingress("theirs", "b.com", "one"),
    ]);
    let cases = [
        ("a.com", "/a/b", "200", "\none\n"),
        ("a.com", "/a", "200", "\none\n"),
        ("a.com", "/ab", "200", "\ntwo\n"),
        ("a.com", "/a/exact", "200", "\ntwo\n"),
        ("a.com", "/gone", "503", ""),
        ("b.com", "/a", "200", "\ntwo\n"),
    ];
    for (host, path, status, part) in cases {
        let answer = bed.get(host, path, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{host}{path}: {answer}");
    }
    let told: Vec<&str> = plan.statuses.iter().map(|said| &*said.key.name).collect();
    assert_eq!(told, ["c", "ours"]);
}
