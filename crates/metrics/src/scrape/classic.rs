//! Classic histograms in text, on their way to native ones: series of one histogram stand one after the other, so what
//! was collected is complete when another begins.

use tsdb::{
    column::HistogramValue,
    labels::{Builder, Labels, NAME},
    sample::Exemplar,
};

use crate::format::{Kind, custom::Classic, number};

/// A histogram that is complete.
#[derive(Debug)]
pub struct Done {
    /// Its labels, its name among them.
    pub labels: Labels,
    /// The histogram.
    pub value: HistogramValue,
    /// Milliseconds since 1970, if its series said so.
    pub time: Option<i64>,
    /// Exemplars of its series.
    pub exemplars: Vec<Exemplar>,
}

/// Collects the series of a histogram.
#[derive(Debug, Default)]
pub struct Collector {
    family: String,
    open: Option<Labels>,
    parts: Classic,
    time: Option<i64>,
    exemplars: Vec<Exemplar>,
}

impl Collector {
    /// The family that a type was told of last.
    pub fn family(&mut self, name: &str) {
        name.clone_into(&mut self.family);
    }

    /// Takes a series if it belongs to a histogram: the histogram before it if that is complete now, and whether the series
    /// was taken.
    pub fn take(
        &mut self,
        kind: Kind,
        labels: &Labels,
        value: f64,
        time: Option<i64>,
        exemplar: Option<&Exemplar>,
    ) -> (Option<Done>, bool) {
        let name = labels.metric();
        let part = ["_bucket", "_count", "_sum"].into_iter().find(|part| name.strip_suffix(part) == Some(&self.family));
        let bound = number::parse_go(labels.get("le"));
        let part =
            part.filter(|part| kind == Kind::Histogram && (*part != "_bucket" || bound.is_some_and(|b| !b.is_nan())));
        let Some(part) = part else { return (self.finish(), false) };
        let mut base = Builder::new(labels);
        base.set(NAME, &self.family).remove("le");
        let base = base.labels();
        let done = if self.open.as_ref() == Some(&base) { None } else { self.finish() };
        if self.open.is_none() {
            self.open = Some(base);
            self.time = time;
        }
        match part {
            "_bucket" => self.parts.bucket(bound.unwrap_or(f64::INFINITY), value),
            "_count" => self.parts.count(value),
            _ => self.parts.sum(value),
        }
        self.exemplars.extend(exemplar.filter(|one| one.timestamp.is_some()).cloned());
        (done, true)
    }

    /// What was collected, if it is a histogram.
    pub fn finish(&mut self) -> Option<Done> {
        let labels = self.open.take()?;
        let value = self.parts.convert();
        self.parts.clear();
        let exemplars = std::mem::take(&mut self.exemplars);
        match value {
            Ok(value) => Some(Done { labels, value, time: self.time.take(), exemplars }),
            Err(reason) => {
                tracing::debug!(%labels, reason, "a classic histogram cannot be converted");
                None
            }
        }
    }
}
