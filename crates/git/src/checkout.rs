//! The files of a tree in a directory.
//!
//! Each name is made below the descriptor of the directory that it is in and never through a link, so that no tree, however
//! it was made, reaches outside.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode as Bits, OFlags, Timespec, Timestamps, mkdirat, openat, symlinkat, utimensat},
    io::Errno,
};

use crate::{
    Error, Limits,
    id::Id,
    modules,
    object::{self, Kind, Mode},
    pack::Pack,
};

/// Directories within each other.
const DEEPEST: usize = 256;
/// Bytes of a link's target.
const LINK: usize = 4095;

/// What may still be written.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Files, links, directories.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What a checkout made.
#[derive(Debug, Default)]
pub struct Done {
    /// Every file and link: path, whether it is executable or a link, id; in the order of their trees.
    pub files: Vec<(String, Mode, Id)>,
    /// Paths of other repositories, with their commits.
    pub modules: Vec<(String, Id)>,
    /// What `.gitmodules` says.
    pub gitmodules: Vec<modules::Module>,
}

impl Room {
    /// All that is allowed.
    pub fn new(limits: &Limits) -> Self {
        Self { entries: limits.entries, bytes: limits.checkout }
    }
}

struct Level {
    directory: OwnedFd,
    path: String,
    entries: std::vec::IntoIter<(Mode, String, Id)>,
}

/// Writes the files of `tree` into `directory`, which exists and is nobody else's; of a `subdirectory`, only what is in it.
/// Files have mode 0644 or 0755, directories 0755, and all of them `time` as time of their change, where it is given.
/// Blocks.
pub fn write(pack: &Pack, tree: &Id, directory: &Path, time: Option<i64>, room: &mut Room) -> Result<Done, Error> {
    let root = openat(CWD, directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty())?;
    let mut done = Done::default();
    let mut levels = vec![level(pack, tree, root, String::new())?];
    while let depth = levels.len()
        && let Some(top) = levels.last_mut()
    {
        let Some((mode, name, id)) = top.entries.next() else {
            if let Some(finished) = levels.pop() {
                touch(finished.directory.as_fd(), "", time)?;
            }
            continue;
        };
        room.entries = room.entries.checked_sub(1).ok_or_else(|| Error::invalid("the checkout has too many files"))?;
        let path = if top.path.is_empty() { name.clone() } else { format!("{}/{name}", top.path) };
        let at = top.directory.as_fd();
        match mode {
            Mode::File { executable } => {
                file(pack, &id, at, &name, executable, room)?;
                touch(at, &name, time)?;
                if path == ".gitmodules" {
                    let content = pack.expect(&id, Kind::Blob)?;
                    if content.len() as u64 > modules::LARGEST {
                        return Err(Error::TooLarge { what: ".gitmodules", limit: modules::LARGEST });
                    }
                    done.gitmodules = modules::parse(&String::from_utf8_lossy(&content));
                }
                done.files.push((path, mode, id));
            }
            Mode::Link => {
                let target = pack.expect(&id, Kind::Blob)?;
                if target.len() > LINK || target.contains(&0) || target.is_empty() {
                    return Err(Error::invalid(format!("{path}: not a link's target")));
                }
                symlinkat(target.as_slice(), at, name.as_str()).map_err(|error| named(&path, error))?;
                touch(at, &name, time)?;
                done.files.push((path, mode, id));
            }
            Mode::Directory | Mode::Module => {
                mkdirat(at, name.as_str(), Bits::from_raw_mode(0o755)).map_err(|error| named(&path, error))?;
                if mode == Mode::Module {
                    done.modules.push((path, id));
                    continue;
                }
                if depth == DEEPEST {
                    return Err(Error::TooLarge { what: "the depth of directories", limit: DEEPEST as u64 });
                }
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(at, name.as_str(), flags, Bits::empty()).map_err(|error| named(&path, error))?;
                rustix::fs::fchmod(&below, Bits::from_raw_mode(0o755))?;
                levels.push(level(pack, &id, below, path)?);
            }
        }
    }
    Ok(done)
}

/// The tree of a directory below another, which must be one all the way.
pub fn subdirectory(pack: &Pack, tree: &Id, path: &str) -> Result<Id, Error> {
    let mut at = *tree;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let content = pack.expect(&at, Kind::Tree)?;
        let entries = object::tree(&content, at.format())?;
        let entry = entries.iter().find(|entry| entry.name == part);
        at = match entry {
            Some(entry) if entry.mode == Mode::Directory => entry.id,
            Some(_) => return Err(Error::invalid(format!("invalid subdir {path}: {part} is not a directory"))),
            None => return Err(Error::invalid(format!("invalid subdir {path}: the repository has no {part} there"))),
        };
    }
    Ok(at)
}

fn level(pack: &Pack, tree: &Id, directory: OwnedFd, path: String) -> Result<Level, Error> {
    let content = pack.expect(tree, Kind::Tree)?;
    let entries = object::tree(&content, tree.format())?;
    let entries: Vec<_> = entries.iter().map(|entry| (entry.mode, entry.name.to_owned(), entry.id)).collect();
    Ok(Level { directory, path, entries: entries.into_iter() })
}

fn file(pack: &Pack, id: &Id, at: BorrowedFd<'_>, name: &str, run: bool, room: &mut Room) -> Result<(), Error> {
    let bits = Bits::from_raw_mode(if run { 0o755 } else { 0o644 });
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(at, name, flags, bits).map_err(|error| named(name, error))?;
    // Whatever the process's mask is.
    rustix::fs::fchmod(&made, bits)?;
    let mut out = BufWriter::with_capacity(64 << 10, File::from(made));
    room.bytes -= pack.copy(id, &mut out, room.bytes)?;
    Ok(out.flush()?)
}

fn touch(at: BorrowedFd<'_>, name: &str, time: Option<i64>) -> Result<(), Error> {
    let Some(seconds) = time else { return Ok(()) };
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    if name.is_empty() {
        return Ok(rustix::fs::futimens(at, &times)?);
    }
    Ok(utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn named(path: &str, error: Errno) -> Error {
    match error {
        // Two entries of one name: only a tree that was made to deceive has them.
        Errno::EXIST | Errno::NOTDIR | Errno::LOOP => Error::invalid(format!("a tree names {path} twice")),
        error => std::io::Error::new(error.kind(), format!("{path}: {error}")).into(),
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}
