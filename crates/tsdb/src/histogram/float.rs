//! Float histograms: what evaluation works on, with sums, differences and multiples.

use std::sync::Arc;

use super::{
    Bucket, Buckets, ResetHint, add_compensated,
    buckets::{Pair, reduced},
    exponential_bound, is_custom, is_exponential,
};

/// A native histogram with absolute counts that may be fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatHistogram {
    /// What is known of counter resets.
    pub reset: ResetHint,
    /// Resolution, or [`super::CUSTOM_SCHEMA`].
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Observations in all.
    pub count: f64,
    /// Sum of the observations; [`crate::sample::STALE_NAN`] marks the end of the series.
    pub sum: f64,
    /// Buckets above zero; all of them where bounds are listed.
    pub positive: Buckets<f64>,
    /// Buckets below zero, indexed by absolute value.
    pub negative: Buckets<f64>,
    /// The listed upper bounds, ascending; empty for exponential schemas.
    pub custom: Arc<[f64]>,
}

impl Default for FloatHistogram {
    fn default() -> Self {
        Self {
            reset: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Buckets::new(),
            negative: Buckets::new(),
            custom: Arc::default(),
        }
    }
}

/// Histograms with exponential buckets and with listed bounds do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct Incompatible;

/// What was noticed when two histograms were added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// One said that its counter was reset, the other that it was not.
    pub resets_collide: bool,
    /// Listed bounds differed, and only those of both were kept.
    pub bounds_reconciled: bool,
}

impl FloatHistogram {
    /// Whether the bounds are listed.
    pub fn is_custom(&self) -> bool {
        is_custom(self.schema)
    }

    /// Multiplies counts and sum. A negative factor makes a gauge.
    pub fn multiply(&mut self, factor: f64) -> &mut Self {
        self.each(|count| *count *= factor);
        if factor < 0.0 {
            self.reset = ResetHint::Gauge;
        }
        self
    }

    /// Divides counts and sum. A negative divisor makes a gauge; zero leaves no buckets.
    pub fn divide(&mut self, divisor: f64) -> &mut Self {
        self.each(|count| *count /= divisor);
        if divisor == 0.0 {
            self.positive = Buckets::new();
            self.negative = Buckets::new();
        } else if divisor < 0.0 {
            self.reset = ResetHint::Gauge;
        }
        self
    }

    fn each(&mut self, mut change: impl FnMut(&mut f64)) {
        [&mut self.zero_count, &mut self.count, &mut self.sum]
            .into_iter()
            .chain(&mut self.positive.values)
            .chain(&mut self.negative.values)
            .for_each(&mut change);
    }

    /// Adds `other`, bringing schema, zero bucket and listed bounds to what both can be said in.
    pub fn add(&mut self, other: &Self) -> Result<Added, Incompatible> {
        self.combine(other, 1.0)
    }

    /// Takes `other` away, as [`Self::add`] adds it.
    pub fn subtract(&mut self, other: &Self) -> Result<Added, Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<Added, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let resets_collide = self.adjust_reset(other.reset);
        if !self.is_custom() {
            let zero_count = self.reconcile_zero(other, None);
            self.zero_count += sign * zero_count;
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        let bounds_reconciled = self.combine_buckets(None, other, sign);
        Ok(Added { resets_collide, bounds_reconciled })
    }

    /// The buckets' part of a sum, whose zero buckets are already of one width; says whether listed bounds were changed.
    fn combine_buckets(&mut self, mut lost: Option<&mut Self>, other: &Self, sign: f64) -> bool {
        if self.is_custom() {
            let reconciled = self.custom != other.custom;
            if reconciled {
                self.intersect(lost.as_deref_mut(), other, sign);
            } else {
                let mut low = lost.as_deref_mut().map(|lost| &mut lost.positive.values);
                if !self.positive.add_same(low.as_deref_mut(), &other.positive, sign) {
                    self.positive.merge(low, pairs(&other.positive, sign));
                }
            }
            if let Some(lost) = lost {
                lost.positive.spans.clone_from(&self.positive.spans);
                lost.custom = self.custom.clone();
            }
            return reconciled;
        }
        if other.schema < self.schema {
            let (from, to) = (self.schema, other.schema);
            self.positive.reduce_beside(lost.as_deref_mut().map(|lost| &mut lost.positive.values), from, to);
            self.negative.reduce_beside(lost.as_deref_mut().map(|lost| &mut lost.negative.values), from, to);
            self.schema = to;
        }
        let (from, to, threshold) = (other.schema, self.schema, self.zero_threshold);
        let sides = [(&mut self.positive, &other.positive, true), (&mut self.negative, &other.negative, false)];
        for (own, theirs, positive) in sides {
            let mut low = lost
                .as_deref_mut()
                .map(|lost| if positive { &mut lost.positive.values } else { &mut lost.negative.values });
            let all_count = theirs
                .indexed()
                .next()
                .is_none_or(|(first, _)| exponential_bound(reduced(first, from, to), to) > threshold);
            if from == to && all_count && own.add_same(low.as_deref_mut(), theirs, sign) {
                continue;
            }
            let fewer;
            let theirs = if from == to {
                theirs
            } else {
                fewer = theirs.reduce(from, to);
                &fewer
            };
            let inside = |&(index, _): &(i32, Pair)| is_exponential(to) && exponential_bound(index, to) <= threshold;
            own.merge(low, pairs(theirs, sign).skip_while(inside));
        }
        if let Some(lost) = lost {
            lost.schema = self.schema;
            lost.zero_threshold = self.zero_threshold;
            lost.positive.spans.clone_from(&self.positive.spans);
            lost.negative.spans.clone_from(&self.negative.spans);
        }
        false
    }

    /// Adds buckets with listed bounds that differ: what is kept are the bounds that both have.
    fn intersect(&mut self, lost: Option<&mut Self>, other: &Self, sign: f64) {
        let bounds = common_bounds(&self.custom, &other.custom);
        let mut totals = vec![(0.0, 0.0); bounds.len() + 1];
        let mut place = |index: i32, from: &[f64], value: f64| {
            let target = match usize::try_from(index).ok().and_then(|index| from.get(index)) {
                Some(upper) => bounds.partition_point(|bound| bound < upper),
                None => bounds.len(),
            };
            let (sum, low) = &mut totals[target];
            add_compensated(value, sum, low);
        };
        let low = lost.as_ref().map(|lost| lost.positive.values.as_slice()).unwrap_or_default();
        for (i, (index, value)) in self.positive.indexed().enumerate() {
            place(index, &self.custom, value);
            if let Some(low) = low.get(i) {
                place(index, &self.custom, *low);
            }
        }
        for (index, value) in other.positive.indexed() {
            place(index, &other.custom, sign * value);
        }
        let kept = || (0i32..).zip(&totals).filter(|(_, total)| **total != (0.0, 0.0));
        self.positive = Buckets::from_pairs(kept().map(|(index, total)| (index, total.0)));
        if let Some(lost) = lost {
            lost.positive.values = kept().map(|(_, total)| total.1).collect();
        }
        self.custom = bounds.into();
    }

    /// The hint of a sum with something of the hint `other`; says whether the two contradict each other.
    fn adjust_reset(&mut self, other: ResetHint) -> bool {
        let own = self.reset;
        self.reset = match (own, other) {
            (own, other) if own == other => own,
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        own != other && self.reset == ResetHint::Unknown && own != ResetHint::Unknown && other != ResetHint::Unknown
    }

    /// Drops empty buckets; see [`Buckets::compact`].
    pub fn compact(&mut self, gap: usize) -> &mut Self {
        self.positive.compact(gap);
        self.negative.compact(gap);
        self
    }

    /// The same with fewer buckets; `schema` is not above this one's. Listed bounds stay as they are.
    pub fn reduced(&self, schema: i32) -> Self {
        let mut reduced = self.clone();
        if !self.is_custom() && schema < self.schema && !is_custom(schema) {
            reduced.positive = self.positive.reduce(self.schema, schema);
            reduced.negative = self.negative.reduce(self.schema, schema);
            reduced.schema = schema;
        }
        reduced
    }

    /// Whether a count, the sum or a bound has become infinite.
    pub fn overflows(&self) -> bool {
        [self.zero_count, self.count, self.sum].iter().any(|count| count.is_infinite())
            || self
                .positive
                .values
                .iter()
                .chain(&self.negative.values)
                .chain(self.custom.iter())
                .any(|v| v.is_infinite())
    }

    /// Whether both hold the same: the same buckets, empty ones too, and the same bits in every number. Hints are not
    /// compared.
    pub fn same(&self, other: &Self) -> bool {
        let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let counts = |a: &Buckets<f64>, b: &Buckets<f64>| {
            a.same_layout(b)
                && a.values.len() == b.values.len()
                && a.values.iter().zip(&b.values).all(|(a, b)| bits(*a, *b))
        };
        self.schema == other.schema
            && bits(self.count, other.count)
            && bits(self.sum, other.sum)
            && self.custom == other.custom
            && self.zero_threshold == other.zero_threshold
            && bits(self.zero_count, other.zero_count)
            && counts(&self.negative, &other.negative)
            && counts(&self.positive, &other.positive)
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + 8 * (self.positive.spans.len()
                + self.negative.spans.len()
                + self.positive.values.len()
                + self.negative.values.len()
                + self.custom.len())
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// Buckets above zero, or all listed ones, from the lowest bound up; from the back down.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.positive.indexed().map(|(index, count)| Bucket::new(index, count, self.schema, &self.custom, true))
    }

    /// Buckets below zero, from the one next to zero down; from the back up.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.negative.indexed().map(|(index, count)| Bucket::new(index, count, self.schema, &[], false))
    }

    /// All buckets from the lowest up; from the back down. Those beside the zero bucket end where it begins.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let width = self.zero_threshold;
        let clip = move |mut bucket: Bucket| {
            if bucket.upper < 0.0 && bucket.upper > -width {
                bucket.upper = -width;
            } else if bucket.lower > 0.0 && bucket.lower < width {
                bucket.lower = width;
            }
            bucket
        };
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        self.negative_buckets().rev().map(clip).chain(zero).chain(self.positive_buckets().map(clip))
    }
}

fn pairs(buckets: &Buckets<f64>, sign: f64) -> impl Iterator<Item = (i32, Pair)> + '_ {
    buckets.indexed().map(move |(index, value)| (index, (sign * value, 0.0)))
}

/// The bounds that two ascending lists have in common.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for bound in a {
        while b.next_if(|other| *other < bound).is_some() {}
        if b.next_if(|other| *other == bound).is_some() {
            common.push(*bound);
        }
    }
    common
}

/// A running sum of histograms that keeps the low digits each addition would lose.
#[derive(Clone, Debug)]
pub struct Compensated {
    sum: FloatHistogram,
    /// As many buckets as `sum`, in the same places.
    lost: FloatHistogram,
}

impl Compensated {
    /// A sum of one.
    pub fn new(first: FloatHistogram) -> Self {
        let empty = |buckets: &Buckets<f64>| {
            let count = buckets.indexed().count();
            Buckets { spans: buckets.spans.clone(), values: vec![0.0; count] }
        };
        let lost = FloatHistogram {
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: empty(&first.positive),
            negative: empty(&first.negative),
            ..first.clone()
        };
        Self { sum: first, lost }
    }

    /// Adds one more.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Added, Incompatible> {
        let Self { sum, lost } = self;
        if sum.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let resets_collide = sum.adjust_reset(other.reset);
        if !sum.is_custom() {
            let zero_count = sum.reconcile_zero(other, Some(lost));
            add_compensated(zero_count, &mut sum.zero_count, &mut lost.zero_count);
        }
        add_compensated(other.count, &mut sum.count, &mut lost.count);
        add_compensated(other.sum, &mut sum.sum, &mut lost.sum);
        let bounds_reconciled = sum.combine_buckets(Some(lost), other, 1.0);
        Ok(Added { resets_collide, bounds_reconciled })
    }

    /// Multiplies what has been summed.
    pub fn multiply(&mut self, factor: f64) {
        self.sum.multiply(factor);
        self.lost.multiply(factor);
    }

    /// Divides what has been summed.
    pub fn divide(&mut self, divisor: f64) {
        self.sum.divide(divisor);
        self.lost.divide(divisor);
    }

    /// Whether the sum has become infinite somewhere.
    pub fn overflows(&self) -> bool {
        self.sum.overflows()
    }

    /// The hint that the sum has now.
    pub fn reset(&self) -> ResetHint {
        self.sum.reset
    }

    /// The sum, low digits and all, compacted.
    pub fn total(mut self) -> FloatHistogram {
        let hint = self.sum.reset;
        self.lost.reset = hint;
        // Both have the same schema, zero bucket and bounds: they do not fail to add.
        if self.sum.add(&self.lost).is_ok() {
            self.sum.reset = hint;
        }
        self.sum.compact(0);
        self.sum
    }
}
