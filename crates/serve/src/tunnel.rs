//! Hands a request to another server: answers are streamed back, and upgraded connections become two byte pipes.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::body::{self, Body};

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS settings (ALPN `http/1.1`) and the name that the server's certificate must carry; none for plain HTTP.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why a request did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("dial tcp {host}:{port}: {source}")]
    Connect {
        /// As in [`Target`].
        host: String,
        /// As in [`Target`].
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke, or the server does not speak HTTP.
    #[error("{host}:{port}: {source}")]
    Http {
        /// As in [`Target`].
        host: String,
        /// As in [`Target`].
        port: u16,
        /// What hyper said.
        source: hyper::Error,
    },
}

const CONNECT: Duration = Duration::from_secs(10);

/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// Whether the request asks for the connection to be upgraded.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) && body::lists(headers, header::CONNECTION, "upgrade")
}

/// Sends `request` to `target` on a connection of its own. The path and query are sent as they stand in its URI, and
/// `Host` names the target unless the request has one. When the target switches protocols, the bytes of both
/// connections are copied by a task below `task` until either ends.
pub async fn forward(task: &Task, mut request: Request<Body>, target: &Target) -> Result<Response<Body>, Error> {
    let connect = |source| Error::Connect { host: target.host.clone(), port: target.port, source };
    let socket = tokio::time::timeout(CONNECT, TcpStream::connect((target.host.as_str(), target.port)))
        .await
        .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "i/o timeout")))
        .map_err(connect)?;
    let _ = socket.set_nodelay(true);
    let upgrade = is_upgrade(request.headers());
    let client = if upgrade { Some(hyper::upgrade::on(&mut request)) } else { None };
    let request = outgoing(request, target, upgrade);
    let mut response = match &target.tls {
        None => send(task, socket, request, target).await?,
        Some((config, name)) => {
            let connector = TlsConnector::from(config.clone());
            let stream = tokio::time::timeout(CONNECT, connector.connect(name.clone(), socket))
                .await
                .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "TLS handshake timeout")))
                .map_err(connect)?;
            send(task, stream, request, target).await?
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let server = hyper::upgrade::on(&mut response);
        task.spawn("tunnel", async move {
            let (Ok(client), Ok(server)) = tokio::join!(client, server) else { return };
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, body::empty()));
    }
    for name in &HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

async fn send<S>(task: &Task, stream: S, request: Request<Body>, target: &Target) -> Result<Response<Body>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source| Error::Http { host: target.host.clone(), port: target.port, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    task.spawn("forwarded connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "forwarded connection");
        }
    });
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

fn outgoing(request: Request<Body>, target: &Target, upgrade: bool) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path"));
    parts.uri = Uri::from(path);
    parts.version = ::http::Version::HTTP_11;
    parts.extensions = ::http::Extensions::new();
    for name in &HOP_BY_HOP {
        if !(upgrade && *name == header::CONNECTION) {
            parts.headers.remove(name);
        }
    }
    if !upgrade {
        parts.headers.remove(header::UPGRADE);
    }
    if !parts.headers.contains_key(header::HOST)
        && let Ok(host) = format!("{}:{}", target.host, target.port).parse()
    {
        parts.headers.insert(header::HOST, host);
    }
    Request::from_parts(parts, body)
}
