//! Everything that Alertmanager knows, and what follows from it: pure, with time handed in.
//!
//! ```text
//!   put ──▶ alerts ── route ──▶ groups ── due ──▶ flushes ── delivered ──▶ log
//!                                 ▲                  │
//!                                 └── ended alerts stay until their end was told
//! ```
//!
//! Functions that change something give the records that must be on disk first (see [`super::journal`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    alert::{self, Alert, Fingerprint, Pairs},
    config::Config,
    inhibit,
    journal::Record,
    log::{self, Entry, Log, Reason},
    route::{Options, Route, Routes, group_key},
    silence::Silences,
};

/// Most alerts that are kept; more are refused.
const MOST_ALERTS: usize = 1_000_000;

/// How long the log keeps an entry at least, in milliseconds.
const REMEMBERED: i64 = 120 * 3_600_000;

/// Most time that is granted to whoever sends alerts to do so again after a start.
const GRACE: i64 = 300_000;

/// What names a group: the number of its route, and its labels.
pub type GroupId = (usize, Pairs);

/// Alerts that are told together.
#[derive(Clone, Debug)]
pub struct Group {
    /// When it is told next.
    pub flush_at: i64,
    /// Whether it is being told.
    pub flushing: bool,
    /// Its alerts.
    pub alerts: BTreeSet<Fingerprint>,
    /// The times by which it is mute.
    pub muted_by: Vec<String>,
}

/// All there is.
#[derive(Debug)]
pub struct State {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its routes.
    pub routes: Routes,
    rules: Vec<inhibit::Rule>,
    /// Alerts that fire, or whose end is still to be told.
    pub alerts: BTreeMap<Fingerprint, Alert>,
    /// The groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// The silences.
    pub silences: Silences,
    /// What went out.
    pub log: Log,
    /// Changes with the configuration, so that flushes of former groups are known.
    generation: u64,
}

/// Why an alert tells nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Muted {
    /// Silences that match.
    pub silenced_by: Vec<String>,
    /// The alert that inhibits it.
    pub inhibited_by: Option<Fingerprint>,
}

impl Muted {
    /// Whether it tells nobody.
    pub fn is_muted(&self) -> bool {
        self.inhibited_by.is_some() || !self.silenced_by.is_empty()
    }
}

/// A group that is to be told now.
#[derive(Clone, Debug)]
pub struct Flush {
    /// Which.
    pub id: GroupId,
    generation: u64,
    /// Its name in the log.
    pub key: String,
    /// What holds for it.
    pub options: Options,
    /// When it is told.
    pub now: i64,
    /// The alerts that had ended, with when they were heard of last.
    resolved: Vec<(Fingerprint, i64)>,
    /// What is to be sent.
    pub jobs: Vec<Job>,
}

/// A notification to one place of a receiver.
#[derive(Clone, Debug)]
pub struct Job {
    /// The number of the place.
    pub place: usize,
    /// Why.
    pub reason: Reason,
    /// What is sent; nothing if the place does not want to hear of ends.
    pub alerts: Vec<Alert>,
    /// What the log gets once it has been sent.
    pub entry: Entry,
}

impl State {
    /// Nothing but a configuration.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            routes: Routes::new(config.route.as_ref().unwrap_or(&super::config::Route::default())),
            rules: config.inhibit_rules.iter().map(inhibit::Rule::new).collect(),
            config,
            alerts: BTreeMap::new(),
            groups: BTreeMap::new(),
            silences: Silences::default(),
            log: Log::default(),
            generation: 0,
        }
    }

    /// Takes records as they were kept. Whoever sends alerts is given time to do so again before they count as ended.
    pub fn restore(&mut self, records: Vec<Record>, now: i64) {
        for record in records {
            self.apply(record);
        }
        let grace = now + self.config.resolve_timeout().min(GRACE);
        for alert in self.alerts.values_mut().filter(|alert| alert.ends_at > alert.updated_at) {
            alert.ends_at = alert.ends_at.max(grace);
        }
        self.log.forget(now);
        self.silences.forget(now);
        let labels: Vec<Pairs> = self.alerts.values().map(|alert| alert.labels.clone()).collect();
        labels.iter().for_each(|labels| self.group(labels, now));
    }

    /// Takes a record that is on disk.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Alert(alert) => {
                self.alerts.insert(alert.fingerprint(), alert);
            }
            Record::Over(fingerprint) => {
                self.alerts.remove(&fingerprint);
            }
            Record::Silence(silence) => self.silences.restore(silence),
            Record::Forgotten(_) => {}
            Record::Notified(entry) => self.log.set(entry),
        }
    }

    /// All that must not be lost, for writing the journal anew.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let alerts = self.alerts.values().cloned().map(Record::Alert);
        let silences = self.silences.all().cloned().map(Record::Silence);
        let entries = self.log.all().cloned().map(Record::Notified);
        alerts.chain(silences).chain(entries)
    }

    /// What taking alerts comes to; nothing has changed yet. Alerts beyond the bound are refused with a message.
    pub fn accept(&self, alerts: Vec<Alert>, now: i64) -> (Vec<Alert>, Option<String>) {
        let mut accepted: BTreeMap<Fingerprint, Alert> = BTreeMap::new();
        let mut fresh = 0;
        let mut refused = 0;
        for alert in alerts {
            let fingerprint = alert.fingerprint();
            let before = accepted.get(&fingerprint).or_else(|| self.alerts.get(&fingerprint));
            if before.is_none() {
                if self.alerts.len() + fresh >= MOST_ALERTS {
                    refused += 1;
                    continue;
                }
                fresh += 1;
            }
            let merged = match before {
                Some(before) => alert.merged(before, now),
                None => alert,
            };
            accepted.insert(fingerprint, merged);
        }
        let problem = (refused > 0).then(|| format!("too many alerts: {refused} beyond {MOST_ALERTS} were refused"));
        (accepted.into_values().collect(), problem)
    }

    /// Takes alerts that are on disk.
    pub fn put(&mut self, alerts: Vec<Alert>, now: i64) {
        for alert in alerts {
            let labels = alert.labels.clone();
            self.apply(Record::Alert(alert));
            self.group(&labels, now);
        }
    }

    /// Puts an alert into the groups of its routes.
    fn group(&mut self, labels: &Pairs, now: i64) {
        let fingerprint = alert::fingerprint(labels);
        let starts_at = self.alerts.get(&fingerprint).map_or(now, |alert| alert.starts_at);
        for at in self.routes.find(labels) {
            let Some(route) = self.routes.get(at) else { continue };
            let id = (at, route.options.group_labels(labels));
            let wait = route.options.group_wait;
            let group = self.groups.entry(id).or_insert_with(|| Group {
                // What is old has waited already.
                flush_at: if starts_at + wait < now { now } else { now + wait },
                flushing: false,
                alerts: BTreeSet::new(),
                muted_by: Vec::new(),
            });
            group.alerts.insert(fingerprint);
        }
    }

    /// Takes another configuration; groups that stay the same keep their times.
    pub fn configure(&mut self, config: Arc<Config>, now: i64) {
        let mut fresh = Self::new(config);
        let mut before = BTreeMap::new();
        for ((at, labels), group) in &self.groups {
            if let Some(route) = self.routes.get(*at) {
                before.insert((route.id.clone(), labels.clone()), group.flush_at);
            }
        }
        std::mem::swap(&mut fresh.alerts, &mut self.alerts);
        std::mem::swap(&mut fresh.silences, &mut self.silences);
        std::mem::swap(&mut fresh.log, &mut self.log);
        fresh.generation = self.generation + 1;
        let labels: Vec<Pairs> = fresh.alerts.values().map(|alert| alert.labels.clone()).collect();
        labels.iter().for_each(|labels| fresh.group(labels, now));
        for ((at, labels), group) in &mut fresh.groups {
            let id = fresh.routes.get(*at).map(|route| (route.id.clone(), labels.clone()));
            if let Some(flush_at) = id.and_then(|id| before.get(&id)) {
                group.flush_at = *flush_at;
            }
        }
        *self = fresh;
    }

    /// When something is to be done next.
    pub fn next_due(&self) -> Option<i64> {
        self.groups.values().filter(|group| !group.flushing).map(|group| group.flush_at).min()
    }

    /// Why an alert of these labels tells nobody now, if so.
    pub fn muted(&self, labels: &Pairs, now: i64) -> Muted {
        Muted {
            silenced_by: self.silences.matching(labels, now),
            inhibited_by: inhibit::silenced_by(&self.rules, labels, self.alerts.values(), now),
        }
    }

    /// The times by which a route is mute now; `None` if it is not.
    fn mute_times(&self, options: &Options, now: i64) -> Option<Vec<String>> {
        let within = |name: &String| self.config.times(name).iter().any(|interval| interval.contains(now));
        if !options.active.is_empty() && !options.active.iter().any(within) {
            return Some(options.active.clone());
        }
        let muting: Vec<String> = options.mute.iter().filter(|name| within(name)).cloned().collect();
        (!muting.is_empty()).then_some(muting)
    }

    /// The groups that are due; they count as being told until [`Self::told`].
    pub fn flushes(&mut self, now: i64) -> Vec<Flush> {
        let due = self.groups.iter().filter(|(_, group)| !group.flushing && group.flush_at <= now);
        let due: Vec<GroupId> = due.map(|(id, _)| id.clone()).collect();
        due.into_iter().filter_map(|id| self.flush(id, now)).collect()
    }

    fn flush(&mut self, id: GroupId, now: i64) -> Option<Flush> {
        let route = self.routes.get(id.0)?;
        let options = route.options.clone();
        let key = group_key(route, &id.1);
        let muted_by = self.mute_times(&options, now);
        let group = self.groups.get_mut(&id)?;
        group.flush_at = now + options.group_interval;
        group.flushing = true;
        group.muted_by = muted_by.clone().unwrap_or_default();
        let members: Vec<Fingerprint> = group.alerts.iter().copied().collect();
        let mut alerts: Vec<Alert> = members.iter().filter_map(|member| self.alerts.get(member).cloned()).collect();
        alerts.sort_by(alert::order);
        let resolved = alerts.iter().filter(|alert| alert.is_resolved(now));
        let resolved = resolved.map(|alert| (alert.fingerprint(), alert.updated_at)).collect();
        alerts.retain(|alert| !self.muted(&alert.labels, now).is_muted());
        let jobs =
            if muted_by.is_some() || alerts.is_empty() { Vec::new() } else { self.jobs(&key, &options, &alerts, now) };
        Some(Flush { id, generation: self.generation, key, options, now, resolved, jobs })
    }

    fn jobs(&self, key: &str, options: &Options, alerts: &[Alert], now: i64) -> Vec<Job> {
        let (resolved, firing): (BTreeSet<_>, BTreeSet<_>) = {
            let (resolved, firing): (Vec<&Alert>, Vec<&Alert>) =
                alerts.iter().partition(|alert| alert.is_resolved(now));
            let prints = |alerts: Vec<&Alert>| alerts.into_iter().map(Alert::fingerprint).collect();
            (prints(resolved), prints(firing))
        };
        let Some(receiver) = self.config.receiver(&options.receiver) else { return Vec::new() };
        let places = receiver.send_resolved().into_iter().enumerate();
        let jobs = places.filter_map(|(place, send_resolved)| {
            let last = self.log.get(key, (&options.receiver, place));
            let reason = log::decide(last, &firing, &resolved, send_resolved, options.repeat_interval, now)?;
            let kept = last.filter(|_| reason != Reason::First).map(|last| last.kept.clone()).unwrap_or_default();
            let alerts = alerts.iter().filter(|alert| send_resolved || !alert.is_resolved(now)).cloned().collect();
            let entry = Entry {
                group: key.to_owned(),
                receiver: (options.receiver.clone(), place),
                at: now,
                expires: now + REMEMBERED.max(2 * options.repeat_interval),
                firing: firing.clone(),
                resolved: resolved.clone(),
                kept,
            };
            Some(Job { place, reason, alerts, entry })
        });
        jobs.collect()
    }

    /// Which alerts are over once a group was told; nothing has changed yet.
    pub fn over(&self, flush: &Flush, all_sent: bool) -> Vec<Fingerprint> {
        if flush.generation != self.generation || !all_sent {
            return Vec::new();
        }
        let over = flush.resolved.iter().filter(|(fingerprint, updated_at)| {
            let unchanged = self.alerts.get(fingerprint).is_some_and(|alert| alert.updated_at == *updated_at);
            // Other groups that have it may not have been told.
            let elsewhere = self.groups.iter().any(|(id, group)| *id != flush.id && group.alerts.contains(fingerprint));
            unchanged && !elsewhere
        });
        over.map(|(fingerprint, _)| *fingerprint).collect()
    }

    /// Notes that a group was told; what is over has been noted on disk.
    pub fn told(&mut self, flush: &Flush, all_sent: bool) {
        let over = self.over(flush, all_sent);
        if flush.generation == self.generation
            && let Some(group) = self.groups.get_mut(&flush.id)
        {
            group.flushing = false;
            if all_sent {
                for (fingerprint, updated_at) in &flush.resolved {
                    let unchanged = self.alerts.get(fingerprint).is_none_or(|alert| alert.updated_at == *updated_at);
                    if unchanged {
                        group.alerts.remove(fingerprint);
                    }
                }
            }
            if group.alerts.is_empty() {
                self.groups.remove(&flush.id);
            }
        }
        for fingerprint in over {
            self.apply(Record::Over(fingerprint));
        }
    }

    /// The route of a group.
    pub fn route(&self, id: &GroupId) -> Option<&Route> {
        self.routes.get(id.0)
    }
}
