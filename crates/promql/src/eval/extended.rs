//! `anchored` and `smoothed` ranges: the values at both bounds are known, from the sample before or from those around.

use std::sync::Arc;

use tsdb::histogram::{FloatHistogram, ResetHint};

use super::{Subject, range::Shape, rate, window::Window};
use crate::{annotation::Note, function::Id, value::Value};

/// The value between two points; a counter that fell in between started anew at the first.
pub(super) fn between(a: (i64, f64), b: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let from = if is_counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (at - a.0) as f64 / (b.0 - a.0) as f64
}

/// The histogram between two points.
pub(super) fn between_histograms(
    a: (i64, &FloatHistogram),
    b: (i64, &FloatHistogram),
    at: i64,
    is_counter: bool,
    subject: &Subject<'_>,
) -> Option<FloatHistogram> {
    if at == a.0 {
        return Some(a.1.clone());
    }
    if at == b.0 {
        return Some(b.1.clone());
    }
    let part = (at - a.0) as f64 / (b.0 - a.0) as f64;
    let mut value = b.1.clone();
    if is_counter && b.1.is_reset_after(a.1) {
        value.multiply(part);
        return Some(value);
    }
    rate::subtract(&mut value, a.1, subject)?;
    value.multiply(part);
    rate::add(&mut value, a.1, subject)?;
    Some(value)
}

/// The places of the first and the last sample that count, if any does.
fn ends(times: &[i64], window: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|time| *time <= window.start).saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|time| *time < window.end);
    }
    (times[last] > window.start).then_some((first, last))
}

/// The values at both bounds.
fn at_bounds(window: &Window<'_>, (first, last): (usize, usize), smoothed: bool, is_counter: bool) -> (f64, f64) {
    let point = |at: usize| (window.times[at], window.floats[at]);
    let left = if smoothed && window.times[first] < window.start && first + 1 < window.times.len() {
        between(point(first), point(first + 1), window.start, is_counter)
    } else {
        window.floats[first]
    };
    let right = if smoothed && last > 0 && window.times[last] > window.end {
        between(point(last - 1), point(last), window.end, is_counter)
    } else {
        window.floats[last]
    };
    (left, right)
}

/// The floats of a range with one at each bound.
pub(super) fn bounded(window: &Window<'_>, smoothed: bool) -> Vec<(i64, f64)> {
    let Some((mut first, last)) = ends(window.times, window, smoothed) else { return Vec::new() };
    let (left, right) = at_bounds(window, (first, last), smoothed, false);
    if window.times[first] <= window.start {
        first += 1;
    }
    let end = if window.times[last] >= window.end { last } else { last + 1 };
    let inner = (first..end).map(|at| (window.times[at], window.floats[at]));
    std::iter::once((window.start, left)).chain(inner).chain(std::iter::once((window.end, right))).collect()
}

/// `rate`, `increase` and `delta`.
pub(super) fn rate(shape: Shape, window: &Window<'_>, subject: &Subject<'_>) -> Option<Value> {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        subject.note(Note::mixed_floats_histograms);
        return None;
    }
    let seconds = shape.length as f64 / 1000.0;
    let is_counter = shape.id != Id::Delta;
    if !window.histograms.is_empty() {
        let mut value = histogram_increase(shape, window, is_counter, subject)?;
        if shape.id == Id::Rate {
            value.divide(seconds);
        }
        value.reset = ResetHint::Gauge;
        value.compact(0);
        return Some(Value::histogram(value));
    }
    let (mut first, last) = ends(window.times, window, shape.smoothed)?;
    if shape.smoothed && window.times[first] > window.end {
        return None;
    }
    let (left, right) = at_bounds(window, (first, last), shape.smoothed, is_counter);
    let mut value = right - left;
    if is_counter {
        if window.times[first] <= window.start {
            first += 1;
        }
        let end = if window.times[last] >= window.end { last } else { last + 1 };
        let mut before = left;
        let mut lost = 0.0;
        for now in window.floats.get(first..end).unwrap_or_default().iter().chain([&right]) {
            if *now < before {
                lost += before;
            }
            before = *now;
        }
        value += lost;
    }
    Some(Value::Float(if shape.id == Id::Rate { value / seconds } else { value }))
}

fn histogram_increase(
    shape: Shape,
    window: &Window<'_>,
    is_counter: bool,
    subject: &Subject<'_>,
) -> Option<FloatHistogram> {
    let (times, points) = (window.histogram_times, window.histograms);
    let (first, last) = ends(times, window, shape.smoothed)?;
    if shape.smoothed && times[first] > window.end {
        return None;
    }
    let is_custom = points[first].is_custom();
    for point in &points[first..=last] {
        if point.is_custom() != is_custom {
            subject.note(Note::mixed_schemas);
            return None;
        }
        if is_counter && point.reset == ResetHint::Gauge {
            subject.note(Note::not_counter);
        }
    }
    let inside = |a: usize, at: i64| {
        between_histograms((times[a], &points[a]), (times[a + 1], &points[a + 1]), at, is_counter, subject)
    };
    let cut_left = shape.smoothed && times[first] < window.start && first + 1 < times.len();
    let left = if cut_left { inside(first, window.start)? } else { (*points[first]).clone() };
    let cut_right = shape.smoothed && last > 0 && times[last] > window.end;
    let right = if cut_right { inside(last - 1, window.end)? } else { (*points[last]).clone() };
    if !is_counter && (left.reset != ResetHint::Gauge || right.reset != ResetHint::Gauge) {
        subject.note(Note::not_gauge);
    }
    let mut value = right.clone();
    rate::subtract(&mut value, &left, subject)?;
    if is_counter {
        let mut from = first + 1;
        let mut before: &FloatHistogram = &left;
        if cut_left && points[first + 1].is_reset_after(&points[first]) {
            before = &points[first + 1];
            from += 1;
        }
        if from <= last {
            let mut lost: Option<FloatHistogram> = None;
            let inner = points[from..last].iter().map(Arc::as_ref);
            for now in inner.chain([&right]) {
                if now.is_reset_after(before) {
                    match &mut lost {
                        Some(lost) => rate::add(lost, before, subject)?,
                        None => lost = Some(before.clone()),
                    }
                }
                before = now;
            }
            if let Some(lost) = lost {
                rate::add(&mut value, &lost, subject)?;
            }
        }
    }
    Some(value)
}
