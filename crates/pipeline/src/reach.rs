//! Other parts of the cluster that speak HTTP with certificates: nodes' own APIs, and the registry.
//!
//! ```text
//! node's object ─► address, port ─► TLS, with the certificate of this process ─► request; bodies in pieces, both ways
//! ```
//!
//! The API server's own way to a node (`nodes/proxy`) is none: whoever has that right has the node.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use client::connection::Credentials;
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use rustls::{ClientConfig, pki_types::ServerName};
use task::Task;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of a refusal.
const REFUSAL: usize = 8 << 10;
/// The port of a node's API where its object does not say.
const PORT: u16 = 10250;

/// A request's body.
pub type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused.
    #[error("{message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why.
        message: String,
    },
    /// Nobody answers, or the connection broke: it may be tried again.
    #[error("{0}")]
    Broken(String),
}

/// Ways to others. Cloning shares it.
#[derive(Clone)]
pub struct Reach {
    tls: Arc<ClientConfig>,
    bearer: Option<HeaderValue>,
    task: Task,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reach")
    }
}

/// Pieces as a body; an error among them ends the request where it is.
pub fn pieces(pieces: BoxStream<'static, io::Result<Bytes>>) -> Sent {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// No body.
pub fn nothing() -> Sent {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

impl Reach {
    /// Ways with this process' own credentials, to whom `authority` (PEM) has signed for. Connections live below `task`.
    ///
    /// # Errors
    /// The certificates are unusable.
    pub fn new(task: &Task, authority: &[u8], credentials: &Credentials) -> Result<Self> {
        let (identity, bearer) = match credentials {
            Credentials::Certificate { chain, key } => (Some((chain.as_slice(), key.as_slice())), None),
            Credentials::Token(token) => (None, Some(HeaderValue::try_from(format!("Bearer {token}"))?)),
        };
        let tls = serve::tls::client_config(authority, identity, &["http/1.1"])?;
        Ok(Self { tls, bearer, task: task.clone() })
    }

    /// Asks somebody; an answer that is none of success is an error.
    ///
    /// # Errors
    /// Nobody answers, or it is refused.
    pub async fn ask(&self, host: &str, port: u16, request: Request<Sent>) -> Result<Response<Incoming>, Error> {
        let connected = tokio::time::timeout(CONNECT, self.connect(host, port)).await;
        let mut sender = match connected {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => return Err(Error::Broken(format!("{host}:{port}: {error}"))),
            Err(_) => return Err(Error::Broken(format!("{host}:{port}: no answer in time"))),
        };
        let (mut parts, body) = request.into_parts();
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authority = HeaderValue::try_from(authority).map_err(|error| Error::Broken(error.to_string()))?;
        parts.headers.insert(header::HOST, authority);
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("madang"));
        if let Some(bearer) = &self.bearer {
            parts.headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        let answered = sender.send_request(Request::from_parts(parts, body)).await;
        let answer = answered.map_err(|error| Error::Broken(format!("{host}:{port}: {error}")))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = Limited::new(answer.into_body(), REFUSAL).collect().await;
        let text = text.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Err(Error::Refused { status, message: if text.is_empty() { status.to_string() } else { text } })
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<hyper::client::conn::http1::SendRequest<Sent>> {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, socket).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.task.spawn_until_cancelled("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another part");
            }
        });
        Ok(sender)
    }
}

/// Where a node's own API is.
///
/// # Errors
/// There is no such node, or it has no address yet.
pub async fn of_node(client: &Client, node: &str) -> Result<(String, u16)> {
    let found = Api::<Node>::all(client.clone()).get(node).await.with_context(|| format!("read node {node}"))?;
    address(&found).with_context(|| format!("node {node} has no address"))
}

fn address(node: &Node) -> Option<(String, u16)> {
    let status = node.status.as_ref()?;
    let all = status.addresses.as_deref().unwrap_or_default();
    let inner = all.iter().find(|one| one.type_ == "InternalIP" && one.address.parse::<IpAddr>().is_ok())?;
    let endpoint = status.daemon_endpoints.as_ref().and_then(|daemon| daemon.kubelet_endpoint.as_ref());
    let port = endpoint.and_then(|endpoint| u16::try_from(endpoint.port).ok()).filter(|port| *port != 0);
    Some((inner.address.clone(), port.unwrap_or(PORT)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_reached_at_its_inner_address() {
        let node = |status: serde_json::Value| serde_json::from_value::<Node>(json!({"status": status})).unwrap();
        let addresses = json!([{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.7"}]);
        let own = node(json!({"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 4711}}}));
        assert_eq!(address(&own), Some(("192.0.2.7".to_owned(), 4711)));
        assert_eq!(address(&node(json!({"addresses": addresses}))), Some(("192.0.2.7".to_owned(), PORT)));
        assert_eq!(address(&node(json!({"addresses": [{"type": "InternalIP", "address": "n"}]}))), None);
        assert_eq!(address(&Node::default()), None);
    }
}
