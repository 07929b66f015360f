//! The registry as its clients see it.

mod access;
mod bucket;
mod cache;
mod conformance;
mod crash;
mod hostile;
mod protocol;
mod server;
