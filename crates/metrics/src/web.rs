//! The HTTP API: Prometheus' paths, its JSON, its errors.
//!
//! ```text
//! request ─ door: may they? ─ path ─▶ answer
//! ```
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/api/> and
//! <https://prometheus.io/docs/prometheus/latest/management_api/>.
//!
//! - [`door`]: who may come in

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serve::{Body, body};

use crate::Metrics;

pub mod door;

use door::{Door, Right};

/// Answers a request that came in by `door`.
pub async fn answer(metrics: &Metrics, door: &Door, request: Request<Body>) -> Response<Body> {
    let (parts, _body) = request.into_parts();
    if let Err((status, message)) = door.admit(&parts, Right::Read).await {
        return plain(status, message);
    }
    let read = matches!(parts.method, Method::GET | Method::HEAD);
    let _ = metrics;
    match parts.uri.path() {
        "/-/healthy" if read => plain(StatusCode::OK, "Prometheus Server is Healthy.\n"),
        "/-/ready" if read => plain(StatusCode::OK, "Prometheus Server is Ready.\n"),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Text.
pub(crate) fn plain(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
