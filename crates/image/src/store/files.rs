//! The directory itself: where things are, and how they get there whole.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use oci::{
    Digest,
    digest::{Algorithm, Verifier},
};
use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};

/// Directory of image records.
pub(super) const IMAGES: &str = "images";
/// Directory of name records.
pub(super) const NAMES: &str = "names";
/// Directory of unpacked layers.
pub(super) const LAYERS: &str = "layers";
/// Directory of snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// In a layer's directory: a builder keeps it.
pub(super) const DRAFT: &str = "draft";
/// In a layer's directory: an image has it, and this is its record.
pub(super) const LAYER: &str = "layer.json";
const BLOBS: &str = "blobs";
const TEMPORARY: &str = "tmp";
const TRASH: &str = "trash";
const FORMAT: &str = "format";
/// How long another process may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// The layout that this code reads and writes.
const FORMAT_VERSION: &str = "1";
/// Largest blob read into memory: manifests and configurations.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// Paths of one store.
pub(crate) struct Files {
    root: PathBuf,
    next: AtomicU64,
    sweeping: Arc<AtomicBool>,
}

impl Files {
    /// Makes the directories, locks the store, moves leftovers to the trash.
    pub fn open(root: &Path) -> anyhow::Result<(Self, File)> {
        std::fs::create_dir_all(root)?;
        // Unpacked images hold setuid programs and world-writable directories: nobody else gets in.
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o700))?;
        let root = root.canonicalize()?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        lock_directory(&lock)?;
        let files = Self { root, next: AtomicU64::new(0), sweeping: Arc::default() };
        match std::fs::read_to_string(files.root.join(FORMAT)) {
            Ok(version) if version.trim() == FORMAT_VERSION => {}
            Ok(version) => bail!("it has format {:?}, this program knows {FORMAT_VERSION}", version.trim()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for name in [IMAGES, NAMES, LAYERS, SNAPSHOTS, TEMPORARY, TRASH] {
                    std::fs::create_dir_all(files.root.join(name))?;
                }
                for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                    std::fs::create_dir_all(files.root.join(BLOBS).join(algorithm.name()))?;
                }
                files.write_atomic(&files.root.join(FORMAT), FORMAT_VERSION.as_bytes())?;
            }
            Err(error) => return Err(error).context("read its format"),
        }
        files.rescue_trash()?;
        Ok((files, lock))
    }

    /// Numbers start anew with each process: steps past what earlier ones left.
    fn rescue_trash(&self) -> io::Result<()> {
        let numbers = std::fs::read_dir(self.root.join(TRASH))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        self.next.store(numbers.max().map_or(0, |last| last + 1), Ordering::Relaxed);
        for entry in std::fs::read_dir(self.root.join(TEMPORARY))? {
            self.discard(&entry?.path())?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is or would be.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.algorithm().name()).join(digest.hex())
    }

    pub fn layer(&self, number: u64) -> PathBuf {
        self.root.join(LAYERS).join(number.to_string())
    }

    /// The lower directory of a layer.
    pub fn layer_root(&self, number: u64) -> PathBuf {
        self.layer(number).join("fs")
    }

    pub fn snapshot(&self, container: &str) -> PathBuf {
        self.root.join(SNAPSHOTS).join(container)
    }

    /// A path for something new.
    pub fn temporary(&self) -> PathBuf {
        self.root.join(TEMPORARY).join(self.number())
    }

    fn number(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// All blobs with their sizes.
    pub fn blobs(&self) -> io::Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for entry in std::fs::read_dir(self.root.join(BLOBS).join(algorithm.name()))? {
                let entry = entry?;
                let Some(hex) = entry.file_name().to_str().map(str::to_owned) else { continue };
                if let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse() {
                    found.push((digest, entry.metadata()?.len()));
                }
            }
        }
        Ok(found)
    }

    /// A whole small blob.
    pub fn read_blob(&self, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let path = self.blob(digest);
        let size = path.metadata().with_context(|| format!("read blob {digest}"))?.len();
        if size > DOCUMENT_LIMIT {
            bail!("read blob {digest}: {size} bytes are too many for a document");
        }
        std::fs::read(&path).with_context(|| format!("read blob {digest}"))
    }

    /// Stores a small blob.
    pub fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> anyhow::Result<()> {
        if self.blob(digest).exists() {
            return Ok(());
        }
        let mut writer = BlobWriter::new(self, Verifier::new(digest.clone(), Some(bytes.len() as u64)))?;
        writer.write(bytes)?;
        writer.finish()?.publish(self, digest)
    }

    /// A new file below `tmp` with what `fill` puts into it.
    pub fn temporary_file(
        &self,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<TemporaryFile> {
        let temporary = TemporaryFile(self.temporary());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary.0)?;
        fill(&mut |bytes| Ok(file.write_all(bytes)?))?;
        Ok(temporary)
    }

    /// The same, checked against a digest.
    pub fn copy_blob(
        &self,
        digest: &Digest,
        size: u64,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<TemporaryFile> {
        let mut writer = BlobWriter::new(self, Verifier::new(digest.clone(), Some(size)))?;
        fill(&mut |bytes| writer.write(bytes))?;
        Ok(writer.finish()?.temporary)
    }

    /// Gives a file that was checked and flushed the name of its content.
    pub fn name_blob(&self, digest: &Digest, temporary: &Path) -> io::Result<()> {
        let path = self.blob(digest);
        std::fs::rename(temporary, &path)?;
        sync_directory(path.parent().unwrap_or(&self.root))
    }

    /// Writes `directory/name` as JSON.
    pub fn write_record(&self, directory: &str, name: &str, record: &impl Serialize) -> anyhow::Result<()> {
        let path = self.root.join(directory).join(name);
        self.write_atomic(&path, &serde_json::to_vec(record)?).with_context(|| format!("write {}", path.display()))
    }

    pub fn remove_record(&self, directory: &str, name: &str) -> anyhow::Result<()> {
        let directory = self.root.join(directory);
        match std::fs::remove_file(directory.join(name)) {
            Ok(()) => Ok(sync_directory(&directory)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("remove {}", directory.join(name).display())),
        }
    }

    /// All records of a directory that can be read, with their file names and times; the others are reported and left.
    pub fn records<T: DeserializeOwned>(
        &self,
        directory: &str,
    ) -> anyhow::Result<Vec<(String, T, std::time::SystemTime)>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(self.root.join(directory))? {
            let entry = entry?;
            let read = || -> anyhow::Result<_> {
                let bytes = std::fs::read(entry.path())?;
                Ok((serde_json::from_slice(&bytes)?, entry.metadata()?.modified()?))
            };
            match read() {
                Ok((record, time)) => records.push((entry.file_name().to_string_lossy().into_owned(), record, time)),
                Err(error) => tracing::warn!(file = %entry.path().display(), %error, "record cannot be read"),
            }
        }
        Ok(records)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or(&self.root))
    }

    /// Takes something away at once; the space is freed by [`Files::empty_trash`].
    pub fn discard(&self, path: &Path) -> io::Result<()> {
        match std::fs::rename(path, self.root.join(TRASH).join(self.number())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Frees what was discarded, in a thread of its own.
    pub fn empty_trash(&self) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (trash, sweeping) = (self.root.join(TRASH), self.sweeping.clone());
        let sweep = move || {
            // What comes in while this runs is seen by the next round; what cannot be removed is left to the next opening.
            let mut failed = std::collections::HashSet::new();
            loop {
                let entries: Vec<_> = std::fs::read_dir(&trash).into_iter().flatten().flatten().collect();
                let fresh: Vec<_> = entries.into_iter().filter(|entry| !failed.contains(&entry.file_name())).collect();
                if fresh.is_empty() {
                    break;
                }
                for entry in fresh {
                    let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    let removed = match is_directory {
                        true => std::fs::remove_dir_all(entry.path()),
                        false => std::fs::remove_file(entry.path()),
                    };
                    if let Err(error) = removed {
                        tracing::warn!(path = %entry.path().display(), %error, "leftover of an image cannot be removed");
                        failed.insert(entry.file_name());
                    }
                }
            }
            sweeping.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new().name("image-trash".into()).spawn(sweep) {
            tracing::warn!(%error, "no thread to remove leftovers of images");
            self.sweeping.store(false, Ordering::Release);
        }
    }
}

/// Locks a directory for this process.
pub(crate) fn lock_directory(lock: &File) -> anyhow::Result<()> {
    // A process that was killed while it started another one leaves the lock to that one for a moment.
    let patience = Instant::now() + LOCK_PATIENCE;
    while let Err(error) = rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
        if Instant::now() > patience {
            bail!("it is in use by another process: {error}");
        }
        std::thread::sleep(LOCK_PATIENCE / 50);
    }
    Ok(())
}

/// Puts the names in a directory onto the disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A blob being written, checked as it passes. Dropped, it is gone.
pub(crate) struct BlobWriter {
    file: File,
    temporary: TemporaryFile,
    verifier: Verifier,
}

/// A whole blob that has no name yet.
pub(crate) struct WrittenBlob {
    file: File,
    temporary: TemporaryFile,
}

/// A file below `tmp`, removed with its owner unless it was renamed.
pub(crate) struct TemporaryFile(pub PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BlobWriter {
    pub fn new(files: &Files, verifier: Verifier) -> io::Result<Self> {
        let temporary = TemporaryFile(files.temporary());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary.0)?;
        Ok(Self { file, temporary, verifier })
    }

    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.verifier.update(bytes)?;
        Ok(self.file.write_all(bytes)?)
    }

    /// Checks the whole.
    pub fn finish(self) -> anyhow::Result<WrittenBlob> {
        self.verifier.finish()?;
        Ok(WrittenBlob { file: self.file, temporary: self.temporary })
    }
}

impl WrittenBlob {
    /// Puts the blob onto the disk and gives it its name.
    pub fn publish(self, files: &Files, digest: &Digest) -> anyhow::Result<()> {
        self.file.sync_data()?;
        let path = files.blob(digest);
        std::fs::rename(&self.temporary.0, &path)?;
        Ok(sync_directory(path.parent().unwrap_or(&files.root))?)
    }
}
