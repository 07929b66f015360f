//! Alerts as they are kept here.
//!
//! Times are milliseconds since 1970. An alert is known by the fingerprint of its labels, which is Prometheus' own, so that
//! users see the same one everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels or annotations.
pub type Pairs = BTreeMap<String, String>;

/// What an alert is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The fingerprint of labels: FNV-1a over names and values, each ended by a byte that no text has.
pub fn fingerprint(labels: &Pairs) -> Fingerprint {
    let bytes = labels.iter().flat_map(|(name, value)| name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Nothing has a fingerprint of its own.
    Fingerprint(if labels.is_empty() { 0xcbf2_9ce4_8422_2325 } else { hash })
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What names it.
    pub labels: Pairs,
    /// What it says.
    pub annotations: Pairs,
    /// Since when it fires.
    pub starts_at: i64,
    /// When it ended, or will be taken to have ended if nothing more is heard.
    pub ends_at: i64,
    /// When it was heard of last.
    pub updated_at: i64,
    /// Where it comes from.
    pub generator_url: String,
    /// Whether its end was set for want of one.
    pub timeout: bool,
}

impl Alert {
    /// What it is known by.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.labels)
    }

    /// Whether it has ended.
    pub fn is_resolved(&self, now: i64) -> bool {
        self.ends_at <= now
    }

    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.ends_at < self.starts_at {
            return Some("start time must be before end time".to_owned());
        }
        if self.labels.is_empty() {
            return Some("at least one label pair required".to_owned());
        }
        for (what, pairs) in [("label", &self.labels), ("annotation", &self.annotations)] {
            if pairs.keys().any(|name| !super::matcher::is_name(name)) {
                return Some(format!("invalid {what} set: invalid name \"\""));
            }
        }
        None
    }

    /// This alert with what was known of it before, if both are about the same outbreak: it began when it began first, and
    /// an end that somebody gave counts for more than one that was assumed.
    pub fn merged(mut self, before: &Self, now: i64) -> Self {
        let inside = |time: i64| time > before.starts_at && time < before.ends_at;
        if !inside(self.ends_at) && !inside(self.starts_at) {
            return self;
        }
        self.starts_at = self.starts_at.min(before.starts_at);
        let longer = before.ends_at > self.ends_at;
        let counts = if self.is_resolved(now) { before.is_resolved(now) } else { !before.timeout };
        if longer && counts {
            self.ends_at = before.ends_at;
        }
        self
    }
}

/// The order in which alerts of a group are told: by job, by instance, by all labels.
pub fn order(a: &Alert, b: &Alert) -> std::cmp::Ordering {
    let by = |name: &str| match (a.labels.get(name), b.labels.get(name)) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some(_), None) => std::cmp::Ordering::Less,
    };
    by("job").then_with(|| by("instance")).then_with(|| a.labels.cmp(&b.labels))
}
