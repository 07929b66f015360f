//! What a request is answered with: the envelope around data, errors with their status, compression.
//!
//! Data is written piece by piece as the client reads it, so that a large answer is held once and no faster than it is read;
//! a client that goes ends the writing.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use promql::{limit::EvalError, value::Stream};
use serve::{Body, body};

use super::{columns, json};

/// Answers smaller than this are not compressed.
const SMALL: usize = 1024;
/// Bytes of a piece, about.
pub const PIECE: usize = 64 << 10;

/// Pieces of JSON that follow one another.
pub type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// The data of an answer.
pub enum Data {
    /// None: 204.
    None,
    /// JSON at once.
    Whole(Vec<u8>),
    /// JSON piece by piece.
    Pieces(Pieces),
    /// Series as columns, their points `step` milliseconds apart.
    Columns {
        /// The series.
        streams: Vec<Stream>,
        /// Milliseconds.
        step: i64,
    },
}

/// An answer that is no error.
pub struct Reply {
    /// The data.
    pub data: Data,
    /// What should be seen to.
    pub warnings: Vec<String>,
    /// What should be known.
    pub infos: Vec<String>,
}

impl Reply {
    /// Data alone.
    pub fn new(data: Vec<u8>) -> Self {
        Self { data: Data::Whole(data), warnings: Vec::new(), infos: Vec::new() }
    }

    /// Done, nothing to say.
    pub fn nothing() -> Self {
        Self { data: Data::None, warnings: Vec::new(), infos: Vec::new() }
    }

    /// A value of `serde`.
    pub fn value(value: &impl serde::Serialize) -> Result<Self, Failure> {
        let written = serde_json::to_vec(value).map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
        Ok(Self::new(written))
    }

    /// With a warning.
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

/// Classes of errors, with their statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    BadData,
    /// The query cannot be answered.
    Execution,
    /// The query was cancelled.
    Cancelled,
    /// It took too long.
    Timeout,
    /// Something here is wrong.
    Internal,
    /// Not now, or not at all.
    Unavailable,
    /// Not there.
    NotFound,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Cancelled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            // As upstream: "unavailable" has no status of its own there.
            Self::Internal | Self::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Failure {
    /// Its class.
    pub kind: Kind,
    /// What is said.
    pub message: String,
}

/// What most requests end with.
pub type Answer = Result<Reply, Failure>;

impl Failure {
    /// An error of a class.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Kind::BadData, message)
    }

    /// A parameter of the request is wrong.
    pub fn parameter(name: &str, wrong: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid parameter \"{name}\": {wrong}"))
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let kind = match &error {
            EvalError::Cancelled(_) => Kind::Cancelled,
            EvalError::TimedOut(_) => Kind::Timeout,
            EvalError::Storage(_) => Kind::Internal,
            EvalError::TooManySamples(_) | EvalError::Failed(_) => Kind::Execution,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<tsdb::Error> for Failure {
    fn from(error: tsdb::Error) -> Self {
        Self::new(Kind::Internal, error.to_string())
    }
}

/// The response that says it.
pub fn respond(answer: Answer, headers: &HeaderMap) -> Response<Body> {
    match answer {
        Ok(reply) => success(reply, headers),
        Err(failure) => error(&failure),
    }
}

fn error(failure: &Failure) -> Response<Body> {
    let mut out = b"{\"status\":\"error\",\"errorType\":".to_vec();
    json::text(&mut out, failure.kind.name());
    out.extend_from_slice(b",\"error\":");
    json::text(&mut out, &failure.message);
    out.push(b'}');
    typed(failure.kind.status(), "application/json", body::full(out))
}

fn success(reply: Reply, headers: &HeaderMap) -> Response<Body> {
    let mut first = b"{\"status\":\"success\",\"data\":".to_vec();
    let mut last = Vec::new();
    for (name, list) in [("warnings", &reply.warnings), ("infos", &reply.infos)] {
        if !list.is_empty() {
            last.push(b',');
            json::key(&mut last, name);
            json::texts(&mut last, list);
        }
    }
    last.push(b'}');
    match reply.data {
        Data::None => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Data::Whole(data) => {
            first.extend_from_slice(&data);
            first.extend_from_slice(&last);
            sized(first, "application/json", headers)
        }
        Data::Pieces(pieces) => {
            let pieces = std::iter::once(first).chain(pieces).chain(std::iter::once(last));
            streamed(Box::new(pieces), "application/json", headers)
        }
        // Numbers of 53 bits hardly get smaller.
        Data::Columns { streams, step } => {
            let pieces = Box::new(columns::pieces(streams, step, &reply.warnings, &reply.infos));
            typed(StatusCode::OK, columns::KIND, flowing(Gathered { pieces, over: false }))
        }
    }
}

/// A response whose bytes are all there.
pub fn sized(bytes: Vec<u8>, kind: &'static str, headers: &HeaderMap) -> Response<Body> {
    if bytes.len() >= SMALL && takes_gzip(headers) {
        return streamed(Box::new(std::iter::once(bytes)), kind, headers);
    }
    typed(StatusCode::OK, kind, body::full(bytes))
}

/// A response that is written while it is read.
pub fn streamed(pieces: Pieces, kind: &'static str, headers: &HeaderMap) -> Response<Body> {
    let gathered = Gathered { pieces, over: false };
    if !takes_gzip(headers) {
        return typed(StatusCode::OK, kind, flowing(gathered));
    }
    let compressed = Compressed { pieces: gathered, encoder: Some(GzEncoder::new(Vec::new(), Compression::new(1))) };
    let mut response = typed(StatusCode::OK, kind, flowing(compressed));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn flowing(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Body {
    body::stream(futures::stream::iter(pieces.map(|piece| Ok(Bytes::from(piece)))))
}

fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Whether the client takes gzip: it is named, and not with a weight of nothing.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        named && !parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0)))
    })
}

/// Small pieces put together, so that each write to the client is worth it.
struct Gathered {
    pieces: Pieces,
    over: bool,
}

impl Iterator for Gathered {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        let mut gathered = Vec::new();
        while gathered.len() < PIECE {
            match self.pieces.next() {
                Some(piece) if gathered.is_empty() => gathered = piece,
                Some(piece) => gathered.extend_from_slice(&piece),
                None => {
                    self.over = true;
                    break;
                }
            }
        }
        (!gathered.is_empty()).then_some(gathered)
    }
}

struct Compressed {
    pieces: Gathered,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Compressed {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let encoder = self.encoder.as_mut()?;
            // Compressing into memory cannot fail.
            match self.pieces.next() {
                Some(piece) => encoder.write_all(&piece).ok()?,
                None => return self.encoder.take()?.finish().ok(),
            }
            if !encoder.get_ref().is_empty() {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_for_those_who_take_it() {
        let cases = [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("*", true),
            ("identity", false),
            ("", false),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(takes_gzip(&headers), expected, "{value}");
        }
    }
}
