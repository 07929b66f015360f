//! The sample application as somebody's repository: copied, committed, changed, pushed with plain git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::cluster::Cluster;
use crate::host;

/// The second commit: slower, and one request in five fails.
pub const BAD: &str = "recommend.patch";
/// The third: the same without that.
pub const GOOD: &str = "recommend-mended.patch";

/// Where the inventory keeps its journal on the machine, as its manifest says.
const JOURNAL: &str = "/var/lib/shop/inventory";
/// Directories of the sample that are no part of what a team would push.
const LEFT_OUT: &[&str] = &["demo"];

fn sample() -> PathBuf {
    host::root().join("examples/shop")
}

/// Copies the sample to `to`; the inventory's journal goes to `journal`.
pub fn copy(to: &Path, journal: &str) -> Result<()> {
    copy_all(&sample(), to)?;
    let manifest = to.join("k8s/20-inventory.yaml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    Ok(fs::write(manifest, text.replace(JOURNAL, journal))?)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true if LEFT_OUT.iter().any(|left| name == *left) => {}
            true => copy_all(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

/// Applies one of the changes.
pub fn patch(repository: &Path, name: &str) -> Result<()> {
    let file = sample().join("demo").join(name);
    let mut patch = Command::new("git");
    // Also where no repository is.
    patch.current_dir(repository).args(["apply", "--whitespace=nowarn"]).arg(&file);
    host::run(patch.env("GIT_CEILING_DIRECTORIES", repository.parent().unwrap_or(repository)))
}

/// Commits all there is and pushes it; the commit.
pub fn push(cluster: &Cluster, message: &str) -> Result<String> {
    if !cluster.repository.join(".git").exists() {
        cluster.begin("shop")?;
    }
    cluster.git(&["add", "--all"])?;
    cluster.git(&["commit", "--quiet", "--message", message])?;
    cluster.git(&["push", "--quiet", "origin", "HEAD:main"])?;
    cluster.git(&["rev-parse", "HEAD"])
}
