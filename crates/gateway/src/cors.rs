//! What pages of other origins may ask: answers to preflight requests, and headers on answers.
//!
//! See <https://fetch.spec.whatwg.org/#http-cors-protocol> and
//! <https://gateway-api.sigs.k8s.io/reference/spec/#httpcorsfilter>.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serve::{Body, body};

use crate::kinds;

/// A filter, read.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Vec<String>,
    credentials: bool,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    seconds: u32,
}

impl Cors {
    /// Reads a filter.
    pub fn of(filter: &kinds::Cors) -> Self {
        Self {
            origins: filter.allow_origins.clone(),
            credentials: filter.allow_credentials.unwrap_or_default(),
            methods: filter.allow_methods.clone(),
            headers: filter.allow_headers.clone(),
            exposed: filter.expose_headers.clone(),
            seconds: filter.max_age.unwrap_or(5),
        }
    }

    /// The origin as the answer names it, if pages of it may ask.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        let any = self.origins.iter().any(|one| one == "*");
        match any {
            true if !self.credentials => Some(HeaderValue::from_static("*")),
            true => Some(origin.clone()),
            false => self.origins.iter().any(|one| same(one, text)).then(|| origin.clone()),
        }
    }

    /// The answer to a request that only asks whether it may ask; `None` for others.
    pub fn preflight(&self, parts: &Parts) -> Option<Response<Body>> {
        let wanted = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = parts.headers.get(header::ORIGIN).filter(|_| parts.method == Method::OPTIONS)?;
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let Some(allowed) = self.allowed(origin) else { return Some(response) };
        let headers = response.headers_mut();
        self.common(headers, allowed);
        let list = |names: &[String], asked: Option<&HeaderValue>| match names.iter().any(|name| name == "*") {
            // With credentials a star is just a name: what was asked for is said instead.
            true if self.credentials => asked.cloned(),
            true => Some(HeaderValue::from_static("*")),
            false => HeaderValue::from_str(&names.join(", ")).ok().filter(|_| !names.is_empty()),
        };
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let seconds = HeaderValue::from(self.seconds);
        put(headers, header::ACCESS_CONTROL_ALLOW_METHODS, list(&self.methods, Some(wanted)));
        put(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, list(&self.headers, asked));
        put(headers, header::ACCESS_CONTROL_MAX_AGE, Some(seconds));
        self.expose(headers);
        Some(response)
    }

    fn common(&self, headers: &mut HeaderMap, allowed: HeaderValue) {
        if allowed != "*" {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Says on an answer to a request from `origin` what its page may see.
    pub fn answer(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else { return };
        self.common(headers, allowed);
        self.expose(headers);
    }

    /// Browsers read this on the answer itself; Gateway API's suite looks for it on the preflight too.
    fn expose(&self, headers: &mut HeaderMap) {
        if !self.exposed.is_empty() {
            put(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_str(&self.exposed.join(", ")).ok());
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

/// Whether an origin is meant: `https://a.com`, or with a star in the place of the first labels.
fn same(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() > before.len() + after.len() && origin.starts_with(before) && origin.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(cors: &Cors, origin: &'static str) -> HeaderMap {
        let request = Request::builder()
            .method("OPTIONS")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-one");
        cors.preflight(&request.body(()).unwrap().into_parts().0).unwrap().headers().clone()
    }

    #[test]
    fn preflights_name_the_origin_only_where_it_is_allowed() {
        let filter = kinds::Cors {
            allow_origins: vec!["https://a.com".into(), "https://*.b.com".into()],
            allow_methods: vec!["GET".into(), "PUT".into()],
            allow_headers: vec!["x-one".into()],
            expose_headers: vec!["x-two".into(), "x-three".into()],
            max_age: Some(60),
            ..kinds::Cors::default()
        };
        let cors = Cors::of(&filter);
        for (origin, expected) in [
            ("https://a.com", true),
            ("https://www.b.com", true),
            ("https://.b.com", false),
            ("http://a.com", false),
            ("https://a.com.evil.com", false),
        ] {
            let headers = ask(&cors, origin);
            assert_eq!(headers.get("access-control-allow-origin").is_some(), expected, "{origin}");
            assert_eq!(headers.get("access-control-max-age").is_some(), expected, "{origin}");
            let exposed = headers.get("access-control-expose-headers").map(|value| value.to_str().unwrap());
            assert_eq!(exposed, expected.then_some("x-two, x-three"), "{origin}");
        }
        assert_eq!(ask(&cors, "https://a.com")["access-control-allow-methods"], "GET, PUT");
    }

    #[test]
    fn a_star_with_credentials_says_what_was_asked_for() {
        let star = || vec!["*".to_owned()];
        let filter = kinds::Cors {
            allow_origins: star(),
            allow_methods: star(),
            allow_headers: star(),
            allow_credentials: Some(true),
            ..kinds::Cors::default()
        };
        let headers = ask(&Cors::of(&filter), "https://a.com");
        assert_eq!(headers["access-control-allow-origin"], "https://a.com");
        assert_eq!(headers["access-control-allow-methods"], "PUT");
        assert_eq!(headers["access-control-allow-headers"], "x-one");
    }
}
