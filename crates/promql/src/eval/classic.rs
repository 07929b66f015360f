//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of classic and of native histograms.

use std::collections::HashMap;

use tsdb::labels::{BUCKET, Builder, Labels, NAME};

use super::{Collector, Evaluator, Result, failed, label, without_metadata};
use crate::{
    annotation::Note,
    ast::{Call, Expr},
    function::Id,
    number,
    position::Place,
    quantile::{self, Cumulative, NanEffect},
    value::{Matrix, Series, Value},
};

/// What a series of classic buckets is.
enum Role {
    /// A bucket of the group, with its bound.
    Bucket { group: usize, bound: f64 },
    /// Its `le` is no number.
    Bad,
}

/// What is asked of each histogram at a step.
enum Ask {
    Quantile(f64, Place),
    Fraction(f64, f64),
}

impl Evaluator<'_> {
    pub(super) fn classic(&self, call: &Call) -> Result<Matrix> {
        let id = call.function.id;
        let args = &call.args;
        let vector = match id {
            Id::HistogramQuantiles => &args[0],
            Id::HistogramQuantile => &args[1],
            _ => &args[2],
        };
        let label = if id == Id::HistogramQuantiles { Some(label::text(&args[1])?) } else { None };
        let asked: &[Expr] = match id {
            Id::HistogramQuantiles => &args[2..],
            Id::HistogramQuantile => &args[..1],
            _ => &args[..2],
        };
        let asked = asked.iter().map(|arg| Ok((self.scalar(arg)?, arg.place()))).collect::<Result<Vec<_>>>()?;
        let matrix = self.eval(vector)?;
        let weight = matrix.iter().map(Series::weight).sum();
        self.query.meter.hold(weight)?;
        let place = vector.place();
        let mut groups: Vec<Labels> = Vec::new();
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        let roles: Vec<Role> = matrix
            .iter()
            .map(|series| {
                let Ok(bound) = series.labels.get(BUCKET).parse::<f64>() else { return Role::Bad };
                let labels = series.labels.without(|name| name == BUCKET);
                let group = *numbers.entry(labels).or_insert_with_key(|labels| {
                    groups.push(labels.clone());
                    groups.len() - 1
                });
                Role::Bucket { group, bound }
            })
            .collect();
        let mut out = Out { collector: Collector::new(self.grid), places: HashMap::new(), label: label.as_deref() };
        let mut buckets: Vec<Vec<Cumulative>> = vec![Vec::new(); groups.len()];
        for (step, time) in self.grid.times() {
            self.query.meter.check()?;
            let asks: Vec<Ask> = if id == Id::HistogramFraction {
                let [(lower, _), (upper, _)] = asked.as_slice() else {
                    return Err(failed("histogram_fraction() needs two bounds"));
                };
                vec![Ask::Fraction(lower[step], upper[step])]
            } else {
                asked.iter().map(|(values, place)| Ask::Quantile(values[step], *place)).collect()
            };
            for ask in &asks {
                if let Ask::Quantile(q, place) = ask
                    && (q.is_nan() || !(0.0..=1.0).contains(q))
                {
                    self.note(Note::invalid_quantile(*q, *place));
                }
            }
            buckets.iter_mut().for_each(Vec::clear);
            for (series, role) in matrix.iter().zip(&roles) {
                let Some(Value::Float(count)) = series.at(step) else { continue };
                match role {
                    Role::Bucket { group, bound } => buckets[*group].push(Cumulative { bound: *bound, count }),
                    Role::Bad => {
                        let le = series.labels.get(BUCKET);
                        self.note(Note::bad_bucket(self.shown(&series.labels), le, place));
                    }
                }
            }
            let mut natives = Vec::new();
            for (at, series) in matrix.iter().enumerate() {
                let Some(Value::Histogram(histogram)) = series.at(step) else { continue };
                match numbers.get(&series.labels).filter(|group| !buckets[**group].is_empty()) {
                    Some(group) => {
                        self.note(Note::mixed_classic_native(self.shown(&series.labels), place));
                        buckets[*group].clear();
                    }
                    None => natives.push((at, histogram)),
                }
            }
            for ask in &asks {
                for (at, histogram) in &natives {
                    let labels = &matrix[*at].labels;
                    let metric = self.shown(labels);
                    let value = match ask {
                        Ask::Quantile(q, _) => {
                            let (value, effect) = quantile::of_histogram(*q, histogram);
                            match effect {
                                NanEffect::None => {}
                                NanEffect::Result => self.note(Note::quantile_nan(metric, place)),
                                NanEffect::Skew => self.note(Note::quantile_skewed(metric, place)),
                            }
                            value
                        }
                        Ask::Fraction(lower, upper) => {
                            let (value, left_out) = quantile::fraction_of_histogram(*lower, *upper, histogram);
                            if left_out {
                                self.note(Note::fraction_nan(metric, place));
                            }
                            value
                        }
                    };
                    out.put(self, (false, *at), labels, ask, step, value)?;
                }
                for (group, buckets) in buckets.iter_mut().enumerate().filter(|(_, buckets)| !buckets.is_empty()) {
                    let labels = &groups[group];
                    let value = match ask {
                        Ask::Quantile(q, _) => {
                            let (value, fixed) = quantile::of_buckets(*q, buckets);
                            if let Some(fixed) = fixed {
                                let metric = self.shown(labels);
                                self.note(Note::forced_monotonicity(
                                    metric,
                                    place,
                                    time,
                                    fixed.bounds,
                                    fixed.difference,
                                ));
                            }
                            value
                        }
                        Ask::Fraction(lower, upper) => quantile::fraction_of_buckets(*lower, *upper, buckets),
                    };
                    out.put(self, (true, group), labels, ask, step, value)?;
                }
            }
        }
        self.query.meter.release(weight);
        out.collector.finish(self.delayed())
    }

    /// The metric's name as notes give it: where names are dropped at once, it is no longer known.
    fn shown<'l>(&self, labels: &'l Labels) -> &'l str {
        if self.delayed() { labels.get(NAME) } else { "" }
    }
}

/// What has come out, by histogram and quantile.
struct Out<'a> {
    collector: Collector,
    places: HashMap<((bool, usize), u64), usize>,
    label: Option<&'a str>,
}

impl Out<'_> {
    fn put(
        &mut self,
        evaluator: &Evaluator<'_>,
        of: (bool, usize),
        labels: &Labels,
        ask: &Ask,
        step: usize,
        value: f64,
    ) -> Result<()> {
        let q = match ask {
            Ask::Quantile(q, _) if self.label.is_some() => *q,
            _ => 0.0,
        };
        let at = match self.places.get(&(of, q.to_bits())) {
            Some(at) => *at,
            None => {
                let mut labels = if evaluator.delayed() { labels.clone() } else { without_metadata(labels) };
                if let Some(label) = self.label {
                    labels = Builder::new(&labels).set(label, &open_metrics(q)).labels();
                }
                let at = self.collector.place(labels, true);
                self.places.insert((of, q.to_bits()), at);
                at
            }
        };
        self.collector.set(at, step, Value::Float(value))
    }
}

/// A number as OpenMetrics writes it: never without a point or an exponent.
fn open_metrics(value: f64) -> String {
    let text = number::short(value);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if plain { text + ".0" } else { text }
}
