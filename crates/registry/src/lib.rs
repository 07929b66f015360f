//! A registry of images: the OCI distribution API, version 1.1, with Docker's media types.
//!
//! ```text
//! request ─ route ─ auth: who, may they? ─┬─ pull       manifests, blobs and their ranges
//!                                         ├─ push       uploads ─► blobs; manifest ─► index
//!                                         └─ list       tags, repositories, referrers
//!
//! index   what each repository has: a journal on disk, all of it in memory      written by this process
//! blobs   the content itself, by digest: a directory of its own, or the node's  read only, in the latter case
//! ```
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>. Why things are as they are:
//! `docs/decisions/registry.md`.

pub mod registry;

mod answer;
mod pull;
mod push;
mod route;

mod list;
mod manifest;

pub mod auth;
pub mod blobs;
mod index;

mod leases;

mod collect;

mod counted;

pub mod cache;

pub use registry::Registry;
