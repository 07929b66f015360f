//! The embedded store: everything in memory, and on disk as a checkpoint and the log after it.
//!
//! ```text
//!              commit                                        get, range, watch
//!                │                                                  ▲
//!              queue ──▶ writer ──▶ log (synced) ──▶ index ─────────┘
//!                                    ▲                 │
//!                          supplier ─┘      keeper ◀───┴──▶ checkpoint
//!                (next segment ready)      (sweeps, checkpoints)
//!
//! directory (mode 0700)
//!   lock                 held while open
//!   synced               the end mark: how far the log was synced
//!   checkpoint-N         the state after group N
//!   log-M, log-M+1 …     the groups after it; spare-K: segments to be used again
//! ```
//!
//! Opening reads the checkpoint and what the log has after it. A tail that a crash tore off is dropped, since it was never
//! acknowledged; anything else that is not as it was written is [`Error::Damaged`], see `recover`.

use std::{
    fmt,
    ops::Bound,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Backup, Entry, Error, Op, Outcome, Page, Result, Revision, Txn};

pub(crate) mod checkpoint;
pub(crate) mod frame;
mod hub;
pub(crate) mod index;
mod keeper;
mod lock;
mod log;
mod mark;
#[cfg(test)]
mod random;
pub(crate) mod record;
mod recover;
mod rescue;
mod segment;
mod writer;

pub use hub::{Prompt, Watch};
pub use rescue::{Lost, Restored, Salvaged, check, restore, salvage};

use index::{Collected, Index, Next};
use writer::Work;

/// Keys that a range looks at with the index locked.
const STEPS: usize = 2000;

/// How an embedded store behaves. The defaults are what Madang uses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of a log segment in bytes; a multiple of 4096, and at least 4 MiB.
    pub segment_bytes: u64,
    /// Bytes of log after which a checkpoint is written, or as many as the last checkpoint has if that is more.
    pub checkpoint_bytes: u64,
    /// Bytes of superseded versions that are held in memory for reads and watches of the past. Beyond it the older half is
    /// compacted without being asked.
    pub history_bytes: u64,
    /// How often a watch that sees no changes reports progress.
    pub progress: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            checkpoint_bytes: 32 << 20,
            history_bytes: 256 << 20,
            progress: Duration::from_secs(5),
        }
    }
}

/// What an embedded store holds and has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys, those whose deletion is still in the history too.
    pub keys: u64,
    /// Bytes of all versions in memory.
    pub bytes: u64,
    /// Bytes of those that a newer version supersedes, kept until they are compacted.
    pub history_bytes: u64,
    /// Bytes of log that the last checkpoint does not include.
    pub log_bytes: u64,
    /// Bytes of the last checkpoint.
    pub checkpoint_bytes: u64,
    /// Transactions and compactions written.
    pub writes: u64,
    /// Syncs that they took.
    pub syncs: u64,
    /// Time that those syncs took.
    pub sync_time: Duration,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Time that those took, in the background.
    pub checkpoint_time: Duration,
    /// Open watches.
    pub watches: u64,
}

/// An open embedded store. Cloning gives another handle; dropping the last one closes the store.
#[derive(Clone)]
pub struct Engine(Arc<Open>);

struct Open {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    supplier: Mutex<Option<segment::Supplier>>,
    _lock: lock::Lock,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    id: frame::StoreId,
    options: Options,
    index: RwLock<Index>,
    queue: writer::Queue,
    hub: hub::Hub,
    keeper: keeper::Keeper,
    supply: Arc<segment::Supply>,
    stats: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    checkpoints: AtomicU64,
    checkpoint_nanos: AtomicU64,
}

impl Counters {
    fn synced(&self, writes: usize, took: Duration) {
        self.writes.fetch_add(writes as u64, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn checkpointed(&self, took: Duration) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.checkpoint_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Shared {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("index lock")
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("dir", &self.0.shared.dir).field("revision", &self.revision()).finish()
    }
}

impl Engine {
    /// See [`crate::Store::embedded`].
    pub async fn open(dir: &Path, options: Options) -> Result<Self> {
        let dir = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(&dir, options));
        opened.await.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// The same on the caller's thread.
    pub fn open_blocking(dir: &Path, options: Options) -> Result<Self> {
        if options.segment_bytes < 2 * frame::PAYLOAD as u64
            || !options.segment_bytes.is_multiple_of(frame::BLOCK as u64)
        {
            return Err(Error::Invalid(format!("a log segment of {} bytes", options.segment_bytes)));
        }
        let lock = lock::Lock::take(dir)?;
        let found = recover::recover(dir)?;
        let at = found.index.place();
        let keep = (options.checkpoint_bytes / options.segment_bytes + 1) as usize;
        let next = found.segment.as_ref().map_or(at.segment.max(1), |segment| segment.number + 1);
        let supply = Arc::new(segment::Supply::new(dir, options.segment_bytes, keep, next, found.ready, found.spare));
        let supplier = segment::Supplier::start(supply.clone()).map_err(|error| Error::io("start a thread", error))?;
        let (segment, at) = match found.segment {
            Some(segment) => (segment, at),
            None => {
                let segment = supply.take()?;
                let at = record::Place { segment: segment.number, position: 0, ..at };
                (segment, at)
            }
        };
        let log = log::Log::new(dir, found.id, segment, at, found.mark, supply.clone());
        supply.retire(found.obsolete);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            id: found.id,
            options,
            index: RwLock::new(found.index),
            queue: writer::Queue::default(),
            hub: hub::Hub::default(),
            keeper: keeper::Keeper::new(found.checkpoint, found.checkpoint_bytes, found.logged),
            supply,
            stats: Counters::default(),
        });
        let mut open =
            Open { shared: shared.clone(), writer: None, keeper: None, supplier: Some(supplier).into(), _lock: lock };
        let failed = |error| Error::io("start a thread", error);
        let kept = shared.clone();
        let keeper = std::thread::Builder::new().name("store-keeper".into()).spawn(move || keeper::run(&kept));
        open.keeper = Some(keeper.map_err(failed)?);
        let writer = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer::run(&shared, log));
        open.writer = Some(writer.map_err(failed)?);
        Ok(Self(Arc::new(open)))
    }

    /// See [`crate::Store::get`].
    pub fn get(&self, key: &str) -> Result<(Option<Entry>, Revision)> {
        let index = self.0.shared.index();
        Ok((index.get(key), Revision::new(index.revision())))
    }

    /// See [`crate::Store::range`].
    pub fn range(&self, prefix: &str, from: Option<&str>, at: Option<Revision>, limit: usize) -> Result<Page> {
        let shared = &self.0.shared;
        let start = from.filter(|from| *from > prefix).unwrap_or(prefix);
        'again: loop {
            let mut page = Collected::default();
            let mut revision = at;
            let mut last: Option<Arc<str>> = None;
            loop {
                // Locked anew for every step, so that a long range does not hold up the writer.
                let index = shared.index();
                let revision = revision.get_or_insert(Revision::new(index.revision())).get();
                if revision > index.revision() {
                    return Err(Error::FutureRevision { asked: Revision::new(revision) });
                }
                if revision < index.compacted() {
                    if at.is_none() {
                        continue 'again;
                    }
                    return Err(Error::Compacted { oldest: Revision::new(index.compacted()) });
                }
                let bound = last.as_deref().map_or(Bound::Included(start), Bound::Excluded);
                match index.collect(prefix, bound, revision, limit, STEPS, &mut page) {
                    Next::After(key) => last = Some(key),
                    Next::Done => {
                        let more = page.count > page.entries.len() as u64;
                        let revision = Revision::new(revision);
                        return Ok(Page { revision, entries: page.entries, more, count: page.count });
                    }
                }
            }
        }
    }

    /// See [`crate::Store::commit`].
    pub async fn commit(&self, mut txn: Txn) -> Result<Outcome> {
        txn.check()?;
        for op in &mut txn.ops {
            if let Op::Put { value, .. } = op {
                // What is given may be a small part of a large buffer, which would be held as long as the value is.
                *value = Bytes::copy_from_slice(value);
            }
        }
        self.submit(Work::Txn(txn)).await
    }

    /// See [`crate::Store::watch`].
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        Watch::begin(&self.0.shared, prefix, after.get())
    }

    /// See [`crate::Store::revision`].
    pub fn revision(&self) -> Revision {
        Revision::new(self.0.shared.index().revision())
    }

    /// See [`crate::Store::compact`].
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        self.submit(Work::Compact(revision)).await.map(drop)
    }

    /// See [`crate::Store::backup`].
    pub async fn backup(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<Backup> {
        let answer = self.0.shared.keeper.ask()?;
        let written = answer.await.map_err(|_| Error::Unavailable("its keeper ended".into()))??;
        let failed = |error| Error::io("write the backup", error);
        let mut at = 0;
        while at < written.bytes {
            let file = written.file.clone();
            let chunk = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; (written.bytes - at).min(1 << 20) as usize];
                file.read_exact_at(&mut chunk, at).map(|()| chunk)
            });
            let chunk = chunk.await.map_err(|error| Error::Unavailable(error.to_string()))?;
            let chunk = chunk.map_err(|error| Error::io("read the checkpoint to back up", error))?;
            out.write_all(&chunk).await.map_err(failed)?;
            at += chunk.len() as u64;
        }
        out.flush().await.map_err(failed)?;
        Ok(Backup { revision: Revision::new(written.head.revision), bytes: at })
    }

    /// What it holds and has done.
    pub fn stats(&self) -> Stats {
        let shared = &self.0.shared;
        let (keys, (bytes, history_bytes)) = {
            let index = shared.index();
            (index.len() as u64, index.weight())
        };
        let (log_bytes, checkpoint_bytes) = shared.keeper.sizes();
        let counters = &shared.stats;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            keys,
            bytes,
            history_bytes,
            log_bytes,
            checkpoint_bytes,
            writes: count(&counters.writes),
            syncs: count(&counters.syncs),
            sync_time: Duration::from_nanos(count(&counters.sync_nanos)),
            checkpoints: count(&counters.checkpoints),
            checkpoint_time: Duration::from_nanos(count(&counters.checkpoint_nanos)),
            watches: shared.hub.len() as u64,
        }
    }

    async fn submit(&self, work: Work) -> Result<Outcome> {
        let answer = self.0.shared.queue.submit(work)?;
        answer.await.map_err(|_| Error::Unavailable("its writer ended".into()))?
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.hub.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        self.shared.keeper.close();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        drop(self.supplier.lock().expect("supplier lock").take());
    }
}

fn damaged(file: &Path, offset: u64, reason: impl fmt::Display) -> Error {
    Error::Damaged {
        file: file.to_owned(),
        offset,
        reason: reason.to_string(),
        way_out: "`madang restore` builds a store from a backup, or from all of this one that can still be read".into(),
    }
}
