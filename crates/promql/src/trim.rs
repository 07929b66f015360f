//! `</` and `>/`: what a histogram has below or above a value.
//!
//! A bucket that the value lies in is cut, as if its observations were spread evenly: on a straight scale where bounds
//! are listed and in the zero bucket, else on a logarithmic one. The sum is then guessed from the middles of buckets.

use tsdb::histogram::{Bucket, FloatHistogram};

/// Where and how a histogram is cut.
#[derive(Clone, Copy)]
struct Cut {
    at: f64,
    /// Whether what lies below is kept.
    keeps_below: bool,
    linear: bool,
}

/// The part of a histogram below (`keeps_below`) or above `at`.
pub(crate) fn trimmed(histogram: &FloatHistogram, at: f64, keeps_below: bool) -> FloatHistogram {
    let cut = Cut { at, keeps_below, linear: histogram.is_custom() };
    let mut result = histogram.clone();
    let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
    let mut take = |kept: f64, middle: f64, was: &mut f64| {
        count += kept;
        sum += middle * kept;
        if *was != kept {
            *was = kept;
            changed = true;
        }
    };
    let (mut above, mut below) = (false, false);
    for (bucket, value) in histogram.positive_buckets().zip(&mut result.positive.values) {
        if bucket.count != 0.0 {
            above = true;
            let (kept, middle) = cut.bucket(&bucket, true);
            take(kept, middle, value);
        }
    }
    for (bucket, value) in histogram.negative_buckets().zip(&mut result.negative.values) {
        if bucket.count != 0.0 {
            below = true;
            let (kept, middle) = cut.bucket(&bucket, false);
            take(kept, middle, value);
        }
    }
    if histogram.zero_count > 0.0 {
        let (kept, middle) = cut.zero(&histogram.zero_bucket(), below, above);
        take(kept, middle, &mut result.zero_count);
    }
    if changed {
        result.count = count;
        result.sum = sum;
        result.compact(0);
    }
    result
}

impl Cut {
    /// How much of a bucket is kept, and where the middle of that lies.
    fn bucket(&self, bucket: &Bucket, positive: bool) -> (f64, f64) {
        let (all, some) = if self.keeps_below {
            (bucket.upper <= self.at, bucket.lower < self.at)
        } else {
            (bucket.lower >= self.at, bucket.upper > self.at)
        };
        if all {
            return (bucket.count, self.middle(bucket.lower, bucket.upper, positive));
        }
        if !some {
            return (0.0, 0.0);
        }
        if bucket.lower == f64::NEG_INFINITY {
            return self.endless_below(bucket);
        }
        if bucket.upper == f64::INFINITY {
            return self.endless_above(bucket);
        }
        let under = match self.at {
            at if at <= bucket.lower => 0.0,
            at if at >= bucket.upper => bucket.count,
            at => bucket.count * bucket.fraction_below(at, self.linear),
        };
        if self.keeps_below {
            (under, self.middle(bucket.lower, self.at, positive))
        } else {
            (bucket.count - under, self.middle(self.at, bucket.upper, positive))
        }
    }

    /// A bucket that reaches down without end; with a bound above zero it is taken to begin at zero.
    fn endless_below(&self, bucket: &Bucket) -> (f64, f64) {
        let (at, upper, count) = (self.at, bucket.upper, bucket.count);
        let finite = |bound: f64| if bound.is_infinite() { 0.0 } else { bound };
        if self.keeps_below {
            return match () {
                () if at >= upper => (count, 0.0),
                () if at > 0.0 && upper > 0.0 && upper.is_finite() => (count * at / upper, at / 2.0),
                () if upper <= 0.0 => (count, at),
                () => (0.0, finite(upper)),
            };
        }
        match () {
            () if at <= bucket.lower => (count, 0.0),
            () if at >= 0.0 && upper > at && upper.is_finite() => (count * (1.0 - at / upper), (at + upper) / 2.0),
            () => (0.0, finite(upper)),
        }
    }

    /// A bucket that reaches up without end: nobody knows what lies where in it.
    fn endless_above(&self, bucket: &Bucket) -> (f64, f64) {
        if !self.keeps_below && self.at >= bucket.lower {
            return (bucket.count, self.at);
        }
        (0.0, if bucket.lower.is_infinite() { 0.0 } else { bucket.lower })
    }

    fn zero(&self, bucket: &Bucket, below: bool, above: bool) -> (f64, f64) {
        let lower = if above && !below { 0.0 } else { bucket.lower };
        let upper = if below && !above { 0.0 } else { bucket.upper };
        let (at, whole) = (self.at, (bucket.count, (lower + upper) / 2.0));
        match self.keeps_below {
            true if at <= lower => (0.0, 0.0),
            true if at >= upper => whole,
            true => (bucket.count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
            false if at <= lower => whole,
            false if at >= upper => (0.0, 0.0),
            false => (bucket.count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
        }
    }

    fn middle(&self, lower: f64, upper: f64, positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.linear => (lower + upper) / 2.0,
            (false, false) if positive => (lower * upper).abs().sqrt(),
            (false, false) => -(lower * upper).abs().sqrt(),
        }
    }
}
