//! `madang metrics`: a Prometheus without a cluster, with Prometheus' own flags.
//!
//! ```text
//! open the data base ─ listen ─ "ready in N ms" ─ SIGHUP: configuration anew ─ SIGTERM: drain, close
//! ```
//!
//! Flags are those of <https://prometheus.io/docs/prometheus/latest/command-line/prometheus/>; those that steer what does
//! not exist here (its web pages, its log format) are taken and say nothing.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use metrics::{
    front::Front,
    settings::{Query, Settings, Web},
    web::door::Door,
};
use promql::parse::Features;
use serve::{Body, http::Limits};
use task::Task;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// How long parts may take to end.
const DRAIN: Duration = Duration::from_secs(30);

/// A length of time as Prometheus writes it.
fn span(text: &str) -> Result<Duration, String> {
    promql::duration::parse(text).map(|milliseconds| Duration::from_millis(milliseconds.unsigned_abs()))
}

/// A size with a unit of powers of 1024: `512MB`.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: a number with B, KB, MB, GB, TB, PB or EB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let unit = unit.replace("iB", "B");
    let power = units.iter().position(|known| *known == unit).ok_or_else(wrong)?;
    let bytes = number * 1024f64.powi(power as i32);
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// The flags.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Metrics {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write what is kept as blocks of Prometheus, for it or its tools to read
    Export(Export),
    /// Take blocks of Prometheus over into what is kept
    Import(Import),
    /// Test what was written for Prometheus
    #[command(subcommand)]
    Test(Test),
}

#[derive(Subcommand, Debug)]
enum Test {
    /// Run tests of rules, as promtool does
    Rules(TestRules),
}

#[derive(Args, Debug)]
struct TestRules {
    /// Only tests whose names match this expression (repeatable)
    #[arg(long, value_name = "REGEX")]
    run: Vec<regex::Regex>,
    /// Pass over fields of rules that nobody knows
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Features to switch on, as Prometheus names them, separated by commas (repeatable)
    #[arg(long = "enable-feature", value_name = "NAMES", value_delimiter = ',')]
    features: Vec<String>,
    /// Files of tests
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl TestRules {
    /// Prints what promtool prints; an error says that a test has failed.
    fn run(&self) -> Result<()> {
        let settings = metrics::rule::unit::Settings {
            run: self.run.clone(),
            features: features(&self.features)?.0,
            lenient: self.ignore_unknown_fields,
        };
        let mut failed = 0;
        for file in &self.files {
            let mut warnings = Vec::new();
            let outcome = metrics::rule::unit::test(file, &settings, &mut warnings);
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            match outcome {
                Ok(()) => println!("  SUCCESS"),
                Err(problems) => {
                    failed += 1;
                    eprintln!("  FAILED:");
                    problems.iter().for_each(|problem| eprintln!("{problem}\n"));
                }
            }
            println!();
        }
        if failed > 0 { bail!("tests of rules have failed in {failed} of {} files", self.files.len()) } else { Ok(()) }
    }
}

#[derive(Args, Debug)]
struct Export {
    /// The directory of the data base
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data/")]
    path: PathBuf,
    /// From when on, in milliseconds since 1970
    #[arg(long, default_value_t = i64::MIN, allow_negative_numbers = true)]
    min_time: i64,
    /// Up to when, in milliseconds since 1970
    #[arg(long, default_value_t = i64::MAX, allow_negative_numbers = true)]
    max_time: i64,
    /// Where the blocks are written
    to: PathBuf,
}

#[derive(Args, Debug)]
struct Import {
    /// The directory of the data base
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data/")]
    path: PathBuf,
    /// The directory with the blocks: Prometheus' own data directory, or a copy of it
    from: PathBuf,
}

#[derive(Args, Debug)]
struct Flags {
    /// The configuration; without one, and without a prometheus.yml here, nothing is collected
    #[arg(long = "config.file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen (repeatable)
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = "127.0.0.1:9090")]
    listen: Vec<String>,
    /// A file that asks for TLS, users with passwords and headers
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Connections at a time
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = 512)]
    connections: usize,
    /// Let POST /-/quit and /-/reload work
    #[arg(long = "web.enable-lifecycle")]
    lifecycle: bool,
    /// Let series be deleted and snapshots be taken over HTTP
    #[arg(long = "web.enable-admin-api")]
    admin: bool,
    /// Take samples that others write to /api/v1/write
    #[arg(long = "web.enable-remote-write-receiver")]
    receiver: bool,
    /// Take samples that others hand over by OpenTelemetry's protocol at /api/v1/otlp/v1/metrics
    #[arg(long = "web.enable-otlp-receiver")]
    otlp: bool,
    /// The directory of the data base
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data/")]
    path: PathBuf,
    /// How long samples are kept; 15d if neither this nor a size is given
    #[arg(long = "storage.tsdb.retention.time", value_name = "DURATION", value_parser = span)]
    retention: Option<Duration>,
    /// How many bytes are kept
    #[arg(long = "storage.tsdb.retention.size", value_name = "SIZE", value_parser = size)]
    retention_size: Option<u64>,
    #[arg(long = "storage.tsdb.min-block-duration", value_name = "DURATION", value_parser = span, default_value = "2h", hide = true)]
    block: Duration,
    #[arg(long = "storage.tsdb.max-block-duration", value_name = "DURATION", value_parser = span, hide = true)]
    largest_block: Option<Duration>,
    /// How often the log is synced to disk; after each scrape if 0
    #[arg(long = "storage.tsdb.sync", value_name = "DURATION", value_parser = span, default_value = "1s")]
    sync: Duration,
    /// How many exemplars are kept
    #[arg(long = "storage.exemplars", value_name = "N", default_value_t = 100_000)]
    exemplars: usize,
    /// Samples that a remote read gives at most; 0 for all
    #[arg(long = "storage.remote.read-sample-limit", value_name = "N", default_value = "5e7", value_parser = count)]
    read_samples: usize,
    /// Remote reads at a time
    #[arg(long = "storage.remote.read-concurrent-limit", value_name = "N", default_value_t = 10)]
    read_concurrency: usize,
    /// Bytes of a frame of a streamed remote read
    #[arg(long = "storage.remote.read-max-bytes-in-frame", value_name = "N", default_value_t = 1 << 20)]
    read_frame: usize,
    /// How far back queries look for the newest sample
    #[arg(long = "query.lookback-delta", value_name = "DURATION", value_parser = span, default_value = "5m")]
    lookback: Duration,
    /// Longest time of a query
    #[arg(long = "query.timeout", value_name = "DURATION", value_parser = span, default_value = "2m")]
    timeout: Duration,
    /// Queries at a time
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20)]
    concurrency: usize,
    /// Samples that a query holds at most
    #[arg(long = "query.max-samples", value_name = "N", default_value_t = 50_000_000)]
    samples: usize,
    /// Features to switch on, as Prometheus names them, separated by commas (repeatable)
    #[arg(long = "enable-feature", value_name = "NAMES", value_delimiter = ',')]
    features: Vec<String>,
    /// The configuration of the built-in Alertmanager, served below /alertmanager; without one, alerts are kept and shown
    #[arg(long = "alertmanager.config.file", value_name = "FILE")]
    alertmanager: Option<PathBuf>,
    /// Where this is reached from outside, for links in alerts
    #[arg(long = "web.external-url", value_name = "URL", default_value = "")]
    external_url: String,
    // What follows is taken because files that start Prometheus have it.
    #[arg(long = "log.level", hide = true)]
    log_level: Option<String>,
    #[arg(long = "log.format", hide = true)]
    log_format: Option<String>,
    #[arg(long = "web.console.templates", hide = true)]
    console_templates: Option<String>,
    #[arg(long = "web.console.libraries", hide = true)]
    console_libraries: Option<String>,
    #[arg(long = "web.page-title", hide = true)]
    page_title: Option<String>,
    #[arg(long = "storage.tsdb.no-lockfile", hide = true)]
    no_lockfile: bool,
    #[arg(long = "storage.tsdb.wal-compression", hide = true)]
    wal_compression: bool,
    #[arg(long = "storage.tsdb.wal-compression-type", hide = true)]
    wal_compression_type: Option<String>,
}

/// A whole number, which Prometheus also takes as `5e7`.
fn count(text: &str) -> Result<usize, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    let whole = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    if whole { Ok(number as usize) } else { Err(format!("{text:?} is no number of samples")) }
}

/// What features switch on beside parts of the language.
#[derive(Clone, Copy, Debug, Default)]
struct Switched {
    /// Zeros are put where counters began.
    zeros: bool,
    /// Points of OTLP that count since the one before are kept.
    delta: bool,
}

/// Parts of the language by the names of their features; what is always there, or not at all, says nothing.
fn features(names: &[String]) -> Result<(Features, Switched)> {
    let (mut features, mut on) = (Features::default(), Switched::default());
    for name in names {
        match name.as_str() {
            "promql-experimental-functions" => features.functions = true,
            "promql-extended-range-selectors" => features.extended_ranges = true,
            "promql-binop-fill-modifiers" => features.fill = true,
            "type-and-unit-labels" => features.type_and_unit = true,
            "promql-delayed-name-removal" => features.delayed_name_removal = true,
            "created-timestamp-zero-ingestion" => on.zeros = true,
            "otlp-native-delta-ingestion" => on.delta = true,
            "otlp-deltatocumulative" => bail!(
                "--enable-feature=otlp-deltatocumulative is not there: have the sender count from a beginning, or take \
                 otlp-native-delta-ingestion"
            ),
            "exemplar-storage"
            | "native-histograms"
            | "metadata-wal-records"
            | "extra-scrape-metrics"
            | "memory-snapshot-on-shutdown"
            | "concurrent-rule-eval"
            | "delayed-compaction"
            | "old-ui"
            | "promql-at-modifier"
            | "promql-negative-offset"
            | "auto-gomaxprocs"
            | "auto-gomemlimit"
            | "remote-write-receiver"
            | "promql-per-step-stats"
            | "promql-duration-expr"
            | "ooo-native-histograms" => {
                tracing::info!(feature = name, "is always as it is here");
            }
            unknown => tracing::warn!(feature = unknown, "unknown option for --enable-feature"),
        }
    }
    Ok((features, on))
}

impl Flags {
    fn settings(&self) -> Result<Settings> {
        let (features, on) = features(&self.features)?;
        let mut settings = Settings::new(self.path.clone());
        let usual = settings.storage.retention;
        settings.storage.retention = match (self.retention, self.retention_size) {
            (Some(given), _) => given,
            (None, Some(_)) => Duration::ZERO,
            (None, None) => usual,
        };
        settings.storage.retention_bytes = self.retention_size.unwrap_or(0);
        settings.storage.block = self.block;
        settings.storage.largest_block = self.largest_block.unwrap_or_default();
        settings.storage.sync = self.sync;
        settings.storage.exemplars = self.exemplars;
        settings.query = Query {
            lookback: self.lookback,
            timeout: self.timeout,
            concurrency: self.concurrency,
            samples: self.samples,
            features,
            give_back: Some(crate::app::give_back),
        };
        settings.web = Web {
            remote_write_receiver: self.receiver,
            otlp_receiver: self.otlp,
            otlp_native_delta: on.delta,
            created_zeros: on.zeros,
            admin: self.admin,
            lifecycle: self.lifecycle,
            console: None,
            remote_read_samples: self.read_samples,
            remote_read_concurrency: self.read_concurrency,
            remote_read_frame_bytes: self.read_frame,
        };
        settings.alertmanager.clone_from(&self.alertmanager);
        settings.external_url = self.external_url();
        settings.flags = self.shown();
        settings.config = match &self.config {
            Some(file) if !file.is_file() => bail!("--config.file {}: no such file", file.display()),
            Some(file) => Some(file.clone()),
            None => Some(PathBuf::from("prometheus.yml")).filter(|file| file.is_file()),
        };
        Ok(settings)
    }

    /// Where this is reached: as said, else by the name of this machine.
    fn external_url(&self) -> String {
        if !self.external_url.is_empty() {
            return self.external_url.clone();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let port = self.listen.first().and_then(|address| address.rsplit_once(':')).map_or("9090", |parts| parts.1);
        format!("http://{host}:{port}")
    }

    /// The flags as `/api/v1/status/flags` shows them.
    fn shown(&self) -> Vec<(String, String)> {
        let length = |span: Duration| promql::duration::print(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let config = self.config.clone().unwrap_or_else(|| "prometheus.yml".into());
        let pairs = [
            ("config.file", config.display().to_string()),
            ("web.listen-address", self.listen.join(",")),
            ("web.config.file", self.web_config.as_ref().map_or_else(String::new, |file| file.display().to_string())),
            ("web.max-connections", self.connections.to_string()),
            ("web.enable-lifecycle", self.lifecycle.to_string()),
            ("web.enable-admin-api", self.admin.to_string()),
            ("web.enable-remote-write-receiver", self.receiver.to_string()),
            ("web.enable-otlp-receiver", self.otlp.to_string()),
            ("storage.tsdb.path", self.path.display().to_string()),
            ("storage.tsdb.retention.time", length(self.retention.unwrap_or_default())),
            ("storage.tsdb.retention.size", format!("{}B", self.retention_size.unwrap_or_default())),
            ("storage.tsdb.sync", length(self.sync)),
            ("storage.remote.read-sample-limit", self.read_samples.to_string()),
            ("storage.remote.read-concurrent-limit", self.read_concurrency.to_string()),
            ("storage.remote.read-max-bytes-in-frame", self.read_frame.to_string()),
            ("query.lookback-delta", length(self.lookback)),
            ("query.timeout", length(self.timeout)),
            ("query.max-concurrency", self.concurrency.to_string()),
            ("query.max-samples", self.samples.to_string()),
            ("enable-feature", self.features.join(",")),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Metrics {
    /// Does what the command line says.
    pub fn run(self) -> Result<()> {
        match self.command {
            None => serve(&self.flags),
            Some(Command::Export(export)) => {
                let db = open(export.path)?;
                std::fs::create_dir_all(&export.to).with_context(|| format!("make {}", export.to.display()))?;
                for block in db.export(&export.to, export.min_time, export.max_time)? {
                    println!("{}", block.display());
                }
                Ok(db.close()?)
            }
            Some(Command::Test(Test::Rules(test))) => test.run(),
            Some(Command::Import(import)) => {
                let db = open(import.path)?;
                let count = db.import(&import.from)?;
                println!("{count} blocks");
                Ok(db.close()?)
            }
        }
    }
}

fn open(path: PathBuf) -> Result<tsdb::Db> {
    // What is outside of the retention is moved out or in all the same.
    let options = tsdb::options::Options { retention: Duration::ZERO, ..tsdb::options::Options::default() };
    let (db, _) = tsdb::Db::open(&path, options).with_context(|| format!("open metrics in {}", path.display()))?;
    Ok(db)
}

/// Where to listen, as Prometheus takes it: a host may be left out.
async fn listen(address: &str) -> Result<TcpListener> {
    let named = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    TcpListener::bind(&named)
        .await
        .with_context(|| format!("listen on {address}: choose another address with --web.listen-address"))
}

fn serve(flags: &Flags) -> Result<()> {
    let started = Instant::now();
    let settings = flags.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).min(8))
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let task = Task::root("metrics");
        let (mut hang_up, mut terminate, mut interrupt) =
            (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut listeners = Vec::new();
        for address in &flags.listen {
            listeners.push(listen(address).await?);
        }
        let front = flags.web_config.as_deref().map(Front::load).transpose();
        let front = front.map_err(anyhow::Error::msg).context("--web.config.file")?.map(Arc::new);
        let opening = task.clone();
        let metrics = tokio::task::spawn_blocking(move || metrics::Metrics::open(&opening, settings)).await??;
        metrics::start::start(&metrics, None).await?;
        for listener in listeners {
            let address = listener.local_addr()?;
            accept(&task, listener, address, flags.connections, metrics.clone(), front.clone());
        }
        eprintln!("ready in {} ms", started.elapsed().as_millis());
        crate::app::settle(&task);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = metrics.quit_asked() => break,
                _ = hang_up.recv() => if let Err(error) = metrics.reload().await {
                    tracing::error!("read the configuration anew: {error:#}; the former one stays in force");
                },
            }
        }
        // Requests end first; what they wait for is still there then.
        task.drain(DRAIN).await;
        metrics.close(DRAIN).await
    })
}

fn accept(
    task: &Task,
    listener: TcpListener,
    address: SocketAddr,
    connections: usize,
    metrics: metrics::Metrics,
    front: Option<Arc<Front>>,
) {
    // On loopback browsers are kept out, unless users are asked for; whoever listens elsewhere has said so.
    let guarded = front.as_ref().is_some_and(|front| front.has_users());
    let door = Door { gate: None, open: true, local_only: address.ip().is_loopback() && !guarded };
    let tls = front.as_ref().and_then(|front| front.tls());
    tracing::info!(%address, tls = tls.is_some(), "listening");
    let handler = move |request: http::Request<Body>| {
        let (metrics, door, front) = (metrics.clone(), door.clone(), front.clone());
        async move {
            let Some(front) = front else { return metrics.answer(&door, request).await };
            match front.admit(request.headers()).await {
                Ok(headers) => {
                    let mut response = metrics.answer(&door, request).await;
                    response.headers_mut().extend(headers);
                    response
                }
                Err(response) => response,
            }
        }
    };
    let limits = Limits { connections, ..Limits::default() };
    task.spawn("listener", serve::http::serve(task.child("listener"), listener, tls, limits, handler));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in
            [("512MB", Some(512 << 20)), ("1KB", Some(1024)), ("2GiB", Some(2 << 30)), ("10", None), ("x", None)]
        {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        assert_eq!(count("5e7"), Ok(50_000_000));
        assert!(count("-1").is_err() && count("0.5").is_err());
    }
}
