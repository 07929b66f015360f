//! Protocol buffers: metric families, each with its length in front.
//!
//! A histogram with spans, a zero threshold or observations of zero is a native one; others are classic and become
//! several series.
//!
//! See <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>.

use std::sync::Arc;

use prost::Message;
use tsdb::{
    column::HistogramValue,
    histogram::{Buckets, FloatHistogram, Histogram as Integer, ResetHint, Span as TsdbSpan},
    labels::{Builder, NAME},
    sample::{Exemplar as Stored, NORMAL_NAN},
};

use super::{Kind, custom::Classic, number};

/// Buckets of a native histogram at most.
const BUCKETS: u64 = 100_000;

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Timestamp {
    fn millis(&self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos) / 1_000_000)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<Exemplar>,
    #[prost(message, optional, tag = "3")]
    start: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantile {
    #[prost(double, tag = "1")]
    quantile: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
    #[prost(message, optional, tag = "4")]
    start: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
    #[prost(double, tag = "4")]
    count_float: f64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(double, tag = "4")]
    count_float: f64,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(double, tag = "8")]
    zero_count_float: f64,
    #[prost(message, repeated, tag = "9")]
    negative_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "10")]
    negative_delta: Vec<i64>,
    #[prost(double, repeated, tag = "11")]
    negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(double, repeated, tag = "14")]
    positive_count: Vec<f64>,
    #[prost(message, optional, tag = "15")]
    start: Option<Timestamp>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Value>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

/// What is made of histograms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether native ones are taken.
    pub native: bool,
    /// Whether classic ones are taken beside native ones.
    pub classic: bool,
    /// Whether classic ones become native ones.
    pub convert: bool,
}

/// What a metric family says.
#[derive(Debug)]
pub enum Item<'a> {
    /// What it is.
    About {
        /// Its name.
        name: &'a str,
        /// What it is.
        kind: Kind,
        /// What it is about.
        help: &'a str,
        /// In what it is measured.
        unit: &'a str,
    },
    /// A sample.
    Sample {
        /// The labels, its name among them.
        labels: Builder,
        /// The value.
        value: Measured,
        /// Milliseconds since 1970, if it says so.
        time: Option<i64>,
        /// When it began to count, in milliseconds since 1970.
        start: Option<i64>,
        /// Exemplars.
        exemplars: Vec<Stored>,
    },
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramValue),
}

/// Splits what has come into whole families: the first one and how many bytes it takes with its length; `None` while it is
/// not there yet.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, String> {
    let mut length = 0u64;
    for (i, byte) in bytes.iter().enumerate() {
        if i == 10 {
            return Err("protobuf: the length of a metric family is no number".to_owned());
        }
        length |= u64::from(byte & 0x7f) << (7 * i.min(9));
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).map_err(|_| "protobuf: a metric family is too long".to_owned())?;
            let end = (i + 1).checked_add(length).ok_or("protobuf: a metric family is too long")?;
            return Ok(bytes.get(i + 1..end).map(|family| (family, end)));
        }
    }
    Ok(None)
}

/// Reads a family and hands out what it says.
pub fn family(
    bytes: &[u8],
    options: Options,
    each: &mut dyn FnMut(Item<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let family = Family::decode(bytes).map_err(|error| format!("protobuf: {error}"))?;
    if family.metric.is_empty() {
        return Ok(());
    }
    if family.name.is_empty() {
        return Err("invalid metric name: ".to_owned());
    }
    let kind = match family.kind {
        0 => Kind::Counter,
        1 => Kind::Gauge,
        2 => Kind::Summary,
        3 => Kind::Unknown,
        4 => Kind::Histogram,
        5 => Kind::GaugeHistogram,
        other => {
            let name = tsdb::labels::quote(&family.name);
            return Err(format!("unknown metric type for metric {name}: {other}"));
        }
    };
    each(Item::About { name: &family.name, kind, help: &family.help, unit: &family.unit })?;
    family.metric.iter().try_for_each(|metric| read_metric(&family.name, kind, metric, options, each))
}

fn canonical_nan(value: f64) -> f64 {
    if value.is_nan() { NORMAL_NAN } else { value }
}

fn read_metric(
    name: &str,
    kind: Kind,
    metric: &Metric,
    options: Options,
    each: &mut dyn FnMut(Item<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let labels = |suffix: &str, extra: Option<(&str, f64)>| {
        let mut builder = Builder::default();
        builder.set(NAME, &format!("{name}{suffix}"));
        for pair in &metric.label {
            builder.set(&pair.name, &pair.value);
        }
        if let Some((name, bound)) = extra {
            builder.set(name, &number::open_metrics(bound));
        }
        builder
    };
    let time = (metric.timestamp_ms != 0).then_some(metric.timestamp_ms);
    let mut float = |labels: Builder, value: f64, start: Option<Timestamp>, exemplar: Option<&Exemplar>| {
        each(Item::Sample {
            labels,
            value: Measured::Float(canonical_nan(value)),
            time,
            start: start.map(|start| start.millis()),
            exemplars: exemplar.into_iter().map(stored).collect(),
        })
    };
    match kind {
        Kind::Counter => {
            let counter = metric.counter.clone().unwrap_or_default();
            float(labels("", None), counter.value, counter.start, counter.exemplar.as_ref())
        }
        Kind::Gauge => float(labels("", None), metric.gauge.as_ref().map_or(0.0, |gauge| gauge.value), None, None),
        Kind::Summary => {
            let summary = metric.summary.clone().unwrap_or_default();
            float(labels("_count", None), summary.count as f64, summary.start, None)?;
            float(labels("_sum", None), summary.sum, summary.start, None)?;
            summary.quantile.iter().try_for_each(|quantile| {
                float(labels("", Some(("quantile", quantile.quantile))), quantile.value, summary.start, None)
            })
        }
        Kind::Histogram | Kind::GaugeHistogram => {
            let empty = Histogram::default();
            let histogram = metric.histogram.as_ref().unwrap_or(&empty);
            let native = options.native && is_native(histogram);
            if native {
                let value = native_value(histogram, kind).map_err(|error| {
                    let name = tsdb::labels::quote(name);
                    format!("histogram {name}: {error}")
                })?;
                let own: Vec<&Exemplar> = if histogram.exemplars.is_empty() {
                    histogram.bucket.iter().filter_map(|bucket| bucket.exemplar.as_ref()).collect()
                } else {
                    histogram.exemplars.iter().collect()
                };
                each(Item::Sample {
                    labels: labels("", None),
                    value: Measured::Histogram(value),
                    time,
                    start: histogram.start.map(|start| start.millis()),
                    exemplars: own.into_iter().filter(|one| one.timestamp.is_some()).map(stored).collect(),
                })?;
            }
            let classic = if native {
                options.classic && !histogram.bucket.is_empty()
            } else {
                options.classic || !options.convert
            };
            let count = if histogram.count_float > 0.0 { histogram.count_float } else { histogram.count as f64 };
            let up_to =
                |bucket: &Bucket| if bucket.count_float > 0.0 { bucket.count_float } else { bucket.count as f64 };
            if classic {
                let mut float = |labels: Builder, value: f64, exemplar: Option<&Exemplar>| {
                    each(Item::Sample {
                        labels,
                        value: Measured::Float(canonical_nan(value)),
                        time,
                        start: histogram.start.map(|start| start.millis()),
                        exemplars: exemplar.into_iter().map(stored).collect(),
                    })
                };
                float(labels("_count", None), count, None)?;
                float(labels("_sum", None), histogram.sum, None)?;
                for bucket in &histogram.bucket {
                    let labels = labels("_bucket", Some(("le", bucket.bound)));
                    float(labels, up_to(bucket), bucket.exemplar.as_ref())?;
                }
                if histogram.bucket.last().is_none_or(|last| last.bound != f64::INFINITY) {
                    float(labels("_bucket", Some(("le", f64::INFINITY))), count, None)?;
                }
            }
            if !native && options.convert {
                let mut parts = Classic::default();
                parts.count(count);
                parts.sum(histogram.sum);
                histogram.bucket.iter().for_each(|bucket| parts.bucket(bucket.bound, up_to(bucket)));
                let mut value = parts.convert()?;
                if kind == Kind::GaugeHistogram {
                    value = as_gauge(value);
                }
                let own = histogram.bucket.iter().filter_map(|bucket| bucket.exemplar.as_ref());
                each(Item::Sample {
                    labels: labels("", None),
                    value: Measured::Histogram(value),
                    time,
                    start: histogram.start.map(|start| start.millis()),
                    exemplars: own.filter(|one| one.timestamp.is_some()).map(stored).collect(),
                })?;
            }
            Ok(())
        }
        _ => float(labels("", None), metric.untyped.as_ref().map_or(0.0, |untyped| untyped.value), None, None),
    }
}

fn as_gauge(value: HistogramValue) -> HistogramValue {
    match value {
        HistogramValue::Integer(histogram) => {
            HistogramValue::Integer(Arc::new(Integer { reset: ResetHint::Gauge, ..(*histogram).clone() }))
        }
        HistogramValue::Float(histogram) => {
            HistogramValue::Float(Arc::new(FloatHistogram { reset: ResetHint::Gauge, ..(*histogram).clone() }))
        }
    }
}

fn stored(exemplar: &Exemplar) -> Stored {
    let mut builder = Builder::default();
    for pair in &exemplar.label {
        builder.set(&pair.name, &pair.value);
    }
    Stored {
        labels: builder.labels(),
        value: exemplar.value,
        timestamp: exemplar.timestamp.as_ref().map(Timestamp::millis),
    }
}

fn is_native(histogram: &Histogram) -> bool {
    !histogram.positive_span.is_empty()
        || !histogram.negative_span.is_empty()
        || histogram.zero_threshold > 0.0
        || histogram.zero_count > 0
}

fn spans(side: &str, spans: &[Span], buckets: usize) -> Result<Vec<TsdbSpan>, String> {
    let total: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if total > BUCKETS || total != buckets as u64 {
        return Err(format!("{side} side: spans require {total} buckets, have {buckets}"));
    }
    Ok(spans.iter().map(|span| TsdbSpan { offset: span.offset, length: span.length }).collect())
}

fn native_value(histogram: &Histogram, kind: Kind) -> Result<HistogramValue, String> {
    let reset = if kind == Kind::GaugeHistogram { ResetHint::Gauge } else { ResetHint::Unknown };
    if histogram.count_float > 0.0 || histogram.zero_count_float > 0.0 {
        let positive = spans("positive", &histogram.positive_span, histogram.positive_count.len())?;
        let negative = spans("negative", &histogram.negative_span, histogram.negative_count.len())?;
        let mut value = FloatHistogram {
            reset,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count_float,
            count: histogram.count_float,
            sum: histogram.sum,
            positive: Buckets { spans: positive, values: histogram.positive_count.clone() },
            negative: Buckets { spans: negative, values: histogram.negative_count.clone() },
            ..FloatHistogram::default()
        };
        value.compact(0);
        return Ok(HistogramValue::Float(Arc::new(value)));
    }
    let positive = spans("positive", &histogram.positive_span, histogram.positive_delta.len())?;
    let negative = spans("negative", &histogram.negative_span, histogram.negative_delta.len())?;
    let mut value = Integer {
        reset,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        count: histogram.count,
        sum: histogram.sum,
        positive: Buckets { spans: positive, values: histogram.positive_delta.clone() },
        negative: Buckets { spans: negative, values: histogram.negative_delta.clone() },
        ..Integer::default()
    };
    value.compact(0);
    Ok(HistogramValue::Integer(Arc::new(value)))
}
