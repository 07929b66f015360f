//! Results for several platforms: an index of images, or a directory of files for each.
//!
//! ```text
//! linux/amd64 ─ image ─┐
//! linux/arm64 ─ image ─┴─► index: pushed, or in an archive or layout        files: linux_amd64/, linux_arm64/
//! ```
//!
//! A name of this machine is one image, which runs here: of several it is the one for this machine, else the first.
//! <https://docs.docker.com/build/building/multi-platform/>

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use build::{
    request::ArchiveForm,
    tree::{Attached, Root, Tree},
};
use image::Image;
use oci::{Reference, index::Machine};
use tonic::Status;

use super::Export;
use crate::buildkit::jobs::Made;

/// What files are read from: mounts, and the directory that they are in.
#[derive(Default)]
pub(super) struct Kept {
    /// They go first.
    pub mounts: Vec<Attached>,
    pub place: Option<tempfile::TempDir>,
}

/// The image that gets the names of this machine.
pub(super) fn here(parts: &[Arc<Made>]) -> Option<&Arc<Made>> {
    let own = Machine::host();
    let runs = |made: &&Arc<Made>| {
        made.platform
            .as_ref()
            .is_some_and(|platform| platform.os == own.os && platform.architecture == own.architecture)
    };
    parts.iter().find(runs).or(parts.first())
}

impl Export<'_> {
    fn images(&self) -> anyhow::Result<Vec<Image>> {
        let found = self.parts.iter().map(|part| {
            let found = self.engine.images().get(part.id.as_str());
            found.with_context(|| format!("image {} is gone", part.id))
        });
        found.collect()
    }

    /// An index in the registries of its names; here the names are those of one image.
    pub(super) async fn index_store(&self, vertex: u32, response: &mut HashMap<String, String>) -> anyhow::Result<()> {
        let (names, images) = (self.names()?, self.images()?);
        let mut index = self.engine.builder().index(&images)?;
        let platform = self.made.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        self.give(vertex, &names, &format!(" (of {platform}, which is kept here)")).await?;
        if self.flag("push") {
            let session = self.session().await?;
            for name in &names {
                let access = self.access(&session, name).await?;
                let work = self.engine.builder().push_index(&images, name, access);
                index = self.part(vertex, &format!("pushing index for {name}"), Box::pin(work)).await?;
            }
        }
        told(&index, &names, response);
        Ok(())
    }

    /// An index in an archive or a layout, sent to the client.
    pub(super) async fn index_archive(
        &self,
        vertex: u32,
        response: &mut HashMap<String, String>,
    ) -> anyhow::Result<()> {
        if self.exporter.kind == "docker" {
            bail!(Status::unimplemented(
                "docker exporter does not currently support exporting manifest lists: type=oci does"
            ));
        }
        let (names, images) = (self.names()?, self.images()?);
        let (digest, size, sent) = self.written(vertex, &images, ArchiveForm::Oci, names.clone()).await?;
        told(&(digest.clone(), size), &names, response);
        self.send(vertex, sent, &digest, response).await
    }

    /// A directory of the files of each platform.
    pub(super) fn roots(&self) -> anyhow::Result<(Root, Kept)> {
        let place = tempfile::tempdir_in(&self.engine.settings().dir)?;
        let mut kept = Kept::default();
        for (part, image) in self.parts.iter().zip(self.images()?) {
            let name = part.platform.as_ref().map(|platform| platform.to_string().replace('/', "_"));
            let at = place.path().join(name.context("a result of no platform")?);
            std::fs::create_dir(&at)?;
            if !image.layers.is_empty() {
                kept.mounts.push(Tree::layers(image.layers, image.id.to_string(), Vec::new()).attach(&at, None)?);
            }
        }
        let root = Root::new(std::fs::File::open(place.path())?.into());
        kept.place = Some(place);
        Ok((root, kept))
    }
}

/// What clients read of an index.
fn told((digest, size): &(oci::Digest, usize), names: &[Reference], response: &mut HashMap<String, String>) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let descriptor = serde_json::json!({"mediaType": oci::media::OCI_INDEX, "digest": digest, "size": size});
    response.insert("containerimage.digest".into(), digest.to_string());
    response.insert("containerimage.descriptor".into(), STANDARD.encode(descriptor.to_string()));
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        response.insert("image.name".into(), names.join(","));
    }
}

#[cfg(test)]
mod tests {
    use build::plan::Platform;

    use super::*;

    #[test]
    fn the_image_of_this_machine_gets_the_names_else_the_first() {
        let made = |architecture: &str| {
            let platform = Platform { os: "linux".into(), architecture: architecture.into(), variant: String::new() };
            let id = oci::Digest::sha256(architecture.as_bytes());
            Arc::new(Made { id, config: Vec::new(), was_here: false, platform: Some(platform) })
        };
        let own = Machine::host().architecture;
        let chosen = |parts: &[Arc<Made>]| here(parts).map(|made| made.id.clone());
        assert_eq!(chosen(&[made("s390x"), made(&own)]), Some(made(&own).id.clone()));
        assert_eq!(chosen(&[made("s390x"), made("ppc64le")]), Some(made("s390x").id.clone()));
        assert_eq!(chosen(&[]), None);
    }
}
