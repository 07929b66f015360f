//! The directory that a layer is unpacked into: every name is resolved within it, whatever links it holds.
//!
//! Resolution is the kernel's (`openat2` with `RESOLVE_IN_ROOT`), so that `..` and absolute links stop at the root even
//! where the process is not confined.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Directories kept open, since entries of a directory follow each other.
const OPEN: usize = 16;

/// A root directory and what was opened below it.
pub(crate) struct Tree<'a> {
    root: BorrowedFd<'a>,
    open: Vec<(Vec<u8>, Rc<OwnedFd>)>,
}

/// Opens `directory` as a root.
pub(crate) fn open_root(directory: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What [`Tree::directory`] had to make.
pub(crate) enum Made<'a> {
    /// A directory that the archive does not mention.
    Implied(&'a [u8]),
    /// One in place of a whiteout, so that nothing of lower layers shows in it.
    Opaque(&'a [u8]),
}

impl<'a> Tree<'a> {
    /// Starts with nothing open.
    pub fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, open: Vec::new() }
    }

    /// Opens the directory `path` (relative, clean, empty for the root) for use with `*at` calls. Links on the way are
    /// followed within the root. Missing directories are made, and reported to `made`.
    pub fn directory(&mut self, path: &[u8], made: &mut dyn FnMut(Made<'_>)) -> io::Result<Rc<OwnedFd>> {
        if let Some(at) = self.open.iter().position(|(open, _)| open == path) {
            let found = self.open.remove(at);
            let directory = found.1.clone();
            self.open.push(found);
            return Ok(directory);
        }
        let directory = match resolve(self.root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_missing(path, made)?,
            Err(error) => return Err(error.into()),
        };
        let directory = Rc::new(directory);
        if self.open.len() == OPEN {
            self.open.remove(0);
        }
        self.open.push((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    /// Forgets what is open, after a directory was replaced.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Opens what `path` leads to, links followed within the root; makes nothing.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        resolve(self.root, path, flags)
    }

    fn make_missing(&self, path: &[u8], made: &mut dyn FnMut(Made<'_>)) -> io::Result<OwnedFd> {
        let mut directory = resolve(self.root, b"", OFlags::PATH | OFlags::DIRECTORY)?;
        let mut end = 0;
        for name in path.split(|&byte| byte == b'/') {
            end = (end + name.len() + 1).min(path.len() + 1);
            let so_far = &path[..end - 1];
            directory = match resolve(self.root, so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => made(Made::Implied(so_far)),
                        Ok(stat) if is_whiteout(&stat) => {
                            rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
                            made(Made::Opaque(so_far));
                        }
                        Ok(_) => {
                            let name = String::from_utf8_lossy(so_far);
                            let reason = format!("{name} is not a directory but has entries below it");
                            return Err(io::Error::new(io::ErrorKind::NotADirectory, reason));
                        }
                        Err(error) => return Err(error.into()),
                    }
                    rustix::fs::mkdirat(&directory, name, Mode::from(0o755))?;
                    resolve(self.root, so_far, OFlags::PATH | OFlags::DIRECTORY)?
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(directory)
    }
}

/// Opens `path` below `root`, which no link can leave.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), within) {
            // A rename elsewhere on the machine made the kernel unsure.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Whether this is overlayfs's mark for a name that is gone: a character device 0/0.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Removes `name` in `directory` with all below it, never through a link. Depth is bounded by the path limit.
pub(crate) fn remove_all(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    let directory = directory.as_fd();
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&below)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_all(&below, name)?;
        }
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}
