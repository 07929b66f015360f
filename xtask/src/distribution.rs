//! `cargo xtask conformance distribution`: the suite of the OCI distribution specification against the registry of a server
//! of its own, by both of its doors.
//!
//! ```text
//! suite (Go module below $MADANG_SUITES) ─► server in a network namespace ─► plain on loopback, TLS outside ─► counts
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{binary, host, server::Server, up};

#[derive(Args)]
pub struct Arguments {
    /// Where reports go
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The server to test instead of a new build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What the suite leaves out unless told.
const EXTRA: &[&str] = &[
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
];

/// Runs the suite; an error if anything fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    if !host::is_root() {
        bail!("a server needs root");
    }
    let Some(suites) = std::env::var_os("MADANG_SUITES") else {
        bail!("MADANG_SUITES names no directory: the suite is looked for in its distribution/conformance");
    };
    host::install(up::BUILD)?;
    let output = arguments.output.clone().unwrap_or_else(|| binary::target_dir().join("conformance/distribution"));
    fs::create_dir_all(&output)?;
    let suite = output.join("suite");
    let mut build = Command::new("go");
    build.current_dir(Path::new(&suites).join("distribution/conformance")).env("CGO_ENABLED", "0");
    host::run(build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&suite).arg("."))?;
    let madang = match &arguments.binary {
        Some(path) => path.clone(),
        None => binary::release()?,
    };
    let mut server = Server::place("distribution", &madang, &output)?;
    server.start(&[])?;
    let mut login = server.inside(&madang);
    let token = host::output(login.args(["login", "--print", "--data-dir"]).arg(server.data_dir()))?;
    let instance = fs::read(server.data_dir().join("instance.json")).context("settings of the server")?;
    let instance: Value = serde_json::from_slice(&instance)?;
    let address = instance["node_ip"].as_str().context("address of the server")?;
    let port = &instance["ports"]["registry"];
    let mut failed = 0;
    for (door, host, tls) in [("loopback", "127.0.0.1", "disabled"), ("outside", address, "enabled")] {
        let results = output.join(door);
        fs::create_dir_all(&results)?;
        let mut command = server.inside(&suite);
        command
            .current_dir(&results)
            .env("OCI_REGISTRY", format!("{host}:{port}"))
            .env("OCI_TLS", tls)
            .env("SSL_CERT_FILE", server.data_dir().join("pki/ca.crt"))
            .env("OCI_USERNAME", "madang")
            .env("OCI_PASSWORD", token.trim())
            .envs(EXTRA.iter().map(|name| (name, "true")));
        let done = command.output().context("run the suite")?;
        let text = String::from_utf8_lossy(&done.stdout);
        fs::write(results.join("output.txt"), text.as_bytes())?;
        let count =
            |word: &str| count(&text, word).with_context(|| format!("no count of {word} in {}", results.display()));
        let (passed, wrong) = (count("Pass")?, count("FAIL")? + count("Error")?);
        println!("{door}: {passed} passed, {wrong} failed");
        if passed == 0 || !done.status.success() {
            failed += 1;
        }
        failed += wrong;
    }
    if failed > 0 {
        bail!("reports: {}", output.display());
    }
    Ok(())
}

/// The number in a line such as `Pass.....: 984`.
fn count(text: &str, word: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{word}....")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let text = "OCI Conformance Result: Pass\n  Pass..........................:        984\n  FAIL.....:  0\n";
        assert_eq!((count(text, "Pass"), count(text, "FAIL"), count(text, "Error")), (Some(984), Some(0), None));
    }
}
