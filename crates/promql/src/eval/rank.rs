//! `topk`, `bottomk`, `limitk` and `limit_ratio`: some of the series of each group.
//!
//! Which of several equal values stay follows from the heap that upstream keeps them in, so this one works the same.

use std::collections::HashMap;

use tsdb::{labels::Labels, sample::is_stale};

use super::{Evaluator, Result, aggregate::group_labels, failed};
use crate::{
    annotation::Note,
    ast::Aggregate,
    lex::Aggregator,
    number::short,
    sampling,
    value::{Matrix, Series},
};

/// Least and greatest of some numbers; no number where one is none.
pub(super) fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (super::element::go_min(least, *value), super::element::go_max(most, *value))
    })
}

/// Whether one value goes before another towards the top of the heap.
type Before = fn(f64, f64) -> bool;

fn less(a: f64, b: f64) -> bool {
    a.is_nan() || a < b
}

fn greater(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

/// Values with the places of their series.
type Heap = Vec<(f64, usize)>;

fn push(heap: &mut Heap, item: (f64, usize), before: Before) {
    heap.push(item);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !before(heap[at].0, heap[parent].0) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

fn sink_top(heap: &mut Heap, before: Before) {
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && before(heap[child + 1].0, heap[child].0) {
            child += 1;
        }
        if !before(heap[child].0, heap[at].0) {
            break;
        }
        heap.swap(at, child);
        at = child;
    }
}

impl Evaluator<'_> {
    pub(super) fn rank(&self, aggregate: &Aggregate) -> Result<Matrix> {
        let Some(param) = &aggregate.param else { return Ok(Vec::new()) };
        let op = aggregate.op;
        let params = self.scalar(param)?;
        let matrix = self.eval(&aggregate.expr)?;
        let weight = matrix.iter().map(Series::weight).sum();
        self.query.meter.hold(weight)?;
        let (least, most) = bounds(&params);
        let has_nan = params.iter().any(|value| value.is_nan());
        if op == Aggregator::LimitRatio {
            if most == 0.0 && least == 0.0 {
                return Ok(Vec::new());
            }
            if has_nan {
                return Err(failed("Ratio value is NaN"));
            }
            if most > 1.0 {
                self.note(Note::invalid_ratio(most, 1.0, param.place()));
            }
            if least < -1.0 {
                self.note(Note::invalid_ratio(least, -1.0, param.place()));
            }
        } else {
            if most < 1.0 {
                return Ok(Vec::new());
            }
            if has_nan {
                return Err(failed("Parameter value is NaN"));
            }
            if least <= i64::MIN as f64 {
                return Err(failed(format!("Scalar value {} underflows int64", short(least))));
            }
            if most >= i64::MAX as f64 {
                return Err(failed(format!("Scalar value {} overflows int64", short(most))));
            }
        }
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let groups: Vec<usize> = matrix
            .iter()
            .map(|series| {
                let labels = group_labels(&series.labels, &aggregate.grouping, aggregate.without);
                let next = places.len();
                *places.entry(labels).or_insert(next)
            })
            .collect();
        let mut out: Matrix =
            matrix.iter().map(|series| Series::new(series.labels.clone(), series.drop_name, self.grid.steps)).collect();
        let mut order = Vec::new();
        for (step, param) in params.iter().enumerate() {
            self.query.meter.check()?;
            for chosen in self.choose(aggregate, *param, step, &matrix, &groups, places.len()) {
                for at in chosen {
                    if let Some(value) = matrix[at].at(step) {
                        out[at].set(step, value);
                        if self.grid.is_instant() {
                            order.push(at);
                        }
                    }
                }
            }
        }
        self.query.meter.release(weight);
        if self.grid.is_instant() {
            let mut out: Vec<Option<Series>> = out.into_iter().map(Some).collect();
            return Ok(order.into_iter().filter_map(|at| out[at].take()).collect());
        }
        Ok(out.into_iter().filter(|series| !series.is_empty()).collect())
    }

    /// The places of the series that stay at a step, for each group.
    fn choose(
        &self,
        aggregate: &Aggregate,
        param: f64,
        step: usize,
        matrix: &Matrix,
        groups: &[usize],
        count: usize,
    ) -> Vec<Vec<usize>> {
        let op = aggregate.op;
        let most = (param as i64).min(matrix.len() as i64).max(0) as usize;
        let mut heaps: Vec<Heap> = vec![Vec::new(); count];
        let ratio = param.clamp(-1.0, 1.0);
        let ranks = matches!(op, Aggregator::Topk | Aggregator::Bottomk);
        let (before, beaten): (Before, Before) =
            if op == Aggregator::Bottomk { (greater, |a, b| a > b) } else { (less, |a, b| a < b) };
        for (at, series) in matrix.iter().enumerate() {
            if !series.has(step) {
                continue;
            }
            let heap = &mut heaps[groups[at]];
            let value = series.floats[step];
            match op {
                Aggregator::LimitRatio if ratio == 0.0 || !sampling::is_sampled(ratio, &series.labels) => {}
                Aggregator::LimitRatio => heap.push((0.0, at)),
                _ if most == 0 => {}
                Aggregator::Limitk if heap.len() >= most => {}
                Aggregator::Limitk => heap.push((0.0, at)),
                _ if is_stale(value) => {
                    self.note(Note::ignored_in_aggregation(op.name(), aggregate.place));
                }
                _ if heap.len() < most => push(heap, (value, at), before),
                _ if beaten(heap[0].0, value) || (heap[0].0.is_nan() && !value.is_nan()) => {
                    heap[0] = (value, at);
                    sink_top(heap, before);
                }
                _ => {}
            }
        }
        if ranks {
            for heap in &mut heaps {
                // From the top of the ranking down, which is from the bottom of the heap up; NaNs come last.
                heap.sort_by(|a, b| {
                    let natural = a.0.is_nan().cmp(&b.0.is_nan());
                    natural.then_with(|| match (before(b.0, a.0), before(a.0, b.0)) {
                        (true, false) => std::cmp::Ordering::Less,
                        (false, true) => std::cmp::Ordering::Greater,
                        _ => std::cmp::Ordering::Equal,
                    })
                });
            }
        }
        heaps.into_iter().map(|heap| heap.into_iter().map(|item| item.1).collect()).collect()
    }
}
