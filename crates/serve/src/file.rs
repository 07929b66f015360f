//! Parts of files as bodies. Over plain HTTP/1 the kernel copies them from its cache to the connection (`sendfile`), and this
//! process never sees them; over TLS and HTTP/2 they are read in small pieces, each when the client has taken the one before.
//!
//! ```text
//! handler ── body: a place held by bytes of STAND_IN ──► hyper ──► Plain: finds the bytes by their address, sends the
//!    └────── the part that belongs there ──► Outlet (queue) ─────────┘    part of the file in their stead
//! ```
//!
//! hyper takes bodies as memory and writes vectored what it did not copy, so that bytes of [`STAND_IN`] arrive at the
//! connection as they left the body. What the kernel has not in its cache is read away from the event loop first.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use ::http::{Version, request::Parts};
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{
    body::{self, Body},
    inlet::{Inlet, Read, Socket},
};

/// Bytes read at a time where they pass through this process: as many as TLS encrypts before it writes.
const PIECE: usize = 64 << 10;
/// Buffers that a body keeps for its next pieces.
const SPARE: usize = 2;
/// Bytes that the kernel is asked to send at a time.
const SENT: usize = 1 << 20;
/// What holds the place of a file's bytes; never sent.
static STAND_IN: [u8; SENT] = [0; SENT];

/// Bytes of a file.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    left: usize,
}

/// Where bodies of a plain connection leave what the kernel is to send: in the extensions of its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlet(Arc<Mutex<VecDeque<Part>>>);

/// Bytes `from..end` of `file`, which nobody changes meanwhile, as the answer to a request with these properties, whose
/// length must be announced. The body fails if the file is shorter.
pub fn part(request: &Parts, file: File, from: u64, end: u64) -> Body {
    let file = Arc::new(file);
    match request.extensions.get::<Outlet>() {
        Some(outlet) if request.version <= Version::HTTP_11 => sent(outlet.clone(), file, from, end),
        _ => read(file, from, end),
    }
}

/// The file's bytes by way of this process.
fn read(file: Arc<File>, from: u64, end: u64) -> Body {
    let spare = Spare::default();
    let pieces = futures::stream::try_unfold(from, move |at| {
        let (file, spare) = (file.clone(), spare.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let wanted = PIECE.min(usize::try_from(end - at).unwrap_or(PIECE));
            let piece = cached_or_not(&file, at, wanted, spare).await?;
            if piece.is_empty() {
                return Err("the file is shorter than it was".into());
            }
            let next = at + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    });
    body::stream(pieces)
}

/// Places for the file's bytes, which the connection fills.
fn sent(outlet: Outlet, file: Arc<File>, from: u64, end: u64) -> Body {
    let pieces = futures::stream::try_unfold(from, move |at| {
        let (outlet, file) = (outlet.clone(), file.clone());
        async move {
            if at >= end {
                return Ok(None);
            }
            let left = SENT.min(usize::try_from(end - at).unwrap_or(SENT));
            // The kernel reads ahead: where the last byte is in its cache, what is before it is too.
            let last = at + left as u64 - 1;
            match pread(&file, last, &mut [0], ReadWriteFlags::NOWAIT) {
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => warm(&file, at, left).await?,
                Err(error) => return Err(body::Error::from(io::Error::from(error))),
                Ok(0) => return Err("the file is shorter than it was".into()),
                Ok(_) => {}
            }
            outlet.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Part { file, at, left });
            Ok::<_, body::Error>(Some((Bytes::from_static(&STAND_IN[..left]), at + left as u64)))
        }
    });
    body::stream(pieces)
}

/// Has the kernel read a part of a file into its cache.
async fn warm(file: &Arc<File>, at: u64, length: usize) -> io::Result<()> {
    let file = file.clone();
    let reading = move || {
        let end = at + length as u64;
        let mut at = at;
        let mut buffer = vec![0; PIECE];
        while at < end {
            let wanted = PIECE.min((end - at) as usize);
            match pread(&file, at, &mut buffer[..wanted], ReadWriteFlags::empty())? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                read => at += read as u64,
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
}

async fn cached_or_not(file: &Arc<File>, at: u64, wanted: usize, spare: Spare) -> io::Result<Bytes> {
    let mut buffer = spare.take();
    match pread(file, at, &mut buffer[..wanted], ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let file = file.clone();
            let reading = move || {
                let read = pread(&file, at, &mut buffer[..wanted], ReadWriteFlags::empty())?;
                Ok(spare.lend(buffer, read))
            };
            tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
        }
        read => Ok(spare.lend(buffer, read?)),
    }
}

fn pread(file: &File, at: u64, into: &mut [u8], how: ReadWriteFlags) -> Result<usize, Errno> {
    preadv2(file.as_fd(), &mut [IoSliceMut::new(into)], at, how)
}

/// Buffers of a body that were sent and are to be filled again.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Spare {
    /// A buffer of [`PIECE`] bytes.
    fn take(&self) -> Box<[u8]> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; PIECE].into())
    }

    /// The first `length` bytes of a buffer, which comes back when nobody needs them any more.
    fn lend(&self, buffer: Box<[u8]>, length: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() }).slice(..length)
    }
}

struct Lent {
    buffer: Box<[u8]>,
    home: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SPARE {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// A connection without TLS, which sends parts of files where their places come, and lets others read from it.
#[derive(Debug)]
pub(crate) struct Plain {
    socket: Socket,
    outlet: Outlet,
    inlet: Inlet,
}

impl Plain {
    /// The connection, and what its requests carry.
    pub(crate) fn new(socket: TcpStream) -> (Self, Outlet, Inlet) {
        let (outlet, inlet) = (Outlet::default(), Inlet::default());
        let plain = Self { socket: Socket::Attached(socket), outlet: outlet.clone(), inlet: inlet.clone() };
        (plain, outlet, inlet)
    }

    /// Has the kernel send what stands at a place of `length` bytes.
    fn poll_send(&mut self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let socket = self.socket.attached()?;
        loop {
            ready!(socket.poll_write_ready(context))?;
            let mut parts = self.outlet.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The place is there, so that its part was left before; anything else would send the client nonsense.
            let Some(part) = parts.front_mut() else {
                return Poll::Ready(Err(io::Error::other("a place without a part of a file")));
            };
            let wanted = length.min(part.left);
            let sent = socket.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(&*socket, &*part.file, Some(&mut part.at), wanted)?)
            });
            match sent {
                Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof))),
                Ok(sent) => {
                    part.left -= sent;
                    if part.left == 0 {
                        parts.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Whether these bytes hold the place of others.
fn is_place(bytes: &[u8]) -> bool {
    !bytes.is_empty() && STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let plain = self.get_mut();
        match plain.inlet.poll_read(&mut plain.socket, context, into) {
            Read::Done(outcome) => outcome,
            Read::Socket => Pin::new(plain.socket.attached()?).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let plain = self.get_mut();
        match is_place(bytes) {
            true => plain.poll_send(context, bytes.len()),
            false => Pin::new(plain.socket.attached()?).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let plain = self.get_mut();
        let pieces = &pieces[pieces.iter().take_while(|piece| piece.is_empty()).count()..];
        match pieces.iter().position(|piece| is_place(piece)) {
            Some(0) => plain.poll_send(context, pieces[0].len()),
            place => {
                let before = &pieces[..place.unwrap_or(pieces.len())];
                Pin::new(plain.socket.attached()?).poll_write_vectored(context, before)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.attached()?).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
