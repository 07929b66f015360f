//! Buckets of one sign: spans that say where they are, and a value for each.
//!
//! The first span's offset is the index of the first bucket, each later one the gap behind the span before. All changes
//! read buckets as pairs of index and value and write them anew, so that no two spans that touch are left.

use super::{add_compensated, bound, is_custom};

/// A run of buckets without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before; for the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Buckets of one sign. `f64` values are counts; `i64` values are deltas, the first one against zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets<N> {
    /// Where they are.
    pub spans: Vec<Span>,
    /// One for each bucket of the spans.
    pub values: Vec<N>,
}

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound itself falls in it.
    pub lower_inclusive: bool,
    /// Whether the upper bound itself falls in it.
    pub upper_inclusive: bool,
    /// How many observations.
    pub count: f64,
    /// Its index in the schema; 0 for the zero bucket.
    pub index: i32,
}

impl Bucket {
    pub(super) fn new(index: i32, count: f64, schema: i32, custom: &[f64], positive: bool) -> Self {
        let (far, near) = (bound(index, schema, custom), bound(index.wrapping_sub(1), schema, custom));
        let (lower, upper) = if positive { (near, far) } else { (-far, -near) };
        let (lower_inclusive, upper_inclusive) =
            if is_custom(schema) { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Self { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    /// The part of the bucket at or below `value`, which lies strictly inside finite bounds: on a straight scale, or on
    /// a logarithmic one.
    pub fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (self.lower.abs().log2(), self.upper.abs().log2(), value.abs().log2());
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

impl<N: Copy> Buckets<N> {
    /// No buckets.
    pub fn new() -> Self {
        Self { spans: Vec::new(), values: Vec::new() }
    }

    /// Buckets of pairs of index and value, indexes ascending.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (i32, N)>) -> Self {
        let mut buckets = Self::new();
        let mut next = 0;
        for (index, value) in pairs {
            buckets.push(&mut next, index, value);
        }
        buckets
    }

    fn push(&mut self, next: &mut i32, index: i32, value: N) {
        match self.spans.last_mut() {
            Some(span) if *next == index => span.length += 1,
            Some(_) => self.spans.push(Span { offset: index.wrapping_sub(*next), length: 1 }),
            None => self.spans.push(Span { offset: index, length: 1 }),
        }
        self.values.push(value);
        *next = index.wrapping_add(1);
    }

    /// Pairs of index and value, from either end.
    pub fn indexed(&self) -> Indexed<'_, N> {
        let end =
            self.spans.iter().fold(0i32, |end, span| end.wrapping_add(span.offset).wrapping_add(span.length as i32));
        let mut spans = self.spans.as_slice();
        let mut front = 0;
        if let Some(first) = spans.first() {
            front = first.offset;
        }
        let mut total: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        let mut end = end;
        // Fewer values than the spans name: the missing ones are the last.
        let mut last = spans.last().map_or(0, |span| span.length);
        while total > self.values.len() as u64 && !spans.is_empty() {
            let excess = (total - self.values.len() as u64).min(u64::from(last)) as u32;
            last -= excess;
            total -= u64::from(excess);
            end = end.wrapping_sub(excess as i32);
            if last == 0 && total > self.values.len() as u64 {
                end = end.wrapping_sub(spans[spans.len() - 1].offset);
                spans = &spans[..spans.len() - 1];
                last = spans.last().map_or(0, |span| span.length);
            }
        }
        Indexed { spans, values: &self.values[..total as usize], front, taken: 0, end, left: last }
    }

    /// Whether both have buckets at the same places, whatever the spans of length 0.
    pub fn same_layout<M: Copy>(&self, other: &Buckets<M>) -> bool {
        self.spans == other.spans || self.indexed().map(|(i, _)| i).eq(other.indexed().map(|(i, _)| i))
    }
}

/// Pairs of index and value; see [`Buckets::indexed`].
#[derive(Clone, Debug)]
pub struct Indexed<'a, N> {
    spans: &'a [Span],
    values: &'a [N],
    /// Index of the next bucket from the front.
    front: i32,
    /// Buckets taken of the first span.
    taken: u32,
    /// Index behind the next bucket from the back.
    end: i32,
    /// Buckets left of the last span, counted from its start.
    left: u32,
}

impl<N: Copy> Iterator for Indexed<'_, N> {
    type Item = (i32, N);

    fn next(&mut self) -> Option<Self::Item> {
        let (&value, rest) = self.values.split_first()?;
        while self.taken >= self.spans.first()?.length {
            self.spans = &self.spans[1..];
            self.taken = 0;
            self.front = self.front.wrapping_add(self.spans.first()?.offset);
        }
        let index = self.front;
        self.front = index.wrapping_add(1);
        self.taken += 1;
        self.values = rest;
        Some((index, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.values.len(), Some(self.values.len()))
    }
}

impl<N: Copy> DoubleEndedIterator for Indexed<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (&value, rest) = self.values.split_last()?;
        while self.left == 0 {
            let (last, before) = self.spans.split_last()?;
            self.end = self.end.wrapping_sub(last.offset);
            self.left = before.last()?.length;
            self.spans = before;
        }
        self.end = self.end.wrapping_sub(1);
        self.left -= 1;
        self.values = rest;
        Some((self.end, value))
    }
}

/// The index in a schema with fewer buckets.
pub(super) fn reduced(index: i32, from: i32, to: i32) -> i32 {
    (index.wrapping_sub(1) >> (from - to).clamp(0, 31)).wrapping_add(1)
}

/// A count and the low digits that summing it lost.
pub(super) type Pair = (f64, f64);

fn add(into: &mut Pair, (value, lost): Pair, exact: bool) {
    if !exact {
        into.0 += value;
        return;
    }
    add_compensated(value, &mut into.0, &mut into.1);
    if lost != 0.0 {
        add_compensated(lost, &mut into.0, &mut into.1);
    }
}

impl Buckets<f64> {
    /// Drops empty buckets, but keeps up to `gap` of them between two others where that saves a span.
    pub fn compact(&mut self, gap: usize) {
        self.compact_beside(None, gap);
    }

    pub(super) fn compact_beside(&mut self, lost: Option<&mut Vec<f64>>, gap: usize) {
        let tight = self.values.iter().all(|value| *value != 0.0)
            && self.spans.iter().all(|span| i64::from(span.offset) > gap as i64 && span.length > 0)
            && self.values.len() as u64 == self.spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
        if tight {
            return;
        }
        let mut pairs: Vec<(i32, Pair)> = Vec::with_capacity(self.values.len());
        let beside = lost.as_deref();
        for (i, (index, value)) in self.indexed().enumerate() {
            let low = beside.and_then(|lost| lost.get(i)).copied().unwrap_or(0.0);
            if value == 0.0 && low == 0.0 {
                continue;
            }
            if let Some(&(before, _)) = pairs.last() {
                let between = i64::from(index) - i64::from(before) - 1;
                if between > 0 && between <= gap.min(1 << 16) as i64 {
                    pairs.extend((before + 1..index).map(|empty| (empty, (0.0, 0.0))));
                }
            }
            pairs.push((index, (value, low)));
        }
        self.take_pairs(pairs, lost);
    }

    fn take_pairs(&mut self, pairs: Vec<(i32, Pair)>, lost: Option<&mut Vec<f64>>) {
        if let Some(lost) = lost {
            *lost = pairs.iter().map(|(_, pair)| pair.1).collect();
        }
        *self = Self::from_pairs(pairs.into_iter().map(|(index, pair)| (index, pair.0)));
    }

    /// The buckets of a schema with fewer of them.
    pub fn reduce(&self, from: i32, to: i32) -> Self {
        let mut reduced = self.clone();
        reduced.reduce_beside(None, from, to);
        reduced
    }

    pub(super) fn reduce_beside(&mut self, lost: Option<&mut Vec<f64>>, from: i32, to: i32) {
        let exact = lost.is_some();
        let mut pairs: Vec<(i32, Pair)> = Vec::new();
        for (i, (index, value)) in self.indexed().enumerate() {
            let index = reduced(index, from, to);
            let pair = (value, lost.as_deref().and_then(|lost| lost.get(i)).copied().unwrap_or(0.0));
            match pairs.last_mut() {
                Some(last) if last.0 == index => add(&mut last.1, pair, exact),
                _ => pairs.push((index, pair)),
            }
        }
        self.take_pairs(pairs, lost);
    }

    /// Adds what `other` yields, ascending by index; with `lost`, without losing low digits.
    pub(super) fn merge(&mut self, lost: Option<&mut Vec<f64>>, other: impl Iterator<Item = (i32, Pair)>) {
        let exact = lost.is_some();
        let mut other = other.peekable();
        let mut merged: Vec<(i32, Pair)> = Vec::with_capacity(self.values.len());
        let mut own = self.indexed().enumerate().peekable();
        loop {
            let from_own = match (own.peek(), other.peek()) {
                (None, None) => break,
                (Some((_, (index, _))), Some((theirs, _))) => index <= theirs,
                (own, _) => own.is_some(),
            };
            let (index, pair) = if from_own {
                let Some((i, (index, value))) = own.next() else { break };
                (index, (value, lost.as_deref().and_then(|lost| lost.get(i)).copied().unwrap_or(0.0)))
            } else {
                let Some(next) = other.next() else { break };
                next
            };
            match merged.last_mut() {
                Some(last) if last.0 == index => add(&mut last.1, pair, exact),
                _ => merged.push((index, pair)),
            }
        }
        self.take_pairs(merged, lost);
    }

    /// Adds `sign` times the buckets of the same layout; says whether the layouts were the same.
    pub(super) fn add_same(&mut self, lost: Option<&mut Vec<f64>>, other: &Self, sign: f64) -> bool {
        if self.spans != other.spans || self.values.len() != other.values.len() {
            return false;
        }
        match lost {
            Some(lost) if lost.len() == self.values.len() => {
                for ((sum, lost), value) in self.values.iter_mut().zip(lost).zip(&other.values) {
                    add_compensated(sign * value, sum, lost);
                }
            }
            Some(_) => return false,
            None => {
                for (sum, value) in self.values.iter_mut().zip(&other.values) {
                    *sum += sign * value;
                }
            }
        }
        true
    }
}
