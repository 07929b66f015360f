//! Which rules of a group may be evaluated side by side: those that read nothing that one of the others makes.
//!
//! ```text
//!   a: sum(x)   b: sum(y)   c: a + b   d: rate(z[5m])     ──▶   [a b] [c d]
//! ```
//!
//! The order of a group stays what it is: a rule that reads what a later one makes, reads what that made the time before. See
//! <https://prometheus.io/docs/prometheus/latest/feature_flags/#concurrent-evaluation-of-independent-rules>.

use std::ops::Range;

use tsdb::labels::NAME;

use super::group::Rule;

/// The alerts of rules, as series.
const ALERT_SERIES: [&str; 2] = ["ALERTS", super::alert::ALERTS_FOR_STATE];

/// Runs of rules that may be evaluated side by side, in order.
pub fn batches(rules: &[Rule]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        match batches.last_mut() {
            Some(batch) if rules[batch.clone()].iter().all(|other| !reads(rule, other) && !reads(other, rule)) => {
                batch.end = at + 1;
            }
            _ => batches.push(at..at + 1),
        }
    }
    batches
}

/// Whether a rule may read what another makes.
fn reads(rule: &Rule, other: &Rule) -> bool {
    // A template may ask for anything.
    let asks = |text: &str| text.contains("query");
    let templates = rule
        .alerting
        .as_ref()
        .is_some_and(|alerting| alerting.annotations.iter().chain(&rule.labels).any(|(_, text)| asks(text)));
    let made: &[&str] = if other.alerting.is_some() { &ALERT_SERIES } else { &[other.name.as_str()] };
    templates
        || rule.expr.selectors().iter().any(|selector| {
            let named = |name: &&str| {
                selector.matchers.iter().filter(|matcher| matcher.name == NAME).all(|matcher| matcher.matches(name))
            };
            made.iter().any(named)
        })
}
