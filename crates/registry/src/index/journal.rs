//! The file of the index: changes, one a line, in the order in which they were made.
//!
//! ```text
//! CRC32 of the rest, eight hexadecimal digits ─ space ─ JSON list of changes ─ newline
//! ```
//!
//! A line is a commit. The last one may be torn by a crash: it was never acknowledged, and is cut off on opening. Damage
//! anywhere else is an error, never silently skipped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use super::{Change, State};

const NAME: &str = "index.journal";
/// Files below this size are not worth rewriting.
const SMALL: u64 = 1 << 20;
/// Changes a line in a rewritten file.
const BATCH: usize = 256;

pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// Bytes right after it was last rewritten.
    live: u64,
    /// Set when the file's end could not be restored after an error.
    broken: bool,
    _lock: File,
}

impl Journal {
    pub fn open(dir: &Path) -> Result<(Self, State)> {
        std::fs::create_dir_all(dir)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("it is in use by another process");
        }
        let path = dir.join(NAME);
        let mut state = State::default();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut whole = 0;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let line = end.map(|end| &rest[..end]);
            match (line.and_then(read_line), end) {
                (Some(changes), Some(end)) => {
                    for change in changes {
                        state.apply(change);
                    }
                    whole += end + 1;
                    rest = &rest[end + 1..];
                }
                // Torn: nothing readable comes after it.
                (None, end) => {
                    let after = end.map_or(&[][..], |end| &rest[end + 1..]);
                    if after.split(|byte| *byte == b'\n').any(|line| read_line(line).is_some()) {
                        bail!("{} is damaged at byte {whole}: restore it from a backup", path.display());
                    }
                    tracing::warn!(file = %path.display(), at = whole, bytes = rest.len(), "torn end is cut off");
                    break;
                }
                (Some(_), None) => unreachable!("a line has an end"),
            }
        }
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let bytes = whole as u64;
        let mut journal = Self { path, file: Arc::new(file), bytes, live: 0, broken: false, _lock: lock };
        journal.shrink(&state)?;
        Ok((journal, state))
    }

    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Appends one commit, or nothing.
    pub fn append(&mut self, changes: &[Change]) -> Result<()> {
        if self.broken {
            bail!("{} could not be restored after an error: start the registry again", self.path.display());
        }
        let line = line(changes)?;
        if let Err(error) = (&*self.file).write_all(&line) {
            let restored = self.file.set_len(self.bytes).and_then(|()| (&*self.file).seek(SeekFrom::Start(self.bytes)));
            self.broken = restored.is_err();
            return Err(error).with_context(|| format!("write {}", self.path.display()));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Rewrites the file when most of it is dead.
    pub fn shrink(&mut self, state: &State) -> Result<()> {
        if self.bytes < SMALL || self.bytes < self.live * 2 {
            return Ok(());
        }
        let temporary = self.path.with_extension("new");
        let written = || -> Result<(File, u64)> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
            let mut bytes = 0;
            for changes in state.changes().chunks(BATCH) {
                let line = line(changes)?;
                file.write_all(&line)?;
                bytes += line.len() as u64;
            }
            file.sync_all()?;
            Ok((file, bytes))
        };
        match written() {
            Ok((file, bytes)) => {
                std::fs::rename(&temporary, &self.path)?;
                if let Some(dir) = self.path.parent() {
                    File::open(dir)?.sync_all()?;
                }
                (self.file, self.bytes, self.live) = (Arc::new(file), bytes, bytes.max(SMALL));
            }
            Err(error) => {
                // The old file is as good as before; the next change tries again.
                let _ = std::fs::remove_file(&temporary);
                self.live = self.bytes;
                tracing::warn!(file = %self.path.display(), error = format!("{error:#}"), "index cannot be rewritten");
            }
        }
        Ok(())
    }
}

fn line(changes: &[Change]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(changes)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn read_line(line: &[u8]) -> Option<Vec<Change>> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc32fast::hash(json) != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// One sync for all that wait for one.
#[derive(Default)]
pub(super) struct Syncer {
    begun: AtomicU64,
    /// Number of the last sync that ended well; none after one failed, since the disk may have lost what it was given.
    ended: Mutex<Option<u64>>,
    failed: std::sync::atomic::AtomicBool,
}

impl Syncer {
    /// Returns once everything written to `file` before the call is on the disk.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.lock().expect("sync lock");
        if self.failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync failed: start the registry again"));
        }
        if ended.is_some_and(|ended| ended > before) {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if let Err(error) = file.sync_data() {
            self.failed.store(true, Ordering::SeqCst);
            return Err(error);
        }
        *ended = Some(number);
        Ok(())
    }
}
