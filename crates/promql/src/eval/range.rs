//! Functions over ranges: `..._over_time`, `changes`, `deriv` and their like. Rates stand in `rate` and `extended`.

use std::{collections::HashSet, sync::Arc};

use tsdb::{
    histogram::{Compensated, FloatHistogram, ResetHint, add_compensated},
    labels::Labels,
};

use super::{
    DUPLICATES, Evaluator, Result, Sink, Subject, extended, failed, is_metadata, rate,
    window::{Cursor, Window},
};
use crate::{
    annotation::{Note, Operation},
    ast::{Call, Expr, Selector},
    function::Id,
    matcher::Comparison,
    quantile,
    value::{Samples, Series, Value},
};

/// The range argument of a function.
struct Range<'a> {
    /// In milliseconds.
    length: i64,
    shift: &'a crate::ast::Shift,
    selector: Option<&'a Selector>,
}

impl Range<'_> {
    fn anchored(&self) -> bool {
        self.selector.is_some_and(|selector| selector.anchored)
    }

    fn smoothed(&self) -> bool {
        self.selector.is_some_and(|selector| selector.smoothed)
    }
}

/// Where the samples of a range come from.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub id: Id,
    pub anchored: bool,
    pub smoothed: bool,
    /// The range, in milliseconds.
    pub length: i64,
}

impl Evaluator<'_> {
    /// A function of which the argument `at` is a range. `nameless` says that nobody looks at names of metrics.
    pub(super) fn range_function(&self, call: &Call, at: usize, nameless: bool, sink: &mut Sink<'_>) -> Result<()> {
        let id = call.function.id;
        let arg = call.args[at].unwrapped();
        let (range, subquery) = match arg {
            Expr::Matrix(matrix) => {
                let range =
                    Range { length: matrix.range, shift: &matrix.selector.shift, selector: Some(&matrix.selector) };
                (range, None)
            }
            Expr::Subquery(subquery) => {
                let range = Range { length: subquery.range, shift: &subquery.shift, selector: None };
                (range, Some(self.subquery(subquery)?))
            }
            _ => return Err(failed(format!("argument of {}() is no range vector", call.function.name))),
        };
        let rates = matches!(id, Id::Rate | Id::Increase | Id::Delta);
        if range.anchored() && !rates && !matches!(id, Id::Changes | Id::Resets) {
            let known = "anchored modifier can only be used with: changes, delta, increase, rate, resets";
            return Err(failed(format!("{known} - not with {}", call.function.name)));
        }
        if range.smoothed() && !rates {
            let known = "smoothed modifier can only be used with: delta, increase, rate";
            return Err(failed(format!("{known} - not with {}", call.function.name)));
        }
        let mut params = Vec::new();
        for (i, other) in call.args.iter().enumerate() {
            if i != at {
                params.push(self.scalar(other)?);
            }
        }
        let shape = Shape { id, anchored: range.anchored(), smoothed: range.smoothed(), length: range.length };
        let mut present = vec![false; if id == Id::AbsentOverTime { self.grid.steps } else { 0 }];
        let mut last_metric = String::new();
        // Series of several metrics may be the same without their names.
        let named = |matcher: &crate::matcher::Matcher| {
            matcher.name == tsdb::labels::NAME && matcher.comparison == Comparison::Equal
        };
        let of_one_metric = range.selector.is_some_and(|selector| selector.matchers.iter().any(named));
        let several = !self.delayed() && (!of_one_metric || self.query.options.features.type_and_unit);
        let (mut seen, mut key) = (HashSet::<String, foldhash::fast::RandomState>::default(), String::new());
        let mut one = |labels: &Labels, drop_name: bool, samples: &mut Samples| -> Result<()> {
            samples.drop_stale();
            let place = call.args[at].place();
            let subject = Subject { evaluator: self, metric: labels.metric(), place };
            let mut series = Series::new(labels.clone(), drop_name, self.grid.steps);
            self.windows(call, shape, &range, samples, &params, &subject, &mut series)?;
            if id == Id::AbsentOverTime {
                for (step, present) in present.iter_mut().enumerate() {
                    *present |= series.has(step);
                }
                return Ok(());
            }
            if series.is_empty() {
                return Ok(());
            }
            if !matches!(id, Id::LastOverTime | Id::FirstOverTime) || drop_name {
                if several {
                    labels.key_without(is_metadata, &mut key);
                    if !seen.insert(key.clone()) {
                        return Err(failed(DUPLICATES));
                    }
                }
                if nameless {
                    series.drop_name = true;
                } else {
                    self.drop_name(&mut series);
                }
            }
            let has_floats = series.floats.iter().any(|value| !tsdb::sample::is_stale(*value));
            if matches!(id, Id::Rate | Id::Increase) && has_floats && subject.metric != last_metric {
                last_metric.clear();
                last_metric.push_str(subject.metric);
                self.doubt_counter(labels, &subject);
            }
            sink(series)
        };
        match (subquery, range.selector) {
            (Some((grid, matrix)), _) => {
                let mut samples = Samples::default();
                for series in &matrix {
                    super::samples_of(series, grid, &mut samples);
                    one(&series.labels, series.drop_name, &mut samples)?;
                }
            }
            (None, Some(selector)) => {
                self.fetch(selector, range.length, call.function.name, &mut |labels, samples| {
                    one(labels, false, samples)
                })?;
            }
            (None, None) => {}
        }
        if id == Id::AbsentOverTime && present.iter().any(|present| !present) {
            let mut series = Series::new(labels_of_absent(arg), false, self.grid.steps);
            for (step, present) in present.iter().enumerate() {
                if !present {
                    series.floats[step] = 1.0;
                }
            }
            series.drop_name = true;
            sink(series)?;
        }
        Ok(())
    }

    /// Moves the window over a series and notes the function's value at each step.
    #[allow(clippy::too_many_arguments)]
    fn windows(
        &self,
        call: &Call,
        shape: Shape,
        range: &Range<'_>,
        samples: &Samples,
        params: &[Vec<f64>],
        subject: &Subject<'_>,
        series: &mut Series,
    ) -> Result<()> {
        let lookback = self.query.options.lookback;
        let extended = shape.anchored || shape.smoothed;
        let drops = rate::drops(shape, samples);
        let mut cursor = Cursor::default();
        let mut scratch = Vec::new();
        for (step, time) in self.grid.times() {
            if step % 4096 == 4095 {
                self.query.meter.check()?;
            }
            let end = self.shifted(range.shift, time);
            let start = end - shape.length;
            let after = if extended { start - lookback } else { start };
            let until = if shape.smoothed { end + lookback } else { end };
            let window = cursor.advance(samples, start, end, after, until);
            if window.is_empty() {
                continue;
            }
            let param = |at: usize| params.get(at).and_then(|values| values.get(step)).copied().unwrap_or(f64::NAN);
            let value = match shape.id {
                Id::Rate | Id::Increase | Id::Delta if extended => extended::rate(shape, &window, subject),
                Id::Rate | Id::Increase | Id::Delta => {
                    rate::extrapolated(shape, &window, &drops, subject, self.query.options.use_start_times)
                }
                Id::Irate | Id::Idelta => {
                    let subject = Subject { place: call.args[0].place(), ..*subject };
                    rate::of_last_two(shape.id == Id::Irate, &window, &subject, self.query.options.use_start_times)
                }
                Id::Changes | Id::Resets => {
                    let use_starts = self.query.options.use_start_times;
                    rate::changes(shape, &window, use_starts).map(|count| Value::Float(count as f64))
                }
                Id::QuantileOverTime => {
                    let place = call.args[0].place();
                    self.quantile_over_time(param(0), place, &window, &Subject { place, ..*subject }, &mut scratch)
                }
                Id::PredictLinear => regression(&window, time, subject)
                    .map(|(slope, intercept)| Value::Float(slope * param(0) + intercept)),
                Id::Deriv => {
                    let from = window.times.first().copied().unwrap_or(0);
                    regression(&window, from, subject).map(|(slope, _)| Value::Float(slope))
                }
                Id::DoubleExponentialSmoothing => smoothing(&window, param(0), param(1), subject)?,
                id => over_time(id, &window, subject, &mut scratch),
            };
            if let Some(value) = value {
                series.set(step, value);
            }
        }
        Ok(())
    }

    fn quantile_over_time(
        &self,
        q: f64,
        place: crate::position::Place,
        window: &Window<'_>,
        subject: &Subject<'_>,
        scratch: &mut Vec<f64>,
    ) -> Option<Value> {
        if window.floats.is_empty() {
            return None;
        }
        if q.is_nan() || !(0.0..=1.0).contains(&q) {
            self.note(Note::invalid_quantile(q, place));
        }
        if !window.histograms.is_empty() {
            subject.note(Note::ignored_in_range);
        }
        scratch.clear();
        scratch.extend_from_slice(window.floats);
        Some(Value::Float(quantile::of_values(q, scratch)))
    }

    /// Says that what a rate is taken of is perhaps no counter.
    fn doubt_counter(&self, labels: &Labels, subject: &Subject<'_>) {
        let metric = subject.metric;
        if metric.is_empty() {
            return;
        }
        if self.query.options.features.type_and_unit {
            let kind = labels.get(tsdb::labels::TYPE);
            if !matches!(kind, "counter" | "histogram") {
                self.note(Note::maybe_no_counter_type(metric, kind, subject.place));
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix)) {
            self.note(Note::maybe_no_counter(metric, subject.place));
        }
    }
}

/// The labels that a series must have had that is absent.
pub(super) fn labels_of_absent(expr: &Expr) -> Labels {
    let selector = match expr {
        Expr::Selector(selector) => &**selector,
        Expr::Matrix(matrix) => &matrix.selector,
        _ => return Labels::empty(),
    };
    let mut builder = tsdb::labels::Builder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != tsdb::labels::NAME) {
        if matcher.comparison == Comparison::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.labels()
}

/// Functions that need nothing but the window.
fn over_time(id: Id, window: &Window<'_>, subject: &Subject<'_>, scratch: &mut Vec<f64>) -> Option<Value> {
    let floats = window.floats;
    let first_time = |times: &[i64]| times.first().copied().unwrap_or(i64::MAX);
    let last_time = |times: &[i64]| times.last().copied().unwrap_or(0);
    // Of floats alone, with a note where there are histograms too.
    let of_floats = || {
        if !floats.is_empty() && !window.histograms.is_empty() {
            subject.note(Note::ignored_in_range);
        }
        !floats.is_empty()
    };
    let value = match id {
        Id::CountOverTime => (floats.len() + window.histograms.len()) as f64,
        Id::PresentOverTime | Id::AbsentOverTime => 1.0,
        Id::FirstOverTime => {
            let histogram = window.histograms.first();
            return match (floats.first(), histogram) {
                (Some(float), histogram)
                    if histogram.is_none() || first_time(window.times) < first_time(window.histogram_times) =>
                {
                    Some(Value::Float(*float))
                }
                (_, histogram) => histogram.map(|histogram| Value::Histogram(histogram.clone())),
            };
        }
        Id::LastOverTime => {
            let histogram = window.histograms.last();
            return match (floats.last(), histogram) {
                (Some(float), histogram)
                    if histogram.is_none() || last_time(window.histogram_times) < last_time(window.times) =>
                {
                    Some(Value::Float(*float))
                }
                (_, histogram) => histogram.map(|histogram| Value::Histogram(histogram.clone())),
            };
        }
        Id::TsOfFirstOverTime => first_time(window.times).min(first_time(window.histogram_times)) as f64 / 1000.0,
        Id::TsOfLastOverTime => last_time(window.times).max(last_time(window.histogram_times)) as f64 / 1000.0,
        Id::SumOverTime | Id::AvgOverTime => return sum_or_average(id == Id::AvgOverTime, window, subject),
        _ if !of_floats() => return None,
        Id::MaxOverTime => floats.iter().fold(floats[0], |most, v| if *v > most || most.is_nan() { *v } else { most }),
        Id::MinOverTime => {
            floats.iter().fold(floats[0], |least, v| if *v < least || least.is_nan() { *v } else { least })
        }
        Id::TsOfMaxOverTime => time_of(window, |value, most| value >= most),
        Id::TsOfMinOverTime => time_of(window, |value, least| value <= least),
        Id::StdvarOverTime => variance(floats),
        Id::StddevOverTime => variance(floats).sqrt(),
        Id::MadOverTime => median_deviation(floats, scratch),
        _ => return None,
    };
    Some(Value::Float(value))
}

fn time_of(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = (window.floats[0], window.times[0]);
    for (value, time) in window.floats.iter().zip(window.times) {
        if better(*value, best.0) || best.0.is_nan() {
            best = (*value, *time);
        }
    }
    best.1 as f64 / 1000.0
}

fn variance(floats: &[f64]) -> f64 {
    let (mut mean, mut mean_low, mut sum, mut sum_low) = (0.0, 0.0, 0.0, 0.0);
    for (i, value) in floats.iter().enumerate() {
        let delta = value - (mean + mean_low);
        add_compensated(delta / (i + 1) as f64, &mut mean, &mut mean_low);
        add_compensated(delta * (value - (mean + mean_low)), &mut sum, &mut sum_low);
    }
    (sum + sum_low) / floats.len() as f64
}

fn median_deviation(floats: &[f64], scratch: &mut Vec<f64>) -> f64 {
    if floats.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    scratch.clear();
    scratch.extend_from_slice(floats);
    let median = quantile::of_values(0.5, scratch);
    scratch.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile::of_values(0.5, scratch)
}

/// The average of floats, without overflow where that can be had.
pub(super) fn average(floats: &[f64]) -> f64 {
    let mut mean = Mean::default();
    floats.iter().for_each(|value| mean.add(*value));
    mean.value()
}

/// A running average: a sum as long as that is finite, then a mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    low: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = value;
            return;
        }
        if !self.incremental {
            let (mut sum, mut low) = (self.sum, self.low);
            add_compensated(value, &mut sum, &mut low);
            if !sum.is_infinite() {
                (self.sum, self.low) = (sum, low);
                return;
            }
            self.incremental = true;
            self.sum /= self.count - 1.0;
            self.low /= self.count - 1.0;
        }
        let part = (self.count - 1.0) / self.count;
        self.sum *= part;
        self.low *= part;
        add_compensated(value / self.count, &mut self.sum, &mut self.low);
    }

    pub(super) fn value(&self) -> f64 {
        if self.incremental { self.sum + self.low } else { self.sum / self.count + self.low / self.count }
    }
}

/// A running sum or average of histograms.
#[derive(Clone, Debug)]
pub(super) struct HistogramSum {
    sum: Compensated,
    count: f64,
    incremental: bool,
    averages: bool,
    resets: (bool, bool),
    pub(super) reconciled: bool,
}

impl HistogramSum {
    pub(super) fn new(first: &FloatHistogram, averages: bool) -> Self {
        let mut sum = Self {
            sum: Compensated::new(first.clone()),
            count: 1.0,
            incremental: false,
            averages,
            resets: (false, false),
            reconciled: false,
        };
        sum.see(first.reset);
        sum
    }

    fn see(&mut self, hint: ResetHint) {
        self.resets.0 |= hint == ResetHint::Reset;
        self.resets.1 |= hint == ResetHint::NoReset;
    }

    /// Whether some histograms said that there was a reset and others that there was none.
    pub(super) fn resets_collide(&self) -> bool {
        self.resets.0 && self.resets.1
    }

    /// Adds one; fails where its bounds are of the other kind.
    pub(super) fn add(&mut self, histogram: &FloatHistogram) -> Result<(), tsdb::histogram::Incompatible> {
        self.see(histogram.reset);
        self.count += 1.0;
        if !self.averages {
            self.reconciled |= self.sum.add(histogram)?.bounds_reconciled;
            return Ok(());
        }
        if !self.incremental {
            let mut sum = self.sum.clone();
            let added = sum.add(histogram)?;
            self.reconciled |= added.bounds_reconciled;
            if !sum.overflows() {
                self.sum = sum;
                return Ok(());
            }
            self.incremental = true;
            self.sum.divide(self.count - 1.0);
        }
        self.sum.multiply((self.count - 1.0) / self.count);
        let mut part = histogram.clone();
        part.divide(self.count);
        self.reconciled |= self.sum.add(&part)?.bounds_reconciled;
        Ok(())
    }

    pub(super) fn total(mut self) -> FloatHistogram {
        if self.averages && !self.incremental {
            self.sum.divide(self.count);
        }
        self.sum.total()
    }
}

fn sum_or_average(averages: bool, window: &Window<'_>, subject: &Subject<'_>) -> Option<Value> {
    let Some((first, rest)) = window.histograms.split_first() else {
        if averages {
            return Some(Value::Float(average(window.floats)));
        }
        let (mut sum, mut low) = (0.0, 0.0);
        window.floats.iter().for_each(|value| add_compensated(*value, &mut sum, &mut low));
        return Some(Value::Float(if sum.is_infinite() { sum } else { sum + low }));
    };
    if !window.floats.is_empty() {
        subject.note(Note::mixed_floats_histograms);
        return None;
    }
    let mut sum = HistogramSum::new(first, averages);
    for histogram in rest {
        if sum.add(histogram).is_err() {
            subject.note(Note::mixed_schemas);
            return None;
        }
    }
    if sum.resets_collide() {
        subject.note(|_, place| Note::resets_collide(Operation::Aggregation, place));
    }
    if sum.reconciled {
        subject.note(|_, place| Note::bounds_reconciled(Operation::Aggregation, place));
    }
    Some(Value::Histogram(Arc::new(sum.total())))
}

/// Slope and value at `from` of the line through the floats.
fn regression(window: &Window<'_>, from: i64, subject: &Subject<'_>) -> Option<(f64, f64)> {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        subject.note(Note::ignored_in_range);
    }
    if window.floats.len() < 2 {
        return None;
    }
    let first = window.floats[0];
    let count = window.floats.len() as f64;
    let mut sums = [(0.0, 0.0); 4];
    for (time, y) in window.times.iter().zip(window.floats) {
        let x = (time - from) as f64 / 1000.0;
        for ((sum, low), value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            add_compensated(value, sum, low);
        }
    }
    if window.floats.iter().all(|value| *value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let [x, y, xy, xx] = sums.map(|(sum, low)| sum + low);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    Some((slope, y / count - slope * x / count))
}

/// Double exponential smoothing with the factors for level and trend.
fn smoothing(window: &Window<'_>, level: f64, trend: f64, subject: &Subject<'_>) -> Result<Option<Value>> {
    for (name, factor) in [("smoothing", level), ("trend", trend)] {
        if factor <= 0.0 || factor >= 1.0 {
            let short = if name == "smoothing" { "sf" } else { "tf" };
            return Err(failed(format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}")));
        }
    }
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        subject.note(Note::ignored_in_range);
    }
    let [first, second, ..] = window.floats else { return Ok(None) };
    let (mut before, mut now, mut slope) = (0.0, *first, second - first);
    for (i, value) in window.floats.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        let next = level * value + (1.0 - level) * (now + slope);
        (before, now) = (now, next);
    }
    Ok(Some(Value::Float(now)))
}
