//! Integer histograms, as targets expose them and logs keep them.

use std::sync::Arc;

use super::{Buckets, FloatHistogram, ResetHint, is_custom};

/// A native histogram of whole counts; buckets hold deltas.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// What is known of counter resets.
    pub reset: ResetHint,
    /// Resolution, or [`super::CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Observations in all.
    pub count: u64,
    /// Sum of the observations; [`crate::sample::STALE_NAN`] marks the end of the series.
    pub sum: f64,
    /// Buckets above zero; all of them where bounds are listed.
    pub positive: Buckets<i64>,
    /// Buckets below zero, indexed by absolute value.
    pub negative: Buckets<i64>,
    /// The listed upper bounds, ascending; empty for exponential schemas.
    pub custom: Arc<[f64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            reset: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0,
            count: 0,
            sum: 0.0,
            positive: Buckets::new(),
            negative: Buckets::new(),
            custom: Arc::default(),
        }
    }
}

impl Histogram {
    /// Whether the bounds are listed.
    pub fn is_custom(&self) -> bool {
        is_custom(self.schema)
    }

    /// The same with floats.
    pub fn to_float(&self) -> FloatHistogram {
        let counts = |buckets: &Buckets<i64>| Buckets {
            spans: buckets.spans.clone(),
            values: running(&buckets.values).map(|c| c as f64).collect(),
        };
        FloatHistogram {
            reset: self.reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive: counts(&self.positive),
            negative: counts(&self.negative),
            custom: self.custom.clone(),
        }
    }

    /// The same with fewer buckets; `schema` is not above this one's. Listed bounds stay as they are.
    pub fn reduced(&self, schema: i32) -> Self {
        let mut histogram = self.clone();
        if !self.is_custom() && schema < self.schema && !is_custom(schema) {
            let (from, to) = (self.schema, schema);
            for side in [&mut histogram.positive, &mut histogram.negative] {
                let mut counts: Vec<(i32, i64)> = Vec::new();
                let absolute = side.indexed().zip(running(&side.values));
                for ((index, _), count) in absolute {
                    let index = super::buckets::reduced(index, from, to);
                    match counts.last_mut() {
                        Some(last) if last.0 == index => last.1 = last.1.wrapping_add(count),
                        _ => counts.push((index, count)),
                    }
                }
                *side = deltas(counts);
            }
            histogram.schema = schema;
        }
        histogram
    }

    /// Drops empty buckets, but keeps up to `gap` of them between two others where that saves a span.
    pub fn compact(&mut self, gap: usize) -> &mut Self {
        for side in [&mut self.positive, &mut self.negative] {
            let mut counts: Vec<(i32, i64)> = Vec::new();
            for ((index, _), count) in side.indexed().zip(running(&side.values)).filter(|(_, count)| *count != 0) {
                if let Some(&(before, _)) = counts.last() {
                    let between = i64::from(index) - i64::from(before) - 1;
                    if between > 0 && between <= gap.min(1 << 16) as i64 {
                        counts.extend((before + 1..index).map(|empty| (empty, 0)));
                    }
                }
                counts.push((index, count));
            }
            *side = deltas(counts);
        }
        self
    }
}

/// Absolute counts of deltas.
pub(super) fn running(deltas: &[i64]) -> impl Iterator<Item = i64> + '_ {
    deltas.iter().scan(0i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(*count)
    })
}

fn deltas(counts: Vec<(i32, i64)>) -> Buckets<i64> {
    let mut before = 0i64;
    Buckets::from_pairs(counts.into_iter().map(|(index, count)| {
        let delta = count.wrapping_sub(before);
        before = count;
        (index, delta)
    }))
}
