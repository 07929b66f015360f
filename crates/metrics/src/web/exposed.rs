//! `/metrics`: what this part tells of itself, under the names that Prometheus uses.
//!
//! Counters are few and each request adds to them once, so they share one lock.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::status::VERSION;
use crate::Metrics;

/// Counters of requests and queries.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<(&'static str, u16), u64>,
    seconds: BTreeMap<&'static str, f64>,
    failed: u64,
    reloads: (u64, u64),
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered with a status.
    pub fn answered(&self, handler: &'static str, status: u16, took: Duration) {
        let mut counts = self.lock();
        *counts.requests.entry((handler, status)).or_default() += 1;
        *counts.seconds.entry(handler).or_default() += took.as_secs_f64();
    }

    /// A query gave no answer.
    pub fn failed(&self) {
        self.lock().failed += 1;
    }

    /// The configuration was read anew.
    pub fn reloaded(&self, well: bool) {
        let mut counts = self.lock();
        if well { counts.reloads.0 += 1 } else { counts.reloads.1 += 1 }
    }
}

/// A metric with one value; writing into a string cannot fail.
pub fn single(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

/// Everything that this part tells.
pub fn text(metrics: &Metrics) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "# HELP prometheus_build_info A metric with a constant '1' value labeled by the version whose behaviour this is.\n# TYPE prometheus_build_info gauge\nprometheus_build_info{{version=\"{VERSION}\",revision=\"madang-{}\"}} 1\n",
        env!("CARGO_PKG_VERSION"),
    );
    let loaded = metrics.loaded();
    let at = loaded.at.map_or(0, jiff::Timestamp::as_second);
    let sizes = metrics.storage().db().sizes();
    let exemplars = metrics.storage().db().bounds().exemplars;
    let done = metrics.storage().db().upkeep_done();
    let singles: [(&str, &str, &str, f64); 19] = [
        ("prometheus_ready", "gauge", "Whether queries are answered.", 1.0),
        (
            "prometheus_config_last_reload_successful",
            "gauge",
            "Whether the last configuration reload attempt was successful.",
            f64::from(u8::from(loaded.successful)),
        ),
        (
            "prometheus_config_last_reload_success_timestamp_seconds",
            "gauge",
            "Timestamp of the last successful configuration reload.",
            at as f64,
        ),
        ("prometheus_tsdb_head_series", "gauge", "Total number of series in the head block.", sizes.series as f64),
        (
            "prometheus_tsdb_head_series_created_total",
            "counter",
            "Total number of series created in the head.",
            done.series_created as f64,
        ),
        (
            "prometheus_tsdb_head_series_removed_total",
            "counter",
            "Total number of series removed in the head.",
            done.series_removed as f64,
        ),
        (
            "prometheus_tsdb_compactions_triggered_total",
            "counter",
            "Times that it was looked whether blocks are to be made.",
            done.triggered as f64,
        ),
        (
            "prometheus_tsdb_compactions_total",
            "counter",
            "Total number of compactions that were executed for the partition.",
            done.compactions as f64,
        ),
        (
            "prometheus_tsdb_compactions_failed_total",
            "counter",
            "Total number of compactions that failed for the partition.",
            done.failed as f64,
        ),
        (
            "prometheus_tsdb_head_samples_in_memory",
            "gauge",
            "Samples that are not in a segment yet.",
            sizes.samples as f64,
        ),
        ("prometheus_tsdb_head_segments", "gauge", "Segments of the head.", sizes.segments as f64),
        ("prometheus_tsdb_head_bytes", "gauge", "Bytes of the log and of segments.", sizes.head_bytes as f64),
        ("prometheus_tsdb_blocks_loaded", "gauge", "Number of currently loaded data blocks.", sizes.blocks as f64),
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "gauge",
            "The number of bytes that are currently used for local storage by all blocks.",
            sizes.block_bytes as f64,
        ),
        (
            "prometheus_tsdb_lowest_timestamp_seconds",
            "gauge",
            "Lowest timestamp value stored in the database.",
            seconds(sizes.min),
        ),
        ("prometheus_tsdb_head_max_time_seconds", "gauge", "Maximum timestamp of the head block.", seconds(sizes.max)),
        (
            "prometheus_tsdb_exemplar_exemplars_in_storage",
            "gauge",
            "Number of exemplars currently in circular storage.",
            sizes.exemplars as f64,
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "gauge",
            "Total number of exemplars the exemplar storage can store, resizeable.",
            exemplars as f64,
        ),
        (
            "prometheus_tsdb_wal_corruptions_total",
            "counter",
            "Parts of files that the last start could not read.",
            metrics.report().losses.len() as f64,
        ),
    ];
    for (name, kind, help, value) in singles {
        single(&mut out, name, kind, help, promql::number::short(value));
    }
    counted(&mut out, &metrics.counters().lock());
    metrics.engine().expose(&mut out);
    metrics.storage().expose(&mut out);
    metrics.otlp().expose(&mut out);
    for exposed in &metrics.parts().exposed {
        exposed(&mut out);
    }
    out
}

fn seconds(milliseconds: i64) -> f64 {
    if matches!(milliseconds, i64::MIN | i64::MAX) { 0.0 } else { milliseconds as f64 / 1000.0 }
}

fn counted(out: &mut String, counts: &Counts) {
    let short = promql::number::short;
    let _ = write!(
        out,
        "# HELP prometheus_http_requests_total Counter of HTTP requests.\n# TYPE prometheus_http_requests_total counter\n"
    );
    for ((handler, status), count) in &counts.requests {
        let _ = writeln!(out, "prometheus_http_requests_total{{code=\"{status}\",handler=\"{handler}\"}} {count}");
    }
    let name = "prometheus_http_request_duration_seconds";
    let _ = write!(out, "# HELP {name} Latencies of HTTP requests.\n# TYPE {name} summary\n");
    for (handler, seconds) in &counts.seconds {
        let of = counts.requests.iter().filter(|((name, _), _)| name == handler);
        let count: u64 = of.map(|(_, count)| count).sum();
        let _ = writeln!(out, "{name}_sum{{handler=\"{handler}\"}} {}", short(*seconds));
        let _ = writeln!(out, "{name}_count{{handler=\"{handler}\"}} {count}");
    }
    single(out, "prometheus_engine_queries_failed_total", "counter", "Queries that gave no answer.", counts.failed);
    let name = "prometheus_config_reloads_total";
    let _ = write!(
        out,
        "# HELP {name} Attempts to read the configuration anew.\n# TYPE {name} counter\n{name}{{result=\"success\"}} {}\n{name}{{result=\"failure\"}} {}\n",
        counts.reloads.0, counts.reloads.1,
    );
}
