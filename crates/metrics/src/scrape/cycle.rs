//! One target's task: waits for its ticks, scrapes, writes down.
//!
//! ```text
//!  start ── offset ──▶ tick ── fetch ── commit ──▶ tick ── ...
//!                       │
//!                       ├── gone: two intervals later, so that a target that came back is not ended, its series end
//!                       └── replaced, or the server ends: nothing is written
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use task::Task;
use tokio::{sync::watch, time::Instant};
use tsdb::{labels::Labels, sample::STALE_NAN};

use super::{
    counts::{Counts, Fault},
    fetch::{Failed, Fetch},
    ledger::{Descriptions, Ledger},
    target::Plan,
};
use crate::{shown::Health, storage::Storage};

/// How much later than its tick a scrape may be and still have the time of the tick.
const TOLERANCE: Duration = Duration::from_millis(2);
/// After so long without a commit, series may be gone.
const FORGET: Duration = Duration::from_hours(1);

/// What a target's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Run,
    /// The target is not there any more.
    Gone,
    /// Another task has the target now.
    Replaced,
}

/// How a target did the last time.
#[derive(Debug)]
pub struct Status {
    state: Mutex<State>,
}

/// How a target did the last time, at one moment.
#[derive(Clone, Debug)]
pub struct State {
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Whether it could be scraped.
    pub health: Health,
    /// Why not; empty if it could.
    pub last_error: String,
    /// When that was.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_duration: Duration,
    /// What it says of its families.
    pub descriptions: Descriptions,
}

impl Status {
    /// Of a target that has not been scraped.
    pub fn new(discovered: Labels) -> Self {
        Self {
            state: Mutex::new(State {
                discovered,
                health: Health::Unknown,
                last_error: String::new(),
                last_scrape: None,
                last_duration: Duration::ZERO,
                descriptions: Arc::default(),
            }),
        }
    }

    /// How it is now.
    pub fn get(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it.
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a target's task needs.
#[derive(Debug)]
pub struct Cycle {
    /// How the target is scraped.
    pub plan: Arc<Plan>,
    /// How it is asked, or why it cannot be.
    pub fetch: Result<Fetch, String>,
    /// Its series.
    pub ledger: Ledger,
    /// Where samples go.
    pub storage: Storage,
    /// How it does.
    pub status: Arc<Status>,
    /// Why no target of the job may be scraped, if so.
    pub forbidden: Arc<RwLock<Option<String>>>,
    /// Limits that are written down as samples, if they are: of samples.
    pub extra: Option<usize>,
    /// What spreads ticks of several servers.
    pub seed: u64,
    /// What is told at `/metrics`.
    pub counts: Arc<Counts>,
    /// The file where failed scrapes are logged, if there is one.
    pub failures: Option<Arc<super::pool::FailureLog>>,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Cycle {
    /// Scrapes until `task` ends or it is told otherwise.
    pub async fn run(mut self, task: Task, mut orders: watch::Receiver<Order>) {
        let interval = self.plan.interval;
        let begun = now();
        let offset = self.plan.offset(begun, self.seed);
        let mut tick = Instant::now() + offset;
        let mut wall = begun + offset;
        let mut scraped = false;
        let mut committed = Instant::now();
        let lengths = self.counts.interval(&crate::config::units::Span(interval).to_string());
        let mut before: Option<Instant> = None;
        let order = loop {
            if let Some(order) = until(tick, &task, &mut orders).await {
                break order;
            }
            let real = now();
            while real >= wall + interval {
                wall += interval;
            }
            let late = real.saturating_sub(wall);
            let time = if real >= wall && late <= TOLERANCE.min(interval / 100) { wall } else { real };
            if committed.elapsed() > FORGET {
                self.ledger.forget();
            }
            if let Some(before) = before.replace(Instant::now()) {
                lengths.note(before.elapsed());
            }
            self = self.scrape(millis(time)).await;
            scraped = true;
            committed = Instant::now();
            tick += interval;
            wall += interval;
            while tick <= Instant::now() {
                tick += interval;
                wall += interval;
            }
        };
        if order == Order::Gone && scraped {
            self.finish(&task, tick).await;
        }
    }

    /// Scrapes once.
    pub async fn scrape(mut self, time: i64) -> Self {
        let started = Instant::now();
        self.ledger.begin(time);
        let forbidden = self.forbidden.read().unwrap_or_else(PoisonError::into_inner).clone();
        let done = match (forbidden, &self.fetch) {
            (Some(reason), _) => Err(Failed::Because(reason)),
            (None, Err(reason)) => Err(Failed::Because(reason.clone())),
            (None, Ok(fetch)) => match tokio::time::timeout(self.plan.timeout, fetch.run(&mut self.ledger)).await {
                Ok(done) => done,
                Err(_) => Err(Failed::Because(format!("Get \"{}\": context deadline exceeded", self.plan.url))),
            },
        };
        let taken = started.elapsed();
        let mut error = done.as_ref().err().map(|failed| failed.reason().to_owned());
        let bytes = match &done {
            Ok(bytes) => *bytes as f64,
            Err(Failed::TooLong) => -1.0,
            Err(Failed::Because(_)) => 0.0,
        };
        let (plan, extra, storage) = (self.plan.clone(), self.extra, self.storage.clone());
        let failed = error.is_some();
        let mut ledger = self.ledger;
        let mut commit_error = None;
        let committed = tokio::task::spawn_blocking(move || {
            if failed {
                ledger.abandon();
            }
            let values = |up: f64, ledger: &Ledger| reports(up, taken, ledger, &plan, extra, bytes);
            let wanted = values(if failed { 0.0 } else { 1.0 }, &ledger);
            let done = ledger.commit(&storage, failed, &wanted);
            if let Err(error) = done {
                commit_error = Some(error.to_string());
                // What could not be taken is given up; that it was not taken is still told.
                ledger.begin(time);
                let told = values(0.0, &ledger);
                if let Err(error) = ledger.commit(&storage, true, &told) {
                    tracing::error!(target = %ledger.terms().labels, %error, "scrape report cannot be stored");
                }
            }
            (ledger, commit_error)
        });
        match committed.await {
            Ok((ledger, commit_error)) => {
                self.ledger = ledger;
                error = error.or(commit_error);
            }
            Err(lost) => std::panic::resume_unwind(lost.into_panic()),
        }
        for (fault, count) in self.ledger.faults() {
            self.counts.add(fault, count);
        }
        if let Some(error) = &error {
            if let Some(fault) = fault_of(error) {
                self.counts.add(fault, 1);
            }
            tracing::debug!(url = %self.plan.url, error, "scrape failed");
            if let Some(log) = &self.failures {
                log.write(&self.plan, error);
            }
        }
        let descriptions = self.ledger.descriptions().clone();
        self.status.set(|state| {
            state.health = if error.is_none() { Health::Good } else { Health::Bad };
            state.last_error = error.unwrap_or_default();
            state.last_scrape = Timestamp::from_millisecond(time).ok();
            state.last_duration = taken;
            state.descriptions = descriptions;
        });
        self
    }

    /// Ends the series of a target that is gone.
    async fn finish(mut self, task: &Task, tick: Instant) {
        let interval = self.plan.interval;
        let wait = async {
            tokio::time::sleep_until(tick).await;
            let ended = millis(now());
            tokio::time::sleep(interval + interval / 10).await;
            ended
        };
        let Some(ended) = task.until_cancelled(wait).await else { return };
        let (plan, extra, storage) = (self.plan.clone(), self.extra, self.storage.clone());
        let closed = tokio::task::spawn_blocking(move || {
            self.ledger.begin(ended);
            let stale: Vec<(&str, f64)> = reports(0.0, Duration::ZERO, &self.ledger, &plan, extra, 0.0)
                .into_iter()
                .map(|(name, _)| (name, STALE_NAN))
                .collect();
            if let Err(error) = self.ledger.commit(&storage, true, &stale) {
                tracing::warn!(target = %plan.labels, %error, "the end of a target's series cannot be stored");
            }
        });
        if let Err(lost) = closed.await {
            std::panic::resume_unwind(lost.into_panic());
        }
    }
}

/// The limit that a failed scrape was beyond.
fn fault_of(error: &str) -> Option<Fault> {
    match error {
        "sample limit exceeded" => Some(Fault::SampleLimit),
        "histogram bucket limit exceeded" => Some(Fault::BucketLimit),
        "body size limit exceeded" => Some(Fault::BodyLimit),
        labels if labels.starts_with("label_") && labels.contains("limit exceeded") => Some(Fault::LabelLimit),
        _ => None,
    }
}

/// What is written down of each scrape.
fn reports(
    up: f64,
    taken: Duration,
    ledger: &Ledger,
    plan: &Plan,
    extra: Option<usize>,
    bytes: f64,
) -> Vec<(&'static str, f64)> {
    let tally = ledger.tally();
    let mut reports = vec![
        ("up", up),
        ("scrape_duration_seconds", taken.as_secs_f64()),
        ("scrape_samples_scraped", tally.scraped as f64),
        ("scrape_samples_post_metric_relabeling", tally.kept as f64),
        ("scrape_series_added", tally.added as f64),
    ];
    if let Some(limit) = extra {
        reports.push(("scrape_timeout_seconds", plan.timeout.as_secs_f64()));
        reports.push(("scrape_sample_limit", limit as f64));
        reports.push(("scrape_body_size_bytes", bytes));
    }
    reports
}

/// Waits for a tick; says what came first if it was an order.
async fn until(tick: Instant, task: &Task, orders: &mut watch::Receiver<Order>) -> Option<Order> {
    let ordered = async {
        match orders.wait_for(|order| *order != Order::Run).await {
            Ok(order) => *order,
            Err(_) => Order::Replaced,
        }
    };
    tokio::select! {
        biased;
        () = task.cancelled() => Some(Order::Replaced),
        order = ordered => Some(order),
        () = tokio::time::sleep_until(tick) => None,
    }
}
