//! Git repositories: elsewhere, one commit of them as files in a directory; here, served to `git`.
//!
//! ```text
//! remote ── advertisement ─► references ─ reference ─► commit
//!    └───── fetch ─► pack (a file) ─ objects by id ─► commit ─ tree ─► files in a directory, submodules
//!                                                              └────► `.git`, where it is asked for
//! ```
//!
//! ```text
//! request ── smart ─► upload ─ walk ─► objects that go out ─ pack::output ─► pack, copied from packs as it lies
//!               └───► receive ─ pack, whole and closed ─► repository: on disk, then references, then the answer
//! ```
//!
//! The wire is protocol version 2, and the versions before where a server speaks no other, over smart HTTP or SSH:
//! <https://git-scm.com/docs/protocol-v2>. How a request or a connection gets to the server is the caller's: proxies,
//! certificates and names are not known here. No `git` and no `ssh` need be installed.
//!
//! What comes from a remote is not trusted: packs, objects and trees are bounded by [`Limits`], each object is known by a
//! hash that was computed here (SHA-1 with detection of known collision attacks), and no path leaves its directory.

pub mod id;
pub mod object;

pub mod packet;
pub mod remote;
pub mod ssh;

pub mod pack;

pub mod changes;
pub mod checkout;
pub mod clone;
pub mod keep;
pub mod modules;

pub mod repository;
pub mod walk;

pub mod receive;
pub mod smart;
pub mod upload;

/// Bounds of what a remote may send. The defaults fit the largest repositories that are known, Linux and Chromium's
/// mirrors at depth 1 included.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a pack.
    pub pack: u64,
    /// Objects in a pack.
    pub objects: u32,
    /// Bytes of one object that is built from another, or is not a file: they are held in memory.
    pub object: u64,
    /// Bytes of all objects of a pack, unpacked.
    pub unpacked: u64,
    /// Files, links and directories of a checkout, submodules included.
    pub entries: u64,
    /// Bytes of a checkout, submodules included.
    pub checkout: u64,
    /// Bytes of the packs of a repository that is served.
    pub repository: u64,
    /// Submodules, those within others included.
    pub modules: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack: 8 << 30,
            objects: 8_000_000,
            object: 256 << 20,
            unpacked: 64 << 30,
            entries: 2_000_000,
            checkout: 32 << 30,
            repository: 32 << 30,
            modules: 256,
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server does not know the repository, or does not show it to this caller.
    #[error("{url}: {status}")]
    Refused {
        /// The address that was asked.
        url: String,
        /// What it answered.
        status: http::StatusCode,
    },
    /// The server said why not.
    #[error("remote says: {0}")]
    Remote(String),
    /// The server does not let this caller in.
    #[error("{0}")]
    Denied(String),
    /// There is no such branch, tag or commit.
    #[error("repository does not contain ref {0}")]
    NoReference(String),
    /// What came is not what the protocol or the format says.
    #[error("{0}")]
    Invalid(String),
    /// Beyond [`Limits`].
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The connection or the disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
