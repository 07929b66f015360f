//! What is written about images, names, layers and snapshots, as JSON.

use oci::Digest;
use serde::{Deserialize, Serialize};

/// `images/HEX`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// Digest of the configuration.
    pub id: Digest,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Everything in `blobs` that belongs to the image, manifest and configuration included.
    pub blobs: Vec<Digest>,
    /// The layers' chain ids, lowest first.
    pub chains: Vec<Digest>,
}

/// `names/HEX`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NameRecord {
    /// `repository:tag` or `repository@digest`.
    pub name: String,
    /// The image's id.
    pub image: Digest,
}

impl NameRecord {
    pub fn file(&self) -> String {
        Self::file_of(&self.name)
    }

    /// Names are longer than file names may be, hence their hash.
    pub fn file_of(name: &str) -> String {
        Digest::sha256(name.as_bytes()).hex().to_owned()
    }
}

/// `layers/N/layer.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub chain: Digest,
    pub diff_id: Digest,
    pub bytes: u64,
    pub inodes: u64,
}

/// `snapshots/ID/snapshot.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// The image's id.
    pub image: Digest,
    /// The layers' chain ids, lowest first.
    pub chains: Vec<Digest>,
}
