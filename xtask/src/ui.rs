//! `cargo xtask ui`: builds the console's pages into `ui/dist/pages`, which building the program embeds.
//!
//! Node must be 20.19 or newer; where it is not, the one in npm's package `node` is used. What npm fetches is held to
//! `ui/package-lock.json`, and what is shipped of it to the licences of [`crate::tidy`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{host, tidy};

const NODE: &[host::Package] = &[("npm", "/usr/bin/npm")];
/// The oldest Node that Vite runs on.
const OLDEST: (u32, u32) = (20, 19);
/// What the pages are made from, below `ui`.
const SOURCES: &[&str] =
    &["src", "public", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

/// Builds the pages if they are older than what they are made from.
pub fn build() -> Result<()> {
    let ui = host::root().join("ui");
    licences(&ui)?;
    let built = modified(&ui.join("dist/pages/index.html.gz"));
    let newest = SOURCES.iter().filter_map(|name| newest(&ui.join(name))).max();
    if built.is_some() && built >= newest {
        return Ok(());
    }
    let path = path()?;
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(&ui).args(arguments);
        if let Some(path) = &path {
            npm.env("PATH", path);
        }
        host::run(&mut npm)
    };
    let installed = modified(&ui.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < modified(&ui.join("package-lock.json")) {
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])?;
    }
    npm(&["run", "--silent", "build"])?;
    eprintln!("ui: {}", ui.join("dist/pages").display());
    Ok(())
}

/// Runs the tests of the pages' own code.
pub fn test() -> Result<()> {
    let ui = ready()?;
    let mut npm = Command::new("npm");
    npm.current_dir(&ui).args(["run", "--silent", "test"]);
    if let Some(path) = path()? {
        npm.env("PATH", path);
    }
    host::run(&mut npm)
}

/// The directory of the pages, which are built, with what their scripts need.
pub fn ready() -> Result<PathBuf> {
    build()?;
    let ui = host::root().join("ui");
    if !ui.join("node_modules").exists() {
        bail!("ui/node_modules is missing: remove ui/dist and run `cargo xtask ui` again");
    }
    Ok(ui)
}

/// A PATH that begins with a Node that is new enough; `None` if it needs no change.
pub fn path() -> Result<Option<std::ffi::OsString>> {
    let usual = Command::new("node").arg("--version").output().ok().and_then(|output| version(&output.stdout));
    if host::find("npm").is_some() && usual.is_some_and(|version| version >= OLDEST) {
        return Ok(None);
    }
    if host::find("npm").is_none() {
        host::install(NODE)?;
    }
    let dir = host::cache()?.join("node");
    let bin = dir.join("node_modules/node/bin");
    if !bin.join("node").exists() {
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&dir).arg("node@22");
        host::run(&mut npm)?;
    }
    let old = std::env::var_os("PATH").unwrap_or_default();
    Ok(Some(std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&old)))?))
}

/// Major and minor of what `node --version` prints.
fn version(printed: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(printed).ok()?.trim().strip_prefix('v')?;
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn newest(path: &PathBuf) -> Option<SystemTime> {
    let Ok(entries) = fs::read_dir(path) else { return modified(path) };
    entries.flatten().filter_map(|entry| newest(&entry.path())).max()
}

/// Whether all that is shipped has a licence that is allowed; what only builds is not shipped.
fn licences(ui: &Path) -> Result<()> {
    let path = ui.join("package-lock.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let wrong = unlicensed(&serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?);
    if !wrong.is_empty() {
        bail!("ui: licences that are not allowed: {}", wrong.join(", "));
    }
    Ok(())
}

fn unlicensed(lock: &Value) -> Vec<String> {
    let packages = lock["packages"].as_object().into_iter().flatten();
    packages
        .filter(|(name, package)| !name.is_empty() && package["dev"] != true && package["optional"] != true)
        .filter(|(_, package)| !tidy::allowed(package["license"].as_str().unwrap_or_default()))
        .map(|(name, package)| format!("{name} ({})", package["license"]))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{unlicensed, version};

    #[test]
    fn versions_of_node_are_read() {
        assert_eq!(version(b"v20.20.2\n"), Some((20, 20)));
        assert_eq!(version(b"nothing"), None);
    }

    #[test]
    fn what_is_shipped_has_a_licence_that_is_allowed() {
        let lock = json!({"packages": {
            "": {"license": "Apache-2.0"}, "a": {"license": "MIT"}, "b": {"license": "GPL-3.0"}, "c": {},
            "d": {"license": "MPL-2.0", "dev": true},
        }});
        assert_eq!(unlicensed(&lock), ["b (\"GPL-3.0\")", "c (null)"]);
    }
}
