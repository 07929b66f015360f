//! The accept loop: TLS, then HTTP/1.1 or HTTP/2 as the client speaks it, then one handler a request.
//!
//! ```text
//! accept ─ handshake (bounded time) ─ requests ... ─ drain: finish what runs, take nothing new
//! ```
//!
//! Every bound that a hostile client could stretch stands in [`Limits`].

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::{Extensions, Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    body::{self, Body},
    file::Plain,
    handed::Taking,
    lanes::{self, Lane},
};

/// Who is at the other end of the connection: in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The remote address; none over a unix socket.
    pub address: Option<SocketAddr>,
    /// The local address that was connected to; none over a unix socket.
    pub local: Option<SocketAddr>,
    /// The verified client certificates, end entity first; empty without any.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// Bounds on what clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte to the end of its headers, and from a connection's begin to those of its first.
    pub headers: Duration,
    /// Bytes of a request's headers.
    pub header_bytes: usize,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            streams: 1_000,
        }
    }
}

/// Serves connections of `listener` until `task` is cancelled; each is finished gracefully then.
/// Errors of single connections are logged at debug level, since clients cause them at will.
pub async fn serve<H, F>(task: Task, listener: TcpListener, tls: Option<Arc<ServerConfig>>, limits: Limits, handler: H)
where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    accept(&[], task, listener, tls, limits, handler).await;
}

/// The same in [`lanes`]: for handlers that never take a thread for long, and answer with what comes from elsewhere: bodies of
/// files are read here, not sent by the kernel.
pub async fn serve_in_lanes<H, F>(
    task: Task,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    handler: H,
) where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    accept(lanes::all(), task, listener, tls, limits, handler).await;
}

async fn accept<H, F>(
    lanes: &[Lane],
    task: Task,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    handler: H,
) where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let acceptor = tls.map(TlsAcceptor::from);
    let by_kernel = lanes.is_empty();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Some(accepted) = task.until_cancelled(listener.accept()).await else { return };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, handler, within) = (acceptor.clone(), handler.clone(), task.clone());
        let served = move |socket| async move {
            let _permit = permit;
            connection(&within, socket, address, acceptor, by_kernel, limits, handler).await;
        };
        match lanes::freest(lanes) {
            None => drop(task.spawn("connection", served(socket))),
            Some(lane) => {
                if let Err(error) = lane.take(&task, socket, served) {
                    tracing::debug!(%address, %error, "connection");
                }
            }
        }
    }
}

/// One connection, from its handshake to its end; parts of files are sent by the kernel if that can be and `by_kernel`.
async fn connection<H, F>(
    task: &Task,
    socket: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    by_kernel: bool,
    limits: Limits,
    handler: H,
) where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let local = socket.local_addr().ok();
    let _ = socket.set_nodelay(true);
    if local.is_some_and(|local| local.ip() == address.ip()) {
        unpaced(&socket);
    }
    let peer = |certificates: Vec<CertificateDer<'static>>| Peer {
        address: Some(address),
        local,
        certificates: certificates.into(),
    };
    let Some(acceptor) = acceptor else {
        if !by_kernel {
            return requests(task, socket, peer(Vec::new()), |_| {}, limits, handler).await;
        }
        let (socket, outlet, inlet) = Plain::new(socket);
        let carried = move |extensions: &mut Extensions| {
            extensions.insert(outlet.clone());
            extensions.insert(inlet.clone());
        };
        return requests(task, socket, peer(Vec::new()), carried, limits, handler).await;
    };
    match tokio::time::timeout(limits.handshake, acceptor.accept(socket)).await {
        Err(_) => tracing::debug!(%address, "tls handshake took too long"),
        Ok(Err(error)) => tracing::debug!(%address, %error, "tls handshake"),
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            requests(task, stream, peer(shown), |_| {}, limits, handler).await;
        }
    }
}

/// Has the kernel send without pacing: some machines' congestion control (`bbr`) spreads what is sent over time, by a timer
/// for each piece, which costs more than the sending where the client is on this machine and nothing can be congested.
fn unpaced(socket: &TcpStream) {
    // Every kernel has `reno`. One that will not have it chosen goes on as it is.
    if let Err(error) = rustix::net::sockopt::set_tcp_congestion(socket, "reno") {
        tracing::debug!(%error, "congestion control of a connection");
    }
}

/// The same over a unix socket, without TLS: who may connect is decided by the socket's mode.
pub async fn serve_unix<H, F>(task: Task, listener: UnixListener, limits: Limits, handler: H)
where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    unix(task, listener, limits, handler, |socket| (socket, |_: &mut Extensions| {})).await;
}

/// The same for clients that hand over descriptors: a request finds its own with [`handed::take`](crate::handed::take).
pub async fn serve_handed<H, F>(task: Task, listener: UnixListener, limits: Limits, handler: H)
where
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let wrap = |socket| {
        let (socket, handed) = Taking::new(socket);
        (socket, move |extensions: &mut Extensions| drop(extensions.insert(handed.clone())))
    };
    unix(task, listener, limits, handler, wrap).await;
}

async fn unix<S, C, H, F>(
    task: Task,
    listener: UnixListener,
    limits: Limits,
    handler: H,
    wrap: impl Fn(UnixStream) -> (S, C),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Fn(&mut Extensions) + Send + 'static,
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    while let Some(accepted) = task.until_cancelled(listener.accept()).await {
        let Ok((socket, _)) = accepted else { continue };
        let (handler, connection) = (handler.clone(), task.clone());
        let (socket, carried) = wrap(socket);
        task.spawn("connection", async move {
            let peer = Peer { address: None, local: None, certificates: Arc::from([]) };
            requests(&connection, socket, peer, carried, limits, handler).await;
        });
    }
}

/// Resolves if no request has come after that time.
async fn silence(patience: Duration, begun: &AtomicBool) {
    tokio::time::sleep(patience).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Requests of a connection; `carried` puts what belongs to the connection into each.
async fn requests<S, C, H, F>(task: &Task, stream: S, peer: Peer, carried: C, limits: Limits, handler: H)
where
    C: Fn(&mut Extensions),
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(limits.header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    let begun = Arc::new(AtomicBool::new(false));
    let first = begun.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        first.store(true, Ordering::Relaxed);
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(peer.clone());
        carried(&mut parts.extensions);
        let body = if hyper::body::Body::is_end_stream(&body) {
            body::empty()
        } else {
            body.map_err(Into::into).boxed_unsync()
        };
        let answer = handler(Request::from_parts(parts, body));
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // hyper's own bound begins once it is known which version is spoken: before it, silence has no end.
        () = silence(limits.headers, &begun) => return,
        () = task.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}
