//! Garbage collection while requests go on.
//!
//! ```text
//! something was linked, deleted ─ wait out the grace ─┬─ blobs that no manifest of their repository refers to: unlinked
//!                                                     └─ content that no repository has: removed
//! ```
//!
//! Each digest is reserved first (`leases`): nobody was told lately that it is there, and whoever wants it from now on
//! waits until it is gone and sends it anew.

use anyhow::{Context, Result};

use crate::{Registry, index::Change};

/// Collects whenever something may have become garbage; idle otherwise.
pub(crate) async fn run(registry: Registry) {
    let task = registry.0.task.clone();
    let grace = registry.0.leases.grace();
    while task.until_cancelled(registry.0.loosened.notified()).await.is_some() {
        // What was let go just before becomes free only after the grace.
        if task.until_cancelled(tokio::time::sleep(grace + grace / 8)).await.is_none() {
            return;
        }
        match collect(&registry).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "registry: garbage collected"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "registry: garbage is not collected"),
        }
    }
}

/// Removes what nothing refers to; returns how many blobs that were.
pub(crate) async fn collect(registry: &Registry) -> Result<usize> {
    let inner = &registry.0;
    let loose: Vec<(String, Vec<oci::Digest>)> = {
        let state = inner.index.state();
        state.repositories.iter().map(|(name, repository)| (name.clone(), repository.loose())).collect()
    };
    for (repository, digests) in loose {
        for digest in digests {
            let Some(_removing) = inner.leases.remove(&digest) else { continue };
            // A manifest that refers to it may have come since; none can come now.
            let still = inner
                .index
                .state()
                .repositories
                .get(&repository)
                .is_some_and(|repository| repository.promised(&digest).is_none());
            if still {
                let unlink = Change::Unlink { repository: repository.clone(), digest };
                inner.index.commit(vec![unlink]).await.context("unlink a blob")?;
            }
        }
    }
    let mut removed = 0;
    for digest in inner.blobs.list().await.context("list content")? {
        if inner.index.state().uses(&digest) {
            continue;
        }
        let Some(_removing) = inner.leases.remove(&digest) else { continue };
        if !inner.index.state().uses(&digest) {
            inner.blobs.remove(&digest).await.with_context(|| format!("remove {digest}"))?;
            removed += 1;
        }
    }
    inner.blobs.expire().await.context("remove uploads that rested too long")?;
    Ok(removed)
}
