//! Connections to one endpoint.
//!
//! ```text
//! request ─ take an idle connection, or open one ─► send ─► answer's head ─► its body ... ─ end ─► idle again
//!                                                    └────── one task drives both ──────┘
//! ```
//!
//! A connection is driven by the task of the request that has it, so that nothing is woken but who waits for the client; an
//! idle one is driven by nobody. Whether the endpoint has closed it is seen when it is taken. HTTP/2 connections carry many
//! requests and are driven by tasks of their own.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serve::Body;
use task::Task;
use tokio::net::TcpStream;

use crate::backend::Endpoint;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection stays idle: less than servers commonly wait (Go none, Node 5 s, others 15 s and more).
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections of an endpoint that are kept at most.
const KEPT: usize = 256;
/// Bytes of an answer's head at most.
const HEAD: usize = 256 << 10;

/// A connection, and what drives it.
struct Link {
    sender: http1::SendRequest<Body>,
    driver: Option<Pin<Box<http1::Connection<TokioIo<TcpStream>, Body>>>>,
    /// Whether it has carried a request before.
    used: bool,
}

impl Link {
    /// Drives the connection; whether it has ended. A driver that has ended is dropped at once: a request that it has not
    /// taken any more learns of the end only so.
    fn drive(&mut self, context: &mut Context<'_>) -> bool {
        if self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
            self.driver = None;
        }
        self.driver.is_none()
    }
}

struct Idle {
    link: Link,
    since: Instant,
}

/// Connections to one address.
pub struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<Idle>>,
    sweeping: AtomicBool,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Body>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.address)
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub struct Failure {
    /// The request, if none of it was sent.
    pub request: Option<Request<Body>>,
    /// Whether the connection had carried a request before: then it may just have been closed for idleness.
    pub reused: bool,
    /// Whether the endpoint could not be reached at all.
    pub connect: bool,
    /// What happened.
    pub error: String,
}

impl Failure {
    fn connect(request: Request<Body>, error: &dyn std::fmt::Display) -> Self {
        Self { request: Some(request), reused: false, connect: true, error: error.to_string() }
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Mutex::default(),
            sweeping: AtomicBool::new(false),
            shared: tokio::sync::Mutex::new(None),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is idle.
    pub fn clear(&self) {
        let closed = std::mem::take(&mut *self.idle());
        drop(closed);
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(self.address));
        let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// An idle connection that is still open.
    async fn take(&self) -> Option<Link> {
        loop {
            let Idle { mut link, since } = self.idle().pop()?;
            if since.elapsed() > IDLE {
                continue;
            }
            // Reads what has arrived: the end, if the endpoint has closed it.
            let ended = std::future::poll_fn(|context| Poll::Ready(link.drive(context))).await;
            if !ended && link.sender.is_ready() {
                return Some(link);
            }
        }
    }

    async fn open(&self) -> io::Result<Link> {
        let stream = self.connect().await?;
        let (sender, driver) =
            http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Link { sender, driver: Some(Box::pin(driver)), used: false })
    }
}

/// Puts a connection back, and sees to it that it does not stay for ever.
fn keep(task: &Task, endpoint: &Arc<Endpoint>, link: Link) {
    let pool = endpoint.pool();
    {
        let mut idle = pool.idle();
        if idle.len() >= KEPT || task.is_cancelled() {
            return;
        }
        idle.push(Idle { link, since: Instant::now() });
    }
    if pool.sweeping.swap(true, Relaxed) {
        return;
    }
    let endpoint = endpoint.clone();
    task.spawn_until_cancelled("idle connections", async move {
        loop {
            tokio::time::sleep(IDLE).await;
            let pool = endpoint.pool();
            let old: Vec<Idle> = {
                let mut idle = pool.idle();
                // The oldest come first: what is used again is taken from the end.
                let young = idle.iter().position(|one| one.since.elapsed() < IDLE).unwrap_or(idle.len());
                idle.drain(..young).collect()
            };
            drop(old);
            if pool.idle().is_empty() {
                pool.sweeping.store(false, Relaxed);
                // One may have come between the two lines: whoever comes next sweeps again.
                if pool.idle().is_empty() || pool.sweeping.swap(true, Relaxed) {
                    return;
                }
            }
        }
    });
}

/// The body of an answer over HTTP/1, which drives the connection that it comes from.
pub struct Coming {
    body: Incoming,
    link: Option<Link>,
    endpoint: Arc<Endpoint>,
    task: Task,
}

/// The body of an answer.
pub enum Answer {
    /// Over a connection of its own.
    Own(Coming),
    /// Over a shared one.
    Shared(Incoming),
}

impl http_body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Shared(body) => Pin::new(body).poll_frame(context),
            Self::Own(coming) => coming.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Shared(body) => body.is_end_stream(),
            Self::Own(coming) => coming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Shared(body) => http_body::Body::size_hint(body),
            Self::Own(coming) => http_body::Body::size_hint(&coming.body),
        }
    }
}

impl Coming {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, hyper::Error>>> {
        use http_body::Body as _;
        // Piece by piece: the driver reads one, the body hands it on.
        loop {
            if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
                if frame.is_none() {
                    self.settle();
                }
                return Poll::Ready(frame);
            }
            let Some(link) = &mut self.link else { return Poll::Pending };
            if link.drive(context) {
                self.link = None;
                continue;
            }
            return match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => {
                    if frame.is_none() {
                        self.settle();
                    }
                    Poll::Ready(frame)
                }
                Poll::Pending => Poll::Pending,
            };
        }
    }

    /// Gives the connection back, if the answer is whole and the endpoint keeps it open.
    fn settle(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let mut context = Context::from_waker(Waker::noop());
        if !link.drive(&mut context) && link.sender.is_ready() {
            keep(&self.task, &self.endpoint, link);
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        use http_body::Body as _;
        if self.body.is_end_stream() {
            self.settle();
        }
    }
}

/// Sends a request to an endpoint, over an idle connection if there is one; resolves when the answer begins.
pub async fn send(
    task: &Task,
    endpoint: &Arc<Endpoint>,
    request: Request<Body>,
    fresh: bool,
) -> Result<Response<Answer>, Failure> {
    let idle = if fresh { None } else { endpoint.pool().take().await };
    let mut link = match idle {
        Some(link) => link,
        None => match endpoint.pool().open().await {
            Ok(link) => link,
            Err(error) => return Err(Failure::connect(request, &error)),
        },
    };
    let reused = std::mem::replace(&mut link.used, true);
    let mut answer = pin!(link.sender.try_send_request(request));
    let got = std::future::poll_fn(|context| {
        if let Poll::Ready(got) = answer.as_mut().poll(context) {
            return Poll::Ready(got);
        }
        link.drive(context);
        answer.as_mut().poll(context)
    })
    .await;
    match got {
        Ok(response) => {
            let link = link.driver.is_some().then_some(link);
            let (task, endpoint) = (task.clone(), endpoint.clone());
            Ok(response.map(|body| {
                let mut coming = Coming { body, link, endpoint, task };
                if http_body::Body::is_end_stream(&coming.body) {
                    coming.settle();
                }
                Answer::Own(coming)
            }))
        }
        Err(mut error) => {
            let request = error.take_message();
            Err(Failure { request, reused, connect: false, error: told(error.error()) })
        }
    }
}

/// Sends a request that asks for another protocol, over a connection of its own that becomes what was asked for.
pub async fn send_upgrade(
    task: &Task,
    endpoint: &Endpoint,
    request: Request<Body>,
) -> Result<Response<Incoming>, Failure> {
    let mut link = match endpoint.pool().open().await {
        Ok(link) => link,
        Err(error) => return Err(Failure::connect(request, &error)),
    };
    if let Some(driver) = link.driver.take() {
        let driver = *Pin::into_inner(driver);
        task.spawn("upgraded connection", async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "upgraded connection");
            }
        });
    }
    link.sender.try_send_request(request).await.map_err(|mut error| {
        let request = error.take_message();
        Failure { request, reused: false, connect: false, error: told(error.error()) }
    })
}

/// Sends a request over the endpoint's HTTP/2 connection, which is opened if there is none.
pub async fn send_http2(task: &Task, endpoint: &Endpoint, request: Request<Body>) -> Result<Response<Answer>, Failure> {
    let (mut sender, reused) = match shared(task, endpoint.pool()).await {
        Ok(shared) => shared,
        Err(error) => return Err(Failure::connect(request, &error)),
    };
    match sender.try_send_request(request).await {
        Ok(response) => Ok(response.map(Answer::Shared)),
        Err(mut error) => {
            let request = error.take_message();
            Err(Failure { request, reused, connect: false, error: told(error.error()) })
        }
    }
}

async fn shared(task: &Task, pool: &Pool) -> io::Result<(http2::SendRequest<Body>, bool)> {
    let mut shared = pool.shared.lock().await;
    if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
        return Ok((sender.clone(), true));
    }
    let stream = pool.connect().await?;
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    task.spawn_until_cancelled("backend connection", async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "backend connection");
        }
    });
    *shared = Some(sender.clone());
    Ok((sender, false))
}

/// An error with its cause, which hyper does not tell by itself.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
