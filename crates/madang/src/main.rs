//! The `madang` binary: the command line, and what it starts.
//!
//! ```text
//! madang server ── supervisor ─┬─ role node     root: runtime, network, DNS, pods
//!                              └─ role control  unprivileged: API server, controllers, scheduler
//! madang load, pull, images ───► <run-dir>/images.sock ───► role node
//! madang status ───────────────► <run-dir>/status.sock ───► supervisor
//! ```

mod app;
mod backup;
mod cli;
mod config;
mod images;
mod install;
mod kubeconfig;
mod link;
mod logging;
mod pki;
mod sockets;
mod status;
mod supervisor;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("madang: {error:#}");
            ExitCode::FAILURE
        }
    }
}
