//! Contexts by name that are images: found for each platform anew, and bases with their configuration where a stage begins with one.
//!
//! ```text
//! docker-image://NAME ─ here, or pulled ──────┐
//! oci-layout://DIR ─ taken in without a name ─┴─► (name, platform) ─► image ─► files, and what FROM takes of it
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use image::{Image, Which, pull::Pull};
use oci::Reference;

use super::One;
use crate::{
    client::Client,
    dockerfile::Dockerfile,
    plan::{Plan, Platform},
    request::Error,
    tree::Tree,
};

/// Where the image of a context is.
#[derive(Clone, Debug)]
pub(super) enum Picture {
    /// Here, or in its registry.
    Named(Reference),
    /// In a layout on this machine.
    Layout(PathBuf, Which),
}

/// What contexts that are images come to for one platform.
#[derive(Default)]
pub(super) struct Found {
    /// Their files, by name.
    pub trees: BTreeMap<String, Arc<Tree>>,
    /// Them, by the names that the Dockerfile has for them.
    pub images: BTreeMap<(String, Platform), Image>,
}

/// How images are found.
pub(super) struct Ways<'a> {
    pub pull: &'a Pull,
    pub client: &'a Arc<dyn Client>,
    /// Whether registries are asked also for what is here.
    pub ask: bool,
    /// This machine's platform.
    pub own: &'a Platform,
}

impl One<'_> {
    /// Finds the images that a plan needs of these contexts.
    pub(super) async fn pictures(
        &self,
        pictures: &BTreeMap<String, Picture>,
        file: &Dockerfile,
        plan: &Plan,
        ways: &Ways<'_>,
    ) -> Result<Found, Error> {
        let mut found = Found::default();
        for (name, picture) in pictures {
            let uses = uses(name, file, plan);
            let platforms: BTreeSet<&Platform> = uses.iter().map(|(_, platform)| platform).collect();
            // One that is not used is opened too: what is wrong with it is told.
            let platforms = if platforms.is_empty() { BTreeSet::from([&plan.platform]) } else { platforms };
            let shown = name.as_str();
            for platform in platforms {
                let image = self.timed("load context ", shown, self.picture(picture, platform, ways)).await?;
                let hold = self.inner.store().hold();
                self.inner.store().hold_image(&hold, &image)?;
                let tree = Tree::layers(image.layers.clone(), image.id.to_string(), vec![Arc::new(hold)]);
                // Without layers there are no files.
                if image.layers.is_empty() {
                    let empty = vec![self.inner.empty.clone()];
                    found.trees.insert(name.clone(), Arc::new(Tree::layers(empty, image.id.to_string(), Vec::new())));
                } else {
                    found.trees.insert(name.clone(), Arc::new(tree));
                }
                let here = uses.iter().filter(|(_, wanted)| wanted == platform);
                found.images.extend(here.map(|used| (used.clone(), image.clone())));
            }
        }
        Ok(found)
    }

    async fn picture(&self, picture: &Picture, platform: &Platform, ways: &Ways<'_>) -> anyhow::Result<Image> {
        let (image, shown) = match picture {
            Picture::Named(reference) => {
                let mut pull = ways.pull.clone();
                if platform != ways.own {
                    pull.machine = Some(platform.machine());
                    pull.unnamed = true;
                }
                (self.image(reference, ways.ask, &pull, ways.client, 0).await?, reference.to_string())
            }
            Picture::Layout(directory, which) => {
                let store = self.inner.store();
                let before: BTreeSet<oci::Digest> = store.list().into_iter().map(|image| image.id).collect();
                let image = store.load_layout(directory, which, &platform.machine()).await?;
                if !before.contains(&image.id) {
                    self.taken_in().push(image.id.clone());
                }
                (image, directory.display().to_string())
            }
        };
        let architecture = image.config.architecture().to_string();
        if architecture != platform.architecture {
            anyhow::bail!("{shown} is for {architecture}, not for {platform}");
        }
        Ok(image)
    }

    /// Images that came out of layouts for this build.
    pub(super) fn taken_in(&self) -> std::sync::MutexGuard<'_, Vec<oci::Digest>> {
        self.taken_in.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Removes images that came out of layouts, but for `kept`. They are in the way of nobody, and in nobody's list.
    pub(super) async fn give_back(&self, kept: &[&oci::Digest]) -> anyhow::Result<()> {
        let taken = std::mem::take(&mut *self.taken_in());
        for id in taken.into_iter().filter(|id| !kept.contains(&id)) {
            let store = self.inner.store();
            if store.get(id.as_str()).is_some_and(|image| image.is_unnamed()) {
                store.remove(id.as_str()).await.with_context(|| format!("remove image {id} of a context"))?;
            }
        }
        Ok(())
    }
}

/// The names that a Dockerfile has for a context which is an image, with the platforms that it is wanted for. A stage of its name is one
/// of them: the context takes its place.
fn uses(name: &str, file: &Dockerfile, plan: &Plan) -> BTreeSet<(String, Platform)> {
    let images = plan.images().into_iter().filter(|(image, _)| image.eq_ignore_ascii_case(name));
    let mut uses: BTreeSet<(String, Platform)> =
        images.map(|(image, platform)| (image.to_owned(), platform.clone())).collect();
    for (at, stage) in file.stages.iter().enumerate() {
        if let Some(stage) = stage.name.as_ref().filter(|stage| *stage == name) {
            uses.insert((stage.clone(), plan.platform_of(at).clone()));
        }
    }
    uses
}
