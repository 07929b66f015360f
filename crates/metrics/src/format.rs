//! The forms in which targets expose samples: text, OpenMetrics, protocol buffers.
//!
//! ```text
//! Content-Type ── negotiate ──▶ Format ──▶ text: a line at a time, borrowed from the answer
//!                                     └──▶ protobuf: a metric family at a time
//! classic buckets ── custom ──▶ native histograms with custom buckets
//! ```
//!
//! Text is read line by line as it comes, so that an answer need not be in memory as a whole. Nothing is allocated for a
//! line whose series is known: the caller compares its beginning with what it has seen before and asks only for the
//! [`text::Rest`].
//!
//! In reading order:
//!
//! - [`number`]: floats from text and back
//! - [`negotiate`]: what is asked for, and what an answer is
//! - [`text`]: text and OpenMetrics
//! - [`protobuf`]: protocol buffers
//! - [`custom`]: classic histograms to native ones
//!
//! See <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

pub mod number;

pub mod negotiate;

pub mod text;

pub mod protobuf;

pub mod custom;

/// What a metric is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody says.
    #[default]
    Unknown,
    /// Counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Observations in buckets, as they are now.
    GaugeHistogram,
    /// Observations with quantiles.
    Summary,
    /// Always 1, with labels that say something.
    Info,
    /// Whether each of several states is.
    StateSet,
}

impl Kind {
    /// Its name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// A value of a label as it is stored: bounds and quantiles are written in one way.
pub fn canonical<'a>(kind: Kind, label: &str, value: &'a str) -> std::borrow::Cow<'a, str> {
    let bound = (kind == Kind::Summary && label == "quantile") || (kind == Kind::Histogram && label == "le");
    match bound.then(|| number::parse_go(value)).flatten() {
        Some(number) => number::open_metrics(number).into(),
        None => value.into(),
    }
}

#[cfg(test)]
mod tests;
