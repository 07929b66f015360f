//! Dockerfile to image.
//!
//! ```text
//! text ─ dockerfile ─► stages of instructions ─ plan ─► which stages, in which order ─ resolve ─► actions, image
//!
//!        ignore: what of the context counts         expand, pattern: variables in words
//!
//! Request ─ builder ─► actions carried out in layers (tree, mounts, source) ─► outputs
//!              └─ progress: what happens, as it happens
//! ```
//!
//! The language is the one that BuildKit's reference documents: <https://docs.docker.com/reference/dockerfile/>.
//! The first line reads no file and starts no process: text comes in, data goes out.

pub mod dockerfile;
pub mod expand;
pub mod ignore;
pub mod image;
pub mod pattern;
pub mod plan;
pub mod resolve;

pub mod client;
pub mod progress;
pub mod request;
pub mod shown;
pub mod wire;

pub mod builder;
pub mod mounts;
pub mod source;
pub mod tree;

mod mode;
mod path;
mod select;

mod content;
mod key;

pub mod cache;
mod context;
mod copy;
mod run;
mod trust;

mod export;
mod solve;
