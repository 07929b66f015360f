//! Alerts that silence others while they fire.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#inhibition-related-settings>.

use super::{
    alert::{Alert, Fingerprint, Pairs},
    config::Inhibition,
    matcher::Matcher,
    route::match_all,
};

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    sources: Vec<Matcher>,
    targets: Vec<Matcher>,
    equal: Vec<String>,
}

impl Rule {
    /// A rule as configured.
    pub fn new(source: &Inhibition) -> Self {
        Self { sources: source.sources(), targets: source.targets(), equal: source.equal.clone() }
    }

    fn same(&self, one: &Pairs, other: &Pairs) -> bool {
        self.equal.iter().all(|name| one.get(name) == other.get(name))
    }
}

/// The alert that silences one of these labels now, if any does. An alert that is source and target of a rule does not
/// silence others of that kind, nor itself.
pub fn silenced_by<'a>(
    rules: &[Rule],
    labels: &Pairs,
    alerts: impl Iterator<Item = &'a Alert> + Clone,
    now: i64,
) -> Option<Fingerprint> {
    rules.iter().filter(|rule| match_all(&rule.targets, labels)).find_map(|rule| {
        let both = match_all(&rule.sources, labels);
        let mut alerts = alerts.clone();
        let found = alerts.find(|alert| {
            !alert.is_resolved(now)
                && match_all(&rule.sources, &alert.labels)
                && rule.same(&alert.labels, labels)
                && !(both && match_all(&rule.targets, &alert.labels))
        });
        found.map(Alert::fingerprint)
    })
}
