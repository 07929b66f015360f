//! Samples that are sent on: each destination reads the spool and sends what it finds, again and again until it is taken.
//!
//! ```text
//! spool ─ gather: until enough, or some seconds ─ by series into shards ─ requests side by side ─ all done: place noted
//!                                                                          └ refused for now: wait, again
//! ```
//!
//! A place is noted only once everything before it was taken, or refused for good. After an end in between, what was
//! under way is sent again: receivers take a sample that they have as taken. Samples of a series stay in order, since one
//! shard has all of them.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use jiff::Timestamp;
use task::Task;
use tsdb::{
    Metadata,
    labels::{Builder, Labels},
};

use super::{
    cloud::Identity,
    request::{self, Item, Sent, Value, Version},
    spool::{At, Follower, Record, Spool},
    words,
};
use crate::{
    Metrics,
    config::remote::{RemoteWrite, WRITE_V2},
    http_client::Client,
    query::millis,
    relabel,
    storage::Watcher,
};

/// Bytes of an answer that are read to say what was wrong.
const WORDS: usize = 512;
/// How long a destination waits after the spool could not be read.
const PAUSE: Duration = Duration::from_secs(5);
/// Most requests side by side for one round.
const SHARDS: usize = 200;

/// What became of samples, for `/metrics`.
#[derive(Debug, Default)]
struct Totals {
    sent: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
    /// Milliseconds since 1970 of the newest sample that was taken.
    newest: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Running {
    config: RemoteWrite,
    external: Labels,
    task: Task,
    totals: Arc<Totals>,
}

/// All destinations. Clones are the same.
#[derive(Clone)]
pub struct Senders(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    spool: Mutex<Option<Spool>>,
    running: Mutex<HashMap<String, Running>>,
}

impl std::fmt::Debug for Senders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Senders")
    }
}

/// What a destination is called: its configured name, or one made of its address.
fn name_of(config: &RemoteWrite) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !config.name.is_empty() && config.name.len() < 100 && config.name.chars().all(plain) {
        return config.name.clone();
    }
    let sum = tsdb::prometheus::checksum(&[config.name.as_bytes(), b"\n", config.url.0.as_bytes()]);
    format!("remote-{sum:08x}")
}

impl Senders {
    /// None yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Inner { metrics: metrics.clone(), spool: Mutex::default(), running: Mutex::default() }))
    }

    /// Sends to these from now on. Destinations that stay as they are go on undisturbed.
    pub async fn apply(&self, configs: &[RemoteWrite], external: &Labels) -> Result<()> {
        let mut wanted: HashMap<String, &RemoteWrite> = HashMap::new();
        for config in configs {
            if wanted.insert(name_of(config), config).is_some() {
                bail!("two remote_write sections are called {}: give each a name of its own", name_of(config));
            }
        }
        let left = self.0.metrics.settings().dir.join("remote").exists();
        if wanted.is_empty() && lock(&self.0.spool).is_none() && !left {
            return Ok(());
        }
        let spool = self.spool().await?;
        for run in self.stale(&wanted, external) {
            run.task.drain(PAUSE).await;
        }
        let names: Vec<String> = wanted.keys().cloned().collect();
        let keeping = spool.clone();
        let known = tokio::task::spawn_blocking(move || {
            keeping.keep(&names)?;
            names.iter().try_for_each(|name| keeping.begin(name))
        });
        known.await??;
        let watcher: Arc<dyn Watcher> = Arc::new(spool.clone());
        self.0.metrics.storage().watch(if wanted.is_empty() { Vec::new() } else { vec![watcher] });
        for (name, config) in wanted {
            self.start(name, config, external, &spool)?;
        }
        Ok(())
    }

    /// Takes out what is configured no more, or otherwise.
    fn stale(&self, wanted: &HashMap<String, &RemoteWrite>, external: &Labels) -> Vec<Running> {
        let mut running = lock(&self.0.running);
        let same = |name: &String, run: &Running| {
            wanted.get(name).is_some_and(|config| **config == run.config && *external == run.external)
        };
        let gone: Vec<String> =
            running.iter().filter(|(name, run)| !same(name, run)).map(|(name, _)| name.clone()).collect();
        gone.iter().filter_map(|name| running.remove(name)).collect()
    }

    fn start(&self, name: String, config: &RemoteWrite, external: &Labels, spool: &Spool) -> Result<()> {
        let mut running = lock(&self.0.running);
        if running.contains_key(&name) {
            return Ok(());
        }
        let task = self.0.metrics.task().child(format!("remote write {name}"));
        let totals = Arc::new(Totals::default());
        let sender = Sender::new(&name, config, external, spool, self.0.metrics.clone(), totals.clone())
            .with_context(|| format!("remote write to {}", config.url.0))?;
        let (follower, describing) = (spool.follow(&name), sender.clone());
        task.spawn_until_cancelled("send", async move { sender.send_always(follower).await });
        task.spawn_until_cancelled("describe", async move { describing.describe_always().await });
        running.insert(name, Running { config: config.clone(), external: external.clone(), task, totals });
        Ok(())
    }

    async fn spool(&self) -> Result<Spool> {
        if let Some(spool) = lock(&self.0.spool).clone() {
            return Ok(spool);
        }
        let dir = self.0.metrics.settings().dir.join("remote");
        let spool = tokio::task::spawn_blocking(move || Spool::open(&dir)).await??;
        Ok(lock(&self.0.spool).get_or_insert(spool).clone())
    }

    /// Adds what became of samples to an exposition.
    pub fn expose(&self, out: &mut String) {
        let running = lock(&self.0.running);
        if running.is_empty() {
            return;
        }
        let rows: [(&str, &str, &str, fn(&Totals) -> f64); 6] = [
            ("samples_total", "counter", "Samples that were sent and taken.", |totals| load(&totals.sent)),
            ("samples_failed_total", "counter", "Samples that were refused for good.", |totals| load(&totals.failed)),
            ("samples_retried_total", "counter", "Samples that were sent again.", |totals| load(&totals.retried)),
            ("samples_dropped_total", "counter", "Samples that are not sent: relabelled away or too old.", |totals| {
                load(&totals.dropped)
            }),
            ("bytes_total", "counter", "Bytes of requests that were taken.", |totals| load(&totals.bytes)),
            (
                "queue_highest_sent_timestamp_seconds",
                "gauge",
                "Timestamp of the newest sample that was taken.",
                |totals| load(&totals.newest) / 1000.0,
            ),
        ];
        for (name, kind, help, value) in rows {
            // Writing into a string cannot fail.
            let _ = write!(
                out,
                "# HELP prometheus_remote_storage_{name} {help}\n# TYPE prometheus_remote_storage_{name} {kind}\n"
            );
            for (remote, run) in running.iter() {
                let url = tsdb::labels::quote(&run.config.url.0);
                let value = promql::number::short(value(&run.totals));
                let _ = writeln!(out, "prometheus_remote_storage_{name}{{remote_name=\"{remote}\",url={url}}} {value}");
            }
        }
    }
}

/// Sends to one destination.
#[derive(Clone)]
struct Sender(Arc<Way>);

struct Way {
    name: String,
    config: RemoteWrite,
    external: Labels,
    spool: Spool,
    metrics: Metrics,
    client: Client,
    identity: Identity,
    uri: Uri,
    headers: HeaderMap,
    /// Falls back to the first where a receiver knows no other.
    version: Mutex<Version>,
    totals: Arc<Totals>,
    hasher: foldhash::fast::RandomState,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// Again, not before that long.
    Later(Option<Duration>, String),
    /// The receiver does not know this version.
    OtherVersion,
    Refused(String),
}

/// What is being gathered.
struct Queue {
    follower: Follower,
    /// Series of the file, as they are sent; none for those that are relabelled away.
    resolved: HashMap<u32, Option<Arc<Sent>>>,
    file: u64,
    items: Vec<Item>,
    /// Since when the first item waits.
    since: Option<Instant>,
}

impl Sender {
    fn new(
        name: &str,
        config: &RemoteWrite,
        external: &Labels,
        spool: &Spool,
        metrics: Metrics,
        totals: Arc<Totals>,
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let agent = concat!("madang/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        let version = if config.protobuf_message == WRITE_V2 { Version::Two } else { Version::One };
        Ok(Self(Arc::new(Way {
            name: name.to_owned(),
            client: Client::new(&config.http).map_err(anyhow::Error::msg)?,
            identity: Identity::new(config).map_err(anyhow::Error::msg)?,
            uri: config.url.0.parse().with_context(|| format!("url {}", config.url.0))?,
            headers,
            version: Mutex::new(version),
            config: config.clone(),
            external: external.clone(),
            spool: spool.clone(),
            metrics,
            totals,
            hasher: foldhash::fast::RandomState::default(),
        })))
    }

    async fn send_always(&self, follower: Follower) {
        let mut queue =
            Queue { file: follower.at().file, follower, resolved: HashMap::new(), items: Vec::new(), since: None };
        loop {
            let (after, gathered) = self.gather(queue).await;
            queue = after;
            if let Err(error) = gathered {
                tracing::error!(remote = self.0.name, "{error:#}; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let items = std::mem::take(&mut queue.items);
            queue.since = None;
            self.deliver(&items).await;
            let (spool, name, at) = (self.0.spool.clone(), self.0.name.clone(), queue.follower.at());
            let noted = tokio::task::spawn_blocking(move || note(&spool, &name, at)).await;
            if let Ok(Err(error)) = noted {
                tracing::error!(remote = self.0.name, "{error:#}; samples may be sent twice after a restart");
            }
        }
    }

    /// Reads until there is enough for a round, or nothing more has come for a while.
    async fn gather(&self, mut queue: Queue) -> (Queue, Result<()>) {
        let config = &self.0.config.queue_config;
        let deadline = config.batch_send_deadline.0;
        let one = config.max_samples_per_send.max(1) as usize;
        let most = one.saturating_mul(config.max_shards.clamp(1, SHARDS as i64) as usize);
        let mut end = self.0.spool.end();
        loop {
            end.borrow_and_update();
            let reading = self.clone();
            let read = tokio::task::spawn_blocking(move || {
                let done = reading.read(&mut queue, most);
                (queue, done)
            });
            let done = match read.await {
                Ok((after, done)) => {
                    queue = after;
                    done
                }
                // The runtime ends.
                Err(_) => return std::future::pending().await,
            };
            if let Err(error) = done {
                return (queue, Err(error));
            }
            if queue.items.len() >= one {
                return (queue, Ok(()));
            }
            let Some(since) = queue.since else {
                let _ = end.changed().await;
                continue;
            };
            let left = deadline.saturating_sub(since.elapsed());
            if left.is_zero() || tokio::time::timeout(left, end.changed()).await.is_err() {
                return (queue, Ok(()));
            }
        }
    }

    fn read(&self, queue: &mut Queue, most: usize) -> Result<()> {
        while queue.items.len() < most {
            let Some(record) = queue.follower.read_next()? else { return Ok(()) };
            if queue.file != queue.follower.at().file {
                queue.file = queue.follower.at().file;
                queue.resolved.clear();
            }
            self.take(queue, record);
            if !queue.items.is_empty() {
                queue.since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    fn take(&self, queue: &mut Queue, record: Record) {
        let config = &self.0.config;
        let oldest = self.oldest();
        let mut dropped = 0;
        let Queue { follower, resolved, items, .. } = queue;
        let mut push = |number: u32, time: i64, value: Value| {
            let metadata = follower.metadata(number);
            let known = resolved.get(&number).filter(|sent| {
                // What is known of a series may change.
                sent.as_ref().is_none_or(|sent| sent.metadata.as_ref().map(Arc::as_ptr) == metadata.map(Arc::as_ptr))
            });
            let series = match known {
                Some(series) => series.clone(),
                None => {
                    let labels = follower.labels(number).and_then(|labels| self.sent(labels));
                    let series = labels.map(|labels| Arc::new(Sent { labels, metadata: metadata.cloned() }));
                    resolved.insert(number, series.clone());
                    series
                }
            };
            match series {
                Some(series) if time >= oldest => items.push(Item { series, time, value }),
                _ => dropped += 1,
            }
        };
        for (number, time, value) in record.floats {
            push(number, time, Value::Float(value));
        }
        if config.send_native_histograms {
            for (number, time, value) in record.histograms {
                push(number, time, Value::Histogram(value));
            }
        }
        if config.send_exemplars {
            let now = Timestamp::now().as_millisecond();
            for (number, exemplar) in record.exemplars {
                push(number, exemplar.timestamp.unwrap_or(now), Value::Exemplar(exemplar));
            }
        }
        add(&self.0.totals.dropped, dropped);
    }

    /// The time of the oldest sample that is still sent.
    fn oldest(&self) -> i64 {
        match self.0.config.queue_config.sample_age_limit.0 {
            Duration::ZERO => i64::MIN,
            age => Timestamp::now().as_millisecond().saturating_sub(millis(age)),
        }
    }

    /// A series' labels as they are sent: external ones where it has none of that name, then relabelled.
    fn sent(&self, labels: &Labels) -> Option<Labels> {
        let mut builder = Builder::new(labels);
        for (name, value) in &self.0.external {
            if !labels.has(name) {
                builder.set(name, value);
            }
        }
        let kept = relabel::apply(&self.0.config.write_relabel_configs, &mut builder);
        kept.then(|| builder.labels()).filter(|labels| !labels.is_empty())
    }

    /// Sends items until each was taken or refused for good.
    async fn deliver(&self, items: &[Item]) {
        let config = &self.0.config.queue_config;
        let one = config.max_samples_per_send.max(1) as usize;
        let (least, most) = (config.min_shards.max(1) as usize, config.max_shards.clamp(1, SHARDS as i64) as usize);
        let count = items.len().div_ceil(one).clamp(least.min(most), most);
        let mut shards: Vec<Vec<Item>> = vec![Vec::new(); count];
        for item in items {
            let place = self.0.hasher.hash_one(item.series.labels.as_key()) % count as u64;
            shards[place as usize].push(item.clone());
        }
        let shards = shards.iter().filter(|shard| !shard.is_empty());
        join_all(shards.map(|shard| async move {
            for items in shard.chunks(one) {
                self.deliver_one(items).await;
            }
        }))
        .await;
    }

    /// Sends one request until it is taken or refused for good.
    async fn deliver_one(&self, items: &[Item]) {
        let config = &self.0.config.queue_config;
        let (first, longest) = (config.min_backoff.0.max(Duration::from_millis(1)), config.max_backoff.0);
        let mut backoff = first;
        let mut items = items.to_vec();
        for attempt in 0u32.. {
            let oldest = self.oldest();
            let before = items.len();
            items.retain(|item| item.time >= oldest);
            add(&self.0.totals.dropped, before - items.len());
            if items.is_empty() {
                return;
            }
            let version = *lock(&self.0.version);
            let message = request::write(version, &items);
            let size = message.len();
            match self.post(version, &message, attempt).await {
                Verdict::Taken => {
                    add(&self.0.totals.sent, items.len());
                    add(&self.0.totals.bytes, size);
                    let newest = items.iter().map(|item| item.time).max().unwrap_or(0);
                    self.0.totals.newest.fetch_max(newest.max(0) as u64, Ordering::Relaxed);
                    return;
                }
                Verdict::Refused(why) => {
                    add(&self.0.totals.failed, items.len());
                    tracing::error!(remote = self.0.name, samples = items.len(), "samples were refused: {why}");
                    return;
                }
                Verdict::OtherVersion => {
                    *lock(&self.0.version) = Version::One;
                    tracing::warn!(remote = self.0.name, "the receiver knows only the first version of remote write");
                }
                Verdict::Later(wait, why) => {
                    add(&self.0.totals.retried, items.len());
                    if attempt.is_power_of_two() {
                        tracing::warn!(remote = self.0.name, attempt, "samples wait: {why}");
                    }
                    tokio::time::sleep(wait.unwrap_or(backoff)).await;
                    backoff = (backoff * 2).min(longest.max(first));
                }
            }
        }
    }

    async fn post(&self, version: Version, message: &[u8], attempt: u32) -> Verdict {
        let packed = match snap::raw::Encoder::new().compress_vec(message) {
            Ok(packed) => Bytes::from(packed),
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        let mut headers = self.0.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(version.kind()));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static(version.number()));
        if attempt > 0 {
            headers.insert("retry-attempt", HeaderValue::from(attempt));
        }
        let exchange = async {
            self.0.identity.dress(&Method::POST, &self.0.uri, &mut headers, &packed).await?;
            let sent = self.0.client.send(Method::POST, self.0.uri.clone(), headers.clone(), packed.clone()).await;
            let response = sent.map_err(|failure| failure.to_string())?;
            let (parts, body) = response.into_parts();
            let words = if parts.status.is_success() { String::new() } else { words(body, WORDS).await };
            Ok::<_, String>((parts, words))
        };
        match tokio::time::timeout(self.0.config.remote_timeout.0, exchange).await {
            Err(_) => Verdict::Later(None, "no answer in time".to_owned()),
            Ok(Err(why)) => Verdict::Later(None, why),
            Ok(Ok((parts, words))) => {
                let again = self.0.config.queue_config.retry_on_http_429;
                judge(version, parts.status, &parts.headers, &words, again, Timestamp::now())
            }
        }
    }

    /// Version 1 has no room for descriptions beside samples: they go by themselves.
    async fn describe_always(&self) {
        let config = &self.0.config.metadata_config;
        loop {
            tokio::time::sleep(config.send_interval.0.max(Duration::from_secs(1))).await;
            if !config.send || *lock(&self.0.version) != Version::One {
                continue;
            }
            let Some(targets) = self.0.metrics.parts().targets.clone() else { continue };
            let gathered = tokio::task::spawn_blocking(move || {
                let mut found: HashMap<String, Metadata> = HashMap::new();
                targets.each_metadata(None, &mut |_, name, metadata| {
                    found.entry(name.to_owned()).or_insert_with(|| metadata.clone());
                    true
                });
                found.into_iter().collect::<Vec<_>>()
            });
            let Ok(families) = gathered.await else { return };
            for part in families.chunks(config.max_samples_per_send.max(1) as usize) {
                let message =
                    request::write_descriptions(part.iter().map(|(name, metadata)| (name.as_str(), metadata)));
                // They come again with the next round.
                let verdict = self.post(Version::One, &message, 0).await;
                if verdict != Verdict::Taken {
                    tracing::debug!(remote = self.0.name, ?verdict, "descriptions were not taken");
                }
            }
        }
    }
}

fn note(spool: &Spool, name: &str, at: At) -> Result<()> {
    spool.done(name, at)
}

/// What an answer means. See <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#retries-on-failure>.
fn judge(
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
    words: &str,
    again_on_429: bool,
    now: Timestamp,
) -> Verdict {
    let why = || format!("server returned HTTP status {status}: {words}");
    match status {
        status if status.is_success() => Verdict::Taken,
        StatusCode::TOO_MANY_REQUESTS if again_on_429 => Verdict::Later(wait(headers, now), why()),
        status if status.is_server_error() => Verdict::Later(wait(headers, now), why()),
        StatusCode::UNSUPPORTED_MEDIA_TYPE if version == Version::Two => Verdict::OtherVersion,
        _ => Verdict::Refused(why()),
    }
}

/// How long `Retry-After` says to wait: seconds, or until a date. An hour at most.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::from_millis(u64::try_from(date.as_millisecond() - now.as_millisecond()).ok()?)
        }
    };
    Some(wait.min(Duration::from_secs(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_as_the_specification_says() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut headers = HeaderMap::new();
        let case = |status: u16, headers: &HeaderMap, version, again| {
            judge(version, StatusCode::from_u16(status).unwrap(), headers, "no", again, now)
        };
        assert_eq!(case(204, &headers, Version::Two, false), Verdict::Taken);
        assert!(matches!(case(500, &headers, Version::Two, false), Verdict::Later(None, _)));
        assert!(matches!(case(400, &headers, Version::Two, false), Verdict::Refused(_)));
        assert!(matches!(case(429, &headers, Version::Two, false), Verdict::Refused(_)));
        assert!(matches!(case(429, &headers, Version::Two, true), Verdict::Later(None, _)));
        assert_eq!(case(415, &headers, Version::Two, false), Verdict::OtherVersion);
        assert!(matches!(case(415, &headers, Version::One, false), Verdict::Refused(_)));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let seven = Some(Duration::from_secs(7));
        assert!(matches!(case(503, &headers, Version::One, false), Verdict::Later(wait, _) if wait == seven));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Tue, 14 Nov 2023 22:13:27 GMT"));
        assert!(matches!(case(503, &headers, Version::One, false), Verdict::Later(wait, _) if wait == seven));
    }
}
