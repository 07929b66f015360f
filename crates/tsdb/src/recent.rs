//! Samples in memory: those of the log that no segment has yet.
//!
//! A float takes twelve bytes until it is flushed (see `points`); the number of samples is bounded, and so is what a start has
//! to read from the log. What came behind the last of its series is kept apart.

use hashbrown::HashMap;

use crate::{
    column::{Columns, HistogramValue, Value},
    points::Points,
};

type State = foldhash::fast::RandomState;

/// Earliest and latest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The earliest.
    pub min: i64,
    /// The latest.
    pub max: i64,
}

impl Span {
    /// Of nothing.
    pub const EMPTY: Self = Self { min: i64::MAX, max: i64::MIN };

    /// Takes a time in.
    pub fn add(&mut self, time: i64) {
        self.min = self.min.min(time);
        self.max = self.max.max(time);
    }

    /// Takes all of another in.
    pub fn join(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.min > self.max
    }
}

/// What has come since the last flush.
#[derive(Debug)]
pub struct Recent {
    points: Points,
    histograms: HashMap<u32, Vec<(i64, HistogramValue)>, State>,
    late: HashMap<u32, Vec<(i64, Value)>, State>,
    weight: usize,
    samples: u64,
    span: Span,
    late_span: Span,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            points: Points::default(),
            histograms: HashMap::default(),
            late: HashMap::default(),
            weight: 0,
            samples: 0,
            span: Span::EMPTY,
            late_span: Span::EMPTY,
        }
    }
}

impl Recent {
    /// Makes room for slots below `slots`.
    pub fn reach(&mut self, slots: usize) {
        self.points.reach(slots);
    }

    /// About how many floats the memory in use would hold.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Times of the samples, late ones aside.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Times of late samples.
    pub fn late_span(&self) -> Span {
        self.late_span
    }

    /// Appends a float behind the last of its series.
    #[inline]
    pub fn push(&mut self, slot: u32, time: i64, value: f64) {
        if self.points.push(slot, time, value) {
            self.weight += 1;
            self.samples += 1;
            self.span.add(time);
        } else {
            // Weeks after the one before: rare, and late samples may lie anywhere.
            self.push_late(slot, time, Value::Float(value));
        }
    }

    /// Appends a histogram behind the last sample of its series.
    pub fn push_histogram(&mut self, slot: u32, time: i64, value: HistogramValue) {
        self.weight += 16 + value.buckets();
        self.samples += 1;
        self.span.add(time);
        self.histograms.entry(slot).or_default().push((time, value));
    }

    /// Takes a sample for any time. Of several for one time the first stays; says whether this is it.
    pub fn push_late(&mut self, slot: u32, time: i64, value: Value) -> bool {
        let samples = self.late.entry(slot).or_default();
        let Err(at) = samples.binary_search_by_key(&time, |sample| sample.0) else { return false };
        self.weight += match &value {
            Value::Float(_) => 4,
            Value::Histogram(value) => 16 + value.buckets(),
        };
        self.samples += 1;
        self.late_span.add(time);
        samples.insert(at, (time, value));
        true
    }

    /// The last histogram of a series.
    pub fn last_histogram(&self, slot: u32) -> Option<&(i64, HistogramValue)> {
        self.histograms.get(&slot)?.last()
    }

    /// Whether a series has samples.
    pub fn has(&self, slot: u32) -> bool {
        self.points.has(slot) || self.histograms.contains_key(&slot) || self.late.contains_key(&slot)
    }

    /// Appends the samples of a series from `min` to `max`, late ones aside.
    pub fn read(&self, slot: u32, min: i64, max: i64, into: &mut Columns) {
        self.points.read(slot, min, max, into);
        if let Some(samples) = self.histograms.get(&slot) {
            into.histograms.extend(samples.iter().filter(|sample| (min..=max).contains(&sample.0)).cloned());
        }
    }

    /// Appends the late samples of a series from `min` to `max`.
    pub fn read_late(&self, slot: u32, min: i64, max: i64, into: &mut Columns) {
        for (time, value) in self.late.get(&slot).into_iter().flatten() {
            if (min..=max).contains(time) {
                into.push(*time, value.clone());
            }
        }
    }

    /// Takes all samples out.
    pub fn freeze(&mut self) -> Frozen {
        let mut frozen = Frozen {
            points: self.points.take(),
            span: self.span,
            late_span: self.late_span,
            samples: self.samples,
            ..Frozen::default()
        };
        frozen.histograms = std::mem::take(&mut self.histograms).into_iter().collect();
        frozen.histograms.sort_by_key(|series| series.0);
        frozen.late = std::mem::take(&mut self.late).into_iter().collect();
        frozen.late.sort_by_key(|series| series.0);
        *self = Self { points: std::mem::take(&mut self.points), ..Self::default() };
        frozen
    }

    /// Takes the memory of samples that are in a segment by now, to use it again.
    pub fn recycle(&mut self, frozen: Frozen) {
        self.points.recycle(frozen.points);
    }
}

/// Samples that are being flushed; by ascending slot.
#[derive(Debug)]
pub struct Frozen {
    /// Floats.
    points: Points,
    /// Histograms.
    pub histograms: Vec<(u32, Vec<(i64, HistogramValue)>)>,
    /// Samples behind the last of their series.
    pub late: Vec<(u32, Vec<(i64, Value)>)>,
    /// Times of the samples, late ones aside.
    pub span: Span,
    /// Times of late samples.
    pub late_span: Span,
    /// How many samples there are.
    pub samples: u64,
}

impl Default for Frozen {
    fn default() -> Self {
        Self {
            points: Points::default(),
            histograms: Vec::new(),
            late: Vec::new(),
            span: Span::EMPTY,
            late_span: Span::EMPTY,
            samples: 0,
        }
    }
}

fn of<T>(series: &[(u32, T)], slot: u32) -> Option<&T> {
    let at = series.binary_search_by_key(&slot, |series| series.0).ok()?;
    Some(&series[at].1)
}

impl Frozen {
    /// Appends the samples of a series from `min` to `max`, late ones aside.
    pub fn read(&self, slot: u32, min: i64, max: i64, into: &mut Columns) {
        self.points.read(slot, min, max, into);
        if let Some(samples) = of(&self.histograms, slot) {
            into.histograms.extend(samples.iter().filter(|sample| (min..=max).contains(&sample.0)).cloned());
        }
    }

    /// Appends the late samples of a series from `min` to `max`.
    pub fn read_late(&self, slot: u32, min: i64, max: i64, into: &mut Columns) {
        for (time, value) in of(&self.late, slot).into_iter().flatten() {
            if (min..=max).contains(time) {
                into.push(*time, value.clone());
            }
        }
    }

    /// Slots that have samples other than late ones, ascending.
    pub fn slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.points.slots().chain(self.histograms.iter().map(|series| series.0)).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Whether a series has samples.
    pub fn has(&self, slot: u32) -> bool {
        self.points.has(slot) || of(&self.histograms, slot).is_some() || of(&self.late, slot).is_some()
    }
}
