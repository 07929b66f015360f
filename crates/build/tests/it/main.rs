//! Builds as a whole, on a store and a runtime of the test's own; and their parts, against servers of the tests.

mod cache;
mod copy;
mod dockerfiles;
mod hostile;
mod images;
mod leftovers;
mod mounts;
mod place;
#[path = "../../../git/tests/it/server.rs"]
mod repositories;
mod run;
mod shop;
mod source;
mod users;
mod web;

/// Not a test: what the unpacker runs when a test's store starts this executable again.
#[test]
fn unpack_child() {
    if std::env::args().any(|argument| argument == place::CHILD) {
        std::process::exit(match image::unpack::run_confined() {
            code if code == std::process::ExitCode::SUCCESS => 0,
            _ => 1,
        });
    }
}
