//! What queries work on and what they give: samples in columns, series over steps, answers.

use std::sync::Arc;

use tsdb::{
    histogram::FloatHistogram,
    labels::Labels,
    sample::{STALE_NAN, is_stale},
};

/// The samples of one series, in columns, each in order of time. A series may have floats and histograms by turns.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Milliseconds since 1970.
    pub times: Vec<i64>,
    /// As many as `times`; stale markers are among them.
    pub floats: Vec<f64>,
    /// When each float's counter began, 0 where that is not known; empty where nothing is known of any.
    pub starts: Vec<i64>,
    /// Milliseconds since 1970.
    pub histogram_times: Vec<i64>,
    /// As many as `histogram_times`; stale markers, which have a stale sum, are among them.
    pub histograms: Vec<Arc<FloatHistogram>>,
    /// When each histogram began, as `starts`.
    pub histogram_starts: Vec<i64>,
}

impl Samples {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.floats.clear();
        self.starts.clear();
        self.histogram_times.clear();
        self.histograms.clear();
        self.histogram_starts.clear();
    }

    /// Adds a float behind the others.
    pub fn push_float(&mut self, time: i64, value: f64) {
        self.times.push(time);
        self.floats.push(value);
    }

    /// Adds a histogram behind the others.
    pub fn push_histogram(&mut self, time: i64, value: Arc<FloatHistogram>) {
        self.histogram_times.push(time);
        self.histograms.push(value);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histogram_times.is_empty()
    }

    /// How many samples they count as: a histogram as many as it is large.
    pub fn weight(&self) -> usize {
        self.times.len() + self.histograms.iter().map(|histogram| weight(histogram)).sum::<usize>()
    }

    /// Takes out stale markers, which ranges do not see.
    pub fn drop_stale(&mut self) {
        // Whole pieces at a time, which the processor compares side by side.
        let stale = |piece: &[f64]| piece.iter().fold(false, |found, value| found | is_stale(*value));
        if self.floats.chunks(64).any(stale) {
            let keep: Vec<bool> = self.floats.iter().map(|value| !is_stale(*value)).collect();
            retain(&mut self.times, &keep);
            retain(&mut self.floats, &keep);
            retain(&mut self.starts, &keep);
        }
        if self.histograms.iter().any(|histogram| is_stale(histogram.sum)) {
            let keep: Vec<bool> = self.histograms.iter().map(|histogram| !is_stale(histogram.sum)).collect();
            retain(&mut self.histogram_times, &keep);
            retain(&mut self.histograms, &keep);
            retain(&mut self.histogram_starts, &keep);
        }
    }
}

fn retain<T>(column: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    column.retain(|_| keep.next().copied().unwrap_or(false));
}

/// How many samples a histogram counts as.
pub fn weight(histogram: &FloatHistogram) -> usize {
    (histogram.size() + 8) / 16
}

/// A value at a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    /// The number, where it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Histogram(_) => None,
        }
    }

    pub(crate) fn histogram(histogram: FloatHistogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

/// Stands for no value at a step: the stale marker, which no evaluation yields.
pub(crate) const ABSENT: f64 = STALE_NAN;

/// A series over the steps of a query.
#[derive(Clone, Debug)]
pub struct Series {
    /// What names it.
    pub labels: Labels,
    /// Whether its metric's name is dropped at the end.
    pub(crate) drop_name: bool,
    /// One for each step; [`ABSENT`] where there is none.
    pub(crate) floats: Vec<f64>,
    /// The steps that have histograms, ascending.
    pub(crate) histograms: Vec<(usize, Arc<FloatHistogram>)>,
}

impl Series {
    pub(crate) fn new(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Self { labels, drop_name, floats: vec![ABSENT; steps], histograms: Vec::new() }
    }

    pub(crate) fn constant(value: f64, steps: usize) -> Self {
        Self { labels: Labels::empty(), drop_name: false, floats: vec![value; steps], histograms: Vec::new() }
    }

    /// The value at a step.
    pub(crate) fn at(&self, step: usize) -> Option<Value> {
        match self.floats.get(step) {
            Some(value) if !is_stale(*value) => Some(Value::Float(*value)),
            _ if self.histograms.is_empty() => None,
            _ => {
                let at = self.histograms.binary_search_by_key(&step, |histogram| histogram.0).ok()?;
                Some(Value::Histogram(self.histograms[at].1.clone()))
            }
        }
    }

    /// Sets the value at a step that is not before any that has been set to a histogram.
    pub(crate) fn set(&mut self, step: usize, value: Value) {
        match value {
            Value::Float(value) => self.floats[step] = value,
            Value::Histogram(histogram) => self.histograms.push((step, histogram)),
        }
    }

    /// Whether there is a value at a step.
    pub(crate) fn has(&self, step: usize) -> bool {
        self.floats.get(step).is_some_and(|value| !is_stale(*value))
            || self.histograms.binary_search_by_key(&step, |histogram| histogram.0).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.floats.iter().all(|value| is_stale(*value))
    }

    /// How many samples it counts as.
    pub(crate) fn weight(&self) -> usize {
        self.floats.iter().filter(|value| !is_stale(**value)).count()
            + self.histograms.iter().map(|histogram| weight(&histogram.1)).sum::<usize>()
    }
}

/// Series over the steps of a query.
pub(crate) type Matrix = Vec<Series>;

/// A series with a value.
#[derive(Clone, Debug)]
pub struct VectorSample {
    /// What names it.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
}

/// A series with values over time.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What names it.
    pub labels: Labels,
    /// Times in milliseconds since 1970, and floats.
    pub floats: Vec<(i64, f64)>,
    /// Times in milliseconds since 1970, and histograms.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// What a query gives.
#[derive(Clone, Debug)]
pub enum Answer {
    /// One number at a time.
    Scalar(i64, f64),
    /// A string at a time.
    Text(i64, String),
    /// Values of series at a time.
    Vector(i64, Vec<VectorSample>),
    /// Values of series over time, sorted by labels.
    Matrix(Vec<Stream>),
}
