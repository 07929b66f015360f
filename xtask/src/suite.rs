//! `cargo xtask test`: the first tier of tests, or everything.
//!
//! ```text
//! tier 1   form ─ build ─ cargo test: unit, contract, integration, end to end, the machine with cgroup v2
//! tier 2   the same with long tests, other engines, systemd, the sample application ─ a few of upstream's conformance tests ─ the demo
//! ```
//!
//! A test of the second tier is `#[ignore]`d with a reason; one whose reason is [`MEASUREMENT`] is no test of either.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{binary, demo, go, host, images, kubernetes, machine, python, tidy, ui, up};

/// What the tests need beside the build.
const TESTS: &[host::Package] = &[
    ("busybox-static", "/bin/busybox"),
    ("iproute2", "/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("util-linux", "/usr/bin/nsenter"),
    ("curl", "/usr/bin/curl"),
];
/// What the second tier needs more.
const FULL: &[host::Package] = &[
    ("podman", "/usr/bin/podman"),
    ("conmon", "/usr/bin/conmon"),
    ("golang-github-containers-common", "/etc/containers/policy.json"),
    ("chromium", "/usr/bin/chromium"),
    ("fonts-noto-cjk", "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
];
/// Why a test that measures is ignored.
const MEASUREMENT: &str = "#[ignore = \"a measurement\"]";
/// Conformance tests that touch every part once, each of a few seconds.
const SMOKE: &str = r"ConfigMap should be consumable via environment variable|Secrets should be consumable from pods in volume \[|\
Services should serve a basic endpoint from pods|DNS should provide DNS for the cluster|\
ReplicaSet should serve a basic image|Watchers should observe add, update, and delete|\
EmptyDir volumes should support \(root,0644,tmpfs\)|Pods should be submitted and removed|\
Kubectl client Kubectl version should check";

/// Run the tests: the first tier, or with --full everything
///
/// The first tier takes about 10 minutes from a clean clone on two cores: form, unit, contract and integration tests, every
/// part end to end, and one boot of a machine with control groups of version 2.
///
/// The second tier takes about 40 minutes more the first time, 10 with its images and tools in the cache: long kill tests,
/// the sample application built and run, queries beside Prometheus, podman with `madang runtime`, the server on etcd, a machine with systemd, and some of
/// upstream's conformance tests. The whole of those is `cargo xtask conformance kubernetes`; measurements are `cargo xtask bench`.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Everything, also what takes long
    #[arg(long)]
    full: bool,
    /// Only tests whose names contain this, and nothing but tests
    filter: Option<String>,
}

/// Runs the tests; ends with one line that counts them.
pub fn run(arguments: &Arguments) -> Result<()> {
    host::install(up::BUILD)?;
    host::install(TESTS)?;
    ui::build()?;
    if arguments.filter.is_none() {
        ui::test()?;
        tidy::run()?;
    }
    let shop = images::shop()?.into_iter().map(|archive| archive.path);
    let mut variables: Vec<(&str, OsString)> = vec![
        ("MADANG_KUBECTL", go::kubectl()?.into()),
        ("MADANG_ETCD", go::etcd()?.into()),
        ("MADANG_KERNEL", machine::kernel()?.into()),
        ("MADANG_SHOP_IMAGES", std::env::join_paths(shop).context("paths of the images")?),
    ];
    if arguments.full {
        host::install(FULL)?;
        variables.push(("MADANG_SYSTEMD_ROOT", machine::systemd()?.into()));
        variables.push(("MADANG_BUILDX", go::buildx()?.into()));
        variables.push(("MADANG_COMPOSE", go::compose()?.into()));
        variables.push(("MADANG_DOCKER", go::docker()?.into()));
        variables.push(("MADANG_PYTHON", python::packages()?.into()));
        variables.push(("MADANG_RYUK", go::ryuk()?.into()));
        variables.push(("MADANG_AMTOOL", go::amtool()?.into()));
        variables.push(("MADANG_PROMETHEUS", go::prometheus()?.into()));
        variables.push(("MADANG_PROMTOOL", go::promtool()?.into()));
    }
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(host::root()).envs(variables.iter().map(|(name, path)| (name, path)));
        cargo
    };
    host::run(cargo().args(["build", "--locked", "--package", "madang"]))?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast", "--"]);
    tests.args(&arguments.filter);
    if arguments.full {
        tests.arg("--include-ignored");
        for name in measurements(&host::root())? {
            tests.args(["--skip", &name]);
        }
    }
    let started = Instant::now();
    let mut counts = counted(&mut tests)?;
    eprintln!("tests: {}", minutes(started.elapsed()));
    if arguments.full && arguments.filter.is_none() {
        let started = Instant::now();
        let (passed, failed) = kubernetes::smoke(SMOKE, &binary::target_dir().join("debug/madang"))?;
        eprintln!("conformance tests: {}", minutes(started.elapsed()));
        counts = (counts.0 + passed, counts.1 + failed);
        let started = Instant::now();
        let (passed, failed) = demo::check(&binary::target_dir().join("debug/madang"))?;
        eprintln!("the demo: {}", minutes(started.elapsed()));
        counts = (counts.0 + passed, counts.1 + failed);
    }
    println!("{} passed, {} failed", counts.0, counts.1);
    if counts.1 > 0 || counts.0 == 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Runs tests, passing on what they print; the counts stand in its closing lines.
fn counted(tests: &mut Command) -> Result<(usize, usize)> {
    let mut child = tests.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("the tests' output")?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counts) = line.strip_prefix("test result: ") {
            passed += count(counts, "passed");
            failed += count(counts, "failed");
        }
    }
    let status = child.wait()?;
    if !status.success() && failed == 0 {
        bail!("tests did not run to their end: {status}");
    }
    Ok((passed, failed))
}

/// The number before `word` in a closing line.
fn count(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line.split_whitespace().collect();
    let numbered = words.windows(2).find(|pair| pair[1].trim_end_matches(';') == word);
    numbered.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

/// Names of the functions that only measure, in all tests of the project: with their module, since names are found in parts of
/// others.
fn measurements(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut left = vec![root.join("crates"), root.join("tests")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let module = match path.file_stem().and_then(|stem| stem.to_str()) {
                    Some(stem) if stem != "main" && stem != "lib" => format!("{stem}::"),
                    _ => String::new(),
                };
                names.extend(ignored(&text).into_iter().map(|name| module.clone() + &name));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The functions of a file that are ignored as measurements.
fn ignored(text: &str) -> Vec<String> {
    let functions = text.split(MEASUREMENT).skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
    functions.map(|(name, _)| name.to_owned()).collect()
}

fn minutes(time: Duration) -> String {
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::{count, ignored};

    #[test]
    fn closing_lines_are_counted() {
        let line = "ok. 17 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.17s";
        assert_eq!((count(line, "passed"), count(line, "failed"), count(line, "none")), (17, 2, 0));
    }

    #[test]
    fn only_measurements_are_left_out_of_everything() {
        let text =
            "#[test]\n#[ignore = \"a measurement\"]\nfn speed() {}\n#[test]\n#[ignore = \"long\"]\nfn long() {}\n";
        assert_eq!(ignored(text), ["speed"]);
    }
}
