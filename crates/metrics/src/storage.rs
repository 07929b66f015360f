//! Where samples go to and come from: the data base, shared by all parts.
//!
//! ```text
//!   scrape, rules, remote write ──▶ append ──▶ data base
//!                                     └──▶ watchers: what is to be sent on
//! ```
//!
//! A sample is acknowledged when [`Storage::append`] returns. It blocks the thread for a write to the log, so parts that
//! append call it from a thread that may block (`tokio::task::spawn_blocking`).

use std::{
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use promql::storage::{Hints, Selection, StorageError};
use tsdb::{
    Db, SeriesRef,
    batch::{Batch, Durability, Of, Outcome},
    labels::Labels,
};

use crate::summary;

/// Is told of what was appended.
pub trait Watcher: Send + Sync {
    /// A batch that was committed, with what was not taken of it. Called before the sender of the samples is answered;
    /// an error is what it is told.
    fn appended(&self, db: &Db, batch: &Batch, outcome: &Outcome, durability: Durability) -> anyhow::Result<()>;
}

/// The data base, shared. Clones are the same.
#[derive(Clone)]
pub struct Storage(Arc<Shared>);

struct Shared {
    db: Db,
    watchers: RwLock<Vec<Arc<dyn Watcher>>>,
    floats: AtomicU64,
    histograms: AtomicU64,
}

/// Why samples could not be appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The data base refused.
    #[error(transparent)]
    Storage(#[from] tsdb::Error),
    /// They could not be queued for those that they are sent to.
    #[error("queue samples for remote write: {0:#}")]
    Watcher(anyhow::Error),
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

impl Storage {
    /// Shares a data base.
    pub fn new(db: Db) -> Self {
        Self(Arc::new(Shared {
            db,
            watchers: RwLock::default(),
            floats: AtomicU64::new(0),
            histograms: AtomicU64::new(0),
        }))
    }

    /// The data base itself, for everything that does not append.
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// The series with these labels, made if need be.
    pub fn series(&self, labels: &Labels) -> tsdb::Result<SeriesRef> {
        self.0.db.series(labels)
    }

    /// Appends a batch; blocks the thread.
    pub fn append(&self, batch: &Batch, durability: Durability) -> Result<Outcome, AppendError> {
        let outcome = self.0.db.commit(batch, durability)?;
        let refused = |floats: bool| {
            let of = |of: &Of| matches!(of, Of::Float(_)) == floats;
            outcome.rejected.iter().filter(|(place, _)| of(place)).count()
        };
        for (counter, count, floats) in
            [(&self.0.floats, batch.floats().len(), true), (&self.0.histograms, batch.histograms().len(), false)]
        {
            counter.fetch_add(count.saturating_sub(refused(floats)) as u64, Ordering::Relaxed);
        }
        let watchers = self.0.watchers.read().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter() {
            watcher.appended(&self.0.db, batch, &outcome, durability).map_err(AppendError::Watcher)?;
        }
        Ok(outcome)
    }

    /// Adds what was appended, in the text format.
    pub fn expose(&self, out: &mut String) {
        let name = "prometheus_tsdb_head_samples_appended_total";
        summary::head(name, "counter", "Samples that were appended.", out);
        for (kind, counter) in [("float", &self.0.floats), ("histogram", &self.0.histograms)] {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{name}{{type=\"{kind}\"}} {}", counter.load(Ordering::Relaxed));
        }
    }

    /// Has `watchers` told of all batches from now on, in place of those before.
    pub fn watch(&self, watchers: Vec<Arc<dyn Watcher>>) {
        *self.0.watchers.write().unwrap_or_else(PoisonError::into_inner) = watchers;
    }

    /// Ends the data base if nobody else has it any more; else it ends with the last who has.
    pub fn close(self) -> tsdb::Result<()> {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => shared.db.close(),
            Err(shared) => shared.db.sync(),
        }
    }
}

impl promql::storage::Storage for Storage {
    fn select<'a>(
        &'a self,
        matchers: &[promql::matcher::Matcher],
        hints: &Hints,
    ) -> Result<Box<dyn Selection + 'a>, StorageError> {
        promql::storage::Storage::select(&self.0.db, matchers, hints)
    }
}
