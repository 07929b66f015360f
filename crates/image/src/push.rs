//! Sending images to registries.
//!
//! ```text
//! image ─► content: manifest, configuration, layers (compressed here, where a build left them plain)
//!     │  each blob, several at a time:
//!     │    HEAD: there already ─► done
//!     │    POST: mounted from another repository of that registry ─► done
//!     │    PATCH, gone on with where a connection broke ─► PUT
//!     └► manifests, those of an index before the index ─► the tag leads to it
//! ```
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>. Credentials, certificates and
//! patience are those of [`crate::pull`]; mirrors are not pushed to.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Response, StatusCode, Uri, header::RANGE};
use hyper::body::Incoming;
use oci::{
    Digest, Reference,
    digest::{Algorithm, Hasher},
    media::{self, Compression},
};
use oci_spec::image::{Descriptor, ImageManifest};

use crate::{
    commit::Hashing,
    image::Image,
    manifest::{Address, INDEX_DEPTH, MANIFEST_LIMIT, Manifest},
    pull::{
        Error, Pull,
        connect::Connector,
        fetch::{named, stated_digest},
        session::{Ask, Content as Sent, Session},
    },
    store::{Lease, Store, TemporaryFile, blocking},
};

/// Blobs sent at a time, as docker does.
const PARALLEL: usize = 5;
/// Repositories of which a blob is asked to be mounted.
const MOUNTS: usize = 3;

/// How to push.
#[derive(Clone, Default)]
pub struct Push {
    /// Credentials, certificates, names and patience; its progress is not told.
    pub access: Pull,
    /// Told about each blob.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// How far a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// [`Blob::shown`].
    pub layer: Digest,
    /// What happened to it.
    pub state: State,
}

/// What happens to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It will be looked at.
    Preparing,
    /// It waits for others.
    Waiting,
    /// The repository has it.
    Exists,
    /// The registry has it in this repository, and took it from there.
    Mounted(String),
    /// On its way.
    Pushing {
        /// Bytes sent.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// Sent.
    Pushed,
}

/// A manifest or an index, and all that it refers to.
#[derive(Clone, Debug)]
pub struct Content {
    /// Of `document`.
    pub media_type: String,
    /// The document itself.
    pub document: Vec<u8>,
    /// What a manifest refers to.
    pub blobs: Vec<Blob>,
    /// What an index refers to.
    pub manifests: Vec<Content>,
}

/// A blob in a file.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where it is.
    pub file: PathBuf,
    /// What progress calls it: a layer's diff id where that is known, else its digest. None for what is not told of.
    pub shown: Option<Digest>,
    /// Other repositories of the registry that may have it.
    pub elsewhere: Vec<String>,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest or index.
    pub digest: Digest,
    /// Bytes of the manifest or index.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

impl Store {
    /// Sends an image, given by name or id, to the registry that `reference` names, and remembers the digest that it has there.
    pub async fn push(&self, image: &str, reference: &Reference, push: &Push) -> Result<Pushed, Error> {
        let Some(found) = self.get(image) else { return Err(Error::NotFound(image.to_owned())) };
        let lease = self.lease();
        lease.hold(&found.id);
        let (content, found) = self.content(&found, reference.domain(), &lease).await?;
        let pushed = send(&content, reference, push).await?;
        let digest = reference.with_digest(pushed.digest.clone());
        self.name_image(&found.id, &[digest.to_string()]).await?;
        Ok(pushed)
    }

    /// What a push of an image consists of. Layers that a build left plain are compressed, by which the image gets another
    /// manifest; one that came from a registry goes as it came.
    pub async fn pushable(&self, image: &Image, domain: &str) -> anyhow::Result<(Content, Image)> {
        self.content(image, domain, &self.lease()).await
    }

    async fn content(&self, image: &Image, domain: &str, lease: &Lease) -> anyhow::Result<(Content, Image)> {
        let bytes = self.files().read_blob(&image.manifest)?;
        let manifest = Manifest::parse(&image.manifest, &bytes)?;
        let ours = !image.digests.iter().any(|name| name.ends_with(image.manifest.as_str()));
        let mut plain = Vec::new();
        for layer in manifest.layers.iter().filter(|_| ours) {
            if self.compression(&layer.digest)? == Compression::None {
                plain.push(layer.digest.clone());
            }
        }
        if plain.is_empty() {
            return Ok((self.described(image, domain)?, image.clone()));
        }
        let compressed: Vec<(Digest, Address)> = futures::stream::iter(plain)
            .map(|layer| async move {
                let store = self.clone();
                let address = blocking(move || Ok((layer.clone(), store.compress(&layer)?))).await?;
                lease.hold(&address.1.digest);
                anyhow::Ok(address)
            })
            .buffer_unordered(self.options().parallel.max(1))
            .try_collect()
            .await?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            match compressed.iter().find(|(plain, _)| *plain == layer.digest) {
                Some((_, address)) => layers.push((address.clone(), Compression::Gzip)),
                None => layers.push((layer.clone(), self.compression(&layer.digest)?)),
            }
        }
        let (manifest, document) = Manifest::build(manifest.config, layers)?;
        let config = self.files().read_blob(&image.id)?;
        let (record, _) = manifest.plan(&config)?;
        lease.hold(&manifest.digest);
        let (store, digest) = (self.clone(), manifest.digest.clone());
        blocking(move || store.files().write_blob(&digest, &document)).await?;
        let image = self.commit_image(record, &[]).await?;
        Ok((self.described(&image, domain)?, image))
    }

    /// A layer's blob, compressed, in the store.
    fn compress(&self, layer: &Digest) -> anyhow::Result<Address> {
        let write = || -> anyhow::Result<Address> {
            let mut input = File::open(self.files().blob(layer))?;
            let temporary = TemporaryFile(self.files().temporary());
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temporary.0)?;
            let output =
                Hashing { output: BufWriter::with_capacity(256 << 10, file), hasher: Hasher::new(Algorithm::Sha256) };
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            let mut buffer = vec![0; 256 << 10];
            loop {
                match input.read(&mut buffer)? {
                    0 => break,
                    length => encoder.write_all(&buffer[..length])?,
                }
            }
            let output = encoder.finish()?;
            let size = output.hasher.seen();
            let digest = output.hasher.finish();
            output.output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
            if self.blob(&digest).is_none() {
                self.files().name_blob(&digest, &temporary.0)?;
            }
            Ok(Address { digest, size })
        };
        write().with_context(|| format!("compress layer {layer}"))
    }

    /// The content of an image as it stands in the store.
    fn described(&self, image: &Image, domain: &str) -> anyhow::Result<Content> {
        let document = self.files().read_blob(&image.manifest)?;
        let parsed: ImageManifest =
            serde_json::from_slice(&document).with_context(|| format!("read manifest {}", image.manifest))?;
        let media_type = parsed.media_type().as_ref().map_or(media::OCI_MANIFEST.to_owned(), ToString::to_string);
        let diff_ids = image.config.rootfs().diff_ids();
        let blob = |descriptor: &Descriptor, shown: Option<Digest>| -> anyhow::Result<Blob> {
            let address = Address::of(descriptor)?;
            let Some(file) = self.blob(&address.digest) else {
                bail!("blob {} of image {} is not here", address.digest, image.id);
            };
            let elsewhere = self.repositories_with(domain, &address.digest);
            Ok(Blob { digest: address.digest, size: address.size, file, shown, elsewhere })
        };
        let mut blobs = Vec::new();
        for (layer, diff_id) in parsed.layers().iter().zip(diff_ids) {
            // What must not be distributed stays where its URLs say.
            let foreign = ["foreign", "nondistributable"];
            if foreign.iter().any(|part| layer.media_type().as_ref().contains(part)) {
                continue;
            }
            blobs.push(blob(layer, Some(diff_id.parse()?))?);
        }
        blobs.push(blob(parsed.config(), None)?);
        Ok(Content { media_type, document, blobs, manifests: Vec::new() })
    }
}

/// Sends content to the registry that `reference` names: all that it refers to, then itself under the reference's tag, and
/// without one under its digest.
pub async fn send(content: &Content, reference: &Reference, push: &Push) -> Result<Pushed, Error> {
    let work = async {
        let pusher = Pusher::open(content, reference, push).await?;
        let mut blobs = Vec::new();
        collect(content, 0, &mut HashSet::new(), &mut blobs)?;
        for (number, blob) in blobs.iter().enumerate() {
            pusher.tell(blob, State::Preparing);
            if number >= PARALLEL {
                pusher.tell(blob, State::Waiting);
            }
        }
        // Made beforehand, so that the compiler sees that the whole may be sent (rust-lang/rust#100013).
        let work: Vec<_> = blobs.into_iter().map(|blob| pusher.blob(blob)).collect();
        futures::stream::iter(work).buffer_unordered(PARALLEL).try_for_each(|()| async { Ok(()) }).await?;
        pusher.documents(content, reference).await
    };
    work.await.map_err(|error| named(error, reference))
}

/// All blobs of a content, each once, in the order in which they are told of.
fn collect<'a>(
    content: &'a Content,
    depth: usize,
    known: &mut HashSet<&'a Digest>,
    blobs: &mut Vec<&'a Blob>,
) -> anyhow::Result<()> {
    if depth > INDEX_DEPTH {
        bail!("indexes are nested deeper than {INDEX_DEPTH}");
    }
    if content.document.len() as u64 > MANIFEST_LIMIT {
        bail!("a manifest has {} bytes, more than {MANIFEST_LIMIT}", content.document.len());
    }
    blobs.extend(content.blobs.iter().filter(|blob| known.insert(&blob.digest)));
    content.manifests.iter().try_for_each(|manifest| collect(manifest, depth + 1, known, blobs))
}

struct Pusher<'a> {
    session: Session,
    reference: &'a Reference,
    push: &'a Push,
}

/// Where an upload stands.
struct Upload {
    place: Uri,
    /// Bytes that the registry has.
    sent: u64,
}

impl<'a> Pusher<'a> {
    async fn open(content: &Content, reference: &'a Reference, push: &'a Push) -> Result<Self, Error> {
        // The node may pull. Whoever pushes is known by what they show.
        let registries = Arc::new(push.access.registries.without_node());
        let access = Pull { registries, ..push.access.clone() };
        let connector = Connector::new(&access)?;
        let endpoint = access.registries.home(reference);
        let mut credentials = access.credentials.clone();
        credentials.extend(endpoint.credentials.clone());
        let client = Session::client(connector.clone());
        let session = Session::open(client, connector, access.patience.clone(), endpoint, credentials).await?;
        let mut others = Vec::new();
        let mut blobs = Vec::new();
        collect(content, 0, &mut HashSet::new(), &mut blobs)?;
        for blob in blobs {
            for other in mounts(blob, reference) {
                if !others.contains(other) {
                    others.push(other.clone());
                }
            }
        }
        Ok(Self { session: session.writing(&others), reference, push })
    }

    fn tell(&self, blob: &Blob, state: State) {
        if let (Some(progress), Some(layer)) = (&self.push.progress, &blob.shown) {
            progress(Progress { layer: layer.clone(), state });
        }
    }

    async fn exists(&self, digest: &Digest) -> Result<bool, Error> {
        let ask = Ask { method: Method::HEAD, path: format!("blobs/{digest}"), ..Ask::default() };
        match self.session.ask(&ask).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn blob(&self, blob: &Blob) -> Result<(), Error> {
        if self.exists(&blob.digest).await? {
            self.tell(blob, State::Exists);
            return Ok(());
        }
        let upload = match self.begin(blob).await? {
            Begun::Mounted(from) => {
                self.tell(blob, State::Mounted(from));
                return Ok(());
            }
            Begun::Upload(upload) => upload,
        };
        self.upload(blob, upload).await?;
        self.tell(blob, State::Pushed);
        Ok(())
    }

    /// Starts an upload, or has the blob mounted.
    async fn begin(&self, blob: &Blob) -> Result<Begun, Error> {
        for from in mounts(blob, self.reference) {
            let path = format!("blobs/uploads/?mount={}&from={}", blob.digest, from.replace('/', "%2F"));
            match self.session.ask(&Ask { method: Method::POST, path, ..Ask::default() }).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(Begun::Mounted(from.clone())),
                // It is an upload now.
                Ok(answer) => return Ok(Begun::Upload(Upload { place: self.session.place(&answer)?, sent: 0 })),
                Err(error @ Error::Unavailable(_)) => return Err(error),
                Err(error) => tracing::debug!(%error, %from, "blob is not mounted"),
            }
        }
        Ok(Begun::Upload(self.start().await?))
    }

    async fn start(&self) -> Result<Upload, Error> {
        let ask = Ask { method: Method::POST, path: "blobs/uploads/".into(), ..Ask::default() };
        let answer = self.session.ask(&ask).await?;
        Ok(Upload { place: self.session.place(&answer)?, sent: 0 })
    }

    async fn upload(&self, blob: &Blob, mut upload: Upload) -> Result<(), Error> {
        let patience = self.session.patience();
        let (mut tried, mut anew) = (0, false);
        let place = loop {
            let before = upload.sent;
            let ask = Ask {
                method: Method::PATCH,
                path: format!("blobs/{}", blob.digest),
                content: self.content(blob, before),
                place: Some(upload.place.clone()),
                once: true,
                ..Ask::default()
            };
            match self.session.ask(&ask).await {
                Ok(answer) => break self.session.place(&answer)?,
                Err(error @ (Error::Unavailable(_) | Error::NotFound(_) | Error::Other(_))) => {
                    let broken = matches!(error, Error::Unavailable(_));
                    if tried >= patience.tries || (!broken && anew) || (!broken && before == 0 && tried == 0) {
                        return Err(error);
                    }
                    tracing::debug!(blob = %blob.digest, %error, "upload is gone on with");
                    tried += 1;
                    tokio::time::sleep(self.session.pause(tried, None)).await;
                    upload = match self.state(&upload.place).await {
                        Ok(state) if broken && state.sent <= blob.size => state,
                        Err(error @ Error::Unavailable(_)) if tried >= patience.tries => return Err(error),
                        Err(Error::Unavailable(_)) => continue,
                        // It does not know this upload any longer, or does not take it up where it says.
                        _ => {
                            anew = true;
                            self.start().await?
                        }
                    };
                    if upload.sent > before {
                        tried = 0;
                    }
                }
                Err(error) => return Err(error),
            }
        };
        let separator = if place.query().is_some() { '&' } else { '?' };
        let place = format!("{place}{separator}digest={}", blob.digest);
        let place: Uri = place.parse().map_err(|error| anyhow!("upload of {}: {error}", blob.digest))?;
        let ask =
            Ask { method: Method::PUT, path: format!("blobs/{}", blob.digest), place: Some(place), ..Ask::default() };
        match self.session.ask(&ask).await {
            Ok(_) => Ok(()),
            // The answer to a first try may have been lost.
            Err(error @ Error::NotFound(_)) => match self.exists(&blob.digest).await {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn content(&self, blob: &Blob, from: u64) -> Sent {
        let (progress, shown, total) = (self.push.progress.clone(), blob.shown.clone(), blob.size);
        let told = move |done| {
            if let (Some(progress), Some(layer)) = (&progress, &shown) {
                progress(Progress { layer: layer.clone(), state: State::Pushing { done, total } });
            }
        };
        Sent::Blob { file: blob.file.clone(), from, size: blob.size, told: Arc::new(told) }
    }

    /// Asks how much of an upload has arrived.
    async fn state(&self, place: &Uri) -> Result<Upload, Error> {
        let ask = Ask { path: "blobs/uploads/".into(), place: Some(place.clone()), ..Ask::default() };
        let answer = self.session.ask(&ask).await?;
        let place = self.session.place(&answer).unwrap_or_else(|_| place.clone());
        Ok(Upload { place, sent: received(&answer) })
    }

    /// Sends manifests, then what refers to them.
    async fn documents(&self, content: &Content, reference: &Reference) -> Result<Pushed, Error> {
        for manifest in &content.manifests {
            let digest = Digest::sha256(&manifest.document);
            Box::pin(self.documents(manifest, &reference.with_digest(digest))).await?;
        }
        let digest = Digest::sha256(&content.document);
        let target = match reference.tag() {
            Some(tag) => tag.to_owned(),
            None => digest.to_string(),
        };
        let ask = Ask {
            method: Method::PUT,
            path: format!("manifests/{target}"),
            content: Sent::Document(content.media_type.clone(), Bytes::from(content.document.clone())),
            ..Ask::default()
        };
        let answer = match self.session.ask(&ask).await {
            // A repository is made by the first push: what is missing is no manifest.
            Err(Error::NotFound(path)) => {
                return Err(anyhow!("{path}: the registry does not take it: not found").into());
            }
            other => other?,
        };
        if let Some(stated) = stated_digest(&answer).filter(|stated| *stated != digest) {
            return Err(anyhow!("{target}: the registry says that it has {stated}, not {digest}").into());
        }
        Ok(Pushed { digest, size: content.document.len() as u64, media_type: content.media_type.clone() })
    }
}

enum Begun {
    Mounted(String),
    Upload(Upload),
}

/// Repositories to mount a blob from.
fn mounts<'a>(blob: &'a Blob, reference: &Reference) -> impl Iterator<Item = &'a String> {
    let own = reference.path().to_owned();
    blob.elsewhere.iter().filter(move |other| **other != own).take(MOUNTS)
}

/// Bytes that an upload's `Range` says to be there: `0-99` are 100. Of `0-0` nobody knows whether it is one or none.
fn received(answer: &Response<Incoming>) -> u64 {
    let range = answer.headers().get(RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let last = range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.trim().parse::<u64>().ok());
    match last {
        None | Some(0) => 0,
        Some(last) => last.saturating_add(1),
    }
}
