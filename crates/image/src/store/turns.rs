//! Taking turns: one download of a blob and one unpacking of a layer at a time, one flush for all that wait for one.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Files;

/// A lock for each key that somebody holds or waits for.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// The turn, until dropped.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Turns {
    /// Waits until nobody else has `key`.
    pub async fn take(&self, key: String) -> Turn {
        let lock = {
            let mut locks = self.0.lock().expect("turns lock");
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(&key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    locks.insert(key, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

/// Flushes the store's file system. Flushing file by file costs a disk write for each of thousands of files; one
/// `syncfs` covers all layers that were complete when it began.
#[derive(Default)]
pub(super) struct Syncer {
    begun: AtomicU64,
    /// Number of the last flush that ended.
    ended: Mutex<u64>,
}

impl Syncer {
    /// Returns once everything written before the call is on the disk.
    pub fn sync(&self, files: &Files) -> io::Result<()> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.lock().expect("sync lock");
        if *ended > before {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        rustix::fs::syncfs(File::open(files.root())?)?;
        *ended = number;
        Ok(())
    }
}
