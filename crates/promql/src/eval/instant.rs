//! Functions of instant vectors and scalars.

use std::collections::HashSet;

use tsdb::{histogram::FloatHistogram, labels::Labels, sample::is_stale};

use super::{
    DUPLICATES, Evaluator, Result, Sink,
    element::{go_max, go_min},
    failed, label,
    range::labels_of_absent,
};
use crate::{
    ast::{Call, Expr},
    calendar::Date,
    function::Id,
    value::{ABSENT, Matrix, Series},
};

/// Fails where two series have the same labels and values at the same step.
pub(super) fn distinct(matrix: &Matrix) -> Result<()> {
    let mut seen: HashSet<&Labels> = HashSet::with_capacity(matrix.len());
    if matrix.iter().all(|series| seen.insert(&series.labels)) {
        return Ok(());
    }
    let mut taken: HashSet<(&Labels, usize)> = HashSet::new();
    for series in matrix {
        for step in (0..series.floats.len()).filter(|step| series.has(*step)) {
            if !taken.insert((&series.labels, step)) {
                return Err(failed(DUPLICATES));
            }
        }
    }
    Ok(())
}

impl Evaluator<'_> {
    /// Functions that look at one series, or one number, at a time.
    pub(super) fn simple(&self, call: &Call, sink: &mut Sink<'_>) -> Result<()> {
        let steps = self.grid.steps;
        let id = call.function.id;
        let args = &call.args;
        let scalar = |floats: Vec<f64>| Series { floats, ..Series::constant(0.0, 0) };
        match id {
            Id::Time => sink(scalar(self.grid.times().map(|(_, time)| time as f64 / 1000.0).collect())),
            Id::Pi => sink(Series::constant(std::f64::consts::PI, steps)),
            Id::MaxOf | Id::MinOf => {
                let (a, b) = (self.scalar(&args[0])?, self.scalar(&args[1])?);
                let better = if id == Id::MaxOf { go_max } else { go_min };
                sink(scalar(a.into_iter().zip(b).map(|(a, b)| better(a, b)).collect()))
            }
            Id::Vector => sink(scalar(self.scalar(&args[0])?)),
            Id::Scalar => sink(scalar(self.only_values(&args[0])?)),
            Id::Absent => {
                let mut present = vec![false; steps];
                self.each(&args[0], &mut |series| {
                    for (step, present) in present.iter_mut().enumerate() {
                        *present |= series.has(step);
                    }
                    Ok(())
                })?;
                let mut series = Series::new(labels_of_absent(args[0].unwrapped()), false, steps);
                for (value, present) in series.floats.iter_mut().zip(present) {
                    *value = if present { ABSENT } else { 1.0 };
                }
                if series.is_empty() { Ok(()) } else { sink(series) }
            }
            Id::Sort | Id::SortDesc => {
                let mut matrix = self.eval(&args[0])?;
                matrix.iter_mut().for_each(|series| series.histograms.clear());
                matrix.retain(|series| !series.is_empty());
                matrix.sort_by(|a, b| {
                    let (a, b) = (a.floats[0], b.floats[0]);
                    let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                    a.is_nan().cmp(&b.is_nan()).then(if id == Id::Sort { order } else { order.reverse() })
                });
                matrix.into_iter().try_for_each(sink)
            }
            Id::SortByLabel | Id::SortByLabelDesc => {
                let mut matrix = self.eval(&args[0])?;
                let names = args[1..].iter().map(label::text).collect::<Result<Vec<_>>>()?;
                label::sort(&mut matrix, &names, id == Id::SortByLabelDesc);
                matrix.into_iter().try_for_each(sink)
            }
            Id::Timestamp => self.map(&args[0], sink, |series| {
                for (step, time) in self.grid.times() {
                    series.floats[step] = if series.has(step) { time as f64 / 1000.0 } else { ABSENT };
                }
                series.histograms.clear();
            }),
            Id::StartTimestamp => Ok(()),
            Id::HistogramCount => self.of_histograms(&args[0], sink, |histogram| histogram.count),
            Id::HistogramSum => self.of_histograms(&args[0], sink, |histogram| histogram.sum),
            Id::HistogramAvg => self.of_histograms(&args[0], sink, |histogram| histogram.sum / histogram.count),
            Id::HistogramStdvar => self.of_histograms(&args[0], sink, variance),
            Id::HistogramStddev => self.of_histograms(&args[0], sink, |histogram| variance(histogram).sqrt()),
            Id::Clamp | Id::ClampMin | Id::ClampMax => self.clamp(call, sink),
            Id::Round => {
                let nearest = match args.get(1) {
                    Some(arg) => self.scalar(arg)?,
                    None => vec![1.0; steps],
                };
                self.floats(&args[0], sink, |step, value| {
                    let inverse = 1.0 / nearest[step];
                    Some((value * inverse + 0.5).floor() / inverse)
                })
            }
            id => match (date(id), math(id)) {
                (Some(part), _) => match args.first() {
                    Some(arg) => {
                        self.floats(arg, sink, |_, value| Some(part(&Date::from_seconds(value as i64)) as f64))
                    }
                    None => {
                        let parts = self.grid.times().map(|(_, time)| part(&Date::from_seconds(time / 1000)) as f64);
                        sink(scalar(parts.collect()))
                    }
                },
                (None, Some(function)) => self.floats(&args[0], sink, |_, value| Some(function(value))),
                (None, None) => Err(failed(format!("function {}() needs a range vector", call.function.name))),
            },
        }
    }

    /// Gives the series of `arg` away changed and without their names.
    fn map(&self, arg: &Expr, sink: &mut Sink<'_>, change: impl Fn(&mut Series)) -> Result<()> {
        let changed = |mut series: Series, sink: &mut Sink<'_>| {
            change(&mut series);
            if series.is_empty() {
                return Ok(());
            }
            self.drop_name(&mut series);
            sink(series)
        };
        if self.delayed() {
            return self.each(arg, &mut |series| changed(series, sink));
        }
        let mut matrix = Vec::new();
        self.each(arg, &mut |series| {
            changed(series, &mut |series| {
                matrix.push(series);
                Ok(())
            })
        })?;
        distinct(&matrix)?;
        matrix.into_iter().try_for_each(sink)
    }

    /// A function of floats; histograms are left out.
    fn floats(&self, arg: &Expr, sink: &mut Sink<'_>, function: impl Fn(usize, f64) -> Option<f64>) -> Result<()> {
        self.map(arg, sink, |series| {
            series.histograms.clear();
            for (step, value) in series.floats.iter_mut().enumerate().filter(|(_, value)| !is_stale(**value)) {
                *value = function(step, *value).unwrap_or(ABSENT);
            }
        })
    }

    /// A function of histograms; floats are left out.
    fn of_histograms(&self, arg: &Expr, sink: &mut Sink<'_>, function: impl Fn(&FloatHistogram) -> f64) -> Result<()> {
        self.map(arg, sink, |series| {
            series.floats.fill(ABSENT);
            for (step, histogram) in std::mem::take(&mut series.histograms) {
                series.floats[step] = function(&histogram);
            }
        })
    }

    fn clamp(&self, call: &Call, sink: &mut Sink<'_>) -> Result<()> {
        let endless = |value| vec![value; self.grid.steps];
        let (least, most) = match call.function.id {
            Id::ClampMin => (self.scalar(&call.args[1])?, endless(f64::INFINITY)),
            Id::ClampMax => (endless(f64::NEG_INFINITY), self.scalar(&call.args[1])?),
            _ => (self.scalar(&call.args[1])?, self.scalar(&call.args[2])?),
        };
        self.floats(&call.args[0], sink, |step, value| {
            let (least, most) = (least[step], most[step]);
            if most < least { None } else { Some(go_max(least, go_min(most, value))) }
        })
    }

    /// The float of the only series that has one, at each step.
    fn only_values(&self, arg: &Expr) -> Result<Vec<f64>> {
        let mut found: Vec<(usize, f64)> = vec![(0, f64::NAN); self.grid.steps];
        self.each(arg, &mut |series| {
            for ((count, only), value) in found.iter_mut().zip(&series.floats).filter(|(_, value)| !is_stale(**value)) {
                *count += 1;
                *only = if *count == 1 { *value } else { f64::NAN };
            }
            Ok(())
        })?;
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }
}

/// The part of a date that a function gives.
fn date(id: Id) -> Option<fn(&Date) -> i64> {
    Some(match id {
        Id::DaysInMonth => |date| date.days_in_month(),
        Id::DayOfMonth => |date| date.day,
        Id::DayOfWeek => |date| date.weekday,
        Id::DayOfYear => |date| date.day_of_year,
        Id::Hour => |date| date.hour,
        Id::Minute => |date| date.minute,
        Id::Month => |date| date.month,
        Id::Year => |date| date.year,
        _ => return None,
    })
}

fn math(id: Id) -> Option<fn(f64) -> f64> {
    Some(match id {
        Id::Abs => f64::abs,
        Id::Ceil => f64::ceil,
        Id::Floor => f64::floor,
        Id::Exp => f64::exp,
        Id::Sqrt => f64::sqrt,
        Id::Ln => f64::ln,
        Id::Log2 => f64::log2,
        Id::Log10 => f64::log10,
        Id::Sin => f64::sin,
        Id::Cos => f64::cos,
        Id::Tan => f64::tan,
        Id::Asin => f64::asin,
        Id::Acos => f64::acos,
        Id::Atan => f64::atan,
        Id::Sinh => f64::sinh,
        Id::Cosh => f64::cosh,
        Id::Tanh => f64::tanh,
        Id::Asinh => f64::asinh,
        Id::Acosh => f64::acosh,
        Id::Atanh => f64::atanh,
        Id::Rad => |value| value * std::f64::consts::PI / 180.0,
        Id::Deg => |value| value * 180.0 / std::f64::consts::PI,
        Id::Sgn => |value| match value {
            v if v < 0.0 => -1.0,
            v if v > 0.0 => 1.0,
            v => v,
        },
        _ => return None,
    })
}

/// The variance of a histogram's observations, taken to lie in the middle of their buckets.
fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut sum, mut low) = (0.0, 0.0);
    for bucket in histogram.all_buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        tsdb::histogram::add_compensated(bucket.count * delta * delta, &mut sum, &mut low);
    }
    (sum + low) / histogram.count
}
