//! The parts put together: each shows what it has and takes the configuration over; then the first one is read.

use std::sync::Arc;

use anyhow::Result;
use task::Clock;

use crate::{
    Metrics,
    alerting::{self, Alerts},
    discover::Cluster,
    remote::{read::Readers, send::Senders},
    scrape::{Scraper, scraper},
};

/// Starts all parts. They end with the task of `metrics`. Gives rules and alerts, to which objects of a cluster may add, and
/// what scrapes, to which they may too; `cluster` is the one that this runs in, if there is one.
pub async fn start(metrics: &Metrics, cluster: Option<Cluster>) -> Result<(Alerts, Arc<Scraper>)> {
    let (storage, started) = (metrics.storage().clone(), metrics.settings().storage.clone());
    metrics.show(|parts| {
        parts.apply.push((
            "storage",
            Arc::new(move |config| {
                storage.db().set_bounds(config.storage.bounds(&started));
                Box::pin(async { Ok(()) })
            }),
        ));
    });
    let scraper = scraper::start(metrics, cluster.clone());
    let configured = scraper.clone();
    metrics.show(|parts| {
        parts.apply.push((
            "scrape",
            Arc::new(move |config| {
                let scraper = configured.clone();
                Box::pin(async move { scraper.configure(&config).map_err(anyhow::Error::msg) })
            }),
        ));
    });
    let senders = Senders::new(metrics);
    let exposed = senders.clone();
    metrics.show(|parts| {
        parts.exposed.push(Arc::new(move |out| exposed.expose(out)));
        parts.apply.push((
            "remote write",
            Arc::new(move |config| {
                let senders = senders.clone();
                Box::pin(async move { senders.apply(&config.remote_write, &config.global.external_labels).await })
            }),
        ));
    });
    let readers = Readers::new(metrics);
    let exposed = readers.clone();
    metrics.show(|parts| {
        parts.exposed.push(Arc::new(move |out| exposed.expose(out)));
        parts.apply.push((
            "remote read",
            Arc::new(move |config| {
                let applied = readers.apply(&config.remote_read, &config.global.external_labels);
                Box::pin(async { applied })
            }),
        ));
    });
    let (own, settings) = (metrics.clone(), alerting::Settings::of(metrics.settings()));
    let starting = tokio::task::spawn_blocking(move || Alerts::start(&own, settings, Clock::system(), cluster));
    let alerts = starting.await??;
    let applied = alerts.clone();
    metrics.show(|parts| {
        parts.apply.push((
            "rules and alerts",
            Arc::new(move |config| {
                let alerts = applied.clone();
                Box::pin(async move { alerts.apply(&config).await })
            }),
        ));
    });
    metrics.reload().await?;
    Ok((alerts, scraper))
}
