//! What scraping tells of itself at `/metrics`, under upstream's names.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tsdb::labels::quote;

use crate::{
    discover::Failures,
    summary::{self, Summary},
};

/// What was left out of scrapes, or went wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Samples older than newer ones of their series.
    OutOfOrder,
    /// Several values for a series and time.
    Duplicate,
    /// Samples too old or too far ahead.
    OutOfBounds,
    /// Scrapes with more samples than allowed.
    SampleLimit,
    /// Scrapes with native histograms of more buckets than allowed.
    BucketLimit,
    /// Answers longer than allowed.
    BodyLimit,
    /// Scrapes with labels beyond a limit.
    LabelLimit,
    /// Jobs with more targets than allowed.
    TargetLimit,
    /// Targets that could not be made of what was discovered.
    Sync,
}

const FAULTS: [(&str, &str); 9] = [
    ("target_scrapes_sample_out_of_order_total", "Samples older than newer ones of their series."),
    ("target_scrapes_sample_duplicate_timestamp_total", "Samples with another value for the same time."),
    ("target_scrapes_sample_out_of_bounds_total", "Samples too old or too far in the future."),
    ("target_scrapes_exceeded_sample_limit_total", "Scrapes with more samples than the limit."),
    (
        "target_scrapes_exceeded_native_histogram_bucket_limit_total",
        "Scrapes with a native histogram of more buckets than the limit.",
    ),
    ("target_scrapes_exceeded_body_size_limit_total", "Scrapes with a body longer than the limit."),
    ("target_scrape_pool_exceeded_label_limits_total", "Scrapes with labels beyond a limit."),
    ("target_scrape_pool_exceeded_target_limit_total", "Times that a job had more targets than the limit."),
    ("target_sync_failed_total", "Targets that could not be made of what was discovered."),
];

/// Counters of all jobs.
#[derive(Debug, Default)]
pub struct Counts {
    faults: [AtomicU64; FAULTS.len()],
    /// How long it takes to make targets of what was discovered, by job.
    syncs: Mutex<BTreeMap<String, Arc<Summary>>>,
    /// Time between scrapes, by configured interval.
    intervals: Mutex<BTreeMap<String, Arc<Summary>>>,
    /// What went wrong with looking targets up.
    pub discovery: Arc<Failures>,
}

fn of(summaries: &Mutex<BTreeMap<String, Arc<Summary>>>, key: &str) -> Arc<Summary> {
    let mut all = summaries.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get(key) {
        Some(summary) => summary.clone(),
        None => all.entry(key.to_owned()).or_default().clone(),
    }
}

impl Counts {
    /// Something was left out, so many times.
    pub fn add(&self, fault: Fault, count: usize) {
        self.faults[fault as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Targets of a job were made of what was discovered.
    pub fn synced(&self, job: &str, took: Duration) {
        of(&self.syncs, job).note(took);
    }

    /// Where the time between scrapes of an interval is noted.
    pub fn interval(&self, interval: &str) -> Arc<Summary> {
        of(&self.intervals, interval)
    }

    /// Forgets jobs that are gone.
    pub fn keep(&self, jobs: impl Fn(&str) -> bool) {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner).retain(|job, _| jobs(job));
        self.discovery.keep(jobs);
    }

    /// Adds everything in the text format.
    pub fn write(&self, out: &mut String) {
        self.discovery.write(out);
        for ((name, help), counter) in FAULTS.iter().zip(&self.faults) {
            let name = format!("prometheus_{name}");
            summary::head(&name, "counter", help, out);
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        for (name, help, label, summaries) in [
            (
                "prometheus_target_sync_length_seconds",
                "How long it took to make targets of what was discovered.",
                "scrape_job",
                &self.syncs,
            ),
            ("prometheus_target_interval_length_seconds", "Time between scrapes.", "interval", &self.intervals),
        ] {
            summary::head(name, "summary", help, out);
            for (key, summary) in summaries.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let labels = format!("{label}={},", quote(key));
                summary.write(name, &labels, &[0.01, 0.05, 0.5, 0.9, 0.99], out);
            }
        }
    }
}

/// What is told of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Targets that are scraped.
    pub targets: usize,
    /// Targets that were discovered, those that relabelling dropped among them.
    pub discovered: usize,
    /// The most targets that it may have; 0 for any number.
    pub limit: usize,
    /// Descriptions of families that its targets told.
    pub described: usize,
    /// Their bytes.
    pub described_bytes: usize,
}

/// Adds what is told of jobs in the text format.
pub fn write(jobs: &BTreeMap<String, Job>, out: &mut String) {
    let rows: [(&str, &str, &str, fn(&Job) -> usize); 5] = [
        ("prometheus_target_scrape_pool_targets", "scrape_job", "Targets that are scraped.", |job| job.targets),
        (
            "prometheus_target_scrape_pool_target_limit",
            "scrape_job",
            "Most targets of the job; 0 for any number.",
            |job| job.limit,
        ),
        ("prometheus_target_metadata_cache_entries", "scrape_job", "Descriptions that are known.", |job| job.described),
        ("prometheus_target_metadata_cache_bytes", "scrape_job", "Bytes of descriptions that are known.", |job| {
            job.described_bytes
        }),
        ("prometheus_sd_discovered_targets", "config", "Targets that were discovered.", |job| job.discovered),
    ];
    for (name, label, help, value) in rows {
        summary::head(name, "gauge", help, out);
        for (job, told) in jobs {
            let scrape = if label == "config" { "name=\"scrape\"," } else { "" };
            let _ = writeln!(out, "{name}{{{scrape}{label}={}}} {}", quote(job), value(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_own_counter() {
        let counts = Counts::default();
        counts.add(Fault::BodyLimit, 2);
        counts.add(Fault::Sync, 1);
        counts.synced("a", Duration::from_secs(1));
        let mut out = String::new();
        counts.write(&mut out);
        for line in [
            "prometheus_target_scrapes_exceeded_body_size_limit_total 2",
            "prometheus_target_sync_failed_total 1",
            "prometheus_target_scrapes_sample_out_of_order_total 0",
            "prometheus_target_sync_length_seconds_sum{scrape_job=\"a\"} 1",
        ] {
            assert!(out.lines().any(|found| found == line), "{line}: {out}");
        }
    }
}
