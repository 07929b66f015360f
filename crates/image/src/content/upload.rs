//! One upload: a file, and the digest of what is in it. Bytes come from memory, or from a socket that only this process reads.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read, Seek, SeekFrom, Write},
    os::{
        fd::BorrowedFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use oci::{
    Digest,
    digest::{Algorithm, Hasher},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, recv},
};

/// After this many bytes the disk begins to write them, so that the end does not wait for all of them at once.
const FLUSH: u64 = 32 << 20;
const BUFFER: usize = 1 << 20;
/// Files are written in pieces of this many bytes that begin at multiples of it: the kernel then keeps them in large folios, of
/// which it reads, sends and writes back at half the cost.
pub(super) const PIECE: usize = 1 << 20;
/// Bytes read from a socket before somebody looks whether to go on.
const TURN: u64 = 64 << 20;
/// How long to wait for a socket's next bytes before others have the thread.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// A file that grows, hashed as it does.
pub(super) struct Upload {
    path: PathBuf,
    file: Arc<File>,
    algorithm: Algorithm,
    hasher: Hasher,
    /// Bytes that the disk was last asked to write.
    flushed: u64,
    flushing: Arc<AtomicBool>,
    /// What comes from a socket is gathered here.
    buffer: Vec<u8>,
    /// It became a blob, or was given up.
    pub ended: bool,
}

impl Upload {
    pub fn create(path: &Path, algorithm: Algorithm) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self::of(path, file, algorithm))
    }

    /// What an earlier process left: everything is hashed again.
    pub fn resume(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut upload = Self::of(path, file, Algorithm::Sha256);
        upload.hasher = upload.hash(Algorithm::Sha256, u64::MAX)?;
        (&*upload.file).seek(SeekFrom::Start(upload.received()))?;
        Ok(upload)
    }

    fn of(path: &Path, file: File, algorithm: Algorithm) -> Self {
        Self {
            path: path.to_owned(),
            file: Arc::new(file),
            algorithm,
            hasher: Hasher::new(algorithm),
            flushed: 0,
            flushing: Arc::default(),
            buffer: Vec::new(),
            ended: false,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written and hashed.
    pub fn received(&self) -> u64 {
        self.hasher.seen()
    }

    /// Bytes up to the next place where a piece should end.
    pub fn room(&self) -> usize {
        PIECE - (self.received() % PIECE as u64) as usize
    }

    /// Writes all of `pieces`, or leaves the upload as it was.
    pub fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        if let Err(error) = write_all(&self.file, &mut slices) {
            return self.undo(error);
        }
        pieces.iter().for_each(|piece| self.hasher.update(piece));
        self.flush();
        Ok(())
    }

    /// Writes what a socket holds that does not block, `left` bytes at most; see [`Turn`].
    pub fn take(&mut self, socket: BorrowedFd<'_>, left: u64) -> io::Result<Turn> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let taken = self.take_by(&mut buffer, socket, left);
        self.buffer = buffer;
        taken
    }

    fn take_by(&mut self, buffer: &mut [u8], socket: BorrowedFd<'_>, left: u64) -> io::Result<Turn> {
        let mut taken = 0;
        let mut state = Waiting::Ready;
        while state == Waiting::Ready && taken < left.min(TURN) {
            let wanted = self.room().min(usize::try_from(left - taken).unwrap_or(PIECE));
            let mut filled = 0;
            while filled < wanted && state == Waiting::Ready {
                match recv(socket, &mut buffer[filled..wanted], RecvFlags::DONTWAIT) {
                    Ok((0, _)) => state = Waiting::Ended,
                    Ok((read, _)) => filled += read,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        let mut sockets = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
                        match poll(&mut sockets, Some(&PAUSE)) {
                            Ok(0) => state = Waiting::Idle,
                            Ok(_) | Err(Errno::INTR) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                    // What a connection ends with is no failure of the disk.
                    Err(_) => state = Waiting::Ended,
                }
            }
            let bytes = &buffer[..filled];
            if let Err(error) = (&*self.file).write_all(bytes) {
                self.undo(error)?;
            }
            self.hasher.update(bytes);
            self.flush();
            taken += filled as u64;
        }
        Ok(Turn { taken, state })
    }

    /// Forgets what a failed write left.
    fn undo(&self, error: io::Error) -> io::Result<()> {
        let here = self.received();
        self.file.set_len(here)?;
        (&*self.file).seek(SeekFrom::Start(here))?;
        Err(error)
    }

    /// Has the disk begin to write when there is enough.
    fn flush(&mut self) {
        if self.received() - self.flushed < FLUSH || self.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.flushed = self.received();
        let (file, flushing) = (self.file.clone(), self.flushing.clone());
        // Only a head start: what fails here fails again in `seal`, where it is told.
        let begun = std::thread::Builder::new().name("content-flush".into()).spawn(move || {
            let _ = file.sync_data();
            flushing.store(false, Ordering::Release);
        });
        if begun.is_err() {
            self.flushing.store(false, Ordering::Release);
        }
    }

    /// The digest of everything.
    pub fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        if algorithm == self.algorithm {
            return Ok(self.hasher.clone().finish());
        }
        Ok(self.hash(algorithm, self.received())?.finish())
    }

    /// Makes it immutable and puts it onto the disk.
    pub fn seal(&self) -> io::Result<()> {
        self.file.set_permissions(PermissionsExt::from_mode(0o444))?;
        self.file.sync_all()
    }

    fn hash(&self, algorithm: Algorithm, limit: u64) -> io::Result<Hasher> {
        let mut hasher = Hasher::new(algorithm);
        let mut file = File::open(&self.path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let wanted = (limit - hasher.seen()).min(BUFFER as u64) as usize;
            let read = file.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Ok(hasher);
            }
            hasher.update(&buffer[..read]);
        }
    }
}

/// What was read from a socket before there was nothing to read for a while.
pub(super) struct Turn {
    /// Bytes written and hashed.
    pub taken: u64,
    /// Why it is not more.
    pub state: Waiting,
}

/// What a socket's reader does next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Reads on.
    Ready,
    /// Waits until more comes.
    Idle,
    /// Nothing: no more will come.
    Ended,
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while slices.iter().any(|slice| !slice.is_empty()) {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
