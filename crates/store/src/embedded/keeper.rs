//! The keeper: one thread that writes checkpoints and sweeps what was compacted, so that neither holds up a commit.
//!
//! ```text
//! log since the last checkpoint:   0 ────────────── due ─────────────────────── full
//!                                  nothing to do    checkpoint in the           commits wait for the checkpoint,
//!                                                   background                  or fail with its error
//! ```
//!
//! A checkpoint is due when the log has grown by as much as the checkpoint is large, and by at least a fixed amount. So both
//! are bounded: the log by what is held, and the work by the log, each byte of which pays for at most one byte of
//! checkpoint.

use std::{
    fs::File,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{Error, Result, Revision};

use super::{
    Shared, checkpoint,
    record::{Head, Place},
    segment,
    writer::Work,
};

/// How much longer than "due" the log may grow.
const FULL: u64 = 4;
/// Swept changes for which the index is locked at a time.
const SWEEP: usize = 500;
/// How long a failed checkpoint is not tried again by itself.
const RETRY: Duration = Duration::from_secs(2);

/// The keeper's desk.
#[derive(Debug, Default)]
pub struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of log that the last checkpoint does not include.
    logged: AtomicU64,
    /// Bytes of the last checkpoint.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Where the last checkpoint ends.
    at: Place,
    sweep: bool,
    trim: bool,
    checkpoint: bool,
    urgent: bool,
    asked: Vec<oneshot::Sender<Result<Written>>>,
    attempts: u64,
    failed: Option<(Instant, Error)>,
    closed: bool,
}

impl Keeper {
    /// A keeper for a store whose last checkpoint of `written` bytes ends `at`, with `logged` bytes of log after it.
    pub fn new(at: Place, written: u64, logged: u64) -> Self {
        Self {
            state: Mutex::new(State { at, sweep: true, ..State::default() }),
            written: written.into(),
            logged: logged.into(),
            ..Self::default()
        }
    }

    /// Bytes of log since the last checkpoint, and of that checkpoint.
    pub fn sizes(&self) -> (u64, u64) {
        (self.logged.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// Notes that something was compacted.
    pub fn sweep(&self) {
        self.lock().sweep = true;
        self.changed.notify_all();
    }

    /// Notes that the log grew.
    pub fn logged(&self, shared: &Shared, bytes: u64) {
        let logged = self.logged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let heavy = shared.index().weight().1 > shared.options.history_bytes;
        if logged >= self.due(shared) || heavy {
            let mut state = self.lock();
            state.checkpoint |= logged >= self.due(shared);
            state.trim |= heavy;
            self.changed.notify_all();
        }
    }

    fn due(&self, shared: &Shared) -> u64 {
        shared.options.checkpoint_bytes.max(self.written.load(Ordering::Relaxed))
    }

    /// Waits while the log is full; fails when it cannot be made shorter.
    pub fn make_room(&self, shared: &Shared) -> Result<()> {
        let full = |keeper: &Self| keeper.logged.load(Ordering::Relaxed) >= FULL * keeper.due(shared);
        if !full(self) {
            return Ok(());
        }
        let mut state = self.lock();
        let before = state.attempts;
        // Now, even if one failed a moment ago: there may be space again.
        state.urgent = true;
        self.changed.notify_all();
        while full(self) {
            if let Some((_, error)) = state.failed.as_ref().filter(|_| state.attempts > before) {
                return Err(error.clone());
            }
            state = self.changed.wait(state).expect("keeper lock");
        }
        Ok(())
    }

    /// Asks for a checkpoint that includes everything committed so far.
    pub fn ask(&self) -> Result<oneshot::Receiver<Result<Written>>> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Unavailable("it was closed".into()));
        }
        state.asked.push(reply);
        self.changed.notify_all();
        Ok(answer)
    }

    /// Ends [`run`], after what it is doing.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("keeper lock")
    }
}

/// A checkpoint, which can be read even after a later one replaced it.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its head.
    pub head: Head,
    /// Its length in bytes.
    pub bytes: u64,
    /// The file.
    pub file: Arc<File>,
}

/// Runs until [`Keeper::close`].
pub fn run(shared: &Shared) {
    let keeper = &shared.keeper;
    let mut state = keeper.lock();
    while !state.closed {
        if state.sweep {
            state.sweep = false;
            drop(state);
            while shared.index.write().expect("index lock").sweep(SWEEP) {
                std::thread::yield_now();
            }
            state = keeper.lock();
        } else if state.trim {
            state.trim = false;
            drop(state);
            trim(shared);
            state = keeper.lock();
        } else if !state.asked.is_empty() {
            let asked = std::mem::take(&mut state.asked);
            drop(state);
            let outcome = write(shared).and_then(|(head, bytes)| {
                let path = checkpoint::path(&shared.dir, head.at.sequence);
                match File::open(&path) {
                    Ok(file) => Ok(Written { head, bytes, file: Arc::new(file) }),
                    Err(error) => Err(Error::io(format!("open checkpoint {}", path.display()), error)),
                }
            });
            asked.into_iter().for_each(|reply| drop(reply.send(outcome.clone())));
            state = keeper.lock();
        } else if state.checkpoint || state.urgent {
            let failed = state.failed.as_ref().filter(|_| !state.urgent);
            if let Some(left) = failed.and_then(|(at, _)| RETRY.checked_sub(at.elapsed())) {
                state = keeper.changed.wait_timeout(state, left).expect("keeper lock").0;
                continue;
            }
            (state.checkpoint, state.urgent) = (false, false);
            drop(state);
            let _ = write(shared);
            state = keeper.lock();
        } else {
            state = keeper.changed.wait(state).expect("keeper lock");
        }
    }
    let error = Error::Unavailable("it was closed".into());
    state.asked.drain(..).for_each(|reply| drop(reply.send(Err(error.clone()))));
}

/// Compacts half of the history away when it takes more memory than it may.
fn trim(shared: &Shared) {
    let (middle, superseded) = {
        let index = shared.index();
        (index.middle().filter(|middle| *middle > index.compacted()), index.weight().1)
    };
    if let Some(middle) = middle.filter(|_| superseded > shared.options.history_bytes) {
        tracing::warn!(superseded, revision = middle, "history takes too much memory: compacting");
        let _ = shared.queue.submit(Work::Compact(Revision::new(middle)));
    }
}

fn write(shared: &Shared) -> Result<(Head, u64)> {
    let keeper = &shared.keeper;
    let before = keeper.lock().at;
    let logged = keeper.logged.load(Ordering::Relaxed);
    let current = shared.index().place();
    let begun = Instant::now();
    let written = checkpoint::write(&shared.dir, shared.id, &shared.index);
    let mut state = keeper.lock();
    state.attempts += 1;
    keeper.changed.notify_all();
    match written {
        Ok((head, bytes)) => {
            state.at = head.at;
            state.failed = None;
            keeper.written.store(bytes, Ordering::Relaxed);
            keeper.logged.fetch_sub(logged, Ordering::Relaxed);
            // What was due while this one was being written may not be any more.
            state.checkpoint = keeper.logged.load(Ordering::Relaxed) >= keeper.due(shared);
            drop(state);
            shared.stats.checkpointed(begun.elapsed());
            if before.sequence != head.at.sequence {
                let old = checkpoint::path(&shared.dir, before.sequence);
                match std::fs::remove_file(&old) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(file = %old.display(), %error, "cannot remove an old checkpoint");
                    }
                    _ => {}
                }
            }
            match segment::numbered(&shared.dir, "log-") {
                Ok(segments) => shared.supply.retire(segments.into_keys().filter(|number| *number < current.segment)),
                Err(error) => tracing::warn!(%error, "cannot list log segments"),
            }
            Ok((head, bytes))
        }
        Err(error) => {
            if state.failed.is_none() {
                tracing::error!(%error, "cannot write a checkpoint");
            }
            state.failed = Some((Instant::now(), error.clone()));
            Err(error)
        }
    }
}
