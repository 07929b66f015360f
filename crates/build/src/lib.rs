//! Dockerfile to image.
//!
//! ```text
//! text ─ dockerfile ─► stages of instructions ─ plan ─► which stages, in which order ─ resolve ─► actions, image
//!
//!        ignore: what of the context counts         expand, pattern: variables in words
//! ```
//!
//! The language is the one that BuildKit's reference documents: <https://docs.docker.com/reference/dockerfile/>.
//! Nothing here reads a file or starts a process: text comes in, data goes out.

pub mod dockerfile;
pub mod expand;
pub mod ignore;
pub mod image;
pub mod pattern;
pub mod plan;
pub mod resolve;
