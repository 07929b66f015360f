//! A container's file system from outside: that of its process while it runs, else an overlay that is mounted nowhere.
//!
//! Paths are resolved by the kernel within the root (`RESOLVE_IN_ROOT`), so that no link in the container leads out of it.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use image::Snapshot;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

use crate::{
    Engine,
    container::Container,
    error,
    model::record::{MountPoint, Record},
};

/// The root of a file system.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    /// What is mounted below, where the kernel does not know.
    mounts: Vec<(String, OwnedFd)>,
}

impl Root {
    /// A directory of the machine.
    pub fn of_directory(path: &Path) -> Result<Self> {
        let directory = open_directory(path)?;
        Ok(Self { directory, mounts: Vec::new() })
    }

    /// The merged layers of a snapshot. Nothing is left when it is dropped.
    pub fn of_snapshot(snapshot: &Snapshot) -> Result<Self> {
        Ok(Self { directory: overlay(snapshot).context("mount the files of a container")?, mounts: Vec::new() })
    }

    /// The root of a running process.
    pub fn of_process(pid: i32) -> Result<Self> {
        Self::of_directory(Path::new(&format!("/proc/{pid}/root")))
    }

    /// Adds what a container that does not run would see mounted.
    pub fn with_mounts(mut self, mounts: &[MountPoint]) -> Self {
        for mount in mounts.iter().filter(|mount| !mount.source.is_empty()) {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            match rustix::fs::open(mount.source.as_str(), flags, Mode::empty()) {
                Ok(source) => self.mounts.push((mount.destination.clone(), source)),
                Err(error) => tracing::debug!(source = mount.source, %error, "a mount of a container is not there"),
            }
        }
        self
    }

    /// The directory itself.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The root that a path lies in, and the path from there.
    fn place(&self, path: &str) -> (BorrowedFd<'_>, String) {
        let clean = super::mounts::clean(path);
        let mounted = self.mounts.iter().filter_map(|(to, source)| {
            let rest = clean.strip_prefix(to.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((to.len(), source, rest))
        });
        match mounted.max_by_key(|(length, ..)| *length) {
            Some((_, source, rest)) => (source.as_fd(), format!(".{rest}")),
            None => (self.directory.as_fd(), format!(".{clean}")),
        }
    }

    /// Opens a path. With `OFlags::NOFOLLOW` a link at its end is not followed.
    pub fn open(&self, path: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let (root, rest) = self.place(path);
        if rest == "." {
            // A mounted file is its own root.
            return rustix::fs::open(format!("/proc/self/fd/{}", root.as_raw_fd()), flags & !OFlags::NOFOLLOW, mode);
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(root, rest, flags | OFlags::CLOEXEC, mode, resolve)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// An overlay that is mounted nowhere. Layers are named by descriptors, since the kernel takes 255 bytes a value and, before
/// Linux 6.5, all layers as one value.
fn overlay(snapshot: &Snapshot) -> Result<OwnedFd> {
    let layers = snapshot.lowers.iter().map(|layer| open_directory(layer)).collect::<Result<Vec<_>>>()?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("overlay")?;
    let each =
        layers.iter().try_for_each(|layer| rustix::mount::fsconfig_set_string(&context, "lowerdir+", name(layer)));
    if each.is_err() {
        let all = layers.iter().map(name).collect::<Vec<_>>().join(":");
        rustix::mount::fsconfig_set_string(&context, "lowerdir", all).context("overlay: layers")?;
    }
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    rustix::mount::fsconfig_set_string(&context, "upperdir", path(&snapshot.upper))
        .context("overlay: upper directory")?;
    rustix::mount::fsconfig_set_string(&context, "workdir", path(&snapshot.work)).context("overlay: work directory")?;
    rustix::mount::fsconfig_create(&context).context("overlay")?;
    let mounted = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    mounted.context("overlay: mount")
}

/// The root of a container, as its process sees it or would see it. The caller holds the container's turn while it works on
/// one that does not run.
pub(crate) fn root_of(engine: &Engine, container: &Container) -> error::Result<Root> {
    let record: Record = container.record();
    if record.state.is_running() && record.state.pid > 0 {
        return Ok(Root::of_process(record.state.pid)?);
    }
    let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&container.id));
    let snapshot = snapshot.with_context(|| format!("the files of container {} are gone", container.id))?;
    for mount in record.mounts.iter().filter(|mount| mount.kind == "volume") {
        if let Some(volume) = engine.volumes().get(&mount.name) {
            engine.volumes().mount(&volume)?;
        }
    }
    Ok(Root::of_snapshot(&snapshot)?.with_mounts(&record.mounts))
}
