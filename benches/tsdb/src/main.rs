//! What storing samples costs: CPU and bytes a sample, memory a series, the time of a start after a kill.
//!
//! ```text
//!   this program ── write DIR SERIES ROUNDS ──▶ one target's scrapes, one second apart, then an end without closing
//!                ── open DIR                ──▶ how long a start takes
//!                ── read DIR                ──▶ how fast series are read
//!                ── ask DIR                 ──▶ how fast the queries of `cargo xtask bench metrics` are answered
//!                ── pack DIR                ──▶ bytes of a block of all of it
//!                ── export DIR TO           ──▶ blocks of Prometheus, to be looked at with its tools
//! ```
//!
//! The load: half whole counters, a quarter walks with two decimals, 15% constant, 10% random; labels of 130 bytes. Scrapes come as fast as flushes keep up: it is CPU that is measured, and nothing of it is for text or network.
//!
//! Usage: `cargo run --release -- [SERIES [ROUNDS]]`, 100,000 and 470 at first.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tsdb::{
    Db, SeriesRef,
    batch::{Batch, Durability},
    column::Columns,
    labels::Labels,
    matcher::Matcher,
    options::Options,
    select::Cursor,
};

const START: i64 = 1_700_000_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |text| text.parse().expect("a number"));
    match args.first().map(String::as_str) {
        Some("write") => write(args[1].as_ref(), number(2, 0), number(3, 0)),
        Some("open") => open(args[1].as_ref()),
        Some("read") => read(args[1].as_ref(), number(2, 0)),
        Some("ask") => ask(args[1].as_ref(), number(2, 0)),
        Some("pack") => pack(args[1].as_ref()),
        Some("export") => export(args[1].as_ref(), args[2].as_ref()),
        _ => all(number(0, 100_000), number(1, 470)),
    }
}

fn all(series: u64, rounds: u64) {
    let place = tempfile::tempdir_in(".").expect("there is a place for the data");
    let dir = place.path().to_str().expect("its name is text").to_owned();
    let run = |args: &[&str]| {
        let program = std::env::current_exe().expect("this program has a name");
        let _ended_by_itself = Command::new(program).args(args).status().expect("it starts");
    };
    run(&["write", &dir, &series.to_string(), &rounds.to_string()]);
    let head = bytes(place.path());
    println!("log and head {:.2} bytes a sample", head as f64 / (series * rounds) as f64);
    run(&["open", &dir]);
    run(&["open", &dir]);
    run(&["read", &dir, &rounds.to_string()]);
    run(&["ask", &dir, &rounds.to_string()]);
    run(&["pack", &dir]);
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        if path.is_dir() { bytes(&path) } else { path.metadata().map_or(0, |metadata| metadata.len()) }
    };
    entries.map(size).sum()
}

/// CPU time of this process so far, of all its threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("it is told");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("it has fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Memory of this process in KiB: now, and at the most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is told");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("it is there");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// The series of a metric stand together, as in a target's answer.
fn labels(nth: u64, series: u64) -> Labels {
    let each = (series / 100).max(1);
    let metric = match nth / each {
        metric if metric % 20 < 10 => format!("bench_counter_{metric:03}_total"),
        metric => format!("bench_level_{metric:03}"),
    };
    let group = nth % each;
    Labels::from_pairs([
        ("__name__", metric),
        ("instance", "127.0.0.1:9100".to_owned()),
        ("job", "bench".to_owned()),
        ("ns", format!("namespace-{}", group % 20)),
        ("pod", format!("deployment-{}-{:05x}", group % 50, group)),
        ("container", format!("container-{}", group % 5)),
    ])
}

struct Load {
    state: u64,
    values: Vec<f64>,
}

impl Load {
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn next(&mut self, nth: usize) -> f64 {
        let random = self.random();
        let before = self.values[nth];
        let metric = nth / (self.values.len() / 100).max(1);
        self.values[nth] = match metric % 20 {
            0..10 => before + (random % 50) as f64,
            10..15 => ((before * 100.0).round() + (random % 201) as f64 - 100.0) / 100.0,
            15..18 => 42.0,
            _ => (random >> 11) as f64 / (1u64 << 53) as f64,
        };
        self.values[nth]
    }
}

fn write(dir: &Path, series: u64, rounds: u64) {
    let begun = Instant::now();
    let (db, _) = Db::open(dir, Options::default()).expect("it opens");
    println!("empty start {:.1} ms, then {} KiB", begun.elapsed().as_secs_f64() * 1e3, memory().0);
    let names: Vec<Labels> = (0..series).map(|nth| labels(nth, series)).collect();
    let begun = Instant::now();
    let references: Vec<SeriesRef> = db.series_of(&names).expect("there is room");
    println!("series made {:.2} us each", begun.elapsed().as_secs_f64() * 1e6 / series as f64);
    drop(names);
    let mut load = Load { state: 88_172_645_463_325_252, values: vec![1000.0; series as usize] };
    let mut batch = Batch::default();
    let mut spent = Duration::ZERO;
    let before = cpu();
    for round in 0..rounds {
        let begun = Instant::now();
        batch.clear();
        for (nth, reference) in references.iter().enumerate() {
            batch.float(*reference, START + round as i64 * 1000, load.next(nth));
        }
        spent += begun.elapsed();
        db.commit(&batch, Durability::Logged).expect("the commit succeeds");
        // With a second between scrapes, a flush has long ended when the next one is due.
        while round % 8 == 0 && db.sizes().samples > 2_500_000.max(24 * series) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let used = cpu().saturating_sub(before).saturating_sub(spent);
    let samples = series * rounds;
    println!("CPU {:.3} us a sample, flushes and merges included", used.as_secs_f64() * 1e6 / samples as f64);
    drop((batch, load, references));
    let (now, most) = memory();
    println!(
        "memory {} MiB, at the most {} MiB; {:.0} bytes a series",
        now >> 10,
        most >> 10,
        (now << 10) as f64 / series as f64
    );
    // What is committed is in the kernel; nothing is closed.
    std::process::abort();
}

fn open(dir: &Path) {
    let begun = Instant::now();
    let (db, report) = Db::open(dir, Options::default()).expect("it opens");
    let took = begun.elapsed();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    println!(
        "start {:.0} ms ({:.0} ms of CPU): {} series, {} samples of the log, {} segments; {} MiB",
        took.as_secs_f64() * 1e3,
        cpu().as_secs_f64() * 1e3,
        report.series,
        report.replayed,
        db.sizes().segments,
        memory().0 >> 10,
    );
    std::process::abort();
}

fn read(dir: &Path, rounds: u64) {
    let (db, _) = Db::open(dir, Options::default()).expect("it opens");
    let end = START + rounds as i64 * 1000;
    let metric = |pattern: &str| -> Vec<Matcher> {
        vec![Matcher::new(tsdb::matcher::Op::Regex, "__name__", pattern).expect("it is sound")]
    };
    for (name, matchers, range) in [
        ("one metric, 1 m", metric("bench_counter_000_total"), 60),
        ("half of all, 5 m", metric("bench_counter_.+"), 300),
        ("all, everything", Vec::new(), 1 << 20),
    ] {
        for _ in 0..2 {
            let begun = Instant::now();
            let selection = db.select(&matchers, end - range * 1000, end).expect("the selection succeeds");
            let selected = begun.elapsed();
            let (mut cursor, mut columns, mut samples) = (Cursor::default(), Columns::default(), 0);
            for nth in 0..selection.len() {
                selection.read(nth, &mut cursor, &mut columns).expect("it is read");
                samples += columns.len();
            }
            let took = begun.elapsed();
            println!(
                "read {name}: {} series, {samples} samples in {:.2} ms, {:.2} ms of it to select; {:.1} ns a sample",
                selection.len(),
                took.as_secs_f64() * 1e3,
                selected.as_secs_f64() * 1e3,
                took.as_secs_f64() * 1e9 / samples as f64,
            );
        }
    }
    std::process::abort();
}

fn ask(dir: &Path, rounds: u64) {
    let (db, _) = Db::open(dir, Options::default()).expect("it opens");
    let end = START + rounds as i64 * 1000 - 500;
    let options = promql::eval::Options::default();
    for (query, runs) in [
        ("sum by (ns) (rate(bench_counter_000_total[1m]))", 31),
        ("sum by (ns) (rate({__name__=~\"bench_counter_.+\"}[5m]))", 5),
    ] {
        let expr = promql::parse::parse(query, options.features).expect("it is sound");
        let median = |run: &dyn Fn()| {
            let mut times: Vec<f64> = (0..runs)
                .map(|_| {
                    let begun = Instant::now();
                    run();
                    begun.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let instant = median(&|| {
            std::hint::black_box(promql::eval::instant(&db, &expr, end, &options).expect("it is answered"));
        });
        let range = median(&|| {
            let outcome = promql::eval::range(&db, &expr, end - 300_000, end, 5_000, &options);
            std::hint::black_box(outcome.expect("it is answered"));
        });
        println!("{query}: instant {instant:.2} ms, 61 steps {range:.2} ms; {} MiB", memory().0 >> 10);
    }
    std::process::abort();
}

fn pack(dir: &Path) {
    let (db, _) = Db::open(dir, Options::default()).expect("it opens");
    let begun = cpu();
    let copy = db.snapshot(true).expect("the snapshot succeeds");
    let used = cpu().saturating_sub(begun);
    let size = bytes(&copy);
    let (db, _) = Db::open(&copy, Options::default()).expect("the copy opens");
    let samples: u64 = db.block_list().iter().map(|block| block.samples).sum();
    println!(
        "block {:.2} bytes a sample of {samples}, made with {:.3} us of CPU each",
        size as f64 / samples as f64,
        used.as_secs_f64() * 1e6 / samples as f64,
    );
}

fn export(dir: &Path, to: &Path) {
    let (db, _) = Db::open(dir, Options::default()).expect("it opens");
    let begun = cpu();
    let blocks = db.export(to, i64::MIN, i64::MAX).expect("the export succeeds");
    let used = cpu().saturating_sub(begun);
    println!("{} blocks, {} bytes, {:.1} s of CPU", blocks.len(), bytes(to), used.as_secs_f64());
}
