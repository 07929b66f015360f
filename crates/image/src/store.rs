//! The store: one directory, opened by one process.
//!
//! ```text
//! DIR/blobs/sha256/HEX     content, mode 0444, never changed
//!    /layers/N/fs          an unpacked layer: N is short, because mount options are bounded
//!             /layer.json  its chain id, diff id, size
//!             /draft       a builder keeps it (see [`drafts`])
//!    /images/HEX           an image by its id: manifest, blobs, chain ids
//!    /names/HEX            a name (HEX is its hash) and the image that it leads to
//!    /snapshots/ID/{upper,work,snapshot.json}
//!    /tmp, /trash          what is being made, what is being removed; emptied on opening
//! ```
//!
//! Everything is made below `tmp`, put onto the disk, and renamed to its place, in this order: blobs, layers, image,
//! name. Removing goes the other way round, by renaming into `trash`. So whatever has a name is whole, and what a crash
//! leaves is reachable from nowhere.
//!
//! Layers and blobs are counted by who refers to them: images, snapshots of containers, and pulls under way (leases).

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use oci::{Digest, Reference};
use tokio::sync::Semaphore;

use crate::{
    image::{Image, Usage},
    unpack::{Limits, Unpacker},
};

pub mod drafts;
mod files;
mod layers;
mod records;
mod snapshots;
mod state;
mod turns;

pub(crate) use files::{BlobWriter, Files, TemporaryFile, lock_directory};
pub(crate) use layers::{LayerPlan, Source};
pub(crate) use records::ImageRecord;
use records::NameRecord;
pub(crate) use state::Lease;
use state::State;
use turns::{Syncer, Turns};

/// How a store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who unpacks layers.
    pub unpacker: Unpacker,
    /// Bounds on layers.
    pub limits: Limits,
    /// Layers fetched or unpacked at a time.
    pub parallel: usize,
    /// The registry on this machine.
    pub twin: Option<Twin>,
}

/// A registry whose content is on the same file system: blobs of its images are linked instead of fetched.
#[derive(Clone, Debug)]
pub struct Twin {
    /// What it is called in image names.
    pub registry: String,
    /// The directory of its content store.
    pub content: PathBuf,
}

impl Options {
    /// The usual bounds.
    pub fn new(unpacker: Unpacker) -> Self {
        Self { unpacker, limits: Limits::default(), parallel: 4, twin: None }
    }
}

/// Images, layers and snapshots in a directory. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    options: Options,
    files: Files,
    state: Arc<Mutex<State>>,
    turns: Turns,
    syncer: Syncer,
    permits: Semaphore,
    /// Held while names and images change on disk.
    changes: tokio::sync::Mutex<()>,
    /// Locked as long as the store is open.
    _lock: File,
}

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

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.files.root()).finish()
    }
}

impl Store {
    /// Opens the store in `dir`, makes it if need be, and removes what a crash left behind.
    pub async fn open(dir: &Path, options: Options) -> anyhow::Result<Self> {
        let root = dir.to_owned();
        blocking(move || {
            let (files, lock) = Files::open(&root)?;
            let state = State::read(&files)?;
            files.empty_trash();
            Ok(Self(Arc::new(Inner {
                permits: Semaphore::new(options.parallel.max(1)),
                options,
                files,
                state: Arc::new(Mutex::new(state)),
                turns: Turns::default(),
                syncer: Syncer::default(),
                changes: tokio::sync::Mutex::default(),
                _lock: lock,
            })))
        })
        .await
        .with_context(|| format!("open image store {}", dir.display()))
    }

    /// All images, the most recently used first.
    pub fn list(&self) -> Vec<Image> {
        let ids = self.state().images_by_use();
        ids.iter().filter_map(|id| self.image(id)).collect()
    }

    /// By name (normalised), name and digest, id (`sha256:…`), or a unique prefix of an id of 12 digits or more.
    pub fn get(&self, image: &str) -> Option<Image> {
        let id = self.state().find(image)?;
        self.image(&id)
    }

    /// Gives an image another name, taking it from whichever had it.
    pub async fn tag(&self, image: &str, name: &Reference) -> anyhow::Result<()> {
        let Some(id) = self.state().find(image) else { bail!("tag {image}: no such image") };
        let Some(name) = name.without_digest() else { bail!("tag {image}: {name} has no tag") };
        let _changes = self.0.changes.lock().await;
        self.write_names(&id, &[name.to_string()]).await
    }

    /// Removes a name and, with its last tag, the image; by id, the image with all its names. What a snapshot uses stays
    /// on disk until released. Removing what is not here is no error.
    pub async fn remove(&self, image: &str) -> anyhow::Result<Removed> {
        let _changes = self.0.changes.lock().await;
        let (id, names, whole) = {
            let state = self.state();
            let Some(id) = state.find(image) else { return Ok(Removed::default()) };
            let all = state.names_of(&id);
            let named = match Reference::parse(image) {
                Ok(reference) => all.iter().find(|name| **name == state::stored_name(&reference)).cloned(),
                Err(_) => None,
            };
            match named {
                None => (id, all, true),
                Some(name) => {
                    let tags = |name: &&String| !name.contains('@');
                    let last = !all.iter().filter(tags).any(|other| *other != name);
                    if last { (id, all, true) } else { (id, vec![name], false) }
                }
            }
        };
        self.drop_image(&id, names, whole).await
    }

    /// Takes one name away from an image, which stays even if it was the last one.
    pub async fn untag(&self, name: &Reference) -> anyhow::Result<Removed> {
        let _changes = self.0.changes.lock().await;
        let name = state::stored_name(name);
        let Some(id) = self.state().names.get(&name).cloned() else { return Ok(Removed::default()) };
        self.drop_image(&id, vec![name], false).await
    }

    /// The unpacked layers of an image, lowest first: chain ids and bytes.
    pub fn layers(&self, image: &Image) -> Vec<(Digest, u64)> {
        let state = self.state();
        let chains = state.images.get(&image.id).map(|entry| entry.record.chains.clone()).unwrap_or_default();
        let bytes = |chain: &Digest| state.layers.get(chain).map_or(0, |layer| layer.record.bytes);
        chains.into_iter().map(|chain| (chain.clone(), bytes(&chain))).collect()
    }

    /// Snapshots that are of an image.
    pub fn snapshots_of(&self, image: &Digest) -> Vec<String> {
        let state = self.state();
        let mut of: Vec<_> = state.snapshots.iter().filter(|(_, snapshot)| snapshot.image == *image).collect();
        of.sort_by_key(|(container, _)| *container);
        of.into_iter().map(|(container, _)| container.clone()).collect()
    }

    /// Removes the least recently used images that no snapshot uses until at most `limit` bytes are taken, and whatever
    /// belongs to no image. Images that were used within `kept` stay.
    pub async fn collect_garbage(&self, limit: u64, kept: Duration) -> anyhow::Result<Removed> {
        let _changes = self.0.changes.lock().await;
        let mut removed = Removed { bytes: self.sweep_all().await?, ..Removed::default() };
        loop {
            if self.usage().await?.bytes <= limit {
                return Ok(removed);
            }
            let victim = {
                let state = self.state();
                let old = |id: &Digest| state.images.get(id).is_some_and(|entry| is_older(entry.used, kept));
                state.images_by_use().into_iter().rev().find(|id| !state.is_used(id) && old(id)).map(|id| {
                    let names = state.names_of(&id);
                    (id, names)
                })
            };
            let Some((id, names)) = victim else { return Ok(removed) };
            let gone = self.drop_image(&id, names, true).await?;
            removed.untagged.extend(gone.untagged);
            removed.deleted.extend(gone.deleted);
            removed.bytes += gone.bytes;
        }
    }

    /// Space that blobs and layers take.
    pub async fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = self.state().layer_usage();
        let store = self.clone();
        let blobs = blocking(move || Ok(store.0.files.blobs()?)).await?;
        usage.inodes += blobs.len() as u64;
        usage.bytes += blobs.iter().map(|(_, size)| size).sum::<u64>();
        Ok(usage)
    }

    /// Where a blob is, if it is here.
    pub fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.0.files.blob(digest);
        path.exists().then_some(path)
    }

    pub(crate) fn files(&self) -> &Files {
        &self.0.files
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// A blob of the image `reference`, which its registry has let us see, from that registry's own store.
    pub(crate) async fn link_twin(&self, reference: &Reference, digest: &Digest) -> anyhow::Result<Option<PathBuf>> {
        let Some(twin) = self.0.options.twin.as_ref().filter(|twin| twin.registry == reference.domain()) else {
            return Ok(None);
        };
        let (theirs, ours) = (crate::content::path(&twin.content, digest), self.0.files.blob(digest));
        blocking(move || Ok(crate::content::link(&theirs, &ours)?.then_some(ours))).await
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.syncer.sync(&self.0.files)
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease::new(self.0.state.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("image store lock")
    }

    /// What callers see of an image whose layers are all here.
    pub(crate) fn image(&self, id: &Digest) -> Option<Image> {
        let config = {
            let state = self.state();
            let entry = state.images.get(id)?;
            entry.config.clone()
        };
        let config = match config {
            Some(config) => config,
            None => {
                let read = self.0.files.read_blob(id).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
                let config = match read {
                    Ok(config) => Arc::new(config),
                    Err(error) => {
                        tracing::warn!(image = %id, %error, "configuration of an image cannot be read");
                        return None;
                    }
                };
                if let Some(entry) = self.state().images.get_mut(id) {
                    entry.config = Some(Arc::clone(&config));
                }
                config
            }
        };
        let state = self.state();
        let entry = state.images.get(id)?;
        let mut image = Image {
            id: id.clone(),
            manifest: entry.record.manifest.clone(),
            names: Vec::new(),
            digests: Vec::new(),
            config,
            size: 0,
            layers: Vec::new(),
        };
        for name in state.names_of(id) {
            if name.contains('@') { image.digests.push(name) } else { image.names.push(name) }
        }
        for chain in entry.record.chains.iter().rev() {
            let layer = state.layers.get(chain)?;
            image.size += layer.record.bytes;
            image.layers.push(self.0.files.layer_root(layer.number));
        }
        Some(image)
    }

    /// Gives an image further names: tags or digests.
    pub(crate) async fn name_image(&self, id: &Digest, names: &[String]) -> anyhow::Result<()> {
        let _changes = self.0.changes.lock().await;
        if !self.state().images.contains_key(id) {
            bail!("image {id} is gone");
        }
        self.write_names(id, names).await
    }

    /// Repositories of a registry that had a blob when something was pulled from them or pushed to them.
    pub(crate) fn repositories_with(&self, domain: &str, blob: &Digest) -> Vec<String> {
        self.state().repositories_with(domain, blob)
    }

    /// Makes an image known under `names`, all of it being here.
    pub(crate) async fn commit_image(&self, record: ImageRecord, names: &[String]) -> anyhow::Result<Image> {
        let _changes = self.0.changes.lock().await;
        let id = record.id.clone();
        let store = self.clone();
        let written = record.clone();
        blocking(move || store.0.files.write_record(files::IMAGES, written.id.hex(), &written)).await?;
        self.state().insert_image(record, SystemTime::now());
        self.write_names(&id, names).await?;
        self.image(&id).with_context(|| format!("image {id} is incomplete"))
    }

    async fn write_names(&self, id: &Digest, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            if self.state().names.get(name) == Some(id) {
                continue;
            }
            let record = NameRecord { name: name.clone(), image: id.clone() };
            let store = self.clone();
            blocking(move || store.0.files.write_record(files::NAMES, &record.file(), &record)).await?;
            self.state().names.insert(name.clone(), id.clone());
        }
        Ok(())
    }

    async fn drop_image(&self, id: &Digest, names: Vec<String>, whole: bool) -> anyhow::Result<Removed> {
        for name in &names {
            let file = NameRecord::file_of(name);
            let store = self.clone();
            blocking(move || store.0.files.remove_record(files::NAMES, &file)).await?;
            self.state().names.remove(name);
        }
        let mut removed = Removed { untagged: names, ..Removed::default() };
        if whole {
            let (store, file) = (self.clone(), id.hex().to_owned());
            blocking(move || store.0.files.remove_record(files::IMAGES, &file)).await?;
            let record = self.state().images.remove(id).map(|entry| entry.record);
            removed.deleted.push(id.clone());
            removed.bytes += self.sweep_layers().await?;
            removed.bytes += self.sweep_blobs(record.map(|record| record.blobs).unwrap_or_default()).await?;
        }
        Ok(removed)
    }

    /// Removes layers and blobs that nothing refers to.
    async fn sweep_all(&self) -> anyhow::Result<u64> {
        let store = self.clone();
        let blobs = blocking(move || Ok(store.0.files.blobs()?)).await?;
        let layers = self.sweep_layers().await?;
        Ok(layers + self.sweep_blobs(blobs.into_iter().map(|(digest, _)| digest).collect()).await?)
    }

    async fn sweep_layers(&self) -> anyhow::Result<u64> {
        let store = self.clone();
        blocking(move || {
            // Under the lock, so that no pull finds a layer that is about to go.
            let mut state = store.state();
            let mut bytes = 0;
            for chain in state.unreferenced_layers() {
                let Some(layer) = state.layers.get(&chain) else { continue };
                let directory = store.0.files.layer(layer.number);
                if state.drafts.contains(&layer.number) {
                    // No image has it any more; a builder still has.
                    std::fs::remove_file(directory.join(files::LAYER)).context("remove a layer's record")?;
                } else {
                    store.0.files.discard(&directory)?;
                    bytes += layer.record.bytes;
                }
                state.layers.remove(&chain);
            }
            drop(state);
            store.0.files.empty_trash();
            Ok(bytes)
        })
        .await
    }

    async fn sweep_blobs(&self, candidates: Vec<Digest>) -> anyhow::Result<u64> {
        let store = self.clone();
        blocking(move || {
            let state = store.state();
            let referenced = state.referenced_blobs();
            let mut bytes = 0;
            for digest in candidates.iter().filter(|digest| !referenced.contains(*digest)) {
                let path = store.0.files.blob(digest);
                let Ok(metadata) = path.metadata() else { continue };
                std::fs::remove_file(&path).with_context(|| format!("remove blob {digest}"))?;
                bytes += metadata.len();
            }
            Ok(bytes)
        })
        .await
    }
}

/// Runs what touches the disk away from the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => bail!("image store: {error}"),
    }
}

/// Layers by chain id.
type Layers = HashMap<Digest, state::Layer>;

/// Whether a time is longer ago than `age`; one in the future is not.
fn is_older(time: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(time).is_ok_and(|since| since >= age)
}
