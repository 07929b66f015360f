//! `rate`, `increase`, `delta`, `irate`, `idelta`, `resets` and `changes`.
//!
//! A counter's increase over a window is the difference of its ends, and all values from which it fell within. The places
//! where it falls are found once for each series; a window then costs nothing for the samples inside it.

use std::sync::Arc;

use tsdb::histogram::{FloatHistogram, ResetHint};

use super::{Subject, range::Shape, window::Window};
use crate::{
    annotation::{Note, Operation},
    function::Id,
    value::{Samples, Value},
};

/// Whether a counter started anew between two samples, by their start times.
fn starts_anew(start_before: i64, time_before: i64, start: i64, time: i64) -> bool {
    if start_before == start || start == 0 || start >= time || start < time_before {
        return false;
    }
    if start > time_before {
        return true;
    }
    start_before <= time_before && start_before != 0 && start_before != time_before
}

/// Whether a sample's start lies before the sample before it, and is not the same start.
fn overlaps(start_before: i64, time_before: i64, start: i64) -> bool {
    start != 0 && start < time_before && start != start_before
}

/// The places at which the floats of a series are less than before.
pub(super) fn drops(shape: Shape, samples: &Samples) -> Vec<usize> {
    if !matches!(shape.id, Id::Rate | Id::Increase) || shape.anchored || shape.smoothed {
        return Vec::new();
    }
    samples.floats.windows(2).enumerate().filter(|(_, pair)| pair[1] < pair[0]).map(|(at, _)| at + 1).collect()
}

/// The start times of a window, where they are to be used.
fn starts(column: &[i64], used: bool, length: usize) -> &[i64] {
    if used && column.len() == length { column } else { &[] }
}

pub(super) fn extrapolated(
    shape: Shape,
    window: &Window<'_>,
    drops: &[usize],
    subject: &Subject<'_>,
    use_starts: bool,
) -> Option<Value> {
    let (is_counter, is_rate) = (shape.id != Id::Delta, shape.id == Id::Rate);
    let (floats, histograms) = (window.floats, window.histograms);
    if !floats.is_empty() && !histograms.is_empty() {
        subject.note(Note::mixed_floats_histograms);
        return None;
    }
    let mut float = 0.0;
    let mut histogram = None;
    let (times, starts) = if histograms.is_empty() {
        let starts = starts(window.starts, use_starts && is_counter, floats.len());
        float = floats[floats.len() - 1] - floats[0];
        if is_counter {
            float = increase(float, window, drops, starts, subject);
        }
        (window.times, starts)
    } else {
        let starts = starts(window.histogram_starts, use_starts && is_counter, histograms.len());
        if histograms.len() > 1 {
            histogram = Some(histogram_increase(window, starts, is_counter, subject)?);
        }
        (window.histogram_times, starts)
    };
    let (first, last) = (times[0], times[times.len() - 1]);
    let intervals = times.len() - 1;
    let mut to_start = (first - window.start) as f64 / 1000.0;
    let mut to_end = (window.end - last) as f64 / 1000.0;
    let mut sampled = (last - first) as f64 / 1000.0;
    let average = if intervals > 0 { sampled / intervals as f64 } else { 0.0 };
    let threshold = average * 1.1;
    match starts.first() {
        // The counter began within the window: it began at zero, and nothing is to be guessed.
        Some(&begin) if begin != 0 && begin > window.start && begin < first => {
            to_start = 0.0;
            sampled = (last - begin) as f64 / 1000.0;
            if histograms.is_empty() {
                float += floats[0];
            } else if let Some(sum) = &mut histogram {
                add(sum, &histograms[0], subject)?;
            } else {
                histogram = Some((*histograms[0]).clone());
            }
        }
        _ if intervals == 0 => return None,
        _ => {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if is_counter {
                // A counter does not reach below zero.
                let mut to_zero = to_start;
                match &histogram {
                    None if float > 0.0 && floats[0] >= 0.0 => to_zero = sampled * (floats[0] / float),
                    Some(sum) if sum.count > 0.0 && histograms[0].count >= 0.0 => {
                        to_zero = sampled * (histograms[0].count / sum.count);
                    }
                    _ => {}
                }
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    if is_rate {
        factor /= shape.length as f64 / 1000.0;
    }
    Some(match histogram {
        None => Value::Float(float * factor),
        Some(mut histogram) => {
            histogram.multiply(factor);
            Value::histogram(histogram)
        }
    })
}

/// Adds to the difference of a window's ends what the counter lost when it started anew.
fn increase(difference: f64, window: &Window<'_>, drops: &[usize], starts: &[i64], subject: &Subject<'_>) -> f64 {
    let floats = window.floats;
    let mut sum = difference;
    if starts.is_empty() {
        let from = drops.partition_point(|at| *at <= window.first);
        for at in &drops[from..] {
            let Some(before) = (at - window.first).checked_sub(1).filter(|before| before + 1 < floats.len()) else {
                break;
            };
            sum += floats[before];
        }
        return sum;
    }
    let mut told = false;
    for i in 1..floats.len() {
        let (before, now) = (starts[i - 1], starts[i]);
        if !told && overlaps(before, window.times[i - 1], now) {
            subject.note(Note::start_overlap);
            told = true;
        }
        if floats[i] < floats[i - 1] || starts_anew(before, window.times[i - 1], now, window.times[i]) {
            sum += floats[i - 1];
        }
    }
    sum
}

/// Adds a histogram, with notes; nothing where they do not go together.
pub(super) fn add(sum: &mut FloatHistogram, other: &FloatHistogram, subject: &Subject<'_>) -> Option<()> {
    match sum.add(other) {
        Ok(added) => {
            if added.bounds_reconciled {
                subject.note(|_, place| Note::bounds_reconciled(Operation::Addition, place));
            }
            Some(())
        }
        Err(_) => {
            subject.note(Note::mixed_schemas);
            None
        }
    }
}

/// Takes a histogram away, with notes; nothing where they do not go together.
pub(super) fn subtract(sum: &mut FloatHistogram, other: &FloatHistogram, subject: &Subject<'_>) -> Option<()> {
    match sum.subtract(other) {
        Ok(added) => {
            if added.bounds_reconciled {
                subject.note(|_, place| Note::bounds_reconciled(Operation::Subtraction, place));
            }
            Some(())
        }
        Err(_) => {
            subject.note(Note::mixed_schemas);
            None
        }
    }
}

/// The increase over at least two histograms.
fn histogram_increase(
    window: &Window<'_>,
    starts: &[i64],
    is_counter: bool,
    subject: &Subject<'_>,
) -> Option<FloatHistogram> {
    let (points, times) = (window.histograms, window.histogram_times);
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let anew = |i: usize| i < starts.len() && starts_anew(starts[i - 1], times[i - 1], starts[i], times[i]);
    let is_gauge = |histogram: &FloatHistogram| histogram.reset == ResetHint::Gauge;
    if is_counter && (is_gauge(first) || is_gauge(last)) {
        subject.note(Note::not_counter);
    }
    let second = &points[1];
    // What the counter had before it started anew is not part of the increase, and may have other buckets.
    let begin = if is_counter && (anew(1) || second.is_reset_after(first)) {
        Arc::new(FloatHistogram { schema: second.schema, custom: second.custom.clone(), ..FloatHistogram::default() })
    } else {
        first.clone()
    };
    let is_custom = begin.is_custom();
    if last.is_custom() != is_custom {
        subject.note(Note::mixed_schemas);
        return None;
    }
    let mut schema = last.schema.min(begin.schema);
    if is_counter {
        for point in &points[1..points.len() - 1] {
            if is_gauge(point) {
                subject.note(Note::not_counter);
            }
            schema = schema.min(point.schema);
            if point.is_custom() != is_custom {
                subject.note(Note::mixed_schemas);
                return None;
            }
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        subject.note(Note::not_gauge);
    }
    let mut sum = last.reduced(schema);
    subtract(&mut sum, &begin, subject)?;
    if is_counter {
        let mut told = false;
        let mut before = &begin;
        for (i, point) in points.iter().enumerate().skip(1) {
            if !told && i < starts.len() && overlaps(starts[i - 1], times[i - 1], starts[i]) {
                subject.note(Note::start_overlap);
                told = true;
            }
            if anew(i) || point.is_reset_after(before) {
                add(&mut sum, before, subject)?;
            }
            before = point;
        }
    }
    sum.reset = ResetHint::Gauge;
    sum.compact(0);
    Some(sum)
}

/// A sample of either kind.
#[derive(Clone, Copy)]
struct Point<'a> {
    time: i64,
    start: i64,
    float: f64,
    histogram: Option<&'a Arc<FloatHistogram>>,
}

/// All samples of a window in order of time, from the given places on.
fn points<'a>(window: &Window<'a>, from: (usize, usize), use_starts: bool) -> impl Iterator<Item = Point<'a>> {
    let window = *window;
    let (mut float, mut histogram) = from;
    let start = move |column: &[i64], at: usize| if use_starts { column.get(at).copied().unwrap_or(0) } else { 0 };
    std::iter::from_fn(move || {
        let next_float = window.times.get(float);
        let next_histogram = window.histogram_times.get(histogram);
        match (next_float, next_histogram) {
            (Some(time), other) if other.is_none_or(|other| time < other) => {
                float += 1;
                let at = float - 1;
                Some(Point { time: *time, start: start(window.starts, at), float: window.floats[at], histogram: None })
            }
            (_, Some(time)) => {
                histogram += 1;
                let at = histogram - 1;
                let value = &window.histograms[at];
                Some(Point {
                    time: *time,
                    start: start(window.histogram_starts, at),
                    float: 0.0,
                    histogram: Some(value),
                })
            }
            (Some(_), None) | (None, None) => None,
        }
    })
}

/// `irate` and `idelta`.
pub(super) fn of_last_two(
    is_rate: bool,
    window: &Window<'_>,
    subject: &Subject<'_>,
    use_starts: bool,
) -> Option<Value> {
    let from = (window.floats.len().saturating_sub(2), window.histograms.len().saturating_sub(2));
    let mut last_two = points(window, from, use_starts).fold((None, None), |(_, b), point| (b, Some(point)));
    let (a, b) = (last_two.0.take()?, last_two.1?);
    let interval = b.time - a.time;
    if interval == 0 {
        return None;
    }
    let seconds = interval as f64 / 1000.0;
    let anew = is_rate && starts_anew(a.start, a.time, b.start, b.time);
    match (a.histogram, b.histogram) {
        (None, None) => {
            let value = if is_rate && (b.float < a.float || anew) { b.float } else { b.float - a.float };
            Some(Value::Float(if is_rate { value / seconds } else { value }))
        }
        (Some(before), Some(now)) => {
            let gauges = [before, now].map(|histogram| histogram.reset == ResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                subject.note(Note::not_counter);
            }
            if !is_rate && gauges.contains(&false) {
                subject.note(Note::not_gauge);
            }
            let mut value = (**now).clone();
            if !is_rate || !(anew || now.is_reset_after(before)) {
                subtract(&mut value, before, subject)?;
            }
            value.reset = ResetHint::Gauge;
            value.compact(0);
            if is_rate {
                value.divide(seconds);
            }
            Some(Value::histogram(value))
        }
        _ => {
            subject.note(Note::mixed_floats_histograms);
            None
        }
    }
}

/// Where a window begins: with `anchored`, at the last sample not behind the start of the range.
fn first_points(shape: Shape, window: &Window<'_>) -> Option<(usize, usize)> {
    if !shape.anchored {
        return Some((0, 0));
    }
    let floats = window.times.partition_point(|time| *time <= window.start);
    let histograms = window.histogram_times.partition_point(|time| *time <= window.start);
    if floats >= window.times.len() && histograms >= window.histogram_times.len() {
        return None;
    }
    Some(match (floats.checked_sub(1), histograms.checked_sub(1)) {
        (None, None) => (0, 0),
        (Some(float), histogram)
            if histogram.is_none_or(|histogram| window.times[float] >= window.histogram_times[histogram]) =>
        {
            (float, histograms)
        }
        (_, Some(histogram)) => (floats, histogram),
        (Some(float), None) => (float, histograms),
    })
}

/// `resets` and `changes`.
pub(super) fn changes(shape: Shape, window: &Window<'_>, use_starts: bool) -> Option<u64> {
    let resets = shape.id == Id::Resets;
    let mut points = points(window, first_points(shape, window)?, use_starts && resets);
    let mut before = points.next()?;
    let mut count = 0;
    for now in points {
        let anew = starts_anew(before.start, before.time, now.start, now.time);
        let counts = match (before.histogram, now.histogram) {
            (None, None) if resets => now.float < before.float || anew,
            (None, None) => now.float != before.float && !(now.float.is_nan() && before.float.is_nan()),
            (Some(before), Some(now)) if resets => anew || now.is_reset_after(before),
            (Some(before), Some(now)) => !now.same(before),
            _ => true,
        };
        count += u64::from(counts);
        before = now;
    }
    Some(count)
}
