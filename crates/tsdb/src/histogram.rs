//! Native histograms: sparse buckets on an exponential scale, or with bounds of their own.
//!
//! ```text
//! schema 0:   ... [-2,-1) [-1,-0.5) ... [-0.001,0.001] ... (0.5,1] (1,2] (2,4] ...
//! index           1       0             zero bucket       0       1     2
//! ```
//!
//! A schema `n` from -4 to 8 puts the bounds at powers of `2^(2^-n)`; schema -53 gives the upper bounds in a list. Spans
//! say which buckets are there. Integer histograms, as targets and logs have them, hold deltas between buckets; float
//! histograms, as evaluation needs them, hold counts. Counts may be negative or infinite after arithmetic, and spans may
//! come from a hostile target: nothing here relies on their being sound.
//!
//! In reading order:
//!
//! - `buckets`: spans with values; iteration, compaction, fewer buckets, sums
//! - `float`: float histograms and their arithmetic
//! - `zero`: bringing zero buckets of different width together
//! - `reset`: has a counter started again?
//! - `integer`: integer histograms
//! - `check`: what makes a histogram valid
//!
//! See <https://prometheus.io/docs/specs/native_histograms/>.

mod bounds;

mod buckets;

mod float;

mod zero;

mod reset;

mod integer;

mod check;

pub use buckets::{Bucket, Buckets, Indexed, Span};
pub use check::Invalid;
pub use float::{Added, Compensated, FloatHistogram, Incompatible};
pub use integer::Histogram;

/// The schema of histograms that list their bounds.
pub const CUSTOM_SCHEMA: i32 = -53;
/// The lowest exponential schema: each bound is 65,536 times the one before.
pub const MIN_SCHEMA: i32 = -4;
/// The highest exponential schema: 256 buckets for each power of two.
pub const MAX_SCHEMA: i32 = 8;
/// The lowest schema that is accepted from a target.
pub const MIN_RESERVED_SCHEMA: i32 = -9;
/// The highest schema that is accepted from a target, to be reduced to [`MAX_SCHEMA`].
pub const MAX_RESERVED_SCHEMA: i32 = 52;

/// What is known of counter resets just before a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    /// Nothing: compare with the one before.
    #[default]
    Unknown,
    /// There was a reset.
    Reset,
    /// There was none.
    NoReset,
    /// A gauge, which has no resets.
    Gauge,
}

/// Whether a schema lists its bounds.
pub fn is_custom(schema: i32) -> bool {
    schema == CUSTOM_SCHEMA
}

/// Whether a schema is one of the exponential ones.
pub fn is_exponential(schema: i32) -> bool {
    (MIN_SCHEMA..=MAX_SCHEMA).contains(&schema)
}

/// The upper bound of the bucket `index` of an exponential schema; that of the last bucket before the one for infinities
/// is the largest finite float.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    if schema < 0 {
        let exponent = index << (-schema).min(16);
        return if exponent == 1024 { f64::MAX } else { scale(1.0, exponent) };
    }
    let schema = schema.min(MAX_SCHEMA);
    let part = (index & ((1 << schema) - 1)) << (MAX_SCHEMA - schema);
    let fraction = bounds::BOUNDS[part as usize];
    let exponent = (index >> schema) + 1;
    if part == 0 && exponent == 1025 { f64::MAX } else { scale(fraction, exponent) }
}

/// The upper bound of the bucket `index`; of listed bounds, the one before the first is minus infinity and the one after
/// the last is infinity.
pub fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if !is_custom(schema) {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Ok(index) => custom.get(index).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

/// `value * 2^exponent` without losing range on the way.
fn scale(value: f64, exponent: i64) -> f64 {
    let power = |e: i64| f64::from_bits(((e + 1023) as u64) << 52);
    let mut value = value;
    let mut exponent = exponent.clamp(-2200, 2200);
    while exponent > 1023 {
        value *= power(1023);
        exponent -= 1023;
    }
    while exponent < -1022 {
        value *= power(-1022);
        exponent += 1022;
    }
    value * power(exponent)
}

/// Adds `value` to a sum whose lost low digits are collected beside it (Kahan's method as Neumaier improved it).
#[inline]
pub fn add_compensated(value: f64, sum: &mut f64, lost: &mut f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= value.abs() {
        *lost += (*sum - total) + value;
    } else {
        *lost += (value - total) + *sum;
    }
    *sum = total;
}

#[cfg(test)]
mod tests;
