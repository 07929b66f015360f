//! How loops talk to the Kubernetes API: requests, one shared cache a kind, work queues.
//!
//! ```text
//!          connection ── HTTPS with a certificate or token, or the API server in the same process
//!              │
//!           Cache<K> ── one list and watch a kind, shared by all loops of a process
//!              │ changes
//!          Queue<Key> ── each key once, retried with growing delays
//!              │
//!         reconcile(key)
//! ```
//!
//! Requests themselves are [`kube::Api`]'s, on the [`kube::Client`] that a connection gives.

pub mod cache;
pub mod connection;
pub mod events;
pub mod exec;
pub mod own;
pub mod placement;
pub mod queue;
pub mod selector;
pub mod volumes;
