//! What is counted, for `/metrics`, under Alertmanager's names.

use std::{
    fmt::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::{center::Center, config::receivers::INTEGRATIONS, silence::State};
use crate::summary;

/// Counters.
#[derive(Debug, Default)]
pub struct Counts {
    firing: AtomicU64,
    resolved: AtomicU64,
    invalid: AtomicU64,
    places: [Place; INTEGRATIONS.len()],
    /// When the configuration was taken last, in milliseconds since 1970, and what it is.
    configured: AtomicU64,
    hash: AtomicU64,
    /// Whether one could not be taken since.
    broken: AtomicBool,
}

/// Upper bounds of the histogram of how long notifications take, in seconds.
const BOUNDS: [f64; 6] = [1.0, 5.0, 10.0, 15.0, 20.0, 30.0];

/// What is counted of one kind of receivers.
#[derive(Debug, Default)]
struct Place {
    requests: AtomicU64,
    failed_requests: AtomicU64,
    notifications: AtomicU64,
    /// Those that were given up, because they never would be taken, or because time was up.
    refused: AtomicU64,
    late: AtomicU64,
    latencies: [AtomicU64; BOUNDS.len()],
    milliseconds: AtomicU64,
}

fn place(integration: &str) -> usize {
    INTEGRATIONS.iter().position(|known| *known == integration).unwrap_or(INTEGRATIONS.len() - 1)
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

    /// A request was made to a kind of receivers, which took so long.
    pub fn tried(&self, integration: &str, well: bool, took: Duration) {
        let place = &self.places[place(integration)];
        add(&place.requests);
        if !well {
            add(&place.failed_requests);
        }
        for (bound, counter) in BOUNDS.iter().zip(&place.latencies) {
            if took.as_secs_f64() <= *bound {
                add(counter);
            }
        }
        place.milliseconds.fetch_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A notification was taken.
    pub fn taken(&self, integration: &str) {
        add(&self.places[place(integration)].notifications);
    }

    /// A notification was given up: because it never will be taken, or because time was up.
    pub fn given_up(&self, integration: &str, never: bool) {
        let place = &self.places[place(integration)];
        add(&place.notifications);
        add(if never { &place.refused } else { &place.late });
    }

    /// A configuration was taken.
    pub fn configured(&self, now: i64, text: &str) {
        self.configured.store(now.unsigned_abs(), Ordering::Relaxed);
        self.hash.store(u64::from(crc32fast::hash(text.as_bytes())), Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
    }

    /// A configuration could not be taken.
    pub fn broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
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
    let per_place = |value: &dyn Fn(&Place) -> u64| -> Vec<(String, u64)> {
        let row = |(name, place): (&&str, &Place)| (format!("{{integration=\"{name}\"}}"), value(place));
        INTEGRATIONS.iter().zip(&counts.places).map(row).collect()
    };
    let rows: [(&str, &str, Vec<(String, u64)>); 3] = [
        ("notification_requests_total", "Requests to receivers.", per_place(&|place| get(&place.requests))),
        (
            "notification_requests_failed_total",
            "Requests to receivers that failed.",
            per_place(&|place| get(&place.failed_requests)),
        ),
        (
            "notifications_total",
            "Notifications, those that were given up too.",
            per_place(&|place| get(&place.notifications)),
        ),
    ];
    for (name, help, lines) in rows {
        let lines: Vec<(&str, u64)> = lines.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
        family(name, "counter", help, &lines);
    }
    let refused = INTEGRATIONS.iter().zip(&counts.places).flat_map(|(name, place)| {
        let labels = |reason: &str| format!("{{integration=\"{name}\",reason=\"{reason}\"}}");
        [(labels("clientError"), get(&place.refused)), (labels("contextDeadlineExceeded"), get(&place.late))]
    });
    let refused: Vec<(String, u64)> = refused.collect();
    let lines: Vec<(&str, u64)> = refused.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
    family("notifications_failed_total", "counter", "Notifications that were given up.", &lines);
    let well = u64::from(!counts.broken.load(Ordering::Relaxed));
    family("config_last_reload_successful", "gauge", "Whether the last configuration was taken.", &[("", well)]);
    let at = get(&counts.configured) / 1000;
    family("config_last_reload_success_timestamp_seconds", "gauge", "When the configuration was taken.", &[("", at)]);
    family("config_hash", "gauge", "A digest of the configuration.", &[("", get(&counts.hash))]);
    family("cluster_members", "gauge", "Alertmanagers of the cluster: this one.", &[("", 1)]);
    family("cluster_failed_peers", "gauge", "Alertmanagers of the cluster that cannot be reached.", &[("", 0)]);
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
    latencies(counts, out);
}

/// How long requests to receivers take, as a histogram.
fn latencies(counts: &Counts, out: &mut String) {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let name = "alertmanager_notification_latency_seconds";
    summary::head(name, "histogram", "How long requests to receivers take.", out);
    for (integration, place) in INTEGRATIONS.iter().zip(&counts.places) {
        let labels = format!("integration=\"{integration}\"");
        for (bound, counter) in BOUNDS.iter().zip(&place.latencies) {
            writeln!(out, "{name}_bucket{{{labels},le=\"{bound:?}\"}} {}", get(counter)).expect("strings grow");
        }
        let (count, sum) = (get(&place.requests), get(&place.milliseconds) as f64 / 1000.0);
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}").expect("strings grow");
        writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}").expect("strings grow");
    }
}
