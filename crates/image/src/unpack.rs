//! Unpacking a layer into a directory, by a child process that cannot leave it.
//!
//! ```text
//! this process                                   child (`run_confined`)
//! ────────────                                   ─────────────────────
//! make an empty directory, spawn with it as      bind it without devices, programs and setuid, pivot into it,
//! working directory and a socket as input        drop capabilities and privileges, allow a few system calls
//! limits, then the compressed layer ──────────►  decompress, count, hash, read tar, write files
//! set overlay's marks, check the diff id  ◄────  report: diff id, sizes, opaque and implied directories
//! ```
//!
//! The child never holds what a hostile archive would want: no other directory, no network, no right to mount, to
//! signal or to make a process. It does not set overlayfs's `trusted.` attributes itself, since that takes
//! `CAP_SYS_ADMIN`: it reports where they belong.
//!
//! Choices: gzip by `flate2` on `zlib-rs` (Rust, as fast as zlib-ng); zstd by the C library that the crate `zstd`
//! builds, two to three times as fast as `ruzstd` and confined here anyway. What `ADD` takes besides, bzip2 and xz, is read by
//! `bzip2-rs` and `lzma-rust2`, in Rust: both are rare, so that their speed matters less than their being confined and small.
//!
//! Whiteouts: <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>, written as
//! <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use oci::Digest;
use serde::{Deserialize, Serialize};

pub mod confine;
mod extract;
mod stream;
mod tree;

pub(crate) use tree::{open_root, resolve};

/// Bounds on one layer. They stop bombs, not images: the largest known images stay far below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Files, directories and the rest.
    pub entries: u64,
    /// Bytes of the archive after decompression.
    pub bytes: u64,
    /// Decompressed bytes for each compressed byte, once `ratio_floor` bytes have come out.
    pub ratio: u64,
    /// Decompressed bytes before `ratio` counts.
    pub ratio_floor: u64,
    /// Apparent size of a file, holes included.
    pub file: u64,
    /// Bytes of one extended header.
    pub header: u64,
    /// Bytes of a path.
    pub path: u64,
    /// Bytes of an extended attribute's value: the kernel's own bound.
    pub xattr: u64,
    /// Whether it is an archive like any other, in which names that mark layers' removals mean nothing.
    #[serde(default)]
    pub plain: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4 << 20,
            bytes: 256 << 30,
            ratio: 200,
            ratio_floor: 4 << 30,
            file: 8 << 40,
            header: 1 << 20,
            path: 4095,
            xattr: 64 << 10,
            plain: false,
        }
    }
}

/// Who unpacks layers.
#[derive(Clone, Debug)]
pub enum Unpacker {
    /// A child process for each layer that calls [`run_confined`].
    Child {
        /// The executable.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// This process, unconfined: for tests with archives of their own.
    InProcess,
}

/// What a layer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Digest of the archive without its compression.
    pub diff_id: Digest,
    /// Bytes of all files, holes not counted.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// Directories that hide what lower layers have below them.
    #[serde(with = "paths")]
    pub opaque: Vec<Vec<u8>>,
    /// Directories without an entry of their own, which look like those of lower layers.
    #[serde(with = "paths")]
    pub implied: Vec<Vec<u8>>,
}

/// Why a layer was not unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Not a layer: damaged, truncated or against the format.
    #[error("{0}")]
    Damaged(String),
    /// Names or links that lead out of the layer, or marks that only overlayfs may set.
    #[error("{0}")]
    Hostile(String),
    /// Beyond [`Limits`].
    #[error("{0}")]
    TooLarge(String),
    /// This machine's fault: no space, no rights.
    #[error("{0}")]
    Machine(String),
    /// No archive: not even its first entry could be read, or it has none. Told of plain archives only.
    #[error("no archive: {0}")]
    NotArchive(String),
}

/// Lists of paths, which need not be text, as JSON.
mod paths {
    use super::*;

    pub fn serialize<S: serde::Serializer>(paths: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| STANDARD.encode(path)))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom)).collect()
    }
}

/// Most bytes of a report; a layer of millions of implied directories is refused with it.
const REPORT_LIMIT: u64 = 256 << 20;

/// A layer being unpacked. Dropped, it stops and leaves the directory as it is.
pub struct Job {
    socket: UnixStream,
    worker: Worker,
    /// The other side has closed: its report says why.
    broken: bool,
}

enum Worker {
    Child(Child),
    Thread(Option<std::thread::JoinHandle<()>>),
}

impl Job {
    /// Starts unpacking into `directory`, which must be empty.
    pub fn start(unpacker: &Unpacker, directory: &Path, limits: &Limits) -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        let worker = match unpacker {
            Unpacker::Child { program, arguments } => Worker::Child(
                Command::new(program)
                    .args(arguments)
                    .env_clear()
                    .current_dir(directory)
                    .stdin(OwnedFd::from(other))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(|error| {
                        io::Error::new(error.kind(), format!("start {} to unpack: {error}", program.display()))
                    })?,
            ),
            Unpacker::InProcess => {
                let root = tree::open_root(directory)?;
                Worker::Thread(Some(std::thread::Builder::new().name("unpack".into()).spawn(move || {
                    let _ = serve(other, &root);
                })?))
            }
        };
        let mut job = Self { socket, worker, broken: false };
        let limits = serde_json::to_vec(limits)?;
        job.feed(&(limits.len() as u32).to_be_bytes());
        job.feed(&limits);
        Ok(job)
    }

    /// Passes on the next bytes of the layer; waits while the other side is busy. Errors show in [`Job::finish`].
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.broken && self.socket.write_all(bytes).is_err() {
            self.broken = true;
        }
    }

    /// Whether the other side gave up already.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Ends the layer and waits for the report.
    pub fn finish(mut self) -> Result<Report, Error> {
        let machine = |error: io::Error| Error::Machine(format!("read the unpacker's report: {error}"));
        // Fails when the other side is gone, and then the report or its absence tells more.
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut report = Vec::new();
        (&mut self.socket).take(REPORT_LIMIT).read_to_end(&mut report).or_else(|error| match error.kind() {
            // Closed with bytes of the layer unread: what was sent before is here all the same.
            io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(machine(error)),
        })?;
        let ended = match &mut self.worker {
            Worker::Child(child) => child.wait().map_err(machine)?.to_string(),
            Worker::Thread(thread) => match thread.take().map(std::thread::JoinHandle::join) {
                Some(Err(_)) => "panic".into(),
                _ => "ended".into(),
            },
        };
        match serde_json::from_slice::<Result<Report, Error>>(&report) {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Machine(format!("the unpacker ended without a report: {ended}"))),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        match &mut self.worker {
            Worker::Child(child) => {
                // No effect on one that has been waited for.
                let _ = child.kill();
                let _ = child.wait();
            }
            Worker::Thread(thread) => {
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}

/// What the confined child runs: unpacks the layer that comes through standard input, a socket, into the working
/// directory. Needs root. The exit code only tells whether a report could be sent.
pub fn run_confined() -> ExitCode {
    match confined() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confined() -> io::Result<()> {
    let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    match confine::enter() {
        Ok(root) => serve(socket, &root),
        Err(error) => send(&socket, &Err(Error::Machine(format!("confine the unpacker: {error}")))),
    }
}

/// Reads limits and layer from `socket`, unpacks below `root`, answers.
fn serve(mut socket: UnixStream, root: &OwnedFd) -> io::Result<()> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut limits = vec![0; u32::from_be_bytes(length).min(4096) as usize];
    socket.read_exact(&mut limits)?;
    let limits: Limits = serde_json::from_slice(&limits)?;
    let outcome = extract::extract(&socket, root, &limits);
    send(&socket, &outcome)
}

fn send(mut socket: &UnixStream, outcome: &Result<Report, Error>) -> io::Result<()> {
    socket.write_all(&serde_json::to_vec(outcome)?)?;
    socket.shutdown(Shutdown::Write)
}
