//! Answers DNS from records it is given and forwards the rest.
//!
//! ```text
//! query ─▶ server ─▶ answer ─┬─▶ zone      names and addresses of the cluster
//!                            ├─▶ search    which other names a pod's query may stand for
//!                            └─▶ forward   servers outside, and what they said lately
//! ```
//!
//! The zone is changed by its owner while queries are answered; a query sees it before or after a change, never between.
//!
//! In reading order:

mod zone;

mod search;

mod message;

mod forward;

mod names;

mod answer;

pub mod counted;

mod server;

pub use names::Names;
pub use server::{Config, Server};
pub use zone::{Addresses, Endpoint, Port, Protocol, Service, Zone};
