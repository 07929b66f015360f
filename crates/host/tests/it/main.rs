//! The machine's page: over trees that are made up, over garbage, and beside upstream's exporter.

mod garbage;
mod peer;
mod tree;
