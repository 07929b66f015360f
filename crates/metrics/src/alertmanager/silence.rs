//! Silences: alerts that match tell nobody for a while.
//!
//! ```text
//!   pending ── starts ──▶ active ── ends, or is expired ──▶ expired ── 5 days ──▶ (gone)
//! ```
//!
//! A silence whose change would rewrite history is expired, and another one takes its place.
//! See <https://prometheus.io/docs/alerting/latest/alertmanager/#silences>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tsdb::labels::quote;

use super::{
    alert::Pairs,
    matcher::{self, Comparison, Matcher},
    route::match_all,
};

/// How long an expired silence is remembered, in milliseconds.
pub const REMEMBERED: i64 = 120 * 3_600_000;

/// A condition as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The label.
    pub name: String,
    /// With what its value is compared.
    pub value: String,
    /// Whether that is an expression.
    pub is_regex: bool,
    /// Whether it has to match; not having to is new and may be left out.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

/// A silence. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// What it is known by.
    pub id: String,
    /// Which alerts it silences: those that fulfil all.
    pub matchers: Vec<Condition>,
    /// Since when.
    pub starts_at: i64,
    /// Until when.
    pub ends_at: i64,
    /// When it was changed last.
    pub updated_at: i64,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// More of it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The state of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It silences.
    Active,
    /// It will.
    Pending,
    /// It did.
    Expired,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// Why a silence was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of this id.
    #[error("silence not found")]
    NotFound,
    /// It makes no sense, or is too much.
    #[error("{0}")]
    Invalid(String),
}

/// What silences may be.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// How many there may be, expired ones included; without end if 0.
    pub silences: usize,
    /// How large one may be, in bytes; without end if 0.
    pub bytes: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self { silences: 100_000, bytes: 64 << 10 }
    }
}

impl Silence {
    /// Its state at a time.
    pub fn state(&self, now: i64) -> State {
        if now < self.starts_at {
            State::Pending
        } else if now > self.ends_at {
            State::Expired
        } else {
            State::Active
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.matchers.is_empty() {
            return Err("at least one matcher set required".to_owned());
        }
        let mut empty = true;
        for (i, condition) in self.matchers.iter().enumerate() {
            let of = |error: String| format!("invalid label matcher {i} in set 0: {error}");
            if !matcher::is_name(&condition.name) {
                return Err(of(format!("invalid label name {}", quote(&condition.name))));
            }
            let matcher = condition.matcher().map_err(of)?;
            empty = empty && matcher.comparison.is_equal() && matcher.matches("");
        }
        if empty {
            return Err("matcher set 0: at least one matcher must not match the empty string".to_owned());
        }
        if self.ends_at < self.starts_at {
            return Err("end time must not be before start time".to_owned());
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let conditions = self.matchers.iter().map(|condition| condition.name.len() + condition.value.len() + 8);
        let annotations = self.annotations.iter().map(|(name, value)| name.len() + value.len());
        conditions.sum::<usize>() + annotations.sum::<usize>() + self.comment.len() + self.created_by.len() + 64
    }

    /// Whether another may take its place under the same id.
    fn becomes(&self, other: &Self, now: i64) -> bool {
        self.matchers == other.matchers
            && match self.state(now) {
                State::Active => {
                    self.starts_at.div_euclid(1000) == other.starts_at.div_euclid(1000) && other.ends_at >= now
                }
                State::Pending => other.starts_at >= now,
                State::Expired => false,
            }
    }

    fn expired(&self, now: i64) -> Self {
        let starts_at = if self.state(now) == State::Pending { now } else { self.starts_at };
        Self { starts_at, ends_at: now, updated_at: now, ..self.clone() }
    }
}

impl Condition {
    /// The condition as something that matches.
    pub fn matcher(&self) -> Result<Matcher, String> {
        let comparison = Comparison::of(self.is_regex, self.is_equal);
        Matcher::new(&self.name, comparison, &self.value)
            .map_err(|error| format!("invalid regular expression {}: {error}", quote(&self.value)))
    }
}

/// All silences.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    all: BTreeMap<String, (Silence, Vec<Matcher>)>,
}

impl Silences {
    /// Takes a silence as it was kept; one that makes no sense any more is left out.
    pub fn restore(&mut self, silence: Silence) {
        match silence.matchers.iter().map(Condition::matcher).collect::<Result<Vec<_>, _>>() {
            Ok(matchers) => {
                self.all.insert(silence.id.clone(), (silence, matchers));
            }
            Err(error) => tracing::error!("silence {} is left out: {error}", silence.id),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Silence> {
        self.all.values().map(|entry| &entry.0)
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.all.get(id).map(|entry| &entry.0)
    }

    /// What a wish comes to: the silences that change, of which the last is the one that was wished for. Nothing has changed
    /// yet; `fresh` is the id that a new one gets.
    pub fn set(&self, mut wish: Silence, fresh: String, now: i64, quota: Quota) -> Result<Vec<Silence>, Refused> {
        wish.check().map_err(|error| Refused::Invalid(format!("invalid silence: {error}")))?;
        if quota.bytes > 0 && wish.size() > quota.bytes {
            return Err(Refused::Invalid(format!(
                "silence exceeded maximum size: {} bytes (limit: {} bytes)",
                wish.size(),
                quota.bytes
            )));
        }
        wish.updated_at = now;
        let before = if wish.id.is_empty() { None } else { Some(self.get(&wish.id).ok_or(Refused::NotFound)?) };
        if before.is_some_and(|before| before.becomes(&wish, now)) {
            return Ok(vec![wish]);
        }
        if quota.silences > 0 && self.all.len() >= quota.silences {
            let (count, limit) = (self.all.len(), quota.silences);
            return Err(Refused::Invalid(format!("exceeded maximum number of silences: {count} (limit: {limit})")));
        }
        wish.id = fresh;
        wish.starts_at = wish.starts_at.max(now);
        let ended = before.filter(|before| before.state(now) != State::Expired).map(|before| before.expired(now));
        Ok(ended.into_iter().chain([wish]).collect())
    }

    /// What ending a silence comes to; nothing has changed yet.
    pub fn expire(&self, id: &str, now: i64) -> Result<Option<Silence>, Refused> {
        let silence = self.get(id).ok_or(Refused::NotFound)?;
        Ok((silence.state(now) != State::Expired).then(|| silence.expired(now)))
    }

    /// The ids of the silences that are active and match.
    pub fn matching(&self, labels: &Pairs, now: i64) -> Vec<String> {
        let active = self.all.values().filter(|(silence, _)| silence.state(now) == State::Active);
        active.filter(|(_, matchers)| match_all(matchers, labels)).map(|(silence, _)| silence.id.clone()).collect()
    }

    /// Forgets those that expired long ago.
    pub fn forget(&mut self, now: i64) -> Vec<String> {
        let old = self.all.values().filter(|(silence, _)| now - silence.ends_at > REMEMBERED);
        let old: Vec<String> = old.map(|(silence, _)| silence.id.clone()).collect();
        for id in &old {
            self.all.remove(id);
        }
        old
    }
}
