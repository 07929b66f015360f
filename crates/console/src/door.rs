//! What a request must look like before anybody reads it: sent by a page of the console, or by a program.
//!
//! Pages of other sites can make a browser send requests here, with the cookie where they are on this machine too (sites do
//! not tell ports apart). They cannot forge `Host`, `Origin` and `Sec-Fetch-*`, which therefore decide.
//! <https://fetch.spec.whatwg.org/#origin-header>, <https://w3c.github.io/webappsec-fetch-metadata/>

use access::origin;
use http::{HeaderMap, Method, Uri, header, request::Parts};
use serve::tunnel;

use crate::answer::Refusal;

/// Whether the request may come in; `local_only` demands that `Host` names loopback.
pub fn admit(parts: &Parts, local_only: bool) -> Result<(), Refusal> {
    let refused = |why: &str| Err(Refusal::Forbidden(why.to_owned()));
    if local_only && !origin::is_local(&parts.headers, &parts.uri) {
        return refused("this port answers programs on this machine only: Host and Origin must name it");
    }
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let from = text("origin");
    if let Some(from) = from
        && Some(from.split_once("://").map_or(from, |(_, rest)| rest)) != host(&parts.headers, &parts.uri)
    {
        return refused("a page of another origin asks");
    }
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => {}
        // A link on another page may lead to a page of the console, and to nothing else.
        Some(_) if text("sec-fetch-mode") == Some("navigate") && parts.method == Method::GET && !is_data(parts) => {}
        Some(_) => return refused("a page of another origin asks"),
    }
    // What changes something, and what a browser lets any page open, must say where it comes from if a cookie speaks for it.
    let changes = !matches!(parts.method, Method::GET | Method::HEAD) || tunnel::is_upgrade(&parts.headers);
    if changes && from.is_none() && parts.headers.contains_key(header::COOKIE) {
        return refused("a request with a cookie that changes something needs an Origin");
    }
    Ok(())
}

/// Whether the path is data of others, which no browser may show as a page of this origin: what lies below `/pipelines/NAMESPACE/` is
/// what runs have left, and pages of pipelines are elsewhere.
pub fn is_data(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let runs = path.strip_prefix("/pipelines/").is_some_and(|rest| rest.contains('/'));
    runs || ["/k8s/", "/prometheus/", "/alertmanager/", "/api/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a browser would show the answer as a page.
pub fn navigates(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// Host and port as the client named them.
pub fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

#[cfg(test)]
mod tests;
