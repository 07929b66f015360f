//! The node: pods, probes, volumes, service tables, DNS, status, stats.
//!
//! ```text
//!             watch own pods                    ┌─ volume, env, security, resources: what a pod's spec means
//! API server ───────────────▶ owner of one pod ─┼─ image: pulls
//!      ▲                        │  (pod)        └─ runtime: sandbox, containers
//!      └──── status, events ────┘  probe, hook
//! ```
//!
//! Policy is pure and stands apart from what carries it out: [`pod`]'s `decide` says what is next for a pod.

pub mod node;

pub mod config;

pub mod register;

pub mod pods;

pub mod pressure;

pub mod admit;

pub mod pod;

pub mod sandbox;

pub mod resources;

pub mod field;

pub mod env;

pub mod security;

pub mod objects;

pub mod key;

pub mod trust;

pub mod volume;

pub mod images;

pub mod reach;

pub mod command;

pub mod hook;

pub mod probe;

pub mod event;

pub mod services;

pub mod api;

pub use config::Config;
pub use node::{Node, Sockets};
