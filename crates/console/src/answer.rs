//! Answers of the console's own: JSON, and why not, in one form.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use serve::{Body, body};

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody is signed in, or no longer.
    #[error("sign in first: `madang console` prints a link")]
    SignIn,
    /// It may not be asked from there, or not by them.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// It would overwrite something.
    #[error("{0}")]
    Conflict(String),
    /// Another server did not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::PRECONDITION_FAILED,
            Self::Unavailable(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The answer that says it.
    pub fn response(&self) -> Response<Body> {
        json_with(self.status(), &json!({"message": self.to_string()}))
    }
}

/// A JSON answer that nobody may keep.
pub fn json(value: &Value) -> Response<Body> {
    json_with(StatusCode::OK, value)
}

/// The same with another status.
pub fn json_with(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(body::full(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
