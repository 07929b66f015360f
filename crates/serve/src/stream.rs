//! Terminates upgraded connections that carry several streams: remote commands and port forwarding, over WebSocket or
//! SPDY/3.1, as the Kubernetes API defines them.
//!
//! ```text
//! exec, attach     WebSocket vN.channel.k8s.io      one channel byte before each message      command
//!                  SPDY vN.channel.k8s.io           one SPDY stream a channel                 command
//! portforward      SPDY portforward.k8s.io          two SPDY streams a connection             portforward
//!                  the same SPDY inside WebSocket   SPDY/3.1+portforward.k8s.io               portforward
//!                  WebSocket v4.channel.k8s.io      two channels a port                       portforward
//! logs, watches    WebSocket binary or text         a plain body as messages                  websocket
//! ```

pub mod command;
pub mod portforward;
pub mod spdy;
pub mod websocket;

use ::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::body::{self, Body};

/// The header in which SPDY clients offer their stream protocols, and the server names the one it takes.
pub(crate) const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// Frames queued in each direction of a stream before its sender waits.
pub(crate) const QUEUE: usize = 16;

/// Why a request cannot be upgraded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an upgrade request at all.
    #[error("unable to upgrade: missing upgrade headers in request")]
    NotAnUpgrade,
    /// None of the offered protocols is known.
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {accepted:?}"
    )]
    NoProtocol {
        /// What the client offered.
        offered: Vec<String>,
        /// What is known here.
        accepted: &'static [&'static str],
    },
    /// A WebSocket request without its key.
    #[error("unable to upgrade: websocket request without a key")]
    NoKey,
}

/// Bytes from the client; ends when the client closes the stream or goes.
#[derive(Debug)]
pub struct Input(pub(crate) mpsc::Receiver<Bytes>);

impl Input {
    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// Bytes to the client.
#[derive(Clone, Debug)]
pub struct Output(pub(crate) Sink);

#[derive(Clone, Debug)]
pub(crate) enum Sink {
    Channel { channel: u8, messages: mpsc::Sender<websocket::Message> },
    Spdy(spdy::Writer),
}

/// The client has gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client has closed the connection")]
pub struct Gone;

impl Output {
    /// Queues one piece, waiting while the client is slow.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        match &self.0 {
            Sink::Channel { channel, messages } => {
                messages.send(websocket::Message::Channel(*channel, bytes)).await.map_err(|_| Gone)
            }
            Sink::Spdy(stream) => stream.data(bytes, false).await,
        }
    }

    /// Says that no more comes. WebSocket channels have no end of their own.
    pub async fn close(self) -> Result<(), Gone> {
        match self.0 {
            Sink::Channel { .. } => Ok(()),
            Sink::Spdy(stream) => stream.data(Bytes::new(), true).await,
        }
    }
}

/// What the client offers in `header`, in its order.
fn offers(headers: &HeaderMap, header: &str) -> Vec<String> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// The first of `accepted` that the client offers.
fn choose(offered: Vec<String>, accepted: &'static [&'static str]) -> Result<&'static str, Error> {
    accepted
        .iter()
        .find(|name| offered.iter().any(|offer| offer == *name))
        .copied()
        .ok_or(Error::NoProtocol { offered, accepted })
}

/// The answer that switches to SPDY/3.1 with the stream protocol `protocol`.
fn switch_to_spdy(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("SPDY/3.1"));
    headers.insert(STREAM_PROTOCOL, header::HeaderValue::from_static(protocol));
    response
}

/// Whether the request asks for SPDY.
fn is_spdy(headers: &HeaderMap) -> bool {
    crate::tunnel::is_upgrade(headers) && body::lists(headers, header::UPGRADE, "spdy/3.1")
}
