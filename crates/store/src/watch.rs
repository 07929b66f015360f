//! Watches, whichever implementation they come from.

use crate::{Batch, Result, embedded, etcd};

/// The changes under a prefix, in revision order. It ends with the first error.
#[derive(Debug)]
pub enum Watch {
    /// Of the embedded store.
    Embedded(embedded::Watch),
    /// Of etcd.
    Etcd(Box<etcd::Watch>),
}

impl Watch {
    /// Waits for the next batch: changes, or now and then an empty one that tells how far the watch has come. Cancel safe.
    ///
    /// Ends with [`crate::Error::Compacted`] when the next event was compacted before it was asked for: a watch holds no
    /// events of its own in memory. Ends with [`crate::Error::Unavailable`] when etcd cannot be reached; then resume after
    /// the revision of the last batch.
    pub async fn next(&mut self) -> Result<Batch> {
        match self {
            Self::Embedded(watch) => watch.next().await,
            Self::Etcd(watch) => watch.next().await,
        }
    }

    /// A handle by which others ask how far this watch has come.
    pub fn prompt(&self) -> Prompt {
        match self {
            Self::Embedded(watch) => Prompt::Embedded(watch.prompt()),
            Self::Etcd(watch) => Prompt::Etcd(watch.prompt()),
        }
    }
}

/// Asks a [`Watch`] to report progress at once. Cloning gives another handle to the same watch.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Of the embedded store.
    Embedded(embedded::Prompt),
    /// Of etcd.
    Etcd(etcd::Prompt),
}

impl Prompt {
    /// Makes [`Watch::next`] answer soon, with a batch whose revision is at least the store's at this moment. A member of etcd
    /// may lag behind the others: then ask again. Without being asked a quiet watch reports every few seconds.
    pub fn ask(&self) {
        match self {
            Self::Embedded(prompt) => prompt.ask(),
            Self::Etcd(prompt) => prompt.ask(),
        }
    }
}
