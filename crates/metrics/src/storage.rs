//! Where samples go to and come from: the data base, shared by all parts.
//!
//! ```text
//!   scrape, rules, remote write ──▶ append ──▶ data base
//!                                     └──▶ watchers: what is to be sent on
//!   queries ─────────────────────▶ select ◀── data base, and others who have samples
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

use promql::{
    matcher::Matcher,
    storage::{Hints, Selection, StorageError},
};
use tsdb::{
    Db, SeriesRef,
    batch::{Batch, Durability, Of, Outcome},
    labels::Labels,
};

use crate::{
    remote::read::{Found, Merged},
    summary,
};

/// Is told of what was appended.
pub trait Watcher: Send + Sync {
    /// A batch that was committed, with what was not taken of it. Called before the sender of the samples is answered;
    /// an error is what it is told.
    fn appended(&self, db: &Db, batch: &Batch, outcome: &Outcome, durability: Durability) -> anyhow::Result<()>;
}

/// Has samples that are asked for beside those of the data base.
pub trait Elsewhere: Send + Sync {
    /// Series that fulfil all conditions; none if it need not be asked. An error is told as a warning. Blocks the thread.
    fn select(&self, matchers: &[Matcher], hints: &Hints) -> Result<Option<Found>, String>;
}

/// The data base, shared. Clones are the same.
#[derive(Clone)]
pub struct Storage(Arc<Shared>);

struct Shared {
    db: Db,
    watchers: RwLock<Vec<Arc<dyn Watcher>>>,
    elsewhere: RwLock<Vec<Arc<dyn Elsewhere>>>,
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
            elsewhere: RwLock::default(),
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

    /// Has `elsewhere` asked in each query from now on, in place of those before.
    pub fn read_elsewhere(&self, elsewhere: Vec<Arc<dyn Elsewhere>>) {
        *self.0.elsewhere.write().unwrap_or_else(PoisonError::into_inner) = elsewhere;
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
    fn select<'a>(&'a self, matchers: &[Matcher], hints: &Hints) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let here = promql::storage::Storage::select(&self.0.db, matchers, hints)?;
        let elsewhere = self.0.elsewhere.read().unwrap_or_else(PoisonError::into_inner).clone();
        if elsewhere.is_empty() {
            return Ok(here);
        }
        let (mut found, mut warnings) = (Found::new(), Vec::new());
        // Side by side: each may take as long as it is allowed to.
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = |one: Arc<dyn Elsewhere>| move || one.select(matchers, hints);
            let asked: Vec<_> = elsewhere.into_iter().map(|one| scope.spawn(ask(one))).collect();
            asked.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for answer in answers {
            match answer {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(more))) if found.is_empty() => found = more,
                Ok(Ok(Some(more))) => {
                    more.into_iter().for_each(|(labels, pieces)| found.entry(labels).or_default().extend(pieces));
                }
                Ok(Err(warning)) => warnings.push(warning),
                Err(_) => warnings.push("remote_read: unexpected error".to_owned()),
            }
        }
        if found.is_empty() && warnings.is_empty() {
            return Ok(here);
        }
        Ok(Box::new(Merged::new(here, found, hints, warnings)))
    }
}
