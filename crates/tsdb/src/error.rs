//! What can go wrong.

use std::{io, path::PathBuf};

use crate::{bytes::Torn, catalog::Full};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the file's name.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("the metrics in {dir} are in use by another process; end it or choose another data directory")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A file does not hold what was written.
    #[error("{file} is damaged: {reason}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How that was noticed.
        reason: String,
    },
    /// More series than fit.
    #[error(transparent)]
    Full(#[from] Full),
    /// More samples at once than a record of the log holds.
    #[error("{0} samples are too many at once; send them in several batches")]
    TooLarge(usize),
    /// Labels that no series can have.
    #[error("labels {labels}: {reason}")]
    Labels {
        /// The labels.
        labels: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Samples come faster than the disk takes them.
    #[error("samples come faster than the disk takes them; see earlier messages about {0}")]
    Behind(PathBuf),
    /// A block of Prometheus that cannot be read.
    #[error("block {block}: {reason}")]
    Foreign {
        /// Its directory.
        block: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data base has been closed.
    #[error("the metrics have been closed")]
    Closed,
}

/// The result of something that may go wrong.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Tells what was tried when the operating system refused.
    pub(crate) fn io(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what(), source }
    }

    pub(crate) fn damaged(file: &std::path::Path) -> impl FnOnce(Torn) -> Self {
        let file = file.to_owned();
        move |torn| Self::Damaged { file, reason: torn.to_string() }
    }
}
