//! The owner of the state: takes alerts and silences, writes them down, and has groups told when they are due.
//!
//! ```text
//!   put, silence ──▶ journal (synced) ──▶ state ──▶ answer
//!                                           │ due
//!   owner task ─────────────────────────────┴──▶ flush, a task a group: deliver to each place, again until it has
//!                                                  taken it ──▶ journal ──▶ log
//! ```
//!
//! A notification is noted after it was taken: killed in between, it goes out again, and never not at all.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use task::{Clock, Task};
use tokio::sync::Notify;

use super::{
    alert::Alert,
    config::Config,
    counts::Counts,
    journal::{Journal, Record},
    outside::Failure,
    silence::{Quota, Refused, Silence},
    state::{Flush, Job, State},
};

/// How often old things are forgotten.
const UPKEEP: Duration = Duration::from_mins(15);

/// The first pause after a place took nothing, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// The shortest time in which a group tries to tell.
const LEAST: Duration = Duration::from_secs(10);

/// A notification as it goes out.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The configuration that it was made with.
    pub config: Arc<Config>,
    /// The group.
    pub flush: Arc<Flush>,
    /// What is sent where.
    pub job: Job,
}

/// Takes notifications to where they go; gives what is to be remembered of it.
pub trait Deliver: Send + Sync {
    /// Tries once.
    fn deliver(
        &self,
        notification: Notification,
    ) -> BoxFuture<'static, Result<std::collections::BTreeMap<String, String>, Failure>>;
}

/// The owner. Clones are the same.
#[derive(Clone)]
pub struct Center(Arc<Inner>);

struct Inner {
    held: Mutex<Held>,
    clock: Clock,
    wake: Notify,
    quota: Quota,
    counts: Counts,
    started: i64,
}

struct Held {
    state: State,
    journal: Journal,
}

impl std::fmt::Debug for Center {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Center")
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Center {
    /// Opens what a directory keeps. Blocks the thread.
    pub fn open(dir: &Path, config: Config, clock: Clock, quota: Quota) -> Result<Self> {
        let (journal, records, damaged) =
            Journal::open(dir).with_context(|| format!("open the journal of alerts in {}", dir.display()))?;
        if damaged > 0 {
            tracing::error!("{damaged} records of the journal of alerts in {} are damaged and left out", dir.display());
        }
        let now = millis(clock.now());
        let mut state = State::new(Arc::new(config));
        state.restore(records, now);
        let counts = Counts::default();
        counts.configured(now, &format!("{:?}", state.config));
        let held = Mutex::new(Held { state, journal });
        Ok(Self(Arc::new(Inner { held, clock, wake: Notify::new(), quota, counts, started: now })))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub fn now(&self) -> i64 {
        millis(self.0.clock.now())
    }

    /// When it was opened, in milliseconds since 1970.
    pub fn started(&self) -> i64 {
        self.0.started
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Looks at the state.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.held().state)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Held) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let center = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut held = center.held();
            work(&center, &mut held)
        });
        done.await.context("a task of the alerts has ended")?
    }

    /// Takes alerts; they are on disk afterwards. An error of the inner kind says that some were refused.
    pub async fn put(&self, alerts: Vec<Alert>) -> Result<Result<(), String>> {
        let refused = self
            .blocking(move |center, held| {
                let now = center.now();
                let (alerts, refused) = held.state.accept(alerts, now);
                let records: Vec<Record> = alerts.iter().cloned().map(Record::Alert).collect();
                held.journal.append(&records).context("write alerts down")?;
                held.state.put(alerts, now);
                Ok(refused)
            })
            .await?;
        self.0.wake.notify_one();
        Ok(refused.map_or(Ok(()), Err))
    }

    /// Takes a silence; it is on disk afterwards. Gives its id.
    pub async fn silence(&self, wish: Silence, fresh: String) -> Result<Result<String, Refused>> {
        self.blocking(move |center, held| {
            let now = center.now();
            match held.state.silences.set(wish, fresh, now, center.0.quota) {
                Err(refused) => Ok(Err(refused)),
                Ok(changed) => {
                    let id = changed.last().map(|silence| silence.id.clone()).unwrap_or_default();
                    held.change(changed.into_iter().map(Record::Silence).collect()).context("write a silence down")?;
                    Ok(Ok(id))
                }
            }
        })
        .await
    }

    /// Ends a silence; that is on disk afterwards.
    pub async fn expire(&self, id: String) -> Result<Result<(), Refused>> {
        self.blocking(move |center, held| match held.state.silences.expire(&id, center.now()) {
            Err(refused) => Ok(Err(refused)),
            Ok(changed) => {
                held.change(changed.into_iter().map(Record::Silence).collect()).context("write a silence down")?;
                Ok(Ok(()))
            }
        })
        .await
    }

    /// Takes another configuration.
    pub fn configure(&self, config: Config) {
        let now = self.now();
        self.0.counts.configured(now, &format!("{config:?}"));
        self.held().state.configure(Arc::new(config), now);
        self.0.wake.notify_one();
    }

    /// Has groups told when they are due, until the task is cancelled.
    pub fn start(&self, task: &Task, deliver: Arc<dyn Deliver>) {
        let (center, owned) = (self.clone(), task.clone());
        task.spawn("dispatch", async move { center.run(&owned, deliver).await });
        let center = self.clone();
        task.spawn_until_cancelled("forget", async move {
            loop {
                center.0.clock.sleep(UPKEEP).await;
                if let Err(error) = center.upkeep().await {
                    tracing::error!("tidy up what is known of alerts: {error:#}");
                }
            }
        });
    }

    async fn run(&self, task: &Task, deliver: Arc<dyn Deliver>) {
        while !task.is_cancelled() {
            let now = self.now();
            let (flushes, next, config) = {
                let mut held = self.held();
                let flushes = held.state.flushes(now);
                (flushes, held.state.next_due(), held.state.config.clone())
            };
            for flush in flushes {
                let (center, config, deliver, inner) = (self.clone(), config.clone(), deliver.clone(), task.clone());
                task.spawn("flush", async move { center.tell(&inner, flush, config, deliver).await });
            }
            let pause = next.map(|next| Duration::from_millis(u64::try_from(next - now).unwrap_or(0)));
            let wait = async {
                match pause {
                    Some(pause) => self.0.clock.sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.0.wake.notified() => {}
                () = task.cancelled() => {}
            }
        }
    }

    /// Tells a group: all places at once, each again until it has taken it or the group is due again.
    async fn tell(&self, task: &Task, flush: Flush, config: Arc<Config>, deliver: Arc<dyn Deliver>) {
        let flush = Arc::new(flush);
        let patience = Duration::from_millis(u64::try_from(flush.options.group_interval).unwrap_or(0)).max(LEAST);
        let jobs = flush.jobs.iter().map(|job| {
            let notification = Notification { config: config.clone(), flush: flush.clone(), job: job.clone() };
            self.insist(notification, &*deliver, patience)
        });
        let told = task.until_cancelled(futures::future::join_all(jobs)).await;
        let all = told.is_some_and(|told| told.into_iter().all(|sent| sent));
        let noted = self
            .blocking(move |_, held| {
                let over = held.state.over(&flush, all).into_iter().map(Record::Over).collect::<Vec<_>>();
                // What could not be noted is told again after a restart, which is allowed.
                let written = held.journal.append(&over);
                held.state.told(&flush, all);
                Ok(written?)
            })
            .await;
        if let Err(error) = noted {
            tracing::error!("note that alerts are over: {error:#}");
        }
        self.0.wake.notify_one();
    }

    /// Tries until the place has taken it, it never will, or time is up; says whether it has.
    async fn insist(&self, notification: Notification, deliver: &dyn Deliver, patience: Duration) -> bool {
        let place = format!("{}[{}]", notification.job.entry.receiver.0, notification.job.entry.receiver.1);
        let receiver = notification.config.receiver(&notification.flush.options.receiver);
        let integration = receiver.map_or("webhook", |receiver| receiver.integration(notification.job.place));
        let mut pause = PAUSES.0;
        let mut waited = Duration::ZERO;
        if !notification.job.alerts.is_empty() {
            loop {
                let began = std::time::Instant::now();
                let delivered = deliver.deliver(notification.clone()).await;
                self.0.counts.tried(integration, delivered.is_ok(), began.elapsed());
                match delivered {
                    Ok(kept) => {
                        self.0.counts.taken(integration);
                        let mut entry = notification.job.entry.clone();
                        entry.kept.extend(kept);
                        return self.note(entry).await;
                    }
                    Err(failure) => {
                        let again = failure.retry && waited + pause <= patience;
                        tracing::warn!(receiver = place, again, "send a notification: {}", failure.reason);
                        if !again {
                            self.0.counts.given_up(integration, !failure.retry);
                            return false;
                        }
                    }
                }
                self.0.clock.sleep(pause).await;
                waited += pause;
                pause = (pause * 3 / 2).min(PAUSES.1);
            }
        }
        self.note(notification.job.entry).await
    }

    /// Notes that a notification went out.
    async fn note(&self, entry: super::log::Entry) -> bool {
        let noted = self.blocking(move |_, held| Ok(held.change(vec![Record::Notified(entry)])?)).await;
        if let Err(error) = &noted {
            tracing::error!("note that a notification was sent: {error:#}");
        }
        noted.is_ok()
    }

    async fn upkeep(&self) -> Result<()> {
        self.blocking(|center, held| {
            let now = center.now();
            held.state.log.forget(now);
            let forgotten = held.state.silences.forget(now);
            if held.journal.is_grown() || !forgotten.is_empty() {
                let Held { state, journal } = held;
                journal.rewrite(state.records()).context("write the journal of alerts anew")?;
            }
            Ok(())
        })
        .await
    }
}

impl Held {
    /// Writes records down, then takes them.
    fn change(&mut self, records: Vec<Record>) -> std::io::Result<()> {
        self.journal.append(&records)?;
        records.into_iter().for_each(|record| self.state.apply(record));
        Ok(())
    }
}
