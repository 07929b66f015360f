//! Sandboxes and containers as one service, shaped like CRI.
//!
//! ```text
//! description ── spec ──┐
//!                       ├─ service ── shim (container), addresses (network), root file systems (image)
//! record (disk) ────────┘
//! ```
//!
//! A sandbox is what the containers of a pod share: the shim that is their parent, namespaces, an address, a cgroup. The
//! daemon may be killed at any moment: what runs is in the hands of shims, what is known is in records on disk, and
//! `Runtime::open` brings the two together again.

pub mod description;
pub mod record;

pub mod service;

mod containers;
mod sandboxes;
pub mod steps;
pub mod users;

pub mod address;
pub mod files;
pub mod seccomp;
pub mod spec;
pub mod user;

pub use containers::{StartError, image_config, signal_number};
pub use service::{Config, Event, Runtime, SandboxStatus};
