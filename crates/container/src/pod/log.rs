//! A container's log file, in the format of the Kubernetes container runtime interface.
//!
//! ```text
//! 2026-01-02T03:04:05.123456789Z stdout F a whole line
//! 2026-01-02T03:04:05.123456789Z stderr P the first 16 KiB of a long one, or a last one without its end
//! ```
//!
//! When the file is full it becomes `FILE.1`, what was that `FILE.2`, and so on: each by renaming, between two records, so
//! that whoever reads along finds every record once.
//!
//! Specification: <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use crate::{clock, protocol};

/// Bytes of a line that one record holds.
pub const LINE: usize = 16 << 10;

/// Bytes gathered before they are written.
const GATHER: usize = 16 << 10;

/// One of two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Out => b" stdout ",
            Self::Err => b" stderr ",
        }
    }
}

/// The open log.
#[derive(Debug)]
pub struct Log {
    spec: protocol::Log,
    file: File,
    size: u64,
    /// Beginnings of lines, of which the rest has not come yet.
    begun: [Vec<u8>; 2],
    /// Records that are not written yet.
    gathered: Vec<u8>,
    /// The file ends in the middle of a record, because the disk was full.
    torn: bool,
    /// Lines end with `\r\n`, which a terminal makes of `\n`.
    terminal: bool,
}

impl Log {
    /// Opens the file, or goes on with one that exists.
    pub fn open(spec: protocol::Log, terminal: bool) -> io::Result<Self> {
        let file = open(&spec.path)?;
        let size = file.metadata()?.len();
        Ok(Self { spec, file, size, begun: [Vec::new(), Vec::new()], gathered: Vec::new(), torn: false, terminal })
    }

    /// Opens the file anew, because someone else has moved it.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.spec.path)?;
        self.size = self.file.metadata()?.len();
        self.torn = false;
        Ok(())
    }

    /// Writes what a stream gave, as far as there are lines.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let stamp = clock::stamp(clock::now());
        while !bytes.is_empty() {
            let begun = self.begun[stream as usize].len();
            let end = bytes.iter().position(|&byte| byte == b'\n');
            match end {
                Some(end) if begun + end <= LINE => {
                    self.record(&stamp, stream, b'F', &bytes[..end]);
                    bytes = &bytes[end + 1..];
                }
                None if begun + bytes.len() <= LINE => {
                    self.begun[stream as usize].extend_from_slice(bytes);
                    bytes = &[];
                }
                _ => {
                    let taken = LINE - begun;
                    self.record(&stamp, stream, b'P', &bytes[..taken]);
                    bytes = &bytes[taken..];
                }
            }
        }
        self.flush();
    }

    /// Writes the beginning of a line that will not go on.
    pub fn finish(&mut self, stream: Stream) {
        if !self.begun[stream as usize].is_empty() {
            self.record(&clock::stamp(clock::now()), stream, b'P', &[]);
            self.flush();
        }
    }

    fn record(&mut self, stamp: &[u8], stream: Stream, tag: u8, rest: &[u8]) {
        let begun = std::mem::take(&mut self.begun[stream as usize]);
        self.gathered.extend_from_slice(stamp);
        self.gathered.extend_from_slice(stream.name());
        self.gathered.extend_from_slice(&[tag, b' ']);
        self.gathered.extend_from_slice(&begun);
        self.gathered.extend_from_slice(rest);
        if tag == b'F' && self.terminal && self.gathered.last() == Some(&b'\r') {
            self.gathered.pop();
        }
        self.gathered.push(b'\n');
        if self.gathered.len() >= GATHER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let full = self.spec.max_bytes != 0 && self.size != 0;
        if full
            && self.size + self.gathered.len() as u64 > self.spec.max_bytes
            && let Err(error) = self.rotate()
        {
            eprintln!("rotate log {}: {error}", self.spec.path);
        }
        if self.torn {
            self.gathered.insert(0, b'\n');
        }
        let mut rest = &self.gathered[..];
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => break,
                Ok(written) => {
                    self.size += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // What cannot be written is lost; the container goes on.
                    eprintln!("write log {}: {error}", self.spec.path);
                    break;
                }
            }
        }
        if rest.len() != self.gathered.len() {
            self.torn = !rest.is_empty();
        }
        if self.gathered.capacity() > 2 * GATHER {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.spec.path;
        for number in (1..self.spec.max_files.saturating_sub(1)).rev() {
            match fs::rename(format!("{path}.{number}"), format!("{path}.{}", number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.spec.max_files > 1 {
            fs::rename(path, format!("{path}.1"))?;
        } else {
            fs::remove_file(path)?;
        }
        self.reopen()
    }
}

fn open(path: &str) -> io::Result<File> {
    // A link in place of the log must not lead a write elsewhere.
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

#[cfg(test)]
mod tests;
