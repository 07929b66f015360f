//! Keeps samples of time series: appends them, finds them again.
//!
//! ```text
//!   Batch ──▶ db ──▶ log (wal/, series/) ──▶ recent: in memory
//!                                              │ flush
//!                                              ▼
//!                                            segments (head/), merged as they grow
//!                                              │ every two hours
//!                                              ▼
//!   Selection ◀── all of them                blocks (blocks/), compacted, dropped with age
//! ```
//!
//! A commit is in the log before anybody hears of it, and on disk when that was asked for. What is in memory and in the
//! log is bounded, so that a start is fast and a series takes little. What is damaged on disk costs what it held, is
//! reported, and never stops the start. `docs/decisions/tsdb.md` says why it is made so.
//!
//! In reading order:
//!
//! - [`labels`]: what names a series
//! - [`sample`]: values at times, exemplars, the stale marker
//! - [`histogram`]: native histograms and their arithmetic
//! - [`column`]: samples of a series as columns
//! - [`options`], [`db`]: the data base; [`batch`], what is appended; [`matcher`], [`select`], what is read;
//!   [`status`], what there is of it
//! - `bytes`, `ints`, `chunk`: samples to bytes and back
//! - `symbols`, `catalog`: series of the head
//! - `frame`, `record`, `log`, `file`: the log
//! - `points`, `recent`, `segment`, `flush`: samples of the head
//! - [`exemplars`], `deletion`
//! - `head`, [`recover`]: all of the head, and what a start finds
//! - `block`, `compact`, `upkeep`: blocks, and what is done in the background
//! - [`prometheus`]: blocks of Prometheus, out and in
//! - [`probe`]: readers without files, for those who try to break them
//! - [`error`]

pub mod labels;

pub mod sample;

pub mod histogram;

pub mod column;

pub mod options;

pub mod db;

pub mod batch;

pub mod matcher;

pub mod select;

pub mod status;

mod bytes;

mod ints;

mod chunk;

mod symbols;

mod catalog;

mod frame;

pub mod record;

mod log;

mod file;

mod points;

mod recent;

mod segment;

mod flush;

pub mod exemplars;

mod deletion;

mod head;

pub mod recover;

mod block;

mod compact;

mod upkeep;

pub mod prometheus;

pub mod probe;

pub mod error;

#[cfg(test)]
mod random;

pub use catalog::SeriesRef;
pub use db::Db;
pub use error::{Error, Result};
pub use record::Metadata;
