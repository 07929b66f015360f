//! Rules: what is computed again and again, and what alerts when it is so.
//!
//! ```text
//!   files, PrometheusRule objects ── file ──▶ groups ── keeper: one owner task a group, each at its own time of the interval
//!                                                         │ evaluate: rule after rule, independent ones side by side
//!                                                         ├──▶ series: records, ALERTS, ALERTS_FOR_STATE, ends of those that went
//!                                                         └──▶ alerts ──▶ notify
//! ```
//!
//! What an evaluation makes of a rule's alerts is a pure function of the alerts, the answer and the time ([`alert`]). A
//! group that changes takes the state of its rules along; after a restart it is found in `ALERTS_FOR_STATE` ([`restore`]).
//!
//! In reading order:
//!
//! - [`file`]: groups as they are written
//! - [`alert`]: the states of alerts
//! - [`group`]: groups, and how they are evaluated
//! - [`order`]: which rules of a group may be evaluated side by side
//! - [`restore`]: since when alerts were active before a restart
//! - [`schedule`]: when a group is evaluated
//! - [`keeper`]: the tasks
//! - [`timing`]: how long evaluations take
//! - [`exposed`]: what is told of them at `/metrics`
//! - [`objects`]: objects of a cluster
//! - [`unit`]: tests that users write for their rules
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/>.

pub mod file;

pub mod alert;

pub mod group;

pub mod order;

pub mod restore;

pub mod schedule;

pub mod keeper;

pub mod timing;

pub mod exposed;

pub mod objects;

pub mod unit;

#[cfg(test)]
mod tests;
