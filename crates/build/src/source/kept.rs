//! What was fetched, kept for later builds.
//!
//! ```text
//! under-way/XXXX/tree        being fetched; renamed when it is whole
//! entries/KEY/tree           files; nobody writes to them
//! entries/KEY/lock           held shared while used; who removes it holds it alone
//! pages/HASH.json            what a URL answered last: tag of its version, digest, name
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

/// Keeps what was fetched where it is, until dropped.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "held")] Held);

#[derive(Debug)]
enum Held {
    Kept(#[expect(dead_code, reason = "held")] File),
    Own(#[expect(dead_code, reason = "held")] tempfile::TempDir),
}

/// The place of everything that is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

/// A source under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    place: tempfile::TempDir,
}

impl UnderWay {
    /// Where the files go.
    pub fn tree(&self) -> PathBuf {
        self.place.path().join("tree")
    }

    /// A directory for what is needed on the way.
    pub fn scratch(&self) -> &Path {
        self.place.path()
    }

    /// The files as they are, for this build alone.
    pub fn alone(self) -> (PathBuf, Guard) {
        (self.tree(), Guard(Held::Own(self.place)))
    }
}

impl Kept {
    pub fn open(directory: &Path) -> Result<Self> {
        for name in ["under-way", "entries", "pages"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// A new place to fetch into.
    pub fn begin(&self) -> Result<UnderWay> {
        let place = tempfile::tempdir_in(self.directory.join("under-way")).context("make a place for a source")?;
        fs::create_dir(place.path().join("tree"))?;
        Ok(UnderWay { place })
    }

    /// What is kept under a key.
    pub fn get(&self, key: &str) -> Option<(PathBuf, Guard)> {
        let entry = self.directory.join("entries").join(key);
        let lock = File::options().write(true).open(entry.join("lock")).ok()?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).ok()?;
        let tree = entry.join("tree");
        // It may have been removed before the lock was held.
        if !tree.is_dir() {
            return None;
        }
        // Told by the time who was used last.
        let _ = lock.set_modified(SystemTime::now());
        Some((tree, Guard(Held::Kept(lock))))
    }

    /// Keeps what was fetched under a key, and removes the oldest where there is too much.
    pub fn put(&self, key: &str, fetched: UnderWay, limit: u64) -> Result<(PathBuf, Guard)> {
        let place = fetched.place.path();
        let lock = File::create(place.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockShared)?;
        let size = size(&place.join("tree"))?;
        fs::write(place.join("size"), size.to_string())?;
        let entry = self.directory.join("entries").join(key);
        match fs::rename(place, &entry) {
            Ok(()) => {
                // There is nothing left to remove.
                let _ = fetched.place.keep();
                self.prune(limit);
                Ok((entry.join("tree"), Guard(Held::Kept(lock))))
            }
            // Another build was faster, with the same.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(self.get(key).unwrap_or_else(|| fetched.alone()))
            }
            Err(error) => Err(error).with_context(|| format!("keep {}", entry.display())),
        }
    }

    /// Removes what nobody uses, the oldest first, until what is left fits.
    fn prune(&self, limit: u64) {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.directory.join("entries")).into_iter().flatten().flatten() {
            let path = entry.path();
            let used =
                fs::metadata(path.join("lock")).and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let size = fs::read_to_string(path.join("size")).ok().and_then(|size| size.parse().ok()).unwrap_or(0);
            entries.push((used, size, path));
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in entries {
            if total <= limit {
                break;
            }
            let Ok(lock) = File::options().write(true).open(path.join("lock")) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "remove a source that was kept");
            }
            total -= size;
        }
    }

    /// What a URL answered last, as JSON.
    pub fn page(&self, hash: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.join("pages").join(format!("{hash}.json"))).ok()
    }

    /// Notes what a URL answered.
    pub fn note(&self, hash: &str, page: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.directory.join("under-way"))?;
        io::Write::write_all(&mut file, page)?;
        file.persist(self.directory.join("pages").join(format!("{hash}.json")))?;
        Ok(())
    }
}

/// Bytes of all files, a block at least for each.
fn size(path: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            total += metadata.len().max(4096);
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(total)
}
