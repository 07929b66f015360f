//! Writing the entries of a layer, with whiteouts as overlayfs wants them.
//!
//! | in the archive | written |
//! |---|---|
//! | `a/.wh.b` | `a/b` as character device 0/0; nothing where this layer has `a/b` itself, which then is opaque if a directory |
//! | `a/.wh..wh..opq` | `a` reported as opaque |
//! | `.wh..wh.…` | nothing: notes of AUFS |
//! | a path below no entry of its own | its directories reported as implied, to look like those of lower layers |
//!
//! Whiteouts concern lower layers only, wherever they stand in the archive. A later entry replaces an earlier one of the
//! same name; directories merge.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    Error, Limits, Report,
    stream::{Exceeded, Layer},
    tree::{self, Made, Tree},
};
use crate::tar::{self, Archive, Entry, Kind};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks the compressed layer `input` below `root`.
pub(super) fn extract(input: impl Read, root: &OwnedFd, limits: &Limits) -> Result<Report, Error> {
    let layer = Layer::new(input, limits).map_err(|error| classify(error, None))?;
    let mut archive = Archive::new(layer, limits.header);
    let mut extraction = Extraction {
        tree: Tree::new(root.as_fd()),
        limits,
        owners: rustix::process::geteuid().is_root(),
        inodes: 1,
        bytes: 0,
        opaque: HashSet::new(),
        implied: HashSet::from([Vec::new()]),
        times: Vec::new(),
    };
    let mut first = limits.plain;
    loop {
        let entry = match archive.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) if first => return Err(Error::NotArchive("it has no entry".into())),
            Ok(None) => break,
            Err(error) if first => return Err(Error::NotArchive(error.to_string())),
            Err(error) => return Err(archive_error(error)),
        };
        first = false;
        extraction.entry(&entry, &mut archive)?;
    }
    let layer = archive.into_rest().map_err(archive_error)?;
    extraction.set_times();
    let sorted = |paths: HashSet<Vec<u8>>| {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort();
        paths
    };
    Ok(Report {
        diff_id: layer.diff_id(),
        bytes: extraction.bytes,
        inodes: extraction.inodes,
        opaque: sorted(extraction.opaque),
        implied: sorted(extraction.implied),
    })
}

struct Extraction<'a> {
    tree: Tree<'a>,
    limits: &'a Limits,
    /// Whether owners can be set: not in tests without root.
    owners: bool,
    inodes: u64,
    bytes: u64,
    opaque: HashSet<Vec<u8>>,
    implied: HashSet<Vec<u8>>,
    /// Directories' times, set last because writing into a directory changes its own.
    times: Vec<(Vec<u8>, (i64, u32))>,
}

impl Extraction<'_> {
    fn entry<R: io::BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<(), Error> {
        let path = clean(&entry.path, self.limits)?;
        self.count(1)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => self.root_entry(entry),
                _ => Err(Error::Hostile("an entry other than a directory in place of the root".into())),
            };
        }
        let (parent_path, name) = split(&path);
        if self.limits.plain {
            let parent = self.parent(parent_path)?;
            return self.place(entry, archive, &parent, &path, name);
        }
        let notes = |path: &[u8]| path.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT_META));
        if notes(parent_path) {
            return Ok(());
        }
        if name == WHITEOUT_OPAQUE {
            self.parent(parent_path)?;
            self.opaque.insert(parent_path.to_vec());
            return Ok(());
        }
        if notes(name) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&path, parent_path, hidden);
        }
        let parent = self.parent(parent_path)?;
        self.place(entry, archive, &parent, &path, name)
    }

    fn place<R: io::BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Error> {
        self.make(entry, archive, parent, path, name).map_err(|failure| match failure {
            Failure::Archive(error) => archive_error(error),
            Failure::Io(error) => classify(error, Some(path)),
            Failure::Refused(error) => error,
        })
    }

    fn make<R: io::BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Failure> {
        if let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            if tree::is_whiteout(&stat) && entry.kind == Kind::Directory {
                self.opaque.insert(path.to_vec());
            }
            if !(is_directory(&stat) && entry.kind == Kind::Directory) {
                // A link to itself must not remove what it links to.
                if entry.kind == Kind::HardLink && clean(&entry.link, self.limits)? == path {
                    return Ok(());
                }
                tree::remove_all(parent, name)?;
                if is_directory(&stat) {
                    self.forget_below(path);
                }
            }
        }
        match entry.kind {
            Kind::File => self.file(entry, archive, parent, name)?,
            Kind::Directory => self.make_directory(entry, parent, path, name)?,
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(Failure::Refused(Error::Damaged(format!("{}: an empty link", shown(path)))));
                }
                rustix::fs::symlinkat(entry.link.as_slice(), parent, name)?;
                self.special_metadata(entry, parent, name)?;
            }
            Kind::HardLink => self.hard_link(entry, parent, path, name)?,
            Kind::Character | Kind::Block | Kind::Fifo => self.node(entry, parent, path, name)?,
        }
        Ok(())
    }

    fn file<R: io::BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), Failure> {
        if entry.size > self.limits.file {
            let reason = format!("{}: a file of {} bytes, more than {}", shown(name), entry.size, self.limits.file);
            return Err(Failure::Refused(Error::TooLarge(reason)));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from(0o600))?);
        match &entry.pieces {
            None => loop {
                let bytes = archive.content()?;
                if bytes.is_empty() {
                    break;
                }
                file.write_all(bytes)?;
                let length = bytes.len();
                self.bytes += length as u64;
                archive.consume(length);
            },
            Some(pieces) => {
                file.set_len(entry.size)?;
                for piece in pieces {
                    let (mut offset, end) = (piece.offset, piece.offset + piece.length);
                    while offset < end {
                        let bytes = archive.content()?;
                        let length = bytes.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                        file.write_all_at(&bytes[..length], offset)?;
                        offset += length as u64;
                        self.bytes += length as u64;
                        archive.consume(length);
                    }
                }
            }
        }
        self.metadata(entry, &file)?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime))?;
        Ok(())
    }

    fn make_directory(&mut self, entry: &Entry, parent: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), Failure> {
        match rustix::fs::mkdirat(parent, name, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        self.metadata(entry, &directory)?;
        self.implied.remove(path);
        self.times.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let at_root = |error: io::Error| classify(error, Some(b"/"));
        let root = self.tree.open(b"", OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| at_root(error.into()))?;
        self.metadata(entry, &root).map_err(|failure| match failure {
            Failure::Io(error) => at_root(error),
            Failure::Archive(error) => archive_error(error),
            Failure::Refused(error) => error,
        })?;
        self.implied.remove(&b""[..]);
        self.times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), Failure> {
        let target = clean(&entry.link, self.limits)?;
        let refused = |reason: &str| {
            Failure::Refused(Error::Damaged(format!("{}: a hard link to {}, {reason}", shown(path), shown(&target))))
        };
        if target.is_empty() {
            return Err(refused("which is the root"));
        }
        let (target_parent, target_name) = split(&target);
        let directory = match self.tree.open(target_parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(refused("which is not in this layer")),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        match rustix::fs::statat(&directory, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_directory(&stat) => return Err(refused("which is a directory")),
            Ok(stat) if tree::is_whiteout(&stat) => return Err(refused("which is not in this layer")),
            Ok(_) => {}
            Err(Errno::NOENT) => return Err(refused("which is not in this layer")),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty())?;
        Ok(())
    }

    fn node(&mut self, entry: &Entry, parent: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), Failure> {
        let (major, minor) = entry.device;
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            kind => {
                let hostile = |reason: &str| Failure::Refused(Error::Hostile(format!("{}: {reason}", shown(path))));
                // Linux has 12 bits of major and 20 of minor numbers.
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(hostile("a device number out of range"));
                }
                match kind {
                    Kind::Character if (major, minor) == (0, 0) => {
                        return Err(hostile("device 0/0, which is overlayfs's mark for a removed file"));
                    }
                    Kind::Character => (FileType::CharacterDevice, rustix::fs::makedev(major as u32, minor as u32)),
                    _ => (FileType::BlockDevice, rustix::fs::makedev(major as u32, minor as u32)),
                }
            }
        };
        rustix::fs::mknodat(parent, name, kind, Mode::from(0o600), device)?;
        self.special_metadata(entry, parent, name)?;
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], parent_path: &[u8], hidden: &[u8]) -> Result<(), Error> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Error::Hostile(format!("{}: a whiteout without a name", shown(path))));
        }
        let parent = self.parent(parent_path)?;
        let failed = |error: Errno| classify(error.into(), Some(path));
        match rustix::fs::statat(&parent, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_directory(&stat) => {
                let directory = match parent_path {
                    b"" => hidden.to_vec(),
                    _ => [parent_path, b"/", hidden].concat(),
                };
                self.opaque.insert(directory);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        let mut fresh = 0;
        let (implied, opaque) = (&mut self.implied, &mut self.opaque);
        let directory = self.tree.directory(path, &mut |made| {
            fresh += 1;
            let (Made::Implied(path) | Made::Opaque(path)) = made;
            implied.insert(path.to_vec());
            if let Made::Opaque(path) = made {
                opaque.insert(path.to_vec());
            }
        });
        let directory = directory.map_err(|error| classify(error, Some(path)))?;
        self.count(fresh)?;
        Ok(directory)
    }

    fn count(&mut self, inodes: u64) -> Result<(), Error> {
        self.inodes += inodes;
        match self.inodes > self.limits.entries {
            true => Err(Error::TooLarge(format!("layer has more than {} entries", self.limits.entries))),
            false => Ok(()),
        }
    }

    /// Owner, mode and attributes of what is open. The order matters: a change of owner clears setuid bits and
    /// `security.capability`.
    fn metadata(&mut self, entry: &Entry, file: impl AsFd) -> Result<(), Failure> {
        if self.owners {
            let (uid, gid) = owner(entry)?;
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, Mode::from(entry.mode))?;
        for (name, value) in &entry.xattrs {
            if !is_kept(name) {
                continue;
            }
            if value.len() as u64 > self.limits.xattr {
                let reason = format!("{}: an extended attribute of {} bytes", shown(&entry.path), value.len());
                return Err(Failure::Refused(Error::TooLarge(reason)));
            }
            match rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
                // A file system without this kind of attribute, or a value that another kernel wrote.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if !self.owners => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// The same for links, devices and pipes, which are never opened.
    fn special_metadata(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), Failure> {
        if self.owners {
            let (uid, gid) = owner(entry)?;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != Kind::Symlink {
            // Just made here, and nobody else writes here: this is no link.
            rustix::fs::chmodat(parent, name, Mode::from(entry.mode), AtFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Takes back what was noted about directories that are gone.
    fn forget_below(&mut self, path: &[u8]) {
        self.tree.forget();
        let gone = |other: &[u8]| other == path || (other.starts_with(path) && other.get(path.len()) == Some(&b'/'));
        self.implied.retain(|other| !gone(other));
        self.opaque.retain(|other| !gone(other));
        self.times.retain(|(other, _)| !gone(other));
    }

    fn set_times(&mut self) {
        for (path, mtime) in std::mem::take(&mut self.times) {
            let Ok(directory) = self.tree.open(&path, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
            // A time is not worth failing for.
            let _ = rustix::fs::futimens(&directory, &timestamps(mtime));
        }
    }
}

/// Why an entry could not be made.
enum Failure {
    Archive(tar::Error),
    Io(io::Error),
    Refused(Error),
}

impl From<tar::Error> for Failure {
    fn from(error: tar::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The path without leading slash, empty parts and `.`; `..` is refused, since no image tool writes it.
fn clean(path: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    if path.len() as u64 > limits.path {
        return Err(Error::TooLarge(format!("a path of {} bytes, more than {}", path.len(), limits.path)));
    }
    if path.contains(&0) {
        return Err(Error::Hostile(format!("{}: a name with a NUL", shown(path))));
    }
    let mut cleaned = Vec::with_capacity(path.len());
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Error::Hostile(format!("{}: a name that leads out of the layer", shown(path)))),
            _ => {}
        }
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(part);
    }
    Ok(cleaned)
}

/// Directory and last name of a clean path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn is_directory(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Attributes that an image may set. `trusted.` would speak to overlayfs, `security.` labels belong to the host.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), Error> {
    // All ones mean "unchanged" to the kernel.
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    match (id(entry.uid), id(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(Error::Damaged(format!("{}: an owner out of range", shown(&entry.path)))),
    }
}

/// Access time too, so that the same layer gives the same tree.
fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn archive_error(error: tar::Error) -> Error {
    match error {
        tar::Error::Io(error) => classify(error, None),
        tar::Error::TooLarge { .. } => Error::TooLarge(error.to_string()),
        tar::Error::Damaged { .. } => Error::Damaged(error.to_string()),
    }
}

/// Whose fault an I/O error is: reading (no path) the archive's, writing the machine's unless the archive asked for the
/// impossible.
fn classify(error: io::Error, path: Option<&[u8]>) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Exceeded>()) {
        return Error::TooLarge(error.to_string());
    }
    let Some(path) = path else { return Error::Damaged(format!("read layer: {error}")) };
    let text = format!("{}: {error}", shown(path));
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::EXIST) => {
            Error::Damaged(text)
        }
        Some(_) => Error::Machine(text),
        None if error.kind() == io::ErrorKind::NotADirectory => Error::Damaged(text),
        None => Error::Machine(text),
    }
}
