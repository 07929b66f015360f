//! Where collectors read: below directories that tests can put elsewhere, and never more than is sensible.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// No file of `/proc` or `/sys` that is read here is larger on a machine that works.
const FILE: u64 = 16 << 20;
/// More entries of a directory are not looked at.
const ENTRIES: usize = 10_000;

/// Why a collector has nothing to tell.
#[derive(Debug)]
pub enum Failure {
    /// The machine has no such thing.
    NoData,
    /// It has, but reading it failed.
    Read(PathBuf, io::Error),
    /// What was read makes no sense.
    Content(PathBuf),
}

/// The directories.
#[derive(Clone, Debug)]
pub struct Source {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/run/udev/data`.
    pub udev: PathBuf,
    /// What `/etc`, `/usr` and mount points are below of.
    pub root: PathBuf,
}

impl Default for Source {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), udev: "/run/udev/data".into(), root: "/".into() }
    }
}

impl Source {
    /// A file below `/proc`. A missing one means that there is no data.
    pub fn proc(&self, path: &str) -> Result<String, Failure> {
        read(&self.proc.join(path))
    }

    /// A number in a file below `/proc`.
    pub fn proc_number(&self, path: &str) -> Result<f64, Failure> {
        let path = self.proc.join(path);
        read(&path)?.trim().parse().map_err(|_| Failure::Content(path))
    }

    /// A path below `/sys`.
    pub fn sys(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }

    /// Entries of a directory below `/sys`, in order. A missing one means that there is no data.
    pub fn sys_entries(&self, path: &str) -> Result<Vec<Entry>, Failure> {
        entries(&self.sys.join(path))
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Entry {
    /// The text of a file in it, trimmed; nothing where there is none.
    pub fn text(&self, file: &str) -> Option<String> {
        text(&self.path.join(file))
    }

    /// The number in a file in it.
    pub fn number(&self, file: &str) -> Option<f64> {
        number(&self.path.join(file))
    }
}

/// A file's text. Bytes that are not UTF-8 are replaced.
pub fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NoData,
        _ => Failure::Read(path.to_owned(), error),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A small file's text, trimmed; nothing where it cannot be read: many files of `/sys` refuse by turns.
pub fn text(path: &Path) -> Option<String> {
    read(path).ok().map(|text| text.trim().to_owned())
}

/// The number in a small file, decimal or with `0x`.
pub fn number(path: &Path) -> Option<f64> {
    parse(&text(path)?)
}

/// A number, decimal or with `0x`.
pub fn parse(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => text.parse().ok(),
    }
}

/// Entries of a directory, in the order of their names.
pub fn entries(path: &Path) -> Result<Vec<Entry>, Failure> {
    let list = fs::read_dir(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NoData,
        _ => Failure::Read(path.to_owned(), error),
    })?;
    let entry = |found: fs::DirEntry| Some(Entry { name: found.file_name().into_string().ok()?, path: found.path() });
    let mut found: Vec<Entry> = list.flatten().take(ENTRIES).filter_map(entry).collect();
    found.sort_unstable();
    Ok(found)
}

/// Numbers of a line, as far as they are some.
pub fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().map_while(|word| word.parse().ok()).collect()
}
