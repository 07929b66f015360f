//! Where tests work: a store in a directory that goes away with it, and images to put into it.

use std::{path::PathBuf, sync::Arc};

use image::{Options, Store, Unpacker, unpack::Limits};
use oci::Digest;

use crate::archive::Tar;

/// Marks a start of this executable that is to unpack.
pub const CHILD: &str = "unpack-a-layer";

/// Whether this runs as root; in CI it has to.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "in CI these tests need root");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// This executable as an unpacker.
pub fn child() -> Unpacker {
    let arguments = ["--exact", "unpack_child", "--test-threads=1", "--nocapture", CHILD];
    Unpacker::Child {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.iter().map(|&argument| argument.into()).collect(),
    }
}

pub fn options(unpacker: Unpacker) -> Options {
    Options { unpacker, limits: Limits { ratio_floor: 64 << 20, ..Limits::default() }, parallel: 3, twin: None }
}

/// A directory for one test.
#[derive(Clone)]
pub struct Place(pub Arc<tempfile::TempDir>);

impl Place {
    pub fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.path("store"), options(child())).await.unwrap()
    }
}

/// How an archive is stored.
pub type Pack = fn(&[u8]) -> Vec<u8>;

/// An image in pieces.
pub struct Sample {
    pub config: Vec<u8>,
    /// Compressed as given.
    pub layers: Vec<Vec<u8>>,
}

impl Sample {
    /// From archives and what is done to them before they are stored.
    pub fn new(layers: &[(Vec<u8>, Pack)]) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|(archive, _)| Digest::sha256(archive)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"], "Entrypoint": null, "Volumes": null},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "test", "empty_layer": false}],
        });
        Self {
            config: serde_json::to_vec(&config).unwrap(),
            layers: layers.iter().map(|(archive, pack)| pack(archive)).collect(),
        }
    }

    pub fn id(&self) -> Digest {
        Digest::sha256(&self.config)
    }

    pub fn manifest(&self) -> Vec<u8> {
        let describe = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": oci::media::OCI_MANIFEST,
            "config": describe(oci::media::OCI_CONFIG, &self.config),
            "layers": self.layers.iter().map(|layer| describe(oci::media::OCI_LAYER_GZIP, layer)).collect::<Vec<_>>(),
        });
        serde_json::to_vec(&manifest).unwrap()
    }

    /// As old `docker save` writes it.
    pub fn docker_archive(&self, names: &[&str]) -> Tar {
        let config = format!("{}.json", self.id().hex());
        let mut tar = Tar::new().entry(header(&config), &self.config);
        let mut paths = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let path = format!("{number}/layer.tar");
            tar = tar.directory(&format!("{number}/")).entry(header(&path), layer);
            paths.push(path);
        }
        let manifest = serde_json::json!([{"Config": config, "RepoTags": names, "Layers": paths}]);
        tar.entry(header("manifest.json"), &serde_json::to_vec(&manifest).unwrap())
    }

    /// An OCI layout with the given entries of its index.
    pub fn layout(&self, entries: &[serde_json::Value]) -> Tar {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        let mut tar = Tar::new()
            .file("oci-layout", oci::archive::OCI_LAYOUT_CONTENT)
            .entry(header("index.json"), &serde_json::to_vec(&index).unwrap());
        let manifest = self.manifest();
        for blob in self.layers.iter().chain([&self.config, &manifest]) {
            tar = tar.entry(header(&format!("blobs/sha256/{}", Digest::sha256(blob).hex())), blob);
        }
        tar
    }

    /// An entry for [`Sample::layout`].
    pub fn entry(&self, annotations: &[(&str, &str)]) -> serde_json::Value {
        let manifest = self.manifest();
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        serde_json::json!({
            "mediaType": oci::media::OCI_MANIFEST, "digest": Digest::sha256(&manifest), "size": manifest.len(),
            "annotations": annotations,
        })
    }
}

fn header(path: &str) -> crate::archive::Header<'_> {
    crate::archive::Header { path, ..Default::default() }
}

/// No compression.
pub fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
