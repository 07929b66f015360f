//! What a refused request still sends is read before it is answered.
//!
//! A client that is writing its body when the connection is closed sees a broken connection, not the refusal. So the part of a body that
//! nobody has read comes back here when it is dropped, and is read, for a while and within bounds.
//!
//! <https://www.rfc-editor.org/rfc/rfc9112#section-9.6>

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use serve::Body;

/// Bytes that are read of a refused request.
const MOST: usize = 16 << 20;
/// How long they are waited for.
const WITHIN: Duration = Duration::from_secs(2);

/// The part of a body that nobody has read, once whoever had it has dropped it.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    /// The body, to be handed on, and what will be left of it.
    pub(crate) fn of(body: Body) -> (Body, Self) {
        let rest = Self::default();
        (Returning { body: Some(body), rest: rest.clone() }.boxed_unsync(), rest)
    }

    /// Reads what is left.
    pub(crate) async fn read(&self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        let reading = async {
            let mut seen = 0;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > MOST {
                    return;
                }
            }
        };
        // Late or too long: the connection is closed, as it would have been.
        drop(tokio::time::timeout(WITHIN, reading).await);
    }
}

/// A body that goes back when it is dropped before its end.
struct Returning {
    body: Option<Body>,
    rest: Rest,
}

impl hyper::body::Body for Returning {
    type Data = Bytes;
    type Error = serve::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_has_read_of_a_body_is_read_and_dropped() {
        let (sender, body) = serve::body::channel(1);
        let (body, rest) = Rest::of(body);
        drop(body);
        let sending = async {
            let mut sent = 0;
            while sent < 3 && sender.send(Ok(Bytes::from_static(b"piece"))).await.is_ok() {
                sent += 1;
            }
            drop(sender);
            sent
        };
        let ((), sent) = tokio::join!(rest.read(), sending);
        assert_eq!(sent, 3);
    }

    #[tokio::test]
    async fn of_a_body_without_an_end_only_so_much_is_read() {
        let (sender, body) = serve::body::channel(1);
        let (body, rest) = Rest::of(body);
        drop(body);
        let piece = Bytes::from(vec![0; 1 << 20]);
        let sending = async {
            let mut sent = 0;
            while sender.send(Ok(piece.clone())).await.is_ok() {
                sent += 1;
            }
            sent
        };
        let ((), sent) = tokio::join!(rest.read(), sending);
        assert!((16..=20).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn a_body_that_was_read_leaves_nothing() {
        let (body, rest) = Rest::of(serve::body::full("text"));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "text");
        assert!(rest.0.lock().unwrap().is_none());
    }
}
