//! Who comes in.

use http::Request;

use super::*;

fn admitted(method: &str, path: &str, headers: &[(&str, &str)]) -> bool {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    admit(&request.body(()).unwrap().into_parts().0, true).is_ok()
}

#[test]
fn only_the_consoles_own_pages_and_programs_come_in() {
    let host = ("host", "127.0.0.1:3000");
    let own = ("origin", "http://127.0.0.1:3000");
    let cookie = ("cookie", "madang_session_3000=x");
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let cases: &[(&str, &str, &[(&str, &str)], bool)] = &[
        ("GET", "/", &[host], true),
        ("GET", "/", &[("host", "evil.example")], false),
        ("GET", "/", &[], false),
        ("POST", "/session", &[host, own], true),
        ("POST", "/session", &[host, ("origin", "http://127.0.0.1:8080")], false),
        ("POST", "/session", &[host, ("origin", "null")], false),
        ("DELETE", "/k8s/api/v1/pods", &[host, cookie], false),
        ("DELETE", "/k8s/api/v1/pods", &[host, cookie, own], true),
        ("DELETE", "/k8s/api/v1/pods", &[host, ("authorization", "Bearer x")], true),
        ("GET", "/k8s/exec", &[host, cookie, upgrade[0], upgrade[1]], false),
        ("GET", "/k8s/exec", &[host, cookie, own, upgrade[0], upgrade[1]], true),
        ("GET", "/k8s/api", &[host, cookie, ("sec-fetch-site", "same-site")], false),
        ("GET", "/k8s/api", &[host, cookie, ("sec-fetch-site", "same-origin")], true),
        ("GET", "/", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
        ("GET", "/k8s/api", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
        ("GET", "/pipelines", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
        ("GET", "/pipelines/a/b/log", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
        ("POST", "/", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
    ];
    for (method, path, headers, expected) in cases {
        assert_eq!(admitted(method, path, headers), *expected, "{method} {path} {headers:?}");
    }
}
