//! Evaluates a query over steps of time.
//!
//! ```text
//! expression ─ prepare (lengths, start(), end() ...) ─▶ Evaluator, one a grid of steps
//!   selector, range function   series after series from storage, a window moved along columns
//!   aggregation                folds series as they come; holds groups, not series
//!   operator, function         series with a column a side, step after step
//!   subquery                   an Evaluator with a grid of its own
//! ```
//!
//! A part that is the same at all steps (`@`) is evaluated at one. What is held is counted against the limits.
//!
//! In reading order:
//!
//! - `prepare`: what is known before the first step
//! - `select`: series at instants
//! - `window`, `range`, `rate`, `extended`: functions over ranges
//! - `aggregate`, `rank`: series brought together
//! - `binary`, `element`: operators
//! - `instant`, `classic`, `label`, `info`: functions of vectors
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

use std::cell::RefCell;

use tsdb::{
    labels::{Labels, NAME, TYPE, UNIT},
    sample::is_stale,
};

use crate::{
    annotation::{Note, Notes},
    ast::{At, Expr, Shift, Type, Unary},
    function::Id,
    limit::{EvalError, Limits, Meter, Statistics},
    parse::Features,
    position::Place,
    storage::Storage,
    value::{Answer, Matrix, Samples, Series, Stream, Value, VectorSample},
};

mod prepare;

mod select;

mod window;

mod range;

mod rate;

mod extended;

mod aggregate;

mod rank;

mod binary;

mod element;

mod instant;

mod classic;

mod label;

mod info;

type Result<T, E = EvalError> = std::result::Result<T, E>;

/// How queries are evaluated.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a sample counts as the newest, in milliseconds.
    pub lookback: i64,
    /// The step of subqueries that give none, in milliseconds.
    pub subquery_step: i64,
    /// The parts of the language that are switched on.
    pub features: Features,
    /// Whether counters are known to start anew where their start time says so.
    pub use_start_times: bool,
    /// What a query may cost.
    pub limits: Limits,
}

impl Default for Options {
    /// Prometheus' own: five minutes back, a step of a minute.
    fn default() -> Self {
        Self {
            lookback: 300_000,
            subquery_step: 60_000,
            features: Features::default(),
            use_start_times: false,
            limits: Limits::default(),
        }
    }
}

/// The answer to a query, and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Warnings and infos.
    pub notes: Notes,
    /// What it cost.
    pub statistics: Statistics,
}

/// Evaluates an expression at one time (milliseconds since 1970).
pub fn instant(storage: &dyn Storage, expr: &Expr, time: i64, options: &Options) -> Result<Outcome> {
    let grid = Grid::new(time, time, 1)?;
    evaluate(storage, expr, grid, 0, options)
}

/// Evaluates an expression at steps from `start` to `end`, all in milliseconds.
pub fn range(
    storage: &dyn Storage,
    expr: &Expr,
    start: i64,
    end: i64,
    step: i64,
    options: &Options,
) -> Result<Outcome> {
    let value_type = expr.value_type();
    if !matches!(value_type, Type::Scalar | Type::Vector) {
        let message = format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            value_type.documented()
        );
        return Err(EvalError::Failed(message));
    }
    if step <= 0 {
        return Err(failed("step of a range query must be positive"));
    }
    evaluate(storage, expr, Grid::new(start, end, step)?, step, options)
}

/// `step` is 0 for an instant.
fn evaluate(storage: &dyn Storage, expr: &Expr, grid: Grid, step: i64, options: &Options) -> Result<Outcome> {
    let expr = prepare::prepare(expr, grid.start, grid.end, step)?;
    let query = Query {
        storage,
        options,
        start: grid.start,
        end: grid.end,
        meter: Meter::new(options.limits.clone()),
        notes: RefCell::default(),
    };
    query.meter.check()?;
    let evaluator = Evaluator { query: &query, grid, nameless: false };
    let answer = if step == 0 { evaluator.at_instant(&expr)? } else { evaluator.over_range(&expr)? };
    Ok(Outcome { answer, statistics: query.meter.statistics(), notes: query.notes.into_inner() })
}

fn failed(message: impl Into<String>) -> EvalError {
    EvalError::Failed(message.into())
}

const DUPLICATES: &str = "vector cannot contain metrics with the same labelset";

/// The times at which something is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    start: i64,
    end: i64,
    interval: i64,
    steps: usize,
}

/// Most steps of a query; the HTTP API allows far fewer.
const MAX_STEPS: i64 = 100_000_000;

impl Grid {
    fn new(start: i64, end: i64, interval: i64) -> Result<Self> {
        if start.checked_abs().is_none_or(|start| start > i64::MAX / 4)
            || end.checked_abs().is_none_or(|end| end > i64::MAX / 4)
        {
            return Err(failed("time of the query is out of bounds"));
        }
        let steps = if end < start { 0 } else { (end - start) / interval + 1 };
        if steps > MAX_STEPS {
            return Err(EvalError::TooManySamples("query execution"));
        }
        Ok(Self { start, end, interval, steps: steps as usize })
    }

    fn time(&self, step: usize) -> i64 {
        self.start + step as i64 * self.interval
    }

    /// The time of the last step.
    fn last(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    fn times(self) -> impl Iterator<Item = (usize, i64)> {
        (0..self.steps).map(move |step| (step, self.time(step)))
    }

    fn is_instant(&self) -> bool {
        self.start == self.end
    }

    /// The first step alone.
    fn first(self) -> Self {
        Self { end: self.start, steps: self.steps.min(1), ..self }
    }
}

/// What all parts of a query share.
struct Query<'a> {
    storage: &'a dyn Storage,
    options: &'a Options,
    /// The first step of the whole query.
    start: i64,
    /// The last one.
    end: i64,
    meter: Meter,
    notes: RefCell<Notes>,
}

/// Evaluates expressions over a grid.
#[derive(Clone, Copy)]
struct Evaluator<'a> {
    query: &'a Query<'a>,
    grid: Grid,
    /// Whoever takes the series of the next expression does not look at what [`without_metadata`] takes away.
    nameless: bool,
}

/// Takes series one after another.
type Sink<'s> = dyn FnMut(Series) -> Result<()> + 's;

impl<'a> Evaluator<'a> {
    fn note(&self, note: Note) {
        self.query.notes.borrow_mut().add(note);
    }

    /// Whether names of metrics are dropped only at the end.
    fn delayed(&self) -> bool {
        self.query.options.features.delayed_name_removal
    }

    fn over(&self, grid: Grid) -> Self {
        Self { grid, nameless: false, ..*self }
    }

    fn at_instant(&self, expr: &Expr) -> Result<Answer> {
        let time = self.grid.start;
        match expr.unwrapped() {
            Expr::Text(text) => return Ok(Answer::Text(time, text.value.clone())),
            Expr::Matrix(matrix) => return self.matrix_answer(matrix),
            Expr::Subquery(subquery) => {
                let (grid, matrix) = self.subquery(subquery)?;
                return Ok(Answer::Matrix(self.over(grid).streams(matrix)?));
            }
            _ => {}
        }
        let matrix = self.eval(expr)?;
        if expr.value_type() == Type::Scalar {
            let value = matrix.first().and_then(|series| series.at(0)).and_then(|value| value.float());
            return Ok(Answer::Scalar(time, value.unwrap_or(f64::NAN)));
        }
        let samples = self
            .finish(matrix)?
            .into_iter()
            .filter_map(|series| series.at(0).map(|value| VectorSample { labels: series.labels, value }));
        Ok(Answer::Vector(time, samples.collect()))
    }

    fn over_range(&self, expr: &Expr) -> Result<Answer> {
        let matrix = self.eval(expr)?;
        Ok(Answer::Matrix(self.streams(matrix)?))
    }

    /// Series as they are shown.
    fn streams(&self, matrix: Matrix) -> Result<Vec<Stream>> {
        let mut streams: Vec<Stream> = self
            .finish(matrix)?
            .into_iter()
            .map(|series| {
                let floats = series.floats.iter().enumerate().filter(|(_, value)| !is_stale(**value));
                Stream {
                    floats: floats.map(|(step, value)| (self.grid.time(step), *value)).collect(),
                    histograms: series
                        .histograms
                        .into_iter()
                        .map(|(step, histogram)| (self.grid.time(step), histogram))
                        .collect(),
                    labels: series.labels,
                }
            })
            .collect();
        streams.retain(|stream| !stream.floats.is_empty() || !stream.histograms.is_empty());
        streams.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(streams)
    }

    /// Drops the names that were to be dropped.
    fn finish(&self, mut matrix: Matrix) -> Result<Matrix> {
        if !self.delayed() {
            return Ok(matrix);
        }
        for series in &mut matrix {
            if series.drop_name {
                series.labels = without_metadata(&series.labels);
            }
        }
        merge_same(matrix)
    }

    /// Evaluates an expression that is a scalar or a vector. A scalar is one series without labels.
    fn eval(&self, expr: &Expr) -> Result<Matrix> {
        let mut matrix = Vec::new();
        let meter = &self.query.meter;
        self.each(expr, &mut |series| {
            meter.hold(series.weight())?;
            matrix.push(series);
            Ok(())
        })?;
        // What is held from here on is counted by whoever holds it further.
        meter.release(matrix.iter().map(Series::weight).sum());
        Ok(matrix)
    }

    /// Evaluates an expression and gives each series away as soon as it is known.
    fn each(&self, expr: &Expr, sink: &mut Sink<'_>) -> Result<()> {
        self.query.meter.check()?;
        if self.grid.steps == 0 {
            return Ok(());
        }
        if self.grid.steps > 1 && prepare::is_invariant(expr) && !matches!(expr, Expr::Number(_) | Expr::Paren(_)) {
            let steps = self.grid.steps;
            return self.over(self.grid.first()).each(expr, &mut |series| sink(broadcast(series, steps)));
        }
        let matrix = match expr {
            Expr::Number(number) => vec![Series::constant(number.value, self.grid.steps)],
            Expr::Paren(paren) => return self.each(&paren.expr, sink),
            Expr::Selector(selector) => return self.selector(selector, sink),
            Expr::Call(call) => return self.call(call, sink),
            Expr::Aggregate(aggregate) => self.over(self.grid).aggregate(aggregate)?,
            Expr::Binary(binary) => self.over(self.grid).binary(binary)?,
            Expr::Unary(unary) => self.over(self.grid).unary(unary)?,
            Expr::Text(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                return Err(failed(format!("unexpected {} in evaluation", expr.value_type().documented())));
            }
        };
        matrix.into_iter().try_for_each(sink)
    }

    /// The values of a scalar expression.
    fn scalar(&self, expr: &Expr) -> Result<Vec<f64>> {
        let matrix = self.eval(expr)?;
        let values = matrix.into_iter().next().map(|series| series.floats).unwrap_or_default();
        if values.len() == self.grid.steps { Ok(values) } else { Err(failed("scalar has no value at some step")) }
    }

    fn unary(&self, unary: &Unary) -> Result<Matrix> {
        let mut matrix = self.eval(&unary.expr)?;
        if !unary.negative {
            return Ok(matrix);
        }
        for series in &mut matrix {
            self.drop_name(series);
            for value in series.floats.iter_mut().filter(|value| !is_stale(**value)) {
                *value = -*value;
            }
            for (_, histogram) in &mut series.histograms {
                let mut negative = (**histogram).clone();
                negative.multiply(-1.0);
                *histogram = negative.into();
            }
        }
        if self.delayed() { Ok(matrix) } else { merge_same(matrix) }
    }

    /// Drops the metric's name from a result, now or at the end.
    fn drop_name(&self, series: &mut Series) {
        if !self.delayed() {
            series.labels = without_metadata(&series.labels);
        }
        series.drop_name = true;
    }

    /// The time that a selector looks at from `time`, before its offset.
    fn anchor(&self, shift: &Shift, time: i64) -> i64 {
        match shift.at {
            None => time,
            Some(At::Time(at)) => at,
            Some(At::Start) => self.query.start,
            Some(At::End) => self.query.end,
        }
    }

    /// The time that a selector looks at from `time`.
    fn shifted(&self, shift: &Shift, time: i64) -> i64 {
        self.anchor(shift, time).saturating_sub(shift.offset).clamp(i64::MIN / 4, i64::MAX / 4)
    }

    /// Evaluates the expression of a subquery over the grid that it spans.
    fn subquery(&self, subquery: &crate::ast::Subquery) -> Result<(Grid, Matrix)> {
        let (first, last) =
            (self.shifted(&subquery.shift, self.grid.start), self.shifted(&subquery.shift, self.grid.last()));
        let interval = if subquery.step > 0 { subquery.step } else { self.query.options.subquery_step.max(1) };
        // Left-open: the first step lies behind the beginning of the range.
        let begin = first.saturating_sub(subquery.range);
        let mut start = begin / interval * interval;
        if start <= begin {
            start += interval;
        }
        let grid = Grid::new(start, last, interval)?;
        Ok((grid, self.over(grid).eval(&subquery.expr)?))
    }

    fn matrix_answer(&self, matrix: &crate::ast::Matrix) -> Result<Answer> {
        let mut streams = Vec::new();
        let end = self.shifted(&matrix.selector.shift, self.grid.start);
        let start = end - matrix.range;
        let extended = matrix.selector.anchored || matrix.selector.smoothed;
        self.fetch(&matrix.selector, matrix.range, "", &mut |labels, samples| {
            samples.drop_stale();
            if extended {
                if !samples.histograms.is_empty() {
                    let name = if matrix.selector.anchored { "anchored" } else { "smoothed" };
                    return Err(failed(format!("{name} modifier is not supported with histograms")));
                }
                let window = window::Cursor::default().advance(samples, start, end, i64::MIN / 4, i64::MAX / 4);
                let floats = extended::bounded(&window, matrix.selector.smoothed);
                if !floats.is_empty() {
                    streams.push(Stream { labels: labels.clone(), floats, histograms: Vec::new() });
                }
                return Ok(());
            }
            let inside = |time: i64| time > start && time <= end;
            let floats: Vec<_> = samples
                .times
                .iter()
                .copied()
                .zip(samples.floats.iter().copied())
                .filter(|point| inside(point.0))
                .collect();
            let histograms: Vec<_> = samples
                .histogram_times
                .iter()
                .copied()
                .zip(samples.histograms.iter().cloned())
                .filter(|point| inside(point.0))
                .collect();
            if !floats.is_empty() || !histograms.is_empty() {
                self.query.meter.hold(floats.len() + histograms.len())?;
                streams.push(Stream { labels: labels.clone(), floats, histograms });
            }
            Ok(())
        })?;
        streams.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer::Matrix(streams))
    }

    fn call(&self, call: &crate::ast::Call, sink: &mut Sink<'_>) -> Result<()> {
        let id = call.function.id;
        let nameless = self.nameless;
        let this = &self.over(self.grid);
        if matches!(id, Id::Timestamp | Id::StartTimestamp)
            && let Some(Expr::Selector(selector)) = call.args.first().map(Expr::unwrapped)
        {
            return this.timestamps(selector, id == Id::StartTimestamp, sink);
        }
        let range = call.args.iter().position(|arg| matches!(arg.unwrapped(), Expr::Matrix(_) | Expr::Subquery(_)));
        if let Some(at) = range {
            return this.range_function(call, at, nameless, sink);
        }
        let sorts = matches!(id, Id::Sort | Id::SortDesc | Id::SortByLabel | Id::SortByLabelDesc);
        if sorts && !this.grid.is_instant() {
            this.note(Note::sort_in_range(call.place));
        }
        let matrix = match id {
            Id::LabelReplace => this.label_replace(call)?,
            Id::LabelJoin => this.label_join(call)?,
            Id::Info => this.info(call)?,
            Id::HistogramQuantile | Id::HistogramQuantiles | Id::HistogramFraction => this.classic(call)?,
            _ => return this.simple(call, sink),
        };
        matrix.into_iter().try_for_each(sink)
    }
}

/// The same series at all steps.
fn broadcast(series: Series, steps: usize) -> Series {
    match series.at(0) {
        Some(Value::Float(value)) => Series { floats: vec![value; steps], ..series },
        Some(Value::Histogram(histogram)) => {
            let empty = Series::new(series.labels, series.drop_name, steps);
            Series { histograms: (0..steps).map(|step| (step, histogram.clone())).collect(), ..empty }
        }
        None => Series::new(series.labels, series.drop_name, steps),
    }
}

/// Labels without name, type and unit.
fn without_metadata(labels: &Labels) -> Labels {
    labels.without(is_metadata)
}

/// Whether a label says what a metric is, and not which series of it.
fn is_metadata(name: &str) -> bool {
    matches!(name, NAME | TYPE | UNIT)
}

/// Makes one series of those with the same labels, which must not have values at the same step.
fn merge_same(matrix: Matrix) -> Result<Matrix> {
    let mut places = std::collections::HashMap::with_capacity(matrix.len());
    let mut merged: Matrix = Vec::with_capacity(matrix.len());
    for series in matrix {
        if series.is_empty() {
            continue;
        }
        let Some(&at) = places.get(&series.labels) else {
            places.insert(series.labels.clone(), merged.len());
            merged.push(series);
            continue;
        };
        let known: &mut Series = &mut merged[at];
        for (step, value) in series.floats.iter().enumerate().filter(|(_, value)| !is_stale(**value)) {
            if !is_stale(known.floats[step]) {
                return Err(failed(DUPLICATES));
            }
            known.floats[step] = *value;
        }
        known.histograms.extend(series.histograms);
        known.histograms.sort_by_key(|histogram| histogram.0);
        if known.histograms.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(failed(DUPLICATES));
        }
    }
    Ok(merged)
}

/// Collects values, step after step, by labels.
struct Collector {
    steps: usize,
    /// With one step, series are kept apart and compared at the end.
    apart: bool,
    places: std::collections::HashMap<Labels, usize>,
    matrix: Matrix,
}

impl Collector {
    fn new(grid: Grid) -> Self {
        Self {
            steps: grid.steps,
            apart: grid.is_instant(),
            places: std::collections::HashMap::new(),
            matrix: Vec::new(),
        }
    }

    /// Where the series with these labels is kept.
    fn place(&mut self, labels: Labels, drop_name: bool) -> usize {
        let next = self.matrix.len();
        if !self.apart {
            if let Some(at) = self.places.get(&labels) {
                return *at;
            }
            self.places.insert(labels.clone(), next);
        }
        self.matrix.push(Series::new(labels, drop_name, self.steps));
        next
    }

    fn set(&mut self, at: usize, step: usize, value: Value) -> Result<()> {
        if self.matrix[at].has(step) {
            return Err(failed(DUPLICATES));
        }
        self.matrix[at].set(step, value);
        Ok(())
    }

    fn put(&mut self, labels: Labels, drop_name: bool, step: usize, value: Value) -> Result<()> {
        let at = self.place(labels, drop_name);
        self.set(at, step, value)
    }

    /// The series; with names dropped at once (not `delayed`), no two may have the same labels.
    fn finish(self, delayed: bool) -> Result<Matrix> {
        if self.apart && !delayed {
            let mut labels: Vec<_> = self.matrix.iter().map(|series| &series.labels).collect();
            labels.sort_unstable();
            if labels.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(failed(DUPLICATES));
            }
        }
        Ok(self.matrix)
    }
}

/// A function's window over samples together with what notes speak of.
struct Subject<'a> {
    evaluator: &'a Evaluator<'a>,
    metric: &'a str,
    place: Place,
}

impl Subject<'_> {
    fn note(&self, make: impl FnOnce(&str, Place) -> Note) {
        self.evaluator.note(make(self.metric, self.place));
    }
}

/// The samples of a subquery's series.
fn samples_of(series: &Series, grid: Grid, samples: &mut Samples) {
    samples.clear();
    for (step, value) in series.floats.iter().enumerate().filter(|(_, value)| !is_stale(**value)) {
        samples.push_float(grid.time(step), *value);
    }
    for (step, histogram) in &series.histograms {
        let hint = histogram.reset;
        let known = matches!(hint, tsdb::histogram::ResetHint::Reset | tsdb::histogram::ResetHint::NoReset);
        let histogram = if known {
            // What was known of resets between samples is not true between steps.
            std::sync::Arc::new(tsdb::histogram::FloatHistogram { reset: Default::default(), ..(**histogram).clone() })
        } else {
            histogram.clone()
        };
        samples.push_histogram(grid.time(*step), histogram);
    }
}
