//! What a run leaves: test reports, artifacts, stashes; and for how long.
//!
//! ```text
//! workspace in a Pod ── names ─► pick ── tar of those ─► parcel ── two files ─► artifacts, stashes
//!                                                          └─► junit ─► report
//! ```
//!
//! No name of a workspace ever becomes the name of a file here: a [`parcel`] is one file of bytes and one that says which bytes are what.
//!
//! In reading order:
//!
//! - [`pick`]: which files of a workspace a step means
//! - [`parcel`]: files kept together
//! - [`artifacts`]: what a run's steps archived
//! - [`junit`]: test reports
//! - [`reports`]: those of a run
//! - [`serve`]: a file over HTTP
//! - [`door`]: all of it over HTTP
//! - [`discard`]: which runs are kept
//! - [`sweep`]: the loop that removes the others

pub mod pick;

pub mod parcel;

pub mod artifacts;

pub mod junit;

pub mod reports;

pub mod serve;

pub mod door;

pub mod discard;

pub mod sweep;
