//! One image of an OCI layout in a directory, by its digest or tag, for a machine that need not be this one.
//!
//! Specification: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.

use std::path::Path;

use anyhow::{Context, bail};
use oci::{
    Digest,
    archive::{ANNOTATION_REF_NAME, OCI_INDEX},
    index::Machine,
};
use oci_spec::image::{Descriptor, ImageIndex};

use super::{Content, blob_path};
use crate::{
    image::Image,
    manifest::MANIFEST_LIMIT,
    store::{Store, blocking},
};

/// Which image of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The manifest or index of this digest, whether or not the layout's own index names it.
    Digest(Digest),
    /// The one of this tag; the only one, where there is but one and none has the tag.
    Tag(String),
}

impl Store {
    /// Takes an image of a layout into the store, without a name. Of an index, the image for `machine`.
    ///
    /// # Errors
    /// When it is not there, or something of it is missing or has another digest.
    pub async fn load_layout(&self, directory: &Path, which: &Which, machine: &Machine) -> anyhow::Result<Image> {
        let (store, lease, shown) = (self.clone(), self.lease(), directory.display().to_string());
        let (directory, which, machine) = (directory.to_owned(), which.clone(), machine.clone());
        let work = async {
            let (found, lease) = blocking(move || {
                let mut content = Content::Directory(directory);
                let entry = entry(&content, &which)?;
                let found = content.layout_image(&entry, &machine, 0)?;
                let found = found.with_context(|| {
                    let Machine { os, architecture, .. } = &machine;
                    format!("{}: no image for {os}/{architecture} in it whose files are there", entry.digest())
                })?;
                content.publish(std::slice::from_ref(&found), &store, &lease)?;
                Ok((found, lease))
            })
            .await?;
            self.adopt(found, &lease).await
        };
        work.await.with_context(|| format!("layout {shown}"))
    }
}

/// The descriptor of what is wanted.
fn entry(content: &Content, which: &Which) -> anyhow::Result<Descriptor> {
    let tag = match which {
        Which::Digest(digest) => {
            let bytes = content.document(&blob_path(digest), MANIFEST_LIMIT)?;
            let size = bytes.with_context(|| format!("{digest} is not in it"))?.len();
            let descriptor = serde_json::json!({"mediaType": oci::media::OCI_MANIFEST, "digest": digest, "size": size});
            return Ok(serde_json::from_value(descriptor)?);
        }
        Which::Tag(tag) => tag,
    };
    let Some(bytes) = content.document(OCI_INDEX, MANIFEST_LIMIT)? else { bail!("there is no {OCI_INDEX}") };
    let index: ImageIndex = serde_json::from_slice(&bytes).context("read index.json")?;
    let is_it = |entry: &&Descriptor| {
        entry.annotations().as_ref().and_then(|all| all.get(ANNOTATION_REF_NAME)).is_some_and(|name| name == tag)
    };
    match (index.manifests().iter().find(is_it), index.manifests().as_slice()) {
        (Some(entry), _) | (None, [entry]) => Ok(entry.clone()),
        (None, all) => bail!("none of its {} images has the tag {tag:?}", all.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_digest_by_tag_or_by_being_the_only_one() {
        let directory = tempfile::tempdir().unwrap();
        let content = Content::Directory(directory.path().to_owned());
        let manifest = b"{\"schemaVersion\":2}";
        let digest = Digest::sha256(manifest);
        let path = directory.path().join(blob_path(&digest));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, manifest).unwrap();
        let named = |tag: &str, digest: &Digest| {
            serde_json::json!({"mediaType": oci::media::OCI_MANIFEST, "digest": digest, "size": manifest.len(),
                               "annotations": {ANNOTATION_REF_NAME: tag}})
        };
        let write = |entries: Vec<serde_json::Value>| {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
            std::fs::write(directory.path().join(OCI_INDEX), index.to_string()).unwrap();
        };
        let tag = |tag: &str| entry(&content, &Which::Tag(tag.into())).map(|entry| entry.digest().to_string());
        let other = Digest::sha256(b"other");
        assert!(format!("{:#}", tag("latest").unwrap_err()).contains("index.json"));
        write(vec![named("1.0", &digest)]);
        assert_eq!(tag("latest").unwrap(), digest.to_string());
        write(vec![named("1.0", &digest), named("2.0", &other)]);
        assert_eq!(tag("2.0").unwrap(), other.to_string());
        assert!(tag("latest").unwrap_err().to_string().contains("has the tag \"latest\""));
        let by_digest = entry(&content, &Which::Digest(digest.clone())).unwrap();
        assert_eq!((by_digest.digest().to_string(), by_digest.size()), (digest.to_string(), manifest.len() as u64));
        assert!(entry(&content, &Which::Digest(other)).unwrap_err().to_string().contains("is not in it"));
    }
}
