//! Which right on the node's object a request needs: a verb, and one of some parts of `nodes`.
//! <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>

use access::gate::{Gate, Refusal};
use http::{HeaderMap, Method};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use serve::Peer;

/// Lets a request to the API of the node `node` pass, or tells why not.
///
/// # Errors
/// Nobody knows who asks, the right is missing, or the API server does not say.
pub async fn check(
    gate: &Gate,
    node: &str,
    peer: Option<&Peer>,
    headers: &HeaderMap,
    method: &Method,
    path: &str,
) -> Result<(), Refusal> {
    let user = gate.who(peer, headers).await?;
    if let Some(attributes) = of_build(method, path) {
        return gate.may_do(&user, attributes).await;
    }
    let mut refusal = Refusal::Unauthorized;
    for part in parts(path) {
        match gate.may(&user, verb(method), "nodes", node, part).await {
            Err(forbidden @ Refusal::Forbidden { .. }) => refusal = forbidden,
            decided => return decided,
        }
    }
    Err(refusal)
}

/// `/builds/NAMESPACE/NAME/PART` is a part of a `Build` object: whoever may have that needs no right on the node.
fn of_build(method: &Method, path: &str) -> Option<ResourceAttributes> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let ["builds", namespace, name, part @ ("log" | "context")] = parts.as_slice() else { return None };
    // What is no name of an object is nobody's.
    let plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let text = |text: &str| Some(text.to_owned());
    [namespace, name].into_iter().all(plain).then(|| ResourceAttributes {
        group: text("madang.dev"),
        resource: text("builds"),
        subresource: text(part),
        namespace: text(namespace),
        name: text(name),
        verb: text(verb(method)),
        ..ResourceAttributes::default()
    })
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The parts of `nodes` of which one is enough for a path.
fn parts(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        "healthz" | "livez" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_builds_are_rights_of_their_own() {
        let of = |method: Method, path: &str| {
            let found = of_build(&method, path)?;
            Some((found.namespace?, found.name?, found.subresource?, found.verb?))
        };
        let wanted = |part: &str, verb: &str| Some(("a".to_owned(), "b".to_owned(), part.to_owned(), verb.to_owned()));
        assert_eq!(of(Method::GET, "/builds/a/b/log"), wanted("log", "get"));
        assert_eq!(of(Method::POST, "/builds/a/b/context"), wanted("context", "create"));
        for path in ["/builds/a/b", "/builds/a/b/other", "/builds/a%2Fb/c/log", "/builds/a/b/log/c", "/pods"] {
            assert_eq!(of(Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn paths_belong_to_parts_as_upstream_documents() {
        let cases: [(&str, &[&str]); 8] = [
            ("/stats/summary", &["stats"]),
            ("/metrics/resource", &["metrics"]),
            ("/metrics", &["metrics"]),
            ("/pods", &["pods", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/healthz", &["healthz", "proxy"]),
        ];
        for (path, wanted) in cases {
            assert_eq!(parts(path), wanted, "{path}");
        }
        assert_eq!((verb(&Method::POST), verb(&Method::GET), verb(&Method::HEAD)), ("create", "get", "get"));
    }
}
