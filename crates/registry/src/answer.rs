//! Answers: what went wrong as the specification's error bodies, what went well as headers.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>

use access::gate;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use image::content;
use oci::distribution::{self as codes, Errors};
use serve::{Body, body};

/// The digest of what an answer carries.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub headers: Vec<(HeaderName, String)>,
}

/// What handlers return.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn missing(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub fn method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, codes::UNSUPPORTED, message)
    }

    /// What the client cannot help: logged here, where it is handled.
    pub fn internal(doing: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(doing, %error, "registry");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, codes::UNKNOWN, format!("{doing} failed: see the server's log"))
    }

    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn response(self) -> Response<Body> {
        let body =
            Errors { errors: vec![codes::Error { code: self.code.to_owned(), message: self.message, detail: None }] };
        let mut response = respond(self.status, &self.headers, serde_json::to_vec(&body).unwrap_or_default());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl From<content::Error> for Refusal {
    fn from(error: content::Error) -> Self {
        let (status, code) = match &error {
            content::Error::Unknown => (StatusCode::NOT_FOUND, codes::BLOB_UPLOAD_UNKNOWN),
            content::Error::Busy => (StatusCode::CONFLICT, codes::BLOB_UPLOAD_INVALID),
            content::Error::Crowded => (StatusCode::TOO_MANY_REQUESTS, codes::TOO_MANY_REQUESTS),
            content::Error::Offset { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, codes::BLOB_UPLOAD_INVALID),
            content::Error::Digest { .. } => (StatusCode::BAD_REQUEST, codes::DIGEST_INVALID),
            content::Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, codes::SIZE_INVALID),
            content::Error::Broken(_) => (StatusCode::BAD_REQUEST, codes::BLOB_UPLOAD_INVALID),
            content::Error::Full => {
                tracing::error!("registry: no space is left for content");
                (StatusCode::INSUFFICIENT_STORAGE, codes::UNKNOWN)
            }
            content::Error::Disk(error) => return Self::internal("store content", error),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<gate::Refusal> for Refusal {
    fn from(refusal: gate::Refusal) -> Self {
        match &refusal {
            gate::Refusal::Unauthorized => {
                Self::new(StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED, "these credentials are not known")
            }
            gate::Refusal::Forbidden { user, verb, .. } => {
                Self::new(StatusCode::FORBIDDEN, codes::DENIED, format!("{user} may not {verb} this repository"))
            }
            gate::Refusal::Unavailable(error) => {
                tracing::warn!(%error, "registry: the API server does not say who may");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, codes::UNKNOWN, "access cannot be checked right now")
            }
        }
    }
}

/// An answer with headers; those that cannot stand in one are left out, which happens only to texts of clients.
pub(crate) fn respond(
    status: StatusCode,
    headers: &[(HeaderName, String)],
    content: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value.as_str()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, headers: &[(HeaderName, String)], document: &impl serde::Serialize) -> Answer {
    let text = serde_json::to_vec(document).map_err(|error| Refusal::internal("write an answer", &error))?;
    let mut response = respond(status, headers, text);
    response
        .headers_mut()
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json; charset=utf-8"));
    Ok(response)
}
