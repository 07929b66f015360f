//! The data base against a plain map, step by step, from seeds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tsdb::{
    SeriesRef,
    batch::{Batch, Durability, Of},
    column::{HistogramValue, Value},
    histogram::{Buckets, FloatHistogram, Histogram, Span},
    labels::Labels,
    matcher::Matcher,
    options::Options,
    sample::STALE_NAN,
};

use crate::world::{Everything, Random, World, labels, same, small};

#[derive(Default)]
struct Model(BTreeMap<Labels, BTreeMap<i64, Value>>);

impl Model {
    fn range(&self, min: i64, max: i64, wanted: impl Fn(&Labels) -> bool) -> Everything {
        let series = self.0.iter().filter(|(labels, _)| wanted(labels));
        series
            .map(|(labels, samples)| {
                let samples = samples.range(min..=max).map(|(time, value)| (*time, value.clone())).collect::<Vec<_>>();
                (labels.clone(), samples)
            })
            .filter(|series| !series.1.is_empty())
            .collect()
    }
}

fn value(random: &mut Random, n: u64) -> Value {
    let spans = vec![Span { offset: random.below(2) as i32, length: 2 }];
    match n % 8 {
        0..4 => Value::Float(random.below(1000) as f64 / [1.0, 10.0, 100.0, 7.0][n as usize % 4]),
        4 => Value::Float(f64::from_bits(random.next())),
        5 if random.below(10) == 0 => Value::Float(STALE_NAN),
        5 => Value::Float(3.0),
        6 => {
            let count = random.below(50);
            let positive = Buckets { spans, values: vec![count as i64, 1] };
            let histogram = Histogram { count: 2 * count + 1, sum: 4.5, positive, ..Histogram::default() };
            Value::Histogram(HistogramValue::Integer(Arc::new(histogram)))
        }
        _ => {
            let positive = Buckets { spans, values: vec![random.below(9) as f64 / 3.0, 2.5] };
            let histogram = FloatHistogram { count: 5.0, sum: 1.25, positive, ..FloatHistogram::default() };
            Value::Histogram(HistogramValue::Float(Arc::new(histogram)))
        }
    }
}

fn run(seed: u64, window: Duration) {
    let mut random = Random::new(seed);
    let mut world = World::new(Options { out_of_order: window, ..small() });
    let mut model = Model::default();
    let names: Vec<Labels> =
        (0..24).map(|n| labels(&[("__name__", &format!("m{}", n % 5)), ("n", &n.to_string())])).collect();
    let mut now = 1_000_000;
    // What comes late into a range that was deleted stays deleted, as in Prometheus.
    let mut deleted = [i64::MIN; 5];
    let mut references: Vec<Option<SeriesRef>> = vec![None; names.len()];
    for step in 0..400 {
        match random.below(40) {
            0 => {
                world.restart();
            }
            1 => world.db().flush().expect("the flush succeeds"),
            2 | 3 => world.db().compact().expect("compaction succeeds"),
            4 => {
                let n = random.below(5);
                let (min, max) = (now - 1 - random.below(60_000) as i64, now - random.below(20_000) as i64);
                let matcher = Matcher::equal("__name__", &format!("m{n}"));
                world.db().delete(&[matcher], min, max).expect("the deletion succeeds");
                deleted[n as usize] = deleted[n as usize].max(max);
                for (labels, samples) in &mut model.0 {
                    if labels.metric() == format!("m{n}") {
                        samples.retain(|time, _| !(min..=max).contains(time));
                    }
                }
            }
            _ => {
                let mut batch = Batch::default();
                let mut wanted: Vec<(usize, i64, Value, Of)> = Vec::new();
                now += 1 + random.below(2000) as i64;
                for (nth, labels) in names.iter().enumerate() {
                    if random.below(4) == 0 {
                        continue;
                    }
                    let mut reference = references[nth];
                    if reference.is_none_or(|reference| world.db().labels(reference).is_none()) {
                        reference = Some(world.db().series(labels).expect("there is room"));
                        references[nth] = reference;
                    }
                    let Some(reference) = reference else { continue };
                    let late = !window.is_zero() && random.below(6) == 0;
                    // Odd times are for late samples, so that no two samples are for one.
                    let time = if late { (now - random.below(20_000) as i64) | 1 } else { now & !1 };
                    if time <= deleted[nth % 5] {
                        continue;
                    }
                    let sort = if random.below(30) == 0 { random.below(8) } else { nth as u64 };
                    match value(&mut random, sort) {
                        Value::Float(float) => {
                            wanted.push((nth, time, Value::Float(float), Of::Float(batch.samples())));
                            let place = wanted.iter().filter(|want| matches!(want.3, Of::Float(_))).count() - 1;
                            wanted.last_mut().expect("it was just put there").3 = Of::Float(place);
                            batch.float(reference, time, float);
                        }
                        Value::Histogram(histogram) => {
                            let place = wanted.iter().filter(|want| matches!(want.3, Of::Histogram(_))).count();
                            wanted.push((nth, time, Value::Histogram(histogram.clone()), Of::Histogram(place)));
                            batch.histogram(reference, time, histogram);
                        }
                    }
                }
                let durability = if random.below(9) == 0 { Durability::Synced } else { Durability::Logged };
                let outcome = world.db().commit(&batch, durability).expect("the commit succeeds");
                if window.is_zero() {
                    assert!(outcome.repeated == 0 && outcome.late == 0);
                }
                for (nth, time, value, of) in wanted {
                    if outcome.rejected.iter().all(|rejected| rejected.0 != of) {
                        model.0.entry(names[nth].clone()).or_default().entry(time).or_insert(value);
                    }
                }
            }
        }
        let (min, max) = match random.below(4) {
            0 => (i64::MIN, i64::MAX),
            1 => (now - random.below(5000) as i64, i64::MAX),
            _ => {
                let min = now - random.below(200_000) as i64;
                (min, min + random.below(60_000) as i64)
            }
        };
        let metric = format!("m{}", random.below(5));
        let (have, want) = if random.below(2) == 0 {
            (world.select(&[], min, max), model.range(min, max, |_| true))
        } else {
            let matchers = [Matcher::equal("__name__", &metric)];
            (world.select(&matchers, min, max), model.range(min, max, |labels| labels.metric() == metric))
        };
        assert!(same(&have, &want), "seed {seed}, step {step}: from {min} to {max}\n{have:?}\n{want:?}");
    }
}

#[test]
fn the_data_base_says_what_a_plain_map_says() {
    for seed in 1..=6 {
        run(seed, Duration::ZERO);
    }
}

#[test]
fn so_it_does_with_late_samples() {
    for seed in 11..=16 {
        run(seed, Duration::from_secs(15));
    }
}
