//! Errors as clients get them: a status and `{"message": "..."}`.

use http::{Response, StatusCode};
use serve::{Body, body};

/// An answer that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind it is.
    pub status: StatusCode,
    /// For people; clients show it as it is.
    pub message: String,
}

/// What handlers give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400: the request cannot be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: the object is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: not in the state that things are in.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 403: never.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 501: upstream knows it, this does not.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 500: it could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// As a response.
    pub fn response(&self) -> Response<Body> {
        let text = serde_json::json!({ "message": self.message }).to_string() + "\n";
        let mut response = Response::new(body::full(text));
        *response.status_mut() = self.status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        response
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::failed(format!("{error:#}")),
        }
    }
}

impl From<body::ReadError> for Error {
    fn from(error: body::ReadError) -> Self {
        match error {
            body::ReadError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            body::ReadError::Broken(_) => Self::invalid(error.to_string()),
        }
    }
}
