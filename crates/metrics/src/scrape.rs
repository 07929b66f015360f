//! Scraping: asks targets for their samples, each in its time, and writes them down.
//!
//! ```text
//! configuration ──▶ Scraper ── one Pool a job ── groups from discovery ── relabelling ──▶ targets
//!                                                                                          │ one task each
//!             storage ◀── commit ◀── Ledger ◀── lines as they come ◀── fetch ◀── ticks ◀───┘
//! ```
//!
//! A target's ticks are spread over its interval by a hash. Its samples are in the log before its `up` counts them, in one
//! commit. What a target may cost is bounded whatever is configured: bytes, samples, time, the length of a line. A target
//! that is slow, endless or malformed costs its own task and nobody else's.
//!
//! In reading order:
//!
//! - [`target`]: what a target is, out of groups, configuration and relabelling
//! - [`terms`]: what is done with its samples
//! - [`ledger`]: which series a target's lines are, and what is committed
//! - [`fresh`]: series that are made with the commit
//! - [`classic`]: classic histograms on their way to native ones
//! - [`fetch`]: the request, and the answer piece by piece
//! - [`cycle`]: one target's task
//! - [`pool`]: the targets of a job
//! - [`counts`]: what is told of all this at `/metrics`
//! - [`scraper`]: all jobs, and what is shown of them
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>.

pub mod target;

pub mod terms;

pub mod ledger;

pub mod fresh;

pub mod classic;

pub mod fetch;

pub mod cycle;

pub mod pool;

pub mod counts;

pub mod scraper;

pub use scraper::Scraper;

#[cfg(test)]
mod tests;
