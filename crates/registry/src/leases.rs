//! What requests rely on, so that garbage collection leaves it alone.
//!
//! ```text
//! request: hold ─ look, store, link ─ let go ─┐
//!                                             ├─ a digest is either held or being removed, never both
//! collection: nobody for `grace` ─ remove ────┘
//! ```
//!
//! A client that was told that a blob is there does not send it: so looking is relying, and counts for `grace` after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use oci::Digest;
use tokio::sync::Notify;

/// Entries above which stale ones are dropped.
const ROOM: usize = 4096;

#[derive(Clone)]
pub(crate) struct Leases(Arc<Inner>);

struct Inner {
    grace: Duration,
    begun: Instant,
    known: Mutex<HashMap<Digest, Lease>>,
    removed: Notify,
}

#[derive(Clone, Copy)]
enum Lease {
    Held(usize),
    Until(Instant),
    Removing,
}

/// Keeps digests from being removed.
pub(crate) struct Held {
    leases: Leases,
    digests: Vec<Digest>,
}

/// A digest that nobody may rely on.
pub(crate) struct Removing {
    leases: Leases,
    digest: Digest,
}

impl Leases {
    /// Leases that last `grace` after they were let go. What an earlier process had promised counts from now.
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Inner { grace, begun: Instant::now(), known: Mutex::default(), removed: Notify::new() }))
    }

    pub fn grace(&self) -> Duration {
        self.0.grace
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, Lease>> {
        self.0.known.lock().expect("leases lock")
    }

    /// Holds `digests`, once none of them is being removed.
    pub async fn hold(&self, digests: Vec<Digest>) -> Held {
        loop {
            let removed = self.0.removed.notified();
            tokio::pin!(removed);
            removed.as_mut().enable();
            {
                let mut known = self.known();
                if !digests.iter().any(|digest| matches!(known.get(digest), Some(Lease::Removing))) {
                    for digest in &digests {
                        let lease = known.entry(digest.clone()).or_insert(Lease::Held(0));
                        *lease = match *lease {
                            Lease::Held(count) => Lease::Held(count + 1),
                            Lease::Until(_) | Lease::Removing => Lease::Held(1),
                        };
                    }
                    return Held { leases: self.clone(), digests };
                }
            }
            removed.await;
        }
    }

    /// Reserves `digest` for removal, if nobody relies on it.
    pub fn remove(&self, digest: &Digest) -> Option<Removing> {
        let now = Instant::now();
        let mut known = self.known();
        let free = match known.get(digest) {
            Some(Lease::Held(_) | Lease::Removing) => false,
            Some(Lease::Until(end)) => *end <= now,
            None => now.duration_since(self.0.begun) >= self.0.grace,
        };
        free.then(|| {
            known.insert(digest.clone(), Lease::Removing);
            Removing { leases: self.clone(), digest: digest.clone() }
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (now, grace) = (Instant::now(), self.leases.0.grace);
        let mut known = self.leases.known();
        for digest in &self.digests {
            match known.get_mut(digest) {
                Some(Lease::Held(count)) if *count > 1 => *count -= 1,
                Some(lease) => *lease = Lease::Until(now + grace),
                None => {}
            }
        }
        // After the first `grace` an ended lease says no more than none.
        if known.len() > ROOM && now.duration_since(self.leases.0.begun) >= grace {
            known.retain(|_, lease| !matches!(lease, Lease::Until(end) if *end <= now));
        }
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        self.leases.known().remove(&self.digest);
        self.leases.0.removed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_removed_that_somebody_relies_on() {
        let leases = Leases::new(Duration::from_millis(40));
        let digest = Digest::sha256(b"x");
        assert!(leases.remove(&digest).is_none(), "an earlier process may have promised it");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let one = leases.hold(vec![digest.clone()]).await;
        let two = leases.hold(vec![digest.clone()]).await;
        drop(one);
        assert!(leases.remove(&digest).is_none(), "one holds it");
        drop(two);
        assert!(leases.remove(&digest).is_none(), "it was held a moment ago");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let removing = leases.remove(&digest).unwrap();
        assert!(leases.remove(&digest).is_none(), "it is being removed");
        let waiting = leases.hold(vec![digest.clone()]);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(20), waiting.as_mut()).await;
        assert!(early.is_err(), "held while it is being removed");
        drop(removing);
        drop(waiting.await);
    }
}
