//! Readers of what strangers send, fed with broken input.
//!
//! ```text
//! corpus/TARGET/* ─┐
//!                  ├─ mutate ─► target ─► what came of it, in a few words ─ new? ─► kept, mutated further
//! dictionary ──────┘               └─► panic, or too slow: written to artifacts/, made smaller
//! ```
//!
//! Stable Rust has no coverage to steer by; the *kind* of outcome (which error, how many of what) takes its place: an input
//! that makes an outcome that was not seen is kept. Why not `cargo-fuzz` or `bolero`: the first needs a nightly compiler, and
//! the second steers on stable by nothing.

pub mod history;
pub mod metrics;
pub mod mutate;
pub mod pipelines;
pub mod run;
pub mod targets;
