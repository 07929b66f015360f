//! Acknowledged survives `kill -9`.
//!
//! A child process, this very test binary, writes from several tasks and tells over a pipe what was acknowledged. It is
//! killed at a random moment, again and again, always on the same directory. What each task does is a function of its
//! counter, so that the parent knows every value and revision that must be there, and the only one that may be there
//! without having been acknowledged: the next of each task.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::{Event, Op, Outcome, Revision, Store, Txn, embedded::Options};

const DIR: &str = "MADANG_TEST_STORE";
const KILLS: u32 = 220;
const TASKS: u64 = 8;
const KEYS: u64 = 20;

/// Small enough that checkpoints, new segments and segments used again all come many times.
fn options() -> Options {
    Options { checkpoint_bytes: 2 << 20, ..Options::default() }
}

/// What task `task` does as its step `step`: the key, and the value that it puts unless it deletes.
fn step(task: u64, step: u64) -> (Arc<str>, Option<Bytes>) {
    let mut seed = (task << 32 | step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("/task/{task}/{}", random(&mut seed) % KEYS).into();
    let length = 16 + random(&mut seed) % 3000;
    let value: Bytes = (0..length).map(|_| random(&mut seed) as u8).collect();
    (key, (!step.is_multiple_of(7)).then_some(value))
}

fn counter(task: u64) -> Arc<str> {
    format!("/counter/{task}").into()
}

/// The transaction of a step: it also writes the counter.
fn txn(task: u64, number: u64) -> Txn {
    let count = Op::Put { key: counter(task), value: number.to_string().into() };
    let op = match step(task, number) {
        (key, Some(value)) => Op::Put { key, value },
        (key, None) => Op::Delete { key },
    };
    Txn { compare: vec![], ops: vec![count, op] }
}

/// The next number of a seeded sequence.
pub fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

async fn count(store: &Store, task: u64) -> u64 {
    let (entry, _) = store.get(&counter(task)).await.expect("get");
    entry.map_or(0, |entry| std::str::from_utf8(&entry.value).expect("text").parse().expect("number"))
}

/// Not a test of its own: what the child does. Without a directory to write to it ends at once.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let store = Store::embedded(Path::new(&dir), options()).await.expect("open");
        let begun = store.revision().await.expect("revision");
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let store = store.clone();
            tasks.spawn(async move {
                let mut number = count(&store, task).await;
                loop {
                    number += 1;
                    let outcome = store.commit(txn(task, number)).await.expect("commit");
                    let Outcome::Committed(revision) = outcome else { panic!("conflict") };
                    // One write, so that a line is told whole or not at all.
                    let line = format!("acknowledged {task} {number} {revision}\n");
                    std::io::stdout().write_all(line.as_bytes()).expect("tell");
                }
            });
        }
        // The parent watches from where this began, so that the past before it may go.
        let _ = store.compact(begun).await;
        while tasks.join_next().await.is_some() {}
    });
}

#[test]
fn every_acknowledged_revision_survives_being_killed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let mut seed = 20_260_921;
    let mut model = Model::default();
    let (mut acknowledged, begun) = (0, Instant::now());
    for _ in 0..KILLS {
        let told = run_and_kill(dir.path(), Duration::from_micros(random(&mut seed) % 60_000));
        acknowledged += told.len();
        runtime.block_on(model.check(dir.path(), told));
    }
    println!("{KILLS} kills, {acknowledged} acknowledged transactions, all there, in {:?}", begun.elapsed());
    assert!(acknowledged > KILLS as usize * 10, "too few transactions to mean anything: {acknowledged}");
}

/// A step that was acknowledged: task, number, revision.
pub type Told = (u64, u64, u64);

/// Starts the child, lets it write for a while, kills it; what it told.
pub fn run_and_kill(dir: &Path, time: Duration) -> Vec<Told> {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["--exact", "crash::child", "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the child");
    let mut output = BufReader::new(child.stdout.take().expect("pipe"));
    let mut lines = String::new();
    // Wait until it writes; the reading goes on in a thread, so that a full pipe does not hold it up.
    while !lines.contains("acknowledged ") {
        if output.read_line(&mut lines).expect("read") == 0 {
            let mut error = String::new();
            child.stderr.take().expect("pipe").read_to_string(&mut error).expect("read");
            child.wait().expect("wait");
            panic!("the child ended by itself: {lines}{error}");
        }
    }
    let reading = std::thread::spawn(move || {
        output.read_to_string(&mut lines).expect("read");
        lines
    });
    std::thread::sleep(time);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let lines = reading.join().expect("reader");
    let told = lines.lines().filter_map(|line| line.split_once("acknowledged ")).map(|(_, numbers)| {
        let mut numbers = numbers.split(' ').map(|number| number.parse().expect("number"));
        let mut next = || numbers.next().expect("three numbers");
        (next(), next(), next())
    });
    told.collect()
}

/// What must be in the store.
#[derive(Default)]
pub struct Model {
    /// The last step of each task.
    steps: HashMap<u64, u64>,
    /// The entries: value and revision.
    entries: HashMap<Arc<str>, (Bytes, u64)>,
    revision: u64,
}

impl Model {
    /// Opens the store and compares all of it with what was told.
    pub async fn check(&mut self, dir: &Path, told: Vec<Told>) {
        let store = Store::embedded(dir, options()).await.expect("open after being killed");
        let revision = store.revision().await.expect("revision").get();

        // Every revision since the last time, in order, is a step of a task: those told of, and at most one more each.
        let before = self.revision.max(Revision::INITIAL.get());
        let mut watch = store.watch("/counter/", Revision::new(before)).await.expect("watch");
        let mut steps: HashMap<u64, Told> = HashMap::new();
        let mut last = before;
        while last < revision {
            for event in watch.next().await.expect("next batch").events {
                let Event::Put { entry, .. } = event else { panic!("a counter was deleted") };
                assert_eq!(entry.mod_revision.get(), last + 1, "a revision is missing");
                last += 1;
                let task = entry.key.strip_prefix("/counter/").expect("a counter").parse().expect("number");
                let number = std::str::from_utf8(&entry.value).expect("text").parse().expect("number");
                steps.insert(last, (task, number, last));
            }
        }
        for told in &told {
            assert_eq!(steps.get(&told.2), Some(told), "an acknowledged revision is not there");
        }
        let mut ordered: Vec<_> = steps.into_values().collect();
        ordered.sort_unstable_by_key(|(_, _, revision)| *revision);
        for (task, number, revision) in ordered {
            let known = self.steps.entry(task).or_default();
            assert_eq!(number, *known + 1, "a step of task {task} is missing");
            *known = number;
            match step(task, number) {
                (key, Some(value)) => drop(self.entries.insert(key, (value, revision))),
                (key, None) => drop(self.entries.remove(&key)),
            }
        }
        for (task, number) in told.iter().map(|(task, number, _)| (task, number)) {
            assert!(self.steps[task] >= *number);
        }
        self.revision = revision;

        let page = store.range("/task/", None, None, 0).await.expect("range");
        assert_eq!(page.entries.len(), self.entries.len());
        for entry in page.entries {
            let (value, revision) = self.entries.get(&entry.key).expect("an entry that should be gone");
            assert_eq!((&entry.value, entry.mod_revision.get()), (value, *revision), "{}", entry.key);
        }
    }
}
