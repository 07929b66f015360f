//! The OCI runtime's command line by itself, as `madang runtime` is it. The shim's program is the one that `MADANG_SHIM`
//! names, or lies beside this one.

use std::{path::PathBuf, process::exit};

fn main() {
    let beside = || std::env::current_exe().ok().map(|program| program.with_file_name("madang-shim"));
    let file = std::env::var_os("MADANG_SHIM").map(PathBuf::from).or_else(beside).unwrap_or_default();
    let shim = || container::shim::Binary::from_file(&file);
    exit(container::runtime_cli::main(shim, std::env::args_os().skip(1)))
}
