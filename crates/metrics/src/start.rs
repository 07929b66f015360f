//! The parts put together: each shows what it has and takes the configuration over; then the first one is read.

use std::sync::Arc;

use anyhow::Result;

use crate::{Metrics, remote::send::Senders};

/// Starts all parts. They end with the task of `metrics`.
pub async fn start(metrics: &Metrics) -> Result<()> {
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
    metrics.reload().await
}
