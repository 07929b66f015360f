//! What a data base is opened with.

use std::time::Duration;

/// Hours of samples in the smallest block.
const HOURS: u64 = 2;

/// What a data base is opened with; the defaults are Prometheus'.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long samples are kept, counted from the newest one; without end if zero.
    pub retention: Duration,
    /// Bytes on disk at most; as many as there are room for if zero.
    pub retention_bytes: u64,
    /// How much older than the newest sample one may be that comes behind the last of its series.
    pub out_of_order: Duration,
    /// Time that the smallest block covers. Larger ones cover three times as much, and so on.
    pub block: Duration,
    /// Time that the largest block covers; a tenth of the retention, but 31 days at most, if zero.
    pub largest_block: Duration,
    /// How often the log is synced; after each commit if zero.
    pub sync: Duration,
    /// How many exemplars are kept.
    pub exemplars: usize,
    /// Samples in memory at least before they are written to a segment. Fewer make a start faster and segments smaller.
    pub flush: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(15 * 24),
            retention_bytes: 0,
            out_of_order: Duration::ZERO,
            block: Duration::from_hours(HOURS),
            largest_block: Duration::ZERO,
            sync: Duration::from_secs(1),
            exemplars: 100_000,
            flush: 1_000_000,
        }
    }
}

impl Options {
    /// Milliseconds of the smallest block.
    pub(crate) fn block_millis(&self) -> i64 {
        millis(self.block).max(1)
    }

    /// Milliseconds of the blocks of each size, the smallest first.
    pub(crate) fn ranges(&self) -> Vec<i64> {
        let tenth = if self.retention.is_zero() { i64::MAX } else { millis(self.retention) / 10 };
        let largest = match millis(self.largest_block) {
            0 => tenth.min(millis(Duration::from_hours(31 * 24))),
            given => given,
        };
        let mut ranges = vec![self.block_millis()];
        while let Some(next) = ranges.last().and_then(|last| last.checked_mul(3)).filter(|next| *next <= largest) {
            ranges.push(next);
        }
        ranges
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
