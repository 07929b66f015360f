//! `cargo xtask bench metrics`: `madang metrics` beside Prometheus 3.15, each alone on the machine, by turns.
//!
//! ```text
//! load     100,000 series, every second, to 47 million samples ─► CPU, memory, bytes, queries, block, kill -9
//! many     1,000,000 series, every 10 s                        ─► memory a series
//! start    nothing                                             ─► time to ready, idle memory
//! ```
//!
//! The target is `load expose`: one process, whose time is not counted. It is ended before queries are asked, so that they
//! have the machine; the head keeps all samples. `--interval` scrapes more often where time is short: the rows then say so.

mod side;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::side::{Kind, Side, Target};
use super::{
    Arguments, Load, median,
    report::{self, Figure, Target as Reach},
};
use crate::go;

/// Series of the usual load.
const SERIES: u64 = 100_000;
/// Samples of the usual load.
const SAMPLES: u64 = 47_000_000;
/// Samples where time is short.
const QUICK_SAMPLES: u64 = 12_000_000;
/// Series of the large load.
const MANY: u64 = 1_000_000;
/// Groups that the queries give.
const GROUPS: usize = 37;
/// Queries of 1,000 and of 50,000 series.
const QUERIES: [(&str, &str); 2] = [
    ("1,000", "sum by (ns) (rate(bench_requests_00_total[1m]))"),
    ("50,000", "sum by (ns) (rate({__name__=~\"bench_requests_.+_total\"}[5m]))"),
];
/// Rows that need the usual load.
const OF_LOAD: [&str; 6] = ["cpu", "memory", "bytes", "blocks", "restart", "queries"];

struct Bench<'a> {
    arguments: &'a Arguments,
    programs: [(Kind, std::path::PathBuf); 2],
    load: &'a Path,
    output: &'a Path,
    figures: Vec<Figure>,
    failed: Vec<(&'static str, anyhow::Error)>,
}

/// What one side did, by name of the figure, and everything on the way.
#[derive(Default)]
struct Taken {
    figures: BTreeMap<&'static str, f64>,
    detail: BTreeMap<&'static str, Value>,
}

impl Taken {
    fn put(&mut self, name: &'static str, value: f64) {
        self.figures.insert(name, value);
    }

    fn get(&self, name: &str) -> f64 {
        self.figures.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// Measures all rows that are wanted.
pub fn run(arguments: &Arguments, madang: &Path, load: &Load, output: &Path) -> Result<()> {
    let programs = [(Kind::Prometheus, go::prometheus()?), (Kind::Madang, madang.to_owned())];
    let mut bench = Bench { arguments, programs, load: &load.0, output, figures: Vec::new(), failed: Vec::new() };
    bench.row("start", &["start", "idle"], Bench::start);
    bench.row("load", &OF_LOAD, Bench::usual_load);
    bench.row("many", &["many"], Bench::many);
    report::publish(&output.join("metrics.json"), &bench.figures, &bench.failed)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Bench<'_> {
    fn row(&mut self, name: &'static str, rows: &[&str], measure: fn(&mut Self) -> Result<()>) {
        if !rows.iter().any(|row| self.arguments.wants(row)) {
            return;
        }
        if let Err(error) = measure(self) {
            self.failed.push((name, error));
        }
    }

    fn side(&self, kind: Kind) -> Result<Side> {
        let program = self.programs.iter().find(|program| program.0 == kind).context("no such program")?;
        Side::place(kind, &program.1, &self.output.join("metrics"))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.arguments.interval.unwrap_or(1000))
    }

    /// Both sides, each with what it did.
    fn both(&self, measure: impl Fn(&Self, Side) -> Result<Taken>) -> Result<[Taken; 2]> {
        let mut taken = Vec::new();
        for kind in Kind::BOTH {
            eprintln!("measuring {}", kind.name());
            taken.push(measure(self, self.side(kind)?).with_context(|| kind.name())?);
        }
        let [theirs, ours] = <[Taken; 2]>::try_from(taken).ok().context("a side is missing")?;
        Ok([ours, theirs])
    }

    /// Adds a figure: what of it is ours, what is to be reached given theirs, and what stands beside.
    fn figure(
        &mut self,
        row: &str,
        name: &'static str,
        unit: &'static str,
        (ours, theirs): (f64, f64),
        target: Reach,
        [mine, other]: [&Taken; 2],
    ) {
        if !self.arguments.wants(row) {
            return;
        }
        let detail = json!({ "madang": mine.detail, "prometheus": other.detail });
        let beside = vec![("prometheus".to_owned(), theirs), ("times better".to_owned(), theirs / ours)];
        self.figures.push(Figure { name, value: ours, unit, target, beside, detail });
    }

    fn start(&mut self) -> Result<()> {
        let [ours, theirs] = self.both(|bench, mut side| {
            let mut starts = Vec::new();
            for _ in 0..if bench.arguments.quick { 5 } else { 11 } {
                let _ = std::fs::remove_dir_all(side.data());
                starts.push(side.start()?.as_secs_f64() * 1e3);
                side.kill()?;
            }
            let mut taken = Taken::default();
            taken.detail.insert("starts_ms", json!(starts));
            taken.put("start", median(starts));
            let _ = std::fs::remove_dir_all(side.data());
            side.start()?;
            std::thread::sleep(Duration::from_secs(if bench.arguments.quick { 30 } else { 60 }));
            taken.put("idle", side.usual_memory(5));
            Ok(taken)
        })?;
        let both = [&ours, &theirs];
        let pair = |name| (ours.get(name), theirs.get(name));
        self.figure("start", "empty start to ready, alone", "ms", pair("start"), Reach::AtMost(20.0), both);
        self.figure("idle", "idle memory, alone", "MiB", pair("idle"), Reach::AtMost(15.0), both);
        Ok(())
    }

    fn usual_load(&mut self) -> Result<()> {
        let [ours, theirs] = self.both(Self::loaded)?;
        let both = [&ours, &theirs];
        let pair = |name| (ours.get(name), theirs.get(name));
        let third = |name| Reach::AtMost(theirs.get(name) / 3.0);
        let least = Reach::AtMost((theirs.get("cpu") / 2.5).min(0.45));
        self.figure("cpu", "CPU a sample, scraped and stored", "us", pair("cpu"), least, both);
        for (name, shown) in [
            ("memory", "memory, 100,000 series"),
            ("memory full", "memory after all samples"),
            ("memory asked", "memory after the queries"),
        ] {
            self.figure("memory", shown, "MiB", pair(name), third(name), both);
        }
        self.figure("bytes", "log and head, bytes a sample", "B", pair("head"), Reach::AtMost(4.0), both);
        let most = Reach::AtMost(theirs.get("block") * 0.75);
        self.figure("blocks", "block with index, bytes a sample", "B", pair("block"), most, both);
        self.figure(
            "restart",
            "kill -9 to ready, all samples in the head",
            "ms",
            pair("restart"),
            Reach::AtMost(300.0),
            both,
        );
        for (name, shown) in [
            ("1,000", "rate over 1,000 series, [1m], instant"),
            ("1,000 range", "rate over 1,000 series, [1m], 61 steps"),
            ("50,000", "rate over 50,000 series, [5m], instant"),
            ("50,000 range", "rate over 50,000 series, [5m], 61 steps"),
        ] {
            self.figure("queries", shown, "ms", pair(name), Reach::AtMost(theirs.get(name) / 5.0), both);
        }
        Ok(())
    }

    /// Loads one side and measures all that comes of it.
    fn loaded(&self, mut side: Side) -> Result<Taken> {
        let mut taken = Taken::default();
        let wanted = match self.arguments.samples {
            Some(samples) => samples,
            None if self.arguments.quick => QUICK_SAMPLES,
            None => SAMPLES,
        };
        let target = Target::start(self.load, SERIES)?;
        side.scrape(&target, self.interval())?;
        side.start()?;
        // The first scrape makes the series, which is not what a sample costs.
        while target.lines()? < 2 * SERIES {
            std::thread::sleep(Duration::from_millis(100));
        }
        let (time, lines) = (side.time(), target.lines()?);
        let begun = now();
        let mut looks = Vec::new();
        while target.lines()? < wanted {
            ensure!(now() - begun < 3600.0, "the load takes more than an hour");
            std::thread::sleep(Duration::from_secs(1));
            looks.push(side.memory());
        }
        ensure!(!looks.is_empty(), "the load is over before it was looked at: ask for more --samples");
        let cpu = (side.time() - time) * 1e6 / (target.lines()? - lines) as f64;
        taken.put("cpu", cpu);
        // From the tenth part of the load on, when each series is there for some time, up to a quarter of it.
        taken.put("memory", median(looks[looks.len() / 10..=looks.len() / 4].to_vec()));
        taken.put("memory full", median(looks[looks.len() - 10.min(looks.len())..].to_vec()));
        taken.detail.insert("memory_mib", json!(looks));
        taken.detail.insert("scrape_interval_ms", json!(self.interval().as_millis() as u64));
        let end = now();
        drop(target);
        std::thread::sleep(Duration::from_secs(3));
        let stored = side.number("sum(sum_over_time(scrape_samples_scraped[1h]))", end)?;
        taken.detail.insert("samples", json!(stored));
        taken.put("head", side::size(&side.data()) as f64 / stored);
        self.ask(&side, end - 0.5, &mut taken)?;
        taken.put("memory asked", side.memory());
        if self.arguments.wants("blocks") {
            taken.put("block", side.snapshot()? as f64 / stored);
        }
        if self.arguments.wants("restart") {
            let mut starts = Vec::new();
            for _ in 0..3 {
                side.kill()?;
                starts.push(side.start()?.as_secs_f64() * 1e3);
                let kept = side.number("sum(sum_over_time(scrape_samples_scraped[1h]))", end)?;
                ensure!(kept >= stored, "after a kill {kept} samples of {stored} are there");
            }
            taken.detail.insert("restarts_ms", json!(starts));
            taken.put("restart", median(starts));
        }
        Ok(taken)
    }

    fn ask(&self, side: &Side, time: f64, taken: &mut Taken) -> Result<()> {
        if !self.arguments.wants("queries") && !self.arguments.wants("memory") {
            return Ok(());
        }
        let names = [["1,000", "1,000 range"], ["50,000", "50,000 range"]];
        for ((_, query), names) in QUERIES.iter().zip(names) {
            let times = if names[0] == "1,000" { [31, 15] } else { [5, 3] };
            for ((name, times), over) in names.into_iter().zip(times).zip([None, Some(300.0)]) {
                let took = (0..times).map(|_| side.query(query, time, over, GROUPS)).collect::<Result<Vec<f64>>>()?;
                taken.detail.insert(name, json!(took));
                taken.put(name, median(took));
            }
        }
        Ok(())
    }

    fn many(&mut self) -> Result<()> {
        let [ours, theirs] = self.both(|bench, mut side| {
            let target = Target::start(bench.load, MANY)?;
            side.scrape(&target, Duration::from_secs(10))?;
            side.start()?;
            let scrapes = if bench.arguments.quick { 6 } else { 18 };
            while target.lines()? < scrapes * MANY {
                std::thread::sleep(Duration::from_secs(1));
            }
            let mut taken = Taken::default();
            taken.put("series", side.usual_memory(20) * f64::from(1 << 20) / MANY as f64);
            taken.detail.insert("scrapes", json!(scrapes));
            Ok(taken)
        })?;
        let pair = (ours.get("series"), theirs.get("series"));
        let most = Reach::AtMost(1024.0);
        self.figure("many", "memory a series, 1,000,000 series at 10 s", "B", pair, most, [&ours, &theirs]);
        Ok(())
    }
}
