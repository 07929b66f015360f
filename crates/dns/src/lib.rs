//! Answers DNS from records it is given and forwards the rest.
//!
//! In reading order:

mod server;
mod zone;

pub use server::{Config, Server};
pub use zone::{Addresses, Endpoint, Port, Protocol, Service, Zone};
