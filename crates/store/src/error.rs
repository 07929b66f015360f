//! What can go wrong, as far as callers tell it apart.

use std::{io, path::PathBuf, sync::Arc};

use crate::Revision;

/// The result of everything a store does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store could not do what was asked. Clones share their source: one failed group of commits fails all of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The revision was compacted, or a watch was so slow that what it had yet to see was. List anew and watch from there.
    #[error("revision was compacted: the oldest one that can be read is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read, and after which a watch can begin.
        oldest: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {asked} is in the future")]
    FutureRevision {
        /// What was asked for.
        asked: Revision,
    },
    /// The request is wrong in itself, such as an empty key or a key written twice.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The transaction or a key in it is larger than the limits in `data`.
    #[error("{what} is too large: {size} over a limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size: bytes, or operations.
        size: usize,
        /// The limit, in the same unit.
        limit: usize,
    },
    /// There is no space left on the disk (or in etcd's quota). Nothing was written; it works again once there is space.
    #[error("no space left: {0}")]
    Full(String),
    /// Part of what had been synced is not what was written. Nothing is served rather than less than was acknowledged.
    #[error("{} is damaged at byte {offset}: {reason}; {way_out}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        reason: String,
        /// What the user can do.
        way_out: String,
    },
    /// Another process has the directory open.
    #[error("{} is in use by {holder}", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// The store cannot be reached, is overloaded or was closed. A commit that ends so may or may not have happened.
    #[error("store is unavailable: {0}")]
    Unavailable(String),
    /// The operating system refused. A commit that ends so may or may not be found after a restart.
    #[error("{what}: {source}")]
    Io {
        /// What was being done to which file.
        what: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Wraps what the system answered; a full disk becomes [`Error::Full`].
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(format!("{what}: {source}"))
            }
            _ => Self::Io { what, source: Arc::new(source) },
        }
    }
}
