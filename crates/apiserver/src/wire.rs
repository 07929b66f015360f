//! How an answer is encoded: all that two answers must agree in to have the same bytes.

use crate::negotiate::{Format, View};

/// What of the object comes with each row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowObject {
    /// Nothing.
    None,
    /// Its metadata, as upstream does by default.
    Metadata,
    /// All of it.
    Object,
}

/// An encoding of one resource's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wire {
    /// Bytes.
    pub format: Format,
    /// What is shown.
    pub view: View,
    /// The served version, as index into the resource's.
    pub version: usize,
    /// For tables.
    pub rows: RowObject,
    /// Whether a table names its columns; in a watch only the first does.
    pub columns: bool,
}
