//! Watches, whichever implementation they come from.

use crate::{Batch, Result, embedded};

/// The changes under a prefix, in revision order. It ends with the first error.
#[derive(Debug)]
pub enum Watch {
    /// Of the embedded store.
    Embedded(embedded::Watch),
}

impl Watch {
    /// Waits for the next batch: changes, or now and then an empty one that tells how far the watch has come. Cancel safe.
    ///
    /// A watch holds no events of its own in memory: one whose next event was compacted before it was asked for ends with
    /// [`crate::Error::Compacted`].
    pub async fn next(&mut self) -> Result<Batch> {
        match self {
            Self::Embedded(watch) => watch.next().await,
        }
    }

    /// A handle by which others ask how far this watch has come.
    pub fn prompt(&self) -> Prompt {
        match self {
            Self::Embedded(watch) => Prompt::Embedded(watch.prompt()),
        }
    }
}

/// Asks a [`Watch`] to report progress at once. Cloning gives another handle to the same watch.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Of the embedded store.
    Embedded(embedded::Prompt),
}

impl Prompt {
    /// Makes [`Watch::next`] answer soon, with a batch whose revision is at least the store's at this moment. Without it a
    /// quiet watch reports every few seconds.
    pub fn ask(&self) {
        match self {
            Self::Embedded(prompt) => prompt.ask(),
        }
    }
}
