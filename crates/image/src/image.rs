//! What callers get to see of an image and of a container's file system.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::Digest;
use oci_spec::image::ImageConfiguration;

/// An image that is wholly here: all blobs, all layers unpacked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration: docker's image id.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Full names with tags: `docker.io/library/nginx:1.27`.
    pub names: Vec<String>,
    /// Full names with digests: `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// The configuration.
    pub config: Arc<ImageConfiguration>,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// The unpacked layers, top first, as overlayfs's `lowerdir` takes them.
    pub layers: Vec<PathBuf>,
}

impl Image {
    /// Whether nothing but its id leads to it.
    pub fn is_unnamed(&self) -> bool {
        self.names.is_empty() && self.digests.is_empty()
    }
}

/// The directories of one container's overlay mount. They stay until [`crate::Store::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Read-only directories, top first.
    pub lowers: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlayfs's own, on the same file system as `upper`.
    pub work: PathBuf,
}

/// Space taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
}

impl Usage {
    /// Blocks and inodes below `directory`; what vanishes meanwhile is not counted, nor is what is mounted there from another
    /// file system. Blocks the thread.
    pub fn below(directory: &Path) -> Self {
        let mut usage = Self::default();
        let Ok(top) = directory.symlink_metadata() else { return usage };
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.dev() != top.dev() {
                    continue;
                }
                usage.bytes += metadata.blocks() * 512;
                usage.inodes += 1;
                if metadata.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        usage
    }
}
