//! Making an image from another one and a directory of changes: what `docker commit` and each step of a build do.
//!
//! ```text
//! changes ─ archive ─► blob, hashed on the way ─ unpack ─► layer ┐
//! base image: manifest, chain of layers ─────────────────────────┴─► manifest, configuration ─► image
//! ```
//!
//! The new layer passes the same confined unpacking as one that was pulled, so that there is one way by which layers come to be.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
};

use anyhow::Context;
use oci::{
    Digest,
    digest::{Algorithm, Hasher},
    media::Compression,
};

use crate::{
    image::Image,
    manifest::{Address, Manifest},
    store::{Lease, Source, Store, TemporaryFile, blocking},
    tar::tree,
};

/// How a directory is read.
pub type TreeOptions = tree::Options;

/// Writes all that is below a directory as an archive. Blocks the thread.
pub fn write_tree(directory: OwnedFd, options: &TreeOptions, output: impl Write) -> anyhow::Result<()> {
    tree::write(directory, options, output)?;
    Ok(())
}

/// What a new image has on top of its base.
pub struct Changes {
    /// A directory, overlayfs's upper one for example; none for a change of the configuration alone.
    pub directory: Option<OwnedFd>,
    /// How it is read.
    pub options: TreeOptions,
}

impl Store {
    /// Makes an image of `base` (none: of nothing) and changes. `config` is the configuration as JSON; its `rootfs` is written here.
    /// Names take the image over from whichever had them.
    ///
    /// The new layer's blob is not compressed: most images of a build are never sent anywhere, and who sends one compresses.
    pub async fn commit(
        &self,
        base: Option<&Image>,
        changes: Changes,
        config: serde_json::Value,
        names: &[oci::Reference],
    ) -> anyhow::Result<Image> {
        let lease = self.lease();
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        if let Some(base) = base {
            lease.hold(&base.id);
            diff_ids.clone_from(base.config.rootfs().diff_ids());
            let bytes = self.files().read_blob(&base.manifest)?;
            for layer in Manifest::parse(&base.manifest, &bytes)?.layers {
                let compression = self.compression(&layer.digest)?;
                layers.push((layer, compression));
            }
        }
        if let Some(directory) = changes.directory {
            let (store, options) = (self.clone(), changes.options);
            let archive = move || store.archive(directory, &options).context("archive the changes");
            let (layer, diff_id) = blocking(archive).await?;
            lease.hold(&layer.digest);
            layers.push((layer, Compression::None));
            diff_ids.push(diff_id.to_string());
        }
        let made = Manifest::of_config(config, &diff_ids, layers)?;
        self.adopt_made(made, names, &lease).await
    }

    /// Makes an image known whose layers' blobs are here: writes its documents, and unpacks what is not yet unpacked.
    pub(crate) async fn adopt_made(
        &self,
        (config, manifest, document): (Vec<u8>, Manifest, Vec<u8>),
        names: &[oci::Reference],
        lease: &Lease,
    ) -> anyhow::Result<Image> {
        let (record, plans) = manifest.plan(&config)?;
        lease.hold(&manifest.digest);
        lease.hold(&manifest.config.digest);
        let store = self.clone();
        blocking(move || {
            store.files().write_blob(&manifest.digest, &document)?;
            store.files().write_blob(&manifest.config.digest, &config)
        })
        .await?;
        self.ensure_layers(&plans, &Source::Stored, lease).await?;
        let names: Vec<String> =
            names.iter().filter_map(oci::Reference::without_digest).map(|name| name.to_string()).collect();
        self.commit_image(record, &names).await
    }

    /// How a blob is compressed, by its first bytes.
    pub(crate) fn compression(&self, blob: &Digest) -> anyhow::Result<Compression> {
        let mut prefix = Vec::new();
        let file = File::open(self.files().blob(blob)).with_context(|| format!("open blob {blob}"))?;
        file.take(Compression::PREFIX as u64).read_to_end(&mut prefix)?;
        Ok(Compression::of_content(&prefix))
    }

    /// Writes a directory as a blob; returns the blob and the digest of the archive in it.
    pub(crate) fn archive(&self, directory: OwnedFd, options: &TreeOptions) -> anyhow::Result<(Address, Digest)> {
        let temporary = TemporaryFile(self.files().temporary());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary.0)?;
        let mut output =
            Hashing { output: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new(Algorithm::Sha256) };
        tree::write(directory, options, &mut output)?;
        let size = output.hasher.seen();
        let digest = output.hasher.finish();
        output.output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        // The same content may be here already, and then stays.
        if self.blob(&digest).is_none() {
            self.files().name_blob(&digest, &temporary.0)?;
        }
        Ok((Address { digest: digest.clone(), size }, digest))
    }
}

/// Writes on, and knows the digest and length of what passed.
pub(crate) struct Hashing<W> {
    pub output: W,
    pub hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.output.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
