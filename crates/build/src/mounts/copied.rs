//! Copies of a part of a tree, for mounts that cannot be the tree itself.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, OFlags, Stat};

use crate::{ignore::Ignore, tree::Root};

/// Files, links and directories of a copy.
const MOST: u64 = 4 << 20;

/// Whether everything from `path` down is root's, so that it can be seen as it is.
pub(super) fn is_plain(root: &Root, path: &Path) -> Result<bool> {
    let mut left = vec![path.to_owned()];
    let mut seen = 0_u64;
    while let Some(path) = left.pop() {
        let Some(status) = root.status(&path, false)? else { continue };
        seen += 1;
        if status.st_uid != 0 || status.st_gid != 0 || seen > MOST {
            return Ok(false);
        }
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            left.extend(children(root, &path)?);
        }
    }
    Ok(true)
}

fn children(root: &Root, path: &Path) -> Result<Vec<PathBuf>> {
    let names = root.names(path).with_context(|| format!("read {}", path.display()))?;
    Ok(names.iter().map(|name| path.join(std::ffi::OsStr::from_bytes(name.to_bytes()))).collect())
}

/// Copies what is at `path` of a tree, which has no links in it, to `to`, which is not there yet; without what is ignored,
/// and with `own` as root's. Links are copied as links; sockets are left out.
pub(super) fn copy(root: &Root, path: &Path, ignore: &Ignore, own: bool, to: &Path) -> Result<()> {
    let mut left = vec![(path.to_owned(), to.to_owned())];
    let mut directories = Vec::new();
    let mut count = 0;
    while let Some((from, to)) = left.pop() {
        count += 1;
        if count > MOST {
            bail!("{} has more than {MOST} files", path.display());
        }
        let Some(status) = root.status(&from, false)? else { continue };
        let name = from.strip_prefix("/").unwrap_or(&from).to_string_lossy();
        let ignored = !name.is_empty() && ignore.ignores(&name);
        let owner = if own { (0, 0) } else { (status.st_uid, status.st_gid) };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                if ignored && !ignore.takes_back() {
                    continue;
                }
                // An ignored directory is there where something in it is.
                fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
                for child in children(root, &from)? {
                    if let Some(name) = child.file_name() {
                        let to = to.join(name);
                        left.push((child, to));
                    }
                }
                directories.push((to, status, owner, ignored));
            }
            _ if ignored => {}
            FileType::RegularFile => {
                let mut source = File::from(root.open(&from, OFlags::RDONLY | OFlags::NOFOLLOW)?);
                let mut target = File::options().write(true).create_new(true).mode(0o600).open(&to)?;
                io::copy(&mut source, &mut target).with_context(|| format!("copy {}", from.display()))?;
                std::os::unix::fs::fchown(&target, Some(owner.0), Some(owner.1))?;
                rustix::fs::fchmod(&target, rustix::fs::Mode::from_raw_mode(status.st_mode & 0o7777))?;
                target.set_modified(modified(&status))?;
            }
            FileType::Symlink => {
                let link = root.open(&from, OFlags::PATH | OFlags::NOFOLLOW)?;
                let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
                symlink(std::ffi::OsStr::from_bytes(target.as_bytes()), &to)?;
                lchown(&to, Some(owner.0), Some(owner.1))?;
            }
            _ => {}
        }
    }
    // The deepest first, so that a directory without rights does not stop what is made in it.
    for (path, status, owner, ignored) in directories.into_iter().rev() {
        if ignored && fs::read_dir(&path)?.next().is_none() {
            fs::remove_dir(&path)?;
            continue;
        }
        chown(&path, Some(owner.0), Some(owner.1))?;
        rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(status.st_mode & 0o7777))?;
        File::open(&path)?.set_modified(modified(&status))?;
    }
    Ok(())
}

fn modified(status: &Stat) -> std::time::SystemTime {
    let seconds = std::time::Duration::new(status.st_mtime.unsigned_abs(), status.st_mtime_nsec as u32);
    match status.st_mtime {
        0.. => std::time::SystemTime::UNIX_EPOCH + seconds,
        _ => std::time::SystemTime::UNIX_EPOCH,
    }
}
