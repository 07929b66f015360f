//! ServiceMonitor, PodMonitor, Probe and ScrapeConfig objects as jobs, translated as the Prometheus operator does it.
//!
//! ```text
//! caches of the four kinds ── something changed ── translate ── secrets that are missing: fetch, once more ──▶ Scraper
//! ```
//!
//! What objects say never makes this process read its own files or sockets: users of the cluster write them, and they have
//! no right to those. An object that asks for it is left out and told in the log.
//!
//! In reading order:
//!
//! - `monitor`: services, pods and probes to jobs
//! - `config`: jobs that are nearly written out
//! - `parts`: what they have in common
//!
//! See <https://prometheus-operator.dev/docs/developer/getting-started/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::cache::{Cache, Scope};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use task::Task;
use tokio::sync::watch;

use crate::{
    config::{global::Global, scrape::Scrape},
    kinds::{Named, Object, PodMonitor, Probe, ScrapeConfig, ServiceMonitor},
    scrape::Scraper,
    yaml,
};

mod config;

mod monitor;

mod parts;

/// How long further changes are waited for.
const QUIET: Duration = Duration::from_millis(200);
/// How often secrets are looked up again.
const AGAIN: Duration = Duration::from_mins(5);
/// Jobs of one object at most.
const JOBS: usize = 1000;

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Whether it is a Secret.
    pub secret: bool,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The key.
    pub key: String,
}

/// What is known of keys: their text, or why there is none.
pub type Known = BTreeMap<Reference, Result<String, String>>;

/// What translating an object needs, and what it finds out.
#[derive(Debug)]
pub struct Context<'a> {
    /// The namespace of the object.
    pub namespace: &'a str,
    /// Keys.
    pub known: &'a Known,
    /// Keys that are not known yet.
    pub wanted: BTreeSet<Reference>,
}

fn translated<N: Named>(
    objects: &[Arc<Object<N>>],
    known: &Known,
    wanted: &mut BTreeSet<Reference>,
    jobs: &mut Vec<Scrape>,
    translate: impl Fn(&Object<N>, &mut Context<'_>) -> Result<Vec<serde_json::Value>, String>,
) {
    for object in objects {
        let (namespace, name) = object.names();
        let mut context = Context { namespace, known, wanted: BTreeSet::new() };
        let made = translate(object, &mut context)
            .and_then(|found| found.iter().take(JOBS).map(job).collect::<Result<Vec<_>, _>>());
        match made {
            // What is wanted may be what was missing.
            _ if !context.wanted.is_empty() => wanted.extend(context.wanted),
            Ok(made) => jobs.extend(made),
            Err(error) => tracing::warn!(kind = N::KIND, namespace, name, error, "object is left out"),
        }
    }
}

/// A job as the configuration would read it.
fn job(value: &serde_json::Value) -> Result<Scrape, String> {
    let mut job = Scrape::default();
    yaml::read(&value.to_string(), &mut job)?;
    let global = Global {
        scrape_interval: crate::builtin::INTERVAL,
        scrape_timeout: crate::builtin::TIMEOUT,
        ..Global::standard()
    };
    job.complete(&global)?;
    Ok(job)
}

/// Follows the objects and gives their jobs to `scraper`, below `task`.
pub fn start(task: &Task, client: kube::Client, scraper: Arc<Scraper>) {
    let task = task.child("operator");
    let running = task.clone();
    task.spawn_until_cancelled("operator", async move {
        let (sender, changes) = watch::channel(0u64);
        let sender = Arc::new(sender);
        let follow = Follow {
            services: cache(&running, &client, &sender),
            pods: cache(&running, &client, &sender),
            probes: cache(&running, &client, &sender),
            configs: cache(&running, &client, &sender),
            client,
            scraper,
        };
        follow.run(changes).await;
    });
}

/// All objects of a kind; `changed` counts their changes.
pub(crate) fn cache<N: Named>(
    task: &Task,
    client: &kube::Client,
    changed: &Arc<watch::Sender<u64>>,
) -> Cache<Object<N>> {
    let cache = Cache::idle();
    let changed = changed.clone();
    cache.listen(move |_| changed.send_modify(|count| *count = count.wrapping_add(1)));
    cache.start(task, Api::all(client.clone()), Scope::default());
    cache
}

struct Follow {
    services: Cache<Object<ServiceMonitor>>,
    pods: Cache<Object<PodMonitor>>,
    probes: Cache<Object<Probe>>,
    configs: Cache<Object<ScrapeConfig>>,
    client: kube::Client,
    scraper: Arc<Scraper>,
}

impl Follow {
    async fn run(self, mut changes: watch::Receiver<u64>) {
        tokio::join!(self.services.ready(), self.pods.ready(), self.probes.ready(), self.configs.ready());
        loop {
            changes.borrow_and_update();
            let references = self.apply().await;
            // Secrets are not watched; objects that name some are translated again at intervals.
            let wait = if references { AGAIN } else { Duration::MAX };
            let changed = tokio::time::timeout(wait.min(Duration::from_hours(24)), changes.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
            while tokio::time::timeout(QUIET, changes.changed()).await.is_ok_and(|changed| changed.is_ok()) {}
        }
    }

    /// Translates all objects; whether some of them name secrets.
    async fn apply(&self) -> bool {
        let mut known = Known::new();
        // One round finds what is wanted; another may find what was behind a first wanted key.
        for _ in 0..8 {
            let (mut wanted, mut jobs) = (BTreeSet::new(), Vec::new());
            translated(&self.services.list(), &known, &mut wanted, &mut jobs, monitor::service);
            translated(&self.pods.list(), &known, &mut wanted, &mut jobs, monitor::pod);
            translated(&self.probes.list(), &known, &mut wanted, &mut jobs, monitor::probe);
            translated(&self.configs.list(), &known, &mut wanted, &mut jobs, config::config);
            if wanted.is_empty() {
                self.scraper.apply("objects", jobs);
                break;
            }
            for reference in wanted {
                let found = self.fetch(&reference).await;
                known.insert(reference, found);
            }
        }
        !known.is_empty()
    }

    async fn fetch(&self, reference: &Reference) -> Result<String, String> {
        let Reference { secret, namespace, name, key } = reference;
        let kind = if *secret { "secret" } else { "configmap" };
        let told = |error: kube::Error| match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "{kind} {namespace}/{name} may not be read; allow user system:madang:edge to get it with a Role and a RoleBinding"
            ),
            error => format!("{kind} {namespace}/{name}: {error}"),
        };
        let none = || format!("{kind} {namespace}/{name} has no key {key:?}");
        if *secret {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let found = api.get(name).await.map_err(told)?;
            let bytes = found.data.unwrap_or_default().remove(key).ok_or_else(none)?;
            String::from_utf8(bytes.0).map_err(|_| format!("{kind} {namespace}/{name}: {key:?} is no text"))
        } else {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            let found = api.get(name).await.map_err(told)?;
            found.data.unwrap_or_default().remove(key).ok_or_else(none)
        }
    }
}

#[cfg(test)]
mod tests;
