//! Histograms as text.

use std::fmt::Write;

use tsdb::histogram::{Bucket, Buckets, FloatHistogram, ResetHint};

use crate::number::short;

/// `{count:3, sum:4, (1,2]:3}`: buckets that are not empty, from the lowest up.
pub fn plain(histogram: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", short(histogram.count), short(histogram.sum));
    let mut write = |bucket: Bucket| {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let (lower, upper, count) = (short(bucket.lower), short(bucket.upper), short(bucket.count));
        write!(out, ", {open}{lower},{upper}{close}:{count}").expect("strings grow");
    };
    histogram.negative_buckets().rev().filter(|bucket| bucket.count != 0.0).for_each(&mut write);
    if histogram.zero_count != 0.0 {
        write(histogram.zero_bucket());
    }
    histogram.positive_buckets().filter(|bucket| bucket.count != 0.0).for_each(&mut write);
    out.push('}');
    out
}

/// `{{schema:1 count:3 buckets:[1 2]}}`, as files of rule tests have it.
pub fn for_tests(histogram: &FloatHistogram) -> String {
    let mut histogram = histogram.clone();
    histogram.compact(1 << 16);
    let mut parts = Vec::new();
    if histogram.schema != 0 {
        parts.push(format!("schema:{}", histogram.schema));
    }
    for (name, value) in [
        ("count", histogram.count),
        ("sum", histogram.sum),
        ("z_bucket", histogram.zero_count),
        ("z_bucket_w", histogram.zero_threshold),
    ] {
        if value != 0.0 {
            parts.push(format!("{name}:{}", short(value)));
        }
    }
    let list = |values: &[f64]| values.iter().map(|value| short(*value)).collect::<Vec<_>>().join(" ");
    if histogram.is_custom() {
        parts.push(format!("custom_values:[{}]", list(&histogram.custom)));
    }
    match histogram.reset {
        ResetHint::Unknown => {}
        ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
        ResetHint::NoReset => parts.push("counter_reset_hint:not_reset".to_owned()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    let mut side = |buckets: &Buckets<f64>, name: &str, offset: &str| {
        if let Some(span) = buckets.spans.first().filter(|span| span.offset != 0) {
            parts.push(format!("{offset}:{}", span.offset));
        }
        if !buckets.values.is_empty() {
            parts.push(format!("{name}:[{}]", list(&buckets.values)));
        }
    };
    side(&histogram.positive, "buckets", "offset");
    side(&histogram.negative, "n_buckets", "n_offset");
    format!("{{{{{}}}}}", parts.join(" "))
}
