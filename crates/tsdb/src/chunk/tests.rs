//! Tests of chunks: what is written is read, small where it should be, and damage is noticed.

use std::sync::Arc;

use super::*;
use crate::{
    histogram::{Buckets, FloatHistogram, Histogram, ResetHint, Span},
    random::Random,
    sample::STALE_NAN,
};

fn check_floats(times: &[i64], values: &[f64]) -> usize {
    let mut out = Vec::new();
    write_floats(times, values, 1_000, &mut out);
    let mut columns = Columns::default();
    Decoder::default().read(&out, 1_000, i64::MIN, i64::MAX, &mut columns).expect("what was written is read");
    assert_eq!(columns.times, times);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&columns.values), bits(values));
    // A part of it is that part, wherever it begins and ends.
    let last = times.len() - 1;
    for (from, to) in [(0, 0), (last, last), (last / 3, last / 2), (last / 2, last), (0, last / 2)] {
        columns.clear();
        Decoder::default().read(&out, 1_000, times[from], times[to], &mut columns).expect("what was written is read");
        assert_eq!(columns.times, times[from..=to]);
        assert_eq!(bits(&columns.values), bits(&values[from..=to]), "from {from} to {to}");
    }
    out.len()
}

fn seconds(count: usize) -> Vec<i64> {
    (0..count as i64).map(|second| 1_700_000_000_000 + second * 1000).collect()
}

#[test]
fn floats_of_every_sort_come_back_to_the_bit() {
    let mut random = Random::new(3);
    let sorts: [fn(&mut Random) -> f64; 8] = [
        |random| f64::from_bits(random.next()),
        |random| random.below(1_000_000) as f64,
        |random| random.below(1_000_000) as f64 / 100.0 - 5000.0,
        |random| random.next() as f64 / u64::MAX as f64,
        |random| [STALE_NAN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1.5][random.below(7) as usize],
        |random| (random.below(1 << 20) as f64) * 4096.0,
        |random| [f64::MAX, f64::MIN_POSITIVE, 5e-324, 9_007_199_254_740_993.0, -1e300][random.below(5) as usize],
        |random| random.below(3) as f64 * 1e14,
    ];
    for sort in sorts {
        for count in [1, 2, 3, 8, 31, 120, 480] {
            let mut time = -50;
            let times: Vec<i64> = (0..count)
                .map(|_| {
                    time += 1 + random.below(100_000) as i64;
                    time
                })
                .collect();
            let values: Vec<f64> = (0..count).map(|_| sort(&mut random)).collect();
            check_floats(&times, &values);
            // A few of another sort among them.
            let mixed: Vec<f64> =
                values.iter().map(|value| if random.below(30) == 0 { STALE_NAN } else { *value }).collect();
            check_floats(&times, &mixed);
        }
    }
}

#[test]
fn usual_series_are_small() {
    let mut random = Random::new(4);
    let times = seconds(480);
    assert!(check_floats(&times, &[42.0; 480]) < 24);
    let even: Vec<f64> = (0..480).map(|n| f64::from(n) * 15.0).collect();
    assert!(check_floats(&times, &even) < 24);
    let mut total = 0.0;
    let counter: Vec<f64> = (0..480)
        .map(|_| {
            total += random.below(256) as f64;
            total
        })
        .collect();
    assert!(check_floats(&times, &counter) < 480 + 40);
    let mut hundredths = 5_000_i64;
    let walk: Vec<f64> = (0..480)
        .map(|_| {
            hundredths += random.below(64) as i64 - 32;
            hundredths as f64 / 100.0
        })
        .collect();
    assert!(check_floats(&times, &walk) < 480 * 6 / 8 + 40);
    let noise: Vec<f64> = (0..480).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).collect();
    assert!(check_floats(&times, &noise) < 480 * 7 + 40);
    let mut ended = counter.clone();
    ended[479] = STALE_NAN;
    assert!(check_floats(&times, &ended) < 480 + 60);
}

#[test]
fn a_range_is_cut_at_both_ends() {
    let times = seconds(100);
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let mut out = Vec::new();
    write_floats(&times, &values, 0, &mut out);
    let mut columns = Columns::default();
    Decoder::default().read(&out, 0, times[10], times[20], &mut columns).expect("what was written is read");
    assert_eq!(columns.times, times[10..=20]);
    assert_eq!(columns.values, values[10..=20]);
}

/// Random histograms of one layout, some of them stale markers.
pub fn histograms(random: &mut Random, count: usize, integers: bool, custom: bool) -> Vec<(i64, HistogramValue)> {
    let spans = vec![Span { offset: 2, length: 3 }, Span { offset: 1, length: 2 }];
    let mut counts = [3i64, 5, 0, 7, 1];
    let bounds: Arc<[f64]> = if custom { (0..12).map(f64::from).collect() } else { Arc::default() };
    let schema = if custom { -53 } else { 3 };
    (0..count)
        .map(|at| {
            counts.iter_mut().for_each(|count| *count += random.below(5) as i64);
            let total: i64 = counts.iter().sum();
            let negative = if custom { Vec::new() } else { vec![Span { offset: -4, length: 1 }] };
            let reset = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NoReset, ResetHint::Gauge];
            let reset = reset[random.below(4) as usize];
            let value = if random.below(9) == 0 {
                if integers { HistogramValue::stale_integer() } else { HistogramValue::stale_float() }
            } else if integers {
                let mut before = 0;
                let deltas = counts.iter().map(|count| count - std::mem::replace(&mut before, *count)).collect();
                HistogramValue::Integer(Arc::new(Histogram {
                    reset,
                    schema,
                    zero_threshold: if custom { 0.0 } else { 0.001 },
                    zero_count: if custom { 0 } else { 4 },
                    count: (total + if custom { 0 } else { 4 + 9 }) as u64,
                    sum: total as f64 * 1.5,
                    positive: Buckets { spans: spans.clone(), values: deltas },
                    negative: Buckets { values: negative.iter().map(|_| 9).collect(), spans: negative },
                    custom: bounds.clone(),
                }))
            } else {
                HistogramValue::Float(Arc::new(FloatHistogram {
                    reset,
                    schema,
                    zero_threshold: if custom { 0.0 } else { 0.001 },
                    zero_count: if custom { 0.0 } else { 4.5 },
                    count: total as f64 + 0.25,
                    sum: total as f64 * 1.5,
                    positive: Buckets {
                        spans: spans.clone(),
                        values: counts.iter().map(|c| *c as f64 / 3.0).collect(),
                    },
                    negative: Buckets { values: negative.iter().map(|_| 9.5).collect(), spans: negative },
                    custom: bounds.clone(),
                }))
            };
            (1_700_000_000_000 + at as i64 * 15_000, value)
        })
        .collect()
}

#[test]
fn histograms_come_back() {
    let mut random = Random::new(5);
    for (integers, custom) in [(true, false), (true, true), (false, false), (false, true)] {
        for count in [1, 2, 17, 120] {
            let samples = histograms(&mut random, count, integers, custom);
            assert_eq!(histograms_that_fit(&samples), count);
            let mut out = Vec::new();
            write_histograms(&samples, 5, &mut out);
            let mut columns = Columns::default();
            Decoder::default().read(&out, 5, i64::MIN, i64::MAX, &mut columns).expect("what was written is read");
            assert_eq!(columns.histograms.len(), samples.len());
            for (have, want) in columns.histograms.iter().zip(&samples) {
                assert!(have.0 == want.0 && have.1.same(&want.1), "{have:?} is not {want:?}");
            }
        }
    }
}

#[test]
fn a_new_layout_needs_a_new_chunk() {
    let mut random = Random::new(6);
    let mut samples = histograms(&mut random, 5, true, false);
    samples.retain(|sample| !sample.1.is_stale());
    let before = samples.len();
    samples.extend(histograms(&mut random, 5, true, true));
    samples.extend(histograms(&mut random, 5, false, true));
    assert!((before..before + 2).contains(&histograms_that_fit(&samples)));
}

#[test]
fn damaged_chunks_are_noticed_and_never_panic() {
    let mut random = Random::new(7);
    let times = seconds(60);
    let values: Vec<f64> = (0..60).map(|_| random.below(1000) as f64 / 10.0).collect();
    let mut floats = Vec::new();
    write_floats(&times, &values, 0, &mut floats);
    let mut integers = Vec::new();
    write_histograms(&histograms(&mut random, 20, true, false), 0, &mut integers);
    let mut fractions = Vec::new();
    write_histograms(&histograms(&mut random, 20, false, true), 0, &mut fractions);
    let mut decoder = Decoder::default();
    for whole in [floats, integers, fractions] {
        for _ in 0..4000 {
            let mut bytes = whole.clone();
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize + 4);
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            let changed = bytes != whole;
            let mut columns = Columns::default();
            let read = decoder.read(&bytes, 0, i64::MIN, i64::MAX, &mut columns);
            assert_eq!(read.is_err(), changed);
            // With a checksum that fits, nothing may panic either, nor take much memory.
            if bytes.len() > 4 {
                seal(0, &mut bytes);
                let _ = decoder.read(&bytes, 0, i64::MIN, i64::MAX, &mut columns);
            }
        }
    }
}
