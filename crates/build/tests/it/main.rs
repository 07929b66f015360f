//! Builds and their parts, against servers of the tests.

mod mounts;
#[path = "../../../git/tests/it/server.rs"]
mod repositories;
mod source;
mod web;
