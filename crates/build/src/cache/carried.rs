//! Results of steps that travel: `--cache-to` and `--cache-from`, as an image in a registry or an OCI layout in a directory.
//!
//! ```text
//! manifest ─┬─ config   records: key, key for what follows, title, time, which layer
//!           └─ layers   what the steps have written, packed
//!
//! to    steps of the build (those of its result, or all with mode=max) ─ seal ─ pack ─► sent, or written
//! from  records ─ asked where this machine's cache has nothing ─► layer fetched, unpacked, noted as if made here
//! ```
//!
//! Keys say what a step was made from and nothing of the machine, so that they mean the same on another one. The form is Madang's
//! own: keys of other builders are others. Flags: <https://docs.docker.com/build/cache/backends/>.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use image::{
    pull::{Pull, upstream},
    push::{self, Blob, Content, Push},
};
use jiff::Timestamp;
use oci::{
    Digest, Reference,
    archive::{ANNOTATION_REF_NAME, OCI_INDEX, OCI_LAYOUT, OCI_LAYOUT_CONTENT},
    digest::{Algorithm, Hasher},
    media,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{key::Key, request::CachePlace};

/// The media type of the document with the records.
const CONFIG: &str = "application/vnd.madang.buildcache.v1+json";
/// The field of an image's configuration with the results that its layers are (`type=inline`).
pub const INLINE: &str = "madang.buildcache.v1";
/// Largest manifest, in bytes.
const MANIFEST: u64 = 4 << 20;
/// Largest document with records, in bytes.
const RECORDS: u64 = 32 << 20;
/// The name of a cache in a layout where none is said.
const LATEST: &str = "latest";

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// By which it is found.
    pub key: Key,
    /// What the keys of following steps are made from.
    pub next: Key,
    /// When it was made.
    pub created: Timestamp,
    /// What made it, for people.
    pub title: String,
    /// Digest of the layer's archive, unpacked.
    pub layer: Digest,
}

/// The document.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Records {
    records: Vec<Carried>,
    /// Digests of the archives, unpacked, in the order of the manifest's layers.
    layers: Vec<Digest>,
}

/// A layer that is packed, in a file.
pub struct Packed {
    /// Of its archive, unpacked.
    pub diff_id: Digest,
    /// Of the file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// The file.
    pub file: PathBuf,
    /// Its media type.
    pub media_type: &'static str,
}

/// Writes results to a place. `directory` is for files that are under way.
pub async fn export(
    place: &CachePlace,
    records: Vec<Carried>,
    layers: &[Packed],
    pull: &Pull,
    directory: &Path,
) -> Result<Digest> {
    let config = Records { records, layers: layers.iter().map(|layer| layer.diff_id.clone()).collect() };
    let config = serde_json::to_vec(&config)?;
    let address = Digest::sha256(&config);
    let described = |layer: &Packed| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size});
    let document = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": CONFIG, "digest": address, "size": config.len()},
        "layers": layers.iter().map(described).collect::<Vec<_>>(),
    }))?;
    if document.len() as u64 > MANIFEST || config.len() as u64 > RECORDS {
        bail!("there are too many results ({}) to be carried", layers.len());
    }
    let digest = Digest::sha256(&document);
    match place {
        CachePlace::Registry { reference } => {
            let name = Reference::parse(reference).with_context(|| format!("cache {reference:?}"))?;
            let file = directory.join("records.json");
            tokio::fs::write(&file, &config).await.context("write the records")?;
            let blob = |digest: &Digest, size: u64, file: &Path| Blob {
                digest: digest.clone(),
                size,
                file: file.to_owned(),
                shown: None,
                elsewhere: Vec::new(),
            };
            let mut blobs: Vec<Blob> =
                layers.iter().map(|layer| blob(&layer.digest, layer.size, &layer.file)).collect();
            blobs.push(blob(&address, config.len() as u64, &file));
            let content =
                Content { media_type: media::OCI_MANIFEST.to_owned(), document, blobs, manifests: Vec::new() };
            push::send(&content, &name, &Push { access: pull.clone(), progress: None }).await?;
        }
        CachePlace::Local { path, tag, .. } => {
            let files: Vec<(Digest, PathBuf)> =
                layers.iter().map(|layer| (layer.digest.clone(), layer.file.clone())).collect();
            let (path, tag) = (path.clone(), tag.clone().unwrap_or_else(|| LATEST.to_owned()));
            let write = move || write_layout(&path, &tag, &files, &[config, document]);
            tokio::task::spawn_blocking(write).await??;
        }
    }
    Ok(digest)
}

/// Adds a cache to a layout; the last of the documents is the manifest.
fn write_layout(path: &Path, tag: &str, files: &[(Digest, PathBuf)], documents: &[Vec<u8>; 2]) -> Result<()> {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    let copy = |digest: &Digest, write: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<()> {
        let place = blobs.join(digest.hex());
        if place.exists() {
            return Ok(());
        }
        let temporary = blobs.join(format!(".{}", digest.hex()));
        write(&temporary).and_then(|()| fs::rename(&temporary, &place)).with_context(|| format!("write blob {digest}"))
    };
    for (digest, file) in files {
        copy(digest, &|to| fs::copy(file, to).map(drop))?;
    }
    for document in documents {
        copy(&Digest::sha256(document), &|to| fs::write(to, document))?;
    }
    let index = path.join(OCI_INDEX);
    let mut entries = match fs::read(&index) {
        Ok(bytes) => {
            serde_json::from_slice::<Value>(&bytes).ok().and_then(|mut index| match index["manifests"].take() {
                Value::Array(entries) => Some(entries),
                _ => None,
            })
        }
        Err(_) => None,
    }
    .unwrap_or_default();
    entries.retain(|entry| entry["annotations"][ANNOTATION_REF_NAME] != tag);
    entries.push(json!({
        "mediaType": media::OCI_MANIFEST, "digest": Digest::sha256(&documents[1]), "size": documents[1].len(),
        "annotations": {ANNOTATION_REF_NAME: tag},
    }));
    let text = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    fs::write(&index, serde_json::to_vec(&text)?).with_context(|| format!("write {}", index.display()))?;
    fs::write(path.join(OCI_LAYOUT), OCI_LAYOUT_CONTENT).with_context(|| format!("write {}", path.display()))
}

/// Results that somebody has written, to be asked for. Nothing but the records is fetched beforehand.
pub struct Source {
    place: CachePlace,
    pull: Pull,
    records: HashMap<Key, Carried>,
    /// Of each layer, by what it is unpacked: digest and size of the blob.
    blobs: BTreeMap<Digest, (Digest, u64)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({:?}, {} records)", self.place, self.records.len())
    }
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl Source {
    /// Reads the records of a place.
    pub async fn open(place: &CachePlace, pull: Pull) -> Result<Self> {
        let document = match place {
            CachePlace::Registry { reference } => {
                let name = Reference::parse(reference).with_context(|| format!("cache {reference:?}"))?;
                upstream::manifest(&name, &pull).await?.1
            }
            CachePlace::Local { path, tag, digest } => {
                let (path, tag, digest) = (path.clone(), tag.clone(), digest.clone());
                tokio::task::spawn_blocking(move || local_manifest(&path, tag.as_deref(), digest.as_ref())).await??
            }
        };
        let manifest: Manifest = serde_json::from_slice(&document).context("understand the manifest")?;
        let of_image = matches!(manifest.config.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG);
        if manifest.config.media_type != CONFIG && !of_image {
            bail!("it holds no results of steps, but {}", manifest.config.media_type);
        }
        if manifest.config.size > RECORDS {
            bail!("its records have {} bytes", manifest.config.size);
        }
        let mut source = Self { place: place.clone(), pull, records: HashMap::new(), blobs: BTreeMap::new() };
        let mut bytes = Vec::new();
        source.fetch(&manifest.config.digest, manifest.config.size, &mut bytes).await.context("fetch the records")?;
        let records = if of_image {
            in_image(&bytes)?
        } else {
            serde_json::from_slice(&bytes).context("understand the records")?
        };
        for (diff_id, layer) in records.layers.into_iter().zip(manifest.layers) {
            source.blobs.insert(diff_id, (layer.digest, layer.size));
        }
        let known = records.records.into_iter().filter(|record| source.blobs.contains_key(&record.layer));
        source.records = known.map(|record| (record.key.clone(), record)).collect();
        Ok(source)
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The result for a key.
    pub fn find(&self, key: &Key) -> Option<&Carried> {
        self.records.get(key)
    }

    /// Fetches the packed archive of a layer into a file.
    pub async fn layer(&self, layer: &Digest, to: &Path) -> Result<()> {
        let (digest, size) = self.blobs.get(layer).with_context(|| format!("layer {layer} is not there"))?;
        let mut file = File::create(to).with_context(|| format!("make {}", to.display()))?;
        self.fetch(digest, *size, &mut file).await.with_context(|| format!("fetch layer {digest}"))
    }

    /// Fetches a blob, and checks it.
    async fn fetch(&self, digest: &Digest, size: u64, to: &mut (dyn std::io::Write + Send)) -> Result<()> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        if digest.algorithm() != Algorithm::Sha256 {
            bail!("{digest}: only sha256 is read");
        }
        match &self.place {
            CachePlace::Registry { reference } => {
                let name = Reference::parse(reference)?;
                let (sender, mut pieces) = tokio::sync::mpsc::channel(4);
                let read = async {
                    while let Some(piece) = pieces.recv().await {
                        let piece: bytes::Bytes = piece?;
                        hasher.update(&piece);
                        if hasher.seen() > size {
                            bail!("it has more than {size} bytes");
                        }
                        to.write_all(&piece)?;
                    }
                    Ok(())
                };
                let ((), read) = tokio::join!(upstream::blob(&name, &self.pull, digest, size, sender), read);
                read?;
            }
            CachePlace::Local { path, .. } => {
                use std::io::Read as _;
                let place = path.join("blobs/sha256").join(digest.hex());
                let mut file = File::open(&place).with_context(|| format!("open {}", place.display()))?.take(size + 1);
                let mut buffer = vec![0; 256 << 10];
                loop {
                    let length = file.read(&mut buffer)?;
                    if length == 0 {
                        break;
                    }
                    hasher.update(&buffer[..length]);
                    to.write_all(&buffer[..length])?;
                    tokio::task::yield_now().await;
                }
            }
        }
        if hasher.seen() != size || hasher.finish() != *digest {
            bail!("it is damaged: its digest is another one");
        }
        Ok(())
    }
}

/// The results that an image's configuration carries.
fn in_image(config: &[u8]) -> Result<Records> {
    let mut config: Value = serde_json::from_slice(config).context("understand the image's configuration")?;
    if config[INLINE].is_null() {
        bail!("the image carries no results of steps: it was built without --cache-to type=inline");
    }
    let records = serde_json::from_value(config[INLINE].take()).context("understand the records")?;
    let layers = serde_json::from_value(config["rootfs"]["diff_ids"].take()).context("layers of the image")?;
    Ok(Records { records, layers })
}

/// The manifest of a cache in a layout: of a digest, or of a tag.
fn local_manifest(path: &Path, tag: Option<&str>, digest: Option<&Digest>) -> Result<Vec<u8>> {
    let read = |place: PathBuf| -> Result<Vec<u8>> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = File::open(&place).with_context(|| format!("open {}", place.display()))?;
        file.take(MANIFEST).read_to_end(&mut bytes).with_context(|| format!("read {}", place.display()))?;
        Ok(bytes)
    };
    let digest = match digest {
        Some(digest) => digest.clone(),
        None => {
            let index: Value = serde_json::from_slice(&read(path.join(OCI_INDEX))?).context("understand the index")?;
            let tag = tag.unwrap_or(LATEST);
            let entries = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = entries.iter().find(|entry| entry["annotations"][ANNOTATION_REF_NAME] == tag);
            let found = found.with_context(|| format!("there is no cache named {tag:?}"))?;
            serde_json::from_value(found["digest"].clone()).context("digest of the cache")?
        }
    };
    let bytes = read(path.join("blobs/sha256").join(digest.hex()))?;
    if !digest.matches(&bytes) {
        bail!("manifest {digest} is damaged");
    }
    Ok(bytes)
}

/// What a build has found or made, to be carried elsewhere: shared by its stages.
#[derive(Clone, Default)]
pub struct Trail(Arc<std::sync::Mutex<Vec<(Key, Made)>>>);

/// A result on this machine.
#[derive(Clone, Debug)]
pub struct Made {
    /// The draft.
    pub number: u64,
    /// What the keys of following steps are made from.
    pub next: Key,
    /// When it was made.
    pub created: Timestamp,
    /// What made it.
    pub title: String,
}

impl Trail {
    /// Notes a result.
    pub fn add(&self, key: &Key, made: Made) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((key.clone(), made));
    }

    /// All of it.
    pub fn all(&self) -> Vec<(Key, Made)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
