//! Which notifications went out, so that none goes twice without need and none is forgotten.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#route> for what intervals mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::alert::Fingerprint;

/// The last notification of a group to one place of a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The group.
    pub group: String,
    /// The receiver, and the number of its place there.
    pub receiver: (String, usize),
    /// When it went out, in milliseconds since 1970.
    pub at: i64,
    /// From when on it is of no interest.
    pub expires: i64,
    /// The alerts that fired.
    pub firing: BTreeSet<Fingerprint>,
    /// The alerts that had ended.
    pub resolved: BTreeSet<Fingerprint>,
    /// What the receiver wants to remember of it, such as which message it was.
    #[serde(default)]
    pub kept: BTreeMap<String, String>,
}

/// Why a notification goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The group fires for the first time, or again.
    First,
    /// It has new alerts.
    NewAlerts,
    /// Some alerts have ended.
    NewResolved,
    /// All alerts have ended.
    AllResolved,
    /// It has been long enough.
    Repeat,
}

impl Reason {
    /// As templates see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first notification",
            Self::NewAlerts => "new alerts in group",
            Self::NewResolved => "new resolved alerts in group",
            Self::AllResolved => "all alerts resolved",
            Self::Repeat => "repeat interval elapsed",
        }
    }
}

/// Whether a notification is to go out, and why. `repeat` is in milliseconds.
pub fn decide(
    last: Option<&Entry>,
    firing: &BTreeSet<Fingerprint>,
    resolved: &BTreeSet<Fingerprint>,
    send_resolved: bool,
    repeat: i64,
    now: i64,
) -> Option<Reason> {
    let Some(last) = last else { return (!firing.is_empty()).then_some(Reason::First) };
    if !firing.is_subset(&last.firing) {
        return Some(if last.firing.is_empty() { Reason::First } else { Reason::NewAlerts });
    }
    if firing.is_empty() {
        return (!last.firing.is_empty()).then_some(Reason::AllResolved);
    }
    if send_resolved && !resolved.is_subset(&last.resolved) {
        return Some(Reason::NewResolved);
    }
    (last.at < now - repeat).then_some(Reason::Repeat)
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub struct Log(BTreeMap<(String, (String, usize)), Entry>);

impl Log {
    /// Takes an entry in place of the one before.
    pub fn set(&mut self, entry: Entry) {
        self.0.insert((entry.group.clone(), entry.receiver.clone()), entry);
    }

    /// The last notification of a group to a place of a receiver.
    pub fn get(&self, group: &str, receiver: (&str, usize)) -> Option<&Entry> {
        self.0.get(&(group.to_owned(), (receiver.0.to_owned(), receiver.1)))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// Forgets those that are of no interest any more.
    pub fn forget(&mut self, now: i64) {
        self.0.retain(|_, entry| entry.expires > now);
    }
}
