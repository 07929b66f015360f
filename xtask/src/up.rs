//! `cargo xtask up`: from a bare machine to a running server.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{binary, go, host, ui};

/// What building needs.
pub const BUILD: &[host::Package] =
    &[("gcc", "/usr/bin/gcc"), ("libc6-dev", "/usr/include/stdio.h"), ("lld", "/usr/bin/ld.lld")];

#[derive(Args)]
pub struct Arguments {
    /// Flags of `madang server`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    server: Vec<String>,
}

/// Builds and becomes the server.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !host::is_root() {
        bail!("running containers needs root: sudo --preserve-env=PATH,HOME cargo xtask up");
    }
    host::install(BUILD)?;
    ui::build()?;
    let madang = binary::release()?;
    match go::kubectl() {
        Ok(kubectl) => eprintln!("kubectl: {}", kubectl.display()),
        Err(error) => eprintln!("no kubectl of version 1.36 or newer here: {error:#}"),
    }
    eprintln!("madang:  {}", madang.display());
    eprintln!("in another terminal: export KUBECONFIG=/var/lib/madang/kubeconfig; kubectl get nodes");
    let error = Command::new(&madang).arg("server").args(&arguments.server).exec();
    Err(error).with_context(|| format!("start {}", madang.display()))
}
