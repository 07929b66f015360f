//! Watches: readers of the shared history, woken when something under their prefix changed.
//!
//! ```text
//!           seen          unseen                revision
//! history ────┼─────────────●───────○──────────────┤        ● first change under the prefix that was not read yet
//! ```
//!
//! A watch has no queue. It remembers how far it has read and takes the rest from the index's history, which all watches
//! share; so a slow one costs nothing. When the history it had yet to read was compacted, it ends with
//! [`Error::Compacted`]. One that has nothing to read is not harmed by a compaction: `unseen` tells the two apart.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{Batch, Error, Result, Revision};

use super::{Shared, index::Index};

/// Events after which a batch ends.
const EVENTS: usize = 1000;
/// Changes that are looked at in one go, with the index locked.
const STEPS: usize = 20_000;

/// All watches of a store.
#[derive(Debug, Default)]
pub struct Hub(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    watchers: HashMap<Box<[u8]>, Vec<Arc<Watcher>>>,
    /// The distinct lengths of the prefixes: few, since prefixes are alike.
    lengths: Vec<usize>,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    /// What changes up to here is not of interest.
    after: u64,
    /// The first change that was not read yet; 0: none. Changed only with the index locked.
    unseen: AtomicU64,
    prompted: AtomicBool,
    wake: Notify,
}

impl Hub {
    /// Tells the watches of `key` that `revision` changes it. The index must be locked for writing.
    pub fn touch(&self, key: &str, revision: u64) {
        let inner = self.0.lock().expect("watch hub lock");
        for length in &inner.lengths {
            let Some(watchers) = key.as_bytes().get(..*length).and_then(|prefix| inner.watchers.get(prefix)) else {
                continue;
            };
            for watcher in watchers.iter().filter(|watcher| revision > watcher.after) {
                if watcher.unseen.compare_exchange(0, revision, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    watcher.wake.notify_one();
                }
            }
        }
    }

    /// Ends all watches.
    pub fn close(&self) {
        let mut inner = self.0.lock().expect("watch hub lock");
        inner.closed = true;
        inner.watchers.values().flatten().for_each(|watcher| watcher.wake.notify_one());
    }

    /// How many watches there are.
    pub fn len(&self) -> usize {
        self.0.lock().expect("watch hub lock").watchers.values().map(Vec::len).sum()
    }

    fn add(&self, watcher: Arc<Watcher>) {
        let mut inner = self.0.lock().expect("watch hub lock");
        inner.watchers.entry(watcher.prefix.as_bytes().into()).or_default().push(watcher);
        inner.measure();
    }

    fn remove(&self, watcher: &Arc<Watcher>) {
        let mut inner = self.0.lock().expect("watch hub lock");
        let prefix = watcher.prefix.as_bytes();
        if let Some(watchers) = inner.watchers.get_mut(prefix) {
            watchers.retain(|other| !Arc::ptr_eq(other, watcher));
            if watchers.is_empty() {
                inner.watchers.remove(prefix);
                inner.measure();
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.0.lock().expect("watch hub lock").closed
    }
}

impl Inner {
    fn measure(&mut self) {
        self.lengths = self.watchers.keys().map(|prefix| prefix.len()).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }
}

/// A watch of the embedded store.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// Everything up to here was read.
    seen: u64,
    /// The revision of the last batch.
    reported: u64,
}

/// Asks a watch of the embedded store for progress.
#[derive(Clone, Debug)]
pub struct Prompt(Arc<Watcher>);

impl Prompt {
    /// See [`crate::Prompt::ask`].
    pub fn ask(&self) {
        self.0.prompted.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

impl Watch {
    /// Begins a watch of `prefix` after a revision.
    pub(super) fn begin(shared: &Arc<Shared>, prefix: &str, after: u64) -> Result<Self> {
        let index = shared.index();
        if after < index.compacted() {
            return Err(Error::Compacted { oldest: Revision::new(index.compacted()) });
        }
        let unseen = index.first_change(prefix, after).unwrap_or(0);
        let watcher = Arc::new(Watcher {
            prefix: prefix.into(),
            after,
            unseen: unseen.into(),
            prompted: false.into(),
            wake: Notify::new(),
        });
        // Still with the index locked, so that no change falls between the two.
        shared.hub.add(watcher.clone());
        Ok(Self { shared: shared.clone(), watcher, seen: after, reported: after })
    }

    /// See [`crate::Watch::prompt`].
    pub fn prompt(&self) -> Prompt {
        Prompt(self.watcher.clone())
    }

    /// See [`crate::Watch::next`].
    pub async fn next(&mut self) -> Result<Batch> {
        let interval = self.shared.options.progress;
        loop {
            if let Some(batch) = self.step()? {
                self.reported = batch.revision.get();
                return Ok(batch);
            }
            let woken = tokio::time::timeout(interval.max(Duration::from_millis(1)), self.watcher.wake.notified());
            if woken.await.is_err() && self.shared.index().revision() > self.reported {
                self.watcher.prompted.store(true, Ordering::Release);
            }
        }
    }

    /// The next batch, if there is one now.
    fn step(&mut self) -> Result<Option<Batch>> {
        loop {
            if self.shared.hub.is_closed() {
                return Err(Error::Unavailable("it was closed".into()));
            }
            let shared = self.shared.clone();
            let index = shared.index();
            let unseen = self.watcher.unseen.load(Ordering::Relaxed);
            if unseen == 0 {
                let prompted = self.watcher.prompted.swap(false, Ordering::Acquire);
                self.seen = self.seen.max(index.revision());
                let revision = Revision::new(index.revision());
                return Ok(prompted.then_some(Batch { revision, events: Vec::new() }));
            }
            if unseen <= index.compacted() {
                return Err(Error::Compacted { oldest: Revision::new(index.compacted()) });
            }
            if let Some(batch) = self.read(&index, unseen) {
                return Ok(Some(batch));
            }
        }
    }

    fn read(&mut self, index: &Index, unseen: u64) -> Option<Batch> {
        let (events, through) = index.changes(&self.watcher.prefix, self.seen.max(unseen - 1), EVENTS, STEPS);
        self.seen = through;
        let complete = through >= index.revision();
        self.watcher.unseen.store(if complete { 0 } else { through + 1 }, Ordering::Relaxed);
        if complete && !events.is_empty() {
            // The batch is the progress that was asked for.
            self.watcher.prompted.store(false, Ordering::Relaxed);
        }
        (!events.is_empty()).then(|| Batch { revision: Revision::new(through), events })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.hub.remove(&self.watcher);
    }
}
