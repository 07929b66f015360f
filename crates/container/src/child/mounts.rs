//! The mounts of a container.
//!
//! A mount is made whole while it is not mounted anywhere yet, then put onto its target, which was opened inside the root:
//! no path is resolved twice.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

use super::{
    Context, Failure,
    rootfs::{Prepared, attach, bind, configure},
    tree::{self, Leaf},
};
use crate::{
    plan::{Hierarchy, Mount, Source},
    sys::{self, MountChange},
};

/// For messages.
fn name(mount: &Mount) -> String {
    match mount.source() {
        Source::Bind => format!("bind {}", mount.from),
        Source::Remount => "remount".into(),
        _ => format!("mount {}", mount.kind),
    }
}

/// Makes one mount.
pub fn make(root: &mut Prepared, mount: &Mount, mappings: &[(String, OwnedFd)]) -> Result<(), Failure> {
    let context = || format!("{} at {}", name(mount), mount.to);
    match mount.source() {
        Source::Bind => {
            let shared = root.shared.iter().position(|(to, _)| *to == mount.to);
            let source = match shared {
                Some(index) => root.shared.swap_remove(index).1,
                None => {
                    let source = bind(&mount.from, mount.recursive).context(context)?;
                    map(&source, mount, None, mappings).context(context)?;
                    source
                }
            };
            let leaf = match tree::kind(&source).context(context)? {
                FileType::Directory => Leaf::Directory,
                _ => Leaf::File,
            };
            let target = tree::ensure(root.directory(), &mount.to, leaf).context(context)?;
            change(&source, mount).context(context)?;
            attach(&source, &target).context(context)
        }
        Source::New => {
            let made = new(&mount.kind, &mount.from, &mount.options, mount.set).context(context)?;
            let target = target(root.directory(), mount).context(context)?;
            change(&made, &Mount { set: 0, clear: 0, ..mount.clone() }).context(context)?;
            attach(&made, &target).context(context)?;
            if mount.copy_up {
                copy_contents(target.as_fd(), made.as_fd(), 0).context(|| format!("fill {}", mount.to))?;
            }
            Ok(())
        }
        Source::Cgroup => cgroup(root.directory(), mount).context(context),
        Source::Remount => {
            let target = tree::open(root.directory(), &mount.to).context(context)?;
            change(&target, mount).context(context)
        }
    }
}

/// Maps the identifiers of a bind that is not mounted yet.
pub fn map(
    source: &OwnedFd,
    mount: &Mount,
    users: Option<&OwnedFd>,
    mappings: &[(String, OwnedFd)],
) -> rustix::io::Result<()> {
    if !mount.mapped {
        return Ok(());
    }
    let own = mappings.iter().find(|(to, _)| *to == mount.to).map(|(_, users)| users);
    let users = own.or(users).ok_or(Errno::INVAL)?;
    let change = MountChange { users: Some(users.as_fd()), below: mount.map_below, ..MountChange::default() };
    sys::mount_setattr(source, &change)
}

/// Where a new file system is mounted. What the kernel shows must not be put elsewhere by a link of the image's
/// (CVE-2019-19921).
fn target(root: BorrowedFd<'_>, mount: &Mount) -> rustix::io::Result<OwnedFd> {
    if matches!(mount.kind.as_str(), "proc" | "sysfs" | "cgroup" | "cgroup2") {
        return match tree::open_without_links(root, &mount.to) {
            Err(Errno::NOENT) => {
                tree::ensure(root, &mount.to, Leaf::Directory).and_then(|_| tree::open_without_links(root, &mount.to))
            }
            other => other,
        };
    }
    tree::ensure(root, &mount.to, Leaf::Directory)
}

fn change(made: impl AsFd, mount: &Mount) -> rustix::io::Result<()> {
    let made = made.as_fd();
    if mount.set | mount.clear != 0 {
        let change = MountChange { set: mount.set, clear: mount.clear, ..MountChange::default() };
        sys::mount_setattr(made, &change)?;
    }
    if mount.set_below | mount.clear_below != 0 {
        let (set, clear) = (mount.set_below, mount.clear_below);
        sys::mount_setattr(made, &MountChange { set, clear, below: true, ..MountChange::default() })?;
    }
    if mount.propagation != 0 {
        let (propagation, below) = (mount.propagation, mount.propagation_below);
        sys::mount_setattr(made, &MountChange { propagation, below, ..MountChange::default() })?;
    }
    Ok(())
}

/// A new file system, not yet mounted anywhere.
fn new(kind: &str, from: &str, options: &[String], attributes: u64) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let make = || -> rustix::io::Result<OwnedFd> {
        if !from.is_empty() {
            rustix::mount::fsconfig_set_string(&context, "source", from)?;
        }
        for option in options {
            match configure(&context, option) {
                // A group that the container's user namespace does not have cannot own terminals there.
                Err(Errno::INVAL) if kind == "devpts" && option.starts_with("gid=") => {}
                other => other?,
            }
        }
        rustix::mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|error| explain(error, &context))
}

/// Adds what the kernel says of a failed mount.
fn explain(error: Errno, context: &OwnedFd) -> io::Error {
    let mut text = [0; 512];
    match rustix::io::read(context, &mut text[..]) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&text[2..length]);
            io::Error::other(format!("{error}: {}", text.trim_end()))
        }
        _ => error.into(),
    }
}

/// Control groups as the machine has them.
fn cgroup(root: BorrowedFd<'_>, mount: &Mount) -> io::Result<()> {
    if mount.kind == "cgroup2" {
        let made = new("cgroup2", "cgroup", &[], mount.set)?;
        change(&made, &Mount { set: 0, clear: 0, ..mount.clone() })?;
        return Ok(attach(&made, target(root, mount)?)?);
    }
    // Version 1: a directory of hierarchies. Nothing of the image is in it, so names are safe.
    let options = ["mode=755".to_owned(), "size=1M".to_owned()];
    let top = new("tmpfs", "tmpfs", &options, mount.set & !READ_ONLY)?;
    attach(&top, target(root, mount)?)?;
    for hierarchy in &mount.hierarchies {
        rustix::fs::mkdirat(&top, hierarchy.name.as_str(), Mode::from_raw_mode(0o755))?;
        let made = match one_hierarchy(hierarchy, mount.set) {
            Ok(made) => made,
            // One that was unmounted since, or is not allowed here, is not shown.
            Err(_) if hierarchy.directory.is_empty() => continue,
            Err(error) => return Err(error),
        };
        attach(&made, tree::open(&top, &hierarchy.name)?)?;
        for controller in hierarchy.option.split(',').filter(|one| *one != hierarchy.name && !one.contains('=')) {
            if !controller.is_empty() {
                tree::link(&top, &hierarchy.name, "/", controller)?;
            }
        }
    }
    if mount.set & READ_ONLY != 0 {
        sys::mount_setattr(&top, &MountChange { set: READ_ONLY, ..MountChange::default() })?;
    }
    change(&top, &Mount { set: 0, clear: 0, ..mount.clone() })?;
    Ok(())
}

const READ_ONLY: u64 = 1;

fn one_hierarchy(hierarchy: &Hierarchy, attributes: u64) -> io::Result<OwnedFd> {
    if !hierarchy.directory.is_empty() {
        let made = bind(&hierarchy.directory, false)?;
        sys::mount_setattr(&made, &MountChange { set: attributes, ..MountChange::default() })?;
        return Ok(made);
    }
    if hierarchy.unified {
        return new("cgroup2", "cgroup", &[], attributes);
    }
    let options: Vec<_> = hierarchy.option.split(',').map(str::to_owned).collect();
    new("cgroup", "cgroup", &options, attributes)
}

/// Depth of directories that are copied into a new file system.
const DEPTH: usize = 64;

fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > DEPTH {
        return Err(Errno::LOOP.into());
    }
    // The descriptors name places only; reading wants others.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty())?;
    let to = rustix::fs::openat(to, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(&to, name, mode)?;
                let (one, other) = (
                    rustix::fs::openat(&from, name, flags, Mode::empty())?,
                    rustix::fs::openat(&to, name, flags, Mode::empty())?,
                );
                copy_contents(one.as_fd(), other.as_fd(), depth + 1)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, &to, name)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let mut source = File::from(rustix::fs::openat(&from, name, read, Mode::empty())?);
                let mut copy = File::from(rustix::fs::openat(&to, name, write, mode)?);
                io::copy(&mut source, &mut copy)?;
            }
            kind => rustix::fs::mknodat(&to, name, kind, mode, stat.st_rdev)?,
        }
        let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(&to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            rustix::fs::chmodat(&to, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}
