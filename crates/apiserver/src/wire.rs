//! How an answer is encoded: all that two answers must agree in to have the same bytes.

use api::print::Include;

use crate::negotiate::{Format, View};

/// An encoding of one resource's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Bytes.
    pub format: Format,
    /// What is shown.
    pub view: View,
    /// The served version, as index into the resource's.
    pub version: usize,
    /// For tables.
    pub rows: Include,
    /// Whether a table names its columns; in a watch only the first does.
    pub columns: bool,
}
