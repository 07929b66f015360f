//! Files of a container, for steps that read, write and carry them.
//!
//! Paths are the container's, and so is the user: nothing is reached here that a script could not reach. `list` prints a row for each
//! file below a directory, `TYPE MODE SIZE SECONDS PATH` ended by a NUL byte, TYPE being `f`, `d` or `l`; links are not followed.
//! `pack` writes an archive of the paths that it reads, each ended by a NUL byte, and `unpack` reads one.
//!
//! The archive is tar as POSIX.1-2001 has it (ustar, with pax headers for what does not fit):
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use super::Error;

/// Entries of a listing or an archive.
const MOST: usize = 1_000_000;
/// Directories within directories.
const DEEPEST: usize = 200;
/// Bytes of a file that is read whole.
const LARGEST: u64 = 32 << 20;
/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Bytes of a path.
const LONGEST: usize = 4096;

/// Prints a file.
pub(super) fn read(path: &str) -> Result<(), Error> {
    let what = || format!("read {path}");
    let file = File::open(path).map_err(Error::io(what()))?;
    let size = file.metadata().map_err(Error::io(what()))?.len();
    if size > LARGEST {
        return Err(Error::Wrong(format!("{path} has {size} bytes; a step reads at most {LARGEST}")));
    }
    io::copy(&mut file.take(LARGEST), &mut io::stdout().lock()).map_err(Error::io(what())).map(drop)
}

/// Writes standard input to a file, whole or not at all.
pub(super) fn write(path: &str) -> Result<(), Error> {
    let what = || format!("write {path}");
    let place = Path::new(path);
    let parent = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::io(format!("make {}", parent.display())))?;
    let mut beside = place.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let written = (|| {
        let mut file = File::create(&beside)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        if let Ok(before) = fs::metadata(place) {
            file.set_permissions(before.permissions())?;
        }
        fs::rename(&beside, place)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(Error::io(what()))
}

/// Says whether a path is there: `file`, `directory` or `no`.
pub(super) fn exists(path: &str) -> Result<(), Error> {
    let answer = match fs::metadata(path) {
        Ok(found) if found.is_dir() => "directory",
        Ok(_) => "file",
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => "no",
        Err(error) => return Err(Error::Io(format!("look for {path}"), error)),
    };
    print(answer)
}

/// Makes a directory.
pub(super) fn make(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::io(format!("make {path}")))
}

/// Removes a directory with all that is in it.
pub(super) fn delete(path: &str) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(found) if !found.is_dir() => fs::remove_file(path).map_err(Error::io(format!("remove {path}"))),
        _ => fs::remove_dir_all(path).map_err(Error::io(format!("remove {path}"))),
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::io("answer"))
}

/// Lists what is below a directory.
pub(super) fn list(path: &str) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0;
    below(Path::new(path), Path::new(""), 0, &mut |name, found| {
        count += 1;
        if count > MOST {
            return Err(Error::Wrong(format!("{path} has more than {MOST} files")));
        }
        let kind = if found.is_dir() {
            'd'
        } else if found.is_symlink() {
            'l'
        } else {
            'f'
        };
        let row = write!(out, "{kind} {:o} {} {} ", found.mode() & 0o7777, found.size(), found.mtime());
        row.and_then(|()| out.write_all(name.as_os_str().as_encoded_bytes()))
            .and_then(|()| out.write_all(&[0]))
            .map_err(Error::io("answer"))
    })?;
    out.flush().map_err(Error::io("answer"))
}

fn below(
    directory: &Path,
    name: &Path,
    depth: usize,
    each: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<(), Error>,
) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::Wrong(format!("{} is too deep", directory.display())));
    }
    let entries = fs::read_dir(directory).map_err(Error::io(format!("list {}", directory.display())))?;
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.file_name().into()).collect();
    names.sort();
    for own in names {
        let (path, name) = (directory.join(&own), name.join(&own));
        // What goes away meanwhile is not there; what is no file, directory or link cannot be carried.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if !found.is_dir() && !found.is_file() && !found.is_symlink() {
            continue;
        }
        each(&name, &found)?;
        if found.is_dir() {
            below(&path, &name, depth + 1, each)?;
        }
    }
    Ok(())
}

/// Writes an archive of the files below a directory that standard input names.
pub(super) fn pack(directory: &str) -> Result<(), Error> {
    let mut names = Vec::new();
    io::stdin().lock().take((LONGEST * MOST / 16) as u64).read_to_end(&mut names).map_err(Error::io("read names"))?;
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name).map_err(|_| Error::Wrong("a name is no UTF-8".into()))?;
        let path = Path::new(directory).join(name);
        let what = || format!("pack {}", path.display());
        let found = fs::symlink_metadata(&path).map_err(Error::io(what()))?;
        let entry = Entry {
            name: name.to_owned(),
            mode: found.mode() & 0o777,
            size: if found.is_file() { found.size() } else { 0 },
            time: found.mtime(),
            kind: if found.is_dir() {
                b'5'
            } else if found.is_symlink() {
                b'2'
            } else {
                b'0'
            },
            link: match found.is_symlink() {
                true => fs::read_link(&path).map_err(Error::io(what()))?.to_string_lossy().into_owned(),
                false => String::new(),
            },
        };
        entry.write(&mut out).map_err(Error::io(what()))?;
        if found.is_file() {
            let mut file = File::open(&path).map_err(Error::io(what()))?.take(entry.size);
            let copied = io::copy(&mut file, &mut out).map_err(Error::io(what()))?;
            // A file that shrinks meanwhile is filled up: the archive stays whole.
            let left = entry.size - copied + padding(entry.size);
            io::copy(&mut io::repeat(0).take(left), &mut out).map_err(Error::io(what()))?;
        }
    }
    out.write_all(&[0; BLOCK * 2]).and_then(|()| out.flush()).map_err(Error::io("end the archive"))
}

/// Bytes up to the next block.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

/// What an archive says of a file.
#[derive(Debug, Default, PartialEq)]
struct Entry {
    name: String,
    mode: u32,
    size: u64,
    time: i64,
    kind: u8,
    link: String,
}

impl Entry {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut more = String::new();
        let mut add = |name: &str, value: &str| {
            // A record's length counts its own digits.
            let rest = name.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            more.push_str(&format!("{length} {name}={value}\n"));
        };
        if self.name.len() > 100 {
            add("path", &self.name);
        }
        if self.link.len() > 100 {
            add("linkpath", &self.link);
        }
        if self.size > 0o777_7777_7777 {
            add("size", &self.size.to_string());
        }
        if !more.is_empty() {
            out.write_all(&header("pax", 0o644, more.len() as u64, 0, b'x', ""))?;
            out.write_all(more.as_bytes())?;
            io::copy(&mut io::repeat(0).take(padding(more.len() as u64)), out)?;
        }
        let size = if self.size > 0o777_7777_7777 { 0 } else { self.size };
        out.write_all(&header(&self.name, self.mode, size, self.time, self.kind, &self.link))
    }
}

fn header(name: &str, mode: u32, size: u64, time: i64, kind: u8, link: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |from: usize, room: usize, text: &[u8]| {
        let length = text.len().min(room);
        block[from..from + length].copy_from_slice(&text[..length]);
    };
    put(0, 100, name.as_bytes());
    put(100, 8, format!("{mode:07o}").as_bytes());
    put(108, 8, b"0000000");
    put(116, 8, b"0000000");
    put(124, 12, format!("{size:011o}").as_bytes());
    put(136, 12, format!("{:011o}", time.clamp(0, 0o777_7777_7777)).as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link.as_bytes());
    put(257, 8, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Reads an archive from standard input into a directory.
pub(super) fn unpack(directory: &str) -> Result<(), Error> {
    let directory = Path::new(directory);
    fs::create_dir_all(directory).map_err(Error::io(format!("make {}", directory.display())))?;
    let mut from = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let mut entries = 0;
    while let Some(entry) = next(&mut from)? {
        entries += 1;
        if entries > MOST {
            return Err(Error::Wrong(format!("the archive has more than {MOST} files")));
        }
        take(directory, &entry, &mut from)?;
    }
    // What follows the end belongs to the archive.
    io::copy(&mut from, &mut io::sink()).map_err(Error::io("read the archive")).map(drop)
}

fn take(directory: &Path, entry: &Entry, from: &mut impl Read) -> Result<(), Error> {
    let name = Path::new(&entry.name);
    let plain = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || entry.name.len() > LONGEST {
        return Err(Error::Wrong(format!("the archive names {:?}, which is outside of it", entry.name)));
    }
    let path = directory.join(name);
    let what = || format!("unpack {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io(what()))?;
    }
    match entry.kind {
        b'5' => fs::create_dir_all(&path).map_err(Error::io(what()))?,
        b'2' => {
            let _ = fs::remove_file(&path);
            symlink(&entry.link, &path).map_err(Error::io(what()))?;
        }
        b'0' | 0 => {
            // A link of the same name is replaced, not written through.
            let _ = fs::remove_file(&path);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = file.map_err(Error::io(what()))?;
            let copied = io::copy(&mut from.take(entry.size), &mut file).map_err(Error::io(what()))?;
            if copied != entry.size {
                return Err(Error::Wrong("the archive ends too early".into()));
            }
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.time.max(0).unsigned_abs());
            file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777)).map_err(Error::io(what()))?;
            file.set_modified(time).map_err(Error::io(what()))?;
        }
        _ => {}
    }
    let left = if matches!(entry.kind, b'0' | 0) { padding(entry.size) } else { entry.size + padding(entry.size) };
    io::copy(&mut from.take(left), &mut io::sink()).map_err(Error::io("read the archive")).map(drop)
}

/// The next entry; none at the end.
fn next(from: &mut impl Read) -> Result<Option<Entry>, Error> {
    let wrong = |text: &str| Error::Wrong(format!("the archive is damaged: {text}"));
    let mut more: Option<Entry> = None;
    loop {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match from.read(&mut block[filled..]).map_err(Error::io("read the archive"))? {
                0 => break,
                read => filled += read,
            }
        }
        if filled < BLOCK {
            return if filled == 0 { Ok(None) } else { Err(wrong("it ends too early")) };
        }
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let text = |from: usize, room: usize| {
            let field = &block[from..from + room];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(room);
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let number = |from: usize, room: usize| u64::from_str_radix(text(from, room).trim(), 8);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if number(148, 8).ok() != Some(u64::from(sum)) {
            return Err(wrong("a header's sum"));
        }
        let size = number(124, 12).map_err(|_| wrong("a size"))?;
        if block[156] == b'x' {
            let mut records = Vec::new();
            if size > 64 << 10 {
                return Err(wrong("a header is too long"));
            }
            let mut whole = from.take(size + padding(size));
            whole.read_to_end(&mut records).map_err(Error::io("read the archive"))?;
            records.truncate(size as usize);
            more = Some(extended(&records).ok_or_else(|| wrong("an extended header"))?);
            continue;
        }
        let prefix = text(345, 155);
        let name = if prefix.is_empty() { text(0, 100) } else { format!("{prefix}/{}", text(0, 100)) };
        let mut entry = Entry {
            name,
            mode: number(100, 8).unwrap_or(0o644) as u32,
            size,
            time: number(136, 12).unwrap_or(0) as i64,
            kind: block[156],
            link: text(157, 100),
        };
        if let Some(more) = more {
            if !more.name.is_empty() {
                entry.name = more.name;
            }
            if !more.link.is_empty() {
                entry.link = more.link;
            }
            if more.size > 0 {
                entry.size = more.size;
            }
        }
        return Ok(Some(entry));
    }
}

/// `LENGTH NAME=VALUE\n` ...
fn extended(mut records: &[u8]) -> Option<Entry> {
    let mut entry = Entry::default();
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length.checked_sub(1)?)?;
        let record = std::str::from_utf8(record).ok()?;
        let (name, value) = record.split_once('=')?;
        match name {
            "path" => entry.name = value.to_owned(),
            "linkpath" => entry.link = value.to_owned(),
            "size" => entry.size = value.parse().ok()?,
            _ => {}
        }
        records = &records[length..];
    }
    Some(entry)
}

#[cfg(test)]
mod tests;
