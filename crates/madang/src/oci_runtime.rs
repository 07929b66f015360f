//! `madang runtime`: the container engine behind the command line of an OCI runtime, for other engines and for test suites.
//!
//! ```text
//! podman --runtime, containerd ─► madang runtime create ─► the shim's program ─► container
//! ```
//!
//! `main` hands over before anything is set up: the words are the runtime's own, as in `runc`, and creating a container is
//! a matter of milliseconds.
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md>

use std::{ffi::OsString, path::Path};

use container::{runtime_cli, shim::Binary};

/// The shim's program, which the build script made.
pub static SHIM: &[u8] = include_bytes!(env!("MADANG_SHIM_FILE"));

/// The command's words, if a command line is `madang runtime ...` or begins with a link to the binary of the name
/// `madang-runtime`: engines that take a path and no words want one.
pub fn words(line: impl IntoIterator<Item = OsString>) -> Option<Vec<OsString>> {
    let mut line = line.into_iter();
    let program = line.next()?;
    let mut words: Vec<OsString> = line.collect();
    if Path::new(&program).file_name().is_some_and(|name| name == "madang-runtime") {
        return Some(words);
    }
    words.first().is_some_and(|word| word == "runtime").then(|| words.split_off(1))
}

/// Carries out a command of the runtime, given the words after its name; gives the exit code, unless the shim's program takes
/// this process over.
pub fn run(words: impl IntoIterator<Item = OsString>) -> i32 {
    runtime_cli::main(|| Binary::from_bytes(SHIM), words)
}
