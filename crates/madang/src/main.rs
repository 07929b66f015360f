//! The `madang` binary: the command line, and what it starts.
//!
//! ```text
//! madang server ── supervisor ─┬─ role node     root: runtime, network, DNS, pods
//!                              ├─ role control  unprivileged: API server, controllers, scheduler
//!                              └─ role edge     unprivileged: registry, metrics, console
//! madang login ────────────────► API server: a token ─► docker's and podman's credential files
//! madang console ──────────────► a link that signs a browser in to the web interface
//! madang runtime ──────────────► the shim's program: one OCI container
//! madang metrics ──────────────► a Prometheus without a cluster, in this process
//! madang load, pull, images ───► <run-dir>/images.sock ───► role node
//! madang build ───────────────► <run-dir>/docker.sock ───► role node: engine
//! madang status ───────────────► <run-dir>/status.sock ───► supervisor
//! ```

mod app;
mod backup;
mod build;
mod cli;
mod config;
mod console;
mod containers;
mod images;
mod install;
mod kubeconfig;
mod link;
mod logging;
mod login;
mod oci_runtime;
mod pki;
mod progress;
mod prometheus;
mod rows;
mod sockets;
mod status;
mod supervisor;
mod token;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(words) = oci_runtime::words(std::env::args_os()) {
        std::process::exit(oci_runtime::run(words));
    }
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("madang: {error:#}");
            ExitCode::FAILURE
        }
    }
}
