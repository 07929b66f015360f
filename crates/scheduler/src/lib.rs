//! Finds a node for each pod: queue, filter, score, bind.
//!
//! ```text
//! Pod, Node caches ── changes ──► one owner task
//!                                   │ state: nodes with what their pods ask for
//!                                   ├─ filter ─► nodes that can take the pod, or why none can
//!                                   ├─ score ──► the best of them
//!                                   └─ bind ───► POST .../binding; the pod counts as placed at once
//! ```
//!
//! A pod that matters more than others may make them go ([`preempt`]); a pod with claims waits until they are bound
//! ([`volumes`]). Filters and scores are pure functions of a [`state::State`]. A pod that no node can take waits until something
//! changes that could help: a node comes or changes, a pod goes, the pod itself changes.

pub mod affinity;
pub mod filter;
pub mod preempt;
pub mod resources;
pub mod score;
pub mod state;
pub mod volumes;

mod report;
mod run;

pub use run::{Sources, run};
