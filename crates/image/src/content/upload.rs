//! One upload: a file, and the digest of what is in it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use oci::{
    Digest,
    digest::{Algorithm, Hasher},
};

/// After this many bytes the disk begins to write them, so that the end does not wait for all of them at once.
const FLUSH: u64 = 32 << 20;
const BUFFER: usize = 1 << 20;

/// A file that grows, hashed as it does.
pub(super) struct Upload {
    path: PathBuf,
    file: Arc<File>,
    algorithm: Algorithm,
    hasher: Hasher,
    /// Bytes that the disk was last asked to write.
    flushed: u64,
    flushing: Arc<AtomicBool>,
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

    /// Writes all of `bytes`, or leaves the upload as it was.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = (&*self.file).write_all(bytes) {
            let here = self.received();
            self.file.set_len(here)?;
            (&*self.file).seek(SeekFrom::Start(here))?;
            return Err(error);
        }
        self.hasher.update(bytes);
        if self.received() - self.flushed >= FLUSH && !self.flushing.swap(true, Ordering::AcqRel) {
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
        Ok(())
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
