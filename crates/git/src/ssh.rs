//! Repositories over SSH: one connection, one channel, and in it what the other side's `git-upload-pack` says.
//!
//! ```text
//! Address ── dial (the caller's) ─► socket ─ handshake ─► host key ── hosts ─► known, or the end
//!                                                           └─► keys, or an agent's ─► channel: GIT_PROTOCOL, exec ─► packets
//! ```
//!
//! Nothing of this machine is used that was not given: no `ssh` program, no configuration, no key and no agent. A host's key is
//! believed only where it is among the known ones; nobody is ever believed because they were the first to answer.
//!
//! Specification: <https://www.rfc-editor.org/rfc/rfc4252>, <https://www.rfc-editor.org/rfc/rfc4254>,
//! <https://git-scm.com/docs/pack-protocol#_ssh_transport>.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub mod address;
pub mod agent;
pub mod hosts;
pub mod keys;

pub(crate) mod line;

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream of whatever kind.
pub type Stream = Box<dyn Duplex>;
/// Connects to a host and a port. Who may be reached, and how names are resolved, is the caller's.
pub type Dial = Arc<dyn Fn(String, u16) -> BoxFuture<'static, std::io::Result<Stream>> + Send + Sync>;
/// Connects to an agent; none where there is none after all.
pub type Agent = Arc<dyn Fn() -> BoxFuture<'static, std::io::Result<Option<Stream>>> + Send + Sync>;

/// How servers are reached over SSH, and what is shown to them.
#[derive(Clone)]
pub struct Access {
    /// Makes connections.
    pub dial: Dial,
    /// Who asks, where the address does not say; `git` where neither does.
    pub user: Option<String>,
    /// Private keys, tried in this order.
    pub keys: Vec<keys::Key>,
    /// An agent, whose keys are tried after those.
    pub agent: Option<Agent>,
    /// Keys of hosts that are believed.
    pub hosts: hosts::Known,
    /// What a user is to do who has no key: `give one with --ssh default`.
    pub keyless: String,
    /// How long is waited.
    pub patience: Patience,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("user", &self.user).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the other side has let us in and started its program.
    pub connect: Duration,
    /// For whatever comes next.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(60), silence: Duration::from_secs(300) }
    }
}
