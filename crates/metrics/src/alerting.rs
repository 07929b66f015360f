//! Rules, notifier and Alertmanager, put together for [`crate::Metrics`].
//!
//! ```text
//!   prometheus.yml: rule_files, alerting ──┐                 ┌──▶ Alertmanager, built in ──▶ receivers
//!   PrometheusRule objects ── follow ──────┴──▶ rules ── notify ──▶ Alertmanagers of the configuration
//! ```

pub mod discovered;

pub mod follow;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use promql::parse::Features;
use task::{Clock, Task};
use tsdb::labels::Labels;

use crate::{
    Metrics,
    alertmanager::{self, Alertmanager},
    config::{self, Config, units::Names},
    discover::Cluster,
    notify::{self, Notifier},
    rule::{
        exposed,
        file::{self, File, Reading},
        group::Surroundings,
        keeper::Keeper,
    },
    yaml::Record,
};

/// What alerting is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where alerts, silences and queues are kept.
    pub dir: PathBuf,
    /// Alertmanager's configuration; without one, alerts are kept and shown.
    pub config: Option<PathBuf>,
    /// Where the web interface is reached from outside.
    pub external_url: String,
    /// After how long alerts are sent again.
    pub resend_delay: Duration,
    /// How long the server may have been down for `for` to go on.
    pub outage_tolerance: Duration,
    /// How long no alert fires after a restart that would not have fired before.
    pub grace_period: Duration,
}

impl Settings {
    /// As metrics are started.
    pub fn of(settings: &crate::settings::Settings) -> Self {
        let usual = Surroundings::default();
        Self {
            dir: settings.dir.join("alerting"),
            config: settings.alertmanager.clone(),
            external_url: settings.external_url.trim_end_matches('/').to_owned(),
            resend_delay: usual.resend_delay,
            outage_tolerance: usual.outage_tolerance,
            grace_period: usual.grace_period,
        }
    }
}

/// All of it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    metrics: Metrics,
    keeper: Keeper,
    notifier: Notifier,
    alertmanager: Alertmanager,
    /// What objects of a cluster add to the files of the configuration.
    added: Mutex<Added>,
    applied: Mutex<Option<Config>>,
    /// One change at a time; holds where alerts are sent to.
    changing: tokio::sync::Mutex<Option<Sending>>,
    clock: Clock,
    cluster: Option<Cluster>,
}

/// Where alerts are sent to, with the task that follows what is discovered of it.
#[derive(Debug)]
struct Sending {
    alerting: config::alerting::Alerting,
    external: Labels,
    discovering: Option<Task>,
}

/// How long discovery may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What objects of a cluster add to the files of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Added {
    /// Groups of rules, by the names of their files.
    pub files: Vec<(String, File)>,
    /// `AlertmanagerConfig` objects, each with what is known of the Secrets that it names: by name and key.
    pub configs: Vec<(serde_json::Value, BTreeMap<(String, String), String>)>,
}

impl Added {
    /// Adds the objects to Alertmanager's configuration; one that cannot be read is left out.
    fn configure(&self, config: &mut alertmanager::config::Config) {
        for (object, secrets) in &self.configs {
            let known = |_: &str, name: &str, key: &str| secrets.get(&(name.to_owned(), key.to_owned())).cloned();
            if let Err(error) = alertmanager::objects::add(config, object, &known) {
                tracing::warn!("an object is left out of the configuration of alerts: {error}");
            }
        }
    }
}

/// Reads Alertmanager's configuration.
fn read(path: Option<&PathBuf>) -> Result<Option<alertmanager::config::Config>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let dir = path.parent().unwrap_or(std::path::Path::new(""));
    let config = alertmanager::config::Config::parse(&text, dir);
    config.map(Some).map_err(anyhow::Error::msg).with_context(|| format!("read {}", path.display()))
}

impl Alerts {
    /// Starts Alertmanager and has all of it shown by `metrics`; no rules yet. Blocks the thread, which must belong to a
    /// runtime. `cluster` is the one that this runs in.
    pub fn start(metrics: &Metrics, settings: Settings, clock: Clock, cluster: Option<Cluster>) -> Result<Self> {
        let task = metrics.task();
        let config = read(settings.config.as_ref())?;
        let url = format!("{}/alertmanager", settings.external_url.trim_end_matches('/'));
        let alertmanager = Alertmanager::start(task, &settings.dir.join("alertmanager"), config, &url, clock.clone())?;
        let notifier = Notifier::new(task, &settings.dir.join("notify"), clock.clone(), Some(alertmanager.clone()));
        let (storage, engine) = (metrics.storage().clone(), metrics.engine().clone());
        let keeper = Keeper::new(task, clock.clone(), storage, engine, notifier.sink());
        let alerts = Self(Arc::new(Inner {
            settings,
            metrics: metrics.clone(),
            keeper: keeper.clone(),
            notifier: notifier.clone(),
            alertmanager: alertmanager.clone(),
            added: Mutex::default(),
            applied: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            clock,
            cluster,
        }));
        metrics.show(|parts| {
            parts.rules = Some(Arc::new(keeper.clone()));
            parts.notifiers = Some(Arc::new(notifier.clone()));
            parts.alertmanager = Some(alertmanager.handler());
            parts.exposed.push(Arc::new(move |out| {
                exposed::write(&keeper.all(), out);
                keeper.timings().write(out);
                notifier.write_metrics(out);
                alertmanager.write_metrics(out);
            }));
        });
        Ok(alerts)
    }

    /// Takes a configuration: its rules, and where alerts go to. Alertmanager's own is read anew. What is wrong with any of
    /// it leaves everything as it was.
    pub async fn apply(&self, config: &Config) -> Result<()> {
        let mut sending = self.0.changing.lock().await;
        self.change(config, &mut sending).await?;
        *self.0.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(config.clone());
        Ok(())
    }

    /// Takes what objects of a cluster add, in place of what they added before.
    pub async fn add(&self, added: Added) -> Result<()> {
        let mut sending = self.0.changing.lock().await;
        *self.0.added.lock().unwrap_or_else(PoisonError::into_inner) = added;
        let applied = self.0.applied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = applied.or_else(Config::start).unwrap_or_default();
        self.change(&config, &mut sending).await
    }

    /// The parts of the query language that are switched on.
    pub fn features(&self) -> Features {
        self.0.metrics.settings().query.features
    }

    /// Sends alerts to these Alertmanagers, and to what discovery finds of them.
    async fn send_to(
        &self,
        alerting: &config::alerting::Alerting,
        external: Labels,
        sending: &mut Option<Sending>,
    ) -> Result<()> {
        if sending.as_ref().is_some_and(|now| now.alerting == *alerting && now.external == external) {
            return Ok(());
        }
        let (notifier, wanted, labels) = (self.0.notifier.clone(), alerting.clone(), external.clone());
        if let Some(Sending { discovering: Some(task), .. }) = sending.take() {
            task.drain(PATIENCE).await;
        }
        let configured = tokio::task::spawn_blocking(move || {
            let listed: Vec<Vec<Labels>> = wanted.alertmanagers.iter().map(notify::listed).collect();
            notifier.configure(&wanted, labels, &listed)
        });
        configured.await?.map_err(anyhow::Error::msg)?;
        let discovering = discovered::follow(
            self.0.metrics.task(),
            self.0.clock.clone(),
            self.0.cluster.as_ref(),
            self.0.notifier.clone(),
            alerting.clone(),
            external.clone(),
        );
        *sending = Some(Sending { alerting: alerting.clone(), external, discovering });
        Ok(())
    }

    async fn change(&self, config: &Config, sending: &mut Option<Sending>) -> Result<()> {
        let settings = &self.0.settings;
        let reading = Reading { features: self.features(), names: Names::default(), lenient: false };
        let paths = config.all_rule_files().map_err(anyhow::Error::msg)?;
        let read_all = move || {
            let (mut files, mut problems) = (Vec::new(), Vec::new());
            for path in paths {
                let name = path.display().to_string();
                match std::fs::read_to_string(&path) {
                    Err(error) => problems.push(format!("{name}: {error}")),
                    Ok(text) => match file::parse(&text, &reading) {
                        Ok(file) => files.push((name, file)),
                        Err(wrong) => problems.extend(wrong.into_iter().map(|error| format!("{name}: {error}"))),
                    },
                }
            }
            (files, problems)
        };
        let (mut files, problems) = tokio::task::spawn_blocking(read_all).await?;
        for problem in &problems {
            tracing::error!("read rules: {problem}");
        }
        if let Some(first) = problems.first() {
            bail!("error loading rules, previous rule set restored: {first}");
        }
        let added = self.0.added.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.extend(added.files.iter().cloned());
        let external = config.global.external_labels.clone();
        let around = Surroundings {
            external_labels: external.clone(),
            external_url: settings.external_url.clone(),
            interval: config.global.evaluation_interval.0,
            query_offset: config.global.rule_query_offset.0,
            resend_delay: settings.resend_delay,
            outage_tolerance: settings.outage_tolerance,
            grace_period: settings.grace_period,
            reading,
        };
        let mut own = read(settings.config.as_ref()).inspect_err(|_| self.0.alertmanager.unread())?;
        if !added.configs.is_empty() {
            added.configure(own.get_or_insert_with(alertmanager::config::Config::built_in));
        }
        let alertmanager = self.0.alertmanager.clone();
        tokio::task::spawn_blocking(move || alertmanager.configure(own)).await??;
        self.send_to(&config.alerting, external, sending).await?;
        self.0.keeper.update(&files, &Arc::new(around)).await.map_err(|problems| anyhow::anyhow!(problems.join("\n")))
    }
}
