//! What a controller has asked for and not seen yet.
//!
//! A cache lags behind what was just written. A controller that counted pods at once after creating some would create
//! them again; so it waits until it has seen what it expects, or until [`PATIENCE`] is over.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use client::cache::Key;

/// After this long the expected is given up: the watch may have missed it.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Expectations by owner.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<Key, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Before creating `count` objects of `owner`.
    pub fn expect_creations(&self, owner: &Key, count: usize) {
        self.change(owner, |expected| expected.creations += count);
    }

    /// Before deleting the object with that uid.
    pub fn expect_deletion(&self, owner: &Key, uid: &str) {
        self.change(owner, |expected| {
            expected.deletions.insert(uid.to_owned());
        });
    }

    /// A creation was seen, or failed.
    pub fn created(&self, owner: &Key) {
        if let Some(expected) = self.0.lock().expect("expectations").get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(expected) = self.0.lock().expect("expectations").get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether everything expected of `owner` has been seen.
    pub fn met(&self, owner: &Key) -> bool {
        let mut all = self.0.lock().expect("expectations");
        let met = all.get(owner).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > PATIENCE
        });
        if met {
            all.remove(owner);
        }
        met
    }

    /// The owner has gone.
    pub fn forget(&self, owner: &Key) {
        self.0.lock().expect("expectations").remove(owner);
    }

    fn change(&self, owner: &Key, with: impl FnOnce(&mut Expected)) {
        let mut all = self.0.lock().expect("expectations");
        let expected = all.entry(owner.clone()).or_insert_with(|| Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        });
        expected.since = Instant::now();
        with(expected);
    }
}

/// Versions that a controller has written: until the cache shows them, what it says of the object is out of date.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<Key, u64>>);

impl Written {
    /// The object of that key was written, and has this `metadata.resourceVersion` now.
    pub fn note(&self, key: &Key, version: Option<&str>) {
        // Versions that are no numbers cannot be compared; then a turn that comes too early ends in a conflict.
        if let Some(version) = version.and_then(|text| text.parse().ok()) {
            self.0.lock().expect("written versions").insert(key.clone(), version);
        }
    }

    /// Whether an object of this version is older than what was written.
    pub fn outdated(&self, key: &Key, version: Option<&str>) -> bool {
        let mut all = self.0.lock().expect("written versions");
        let Some(written) = all.get(key) else { return false };
        let older = version.and_then(|text| text.parse::<u64>().ok()).is_some_and(|version| version < *written);
        if !older {
            all.remove(key);
        }
        older
    }

    /// The object has gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().expect("written versions").remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_waits_for_all_that_it_asked_for() {
        let (all, owner) = (Expectations::default(), Key::new("default", "web"));
        assert!(all.met(&owner));
        all.expect_creations(&owner, 2);
        all.expect_deletion(&owner, "u1");
        all.created(&owner);
        all.deleted(&owner, "another");
        assert!(!all.met(&owner));
        all.created(&owner);
        all.deleted(&owner, "u1");
        assert!(all.met(&owner));
        all.created(&owner);
        assert!(all.met(&owner));
    }

    #[test]
    fn an_object_is_outdated_until_what_was_written_is_seen() {
        let (all, key) = (Written::default(), Key::new("default", "web"));
        assert!(!all.outdated(&key, Some("5")));
        all.note(&key, Some("10"));
        assert!(all.outdated(&key, Some("9")));
        assert!(!all.outdated(&key, Some("10")));
        assert!(!all.outdated(&key, Some("9")));
    }
}
