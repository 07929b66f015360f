//! What is told of rules at `/metrics`, under upstream's names.

use std::{fmt::Write, sync::Arc};

use super::group::{Group, GroupState};

/// Adds the metrics of groups in the text format.
pub fn write(groups: &[Arc<Group>], out: &mut String) {
    let states: Vec<(String, &Group, GroupState)> =
        groups.iter().map(|group| (group.key(), &**group, group.state())).collect();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Group, &GroupState) -> Option<f64>| {
        let name = format!("prometheus_rule_{name}");
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (key, group, state) in &states {
            if let Some(value) = value(group, state) {
                let key = tsdb::labels::quote(key);
                writeln!(text, "{name}{{rule_group={key}}} {}", promql::number::short(value)).expect("strings grow");
            }
        }
        out.push_str(&text);
    };
    let sum = |group: &Group, of: &dyn Fn(&super::group::RuleState) -> f64| {
        Some(group.rules.iter().map(|rule| of(&rule.state())).sum::<f64>())
    };
    family("evaluations_total", "counter", "Evaluations of rules.", &|group, _| {
        sum(group, &|rule| rule.evaluations as f64)
    });
    family("evaluation_failures_total", "counter", "Evaluations of rules that failed.", &|group, _| {
        sum(group, &|rule| rule.failures as f64)
    });
    family("group_iterations_total", "counter", "Evaluations of groups that were due.", &|_, state| {
        Some(state.scheduled as f64)
    });
    family("group_iterations_missed_total", "counter", "Evaluations of groups that were left out.", &|_, state| {
        Some(state.missed as f64)
    });
    family("group_interval_seconds", "gauge", "How often a group is evaluated.", &|group, _| {
        Some(group.interval.as_secs_f64())
    });
    family("group_rules", "gauge", "How many rules there are.", &|group, _| Some(group.rules.len() as f64));
    family("group_last_duration_seconds", "gauge", "How long the last evaluation took.", &|_, state| {
        Some(state.took.as_secs_f64())
    });
    family("group_last_rule_duration_sum_seconds", "gauge", "How long its rules took together.", &|group, _| {
        sum(group, &|rule| rule.took.as_secs_f64())
    });
    family("group_last_evaluation_timestamp_seconds", "gauge", "When a group was evaluated.", &|_, state| {
        state.evaluated_at.map(|at| at as f64 / 1000.0)
    });
    family("group_last_evaluation_samples", "gauge", "How many samples that made.", &|_, state| {
        Some(state.samples as f64)
    });
    family(
        "group_last_restore_duration_seconds",
        "gauge",
        "How long it took to find states of alerts from before.",
        &|_, state| state.restored_in.map(|took| took.as_secs_f64()),
    );
}
