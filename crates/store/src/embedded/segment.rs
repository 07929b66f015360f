//! Segments: the preallocated files that the log is written into, and the thread that has the next one ready.
//!
//! ```text
//!           (new: zeros written and synced)                       (a checkpoint made it unneeded)
//!   log-N+1.tmp ──rename──▶ log-N+1 ──▶ log-N: written ──▶ log-N: full ──▶ spare-N ──rename──▶ log-M
//! ```
//!
//! A commit is fast only if syncing it does not have to allocate blocks or move the end of the file, so every block of a
//! segment was written before. A segment that is no longer needed is used again as it is: the frames in it have sequences
//! too low to be taken for new ones.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

use crate::{Error, Result};

use super::frame::BLOCK;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// The file.
    pub file: File,
    /// Its length in bytes, a multiple of [`BLOCK`].
    pub length: u64,
}

impl Segment {
    /// Opens segment `number` in `dir`.
    pub fn open(dir: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path(dir, number))?;
        let length = file.metadata()?.len() / BLOCK as u64 * BLOCK as u64;
        Ok(Self { number, file, length })
    }
}

/// Where segment `number` is.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

/// The numbers in the names of the files in `dir` that begin with `prefix` and nothing follows.
pub fn numbered(dir: &Path, prefix: &str) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let digits = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(prefix));
        if let Some(digits) = digits.filter(|digits| digits.len() == 16)
            && let Ok(number) = u64::from_str_radix(digits, 16)
        {
            found.insert(number, path);
        }
    }
    Ok(found)
}

/// The next segment, made ready by a thread of its own.
#[derive(Debug)]
pub struct Supply {
    dir: PathBuf,
    length: u64,
    /// Segments to keep for use again.
    keep: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number that the next segment gets.
    number: u64,
    ready: Option<Segment>,
    spare: Vec<PathBuf>,
    failed: Option<Error>,
    failing: bool,
    closed: bool,
}

impl Supply {
    /// A supply for `dir`, which continues with segment `number`.
    pub fn new(dir: &Path, length: u64, keep: usize, number: u64, ready: Option<Segment>, spare: Vec<PathBuf>) -> Self {
        let state = State { number, ready, spare, ..State::default() };
        Self { dir: dir.to_owned(), length, keep, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes the next segment; waits while it is being made.
    pub fn take(&self) -> Result<Segment> {
        let mut state = self.state.lock().expect("segment supply lock");
        // What failed before may work now: have it tried again.
        state.failed = None;
        self.changed.notify_all();
        loop {
            if let Some(segment) = state.ready.take() {
                state.number = segment.number + 1;
                self.changed.notify_all();
                return Ok(segment);
            }
            if let Some(error) = state.failed.clone() {
                return Err(error);
            }
            if state.closed {
                return Err(Error::Unavailable("it was closed".into()));
            }
            state = self.changed.wait(state).expect("segment supply lock");
        }
    }

    /// Takes back segments that a checkpoint made unneeded.
    pub fn retire(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let old = path(&self.dir, number);
            let whole = fs::metadata(&old).is_ok_and(|data| data.len() == self.length);
            let mut state = self.state.lock().expect("segment supply lock");
            if whole && state.spare.len() < self.keep {
                let spare = self.dir.join(format!("spare-{number:016x}"));
                match fs::rename(&old, &spare) {
                    Ok(()) => state.spare.push(spare),
                    Err(error) => tracing::warn!(file = %old.display(), %error, "cannot set a log segment aside"),
                }
            } else if let Err(error) = fs::remove_file(&old) {
                tracing::warn!(file = %old.display(), %error, "cannot remove a log segment");
            }
        }
    }

    /// Has segments ready until [`Supply::close`].
    pub fn run(&self) {
        let mut state = self.state.lock().expect("segment supply lock");
        while !state.closed {
            if state.ready.is_some() || state.failed.is_some() {
                state = self.changed.wait(state).expect("segment supply lock");
                continue;
            }
            let (number, spare) = (state.number, state.spare.pop());
            drop(state);
            let made = self.make(number, spare);
            state = self.state.lock().expect("segment supply lock");
            match made {
                Ok(segment) => (state.ready, state.failing) = (Some(segment), false),
                Err(error) => {
                    // Every commit has it tried again: say it once.
                    if !std::mem::replace(&mut state.failing, true) {
                        tracing::error!(%error, "cannot make a log segment");
                    }
                    state.failed = Some(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// Ends [`Supply::run`].
    pub fn close(&self) {
        self.state.lock().expect("segment supply lock").closed = true;
        self.changed.notify_all();
    }

    fn make(&self, number: u64, spare: Option<PathBuf>) -> Result<Segment> {
        let target = path(&self.dir, number);
        let failed = |error| Error::io(format!("make log segment {}", target.display()), error);
        let source = match spare {
            Some(spare) => spare,
            None => {
                let temporary = target.with_extension("tmp");
                if let Err(error) = zeros(&temporary, self.length) {
                    // A part of a segment would hold space that others need.
                    let _ = fs::remove_file(&temporary);
                    return Err(failed(error));
                }
                temporary
            }
        };
        let made = fs::rename(&source, &target).and_then(|()| File::open(&self.dir)?.sync_all());
        made.and_then(|()| Segment::open(&self.dir, number)).map_err(failed)
    }
}

fn zeros(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let chunk = vec![0; 256 * 1024];
    let mut at = 0;
    while at < length {
        let step = (length - at).min(chunk.len() as u64);
        file.write_all_at(&chunk[..step as usize], at)?;
        at += step;
    }
    file.sync_all()
}

/// The supply's thread, ended when this is dropped.
#[derive(Debug)]
pub struct Supplier {
    supply: Arc<Supply>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Supplier {
    /// Starts it.
    pub fn start(supply: Arc<Supply>) -> io::Result<Self> {
        let running = supply.clone();
        let thread = std::thread::Builder::new().name("store-segments".into()).spawn(move || running.run())?;
        Ok(Self { supply, thread: Some(thread) })
    }
}

impl Drop for Supplier {
    fn drop(&mut self) {
        self.supply.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
