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
    /// The image.
    pub image: Image,
    /// Whether docker can read it.
    pub docker: bool,
    /// Names in it.
    pub names: Vec<Reference>,
    /// How layers without compression are packed.
    pub compression: Compression,
}

/// Writes a layout; returns its manifest's digest and size in bytes. Blocks the thread.
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
    let path = |digest: &Digest| {
        wanted.store.blob(digest).with_context(|| format!("blob {digest} of image {} is gone", wanted.image.id))
    };
    let document = fs::read(path(&wanted.image.manifest)?)?;
    let manifest: ImageManifest = serde_json::from_slice(&document).context("read the manifest")?;
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        let digest: Digest = layer.digest().try_into().context("digest of a layer")?;
        let source = path(&digest)?;
        let plain = !layer.media_type().as_ref().ends_with("gzip") && !layer.media_type().as_ref().ends_with("zstd");
        let described = if plain && wanted.compression != Compression::Uncompressed {
            let (digest, size) = pack(&source, &blobs, wanted.compression)?;
            json!({"mediaType": media_type(wanted.compression), "digest": digest, "size": size})
        } else {
            copy(&source, &blobs, &digest)?;
            json!({"mediaType": layer.media_type().as_ref(), "digest": digest, "size": layer.size()})
        };
        layers.push(described);
    }
    copy(&path(&wanted.image.id)?, &blobs, &wanted.image.id)?;
    let config = fs::metadata(path(&wanted.image.id)?)?.len();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": wanted.image.id, "size": config},
        "layers": layers,
    });
    let document = serde_json::to_vec(&document)?;
    let digest = Digest::sha256(&document);
    fs::write(blobs.join(digest.hex()), &document)?;
    let entry = json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": document.len()});
    let mut entries = Vec::new();
    for name in &wanted.names {
        let mut entry = entry.clone();
        entry["annotations"] =
            json!({ANNOTATION_NAME: name.to_string(), ANNOTATION_REF_NAME: name.tag().unwrap_or_default()});
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    fs::write(directory.join(OCI_INDEX), serde_json::to_vec(&index)?)?;
    fs::write(directory.join(OCI_LAYOUT), OCI_LAYOUT_CONTENT)?;
    if wanted.docker {
        let place = |value: &serde_json::Value| {
            let hex = value["digest"].as_str().and_then(|digest| digest.split_once(':')).map(|(_, hex)| hex);
            format!("blobs/sha256/{}", hex.unwrap_or_default())
        };
        let list = [DockerImage {
            config: format!("blobs/sha256/{}", wanted.image.id.hex()),
            repo_tags: wanted.names.iter().map(Reference::familiar).collect(),
            layers: layers.iter().map(place).collect(),
        }];
        fs::write(directory.join(DOCKER_MANIFEST), serde_json::to_vec(&list)?)?;
    }
    Ok((digest, document.len()))
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
