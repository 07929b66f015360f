//! Libraries of others for Python, in the cache: clients with which the engine and pipelines are tested.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::host;

/// What is installed, in the versions that the tests were written against.
const PACKAGES: [&str; 3] = ["docker==7.2.0", "testcontainers==4.15.0", "python-jenkins==1.8.3"];
/// Without it `python3 -m pip` does not go.
const PIP: &[host::Package] = &[("python3-pip", "/usr/bin/pip3")];

/// A folder for `PYTHONPATH` with the packages in it.
pub fn packages() -> Result<PathBuf> {
    let dir = host::cache()?.join("python").join(PACKAGES.join("-").replace("==", "-"));
    if dir.exists() {
        return Ok(dir);
    }
    let pip =
        Command::new("python3").args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !pip.is_ok_and(|status| status.success()) {
        host::install(PIP)?;
    }
    // Beside its place until it is whole.
    let partial = dir.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    host::run(install.arg("--target").arg(&partial).args(PACKAGES))?;
    fs::rename(&partial, &dir).with_context(|| format!("put {} in place", dir.display()))?;
    Ok(dir)
}
