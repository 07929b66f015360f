//! Values at times: floats, native histograms, exemplars, and the marker of a series that has ended.
//!
//! Times are milliseconds since 1970 (UTC), as in Prometheus' storage and remote-write formats.
//! See <https://prometheus.io/docs/prometheus/latest/querying/basics/#staleness>.

use std::sync::Arc;

use crate::{histogram::FloatHistogram, labels::Labels};

/// The bits of the stale marker: a signalling NaN that no arithmetic yields.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker: as a float's value, or as a histogram's sum, it says that the series ended here.
pub const STALE_NAN: f64 = f64::from_bits(STALE_NAN_BITS);

/// The bits of the NaN that arithmetic and parsed text give (Go's `math.NaN()`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The NaN that arithmetic and parsed text give.
pub const NORMAL_NAN: f64 = f64::from_bits(NORMAL_NAN_BITS);

/// Whether `value` is the stale marker and not just any NaN.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A float at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatSample {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The value; [`STALE_NAN`] where the series ended.
    pub value: f64,
}

/// A native histogram at a time. Integer histograms are turned into floats when read for evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The value, shared; its sum is [`STALE_NAN`] where the series ended.
    pub value: Arc<FloatHistogram>,
}

/// One observation kept as an example of what a sample counts, usually with the trace that made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What names the example, for instance `trace_id`.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// Milliseconds since 1970; absent where the target gave none.
    pub timestamp: Option<i64>,
}
