//! Sets of completion indexes, written as in a Job's status: `1,3-5,7`.

use std::fmt;

/// Disjoint ranges in ascending order, none adjoining another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text of a status; what lies at or beyond `completions` is left out, and so is what cannot be read.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut all = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                all.add(first.max(0), last.min(completions - 1));
            }
        }
        all
    }

    /// Adds all from `first` to `last`, both included.
    pub fn add(&mut self, mut first: i32, mut last: i32) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|range| range.1 < first.saturating_sub(1));
        let to = self.0.partition_point(|range| range.0 <= last.saturating_add(1));
        if from < to {
            first = first.min(self.0[from].0);
            last = last.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, last)]);
    }

    /// Whether `index` is among them.
    pub fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|range| range.1 < index);
        self.0.get(at).is_some_and(|range| range.0 <= index)
    }

    /// How many there are.
    pub fn count(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        self.0.iter().map(|a| other.0.iter().map(|b| overlap(a, b)).sum::<i32>()).sum()
    }

    /// The first `count` below `completions` that are not among them.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut found = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            while next < first.min(completions) && found.len() < count {
                found.push(next);
                next += 1;
            }
            next = next.max(last.saturating_add(1));
        }
        found
    }
}

impl Extend<i32> for Indexes {
    fn extend<I: IntoIterator<Item = i32>>(&mut self, indexes: I) {
        indexes.into_iter().for_each(|index| self.add(index, index));
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_are_written_as_in_the_status() {
        let cases = [
            ("", 5, "", 0),
            ("1,3-5,7", 10, "1,3-5,7", 5),
            ("0,1", 10, "0,1", 2),
            ("0,1,2", 10, "0-2", 3),
            ("5,1,x,2-z", 10, "1,5", 2),
            ("3-8", 6, "3-5", 3),
            ("7", 6, "", 0),
            ("2-4,0-9", 20, "0-9", 10),
        ];
        for (text, completions, written, count) in cases {
            let all = Indexes::parse(text, completions);
            assert_eq!((all.to_string().as_str(), all.count()), (written, count), "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_found_in_order() {
        let all = Indexes::parse("0,2-3,6", 10);
        assert_eq!(all.missing(3, 10), [1, 4, 5]);
        assert_eq!(all.missing(10, 6), [1, 4, 5]);
        assert_eq!(Indexes::default().missing(2, 1), [0]);
        assert!(all.has(3) && !all.has(4) && !all.has(7));
        assert_eq!(all.common(&Indexes::parse("2-8", 10)), 3);
    }
}
