//! `type=cache`: a directory that stays between builds.
//!
//! ```text
//! caches/KEY/0/files    what steps see          KEY: id, origin, mode and owner
//! caches/KEY/0/lock     shared by `shared`, alone by `locked` and `private`
//! caches/KEY/1 ...      others of `private`, while those before are used
//! caches/KEY/0/id       what it is called
//! caches/KEY/0.removed  one that is being removed, or whose removal was interrupted
//! ```
//!
//! Locks are the kernel's, so that none outlives its holder.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use oci::Digest;
use rustix::fs::FlockOperation;

use super::{Ground, Made, Ready, clean, copied};
use crate::{
    dockerfile::{Mount, Sharing},
    tree::Tree,
};

/// Directories of one cache that `private` steps use at a time.
const MOST_PRIVATE: usize = 256;

/// A cache as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// What mounts call it.
    pub id: String,
    /// Bytes of its files.
    pub size: u64,
    /// When a step last used it.
    pub used: SystemTime,
    /// Whether a step uses it now.
    pub in_use: bool,
    /// Its directory.
    pub path: PathBuf,
}

pub(super) async fn make(ground: &Ground<'_>, mount: &Mount, target: String, ready: &mut Ready) -> Result<()> {
    let tree = ground.origin(mount)?.cloned();
    let source = clean(mount.source.as_deref().unwrap_or("/"));
    let id = mount.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| target.clone());
    let origin = match &tree {
        None => String::new(),
        Some(tree) => tree.identity().unwrap_or_else(|| mount.from.clone().unwrap_or_default()),
    };
    let text = format!("{id}\n{origin}\n{source}\n{:?}\n{:?}\n{:?}", mount.mode, mount.uid, mount.gid);
    let text = match ground.realm {
        "" => text,
        realm => format!("{realm}\n\n{text}"),
    };
    let key = Digest::sha256(text.as_bytes()).as_str()["sha256:".len()..][..40].to_owned();
    let place = ground.caches.join(key);
    let (read_only, sharing, mount) = (mount.read_only, mount.sharing.unwrap_or_default(), mount.clone());
    let shown = format!("mount cache {id:?}");
    let work = tokio::task::spawn_blocking(move || {
        let (path, lock) = hold(&place, sharing)?;
        fs::write(path.join(ID), &id)?;
        fill(&path, tree.as_ref(), &source, &mount)?;
        lock.set_modified(SystemTime::now())?;
        Ok::<_, anyhow::Error>((path.join("files"), lock))
    });
    let (source, lock) = work.await?.context(shown)?;
    ready.guards.push(Box::new(lock));
    ready.mounts.push(Made::Bind { source, target, read_only, mapped: false });
    Ok(())
}

/// The file beside a cache's files that holds its name.
const ID: &str = "id";
/// How the name of a directory ends that is being removed.
const REMOVED: &str = "removed";

/// Nobody makes or removes a cache while this is held. It is held for moments only.
fn still(caches: &Path) -> io::Result<File> {
    fs::create_dir_all(caches)?;
    let directory = File::open(caches)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive))?;
    Ok(directory)
}

/// The directory that a step may use, and the lock on it; waits for `locked` until nobody else uses it. Blocks.
fn hold(place: &Path, sharing: Sharing) -> Result<(PathBuf, File)> {
    let open = |number: usize| {
        let path = place.join(number.to_string());
        let _still = still(place.parent().unwrap_or(place))?;
        fs::create_dir_all(&path)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"))?;
        Ok::<_, io::Error>((path, lock))
    };
    loop {
        let (path, lock) = match sharing {
            Sharing::Private => {
                let mut free = None;
                for number in 0..MOST_PRIVATE {
                    let (path, lock) = open(number)?;
                    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                        free = Some((path, lock));
                        break;
                    }
                }
                free.with_context(|| format!("{MOST_PRIVATE} steps use it already"))?
            }
            Sharing::Shared | Sharing::Locked => {
                let (path, lock) = open(0)?;
                let how = match sharing {
                    Sharing::Shared => FlockOperation::LockShared,
                    _ => FlockOperation::LockExclusive,
                };
                rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, how))?;
                (path, lock)
            }
        };
        // Whoever removes a cache holds its lock: it may have gone meanwhile.
        let there = fs::metadata(path.join("lock")).map(|there| there.ino());
        if there.is_ok_and(|there| lock.metadata().is_ok_and(|held| held.ino() == there)) {
            return Ok((path, lock));
        }
    }
}

/// Makes the files of a new cache: empty, or a copy of where it comes from. Whole or not at all.
fn fill(path: &Path, tree: Option<&Arc<Tree>>, source: &str, mount: &Mount) -> Result<()> {
    let files = path.join("files");
    if files.is_dir() {
        return Ok(());
    }
    let new = tempfile::tempdir_in(path)?;
    let made = new.path().join("files");
    match tree {
        None => {
            if source != "/" {
                bail!("{source}: there is nothing in an empty cache");
            }
            fs::create_dir(&made)?;
            fs::set_permissions(&made, Permissions::from_mode(0o755))?;
        }
        Some(tree) => {
            let root = tree.open()?;
            let real = root.real_path(Path::new(source), true)?;
            let status = root.status(&real, false)?.with_context(|| format!("{source}: no such directory"))?;
            if rustix::fs::FileType::from_raw_mode(status.st_mode) != rustix::fs::FileType::Directory {
                bail!("{source} is not a directory");
            }
            copied::copy(&root, &real, &tree.ignore, tree.is_context(), &made)?;
        }
    }
    if mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some() {
        chown(&made, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0)))?;
        fs::set_permissions(&made, Permissions::from_mode(mount.mode.unwrap_or(0o755) & 0o7777))?;
    }
    match fs::rename(&made, &files) {
        // Another step that shares it was faster.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        other => Ok(other?),
    }
}

/// All caches. Blocks, for as long as it takes to look at every file.
pub fn list(caches: &Path) -> io::Result<Vec<Cache>> {
    let mut found = Vec::new();
    for place in below(caches)? {
        for path in below(&place)?.into_iter().filter(|path| path.is_dir() && path.extension().is_none()) {
            let id = match fs::read_to_string(path.join(ID)) {
                Ok(id) => id,
                // It is being made, or who made it was killed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(error),
            };
            let Ok(lock) = File::options().write(true).open(path.join("lock")) else { continue };
            let used = lock.metadata()?.modified()?;
            let in_use = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
            found.push(Cache { id, size: size(&path)?, used, in_use, path });
        }
    }
    Ok(found)
}

/// Removes caches that no step uses, those first that were not used for the longest time, until the rest has at most `keep`
/// bytes. How many bytes were removed. Blocks.
pub fn prune(caches: &Path, keep: u64) -> io::Result<u64> {
    for place in below(caches)? {
        for left in below(&place)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == REMOVED)) {
            match fs::remove_dir_all(&left) {
                // Somebody else removes it.
                Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
                removed => removed?,
            }
        }
    }
    let mut found = list(caches)?;
    found.sort_by_key(|cache| cache.used);
    let mut total: u64 = found.iter().map(|cache| cache.size).sum();
    let mut freed = 0;
    for cache in found {
        if total <= keep {
            break;
        }
        let Ok(lock) = File::options().write(true).open(cache.path.join("lock")) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        // Out of the way first: while its files go, a step may already make it anew.
        let removed = cache.path.with_extension(REMOVED);
        still(caches).and_then(|_still| fs::rename(&cache.path, &removed))?;
        fs::remove_dir_all(&removed)?;
        total -= cache.size;
        freed += cache.size;
    }
    for place in below(caches)? {
        match still(caches).and_then(|_still| fs::remove_dir(&place)) {
            // It is used, or somebody was faster.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
            removed => removed?,
        }
    }
    Ok(freed)
}

fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn size(path: &Path) -> io::Result<u64> {
    let (mut total, mut left) = (0, vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        for path in below(&path)? {
            // What a step removes meanwhile counts for nothing.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            total += metadata.len();
            if metadata.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
