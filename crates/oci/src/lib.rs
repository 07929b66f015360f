//! Image and distribution types: digests, references, media types, documents of archives and registries; no I/O.
//!
//! ```text
//! docker.io/library/nginx:1.27@sha256:…   reference ── names ──► manifest or index   (media, index)
//!                              │                                  │
//!                              └──────────── digest ◄─────────────┴── config, layers
//! ```
//!
//! The documents of the OCI specifications themselves are `oci_spec`'s; here is what they leave out. Docker's schema 2
//! manifests have the same fields, so that `oci_spec::image::ImageManifest` reads both.

pub mod archive;
pub mod digest;
pub mod distribution;
pub mod index;
pub mod media;
pub mod query;
pub mod reference;

pub use digest::Digest;
pub use reference::Reference;
