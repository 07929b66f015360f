//! Reading images from archives and directories.
//!
//! ```text
//! archive ─(gzip, zstd)─► entries ──► blobs under temporary names, hashed   ┐
//! directory ──────────────────────► files                                   ┴► index.json, manifest.json ─► images
//! ```
//!
//! Two formats, and archives that are both at once: `docker save`'s with `manifest.json`, and OCI layouts with
//! `index.json`. Only after the documents were read is it known what the other files are, so an archive is read once,
//! each file hashed on its way to the disk; what no image wants is dropped.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use oci::{
    Digest, Reference,
    archive::{self, DockerImage},
    digest::{Algorithm, Hasher},
    index::{self, Machine},
    media::{Compression, Document},
};
use oci_spec::image::{Descriptor, ImageIndex};
use tokio::io::AsyncRead;

use crate::{
    image::Image,
    manifest::{Address, CONFIG_LIMIT, INDEX_DEPTH, MANIFEST_LIMIT, Manifest},
    store::{Lease, Source, Store, TemporaryFile, blocking},
    tar::{Archive, Kind},
};

mod layout;

pub use layout::Which;

/// Most files in an archive.
const FILES: usize = 20_000;

impl Store {
    /// Reads an archive (`docker save`, OCI layout, or both in one; plain, gzip or zstd) and returns its images.
    pub async fn load(&self, archive: impl AsyncRead + Unpin + Send + 'static) -> anyhow::Result<Vec<Image>> {
        let archive = tokio_util::io::SyncIoBridge::new(archive);
        self.load_from(move |store| Content::read_archive(archive, store)).await
    }

    /// Reads an archive file, or an OCI layout in a directory.
    pub async fn load_path(&self, path: &Path) -> anyhow::Result<Vec<Image>> {
        let path = path.to_owned();
        let shown = path.display().to_string();
        let load = self.load_from(move |store| match path.is_dir() {
            true => Ok(Content::Directory(path)),
            false => Content::read_archive(File::open(path)?, store),
        });
        load.await.with_context(|| format!("load {shown}"))
    }

    async fn load_from(
        &self,
        open: impl FnOnce(&Store) -> anyhow::Result<Content> + Send + 'static,
    ) -> anyhow::Result<Vec<Image>> {
        let store = self.clone();
        let lease = self.lease();
        let (found, lease) = blocking(move || {
            let mut content = open(&store)?;
            let found = content.images()?;
            if found.is_empty() {
                bail!("no images in it: neither manifest.json nor index.json names one for this machine");
            }
            content.publish(&found, &store, &lease)?;
            Ok((found, lease))
        })
        .await?;
        let mut images: Vec<Image> = Vec::new();
        for found in found {
            let image = self.adopt(found, &lease).await?;
            images.retain(|other| other.id != image.id);
            images.push(image);
        }
        Ok(images)
    }

    /// Unpacks an image whose blobs are all here, and makes it known.
    async fn adopt(&self, found: Found, lease: &Lease) -> anyhow::Result<Image> {
        let config = found.config.clone();
        let (record, plans) = found.manifest.plan(&config)?;
        let named = || found.names.first().cloned().unwrap_or_else(|| record.id.to_string());
        self.ensure_layers(&plans, &Source::Stored, lease).await.with_context(|| format!("load image {}", named()))?;
        self.commit_image(record, &found.names).await
    }
}

/// An image of an archive.
struct Found {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    config: Vec<u8>,
    /// Where its configuration and layers are in the archive.
    paths: Vec<(String, Address)>,
    names: Vec<String>,
}

/// A file of an archive, already on the disk.
struct Staged {
    file: TemporaryFile,
    address: Address,
    prefix: [u8; Compression::PREFIX],
}

/// Where the files are.
enum Content {
    Archive { files: HashMap<String, Staged>, links: HashMap<String, String> },
    Directory(PathBuf),
}

impl Content {
    fn read_archive(input: impl Read, store: &Store) -> anyhow::Result<Self> {
        let mut input = BufReader::with_capacity(256 << 10, input);
        let compression = Compression::of_content(io::BufRead::fill_buf(&mut input).context("read archive")?);
        let input: Box<dyn Read> = match compression {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        };
        let mut archive = Archive::new(BufReader::with_capacity(256 << 10, input), store.options().limits.header);
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        while let Some(entry) = archive.next_entry().context("read archive")? {
            if files.len() + links.len() >= FILES {
                bail!("read archive: more than {FILES} files");
            }
            let Some(path) = normal(&String::from_utf8_lossy(&entry.path), "") else { continue };
            match entry.kind {
                Kind::File if entry.pieces.is_none() => {
                    let staged = Staged::read(&mut archive, entry.size, store)?;
                    files.insert(path, staged);
                }
                // Old `docker save` writes a layer that occurs twice as a link to itself.
                Kind::Symlink => {
                    let base = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                    if let Some(target) = normal(&String::from_utf8_lossy(&entry.link), base) {
                        links.insert(path, target);
                    }
                }
                Kind::HardLink => {
                    if let Some(target) = normal(&String::from_utf8_lossy(&entry.link), "") {
                        links.insert(path, target);
                    }
                }
                _ => {}
            }
        }
        Ok(Self::Archive { files, links })
    }

    /// A whole small file; nothing where there is none.
    fn document(&self, path: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let opened = match self {
            Self::Archive { .. } => match self.staged(path) {
                Some(staged) => File::open(&staged.file.0),
                None => return Ok(None),
            },
            Self::Directory(directory) => match normal(path, "") {
                Some(path) => File::open(directory.join(path)),
                None => return Ok(None),
            },
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
        if bytes.len() as u64 > limit {
            bail!("read {path}: more than {limit} bytes");
        }
        Ok(Some(bytes))
    }

    fn staged(&self, path: &str) -> Option<&Staged> {
        let Self::Archive { files, links } = self else { return None };
        let mut path = path;
        // More steps than this are a circle.
        for _ in 0..8 {
            match links.get(path) {
                Some(target) => path = target,
                None => return files.get(path),
            }
        }
        None
    }

    fn images(&self) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        if let Some(bytes) = self.document(archive::OCI_INDEX, MANIFEST_LIMIT)? {
            let index: ImageIndex = serde_json::from_slice(&bytes).context("read index.json")?;
            for (name, entry) in chosen(&index) {
                if let Some(mut image) = self.layout_image(entry, &Machine::host(), 0)? {
                    image.names.extend(name.map(loaded_name).transpose()?);
                    found.push(image);
                }
            }
        }
        if let Some(bytes) = self.document(archive::DOCKER_MANIFEST, MANIFEST_LIMIT)? {
            let images: Vec<DockerImage> = serde_json::from_slice(&bytes).context("read manifest.json")?;
            for image in images {
                let names = image.repo_tags.iter().map(|name| loaded_name(name)).collect::<Result<Vec<_>, _>>()?;
                let Some(config) = self.document(&image.config, CONFIG_LIMIT)? else {
                    bail!("read manifest.json: {} is missing", image.config);
                };
                let id = Digest::sha256(&config);
                match found.iter_mut().find(|other: &&mut Found| other.manifest.config.digest == id) {
                    Some(same) => same.names.extend(names),
                    None => found.push(Found { names, ..self.docker_image(&image, config)? }),
                }
            }
        }
        for image in &mut found {
            image.names.sort();
            image.names.dedup();
        }
        Ok(found)
    }

    /// An image of a layout; nothing where its blobs are not all there, or where it is not an image.
    fn layout_image(&self, entry: &Descriptor, machine: &Machine, depth: usize) -> anyhow::Result<Option<Found>> {
        let address = Address::of(entry)?;
        let Some(bytes) = self.blob(&address, MANIFEST_LIMIT)? else { return Ok(None) };
        let document = Document::of_bytes(&bytes).with_context(|| format!("read manifest {}", address.digest))?;
        match document {
            Some(Document::Index) if depth == INDEX_DEPTH => {
                bail!("index {}: indexes are nested deeper than {INDEX_DEPTH}", address.digest)
            }
            Some(Document::Index) => {
                let index: ImageIndex =
                    serde_json::from_slice(&bytes).with_context(|| format!("read index {}", address.digest))?;
                match index::choose(index.manifests(), machine) {
                    Some(entry) => self.layout_image(entry, machine, depth + 1),
                    None => Ok(None),
                }
            }
            Some(Document::Manifest) => {
                let manifest = Manifest::parse(&address.digest, &bytes)?;
                let Some(config) = self.blob(&manifest.config, CONFIG_LIMIT)? else {
                    bail!("manifest {}: its configuration {} is missing", address.digest, manifest.config.digest);
                };
                let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
                let paths = blobs.map(|blob| (blob_path(&blob.digest), blob.clone())).collect();
                Ok(Some(Found { manifest, manifest_bytes: bytes, config, paths, names: Vec::new() }))
            }
            _ => bail!("{} is neither a manifest nor an index", address.digest),
        }
    }

    fn docker_image(&self, image: &DockerImage, config: Vec<u8>) -> anyhow::Result<Found> {
        let mut layers = Vec::new();
        let mut paths = Vec::new();
        for path in &image.layers {
            let Some(staged) = normal(path, "").and_then(|path| self.staged(&path)) else {
                bail!("read manifest.json: layer {path} is missing");
            };
            layers.push((staged.address.clone(), Compression::of_content(&staged.prefix)));
            paths.push((path.clone(), staged.address.clone()));
        }
        let address = Address { digest: Digest::sha256(&config), size: config.len() as u64 };
        let (manifest, manifest_bytes) = Manifest::build(address, layers)?;
        Ok(Found { manifest, manifest_bytes, config, paths, names: Vec::new() })
    }

    /// A document of a layout, checked.
    fn blob(&self, address: &Address, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(bytes) = self.document(&blob_path(&address.digest), limit)? else { return Ok(None) };
        if !address.digest.matches(&bytes) {
            bail!("blob {}: content has another digest, {}", address.digest, Digest::sha256(&bytes));
        }
        address.check_size(&bytes).context("read a layout: blob")?;
        Ok(Some(bytes))
    }

    /// Moves or copies all that the images need into the store.
    fn publish(&mut self, found: &[Found], store: &Store, lease: &Lease) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        for image in found {
            lease.hold(&image.manifest.digest);
            lease.hold(&image.manifest.config.digest);
            store.files().write_blob(&image.manifest.digest, &image.manifest_bytes)?;
            store.files().write_blob(&image.manifest.config.digest, &image.config)?;
            for (path, address) in &image.paths {
                lease.hold(&address.digest);
                if store.blob(&address.digest).is_some() || ready.iter().any(|(digest, _)| *digest == address.digest) {
                    continue;
                }
                ready.push((address.digest.clone(), self.take(path, address, store)?));
            }
        }
        // One flush for all of them, then their names.
        if !ready.is_empty() {
            store.sync().context("flush blobs")?;
        }
        for (digest, (file, _owner)) in ready {
            store.files().name_blob(&digest, &file).with_context(|| format!("store blob {digest}"))?;
        }
        Ok(())
    }

    /// A file of the archive below `tmp`, whose content was checked, and its owner where that is not `self`.
    fn take(&self, path: &str, address: &Address, store: &Store) -> anyhow::Result<(PathBuf, Option<TemporaryFile>)> {
        match self {
            Self::Archive { .. } => {
                let staged = normal(path, "").and_then(|path| self.staged(&path));
                let Some(staged) = staged else { bail!("blob {} is missing from the archive", address.digest) };
                if staged.address != *address {
                    // Another algorithm than the one that was computed on the way.
                    if address.digest.algorithm() == Algorithm::Sha256 || staged.address.size != address.size {
                        bail!(
                            "blob {}: content has {} bytes and digest {}, expected {} bytes",
                            address.digest,
                            staged.address.size,
                            staged.address.digest,
                            address.size
                        );
                    }
                    let mut hasher = Hasher::new(address.digest.algorithm());
                    copy(&mut File::open(&staged.file.0)?, |bytes| {
                        hasher.update(bytes);
                        Ok(())
                    })?;
                    let actual = hasher.finish();
                    if actual != address.digest {
                        bail!("blob {}: content has digest {actual}", address.digest);
                    }
                }
                Ok((staged.file.0.clone(), None))
            }
            Self::Directory(directory) => {
                let mut file = File::open(directory.join(path)).with_context(|| format!("open {path}"))?;
                let copied = store.files().copy_blob(&address.digest, address.size, |sink| copy(&mut file, sink))?;
                Ok((copied.0.clone(), Some(copied)))
            }
        }
    }
}

impl Staged {
    fn read(archive: &mut Archive<impl io::BufRead>, size: u64, store: &Store) -> anyhow::Result<Self> {
        if size > store.options().limits.bytes {
            bail!("read archive: a file of {size} bytes");
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut prefix = [0; Compression::PREFIX];
        let file = store.files().temporary_file(|sink| {
            loop {
                let bytes = archive.content()?;
                if bytes.is_empty() {
                    return Ok(());
                }
                let length = bytes.len();
                for (at, byte) in bytes.iter().enumerate().take(Compression::PREFIX) {
                    let at = at as u64 + hasher.seen();
                    if let Some(place) = usize::try_from(at).ok().and_then(|at| prefix.get_mut(at)) {
                        *place = *byte;
                    }
                }
                hasher.update(bytes);
                sink(bytes)?;
                archive.consume(length);
            }
        });
        let file = file.context("read archive")?;
        Ok(Self { file, prefix, address: Address { size: hasher.seen(), digest: hasher.finish() } })
    }
}

/// Entries of a layout's index that are for this machine: of those that share a name, the best.
fn chosen(index: &ImageIndex) -> Vec<(Option<&str>, &Descriptor)> {
    let machine = Machine::host();
    let mut groups: Vec<(Option<&str>, Vec<&Descriptor>)> = Vec::new();
    for entry in index.manifests() {
        let name = archive::annotated_name(entry.annotations().as_ref());
        match groups.iter_mut().find(|(other, _)| name.is_some() && *other == name) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    let groups = groups.into_iter();
    groups.filter_map(|(name, entries)| Some((name, index::choose(entries, &machine)?))).collect()
}

/// The full form of a name in an archive.
fn loaded_name(name: &str) -> anyhow::Result<String> {
    let reference = Reference::parse(name).with_context(|| format!("name {name:?} in the archive"))?;
    Ok(reference.without_digest().map_or_else(|| reference.to_string(), |tagged| tagged.to_string()))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A path without `.` and `..`, from `base`; nothing where it is empty or leads out.
fn normal(path: &str, base: &str) -> Option<String> {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Reads `input` to its end, piece by piece.
fn copy(input: &mut impl Read, mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            length => sink(&buffer[..length])?,
        }
    }
}
