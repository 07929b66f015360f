//! How long evaluations take, under upstream's names.

use crate::summary::{self, Summary};

/// Durations of all rules and of all groups.
#[derive(Debug, Default)]
pub struct Timings {
    /// Of single rules.
    pub rules: Summary,
    /// Of whole groups.
    pub groups: Summary,
}

impl Timings {
    /// Adds both families in the text format.
    pub fn write(&self, out: &mut String) {
        let name = "prometheus_rule_evaluation_duration_seconds";
        summary::head(name, "summary", "How long evaluations of rules take.", out);
        self.rules.write(name, "", &[0.5, 0.9, 0.99], out);
        let name = "prometheus_rule_group_duration_seconds";
        summary::head(name, "summary", "How long evaluations of groups take.", out);
        self.groups.write(name, "", &[0.01, 0.05, 0.5, 0.9, 0.99], out);
    }
}
