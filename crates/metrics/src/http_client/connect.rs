//! Connections: direct or through a proxy, plain or TLS, or to a socket of this machine.

use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{proxy::Ways, settings::Proxy as ProxySettings, tls::Trust};

/// How long connecting may take, name resolution included.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a handshake may take, that of a proxy too.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a proxy's answer at most.
const ANSWER: usize = 16 << 10;

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Makes connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct Connect(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ways: Ways,
    headers: Vec<(String, String)>,
    trust: Trust,
    socket: Option<PathBuf>,
}

impl Connect {
    /// Connections by these ways; or all of them to one socket of this machine.
    pub fn new(proxy: &ProxySettings, trust: Trust, socket: Option<PathBuf>) -> Result<Self, String> {
        let ways = Ways::of(proxy, |name| std::env::var(name).ok())?;
        let headers = proxy.proxy_connect_header.iter();
        let headers = headers.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.0.clone())));
        Ok(Self(Arc::new(Inner { ways, headers: headers.collect(), trust, socket })))
    }

    /// Headers that a request without TLS needs for its proxy.
    pub fn proxy_headers(&self, uri: &Uri) -> Vec<(String, String)> {
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Vec::new();
        }
        let Some(proxy) = self.0.ways.proxy(uri) else { return Vec::new() };
        let credentials = proxy.credentials.iter().map(|value| ("proxy-authorization".to_owned(), value.clone()));
        credentials.collect()
    }

    async fn dial(self, uri: Uri) -> io::Result<Stream> {
        let inner = &*self.0;
        if let Some(socket) = &inner.socket {
            let stream = UnixStream::connect(socket)
                .await
                .map_err(|error| io::Error::new(error.kind(), format!("dial unix {}: {error}", socket.display())))?;
            return Ok(Stream { io: TokioIo::new(Box::new(stream)), h2: false, proxied: false });
        }
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = format!("{host}:{port}");
        let mut proxied = false;
        let mut io: Box<dyn Io> = match inner.ways.proxy(&uri) {
            None => Box::new(tcp(&target).await?),
            Some(proxy) => {
                let stream = tcp(&proxy.authority).await?;
                let mut io: Box<dyn Io> = Box::new(stream);
                if proxy.tls {
                    let name = proxy.authority.rsplit_once(':').map_or("", |parts| parts.0);
                    io = self.handshake(io, name).await?.0;
                }
                if tls {
                    let mut headers = inner.headers.clone();
                    headers.extend(
                        proxy.credentials.iter().map(|value| ("Proxy-Authorization".to_owned(), value.clone())),
                    );
                    within(HANDSHAKE, "proxy", tunnel(&mut io, &target, &headers)).await?;
                } else {
                    proxied = true;
                }
                io
            }
        };
        let mut h2 = false;
        if tls {
            let name = inner.trust.name().unwrap_or(host).to_owned();
            (io, h2) = self.handshake(io, &name).await?;
        }
        Ok(Stream { io: TokioIo::new(io), h2, proxied })
    }

    async fn handshake(&self, io: Box<dyn Io>, name: &str) -> io::Result<(Box<dyn Io>, bool)> {
        let config = self.0.trust.config().await.map_err(io::Error::other)?;
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = within(HANDSHAKE, "TLS handshake", TlsConnector::from(config).connect(name, io)).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), h2))
    }
}

async fn within<T>(time: Duration, what: &str, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(time, future).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} timeout"))),
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = within(CONNECT, "connect", TcpStream::connect(address)).await;
    let stream = stream.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("dial tcp {address}: {reason}"))
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks a proxy for a connection to `target`.
async fn tunnel(io: &mut Box<dyn Io>, target: &str, headers: &[(String, String)]) -> io::Result<()> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    for (name, value) in headers {
        let clean = |text: &str| !text.contains(['\r', '\n']);
        if !clean(name) || !clean(value) {
            return Err(io::Error::other(format!("proxy header {name:?} holds a line break")));
        }
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut answer = Vec::new();
    // Byte by byte, since what follows the answer belongs to the connection behind the proxy.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        answer.push(io.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    let status = line.split_once(' ').map_or("", |parts| parts.1);
    if status.starts_with('2') { Ok(()) } else { Err(io::Error::other(status.to_owned())) }
}

impl tower::Service<Uri> for Connect {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// A connection, and what it speaks.
pub struct Stream {
    io: TokioIo<Box<dyn Io>>,
    h2: bool,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
