//! WebSocket (RFC 6455): the handshake of a server, Kubernetes' channels inside messages, and a WebSocket as plain bytes.
//!
//! Framing is `tungstenite`'s. Each message of a `channel.k8s.io` protocol begins with its channel number; in the
//! `base64` variants the number is a digit and the rest is base64 text. Version 5 adds channel 255, whose payload
//! names a channel that the client has closed; servers close none.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::http::{HeaderMap, Request, Response, StatusCode, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use task::Task;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Error, choose, offers};
use crate::body::{self, Body};

/// A server's end of a WebSocket.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The largest message taken from a client, in bytes.
const MESSAGE: usize = 1024 * 1024;

/// What the writing task of a channel protocol sends.
#[derive(Debug)]
pub(crate) enum Message {
    Channel(u8, Bytes),
    End,
}

/// Whether the request asks for a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    crate::tunnel::is_upgrade(headers) && body::lists(headers, header::UPGRADE, "websocket")
}

/// A handshake that was answered, and the protocol that was chosen.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub response: Response<Body>,
    pub upgrade: OnUpgrade,
    pub protocol: Option<&'static str>,
}

impl Handshake {
    /// Waits until the connection is a WebSocket.
    pub async fn socket(upgrade: OnUpgrade) -> Result<Socket, hyper::Error> {
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgrade.await?), Role::Server, Some(config)).await)
    }
}

/// Answers the handshake. A client that offers no protocol gets none; one that offers only unknown ones is refused.
pub(crate) fn handshake(request: &mut Request<Body>, accepted: &'static [&'static str]) -> Result<Handshake, Error> {
    let mut response = switched(request.headers())?;
    let offered = offers(request.headers(), header::SEC_WEBSOCKET_PROTOCOL.as_str());
    let protocol = if offered.is_empty() { None } else { Some(choose(offered, accepted)?) };
    if let Some(protocol) = protocol {
        let protocol = header::HeaderValue::from_static(protocol);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(Handshake { response, upgrade: hyper::upgrade::on(request), protocol })
}

/// A WebSocket whose messages are one stream of bytes both ways, whatever protocol the client offers: the answer to give, and
/// the stream, which comes to be once the answer was sent.
pub fn accept_bytes(
    headers: &HeaderMap,
    upgrade: OnUpgrade,
) -> Result<(Response<Body>, impl Future<Output = Result<Bytestream, hyper::Error>> + Send + 'static), Error> {
    let response = switched(headers)?;
    Ok((response, async move { Ok(Bytestream::new(Handshake::socket(upgrade).await?)) }))
}

/// The answer to a handshake, without a protocol.
fn switched(asked: &HeaderMap) -> Result<Response<Body>, Error> {
    if !is_websocket(asked) {
        return Err(Error::NotAnUpgrade);
    }
    let key = asked.get(header::SEC_WEBSOCKET_KEY).ok_or(Error::NoKey)?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept_key(key.as_bytes()).parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// RFC 6455, 4.2.2: proof that the server speaks WebSocket.
fn accept_key(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

const BODY_PROTOCOLS: &[&str] = &["binary.k8s.io", "base64.binary.k8s.io"];

/// Sends a plain body over a WebSocket, a message a piece: how logs and watches are read from browsers.
/// `text` frames are sent as text unless the client asked for a binary protocol.
pub fn body_as_messages(
    task: &Task,
    request: &mut Request<Body>,
    mut source: Body,
    text: bool,
) -> Result<Response<Body>, Error> {
    let Handshake { response, upgrade, protocol } = handshake(request, BODY_PROTOCOLS)?;
    task.spawn("websocket body", async move {
        let Ok(socket) = Handshake::socket(upgrade).await else { return };
        let (mut sender, mut receiver) = socket.split();
        let copy = async {
            while let Some(Ok(frame)) = source.frame().await {
                let Ok(bytes) = frame.into_data() else { continue };
                let message = match protocol {
                    Some("base64.binary.k8s.io") => tungstenite::Message::text(STANDARD.encode(&bytes)),
                    Some(_) => tungstenite::Message::Binary(bytes),
                    None if text => match String::from_utf8(bytes.to_vec()) {
                        Ok(text) => tungstenite::Message::text(text),
                        Err(_) => tungstenite::Message::Binary(bytes),
                    },
                    None => tungstenite::Message::Binary(bytes),
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(tungstenite::Message::Close(None)).await;
        };
        let gone = async { while let Some(Ok(_)) = receiver.next().await {} };
        tokio::select! { () = copy => {}, () = gone => {} }
    });
    Ok(response)
}

/// How channel messages of one protocol are written on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    pub base64: bool,
    pub closes_channels: bool,
}

impl Framing {
    pub fn encode(self, message: Message) -> tungstenite::Message {
        let (channel, bytes) = match message {
            Message::Channel(channel, bytes) => (channel, bytes),
            Message::End => {
                let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                return tungstenite::Message::Close(Some(close));
            }
        };
        if self.base64 {
            return tungstenite::Message::text(format!("{channel}{}", STANDARD.encode(&bytes)));
        }
        let mut framed = Vec::with_capacity(bytes.len() + 1);
        framed.push(channel);
        framed.extend_from_slice(&bytes);
        tungstenite::Message::Binary(framed.into())
    }

    /// The channel and payload of a client's message; `None` for what carries no data.
    pub fn decode(self, message: tungstenite::Message) -> Option<(u8, Bytes)> {
        let mut payload = match message {
            tungstenite::Message::Binary(bytes) => bytes,
            tungstenite::Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        let first = *payload.first()?;
        payload.advance(1);
        if self.base64 {
            let channel = first.checked_sub(b'0').filter(|channel| *channel < 10)?;
            return Some((channel, STANDARD.decode(&payload).ok()?.into()));
        }
        Some((first, payload))
    }
}

/// A WebSocket whose messages are one stream of bytes; what is written goes out as binary ones.
pub struct Bytestream {
    socket: Socket,
    left: Bytes,
}

impl std::fmt::Debug for Bytestream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bytestream")
    }
}

impl Bytestream {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, left: Bytes::new() }
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for Bytestream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                Some(Ok(tungstenite::Message::Binary(bytes))) => self.left = bytes,
                Some(Ok(tungstenite::Message::Text(text))) => self.left = text.into(),
                Some(Ok(tungstenite::Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
            }
        }
        let taken = self.left.len().min(into.remaining());
        into.put_slice(&self.left.split_to(taken));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytestream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(broken)?;
        let message = tungstenite::Message::Binary(Bytes::copy_from_slice(bytes));
        socket.as_mut().start_send(message).map_err(broken)?;
        // A message not flushed at once goes out with the next poll of either kind.
        let _ = socket.poll_flush(context).map_err(broken)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(broken)
    }
}
