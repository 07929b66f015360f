//! Paths inside a container's root, resolved as if that were `/`: a link can never lead out, whoever swaps it meanwhile
//! (CVE-2021-30465).

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// A directory.
    Directory,
    /// Something else.
    File,
}

const LINKS: usize = 32;

/// Opens a path without reading it. Links are followed inside the root.
pub fn open(root: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH, ResolveFlags::IN_ROOT)
}

/// Opens a path in which no link may be.
pub fn open_without_links(root: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn open_with(root: impl AsFd, path: &str, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "/" } else { path };
    loop {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel says so when something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The path, made where it is missing.
pub fn ensure(root: impl AsFd, path: &str, leaf: Leaf) -> rustix::io::Result<OwnedFd> {
    match open(&root, path) {
        Err(Errno::NOENT) => ensure_slowly(root.as_fd(), path, leaf, LINKS),
        other => other,
    }
}

fn ensure_slowly(
    root: std::os::fd::BorrowedFd<'_>,
    path: &str,
    leaf: Leaf,
    links: usize,
) -> rustix::io::Result<OwnedFd> {
    if links == 0 {
        return Err(Errno::LOOP);
    }
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let mut done = String::new();
    let mut parent = open(root, "/")?;
    for (index, name) in names.iter().enumerate() {
        let next = format!("{done}/{name}");
        match open(root, &next) {
            Ok(found) => {
                (parent, done) = (found, next);
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let last = index + 1 == names.len();
        let made = match leaf {
            Leaf::File if last => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
                rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
            _ => rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755)),
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // A link to something that is missing: make that.
                let target = rustix::fs::readlinkat(&parent, *name, Vec::new())?;
                let target = target.to_str().map_err(|_| Errno::INVAL)?;
                let base = if target.starts_with('/') { "" } else { done.as_str() };
                let rest = names[index + 1..].join("/");
                let whole = format!("{base}/{target}/{rest}");
                return ensure_slowly(root, whole.trim_end_matches('/'), leaf, links - 1);
            }
            Err(error) => return Err(error),
        }
        parent = open(root, &next)?;
        done = next;
    }
    Ok(parent)
}

/// What a descriptor stands for.
pub fn kind(descriptor: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

/// Makes a symbolic link, unless something is there already.
pub fn link(root: impl AsFd, target: &str, directory: &str, name: &str) -> rustix::io::Result<()> {
    let directory = open(root, directory)?;
    match rustix::fs::symlinkat(target, &directory, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Whether a descriptor is on a file system of this kind (`…_SUPER_MAGIC`).
pub fn is_on(descriptor: impl AsFd, magic: i64) -> bool {
    rustix::fs::fstatfs(descriptor).is_ok_and(|found| found.f_type == magic)
}
