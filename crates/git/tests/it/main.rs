//! Repositories that `git` made, served by its own `git http-backend` and `git upload-pack` on loopback, and fetched by this crate.

mod changes;
mod client;
mod clone;
mod served;
mod server;
mod ssh;
mod sshd;
