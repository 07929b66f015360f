//! Fetching images from registries.
//!
//! ```text
//! reference ─► endpoints (mirrors, then the registry itself)          registries
//!     │  HEAD: which digest has the tag now?  here already ─► done
//!     │  GET manifest; of an index, the one for this machine
//!     │  GET configuration
//!     └► layers in parallel: verified, stored and unpacked as they arrive, resumed where a connection broke
//! ```
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>. Tokens:
//! <https://distribution.github.io/distribution/spec/auth/token/>. A client of our own, since the crate `oci-client` has
//! no mirrors and cannot resume.
//!
//! What a registry says is not trusted: documents and layers are bounded and checked against their digests, credentials
//! go to nobody but the host that they are for, a redirect from HTTPS to HTTP is refused.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use oci::{
    Digest, Reference,
    index::{self, Machine},
    media::Document,
};
use oci_spec::image::ImageIndex;

use crate::{
    image::Image,
    manifest::{Address, INDEX_DEPTH, MANIFEST_LIMIT, Manifest},
    names::Names,
    store::{Source, Store, blocking},
};

mod challenge;
pub(crate) mod connect;
pub mod credentials;
pub(crate) mod fetch;
mod proxy;
pub mod registries;
pub(crate) mod session;
mod tls;
pub mod upstream;
pub mod user;
pub mod web;

pub use credentials::{Credentials, Keyring};
pub use registries::Registries;

use fetch::Fetcher;

/// How to pull.
#[derive(Clone, Default)]
pub struct Pull {
    /// Credentials from pull secrets, tried in order before those of `registries` and before none. They are for the
    /// registry that the reference names and are not shown to its mirrors.
    pub credentials: Vec<Credentials>,
    /// Mirrors, certificates and credentials of this machine.
    pub registries: Arc<Registries>,
    /// Whose certificate authorities and proxies.
    pub trust: Trust,
    /// Addresses of registries and proxies.
    pub names: Names,
    /// Waiting and trying again.
    pub patience: Patience,
    /// Which of an index's images; that for this machine without it.
    pub machine: Option<Machine>,
    /// Whether the image takes over no name here but that of its own manifest's digest: one for another machine must not stand in for
    /// this one's.
    pub unnamed: bool,
    /// Whether this machine's own loopback and its link's own addresses are out of reach, where they are not configured: for pulls in
    /// the name of somebody who has no rights here.
    pub abroad: bool,
    /// Told about each layer as it comes.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// Where certificate authorities and proxy settings come from, other than `registries.yaml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The host's bundle and environment.
    #[default]
    Host,
    /// Nowhere.
    Configured,
}

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For a connection, its proxy and TLS included.
    pub connect: Duration,
    /// For an answer's head, and between pieces of its body.
    pub answer: Duration,
    /// Tries of one request, or of resuming one blob without getting any further.
    pub tries: u32,
    /// Who has not answered at all for this long is not tried again.
    pub silence: Duration,
    /// Before the second try; doubled for each one after it.
    pub pause: Duration,
    /// Longest pause, also where the registry asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            tries: 5,
            silence: Duration::from_secs(15),
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
        }
    }
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The blob.
    pub layer: Digest,
    /// Bytes here.
    pub done: u64,
    /// Bytes of the blob.
    pub total: u64,
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry has no such image, or none for this machine.
    #[error("{0}: not found")]
    NotFound(String),
    /// Credentials are missing, wrong or not enough.
    #[error("{0}")]
    Denied(String),
    /// The registry could not be reached or was not able to answer.
    #[error("{0}")]
    Unavailable(String),
    /// Everything else: what came is not what was promised, or this machine has no space.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// What a pull brought.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// What the reference leads to in the registry: the manifest, or the index that it is in.
    pub digest: Digest,
    /// Whether it was not here before.
    pub is_new: bool,
}

impl Store {
    /// Makes sure that the image that a registry has under `reference` is here, and returns it.
    pub async fn pull(&self, reference: &Reference, pull: &Pull) -> Result<Image, Error> {
        Ok(self.fetch(reference, pull).await?.image)
    }

    /// The same, and tells what it was.
    pub async fn fetch(&self, reference: &Reference, pull: &Pull) -> Result<Pulled, Error> {
        let fits = |image: &Image| match &pull.machine {
            None => true,
            Some(machine) => image.config.architecture().to_string() == machine.architecture,
        };
        // What has a digest cannot have changed.
        if let Some(digest) = reference.digest().filter(|_| !pull.abroad)
            && let Some(image) = self.get(&reference.to_string()).filter(fits)
        {
            return Ok(Pulled { image, digest: digest.clone(), is_new: false });
        }
        let fetcher = Fetcher::new(reference, pull).await?;
        let current = match reference.digest() {
            Some(digest) if !pull.abroad => Some(digest.clone()),
            // What is here is nobody's who may not have it from its registry.
            _ => fetcher.current_digest(reference.target()).await?,
        };
        if let Some(digest) = &current
            && let Some(image) = self.get(&reference.with_digest(digest.clone()).to_string()).filter(fits)
        {
            // What is asked for by its digest alone has no name to give.
            if !pull.unnamed && reference.without_digest().is_some() {
                self.tag(image.id.as_str(), reference).await?;
            }
            let image = self.get(image.id.as_str()).ok_or_else(|| anyhow!("image {} is gone", image.id))?;
            return Ok(Pulled { image, digest: digest.clone(), is_new: false });
        }
        let target = current.as_ref().map_or(reference.target(), Digest::as_str);
        let (digest, bytes) = fetcher.manifest(target).await?;
        let lease = self.lease();
        let machine = pull.machine.clone().unwrap_or_else(Machine::host);
        let (manifest, manifest_bytes) =
            self.choose_manifest(&fetcher, reference, digest.clone(), bytes, &machine).await?;
        lease.hold(&manifest.digest);
        lease.hold(&manifest.config.digest);
        let config = match self.blob(&manifest.config.digest) {
            Some(_) => self.files().read_blob(&manifest.config.digest)?,
            None => fetcher.document(&manifest.config).await?,
        };
        let own = manifest.digest.clone();
        let (record, plans) = manifest.plan(&config)?;
        if let Some(large) = plans.iter().find(|plan| plan.size > self.options().limits.bytes) {
            return Err(anyhow!("layer {} has {} bytes", large.blob, large.size).into());
        }
        self.ensure_layers(&plans, &Source::Registry(&fetcher), &lease).await?;
        let store = self.clone();
        blocking(move || {
            store.files().write_blob(&manifest.config.digest, &config)?;
            store.files().write_blob(&manifest.digest, &manifest_bytes)
        })
        .await?;
        let mut names = Vec::new();
        if pull.unnamed {
            names.push(reference.with_digest(own).to_string());
        } else {
            names.push(reference.with_digest(digest.clone()).to_string());
            if reference.digest().is_none() {
                names.push(reference.to_string());
            }
        }
        let is_new = self.get(record.id.as_str()).is_none();
        Ok(Pulled { image: self.commit_image(record, &names).await?, digest, is_new })
    }

    /// Follows indexes to the manifest for a machine.
    async fn choose_manifest(
        &self,
        fetcher: &Fetcher<'_>,
        reference: &Reference,
        mut digest: Digest,
        mut bytes: Vec<u8>,
        machine: &Machine,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        // Digests make a circle impossible; how deep it goes is up to the registry.
        for _ in 0..=INDEX_DEPTH {
            let document = Document::of_bytes(&bytes).with_context(|| format!("read manifest {digest}"))?;
            match document {
                Some(Document::Manifest) => return Ok((Manifest::parse(&digest, &bytes)?, bytes)),
                Some(Document::Index) => {
                    let index: ImageIndex =
                        serde_json::from_slice(&bytes).with_context(|| format!("read index {digest}"))?;
                    let Some(entry) = index::choose(index.manifests(), machine) else {
                        return Err(Error::NotFound(format!("{reference}: image for {machine}")));
                    };
                    let address = Address::of(entry)?;
                    if address.size > MANIFEST_LIMIT {
                        return Err(anyhow!("manifest {} has {} bytes", address.digest, address.size).into());
                    }
                    (digest, bytes) = fetcher.manifest(address.digest.as_str()).await?;
                    address.check_size(&bytes).with_context(|| format!("{reference}: manifest"))?;
                }
                Some(Document::Schema1) => {
                    return Err(anyhow!(
                        "{reference} has a manifest of schema 1, which is no longer supported: push it anew"
                    )
                    .into());
                }
                None => return Err(anyhow!("{reference}: {digest} is neither a manifest nor an index").into()),
            }
        }
        Err(anyhow!("{reference}: its indexes are nested deeper than {INDEX_DEPTH}").into())
    }
}
