//! All jobs, and what is shown of them.
//!
//! Jobs come from several sources: the configuration, what is built in, objects of the cluster. Each source says all of its
//! jobs at once; a job whose settings have not changed goes on undisturbed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use task::Task;
use tsdb::{
    Metadata,
    batch::Durability,
    labels::{Builder, Labels},
};

use super::{
    counts::{self, Counts},
    pool::{Common, Pool, Seen},
};
use crate::{
    Metrics,
    config::{Config, remote::WRITE_V2, scrape::Scrape},
    discover::Cluster,
    shown::{Dropped, Step, Target, Targets},
    yaml::{self, Print, Value},
};

/// Scrapes all jobs.
#[derive(Debug)]
pub struct Scraper {
    task: Task,
    common: Common,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sources: BTreeMap<String, Vec<Scrape>>,
    pools: BTreeMap<String, Pool>,
}

/// Scrapes for `metrics`, which shows the targets from now on; in a cluster if there is one.
pub fn start(metrics: &Metrics, cluster: Option<Cluster>) -> Arc<Scraper> {
    let common = Common {
        storage: metrics.storage().clone(),
        // Where the log is to be synced each time, the data base sees to that itself.
        durability: Durability::Logged,
        starts: metrics.settings().web.created_zeros,
        metadata: Arc::default(),
        counts: Arc::new(Counts::default()),
        seed: 0,
        cluster,
    };
    let scraper = Arc::new(Scraper::new(metrics.task(), common));
    let shown = scraper.clone();
    let told = scraper.clone();
    metrics.show(|parts| {
        parts.targets = Some(shown);
        parts.exposed.push(Arc::new(move |out| told.expose(out)));
    });
    scraper
}

impl Scraper {
    /// Without jobs; targets run below `task`.
    pub fn new(task: &Task, common: Common) -> Self {
        Self { task: task.child("scrape"), common, state: Mutex::default() }
    }

    /// From now on these are the jobs of a source. Where two sources have a job of the same name, that of the source whose
    /// name sorts first counts.
    pub fn apply(&self, source: &str, jobs: Vec<Scrape>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sources.insert(source.to_owned(), jobs);
        let mut wanted: BTreeMap<String, Arc<Scrape>> = BTreeMap::new();
        for (source, jobs) in &state.sources {
            for job in jobs {
                if wanted.contains_key(&job.job_name) {
                    tracing::error!(job = %job.job_name, source, "there is a job of this name already; this one is left out");
                } else {
                    wanted.insert(job.job_name.clone(), Arc::new(job.clone()));
                }
            }
        }
        state.pools.retain(|name, pool| {
            let stays = wanted.contains_key(name);
            if !stays {
                pool.remove();
            }
            stays
        });
        self.common.counts.keep(|job| wanted.contains_key(job));
        for (name, job) in wanted {
            match state.pools.get(&name) {
                Some(pool) => pool.change(job),
                None => {
                    let pool = Pool::start(&self.task, job, self.common.clone());
                    state.pools.insert(name, pool);
                }
            }
        }
    }

    /// Takes a configuration over: its jobs, and those of the files that it names.
    pub fn configure(&self, config: &Config) -> Result<(), String> {
        let jobs = config.all_scrape_configs()?;
        // Only the second version of remote write sends descriptions with the samples.
        let described = config.remote_write.iter().any(|remote| remote.protobuf_message == WRITE_V2);
        self.common.metadata.store(described, Ordering::Relaxed);
        self.apply("config", jobs);
        Ok(())
    }

    /// Adds what scraping tells of itself, in the text format.
    fn expose(&self, out: &mut String) {
        self.common.counts.write(out);
        let mut jobs = BTreeMap::new();
        self.each(None, |name, job, seen| {
            let mut told = counts::Job {
                targets: seen.active.len(),
                discovered: seen.discovered,
                limit: job.target_limit as usize,
                ..counts::Job::default()
            };
            for active in &seen.active {
                let descriptions = active.status.get().descriptions;
                told.described += descriptions.len();
                let size = |(name, about): &(String, Metadata)| name.len() + about.help.len() + about.unit.len();
                told.described_bytes += descriptions.iter().map(size).sum::<usize>();
            }
            jobs.insert(name.to_owned(), told);
        });
        counts::write(&jobs, out);
    }

    fn each(&self, only: Option<&str>, mut look: impl FnMut(&str, &Scrape, &Seen)) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, pool) in &state.pools {
            if only.is_none_or(|only| only == name) {
                let job = pool.job();
                pool.see(|seen| look(name, &job, seen));
            }
        }
    }
}

impl Targets for Scraper {
    fn pools(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pools.keys().cloned().collect()
    }

    fn pool_config(&self, pool: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Some(yaml::print(&*state.pools.get(pool)?.job()))
    }

    fn active(&self, pool: Option<&str>) -> Vec<Target> {
        let mut all = Vec::new();
        self.each(pool, |name, _, seen| {
            all.extend(seen.active.iter().map(|active| {
                let state = active.status.get();
                Target {
                    discovered: state.discovered,
                    labels: active.plan.labels.clone(),
                    pool: name.to_owned(),
                    url: active.plan.url.clone(),
                    last_error: state.last_error,
                    last_scrape: state.last_scrape,
                    last_duration: state.last_duration,
                    health: state.health,
                    interval: crate::config::units::Span(active.plan.interval).to_string(),
                    timeout: crate::config::units::Span(active.plan.timeout).to_string(),
                }
            }));
        });
        all
    }

    fn dropped(&self, pool: Option<&str>) -> Vec<Dropped> {
        let mut all = Vec::new();
        self.each(pool, |name, _, seen| {
            let dropped = |labels: &Labels| Dropped { discovered: labels.clone(), pool: name.to_owned() };
            all.extend(seen.dropped.iter().map(dropped));
        });
        all
    }

    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        self.each(None, |name, _, seen| {
            all.insert(name.to_owned(), seen.dropped_count);
        });
        all
    }

    fn each_metadata(&self, metric: Option<&str>, take: &mut dyn FnMut(&Labels, &str, &Metadata) -> bool) {
        let mut told = Vec::new();
        self.each(None, |_, _, seen| {
            told.extend(
                seen.active.iter().map(|active| (active.plan.labels.clone(), active.status.get().descriptions)),
            );
        });
        for (labels, descriptions) in told {
            for (name, metadata) in descriptions.iter() {
                if metric.is_none_or(|metric| metric == name) && !take(&labels, name, metadata) {
                    return;
                }
            }
        }
    }

    fn relabel(&self, pool: &str, labels: &Labels) -> Option<Vec<Step>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let job = state.pools.get(pool)?.job();
        let mut builder = Builder::new(labels);
        let mut steps = Vec::new();
        for rule in &job.relabel_configs {
            let keep = rule.apply(&mut builder);
            let output = if keep { builder.labels() } else { Labels::empty() };
            let mut told = json(&rule.clone().print());
            if let Some(told) = told.as_object_mut() {
                // JSON shows the usual expression too.
                told.entry("regex").or_insert_with(|| rule.regex.text().into());
            }
            steps.push(Step { rule: told, output, keep });
            if !keep {
                break;
            }
        }
        Some(steps)
    }
}

/// What is printed as YAML, as JSON.
fn json(print: &Print) -> serde_json::Value {
    match print {
        Print::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
        Print::Text(text) => text.clone().into(),
        Print::List(items) => items.iter().map(json).collect(),
        Print::Row(items) => items.iter().map(|item| serde_json::Value::from(item.clone())).collect(),
        Print::Map(pairs) => {
            serde_json::Value::Object(pairs.iter().map(|(name, value)| (name.clone(), json(value))).collect())
        }
    }
}
