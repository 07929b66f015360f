//! The Docker Engine API, versions 1.41 to 1.50, on a unix socket: what `docker`, `docker compose` and their like speak.
//!
//! ```text
//! connection ─ server: version, errors ─ route ─┬─ system       ping, version, info, space taken
//!                                               ├─ image        listed, fetched, sent, packed, removed
//!                                               ├─ classic      builds of older clients ┐
//!                                               ├─ buildkit     builds of buildx        ┴─ build
//!                                               ├─ container    made, started, looked after ─ shim (container)
//!                                               ├─ network      bridges, names, published ports
//!                                               ├─ volume       directories that outlive containers
//!                                               ├─ events       what happens
//!                                               └─ swarm        refused: this is no swarm
//! ```
//!
//! Beside it, through the Kubernetes API: `objects` carries out `Build` objects, `pods` gives pods a socket of their own, which lets
//! through what a ServiceAccount may do to images (`view`, `rights`).
//!
//! Who may connect to the socket is root on this machine: nothing here asks who it is. Specification:
//! <https://docs.docker.com/reference/api/engine/version/v1.50/>; where it is silent, github.com/moby/moby 28 decides.

pub mod engine;

mod server;

mod rest;

mod route;

pub mod call;

pub mod answer;

pub mod error;

pub mod upgrade;

pub mod filter;

pub mod model;

pub mod container;

pub mod network;

pub mod volume;

pub mod events;

mod disk;

mod system;

mod usage;

mod swarm;

mod image;

mod classic;

mod buildkit;

mod builds;

mod rights;

mod view;

pub mod pods;

pub mod objects;

pub use engine::{Engine, Settings};
pub use server::serve;

/// The name under which links and tables of the networks of an instance's containers are known.
pub fn networks_of(instance: &str) -> String {
    format!("{instance}-engine")
}
