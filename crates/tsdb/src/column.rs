//! Samples of one series as columns: what is read is decoded into them, and what is written comes from them.

use std::sync::Arc;

use crate::{
    histogram::{FloatHistogram, Histogram},
    sample::{STALE_NAN, is_stale},
};

/// A native histogram as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramValue {
    /// Whole counts.
    Integer(Arc<Histogram>),
    /// Counts that may be fractions.
    Float(Arc<FloatHistogram>),
}

impl HistogramValue {
    /// The end of a series of integer histograms.
    pub fn stale_integer() -> Self {
        Self::Integer(Arc::new(Histogram { sum: STALE_NAN, ..Histogram::default() }))
    }

    /// The end of a series of float histograms.
    pub fn stale_float() -> Self {
        Self::Float(Arc::new(FloatHistogram { sum: STALE_NAN, ..FloatHistogram::default() }))
    }

    /// The sum of the observations.
    pub fn sum(&self) -> f64 {
        match self {
            Self::Integer(histogram) => histogram.sum,
            Self::Float(histogram) => histogram.sum,
        }
    }

    /// Whether this marks the end of a series.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum())
    }

    /// How many buckets there are, without the zero bucket.
    pub fn buckets(&self) -> usize {
        match self {
            Self::Integer(histogram) => histogram.positive.values.len() + histogram.negative.values.len(),
            Self::Float(histogram) => histogram.positive.values.len() + histogram.negative.values.len(),
        }
    }

    /// With float counts, as evaluation needs it.
    pub fn to_float(&self) -> Arc<FloatHistogram> {
        match self {
            Self::Integer(histogram) => Arc::new(histogram.to_float()),
            Self::Float(histogram) => histogram.clone(),
        }
    }

    pub(crate) fn integer(&self) -> Option<&Histogram> {
        if let Self::Integer(histogram) = self { Some(histogram) } else { None }
    }

    pub(crate) fn float(&self) -> Option<&FloatHistogram> {
        if let Self::Float(histogram) = self { Some(histogram) } else { None }
    }

    /// Whether both are the same to the bit; unlike `==`, so are NaNs.
    pub fn same(&self, other: &Self) -> bool {
        if self.is_stale() && other.is_stale() {
            return true;
        }
        let bits = |values: &[f64], others: &[f64]| {
            values.len() == others.len() && values.iter().zip(others).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => {
                (a.schema, a.zero_threshold.to_bits(), a.zero_count, a.count, a.sum.to_bits())
                    == (b.schema, b.zero_threshold.to_bits(), b.zero_count, b.count, b.sum.to_bits())
                    && a.positive == b.positive
                    && a.negative == b.negative
                    && bits(&a.custom, &b.custom)
            }
            (Self::Float(a), Self::Float(b)) => {
                (a.schema, a.zero_threshold.to_bits(), a.zero_count.to_bits(), a.count.to_bits(), a.sum.to_bits())
                    == (
                        b.schema,
                        b.zero_threshold.to_bits(),
                        b.zero_count.to_bits(),
                        b.count.to_bits(),
                        b.sum.to_bits(),
                    )
                    && a.positive.spans == b.positive.spans
                    && a.negative.spans == b.negative.spans
                    && bits(&a.positive.values, &b.positive.values)
                    && bits(&a.negative.values, &b.negative.values)
                    && bits(&a.custom, &b.custom)
            }
            _ => false,
        }
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramValue),
}

impl Value {
    /// Whether both are the same to the bit; unlike `==`, so are NaNs.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => a.same(b),
            _ => false,
        }
    }
}

/// Samples of one series in order of time: floats as two columns of the same length, histograms beside them. No time is
/// in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Times of the floats, milliseconds since 1970, ascending.
    pub times: Vec<i64>,
    /// The floats.
    pub values: Vec<f64>,
    /// Histograms with their times, ascending.
    pub histograms: Vec<(i64, HistogramValue)>,
}

impl Columns {
    /// Forgets all samples and keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    /// Adds a sample behind the others.
    pub fn push(&mut self, time: i64, value: Value) {
        match value {
            Value::Float(value) => {
                self.times.push(time);
                self.values.push(value);
            }
            Value::Histogram(value) => self.histograms.push((time, value)),
        }
    }

    /// All samples in order of time.
    pub fn samples(&self) -> Vec<(i64, Value)> {
        let floats = self.times.iter().zip(&self.values).map(|(time, value)| (*time, Value::Float(*value)));
        let histograms = self.histograms.iter().map(|(time, value)| (*time, Value::Histogram(value.clone())));
        let mut samples: Vec<_> = floats.chain(histograms).collect();
        samples.sort_by_key(|sample| sample.0);
        samples
    }

    /// Brings samples that were appended from overlapping places into order; of several at one time, the one that was
    /// appended first stays.
    pub fn arrange(&mut self) {
        if !ascending(&self.times) {
            let mut order: Vec<usize> = (0..self.times.len()).collect();
            order.sort_by_key(|at| self.times[*at]);
            order.dedup_by_key(|at| self.times[*at]);
            self.values = order.iter().map(|at| self.values[*at]).collect();
            self.times = order.iter().map(|at| self.times[*at]).collect();
        }
        if !self.histograms.windows(2).all(|two| two[0].0 < two[1].0) {
            self.histograms.sort_by_key(|sample| sample.0);
            self.histograms.dedup_by_key(|sample| sample.0);
        }
        if !self.histograms.is_empty() && !self.times.is_empty() {
            let times = &self.times;
            self.histograms.retain(|(time, _)| times.binary_search(time).is_err());
        }
    }

    /// Drops the samples whose time `dropped` says.
    pub fn remove(&mut self, dropped: impl Fn(i64) -> bool) {
        let keep: Vec<bool> = self.times.iter().map(|time| !dropped(*time)).collect();
        let mut kept = keep.iter();
        self.times.retain(|_| *kept.next().unwrap_or(&true));
        let mut kept = keep.iter();
        self.values.retain(|_| *kept.next().unwrap_or(&true));
        self.histograms.retain(|(time, _)| !dropped(*time));
    }
}

/// Whether times ascend: whole pieces at a time, which the processor compares side by side.
fn ascending(times: &[i64]) -> bool {
    let later = times.get(1..).unwrap_or_default();
    let fits = |(times, later): (&[i64], &[i64])| times.iter().zip(later).fold(true, |fit, (a, b)| fit & (a < b));
    times.chunks(64).zip(later.chunks(64)).all(fits)
}

#[cfg(test)]
mod tests;
