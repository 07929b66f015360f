//! `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`, `quantile` and `count_values`.
//!
//! Series are folded into their groups as they come, so that what is held is one cell for each group and step.

use std::collections::HashMap;

use tsdb::{
    histogram::{FloatHistogram, add_compensated},
    labels::{Builder, Labels, NAME, TYPE, UNIT},
    sample::is_stale,
};

use super::{
    Collector, Evaluator, Result, failed,
    range::{HistogramSum, Mean},
};
use crate::{
    annotation::{Note, Operation},
    ast::{Aggregate, Expr},
    lex::Aggregator,
    number, quantile,
    value::{Matrix, Series, Value},
};

/// What a group has at a step.
#[derive(Clone, Debug, Default)]
struct Cell {
    /// Sum, least, greatest, or sum of squared differences.
    value: f64,
    /// Low digits of the sum, or the mean of those seen.
    other: f64,
    count: f64,
    has_float: bool,
    /// Histograms of both kinds of schema were seen.
    mixed_schemas: bool,
    more: More,
}

#[derive(Clone, Debug, Default)]
enum More {
    #[default]
    None,
    Mean(Mean),
    Values(Vec<f64>),
    Histograms(Box<HistogramSum>),
    /// A histogram came where floats had come before.
    Mixed,
}

struct Group {
    labels: Labels,
    drop_name: bool,
    cells: Vec<Cell>,
}

/// The labels that a series' group has.
pub(super) fn group_labels(labels: &Labels, grouping: &[String], without: bool) -> Labels {
    let named = |name: &str| grouping.iter().any(|label| label == name);
    if without {
        labels.without(|name| name == NAME || named(name))
    } else if grouping.is_empty() {
        Labels::empty()
    } else {
        labels.without(|name| !named(name))
    }
}

/// What [`Labels::as_key`] of the labels of a series' group is.
fn group_key(labels: &Labels, grouping: &[String], without: bool, key: &mut String) {
    let named = |name: &str| grouping.iter().any(|label| label == name);
    if without {
        labels.key_without(|name| name == NAME || named(name), key);
    } else {
        labels.key_without(|name| !named(name), key);
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate) -> Result<Matrix> {
        match aggregate.op {
            Aggregator::CountValues => return self.count_values(aggregate),
            Aggregator::Topk | Aggregator::Bottomk | Aggregator::Limitk | Aggregator::LimitRatio => {
                return self.rank(aggregate);
            }
            _ => {}
        }
        let quantiles = match &aggregate.param {
            Some(param) => self.quantiles(param)?,
            None => Vec::new(),
        };
        let steps = self.grid.steps;
        let cell_weight = size_of::<Cell>().div_ceil(16);
        let mut places: HashMap<Labels, usize, foldhash::fast::RandomState> = HashMap::default();
        let mut groups: Vec<Group> = Vec::new();
        let mut held = 0;
        let mut key = String::new();
        // Names that nobody looks at need not be taken off first.
        let named = |label: &String| matches!(label.as_str(), NAME | TYPE | UNIT);
        let nameless = !aggregate.without && !aggregate.grouping.iter().any(named);
        Self { nameless, ..*self }.each(&aggregate.expr, &mut |series| {
            group_key(&series.labels, &aggregate.grouping, aggregate.without, &mut key);
            let at = match places.get(key.as_str()) {
                Some(at) => *at,
                None => {
                    held += steps * cell_weight;
                    self.query.meter.hold(steps * cell_weight)?;
                    let labels = Labels::from_key(&key);
                    places.insert(labels.clone(), groups.len());
                    groups.push(Group { labels, drop_name: false, cells: vec![Cell::default(); steps] });
                    groups.len() - 1
                }
            };
            let group = &mut groups[at];
            group.drop_name |= series.drop_name;
            self.fold(aggregate, &series, nameless, &mut group.cells);
            Ok(())
        })?;
        let mut matrix = Vec::with_capacity(groups.len());
        for group in groups {
            let mut series = Series::new(group.labels, group.drop_name, steps);
            for (step, cell) in group.cells.into_iter().enumerate() {
                let q = quantiles.get(step).copied().unwrap_or(f64::NAN);
                if let Some(value) = self.settle(aggregate, cell, q) {
                    series.set(step, value);
                }
            }
            if !series.is_empty() {
                matrix.push(series);
            }
        }
        self.query.meter.release(held);
        Ok(matrix)
    }

    /// The parameter of `quantile` at each step.
    fn quantiles(&self, param: &Expr) -> Result<Vec<f64>> {
        let values = self.scalar(param)?;
        let place = param.place();
        if values.iter().any(|q| q.is_nan()) {
            self.note(Note::invalid_quantile(f64::NAN, place));
        }
        let (least, most) = super::rank::bounds(&values);
        if most > 1.0 {
            self.note(Note::invalid_quantile(most, place));
        }
        if least < 0.0 {
            self.note(Note::invalid_quantile(least, place));
        }
        Ok(values)
    }

    /// Adds a series to the cells of its group; `nameless` as for [`Evaluator`].
    fn fold(&self, aggregate: &Aggregate, series: &Series, nameless: bool, cells: &mut [Cell]) {
        let op = aggregate.op;
        for (cell, value) in cells.iter_mut().zip(&series.floats) {
            if !is_stale(*value) {
                cell.add(op, *value);
            }
        }
        let dropped = nameless && series.drop_name && !self.delayed();
        for (step, histogram) in &series.histograms {
            let cell = &mut cells[*step];
            let metric = if dropped { "" } else { series.labels.metric() };
            match op {
                Aggregator::Count | Aggregator::Group => cell.count += 1.0,
                Aggregator::Sum | Aggregator::Avg => self.add_histogram(aggregate, cell, histogram, metric),
                _ => self.note(Note::ignored_in_aggregation(op.name(), aggregate.expr.place())),
            }
        }
    }

    fn add_histogram(&self, aggregate: &Aggregate, cell: &mut Cell, histogram: &FloatHistogram, metric: &str) {
        if cell.mixed_schemas {
            return;
        }
        match &mut cell.more {
            More::Histograms(sum) => {
                if sum.add(histogram).is_err() {
                    cell.mixed_schemas = true;
                    self.note(Note::mixed_schemas(metric, aggregate.expr.place()));
                }
            }
            _ if cell.has_float => cell.more = More::Mixed,
            more => *more = More::Histograms(Box::new(HistogramSum::new(histogram, aggregate.op == Aggregator::Avg))),
        }
    }

    /// What comes out of a cell.
    fn settle(&self, aggregate: &Aggregate, cell: Cell, q: f64) -> Option<Value> {
        let place = aggregate.expr.place();
        let float = match aggregate.op {
            Aggregator::Sum | Aggregator::Avg => match cell.more {
                More::Mixed => {
                    self.note(Note::mixed_in_aggregation(place));
                    return None;
                }
                More::Histograms(_) if cell.has_float => {
                    self.note(Note::mixed_in_aggregation(place));
                    return None;
                }
                _ if cell.mixed_schemas => return None,
                More::Histograms(sum) => {
                    if sum.reconciled {
                        self.note(Note::bounds_reconciled(Operation::Aggregation, place));
                    }
                    if sum.resets_collide() {
                        self.note(Note::resets_collide(Operation::Aggregation, place));
                    }
                    return Some(Value::histogram(sum.total()));
                }
                _ if !cell.has_float => return None,
                More::Mean(mean) => mean.value(),
                _ => cell.value + cell.other,
            },
            _ if cell.count == 0.0 => return None,
            Aggregator::Count => cell.count,
            Aggregator::Group => 1.0,
            Aggregator::Stdvar => cell.value / cell.count,
            Aggregator::Stddev => (cell.value / cell.count).sqrt(),
            Aggregator::Quantile => match cell.more {
                More::Values(mut values) => quantile::of_values(q, &mut values),
                _ => return None,
            },
            _ => cell.value,
        };
        Some(Value::Float(float))
    }

    fn count_values(&self, aggregate: &Aggregate) -> Result<Matrix> {
        let Some(Expr::Text(label)) = aggregate.param.as_deref().map(Expr::unwrapped) else {
            return Err(failed("count_values() needs the name of a label"));
        };
        if label.value.is_empty() || label.bytes.is_some() {
            return Err(failed(format!("invalid label name {}", label.quoted())));
        }
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(label.value.clone());
        }
        let matrix = self.eval(&aggregate.expr)?;
        let mut collector = Collector::new(self.grid);
        for step in 0..self.grid.steps {
            self.query.meter.check()?;
            let mut counts: Vec<(Labels, f64)> = Vec::new();
            let mut places: HashMap<Labels, usize> = HashMap::new();
            for series in &matrix {
                let text = match series.at(step) {
                    Some(Value::Float(value)) => number::plain(value),
                    Some(Value::Histogram(histogram)) => crate::histogram_text::plain(&histogram),
                    None => continue,
                };
                let labels = Builder::new(&series.labels).set(&label.value, &text).labels();
                let labels = group_labels(&labels, &grouping, aggregate.without);
                match places.get(&labels) {
                    Some(at) => counts[*at].1 += 1.0,
                    None => {
                        places.insert(labels.clone(), counts.len());
                        counts.push((labels, 1.0));
                    }
                }
            }
            for (labels, count) in counts {
                collector.put(labels, false, step, Value::Float(count))?;
            }
        }
        collector.finish(self.delayed())
    }
}

impl Cell {
    #[inline]
    fn add(&mut self, op: Aggregator, value: f64) {
        let first = self.count == 0.0;
        match op {
            Aggregator::Sum => {
                if self.has_float {
                    add_compensated(value, &mut self.value, &mut self.other);
                } else {
                    self.value = value;
                    self.has_float = true;
                }
            }
            Aggregator::Avg => {
                self.has_float = true;
                match &mut self.more {
                    More::Mean(mean) => mean.add(value),
                    More::None => {
                        let mut mean = Mean::default();
                        mean.add(value);
                        self.more = More::Mean(mean);
                    }
                    _ => {}
                }
            }
            Aggregator::Min | Aggregator::Max => {
                let better = if op == Aggregator::Min { self.value > value } else { self.value < value };
                if first || better || self.value.is_nan() {
                    self.value = value;
                }
                self.count = 1.0;
            }
            Aggregator::Stddev | Aggregator::Stdvar => {
                self.count += 1.0;
                if first {
                    self.other = value;
                    self.value = if value.is_finite() { 0.0 } else { f64::NAN };
                } else {
                    let delta = value - self.other;
                    self.other += delta / self.count;
                    self.value += delta * (value - self.other);
                }
            }
            Aggregator::Quantile => {
                self.count = 1.0;
                match &mut self.more {
                    More::Values(values) => values.push(value),
                    more => *more = More::Values(vec![value]),
                }
            }
            _ => self.count += 1.0,
        }
    }
}
