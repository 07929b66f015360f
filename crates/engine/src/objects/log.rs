//! A build's log: a file that grows, read by byte offset and followed to the end.
//!
//! Offsets are places in the log as it was written; they stay valid over restarts of the server. At most [`LARGEST`] bytes are kept.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tokio::sync::watch;

/// Bytes that are kept of a log.
pub const LARGEST: u64 = 64 << 20;
/// What stands where more was written.
const CLIPPED: &str = "\n[log clipped: it is longer than 64 MiB]\n";

/// Writes a log.
pub struct Log {
    file: File,
    length: u64,
    /// How long it is, for those who follow.
    grown: watch::Sender<u64>,
}

impl Log {
    /// Goes on with the log in a file, or begins one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, grown: watch::Sender::new(length) })
    }

    /// Hears of growth; ends when the log is closed.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Adds to it.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() || self.length >= LARGEST {
            return Ok(());
        }
        let left = usize::try_from(LARGEST - self.length).unwrap_or(usize::MAX);
        let mut bytes = text.as_bytes()[..text.len().min(left)].to_vec();
        if text.len() >= left {
            bytes.extend_from_slice(CLIPPED.as_bytes());
        }
        self.file.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        self.grown.send_replace(self.length);
        Ok(())
    }

    /// How long it is.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// At most `most` bytes of a log from `offset` on. Blocks.
pub fn read(path: &PathBuf, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_any_byte_and_grows_no_further_than_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path).unwrap();
        let mut told = log.follow();
        log.write("one\ntwo\n").unwrap();
        assert_eq!(*told.borrow_and_update(), 8);
        assert_eq!(read(&path, 4, 100).unwrap(), b"two\n");
        assert_eq!(read(&path, 0, 3).unwrap(), b"one");
        assert_eq!(read(&path, 100, 3).unwrap(), b"");
        drop(log);
        // Closed: nobody waits any more.
        assert!(told.has_changed().is_err());
        let mut log = Log::open(&path).unwrap();
        let line = "x".repeat(1 << 20);
        (0..70).for_each(|_| log.write(&line).unwrap());
        assert_eq!(log.length(), LARGEST + CLIPPED.len() as u64);
        assert!(read(&path, LARGEST, 100).unwrap().ends_with(b"64 MiB]\n"));
    }
}
