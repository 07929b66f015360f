//! The store as its users hold it: one of the two implementations.

use std::path::Path;

use tokio::io::AsyncWrite;

use crate::{Backup, Entry, Outcome, Page, Result, Revision, Txn, Watch, embedded, etcd};

/// A store. Cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub enum Store {
    /// In this process, in a directory.
    Embedded(embedded::Engine),
    /// In etcd.
    Etcd(etcd::Client),
}

impl Store {
    /// Opens the embedded store in `dir`, which is made if it is absent and closed again when the last handle is dropped.
    ///
    /// Fails with [`crate::Error::Locked`] while another process has it open, and with [`crate::Error::Damaged`] rather
    /// than opening with less than was acknowledged.
    pub async fn embedded(dir: &Path, options: embedded::Options) -> Result<Self> {
        embedded::Engine::open(dir, options).await.map(Self::Embedded)
    }

    /// Connects to the etcd whose members serve these `http://HOST:PORT` endpoints.
    pub async fn etcd(endpoints: &[String]) -> Result<Self> {
        etcd::Client::connect(endpoints).await.map(Self::Etcd)
    }

    /// The entry of `key`, and the store's revision at that moment.
    pub async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision)> {
        match self {
            Self::Embedded(engine) => engine.get(key),
            Self::Etcd(client) => client.get(key).await,
        }
    }

    /// The entries under `prefix` (all with an empty one) in key order, from the key `from` on where given, as they were
    /// at the revision `at` or as they are now, at most `limit` of them (0: all).
    pub async fn range(&self, prefix: &str, from: Option<&str>, at: Option<Revision>, limit: usize) -> Result<Page> {
        match self {
            Self::Embedded(engine) => engine.range(prefix, from, at, limit),
            Self::Etcd(client) => client.range(prefix, from, at, limit).await,
        }
    }

    /// Does all of `txn` or nothing. What it answers is on disk, and visible to every read and watch that begins later.
    /// Dropping the future does not undo the commit.
    pub async fn commit(&self, txn: Txn) -> Result<Outcome> {
        match self {
            Self::Embedded(engine) => engine.commit(txn).await,
            Self::Etcd(client) => client.commit(txn).await,
        }
    }

    /// The changes under `prefix` by revisions after `after`, which may lie in the future.
    pub async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        match self {
            Self::Embedded(engine) => engine.watch(prefix, after).map(Watch::Embedded),
            Self::Etcd(client) => client.watch(prefix, after).await.map(|watch| Watch::Etcd(Box::new(watch))),
        }
    }

    /// The store's revision: that of its last write.
    pub async fn revision(&self) -> Result<Revision> {
        match self {
            Self::Embedded(engine) => Ok(engine.revision()),
            Self::Etcd(client) => client.revision().await,
        }
    }

    /// Forgets what no read at `revision` or later needs. Compacting twice to the same revision, or back, is
    /// [`crate::Error::Compacted`].
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        match self {
            Self::Embedded(engine) => engine.compact(revision).await,
            Self::Etcd(client) => client.compact(revision).await,
        }
    }

    /// Writes one consistent backup into `out` while the store goes on, in a format that is the same for both
    /// implementations.
    pub async fn backup(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<Backup> {
        match self {
            Self::Embedded(engine) => engine.backup(out).await,
            Self::Etcd(client) => client.backup(out).await,
        }
    }

    /// Makes an embedded store in `dir`, absent or empty, from the backup in `file`. Blocks.
    pub fn restore(file: &Path, dir: &Path) -> Result<embedded::Restored> {
        embedded::restore(file, dir)
    }

    /// Reads the backup in `file` whole and says what it holds; an error if it is cut or damaged. Blocks.
    pub fn check_backup(file: &Path) -> Result<embedded::Restored> {
        embedded::check(file)
    }

    /// Makes an embedded store in `out`, absent or empty, from all that can still be read of the damaged one in `dir`,
    /// which is left as it is. Blocks.
    pub fn salvage(dir: &Path, out: &Path) -> Result<embedded::Salvaged> {
        embedded::salvage(dir, out)
    }
}
