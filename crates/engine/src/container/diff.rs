//! What a container has changed of its image's files: `GET /containers/ID/changes`.
//!
//! The writable layer tells: what is in it is new or changed, a whiteout (character device 0/0) hides what is gone.
//! <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use image::Snapshot;
use serde_json::{Value, json};

const CHANGED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;
/// Paths that are told of at most: more is no list for people.
const LIMIT: usize = 1_000_000;

/// Changes by path, sorted.
pub(crate) fn changes(snapshot: &Snapshot) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    walk(&snapshot.upper, Path::new("/"), &snapshot.lowers, &mut found)?;
    found.sort();
    Ok(found.into_iter().map(|(path, kind)| json!({"Path": path, "Kind": kind})).collect())
}

fn walk(dir: &Path, shown: &Path, lowers: &[PathBuf], found: &mut Vec<(PathBuf, u8)>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        let (path, metadata) = (shown.join(entry.file_name()), entry.metadata()?);
        let kind = metadata.file_type();
        anyhow::ensure!(found.len() < LIMIT, "more than {LIMIT} files have changed");
        if kind.is_char_device() && metadata.rdev() == 0 {
            found.push((path, DELETED));
            continue;
        }
        let below = exists(lowers, &path);
        found.push((path.clone(), if below { CHANGED } else { ADDED }));
        if kind.is_dir() {
            walk(&entry.path(), &path, lowers, found)?;
        }
    }
    Ok(())
}

/// Whether the image has a path: its uppermost mention counts. Links on the way are not followed, as overlays do not.
fn exists(lowers: &[PathBuf], path: &Path) -> bool {
    let inside = path.strip_prefix("/").unwrap_or(path);
    for lower in lowers {
        let mut at = lower.clone();
        let mut complete = true;
        for part in inside.components() {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Ok(metadata) if metadata.file_type().is_char_device() && metadata.rdev() == 0 => return false,
                Ok(_) => {}
                Err(_) => {
                    complete = false;
                    break;
                }
            }
        }
        if complete {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_changed_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        for path in ["lower/etc", "upper/etc", "upper/new"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(lower.join("etc/old"), "1").unwrap();
        fs::write(upper.join("etc/old"), "2").unwrap();
        fs::write(upper.join("new/file"), "3").unwrap();
        let snapshot = Snapshot { lowers: vec![lower], upper, work: dir.path().join("work") };
        let found = changes(&snapshot).unwrap();
        let expected = [("/etc", 0), ("/etc/old", 0), ("/new", 1), ("/new/file", 1)];
        assert_eq!(found, expected.map(|(path, kind)| json!({"Path": path, "Kind": kind})));
    }
}
