//! `cargo xtask conformance kubernetes`: upstream's [Conformance] tests against a server of its own.
//!
//! ```text
//! e2e.test, ginkgo, kubectl, images ─► server in a network namespace ─► parallel tests ─► serial ones ─► counts
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
    if !host::is_root() {
        bail!("running containers needs root");
    }
    host::install(up::BUILD)?;
    let tools = Tools { kubectl: go::kubectl()?, e2e: go::e2e()?, ginkgo: go::ginkgo()? };
    let images = stand_ins::archives()?;
    let madang = match &arguments.binary {
        Some(path) => path.clone(),
        None => binary::release()?,
    };
    let output = arguments.output.clone().unwrap_or_else(|| binary::target_dir().join("conformance/kubernetes"));
    fs::create_dir_all(&output)?;
    let mut server = Server::place("conformance", &madang, &output)?;
    server.start(&[])?;
    server.load(&images)?;
    let skip = arguments.skip.as_deref();
    let parallel = ginkgo(
        &tools,
        &server,
        &output,
        "parallel",
        arguments.nodes,
        arguments.focus.as_deref(),
        skip,
        "Conformance && !Serial && !Disruptive",
    )?;
    let mut total = parallel;
    if !arguments.no_serial {
        let serial = ginkgo(
            &tools,
            &server,
            &output,
            "serial",
            1,
            arguments.focus.as_deref(),
            skip,
            "Conformance && (Serial || Disruptive)",
        )?;
        total.0 += serial.0;
        total.1 += serial.1;
    }
    println!("{} passed, {} failed", total.0, total.1);
    if total.1 > 0 || total.0 == 0 {
        bail!("reports: {}", output.display());
    }
    Ok(())
}

struct Tools {
    kubectl: PathBuf,
    e2e: PathBuf,
    ginkgo: PathBuf,
}

#[allow(clippy::too_many_arguments, reason = "one call each for the two parts")]
fn ginkgo(
    tools: &Tools,
    server: &Server,
    output: &Path,
    part: &str,
    nodes: u32,
    focus: Option<&str>,
    skip: Option<&str>,
    labels: &str,
) -> Result<(usize, usize)> {
    let report = output.join(format!("{part}.xml"));
    let _ = fs::remove_file(&report);
    let mut command = server.inside(&tools.ginkgo);
    command
        .arg(format!("--nodes={nodes}"))
        .arg(format!("--label-filter={labels}"))
        .args(["--no-color", "--timeout=6h"]);
    command.arg(format!("--output-dir={}", output.display())).arg(format!("--junit-report={part}.xml"));
    if let Some(focus) = focus {
        command.arg(format!("--focus={focus}"));
    }
    if let Some(skip) = skip {
        command.arg(format!("--skip={skip}"));
    }
    command.arg(&tools.e2e).arg("--").arg("--provider=skeleton");
    command.arg(format!("--kubeconfig={}", server.kubeconfig().display()));
    command.arg(format!("--kubectl-path={}", tools.kubectl.display()));
    command.args([
        "--num-nodes=1",
        "--allowed-not-ready-nodes=0",
        "--node-os-distro=custom",
        "--dump-logs-on-failure=false",
    ]);
    let log = fs::File::create(output.join(format!("{part}.log")))?;
    eprintln!("{part} tests; follow them in {}", output.join(format!("{part}.log")).display());
    // Failed tests are counted from the report; the runner's exit code says no more.
    command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).status().context("run ginkgo")?;
    let text = fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
    let (passed, failed) = count(&text);
    eprintln!("{part}: {} passed, {} failed", passed, failed.len());
    for name in &failed {
        eprintln!("  failed: {name}");
    }
    fs::write(output.join(format!("{part}.failed")), failed.join("\n"))?;
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
