//! Times evaluation alone, over columns in memory: `sum by (ns) (rate(m[..]))` and its like.
//!
//! Each figure is the least of several runs, in milliseconds.

use std::{hint::black_box, time::Instant};

use promql::{
    eval::{self, Options},
    matcher::Matcher,
    parse::{Features, parse},
    storage::{Hints, Selection, Storage, StorageError},
    value::Samples,
};
use tsdb::labels::Labels;

/// Counters scraped every 15 seconds for two hours.
struct Counters {
    series: Vec<(Labels, Vec<f64>)>,
    times: Vec<i64>,
}

const INTERVAL: i64 = 15_000;
const SAMPLES: i64 = 480;

impl Counters {
    fn new(count: usize) -> Self {
        let series = (0..count).map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", "m_total"),
                ("ns", format!("ns{}", i % 20).as_str()),
                ("pod", format!("pod-{i}").as_str()),
            ]);
            let values = (0..SAMPLES).map(|step| ((step * (i as i64 % 17 + 1)) % 4000) as f64).collect();
            (labels, values)
        });
        Self { series: series.collect(), times: (0..SAMPLES).map(|step| step * INTERVAL).collect() }
    }
}

impl Storage for Counters {
    fn select<'a>(&'a self, _: &[Matcher], hints: &Hints) -> Result<Box<dyn Selection + 'a>, StorageError> {
        let from = self.times.partition_point(|time| *time < hints.start);
        let to = self.times.partition_point(|time| *time <= hints.end);
        Ok(Box::new(Rows { counters: self, next: 0, from, to }))
    }
}

struct Rows<'a> {
    counters: &'a Counters,
    next: usize,
    from: usize,
    to: usize,
}

impl Selection for Rows<'_> {
    fn next(&mut self, samples: &mut Samples) -> Result<Option<Labels>, StorageError> {
        let Some((labels, values)) = self.counters.series.get(self.next) else { return Ok(None) };
        self.next += 1;
        samples.times.extend_from_slice(&self.counters.times[self.from..self.to]);
        samples.floats.extend_from_slice(&values[self.from..self.to]);
        Ok(Some(labels.clone()))
    }
}

fn least(runs: usize, mut run: impl FnMut()) -> f64 {
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1000.0
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let end = (SAMPLES - 1) * INTERVAL;
    let options = Options { features: Features::ALL, ..Options::default() };
    for (count, runs) in [(1_000, 9), (50_000, 3)] {
        let counters = Counters::new(count);
        for query in [
            "sum by (ns) (rate(m_total[1m]))",
            "sum by (ns) (rate(m_total[5m]))",
            "max_over_time(m_total[5m])",
            "histogram_quantile(0.9, sum by (ns) (m_total))",
            "m_total / on (pod) m_total",
            "topk(5, m_total)",
        ] {
            let expr = parse(query, options.features).expect("query of the benchmark");
            let instant = least(runs, || {
                black_box(eval::instant(&counters, &expr, end, &options).expect("instant query"));
            });
            let range = least(runs, || {
                black_box(eval::range(&counters, &expr, end - 3_600_000, end, 60_000, &options).expect("range query"));
            });
            println!("{count:>6} series  {query:<48} instant {instant:>9.2} ms   61 steps {range:>9.2} ms");
        }
    }
}
