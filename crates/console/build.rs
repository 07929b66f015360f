//! Lists what `cargo xtask ui` has built in `ui/dist/pages`, so that it is embedded; without it, nothing is listed.
//!
//! Files that end in `.gz` stand for those without: only the compressed form is embedded.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let dist = here.join("../../ui/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=dashboards");
    let mut built = Vec::new();
    let pages = dist.join("pages");
    gather(&pages, &pages, &mut built)?;
    let mut dashboards = Vec::new();
    gather(&here.join("dashboards"), &here.join("dashboards"), &mut dashboards)?;
    let mut table = String::new();
    writeln!(table, "/// What Vite has built: path, bytes as gzip.\npub static ASSETS: &[(&str, &[u8])] = &[")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (at, (name, path)) in built.into_iter().enumerate() {
        if let Some(name) = name.strip_suffix(".gz") {
            // Copied, so that pages may be built anew while the compiler runs.
            let copy = out.join(format!("page-{at}.gz"));
            fs::copy(path, &copy)?;
            let path = copy;
            writeln!(table, "    ({name:?}, include_bytes!({path:?})),")?;
        }
    }
    writeln!(table, "];\n/// Dashboards that come with the program: file name and JSON.")?;
    writeln!(table, "pub static DASHBOARDS: &[(&str, &str)] = &[")?;
    for (name, path) in dashboards {
        writeln!(table, "    ({name:?}, include_str!({path:?})),")?;
    }
    writeln!(table, "];")?;
    fs::write(out.join("embedded.rs"), table)?;
    Ok(())
}

/// Adds all files below `dir` with their paths below `root`, sorted.
fn gather(root: &Path, dir: &Path, found: &mut Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            gather(root, &path, found)?;
        } else {
            let name = path.strip_prefix(root)?.to_str().ok_or("a name that is no text")?.to_owned();
            found.push((name, fs::canonicalize(&path)?));
        }
    }
    found.sort();
    Ok(())
}
