//! Terminals and signals of commands in the foreground.

use std::{
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    termios::{OptionalActions, Termios},
};

use crate::{
    child::{Context, Failure},
    sys,
};

/// Sends a terminal's controlling end to whoever listens at a socket, as `runc` does.
pub fn hand_over(terminal: &OwnedFd, socket: &str) -> Result<(), Failure> {
    let stream = UnixStream::connect(socket).context(|| format!("connect to console socket {socket}"))?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let rights = [terminal.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&rights));
    // Receivers take the bytes as the terminal's name.
    rustix::net::sendmsg(&stream, &[IoSlice::new(b"/dev/ptmx")], &mut ancillary, SendFlags::NOSIGNAL)
        .context(|| format!("send the terminal to {socket}"))
        .map(drop)
}

/// A descriptor of the signals that are passed on to the container, and of ended children.
pub fn forwarded_signals() -> Result<OwnedFd, Failure> {
    // All but those that are this process's own affair, or cannot be caught.
    let own = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
        libc::SIGPIPE,
        libc::SIGURG,
    ];
    let signals: Vec<_> = (1..32).filter(|signal| !own.contains(signal)).collect();
    sys::ignore_broken_pipes();
    sys::signal_descriptor(&signals).context(|| "watch signals")
}

/// Raw mode of our own terminal, for as long as this lives.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Self {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = rustix::termios::tcgetattr(stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Stays until a process ends: passes signals on, and copies between our streams and its terminal. Gives its exit code.
pub fn attend(
    pid: i32,
    pidfd: BorrowedFd<'_>,
    terminal: Option<BorrowedFd<'_>>,
    signals: &OwnedFd,
) -> Result<i32, Failure> {
    let _raw = terminal.map(|terminal| {
        copy_size(terminal);
        Raw::new()
    });
    let (mut input, mut output) = (terminal.is_some(), terminal.is_some());
    let mut buffer = [0; 4096];
    loop {
        let nothing = PollFlags::empty();
        let watched = |on: bool| if on { PollFlags::IN } else { nothing };
        let other = terminal.unwrap_or(signals.as_fd());
        let mut polled = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::from_borrowed_fd(other, watched(output)),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), watched(input)),
        ];
        match rustix::event::poll(&mut polled, None::<&Timespec>) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "wait for the container"),
        }
        let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        if let (true, Some(terminal)) = (ready[1] && output, terminal) {
            output = copy(terminal, rustix::stdio::stdout(), &mut buffer);
        }
        if let (true, Some(terminal)) = (ready[2] && input, terminal) {
            input = copy(rustix::stdio::stdin(), terminal, &mut buffer);
        }
        if !ready[0] {
            continue;
        }
        while let Some(signal) = next_signal(signals) {
            match signal {
                libc::SIGCHLD => {}
                libc::SIGWINCH => {
                    if let Some(terminal) = terminal {
                        copy_size(terminal);
                    }
                }
                other => drop(sys::kill(pidfd, other)),
            }
        }
        while let Some((ended, code, signal)) = sys::reap() {
            if ended == pid {
                if let Some(terminal) = terminal {
                    // What it wrote last is there still.
                    while output && copy(terminal, rustix::stdio::stdout(), &mut buffer) {}
                }
                return Ok(if signal == 0 { code } else { 128 + signal });
            }
        }
    }
}

/// Whether there may be more.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> bool {
    match rustix::io::read(from, &mut *buffer) {
        Ok(0) => false,
        Ok(read) => {
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                match rustix::io::write(to, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        Err(Errno::INTR | Errno::AGAIN) => true,
        Err(_) => false,
    }
}

fn copy_size(terminal: BorrowedFd<'_>) {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        let _ = rustix::termios::tcsetwinsize(terminal, size);
    }
}

/// `struct signalfd_siginfo` begins with the signal's number.
fn next_signal(signals: &OwnedFd) -> Option<i32> {
    let mut information = [0u8; 128];
    match rustix::io::read(signals, &mut information[..]) {
        Ok(128) => Some(u32::from_ne_bytes([information[0], information[1], information[2], information[3]]) as i32),
        _ => None,
    }
}
