//! Blocks that move out to Prometheus 3.15 and back, with its own programs: `MADANG_PROMETHEUS` and `MADANG_PROMTOOL` name them.
//!
//! ```text
//! samples ─▶ data base ─ export ─▶ promtool tsdb analyze, list
//!                                └▶ Prometheus: its answers are the samples; it deletes some, and writes what is left anew
//!                                     └ snapshot ─ import ─▶ another data base: the same samples
//! ```

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tsdb::{
    batch::Batch,
    column::{HistogramValue, Value},
    histogram::{Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, ResetHint, Span},
    labels::Labels,
    matcher::Matcher,
    options::Options,
    sample::{STALE_NAN, is_stale},
};

use crate::world::{Everything, World, labels};

/// The beginning of a block of two hours.
const START: i64 = 236_111 * 7_200_000;
const STEP: i64 = 15_000;
/// Four and a half hours.
const ROUNDS: i64 = 1080;
/// What Prometheus deletes of each series: less than a chunk.
const DELETED: (i64, i64) = (START + 200 * STEP, START + 210 * STEP);

/// A program that a variable names.
fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program: cargo xtask test --full")).into()
}

struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// Starts it on blocks in a directory.
    fn start(data: &Path, scratch: &Path) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        let config = scratch.join("prometheus.yml");
        std::fs::write(&config, "scrape_configs: []\n").expect("it is written");
        let child = Command::new(program("MADANG_PROMETHEUS"))
            .arg("--config.file")
            .arg(config)
            .arg("--storage.tsdb.path")
            .arg(data)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-admin-api", "--log.level=warn"])
            .stdout(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        let prometheus = Self { child, port };
        let begun = Instant::now();
        while prometheus.ask("GET", "/-/ready").is_none_or(|(status, _)| status != 200) {
            assert!(begun.elapsed() < Duration::from_secs(60), "Prometheus is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        prometheus
    }

    fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn json(&self, method: &str, path: &str) -> Json {
        let (status, body) = self.ask(method, path).expect("Prometheus answers");
        assert!((200..300).contains(&status), "{path}: {status} {body}");
        if body.is_empty() { Json::Null } else { serde_json::from_str(&body).expect("it answers JSON") }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn integer(round: i64, gauge: bool) -> HistogramValue {
    let count = if gauge { (round % 7) as u64 } else { round as u64 };
    // Other buckets from some time on.
    let spans = if round < 500 {
        vec![Span { offset: -1, length: 2 }]
    } else {
        vec![Span { offset: -1, length: 2 }, Span { offset: 3, length: 1 }]
    };
    let values = if round < 500 { vec![count as i64, 5] } else { vec![count as i64, 5, -4] };
    let all = values.iter().scan(0, |at, step| {
        *at += step;
        Some(*at as u64)
    });
    HistogramValue::Integer(Arc::new(Histogram {
        reset: if gauge { ResetHint::Gauge } else { ResetHint::Unknown },
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 2,
        count: all.sum::<u64>() + 2,
        sum: count as f64 * 1.25 - 3.0,
        positive: Buckets { spans, values },
        negative: Buckets::default(),
        custom: Arc::default(),
    }))
}

fn float(round: i64) -> HistogramValue {
    let half = round as f64 + 0.5;
    HistogramValue::Float(Arc::new(FloatHistogram {
        reset: ResetHint::Unknown,
        schema: 0,
        zero_threshold: 0.001,
        zero_count: 0.25,
        count: 2.0 * half + 0.25,
        sum: half * 3.0,
        positive: Buckets { spans: vec![Span { offset: 0, length: 1 }], values: vec![half] },
        negative: Buckets { spans: vec![Span { offset: 1, length: 1 }], values: vec![half] },
        custom: Arc::default(),
    }))
}

fn custom(round: i64) -> HistogramValue {
    let first = round;
    HistogramValue::Integer(Arc::new(Histogram {
        reset: ResetHint::Unknown,
        schema: CUSTOM_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0,
        count: 2 * first as u64 + 3,
        sum: first as f64,
        positive: Buckets { spans: vec![Span { offset: 0, length: 2 }], values: vec![first, 3] },
        negative: Buckets::default(),
        custom: Arc::from(vec![0.005, 0.25, 10.0]),
    }))
}

fn whole(round: i64, kind: &str) -> Value {
    Value::Float(match kind {
        "counter" => (round % 400 * 17) as f64,
        "decimals" => (round * round % 1009) as f64 / 100.0,
        "noise" => (round as f64 * 0.7).sin(),
        "edges" => [f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 1.0, STALE_NAN][(round % 7) as usize],
        _ => 42.0,
    })
}

/// A data base with series of every kind, some late and some deleted samples.
fn filled() -> World {
    let world =
        World::new(Options { retention: Duration::ZERO, out_of_order: Duration::from_hours(5), ..Options::default() });
    for kind in ["counter", "decimals", "noise", "edges", "constant"] {
        let series = world.series(&[("__name__", "floats"), ("kind", kind), ("utf8 \"name\"", "é\n")]);
        let mut batch = Batch::default();
        // The last hour first, so that all before it comes late.
        for round in (840..ROUNDS).chain(0..840) {
            if let Value::Float(value) = whole(round, kind) {
                batch.float(series, START + round * STEP, value);
            }
        }
        assert_eq!(world.commit(&batch).rejected, []);
    }
    type Make = fn(i64) -> HistogramValue;
    let makes: [(&str, Make); 4] = [
        ("integer", |round| integer(round, false)),
        ("gauge", |round| integer(round, true)),
        ("float", float),
        ("custom", custom),
    ];
    for (kind, make) in makes {
        let series = world.series(&[("__name__", "histograms"), ("kind", kind)]);
        let mut batch = Batch::default();
        for round in 0..ROUNDS {
            let value = if round == 700 && kind == "integer" { HistogramValue::stale_integer() } else { make(round) };
            batch.histogram(series, START + round * STEP, value);
        }
        assert_eq!(world.commit(&batch).rejected, []);
    }
    let turns = world.series(&[("__name__", "turns")]);
    let mut batch = Batch::default();
    for round in 0..ROUNDS {
        match round / 50 % 2 {
            0 => batch.float(turns, START + round * STEP, round as f64),
            _ => batch.histogram(turns, START + round * STEP, float(round)),
        }
    }
    assert_eq!(world.commit(&batch).rejected, []);
    let (min, max) = (START + 900 * STEP, START + 910 * STEP);
    world.db().delete(&[Matcher::equal("kind", "noise")], min, max).expect("the deletion succeeds");
    world
}

/// The same but for how buckets without observations are told.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Histogram(one), Value::Histogram(other)) if !one.is_stale() || !other.is_stale() => {
            let plain = |value: &HistogramValue| {
                let mut float = (*value.to_float()).clone();
                float.compact(0);
                HistogramValue::Float(Arc::new(float))
            };
            let integers = |value: &HistogramValue| matches!(value, HistogramValue::Integer(_));
            integers(one) == integers(other) && plain(one).same(&plain(other))
        }
        _ => one.same(other),
    }
}

fn assert_alike(have: &Everything, want: &Everything) {
    assert_eq!(have.len(), want.len());
    for ((name, have), (wanted, want)) in have.iter().zip(want) {
        assert_eq!(name, wanted);
        assert_eq!(have.len(), want.len(), "{name}");
        for (have, want) in have.iter().zip(want) {
            assert!(have.0 == want.0 && alike(&have.1, &want.1), "{name}: {have:?}, not {want:?}");
        }
    }
}

/// A number as Prometheus writes it.
fn number(text: &Json) -> f64 {
    match text.as_str().expect("numbers are text") {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().expect("a number"),
    }
}

/// Holds what Prometheus answers against a series; ranges leave stale markers out.
fn assert_answered(result: &Json, name: &Labels, samples: &[(i64, Value)]) {
    let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
    let time = |point: &Json| (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
    let (mut floats, mut histograms) = (list("values").into_iter(), list("histograms").into_iter());
    for (at, value) in samples {
        match value {
            Value::Float(value) if is_stale(*value) => {}
            Value::Float(value) => {
                let point = floats.next().unwrap_or_else(|| panic!("{name} has no float at {at}"));
                assert_eq!((time(&point), number(&point[1]).to_bits()), (*at, value.to_bits()), "{name}");
            }
            Value::Histogram(value) if value.is_stale() => {}
            Value::Histogram(value) => {
                let point = histograms.next().unwrap_or_else(|| panic!("{name} has no histogram at {at}"));
                let float = value.to_float();
                let told = (number(&point[1]["count"]), number(&point[1]["sum"]));
                assert_eq!((time(&point), told), (*at, (float.count, float.sum)), "{name}");
                let buckets = point[1]["buckets"].as_array().cloned().unwrap_or_default();
                let counted: f64 = buckets.iter().map(|bucket| number(&bucket[3])).sum();
                assert_eq!(counted, float.count, "{name}: all are in a bucket");
            }
        }
    }
    assert!(floats.next().is_none() && histograms.next().is_none(), "{name}: nothing else");
}

#[test]
#[ignore = "needs Prometheus and promtool: cargo xtask test --full"]
fn prometheus_opens_what_is_exported_and_gives_it_back_sample_for_sample() {
    let world = filled();
    let out = world.path().join("out");
    let blocks = world.db().export(&out, i64::MIN, i64::MAX).expect("the export succeeds");
    assert_eq!(blocks.len(), 3);
    let before = world.all();
    assert_eq!(before.len(), 10);

    for block in &blocks {
        let name = block.file_name().expect("it has a name");
        let promtool = Command::new(program("MADANG_PROMTOOL")).args(["tsdb", "analyze"]).arg(&out).arg(name).output();
        let promtool = promtool.expect("promtool starts");
        let said = String::from_utf8_lossy(&promtool.stdout);
        assert!(promtool.status.success(), "{said}{}", String::from_utf8_lossy(&promtool.stderr));
        assert!(said.contains("Total Series: 10"), "{said}");
    }
    let list = Command::new(program("MADANG_PROMTOOL")).args(["tsdb", "list"]).arg(&out).output().expect("it starts");
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));

    let prometheus = Prometheus::start(&out, world.path());
    let end = (START + ROUNDS * STEP) as f64 / 1000.0;
    let answer =
        prometheus.json("GET", &format!("/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1d%5D&time={end}"));
    let results = answer["data"]["result"].as_array().expect("series");
    assert_eq!(results.len(), before.len());
    for result in results {
        let metric = result["metric"].as_object().expect("labels");
        let name =
            Labels::from_pairs(metric.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))));
        let (_, samples) = before.iter().find(|series| series.0 == name).expect("the series is ours");
        assert_answered(result, &name, samples);
    }

    // What it deletes and cleans up, it writes anew: its own encoder has then written a part of each series.
    let (from, to) = (DELETED.0 as f64 / 1000.0, DELETED.1 as f64 / 1000.0);
    let every = "%7B__name__%3D~%22.%2B%22%7D";
    prometheus.json("POST", &format!("/api/v1/admin/tsdb/delete_series?match%5B%5D={every}&start={from}&end={to}"));
    prometheus.json("POST", "/api/v1/admin/tsdb/clean_tombstones");
    let made = prometheus.json("POST", "/api/v1/admin/tsdb/snapshot?skip_head=true");
    let snapshot = out.join("snapshots").join(made["data"]["name"].as_str().expect("a name"));
    let other = World::new(Options { retention: Duration::ZERO, ..Options::default() });
    assert_eq!(other.db().import(&snapshot).expect("the import succeeds"), 3);
    world.db().delete(&[], DELETED.0, DELETED.1).expect("the deletion succeeds");
    let left = world.all();
    assert!(left.iter().zip(&before).all(|(left, before)| left.1.len() == before.1.len() - 11));
    assert_alike(&other.all(), &left);
    assert_eq!(
        other.select(&[Matcher::equal("kind", "custom")], i64::MIN, i64::MAX)[0].0,
        labels(&[("__name__", "histograms"), ("kind", "custom")])
    );
}
