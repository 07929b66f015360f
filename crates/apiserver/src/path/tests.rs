//! Tests of `path`: cases as data where there are many.

use super::*;

fn info(method: &str, target: &str) -> RequestInfo {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    parse(&method.parse().unwrap(), path, &Query::parse(query)).unwrap()
}

#[test]
fn paths_are_read_as_upstream_reads_them() {
    // method, target, verb, group, namespace, resource, subresource, name
    let cases = [
        ("GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
        ("GET", "/api/v1/namespaces/web", "get", "", "web", "namespaces", "", "web"),
        ("PUT", "/api/v1/namespaces/web/finalize", "update", "", "web", "namespaces", "finalize", "web"),
        ("PATCH", "/api/v1/namespaces/web/status", "patch", "", "web", "namespaces", "status", "web"),
        ("GET", "/api/v1/namespaces/web/pods", "list", "", "web", "pods", "", ""),
        ("GET", "/api/v1/namespaces/web/pods/", "list", "", "web", "pods", "", ""),
        ("GET", "/api/v1/pods?watch=true", "watch", "", "", "pods", "", ""),
        ("GET", "/api/v1/pods?watch=0", "list", "", "", "pods", "", ""),
        ("GET", "/api/v1/watch/pods", "watch", "", "", "pods", "", ""),
        ("GET", "/api/v1/watch/namespaces/web/pods/a", "watch", "", "web", "pods", "", "a"),
        ("GET", "/api/v1/namespaces/web/pods/a/log", "get", "", "web", "pods", "log", "a"),
        ("POST", "/api/v1/namespaces/web/pods/a/exec", "create", "", "web", "pods", "exec", "a"),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/web/deployments",
            "deletecollection",
            "apps",
            "web",
            "deployments",
            "",
            "",
        ),
        ("DELETE", "/apis/apps/v1/namespaces/web/deployments/a", "delete", "apps", "web", "deployments", "", "a"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da", "list", "", "", "pods", "", "a"),
        ("HEAD", "/api/v1/nodes/n", "get", "", "", "nodes", "", "n"),
        ("OPTIONS", "/api/v1/nodes/n", "", "", "", "nodes", "", "n"),
        ("GET", "/api/v1/nodes/a%2Fb", "get", "", "", "nodes", "", "a/b"),
    ];
    for (method, target, verb, group, namespace, resource, subresource, name) in cases {
        let found = info(method, target);
        assert!(found.is_resource, "{target}");
        let found = [&found.verb, &found.group, &found.namespace, &found.resource, &found.subresource, &found.name];
        assert_eq!(found, [verb, group, namespace, resource, subresource, name], "{method} {target}");
    }
}

#[test]
fn short_paths_are_no_resources() {
    for path in
        ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3/apis/apps/v1", "//"]
    {
        let found = info("GET", path);
        assert!(!found.is_resource, "{path}");
        assert_eq!(found.verb, "get");
    }
}

#[test]
fn a_special_verb_without_a_resource_is_unclear() {
    assert!(parse(&Method::GET, "/api/v1/watch", &Query::parse("")).is_err());
}

#[test]
fn what_follows_a_proxy_stays_as_it_was_sent() {
    let found = info("GET", "/api/v1/namespaces/web/services/s:http/proxy/a%20b/c/");
    assert_eq!(
        (found.name.as_str(), found.subresource.as_str(), found.rest.as_str()),
        ("s:http", "proxy", "/a%20b/c/")
    );
    assert_eq!(info("GET", "/api/v1/nodes/n/proxy").rest, "");
    assert_eq!(info("GET", "/api/v1/nodes/n/proxy/").rest, "/");
}

#[test]
fn broken_percent_encoding_is_kept() {
    assert_eq!(decode("a%zz%4"), "a%zz%4");
    assert_eq!(decode("%41%ff"), "A\u{fffd}");
}
