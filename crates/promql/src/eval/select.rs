//! Series at instants: the newest sample that is not too old, or what lies between two samples.

use std::sync::Arc;

use tsdb::{
    histogram::{FloatHistogram, ResetHint},
    labels::Labels,
    sample::is_stale,
};

use super::{Evaluator, Result, Sink, extended, failed};
use crate::{
    annotation::Note,
    ast::Selector,
    limit::EvalError,
    storage::Hints,
    value::{Samples, Series, Value},
};

/// The newest sample at a time.
struct Newest<'a> {
    time: i64,
    start: i64,
    value: Found<'a>,
}

enum Found<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// Walks over samples as time goes on.
#[derive(Default)]
pub(super) struct Walk {
    floats: usize,
    histograms: usize,
}

impl Walk {
    /// The newest sample at or before `time`, if it is not a stale marker and less than `lookback` old. Times ascend.
    fn newest<'s>(&mut self, samples: &'s Samples, time: i64, lookback: i64) -> Option<Newest<'s>> {
        while samples.times.get(self.floats).is_some_and(|next| *next <= time) {
            self.floats += 1;
        }
        while samples.histogram_times.get(self.histograms).is_some_and(|next| *next <= time) {
            self.histograms += 1;
        }
        let float = self.floats.checked_sub(1).map(|at| (samples.times[at], at));
        let histogram = self.histograms.checked_sub(1).map(|at| (samples.histogram_times[at], at));
        let newest = match (float, histogram) {
            (Some((time, at)), other) if other.is_none_or(|other| time > other.0) => {
                let value = samples.floats[at];
                let start = samples.starts.get(at).copied().unwrap_or(0);
                (!is_stale(value)).then_some(Newest { time, start, value: Found::Float(value) })
            }
            (_, Some((time, at))) => {
                let value = &samples.histograms[at];
                let start = samples.histogram_starts.get(at).copied().unwrap_or(0);
                (!is_stale(value.sum)).then_some(Newest { time, start, value: Found::Histogram(value) })
            }
            _ => None,
        };
        newest.filter(|newest| newest.time > time.saturating_sub(lookback))
    }
}

/// Leaves histograms their counts and sums alone; whether they were reset is found out before.
fn drop_buckets(samples: &mut Samples) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for histogram in &mut samples.histograms {
        let full = histogram.clone();
        let mut reset = full.reset;
        if !is_stale(full.sum) {
            if let (ResetHint::Unknown, Some(before)) = (reset, &before) {
                reset = if full.is_reset_after(before) { ResetHint::Reset } else { ResetHint::NoReset };
            }
            before = Some(full.clone());
        }
        let (schema, count, sum) = (full.schema, full.count, full.sum);
        *histogram = Arc::new(FloatHistogram { reset, schema, count, sum, ..FloatHistogram::default() });
    }
}

impl Evaluator<'_> {
    /// Reads what a selector needs for all steps, series after series. `range` is 0 for instants.
    pub(super) fn fetch(
        &self,
        selector: &Selector,
        range: i64,
        function: &'static str,
        take: &mut dyn FnMut(&Labels, &mut Samples) -> Result<()>,
    ) -> Result<()> {
        let lookback = self.query.options.lookback;
        let (mut start, mut end) =
            (self.shifted(&selector.shift, self.grid.start), self.shifted(&selector.shift, self.grid.last()));
        start = start.saturating_sub(match range {
            0 => lookback - 1,
            range if selector.anchored || selector.smoothed => range + lookback - 1,
            range => range - 1,
        });
        if selector.smoothed {
            end += lookback;
        }
        let step = if self.grid.steps > 1 { self.grid.interval } else { 0 };
        let hints = Hints { start, end, step, range, function, ..Hints::default() };
        if !selector.counts_only {
            return self.read(&selector.matchers, &hints, take);
        }
        self.read(&selector.matchers, &hints, &mut |labels, samples| {
            drop_buckets(samples);
            take(labels, samples)
        })
    }

    /// Reads series after series.
    pub(super) fn read(
        &self,
        matchers: &[crate::matcher::Matcher],
        hints: &Hints,
        take: &mut dyn FnMut(&Labels, &mut Samples) -> Result<()>,
    ) -> Result<()> {
        let meter = &self.query.meter;
        let mut selection = self.query.storage.select(matchers, hints).map_err(EvalError::Storage)?;
        let mut samples = Samples::default();
        loop {
            meter.check()?;
            samples.clear();
            let Some(labels) = selection.next(&mut samples).map_err(EvalError::Storage)? else { break };
            if samples.times.len() != samples.floats.len() || samples.histogram_times.len() != samples.histograms.len()
            {
                return Err(failed(format!("storage gave columns of different length for series {labels}")));
            }
            let weight = samples.weight();
            meter.count_read(weight);
            meter.hold(weight)?;
            let taken = take(&labels, &mut samples);
            meter.release(weight);
            taken?;
        }
        for warning in selection.warnings() {
            self.note(Note::storage(warning));
        }
        Ok(())
    }

    /// A vector selector.
    pub(super) fn selector(&self, selector: &Selector, sink: &mut Sink<'_>) -> Result<()> {
        let lookback = self.query.options.lookback;
        self.fetch(selector, 0, "", &mut |labels, samples| {
            let mut series = Series::new(labels.clone(), false, self.grid.steps);
            if selector.smoothed {
                samples.drop_stale();
                for (step, time) in self.grid.times() {
                    let at = self.shifted(&selector.shift, time);
                    if let Some(value) = self.smoothed(labels, samples, at, selector) {
                        series.set(step, value);
                    }
                }
            } else {
                let mut walk = Walk::default();
                for (step, time) in self.grid.times() {
                    let at = self.shifted(&selector.shift, time);
                    match walk.newest(samples, at, lookback).map(|newest| newest.value) {
                        Some(Found::Float(value)) => series.floats[step] = value,
                        Some(Found::Histogram(value)) => series.histograms.push((step, value.clone())),
                        None => {}
                    }
                }
            }
            if series.is_empty() { Ok(()) } else { sink(series) }
        })
    }

    /// The value between the two samples around a time.
    fn smoothed(&self, labels: &Labels, samples: &Samples, at: i64, selector: &Selector) -> Option<Value> {
        let lookback = self.query.options.lookback;
        let around = |times: &[i64]| {
            let low = times.partition_point(|time| *time <= at - lookback);
            let high = times.partition_point(|time| *time <= at + lookback);
            (low, high)
        };
        let (floats, histograms) = (around(&samples.times), around(&samples.histogram_times));
        let has_floats = floats.0 < floats.1;
        let has_histograms = histograms.0 < histograms.1;
        let subject = super::Subject { evaluator: self, metric: labels.metric(), place: selector.place };
        if has_floats && has_histograms {
            subject.note(Note::mixed_floats_histograms);
            return None;
        }
        if has_histograms {
            let (times, values) =
                (&samples.histogram_times[histograms.0..histograms.1], &samples.histograms[histograms.0..histograms.1]);
            let next = times.partition_point(|time| *time < at);
            if times.get(next) == Some(&at) {
                return Some(Value::Histogram(values[next].clone()));
            }
            let before = next.checked_sub(1)?;
            if next == times.len() {
                let last = FloatHistogram { reset: ResetHint::Unknown, ..(*values[before]).clone() };
                return Some(Value::histogram(last));
            }
            let (a, b) = (&values[before], &values[next]);
            if a.is_custom() != b.is_custom() {
                subject.note(Note::mixed_schemas);
                return None;
            }
            let counter = a.reset != ResetHint::Gauge || b.reset != ResetHint::Gauge;
            let between = extended::between_histograms((times[before], a), (times[next], b), at, counter, &subject)?;
            return Some(Value::histogram(between));
        }
        let (times, values) = (&samples.times[floats.0..floats.1], &samples.floats[floats.0..floats.1]);
        let next = times.partition_point(|time| *time < at);
        if times.get(next) == Some(&at) {
            return Some(Value::Float(values[next]));
        }
        let before = next.checked_sub(1)?;
        if next == times.len() {
            return Some(Value::Float(values[before]));
        }
        let (a, b) = ((times[before], values[before]), (times[next], values[next]));
        Some(Value::Float(extended::between(a, b, at, false)))
    }

    /// `timestamp` and `start_timestamp` of a selector: the times of the samples, not those of the steps.
    pub(super) fn timestamps(&self, selector: &Selector, starts: bool, sink: &mut Sink<'_>) -> Result<()> {
        let lookback = self.query.options.lookback;
        if starts && !self.query.options.use_start_times {
            return Ok(());
        }
        self.fetch(selector, 0, if starts { "start_timestamp" } else { "timestamp" }, &mut |labels, samples| {
            let mut series = Series::new(labels.clone(), false, self.grid.steps);
            let mut walk = Walk::default();
            for (step, time) in self.grid.times() {
                let at = self.shifted(&selector.shift, time);
                if let Some(newest) = walk.newest(samples, at, lookback) {
                    let time = if starts { newest.start } else { newest.time };
                    series.floats[step] = time as f64 / 1000.0;
                }
            }
            if series.is_empty() {
                return Ok(());
            }
            self.drop_name(&mut series);
            sink(series)
        })
    }
}

impl Evaluator<'_> {
    /// The times of the newest samples of series that are floats, for finding the newest of several info series.
    pub(super) fn sample_times(&self, selector: &Selector, hints: &Hints, sink: &mut Sink<'_>) -> Result<()> {
        let lookback = self.query.options.lookback;
        self.read(&selector.matchers, hints, &mut |labels, samples| {
            let mut series = Series::new(labels.clone(), false, self.grid.steps);
            let mut walk = Walk::default();
            for (step, time) in self.grid.times() {
                let at = self.shifted(&selector.shift, time);
                match walk.newest(samples, at, lookback) {
                    Some(Newest { time, value: Found::Float(_), .. }) => series.floats[step] = time as f64,
                    Some(_) => {
                        return Err(failed(format!("this should be an info metric, with float samples: {labels}")));
                    }
                    None => {}
                }
            }
            if series.is_empty() { Ok(()) } else { sink(series) }
        })
    }
}
