//! A window that moves along the samples of a series.

use std::sync::Arc;

use tsdb::histogram::FloatHistogram;

use crate::value::Samples;

/// The samples of a series that lie in a range, and the range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub times: &'a [i64],
    pub floats: &'a [f64],
    /// Empty where nothing is known of any.
    pub starts: &'a [i64],
    pub histogram_times: &'a [i64],
    pub histograms: &'a [Arc<FloatHistogram>],
    pub histogram_starts: &'a [i64],
    /// The place of the first float among all of the series.
    pub first: usize,
    /// The range is open here ...
    pub start: i64,
    /// ... and closed here; both are those asked for, also where samples around them are in the window.
    pub end: i64,
}

impl Window<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }
}

/// Where the window stands; it only moves forward.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    floats: (usize, usize),
    histograms: (usize, usize),
}

fn advance(place: &mut (usize, usize), times: &[i64], after: i64, until: i64) {
    // At the last step, which is the only one of an instant query, all that is left belongs to the window.
    if times.last().is_some_and(|time| *time <= until) {
        place.1 = times.len();
    }
    while times.get(place.1).is_some_and(|time| *time <= until) {
        place.1 += 1;
    }
    while place.0 < place.1 && times[place.0] <= after {
        place.0 += 1;
    }
}

impl Cursor {
    /// The samples after `after` and up to `until`, for the range from `start` to `end`.
    pub(super) fn advance<'s>(
        &mut self,
        samples: &'s Samples,
        start: i64,
        end: i64,
        after: i64,
        until: i64,
    ) -> Window<'s> {
        advance(&mut self.floats, &samples.times, after, until);
        advance(&mut self.histograms, &samples.histogram_times, after, until);
        let (floats, histograms) = (self.floats.0..self.floats.1, self.histograms.0..self.histograms.1);
        Window {
            times: &samples.times[floats.clone()],
            floats: &samples.floats[floats.clone()],
            starts: samples.starts.get(floats.clone()).unwrap_or_default(),
            histogram_times: &samples.histogram_times[histograms.clone()],
            histograms: &samples.histograms[histograms.clone()],
            histogram_starts: samples.histogram_starts.get(histograms).unwrap_or_default(),
            first: floats.start,
            start,
            end,
        }
    }
}
