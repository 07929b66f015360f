//! Series that a scrape is the first to have, until its commit makes them.
//!
//! Their labels stand behind each other in one piece of memory: a target with a million series would else leave as many
//! holes where they were.

use std::ops::Range;

use tsdb::labels::Labels;

/// How many are made at once.
const TOGETHER: usize = 4096;

/// Series in the order in which they came.
#[derive(Debug, Default)]
pub struct Fresh {
    keys: String,
    /// Where each key ends, and the line that is waiting for the series.
    series: Vec<(usize, u32)>,
}

impl Fresh {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Adds one for a line; its place.
    pub fn push(&mut self, labels: &Labels, line: u32) -> u32 {
        self.keys.push_str(labels.as_key());
        self.series.push((self.keys.len(), line));
        self.series.len() as u32 - 1
    }

    /// Forgets all, and gives their memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Places of series, some at a time.
    pub fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = self.series.len();
        (0..count).step_by(TOGETHER).map(move |start| start..count.min(start + TOGETHER))
    }

    /// The labels at some places.
    pub fn labels(&self, places: Range<usize>) -> Vec<Labels> {
        let mut start = if places.start == 0 { 0 } else { self.series[places.start - 1].0 };
        let cut = |(end, _): &(usize, u32)| Labels::from_key(&self.keys[std::mem::replace(&mut start, *end)..*end]);
        self.series[places].iter().map(cut).collect()
    }

    /// The lines that wait for series, in order of their places.
    pub fn lines(&self) -> impl Iterator<Item = u32> + '_ {
        self.series.iter().map(|series| series.1)
    }
}

#[cfg(test)]
mod tests {
    use super::Fresh;
    use tsdb::labels::Labels;

    #[test]
    fn labels_come_out_as_they_went_in_piece_by_piece() {
        let mut fresh = Fresh::default();
        let labels = |n: u32| Labels::from_pairs([("__name__", "m".to_owned()), ("n", "ü".repeat(n as usize % 90))]);
        for n in 0..10_000 {
            assert_eq!(fresh.push(&labels(n), n + 7), n);
        }
        let pieces: Vec<_> = fresh.pieces().collect();
        assert_eq!(pieces, [0..4096, 4096..8192, 8192..10_000]);
        let all: Vec<Labels> = pieces.into_iter().flat_map(|piece| fresh.labels(piece)).collect();
        assert_eq!(all, (0..10_000).map(labels).collect::<Vec<_>>());
        assert!(fresh.lines().eq(7..10_007));
        fresh.clear();
        assert!(fresh.is_empty() && fresh.pieces().next().is_none());
    }
}
