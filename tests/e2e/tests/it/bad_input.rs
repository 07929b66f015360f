//! One case a kind of bad input, over the wire: upstream's status and reason, and the connection goes on.

use std::process::Output;

use crate::shared::cluster;

/// Sends a request with curl as the administrator; returns its status and body.
fn send(method: &str, path: &str, content_type: &str, body: &str) -> Option<(String, String)> {
    let cluster = cluster()?;
    let pki = cluster.data_dir().join("pki");
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let mut curl = cluster.place.command("curl");
    let file =
        std::env::temp_dir().join(format!("madang-body-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(&file, body).unwrap();
    let Output { stdout, stderr, .. } = curl
        .args(["--silent", "--show-error", "--max-time", "20", "--request", method, "--write-out", "\n%{http_code}"])
        .arg("--cacert")
        .arg(pki.join("ca.crt"))
        .arg("--cert")
        .arg(pki.join("admin.crt"))
        .arg("--key")
        .arg(pki.join("admin.key"))
        .args(["--header", &format!("Content-Type: {content_type}"), "--data-binary"])
        .arg(format!("@{}", file.display()))
        .arg(format!("https://127.0.0.1:{}{path}", ports["api"]))
        .output()
        .unwrap();
    std::fs::remove_file(file).unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&stderr)));
    Some((code.to_owned(), body.to_owned()))
}

#[test]
fn bad_input_gets_the_right_refusal() {
    let json = "application/json";
    let maps = "/api/v1/namespaces/default/configmaps";
    let deep = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"deep"}},"data":{}1{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let large = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"l"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let pods = "/api/v1/namespaces/default/pods";
    let one = format!("{maps}/bad-input");
    let merge = "application/merge-patch+json";
    let object = |rest: &str| format!(r#"{{"kind":"ConfigMap","apiVersion":"v1",{rest}}}"#);
    let cases: Vec<(&str, String, &str, String, &str, &str)> = vec![
        ("POST", maps.into(), json, "{".into(), "400", "BadRequest"),
        ("POST", maps.into(), json, deep, "400", "BadRequest"),
        ("POST", maps.into(), json, large, "413", "RequestEntityTooLarge"),
        ("POST", maps.into(), "text/plain", "hello".into(), "415", "UnsupportedMediaType"),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"Not_A_Name"}"#), "422", "Invalid"),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"a"},"data":{"a":1}"#), "400", "BadRequest"),
        (
            "POST",
            format!("{maps}?fieldValidation=Strict"),
            json,
            object(r#""metadata":{"name":"a"},"colour":"red""#),
            "400",
            "BadRequest",
        ),
        ("POST", maps.into(), "application/vnd.kubernetes.protobuf", "k8s\0\u{1}\u{2}".into(), "400", "BadRequest"),
        ("POST", maps.into(), json, String::new(), "400", "BadRequest"),
        ("POST", maps.into(), json, "[]".into(), "400", "BadRequest"),
        ("POST", maps.into(), json, "\u{0}\u{1}".into(), "400", "BadRequest"),
        ("POST", maps.into(), "application/yaml", "a: [b".into(), "400", "BadRequest"),
        ("POST", maps.into(), json, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#.into(), "400", "BadRequest"),
        ("POST", maps.into(), json, object(r#""metadata":{}"#), "422", "Invalid"),
        ("POST", maps.into(), json, object(&format!(r#""metadata":{{"name":"{}"}}"#, "n".repeat(254))), "422", "Invalid"),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"a","namespace":"other"}"#), "400", "BadRequest"),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"a","labels":{"no spaces":"x"}}"#), "422", "Invalid"),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"a","resourceVersion":"1"}"#), "500", ""),
        ("POST", pods.into(), json, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{}}"#.into(), "422", "Invalid"),
        (
            "POST",
            pods.into(),
            json,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"b","ports":[{"containerPort":70000}]}]}}"#.into(),
            "422",
            "Invalid",
        ),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"bad-input"}"#), "201", ""),
        ("POST", maps.into(), json, object(r#""metadata":{"name":"bad-input"}"#), "409", "AlreadyExists"),
        ("PUT", one.clone(), json, object(r#""metadata":{"name":"bad-input","resourceVersion":"1"}"#), "409", "Conflict"),
        ("PUT", one.clone(), json, object(r#""metadata":{"name":"bad-input","uid":"11111111-2222-3333-4444-555555555555"}"#), "409", "Conflict"),
        ("PATCH", one.clone(), json, "{}".into(), "415", "UnsupportedMediaType"),
        ("PATCH", one.clone(), merge, "{".into(), "400", "BadRequest"),
        ("PATCH", one.clone(), "application/json-patch+json", r#"[{"op":"remove","path":"/data/none"}]"#.into(), "422", "Invalid"),
        ("PATCH", one.clone(), "application/json-patch+json", r#"{"op":"add"}"#.into(), "400", "BadRequest"),
        ("PATCH", one.clone(), merge, r#"{"metadata":{"name":"other"}}"#.into(), "400", "BadRequest"),
        ("DELETE", one.clone(), json, r#"{"preconditions":{"uid":"x"}}"#.into(), "409", "Conflict"),
        ("DELETE", one.clone(), json, "{".into(), "400", "BadRequest"),
        ("DELETE", one, json, String::new(), "200", ""),
        ("GET", format!("{maps}?fieldSelector=spec.nothing%3Dx"), json, String::new(), "400", "BadRequest"),
        ("GET", format!("{maps}?limit=many"), json, String::new(), "400", "BadRequest"),
        ("GET", format!("{maps}?continue=nonsense"), json, String::new(), "400", "BadRequest"),
        ("GET", format!("{maps}?watch=1&resourceVersion=abc"), json, String::new(), "400", "BadRequest"),
        ("GET", "/apis/no.such.group/v1/things".into(), json, String::new(), "404", "NotFound"),
        ("GET", format!("{maps}/missing"), json, String::new(), "404", "NotFound"),
        ("GET", "/api/v1/nonsense".into(), json, String::new(), "404", "NotFound"),
        ("GET", format!("{maps}?resourceVersion=abc"), json, String::new(), "400", "BadRequest"),
        ("GET", format!("{maps}?labelSelector=a,,%3D"), json, String::new(), "400", "BadRequest"),
        ("PUT", format!("{maps}/one"), json, object(r#""metadata":{"name":"two"}"#), "400", "BadRequest"),
        ("PUT", maps.into(), json, object(r#""metadata":{"name":"two"}"#), "405", "MethodNotAllowed"),
        (
            "POST",
            "/api/v1/namespaces/no-such/configmaps".into(),
            json,
            object(r#""metadata":{"name":"a"}"#),
            "404",
            "NotFound",
        ),
    ];
    let mut wrong = Vec::new();
    for (method, path, content_type, body, code, reason) in cases {
        let Some((got, answer)) = send(method, &path, content_type, &body) else { return };
        let shown: String = answer.chars().take(300).collect();
        // What succeeds has no reason, and neither has upstream's answer to a version that cannot be asked for.
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let right = got == code && (reason.is_empty() || (status["kind"] == "Status" && status["reason"] == reason));
        if !right {
            let body: String = body.chars().take(100).collect();
            wrong.push(format!("{method} {path} {body}\n  expected {code} {reason}, got {got}: {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn strangers_are_refused() {
    let Some(cluster) = cluster() else { return };
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let get = |port: &str, path: &str, header: &str| {
        let mut curl = cluster.place.command("curl");
        let url = format!("https://127.0.0.1:{}{path}", ports[port]);
        let output = curl
            .args([
                "--silent",
                "--insecure",
                "--max-time",
                "20",
                "--write-out",
                "\n%{http_code}",
                "--header",
                header,
                &url,
            ])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).rsplit_once('\n').map(|(_, code)| code.to_owned()).unwrap_or_default()
    };
    assert_eq!(get("api", "/api/v1/pods", "X-None: 1"), "401");
    assert_eq!(get("api", "/api/v1/pods", "Authorization: Bearer nonsense"), "401");
    assert_eq!(get("api", "/livez", "X-None: 1"), "200");
    assert_eq!(get("node", "/pods", "X-None: 1"), "401");
    assert_eq!(get("node", "/pods", "Authorization: Bearer nonsense"), "401");
}
