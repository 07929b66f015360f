//! The log: groups of transactions, each synced as a whole before any of them is acknowledged.
//!
//! ```text
//! log-7 │ group 40 │ group 41 │ … │ group 57 │ (rest unused)     log-8 │ group 58 │ 0 0 0 …
//! ```
//!
//! A group is one frame and lies in one segment. A group whose writing or syncing failed is not part of the log: the next
//! one is written to the same place under the same sequence.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Error, Result};

use super::{
    frame::{Frame, Kind, StoreId},
    mark::Mark,
    record::Place,
    segment::{self, Segment, Supply},
};

/// The log, as its only writer holds it.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    id: StoreId,
    segment: Segment,
    at: Place,
    mark: Mark,
    supply: Arc<Supply>,
}

impl Log {
    /// The log in `dir`, continued `at` a place in `segment`.
    pub fn new(dir: &Path, id: StoreId, segment: Segment, at: Place, mark: Mark, supply: Arc<Supply>) -> Self {
        Self { dir: dir.to_owned(), id, segment, at, mark, supply }
    }

    /// Appends a group that ends at `revision` and syncs it; the place after it, and how long the sync took.
    pub fn append(&mut self, frame: &mut Frame, revision: u64) -> Result<(Place, Duration)> {
        let sequence = self.at.sequence + 1;
        let (bytes, seal) = frame.seal(Kind::Group, self.id, sequence, revision, self.at.seal);
        let length = bytes.len() as u64;
        if self.at.position + length > self.segment.length {
            self.segment = self.supply.take()?;
            (self.at.segment, self.at.position) = (self.segment.number, 0);
            if length > self.segment.length {
                return Err(Error::Unavailable(format!("a group of {length} bytes does not fit a log segment")));
            }
        }
        let failed = |verb: &str, error| {
            Error::io(format!("{verb} {}", segment::path(&self.dir, self.segment.number).display()), error)
        };
        self.segment.file.write_all_at(bytes, self.at.position).map_err(|error| failed("write", error))?;
        let begun = Instant::now();
        self.segment.file.sync_data().map_err(|error| failed("sync", error))?;
        let took = begun.elapsed();
        if let Err(error) = self.mark.write(sequence) {
            // The log itself is whole; only a later damage to its last group would go unnoticed.
            tracing::warn!(%error, "cannot write the end mark of the log");
        }
        self.at = Place { sequence, seal, segment: self.at.segment, position: self.at.position + length };
        Ok((self.at, took))
    }

    /// Syncs the end mark, before the log is closed.
    pub fn close(self) {
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "cannot sync the end mark of the log");
        }
    }
}
