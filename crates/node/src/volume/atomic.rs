//! Files that change all at once.
//!
//! ```text
//! VOLUME/a            -> ..data/a              one link for each first part of a path
//! VOLUME/..data       -> ..2026_11_21_09_30_00.123456789
//! VOLUME/..2026_.../a                          the files
//! ```
//!
//! An update writes a new directory and moves `..data` over: readers see all of the old or all of the new.
//! The layout is upstream's, on which programs rely.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::files::Files;

const DATA: &str = "..data";
const NEW: &str = "..data_tmp";

/// Makes the volume at `dir` hold exactly `files`, owned by `group` where one is given. Returns whether it changed.
pub fn write(dir: &Path, files: &Files, group: Option<u32>, now: Timestamp) -> Result<bool> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(if group.is_some() { 0o2775 } else { 0o755 }))
        .with_context(|| format!("open {}", dir.display()))?;
    if let Some(group) = group {
        chown(dir, None, Some(group)).with_context(|| format!("give {} to group {group}", dir.display()))?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&dir.join(old), files, group)
    {
        return Ok(false);
    }
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("{stamp}.{:09}", now.subsec_nanosecond());
    let fresh = dir.join(&name);
    fill(&fresh, files, group)?;
    let link = dir.join(NEW);
    remove_file(&link)?;
    symlink(&name, &link).with_context(|| format!("link {}", link.display()))?;
    fs::rename(&link, dir.join(DATA)).with_context(|| format!("move {} into place", link.display()))?;
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        let entry_name = entry.file_name();
        let text = entry_name.to_string_lossy();
        if text == DATA || text == name.as_str() || wanted.contains(text.as_ref()) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        } else {
            remove_file(&entry.path())?;
        }
    }
    Ok(true)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn effective(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn fill(dir: &Path, files: &Files, group: Option<u32>) -> Result<()> {
    let made = |path: &Path| -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o2775 } else { 0o755 }))?;
        if let Some(group) = group {
            chown(path, None, Some(group))?;
        }
        Ok(())
    };
    made(dir)?;
    for (path, file) in files {
        let target = dir.join(path);
        let mut parent = dir.to_path_buf();
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            parent.push(part);
            made(&parent)?;
        }
        fs::write(&target, &file.bytes).with_context(|| format!("write {}", target.display()))?;
        chown(&target, file.owner, group).with_context(|| format!("give away {}", target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(effective(file.mode, group)))
            .with_context(|| format!("set mode of {}", target.display()))?;
    }
    Ok(())
}

/// Whether a directory holds exactly these files.
fn holds(dir: &Path, files: &Files, group: Option<u32>) -> bool {
    fn count(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(dir) == files.len()
        && files.iter().all(|(path, file)| {
            let path = dir.join(path);
            fs::symlink_metadata(&path).is_ok_and(|found| {
                found.is_file()
                    && found.mode() & 0o7777 == effective(file.mode, group)
                    && group.is_none_or(|group| found.gid() == group)
            }) && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::files::File;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.into(), mode: 0o644, owner: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("..2"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_at_once_and_what_is_gone_disappears() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("v");
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert!(write(&dir, &files(&[("a", "1"), ("x/y", "2")]), None, now).unwrap());
        assert_eq!(names(&dir), ["..data", "a", "x"]);
        assert_eq!(fs::read_to_string(dir.join("x/y")).unwrap(), "2");
        let old = fs::read_link(dir.join(DATA)).unwrap();
        assert_eq!(old.to_str(), Some("..2023_11_14_22_13_20.000000000"));
        assert!(!write(&dir, &files(&[("a", "1"), ("x/y", "2")]), None, now).unwrap());
        let later = Timestamp::from_second(1_700_000_001).unwrap();
        assert!(write(&dir, &files(&[("a", "3"), ("b", "4")]), None, later).unwrap());
        assert_eq!(names(&dir), ["..data", "a", "b"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join(old).exists());
    }
}
