//! The store: one directory, opened by one process.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use oci::{Digest, Reference};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    image::{Image, Snapshot, Usage},
    pull::{self, Pull},
};

/// Who unpacks layers.
#[derive(Clone, Debug)]
pub enum Unpacker {
    /// A child process for each layer that calls [`crate::unpack::run_confined`].
    Child {
        /// The executable.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// This process, unconfined: for tests with archives of their own.
    InProcess,
}

/// How a store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who unpacks layers.
    pub unpacker: Unpacker,
    /// Bounds on layers.
    pub limits: crate::unpack::Limits,
    /// Layers of one image fetched or unpacked at a time.
    pub parallel: usize,
}

/// Images, layers and snapshots in a directory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {}

/// What an operation removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are no longer known.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes freed.
    pub bytes: u64,
}

#[allow(unused_variables)]
impl Store {
    /// Opens the store in `dir`, makes it if need be, and removes what a crash left behind.
    pub async fn open(dir: &Path, options: Options) -> anyhow::Result<Self> {
        anyhow::bail!("not yet")
    }

    /// Makes sure that the image that a registry has under `reference` is here.
    pub async fn pull(&self, reference: &Reference, pull: &Pull) -> Result<Image, pull::Error> {
        Err(pull::Error::Other(anyhow::anyhow!("not yet")))
    }

    /// Reads an archive (`docker save`, OCI layout, or both in one; plain, gzip or zstd) and returns its images.
    pub async fn load(&self, archive: impl AsyncRead + Unpin + Send + 'static) -> anyhow::Result<Vec<Image>> {
        anyhow::bail!("not yet")
    }

    /// Reads an archive file, or an OCI layout in a directory.
    pub async fn load_path(&self, path: &Path) -> anyhow::Result<Vec<Image>> {
        anyhow::bail!("not yet")
    }

    /// Writes images as an archive that is both `docker save`'s and an OCI layout.
    pub async fn save(&self, images: &[String], out: impl AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }

    /// By name (normalised), name and digest, id (`sha256:…`), or a unique prefix of an id of 12 digits or more.
    pub fn get(&self, image: &str) -> Option<Image> {
        None
    }

    /// Gives an image another name, taking it from whichever had it.
    pub async fn tag(&self, image: &str, name: &Reference) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }

    /// Removes a name and, with its last name, the image; by id, the image with all its names. What a snapshot uses
    /// stays on disk until released. Removing what is not here is no error.
    pub async fn remove(&self, image: &str) -> anyhow::Result<Removed> {
        anyhow::bail!("not yet")
    }

    /// Removes the least recently used images that no snapshot uses until at most `limit` bytes are taken, and whatever
    /// belongs to no image.
    pub async fn collect_garbage(&self, limit: u64) -> anyhow::Result<Removed> {
        anyhow::bail!("not yet")
    }

    /// Makes the writable directories of a container. `container` is up to 128 of `[A-Za-z0-9_.-]`. Made again for the
    /// same container, it is the same.
    pub async fn snapshot(&self, image: &Image, container: &str) -> anyhow::Result<Snapshot> {
        anyhow::bail!("not yet")
    }

    /// The snapshot of a container, made by this process or one before it.
    pub fn find_snapshot(&self, container: &str) -> Option<Snapshot> {
        None
    }

    /// Containers that have a snapshot.
    pub fn snapshots(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes a container's directories. None there is no error.
    pub async fn release(&self, container: &str) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }

    /// Space that blobs and layers take.
    pub async fn usage(&self) -> anyhow::Result<Usage> {
        anyhow::bail!("not yet")
    }

    /// Space that a container has written.
    pub async fn snapshot_usage(&self, container: &str) -> anyhow::Result<Usage> {
        anyhow::bail!("not yet")
    }
}
