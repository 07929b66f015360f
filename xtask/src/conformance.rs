//! `cargo xtask conformance SUITE`: suites of others, against a server of its own.

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Upstream Kubernetes' [Conformance] tests (needs Go)
    Kubernetes(crate::kubernetes::Arguments),
    /// The OCI distribution specification's suite (needs Go)
    Distribution(crate::distribution::Arguments),
    /// Gateway API's suite (needs Go)
    Gateway(crate::gateway::Arguments),
    /// Remote write 2.0, sender and receiver (needs Go)
    RemoteWrite(crate::remote_write::Arguments),
}

/// Runs a suite.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.suite {
        Suite::Kubernetes(arguments) => crate::kubernetes::run(arguments),
        Suite::Distribution(arguments) => crate::distribution::run(arguments),
        Suite::Gateway(arguments) => crate::gateway::run(arguments),
        Suite::RemoteWrite(arguments) => crate::remote_write::run(arguments),
    }
}
