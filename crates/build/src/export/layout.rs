//! An image as an OCI layout, with docker's list beside it where that is wanted; in a directory or in an archive.
//!
//! Specification: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use image::{
    Image, Store,
    commit::{TreeOptions, write_tree},
};
use oci::{
    Digest, Reference,
    archive::{
        ANNOTATION_NAME, ANNOTATION_REF_NAME, DOCKER_MANIFEST, DockerImage, OCI_INDEX, OCI_LAYOUT, OCI_LAYOUT_CONTENT,
    },
    digest::{Algorithm, Hasher},
    media,
};
use oci_spec::image::ImageManifest;
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::media_type;
use crate::request::{Compression, Sink};

/// What is written.
pub struct Wanted {
    /// Where its blobs are.
    pub store: Store,
    /// The image; several are for a platform each, and have an index.
    pub images: Vec<Image>,
    /// Whether docker can read it, which holds one image alone.
    pub docker: bool,
    /// Names in it.
    pub names: Vec<Reference>,
    /// How layers without compression are packed.
    pub compression: Compression,
}

/// Writes a layout; returns digest and size in bytes of its manifest, or of its index. Blocks the thread.
pub fn write(wanted: &Wanted, to: &Sink, scratch: &Path) -> anyhow::Result<(Digest, usize)> {
    match to {
        Sink::Directory(path) => fill(wanted, path),
        Sink::File(path) => {
            let directory = tempfile::Builder::new().prefix("layout-").tempdir_in(scratch)?;
            let manifest = fill(wanted, directory.path())?;
            let opened = rustix::fs::open(
                directory.path(),
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
            // The same image gives the same archive.
            let options = TreeOptions { overlay: false, newest: Some(0) };
            write_tree(opened, &options, BufWriter::with_capacity(256 << 10, file))?;
            Ok(manifest)
        }
    }
}

fn fill(wanted: &Wanted, directory: &Path) -> anyhow::Result<(Digest, usize)> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    let mut list = Vec::new();
    let mut described = Vec::new();
    for image in &wanted.images {
        let (entry, layers) = one(wanted, image, &blobs)?;
        if wanted.docker {
            list.push(DockerImage {
                config: format!("blobs/sha256/{}", image.id.hex()),
                repo_tags: wanted.names.iter().map(Reference::familiar).collect(),
                layers,
            });
        }
        described.push(entry);
    }
    let entry = match described.as_mut_slice() {
        [entry] => entry.take(),
        _ => {
            let document = index(described.clone())?;
            let digest = Digest::sha256(&document);
            fs::write(blobs.join(digest.hex()), &document)?;
            json!({"mediaType": media::OCI_INDEX, "digest": digest, "size": document.len()})
        }
    };
    let mut entries = Vec::new();
    for name in &wanted.names {
        let mut entry = entry.clone();
        entry["annotations"] =
            json!({ANNOTATION_NAME: name.to_string(), ANNOTATION_REF_NAME: name.tag().unwrap_or_default()});
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(entry.clone());
    }
    fs::write(directory.join(OCI_INDEX), index(entries)?)?;
    fs::write(directory.join(OCI_LAYOUT), OCI_LAYOUT_CONTENT)?;
    if wanted.docker {
        fs::write(directory.join(DOCKER_MANIFEST), serde_json::to_vec(&list)?)?;
    }
    let digest: Digest = serde_json::from_value(entry["digest"].clone())?;
    let size = entry["size"].as_u64().and_then(|size| usize::try_from(size).ok()).context("an image without a size")?;
    Ok((digest, size))
}

/// The document of an index.
pub fn index(entries: Vec<serde_json::Value>) -> anyhow::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries}))?)
}

/// What an index says of an image: where it runs.
pub fn platform(image: &Image) -> serde_json::Value {
    let mut platform = json!({
        "os": image.config.os().to_string(), "architecture": image.config.architecture().to_string(),
    });
    if let Some(variant) = image.config.variant().as_ref().filter(|variant| !variant.is_empty()) {
        platform["variant"] = variant.as_str().into();
    }
    platform
}

/// Writes the blobs of an image; returns its manifest's descriptor and the paths of its layers.
fn one(wanted: &Wanted, image: &Image, blobs: &Path) -> anyhow::Result<(serde_json::Value, Vec<String>)> {
    let path = |digest: &Digest| {
        wanted.store.blob(digest).with_context(|| format!("blob {digest} of image {} is gone", image.id))
    };
    let document = fs::read(path(&image.manifest)?)?;
    let manifest: ImageManifest = serde_json::from_slice(&document).context("read the manifest")?;
    let (mut layers, mut places) = (Vec::new(), Vec::new());
    for layer in manifest.layers() {
        let digest: Digest = layer.digest().try_into().context("digest of a layer")?;
        let source = path(&digest)?;
        let plain = !layer.media_type().as_ref().ends_with("gzip") && !layer.media_type().as_ref().ends_with("zstd");
        let (media_type, digest, size) = if plain && wanted.compression != Compression::Uncompressed {
            let (digest, size) = pack(&source, blobs, wanted.compression)?;
            (media_type(wanted.compression), digest, size)
        } else {
            copy(&source, blobs, &digest)?;
            (layer.media_type().as_ref(), digest, layer.size())
        };
        places.push(format!("blobs/sha256/{}", digest.hex()));
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
    }
    copy(&path(&image.id)?, blobs, &image.id)?;
    let config = fs::metadata(path(&image.id)?)?.len();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": image.id, "size": config},
        "layers": layers,
    });
    let document = serde_json::to_vec(&document)?;
    let digest = Digest::sha256(&document);
    fs::write(blobs.join(digest.hex()), &document)?;
    let mut entry = json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": document.len()});
    if wanted.images.len() > 1 {
        entry["platform"] = platform(image);
    }
    Ok((entry, places))
}

/// Links or copies a blob.
fn copy(source: &Path, blobs: &Path, digest: &Digest) -> anyhow::Result<()> {
    if digest.algorithm() != Algorithm::Sha256 {
        bail!("blob {digest}: layouts are written with sha256 alone");
    }
    let to = blobs.join(digest.hex());
    if to.exists() {
        return Ok(());
    }
    // A layout that somebody else may write to must not share files with the store.
    fs::copy(source, &to).with_context(|| format!("copy blob {digest}")).map(drop)
}

/// Compresses a blob into `blobs`; returns the digest and size of what comes out.
pub fn pack(source: &Path, blobs: &Path, compression: Compression) -> anyhow::Result<(Digest, u64)> {
    let mut input = BufReader::with_capacity(256 << 10, File::open(source)?);
    let temporary = tempfile::NamedTempFile::new_in(blobs)?;
    let hashing = Hashing { file: temporary.reopen()?, hasher: Hasher::new(Algorithm::Sha256) };
    let hashing = match compression {
        Compression::Uncompressed => bail!("nothing to compress"),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(hashing, flate2::Compression::default());
            pump(&mut input, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(hashing, 0)?;
            pump(&mut input, &mut encoder)?;
            encoder.finish()?
        }
    };
    let size = hashing.hasher.seen();
    let digest = hashing.hasher.finish();
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    temporary.persist(blobs.join(digest.hex()))?;
    Ok((digest, size))
}

fn pump(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    io::copy(input, output).map(drop)
}

struct Hashing {
    file: File,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
