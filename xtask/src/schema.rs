//! `cargo xtask schema`: derives the API schema table of crate `api` from upstream's published definitions.
//!
//! ```text
//! Go modules k8s.io/{kubernetes,api,apimachinery,...} -- facts.go --> JSON --+
//! api/openapi-spec/swagger.json (group, version, kind of each definition) ---+--> pack --> crates/api/src/schema/table.bin
//! ```
//!
//! `facts.go` reflects over the Go types, because only their tags tell all that decides the encodings (`omitempty`,
//! inlining, pointers); the OpenAPI definitions tell the rest. Definitions of the Prometheus operator's kinds go to crate
//! `metrics`, those of Gateway API's to crate `gateway` (see `kinds`). The result holds facts only and is committed, so that
//! building needs no Go. The layout is described in `api::schema`, which reads it in place.

mod kinds;
mod pack;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Version of `k8s.io/kubernetes`.
const KUBERNETES: &str = "v1.37.1";
/// Version of the modules published from Kubernetes' staging area.
const STAGING: &str = "v0.37.1";

/// Arguments of `cargo xtask schema`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where the table goes.
    #[arg(long, default_value = "crates/api/src/schema/table.bin")]
    out: PathBuf,
    /// Where goes what upstream's code makes of the inputs in `fixtures.go`, which tests compare with.
    #[arg(long, default_value = "crates/api/tests/data/upstream.json")]
    fixtures: PathBuf,
    /// Where goes what upstream's strategies and printers make of the objects in `rules.json`.
    #[arg(long, default_value = "crates/api/tests/data/rules.json")]
    rules: PathBuf,
    /// Where the definitions of the Prometheus operator's kinds go.
    #[arg(long, default_value = "crates/metrics/src/kinds/operator.json.gz")]
    operator: PathBuf,
    /// Where the definitions of Gateway API's kinds go.
    #[arg(long, default_value = "crates/gateway/src/kinds/gateway.json.gz")]
    gateway: PathBuf,
    /// Derive only definitions of others' kinds.
    #[arg(long)]
    only_kinds: bool,
    /// Also print the facts of the type of this name.
    #[arg(long)]
    show: Option<String>,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schema");
    std::fs::create_dir_all(&dir)?;
    kinds::derive(&module_dir(&dir, kinds::OPERATOR)?, &kinds::OPERATORS, &arguments.operator)?;
    kinds::derive(&module_dir(&dir, kinds::GATEWAY)?, &kinds::GATEWAYS, &arguments.gateway)?;
    if arguments.only_kinds {
        return Ok(());
    }
    let kubernetes = module_dir(&dir, &format!("k8s.io/kubernetes@{KUBERNETES}"))?;
    let requirements =
        std::fs::read_to_string(kubernetes.join("go.mod")).context("read go.mod of k8s.io/kubernetes")?;
    std::fs::write(dir.join("go.mod"), go_mod(&requirements))?;
    let programs = [
        ("facts/main.go", include_str!("schema/facts.go")),
        ("fixtures/main.go", include_str!("schema/fixtures.go")),
        ("fixtures/crd.go", include_str!("schema/fixtures_crd.go")),
        ("rules/main.go", include_str!("schema/fixtures_rules.go")),
        ("rules/rules.json", include_str!("schema/rules.json")),
    ];
    for (path, program) in programs {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        std::fs::write(path, program)?;
    }
    go(&dir, &["mod", "tidy"])?;
    let types: Vec<Value> = serde_json::from_slice(&go(&dir, &["run", "./facts"])?).context("parse the facts")?;
    let fixtures = go(&dir, &["run", "./fixtures"])?;
    std::fs::write(&arguments.fixtures, fixtures).with_context(|| format!("write {}", arguments.fixtures.display()))?;
    let rules = go(&dir, &["run", "./rules"])?;
    std::fs::write(&arguments.rules, rules).with_context(|| format!("write {}", arguments.rules.display()))?;
    let swagger = std::fs::read(kubernetes.join("api/openapi-spec/swagger.json")).context("read swagger.json")?;
    let swagger: Value = serde_json::from_slice(&swagger).context("parse swagger.json")?;
    if let Some(name) = &arguments.show {
        let found = types.iter().find(|t| t["name"] == name.as_str()).with_context(|| format!("no type {name}"))?;
        println!("{}", serde_json::to_string_pretty(found)?);
    }
    let table = pack::pack(&types, &swagger["definitions"])?;
    std::fs::write(&arguments.out, &table).with_context(|| format!("write {}", arguments.out.display()))?;
    eprintln!("{}: {} bytes", arguments.out.display(), table.len());
    Ok(())
}

/// A go.mod that takes every module of the staging area at its published version.
fn go_mod(requirements: &str) -> String {
    let mut text = format!("module schemafacts\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes {KUBERNETES}\n");
    for name in ["api", "apimachinery", "apiextensions-apiserver", "kube-aggregator", "client-go", "apiserver"] {
        text.push_str(&format!("require k8s.io/{name} {STAGING}\n"));
    }
    for line in requirements.lines() {
        if let Some(name) = line.trim().strip_prefix("k8s.io/").and_then(|l| l.strip_suffix(" v0.0.0")) {
            text.push_str(&format!("replace k8s.io/{name} => k8s.io/{name} {STAGING}\n"));
        }
    }
    text
}

fn module_dir(dir: &Path, module: &str) -> Result<PathBuf> {
    let report: Value = serde_json::from_slice(&go(dir, &["mod", "download", "-json", module])?)?;
    Ok(PathBuf::from(report["Dir"].as_str().with_context(|| format!("no directory for {module}"))?))
}

fn go(dir: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("go").args(arguments).current_dir(dir).output().context("run go")?;
    ensure!(output.status.success(), "go {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}
