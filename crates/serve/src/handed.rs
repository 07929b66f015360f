//! Descriptors that come with requests over a unix socket.
//!
//! ```text
//! client: Handing ── next.set(descriptor) ── first bytes of a request, SCM_RIGHTS ──► Taking ──► take(request) :handler
//! ```
//!
//! One request at a time, so that a descriptor belongs to the request whose bytes it came with. One that nobody takes is closed
//! when the next one comes.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use ::http::request::Parts;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
};

/// Place for what comes beside bytes: one descriptor.
const BESIDE: usize = rustix::cmsg_space!(ScmRights(1));

/// A descriptor on its way, in either direction. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<Mutex<Option<OwnedFd>>>);

impl Slot {
    /// Leaves a descriptor, which goes with the next bytes.
    pub fn set(&self, descriptor: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(descriptor);
    }

    fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The descriptor that came with a request to [`serve_handed`](crate::http::serve_handed).
pub fn take(request: &Parts) -> Option<OwnedFd> {
    request.extensions.get::<Slot>()?.take()
}

/// The side that hands descriptors over.
#[derive(Debug)]
pub struct Handing {
    socket: UnixStream,
    next: Slot,
}

impl Handing {
    /// A connection, and where the descriptor for its next request is left.
    pub fn new(socket: UnixStream) -> (Self, Slot) {
        let next = Slot::default();
        (Self { socket, next: next.clone() }, next)
    }

    fn poll_send(&self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            let mut next = self.next.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut space = [MaybeUninit::uninit(); BESIDE];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            let descriptor = next.as_ref().map(|descriptor| [descriptor.as_fd()]);
            if let Some(descriptor) = &descriptor
                && !beside.push(SendAncillaryMessage::ScmRights(descriptor))
            {
                return Poll::Ready(Err(io::Error::other("a descriptor does not fit beside bytes")));
            }
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || Ok(sendmsg(&self.socket, pieces, &mut beside, SendFlags::NOSIGNAL)?));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(sent) => {
                    *next = None;
                    return Poll::Ready(Ok(sent));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Handing {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, into)
    }
}

impl AsyncWrite for Handing {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// The side that takes them.
#[derive(Debug)]
pub(crate) struct Taking {
    socket: UnixStream,
    last: Slot,
}

impl Taking {
    pub(crate) fn new(socket: UnixStream) -> (Self, Slot) {
        let last = Slot::default();
        (Self { socket, last: last.clone() }, last)
    }
}

impl AsyncRead for Taking {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let mut space = [MaybeUninit::uninit(); BESIDE];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let received = self.socket.try_io(Interest::READABLE, || {
                let into = &mut [IoSliceMut::new(into.initialize_unfilled())];
                Ok(recvmsg(&self.socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes)
            });
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    descriptors.for_each(|descriptor| self.last.set(descriptor));
                }
            }
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => {
                    into.advance(received?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Taking {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
