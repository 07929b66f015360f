//! `cargo xtask fuzz`: crate `fuzz`, optimized, for as long as it is told.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::host;

/// Feed readers of what strangers send with broken input
///
/// Each reader is given its corpus in `fuzz/corpus`, and then mutations of it. An input that breaks a reader is made smaller and
/// written to `fuzz/artifacts`; what was repaired belongs into the corpus.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Only these readers: dockerfile, ignore, repository, reference, manifest, archive, pack, tree, gitmodules, packets
    targets: Vec<String>,
    /// For how long, each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to begin; the time where it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Write inputs that made new outcomes into the corpus
    #[arg(long)]
    keep: bool,
}

/// Builds and runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::root()).args(["run", "--locked", "--release", "--package", "fuzz", "--"]);
    cargo.args(&arguments.targets).args(["--seconds", &arguments.seconds.to_string()]);
    if let Some(seed) = arguments.seed {
        cargo.args(["--seed", &seed.to_string()]);
    }
    if arguments.keep {
        cargo.arg("--keep");
    }
    host::run(&mut cargo)
}
