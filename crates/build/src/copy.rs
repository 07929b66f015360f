//! Putting files into a layer, as `COPY` and `ADD` do it.
//!
//! ```text
//! Picks ─ walk ─► for each entry: what is at its place goes, it is made anew: content, owner, mode, attributes, times
//! ```
//!
//! Who decides what: a directory's contents go into the destination, a file goes into a destination that is a directory, directories
//! on the way are made with mode 755. A directory that is there keeps its own mode and owner if it is the destination itself, and gets
//! the source's further down. Links in the destination's path are followed within the root.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#copy>; where it says nothing, BuildKit's `fsutil` decides.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Seek, SeekFrom},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    mode::ModeChange,
    select::{Entry, Pick, attributes, walk},
    tree::{Root, Tree, names, parts},
};

/// Where things go, and what they become.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Absolute; a slash at the end means a directory.
    pub destination: String,
    /// Owner and group of everything; none to keep those of the sources.
    pub owner: Option<(u32, u32)>,
    /// Modes of everything but links; none to keep those of the sources.
    pub mode: Option<ModeChange>,
    /// Whether something of another kind gives way, as it does for archives.
    pub replace: bool,
}

/// Mode of directories that nobody asked for.
const DIRECTORY: u32 = 0o755;

/// One instruction's work on a root.
pub struct Copier<'a> {
    root: &'a Root,
    target: &'a Target,
    stop: &'a AtomicBool,
    /// Where files with several names were put.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories' times, set last because writing into a directory changes its own.
    times: Vec<(PathBuf, Timestamps)>,
    /// The directory that was written to last.
    open: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Copier<'a> {
    /// Prepares the way to the destination.
    pub fn new(root: &'a Root, target: &'a Target, stop: &'a AtomicBool) -> anyhow::Result<Self> {
        let mut copier = Self { root, target, stop, links: HashMap::new(), times: Vec::new(), open: None };
        let destination = Path::new(&target.destination);
        let above = match target.destination.ends_with('/') {
            true => destination,
            false => destination.parent().unwrap_or(Path::new("/")),
        };
        let above = root.real_path(above, true)?;
        copier.make_directories(&above)?;
        Ok(copier)
    }

    /// Copies what is picked of a tree.
    pub fn copy(&mut self, tree: &Tree, source: &Root, pick: &Pick) -> anyhow::Result<()> {
        let mut place = self.root.real_path(Path::new(&self.target.destination), true)?;
        let there = self.root.status(&place, true)?;
        if !pick.directory && there.is_some_and(|status| is_directory(&status)) {
            place.push(&pick.name);
        }
        let above = match pick.directory {
            true if there.is_none() => place.clone(),
            _ => place.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        self.make_directories(&above)?;
        let stop = self.stop;
        walk(tree, source, pick, stop, &mut |entry| {
            let to = if entry.path.as_os_str().is_empty() { place.clone() } else { place.join(entry.path) };
            self.entry(entry, &to).with_context(|| format!("to {}", to.display()))
        })
    }

    /// Writes a file with this content.
    pub fn file(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let mut place = self.root.real_path(Path::new(&self.target.destination), true)?;
        if self.root.status(&place, true)?.is_some_and(|status| is_directory(&status)) {
            place.push(name);
        }
        let above = place.parent().unwrap_or(Path::new("/")).to_owned();
        self.make_directories(&above)?;
        self.make_room(&place)?;
        let mut file = self.create(&place)?;
        io::Write::write_all(&mut file, content)?;
        self.own(&file, (0, 0))?;
        let mode = self.target.mode.as_ref().map_or(0o644, |mode| mode.apply(0o644, false));
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
    }

    /// Sets the times that had to wait.
    pub fn finish(mut self) -> anyhow::Result<()> {
        for (path, times) in std::mem::take(&mut self.times).into_iter().rev() {
            let directory = match self.root.open(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                // Replaced by what came later.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            };
            rustix::fs::futimens(&directory, &times)?;
        }
        Ok(())
    }

    /// Makes a directory and those above it where they are missing. The path has no links.
    pub fn make_directories(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut so_far = PathBuf::from("/");
        for part in parts(path) {
            so_far.push(OsStr::from_bytes(part));
            match self.root.status(&so_far, true)? {
                Some(status) if is_directory(&status) => continue,
                Some(_) => bail!("{}: not a directory", so_far.display()),
                None => {}
            }
            let mode = match &self.target.mode {
                Some(ModeChange::Octal(mode)) => *mode,
                _ => DIRECTORY,
            };
            let (parent, name) = self.parent(&so_far)?;
            rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o700))
                .with_context(|| format!("make {}", so_far.display()))?;
            let made = self.root.open(&so_far, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.own(&made, (0, 0))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// The open directory that something is in, and its name there.
    fn parent(&mut self, path: &Path) -> anyhow::Result<(&OwnedFd, std::ffi::CString)> {
        let name = std::ffi::CString::new(path.file_name().unwrap_or(OsStr::new(".")).as_bytes())?;
        let above = path.parent().unwrap_or(Path::new("/"));
        if self.open.as_ref().is_none_or(|(open, _)| open != above) {
            let opened = self.root.open(above, OFlags::RDONLY | OFlags::DIRECTORY);
            self.open = Some((above.to_owned(), opened.with_context(|| format!("open {}", above.display()))?));
        }
        let Some((_, directory)) = &self.open else { bail!("{}: no directory", above.display()) };
        Ok((directory, name))
    }

    fn create(&mut self, path: &Path) -> anyhow::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, &name, flags, Mode::from_raw_mode(0o600));
        Ok(File::from(file.with_context(|| format!("make {}", path.display()))?))
    }

    fn own(&self, file: impl AsFd, (uid, gid): (u32, u32)) -> rustix::io::Result<()> {
        let (uid, gid) = self.target.owner.unwrap_or((uid, gid));
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// Removes what is in the way of something that is no directory.
    fn make_room(&mut self, path: &Path) -> anyhow::Result<()> {
        let Some(status) = self.root.status(path, false)? else { return Ok(()) };
        let replace = self.target.replace;
        let (parent, name) = self.parent(path)?;
        if is_directory(&status) {
            if !replace {
                bail!("cannot replace to directory {} with file", path.display());
            }
            return remove_all(parent.as_fd(), &name);
        }
        Ok(rustix::fs::unlinkat(parent, &name, AtFlags::empty())?)
    }

    fn entry(&mut self, entry: &Entry<'_>, to: &Path) -> anyhow::Result<()> {
        let kind = entry.kind();
        if kind == FileType::Directory {
            return self.directory(entry, to);
        }
        if kind == FileType::Socket {
            // Means nothing without the process behind it, and archives do not know it.
            return Ok(());
        }
        self.make_room(to)?;
        let status = entry.status;
        let owner = self.target.owner.unwrap_or((status.st_uid, status.st_gid));
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        let mode = status.st_mode & 0o7777;
        let mode = self.target.mode.as_ref().map_or(mode, |change| change.apply(mode, false));
        match kind {
            FileType::RegularFile => {
                if status.st_nlink > 1 {
                    let inode = (status.st_dev, status.st_ino);
                    if let Some(first) = self.links.get(&inode).cloned() {
                        let first = self.root.open(&first, OFlags::PATH | OFlags::NOFOLLOW)?;
                        let (parent, name) = self.parent(to)?;
                        let first = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&first));
                        rustix::fs::linkat(rustix::fs::CWD, first, parent, &name, AtFlags::SYMLINK_FOLLOW)?;
                        return Ok(());
                    }
                    self.links.insert(inode, to.to_owned());
                }
                let mut source = File::from(entry.open().context("open")?);
                let mut file = self.create(to)?;
                content(&mut source, &mut file, &status)?;
                self.own(&file, owner)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
                set_attributes(entry, &file)?;
                rustix::fs::futimens(&file, &times(&status))?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(entry.parent, entry.name, Vec::new())?;
                let (parent, name) = self.parent(to)?;
                rustix::fs::symlinkat(link, parent, &name)?;
                rustix::fs::chownat(parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::utimensat(parent, &name, &times(&status), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            kind => {
                let (parent, name) = self.parent(to)?;
                rustix::fs::mknodat(parent, &name, kind, Mode::from_raw_mode(mode), status.st_rdev)?;
                rustix::fs::chownat(parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                // No link: it was just made.
                rustix::fs::chmodat(parent, &name, Mode::from_raw_mode(mode), AtFlags::empty())?;
                rustix::fs::utimensat(parent, &name, &times(&status), AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry<'_>, to: &Path) -> anyhow::Result<()> {
        let top = entry.path.as_os_str().is_empty();
        let there = self.root.status(to, false)?;
        let made = match there {
            Some(status) if is_directory(&status) => false,
            Some(_) if !self.target.replace => bail!("cannot copy to non-directory: {}", to.display()),
            there => {
                if there.is_some() {
                    self.make_room(to)?;
                }
                let (parent, name) = self.parent(to)?;
                rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o700))?;
                true
            }
        };
        let status = entry.status;
        if made || !(top || entry.implied) {
            let directory = self.root.open(to, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.own(&directory, (status.st_uid, status.st_gid))?;
            let mode = status.st_mode & 0o7777;
            let mode = self.target.mode.as_ref().map_or(mode, |change| change.apply(mode, true));
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            set_attributes(entry, &directory)?;
        }
        if made || !entry.implied {
            self.times.push((to.to_owned(), times(&status)));
        }
        Ok(())
    }
}

/// Copies what is not a hole.
fn content(source: &mut File, to: &mut File, status: &Stat) -> anyhow::Result<()> {
    let size = u64::try_from(status.st_size).unwrap_or(0);
    let sparse = (status.st_blocks as u64).saturating_mul(512) < size;
    if !sparse {
        let copied = io::copy(source, to)?;
        if copied != size {
            bail!("it changes while it is copied");
        }
        return Ok(());
    }
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&*source, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(&*source, rustix::fs::SeekFrom::Hole(data))?.min(size);
        source.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        io::copy(&mut io::Read::take(&mut *source, hole - data), to)?;
        at = hole.max(at + 1);
    }
    Ok(())
}

fn set_attributes(entry: &Entry<'_>, file: impl AsFd) -> anyhow::Result<()> {
    let file = file.as_fd();
    for (name, value) in attributes(entry.parent, entry.name)? {
        match rustix::fs::fsetxattr(file, &name, &value, XattrFlags::empty()) {
            // As cp: what the file system cannot hold is left.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error).with_context(|| format!("set attribute {}", name.display())),
        }
    }
    Ok(())
}

fn times(status: &Stat) -> Timestamps {
    let spec = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: spec(status.st_atime, status.st_atime_nsec),
        last_modification: spec(status.st_mtime, status.st_mtime_nsec),
    }
}

fn is_directory(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Directory
}

fn remove_all(parent: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr) -> anyhow::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for name in names(&below)? {
        remove_all(below.as_fd(), &name)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
