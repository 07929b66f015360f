//! What a scrape costs between socket and log: `cargo bench -p metrics --bench scrape [SERIES [ROUNDS]]`.
//!
//! Text of 100,000 series, 150 bytes a line, half integer counters, a quarter walks with two decimals, the rest constant or
//! random, goes through the ledger into a data base, in pieces as a socket gives them. Printed are nanoseconds of processor
//! time a sample: of all that, and of reading alone, into a ledger whose samples are given up.

use std::{fmt::Write, fs};

use metrics::{
    format::negotiate::Format,
    scrape::{fetch::Intake, ledger::Ledger, terms::Terms},
    storage::Storage,
};
use tsdb::{Db, labels::Labels, options::Options};

/// Bytes that come at once.
const PIECE: usize = 256 << 10;

/// Processor time of this process in nanoseconds.
fn processor() -> u64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own: u64 = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
    own
}

/// The answer of a target at one moment.
fn answer(series: usize, round: u64) -> String {
    let mut text = String::with_capacity(series * 152);
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for i in 0..series {
        let begin = text.len();
        if i % 1000 == 0 {
            let _ = writeln!(text, "# TYPE metric_{:03} untyped", i / 1000);
        }
        let line = text.len();
        let _ = write!(
            text,
            "metric_{:03}{{namespace=\"namespace-{:02}\",pod=\"pod-{:06}-abcdefgh\",container=\"main\",instance_of=\"something\",",
            i / 1000,
            i % 50,
            i
        );
        let pad = 136usize.saturating_sub(text.len() - line + 7);
        let _ = write!(text, "pad=\"{}\"}} ", "x".repeat(pad));
        let _ = match i % 8 {
            0..=3 => writeln!(text, "{}", round * (i as u64 % 97 + 1)),
            4 | 5 => writeln!(text, "{:.2}", 100.0 + (random() % 10_000) as f64 / 100.0),
            6 => writeln!(text, "1"),
            _ => writeln!(text, "{}", random() as f64 / u64::MAX as f64),
        };
        debug_assert!(text.len() > begin);
    }
    text
}

fn take(ledger: &mut Ledger, text: &str, time: i64) {
    ledger.begin(time);
    let mut intake = Intake::new(Ok(Format::Text), None);
    for piece in text.as_bytes().chunks(PIECE) {
        intake.take(piece, ledger).expect("the answer is sound");
    }
    intake.finish(ledger).expect("the answer is whole");
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let series = arguments.next().unwrap_or(100_000) as usize;
    let rounds = arguments.next().unwrap_or(50);
    let dir = tempfile::tempdir().expect("a directory");
    let (db, _) = Db::open(dir.path(), Options::default()).expect("a data base");
    let storage = Storage::new(db);
    let mut ledger = Ledger::new(Terms::new(Labels::from_pairs([("job", "bench"), ("instance", "127.0.0.1:1")])));
    let answers: Vec<String> = (1..=8).map(|round| answer(series, round)).collect();
    let start = 1_700_000_000_000;
    take(&mut ledger, &answers[0], start);
    ledger.commit(&storage, false, &[("up", 1.0)]).expect("a commit");
    let (mut whole, mut reading) = (0, 0);
    for round in 1..=rounds {
        let text = &answers[round as usize % answers.len()];
        let time = start + round as i64 * 1000;
        let before = processor();
        take(&mut ledger, text, time);
        ledger.commit(&storage, false, &[("up", 1.0)]).expect("a commit");
        whole += processor() - before;
        let before = processor();
        take(&mut ledger, text, time);
        reading += processor() - before;
        ledger.abandon();
    }
    let samples = rounds as f64 * series as f64;
    println!("bytes a line: {:.1}", answers[0].len() as f64 / series as f64);
    println!("read and stored: {:.1} ns a sample", whole as f64 / samples);
    println!("read alone: {:.1} ns a sample", reading as f64 / samples);
}
