//! Samples from and to others: remote write and remote read, both ways.
//!
//! - [`message`]: what a request holds, versions 1 and 2
//! - [`receive`]: samples that others write here
//! - [`serve_read`]: samples that others read here
//! - [`otlp`]: samples that come by OpenTelemetry's protocol
//! - [`read`]: samples that are read from others
//! - [`spool`]: what is to be sent on, on disk; [`request`], what is sent; [`cloud`], as whom; [`send`], how
//!
//! See <https://prometheus.io/docs/specs/prw/remote_write_spec/>, `remote_write_spec_2_0` beside it, and
//! <https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>.

use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serve::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub mod message;

pub mod receive;

pub mod serve_read;

pub mod otlp;

pub mod read;

pub mod spool;

pub mod request;

pub mod cloud;

pub mod send;

/// Largest request, as it comes and unpacked, in bytes; upstream's own bound.
const LARGEST: usize = 32 << 20;
/// How long a request may take to come in.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all requests may hold at a time.
#[derive(Debug)]
pub struct Room {
    /// KiB of requests that are coming in.
    coming: std::sync::Arc<Semaphore>,
    /// Requests that are unpacked at a time.
    working: std::sync::Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { coming: std::sync::Arc::new(Semaphore::new(128 << 10)), working: std::sync::Arc::new(Semaphore::new(4)) }
    }
}

/// A request's bytes, and its part of the room.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Why a request was not taken.
type Refused = (StatusCode, String);

/// What an answer says, cut short after some bytes.
async fn words(mut body: Incoming, most: usize) -> String {
    let mut read = Vec::new();
    while read.len() < most {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(piece) = frame.into_data() {
            read.extend_from_slice(&piece[..piece.len().min(most - read.len())]);
        }
    }
    String::from_utf8_lossy(&read).trim().to_owned()
}

impl Room {
    /// Reads a body and unpacks it: snappy's block format.
    async fn unpacked(&self, body: Body) -> Result<Held, Refused> {
        let read = tokio::time::timeout(PATIENCE, self.read(body)).await;
        let (packed, _coming) =
            read.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "request body took too long".to_owned()))??;
        let bad = |error: snap::Error| (StatusCode::BAD_REQUEST, format!("snappy: {error}"));
        let length = snap::raw::decompress_len(&packed).map_err(bad)?;
        if length > LARGEST {
            return Err((StatusCode::BAD_REQUEST, format!("decoded size exceeds the {LARGEST} bytes limit")));
        }
        let closed = |_| (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned());
        let room = self.working.clone().acquire_owned().await.map_err(closed)?;
        let bytes = snap::raw::Decoder::new().decompress_vec(&packed).map_err(bad)?;
        Ok(Held { bytes, _room: room })
    }

    /// Reads a body that is no snappy, as it is.
    async fn plain(&self, body: Body) -> Result<Held, Refused> {
        let read = tokio::time::timeout(PATIENCE, self.read(body)).await;
        let (whole, _coming) =
            read.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "request body took too long".to_owned()))??;
        let closed = |_| (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned());
        let room = self.working.clone().acquire_owned().await.map_err(closed)?;
        Ok(Held { bytes: whole.to_vec(), _room: room })
    }

    async fn read(&self, mut body: Body) -> Result<(BytesMut, Vec<OwnedSemaphorePermit>), Refused> {
        let (mut whole, mut permits) = (BytesMut::new(), Vec::new());
        let mut held = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            if whole.len() + piece.len() > LARGEST {
                let message = format!("request body exceeds the {LARGEST} bytes limit");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            whole.extend_from_slice(&piece);
            let wanted = whole.len().div_ceil(1024);
            if wanted > held {
                let more = self.coming.clone().acquire_many_owned((wanted - held) as u32).await;
                permits.push(more.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "shutting down".to_owned()))?);
                held = wanted;
            }
        }
        Ok((whole, permits))
    }
}
