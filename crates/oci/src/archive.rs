//! Documents inside image archives: the `manifest.json` of `docker save` and names in OCI layouts.
//!
//! <https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format> and
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Path of the list of images in a `docker save` archive.
pub const DOCKER_MANIFEST: &str = "manifest.json";
/// Path of the index of an OCI layout.
pub const OCI_INDEX: &str = "index.json";
/// Path of the file that marks an OCI layout.
pub const OCI_LAYOUT: &str = "oci-layout";
/// Content of [`OCI_LAYOUT`].
pub const OCI_LAYOUT_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Annotation with an image's full name, written by containerd, docker and buildkit.
pub const ANNOTATION_NAME: &str = "io.containerd.image.name";
/// Annotation with a tag, or, in some writers, a full name.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of a `docker save` archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the configuration.
    pub config: String,
    /// Names with tags. `null` where there is none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    /// Paths of the layers, lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The name that a layout's index gives an image: containerd's annotation, else the reference name where it is more
/// than a tag.
pub fn annotated_name(annotations: Option<&HashMap<String, String>>) -> Option<&str> {
    let annotations = annotations?;
    if let Some(name) = annotations.get(ANNOTATION_NAME) {
        return Some(name);
    }
    let name = annotations.get(ANNOTATION_REF_NAME)?;
    name.contains(['/', ':']).then_some(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_manifest_may_hold_nulls() {
        let images: Vec<DockerImage> =
            serde_json::from_str(r#"[{"Config":"a.json","RepoTags":null,"Layers":["b/layer.tar"],"LayerSources":{}}]"#)
                .unwrap();
        assert_eq!(images[0].repo_tags, [""; 0]);
        assert_eq!(images[0].layers, ["b/layer.tar"]);
    }

    #[test]
    fn a_bare_tag_is_no_name() {
        let annotations = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let name = |pairs: &[(&str, &str)]| annotated_name(Some(&annotations(pairs))).map(str::to_owned);
        assert_eq!(name(&[(ANNOTATION_REF_NAME, "latest")]), None);
        assert_eq!(name(&[(ANNOTATION_REF_NAME, "docker.io/library/a:1")]).as_deref(), Some("docker.io/library/a:1"));
        assert_eq!(
            name(&[(ANNOTATION_REF_NAME, "1"), (ANNOTATION_NAME, "docker.io/library/a:1")]).as_deref(),
            Some("docker.io/library/a:1")
        );
        assert_eq!(annotated_name(None), None);
    }
}
