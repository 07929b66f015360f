//! Which right on the node's object a request needs: a verb, and one of some parts of `nodes`.
//! <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>

use access::gate::{Gate, Refusal};
use http::{HeaderMap, Method};
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
    let mut refusal = Refusal::Unauthorized;
    for part in parts(path) {
        match gate.may(&user, verb(method), "nodes", node, part).await {
            Err(forbidden @ Refusal::Forbidden { .. }) => refusal = forbidden,
            decided => return decided,
        }
    }
    Err(refusal)
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
