//! `cargo xtask conformance kubernetes`: upstream's [Conformance] tests against a server of its own.
//!
//! ```text
//! e2e.test, ginkgo, kubectl, images ─► server in a network namespace ─► parallel tests ─► serial ones ─► counts
//! ```

mod progress;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use progress::Progress;

use crate::{binary, go, host, server::Server, stand_ins, up};

#[derive(Args)]
pub struct Arguments {
    /// Only tests whose names match this regular expression
    #[arg(long, value_name = "RE")]
    focus: Option<String>,
    /// Not those whose names match this one
    #[arg(long, value_name = "RE")]
    skip: Option<String>,
    /// Processes of the parallel part
    #[arg(long, default_value_t = 4)]
    nodes: u32,
    /// Leave the serial tests out
    #[arg(long)]
    no_serial: bool,
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
    let madang = match &arguments.binary {
        Some(path) => path.clone(),
        None => binary::release()?,
    };
    let (passed, failed) = suite(arguments, &madang)?;
    println!("{passed} passed, {failed} failed");
    if failed > 0 || passed == 0 {
        bail!("reports: {}", output(arguments).display());
    }
    Ok(())
}

/// Runs the parallel tests whose names match; how many passed and failed.
pub fn smoke(focus: &str, madang: &Path) -> Result<(usize, usize)> {
    let output = binary::target_dir().join("conformance/smoke");
    let (focus, output, binary) = (Some(focus.to_owned()), Some(output), Some(madang.to_owned()));
    suite(&Arguments { focus, skip: None, nodes: 4, no_serial: true, output, binary }, madang)
}

fn output(arguments: &Arguments) -> PathBuf {
    arguments.output.clone().unwrap_or_else(|| binary::target_dir().join("conformance/kubernetes"))
}

fn suite(arguments: &Arguments, madang: &Path) -> Result<(usize, usize)> {
    if !host::is_root() {
        bail!("running containers needs root");
    }
    let tools = Tools { kubectl: go::kubectl()?, e2e: go::e2e()?, ginkgo: go::ginkgo()? };
    let images = stand_ins::archives()?;
    let output = output(arguments);
    fs::create_dir_all(&output).with_context(|| format!("make {}", output.display()))?;
    let mut server = Server::place("conformance", madang, &output)?;
    server.start(&[])?;
    server.load(&images)?;
    let mut total = (0, 0);
    for part in PARTS {
        if part.serial && arguments.no_serial {
            continue;
        }
        let (passed, failed) = ginkgo(&tools, &server, &output, part, arguments)?;
        total = (total.0 + passed, total.1 + failed);
    }
    Ok(total)
}

struct Tools {
    kubectl: PathBuf,
    e2e: PathBuf,
    ginkgo: PathBuf,
}

/// A part of the suite: how it is called, and what is in it.
struct Part {
    name: &'static str,
    serial: bool,
    labels: &'static str,
}

const PARTS: &[Part] = &[
    Part { name: "parallel", serial: false, labels: "Conformance && !Serial && !Disruptive" },
    Part { name: "serial", serial: true, labels: "Conformance && (Serial || Disruptive)" },
];

fn ginkgo(tools: &Tools, server: &Server, output: &Path, part: &Part, arguments: &Arguments) -> Result<(usize, usize)> {
    let name = part.name;
    let report = output.join(format!("{name}.xml"));
    match fs::remove_file(&report) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", report.display()));
        }
        _ => {}
    }
    let mut command = server.inside(&tools.ginkgo);
    command
        .arg(format!("--nodes={}", if part.serial { 1 } else { arguments.nodes }))
        .arg(format!("--label-filter={}", part.labels))
        .args(["--no-color", "--timeout=6h"]);
    command.arg(format!("--output-dir={}", output.display())).arg(format!("--junit-report={name}.xml"));
    command.args(arguments.focus.iter().map(|focus| format!("--focus={focus}")));
    command.args(arguments.skip.iter().map(|skip| format!("--skip={skip}")));
    command.arg(&tools.e2e).arg("--").arg("--provider=skeleton");
    command.arg(format!("--kubeconfig={}", server.kubeconfig().display()));
    command.arg(format!("--kubectl-path={}", tools.kubectl.display()));
    command.args([
        "--num-nodes=1",
        "--allowed-not-ready-nodes=0",
        "--node-os-distro=custom",
        "--dump-logs-on-failure=false",
    ]);
    let path = output.join(format!("{name}.log"));
    let mut log = fs::File::create(&path).with_context(|| format!("make {}", path.display()))?;
    eprintln!("{name} tests; all they say goes to {}", path.display());
    let streams = command.stdout(Stdio::piped()).stderr(log.try_clone()?).stdin(Stdio::null());
    let mut child = streams.spawn().context("run ginkgo")?;
    let mut said = child.stdout.take().context("ginkgo's output")?;
    let (mut progress, mut bytes) = (Progress::new(name), vec![0; 1 << 16]);
    loop {
        match said.read(&mut bytes)? {
            0 => break,
            length => {
                log.write_all(&bytes[..length])?;
                progress.take(&bytes[..length]);
            }
        }
    }
    // Failed tests are counted from the report; the runner's exit code says no more.
    let status = child.wait().context("wait for ginkgo")?;
    let text = fs::read_to_string(&report)
        .with_context(|| format!("ginkgo left no report: {status}; see {}", path.display()))?;
    let (passed, failed) = count(&text);
    eprintln!("{name}: {passed} passed, {} failed", failed.len());
    fs::write(output.join(format!("{name}.failed")), failed.join("\n"))?;
    Ok((passed, failed.len()))
}

/// Passed tests, and the names of failed ones, of a JUnit report.
fn count(report: &str) -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    for case in report.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let rest = &case[case.find(&format!("{name}=\""))? + name.len() + 2..];
            Some(rest[..rest.find('"')?].to_owned())
        };
        let name = attribute("name").unwrap_or_default();
        if !name.starts_with("[It]") {
            continue;
        }
        match attribute("status").as_deref() {
            Some("passed") => passed += 1,
            Some("skipped" | "pending") => {}
            _ => failed.push(name.replace("&#34;", "\"").replace("&amp;", "&").replace("&#39;", "'")),
        }
    }
    (passed, failed)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn reports_are_counted() {
        let report = r#"<testsuite><testcase name="[BeforeSuite]" status="passed"></testcase>
            <testcase name="[It] one [Conformance]" classname="x" status="passed"></testcase>
            <testcase name="[It] two &#34;x&#34;" status="failed"><failure/></testcase>
            <testcase name="[It] three" status="skipped"></testcase></testsuite>"#;
        assert_eq!(count(report), (1, vec!["[It] two \"x\"".to_owned()]));
    }
}
