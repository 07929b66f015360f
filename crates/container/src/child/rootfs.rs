//! The root file system: found or mounted, filled, entered, and the machine's left behind.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use super::{Context, Failure, tree};
use crate::{
    idmap,
    plan::{Overlay, Plan, Root, Source},
    sys::{self, MountChange},
};

/// `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;

/// Longest value that the mount interface takes.
const LONGEST_VALUE: usize = 255;

/// A root that is mounted but not yet entered.
#[derive(Debug)]
pub struct Prepared {
    root: OwnedFd,
    writable: bool,
    /// Binds that pass mounts on to the machine, taken before this namespace was cut off from it, by destination.
    pub shared: Vec<(String, OwnedFd)>,
}

impl Prepared {
    /// The root directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether set-up may write to it. (A read-only root is made so only in the end.)
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Makes it this process's root, and leaves everything else.
    pub fn enter(&self, plan: &Plan) -> Result<(), Failure> {
        rustix::process::fchdir(&self.root).context(|| "enter the root file system")?;
        rustix::process::pivot_root(".", ".").context(|| "change the root file system")?;
        // The old root now lies over the new one.
        rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "leave the old root file system")?;
        rustix::process::chdir("/").context(|| "enter the root file system")?;
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(|| "open /")?;
        let below = plan.propagation & libc::MS_REC != 0;
        let propagation = plan.propagation & !libc::MS_REC;
        if propagation == libc::MS_SHARED || propagation == libc::MS_UNBINDABLE {
            let change = MountChange { propagation, below, ..MountChange::default() };
            sys::mount_setattr(&root, &change).context(|| "set the root's propagation")?;
        }
        if plan.root.as_ref().is_some_and(|root| root.readonly) {
            let change = MountChange { set: READ_ONLY, ..MountChange::default() };
            sys::mount_setattr(&root, &change).context(|| "make the root file system read-only")?;
        }
        Ok(())
    }
}

/// What a container in a user namespace could not open or mount itself.
#[derive(Debug)]
pub struct Sources {
    root: OwnedFd,
    binds: Vec<(String, OwnedFd)>,
}

/// Opens and mounts what a container in the user namespace `users` needs, in a mount namespace of this process's own, and
/// enters the directory on which the root is to be mounted: paths may lead through directories that are closed to others.
pub fn gather(plan: &Plan, users: &OwnedFd, mappings: &[(String, OwnedFd)]) -> Result<Sources, Failure> {
    let root = plan.root.as_ref().ok_or_else(|| Failure::new("the plan has no root"))?;
    let mut binds = shared_binds(plan)?;
    sys::unshare(libc::CLONE_NEWNS as u64).context(|| "make a mount namespace")?;
    cut_off(plan)?;
    for mount in plan.mounts.iter().filter(|mount| mount.source() == Source::Bind) {
        if !binds.iter().any(|(to, _)| *to == mount.to) {
            let source = bind(&mount.from, mount.recursive).context(|| format!("bind {}", mount.from))?;
            super::mounts::map(&source, mount, Some(users), mappings).context(|| format!("map {}", mount.from))?;
            binds.push((mount.to.clone(), source));
        }
    }
    let mounted = match &root.overlay {
        Some(layers) => {
            let owner = idmap::outside(&plan.uids, 0).zip(idmap::outside(&plan.gids, 0));
            mapped_overlay(layers, root, users, owner)?
        }
        None => bind(&root.path, true).context(|| format!("bind root {}", root.path))?,
    };
    rustix::process::chdir(root.path.as_str()).context(|| format!("enter {}", root.path))?;
    Ok(Sources { root: mounted, binds })
}

/// An overlay of layers whose files belong to the namespace's users. The layers are mounted on a scratch directory first:
/// an overlay takes only layers that are mounted.
///
/// What is written belongs to the users outside: an overlay writes for itself as whoever mounts it, and the machine's root has
/// no place in a mapping. Where the upper is to be mapped too, so that its files are like those of the layers, the overlay is
/// mounted by a process that keeps root's rights, and whose files are those of the namespace's root.
/// <https://docs.kernel.org/filesystems/idmappings.html>
fn mapped_overlay(
    layers: &Overlay,
    root: &Root,
    users: &OwnedFd,
    owner: Option<(u32, u32)>,
) -> Result<OwnedFd, Failure> {
    let scratch = || -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    let writable = !layers.upper.is_empty();
    let mut mapped = Vec::new();
    let map = |path: &str| {
        let layer = bind(path, false).context(|| format!("bind layer {path}"))?;
        let change = MountChange { users: Some(users.as_fd()), ..MountChange::default() };
        sys::mount_setattr(&layer, &change).context(|| format!("map layer {path}"))?;
        Ok::<_, Failure>(layer)
    };
    for path in &layers.lowers {
        mapped.push(map(path)?);
    }
    if let ([layer], false) = (mapped.as_slice(), writable) {
        // An overlay of one layer is no overlay.
        let change = MountChange { set: READ_ONLY, ..MountChange::default() };
        sys::mount_setattr(layer, &change).context(|| "make the layer read-only")?;
        return Ok(mapped.remove(0));
    }
    let place = scratch().context(|| "make a scratch directory")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&place, "", CWD, root.path.as_str(), flags).context(|| "mount a scratch directory")?;
    let put = |name: &str, layer: &OwnedFd| {
        rustix::fs::mkdirat(&place, name, Mode::RWXU).context(|| "make a directory for a layer")?;
        rustix::mount::move_mount(layer, "", &place, name, flags).context(|| "mount a layer")
    };
    for (number, layer) in mapped.iter().enumerate() {
        put(&number.to_string(), layer)?;
    }
    if writable && layers.mapped {
        let (uid, gid) = owner.ok_or_else(|| Failure::new("the user namespace has no root"))?;
        let (parent, [upper, work]) = beside(layers)?;
        let both = map(parent)?;
        put("upper", &both)?;
        let open = |name: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&both, name, flags, Mode::empty()).context(|| format!("open {name} in {parent}"))
        };
        let (upper, work) = (open(upper)?, open(work)?);
        sys::make_files_as(uid, gid).context(|| "make files as the namespace's root")?;
        let mounted = new_overlay(&mapped, Some((&upper, &work)), &layers.options);
        sys::make_files_as(0, 0).context(|| "make files as root")?;
        return mounted.context(|| format!("mount {} mapped layers, and a mapped one to write to", mapped.len()));
    }
    let upper = if writable { Some((open_layer(&layers.upper)?, open_layer(&layers.work)?)) } else { None };
    if let (Some((upper, work)), Some((uid, gid))) = (&upper, owner) {
        for directory in [upper, work] {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chownat(directory, "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)
                .context(|| "give the writable layer to the namespace's root")?;
        }
    }
    let upper = upper.as_ref().map(|(upper, work)| (upper, work));
    new_overlay(&mapped, upper, &layers.options).context(|| format!("mount {} mapped layers", mapped.len()))
}

/// The directory in which the upper and the overlay's own are, since they must be on one mount, and their names.
fn beside(layers: &Overlay) -> Result<(&str, [&str; 2]), Failure> {
    match (layers.upper.rsplit_once('/'), layers.work.rsplit_once('/')) {
        (Some((parent, upper)), Some((other, work))) if parent == other && !parent.is_empty() => {
            Ok((parent, [upper, work]))
        }
        _ => Err(Failure::new(format!("{} and {} are not beside each other", layers.upper, layers.work))),
    }
}

fn open_layer(path: &String) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open layer {path}"))
}

fn shared_binds(plan: &Plan) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let mut shared = Vec::new();
    for mount in &plan.mounts {
        if mount.source() == Source::Bind && mount.propagation == libc::MS_SHARED {
            let bind = bind(&mount.from, mount.recursive).context(|| format!("bind {}", mount.from))?;
            shared.push((mount.to.clone(), bind));
        }
    }
    Ok(shared)
}

/// Cuts this mount namespace off from the machine's.
fn cut_off(plan: &Plan) -> Result<(), Failure> {
    let machine = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(|| "open /")?;
    let private = plan.propagation & !libc::MS_REC == libc::MS_PRIVATE;
    let propagation = if private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
    let change = MountChange { propagation, below: true, ..MountChange::default() };
    sys::mount_setattr(&machine, &change).context(|| "cut off the machine's mounts")
}

/// Cuts this mount namespace off from the machine's, and mounts the root.
pub fn prepare(plan: &Plan, sources: Option<&Sources>) -> Result<Prepared, Failure> {
    let root = plan.root.as_ref().ok_or_else(|| Failure::new("the plan has no root"))?;
    let copy = |descriptor: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(descriptor, 3).context(|| "copy a descriptor");
    let shared = match sources {
        Some(sources) => {
            let binds = sources.binds.iter().map(|(to, bind)| Ok((to.clone(), copy(bind)?)));
            binds.collect::<Result<_, Failure>>()?
        }
        None => shared_binds(plan)?,
    };
    cut_off(plan)?;
    let mounted = match (sources, &root.overlay) {
        (Some(sources), _) => Some(copy(&sources.root)?),
        (None, Some(layers)) => overlay(layers, root)?,
        (None, None) => Some(bind(&root.path, true).context(|| format!("bind root {}", root.path))?),
    };
    let directory = match mounted {
        Some(mounted) => {
            let change = MountChange { propagation: libc::MS_PRIVATE, ..MountChange::default() };
            sys::mount_setattr(&mounted, &change).context(|| "make the root's mount private")?;
            let place = if sources.is_some() { "." } else { root.path.as_str() };
            rustix::mount::move_mount(&mounted, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .context(|| format!("mount root at {}", root.path))?;
            mounted
        }
        None => rustix::fs::open(root.path.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open root {}", root.path))?,
    };
    if tree::kind(&directory).context(|| "look at the root")? != FileType::Directory {
        return Err(Failure::new(format!("root {} is not a directory", root.path)));
    }
    let writable = rustix::fs::fstatvfs(&directory)
        .is_ok_and(|found| !found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    Ok(Prepared { root: directory, writable, shared })
}

/// A copy of the mount at `path`, not yet mounted anywhere.
pub fn bind(path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let below = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    rustix::mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below)
}

/// A copy of the mount that a descriptor names, not yet mounted anywhere.
fn bind_descriptor(descriptor: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let below = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(descriptor, "", flags | below)
}

/// Mounts what `mount` names on what `target` names.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Mounts layers. `None` where they had to be mounted the old way, at the root's path already.
fn overlay(layers: &Overlay, root: &Root) -> Result<Option<OwnedFd>, Failure> {
    if layers.upper.is_empty() && layers.lowers.len() == 1 {
        // An overlay of one layer is no overlay.
        let path = &layers.lowers[0];
        let layer = bind(path, false).context(|| format!("bind layer {path}"))?;
        let change = MountChange { set: READ_ONLY, ..MountChange::default() };
        sys::mount_setattr(&layer, &change).context(|| format!("make layer {path} read-only"))?;
        return Ok(Some(layer));
    }
    // Layers are named by descriptor: short enough for every interface, however long their paths are.
    let lowers = layers.lowers.iter().map(open_layer).collect::<Result<Vec<_>, _>>()?;
    let writable = !layers.upper.is_empty();
    let upper = if writable { Some((open_layer(&layers.upper)?, open_layer(&layers.work)?)) } else { None };
    let upper_and_work = upper.as_ref().map(|(upper, work)| (upper, work));
    match new_overlay(&lowers, upper_and_work, &layers.options) {
        Ok(mounted) => return Ok(Some(mounted)),
        // Kernels before 6.7 cannot take layers one by one.
        Err(Errno::INVAL) => {}
        Err(error) => return Err(error).context(|| format!("mount {} layers", lowers.len())),
    }
    let mut data = String::from("lowerdir=");
    data.push_str(&lowers.iter().map(name).collect::<Vec<_>>().join(":"));
    if let Some((upper, work)) = &upper {
        data.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
    }
    for option in &layers.options {
        data.push(',');
        data.push_str(option);
    }
    let data = std::ffi::CString::new(data).context(|| "mount layers")?;
    rustix::mount::mount("overlay", root.path.as_str(), "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .context(|| format!("mount {} layers", lowers.len()))?;
    Ok(None)
}

/// What names an open directory in an option.
fn name(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// An overlay that is not mounted anywhere yet.
fn new_overlay(
    lowers: &[OwnedFd],
    upper: Option<(&OwnedFd, &OwnedFd)>,
    options: &[String],
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
    for lower in lowers {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", name(lower))?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_string(&context, "upperdir", name(upper))?;
        rustix::mount::fsconfig_set_string(&context, "workdir", name(work))?;
    }
    for option in options {
        configure(&context, option)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Gives an option to a file system that is being made.
pub fn configure(context: impl AsFd, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        Some((_, value)) if value.len() > LONGEST_VALUE => Err(Errno::NAMETOOLONG),
        Some((name, value)) => rustix::mount::fsconfig_set_string(context, name, value),
        None => rustix::mount::fsconfig_set_flag(context, option),
    }
}

/// Below `/proc` and `/sys` no link may lead elsewhere: what is protected there must be what the kernel shows.
fn find(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let kernel = ["/proc", "/sys"].iter().any(|top| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')));
    let found = if kernel { tree::open_without_links(root, path) } else { tree::open(root, path) };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Remounts a path read-only, where it exists.
pub fn make_readonly(root: &Prepared, path: &str) -> rustix::io::Result<()> {
    let Some(found) = find(root.directory(), path)? else { return Ok(()) };
    let copy = bind_descriptor(&found, true)?;
    sys::mount_setattr(&copy, &MountChange { set: READ_ONLY, below: true, ..MountChange::default() })?;
    attach(&copy, &found)
}

/// Hides paths, where they exist: directories below an empty one, files below the null device.
pub fn mask(root: &Prepared, paths: &[String]) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let mut hide = || -> rustix::io::Result<()> {
            let Some(found) = find(root.directory(), path)? else { return Ok(()) };
            if tree::kind(&found)? != FileType::Directory {
                // The machine's, which no container can swap for another (CVE-2025-31133).
                return attach(bind("/dev/null", false)?, &found);
            }
            match &empty {
                Some(empty) => attach(bind_descriptor(empty, false)?, &found),
                None => {
                    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
                    for option in ["nr_blocks=1", "nr_inodes=1", "mode=0555"] {
                        configure(&context, option)?;
                    }
                    rustix::mount::fsconfig_create(&context)?;
                    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                        | MountAttrFlags::MOUNT_ATTR_NOSUID
                        | MountAttrFlags::MOUNT_ATTR_NODEV
                        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                    let mounted = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
                    attach(&mounted, &found)?;
                    empty = Some(mounted);
                    Ok(())
                }
            }
        };
        hide().context(|| format!("mask {path}"))?;
    }
    Ok(())
}
