//! Where samples come from.
//!
//! A series' samples of the whole time that a query looks at are handed over at once, in columns: functions over ranges
//! move a window along them instead of asking again at each step.

use tsdb::labels::Labels;

use crate::{matcher::Matcher, value::Samples};

/// What a selection is for. Storage may use it to read less, and must not give less than asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    /// The first time wanted, in milliseconds since 1970.
    pub start: i64,
    /// The last time wanted.
    pub end: i64,
    /// The distance of steps in milliseconds; 0 for one step.
    pub step: i64,
    /// The range of a range selector in milliseconds, else 0.
    pub range: i64,
    /// The function or aggregation around the selector.
    pub function: &'static str,
    /// The labels of the aggregation around the selector.
    pub grouping: Vec<String>,
    /// Whether the aggregation keeps these labels.
    pub by: bool,
}

/// Why samples could not be read.
pub type StorageError = Box<dyn std::error::Error + Send + Sync>;

/// Something that has series.
pub trait Storage {
    /// The series that fulfil all conditions and may have samples from `hints.start` to `hints.end`, both included, each
    /// once.
    fn select<'a>(&'a self, matchers: &[Matcher], hints: &Hints) -> Result<Box<dyn Selection + 'a>, StorageError>;
}

/// Series one after another.
pub trait Selection {
    /// Puts the samples of the next series, none before `hints.start` or after `hints.end`, into `samples`, which is
    /// empty, and returns the labels.
    fn next(&mut self, samples: &mut Samples) -> Result<Option<Labels>, StorageError>;

    /// What users should be told of the selection, once all series have been read.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}
