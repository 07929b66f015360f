//! Commands in containers: the client's side of the API's `exec`, over a WebSocket of its own.
//!
//! ```text
//! Commands ── start ─► GET …/pods/NAME/exec, Upgrade: websocket, v5.channel.k8s.io
//!                        │ first byte of a message: 0 input, 1 output, 2 errors, 3 how it ended, 255 close a channel
//! Session ── send, close ─►                       ◄─ next: Piece
//! ```
//!
//! <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.37/#exec>; the protocols are upstream's
//! `k8s.io/apimachinery/pkg/util/remotecommand`.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::Deserialize;
use task::Task;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::connection::{Credentials, Error as ConnectionError};

const PROTOCOL: &str = "v5.channel.k8s.io";
/// Bytes of one message.
const MESSAGE: usize = 4 << 20;
/// Bytes of input in one message.
const PIECE: usize = 32 << 10;
/// Bytes of an answer that says why not.
const REFUSAL: usize = 64 << 10;
/// How long connecting may take.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(20);

/// Why a command was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to the API server, or it broke: whether the command runs is not known.
    #[error("exec: {0}")]
    Broken(String),
    /// The API server says no.
    #[error("exec: {message}")]
    Refused {
        /// HTTP's status.
        code: u16,
        /// Why.
        message: String,
    },
}

/// How commands are asked for. Cloning shares it.
#[derive(Clone)]
pub struct Commands(Arc<Inner>);

struct Inner {
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
    bearer: Option<HeaderValue>,
    task: Task,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commands({}:{})", self.0.host, self.0.port)
    }
}

/// What is run where.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The container.
    pub container: &'a str,
    /// Program and arguments.
    pub words: &'a [&'a str],
    /// Whether it is given input.
    pub input: bool,
}

/// Something that a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// On standard output.
    Out(Bytes),
    /// On standard error.
    Err(Bytes),
    /// It has ended.
    Ended(Ended),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// It could not be run; why.
    Failed(String),
}

/// A command under way.
pub struct Session {
    socket: WebSocketStream<TokioIo<Upgraded>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Commands {
    /// Commands through the API server at `server` (`https://HOST:PORT`), trusting only `authority` (PEM). Connections live below
    /// `task`.
    pub fn new(
        task: &Task,
        server: &str,
        authority: &[u8],
        credentials: &Credentials,
    ) -> Result<Self, ConnectionError> {
        let wrong = || ConnectionError::Server(server.to_owned());
        let uri: http::Uri = server.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        let (identity, bearer) = match credentials {
            Credentials::Certificate { chain, key } => (Some((chain.as_slice(), key.as_slice())), None),
            Credentials::Token(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectionError::Token)?;
                (None, Some(value))
            }
        };
        let tls = serve::tls::client_config(authority, identity, &["http/1.1"])
            .map_err(|error| ConnectionError::Tls(server.to_owned(), error))?;
        let port = uri.port_u16().unwrap_or(443);
        Ok(Self(Arc::new(Inner { host, port, tls, bearer, task: task.clone() })))
    }

    /// Starts a command.
    pub async fn start(&self, command: Command<'_>) -> Result<Session, Error> {
        match tokio::time::timeout(CONNECT, self.connect(command)).await {
            Ok(session) => session,
            Err(_) => Err(Error::Broken(format!("{}:{}: no answer in time", self.0.host, self.0.port))),
        }
    }

    async fn connect(&self, command: Command<'_>) -> Result<Session, Error> {
        let inner = &*self.0;
        let broken = |error: &dyn std::fmt::Display| Error::Broken(format!("{}:{}: {error}", inner.host, inner.port));
        let socket = TcpStream::connect((inner.host.as_str(), inner.port)).await.map_err(|error| broken(&error))?;
        socket.set_nodelay(true).map_err(|error| broken(&error))?;
        let name = ServerName::try_from(inner.host.clone()).map_err(|error| broken(&error))?;
        let stream =
            TlsConnector::from(inner.tls.clone()).connect(name, socket).await.map_err(|error| broken(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        inner.task.spawn("exec connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection of a command");
            }
        });
        let mut request = Request::get(path(&command))
            .header(header::HOST, format!("{}:{}", inner.host, inner.port))
            .header(header::USER_AGENT, "madang")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "bWFkYW5nIGNvbW1hbmRzIQ==")
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        if let Some(bearer) = &inner.bearer {
            request = request.header(header::AUTHORIZATION, bearer.clone());
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
        let mut response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = response.status().as_u16();
            let body = Limited::new(response.into_body(), REFUSAL).collect().await;
            let text = body.map(|body| body.to_bytes()).unwrap_or_default();
            let message = match serde_json::from_slice::<Status>(&text) {
                Ok(status) => status.message,
                Err(_) => String::from_utf8_lossy(&text).into_owned(),
            };
            return Err(Error::Refused { code, message });
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| broken(&error))?;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Ok(Session { socket })
    }
}

/// Path and query of a command. Names of objects and containers stand in it as they are; words may be anything.
fn path(command: &Command<'_>) -> String {
    let mut path = format!(
        "/api/v1/namespaces/{}/pods/{}/exec?container={}&stdout=true&stderr=true",
        escaped(command.namespace),
        escaped(command.pod),
        escaped(command.container)
    );
    if command.input {
        path.push_str("&stdin=true");
    }
    for word in command.words {
        path.push_str("&command=");
        path.push_str(&escaped(word));
    }
    path
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Session {
    /// Gives the command input.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(PIECE) {
            let mut message = Vec::with_capacity(piece.len() + 1);
            message.push(0);
            message.extend_from_slice(piece);
            self.socket
                .send(Message::Binary(message.into()))
                .await
                .map_err(|error| Error::Broken(error.to_string()))?;
        }
        Ok(())
    }

    /// Ends the command's input.
    pub async fn close(&mut self) -> Result<(), Error> {
        let message = Message::Binary(Bytes::from_static(&[255, 0]));
        self.socket.send(message).await.map_err(|error| Error::Broken(error.to_string()))
    }

    /// What it says next; nothing follows [`Piece::Ended`].
    pub async fn next(&mut self) -> Result<Piece, Error> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(Error::Broken(error.to_string())),
                None => return Err(Error::Broken("the connection ended before the command".into())),
            };
            let mut bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return Err(Error::Broken("the connection ended before the command".into())),
                _ => continue,
            };
            if bytes.is_empty() {
                continue;
            }
            let channel = bytes.get_u8();
            match channel {
                1 | 2 if bytes.is_empty() => {}
                1 => return Ok(Piece::Out(bytes)),
                2 => return Ok(Piece::Err(bytes)),
                3 => return Ok(Piece::Ended(ended(&bytes))),
                _ => {}
            }
        }
    }
}

/// As far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    message: String,
    reason: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

/// What a `Status` says of a command.
fn ended(status: &[u8]) -> Ended {
    let Ok(status) = serde_json::from_slice::<Status>(status) else {
        return Ended::Failed(String::from_utf8_lossy(status).into_owned());
    };
    if status.status == "Success" {
        return Ended::Code(0);
    }
    let code = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
    match code.and_then(|cause| cause.message.parse().ok()).filter(|_| status.reason == "NonZeroExitCode") {
        Some(code) => Ended::Code(code),
        None => Ended::Failed(status.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_may_be_anything() {
        let words = ["sh", "-c", "echo \"a&b\" > ü"];
        let command = Command { namespace: "n", pod: "p", container: "c", words: &words, input: true };
        assert_eq!(
            path(&command),
            "/api/v1/namespaces/n/pods/p/exec?container=c&stdout=true&stderr=true&stdin=true&command=sh&command=-c\
             &command=echo%20%22a%26b%22%20%3E%20%C3%BC"
        );
    }

    #[test]
    fn a_status_says_how_a_command_ended() {
        for (text, expected) in [
            (r#"{"status":"Success"}"#, Ended::Code(0)),
            (
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
                Ended::Code(7),
            ),
            (
                r#"{"status":"Failure","reason":"InternalError","message":"no such container"}"#,
                Ended::Failed("no such container".into()),
            ),
            ("broken", Ended::Failed("broken".into())),
        ] {
            assert_eq!(ended(text.as_bytes()), expected, "{text}");
        }
    }
}
