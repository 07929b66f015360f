//! Files to read from, wherever they come from: a context's directory, the layers of a stage or an image, nothing.
//!
//! ```text
//! Tree ─ open ─► Root: a directory that no path and no link leads out of
//! ```
//!
//! Layers are seen through an overlay that is mounted nowhere: it exists as a descriptor, nobody else on the machine sees it, and
//! it goes with the descriptor. Paths are resolved by the kernel below the root (`openat2` with `RESOLVE_IN_ROOT`).
//!
//! <https://docs.kernel.org/filesystems/overlayfs.html>, <https://man7.org/linux/man-pages/man2/openat2.2.html>

use std::{
    any::Any,
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use runtime::users::StepUsers;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use crate::ignore::Ignore;

/// Links followed by hand for one path.
const LINKS: usize = 40;

/// Files to read from. Cheap to clone by `Arc`.
pub struct Tree {
    ground: Ground,
    /// What of a context does not count.
    pub ignore: Ignore,
    /// What must stay as long as the tree.
    _holds: Vec<Arc<dyn Any + Send + Sync>>,
}

enum Ground {
    /// A directory, whose files count as root's.
    Directory(OwnedFd),
    /// Layers, the topmost first, and a name that equal contents have in common.
    Layers(Vec<PathBuf>, String),
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ground {
            Ground::Directory(directory) => write!(f, "Tree({directory:?})"),
            Ground::Layers(layers, _) => write!(f, "Tree({layers:?})"),
        }
    }
}

impl Tree {
    /// A context: the files of `directory` but for what `ignore` says.
    pub fn context(directory: OwnedFd, ignore: Ignore, holds: Vec<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { ground: Ground::Directory(directory), ignore, _holds: holds }
    }

    /// Unpacked layers, the topmost first; at least one. Trees of the same identity have the same contents.
    pub fn layers(layers: Vec<PathBuf>, identity: String, holds: Vec<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { ground: Ground::Layers(layers, identity), ignore: Ignore::default(), _holds: holds }
    }

    /// Whether it is a context's directory: its files count as root's, whoever owns them.
    pub fn is_context(&self) -> bool {
        matches!(self.ground, Ground::Directory(_))
    }

    /// What tells two trees of layers apart: equal names are equal contents. None for a directory that may change.
    pub fn identity(&self) -> Option<String> {
        match &self.ground {
            Ground::Directory(_) => None,
            Ground::Layers(_, identity) => Some(identity.clone()),
        }
    }

    /// Opens it for reading.
    pub fn open(&self) -> io::Result<Root> {
        match &self.ground {
            Ground::Directory(directory) => Ok(Root(directory.try_clone()?)),
            Ground::Layers(layers, _) => overlay(layers, None).map(Root),
        }
    }

    /// Mounts the tree, read-only, on an empty directory of this machine, until dropped. What takes a path instead of a descriptor
    /// needs this. Of a context, what is ignored is there too, and everything belongs to whom it belongs.
    /// With `users`, files belong to these as they belong to the machine's.
    ///
    /// # Errors
    /// `EINVAL` with `users`, from file systems that cannot do so.
    pub fn attach(&self, at: &Path, users: Option<&StepUsers>) -> io::Result<Attached> {
        let attached = match &self.ground {
            Ground::Directory(directory) => Attached::of(&clone(directory, "", users)?, at)?,
            Ground::Layers(layers, _) => match layers.as_slice() {
                [layer] => Attached::of(&clone(CWD, layer, users)?, at)?,
                layers => attach_overlay(layers, None, at, users)?,
            },
        };
        let flags = MountFlags::RDONLY | MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount_remount(at, flags, "")?;
        Ok(attached)
    }

    /// The same with writes that go to `upper`; `work` is overlayfs's own directory.
    pub fn attach_writable(
        &self,
        at: &Path,
        upper: &Path,
        work: &Path,
        users: Option<&StepUsers>,
    ) -> io::Result<Attached> {
        if users.is_some() {
            // What is written is thrown away: whom it belongs to on the disk does not matter.
            let root = Some(StepUsers::root());
            std::os::unix::fs::chown(upper, root, root)?;
        }
        let pair = Some((upper, work));
        match &self.ground {
            Ground::Directory(directory) => attach_overlay(&[PathBuf::from(name(directory))], pair, at, users),
            Ground::Layers(layers, _) => attach_overlay(layers, pair, at, users),
        }
    }
}

/// Mounts memory of at most `size` bytes on an empty directory, for root alone, until dropped.
pub fn memory(at: &Path, size: u64) -> io::Result<Attached> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "size", size.to_string())?;
    rustix::mount::fsconfig_set_string(&context, "mode", "0700")?;
    // Kernels before 6.4 swap it all the same.
    let _ = rustix::mount::fsconfig_set_flag(&context, "noswap");
    rustix::mount::fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mounted = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    Attached::of(&mounted, at)
}

/// A mount that goes when dropped.
#[derive(Debug)]
pub struct Attached(PathBuf);

impl Attached {
    /// Puts a mount that is nowhere yet on an empty directory.
    fn of(mounted: &OwnedFd, at: &Path) -> io::Result<Self> {
        rustix::mount::move_mount(mounted, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            tracing::warn!(path = %self.0.display(), %error, "unmount a tree");
        }
    }
}

/// A directory that is `/` to all paths.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Takes a directory as a root.
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what `path` leads to, links followed within the root.
    pub fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        resolve(self.0.as_fd(), path, flags, ResolveFlags::IN_ROOT)
    }

    /// The status of what `path` leads to, the last part's link followed only where `follow`. None where there is nothing.
    pub fn status(&self, path: &Path, follow: bool) -> io::Result<Option<Stat>> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        match self.open(path, flags) {
            Ok(found) => Ok(Some(rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in a directory, sorted; no links are followed but on the way to it.
    pub fn names(&self, path: &Path) -> io::Result<Vec<CString>> {
        names(&self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// A small file as text; none where there is none. More than `limit` bytes are an error.
    pub fn text(&self, path: &Path, limit: u64) -> io::Result<Option<String>> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        if metadata.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit), &mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The path without links: what a path through links would lead to, whether or not something is there. `last` tells whether a
    /// link at the very end is followed too.
    pub fn real_path(&self, path: &Path, last: bool) -> io::Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut left: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == b".." {
                real.pop();
                continue;
            }
            let next = real.join(std::ffi::OsStr::from_bytes(&part));
            let link = match self.open(&next, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(found) if last || !left.is_empty() => {
                    let status = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH)?;
                    let is_link = FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
                    if is_link { Some(rustix::fs::readlinkat(&found, "", Vec::new())?) } else { None }
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => None,
                Err(error) => return Err(error.into()),
            };
            let Some(link) = link else {
                real = next;
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            if link.as_bytes().starts_with(b"/") {
                real = PathBuf::from("/");
            }
            left.extend(parts(Path::new(std::ffi::OsStr::from_bytes(link.as_bytes()))).rev().map(<[u8]>::to_vec));
        }
        Ok(real)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The parts of a path, without empty ones and `.`.
pub fn parts(path: &Path) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The names in an open directory, sorted.
pub fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !is_dots(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Opens `path` below `directory`.
fn resolve(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, within: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        let within = within | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), within) {
            // A rename elsewhere on the machine made the kernel unsure.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// An overlay that is mounted nowhere: `lowers` with the topmost first, and where writes go with overlayfs's own directory. Writes
/// are not put onto the disk when it ends: a build does that once for all of its layers.
pub fn overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    if let ([lower], None) = (lowers, upper) {
        // An overlay of one layer is no overlay.
        return Ok(rustix::fs::open(lower, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    }
    let (opened, pair) = open_all(lowers, upper)?;
    let mounted = match new_overlay(&opened, pair.as_ref()) {
        // Kernels before 6.7 cannot take layers one by one.
        Err(Errno::INVAL) => old_overlay(&opened, pair.as_ref())?,
        other => other?,
    };
    // The mount's descriptor only names it.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&mounted, ".", flags, Mode::empty())?)
}

/// What names an open directory in an option.
fn name(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn new_overlay(lowers: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
    for lower in lowers {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", name(lower))?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_string(&context, "upperdir", name(upper))?;
        rustix::mount::fsconfig_set_string(&context, "workdir", name(work))?;
    }
    for option in OPTIONS.iter().filter(|option| upper.is_some() || **option != VOLATILE) {
        match option.split_once('=') {
            Some((option, value)) => rustix::mount::fsconfig_set_string(&context, option, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, *option)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

const VOLATILE: &str = "volatile";

/// How overlays of a build are mounted: whatever else the kernel does by default, a layer must mean the same without the ones below
/// it, since it is archived alone.
pub const OPTIONS: [&str; 4] = ["redirect_dir=off", "metacopy=off", "index=off", VOLATILE];

type Opened = (Vec<OwnedFd>, Option<(OwnedFd, OwnedFd)>);

fn open_all(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<Opened> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("open {}: {error}", path.display())))
    };
    let opened = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
    let pair = upper.map(|(upper, work)| Ok::<_, io::Error>((open(upper)?, open(work)?))).transpose()?;
    Ok((opened, pair))
}

/// A copy of the mount at a place, mounted nowhere yet, its files those of `users`.
fn clone(directory: impl AsFd, path: impl rustix::path::Arg, users: Option<&StepUsers>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(directory, path, flags)?;
    users.map_or(Ok(()), |users| users.map(&tree))?;
    Ok(tree)
}

/// An overlay on an empty directory. With `users` each layer is mounted beside it meanwhile: an overlay takes mapped layers only as
/// mounts, and keeps them.
fn attach_overlay(
    lowers: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    at: &Path,
    users: Option<&StepUsers>,
) -> io::Result<Attached> {
    let (mut opened, pair) = open_all(lowers, upper)?;
    let mut mapped = Vec::new();
    if users.is_some() {
        for (number, lower) in opened.iter_mut().enumerate() {
            let place = at.with_extension(format!("lower-{number}"));
            std::fs::create_dir(&place)?;
            let tree = clone(&*lower, "", users)?;
            mapped.push(Attached::of(&tree, &place)?);
            *lower = tree;
        }
    }
    match new_overlay(&opened, pair.as_ref()) {
        Err(Errno::INVAL) => {
            let data = old_options(&opened, pair.as_ref())?;
            rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
            Ok(Attached(at.to_owned()))
        }
        other => Attached::of(&other?, at),
    }
}

/// The same by the old call, which needs a place: a temporary one, left at once.
fn old_overlay(lowers: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>) -> io::Result<OwnedFd> {
    let (place, data) = (tempfile::tempdir()?, old_options(lowers, upper)?);
    rustix::mount::mount("overlay", place.path(), "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
    let opened = rustix::fs::open(place.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    rustix::mount::unmount(place.path(), UnmountFlags::DETACH)?;
    Ok(opened?)
}

/// The options of the old call.
fn old_options(lowers: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>) -> io::Result<CString> {
    let mut data = format!("lowerdir={}", lowers.iter().map(name).collect::<Vec<_>>().join(":"));
    if let Some((upper, work)) = upper {
        data.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
    }
    for option in OPTIONS.iter().filter(|option| upper.is_some() || **option != VOLATILE) {
        data.push(',');
        data.push_str(option);
    }
    Ok(CString::new(data)?)
}
