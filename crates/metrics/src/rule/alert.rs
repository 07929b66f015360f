//! The states of a rule's alerts: what an answer makes of them, at a time.
//!
//! ```text
//!              in the answer           true for `for`
//!   (absent) ───────────────▶ pending ────────────────▶ firing ◀─┐
//!                                │ not in the answer      │      │ back in the answer
//!                                ▼                        ▼      │
//!                             (absent)            keep_firing_for ─── over ──▶ inactive ── 15 minutes ──▶ (absent)
//! ```
//!
//! An alert that has ended is kept for a while, so that its end is sent again. Times are milliseconds since 1970.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>.

use std::collections::BTreeMap;

use tsdb::labels::{Builder, Labels, NAME};

/// The metric that tells which alerts there are.
pub const ALERTS: &str = "ALERTS";

/// The metric that tells since when alerts are active.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// The label that names an alert.
pub const ALERTNAME: &str = "alertname";

/// How long the end of an alert is remembered, in milliseconds.
const REMEMBERED: i64 = 15 * 60_000;

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has ended.
    Inactive,
    /// It is true, but not for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// What it says.
    pub annotations: Labels,
    /// Its state.
    pub state: State,
    /// The value of the expression.
    pub value: f64,
    /// Since when it is active.
    pub active_at: i64,
    /// Since when it fires.
    pub fired_at: Option<i64>,
    /// When it ended.
    pub resolved_at: Option<i64>,
    /// When it was sent last.
    pub sent_at: Option<i64>,
    /// Until when whoever got it last takes it for firing.
    pub valid_until: i64,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<i64>,
}

/// Alerts by their labels.
pub type Alerts = BTreeMap<Labels, Alert>;

/// What a rule asks of its alerts, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holds {
    /// `for`
    pub hold: i64,
    /// `keep_firing_for`
    pub keep_firing: i64,
    /// Most alerts at a time; without end if 0.
    pub limit: usize,
}

/// An alert that the answer asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its labels.
    pub labels: Labels,
    /// What it says.
    pub annotations: Labels,
    /// The value of the expression.
    pub value: f64,
}

/// Takes an answer: alerts begin, go on and end. An error says what is wrong with the answer.
pub fn advance(alerts: &mut Alerts, wanted: Vec<Wanted>, now: i64, holds: Holds) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for wanted in wanted {
        if seen.insert(wanted.labels.clone(), wanted).is_some() {
            return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
        }
    }
    for (labels, wanted) in &seen {
        let fresh = Alert {
            annotations: wanted.annotations.clone(),
            state: State::Pending,
            value: wanted.value,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            sent_at: None,
            valid_until: 0,
            keep_firing_since: None,
        };
        match alerts.get_mut(labels) {
            Some(alert) if alert.state != State::Inactive => {
                alert.value = fresh.value;
                alert.annotations = fresh.annotations;
            }
            _ => {
                alerts.insert(labels.clone(), fresh);
            }
        }
    }
    let mut active = 0;
    alerts.retain(|labels, alert| {
        if seen.contains_key(labels) {
            alert.keep_firing_since = None;
        } else {
            let mut keeps = false;
            if alert.state == State::Firing && holds.keep_firing > 0 {
                let since = *alert.keep_firing_since.get_or_insert(now);
                keeps = now - since < holds.keep_firing;
            }
            let forgotten = alert.resolved_at.is_some_and(|at| now - at > REMEMBERED);
            if alert.state == State::Pending || forgotten {
                return false;
            }
            if alert.state != State::Inactive && !keeps {
                alert.state = State::Inactive;
                alert.resolved_at = Some(now);
            }
            if !keeps {
                return true;
            }
        }
        active += 1;
        let held = now - alert.active_at >= holds.hold;
        if alert.state == State::Pending && held {
            alert.state = State::Firing;
            alert.fired_at = Some(now);
        }
        // After a restart it may turn out not to have been active for long enough.
        if alert.state == State::Firing && !held {
            alert.state = State::Pending;
            (alert.fired_at, alert.sent_at, alert.keep_firing_since) = (None, None, None);
        }
        true
    });
    if holds.limit > 0 && active > holds.limit {
        alerts.clear();
        return Err(format!("exceeded limit of {} with {active} alerts", holds.limit));
    }
    Ok(())
}

/// The series that tell of alerts which have not ended: `ALERTS` and `ALERTS_FOR_STATE`, with their values.
pub fn samples(name: &str, labels: &Labels, alerts: &Alerts) -> Vec<(Labels, f64)> {
    let mut samples = Vec::new();
    for (own, alert) in alerts.iter().filter(|(_, alert)| alert.state != State::Inactive) {
        let mut builder = Builder::new(labels);
        for (label, value) in own {
            builder.set(label, value);
        }
        builder.set(ALERTNAME, name).set(NAME, ALERTS).set("alertstate", alert.state.name());
        samples.push((builder.labels(), 1.0));
        builder.remove("alertstate").set(NAME, ALERTS_FOR_STATE);
        samples.push((builder.labels(), alert.active_at.div_euclid(1000) as f64));
    }
    samples
}

/// An alert as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its labels.
    pub labels: Labels,
    /// What it says.
    pub annotations: Labels,
    /// Since when it fires.
    pub starts_at: i64,
    /// When it ended, or until when it is to be taken for firing.
    pub ends_at: i64,
    /// Where its expression can be seen.
    pub generator_url: String,
}

/// Alerts that are to be sent now: those that ended, and those that have not been sent for `resend`. `interval` is that of
/// the group, both in milliseconds. They are noted as sent.
pub fn due(alerts: &mut Alerts, now: i64, resend: i64, interval: i64, generator_url: &str) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (labels, alert) in alerts.iter_mut().filter(|(_, alert)| alert.state != State::Pending) {
        let ended = alert.resolved_at.is_some_and(|at| alert.sent_at.is_none_or(|sent| at > sent));
        let again = alert.sent_at.is_none_or(|sent| sent + resend < now);
        if !ended && !again {
            continue;
        }
        alert.sent_at = Some(now);
        alert.valid_until = now + 4 * interval.max(resend);
        notices.push(Notice {
            labels: labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: alert.fired_at.unwrap_or(alert.active_at),
            ends_at: alert.resolved_at.unwrap_or(alert.valid_until),
            generator_url: generator_url.to_owned(),
        });
    }
    notices
}

/// The highest state that any alert has.
pub fn highest(alerts: &Alerts) -> State {
    alerts.values().map(|alert| alert.state).max().unwrap_or(State::Inactive)
}
