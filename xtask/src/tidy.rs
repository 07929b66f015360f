//! `cargo xtask tidy`: the form that every file keeps.
//!
//! | check | rule |
//! |---|---|
//! | layers | dependencies point strictly down; edges within a layer are those of [`EDGES`] |
//! | pages | every module begins with `//!` |
//! | sizes | [`LINES`] lines of code a file at most (no comments, no blank lines), tables and tests excepted |
//! | names | none of [`NAMES`] in a file's or a module's name; no `foo/foo.rs` |
//! | licences | those of [`LICENCES`] |
//! | form | rustfmt and clippy, warnings denied |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;

/// Crates by layer, the lowest first.
const LAYERS: &[&[&str]] = &[
    &[
        "task",
        "counts",
        "host",
        "serve",
        "store",
        "oci",
        "image",
        "container",
        "network",
        "dns",
        "runtime",
        "build",
        "git",
        "tsdb",
        "promql",
        "groovy",
    ],
    &["api"],
    &["apiserver", "client", "access"],
    &["scheduler", "controllers", "node", "registry", "engine", "metrics", "pipeline", "console", "gateway", "release"],
    &["madang"],
];

/// Edges within a layer, beside those to `task`.
const EDGES: &[(&str, &str)] = &[
    ("host", "counts"),
    ("dns", "counts"),
    ("image", "oci"),
    ("image", "serve"),
    ("container", "oci"),
    ("runtime", "image"),
    ("runtime", "container"),
    ("runtime", "network"),
    ("runtime", "oci"),
    ("build", "git"),
    ("build", "image"),
    ("build", "oci"),
    ("build", "runtime"),
    ("access", "client"),
    ("promql", "tsdb"),
];

/// What a crate must not depend on, though it is lower.
const FORBIDDEN_EDGES: &[(&str, &str)] = &[
    ("scheduler", "store"),
    ("controllers", "store"),
    ("node", "store"),
    ("scheduler", "apiserver"),
    ("registry", "store"),
    ("controllers", "apiserver"),
    ("node", "apiserver"),
    ("engine", "store"),
    ("engine", "apiserver"),
    ("registry", "apiserver"),
    ("metrics", "store"),
    ("metrics", "apiserver"),
    ("console", "store"),
    ("console", "apiserver"),
    ("pipeline", "store"),
    ("pipeline", "apiserver"),
    ("release", "store"),
    ("release", "apiserver"),
    ("gateway", "store"),
    ("gateway", "apiserver"),
];

const LINES: usize = 800;
const NAMES: &[&str] = &["util", "utils", "common", "helpers", "helper", "manager", "impl"];
/// Files that are tables: data in the form of code.
const TABLES: &[&str] = &["crates/api/src/kinds/table.rs", "crates/container/src/seccomp/numbers.rs"];

const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
];

/// Runs all checks; an error lists what is wrong.
pub fn run() -> Result<()> {
    let metadata = metadata()?;
    let mut wrong = layers(&metadata);
    wrong.extend(licences(&metadata));
    let mut files = Vec::new();
    for dir in ["crates", "tests", "fuzz", "xtask", "benches"] {
        sources(&host::root().join(dir), &mut files)?;
    }
    for file in &files {
        wrong.extend(form(file)?);
    }
    if !wrong.is_empty() {
        bail!("tidy:\n  {}", wrong.join("\n  "));
    }
    eprintln!("tidy: {} files, {} crates", files.len(), LAYERS.iter().map(|layer| layer.len()).sum::<usize>());
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    host::run(cargo.current_dir(host::root()).args(arguments))
}

fn metadata() -> Result<Value> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(host::root()).args([
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        crate::binary::TARGET,
    ]);
    Ok(serde_json::from_str(&host::output(&mut cargo)?)?)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Members of the workspace with the members that each depends on, tests aside.
fn members(metadata: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let own: BTreeSet<&str> = array(&metadata["workspace_members"]).iter().map(text).collect();
    let packages = array(&metadata["packages"]).iter().filter(|package| own.contains(text(&package["id"])));
    let names: BTreeSet<&str> = packages.clone().map(|package| text(&package["name"])).collect();
    packages
        .map(|package| {
            let dependencies = array(&package["dependencies"]).iter().filter(|dependency| dependency["kind"].is_null());
            (
                text(&package["name"]),
                dependencies.map(|dependency| text(&dependency["name"])).filter(|name| names.contains(name)).collect(),
            )
        })
        .collect()
}

fn layers(metadata: &Value) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut wrong = Vec::new();
    for (name, dependencies) in members(metadata) {
        if matches!(name, "xtask" | "e2e" | "fuzz") {
            continue;
        }
        let Some(own) = layer(name) else {
            wrong.push(format!("crate {name} stands in no layer"));
            continue;
        };
        for dependency in dependencies {
            let allowed = match layer(dependency) {
                None => false,
                Some(other) if other < own => !FORBIDDEN_EDGES.contains(&(name, dependency)),
                Some(other) => other == own && (dependency == "task" || EDGES.contains(&(name, dependency))),
            };
            if !allowed {
                wrong.push(format!("crate {name} must not depend on {dependency}"));
            }
        }
    }
    wrong
}

fn licences(metadata: &Value) -> Vec<String> {
    let reached: BTreeSet<&str> = array(&metadata["resolve"]["nodes"]).iter().map(|node| text(&node["id"])).collect();
    array(&metadata["packages"])
        .iter()
        .filter(|package| reached.contains(text(&package["id"])))
        .filter(|package| !allowed(text(&package["license"])))
        .map(|package| {
            format!("{}: licence {:?} is not among those allowed", text(&package["name"]), text(&package["license"]))
        })
        .collect()
}

/// Whether an SPDX expression can be satisfied: one of each `OR`, all of each `AND`.
pub fn allowed(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    !expression.trim().is_empty()
        && expression.split(" AND ").all(|part| part.split(" OR ").any(|name| LICENCES.contains(&name.trim())))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

fn form(file: &Path) -> Result<Vec<String>> {
    let root = host::root();
    let path = file.strip_prefix(&root).unwrap_or(file);
    let shown = path.display();
    let source = fs::read_to_string(file).with_context(|| format!("read {shown}"))?;
    let mut wrong = Vec::new();
    // A file that others include is no module and can have no page.
    let is_included = path.parent().is_some_and(|parent| parent.ends_with("build"));
    if !source.starts_with("//!") && !is_included {
        wrong.push(format!("{shown}: begins without a page (//!)"));
    }
    let is_table = TABLES.iter().any(|table| path == Path::new(table));
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = source.lines().filter(is_code).count();
    if lines > LINES && !is_table && !is_test {
        wrong.push(format!("{shown}: {lines} lines of code; {LINES} at most"));
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if stem.split('_').any(|word| NAMES.contains(&word)) {
        wrong.push(format!("{shown}: a name that says nothing"));
    }
    let parent = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    if parent.as_deref() == Some(&stem) && stem != "tests" {
        wrong.push(format!("{shown}: a file named like its folder"));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_judged_by_their_parts() {
        let cases = [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("GPL-3.0", false),
            ("MIT AND LGPL-2.1", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(allowed(expression), expected, "{expression}");
        }
    }
}
