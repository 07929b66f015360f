//! A process that is killed while it writes: what it acknowledged is there.
//!
//! The test starts itself again as the writer, in a directory that it names in an environment variable; the writer
//! prints the number of each round that was committed.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tsdb::{
    Db,
    batch::{Batch, Durability},
    column::Value,
    labels::Labels,
    options::Options,
};

use crate::world::{Random, select, small};

const DIRECTORY: &str = "TSDB_TEST_DIRECTORY";
const SERIES: i64 = 40;

fn value(series: i64, round: i64) -> f64 {
    (series * 1_000_003 + round * 17) as f64 / 4.0
}

fn options() -> Options {
    Options { flush: 300, out_of_order: Duration::from_secs(5), ..small() }
}

/// Not a test of its own: the writer.
#[test]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let (db, report) = Db::open(directory.as_ref(), options()).expect("the data base opens");
    assert_eq!(report.losses, []);
    let names: Vec<Labels> = (0..SERIES).map(|n| Labels::from_pairs([("n", n.to_string())])).collect();
    let mut references = db.series_of(&names).expect("there is room");
    let seen = select(&db, &[], i64::MIN, i64::MAX);
    let mut round =
        seen.iter().flat_map(|series| series.1.last()).map(|sample| sample.0 / 100).max().map_or(0, |last| last + 1);
    loop {
        if round % 64 == 0 {
            references = db.series_of(&names).expect("there is room");
        }
        let mut batch = Batch::default();
        for (series, reference) in references.iter().enumerate() {
            batch.float(*reference, round * 100, value(series as i64, round));
        }
        let durability = if round % 7 == 0 { Durability::Synced } else { Durability::Logged };
        let outcome = db.commit(&batch, durability).expect("the commit succeeds");
        assert_eq!(outcome.stored, SERIES as usize, "{outcome:?}");
        println!("round {round}");
        round += 1;
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = TempDir::new().expect("there is a place for temporary files");
    let mut random = Random::new(31);
    let mut acknowledged = -1;
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this program has a name"))
            .args(["--exact", "crash::writer", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the writer starts");
        let lines = BufReader::new(child.stdout.take().expect("it has an output")).lines();
        let until = 20 + random.below(400);
        for (nth, line) in
            lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("round ")?.parse().ok()).enumerate()
        {
            let line: i64 = line;
            acknowledged = acknowledged.max(line);
            if nth as u64 == until {
                child.kill().expect("it is killed");
            }
        }
        child.wait().expect("it ends");
        let (db, report) = Db::open(directory.path(), options()).expect("the data base opens");
        assert!(report.losses.len() <= 1, "a torn record at the most: {:?}", report.losses);
        let all = select(&db, &[], i64::MIN, i64::MAX);
        assert_eq!(all.len(), SERIES as usize);
        for (labels, samples) in &all {
            let series: i64 = labels.get("n").parse().expect("it is a number");
            assert!(samples.len() as i64 > acknowledged, "{} of {} samples", samples.len(), acknowledged + 1);
            for (round, (time, have)) in samples.iter().enumerate() {
                let round = round as i64;
                assert_eq!(*time, round * 100);
                assert!(have.same(&Value::Float(value(series, round))));
            }
        }
    }
    assert!(acknowledged > 500, "only {acknowledged} rounds");
}
