//! Releases: move a route's traffic to a new version in steps, and back as soon as its metrics say that it is bad.
//!
//! ```text
//! Release ─► policy (pure): which weight, which question, how long until the next look
//!              │ weight                  │ question                         ▲ verdict
//!              ▼                         ▼                                  │
//!           HTTPRoute                 PromQL over HTTP ─────────────────────┘
//! ```
//!
//! It writes weights of any HTTPRoute and asks any Prometheus: whoever implements either is of no account here.
//!
//! In reading order:
//!
//! - [`kind`]: what a Release says, and what is said of it
//! - [`policy`]: what is done next
//! - [`route`]: weights in a route
//! - [`prometheus`]: questions and verdicts
//! - [`run`]: the loop
//! - [`builtin`]: what every cluster has

pub mod kind;

pub mod policy;

pub mod route;

pub mod prometheus;

pub mod run;

pub mod builtin;
