//! Alerts of rules to Alertmanagers: the one that is built in, and those of the configuration.
//!
//! ```text
//!   rules ── external labels, relabelling ──┬──▶ built in: on disk when the rule goes on
//!                                           └──▶ a queue for each other: on disk, sent in batches, again until taken
//! ```
//!
//! A queue keeps the newest word on each alert. See
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#alertmanager_config>.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use jiff::Timestamp;
use serde_json::json;
use task::{Clock, Task};
use tokio::{runtime::Handle, sync::Notify};
use tsdb::labels::{Builder, Labels};

use crate::{
    alertmanager::{
        Alertmanager,
        alert::{Alert, Fingerprint},
        journal::{Journal, Record},
    },
    config::alerting::{Alerting, Alertmanager as Target},
    http_client::Client,
    relabel,
    rule::{alert::Notice, keeper::Sink},
    shown::Notifiers,
};

/// Alerts in a request at most.
const BATCH: usize = 256;

/// Alerts that wait for an Alertmanager at most; more are dropped, and sent again by their rules.
const WAITING: usize = 10_000;

/// The first pause after an Alertmanager took nothing, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Sends alerts. Clones are the same.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

struct Inner {
    task: Task,
    dir: PathBuf,
    clock: Clock,
    handle: Handle,
    own: Option<Alertmanager>,
    settings: RwLock<Arc<Settings>>,
    queues: Mutex<BTreeMap<String, Arc<Queue>>>,
    dropped: Mutex<Vec<String>>,
    sent: AtomicU64,
    errors: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Settings {
    external: Labels,
    relabel: Vec<relabel::Rule>,
}

/// What waits for an Alertmanager.
struct Queue {
    url: String,
    client: Client,
    timeout: Duration,
    relabel: Vec<relabel::Rule>,
    waiting: Mutex<Waiting>,
    wake: Notify,
    task: Task,
    source: Target,
}

struct Waiting {
    alerts: BTreeMap<Fingerprint, Alert>,
    journal: Journal,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notifier")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn time(millis: i64) -> String {
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// The addresses of a kind of Alertmanagers: those that relabelling keeps, and those that it drops.
pub fn addresses(target: &Target, discovered: &[Labels]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for labels in discovered {
        let mut builder = Builder::new(labels);
        if builder.get("__scheme__").is_empty() {
            builder.set("__scheme__", &target.scheme);
        }
        let prefix = target.path_prefix.trim_matches('/');
        let path = if prefix.is_empty() { "/api/v2/alerts".to_owned() } else { format!("/{prefix}/api/v2/alerts") };
        builder.set("__alerts_path__", &path);
        let url = |builder: &Builder| {
            let path = builder.get("__alerts_path__");
            format!("{}://{}{path}", builder.get("__scheme__"), builder.get("__address__"))
        };
        let before = url(&builder);
        if relabel::apply(&target.relabel_configs, &mut builder) && !builder.get("__address__").is_empty() {
            kept.push(url(&builder));
        } else {
            dropped.push(before);
        }
    }
    (kept, dropped)
}

/// Targets that stand in the configuration itself, as discovery tells them.
pub fn listed(target: &Target) -> Vec<Labels> {
    let groups = target.discovery.groups.iter();
    let of = |group: &crate::config::discovery::Group| {
        let labels = Builder::new(&group.labels);
        group.targets.iter().map(|address| labels.clone().set("__address__", address).labels()).collect::<Vec<_>>()
    };
    groups.flat_map(of).collect()
}

/// The name of a queue's directory.
fn name(url: &str) -> String {
    format!("{:08x}", crc32fast::hash(url.as_bytes()))
}

impl Notifier {
    /// Sends to the built-in Alertmanager, if there is one, and to those of [`Self::configure`]. Queues are kept in `dir`.
    pub fn new(task: &Task, dir: &Path, clock: Clock, own: Option<Alertmanager>) -> Self {
        Self(Arc::new(Inner {
            task: task.child("notify"),
            dir: dir.to_owned(),
            clock,
            handle: Handle::current(),
            own,
            settings: RwLock::default(),
            queues: Mutex::default(),
            dropped: Mutex::default(),
            sent: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }))
    }

    /// Takes another configuration, with the targets that discovery has found for each kind of Alertmanagers. Blocks the
    /// thread.
    pub fn configure(&self, alerting: &Alerting, external: Labels, discovered: &[Vec<Labels>]) -> Result<(), String> {
        let mut wanted = BTreeMap::new();
        let mut dropped = Vec::new();
        for (i, target) in alerting.alertmanagers.iter().enumerate() {
            let (kept, gone) = addresses(target, discovered.get(i).map_or(&[], Vec::as_slice));
            dropped.extend(gone);
            wanted.extend(kept.into_iter().map(|url| (url, target)));
        }
        let mut before = std::mem::take(&mut *lock(&self.0.queues));
        let mut now = BTreeMap::new();
        for (url, target) in wanted {
            let queue = match before.remove(&url) {
                Some(queue) if queue.source == *target => queue,
                old => {
                    if let Some(old) = old {
                        old.task.cancel();
                    }
                    self.start(&url, target)?
                }
            };
            now.insert(url, queue);
        }
        before.values().for_each(|gone| gone.task.cancel());
        *lock(&self.0.queues) = now;
        *lock(&self.0.dropped) = dropped;
        let settings = Settings { external, relabel: alerting.alert_relabel_configs.clone() };
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        Ok(())
    }

    fn start(&self, url: &str, target: &Target) -> Result<Arc<Queue>, String> {
        let dir = self.0.dir.join(name(url));
        let (journal, records, damaged) =
            Journal::open(&dir).map_err(|error| format!("open the queue of alerts in {}: {error}", dir.display()))?;
        if damaged > 0 {
            tracing::error!("{damaged} alerts that waited for {url} are damaged and left out");
        }
        let mut alerts = BTreeMap::new();
        for record in records {
            match record {
                Record::Alert(alert) => {
                    alerts.insert(alert.fingerprint(), alert);
                }
                Record::Over(fingerprint) => {
                    alerts.remove(&fingerprint);
                }
                _ => {}
            }
        }
        let queue = Arc::new(Queue {
            url: url.to_owned(),
            client: Client::new(&target.http)?,
            timeout: target.timeout.0,
            relabel: target.alert_relabel_configs.clone(),
            waiting: Mutex::new(Waiting { alerts, journal }),
            wake: Notify::new(),
            task: self.0.task.child(name(url)),
            source: target.clone(),
        });
        let (notifier, own) = (self.clone(), queue.clone());
        queue.task.spawn_until_cancelled("send", async move { notifier.run(&own).await });
        Ok(queue)
    }

    /// What rules hand their alerts to.
    pub fn sink(&self) -> Sink {
        let notifier = self.clone();
        Arc::new(move |notices| notifier.send(notices))
    }

    /// Takes alerts; they are on disk afterwards. Blocks the thread.
    pub fn send(&self, notices: Vec<Notice>) {
        let settings = self.0.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        let labelled = notices.into_iter().filter_map(|notice| {
            let mut builder = Builder::new(&notice.labels);
            for (name, value) in &settings.external {
                if builder.get(name).is_empty() {
                    builder.set(name, value);
                }
            }
            let labels = relabel::apply(&settings.relabel, &mut builder).then(|| builder.labels())?;
            (!labels.is_empty()).then_some(Notice { labels, ..notice })
        });
        let notices: Vec<Notice> = labelled.collect();
        if let Some(own) = &self.0.own
            && let Err(error) = self.0.handle.block_on(own.put(notices.clone()))
        {
            self.0.errors.fetch_add(notices.len() as u64, Ordering::Relaxed);
            tracing::error!("hand alerts to the built-in Alertmanager: {error:#}");
        }
        let queues: Vec<Arc<Queue>> = lock(&self.0.queues).values().cloned().collect();
        for queue in queues {
            self.enqueue(&queue, &notices);
        }
    }

    fn enqueue(&self, queue: &Queue, notices: &[Notice]) {
        let pairs = |labels: &Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut waiting = lock(&queue.waiting);
        let mut records = Vec::new();
        for notice in notices {
            let mut builder = Builder::new(&notice.labels);
            if !relabel::apply(&queue.relabel, &mut builder) {
                continue;
            }
            let alert = Alert {
                labels: pairs(&builder.labels()),
                annotations: pairs(&notice.annotations),
                starts_at: notice.starts_at,
                ends_at: notice.ends_at,
                updated_at: notice.starts_at,
                generator_url: notice.generator_url.clone(),
                timeout: false,
            };
            let fingerprint = alert.fingerprint();
            if waiting.alerts.len() >= WAITING && !waiting.alerts.contains_key(&fingerprint) {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            records.push(Record::Alert(alert.clone()));
            waiting.alerts.insert(fingerprint, alert);
        }
        // What cannot be written down is sent all the same, if nothing else happens.
        if let Err(error) = waiting.journal.append(&records) {
            tracing::error!("write down alerts for {}: {error}", queue.url);
        }
        drop(waiting);
        queue.wake.notify_one();
    }

    async fn run(&self, queue: &Queue) {
        let mut pause = PAUSES.0;
        loop {
            let batch: Vec<Alert> = lock(&queue.waiting).alerts.values().take(BATCH).cloned().collect();
            if batch.is_empty() {
                queue.wake.notified().await;
                continue;
            }
            match queue.post(&batch).await {
                Ok(()) => {
                    pause = PAUSES.0;
                    self.0.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    queue.done(&batch);
                }
                Err(error) => {
                    self.0.errors.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    tracing::warn!(alertmanager = queue.url, "send {} alerts: {error}", batch.len());
                    self.0.clock.sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Adds its metrics in the text format.
    pub fn write_metrics(&self, out: &mut String) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let waiting: usize = lock(&self.0.queues).values().map(|queue| lock(&queue.waiting).alerts.len()).sum();
        let known = self.alertmanagers().len();
        for (name, kind, help, value) in [
            ("sent_total", "counter", "Alerts that were sent.", get(&self.0.sent)),
            ("errors_total", "counter", "Alerts whose sending failed.", get(&self.0.errors)),
            ("dropped_total", "counter", "Alerts that were dropped.", get(&self.0.lost)),
            ("queue_length", "gauge", "Alerts that wait.", waiting as u64),
            ("queue_capacity", "gauge", "Alerts that may wait.", WAITING as u64),
            ("alertmanagers_discovered", "gauge", "Alertmanagers that are known.", known as u64),
        ] {
            let name = format!("prometheus_notifications_{name}");
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}").expect("strings grow");
        }
    }
}

impl Queue {
    async fn post(&self, alerts: &[Alert]) -> Result<(), String> {
        let listed = alerts.iter().map(|alert| {
            json!({
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": time(alert.starts_at),
                "endsAt": time(alert.ends_at),
                "generatorURL": alert.generator_url,
            })
        });
        let content = serde_json::Value::Array(listed.collect()).to_string();
        let uri: Uri = self.url.parse().map_err(|error| format!("{}: {error}", self.url))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let asked = self.client.send(Method::POST, uri, headers, Bytes::from(content));
        let answer = tokio::time::timeout(self.timeout, asked).await.map_err(|_| "no answer in time".to_owned())?;
        let status = answer.map_err(|failure| failure.to_string())?.status();
        if status.is_success() {
            return Ok(());
        }
        // What it calls wrong will not get better; it has been told.
        if status.is_client_error() && status.as_u16() != 429 {
            tracing::error!(alertmanager = self.url, "{} alerts were refused: {status}", alerts.len());
            return Ok(());
        }
        Err(format!("bad response status {status}"))
    }

    /// Forgets what was sent, unless there is newer word of it.
    fn done(&self, sent: &[Alert]) {
        let mut waiting = lock(&self.waiting);
        let mut records = Vec::new();
        for alert in sent {
            let fingerprint = alert.fingerprint();
            if waiting.alerts.get(&fingerprint) == Some(alert) {
                waiting.alerts.remove(&fingerprint);
                records.push(Record::Over(fingerprint));
            }
        }
        let Waiting { alerts, journal } = &mut *waiting;
        let noted = if journal.is_grown() {
            journal.rewrite(alerts.values().cloned().map(Record::Alert))
        } else {
            journal.append(&records)
        };
        // They are sent again after a restart, which does no harm.
        if let Err(error) = noted {
            tracing::error!("note that alerts were sent to {}: {error}", self.url);
        }
    }
}

impl Notifiers for Notifier {
    fn alertmanagers(&self) -> Vec<String> {
        lock(&self.0.queues).keys().cloned().collect()
    }

    fn dropped(&self) -> Vec<String> {
        lock(&self.0.dropped).clone()
    }
}
