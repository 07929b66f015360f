//! Blobs from and to a client: containerd's content service over a session, which is how caches and layouts in the client's own
//! directories are read and written.
//!
//! ```text
//! directory of ours ── Write: reference, digest, pieces, commit ──▶ client's store      blob by blob; what it has is skipped
//!                   ◀── Read: digest ── pieces ── manifest ─▶ configuration, layers     each checked as it comes
//! ```
//!
//! Which of the client's stores is meant says a header: `local:DIRECTORY` for a cache, `export` for a result.
//!
//! <https://github.com/containerd/containerd/blob/main/api/services/content/v1/content.proto>,
//! <https://github.com/moby/buildkit/tree/v0.34.0/session/content>

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use oci::{
    Digest,
    archive::{OCI_LAYOUT, OCI_LAYOUT_CONTENT},
    digest::{Algorithm, Hasher},
    index::{self, Machine},
    media::Document,
};
use oci_spec::image::ImageIndex;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tonic::{Code, metadata::MetadataMap};

use super::{
    grpc::{self, Answers},
    session::{Session, ascii},
    wire::{ReadContentRequest, ReadContentResponse, WriteContentRequest, WriteContentResponse},
};

const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";
/// The header that names a store.
const STORE: &str = "buildkit-attachable-store-id";
/// What is done to a blob: a piece is added, or it is whole.
const ADD: i32 = 1;
const COMMIT: i32 = 2;
/// Bytes of a message.
const PIECE: usize = 512 << 10;
/// Largest manifest, in bytes.
const MANIFEST: u64 = 4 << 20;
/// How deep indexes may lie in indexes.
const DEPTH: usize = 4;
/// Most blobs of a manifest.
const BLOBS: usize = 10_000;
/// Largest blob, in bytes.
const BLOB: u64 = 64 << 30;

/// The client's store for results of the exporters `oci` and `docker` that make a layout.
pub const EXPORT: &str = "export";

/// A store of a client.
pub struct Store<'a> {
    session: &'a Session,
    id: String,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl<'a> Store<'a> {
    /// The store for a cache in a directory of the client.
    pub fn cache(session: &'a Session, directory: &Path) -> Self {
        Self { session, id: format!("local:{}", directory.display()) }
    }

    /// The store of a layout, by the client's own name for it.
    pub fn layout(session: &'a Session, name: &str) -> Self {
        Self { session, id: format!("oci:{name}") }
    }

    /// The store for results.
    pub fn export(session: &'a Session) -> Self {
        Self { session, id: EXPORT.to_owned() }
    }

    fn metadata(&self) -> Result<MetadataMap> {
        let mut metadata = MetadataMap::new();
        metadata.insert(STORE, ascii(&self.id).map_err(|status| anyhow!("{}", status.message()))?);
        Ok(metadata)
    }

    fn offers(&self, method: &str) -> Result<()> {
        match self.session.has(method) {
            true => Ok(()),
            false => bail!("the client offers no store {}", self.id),
        }
    }

    /// Sends all blobs of a layout, the manifest last.
    pub async fn send(&self, layout: &Path, manifest: &Digest) -> Result<()> {
        self.offers(WRITE)?;
        let blobs = layout.join("blobs/sha256");
        let mut entries = tokio::fs::read_dir(&blobs).await.with_context(|| format!("read {}", blobs.display()))?;
        let mut digests = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            if let Ok(digest) = format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>()
                && digest != *manifest
            {
                digests.push(digest);
            }
        }
        digests.sort();
        digests.push(manifest.clone());
        for digest in digests {
            let sent = self.send_blob(&digest, &blobs.join(digest.hex())).await;
            sent.with_context(|| format!("send blob {digest} to the client"))?;
        }
        Ok(())
    }

    async fn send_blob(&self, digest: &Digest, path: &Path) -> Result<()> {
        let mut file = tokio::fs::File::open(path).await?;
        let total = i64::try_from(file.metadata().await?.len())?;
        let reference = format!("madang-{}-{}", runtime::record::new_id()?, digest.hex());
        let (sender, messages) = mpsc::channel(4);
        let expected = digest.to_string();
        let message = move |action: i32, offset: i64, data: Bytes| WriteContentRequest {
            action,
            reference: reference.clone(),
            total,
            expected: expected.clone(),
            offset,
            data,
        };
        let mut answers: Answers<WriteContentResponse> =
            self.session.channel().streaming(WRITE, self.metadata()?, grpc::from_channel(messages));
        let sending = async move {
            let mut offset = 0;
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                if file.read_buf(&mut piece).await? == 0 {
                    break;
                }
                let next = offset + i64::try_from(piece.len())?;
                // Why it takes no more is in its answer.
                if sender.send(message(ADD, offset, piece.freeze())).await.is_err() {
                    return Ok(());
                }
                offset = next;
            }
            drop(sender.send(message(COMMIT, offset, Bytes::new())).await);
            anyhow::Ok(())
        };
        let answered = async {
            let mut committed = false;
            while let Some(answer) = answers.try_next().await? {
                committed |= answer.action == COMMIT;
            }
            Ok::<bool, tonic::Status>(committed)
        };
        let (sent, answered) = tokio::join!(sending, answered);
        match answered {
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => bail!("{}", status.message()),
            Ok(true) => sent,
            Ok(false) => sent.and_then(|()| bail!("it was not taken to its end")),
        }
    }

    /// Fetches a manifest and all that it names into a new layout.
    pub async fn fetch(&self, manifest: &Digest, layout: &Path) -> Result<()> {
        let blobs = self.begin(layout).await?;
        let text = self.document(manifest, &blobs).await?;
        self.fetch_named(&text, &blobs).await
    }

    /// The same of what may be an index: of that, what the images for `machines` have.
    pub async fn fetch_image(&self, digest: &Digest, machines: &[Machine], layout: &Path) -> Result<()> {
        let blobs = self.begin(layout).await?;
        let mut left = vec![(digest.clone(), 0)];
        while let Some((digest, depth)) = left.pop() {
            let text = self.document(&digest, &blobs).await?;
            let document: serde_json::Value =
                serde_json::from_slice(&text).with_context(|| format!("read {digest}"))?;
            if Document::of_content(&document) != Some(Document::Index) {
                self.fetch_named(&text, &blobs).await?;
                continue;
            }
            if depth >= DEPTH {
                bail!("{digest}: indexes lie deeper than {DEPTH} in one another");
            }
            let index: ImageIndex = serde_json::from_slice(&text).with_context(|| format!("read index {digest}"))?;
            for machine in machines {
                let Some(entry) = index::choose(index.manifests(), machine) else { continue };
                let next: Digest = entry.digest().try_into().with_context(|| format!("read index {digest}"))?;
                if !left.iter().any(|(known, _)| *known == next) && !blobs.join(next.hex()).exists() {
                    left.push((next, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Makes a layout without blobs; returns where these go.
    async fn begin(&self, layout: &Path) -> Result<PathBuf> {
        self.offers(READ)?;
        let blobs = layout.join("blobs/sha256");
        tokio::fs::create_dir_all(&blobs).await.with_context(|| format!("make {}", blobs.display()))?;
        tokio::fs::write(layout.join(OCI_LAYOUT), OCI_LAYOUT_CONTENT).await?;
        Ok(blobs)
    }

    async fn document(&self, digest: &Digest, blobs: &Path) -> Result<Vec<u8>> {
        let path = self.fetch_blob(digest, None, MANIFEST, blobs).await?;
        Ok(tokio::fs::read(&path).await?)
    }

    /// Fetches the blobs that a manifest names.
    async fn fetch_named(&self, manifest: &[u8], blobs: &Path) -> Result<()> {
        let Manifest { config, layers } = serde_json::from_slice(manifest).context("understand the manifest")?;
        if layers.len() > BLOBS {
            bail!("the manifest has {} layers", layers.len());
        }
        for Descriptor { digest, size } in std::iter::once(config).chain(layers) {
            if !blobs.join(digest.hex()).exists() {
                self.fetch_blob(&digest, Some(size), BLOB, blobs).await?;
            }
        }
        Ok(())
    }

    async fn fetch_blob(&self, digest: &Digest, size: Option<u64>, limit: u64, blobs: &Path) -> Result<PathBuf> {
        if digest.algorithm() != Algorithm::Sha256 {
            bail!("{digest}: only sha256 is read");
        }
        let path = blobs.join(digest.hex());
        let fetched = async {
            let limit = size.unwrap_or(limit).min(limit);
            let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
            let messages = futures::stream::iter([request]);
            let mut answers: Answers<ReadContentResponse> =
                self.session.channel().streaming(READ, self.metadata()?, messages);
            let mut file = tokio::fs::File::create(&path).await?;
            let mut hasher = Hasher::new(Algorithm::Sha256);
            while let Some(piece) = answers.try_next().await.map_err(|status| anyhow!("{}", status.message()))? {
                hasher.update(&piece.data);
                if hasher.seen() > limit {
                    bail!("it has more than {limit} bytes");
                }
                file.write_all(&piece.data).await?;
            }
            file.flush().await?;
            if hasher.finish() != *digest {
                bail!("its digest is another one");
            }
            Ok(())
        };
        fetched.await.with_context(|| format!("fetch blob {digest} from the client"))?;
        Ok(path)
    }
}
