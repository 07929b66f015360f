//! What each repository has: tags, manifests, blobs.
//!
//! ```text
//! commit ─► journal: appended, synced with all that wait ─► acknowledged
//!      └──► state in memory: every question is answered from it
//! ```
//!
//! A change is in memory from the moment it is in the journal's file, and acknowledged once the disk has it.

use std::{
    path::Path,
    sync::{Arc, Mutex, RwLock, RwLockReadGuard},
};

use anyhow::{Context, Result};
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::manifest::Entry;
use journal::Journal;
pub(crate) use state::{Manifest, Repository, State};

mod journal;
mod state;

#[cfg(test)]
mod tests;

/// One change to what the repositories have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// The repository has a blob.
    Link { repository: String, blob: Entry },
    /// It no longer has it.
    Unlink { repository: String, digest: Digest },
    /// It has a manifest.
    Store { repository: String, digest: Digest, manifest: Manifest },
    /// It no longer has it, nor the tags that lead to it.
    Forget { repository: String, digest: Digest },
    /// A tag leads to a manifest.
    Tag { repository: String, tag: String, digest: Digest },
    /// A tag is gone.
    Untag { repository: String, tag: String },
}

/// All repositories. Clones are the same.
#[derive(Clone)]
pub(crate) struct Index(Arc<Inner>);

struct Inner {
    state: RwLock<State>,
    journal: Mutex<Journal>,
    syncer: journal::Syncer,
}

impl Index {
    /// Opens the index in `dir`, and makes it if need be.
    pub async fn open(dir: &Path) -> Result<Self> {
        let dir = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let (journal, state) = Journal::open(&dir).with_context(|| format!("open index {}", dir.display()))?;
            let syncer = journal::Syncer::default();
            anyhow::Ok(Self(Arc::new(Inner { state: RwLock::new(state), journal: Mutex::new(journal), syncer })))
        });
        opened.await.context("open index")?
    }

    /// What there is.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().expect("index lock")
    }

    /// Makes changes, all of them or none; they are on the disk when this returns.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let index = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let file = {
                let mut journal = index.0.journal.lock().expect("journal lock");
                let mut state = index.0.state.write().expect("index lock");
                let fresh: Vec<Change> = changes.into_iter().filter(|change| state.lacks(change)).collect();
                if !fresh.is_empty() {
                    journal.append(&fresh)?;
                    for change in fresh {
                        state.apply(change);
                    }
                    // What is dead is left out before it is more than what lives.
                    journal.shrink(&state)?;
                }
                journal.file()
            };
            // Also when nothing was new: what was there may not be on the disk yet.
            index.0.syncer.sync(&file).context("sync index")
        });
        done.await.context("change index")?
    }
}
