//! Tests of histogram arithmetic.

use std::f64::consts::SQRT_2;

use super::*;

fn histogram(schema: i32, start: i32, counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: counts.iter().sum(),
        positive: Buckets::from_pairs((start..).zip(counts.iter().copied())),
        ..FloatHistogram::default()
    }
}

fn listed(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram { custom: bounds.into(), ..histogram(CUSTOM_SCHEMA, 0, counts) }
}

#[test]
fn bounds_are_powers_of_two_in_schema_0_and_their_roots_above() {
    assert_eq!((exponential_bound(0, 0), exponential_bound(3, 0), exponential_bound(-1, 0)), (1.0, 8.0, 0.5));
    assert_eq!((exponential_bound(1, -2), exponential_bound(1, 1)), (16.0, SQRT_2.next_down()));
    assert_eq!((exponential_bound(1024, 0), exponential_bound(1025, 0)), (f64::MAX, f64::INFINITY));
    assert_eq!((exponential_bound(64, -4), exponential_bound(-1074, 0)), (f64::MAX, f64::from_bits(1)));
    assert_eq!((exponential_bound(i32::MAX, 8), exponential_bound(i32::MIN, -4)), (f64::INFINITY, 0.0));
}

#[test]
fn buckets_are_walked_from_both_ends_over_gaps_and_empty_spans() {
    let buckets = Buckets {
        spans: vec![
            Span { offset: -2, length: 2 },
            Span { offset: 1, length: 0 },
            Span { offset: 1, length: 1 },
            Span { offset: 3, length: 2 },
        ],
        values: vec![1.0, 2.0, 3.0, 4.0, 5.0],
    };
    let forward: Vec<_> = buckets.indexed().collect();
    assert_eq!(forward, [(-2, 1.0), (-1, 2.0), (2, 3.0), (6, 4.0), (7, 5.0)]);
    let mut backward: Vec<_> = buckets.indexed().rev().collect();
    backward.reverse();
    assert_eq!(backward, forward);
    let short = Buckets { values: vec![1.0, 2.0, 3.0], ..buckets };
    assert_eq!(short.indexed().rev().map(|(index, _)| index).collect::<Vec<_>>(), [2, -1, -2]);
}

#[test]
fn compacting_drops_empty_buckets_and_joins_spans_that_are_near() {
    let mut buckets = Buckets::from_pairs((-3..).zip([0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0]));
    let mut tight = buckets.clone();
    tight.compact(0);
    assert_eq!(tight.indexed().collect::<Vec<_>>(), [(-2, 1.0), (0, 2.0), (4, 3.0)]);
    buckets.compact(1);
    assert_eq!(buckets.spans, [Span { offset: -2, length: 3 }, Span { offset: 3, length: 1 }]);
    tight.compact(9);
    assert_eq!((tight.spans.len(), tight.values.len()), (1, 7));
}

#[test]
fn adding_brings_schemas_together() {
    let mut sum = histogram(1, -1, &[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(sum.add(&histogram(0, 0, &[10.0, 20.0])), Ok(Added::default()));
    assert_eq!((sum.schema, sum.count), (0, 45.0));
    assert_eq!(sum.positive.indexed().collect::<Vec<_>>(), [(0, 13.0), (1, 27.0), (2, 5.0)]);
    let mut coarse = histogram(0, 0, &[10.0, 20.0]);
    assert_eq!(coarse.subtract(&histogram(1, -1, &[1.0, 2.0, 3.0, 4.0, 5.0])), Ok(Added::default()));
    assert_eq!(coarse.positive.indexed().collect::<Vec<_>>(), [(0, 7.0), (1, 13.0), (2, -5.0)]);
}

#[test]
fn a_wider_zero_bucket_swallows_buckets_up_to_a_bound() {
    let mut sum = histogram(0, -1, &[1.0, 2.0, 4.0]);
    let wide = FloatHistogram { zero_threshold: 0.75, zero_count: 8.0, count: 8.0, ..FloatHistogram::default() };
    assert_eq!(sum.add(&wide), Ok(Added::default()));
    assert_eq!((sum.zero_threshold, sum.zero_count, sum.count), (1.0, 11.0, 15.0));
    assert_eq!(sum.positive.indexed().collect::<Vec<_>>(), [(1, 4.0)]);
    let mut other = wide.clone();
    assert_eq!(other.add(&histogram(0, -1, &[1.0, 2.0, 4.0])), Ok(Added::default()));
    assert!(other.compact(0).same(&sum));
}

#[test]
fn listed_bounds_that_differ_are_cut_to_those_in_common() {
    let mut sum = listed(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
    let added = sum.add(&listed(&[2.0, 3.0, 5.0], &[10.0, 20.0, 30.0, 40.0])).unwrap();
    assert!(added.bounds_reconciled);
    assert_eq!((&*sum.custom, sum.positive.values.as_slice()), (&[2.0, 5.0][..], &[13.0, 53.0, 44.0][..]));
    assert_eq!(sum.add(&histogram(0, 0, &[1.0])), Err(Incompatible));
}

#[test]
fn hints_that_contradict_each_other_are_noticed() {
    let hinted = |reset| FloatHistogram { reset, ..FloatHistogram::default() };
    for (a, b, sum, collide) in [
        (ResetHint::Reset, ResetHint::NoReset, ResetHint::Unknown, true),
        (ResetHint::Reset, ResetHint::Unknown, ResetHint::Unknown, false),
        (ResetHint::Reset, ResetHint::Gauge, ResetHint::Gauge, false),
        (ResetHint::NoReset, ResetHint::NoReset, ResetHint::NoReset, false),
    ] {
        for (a, b) in [(a, b), (b, a)] {
            let mut left = hinted(a);
            assert_eq!(left.add(&hinted(b)).unwrap().resets_collide, collide);
            assert_eq!(left.reset, sum);
        }
    }
}

#[test]
fn a_compensated_sum_loses_no_small_counts() {
    let big = histogram(0, 0, &[1e16, 1.0]);
    let small = histogram(1, 0, &[1.0, 0.0, 0.0, 1.0]);
    let mut sum = Compensated::new(big);
    for _ in 0..10 {
        sum.add(&small).unwrap();
    }
    let total = sum.total();
    assert_eq!(total.positive.indexed().collect::<Vec<_>>(), [(0, 1e16 + 10.0), (1, 1.0), (2, 10.0)]);
    assert_eq!(total.count, 1e16 + 20.0);
}

#[test]
fn resets_are_seen_in_buckets_schema_zero_bucket_and_bounds() {
    let before = histogram(1, 0, &[1.0, 2.0, 3.0]);
    let after = |histogram: FloatHistogram| FloatHistogram { count: 100.0, ..histogram };
    assert!(!after(histogram(1, 0, &[1.0, 2.0, 4.0])).is_reset_after(&before));
    assert!(after(histogram(1, 0, &[1.0, 1.0, 4.0])).is_reset_after(&before));
    assert!(after(histogram(1, 1, &[2.0, 4.0])).is_reset_after(&before));
    assert!(after(histogram(2, 0, &[9.0; 9])).is_reset_after(&before));
    assert!(!after(histogram(0, 0, &[1.0, 5.0])).is_reset_after(&before));
    assert!(after(histogram(0, 0, &[1.0, 4.0])).is_reset_after(&before));
    let bounds = listed(&[1.0, 2.0], &[1.0, 2.0, 3.0]);
    assert!(!after(listed(&[2.0], &[3.0, 3.0])).is_reset_after(&bounds));
    assert!(after(listed(&[2.0], &[2.0, 9.0])).is_reset_after(&bounds));
    let hinted = FloatHistogram { reset: ResetHint::Reset, ..after(bounds.clone()) };
    assert!(hinted.is_reset_after(&bounds));
}

#[test]
fn integer_histograms_become_floats_and_shrink() {
    let mut whole = Histogram {
        schema: 1,
        count: 15,
        sum: 3.0,
        positive: Buckets::from_pairs((-1..).zip([1, 1, -2, 4, 1, 0])),
        ..Histogram::default()
    };
    assert_eq!(whole.to_float().positive.values, [1.0, 2.0, 0.0, 4.0, 5.0, 5.0]);
    assert!(matches!(whole.check(), Err(Invalid::CountMismatch(17, 15))));
    whole.count = 17;
    assert_eq!(whole.check(), Ok(()));
    assert_eq!(whole.reduced(0).to_float(), whole.to_float().reduced(0));
    whole.compact(0);
    assert_eq!(
        whole.to_float().positive.indexed().collect::<Vec<_>>(),
        [(-1, 1.0), (0, 2.0), (2, 4.0), (3, 5.0), (4, 5.0)]
    );
}

#[test]
fn hostile_spans_harm_nothing() {
    let spans = vec![
        Span { offset: i32::MAX, length: 2 },
        Span { offset: -7, length: u32::MAX },
        Span { offset: i32::MIN, length: 0 },
    ];
    let bad = FloatHistogram {
        positive: Buckets { spans, values: vec![1.0; 5] },
        zero_threshold: f64::NAN,
        ..FloatHistogram::default()
    };
    assert!(bad.check().is_err());
    let mut sum = bad.clone();
    sum.add(&histogram(0, 0, &[1.0])).unwrap();
    sum.compact(2);
    let _ = sum.is_reset_after(&bad);
    assert_eq!(bad.all_buckets().rev().count(), 5);
}
