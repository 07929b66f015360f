//! What the store holds, in memory: small, and always what the disk says.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use oci::{Digest, Reference};
use oci_spec::image::ImageConfiguration;

use super::{
    Layers,
    files::{self, Files},
    records::{ImageRecord, LayerRecord, NameRecord, SnapshotRecord},
};
use crate::image::Usage;

/// Shortest prefix of an id that is taken for one.
const ID_PREFIX: usize = 12;

#[derive(Default)]
pub(super) struct State {
    pub images: HashMap<Digest, ImageEntry>,
    /// From `repository:tag` or `repository@digest` to image ids.
    pub names: BTreeMap<String, Digest>,
    pub layers: Layers,
    pub next_layer: u64,
    /// Numbers of layers that a builder keeps, whether or not an image has them too.
    pub drafts: HashSet<u64>,
    pub snapshots: HashMap<String, SnapshotRecord>,
    /// How many pulls and loads hold a blob or chain.
    leases: HashMap<Digest, usize>,
}

pub(super) struct ImageEntry {
    pub record: ImageRecord,
    pub used: SystemTime,
    /// Parsed when first asked for.
    pub config: Option<Arc<ImageConfiguration>>,
}

pub(super) struct Layer {
    pub number: u64,
    pub record: LayerRecord,
}

impl State {
    /// Reads everything, and drops what refers to something that is gone.
    pub fn read(files: &Files) -> anyhow::Result<Self> {
        let mut state = Self::default();
        for entry in std::fs::read_dir(files.root().join(files::LAYERS))? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            state.next_layer = state.next_layer.max(number + 1);
            let read = || -> anyhow::Result<LayerRecord> {
                Ok(serde_json::from_slice(&std::fs::read(entry.path().join("layer.json"))?)?)
            };
            let draft = entry.path().join(files::DRAFT).exists();
            if draft {
                state.drafts.insert(number);
            }
            match read() {
                Ok(record) => {
                    state.layers.insert(record.chain.clone(), Layer { number, record });
                }
                Err(_) if draft => {}
                Err(error) => {
                    tracing::warn!(layer = %entry.path().display(), %error, "layer without a record is removed");
                    files.discard(&entry.path())?;
                }
            }
        }
        for (file, record, used) in files.records::<ImageRecord>(files::IMAGES)? {
            match record.chains.iter().find(|chain| !state.layers.contains_key(chain)) {
                None => state.insert_image(record, used),
                Some(chain) => {
                    tracing::warn!(image = %record.id, layer = %chain, "image without one of its layers is forgotten");
                    files.remove_record(files::IMAGES, &file)?;
                }
            }
        }
        for (file, record, _) in files.records::<NameRecord>(files::NAMES)? {
            match state.images.contains_key(&record.image) {
                true => drop(state.names.insert(record.name, record.image)),
                false => files.remove_record(files::NAMES, &file)?,
            }
        }
        for entry in std::fs::read_dir(files.root().join(files::SNAPSHOTS))? {
            let entry = entry?;
            let read = || -> anyhow::Result<SnapshotRecord> {
                Ok(serde_json::from_slice(&std::fs::read(entry.path().join("snapshot.json"))?)?)
            };
            match (entry.file_name().to_str(), read()) {
                (Some(container), Ok(record)) => drop(state.snapshots.insert(container.to_owned(), record)),
                _ => files.discard(&entry.path())?,
            }
        }
        Ok(state)
    }

    pub fn insert_image(&mut self, record: ImageRecord, used: SystemTime) {
        self.images.insert(record.id.clone(), ImageEntry { record, used, config: None });
    }

    /// The image that `text` means: see [`super::Store::get`].
    pub fn find(&self, text: &str) -> Option<Digest> {
        if let Ok(id) = text.parse::<Digest>() {
            if self.images.contains_key(&id) {
                return Some(id);
            }
            // Clients of docker's newer image store know images by their manifests.
            return self.images.iter().find(|(_, entry)| entry.record.manifest == id).map(|(id, _)| id.clone());
        }
        if let Ok(reference) = Reference::parse(text) {
            if let Some(id) = self.names.get(&stored_name(&reference)) {
                return Some(id.clone());
            }
            if let Some(digest) = reference.digest()
                && let Some(id) = self.find_manifest(&reference.repository(), digest)
            {
                return Some(id);
            }
        }
        let hex = text.len() >= ID_PREFIX && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut found = self.images.keys().filter(|id| hex && id.hex().starts_with(text));
        match (found.next(), found.next()) {
            (Some(id), None) => Some(id.clone()),
            _ => None,
        }
    }

    /// An image of `repository` by its manifest, although it was pulled by another name.
    fn find_manifest(&self, repository: &str, digest: &Digest) -> Option<Digest> {
        self.names.iter().find_map(|(name, id)| {
            let rest = name.strip_prefix(repository)?;
            let same = rest.starts_with([':', '@']) && self.images.get(id)?.record.manifest == *digest;
            same.then(|| id.clone())
        })
    }

    /// Paths of the repositories of a registry whose images, known there by digest, have a blob.
    pub fn repositories_with(&self, domain: &str, blob: &Digest) -> Vec<String> {
        let mut found = Vec::new();
        for (name, id) in &self.names {
            let path = name.strip_prefix(domain).and_then(|rest| rest.strip_prefix('/'));
            let Some((path, _)) = path.and_then(|path| path.split_once('@')) else { continue };
            let has = self.images.get(id).is_some_and(|entry| entry.record.blobs.contains(blob));
            if has && found.last().is_none_or(|last| last != path) {
                found.push(path.to_owned());
            }
        }
        found
    }

    /// Names of an image, sorted.
    pub fn names_of(&self, id: &Digest) -> Vec<String> {
        self.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone()).collect()
    }

    /// Ids, the most recently used first.
    pub fn images_by_use(&self) -> Vec<Digest> {
        let mut ids: Vec<_> = self.images.iter().map(|(id, entry)| (entry.used, id)).collect();
        ids.sort_by(|a, b| b.cmp(a));
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Whether a snapshot or a pull needs the image.
    pub fn is_used(&self, id: &Digest) -> bool {
        self.leases.contains_key(id) || self.snapshots.values().any(|snapshot| snapshot.image == *id)
    }

    pub fn unreferenced_layers(&self) -> Vec<Digest> {
        let images = self.images.values().flat_map(|entry| &entry.record.chains);
        let snapshots = self.snapshots.values().flat_map(|snapshot| &snapshot.chains);
        let referenced: HashSet<_> = images.chain(snapshots).chain(self.leases.keys()).collect();
        self.layers.keys().filter(|chain| !referenced.contains(chain)).cloned().collect()
    }

    pub fn referenced_blobs(&self) -> HashSet<&Digest> {
        self.images.values().flat_map(|entry| &entry.record.blobs).chain(self.leases.keys()).collect()
    }

    pub fn layer_usage(&self) -> Usage {
        self.layers.values().fold(Usage::default(), |usage, layer| Usage {
            bytes: usage.bytes + layer.record.bytes,
            inodes: usage.inodes + layer.record.inodes,
        })
    }
}

/// The form in which names are kept: by digest where there is one, else by tag.
pub(super) fn stored_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest.clone()).to_string(),
        None => reference.to_string(),
    }
}

/// Blobs and chains that must not be collected while it lives.
pub(crate) struct Lease {
    state: Arc<Mutex<State>>,
    held: Mutex<Vec<Digest>>,
}

impl Lease {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        Self { state, held: Mutex::default() }
    }

    /// Holds another one. To be called before looking whether it is there.
    pub fn hold(&self, digest: &Digest) {
        *self.state.lock().expect("image store lock").leases.entry(digest.clone()).or_default() += 1;
        self.held.lock().expect("lease lock").push(digest.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.state.lock().expect("image store lock");
        for digest in self.held.get_mut().expect("lease lock").drain(..) {
            if let Some(count) = state.leases.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    state.leases.remove(&digest);
                }
            }
        }
    }
}
