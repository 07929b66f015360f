//! `madang metrics` without the rest of `madang`: built in a fraction of the time, to be profiled and measured while something is
//! being changed: `cargo xtask bench metrics --binary target/release/alone`.
//!
//! Usage: `cargo run --release --bin alone -- metrics --config.file prometheus.yml ...`, with the flags of `madang metrics`.

#[path = "../../../crates/madang/src/prometheus.rs"]
mod prometheus;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A Prometheus without a cluster
    Metrics(prometheus::Metrics),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Arguments::parse().command {
        Command::Metrics(metrics) => metrics.run(),
    }
}
