//! What makes a histogram valid; the words are those that Prometheus answers senders with.

use super::{
    Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, MAX_SCHEMA, MIN_SCHEMA, Span, integer::running, is_custom,
    is_exponential,
};

/// Why a histogram is not valid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Neither exponential nor listed bounds.
    #[error(
        "histogram has an invalid schema, which must be between {MIN_SCHEMA} and {MAX_SCHEMA} for exponential buckets, or \
         {CUSTOM_SCHEMA} for custom buckets, got schema {0}"
    )]
    Schema(i32),
    /// Fewer observations in all than in the buckets; only a NaN sum allows that, since NaNs fall in no bucket.
    #[error(
        "{0} observations found in buckets, but the Count field is {1}: histogram's observation count should be at least the number of observations found in the buckets"
    )]
    CountTooSmall(u64, u64),
    /// As many observations as in the buckets were expected.
    #[error(
        "{0} observations found in buckets, but the Count field is {1}: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch(u64, u64),
    /// A negative number of observations in all.
    #[error("observation count is {0}: histogram's observation count is negative")]
    NegativeCount(f64),
    /// A negative number of observations in a bucket.
    #[error("{0} has observation count of {1}: histogram has a bucket whose observation count is negative")]
    NegativeBucket(String, f64),
    /// Spans that go backwards.
    #[error("{0} side: span number {1} with offset {2}: histogram has a span whose offset is negative")]
    NegativeOffset(&'static str, usize, i32),
    /// Spans that name more or fewer buckets than there are.
    #[error(
        "{0} side: spans need {1} buckets, have {2} buckets: histogram spans specify different number of buckets than provided"
    )]
    Spans(&'static str, u64, usize),
    /// Buckets past the last listed bound.
    #[error(
        "custom buckets: only {0} custom bounds defined which is insufficient to cover total span length of {1}: histogram custom bounds are too few"
    )]
    FewBounds(usize, i64),
    /// Listed bounds that do not ascend.
    #[error(
        "custom buckets: previous bound is {0} and current is {1}: histogram custom bounds must be in strictly increasing order"
    )]
    BoundOrder(f64, f64),
    /// A listed bound that is infinite.
    #[error("custom buckets: histogram custom bounds must be finite")]
    InfiniteBound,
    /// A listed bound that is no number.
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    NanBound,
    /// Something that histograms with listed bounds do not have.
    #[error("custom buckets: must {0}")]
    CustomWith(&'static str),
    /// Listed bounds beside an exponential schema.
    #[error("histogram with exponential schema must not have custom bounds")]
    BoundsWithSchema,
}

impl FloatHistogram {
    /// Checks spans, buckets and bounds. That the count covers the buckets is not checked: sums of floats may miss it.
    pub fn check(&self) -> Result<(), Invalid> {
        let shape = Shape {
            schema: self.schema,
            custom: &self.custom,
            zeros: self.zero_count != 0.0,
            threshold: self.zero_threshold,
        };
        shape.check(&self.positive, &self.negative)?;
        if self.zero_count < 0.0 {
            return Err(Invalid::NegativeBucket("zero bucket".to_owned(), self.zero_count));
        }
        if self.count < 0.0 {
            return Err(Invalid::NegativeCount(self.count));
        }
        counts("negative", self.negative.values.iter().copied())?;
        counts("positive", self.positive.values.iter().copied())
    }
}

impl Histogram {
    /// Checks spans, buckets, bounds, and that the count is that of the buckets.
    pub fn check(&self) -> Result<(), Invalid> {
        let shape = Shape {
            schema: self.schema,
            custom: &self.custom,
            zeros: self.zero_count != 0,
            threshold: self.zero_threshold,
        };
        shape.check(&self.positive, &self.negative)?;
        let mut total = self.zero_count;
        for (name, side) in [("negative", &self.negative), ("positive", &self.positive)] {
            counts(name, running(&side.values).map(|count| count as f64))?;
            total = running(&side.values).fold(total, |total, count| total.saturating_add(count as u64));
        }
        if self.sum.is_nan() {
            if total > self.count {
                return Err(Invalid::CountTooSmall(total, self.count));
            }
        } else if total != self.count {
            return Err(Invalid::CountMismatch(total, self.count));
        }
        Ok(())
    }
}

struct Shape<'a> {
    schema: i32,
    custom: &'a [f64],
    zeros: bool,
    threshold: f64,
}

impl Shape<'_> {
    fn check<N>(&self, positive: &Buckets<N>, negative: &Buckets<N>) -> Result<(), Invalid> {
        if is_exponential(self.schema) {
            spans("positive", &positive.spans, positive.values.len())?;
            spans("negative", &negative.spans, negative.values.len())?;
            return if self.custom.is_empty() { Ok(()) } else { Err(Invalid::BoundsWithSchema) };
        }
        if !is_custom(self.schema) {
            return Err(Invalid::Schema(self.schema));
        }
        bounds(self.custom)?;
        spans("positive", &positive.spans, positive.values.len())?;
        let reach: i64 = positive.spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        if reach > self.custom.len() as i64 + 1 || positive.spans.first().is_some_and(|span| span.offset < 0) {
            return Err(Invalid::FewBounds(self.custom.len(), reach));
        }
        match () {
            () if self.zeros => Err(Invalid::CustomWith("have zero count of 0")),
            () if self.threshold != 0.0 => Err(Invalid::CustomWith("have zero threshold of 0")),
            () if !negative.spans.is_empty() => Err(Invalid::CustomWith("not have negative spans")),
            () if !negative.values.is_empty() => Err(Invalid::CustomWith("not have negative buckets")),
            () => Ok(()),
        }
    }
}

fn bounds(custom: &[f64]) -> Result<(), Invalid> {
    let mut before = f64::NEG_INFINITY;
    for &bound in custom {
        if bound.is_nan() {
            return Err(Invalid::NanBound);
        }
        if bound <= before {
            return Err(Invalid::BoundOrder(before, bound));
        }
        if bound.is_infinite() {
            return Err(Invalid::InfiniteBound);
        }
        before = bound;
    }
    Ok(())
}

fn spans(side: &'static str, spans: &[Span], have: usize) -> Result<(), Invalid> {
    for (i, span) in spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(Invalid::NegativeOffset(side, i + 1, span.offset));
        }
    }
    let need: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if need == have as u64 { Ok(()) } else { Err(Invalid::Spans(side, need, have)) }
}

fn counts(side: &str, counts: impl Iterator<Item = f64>) -> Result<(), Invalid> {
    for (i, count) in counts.enumerate() {
        if count < 0.0 {
            return Err(Invalid::NegativeBucket(format!("{side} side: bucket number {}", i + 1), count));
        }
    }
    Ok(())
}
