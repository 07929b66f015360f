//! A build as people see it, short of drawing: what is known of its steps, and plain lines of what happens, as BuildKit writes them.
//!
//! ```text
//! progress::Event ─► model: steps and how far they are ─► plain: lines as they come
//!                                     text: sizes, widths, nothing that moves a cursor
//! ```
//!
//! <https://docs.docker.com/reference/cli/docker/buildx/build/#progress>

pub mod model;

pub mod plain;

pub mod text;
