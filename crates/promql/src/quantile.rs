//! Quantiles and fractions: of values, of classic buckets, of native histograms.
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile>.

use tsdb::histogram::{Bucket, FloatHistogram};

/// The quantile of values, which are put in order; values that are no numbers come first.
pub(crate) fn of_values(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if let Some(outside) = outside(q) {
        return outside;
    }
    values.sort_unstable_by(|a, b| {
        b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

fn outside(q: f64) -> Option<f64> {
    match q {
        q if q < 0.0 => Some(f64::NEG_INFINITY),
        q if q > 1.0 => Some(f64::INFINITY),
        _ => None,
    }
}

/// A bucket of a classic histogram: how many observations are at or below its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cumulative {
    pub bound: f64,
    pub count: f64,
}

/// Buckets that did not ascend and were made to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fixed {
    pub bounds: (f64, f64),
    pub difference: f64,
}

/// Sorts buckets and adds up those with the same bound; says whether the last bound is infinite.
fn in_order(buckets: &mut Vec<Cumulative>) -> bool {
    buckets.sort_by(|a, b| a.bound.partial_cmp(&b.bound).unwrap_or(std::cmp::Ordering::Equal));
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Makes counts ascend; differences that are but rounding are evened out silently.
fn ascending(buckets: &mut [Cumulative]) -> Option<Fixed> {
    let mut fixed: Option<Fixed> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if nearly_equal(before, count, 1e-12) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let all = fixed.get_or_insert(Fixed { bounds: (f64::INFINITY, f64::NEG_INFINITY), difference: 0.0 });
            all.bounds = (all.bounds.0.min(bucket.bound), all.bounds.1.max(bucket.bound));
            all.difference = all.difference.max(before - count);
        } else {
            before = count;
        }
    }
    fixed
}

/// Whether two numbers differ by less than `tolerance` of their sum.
pub(crate) fn nearly_equal(a: f64, b: f64, tolerance: f64) -> bool {
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

/// The quantile of a classic histogram, and whether its buckets had to be fixed.
pub(crate) fn of_buckets(q: f64, buckets: &mut Vec<Cumulative>) -> (f64, Option<Fixed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if let Some(outside) = outside(q) {
        return (outside, None);
    }
    if !in_order(buckets) {
        return (f64::NAN, None);
    }
    let fixed = ascending(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, fixed);
    }
    let mut rank = q * observations;
    let at = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    let quantile = if at == last {
        buckets[last - 1].bound
    } else if at == 0 && buckets[0].bound <= 0.0 {
        buckets[0].bound
    } else {
        let (mut start, end, mut count) = (0.0, buckets[at].bound, buckets[at].count);
        if at > 0 {
            start = buckets[at - 1].bound;
            count -= buckets[at - 1].count;
            rank -= buckets[at - 1].count;
        }
        start + (end - start) * (rank / count)
    };
    (quantile, fixed)
}

/// What NaN observations did to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanEffect {
    None,
    Result,
    Skew,
}

/// Cuts the zero bucket of a histogram that has nothing on one side of zero.
fn cut_zero(bucket: &mut Bucket, histogram: &FloatHistogram) {
    let (below, above) = (!histogram.negative.values.is_empty(), !histogram.positive.values.is_empty());
    if !below && above {
        bucket.lower = 0.0;
    } else if !above && below {
        bucket.upper = 0.0;
    }
}

/// The quantile of a native histogram.
pub(crate) fn of_histogram(q: f64, histogram: &FloatHistogram) -> (f64, NanEffect) {
    if let Some(outside) = outside(q) {
        return (outside, NanEffect::None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanEffect::None);
    }
    let has_nan = histogram.sum.is_nan();
    // From the nearer end, but never from the top where NaNs are counted there.
    let forward = has_nan || q < 0.5;
    let mut rank = if forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    let mut buckets = histogram.all_buckets();
    let mut bucket =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0, index: 0 };
    let mut count = 0.0;
    while let Some(next) = if forward { buckets.next() } else { buckets.next_back() } {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if histogram.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, NanEffect::None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, NanEffect::None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        cut_zero(&mut bucket, histogram);
    }
    count = count.min(histogram.count);
    if count < rank {
        return if has_nan { (f64::NAN, NanEffect::Result) } else { (bucket.upper, NanEffect::None) };
    }
    if forward {
        rank -= count - bucket.count;
    } else {
        rank = count - rank;
    }
    let mut effect = NanEffect::None;
    if has_nan {
        let found = buckets.last();
        let rest: f64 = histogram.all_buckets().map(|bucket| bucket.count).sum();
        if let Some(found) = found {
            // The position within the last bucket that was looked at is told of, as upstream does.
            bucket = found;
        }
        if rest < histogram.count {
            effect = NanEffect::Skew;
        }
    }
    let fraction = rank / bucket.count;
    if histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * fraction, effect);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let quantile = if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    };
    (quantile, effect)
}

/// The ranks of two bounds among observations, found while walking over buckets from below.
struct Ranks {
    bounds: [f64; 2],
    ranks: [Option<f64>; 2],
}

impl Ranks {
    fn new(lower: f64, upper: f64) -> Self {
        Self { bounds: [lower, upper], ranks: [None, None] }
    }

    /// Looks at a bucket that has `rank` observations below it; says whether both are found.
    fn look(&mut self, lower: f64, upper: f64, rank: f64, inside: impl Fn(f64) -> f64) -> bool {
        for (bound, found) in self.bounds.iter().zip(&mut self.ranks) {
            if found.is_none() && lower >= *bound {
                *found = Some(rank);
            }
        }
        for (bound, found) in self.bounds.iter().zip(&mut self.ranks) {
            if found.is_none() && lower < *bound && upper > *bound {
                *found = Some(inside(*bound));
            }
        }
        self.ranks.iter().all(Option::is_some)
    }

    /// The part of `total` between both, where `count` observations have a rank.
    fn between(&self, count: f64, total: f64) -> f64 {
        let rank = |found: Option<f64>| found.map_or(count, |rank| if rank > count { count } else { rank });
        (rank(self.ranks[1]) - rank(self.ranks[0])) / total
    }
}

/// The part of a native histogram's observations between two bounds, and whether NaNs were left out.
pub(crate) fn fraction_of_histogram(lower: f64, upper: f64, histogram: &FloatHistogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let mut ranks = Ranks::new(lower, upper);
    let (mut rank, mut count) = (0.0, 0.0);
    let mut buckets = histogram.all_buckets();
    for mut bucket in buckets.by_ref() {
        count += bucket.count;
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero {
            cut_zero(&mut bucket, histogram);
        }
        let linear = histogram.is_custom() || zero;
        let inside = |value: f64| {
            if linear && bucket.lower == f64::NEG_INFINITY {
                return bucket.count;
            }
            rank + bucket.count * bucket.fraction_below(value, linear)
        };
        if ranks.look(bucket.lower, bucket.upper, rank, inside) {
            break;
        }
        rank += bucket.count;
    }
    let mut left_out = false;
    if histogram.sum.is_nan() {
        count += buckets.map(|bucket| bucket.count).sum::<f64>();
        left_out = count < histogram.count;
    } else {
        count = histogram.count;
    }
    (ranks.between(count, histogram.count), left_out)
}

/// The part of a classic histogram's observations between two bounds.
pub(crate) fn fraction_of_buckets(lower: f64, upper: f64, buckets: &mut Vec<Cumulative>) -> f64 {
    if !in_order(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut ranks = Ranks::new(lower, upper);
    let mut rank = 0.0;
    let mut start = if buckets[0].bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets.iter() {
        let inside = |value: f64| {
            if start == f64::NEG_INFINITY {
                return bucket.count;
            }
            rank + (bucket.count - rank) * (value - start) / (bucket.bound - start)
        };
        if ranks.look(start, bucket.bound, rank, inside) {
            break;
        }
        rank = bucket.count;
        start = bucket.bound;
    }
    ranks.between(count, count)
}
