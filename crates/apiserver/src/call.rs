//! One request on its way through the server, and the making of its answer.

use std::{
    io::Write,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::status::Status;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use serve::{Peer, body, body::Body};

use crate::{
    auth::User,
    encode,
    negotiate::{self, Accepted, Format, Offer},
    path::RequestInfo,
    query::Query,
    registry::Served,
};

/// The longest request body that is read, in bytes: upstream's limit.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Answers longer than this are compressed for clients that are not on this machine: upstream's limit, in bytes.
pub const COMPRESS: usize = 128 * 1024;

/// A request: what was read of it, and its body until somebody takes it.
#[derive(Debug)]
pub struct Call {
    /// What it is about.
    pub info: RequestInfo,
    /// Its parameters.
    pub query: Query,
    /// Its head.
    pub parts: http::request::Parts,
    /// Who asks.
    pub user: Arc<User>,
    /// The body, unread.
    pub body: Mutex<Option<Body>>,
    warnings: Mutex<Vec<String>>,
}

impl Call {
    /// A request of `user`.
    pub fn new(info: RequestInfo, query: Query, parts: http::request::Parts, user: Arc<User>, body: Body) -> Self {
        Self { info, query, parts, user, body: Mutex::new(Some(body)), warnings: Mutex::default() }
    }

    /// A call of the server's own, for what it writes of its own accord.
    pub fn own() -> Self {
        let (parts, ()) = http::Request::new(()).into_parts();
        Self::new(RequestInfo::default(), Query::default(), parts, Arc::new(User::server()), body::empty())
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The first line of `User-Agent`, for messages.
    pub fn user_agent(&self) -> &str {
        self.header(header::USER_AGENT)
    }

    /// A header as text, empty if it is not there.
    pub fn header(&self, name: header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Chooses the encoding of the answer.
    pub fn accepted(&self, offer: Offer) -> Result<Accepted, Status> {
        negotiate::answer(self.headers(), &self.query, offer)
            .ok_or_else(|| Status::not_acceptable(negotiate::offered(offer)))
    }

    /// Takes the body.
    pub fn take_body(&self) -> Body {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(body::empty)
    }

    /// Reads the body whole.
    pub async fn read_body(&self) -> Result<Bytes, Status> {
        collect(self.take_body(), BODY_LIMIT).await
    }

    /// Reads on, for a while, what nobody has taken: see [`DROPPED`].
    pub async fn drop_body(&self) {
        let _late = tokio::time::timeout(DROPPED_WITHIN, drop_rest(self.take_body())).await;
    }

    /// Tells the client something that did not prevent the request.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&text) && warnings.len() < 50 {
            warnings.push(text);
        }
    }

    /// An answer of `bytes`, compressed if that pays.
    pub fn answer(&self, code: u16, kind: HeaderValue, bytes: Bytes) -> Response<Body> {
        if bytes.len() > COMPRESS && self.compresses() {
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
            if encoder.write_all(&bytes).is_ok()
                && let Ok(small) = encoder.finish()
            {
                let mut response = self.stream(code, kind, body::full(small));
                mark_compressed(&mut response);
                return response;
            }
        }
        self.stream(code, kind, body::full(bytes))
    }

    /// An answer with that body.
    pub fn stream(&self, code: u16, kind: HeaderValue, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        self.decorate(&mut response);
        response
    }

    /// Puts the headers on that every answer has.
    pub fn decorate(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        for text in self.warnings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let clean: String = text.chars().filter(|letter| !letter.is_control()).collect();
            let line = format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                headers.append(header::WARNING, value);
            }
        }
    }

    /// Whether the client takes gzip, and sits behind a network that makes it worth the time: to the same machine, sending a
    /// megabyte takes less time than compressing it.
    pub fn compresses(&self) -> bool {
        let takes = self.header(header::ACCEPT_ENCODING).split(',').any(|item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            name.trim() == "gzip" && !parameters.replace(' ', "").starts_with("q=0;") && parameters.trim() != "q=0"
        });
        let distant = self.parts.extensions.get::<Peer>().is_some_and(|peer| match (peer.address, peer.local) {
            (Some(remote), Some(local)) => !is_loopback(remote.ip()) && remote.ip() != local.ip(),
            _ => false,
        });
        takes && distant
    }

    /// A tree that is no stored object (or a status) as the answer.
    pub fn value(&self, code: u16, served: Option<&Served>, value: &Value) -> Result<Response<Body>, Status> {
        let accepted = self.accepted(Offer { protobuf: true, views: false }).unwrap_or(Accepted::JSON);
        let (format, bytes) = match served {
            Some(served) => (accepted.format, encode::value(served, accepted.format, value)?),
            None if accepted.format == Format::Protobuf => (Format::Json, encode::json(value, accepted.pretty)),
            None => (accepted.format, encode::text(accepted.format, value)),
        };
        if accepted.pretty {
            return Ok(self.answer(code, Format::Json.content_type(), encode::json(value, true)));
        }
        Ok(self.answer(code, format.content_type(), bytes))
    }

    /// A status as the answer.
    pub fn status(&self, status: &Status) -> Response<Body> {
        let accepted = self.accepted(Offer::PLAIN).unwrap_or(Accepted::JSON);
        let bytes = if accepted.pretty {
            encode::json(&status.to_value(), true)
        } else {
            encode::status_bytes(accepted.format, status)
        };
        let mut response = self.answer(status.code(), accepted.format.content_type(), bytes);
        if let Some(seconds) = status.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Says that an answer is compressed.
pub fn mark_compressed(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Pieces of a body, compressed on their way.
#[derive(Debug)]
pub struct Compressed<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Compressed<I> {
    /// At upstream's level, the fastest.
    pub fn new(pieces: I) -> Self {
        Self { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::new(1))) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Compressed<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const ENOUGH: usize = 32 * 1024;
        let encoder = self.encoder.as_mut()?;
        for piece in self.pieces.by_ref() {
            // Writing into memory does not fail.
            _ = encoder.write_all(&piece);
            if encoder.get_ref().len() >= ENOUGH {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
        self.encoder.take()?.finish().ok().map(Bytes::from)
    }
}

/// How long the rest of a body is waited for.
const DROPPED_WITHIN: Duration = Duration::from_secs(2);
/// Bytes past a limit, or of a request that was refused before it was read, that are still read, and dropped, so that a client that is sending gets to read the refusal rather
/// than a broken connection.
const DROPPED: usize = 16 << 20;

async fn drop_rest(mut body: Body) {
    let mut dropped = 0;
    while let Some(Ok(frame)) = body.frame().await {
        dropped += frame.data_ref().map_or(0, Bytes::len);
        if dropped > DROPPED {
            return;
        }
    }
}

/// Reads a body whole, at most `limit` bytes of it. A body in one piece, as small ones are, is not copied.
pub async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Status> {
    let mut first: Option<Bytes> = None;
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("read body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let len = first.as_ref().map_or(all.len(), Bytes::len) + data.len();
        if len > limit {
            drop_rest(body).await;
            return Err(Status::body_too_large(limit));
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            before => {
                all.extend_from_slice(&before.unwrap_or_default());
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.into()))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
