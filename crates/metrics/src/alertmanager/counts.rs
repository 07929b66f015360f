//! What is counted, for `/metrics`, under Alertmanager's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{center::Center, silence::State};

/// Counters.
#[derive(Debug, Default)]
pub struct Counts {
    firing: AtomicU64,
    resolved: AtomicU64,
    invalid: AtomicU64,
    tried: AtomicU64,
    failed: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// An alert came that fires, or that has ended.
    pub fn received(&self, resolved: bool) {
        add(if resolved { &self.resolved } else { &self.firing });
    }

    /// An alert came that makes no sense.
    pub fn invalid(&self) {
        add(&self.invalid);
    }

    /// A notification was tried.
    pub fn tried(&self) {
        add(&self.tried);
    }

    /// That failed.
    pub fn failed(&self) {
        add(&self.failed);
    }
}

/// Adds the metrics in the text format.
pub fn write(center: &Center, out: &mut String) {
    let counts = center.counts();
    let now = center.now();
    let (alerts, groups, silences) = center.look(|state| {
        let mut silences = [0u64; 3];
        for silence in state.silences.all() {
            silences[match silence.state(now) {
                State::Active => 0,
                State::Pending => 1,
                State::Expired => 2,
            }] += 1;
        }
        let mut alerts = [0u64; 2];
        for alert in state.alerts.values().filter(|alert| !alert.is_resolved(now)) {
            alerts[usize::from(state.muted(&alert.labels, now).is_muted())] += 1;
        }
        (alerts, state.groups.len() as u64, silences)
    });
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(&str, u64)]| {
        writeln!(out, "# HELP alertmanager_{name} {help}\n# TYPE alertmanager_{name} {kind}").expect("strings grow");
        for (labels, value) in lines {
            writeln!(out, "alertmanager_{name}{labels} {value}").expect("strings grow");
        }
    };
    family(
        "alerts",
        "gauge",
        "How many alerts there are, by state.",
        &[("{state=\"active\"}", alerts[0]), ("{state=\"suppressed\"}", alerts[1])],
    );
    family(
        "alerts_received_total",
        "counter",
        "Alerts that came.",
        &[
            ("{status=\"firing\",version=\"v2\"}", get(&counts.firing)),
            ("{status=\"resolved\",version=\"v2\"}", get(&counts.resolved)),
        ],
    );
    family(
        "alerts_invalid_total",
        "counter",
        "Alerts that made no sense.",
        &[("{version=\"v2\"}", get(&counts.invalid))],
    );
    family("dispatcher_aggregation_groups", "gauge", "How many groups there are.", &[("", groups)]);
    family("notification_requests_total", "counter", "Notifications that were tried.", &[("", get(&counts.tried))]);
    family("notification_requests_failed_total", "counter", "Notifications that failed.", &[("", get(&counts.failed))]);
    family(
        "silences",
        "gauge",
        "How many silences there are, by state.",
        &[
            ("{state=\"active\"}", silences[0]),
            ("{state=\"pending\"}", silences[1]),
            ("{state=\"expired\"}", silences[2]),
        ],
    );
}
