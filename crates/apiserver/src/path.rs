//! What a request is about, read from its method, path and query: the facts that authorization, routing and metrics share.
//!
//! ```text
//! /api/v1/namespaces/web/pods/a/log        group ""      resource pods/log   namespace web   name a   verb get
//! /apis/apps/v1/deployments?watch=1        group apps    resource deployments                          verb watch
//! /healthz                                 not a resource                                              verb get
//! ```
//!
//! Semantics: <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>.

use http::Method;

use crate::query::Query;

/// A request as authorization sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource; otherwise only `verb` and `path` count.
    pub is_resource: bool,
    /// The path as it was sent, undecoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; the lower-case method for
    /// paths that are no resources.
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none or all.
    pub namespace: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Sub-resource, empty for none.
    pub subresource: String,
    /// Name of the object, empty for none.
    pub name: String,
    /// What follows the sub-resource, as sent, with a leading slash; empty for nothing. Only proxies use it.
    pub rest: String,
}

/// The path cannot be understood: upstream answers 500 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to determine kind and namespace from url, {0}")]
pub struct Unclear(String);

/// Reads a request. `path` is the path as sent; its segments are percent-decoded after splitting.
pub fn parse(method: &Method, path: &str, query: &Query) -> Result<RequestInfo, Unclear> {
    let mut info =
        RequestInfo { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..RequestInfo::default() };
    let trimmed = path.trim_matches('/');
    let segments: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
    let mut at = match segments.as_slice() {
        ["api", _, _, ..] => 1,
        ["apis", group, _, _, ..] => {
            info.group = decode(group);
            2
        }
        _ => return Ok(info),
    };
    info.is_resource = true;
    info.version = decode(segments[at]);
    at += 1;
    let mut by_prefix = false;
    if matches!(segments[at], "proxy" | "watch") {
        if segments.len() == at + 1 {
            return Err(Unclear(path.to_owned()));
        }
        info.verb = segments[at].to_owned();
        at += 1;
        by_prefix = true;
    } else {
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
    }
    if segments[at] == "namespaces" && segments.len() > at + 1 {
        info.namespace = decode(segments[at + 1]);
        if segments.len() > at + 2 && !matches!(segments[at + 2], "status" | "finalize") {
            at += 2;
        }
    }
    let parts = &segments[at..];
    info.resource = decode(parts[0]);
    if let Some(name) = parts.get(1) {
        info.name = decode(name);
    }
    if let Some(sub) = parts.get(2)
        && info.verb != "proxy"
    {
        info.subresource = decode(sub);
        info.rest = rest(path, at + 3);
    }
    if info.name.is_empty() && info.verb == "get" {
        info.verb = if watches(query) { "watch" } else { "list" }.to_owned();
        if let Some(name) = exact_name(query) {
            info.name = name;
        }
    }
    if info.name.is_empty() && info.verb == "delete" {
        info.verb = "deletecollection".to_owned();
    }
    if by_prefix && info.verb == "watch" {
        info.rest.clear();
    }
    Ok(info)
}

/// Everything behind the first `count` segments of `path`, with its leading slash, as sent.
fn rest(path: &str, count: usize) -> String {
    let mut left = path.trim_start_matches('/');
    for _ in 0..count {
        match left.find('/') {
            Some(at) => left = &left[at + 1..],
            None => return String::new(),
        }
    }
    format!("/{left}")
}

/// Whether the `watch` parameter asks for a watch: anything but `false`, `0` and absence does, as upstream reads booleans.
fn watches(query: &Query) -> bool {
    query.get("watch").is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

/// The name that a field selector pins, which makes a list or a watch one of a single object for authorization.
fn exact_name(query: &Query) -> Option<String> {
    let selector = query.get("fieldSelector")?;
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let plain = !value.is_empty() && !matches!(value, "." | "..") && !value.contains(['/', '%', '\\', '=']);
        plain.then(|| value.to_owned())
    })
}

/// Undoes percent-encoding; what is not valid UTF-8 afterwards is replaced.
pub fn decode(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%'
            && let Some(value) = bytes.get(at + 1..at + 3).and_then(hex)
        {
            out.push(value);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests;
