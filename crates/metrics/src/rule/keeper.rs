//! The tasks of groups: each owns one, evaluates it when it is due, and ends when the group changes.
//!
//! ```text
//!   update ──▶ group unchanged   goes on
//!              group changed     ends, a new one takes its state along
//!              group gone        ends; its series end two intervals later, unless it comes back
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use promql::{
    ast::Expr,
    matcher::Matcher,
    storage::{Hints, Storage as _},
    value::{Answer, Samples, Value},
};
use task::{Clock, Task};
use tokio::{runtime::Handle, sync::Semaphore};
use tsdb::{
    batch::{Batch, Durability, Of},
    column::HistogramValue,
    labels::Labels,
    sample::is_stale,
};

use super::{
    alert::{self, Notice, State},
    file::File,
    group::{Ground, Group, Surroundings, Work},
    schedule,
    timing::Timings,
};
use crate::{
    query::{Asked, Engine},
    shown,
    storage::Storage,
};

/// Takes alerts that are to be sent.
pub type Sink = Arc<dyn Fn(Vec<Notice>) + Send + Sync>;

/// How long a group that ends may take to finish what it evaluates.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rules that are evaluated beside others of their groups at a time.
const BESIDE: usize = 4;

/// Groups that are evaluated. Clones are the same.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    task: Task,
    clock: Clock,
    storage: Storage,
    engine: Engine,
    sink: Sink,
    beside: Arc<Semaphore>,
    timings: Timings,
    groups: Mutex<Groups>,
    /// Held by whoever changes the groups.
    updates: tokio::sync::Mutex<()>,
}

type Groups = BTreeMap<(String, String), Running>;

#[derive(Clone)]
struct Running {
    group: Arc<Group>,
    task: Task,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

/// Nanoseconds since 1970.
fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Keeper {
    /// No groups yet; their tasks will run below `task`.
    pub fn new(task: &Task, clock: Clock, storage: Storage, engine: Engine, sink: Sink) -> Self {
        Self(Arc::new(Inner {
            task: task.child("rules"),
            clock,
            storage,
            engine,
            sink,
            beside: Arc::new(Semaphore::new(BESIDE)),
            timings: Timings::default(),
            groups: Mutex::default(),
            updates: tokio::sync::Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The groups that there are, in order of files and names.
    pub fn all(&self) -> Vec<Arc<Group>> {
        self.lock().values().map(|running| running.group.clone()).collect()
    }

    /// How long evaluations take.
    pub fn timings(&self) -> &Timings {
        &self.0.timings
    }

    /// Evaluates the groups of these files from now on, and no others. What is wrong with any leaves everything as it was.
    pub async fn update(&self, files: &[(String, File)], around: &Arc<Surroundings>) -> Result<(), Vec<String>> {
        let _held = self.0.updates.lock().await;
        let mut groups = BTreeMap::new();
        let mut problems = Vec::new();
        let first = self.lock().is_empty();
        for (name, file) in files {
            for source in &file.groups {
                match Group::new(name, source, around, !first) {
                    Ok(group) => {
                        groups.insert((name.clone(), source.name.clone()), group);
                    }
                    Err(error) => problems.push(format!("{name}: {error}")),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut before = std::mem::take(&mut *self.lock());
        let mut now = BTreeMap::new();
        for (key, group) in groups {
            let running = match before.remove(&key) {
                Some(old) if old.group.same(&group) => old,
                Some(old) => {
                    old.task.drain(PATIENCE).await;
                    group.take_state(&old.group);
                    self.start(group, around)
                }
                None => self.start(group, around),
            };
            now.insert(key, running);
        }
        *self.lock() = now;
        for (_, gone) in before {
            self.end(gone, around).await;
        }
        Ok(())
    }

    fn ground(&self, around: &Surroundings) -> Live {
        let inner = &self.0;
        Live {
            storage: inner.storage.clone(),
            engine: inner.engine.clone(),
            handle: Handle::current(),
            sink: inner.sink.clone(),
            beside: inner.beside.clone(),
            subquery_step: around.interval,
        }
    }

    fn start(&self, group: Group, around: &Arc<Surroundings>) -> Running {
        let group = Arc::new(group);
        let task = self.0.task.child(&group.name);
        let owner = Owner {
            group: group.clone(),
            around: around.clone(),
            ground: Arc::new(self.ground(around)),
            clock: self.0.clock.clone(),
            task: task.clone(),
            keeper: Arc::downgrade(&self.0),
        };
        task.spawn("evaluate", owner.run());
        Running { group, task }
    }

    /// Ends a group; its series end when it has not come back after two intervals.
    async fn end(&self, gone: Running, around: &Arc<Surroundings>) {
        gone.task.drain(PATIENCE).await;
        let (keeper, ground) = (self.clone(), self.ground(around));
        let ended = millis_of(self.0.clock.now());
        self.0.task.spawn_until_cancelled("end series", async move {
            keeper.0.clock.sleep(gone.group.interval * 2).await;
            let key = (gone.group.file.clone(), gone.group.name.clone());
            if keeper.lock().contains_key(&key) {
                return;
            }
            let done = tokio::task::spawn_blocking(move || gone.group.end_all(ended, &ground)).await;
            if let Err(error) = done {
                tracing::error!("end the series of a group of rules: {error}");
            }
        });
    }
}

fn millis_of(time: SystemTime) -> i64 {
    nanos(time) / 1_000_000
}

/// The task of a group.
struct Owner {
    group: Arc<Group>,
    around: Arc<Surroundings>,
    ground: Arc<Live>,
    clock: Clock,
    task: Task,
    keeper: Weak<Inner>,
}

impl Owner {
    async fn run(self) {
        let interval = self.group.interval;
        let place = schedule::place(&self.group.file, &self.group.name);
        let mut due = schedule::slot(place, interval, nanos(self.clock.now())) + interval.as_nanos() as i64;
        let mut rounds = 0u32;
        loop {
            let ahead = due - nanos(self.clock.now());
            let wait = Duration::from_nanos(u64::try_from(ahead).unwrap_or(0));
            if self.task.until_cancelled(self.clock.sleep(wait)).await.is_none() {
                return;
            }
            rounds = rounds.saturating_add(1);
            let restores = rounds == 2 && !self.group.is_restored();
            let (group, around, ground, task) =
                (self.group.clone(), self.around.clone(), self.ground.clone(), self.task.clone());
            let now = due / 1_000_000;
            let evaluated = tokio::task::spawn_blocking(move || {
                group.evaluate(&around, now, &*ground, &|| task.is_cancelled());
                if restores && !task.is_cancelled() {
                    group.restore(&around, now, &*ground);
                }
            });
            match (evaluated.await, self.keeper.upgrade()) {
                (Ok(()), Some(keeper)) => {
                    self.group.rules.iter().for_each(|rule| keeper.timings.rules.note(rule.took()));
                    keeper.timings.groups.note(self.group.took());
                }
                (Ok(()), None) => {}
                (Err(error), _) => tracing::error!("evaluate {}: {error}", self.group),
            }
            let (next, missed) = schedule::next(due, interval, nanos(self.clock.now()));
            self.group.note_scheduled(missed);
            due = next;
        }
    }
}

/// The data base and the query engine, from a thread that may block.
struct Live {
    storage: Storage,
    engine: Engine,
    handle: Handle,
    sink: Sink,
    beside: Arc<Semaphore>,
    subquery_step: Duration,
}

impl Ground for Live {
    fn query(&self, expr: &Expr, time: i64) -> Result<Answer, String> {
        let asked = Asked { subquery_step: Some(self.subquery_step), ..Asked::default() };
        let outcome = self.handle.block_on(self.engine.instant(expr, time, asked));
        outcome.map(|outcome| outcome.answer).map_err(|error| error.to_string())
    }

    fn append(&self, samples: &[(Labels, i64, Value)]) -> Result<Vec<String>, String> {
        let mut batch = Batch::default();
        let mut ends = Vec::new();
        for (labels, time, value) in samples {
            let series = self.storage.series(labels).map_err(|error| error.to_string())?;
            match value {
                Value::Float(value) => {
                    ends.push(is_stale(*value));
                    batch.float(series, *time, *value);
                }
                Value::Histogram(histogram) => batch.histogram(series, *time, HistogramValue::Float(histogram.clone())),
            }
        }
        let outcome = self.storage.append(&batch, Durability::Logged).map_err(|error| error.to_string())?;
        // The end of a series that goes on elsewhere is not missed.
        let missed = outcome.rejected.iter().filter(|(of, _)| match of {
            Of::Float(at) => !ends.get(*at).copied().unwrap_or(false),
            Of::Histogram(_) => true,
        });
        Ok(missed.map(|(_, reject)| reject.to_string()).collect())
    }

    fn last(&self, matchers: &[Matcher], from: i64, to: i64) -> Result<Vec<(Labels, i64, f64)>, String> {
        let hints = Hints { start: from, end: to, ..Hints::default() };
        let mut selection = self.storage.select(matchers, &hints).map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        let mut samples = Samples::default();
        while let Some(labels) = selection.next(&mut samples).map_err(|error| error.to_string())? {
            if let (Some(time), Some(value)) = (samples.times.last(), samples.floats.last()) {
                found.push((labels, *time, *value));
            }
            samples.clear();
        }
        Ok(found)
    }

    fn send(&self, notices: Vec<Notice>) {
        (self.sink)(notices);
    }

    fn each(&self, count: usize, work: &Work<'_>) {
        let next = AtomicUsize::new(0);
        let run = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    break;
                }
                work(self, at);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..count {
                // Where all are busy, this thread does it.
                let Ok(permit) = self.beside.try_acquire() else { break };
                let started = std::thread::Builder::new().name("rules".to_owned()).spawn_scoped(scope, || {
                    let _permit = permit;
                    run();
                });
                if started.is_err() {
                    break;
                }
            }
            run();
        });
    }
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What is shown of a group.
pub fn shown(group: &Group, matchers: &[Vec<Matcher>]) -> shown::RuleGroup {
    let state = group.state();
    let wanted = |labels: &Labels| {
        let of = |list: &Vec<Matcher>| list.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        matchers.is_empty() || matchers.iter().any(of)
    };
    let rules = group.rules.iter().filter(|rule| wanted(&rule.labels)).map(|rule| {
        let state = rule.state();
        let alerting = rule.alerting.as_ref().map(|alerting| {
            let active = state.alerts.iter().filter(|(_, alert)| alert.resolved_at.is_none());
            let alerts = active.map(|(labels, alert)| shown::Alert {
                labels: labels.clone(),
                annotations: alert.annotations.clone(),
                state: alert.state.name(),
                active_at: timestamp(alert.active_at),
                keep_firing_since: alert.keep_firing_since.map(timestamp),
                value: alert.value,
            });
            let highest = alert::highest(&state.alerts);
            shown::Alerting {
                state: if state.evaluated_at.is_none() && highest == State::Inactive {
                    "unknown"
                } else {
                    highest.name()
                },
                hold: alerting.hold,
                keep_firing: alerting.keep_firing,
                annotations: alerting.annotations.clone(),
                alerts: alerts.collect(),
            }
        });
        let health = match &state.outcome {
            None => shown::Health::Unknown,
            Some(Ok(())) => shown::Health::Good,
            Some(Err(_)) => shown::Health::Bad,
        };
        shown::Rule {
            name: rule.name.clone(),
            query: rule.expr.to_string(),
            labels: rule.labels.clone(),
            health,
            last_error: state.outcome.and_then(Result::err).unwrap_or_default(),
            evaluation: state.took,
            last_evaluation: state.evaluated_at.map(timestamp),
            alerting,
        }
    });
    shown::RuleGroup {
        name: group.name.clone(),
        file: group.file.clone(),
        interval: group.interval,
        limit: group.limit,
        evaluation: state.took,
        last_evaluation: state.evaluated_at.map(timestamp),
        rules: rules.collect(),
    }
}

impl shown::Rules for Keeper {
    fn groups(&self, matchers: &[Vec<Matcher>]) -> Vec<shown::RuleGroup> {
        self.all().iter().map(|group| shown(group, matchers)).collect()
    }
}
