//! `cargo xtask test`: the first tier of tests, or everything.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{go, host, tidy, up};

/// What the tests need beside the build.
const TESTS: &[host::Package] = &[
    ("busybox-static", "/bin/busybox"),
    ("iproute2", "/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("util-linux", "/usr/bin/nsenter"),
    ("curl", "/usr/bin/curl"),
];

#[derive(Args)]
pub struct Arguments {
    /// Everything, also what takes long
    #[arg(long)]
    full: bool,
}

/// Runs the tests; ends with one line that counts them.
pub fn run(arguments: &Arguments) -> Result<()> {
    host::install(up::BUILD)?;
    host::install(TESTS)?;
    tidy::run()?;
    let kubectl = go::kubectl()?;
    let etcd = go::etcd()?;
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(host::root()).env("MADANG_KUBECTL", &kubectl).env("MADANG_ETCD", &etcd);
        cargo
    };
    host::run(cargo().args(["build", "--locked", "--package", "madang"]))?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast", "--"]);
    if arguments.full {
        tests.args(["--include-ignored"]);
    }
    // Their output is passed on as it comes; the counts stand in its closing lines.
    let mut child = tests.stdout(std::process::Stdio::piped()).spawn()?;
    let (mut passed, mut failed) = (0u64, 0u64);
    if let Some(output) = child.stdout.take() {
        use std::io::{BufRead, BufReader};
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some(counts) = line.strip_prefix("test result: ") {
                passed += count(counts, "passed");
                failed += count(counts, "failed");
            }
        }
    }
    let status = child.wait()?;
    println!("{passed} passed, {failed} failed");
    if !status.success() || failed > 0 || passed == 0 {
        bail!("tests failed: {status}");
    }
    Ok(())
}

/// The number before `word` in a closing line.
fn count(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    words
        .windows(2)
        .find(|pair| pair[1].trim_end_matches(';') == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}
