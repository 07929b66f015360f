//! Forms of answers: a document, nothing, a stream of documents.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serve::{Body, body};

use crate::error::{Error, Result};

/// A document.
pub fn json(value: &impl Serialize) -> Result<Response<Body>> {
    with_status(StatusCode::OK, value)
}

/// A document about something that was made.
pub fn created(value: &impl Serialize) -> Result<Response<Body>> {
    with_status(StatusCode::CREATED, value)
}

fn with_status(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>> {
    let mut text = serde_json::to_vec(value).map_err(|error| Error::failed(format!("encode the answer: {error}")))?;
    text.push(b'\n');
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Nothing, successfully.
pub fn done() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

/// A status alone.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// A body of some type.
pub fn typed(body: Body, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// One document of a stream, with the line's end that clients split at.
pub fn line(value: &impl Serialize) -> Result<Bytes, body::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.extend_from_slice(b"\r\n");
    Ok(text.into())
}
