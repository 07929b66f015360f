//! Media types of manifests, configurations and layers: OCI's and Docker's.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/media-types.md> and
//! <https://distribution.github.io/distribution/spec/manifest-v2-2/>.

use serde::{Deserialize, de::IgnoredAny};

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker manifest, schema 1, in its two forms: no longer served by registries, and refused here.
pub const DOCKER_SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// What a registry is asked for, best first.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a document that a name leads to is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image: configuration and layers.
    Manifest,
    /// Images of several platforms.
    Index,
    /// Docker's schema 1.
    Schema1,
}

impl Document {
    /// By media type; parameters such as `; charset=utf-8` are ignored.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        match media_type {
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Manifest),
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            _ if DOCKER_SCHEMA1.contains(&media_type) => Some(Self::Schema1),
            _ => None,
        }
    }

    /// By content, where no media type was given. A document that claims to be both is none (CVE-2021-41190).
    pub fn of_content(document: &serde_json::Value) -> Option<Self> {
        let has = |field| document.get(field).is_some_and(|value| !value.is_null());
        let stated = document.get("mediaType").and_then(|media_type| media_type.as_str());
        Self::of_shape(stated, has("manifests"), has("layers") || has("config"), has("fsLayers"))
    }

    /// The same of a document that was not read yet, without keeping anything of it.
    ///
    /// # Errors
    /// It is no JSON object, or says something twice.
    pub fn of_bytes(document: &[u8]) -> serde_json::Result<Option<Self>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            media_type: Option<String>,
            manifests: Option<IgnoredAny>,
            layers: Option<IgnoredAny>,
            config: Option<IgnoredAny>,
            fs_layers: Option<IgnoredAny>,
        }
        let Shape { media_type, manifests, layers, config, fs_layers } = serde_json::from_slice(document)?;
        let image = layers.is_some() || config.is_some();
        Ok(Self::of_shape(media_type.as_deref(), manifests.is_some(), image, fs_layers.is_some()))
    }

    fn of_shape(stated: Option<&str>, index: bool, image: bool, schema1: bool) -> Option<Self> {
        let shape = match (index, image, schema1) {
            (true, false, false) => Self::Index,
            (false, true, false) => Self::Manifest,
            (false, false, true) => return Some(Self::Schema1),
            _ => return None,
        };
        match stated.and_then(Self::of_media_type) {
            Some(stated) if stated != shape => None,
            _ => Some(shape),
        }
    }
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, possibly several members.
    Gzip,
    /// RFC 8878, possibly several frames.
    Zstd,
}

impl Compression {
    /// Bytes that [`Compression::of_content`] wants to see.
    pub const PREFIX: usize = 4;

    /// By the first bytes, which tell the truth where media types sometimes do not.
    pub fn of_content(prefix: &[u8]) -> Self {
        match prefix {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame in front, as seekable zstd writers put it.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer compressed like this.
    pub const fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip => OCI_LAYER_GZIP,
            Self::Zstd => OCI_LAYER_ZSTD,
        }
    }
}

/// Whether a descriptor with this media type is a layer of a file system.
pub fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_by_type_and_by_shape() {
        assert_eq!(
            Document::of_media_type("application/vnd.oci.image.index.v1+json; charset=utf-8"),
            Some(Document::Index)
        );
        assert_eq!(Document::of_media_type(DOCKER_SCHEMA1[1]), Some(Document::Schema1));
        assert_eq!(Document::of_media_type("text/html"), None);
        let cases = [
            (serde_json::json!({"manifests": []}), Some(Document::Index)),
            (serde_json::json!({"config": {}, "layers": []}), Some(Document::Manifest)),
            (serde_json::json!({"fsLayers": []}), Some(Document::Schema1)),
            (serde_json::json!({"config": {}, "manifests": []}), None),
            (serde_json::json!({"mediaType": OCI_INDEX, "layers": []}), None),
            (serde_json::json!({}), None),
            (serde_json::json!({"manifests": [], "layers": null, "more": [[1]]}), Some(Document::Index)),
        ];
        for (document, expected) in cases {
            assert_eq!(Document::of_content(&document), expected, "{document}");
            assert_eq!(Document::of_bytes(document.to_string().as_bytes()).unwrap(), expected, "{document}");
        }
        for wrong in ["[]", "1", "", r#"{"layers":[],"layers":[]}"#, r#"{"mediaType":1}"#, r#"{"layers":[}"#] {
            assert!(Document::of_bytes(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        assert_eq!(Compression::of_content(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
        assert_eq!(Compression::of_content(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(Compression::of_content(&[0x50, 0x2a, 0x4d, 0x18]), Compression::Zstd);
        assert_eq!(Compression::of_content(b"etc/"), Compression::None);
        assert_eq!(Compression::of_content(&[]), Compression::None);
    }
}
