//! The data base: opening and closing, series, commits, selections, deletions.
//!
//! ```text
//!   lock                       one process at a time
//!   wal/ series/ head/         the head
//!   blocks/ snapshots/         what is older
//! ```
//!
//! Two threads belong to it: one syncs the log, one flushes, merges and compacts (see `upkeep`). Both sleep while nothing
//! is appended.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    batch::{Batch, Durability, Outcome},
    block::Block,
    catalog::SeriesRef,
    error::{Error, Result},
    file,
    flush::Flush,
    head::{Head, Writer},
    labels::Labels,
    log::{self, Growing, Syncer},
    matcher::{self, Matcher},
    options::{Bounds, Options},
    record::{self, kind},
    recover::{self, Dirs, Report},
    sample::Exemplar,
    select::{Collector, Selection, Which},
    upkeep,
};

/// How long a commit waits at most for the disk to catch up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many times more samples than usual are in memory before commits wait.
const CROWDED: usize = 2;

/// What the threads and all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: Options,
    pub bounds: RwLock<Bounds>,
    pub root: PathBuf,
    pub dirs: Dirs,
    pub writer: Mutex<Writer>,
    pub head: RwLock<Head>,
    pub blocks: RwLock<Arc<Vec<Arc<Block>>>>,
    pub syncer: Syncer,
    pub work: Mutex<Work>,
    pub changed: Condvar,
    /// Held by whoever flushes, merges, compacts or removes.
    pub upkeep: Mutex<()>,
    /// From this time on the head has enough for a block.
    pub compact_at: AtomicI64,
    /// Some block may have its index in memory.
    pub indexed: AtomicBool,
    /// A flush that is not finished.
    pub flush: Mutex<Option<Flush>>,
    /// What was done since the start.
    pub done: Done,
}

/// Counts what is done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub triggered: AtomicU64,
    pub compactions: AtomicU64,
    pub failed: AtomicU64,
    pub created: AtomicU64,
    pub removed: AtomicU64,
}

impl Done {
    /// Counts something once more.
    pub fn count(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// What the thread of `upkeep` is told.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub wanted: bool,
    pub closed: bool,
    /// How many rounds have been finished.
    pub rounds: u64,
}

/// Samples of time series on disk.
#[derive(Debug)]
pub struct Db {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(Error::io(|| format!("open {}", path.display())))?;
    // A process that was just ended may hold it for a moment.
    for _ in 0..15 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(error)) => return Err(Error::io(|| format!("lock {}", path.display()))(error)),
        }
    }
    Err(Error::Locked { dir: root.to_owned() })
}

impl Db {
    /// Opens the data base in a directory, which is made where it is absent. What is damaged is left out and reported.
    pub fn open(root: &Path, options: Options) -> Result<(Self, Report)> {
        file::make_dir(root)?;
        let lock = lock(root)?;
        let dirs = Dirs::of(root);
        dirs.prepare()?;
        let mut report = Report::default();
        let blocks = upkeep::open_blocks(&dirs.blocks, &mut report)?;
        let boundary = upkeep::boundary(&dirs, &blocks);
        let (head, writer) = recover::recover(&dirs, options.exemplars, boundary, &mut report)?;
        let compact_at = upkeep::compact_at(&head, &options);
        let shared = Arc::new(Shared {
            bounds: RwLock::new(options.bounds()),
            options,
            root: root.to_owned(),
            dirs,
            writer: Mutex::new(writer),
            head: RwLock::new(head),
            blocks: RwLock::new(Arc::new(blocks)),
            syncer: Syncer::default(),
            work: Mutex::default(),
            changed: Condvar::new(),
            upkeep: Mutex::default(),
            compact_at: AtomicI64::new(compact_at),
            indexed: AtomicBool::new(false),
            flush: Mutex::default(),
            done: Done::default(),
        });
        let thread = |name: &str, run: fn(&Shared)| {
            let shared = shared.clone();
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
            spawned.map_err(Error::io(|| format!("start thread {name}")))
        };
        let threads = vec![
            thread("tsdb-sync", |shared| shared.syncer.run(shared.options.sync))?,
            thread("tsdb-upkeep", upkeep::run)?,
        ];
        let db = Self { shared, threads, _lock: lock };
        db.shared.check();
        Ok((db, report))
    }

    /// Finds the series with these labels, or makes it. The reference is good until the series has had no samples for
    /// some hours.
    pub fn series(&self, labels: &Labels) -> Result<SeriesRef> {
        if let Some(found) = self.shared.head().catalog.find(labels) {
            return Ok(found);
        }
        let made = self.series_of(std::slice::from_ref(labels))?;
        made.first().copied().ok_or(Error::Closed)
    }

    /// As [`Self::series`], for many at once.
    pub fn series_of(&self, labels: &[Labels]) -> Result<Vec<SeriesRef>> {
        let mut writer = self.shared.writer();
        let mut head = self.shared.head_mut();
        let mut created = 0;
        let made = labels.iter().map(|labels| {
            if let Some(found) = head.catalog.find(labels) {
                return Ok(found);
            }
            check_labels(labels)?;
            let reference = head.catalog.add(labels)?;
            created += 1;
            writer.unlisted.push(reference.slot);
            if let Some(state) = writer.states.get_mut(reference.slot as usize) {
                *state = crate::head::State::new(reference.generation);
            }
            Ok(reference)
        });
        let made = made.collect();
        Done::count(&self.shared.done.created, created);
        writer.reach(&head.catalog);
        let slots = head.catalog.slots();
        head.recent.reach(slots);
        made
    }

    /// The labels of a series of the head.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let head = self.shared.head();
        (head.catalog.reference(series.slot) == Some(series)).then(|| head.catalog.labels_of(series.slot))
    }

    /// Appends a batch: all of it that fits is in the log and visible afterwards, and on disk if that is asked for.
    /// Blocks the thread; with [`Durability::Synced`] for the time of a disk write.
    pub fn commit(&self, batch: &Batch, durability: Durability) -> Result<Outcome> {
        let shared = &*self.shared;
        let mut writer = shared.writer();
        if writer.closed {
            return Err(Error::Closed);
        }
        if writer.broken {
            shared.rotate(&mut writer)?;
            shared.rotate_list(&mut writer)?;
            writer.broken = false;
        }
        let window = crate::options::millis(shared.bounds().out_of_order);
        let (mut outcome, commit) = {
            let head = shared.head();
            let outcome = writer.admit(batch, &head, window)?;
            let listed = !writer.unlisted.is_empty();
            let logged = writer.write(&head)?;
            let list = listed.then_some(&writer.list);
            (outcome, (logged || listed).then(|| shared.syncer.written(list, &writer.log)))
        };
        let weight = {
            let mut head = shared.head_mut();
            writer.apply(batch, &mut head, &mut outcome);
            head.recent.weight()
        };
        let (series, newest) = (writer.states.len(), writer.newest);
        drop(writer);
        let limit = shared.limit(series);
        if weight >= limit || newest >= shared.compact_at.load(Ordering::Relaxed) {
            shared.wake();
        }
        if weight >= CROWDED * limit {
            shared.wait_for_room(limit)?;
        }
        if durability == Durability::Synced || shared.options.sync.is_zero() {
            // What was there already may be in an earlier commit that is not synced yet.
            let last = commit.unwrap_or_else(|| shared.syncer.last());
            shared.syncer.wait(last)?;
        }
        Ok(outcome)
    }

    /// What is kept, and how late samples may come.
    pub fn bounds(&self) -> Bounds {
        self.shared.bounds()
    }

    /// Changes what is kept, and how late samples may come. What is not kept any longer goes in the background.
    pub fn set_bounds(&self, bounds: Bounds) {
        let former = {
            let mut held = self.shared.bounds.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, bounds)
        };
        if former.exemplars != bounds.exemplars {
            self.shared.head_mut().exemplars.resize(bounds.exemplars);
        }
        let kept = |bounds: Bounds| (bounds.retention, bounds.retention_bytes, bounds.retention_percentage);
        if kept(former) != kept(bounds) {
            self.shared.wake();
        }
    }

    /// Waits until everything that was committed is on disk.
    pub fn sync(&self) -> Result<()> {
        self.shared.syncer.wait(self.shared.syncer.last())
    }

    /// The series that match all of `matchers` and may have samples from `min` to `max`, both included, each once and in no
    /// order: sorting them takes longer than finding them.
    pub fn select(&self, matchers: &[Matcher], min: i64, max: i64) -> Result<Selection> {
        self.collect(matchers, Collector::new(min, max)).map(Collector::finish)
    }

    /// As [`Self::select`], in order of the labels.
    pub fn select_sorted(&self, matchers: &[Matcher], min: i64, max: i64) -> Result<Selection> {
        self.collect(matchers, Collector::new(min, max)).map(Collector::finish_sorted)
    }

    /// The labels of the series that [`Self::select`] would find, in no order, without their samples.
    pub fn series_labels(&self, matchers: &[Matcher], min: i64, max: i64) -> Result<Vec<Labels>> {
        self.collect(matchers, Collector::new(min, max).labels_only()).map(Collector::into_labels)
    }

    fn collect(&self, matchers: &[Matcher], mut collector: Collector) -> Result<Collector> {
        let shared = &*self.shared;
        let (min, max) = collector.range();
        let touched = |block: &&Arc<Block>| block.meta.min_time <= max && block.meta.max_time > min;
        collector.add_head(&shared.head(), matchers, Which::All);
        for block in shared.blocks().iter().filter(touched) {
            collector.distinguish();
            shared.indexed.store(true, Ordering::Relaxed);
            if let Err(error) = collector.add_block(block, matchers) {
                tracing::error!("{error}; block {} is left out of a query", block.meta.ulid);
            }
        }
        Ok(collector)
    }

    /// Exemplars from `min` to `max` of the series that match all matchers of any of the lists.
    pub fn exemplars(&self, lists: &[&[Matcher]], min: i64, max: i64) -> Vec<(Labels, Vec<Exemplar>)> {
        let head = self.shared.head();
        let mut slots: Vec<u32> = lists.iter().flat_map(|matchers| matcher::find(&head.catalog, matchers)).collect();
        slots.sort_unstable();
        slots.dedup();
        let within = |exemplar: &&Exemplar| exemplar.timestamp.is_none_or(|time| (min..=max).contains(&time));
        let mut found: Vec<(Labels, Vec<Exemplar>)> = slots
            .into_iter()
            .map(|slot| (slot, head.exemplars.of(slot).filter(within).cloned().collect::<Vec<_>>()))
            .filter(|(_, exemplars)| !exemplars.is_empty())
            .map(|(slot, exemplars)| (head.catalog.labels_of(slot), exemplars))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// What the targets say of the series that match.
    pub fn metadata(&self, matchers: &[Matcher]) -> Vec<(Labels, Arc<record::Metadata>)> {
        let head = self.shared.head();
        let slots = matcher::find(&head.catalog, matchers);
        let described = slots.into_iter().filter_map(|slot| Some((slot, head.metadata.get(&slot)?.clone())));
        described.map(|(slot, metadata)| (head.catalog.labels_of(slot), metadata)).collect()
    }

    /// Deletes the samples from `min` to `max`, both included, of the series that match. They are out of sight at once,
    /// and off the disk after the next compaction or [`Self::clean_deleted`].
    pub fn delete(&self, matchers: &[Matcher], min: i64, max: i64) -> Result<()> {
        let shared = &*self.shared;
        if min > max {
            return Ok(());
        }
        let _upkeep = shared.upkeep();
        for block in shared.blocks().iter() {
            if block.meta.min_time <= max && block.meta.max_time > min {
                let found = matcher::find(&*block.index()?, matchers);
                if !found.is_empty() {
                    block.delete(&found, (min, max))?;
                }
            }
        }
        let mut writer = shared.writer();
        let slots = matcher::find(&shared.head().catalog, matchers);
        // What comes later is not meant.
        let of = |slot: u32| (slot, (min, max.min(writer.states.get(slot as usize).map_or(max, |state| state.last))));
        let deleted: Vec<(u32, (i64, i64))> =
            slots.into_iter().map(of).filter(|(_, range)| range.0 <= range.1).collect();
        if deleted.is_empty() {
            return Ok(());
        }
        if writer.closed {
            return Err(Error::Closed);
        }
        writer.note(kind::DELETED, |out| record::write_deleted(deleted.iter().copied(), out));
        writer.write(&shared.head())?;
        let commit = shared.syncer.written(None, &writer.log);
        let mut head = shared.head_mut();
        for (slot, range) in deleted {
            head.delete(slot, range);
        }
        drop((head, writer));
        shared.syncer.wait(commit)
    }

    /// Takes what was deleted off the disk: blocks with deletions are written anew.
    pub fn clean_deleted(&self) -> Result<()> {
        let _upkeep = self.shared.upkeep();
        upkeep::clean(&self.shared)
    }

    /// Puts a copy into a directory below `snapshots`, whose name is returned: blocks as links, and with `head` a block
    /// of what the head has. A data base can be opened there.
    pub fn snapshot(&self, head: bool) -> Result<PathBuf> {
        let _upkeep = self.shared.upkeep();
        upkeep::snapshot(&self.shared, head)
    }

    /// Writes everything that is in memory to a segment.
    pub fn flush(&self) -> Result<()> {
        let _upkeep = self.shared.upkeep();
        upkeep::flush(&self.shared).map(|_| ())
    }

    /// Does at once all that is done in the background: flush, merge, compact, and remove what is not kept.
    pub fn compact(&self) -> Result<()> {
        let _upkeep = self.shared.upkeep();
        upkeep::flush(&self.shared)?;
        upkeep::round(&self.shared)
    }

    /// Ends the threads and closes the files; all that was committed is on disk afterwards.
    pub fn close(mut self) -> Result<()> {
        self.end();
        self.sync().or_else(|error| if matches!(error, Error::Closed) { Ok(()) } else { Err(error) })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn head(&self) -> RwLockReadGuard<'_, Head> {
        self.shared.head()
    }

    fn end(&mut self) {
        self.shared.writer().closed = true;
        self.shared.work().closed = true;
        self.shared.changed.notify_all();
        self.shared.syncer.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the metrics has ended by a panic");
            }
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.end();
    }
}

/// Labels that a series can have: names and values that are there, each name once.
fn check_labels(labels: &Labels) -> Result<()> {
    let refuse = |reason| Err(Error::Labels { labels: labels.to_string(), reason });
    let mut before: Option<&str> = None;
    for (name, value) in labels {
        if name.is_empty() || value.is_empty() {
            return refuse("a name or a value is empty");
        }
        if before.is_some_and(|before| before >= name) {
            return refuse("a name stands twice");
        }
        before = Some(name);
    }
    if before.is_none() { refuse("there are none") } else { Ok(()) }
}

impl Shared {
    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn head(&self) -> RwLockReadGuard<'_, Head> {
        self.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn head_mut(&self) -> RwLockWriteGuard<'_, Head> {
        self.head.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bounds(&self) -> Bounds {
        *self.bounds.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn blocks(&self) -> Arc<Vec<Arc<Block>>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn upkeep(&self) -> MutexGuard<'_, ()> {
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples in memory with which a flush begins. Enough of each series that its chunk is worth its place, and not so
    /// many that memory or a start suffer.
    pub fn limit(&self, series: usize) -> usize {
        let most = self.options.flush.max(16 * series);
        (240 * series).clamp(self.options.flush.min(1 << 16), most)
    }

    /// Tells the thread of `upkeep` that there is something to do.
    pub fn wake(&self) {
        let mut work = self.work();
        if !work.wanted {
            work.wanted = true;
            self.changed.notify_all();
        }
    }

    /// Wakes it if a start found as much as would have woken it before.
    fn check(&self) {
        let (weight, slots, newest) = {
            let head = self.head();
            (head.recent.weight(), head.catalog.slots(), head.span().max)
        };
        if weight >= self.limit(slots) || newest >= self.compact_at.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wait_for_room(&self, limit: usize) -> Result<()> {
        let until = std::time::Instant::now() + PATIENCE;
        let mut work = self.work();
        while self.head().recent.weight() >= CROWDED * limit {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if work.closed || left.is_zero() {
                return Err(Error::Behind(self.root.clone()));
            }
            work.wanted = true;
            self.changed.notify_all();
            work = self.changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Begins a new file of the log; says the number of the former one.
    pub fn rotate(&self, writer: &mut Writer) -> Result<u64> {
        let former = writer.number;
        writer.log = Growing::create(&log::path(&self.dirs.log, former + 1))?;
        writer.number = former + 1;
        Ok(former)
    }

    /// Begins a new file of the list of series.
    pub fn rotate_list(&self, writer: &mut Writer) -> Result<u64> {
        let former = writer.list_number;
        writer.list = Growing::create(&log::path(&self.dirs.series, former + 1))?;
        writer.list_number = former + 1;
        Ok(former)
    }
}
