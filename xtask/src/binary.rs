//! The release binary: static and not position-independent, so that its pages are shared between the roles.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::host;

/// The platform that binaries are made for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `madang` for use; returns its path.
pub fn release() -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut flags = "-C target-feature=+crt-static -C relocation-model=static".to_owned();
    if host::find("ld.lld").is_some() {
        // Functions that came out the same, of which there are many among those made anew for each kind, are linked once.
        flags.push_str(" -C link-arg=-fuse-ld=lld -C link-arg=-Wl,--icf=all");
    }
    cargo
        .current_dir(host::root())
        .args(["build", "--release", "--locked", "--package", "madang", "--target", TARGET])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags);
    host::run(&mut cargo)?;
    Ok(target_dir().join(TARGET).join("release/madang"))
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| host::root().join("target"), PathBuf::from)
}
