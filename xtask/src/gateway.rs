//! `cargo xtask conformance gateway`: Gateway API's own suite against a server of its own.
//!
//! ```text
//! the suite (Go), its echo server as an image ─► server with --gateway-ports ─► tests ─► report and counts
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{binary, go, host, server::Server, stand_ins, up};

#[derive(Args)]
pub struct Arguments {
    /// Only the test of this name
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Not these tests, separated by commas
    #[arg(long, value_name = "NAMES")]
    skip: Option<String>,
    /// Where reports go
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The server to test instead of a new build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the suite; the last line counts.
pub fn run(arguments: &Arguments) -> Result<()> {
    host::install(up::BUILD)?;
    if !host::is_root() {
        bail!("running containers needs root");
    }
    let madang = match &arguments.binary {
        Some(path) => path.clone(),
        None => binary::release()?,
    };
    let suite = go::gateway("gateway-conformance", "sigs.k8s.io/gateway-api/conformance", &["test", "-c"])?;
    let images = stand_ins::gateway()?;
    let output = arguments.output.clone().unwrap_or_else(|| binary::target_dir().join("conformance/gateway"));
    fs::create_dir_all(&output).with_context(|| format!("make {}", output.display()))?;
    let mut server = Server::place("gateways", &madang, &output)?;
    server.start(&["--gateway-ports"])?;
    server.load(&images)?;
    let (passed, failed) = tests(&server, &suite, &output, arguments)?;
    println!("{passed} passed, {} failed", failed.len());
    if !failed.is_empty() || passed == 0 {
        bail!("failed: {}; all that was said: {}", failed.join(", "), output.join("tests.log").display());
    }
    Ok(())
}

/// Runs the tests of the features that the class says it has; how many passed, and which failed.
fn tests(server: &Server, suite: &Path, output: &Path, arguments: &Arguments) -> Result<(usize, Vec<String>)> {
    let log = output.join("tests.log");
    let file = fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut command = server.inside(suite);
    command.env("KUBECONFIG", server.kubeconfig()).current_dir(output);
    // The others test the suite itself, beside its sources.
    command.args(["-test.run=^TestConformance$", "-test.v", "-test.timeout=3h"]);
    command.args(["--gateway-class=madang", "--conformance-profiles=GATEWAY-HTTP"]);
    command.args(["--organization=madang", "--project=madang", "--url=https://madang.dev", "--version=0.0.0"]);
    command.args(["--contact=none", "--mode=default"]);
    command.arg(format!("--report-output={}", output.join("report.yaml").display()));
    command.args(arguments.run.iter().map(|name| format!("--run-test={name}")));
    command.args(arguments.skip.iter().map(|names| format!("--skip-tests={names}")));
    eprintln!("tests; all they say goes to {}", log.display());
    // Failed tests are counted from what was said; the exit code says no more.
    let status =
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status().context("run the suite")?;
    let text = fs::read_to_string(&log)?;
    let (passed, failed) = count(&text);
    if passed == 0 && failed.is_empty() {
        bail!("the suite ran no test: {status}; see {}", log.display());
    }
    fs::write(output.join("failed"), failed.join("\n"))?;
    Ok((passed, failed))
}

/// Passed tests of the suite, and the names of failed ones; parts of tests are not counted, and skipped ones neither.
fn count(text: &str) -> (usize, Vec<String>) {
    let named = |line: &str, verdict: &str| {
        let name = line.strip_prefix("    --- ")?.strip_prefix(verdict)?.trim_start();
        Some(name.split(' ').next().unwrap_or_default().trim_start_matches("TestConformance/").to_owned())
    };
    let passed = text.lines().filter(|line| named(line, "PASS:").is_some()).count();
    (passed, text.lines().filter_map(|line| named(line, "FAIL:")).collect())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn tests_are_counted_without_their_parts() {
        let text = "--- FAIL: TestConformance (9.0s)\n    --- PASS: TestConformance/One (1.0s)\n        --- PASS: \
                    TestConformance/One/0_request (0.1s)\n    --- FAIL: TestConformance/Two (2.0s)\n    --- SKIP: \
                    TestConformance/Three (0.0s)\n";
        assert_eq!(count(text), (1, vec!["Two".to_owned()]));
    }
}
