//! Repositories that `git` made, served by its own `git http-backend` on loopback, and fetched by this crate.

mod changes;
mod client;
mod clone;
mod served;
mod server;
