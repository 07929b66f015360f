//! Series as rule tests describe them: `up{job="a"} 1 2+3x4 _ stale {{sum:1 count:2 buckets:[1 1]}}x3`.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series>.

use std::sync::Arc;

use tsdb::{
    histogram::{Buckets, FloatHistogram, ResetHint},
    labels::Labels,
    sample::STALE_NAN,
};

use crate::{
    number,
    parse::{ParseError, parse_metric},
    position::Place,
};

/// Most values that one description may stand for.
const MOST_VALUES: usize = 10_000_000;

/// A value in a description.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    /// No sample.
    Omitted,
    /// A float; the stale marker for `stale`.
    Float(f64),
    /// A histogram, and whether its counter reset hint was written.
    Histogram(Arc<FloatHistogram>, bool),
}

/// Reads a series and its values.
pub fn parse(text: &str) -> Result<(Labels, Vec<Point>), ParseError> {
    let (labels, end) = parse_metric(text)?;
    let mut reader = Reader { text, at: end };
    let mut points = Vec::new();
    loop {
        reader.spaces();
        if reader.rest().is_empty() {
            return Ok((labels, points));
        }
        reader.item(&mut points)?;
        if !reader.rest().is_empty() && !reader.rest().starts_with([' ', '\t']) {
            return Err(reader.error("unexpected character in series sequence"));
        }
        if points.len() > MOST_VALUES {
            return Err(reader.error("too many values in series"));
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn error(&self, message: &str) -> ParseError {
        let place = Place { start: self.at, end: self.text.len() };
        ParseError { place, message: message.to_owned(), query: self.text.to_owned() }
    }

    fn while_matches(&mut self, matches: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !matches(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// `xN`
    fn times(&mut self) -> Result<Option<usize>, ParseError> {
        if !self.take("x") {
            return Ok(None);
        }
        let digits = self.while_matches(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(times) if times <= MOST_VALUES => Ok(Some(times)),
            _ => Err(self.error("invalid repetition in series values")),
        }
    }

    fn item(&mut self, points: &mut Vec<Point>) -> Result<(), ParseError> {
        if self.take("_") {
            let times = self.times()?.unwrap_or(1);
            points.extend(std::iter::repeat_n(Point::Omitted, times));
            return Ok(());
        }
        if self.take("stale") {
            points.push(Point::Float(STALE_NAN));
            return Ok(());
        }
        if self.rest().starts_with("{{") {
            return self.histograms(points);
        }
        let mut value = self.number()?;
        let step = if self.rest().starts_with(['+', '-']) { Some(self.number()?) } else { None };
        match (self.times()?, step) {
            (None, Some(_)) => return Err(self.error("unexpected end of input in series values")),
            (None, None) => points.push(Point::Float(value)),
            (Some(times), step) => {
                for _ in 0..=times {
                    points.push(Point::Float(value));
                    value += step.unwrap_or(0.0);
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<f64, ParseError> {
        let start = self.at;
        if !self.take("+") {
            self.take("-");
        }
        let word = self.while_matches(|c| c.is_ascii_alphabetic());
        if word.is_empty() {
            self.while_matches(|c| c.is_ascii_digit() || c == '.' || c == '_');
            if self.rest().starts_with(['e', 'E']) {
                self.at += 1;
                if !self.take("+") {
                    self.take("-");
                }
                self.while_matches(|c| c.is_ascii_digit());
            }
        }
        let text = self.text[start..self.at].trim_start_matches('+');
        number::parse(text).ok_or_else(|| self.error("unexpected value in series values, expected number or \"stale\""))
    }

    fn histograms(&mut self, points: &mut Vec<Point>) -> Result<(), ParseError> {
        let (first, mut hinted) = self.histogram()?;
        let sign = if self.take("+") {
            1.0
        } else if self.take("-") {
            -1.0
        } else {
            let value = Point::Histogram(Arc::new(first), hinted);
            let times = self.times()?.map_or(1, |times| times + 1);
            points.extend(std::iter::repeat_n(value, times));
            return Ok(());
        };
        let (step, step_hinted) = self.histogram()?;
        hinted = step_hinted;
        let Some(times) = self.times()? else {
            return Err(self.error("unexpected end of input in series values"));
        };
        let mut value = first;
        for i in 0..=times {
            points.push(Point::Histogram(Arc::new(value.clone()), hinted));
            if i == times {
                break;
            }
            if value.schema > step.schema {
                let (from, to) = (step.schema, value.schema);
                return Err(self.error(&format!("error combining histograms: cannot merge from schema {from} to {to}")));
            }
            let combined = if sign > 0.0 { value.add(&step) } else { value.subtract(&step) };
            combined.map_err(|error| self.error(&error.to_string()))?;
        }
        Ok(())
    }

    fn histogram(&mut self) -> Result<(FloatHistogram, bool), ParseError> {
        if !self.take("{{") {
            return Err(self.error("expected a histogram description"));
        }
        let mut histogram = FloatHistogram::default();
        let mut hinted = false;
        let (mut offsets, mut counts) = ([0i32; 2], [Vec::new(), Vec::new()]);
        let mut seen = Vec::new();
        loop {
            self.spaces();
            if self.take("}}") {
                break;
            }
            let key = self.while_matches(|c| c.is_ascii_alphabetic() || c == '_');
            if !self.take(":") {
                return Err(self.error("missing `:` for histogram descriptor"));
            }
            if seen.contains(&key) {
                return Err(self.error(&format!("duplicate key \"{key}\" in histogram")));
            }
            seen.push(key);
            match key {
                "schema" => histogram.schema = self.number()? as i32,
                "sum" => histogram.sum = self.number()?,
                "count" => histogram.count = self.number()?,
                "z_bucket" => histogram.zero_count = self.number()?,
                "z_bucket_w" => histogram.zero_threshold = self.number()?,
                "custom_values" => histogram.custom = self.list()?.into(),
                "buckets" => counts[0] = self.list()?,
                "n_buckets" => counts[1] = self.list()?,
                "offset" => offsets[0] = self.number()? as i32,
                "n_offset" => offsets[1] = self.number()? as i32,
                "counter_reset_hint" => {
                    hinted = true;
                    histogram.reset = match self.while_matches(|c| c.is_ascii_alphabetic() || c == '_') {
                        "unknown" => ResetHint::Unknown,
                        "reset" => ResetHint::Reset,
                        "not_reset" => ResetHint::NoReset,
                        "gauge" => ResetHint::Gauge,
                        _ => return Err(self.error("error parsing counter_reset_hint: unknown value")),
                    };
                }
                _ => return Err(self.error(&format!("bad histogram descriptor found: \"{key}\""))),
            }
        }
        let [positive, negative] = counts;
        histogram.positive = Buckets::from_pairs((offsets[0]..).zip(positive));
        histogram.negative = Buckets::from_pairs((offsets[1]..).zip(negative));
        Ok((histogram, hinted))
    }

    fn list(&mut self) -> Result<Vec<f64>, ParseError> {
        if !self.take("[") {
            return Err(self.error("expected a list of numbers"));
        }
        let mut values = Vec::new();
        loop {
            self.spaces();
            if self.take("]") {
                return Ok(values);
            }
            values.push(self.number()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_stand_for_values() {
        let (labels, points) = parse("up{job=\"a\"} 1 2+3x2 -1x1 _x2 stale 1e1-5x1 Inf").unwrap();
        assert_eq!(labels.to_string(), "{__name__=\"up\", job=\"a\"}");
        let texts: Vec<String> = points
            .iter()
            .map(|point| match point {
                Point::Omitted => "_".to_owned(),
                Point::Float(value) if tsdb::sample::is_stale(*value) => "stale".to_owned(),
                Point::Float(value) => number::short(*value),
                Point::Histogram(..) => "histogram".to_owned(),
            })
            .collect();
        assert_eq!(texts.join(" "), "1 2 5 8 -1 -1 _ _ stale 10 5 +Inf");
    }

    #[test]
    fn histograms_grow_by_histograms() {
        let text = "h {{schema:1 count:3 sum:2 offset:-1 buckets:[1 2]}}+{{schema:1 count:1 sum:1 buckets:[1]}}x1";
        let (_, points) = parse(text).unwrap();
        let Point::Histogram(last, false) = &points[1] else { panic!("no histogram") };
        assert_eq!(crate::histogram_text::for_tests(last), "{{schema:1 count:4 sum:3 offset:-1 buckets:[1 3]}}");
    }

    #[test]
    fn wrong_descriptions_are_refused() {
        for text in
            ["", "a b", "a 1x", "a 1+2", "a{b!=\"c\"} 1", "a {{foo:1}}", "a {{sum:1", "a 1x99999999999", "a 1,2"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
