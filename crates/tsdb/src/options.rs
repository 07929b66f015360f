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
    /// Percent of the disk at most, in place of [`Self::retention_bytes`]; without this bound if zero.
    pub retention_percentage: f64,
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

/// What of the [`Options`] can be changed while the data base is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// How long samples are kept; without end if zero.
    pub retention: Duration,
    /// Bytes on disk at most; without this bound if zero.
    pub retention_bytes: u64,
    /// Percent of the disk at most, in place of bytes; without this bound if zero.
    pub retention_percentage: f64,
    /// How much older than the newest sample one may be that comes behind the last of its series.
    pub out_of_order: Duration,
    /// How many exemplars are kept.
    pub exemplars: usize,
}

impl Bounds {
    /// Bytes at most on a disk of so many; zero for no bound.
    pub(crate) fn bytes(&self, disk: impl FnOnce() -> u64) -> u64 {
        if self.retention_percentage > 0.0 {
            // A disk whose size is not known sets no bound.
            return (disk() as f64 * (self.retention_percentage / 100.0)) as u64;
        }
        self.retention_bytes
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(15 * 24),
            retention_bytes: 0,
            retention_percentage: 0.0,
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
    /// Those that can be changed.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            retention: self.retention,
            retention_bytes: self.retention_bytes,
            retention_percentage: self.retention_percentage,
            out_of_order: self.out_of_order,
            exemplars: self.exemplars,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn a_share_of_the_disk_goes_before_bytes() {
        let mut bounds = Options { retention_bytes: 7, ..Options::default() }.bounds();
        assert_eq!(bounds.bytes(|| unreachable!("nobody asks for it")), 7);
        bounds.retention_percentage = 12.5;
        assert_eq!(bounds.bytes(|| 8000), 1000);
    }
}
