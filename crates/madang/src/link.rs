//! The connection between the supervisor and a role: settings and listening sockets one way, readiness the other.
//!
//! ```text
//! supervisor                              role
//!     │ ── Hello { config, sockets } + fds ──► │   its standard input is this socket
//!     │ ◄───────────── Ready ───────────────── │
//!     │ ─────────────── end ─────────────────► │   the supervisor has gone: stop
//! ```
//!
//! Messages are JSON, one a packet of a `SOCK_SEQPACKET` pair, so nothing secret stands in arguments or environment.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What a role is given.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The settings.
    pub config: Config,
    /// Names of the listening sockets that come with this message, in order.
    pub sockets: Vec<String>,
}

/// What a role says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Everything in it answers.
    Ready,
}

/// Bytes of the largest message.
const MESSAGE: usize = 64 * 1024;
/// Sockets that come with a message at most.
const SOCKETS: usize = 16;

/// One end of the connection.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// A connected pair.
    pub fn pair() -> Result<(Self, Self)> {
        let (one, two) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socketpair")?;
        Ok((Self(one), Self(two)))
    }

    /// A role's end: its standard input.
    pub fn of_role() -> Result<Self> {
        Ok(Self(std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?))
    }

    /// The descriptor itself, for a child's standard input.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Hands settings and sockets to the role.
    pub fn greet(&self, hello: &Hello, sockets: &[BorrowedFd<'_>]) -> Result<()> {
        let text = serde_json::to_vec(hello)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
            bail!("{} sockets for one role", sockets.len());
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL).context("greet role")?;
        Ok(())
    }

    /// Waits for settings and sockets.
    pub fn greeted(&self) -> Result<(Hello, Vec<OwnedFd>)> {
        let mut text = vec![0; MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .context("this command is started by `madang server`; waiting for its settings")?;
        let sockets = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let hello = serde_json::from_slice(&text[..received.bytes]).context("settings from the supervisor")?;
        Ok((hello, sockets))
    }

    /// The end as tokio polls it.
    pub fn watch(self) -> Result<Watched> {
        // A datagram socket in name only: what is received is a packet, and nothing once the other end has gone.
        let socket = std::os::unix::net::UnixDatagram::from(self.0);
        socket.set_nonblocking(true).context("non-blocking link")?;
        Ok(Watched(tokio::net::UnixDatagram::from_std(socket).context("watch link")?))
    }
}

/// A link whose messages are awaited.
#[derive(Debug)]
pub struct Watched(tokio::net::UnixDatagram);

impl Watched {
    /// The next message; `None` when the other end has gone.
    pub async fn heard(&self) -> Result<Option<Said>> {
        let mut text = [0; 1024];
        let received = self.0.recv(&mut text).await.context("link")?;
        if received == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&text[..received]).context("message on the link")?))
    }

    /// Tells the other end.
    pub fn say(&self, said: Said) -> Result<()> {
        send(&self.0, &serde_json::to_vec(&said)?, SendFlags::NOSIGNAL).context("tell the supervisor")?;
        Ok(())
    }
}
