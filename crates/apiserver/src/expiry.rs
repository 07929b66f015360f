//! Events are kept for an hour, as upstream keeps them.
//!
//! While there are none, nothing wakes up; while there are some, they are looked through every few minutes.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use store::{Compare, Op, Revision, Txn};

use crate::{object::Object, scan, selection::Selection, server::Server};

/// How long an event is kept after it was last seen.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often events are looked through.
const EVERY: Duration = Duration::from_secs(300);
/// Deletions in one commit: the store's bound is 128.
const BATCH: usize = 100;

/// Deletes old events until the server stops.
pub async fn run(server: Arc<Server>) {
    let Ok(resource) = server.resource("", "events") else { return };
    let everything = Arc::new(Selection::everything(&resource.prefix));
    while !server.task.is_cancelled() {
        if resource.cache.is_empty() {
            let Ok(mut changes) = resource.cache.watch(everything.clone(), crate::cache::Start::Now) else { return };
            if changes.replay.is_empty() {
                server.task.until_cancelled(changes.live.recv()).await;
            }
            continue;
        }
        server.task.until_cancelled(server.config.clock.sleep(EVERY)).await;
        let now = server.now();
        let old: Vec<Arc<Object>> =
            resource.cache.all(&everything).into_iter().filter(|event| is_old(event, now)).collect();
        for batch in old.chunks(BATCH) {
            let compare = batch
                .iter()
                .map(|event| Compare { key: event.key().clone(), mod_revision: Revision::new(event.revision()) });
            let ops = batch.iter().map(|event| Op::Delete { key: event.key().clone() });
            // Where one was seen again meanwhile, the whole batch waits for the next round.
            if let Err(error) = server.feed.store().commit(Txn { compare: compare.collect(), ops: ops.collect() }).await
            {
                tracing::warn!(%error, "delete old events");
                break;
            }
        }
    }
}

fn is_old(event: &Object, now: Timestamp) -> bool {
    let times: [&[&str]; 4] =
        [&["metadata", "creationTimestamp"], &["lastTimestamp"], &["eventTime"], &["series", "lastObservedTime"]];
    let seen = times.iter().filter_map(|path| scan::text(event.bytes(), path)?.parse::<Timestamp>().ok()).max();
    seen.is_some_and(|seen| now.duration_since(seen) > KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_old_an_hour_after_it_was_last_seen() {
        let event = |text: &str| Object::new("k".into(), text.to_owned().into(), 1);
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        let old = r#"{"kind":"Event","apiVersion":"v1","metadata":{"creationTimestamp":"2026-01-01T00:30:00Z"}}"#;
        assert!(is_old(&event(old), now));
        let seen = r#"{"kind":"Event","apiVersion":"v1","metadata":{"creationTimestamp":"2026-01-01T00:30:00Z"},"lastTimestamp":"2026-01-01T01:30:00Z"}"#;
        assert!(!is_old(&event(seen), now));
        assert!(!is_old(&event("{}"), now));
    }
}
