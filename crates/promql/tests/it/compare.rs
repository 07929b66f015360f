//! Whether an answer is what a file expects.

use std::collections::HashMap;

use promql::{
    histogram_text::for_tests,
    series::Point,
    value::{Answer, Value},
};
use tsdb::{
    histogram::{Buckets, FloatHistogram},
    labels::Labels,
    sample::is_stale,
};

const TOLERANCE: f64 = 1e-6;

/// What an evaluation is to give.
#[derive(Debug, Default)]
pub struct Expected {
    pub scalar: Option<f64>,
    pub text: Option<String>,
    /// In the order of the file.
    pub series: Vec<(Labels, Vec<Point>)>,
    pub ordered: bool,
    /// The first time, the last, and the step of points, in milliseconds.
    pub grid: (i64, i64, i64),
}

pub fn nearly(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn same_histogram(expected: &FloatHistogram, found: &FloatHistogram, hinted: bool) -> bool {
    let (mut a, mut b) = (expected.clone(), found.clone());
    a.compact(0);
    b.compact(0);
    let buckets = |a: &Buckets<f64>, b: &Buckets<f64>| {
        a.same_layout(b)
            && a.values.len() == b.values.len()
            && a.values.iter().zip(&b.values).all(|(a, b)| nearly(*a, *b))
    };
    a.schema == b.schema
        && nearly(a.count, b.count)
        && nearly(a.sum, b.sum)
        && a.custom == b.custom
        && a.zero_threshold == b.zero_threshold
        && nearly(a.zero_count, b.zero_count)
        && buckets(&a.negative, &b.negative)
        && buckets(&a.positive, &b.positive)
        && (!hinted || a.reset == b.reset)
}

fn show(point: &Point) -> String {
    match point {
        Point::Omitted => "_".to_owned(),
        Point::Float(value) => value.to_string(),
        Point::Histogram(histogram, _) => for_tests(histogram),
    }
}

impl Expected {
    pub fn check(&self, answer: &Answer) -> Result<(), String> {
        match answer {
            Answer::Scalar(_, value) => match self.scalar {
                Some(expected) if nearly(expected, *value) => Ok(()),
                expected => Err(format!("expected scalar {expected:?}, got {value}")),
            },
            Answer::Text(_, value) => match &self.text {
                Some(expected) if expected == value => Ok(()),
                expected => Err(format!("expected string {expected:?}, got {value:?}")),
            },
            _ if self.scalar.is_some() => Err("expected a scalar, got series".to_owned()),
            Answer::Vector(_, samples) => {
                let places: HashMap<&Labels, usize> =
                    self.series.iter().enumerate().map(|(at, series)| (&series.0, at)).collect();
                let mut found = vec![false; self.series.len()];
                for (at, sample) in samples.iter().enumerate() {
                    let value = match &sample.value {
                        Value::Float(value) => Point::Float(*value),
                        Value::Histogram(histogram) => Point::Histogram(histogram.clone(), false),
                    };
                    let Some(&place) = places.get(&sample.labels) else {
                        return Err(format!("unexpected {} with {}", sample.labels, show(&value)));
                    };
                    if self.ordered && place != at {
                        return Err(format!("{} at place {at}, expected at {place}", sample.labels));
                    }
                    if std::mem::replace(&mut found[place], true) {
                        return Err(format!("{} twice", sample.labels));
                    }
                    let expected = &self.series[place].1[0];
                    if !same(expected, &value) {
                        return Err(format!("{}: expected {}, got {}", sample.labels, show(expected), show(&value)));
                    }
                }
                self.missing(&found)
            }
            Answer::Matrix(streams) => {
                if self.ordered {
                    return Err("expected an ordered vector, got a matrix".to_owned());
                }
                if !streams.is_sorted_by(|a, b| a.labels <= b.labels) {
                    return Err("series of a matrix are not sorted".to_owned());
                }
                let mut found = vec![false; self.series.len()];
                let (start, end, step) = self.grid;
                for stream in streams {
                    let Some(place) = self.series.iter().position(|series| series.0 == stream.labels) else {
                        return Err(format!(
                            "unexpected {}: {:?} {:?}",
                            stream.labels,
                            stream.floats,
                            stream.histograms.len()
                        ));
                    };
                    found[place] = true;
                    let mut floats = stream.floats.iter();
                    let mut histograms = stream.histograms.iter();
                    for (i, expected) in self.series[place].1.iter().enumerate() {
                        let time = start + i as i64 * step;
                        if time > end {
                            return Err(format!("{}: more points expected than there are steps", stream.labels));
                        }
                        let value = match expected {
                            Point::Omitted => continue,
                            Point::Float(_) => floats.next().map(|(time, value)| (*time, Point::Float(*value))),
                            Point::Histogram(..) => {
                                histograms.next().map(|(time, value)| (*time, Point::Histogram(value.clone(), false)))
                            }
                        };
                        match value {
                            Some((at, value)) if at == time && same(expected, &value) => {}
                            Some((at, value)) => {
                                return Err(format!(
                                    "{}: expected {} at {time}, got {} at {at}; all floats {:?}",
                                    stream.labels,
                                    show(expected),
                                    show(&value),
                                    stream.floats
                                ));
                            }
                            None => return Err(format!("{}: nothing at {time}, {:?}", stream.labels, stream.floats)),
                        }
                    }
                    if floats.next().is_some() || histograms.next().is_some() {
                        return Err(format!("{}: too many points: {:?}", stream.labels, stream.floats));
                    }
                }
                self.missing(&found)
            }
        }
    }

    fn missing(&self, found: &[bool]) -> Result<(), String> {
        match found.iter().position(|found| !found) {
            Some(place) => Err(format!("{} not found", self.series[place].0)),
            None => Ok(()),
        }
    }
}

fn same(expected: &Point, found: &Point) -> bool {
    match (expected, found) {
        (Point::Float(a), Point::Float(b)) => nearly(*a, *b),
        (Point::Histogram(a, hinted), Point::Histogram(b, _)) => same_histogram(a, b, *hinted),
        _ => false,
    }
}
