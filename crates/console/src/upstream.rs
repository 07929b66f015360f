//! Passes requests on to the API server and to Prometheus, as the person who asks.
//!
//! | path here | goes to |
//! |---|---|
//! | `/k8s/...` | the API server, `/...` |
//! | `/prometheus/...` | Prometheus' API, `/...` |
//! | `/alertmanager/...` | Prometheus' API, `/alertmanager/...` |
//!
//! What comes back is data and never a page: whatever a pod answers must not run with the console's rights.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serve::{
    Body, body,
    stream::websocket,
    tunnel::{self, Target},
};
use task::Task;

use crate::{answer::Refusal, door};

/// Headers of the browser that go no further. Without them the other side takes it for a program, which it is.
const KEPT_BACK: [HeaderName; 6] =
    [header::COOKIE, header::ORIGIN, header::REFERER, header::HOST, header::FORWARDED, header::AUTHORIZATION];
const POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// The servers behind the console.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The API server.
    pub api: Target,
    /// Prometheus' API, if that part runs.
    pub prometheus: Option<Target>,
}

impl Upstream {
    /// Where a path goes, and what it is called there.
    fn route<'a>(&'a self, path: &'a str) -> Result<(&'a Target, &'a str), Refusal> {
        let metrics =
            || self.prometheus.as_ref().ok_or_else(|| Refusal::NotFound("metrics are switched off here".into()));
        if let Some(rest) = path.strip_prefix("/k8s").filter(|rest| rest.starts_with('/')) {
            return match is_proxied(rest) {
                true => Err(Refusal::Forbidden("pages of pods and Services are not shown below the console".into())),
                false => Ok((&self.api, rest)),
            };
        }
        if let Some(rest) = path.strip_prefix("/prometheus").filter(|rest| rest.starts_with('/')) {
            return Ok((metrics()?, rest));
        }
        if path.starts_with("/alertmanager/") {
            return Ok((metrics()?, path));
        }
        Err(Refusal::NotFound(format!("nothing lies behind {path}")))
    }

    /// Passes one request of a browser on.
    pub async fn forward(
        &self,
        task: &Task,
        mut request: Request<Body>,
        token: &str,
    ) -> Result<Response<Body>, Refusal> {
        if door::navigates(request.headers()) {
            return Err(Refusal::Forbidden("this is data, and no page to go to".into()));
        }
        let whole = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let path = request.uri().path().to_owned();
        let (target, rest) = self.route(&path)?;
        let query = whole.strip_prefix(&path).unwrap_or_default();
        *request.uri_mut() = format!("{rest}{query}").parse().map_err(|_| Refusal::Invalid("no such path".into()))?;
        for name in &KEPT_BACK {
            request.headers_mut().remove(name);
        }
        request.headers_mut().insert(header::AUTHORIZATION, bearer(token)?);
        let mut response =
            tunnel::forward(task, request, target).await.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        contain(&mut response);
        Ok(response)
    }

    /// Passes what a watch or a log sends on as messages of a WebSocket: API servers need not offer that, and a browser keeps
    /// few other connections open. Whatever is refused is refused before the handshake.
    pub async fn stream(
        &self,
        task: &Task,
        mut request: Request<Body>,
        token: &str,
    ) -> Result<Response<Body>, Refusal> {
        let mut asked = Request::new(body::empty());
        *asked.uri_mut() = request.uri().clone();
        let answer = self.forward(task, asked, token).await?;
        if answer.status() != StatusCode::OK {
            return Ok(answer);
        }
        let streamed = websocket::body_as_messages(task, &mut request, answer.into_body(), false);
        streamed.map_err(|error| Refusal::Invalid(error.to_string()))
    }

    /// Asks one thing as the person with `token`; `path` is as in [`Upstream::forward`]. The answer is read whole, at most
    /// `limit` bytes of it.
    pub async fn ask(
        &self,
        task: &Task,
        (method, path): (Method, &str),
        sent: Option<(&'static str, Bytes)>,
        token: &str,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Refusal> {
        let uri: Uri = path.parse().map_err(|_| Refusal::Invalid(format!("no such path: {path}")))?;
        let mut request = Request::new(body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        if let Some((kind, bytes)) = sent {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.body_mut() = body::full(bytes);
        }
        let response = self.forward(task, request, token).await?;
        let status = response.status();
        let read = body::read(response.into_body(), limit).await;
        let bytes = read.map_err(|error| Refusal::Unavailable(format!("{path}: {error}")))?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Refusal::SignIn);
        }
        Ok((status, bytes))
    }
}

/// Whether a request asks for a WebSocket to be read from, rather than for a session with a process.
pub fn is_stream<T>(request: &Request<T>) -> bool {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    websocket::is_websocket(request.headers()) && !matches!(last, "exec" | "attach" | "portforward")
}

/// Whether a path of the API server leads to pages of a pod, Service or node.
fn is_proxied(path: &str) -> bool {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    matches!(
        parts[..],
        ["api", _, "proxy", ..]
            | ["api", _, "nodes", _, "proxy", ..]
            | ["api", _, "namespaces", _, "pods" | "services", _, "proxy", ..]
    )
}

/// A part of a path without its percent signs.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Headers that keep an answer from being a page with the console's rights, and from being kept.
pub fn contain(response: &mut Response<Body>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let headers = response.headers_mut();
    headers.remove(header::SET_COOKIE);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `Authorization` with a token, which logs leave out.
pub fn bearer(token: &str) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Refusal::SignIn)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in `Authorization`, as Grafana's clients send it.
pub fn shown(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::is_proxied;

    #[test]
    fn pages_of_pods_are_told_from_objects() {
        let cases = [
            ("/api/v1/namespaces/a/pods/b/proxy/", true),
            ("/api/v1/namespaces/a/services/b/proxy", true),
            ("/api/v1/namespaces/a/pods/b/%70roxy/x", true),
            ("/api/v1/nodes/b/proxy/metrics", true),
            ("/api/v1/namespaces/a/pods/proxy", false),
            ("/api/v1/namespaces/proxy/pods/proxy/log", false),
            ("/api/v1/namespaces/a/pods/proxy/proxy", true),
        ];
        for (path, expected) in cases {
            assert_eq!(is_proxied(path), expected, "{path}");
        }
    }
}
