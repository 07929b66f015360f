//! Files that are kept together: what one step archived or stashed.
//!
//! ```text
//! tar ─► DIR/NAME.data    contents, one after the other
//!        DIR/NAME.json    which bytes are what: the parcel is there once this is
//! ```
//!
//! A path of a workspace is text in the list and never a path here, so that no path leads out of anywhere. A parcel is written beside its
//! place, synced and renamed: after a kill it is whole, or not there. Format of what comes: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Bytes of a path.
const PATH: usize = 4096;
/// Names in a path.
const NAMES: usize = 200;
/// Bytes of a path that a header has room for.
const SHORT: usize = 100;
/// Bytes that are copied at once.
const CHUNK: usize = 64 * 1024;

/// How much one parcel holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files and links.
    pub files: usize,
    /// Bytes of their contents.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 100_000, bytes: 4 << 30 }
    }
}

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream or the disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A path that no file of a workspace has.
    #[error("{0:?} is no path of a file in a workspace")]
    Path(String),
    /// More than is kept.
    #[error("more than {most} {what}: narrow the pattern")]
    TooLarge {
        /// How many there may be.
        most: u64,
        /// Of what.
        what: &'static str,
    },
    /// What lies on disk is none of ours.
    #[error("the list of {0} is damaged: {1}")]
    Damaged(String, serde_json::Error),
}

/// What is kept of one file or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From the step's directory, with `/` between names.
    pub path: String,
    /// Where its bytes begin.
    #[serde(default)]
    pub offset: u64,
    /// How many there are.
    #[serde(default)]
    pub size: u64,
    /// Whether it may be run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runs: bool,
    /// Where it leads, if it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// What the second file holds.
#[derive(Serialize, Deserialize)]
struct List {
    /// Nanoseconds since 1970, for the order of parcels.
    at: u64,
    entries: Vec<Entry>,
}

impl List {
    fn read(path: &Path) -> Result<Self, Error> {
        serde_json::from_reader(BufReader::new(File::open(path)?))
            .map_err(|error| Error::Damaged(path.display().to_string(), error))
    }
}

/// A parcel that is there.
#[derive(Clone, Debug)]
pub struct Parcel {
    data: PathBuf,
    /// What is in it.
    pub entries: Vec<Entry>,
}

/// The files of a parcel's name, which may be any text.
fn files(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let plain = ring::digest::digest(&SHA256, name.as_bytes());
    let plain = hex(&plain.as_ref()[..16]);
    (dir.join(format!("{plain}.data")), dir.join(format!("{plain}.json")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path as it is kept: relative, of plain names. An archiver's `./` goes.
///
/// # Errors
/// It leads elsewhere, or is no text.
pub fn clean(path: &[u8]) -> Result<String, Error> {
    let wrong = || Error::Path(String::from_utf8_lossy(&path[..path.len().min(PATH)]).into_owned());
    let text = std::str::from_utf8(path).map_err(|_| wrong())?;
    let text = text.trim_start_matches("./").trim_end_matches('/');
    let names = text.split('/');
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains('\0');
    if text.len() > PATH || names.clone().count() > NAMES || !names.clone().all(plain) {
        return Err(wrong());
    }
    Ok(text.to_string())
}

/// Keeps what of a tar stream is wanted, in place of what was there of that name.
///
/// # Errors
/// The stream breaks off, holds what no workspace holds, or more than is kept.
pub fn keep(
    dir: &Path,
    name: &str,
    stream: impl Read,
    limits: Limits,
    wants: impl Fn(&str) -> bool,
) -> Result<Parcel, Error> {
    let (data, list) = files(dir, name);
    fs::create_dir_all(dir)?;
    let partial = data.with_extension("partial");
    let mut out = BufWriter::new(File::create(&partial)?);
    let kept = copy(stream, &mut out, limits, wants);
    let entries = match kept {
        Ok(entries) => entries,
        Err(error) => {
            drop(out);
            // What is left of it is replaced by the next try, or goes with the run.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
    };
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    // The list of what was there before must not speak of other bytes.
    match fs::remove_file(&list) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::rename(&partial, &data)?;
    let partial = list.with_extension("partial");
    let mut out = BufWriter::new(File::create(&partial)?);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let kept = List { at: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), entries };
    serde_json::to_writer(&mut out, &kept).map_err(io::Error::from)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&partial, &list)?;
    File::open(dir)?.sync_all()?;
    Ok(Parcel { data, entries: kept.entries })
}

fn copy(
    stream: impl Read,
    out: &mut impl Write,
    limits: Limits,
    wants: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>, Error> {
    // Headers and padding of unwanted files count too: a stream without end ends here.
    let most = limits.bytes.saturating_mul(2).saturating_add(limits.files as u64 * 4096);
    let mut archive = tar::Archive::new(stream.take(most));
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let (mut offset, mut chunk) = (0u64, vec![0; CHUNK]);
    for file in archive.entries()? {
        let mut file = file?;
        let kind = file.header().entry_type();
        let link = match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => None,
            tar::EntryType::Symlink => {
                let target = file.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                if target.is_empty() || target.len() > PATH || target.contains(&0) {
                    return Err(Error::Path(String::from_utf8_lossy(&target).into_owned()));
                }
                Some(String::from_utf8(target).map_err(|error| Error::Path(error.to_string()))?)
            }
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => continue,
            // A second name of a file has no bytes of its own here; archivers are asked to send none.
            other => return Err(Error::Path(format!("{} ({other:?})", String::from_utf8_lossy(&file.path_bytes())))),
        };
        let path = clean(&file.path_bytes())?;
        if !wants(&path) {
            continue;
        }
        if entries.len() >= limits.files {
            return Err(Error::TooLarge { most: limits.files as u64, what: "files" });
        }
        let runs = link.is_none() && file.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        let (begin, mut hash) = (offset, Context::new(&SHA256));
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            offset += count as u64;
            if offset > limits.bytes {
                return Err(Error::TooLarge { most: limits.bytes, what: "bytes" });
            }
            hash.update(&chunk[..count]);
            out.write_all(&chunk[..count])?;
        }
        // The archiver says how long it is; a stream that ends within is broken.
        if link.is_none() && offset - begin != file.size() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} breaks off")).into());
        }
        let sha256 = if link.is_none() { hex(hash.finish().as_ref()) } else { String::new() };
        let entry = Entry { path: path.clone(), offset: begin, size: offset - begin, runs, link, sha256 };
        match places.get(&path) {
            // The later one counts, as where an archive is unpacked.
            Some(at) => entries[*at] = entry,
            None => {
                places.insert(path, entries.len());
                entries.push(entry);
            }
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// A record of an extended header, `LENGTH NAME=VALUE`; the length counts its own digits.
fn extension(name: &str, value: &str) -> String {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {name}={value}\n")
}

/// The parcel of a name, if there is one.
///
/// # Errors
/// It cannot be read.
pub fn open(dir: &Path, name: &str) -> Result<Option<Parcel>, Error> {
    let (data, list) = files(dir, name);
    match List::read(&list) {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        list => Ok(Some(Parcel { data, entries: list?.entries })),
    }
}

/// All parcels of a directory, in the order in which they were kept.
///
/// # Errors
/// They cannot be read.
pub fn all(dir: &Path) -> Result<Vec<Parcel>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut parcels = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let list = List::read(&path)?;
            parcels.push((list.at, Parcel { data: path.with_extension("data"), entries: list.entries }));
        }
    }
    parcels.sort_by_key(|(at, _)| *at);
    Ok(parcels.into_iter().map(|(_, parcel)| parcel).collect())
}

/// Removes the parcel of a name.
///
/// # Errors
/// The disk says no.
pub fn remove(dir: &Path, name: &str) -> io::Result<()> {
    let (data, list) = files(dir, name);
    for path in [list, data] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Parcel {
    /// Where the bytes of a file are: the file of all bytes, standing at its first one. `skip` bytes are left out.
    ///
    /// # Errors
    /// The disk says no.
    pub fn read(&self, entry: &Entry, skip: u64) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.data)?;
        file.seek(SeekFrom::Start(entry.offset + skip.min(entry.size)))?;
        Ok(file.take(entry.size.saturating_sub(skip)))
    }

    /// Writes all as a tar stream.
    ///
    /// # Errors
    /// The disk or the stream says no.
    pub fn send(&self, out: impl Write) -> io::Result<()> {
        let mut builder = tar::Builder::new(out);
        for entry in &self.entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(if entry.runs { 0o755 } else { 0o644 });
            header.set_size(entry.size);
            // What has no room in a header goes before it, as POSIX has it.
            let link = entry.link.as_deref().unwrap_or_default();
            let mut long = String::new();
            for (name, text) in [("path", entry.path.as_str()), ("linkpath", link)] {
                if text.len() > SHORT {
                    long.push_str(&extension(name, text));
                }
            }
            if !long.is_empty() {
                let mut before = tar::Header::new_ustar();
                before.set_entry_type(tar::EntryType::XHeader);
                before.set_size(long.len() as u64);
                before.set_mode(0o644);
                before.set_cksum();
                builder.append(&before, long.as_bytes())?;
            }
            let name = if entry.path.len() > SHORT { "long" } else { &entry.path };
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            if entry.link.is_some() {
                header.set_entry_type(tar::EntryType::Symlink);
                let target = if link.len() > SHORT { "long" } else { link };
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, self.read(entry, 0)?)?;
        }
        builder.into_inner()?.flush()
    }
}

#[cfg(test)]
mod tests;
