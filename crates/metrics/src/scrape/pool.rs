//! The targets of a job: groups come from discovery, relabelling decides, tasks start and end.
//!
//! ```text
//! groups ──▶ all groups of the job ── decide ──▶ wanted targets ── compare with those that run ──▶ start, keep, end
//! ```
//!
//! One task owns a pool. Groups that come close after each other are taken together.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use task::Task;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tsdb::{batch::Durability, histogram::MAX_SCHEMA, labels::Labels};

use super::{
    counts::{Counts, Fault},
    cycle::{Cycle, Order, Status},
    fetch::Fetch,
    ledger::Ledger,
    target::{Fate, Group, Plan, decide},
    terms::Terms,
};
use crate::{
    config::scrape::Scrape,
    discover::{self, Cluster},
    format::protobuf,
    http_client::Client,
    storage::Storage,
};

/// How long groups are waited for that may follow others.
const QUIET: Duration = Duration::from_millis(100);
/// How long they are waited for at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Groups that wait to be taken.
const WAITING: usize = 256;
/// Targets of a job at most, whatever is configured.
const TARGETS: usize = 100_000;

/// What holds for all pools.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where samples go.
    pub storage: Storage,
    /// When a commit is done.
    pub durability: Durability,
    /// Whether counters that say when they began get a zero there.
    pub starts: bool,
    /// Whether targets that begin from now on store descriptions with their series.
    pub metadata: Arc<AtomicBool>,
    /// What is told at `/metrics`.
    pub counts: Arc<Counts>,
    /// What spreads ticks of several servers.
    pub seed: u64,
    /// The cluster that this runs in.
    pub cluster: Option<Cluster>,
}

/// A file where failed scrapes are logged.
#[derive(Debug)]
pub struct FailureLog(Mutex<File>);

impl FailureLog {
    /// Opens the file to write at its end.
    pub fn open(path: &str) -> std::io::Result<Self> {
        File::options().append(true).create(true).open(path).map(|file| Self(Mutex::new(file)))
    }

    /// Notes a failure.
    pub fn write(&self, plan: &Plan, error: &str) {
        let line = serde_json::json!({
            "time": jiff::Timestamp::now().to_string(),
            "level": "ERROR",
            "msg": error,
            "job_name": plan.discovered.get("job"),
            "target": plan.url,
        });
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "scrape failure log");
        }
    }
}

/// A target that is scraped.
#[derive(Clone, Debug)]
pub struct Active {
    /// How.
    pub plan: Arc<Plan>,
    /// How it does.
    pub status: Arc<Status>,
}

/// What others may see of a pool.
#[derive(Debug, Default)]
pub struct Seen {
    /// Targets that are scraped.
    pub active: Vec<Active>,
    /// Some of those that relabelling dropped.
    pub dropped: Vec<Labels>,
    /// How many it dropped.
    pub dropped_count: usize,
    /// How many were discovered.
    pub discovered: usize,
}

/// A handle to a pool.
#[derive(Debug)]
pub struct Pool {
    jobs: watch::Sender<Arc<Scrape>>,
    seen: Arc<RwLock<Seen>>,
    task: Task,
    removed: watch::Sender<bool>,
}

impl Pool {
    /// Starts a pool.
    pub fn start(task: &Task, job: Arc<Scrape>, common: Common) -> Self {
        let task = task.child(&job.job_name);
        let (jobs, changes) = watch::channel(job);
        let (removed, removal) = watch::channel(false);
        let seen: Arc<RwLock<Seen>> = Arc::default();
        let owner = Owner {
            task: task.clone(),
            common,
            seen: seen.clone(),
            groups: BTreeMap::new(),
            running: HashMap::new(),
            forbidden: Arc::default(),
        };
        task.spawn_until_cancelled("pool", owner.run(changes, removal));
        Self { jobs, seen, task, removed }
    }

    /// The job.
    pub fn job(&self) -> Arc<Scrape> {
        self.jobs.borrow().clone()
    }

    /// Changes the job.
    pub fn change(&self, job: Arc<Scrape>) {
        self.jobs.send_if_modified(|current| {
            let differs = **current != *job;
            if differs {
                *current = job;
            }
            differs
        });
    }

    /// What can be seen.
    pub fn see<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the targets: their series end two intervals later, unless they are scraped again by then.
    pub fn remove(&self) {
        self.removed.send_replace(true);
    }

    /// The task below which all of it runs.
    pub fn task(&self) -> &Task {
        &self.task
    }
}

struct Running {
    active: Active,
    orders: watch::Sender<Order>,
}

struct Owner {
    task: Task,
    common: Common,
    seen: Arc<RwLock<Seen>>,
    groups: BTreeMap<String, Group>,
    running: HashMap<(Labels, String), Running>,
    forbidden: Arc<RwLock<Option<String>>>,
}

impl Owner {
    async fn run(mut self, mut jobs: watch::Receiver<Arc<Scrape>>, mut removed: watch::Receiver<bool>) {
        let mut job = jobs.borrow_and_update().clone();
        let mut made = self.client(&job);
        let (mut sender, mut groups) = mpsc::channel::<Vec<Group>>(WAITING);
        let mut finding = self.discover(&job, &sender);
        self.sync(&job, &made);
        loop {
            tokio::select! {
                biased;
                gone = is_removed(&mut removed) => {
                    let order = if gone { Order::Gone } else { Order::Replaced };
                    finding.cancel();
                    for (_, running) in self.running.drain() {
                        running.orders.send_replace(order);
                    }
                    return;
                }
                changed = jobs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = jobs.borrow_and_update().clone();
                    if new.discovery != job.discovery {
                        finding.cancel();
                        self.groups.clear();
                        (sender, groups) = mpsc::channel(WAITING);
                        finding = self.discover(&new, &sender);
                    }
                    let same = Scrape { discovery: job.discovery.clone(), ..(*new).clone() } == *job;
                    job = new;
                    if !same {
                        made = self.client(&job);
                        for (_, running) in self.running.drain() {
                            running.orders.send_replace(Order::Replaced);
                        }
                    }
                    // Where discovery begins anew, targets stay until it has found some.
                    if self.groups.is_empty()
                        && let Ok(Some(found)) = tokio::time::timeout(PATIENCE, groups.recv()).await
                    {
                        self.take(found);
                        self.collect(&mut groups).await;
                    }
                    self.sync(&job, &made);
                }
                Some(found) = groups.recv() => {
                    self.take(found);
                    self.collect(&mut groups).await;
                    self.sync(&job, &made);
                }
            }
        }
    }

    fn client(&self, job: &Scrape) -> Made {
        for mechanism in job.discovery.unsupported() {
            tracing::error!(job = %job.job_name, mechanism, "this service discovery is not supported: it finds no targets");
        }
        let log = match job.scrape_failure_log_file.as_str() {
            "" => None,
            path => FailureLog::open(path)
                .inspect_err(|error| tracing::error!(job = %job.job_name, path, %error, "scrape failure log"))
                .ok()
                .map(Arc::new),
        };
        Made { client: Client::new(&job.http), rules: job.metric_relabel_configs.clone().into(), log }
    }

    fn discover(&self, job: &Scrape, sender: &mpsc::Sender<Vec<Group>>) -> Task {
        let task = self.task.child("discovery");
        let (cluster, failures) = (self.common.cluster.as_ref(), &self.common.counts.discovery);
        discover::start(&task, &job.job_name, &job.discovery, cluster, failures, sender);
        task
    }

    fn take(&mut self, found: Vec<Group>) {
        for group in found {
            if group.targets.is_empty() {
                self.groups.remove(&group.source);
            } else {
                self.groups.insert(group.source.clone(), group);
            }
        }
    }

    async fn collect(&mut self, groups: &mut mpsc::Receiver<Vec<Group>>) {
        let end = Instant::now() + PATIENCE;
        while let Ok(Some(found)) = tokio::time::timeout_at(end.min(Instant::now() + QUIET), groups.recv()).await {
            self.take(found);
        }
    }

    fn sync(&mut self, job: &Arc<Scrape>, made: &Made) {
        let started = Instant::now();
        let mut wanted: HashMap<(Labels, String), Box<Plan>> = HashMap::new();
        let mut dropped = Vec::new();
        let mut dropped_count = 0;
        let remembered = if job.keep_dropped_targets == 0 { usize::MAX } else { job.keep_dropped_targets as usize };
        for group in self.groups.values() {
            for (i, target) in group.targets.iter().enumerate() {
                match decide(target, &group.labels, job) {
                    Ok(Fate::Scraped(plan)) => {
                        if wanted.len() < TARGETS {
                            wanted.entry((plan.labels.clone(), plan.url.clone())).or_insert(plan);
                        }
                    }
                    Ok(Fate::Dropped(labels)) => {
                        dropped_count += 1;
                        if dropped.len() < remembered.min(TARGETS) {
                            dropped.push(labels);
                        }
                    }
                    Err(error) => {
                        self.common.counts.add(Fault::Sync, 1);
                        tracing::error!(job = %job.job_name, group = %group.source, instance = i, %error, "no target");
                    }
                }
            }
        }
        let limit = job.target_limit as usize;
        if limit > 0 && wanted.len() > limit {
            self.common.counts.add(Fault::TargetLimit, 1);
        }
        *self.forbidden.write().unwrap_or_else(PoisonError::into_inner) = (limit > 0 && wanted.len() > limit)
            .then(|| format!("target_limit exceeded (number of targets: {}, limit: {limit})", wanted.len()));
        self.running.retain(|key, running| match wanted.get(key) {
            Some(plan) if same(plan, &running.active.plan) => true,
            Some(_) => {
                running.orders.send_replace(Order::Replaced);
                false
            }
            None => {
                running.orders.send_replace(Order::Gone);
                false
            }
        });
        for (key, plan) in wanted {
            match self.running.get(&key) {
                Some(running) => running.active.status.set(|state| state.discovered.clone_from(&plan.discovered)),
                None => {
                    let running = self.begin(*plan, job, made);
                    self.running.insert(key, running);
                }
            }
        }
        let discovered = self.groups.values().map(|group| group.targets.len()).sum();
        let mut active: Vec<Active> = self.running.values().map(|running| running.active.clone()).collect();
        active.sort_by(|one, other| (&one.plan.url, &one.plan.labels).cmp(&(&other.plan.url, &other.plan.labels)));
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) =
            Seen { active, dropped, dropped_count, discovered };
        self.common.counts.synced(&job.job_name, started.elapsed());
    }

    fn begin(&self, plan: Plan, job: &Arc<Scrape>, made: &Made) -> Running {
        let (orders, ordered) = watch::channel(Order::Run);
        let status = Arc::new(Status::new(plan.discovered.clone()));
        let fetch = made.client.clone().and_then(|client| Fetch::new(client, &plan.url, plan.timeout, job));
        let terms = terms(&plan, job, made, &self.common);
        let plan = Arc::new(plan);
        let cycle = Cycle {
            plan: plan.clone(),
            fetch,
            ledger: Ledger::new(terms),
            storage: self.common.storage.clone(),
            status: status.clone(),
            forbidden: self.forbidden.clone(),
            extra: (job.extra_scrape_metrics == Some(true)).then_some(job.sample_limit as usize),
            seed: self.common.seed,
            counts: self.common.counts.clone(),
            failures: made.log.clone(),
        };
        let task = self.task.clone();
        self.task.spawn_until_cancelled("target", async move { cycle.run(task, ordered).await });
        Running { active: Active { plan, status }, orders }
    }
}

/// Resolves once the pool is removed, or nobody can remove it any more, which is false.
async fn is_removed(removed: &mut watch::Receiver<bool>) -> bool {
    removed.wait_for(|removed| *removed).await.is_ok()
}

struct Made {
    client: Result<Client, String>,
    rules: Arc<[crate::relabel::Rule]>,
    log: Option<Arc<FailureLog>>,
}

/// Whether a target is scraped in the same way, whatever discovery says of it besides.
fn same(one: &Plan, other: &Plan) -> bool {
    Plan { discovered: other.discovered.clone(), ..one.clone() } == *other
}

fn terms(plan: &Plan, job: &Scrape, made: &Made, common: &Common) -> Terms {
    let size = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    Terms {
        labels: plan.labels.clone(),
        honor_labels: job.honor_labels,
        honor_timestamps: job.honor_timestamps,
        track_staleness: job.track_timestamps_staleness,
        rules: made.rules.clone(),
        names: job.metric_name_validation_scheme,
        sample_limit: size(job.sample_limit),
        label_limit: size(job.label_limit),
        name_limit: size(job.label_name_length_limit),
        value_limit: size(job.label_value_length_limit),
        bucket_limit: size(job.native_histogram_bucket_limit),
        max_schema: schema_of(job.native_histogram_min_bucket_factor),
        histograms: protobuf::Options { native: plan.native, classic: plan.classic, convert: plan.convert },
        starts: common.starts,
        metadata: common.metadata.load(Ordering::Relaxed),
        durability: common.durability,
    }
}

/// The highest schema whose buckets grow at least by a factor.
pub fn schema_of(factor: f64) -> i32 {
    if factor <= 1.0 {
        return MAX_SCHEMA;
    }
    let exponent = (-factor.log2().log2()).floor();
    if exponent >= f64::from(MAX_SCHEMA) {
        MAX_SCHEMA
    } else if exponent <= f64::from(tsdb::histogram::MIN_SCHEMA) {
        tsdb::histogram::MIN_SCHEMA
    } else {
        exponent as i32
    }
}
