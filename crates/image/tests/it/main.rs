//! The store against real directories, archives and registries.

mod archive;
mod commit;
mod confined;
mod crash;
mod documents;
mod hostile;
mod layers;
mod load;
mod place;
mod pull;
mod push;
mod registry;

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
