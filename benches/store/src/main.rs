//! Which engine holds the embedded store: group commit of small puts, each acknowledged only when it is on disk.
//!
//! ```text
//! 32 tasks ──▶ queue ──▶ one thread: all that waits ──▶ engine: one durable commit ──▶ answers
//! ```
//!
//! `redb` and `fjall` get the best that can be done around them: a group per commit, keys that ascend (the revision, as
//! etcd stores it), and no index to keep. `madang` is the whole embedded store, with comparison, index, watches and
//! checkpoints. `bare` is the floor: a write into a preallocated file and `fdatasync`, nothing else. `etcd` is a server of one
//! member on loopback, spoken to through the same interface as `madang`; it takes part when `MADANG_ETCD` names the program.
//! Engines take turns, and the disk's own time for a sync is taken before each.
//!
//! After that, how long `madang` takes to open what a small cluster holds: 10,000 objects of 1 KB and 1,000 of 5 KB.
//!
//! Usage: `cargo run --release -- [DIRECTORY [SECONDS [ROUNDS]]]`

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::{Outcome, Revision, Store, Txn, embedded};
use tokio::sync::oneshot;

const WRITERS: usize = 32;
const VALUE: usize = 1024;
const ENGINES: [&str; 5] = ["bare", "madang", "redb", "fjall", "etcd"];

fn main() {
    let mut args = std::env::args().skip(1);
    let base = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    let seconds: f64 = args.next().map_or(5.0, |text| text.parse().expect("seconds"));
    let rounds: usize = args.next().map_or(5, |text| text.parse().expect("rounds"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    println!("{WRITERS} writers, {VALUE} byte values, {seconds} s a run, {rounds} rounds");
    println!(
        "{:8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>14}",
        "engine", "puts/s", "p50 ms", "p99 ms", "max ms", "open ms", "disk MiB", "bytes/put", "sync p50/p99 ms"
    );
    for _ in 0..rounds {
        for engine in ENGINES {
            if engine == "etcd" && std::env::var_os("MADANG_ETCD").is_none() {
                continue;
            }
            let dir = tempfile::tempdir_in(&base).expect("temporary directory");
            let (p50, p99) = probe(dir.path());
            let line = runtime.block_on(run(engine, dir.path(), Duration::from_secs_f64(seconds)));
            println!("{line} {:>6.2} /{:>6.2}", p50 * 1e3, p99 * 1e3);
        }
    }
    for checkpoint in [false, true] {
        let dir = tempfile::tempdir_in(&base).expect("temporary directory");
        open(dir.path(), checkpoint, &runtime);
    }
}

/// Opens the objects of a small cluster ten times, from the log or from a checkpoint.
fn open(dir: &Path, checkpoint: bool, runtime: &tokio::runtime::Runtime) {
    let open = || embedded::Engine::open_blocking(dir, embedded::Options::default()).expect("open");
    let engine = open();
    runtime.block_on(async {
        let mut seed = 1;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..11_000 {
            let (kind, values) = if number < 10_000 { ("configmaps", 1) } else { ("pods", 5) };
            let value: Vec<u8> = (0..values).flat_map(|_| random(&mut seed)).collect();
            let txn = Txn::put(format!("/registry/{kind}/default/object-{number:05}"), value, Revision::ABSENT);
            let engine = engine.clone();
            tasks.spawn(async move { engine.commit(txn).await.expect("commit") });
        }
        tasks.join_all().await;
        if checkpoint {
            engine.backup(&mut tokio::io::sink()).await.expect("backup");
        }
    });
    drop(engine);
    let mut times: Vec<f64> = (0..10)
        .map(|_| {
            let begun = Instant::now();
            let engine = open();
            let took = begun.elapsed().as_secs_f64() * 1e3;
            assert_eq!(engine.stats().keys, 11_000);
            took
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let from = if checkpoint { "a checkpoint" } else { "the log" };
    println!("open 11,000 objects (15 MB) from {from}: median {:.1} ms, worst {:.1} ms of 10", times[5], times[9]);
}

/// How long the disk takes to sync a group of 32 KiB in a preallocated file: median and 99th percentile, in seconds.
fn probe(dir: &Path) -> (f64, f64) {
    let file = preallocated(&dir.join("probe"), 16 << 20);
    let group = vec![7u8; 32 << 10];
    let mut times: Vec<f64> = (0..400)
        .map(|turn| {
            file.write_all_at(&group, turn * group.len() as u64).expect("write");
            let begun = Instant::now();
            file.sync_data().expect("sync");
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    fs::remove_file(dir.join("probe")).expect("remove");
    (times[200], times[396])
}

fn preallocated(path: &Path, length: u64) -> File {
    let file = File::create(path).expect("create");
    let zeros = vec![0; 1 << 20];
    for at in (0..length).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).expect("write");
    }
    file.sync_all().expect("sync");
    file
}

async fn run(engine: &'static str, dir: &Path, time: Duration) -> String {
    let put = Arc::new(Put::open(engine, dir));
    let number = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (put, number) = (put.clone(), number.clone());
        tasks.push(tokio::spawn(async move {
            let mut seed = writer as u64 + 1;
            let mut latencies = Vec::new();
            while begun.elapsed() < time {
                let key = format!("/registry/configmaps/default/object-{:010}", number.fetch_add(1, Ordering::Relaxed));
                let value = random(&mut seed);
                let asked = Instant::now();
                put.put(key, value).await;
                latencies.push(asked.elapsed().as_secs_f64());
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("writer"));
    }
    let took = begun.elapsed().as_secs_f64();
    drop(put);
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] * 1e3;
    let size = size(dir);
    let begun = Instant::now();
    let opened = Put::open(engine, dir);
    let open = begun.elapsed().as_secs_f64() * 1e3;
    drop(opened);
    format!(
        "{engine:8} {:>9.0} {:>8.2} {:>8.2} {:>8.1} {:>8.1} {:>9.1} {:>9.0}",
        latencies.len() as f64 / took,
        at(0.5),
        at(0.99),
        at(1.0),
        open,
        size as f64 / (1 << 20) as f64,
        size as f64 / latencies.len() as f64,
    )
}

/// Bytes that do not compress.
fn random(seed: &mut u64) -> Bytes {
    let mut value = Vec::with_capacity(VALUE);
    while value.len() < VALUE {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        value.extend_from_slice(&seed.to_le_bytes());
    }
    value.into()
}

fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        let data = fs::symlink_metadata(&path).expect("metadata");
        total += if data.is_dir() { size(&path) } else { data.blocks() * 512 };
    }
    total
}

/// Something that puts durably.
enum Put {
    Store(Store, #[expect(dead_code, reason = "ends the server when it is dropped")] Option<Server>),
    Group(Group),
}

impl Put {
    fn open(engine: &str, dir: &Path) -> Self {
        match engine {
            "madang" => {
                let engine = embedded::Engine::open_blocking(&dir.join("store"), embedded::Options::default());
                Self::Store(Store::Embedded(engine.expect("open")), None)
            }
            "etcd" => {
                let server = Server::start(dir);
                let connect = Store::etcd(std::slice::from_ref(&server.endpoint));
                let store = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connect));
                Self::Store(store.expect("connect"), Some(server))
            }
            "redb" => {
                const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("revisions");
                let database = redb::Database::create(dir.join("redb")).expect("open redb");
                Self::Group(Group::start(move |group| {
                    let txn = database.begin_write().expect("begin");
                    {
                        let mut table = txn.open_table(TABLE).expect("table");
                        for (revision, record) in group {
                            table.insert(*revision, record.as_slice()).expect("insert");
                        }
                    }
                    txn.commit().expect("commit");
                }))
            }
            "fjall" => {
                let database = fjall::Database::builder(dir.join("fjall")).open().expect("open fjall");
                let keyspace = database.keyspace("revisions", fjall::KeyspaceCreateOptions::default).expect("keyspace");
                Self::Group(Group::start(move |group| {
                    let mut batch = database.batch().durability(Some(fjall::PersistMode::SyncData));
                    for (revision, record) in group {
                        batch.insert(&keyspace, revision.to_be_bytes(), record.as_slice());
                    }
                    batch.commit().expect("commit");
                }))
            }
            _ => {
                let length = 64 << 20;
                let path = dir.join("bare");
                let file = if path.exists() {
                    File::options().write(true).open(path).expect("open")
                } else {
                    preallocated(&path, length)
                };
                let (mut at, mut buffer) = (0, Vec::new());
                Self::Group(Group::start(move |group| {
                    buffer.clear();
                    group.iter().for_each(|(_, record)| buffer.extend_from_slice(record));
                    buffer.resize(buffer.len().next_multiple_of(4096), 0);
                    if at + buffer.len() as u64 > length {
                        at = 0;
                    }
                    file.write_all_at(&buffer, at).expect("write");
                    file.sync_data().expect("sync");
                    at += buffer.len() as u64;
                }))
            }
        }
    }

    async fn put(&self, key: String, value: Bytes) {
        match self {
            Self::Store(store, _) => {
                let outcome = store.commit(Txn::put(key, value, Revision::ABSENT)).await.expect("commit");
                assert!(matches!(outcome, Outcome::Committed(_)));
            }
            Self::Group(group) => group.put(&key, &value).await,
        }
    }
}

/// An etcd of one member.
struct Server {
    endpoint: String,
    child: Child,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
        let (client, peer) = (free(), free());
        let (endpoint, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(std::env::var_os("MADANG_ETCD").expect("MADANG_ETCD"))
            .args(["--name", "bench", "--log-level", "error", "--quota-backend-bytes", "8589934592", "--data-dir"])
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start etcd");
        while std::net::TcpStream::connect(client).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { endpoint, child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Waiting = Vec<(Vec<u8>, oneshot::Sender<()>)>;

/// Group commit around an engine, as the embedded store does it.
struct Group {
    queue: Arc<Queue>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<(Waiting, bool)>,
    arrived: Condvar,
}

impl Group {
    fn start(mut commit: impl FnMut(&[(u64, Vec<u8>)]) + Send + 'static) -> Self {
        let queue = Arc::new(Queue::default());
        let taken = queue.clone();
        let thread = std::thread::spawn(move || {
            let mut revision = 0;
            loop {
                let waiting = {
                    let mut state = taken.state.lock().expect("lock");
                    while state.0.is_empty() {
                        if state.1 {
                            return;
                        }
                        state = taken.arrived.wait(state).expect("lock");
                    }
                    std::mem::take(&mut state.0)
                };
                let (mut group, mut replies) = (Vec::new(), Vec::new());
                for (record, reply) in waiting {
                    revision += 1;
                    group.push((revision, record));
                    replies.push(reply);
                }
                commit(&group);
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        });
        Self { queue, thread: Some(thread) }
    }

    async fn put(&self, key: &str, value: &[u8]) {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.queue.state.lock().expect("lock");
            state.0.push(([key.as_bytes(), value].concat(), reply));
            if state.0.len() == 1 {
                self.queue.arrived.notify_one();
            }
        }
        answer.await.expect("answer");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.queue.state.lock().expect("lock").1 = true;
        self.queue.arrived.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("writer thread");
        }
    }
}
