//! Writing a directory as an archive: a layer from what a container wrote, or a part of a file system for `cp` and `export`.
//!
//! ```text
//! overlay's upper directory          archive
//!   character device 0/0  `a`     ─► empty file `.wh.a`        `a` of a lower layer is gone
//!   trusted.overlay.opaque `d`    ─► `d/`, `d/.wh..wh..opq`    what lower layers have in `d` is gone
//! ```
//!
//! The same tree gives the same bytes: names in order, whole seconds, numbers instead of names of owners. What ustar's fields cannot
//! hold (long names, large numbers, extended attributes) stands in a PAX header before the entry.
//!
//! Format: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>; marks:
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt as _},
    },
};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::BLOCK;

/// How deep directories may stand in one another: as many are open at a time.
const DEEPEST: usize = 512;
/// The most bytes of all extended attributes of one file.
const ATTRIBUTES: usize = 1 << 20;
/// Overlayfs's own attributes.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// What numbers in octal fields reach.
const LARGEST_ID: u32 = 0o7_777_777;
const LARGEST_SIZE: u64 = 0o77_777_777_777;

/// How a tree is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether overlayfs's marks become those of layers. Without it they are written as they are.
    pub overlay: bool,
    /// Times after this one, in seconds since 1970, are written as this one.
    pub newest: Option<i64>,
}

/// Writes all that is below `root`, without an entry for `root` itself unless something of it says more than that it is there.
/// Returns how many entries were written. Blocks the thread.
pub fn write(root: OwnedFd, options: &Options, output: impl Write) -> anyhow::Result<u64> {
    let mut archive = Archive { output, options, links: HashMap::new(), entries: 0 };
    let status = rustix::fs::fstat(&root)?;
    if options.overlay && is_opaque(&root)? {
        archive.mark(b".wh..wh..opq", &status)?;
    }
    archive.directory(root, &mut Vec::new(), 0)?;
    archive.output.write_all(&[0; 2 * BLOCK])?;
    archive.output.flush()?;
    Ok(archive.entries)
}

struct Archive<'a, W> {
    output: W,
    options: &'a Options,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

/// An entry's fields.
struct Entry<'a> {
    path: &'a [u8],
    flag: u8,
    link: &'a [u8],
    size: u64,
    status: &'a Stat,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<W: Write> Archive<'_, W> {
    fn directory(&mut self, directory: OwnedFd, path: &mut Vec<u8>, depth: usize) -> anyhow::Result<()> {
        if depth > DEEPEST {
            bail!("{}: directories stand more than {DEEPEST} deep", shown(path));
        }
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&directory).with_context(|| format!("read {}", shown(path)))? {
            let name = entry.with_context(|| format!("read {}", shown(path)))?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            self.entry(&directory, &name, path, depth).with_context(|| format!("archive {}", shown(path)))?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &CStr, path: &mut Vec<u8>, depth: usize) -> anyhow::Result<()> {
        let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        let mut entry = Entry { path, flag: b'0', link: b"", size: 0, status: &status, attributes: Vec::new() };
        if kind != FileType::Directory && status.st_nlink > 1 {
            let file = (status.st_dev, status.st_ino);
            if let Some(first) = self.links.get(&file).cloned() {
                return self.header(Entry { flag: b'1', link: &first, ..entry });
            }
            // A mark is no file that others could be a name of.
            if !(self.options.overlay && is_mark(&status)) {
                self.links.insert(file, path.clone());
            }
        }
        match kind {
            FileType::Directory => {
                let directory = rustix::fs::openat(
                    parent,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                entry.attributes = attributes(&directory, self.options.overlay)?;
                let named = [path.as_slice(), b"/"].concat();
                self.header(Entry { path: &named, flag: b'5', ..entry })?;
                if self.options.overlay && is_opaque(&directory)? {
                    self.mark(&[path.as_slice(), b"/.wh..wh..opq"].concat(), &status)?;
                }
                self.directory(directory, path, depth + 1)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
                entry.attributes = attributes(&file, self.options.overlay)?;
                entry.size = u64::try_from(status.st_size)?;
                let size = entry.size;
                self.header(entry)?;
                self.content(&File::from(file), size)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
                entry.link = target.as_bytes();
                self.header(Entry { flag: b'2', ..entry })
            }
            FileType::CharacterDevice if self.options.overlay && is_mark(&status) => {
                let parent = path.len() - name.to_bytes().len();
                let marked = [&path[..parent], b".wh.", name.to_bytes()].concat();
                self.mark(&marked, &status)
            }
            FileType::CharacterDevice => self.header(Entry { flag: b'3', ..entry }),
            FileType::BlockDevice => self.header(Entry { flag: b'4', ..entry }),
            FileType::Fifo => self.header(Entry { flag: b'6', ..entry }),
            // Sockets mean nothing without the process behind them; archives do not know them.
            _ => Ok(()),
        }
    }

    /// An empty file whose name is what counts.
    fn mark(&mut self, path: &[u8], status: &Stat) -> anyhow::Result<()> {
        let mut status = *status;
        (status.st_mode, status.st_uid, status.st_gid) = (0o644, 0, 0);
        self.header(Entry { path, flag: b'0', link: b"", size: 0, status: &status, attributes: Vec::new() })
    }

    fn content(&mut self, file: &File, size: u64) -> anyhow::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        while at < size {
            let most = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
            let length = file.read_at(&mut buffer[..most], at)?;
            if length == 0 {
                bail!("it became shorter while it was read");
            }
            self.output.write_all(&buffer[..length])?;
            at += length as u64;
        }
        Ok(self.output.write_all(&[0; BLOCK][..(size.next_multiple_of(BLOCK as u64) - size) as usize])?)
    }

    fn header(&mut self, entry: Entry<'_>) -> anyhow::Result<()> {
        self.entries += 1;
        let newest = self.options.newest.unwrap_or(i64::MAX);
        let time = entry.status.st_mtime.min(newest);
        let mut records = Vec::new();
        if entry.path.len() > 100 || !entry.path.is_ascii() {
            record(&mut records, b"path", entry.path);
        }
        if entry.link.len() > 100 || !entry.link.is_ascii() {
            record(&mut records, b"linkpath", entry.link);
        }
        for (key, number, largest) in [
            ("uid", u64::from(entry.status.st_uid), u64::from(LARGEST_ID)),
            ("gid", u64::from(entry.status.st_gid), u64::from(LARGEST_ID)),
            ("size", entry.size, LARGEST_SIZE),
        ] {
            if number > largest {
                record(&mut records, key.as_bytes(), number.to_string().as_bytes());
            }
        }
        if !(0..=LARGEST_SIZE as i64).contains(&time) {
            record(&mut records, b"mtime", time.to_string().as_bytes());
        }
        for (name, value) in &entry.attributes {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            let name = [b"PaxHeaders.0/", &entry.path[..entry.path.len().min(80)]].concat();
            let block = block(&name, b'x', b"", 0o644, (0, 0), records.len() as u64, 0, (0, 0));
            self.output.write_all(&block)?;
            self.output.write_all(&records)?;
            let padded = records.len().next_multiple_of(BLOCK);
            self.output.write_all(&[0; BLOCK][..padded - records.len()])?;
        }
        let device = match entry.flag {
            b'3' | b'4' => (rustix::fs::major(entry.status.st_rdev), rustix::fs::minor(entry.status.st_rdev)),
            _ => (0, 0),
        };
        let owner = (entry.status.st_uid, entry.status.st_gid);
        let mode = entry.status.st_mode & 0o7777;
        Ok(self.output.write_all(&block(entry.path, entry.flag, entry.link, mode, owner, entry.size, time, device))?)
    }
}

/// One record of a PAX header: its own length in decimal, key, value.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest > length {
        length = length.to_string().len() + rest;
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

/// An ustar header; what does not fit is cut, and stands in the PAX header before it.
#[expect(clippy::too_many_arguments, reason = "the fields of the format, in its order")]
fn block(
    path: &[u8],
    flag: u8,
    link: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
    size: u64,
    time: i64,
    (major, minor): (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let text = |block: &mut [u8; BLOCK], at: usize, text: &[u8]| {
        let length = text.len().min(100);
        block[at..at + length].copy_from_slice(&text[..length]);
    };
    let octal = |block: &mut [u8; BLOCK], at: usize, digits: usize, number: u64| {
        let number = if number >> (3 * digits) == 0 { number } else { 0 };
        block[at..at + digits].copy_from_slice(format!("{number:0digits$o}").as_bytes());
    };
    text(&mut block, 0, path);
    octal(&mut block, 100, 7, mode.into());
    octal(&mut block, 108, 7, uid.into());
    octal(&mut block, 116, 7, gid.into());
    octal(&mut block, 124, 11, size);
    octal(&mut block, 136, 11, u64::try_from(time).unwrap_or(0));
    block[156] = flag;
    text(&mut block, 157, link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block, 329, 7, major.into());
    octal(&mut block, 337, 7, minor.into());
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// Overlayfs's mark for a name that is gone.
fn is_mark(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 4];
    match rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Extended attributes in order of their names, but the system's own: labels belong to the machine, lists of access are not written.
fn attributes(file: impl AsFd, overlay: bool) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error).context("list its attributes"),
    };
    let (mut found, mut total) = (Vec::new(), 0);
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let kept = name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"trusted.");
        if !kept || (overlay && name.starts_with(OVERLAY)) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        match rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(error).with_context(|| format!("read its attribute {}", shown(name))),
        }
        if name == b"security.capability" {
            portable(&mut value);
        }
        total += name.len() + value.len();
        if total > ATTRIBUTES {
            bail!("its attributes have more than {ATTRIBUTES} bytes");
        }
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Capabilities of a file that were given in a user namespace (revision 3 with that namespace's root) as those that they are
/// wherever the archive comes to (revision 2). <https://man7.org/linux/man-pages/man7/capabilities.7.html>
fn portable(capability: &mut Vec<u8>) {
    /// Length of revision 2 without the root's identifier, and of revision 3.
    const LENGTHS: [usize; 2] = [20, 24];
    if capability.len() == LENGTHS[1] && capability[3] == 3 {
        capability[3] = 2;
        capability.truncate(LENGTHS[0]);
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() { "the top directory".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}
