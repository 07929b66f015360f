//! What starts runs.
//!
//! ```text
//! push ── a Repository's status ─ pushed ─┐
//! clock ── cron ──────────────────────────┼─► PipelineRun, once
//! forge ── hook ── waiting ── look, run ──┘
//! ```
//!
//! In reading order:
//!
//! - [`declared`]: what a Jenkinsfile says of its pipeline
//! - [`given`]: values of parameters
//! - [`cron`]: when something is due
//! - [`change`]: what a hosting service knows of change requests
//! - [`hook`]: what a hosting service sends, checked
//! - [`waiting`]: which of it is written down, and what is started of that
//! - [`pushed`]: which runs pushes start
//! - [`due`]: what the clock, other pipelines and a look elsewhere start
//! - [`start`]: the loop

pub mod declared;

pub mod given;

pub mod cron;

pub mod change;

pub mod hook;

pub mod waiting;

pub mod pushed;

pub mod due;

pub mod start;
