//! Series in memory, with the counter reset hints that storage would give: for tests of queries and of users' rules.

use std::{collections::BTreeMap, sync::Arc};

use tsdb::{
    histogram::{FloatHistogram, ResetHint},
    labels::Labels,
    sample::is_stale,
};

use crate::{
    matcher::Matcher,
    storage::{Hints, Selection, Storage, StorageError},
    value::Samples,
};

/// A sample of either kind.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A number; the stale marker where the series ended.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// Samples by time, each with its start time.
type Points = BTreeMap<i64, (Sample, i64)>;

/// Series with their samples.
#[derive(Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Points>,
}

impl Memory {
    /// Adds a sample, in place of one at the same time. Times are milliseconds since 1970; `start` is when its counter
    /// began, 0 where that is not known.
    pub fn add(&mut self, labels: &Labels, time: i64, start: i64, sample: Sample) {
        self.series.entry(labels.clone()).or_default().insert(time, (sample, start));
    }
}

/// Whether storage would keep a histogram in one chunk with the one before, and so knows that there was no reset.
fn continues(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    if before.reset == ResetHint::Gauge || now.reset == ResetHint::Reset {
        return false;
    }
    if is_stale(now.sum) {
        return true;
    }
    if is_stale(before.sum) || now.schema != before.schema || now.zero_threshold != before.zero_threshold {
        return false;
    }
    let unhinted = FloatHistogram { reset: ResetHint::Unknown, ..now.clone() };
    now.custom == before.custom && !unhinted.is_reset_after(before)
}

impl Storage for Memory {
    fn select<'a>(&'a self, matchers: &[Matcher], hints: &Hints) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let found =
            self.series.iter().filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches_labels(labels)));
        Ok(Box::new(Found { series: found.collect::<Vec<_>>().into_iter(), start: hints.start, end: hints.end }))
    }
}

struct Found<'a> {
    series: std::vec::IntoIter<(&'a Labels, &'a Points)>,
    start: i64,
    end: i64,
}

impl Selection for Found<'_> {
    fn next(&mut self, samples: &mut Samples) -> Result<Option<Labels>, StorageError> {
        for (labels, points) in self.series.by_ref() {
            let mut before: Option<&FloatHistogram> = None;
            for (time, (sample, start)) in points {
                let inside = (self.start..=self.end).contains(time);
                match sample {
                    Sample::Float(value) => {
                        before = None;
                        if inside {
                            samples.push_float(*time, *value);
                            samples.starts.push(*start);
                        }
                    }
                    Sample::Histogram(histogram) => {
                        let reset = match before {
                            _ if histogram.reset == ResetHint::Gauge => ResetHint::Gauge,
                            Some(before) if continues(before, histogram) => ResetHint::NoReset,
                            _ => ResetHint::Unknown,
                        };
                        before = Some(histogram);
                        if inside {
                            samples.push_histogram(*time, Arc::new(FloatHistogram { reset, ..(**histogram).clone() }));
                            samples.histogram_starts.push(*start);
                        }
                    }
                }
            }
            if !samples.is_empty() {
                return Ok(Some(labels.clone()));
            }
        }
        Ok(None)
    }
}
