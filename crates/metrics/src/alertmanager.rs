//! Alertmanager's job: groups alerts, keeps quiet about those that are silenced, and tells receivers of the rest.
//!
//! ```text
//!   rules, POST /alerts ──▶ center ── journal ──▶ state: routes, groups, silences, inhibition, log
//!                             │ due                    ▲
//!                             └──▶ outside: webhook, mail, Slack, PagerDuty ── taken ──┘
//! ```
//!
//! What was accepted, alerts and silences, is on disk before it is acknowledged; a notification is noted only once it was
//! taken. So every alert reaches its receiver at least once, through `kill -9` and outages of receivers. There is one of it:
//! no cluster of peers.
//!
//! In reading order:
//!
//! - [`matcher`], [`interval`]: conditions on labels and times
//! - [`config`]: the configuration
//! - [`alert`], [`route`], [`inhibit`], [`silence`], [`log`]: policy
//! - [`state`]: all of it together
//! - [`journal`]: what is on disk
//! - [`center`]: the owner
//! - [`objects`]: objects of a cluster
//! - [`outside`]: receivers of this world
//! - [`counts`], [`api`]: what is shown
//!
//! See <https://prometheus.io/docs/alerting/latest/alertmanager/>.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use task::{Clock, Task};

use crate::{rule::alert::Notice, shown::Handler};

pub mod matcher;

pub mod interval;

pub mod config;

pub mod alert;

pub mod route;

pub mod inhibit;

pub mod silence;

pub mod log;

pub mod state;

pub mod journal;

pub mod center;

pub mod objects;

pub mod outside;

pub mod counts;

pub mod api;

#[cfg(test)]
mod tests;

use alert::Alert;
use center::Center;
use config::Config;
use outside::{Outside, Shared, Texts};
use silence::Quota;

/// Alertmanager, running.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    center: Center,
    outside: Arc<Outside>,
}

impl Alertmanager {
    /// Opens what `dir` keeps and begins to tell, below `task`. Without a configuration, alerts are kept and shown, and go
    /// nowhere. Blocks the thread.
    pub fn start(task: &Task, dir: &Path, config: Option<Config>, external_url: &str, clock: Clock) -> Result<Self> {
        let config = config.unwrap_or_else(Config::built_in);
        let texts = Texts::load(&config).map_err(anyhow::Error::msg).context("load templates of notifications")?;
        let center = Center::open(dir, config, clock, Quota::default())?;
        let outside = Arc::new(Outside::new(external_url, texts));
        center.start(&task.child("alertmanager"), Arc::new(Shared(outside.clone())));
        Ok(Self { center, outside })
    }

    /// Takes another configuration. Blocks the thread.
    pub fn configure(&self, config: Option<Config>) -> Result<()> {
        let config = config.unwrap_or_else(Config::built_in);
        let texts = Texts::load(&config).map_err(anyhow::Error::msg).context("load templates of notifications");
        let texts = texts.inspect_err(|_| self.center.counts().broken())?;
        self.outside.set_texts(texts);
        self.center.configure(config);
        Ok(())
    }

    /// Its configuration could not be read.
    pub fn unread(&self) {
        self.center.counts().broken();
    }

    /// Takes alerts of rules; they are on disk afterwards.
    pub async fn put(&self, notices: Vec<Notice>) -> Result<()> {
        let now = self.center.now();
        let pairs = |labels: &tsdb::labels::Labels| {
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let alerts = notices.into_iter().map(|notice| Alert {
            labels: pairs(&notice.labels),
            annotations: pairs(&notice.annotations),
            starts_at: notice.starts_at,
            ends_at: notice.ends_at,
            updated_at: now,
            generator_url: notice.generator_url,
            timeout: false,
        });
        let alerts: Vec<Alert> = alerts.filter(|alert| alert.problem().is_none()).collect();
        alerts.iter().for_each(|alert| self.center.counts().received(alert.is_resolved(now)));
        self.center.put(alerts).await?.map_err(anyhow::Error::msg)
    }

    /// Its API, relative to where it is served.
    pub fn handler(&self) -> Handler {
        let center = self.center.clone();
        Arc::new(move |request| {
            let center = center.clone();
            Box::pin(async move { api::respond(&center, request).await })
        })
    }

    /// Adds its metrics in the text format.
    pub fn write_metrics(&self, out: &mut String) {
        counts::write(&self.center, out);
    }
}
