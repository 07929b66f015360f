//! From a manifest and a configuration to what the store is asked for, whoever brought them.

use anyhow::{Context, bail};
use oci::{Digest, media};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};

use crate::store::{ImageRecord, LayerPlan};

/// Largest manifest or index: what registries accept at most.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest configuration.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// How deep indexes may lie in indexes.
pub(crate) const INDEX_DEPTH: usize = 4;
/// Most layers: overlayfs mounts up to 500.
const LAYER_LIMIT: usize = 500;

/// A content address with a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub digest: Digest,
    pub size: u64,
}

impl Address {
    pub fn of(descriptor: &Descriptor) -> anyhow::Result<Self> {
        let digest = descriptor.digest();
        Ok(Self { digest: digest.try_into().with_context(|| format!("digest {digest}"))?, size: descriptor.size() })
    }

    /// Whether a document is as long as was said; its digest was checked.
    pub fn check_size(&self, document: &[u8]) -> anyhow::Result<()> {
        match document.len() as u64 {
            length if length == self.size => Ok(()),
            length => bail!("{} has {length} bytes, not {} as what refers to it says", self.digest, self.size),
        }
    }
}

/// A manifest that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub digest: Digest,
    pub config: Address,
    /// Lowest first.
    pub layers: Vec<Address>,
}

impl Manifest {
    /// Reads a manifest of OCI or Docker schema 2 with this digest.
    pub fn parse(digest: &Digest, bytes: &[u8]) -> anyhow::Result<Self> {
        let manifest: ImageManifest =
            serde_json::from_slice(bytes).with_context(|| format!("read manifest {digest}"))?;
        let read = || -> anyhow::Result<Self> {
            if manifest.schema_version() != 2 {
                bail!("its schema is {}, not 2", manifest.schema_version());
            }
            let config_type = manifest.config().media_type().to_string();
            if !matches!(config_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG) {
                bail!("it holds {config_type}, not an image");
            }
            if manifest.layers().len() > LAYER_LIMIT {
                bail!("it has {} layers, more than {LAYER_LIMIT}", manifest.layers().len());
            }
            if let Some(other) = manifest.layers().iter().find(|layer| !media::is_layer(layer.media_type().as_ref())) {
                bail!("it holds {}, not a layer", other.media_type());
            }
            let config = Address::of(manifest.config())?;
            if config.size > CONFIG_LIMIT {
                bail!("its configuration has {} bytes, more than {CONFIG_LIMIT}", config.size);
            }
            let layers = manifest.layers().iter().map(Address::of).collect::<Result<_, _>>()?;
            Ok(Self { digest: digest.clone(), config, layers })
        };
        read().with_context(|| format!("manifest {digest}"))
    }

    /// A manifest for an image that came without one, the same for the same image.
    pub fn build(config: Address, layers: Vec<(Address, media::Compression)>) -> anyhow::Result<(Self, Vec<u8>)> {
        let describe = |media_type: &str, address: &Address| serde_json::json!({"mediaType": media_type, "digest": address.digest, "size": address.size});
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": describe(media::OCI_CONFIG, &config),
            "layers": layers
                .iter()
                .map(|(layer, compression)| describe(compression.layer_media_type(), layer))
                .collect::<Vec<_>>(),
        });
        let bytes = serde_json::to_vec(&document)?;
        let layers = layers.into_iter().map(|(layer, _)| layer).collect();
        Ok((Self { digest: Digest::sha256(&bytes), config, layers }, bytes))
    }

    /// A configuration with these layers as its `rootfs`, lowest first, and the manifest of both: bytes of the one, the other, its bytes.
    pub fn of_config(
        mut config: serde_json::Value,
        diff_ids: &[String],
        layers: Vec<(Address, media::Compression)>,
    ) -> anyhow::Result<(Vec<u8>, Self, Vec<u8>)> {
        let Some(fields) = config.as_object_mut() else { bail!("the configuration is no object") };
        fields.insert("rootfs".into(), serde_json::json!({ "type": "layers", "diff_ids": diff_ids }));
        let config = serde_json::to_vec(&config)?;
        let address = Address { digest: Digest::sha256(&config), size: config.len() as u64 };
        let (manifest, document) = Self::build(address, layers)?;
        Ok((config, manifest, document))
    }

    /// What to fetch and unpack, given the configuration's bytes.
    pub fn plan(&self, config: &[u8]) -> anyhow::Result<(ImageRecord, Vec<LayerPlan>)> {
        let id = &self.config.digest;
        let config: ImageConfiguration =
            serde_json::from_slice(config).with_context(|| format!("read image configuration {id}"))?;
        let os = config.os().to_string();
        if os != "linux" && !os.is_empty() {
            bail!("image {id} is for {os}, not linux");
        }
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != self.layers.len() {
            bail!("image {id} names {} layers, its manifest {}", diff_ids.len(), self.layers.len());
        }
        let diff_ids: Vec<Digest> = diff_ids
            .iter()
            .map(|diff_id| diff_id.parse().with_context(|| format!("image {id}: layer {diff_id}")))
            .collect::<Result<_, _>>()?;
        let chains = Digest::chains(&diff_ids);
        let plans = self.layers.iter().zip(&diff_ids).enumerate().map(|(at, (layer, diff_id))| LayerPlan {
            blob: layer.digest.clone(),
            size: layer.size,
            diff_id: diff_id.clone(),
            parents: chains[..at].to_vec(),
            chain: chains[at].clone(),
        });
        let mut blobs = vec![self.digest.clone(), id.clone()];
        blobs.extend(self.layers.iter().map(|layer| layer.digest.clone()));
        let record = ImageRecord { id: id.clone(), manifest: self.digest.clone(), blobs, chains: chains.clone() };
        Ok((record, plans.collect()))
    }
}
