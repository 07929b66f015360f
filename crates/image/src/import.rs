//! An image from the archive of a file system: what `docker import` does.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
};

use anyhow::{Context, bail};
use oci::{
    Digest, Reference,
    digest::{Algorithm, Hasher},
    media::Compression,
};
use tokio::io::AsyncRead;

use crate::{
    commit::Hashing,
    image::Image,
    manifest::{Address, Manifest},
    store::{Store, TemporaryFile, blocking},
};

impl Store {
    /// Makes an image whose one layer is `archive`, a tar archive, plain or compressed with gzip or zstd. `config` is the
    /// configuration as JSON; its `rootfs` is written here. Names take the image over from whichever had them.
    pub async fn import(
        &self,
        archive: impl AsyncRead + Unpin + Send + 'static,
        config: serde_json::Value,
        names: &[Reference],
    ) -> anyhow::Result<Image> {
        let lease = self.lease();
        let store = self.clone();
        let input = tokio_util::io::SyncIoBridge::new(archive);
        let (layer, compression, diff_id, lease) = blocking(move || {
            let (address, temporary) = store.staged(input).context("read archive")?;
            let (compression, diff_id) = store.plain_digest(&temporary).context("read archive")?;
            lease.hold(&address.digest);
            if store.blob(&address.digest).is_none() {
                store.files().name_blob(&address.digest, &temporary.0)?;
            }
            Ok((address, compression, diff_id, lease))
        })
        .await?;
        let made = Manifest::of_config(config, &[diff_id.to_string()], vec![(layer, compression)])?;
        self.adopt_made(made, names, &lease).await.context("import")
    }

    /// What is read, in a file that has no name yet.
    fn staged(&self, mut input: impl Read) -> anyhow::Result<(Address, TemporaryFile)> {
        let temporary = TemporaryFile(self.files().temporary());
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary.0)?;
        let mut output =
            Hashing { output: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new(Algorithm::Sha256) };
        let limit = self.options().limits.bytes;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match input.read(&mut buffer)? {
                0 => break,
                length => output.write_all(&buffer[..length])?,
            }
            if output.hasher.seen() > limit {
                bail!("it is larger than {limit} bytes");
            }
        }
        let size = output.hasher.seen();
        let digest = output.hasher.finish();
        output.output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        Ok((Address { digest, size }, temporary))
    }

    /// How a file is compressed, and the digest of what is in it.
    fn plain_digest(&self, file: &TemporaryFile) -> anyhow::Result<(Compression, Digest)> {
        let mut prefix = Vec::new();
        File::open(&file.0)?.take(Compression::PREFIX as u64).read_to_end(&mut prefix)?;
        let compression = Compression::of_content(&prefix);
        let input = BufReader::with_capacity(256 << 10, File::open(&file.0)?);
        let mut input: Box<dyn Read> = match compression {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        };
        let limit = self.options().limits.bytes;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok((compression, hasher.finish())),
                length => hasher.update(&buffer[..length]),
            }
            if hasher.seen() > limit {
                bail!("it is larger than {limit} bytes");
            }
        }
    }
}
