//! Has a counter started again between two histograms?

use super::{
    FloatHistogram, Indexed, ResetHint, buckets::reduced, exponential_bound, float::common_bounds, is_exponential,
};

impl FloatHistogram {
    /// Whether the counter was reset between `previous` and this one: a bucket has less than before or is gone, the
    /// resolution has grown, or the zero bucket has shrunk. A hint that says so, or says not, is believed.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.reset {
            ResetHint::Reset => return true,
            ResetHint::NoReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            if !previous.is_custom() {
                return true;
            }
            if self.custom != previous.custom {
                return self.is_less_in_common_bounds(previous);
            }
        } else if previous.is_custom() {
            return true;
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zeros, threshold, _) = previous.zero_count_within(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < zeros {
            return true;
        }
        let now = |buckets| merged(buckets, self.schema, self.schema, self.zero_threshold);
        let then = |buckets| merged(buckets, previous.schema, self.schema, self.zero_threshold);
        is_less(now(self.positive.indexed()), then(previous.positive.indexed()))
            || is_less(now(self.negative.indexed()), then(previous.negative.indexed()))
    }

    fn is_less_in_common_bounds(&self, previous: &Self) -> bool {
        let bounds = common_bounds(&self.custom, &previous.custom);
        let totals = |histogram: &Self| {
            let mut totals = vec![0.0; bounds.len() + 1];
            for bucket in histogram.positive_buckets() {
                totals[bounds.partition_point(|bound| *bound < bucket.upper)] += bucket.count;
            }
            totals
        };
        totals(self).iter().zip(totals(previous)).any(|(now, then)| *now < then)
    }
}

/// Buckets merged to the schema `to`, without those at the beginning that lie within the zero bucket.
fn merged(buckets: Indexed<'_, f64>, from: i32, to: i32, threshold: f64) -> impl Iterator<Item = (i32, f64)> {
    let mut buckets =
        buckets.map(move |(index, count)| (if from > to { reduced(index, from, to) } else { index }, count)).peekable();
    std::iter::from_fn(move || {
        let (index, mut count) = buckets.next()?;
        while let Some((_, more)) = buckets.next_if(|next| next.0 == index) {
            count += more;
        }
        Some((index, count))
    })
    .skip_while(move |(index, _)| is_exponential(to) && exponential_bound(*index, to) <= threshold)
}

fn is_less(mut now: impl Iterator<Item = (i32, f64)>, then: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut current = now.next();
    for (index, count) in then {
        while current.is_some_and(|current| current.0 < index) {
            current = now.next();
        }
        let reset = match current {
            Some((at, value)) if at == index => value < count,
            _ => count != 0.0,
        };
        if reset {
            return true;
        }
    }
    false
}
