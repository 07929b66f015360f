//! Files: written under another name and renamed when they are whole, read in pieces.
//!
//! Nothing is mapped into memory: a page that the disk cannot give is an error here and would be a signal there, and
//! what the kernel keeps of a file does not count as ours.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// Bytes that are read ahead where reading goes forward.
const AHEAD: usize = 256 << 10;
/// Bytes that reading forward may leave out: where more lies in between, reading ahead brings little that is wanted.
const GAP: u64 = 1 << 10;
/// Bytes that are read ahead elsewhere.
const AROUND: usize = 4 << 10;

/// What a file is called while it is written.
pub const UNFINISHED: &str = "tmp";

/// Writes the names in a directory to disk.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::io(|| format!("sync directory {}", dir.display())))
}

/// Makes a directory that only its owner may enter.
pub fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(Error::io(|| format!("make directory {}", dir.display())))
}

/// Removes a file; one that is not there is removed already.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(|| format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Puts a damaged file aside under a name that nothing reads, so that it can be looked at.
pub fn put_aside(path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    if let Err(error) = fs::rename(path, &aside) {
        tracing::warn!("put damaged file {} aside: {error}", path.display());
    }
}

/// Names in a directory; none where it is absent.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(Error::io(|| format!("list directory {}", dir.display())))?,
    };
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(Error::io(|| format!("list directory {}", dir.display())))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Writes a whole small file in place of what was there, and to disk.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut sink = Sink::create(path)?;
    sink.put(bytes)?;
    sink.finish()
}

/// A file that is being written.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    finished: bool,
}

impl Sink {
    /// Starts a file that will be called `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let unfinished = path.with_added_extension(UNFINISHED);
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let file = opened.map_err(Error::io(|| format!("create {}", unfinished.display())))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 18, file), written: 0, finished: false })
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::io(|| format!("write {}", self.path.display())))
    }

    /// How many bytes there are.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes all to disk and gives the file its name.
    pub fn finish(mut self) -> Result<()> {
        let path = self.path.clone();
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(Error::io(|| format!("sync {}", path.display())))?;
        let renamed = fs::rename(path.with_added_extension(UNFINISHED), &path);
        renamed.map_err(Error::io(|| format!("name {}", path.display())))?;
        self.finished = true;
        path.parent().map_or(Ok(()), sync_dir)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(self.path.with_added_extension(UNFINISHED));
        }
    }
}

/// A file that is read in pieces.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(|| format!("open {}", path.display())))?;
        let length = file.metadata().map_err(Error::io(|| format!("look at {}", path.display())))?.len();
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Some of its bytes; asking for bytes that it does not have is an error and takes no memory.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(offset, length, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.clear();
        if offset.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(Error::Damaged { file: self.path.clone(), reason: "it is shorter than it says".to_owned() });
        }
        bytes.resize(length, 0);
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(Error::io(|| format!("read {} at {offset}", self.path.display())))
    }
}

/// A part of a file in memory; reading forward is done in large pieces.
#[derive(Debug, Default)]
pub struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Some bytes of `source`, which is always the same one.
    pub fn get(&mut self, source: &Source, offset: u64, length: usize) -> Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            let forward = offset >= self.start && offset <= end + GAP && !self.bytes.is_empty();
            let wanted = length.max(if forward { AHEAD } else { AROUND });
            let wanted = wanted.min(source.length.saturating_sub(offset) as usize).max(length);
            source.read_into(offset, wanted, &mut self.bytes)?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + length])
    }
}
