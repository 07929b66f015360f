//! Where targets come from: lists, files, HTTP, DNS, Docker, Kubernetes.
//!
//! ```text
//! configuration ── start ──▶ one task a mechanism ── groups, whole each time they change ──▶ the pool of the job
//! ```
//!
//! A group that is told without targets is gone. What could not be asked is kept as it was and asked again.
//!
//! In reading order:
//!
//! - [`listed`]: groups as JSON and YAML
//! - [`file`]: groups in files
//! - [`http`]: groups told over HTTP
//! - [`dns`]: names that resolve to addresses
//! - [`docker`]: containers of a Docker engine
//! - [`kubernetes`]: objects of a cluster
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/>.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use task::Task;
use tokio::sync::mpsc;
use tsdb::labels::{Labels, quote};

use crate::{
    config::discovery::{self, Discovery},
    scrape::target::Group,
    summary,
};

pub mod listed;

pub mod file;

pub mod http;

pub mod dns;

pub mod docker;

pub mod kubernetes;

/// The cluster that this runs in.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its objects.
    pub caches: kubernetes::caches::Caches,
    /// The namespace of this process.
    pub namespace: String,
}

/// Counts what went wrong with looking targets up, by mechanism and job.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<(&'static str, String), u64>>);

/// Mechanisms with a counter of their own, and what it is called.
const OWN_COUNTERS: [(&str, &str); 4] = [
    ("dns", "prometheus_sd_dns_lookup_failures_total"),
    ("file", "prometheus_sd_file_read_errors_total"),
    ("http", "prometheus_sd_http_failures_total"),
    ("kubernetes", "prometheus_sd_kubernetes_failures_total"),
];

impl Failures {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mechanism of a job is there; its counter begins.
    fn begin(&self, mechanism: &'static str, job: &str) {
        self.lock().entry((mechanism, job.to_owned())).or_default();
    }

    fn count(&self, mechanism: &'static str, job: &str) {
        *self.lock().entry((mechanism, job.to_owned())).or_default() += 1;
    }

    /// Forgets jobs that are gone.
    pub fn keep(&self, jobs: impl Fn(&str) -> bool) {
        self.lock().retain(|(_, job), _| jobs(job));
    }

    /// Adds them in the text format.
    pub fn write(&self, out: &mut String) {
        let failures = self.lock();
        let name = "prometheus_sd_refresh_failures_total";
        summary::head(name, "counter", "Number of refresh failures for the given SD mechanism.", out);
        for ((mechanism, job), count) in failures.iter() {
            out.push_str(&format!("{name}{{config={},mechanism=\"{mechanism}\"}} {count}\n", quote(job)));
        }
        for (mechanism, name) in OWN_COUNTERS {
            let of = failures.iter().filter(|((known, _), _)| *known == mechanism);
            let count: u64 = of.map(|(_, count)| count).sum();
            summary::head(name, "counter", "Failures of this service discovery.", out);
            out.push_str(&format!("{name} {count}\n"));
        }
    }
}

/// Tells a pool of groups, each under a name that says which mechanism of the job found it.
#[derive(Clone, Debug)]
pub struct Teller {
    prefix: String,
    sender: mpsc::Sender<Vec<Group>>,
    mechanism: &'static str,
    job: String,
    failures: Arc<Failures>,
}

impl Teller {
    /// One whose groups' names begin with the mechanism and its place among those of the job; failures are counted for
    /// the job.
    pub fn new(
        mechanism: &'static str,
        place: usize,
        job: &str,
        failures: &Arc<Failures>,
        sender: &mpsc::Sender<Vec<Group>>,
    ) -> Self {
        failures.begin(mechanism, job);
        Self {
            prefix: format!("{mechanism}{place}"),
            sender: sender.clone(),
            mechanism,
            job: job.to_owned(),
            failures: failures.clone(),
        }
    }

    /// Targets could not be looked up.
    pub fn failed(&self) {
        self.failures.count(self.mechanism, &self.job);
    }

    /// Tells of groups. Nobody may be there any more to hear it.
    pub async fn tell(&self, groups: Vec<Group>) {
        let named = |group: Group| Group { source: format!("{}/{}", self.prefix, group.source), ..group };
        let _ = self.sender.send(groups.into_iter().map(named).collect()).await;
    }
}

/// Starts all mechanisms of a job below `task`.
pub fn start(
    task: &Task,
    job: &str,
    discovery: &Discovery,
    cluster: Option<&Cluster>,
    failures: &Arc<Failures>,
    sender: &mpsc::Sender<Vec<Group>>,
) {
    let teller = |mechanism: &'static str, place: usize| Teller::new(mechanism, place, job, failures, sender);
    let groups = listed_groups(&discovery.groups);
    if !groups.is_empty() {
        let teller = teller("static", 0);
        task.spawn_until_cancelled("static", async move { teller.tell(groups).await });
    }
    for (i, settings) in discovery.file.iter().enumerate() {
        let (settings, teller) = (settings.clone(), teller("file", i));
        task.spawn_until_cancelled("file", async move { file::run(settings, teller).await });
    }
    for (i, settings) in discovery.http.iter().enumerate() {
        let (settings, teller) = (settings.clone(), teller("http", i));
        task.spawn_until_cancelled("http", async move { http::run(settings, teller).await });
    }
    for (i, settings) in discovery.dns.iter().enumerate() {
        let (settings, teller) = (settings.clone(), teller("dns", i));
        task.spawn_until_cancelled("dns", async move { dns::run(settings, teller).await });
    }
    for (i, settings) in discovery.docker.iter().enumerate() {
        let (settings, teller) = (settings.clone(), teller("docker", i));
        task.spawn_until_cancelled("docker", async move { docker::run(settings, teller).await });
    }
    for (i, settings) in discovery.kubernetes.iter().enumerate() {
        let teller = teller("kubernetes", i);
        let (settings, cluster, below) = (settings.clone(), cluster.cloned(), task.clone());
        task.spawn_until_cancelled(
            "kubernetes",
            async move { kubernetes::run(below, settings, cluster, teller).await },
        );
    }
}

/// Groups that the configuration lists.
fn listed_groups(groups: &[discovery::Group]) -> Vec<Group> {
    let group = |(i, group): (usize, &discovery::Group)| Group {
        source: i.to_string(),
        targets: group.targets.iter().map(|target| Labels::from_pairs([("__address__", target)])).collect(),
        labels: group.labels.clone(),
    };
    groups.iter().enumerate().map(group).collect()
}

/// Asks again and again, giving what is known, and tells what has changed: groups that were told before and are not found any more are gone.
pub async fn refresh<F>(what: &str, interval: Duration, teller: Teller, mut ask: impl FnMut(Vec<Group>) -> F)
where
    F: Future<Output = Result<Vec<Group>, String>>,
{
    let mut told: Vec<Group> = Vec::new();
    let mut ticks = tokio::time::interval(interval.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask(told.clone()).await {
            Ok(found) => {
                let changed = changes(&told, &found);
                told = found;
                if !changed.is_empty() {
                    teller.tell(changed).await;
                }
            }
            Err(error) => {
                teller.failed();
                tracing::error!(discovery = what, error, "targets cannot be looked up; those known stay");
            }
        }
    }
}

/// What has to be told so that somebody who knows `old` knows `new`.
pub fn changes(old: &[Group], new: &[Group]) -> Vec<Group> {
    let gone = old.iter().filter(|group| !new.iter().any(|now| now.source == group.source));
    let gone = gone.map(|group| Group { source: group.source.clone(), ..Group::default() });
    let changed = new.iter().filter(|group| !old.contains(group)).cloned();
    gone.chain(changed).collect()
}

/// A name as part of a label's name: what is not a letter, a digit or an underscore becomes one.
pub fn label_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
