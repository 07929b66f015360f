//! A content store: blobs by digest, uploads on their way to become blobs. It knows nothing of images.
//!
//! ```text
//! begin ─► uploads/ID ◄─ append, append ...      what was received stays through a crash, to be resumed
//!              │ finish: digest right? ─ sync ─ mode 0444 ─ rename
//!              ▼
//!          blobs/sha256/HEX                      never changed; whole as long as it has a name
//! ```
//!
//! Two stores on one file system share blobs by hard links: each removes its own name, and the bytes go with the last. So
//! a registry and a node keep what both have once, and neither's garbage collection knows of the other's.
//!
//! Bytes are hashed and written in pieces away from the event loop, while the next piece comes in.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use oci::{Digest, digest::Algorithm};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpStream;

use upload::{Upload, Waiting};

mod upload;

#[cfg(test)]
mod tests;

const BLOBS: &str = "blobs";
const UPLOADS: &str = "uploads";
const TEMPORARY: &str = "tmp";
/// How long a second request for the same upload waits for the first.
const TURN: Duration = Duration::from_secs(10);

/// How a store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The group whose members may read blobs; nobody but the owner without.
    pub readers: Option<u32>,
    /// The directory `blobs` of another store on the same file system: what it has is linked, not kept twice.
    pub twin: Option<PathBuf>,
    /// Bytes of the largest blob.
    pub blob_bytes: u64,
    /// Uploads under way at most.
    pub uploads: usize,
    /// How long an upload may rest.
    pub patience: Duration,
    /// How long to wait for the next bytes of a request.
    pub stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: None,
            twin: None,
            blob_bytes: 1 << 40,
            uploads: 10_000,
            patience: Duration::from_secs(24 * 3600),
            stall: Duration::from_secs(60),
        }
    }
}

/// Why content was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such upload, or no longer.
    #[error("no such upload")]
    Unknown,
    /// Another request is at it.
    #[error("another request is writing to this upload")]
    Busy,
    /// Too many uploads are under way.
    #[error("too many uploads are under way")]
    Crowded,
    /// A piece that does not follow what is here.
    #[error("the upload has {here} bytes: the next piece has to start there")]
    Offset {
        /// Bytes received so far.
        here: u64,
    },
    /// The bytes have another digest than was said.
    #[error("content has digest {actual}, expected {expected}")]
    Digest {
        /// As said.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// More bytes than the store takes.
    #[error("content is larger than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// The sender stopped.
    #[error("receive content: {0}")]
    Broken(String),
    /// No space is left; the upload is gone, so that others may go on.
    #[error("no space is left for content")]
    Full,
    /// The disk.
    #[error("{0:#}")]
    Disk(#[from] anyhow::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk(error.into()),
        }
    }
}

/// Blobs and uploads in a directory. Clones are the same store.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    root: PathBuf,
    options: Options,
    uploads: Mutex<HashMap<String, Arc<Slot>>>,
    /// Locked as long as the store is open.
    _lock: File,
}

/// Bytes of a client, of which only the first were read.
#[derive(Debug)]
pub struct Rest {
    /// The first.
    pub before: Vec<Bytes>,
    /// Where the others come from: it does not block, and nobody else reads from it meanwhile.
    pub socket: OwnedFd,
    /// How many they are.
    pub left: u64,
}

/// One upload, and whose turn it is.
struct Slot {
    turn: tokio::sync::Mutex<()>,
    upload: Mutex<Upload>,
}

impl Slot {
    fn new(upload: Upload) -> Arc<Self> {
        Arc::new(Self { turn: tokio::sync::Mutex::default(), upload: Mutex::new(upload) })
    }

    /// Waits for other requests of the same upload.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        tokio::time::timeout(TURN, self.turn.lock()).await.map_err(|_| Error::Busy)
    }

    fn upload(&self) -> Result<MutexGuard<'_, Upload>, Error> {
        let upload = self.upload.lock().expect("upload lock");
        if upload.ended { Err(Error::Unknown) } else { Ok(upload) }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("dir", &self.0.root).finish()
    }
}

/// Where the blob `digest` of the store in `dir` is or would be.
pub fn path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join(BLOBS).join(digest.algorithm().name()).join(digest.hex())
}

impl Content {
    /// Opens the store in `dir`, makes it if need be, and removes uploads that rested too long.
    pub async fn open(dir: &Path, options: Options) -> anyhow::Result<Self> {
        let root = dir.to_owned();
        away(move || Ok(Self::open_now(root, options)?))
            .await
            .map_err(anyhow::Error::from)
            .with_context(|| format!("open content store {}", dir.display()))
    }

    fn open_now(root: PathBuf, options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(root.join("lock"))?;
        crate::store::lock_directory(&lock)?;
        let blobs = [root.clone(), root.join(BLOBS)]
            .into_iter()
            .chain([Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| root.join(BLOBS).join(algorithm.name())));
        for dir in blobs {
            std::fs::create_dir_all(&dir)?;
            let mode = if options.readers.is_some() { 0o750 } else { 0o700 };
            std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode))?;
            if options.readers.is_some() {
                std::os::unix::fs::chown(&dir, None, options.readers)?;
            }
        }
        for name in [UPLOADS, TEMPORARY] {
            std::fs::create_dir_all(root.join(name))?;
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o700))?;
        }
        for entry in std::fs::read_dir(root.join(TEMPORARY))? {
            std::fs::remove_file(entry?.path())?;
        }
        let content = Self(Arc::new(Inner { root, options, uploads: Mutex::default(), _lock: lock }));
        content.expire_now()?;
        Ok(content)
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        path(&self.0.root, digest)
    }

    /// Begins an upload; returns its id, which cannot be guessed. `algorithm` is the one that its digest will most likely
    /// have: another one costs reading everything again.
    pub async fn begin(&self, algorithm: Algorithm) -> Result<String, Error> {
        if self.0.uploads.lock().expect("uploads lock").len() >= self.0.options.uploads {
            return Err(Error::Crowded);
        }
        let id = random_id()?;
        let path = self.upload_path(&id);
        let upload = away(move || Ok(Upload::create(&path, algorithm)?)).await?;
        self.0.uploads.lock().expect("uploads lock").insert(id.clone(), Slot::new(upload));
        Ok(id)
    }

    /// Bytes that an upload has.
    pub async fn received(&self, id: &str) -> Result<u64, Error> {
        let slot = self.slot(id).await?;
        let _turn = slot.turn().await?;
        Ok(slot.upload()?.received())
    }

    /// Appends what `body` yields; returns how many bytes the upload has then. With `from`, only if it has that many. When
    /// `body` breaks off, what came is kept.
    pub async fn append<S, E>(&self, id: &str, from: Option<u64>, mut body: S) -> Result<u64, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let slot = self.slot(id).await?;
        let _turn = slot.turn().await?;
        let mut here = slot.upload()?.received();
        if from.is_some_and(|from| from != here) {
            return Err(Error::Offset { here });
        }
        let (mut broken, mut ended, mut rest) = (None, false, Bytes::new());
        while !ended {
            let room = slot.upload()?.room();
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            while bytes < room && !ended {
                let next = match rest.is_empty() {
                    true => tokio::time::timeout(self.0.options.stall, body.next()).await,
                    false => Ok(Some(Ok(std::mem::take(&mut rest)))),
                };
                match next {
                    Ok(Some(Ok(mut piece))) => {
                        rest = piece.split_off(piece.len().min(room - bytes));
                        bytes += piece.len();
                        pieces.push(piece);
                    }
                    Ok(None) => ended = true,
                    Ok(Some(Err(error))) => (ended, broken) = (true, Some(error.to_string())),
                    Err(_) => (ended, broken) = (true, Some("nothing came for too long".to_owned())),
                }
            }
            here = self.write(id, &slot, here, pieces).await?;
        }
        match broken {
            Some(reason) => Err(Error::Broken(reason)),
            None => Ok(here),
        }
    }

    /// The same for what is still on a client's connection. What was read of it is known only if all of it was.
    pub async fn append_from(&self, id: &str, from: Option<u64>, rest: Rest) -> Result<u64, Error> {
        let Rest { before, socket, mut left } = rest;
        let slot = self.slot(id).await?;
        let _turn = slot.turn().await?;
        let mut here = slot.upload()?.received();
        if from.is_some_and(|from| from != here) {
            return Err(Error::Offset { here });
        }
        let known: u64 = before.iter().map(|piece| piece.len() as u64).sum();
        self.bound(id, &slot, here.saturating_add(known).saturating_add(left)).await?;
        here = self.write(id, &slot, here, before).await?;
        let socket = Arc::new(socket);
        while left > 0 {
            let (reader, from) = (slot.clone(), socket.clone());
            let turn = away(move || Ok(reader.upload()?.take(from.as_fd(), left)?)).await;
            let turn = self.or_forget(id, &slot, turn).await?;
            (here, left) = (here + turn.taken, left - turn.taken);
            match turn.state {
                Waiting::Ended if left > 0 => return Err(Error::Broken("the connection ended".to_owned())),
                Waiting::Idle if left > 0 => {
                    // Registered only while nothing comes: the event loop need not hear of each packet.
                    let waiting = TcpStream::from_std(socket.try_clone()?.into())?;
                    let more = tokio::time::timeout(self.0.options.stall, waiting.readable()).await;
                    more.map_err(|_| Error::Broken("nothing came for too long".to_owned()))??;
                }
                _ => {}
            }
        }
        Ok(here)
    }

    /// Writes pieces; returns how many bytes the upload has then.
    async fn write(&self, id: &str, slot: &Arc<Slot>, here: u64, pieces: Vec<Bytes>) -> Result<u64, Error> {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.bound(id, slot, here.saturating_add(bytes)).await?;
        let writer = slot.clone();
        let written = away(move || {
            let mut upload = writer.upload()?;
            upload.write(&pieces)?;
            Ok(upload.received())
        });
        self.or_forget(id, slot, written.await).await
    }

    /// Ends an upload that would be larger than blobs may be.
    async fn bound(&self, id: &str, slot: &Arc<Slot>, size: u64) -> Result<(), Error> {
        let limit = self.0.options.blob_bytes;
        if size <= limit {
            return Ok(());
        }
        self.forget(id, slot).await;
        Err(Error::TooLarge { limit })
    }

    /// Ends an upload for which there is no space.
    async fn or_forget<T>(&self, id: &str, slot: &Arc<Slot>, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Full) = outcome {
            self.forget(id, slot).await;
        }
        outcome
    }

    /// Makes an upload a blob: on the disk and under its name when this returns. Returns its size. An upload with another
    /// digest is gone.
    pub async fn finish(&self, id: &str, digest: &Digest) -> Result<u64, Error> {
        let slot = self.slot(id).await?;
        let _turn = slot.turn().await?;
        self.0.uploads.lock().expect("uploads lock").remove(id);
        let (content, digest, ending) = (self.clone(), digest.clone(), slot.clone());
        away(move || {
            let mut upload = ending.upload()?;
            let size = upload.received();
            let outcome = content.publish(&upload, &digest);
            upload.ended = true;
            // Renamed or not, nothing of it is left under its own name.
            let removed = std::fs::remove_file(upload.path());
            outcome?;
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(size),
            }
        })
        .await
    }

    fn publish(&self, upload: &Upload, digest: &Digest) -> Result<(), Error> {
        let actual = upload.digest(digest.algorithm())?;
        if actual != *digest {
            return Err(Error::Digest { expected: digest.clone(), actual });
        }
        let path = self.path(digest);
        if path.exists() || self.link_twin(digest)? {
            return Ok(());
        }
        upload.seal()?;
        std::fs::rename(upload.path(), &path)?;
        sync_parent(&path)
    }

    /// Ends an upload.
    pub async fn cancel(&self, id: &str) -> Result<(), Error> {
        let slot = self.slot(id).await?;
        let _turn = slot.turn().await?;
        drop(slot.upload()?);
        self.forget(id, &slot).await;
        Ok(())
    }

    /// Stores a small blob.
    pub async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        let (content, digest) = (self.clone(), digest.clone());
        away(move || {
            let path = content.path(&digest);
            if !digest.matches(&bytes) {
                let actual = Digest::of(digest.algorithm(), &bytes);
                return Err(Error::Digest { expected: digest, actual });
            }
            if path.exists() {
                return Ok(());
            }
            let temporary = content.0.root.join(TEMPORARY).join(random_id()?);
            let written = || -> Result<(), Error> {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary)?;
                file.write_all(&bytes)?;
                file.set_permissions(PermissionsExt::from_mode(0o444))?;
                file.sync_all()?;
                std::fs::rename(&temporary, &path)?;
                sync_parent(&path)
            };
            written().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        })
        .await
    }

    /// Removes a blob's name here; no error where it has none. Whoever reads it goes on.
    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        away(move || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        })
        .await
    }

    /// All blobs.
    pub async fn list(&self) -> Result<Vec<Digest>, Error> {
        let root = self.0.root.clone();
        away(move || {
            let mut found = Vec::new();
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                for entry in std::fs::read_dir(root.join(BLOBS).join(algorithm.name()))? {
                    let name = entry?.file_name();
                    let digest = name.to_str().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok());
                    found.extend(digest);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes uploads that rested too long.
    pub async fn expire(&self) -> Result<(), Error> {
        let content = self.clone();
        away(move || Ok(content.expire_now()?)).await
    }

    fn expire_now(&self) -> io::Result<()> {
        let now = SystemTime::now();
        for entry in std::fs::read_dir(self.0.root.join(UPLOADS))? {
            match self.expire_one(&entry?, now) {
                // It ended while this looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn expire_one(&self, upload: &std::fs::DirEntry, now: SystemTime) -> io::Result<()> {
        let rested = upload.metadata()?.modified()?;
        if now.duration_since(rested).is_ok_and(|rested| rested > self.0.options.patience) {
            if let Some(id) = upload.file_name().to_str() {
                self.0.uploads.lock().expect("uploads lock").remove(id);
            }
            std::fs::remove_file(upload.path())?;
        }
        Ok(())
    }

    fn upload_path(&self, id: &str) -> PathBuf {
        self.0.root.join(UPLOADS).join(id)
    }

    /// The upload `id`: as this process knows it, or as an earlier one left it.
    async fn slot(&self, id: &str) -> Result<Arc<Slot>, Error> {
        if !is_id(id) {
            return Err(Error::Unknown);
        }
        if let Some(slot) = self.0.uploads.lock().expect("uploads lock").get(id) {
            return Ok(slot.clone());
        }
        let path = self.upload_path(id);
        let upload = away(move || match Upload::resume(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Unknown),
            other => Ok(other?),
        })
        .await?;
        let mut uploads = self.0.uploads.lock().expect("uploads lock");
        // Whoever came first keeps it.
        Ok(uploads.entry(id.to_owned()).or_insert_with(|| Slot::new(upload)).clone())
    }

    async fn forget(&self, id: &str, slot: &Arc<Slot>) {
        self.0.uploads.lock().expect("uploads lock").remove(id);
        let slot = slot.clone();
        let removed = away(move || {
            let mut upload = slot.upload()?;
            upload.ended = true;
            Ok(std::fs::remove_file(upload.path())?)
        });
        if let Err(error) = removed.await {
            tracing::warn!(upload = id, %error, "upload cannot be removed");
        }
    }

    /// Gives this store a name for what the other one has.
    fn link_twin(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(twin) = &self.0.options.twin else { return Ok(false) };
        let theirs = twin.join(digest.algorithm().name()).join(digest.hex());
        link(&theirs, &self.path(digest))
    }
}

/// Links a blob of another store, if it is there and on the same file system.
pub(crate) fn link(theirs: &Path, ours: &Path) -> Result<bool, Error> {
    match std::fs::hard_link(theirs, ours) {
        Ok(()) => sync_parent(ours).map(|()| true),
        Err(error) => match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(true),
            io::ErrorKind::NotFound | io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks => Ok(false),
            _ => Err(error.into()),
        },
    }
}

async fn away<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Disk(anyhow!("content store: {error}"))),
    }
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    Ok(File::open(parent)?.sync_all()?)
}

/// 128 random bits in hexadecimal.
fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    let random = SystemRandom::new();
    random.fill(&mut bytes).map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
