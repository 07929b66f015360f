//! The evaluator over a data base on disk.

use std::sync::Arc;

use promql::{
    eval::{self, Options},
    parse::{Features, parse},
    value::{Answer, Value},
};
use tsdb::{
    batch::{Batch, Durability},
    column::HistogramValue,
    db::Db,
    histogram::{Buckets, FloatHistogram},
    labels::Labels,
};

#[test]
fn queries_read_floats_and_histograms_from_disk_and_memory() {
    let dir = tempfile::tempdir().expect("directory");
    let (db, _) = Db::open(dir.path(), tsdb::options::Options::default()).expect("open data base");
    let labels = |name: &str, job: &str| Labels::from_pairs([("__name__", name), ("job", job)]);
    let counters = ["a", "b", "c"].map(|job| db.series(&labels("m_total", job)).expect("series"));
    let histograms = db.series(&labels("h", "a")).expect("series");
    for step in 0..40i64 {
        let mut batch = Batch::default();
        for (nth, series) in counters.iter().enumerate() {
            batch.float(*series, step * 15_000, (step * 15 * (nth as i64 + 1)) as f64);
        }
        let count = step as f64;
        let buckets = Buckets::from_pairs([(0, count), (1, count)]);
        let value =
            FloatHistogram { count: 2.0 * count, sum: 3.0 * count, positive: buckets, ..FloatHistogram::default() };
        batch.histogram(histograms, step * 15_000, HistogramValue::Float(Arc::new(value)));
        db.commit(&batch, Durability::Synced).expect("commit");
        if step == 20 {
            db.flush().expect("flush");
        }
    }
    let ask = |query: &str| {
        let expr = parse(query, Features::ALL).expect("query");
        let options = Options { features: Features::ALL, ..Options::default() };
        match eval::instant(&db, &expr, 39 * 15_000, &options).expect(query).answer {
            Answer::Vector(_, samples) => samples
                .into_iter()
                .map(|sample| match sample.value {
                    Value::Float(value) => format!("{} {value:.3}", sample.labels),
                    Value::Histogram(histogram) => format!("{} {:.3}", sample.labels, histogram.count),
                })
                .collect::<Vec<_>>(),
            other => panic!("{query}: {other:?}"),
        }
    };
    assert_eq!(ask("sum(rate(m_total[5m]))"), ["{} 6.000"]);
    assert_eq!(ask("sum by (job) (rate(m_total{job=~\"[ab]\"}[8m]))"), ["{job=\"a\"} 1.000", "{job=\"b\"} 2.000"]);
    assert_eq!(ask("m_total{job!=\"a\",job!~\"c.*\"} @ 60"), ["{__name__=\"m_total\", job=\"b\"} 120.000"]);
    assert_eq!(ask("increase(h[5m])"), ["{job=\"a\"} 40.000"]);
    assert_eq!(ask("histogram_quantile(0.5, rate(h[5m]))"), ["{job=\"a\"} 1.000"]);
    assert_eq!(ask("absent({job=\"d\"})"), ["{job=\"d\"} 1.000"]);
    db.close().expect("close data base");
}
