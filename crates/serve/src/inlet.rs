//! Bodies that somebody else takes off the connection: over plain HTTP/1, whoever keeps what a client sends may read it from the
//! client's socket, and this process never sees it.
//!
//! ```text
//! handler ── hold ──► Plain reads no more; hyper hands over what it had read, and asks for more
//!    │                  └─ the socket leaves the event loop; a copy of its descriptor ──► handler ──► whoever reads
//!    └── release(n) ──► Plain pretends to have read n bytes, which hyper counts as the body's rest, and reads on
//! ```
//!
//! A hold that is dropped without being released ends the connection after the answer: nobody knows what was read of it.

use std::{
    io,
    net::TcpStream as Detached,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::http::{Version, header, request::Parts};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::{io::ReadBuf, net::TcpStream};

use crate::body::{self, Body};

#[cfg(test)]
mod tests;

/// How long the rest of what a client sent before may take to come out of hyper.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the bytes of a connection go.
#[derive(Debug, Default)]
enum Mode {
    /// To hyper.
    #[default]
    Open,
    /// To whoever holds the connection.
    Held,
    /// To hyper after that many that it is made to believe it has read.
    Owed(u64),
    /// To nobody: hyper is told that the client sends no more.
    Lost,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Hyper has handed over everything and waits for more.
    drained: bool,
    socket: Option<io::Result<OwnedFd>>,
    handler: Option<Waker>,
    connection: Option<Waker>,
}

/// The way into a plain connection: in the extensions of its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inlet(Arc<Mutex<State>>);

/// What a connection does when it is asked for bytes.
pub(crate) enum Read {
    /// It reads.
    Socket,
    /// It does something else, and this is the outcome.
    Done(Poll<io::Result<()>>),
}

impl Inlet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called where hyper asks for bytes.
    pub(crate) fn poll_read(&self, socket: &mut Socket, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Read {
        let state = &mut *self.state();
        match &mut state.mode {
            Mode::Open => Read::Socket,
            Mode::Held => {
                state.connection = Some(context.waker().clone());
                if !state.drained {
                    state.drained = true;
                    state.socket = Some(socket.detach());
                    if let Some(handler) = state.handler.take() {
                        handler.wake();
                    }
                }
                Read::Done(Poll::Pending)
            }
            Mode::Owed(0) => {
                state.mode = Mode::Open;
                Read::Socket
            }
            Mode::Owed(owed) => {
                let length = into.remaining().min(usize::try_from(*owed).unwrap_or(usize::MAX));
                into.initialize_unfilled_to(length);
                into.advance(length);
                *owed -= length as u64;
                Read::Done(Poll::Ready(Ok(())))
            }
            Mode::Lost => Read::Done(Poll::Ready(Ok(()))),
        }
    }

    fn change(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.drained = false;
        state.socket = None;
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

/// A connection's socket, in the event loop or out of it.
#[derive(Debug)]
pub(crate) enum Socket {
    Attached(TcpStream),
    /// The event loop does not hear of what arrives.
    Detached(Detached),
    /// It could not be moved.
    Gone,
}

impl Socket {
    /// Takes the socket out of the event loop, and returns another descriptor of it.
    fn detach(&mut self) -> io::Result<OwnedFd> {
        if let Self::Attached(socket) = std::mem::replace(self, Self::Gone) {
            *self = Self::Detached(socket.into_std()?);
        }
        match self {
            Self::Detached(socket) => socket.as_fd().try_clone_to_owned(),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The socket in the event loop.
    pub(crate) fn attached(&mut self) -> io::Result<&mut TcpStream> {
        if let Self::Detached(_) = self
            && let Self::Detached(socket) = std::mem::replace(self, Self::Gone)
        {
            *self = Self::Attached(TcpStream::from_std(socket)?);
        }
        match self {
            Self::Attached(socket) => Ok(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A body whose rest is still in the client's socket.
#[derive(Debug)]
pub struct Held {
    inlet: Inlet,
    body: Body,
    released: bool,
    /// What had been read of it.
    pub before: Vec<Bytes>,
    /// How many bytes follow.
    pub left: u64,
    /// The socket that they are in, never blocking.
    pub socket: OwnedFd,
}

/// What became of an attempt to hold a body.
#[derive(Debug)]
pub enum Attempt {
    /// Its rest is in a socket.
    Held(Held),
    /// It has to be read as usual.
    Whole(Body),
}

/// Holds the body of a request with these properties, if it has at least `least` bytes and comes over a connection that
/// carries nothing else.
pub async fn hold(request: &Parts, mut body: Body, least: u64) -> Result<Attempt, body::Error> {
    let length =
        request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let inlet = request.extensions.get::<Inlet>().filter(|_| request.version <= Version::HTTP_11);
    let (Some(inlet), Some(length)) = (inlet, length.filter(|length| *length >= least)) else {
        return Ok(Attempt::Whole(body));
    };
    inlet.change(Mode::Held);
    let mut guard = Guard(Some(inlet));
    let mut before = Vec::new();
    let drained = tokio::time::timeout(PATIENCE, drained(inlet, &mut body, &mut before)).await;
    let socket = drained.map_err(|_| "the connection does not come to rest")??;
    guard.0 = None;
    let Some(socket) = socket else {
        inlet.change(Mode::Open);
        return Ok(Attempt::Whole(body::stream(futures::stream::iter(before.into_iter().map(Ok)))));
    };
    let left = length.saturating_sub(before.iter().map(|piece| piece.len() as u64).sum());
    Ok(Attempt::Held(Held { inlet: inlet.clone(), body, released: false, before, left, socket }))
}

/// Collects what hyper has read, until it asks for more; no socket if there is no more.
async fn drained(inlet: &Inlet, body: &mut Body, before: &mut Vec<Bytes>) -> Result<Option<OwnedFd>, body::Error> {
    let mut asked = false;
    std::future::poll_fn(|context| {
        loop {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => before.extend(frame.into_data().ok()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending => break,
            }
        }
        let mut state = inlet.state();
        if let Some(socket) = state.socket.take() {
            return Poll::Ready(socket.map(Some).map_err(body::Error::from));
        }
        state.handler = Some(context.waker().clone());
        if !asked {
            // Hyper may have asked before the connection was held, and asks again when its task runs.
            asked = true;
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Ends the connection unless told otherwise.
struct Guard<'a>(Option<&'a Inlet>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(inlet) = self.0 {
            inlet.change(Mode::Lost);
        }
    }
}

impl Held {
    /// Lets the connection go on after everything that was [`left`](Self::left) has been read from the socket.
    pub async fn release(mut self) -> Result<(), body::Error> {
        self.released = true;
        self.inlet.change(Mode::Owed(self.left));
        let mut left = self.left;
        while left > 0 {
            let frame = self.body.frame().await.ok_or("the body is shorter than it was said to be")??;
            left = left.saturating_sub(frame.data_ref().map_or(0, |piece| piece.len() as u64));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            self.inlet.change(Mode::Lost);
        }
    }
}
