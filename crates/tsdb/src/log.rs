//! The log: what was committed and is not in a segment yet.
//!
//! ```text
//!   wal/0000000007   wal/0000000008        records (see `frame`), one file after the other
//!                    series/0000000002     the list of series, in files of its own since it outlives the log
//! ```
//!
//! A record is handed to the kernel before anybody hears of it, so that a killed process loses nothing. It reaches the
//! disk with the next sync: at intervals, or when somebody waits for it; all that wait share one `fdatasync`.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    file,
};

/// A file that only grows.
#[derive(Clone, Debug)]
pub struct Growing {
    path: PathBuf,
    file: Arc<File>,
    /// Bytes in it.
    pub size: u64,
}

impl Growing {
    /// Starts a file that is not there yet.
    pub fn create(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(Error::io(|| format!("create {}", path.display())))?;
        path.parent().map_or(Ok(()), file::sync_dir)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), size: 0 })
    }

    /// Appends records. After an error nothing may be appended any more: part of a record may be there.
    pub fn append(&mut self, records: &[u8]) -> Result<()> {
        self.size += records.len() as u64;
        (&*self.file).write_all(records).map_err(Error::io(|| format!("write {}", self.path.display())))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(|| format!("sync {}", self.path.display())))
    }
}

/// The file with a number.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}"))
}

/// The numbers of the files in a directory, ascending.
pub fn numbers(dir: &Path) -> Result<Vec<u64>> {
    Ok(file::names(dir)?.iter().filter(|name| name.len() == 10).filter_map(|name| name.parse().ok()).collect())
}

#[derive(Debug, Default)]
struct Pending {
    /// Files with bytes that are not on disk yet; the list of series first, since the log refers to it.
    series: Vec<Growing>,
    log: Vec<Growing>,
    /// Number of the last commit that was handed to the kernel.
    written: u64,
    /// Number of the last commit that is on disk.
    synced: u64,
    /// Number of the last commit that somebody waits for.
    wanted: u64,
    /// Number of the last commit that may not be on disk because a sync failed.
    failed: u64,
    closed: bool,
}

/// Who waits for the disk, and what for.
#[derive(Debug, Default)]
pub struct Syncer {
    pending: Mutex<Pending>,
    changed: Condvar,
}

impl Syncer {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a commit was handed to the kernel, in these files; says its number.
    pub fn written(&self, series: Option<&Growing>, log: &Growing) -> u64 {
        let mut pending = self.lock();
        let Pending { series: lists, log: logs, .. } = &mut *pending;
        for (files, file) in [(lists, series), (logs, Some(log))] {
            if let Some(file) = file
                && files.last().is_none_or(|last| last.path != file.path)
            {
                files.push(file.clone());
            }
        }
        let first = pending.written == pending.synced;
        pending.written += 1;
        if first {
            self.changed.notify_all();
        }
        pending.written
    }

    /// Waits until a commit is on disk.
    pub fn wait(&self, commit: u64) -> Result<()> {
        let mut pending = self.lock();
        if pending.wanted < commit {
            pending.wanted = commit;
            self.changed.notify_all();
        }
        while pending.synced < commit && !pending.closed {
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        if pending.synced < commit {
            return Err(Error::Closed);
        }
        if commit > 0 && pending.failed >= commit {
            let lost = std::io::Error::other("an earlier sync failed");
            return Err(Error::io(|| "sync the log".to_owned())(lost));
        }
        Ok(())
    }

    /// Number of the last commit so far.
    pub fn last(&self) -> u64 {
        self.lock().written
    }

    /// Ends [`Self::run`] after a last sync.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Syncs at intervals and when somebody waits, until closed. Runs in a thread of its own, which sleeps while nothing
    /// is appended.
    pub fn run(&self, interval: Duration) {
        let mut due: Option<Instant> = None;
        let mut pending = self.lock();
        loop {
            if pending.written == pending.synced {
                if pending.closed {
                    return;
                }
                due = None;
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let at = *due.get_or_insert(now + interval);
            if pending.wanted <= pending.synced && now < at && !pending.closed {
                let waited = self.changed.wait_timeout(pending, at - now);
                pending = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let target = pending.written;
            let files: Vec<Growing> = pending.series.drain(..).collect();
            let logs: Vec<Growing> = pending.log.drain(..).collect();
            drop(pending);
            let mut failed = false;
            for file in files.iter().chain(&logs) {
                if let Err(error) = file.sync() {
                    tracing::error!("{error}; samples since the last sync may be lost if the machine stops now");
                    failed = true;
                }
            }
            due = None;
            pending = self.lock();
            pending.synced = target;
            if failed {
                pending.failed = target;
            }
            self.changed.notify_all();
        }
    }
}
