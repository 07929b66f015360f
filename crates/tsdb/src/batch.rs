//! What is appended at once, and what became of it.

use crate::{catalog::SeriesRef, column::HistogramValue, exemplars::Refused, record::Metadata, sample::Exemplar};

/// Samples of one scrape or one remote-write request. Used again, it keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) starts: Vec<(SeriesRef, i64, Zero)>,
    pub(crate) floats: Vec<(SeriesRef, i64, f64)>,
    pub(crate) histograms: Vec<(SeriesRef, i64, HistogramValue)>,
    pub(crate) exemplars: Vec<(SeriesRef, Exemplar)>,
    pub(crate) metadata: Vec<(SeriesRef, Metadata)>,
}

/// What a counter that has just been created says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// 0.
    Float,
    /// An empty integer histogram.
    Integer,
    /// An empty float histogram.
    FloatHistogram,
}

impl Batch {
    /// Adds a float; [`crate::sample::STALE_NAN`] says that the series has ended. The time is in milliseconds since 1970.
    #[inline]
    pub fn float(&mut self, series: SeriesRef, time: i64, value: f64) {
        self.floats.push((series, time, value));
    }

    /// Adds a native histogram.
    pub fn histogram(&mut self, series: SeriesRef, time: i64, value: HistogramValue) {
        self.histograms.push((series, time, value));
    }

    /// Says when a counter was created: a zero is put there unless the series already has something as late. Counts
    /// before the samples of the same batch.
    pub fn start(&mut self, series: SeriesRef, created: i64, zero: Zero) {
        self.starts.push((series, created, zero));
    }

    /// Adds an exemplar.
    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.exemplars.push((series, exemplar));
    }

    /// Says what a series is.
    pub fn metadata(&mut self, series: SeriesRef, metadata: Metadata) {
        self.metadata.push((series, metadata));
    }

    /// The floats, in the order of their places.
    pub fn floats(&self) -> &[(SeriesRef, i64, f64)] {
        &self.floats
    }

    /// The histograms, in the order of their places.
    pub fn histograms(&self) -> &[(SeriesRef, i64, HistogramValue)] {
        &self.histograms
    }

    /// The exemplars, in the order of their places.
    pub fn exemplars(&self) -> &[(SeriesRef, Exemplar)] {
        &self.exemplars
    }

    /// What was said of series.
    pub fn descriptions(&self) -> &[(SeriesRef, Metadata)] {
        &self.metadata
    }

    /// How many samples there are, floats and histograms.
    pub fn samples(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.starts.clear();
        self.floats.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }
}

/// When a commit has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the kernel has it: it outlives this process, and after the next sync the machine.
    Logged,
    /// When it is on disk.
    Synced,
}

/// Why a sample was not taken; the words are Prometheus'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The series has a later sample, and none may come late.
    #[error("out of order sample")]
    OutOfOrder,
    /// Another value for the same time.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Before all that the head may still take.
    #[error("out of bounds")]
    OutOfBounds,
    /// Later than late samples may come.
    #[error("too old sample")]
    TooOld,
    /// The reference is of a series that is gone: ask for it again by its labels.
    #[error("unknown series reference")]
    Unknown,
    /// The histogram is not sound.
    #[error("invalid native histogram")]
    Invalid,
}

/// Which list of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A float, by its place.
    Float(usize),
    /// A histogram, by its place.
    Histogram(usize),
}

/// What became of a batch: all that is not listed here was taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Samples that were stored.
    pub stored: usize,
    /// Samples that were there already, with the same value.
    pub repeated: usize,
    /// Samples that came late and were stored; counted in `stored` too.
    pub late: usize,
    /// Samples that were not taken.
    pub rejected: Vec<(Of, Reject)>,
    /// Exemplars that were not taken, by their places.
    pub exemplars: Vec<(usize, Refused)>,
}
