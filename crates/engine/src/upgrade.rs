//! Connections that stop being HTTP: standard streams of containers, BuildKit's gRPC and sessions.
//!
//! ```text
//! client  POST ... Connection: Upgrade, Upgrade: tcp | h2c     ──▶
//!         ◀──  101 UPGRADED, Connection: Upgrade, Upgrade: tcp | h2c
//!         ◀══════ bytes, both ways ══════▶
//! ```
//!
//! Upstream also takes connections over without these headers, answering 200; such a client gets the output as the answer's
//! body here, and its request's body is the input.

use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto};
use serve::{Body, body, stream::websocket};
use tokio::{io::AsyncReadExt as _, net::UnixStream};

use crate::{
    call::Call,
    container::attach::Both,
    error::{Error, Result},
};

/// How long the head of an answer may stay unread before what follows is sent.
const HEAD: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// A connection that was taken over.
pub type Connection = TokioIo<Upgraded>;

/// Whether the request asks for `protocol`.
pub fn is_wanted(call: &Call, protocol: &str) -> bool {
    call.upgrade.is_some() && call.header("upgrade").is_some_and(|wanted| wanted.eq_ignore_ascii_case(protocol))
}

/// Switches to `protocol`: the answer to give, and the connection, which comes to be once the answer was sent.
/// `kind` is the media type of what follows, if it has one.
pub fn accept(
    call: &mut Call,
    protocol: &'static str,
    kind: Option<&'static str>,
) -> Result<(Response<Body>, impl Future<Output = Result<Connection, hyper::Error>> + Send + 'static)> {
    let upgrade = call.upgrade.take().ok_or_else(|| Error::invalid(format!("no upgrade to {protocol} asked for")))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok((response, async move { Ok(TokioIo::new(upgrade.await?)) }))
}

/// Both directions of a connection, once the client has read that it was taken over. Some read the answer's head through a buffer and
/// drop what else is in it (docker-py): what a quick process says must not come with the head.
pub(crate) async fn settled(connection: Connection) -> Both {
    let upgraded = match auto::upgrade::downcast::<TokioIo<UnixStream>>(connection.into_inner()) {
        Ok(parts) => parts,
        Err(other) => return Box::new(TokioIo::new(other)),
    };
    let socket = upgraded.io.into_inner();
    let began = Instant::now();
    while matches!(network::unread(&socket), Ok(1..)) && began.elapsed() < HEAD {
        tokio::time::sleep(LOOK).await;
    }
    let (reader, writer) = socket.into_split();
    Box::new(tokio::io::join(std::io::Cursor::new(upgraded.read_buf).chain(reader), writer))
}

/// Makes the connection a WebSocket.
pub(crate) fn accept_web(
    call: &mut Call,
) -> Result<(Response<Body>, impl Future<Output = Option<Both>> + Send + 'static)> {
    let refused = |error: serve::stream::Error| Error::invalid(format!("attach over a WebSocket: {error}"));
    let upgrade = call.upgrade.take().ok_or_else(|| refused(serve::stream::Error::NotAnUpgrade))?;
    let (response, connection) = websocket::accept_bytes(&call.headers, upgrade).map_err(refused)?;
    let connection = async move {
        match connection.await {
            Ok(connection) => Some(Box::new(connection) as Both),
            Err(error) => {
                tracing::debug!(%error, "take a connection over");
                None
            }
        }
    };
    Ok((response, connection))
}
