//! The one body type of requests and responses: boxed frames of shared bytes.

use std::convert::Infallible;

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Any error that ends a body early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A body whose frames are shared bytes.
pub type Body = UnsyncBoxBody<Bytes, Error>;

/// No bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// One piece, with its length announced.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Pieces as they come; the length is not announced.
pub fn stream<S>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Pieces from a channel; the body ends when the sender is dropped, and the sender learns from a failed send that the
/// reader has gone.
pub fn channel(capacity: usize) -> (mpsc::Sender<Result<Bytes, Error>>, Body) {
    let (sender, mut receiver) = mpsc::channel(capacity);
    let pieces = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    (sender, stream(pieces))
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is longer than the caller allows.
    #[error("request body is larger than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The connection failed, or the encoding was wrong.
    #[error("read body: {0}")]
    Broken(Error),
}

/// Reads a body whole, at most `limit` bytes of it.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, ReadError> {
    // Not `Limited` and `collect`: the compiler cannot see that such a future may be sent (rust-lang/rust#100013).
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if piece.len() > limit - whole.len() {
            return Err(ReadError::TooLarge { limit });
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Whether `header` holds `token` in its comma-separated lists, whatever its case.
pub(crate) fn lists(headers: &HeaderMap, header: ::http::HeaderName, token: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}
