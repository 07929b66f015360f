//! An hour of series of every kind, the same in each run: counters with resets, gauges with gaps and stale markers, classic and
//! native histograms, names beyond letters.

use std::sync::Arc;

use metrics::remote::request::{Item, Sent, Value};
use tsdb::{
    column::HistogramValue,
    histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, ResetHint, Span},
    labels::Labels,
    sample::{Exemplar, STALE_NAN},
};

use super::random::Random;

/// The time of the first sample, in milliseconds since 1970.
pub const START: i64 = 1_700_000_100_000;
/// No sample is later.
pub const END: i64 = START + 3_600_000;
const STEP: i64 = 15_000;
const STEPS: i64 = (END - START) / STEP;

/// What a series is at its steps.
enum Kind {
    Counter,
    Gauge,
    /// With gaps and stale markers.
    Gaps,
    /// NaN, infinities and zeros among others.
    Odd,
    Constant,
    /// Counts of a classic histogram below a bound, given as its place of five.
    Bucket(u64),
    Native,
    Float,
    Bounds,
    /// Floats first, histograms then.
    Mixed,
}

/// All samples, series by series in the order of their labels, so that both data bases know them in the same order.
pub fn items() -> Vec<Item> {
    let mut series: Vec<(Labels, Kind)> = Vec::new();
    let mut add = |name: &str, more: &[(&str, &str)], kind: Kind| {
        let pairs = [("__name__", name)].into_iter().chain(more.iter().copied());
        series.push((Labels::from_pairs(pairs.filter(|pair| !pair.1.is_empty())), kind));
    };
    for (job, zones) in [("api", ["a", "b", ""]), ("web", ["a", "a", "b"]), ("db", ["", "", ""])] {
        for (instance, zone) in zones.iter().enumerate() {
            let instance = instance.to_string();
            let whose = [("job", job), ("instance", instance.as_str()), ("zone", *zone)];
            add("requests_total", &whose, Kind::Counter);
            add("temperature", &whose, Kind::Gauge);
            add("memory_bytes", &whose, Kind::Gaps);
            add(
                "target_info",
                &[("job", job), ("instance", &instance), ("version", ["1", "2", "1"][zone.len() % 3])],
                Kind::Constant,
            );
            if job != "db" {
                add("errors_total", &whose, Kind::Counter);
                add("latency", &whose, Kind::Native);
                add("size_sum", &whose, Kind::Counter);
                add("size_count", &whose, Kind::Bucket(5));
                for (place, le) in ["0.1", "0.5", "1.0", "5.0", "+Inf"].iter().enumerate() {
                    let mut labels = whose.to_vec();
                    labels.push(("le", le));
                    add("size_bucket", &labels, Kind::Bucket(place as u64 + 1));
                }
            }
            if job == "api" {
                add("load", &whose, Kind::Float);
                add("bounds", &whose, Kind::Bounds);
                add("mixed", &whose, Kind::Mixed);
                add("odd", &whose, Kind::Odd);
                add("utf8.metric name", &[("job", job), ("instance", &instance), ("a.b", "ü")], Kind::Gauge);
            }
        }
    }
    series.sort_by(|left, right| left.0.iter().cmp(right.0.iter()));
    let mut out = Vec::new();
    for (nth, (labels, kind)) in series.into_iter().enumerate() {
        let mut random = Random::new(nth as u64 + 7);
        let counter = labels.metric() == "requests_total";
        let sent = Arc::new(Sent { labels, metadata: None });
        let mut push = |time: i64, value: Value| out.push(Item { series: sent.clone(), time, value });
        let (mut level, mut buckets) = (0.0_f64, [0_u64; 6]);
        let shift = random.below(STEP as u64) as i64;
        for step in 0..STEPS {
            // Some are collected at even times, some a little beside them.
            let time = START + step * STEP + if nth % 3 == 0 { 0 } else { shift + random.below(40) as i64 };
            match kind {
                Kind::Counter => {
                    level = if random.below(60) == 0 { 0.0 } else { level + random.below(30) as f64 };
                    if random.below(25) > 0 {
                        push(time, Value::Float(level));
                    }
                    if counter && step % 40 == 5 {
                        let labels = Labels::from_pairs([("trace_id", format!("t{step}"))]);
                        push(time, Value::Exemplar(Exemplar { labels, value: level, timestamp: Some(time) }));
                    }
                }
                Kind::Gauge => {
                    level += random.below(200) as f64 / 100.0 - 1.0;
                    push(time, Value::Float((level * 100.0).round() / 100.0));
                }
                Kind::Gaps => match random.below(12) {
                    0 => push(time, Value::Float(STALE_NAN)),
                    1 | 2 => {}
                    _ => push(time, Value::Float(random.below(1 << 40) as f64)),
                },
                Kind::Odd => {
                    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, 1e-300, 3.0, -7.5];
                    let value = odd[random.below(9) as usize];
                    // A stale marker is one NaN of many; this is the usual one.
                    push(time, Value::Float(if value.is_nan() { tsdb::sample::NORMAL_NAN } else { value }));
                }
                Kind::Constant => push(time, Value::Float(1.0)),
                Kind::Bucket(place) => {
                    for (at, bucket) in buckets.iter_mut().enumerate() {
                        *bucket += random.below(3 + at as u64);
                    }
                    let total: u64 = buckets[..place as usize].iter().sum();
                    push(time, Value::Float(total as f64));
                }
                Kind::Native => {
                    for bucket in &mut buckets {
                        *bucket = if random.below(200) == 0 { 0 } else { *bucket + random.below(5) };
                    }
                    push(time, Value::Histogram(native(&buckets, (nth % 4) as i32)));
                }
                Kind::Float => {
                    let values = [0; 4].map(|_: i32| random.below(50) as f64 / 4.0);
                    push(time, Value::Histogram(float(&values)));
                }
                Kind::Bounds => {
                    for bucket in &mut buckets {
                        *bucket += random.below(4);
                    }
                    push(time, Value::Histogram(bounds(&buckets[..4], step > STEPS / 2 && nth % 2 == 0)));
                }
                Kind::Mixed => {
                    for bucket in &mut buckets {
                        *bucket += random.below(5);
                    }
                    if step % 60 < 30 {
                        push(time, Value::Float(step as f64));
                    } else {
                        push(time, Value::Histogram(native(&buckets, 1)));
                    }
                }
            }
        }
    }
    out
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    let delta = |count: &u64| {
        let delta = *count as i64 - before;
        before = *count as i64;
        delta
    };
    counts.iter().map(delta).collect()
}

fn native(counts: &[u64; 6], schema: i32) -> HistogramValue {
    let total: u64 = counts.iter().sum();
    HistogramValue::Integer(Arc::new(Histogram {
        schema,
        zero_threshold: 0.001,
        zero_count: counts[0],
        count: total,
        sum: total as f64 * 0.75,
        positive: Buckets {
            spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 1 }],
            values: deltas(&counts[1..4]),
        },
        negative: Buckets { spans: vec![Span { offset: 0, length: 2 }], values: deltas(&counts[4..]) },
        ..Histogram::default()
    }))
}

fn float(values: &[f64; 4]) -> HistogramValue {
    HistogramValue::Float(Arc::new(FloatHistogram {
        reset: ResetHint::Gauge,
        schema: 2,
        zero_threshold: 0.01,
        zero_count: values[0],
        count: values.iter().sum(),
        sum: values.iter().sum::<f64>() * 1.5,
        positive: Buckets { spans: vec![Span { offset: 2, length: 3 }], values: values[1..].to_vec() },
        ..FloatHistogram::default()
    }))
}

/// With listed bounds; others later, so that they have to be reconciled.
fn bounds(counts: &[u64], other: bool) -> HistogramValue {
    let total: u64 = counts.iter().sum();
    HistogramValue::Integer(Arc::new(Histogram {
        schema: CUSTOM_SCHEMA,
        count: total,
        sum: total as f64,
        positive: Buckets { spans: vec![Span { offset: 0, length: 4 }], values: deltas(counts) },
        custom: if other { [0.1, 1.0, 10.0].into() } else { [0.1, 1.0, 5.0].into() },
        ..Histogram::default()
    }))
}
