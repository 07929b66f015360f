//! Images on this machine: content store, pull, push, load, save, unpacked layers, snapshots for containers.
//!
//! ```text
//! registry ── pull ──┐                 ┌── layers: unpacked once by chain id, overlay lower directories
//! archive  ── load ──┼── blobs ── unpack ┤
//! layout   ── load ──┘  by digest        └── snapshots: an upper directory a container
//! names ── images ── manifest ── config, layers
//! ```
//!
//! Archives come from strangers, therefore they are unpacked by a confined child process that sees only the layer's own
//! directory ([`unpack::run_confined`]). Everything is written below a temporary name and renamed, so that a crash
//! leaves nothing half-made, and every byte is checked against its digest on the way.

pub mod image;
pub mod store;

pub mod commit;
pub mod content;

mod import;
mod load;
pub mod names;
pub mod pull;
pub mod push;
mod save;

mod manifest;
pub mod unpack;

mod tar;

pub mod probe;

pub use image::{Image, Snapshot};
pub use load::Which;
pub use store::{Options, Store};
pub use unpack::Unpacker;
