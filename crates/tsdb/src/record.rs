//! What the records of the log and of the list of series say.
//!
//! | kind | says |
//! |---|---|
//! | series | strings, pairs of them, and series as runs of pairs; complete in itself |
//! | floats | slots in runs, times, and values against the value before (see [`FloatWriter`]) |
//! | histograms | slots with times and histograms |
//! | late | floats behind the last of their series |
//! | exemplars, metadata | slots with what belongs to them |
//! | deleted | slots with ranges of time |
//!
//! In reading order:
//!
//! - `series`: the list of series
//! - `floats`: samples, the bulk of all that is logged
//! - `other`: everything else

mod floats;
mod other;
mod series;

pub use floats::{FloatReader, FloatWriter, Track};
pub use other::{
    Metadata, read_deleted, read_exemplars, read_histograms, read_late, read_metadata, write_deleted, write_exemplars,
    write_histograms, write_late, write_metadata,
};
pub use series::{read_series, write_series};

/// Kinds of records.
pub mod kind {
    /// See [`super::write_series`].
    pub const SERIES: u8 = 1;
    /// See [`super::FloatWriter`].
    pub const FLOATS: u8 = 2;
    /// See [`super::write_histograms`].
    pub const HISTOGRAMS: u8 = 3;
    /// See [`super::write_exemplars`].
    pub const EXEMPLARS: u8 = 4;
    /// See [`super::write_metadata`].
    pub const METADATA: u8 = 5;
    /// See [`super::write_deleted`].
    pub const DELETED: u8 = 6;
    /// See [`super::write_late`].
    pub const LATE: u8 = 7;
}

#[cfg(test)]
mod tests;
