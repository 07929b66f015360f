//! The daemon's ends of a process's standard streams.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{fs::OFlags, pipe::PipeFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd},
    net::unix::pipe,
};

use crate::protocol::{STDERR, STDIN, STDOUT};

/// Has the event loop watch a descriptor.
pub fn register<T: Owned>(descriptor: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types that are `Owned` own one descriptor, always give that one, and close it only when dropped.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// What owns one descriptor for as long as it lives.
pub trait Owned: AsRawFd {}
impl Owned for OwnedFd {}
impl Owned for std::os::unix::net::UnixStream {}

/// Takes a process's input.
#[derive(Debug)]
pub enum Input {
    /// A pipe: dropping it ends the input.
    Pipe(pipe::Sender),
    /// A terminal.
    Terminal(Terminal),
}

/// Gives a process's output.
#[derive(Debug)]
pub enum Output {
    /// A pipe.
    Pipe(pipe::Receiver),
    /// A terminal: output and errors together.
    Terminal(Terminal),
}

/// The controlling end of a terminal.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        Ok(Self(Arc::new(register(master)?)))
    }

    /// Sets its size, in characters.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *space)?)) {
                Ok(Ok(read)) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // What reading gives when the last process has closed the terminal: the end.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_) => {}
            }
        }
    }
}

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Terminal(terminal) => terminal.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Self::Terminal(terminal) => terminal.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Pipes for a process: our ends here, theirs to be handed over.
pub struct Pipes {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    theirs: Vec<OwnedFd>,
}

impl Pipes {
    pub fn new(stdin: bool, output: bool) -> io::Result<Self> {
        let mut pipes = Self { stdin: None, stdout: None, stderr: None, theirs: Vec::new() };
        if stdin {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            pipes.theirs.push(reader);
            rustix::io::ioctl_fionbio(&writer, true)?;
            pipes.stdin = Some(Input::Pipe(pipe::Sender::from_owned_fd(writer)?));
        }
        if output {
            for stream in [&mut pipes.stdout, &mut pipes.stderr] {
                let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                pipes.theirs.push(writer);
                rustix::io::ioctl_fionbio(&reader, true)?;
                *stream = Some(Output::Pipe(pipe::Receiver::from_owned_fd(reader)?));
            }
        }
        debug_assert!(pipes.theirs.iter().all(|fd| fd.as_raw_fd() > 2));
        Ok(pipes)
    }

    pub fn streams(&self) -> u32 {
        u32::from(self.stdin.is_some()) * STDIN
            + u32::from(self.stdout.is_some()) * STDOUT
            + u32::from(self.stderr.is_some()) * STDERR
    }

    pub fn theirs(&self) -> Vec<BorrowedFd<'_>> {
        super::borrowed(&self.theirs)
    }
}
