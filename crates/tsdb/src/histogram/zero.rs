//! Bringing zero buckets of different width together.
//!
//! The wider one wins, and grows on to the next bound where it would end within a bucket that is not empty, in either
//! histogram; buckets that it swallows count as zeros.

use super::{Buckets, FloatHistogram, add_compensated};

impl FloatHistogram {
    /// What the zero count would be with the wider zero bucket `threshold`, and the threshold that this takes; with
    /// `lost`, the low digits of a running sum are taken along.
    pub(super) fn zero_count_within(&self, threshold: f64, lost: Option<&Self>) -> (f64, f64, f64) {
        let (mut count, mut low);
        let mut threshold = threshold;
        'wider: loop {
            (count, low) = (self.zero_count, lost.map_or(0.0, |lost| lost.zero_count));
            if threshold <= self.zero_threshold {
                return (count, threshold, low);
            }
            let add = |value: f64, i: usize, beside: Option<&Buckets<f64>>, count: &mut f64, low: &mut f64| {
                add_compensated(value, count, low);
                if let Some(value) = beside.and_then(|beside| beside.values.get(i)) {
                    add_compensated(*value, count, low);
                }
            };
            for (i, bucket) in self.positive_buckets().enumerate() {
                if bucket.lower >= threshold {
                    break;
                }
                add(bucket.count, i, lost.map(|lost| &lost.positive), &mut count, &mut low);
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (i, bucket) in self.negative_buckets().enumerate() {
                if bucket.upper <= -threshold {
                    break;
                }
                add(bucket.count, i, lost.map(|lost| &lost.negative), &mut count, &mut low);
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'wider;
                    }
                    break;
                }
            }
            return (count, threshold, low);
        }
    }

    /// Empties the buckets that the zero bucket covers.
    fn trim_within_zero(&mut self, lost: Option<&mut Self>) {
        let threshold = self.zero_threshold;
        let covered = self.positive_buckets().take_while(|bucket| bucket.lower < threshold).count();
        let covered_below = self.negative_buckets().take_while(|bucket| bucket.upper > -threshold).count();
        let empty = |buckets: &mut Buckets<f64>, covered: usize| {
            buckets.values.iter_mut().take(covered).for_each(|value| *value = 0.0);
        };
        empty(&mut self.positive, covered);
        empty(&mut self.negative, covered_below);
        let Some(lost) = lost else {
            self.compact(0);
            return;
        };
        empty(&mut lost.positive, covered);
        empty(&mut lost.negative, covered_below);
        self.positive.compact_beside(Some(&mut lost.positive.values), 0);
        self.negative.compact_beside(Some(&mut lost.negative.values), 0);
        lost.positive.spans.clone_from(&self.positive.spans);
        lost.negative.spans.clone_from(&self.negative.spans);
    }

    /// Widens the zero bucket until that of `other` fits as well, and returns the count that `other` has in it.
    pub(super) fn reconcile_zero(&mut self, other: &Self, mut lost: Option<&mut Self>) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        // Thresholds only grow, along the bounds of buckets, so that this ends; a NaN from a hostile target ends it too.
        while (threshold - self.zero_threshold).abs() > 0.0 {
            if self.zero_threshold > threshold {
                (count, threshold, _) = other.zero_count_within(self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let (own, wider, low) = self.zero_count_within(threshold, lost.as_deref());
                self.zero_count = own;
                self.zero_threshold = wider;
                if let Some(lost) = lost.as_deref_mut() {
                    lost.zero_count = low;
                    lost.zero_threshold = wider;
                }
                self.trim_within_zero(lost.as_deref_mut());
            }
        }
        count
    }
}
