//! Layers in the making: what the steps of a build write, and what they become.
//!
//! ```text
//! draft ─► layers/N/{fs,draft}, empty ─ a step writes ─► seal: archived and hashed ─► assemble: an image's layer, where it is
//! ```
//!
//! A draft is an upper directory of overlayfs, and lies where layers lie: the image that it becomes a part of uses it in place, and
//! nothing is unpacked that was just packed. The builder keeps a draft as long as its cache does, images keep it as long as they
//! refer to it; whoever is last removes it.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use oci::{Digest, media::Compression};

use super::{LayerPlan, Layers, Lease, Source, Store, blocking, files, records::LayerRecord, state::Layer};
use crate::{
    commit::TreeOptions,
    image::Image,
    manifest::{Address, Manifest},
    unpack::{self, Job, Limits, Report},
};

/// A layer in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its number, the same for the life of the store.
    pub number: u64,
    /// What is written, overlayfs's upper directory.
    pub upper: PathBuf,
    /// Overlayfs's own, on the same file system; to be removed by [`Store::end_draft`].
    pub work: PathBuf,
}

/// A draft that was archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The draft.
    pub number: u64,
    /// Digest of its archive, which is its blob too: it is not compressed.
    pub diff_id: Digest,
    /// Bytes of the archive.
    pub size: u64,
}

/// Blobs and layers that stay while it lives.
pub struct Hold(Lease);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl Store {
    /// Keeps what an operation of several calls is about.
    pub fn hold(&self) -> Hold {
        Hold(self.lease())
    }

    /// Keeps an image until `hold` goes.
    pub fn hold_image(&self, hold: &Hold, image: &Image) -> anyhow::Result<()> {
        hold.0.hold(&image.id);
        let state = self.state();
        let entry = state.images.get(&image.id).with_context(|| format!("image {} is gone", image.id))?;
        let (chains, blobs) = (entry.record.chains.clone(), entry.record.blobs.clone());
        drop(state);
        chains.iter().chain(&blobs).for_each(|digest| hold.0.hold(digest));
        Ok(())
    }

    /// Begins a layer. Its directory looks like `below`, the topmost directory under it, as overlayfs's roots do.
    pub async fn draft(&self, below: Option<&Path>) -> anyhow::Result<Draft> {
        let (store, below) = (self.clone(), below.map(Path::to_owned));
        blocking(move || {
            let number = {
                let mut state = store.state();
                state.next_layer += 1;
                let number = state.next_layer - 1;
                state.drafts.insert(number);
                number
            };
            let directory = store.0.files.layer(number);
            let draft = Draft { number, upper: directory.join("fs"), work: directory.join("work") };
            let make = || -> anyhow::Result<()> {
                std::fs::create_dir(&directory)?;
                std::fs::write(directory.join(files::DRAFT), "")?;
                std::fs::create_dir(&draft.upper)?;
                std::fs::create_dir(&draft.work)?;
                let mode = match &below {
                    Some(below) => {
                        let below = below.metadata()?;
                        chown(&draft.upper, Some(below.uid()), Some(below.gid()))?;
                        below.mode() & 0o7777
                    }
                    None => 0o755,
                };
                Ok(std::fs::set_permissions(&draft.upper, PermissionsExt::from_mode(mode))?)
            };
            match make() {
                Ok(()) => Ok(draft),
                Err(error) => {
                    store.drop_draft(number)?;
                    Err(error).context("begin a layer")
                }
            }
        })
        .await
    }

    /// A draft's overlay is not mounted any more: what overlayfs had of its own goes.
    pub async fn end_draft(&self, draft: &Draft) -> anyhow::Result<()> {
        let (store, work) = (self.clone(), draft.work.clone());
        blocking(move || {
            store.0.files.discard(&work)?;
            store.0.files.empty_trash();
            Ok(())
        })
        .await
    }

    /// The numbers of all drafts.
    pub fn drafts(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.state().drafts.iter().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// The directory of a draft; none where it is gone.
    pub fn draft_root(&self, number: u64) -> Option<PathBuf> {
        self.state().drafts.contains(&number).then(|| self.0.files.layer_root(number))
    }

    /// The builder does not want a draft any more. One that is gone is no error.
    pub async fn discard_draft(&self, number: u64) -> anyhow::Result<()> {
        let store = self.clone();
        blocking(move || {
            store.drop_draft(number)?;
            store.0.files.empty_trash();
            Ok(())
        })
        .await
    }

    fn drop_draft(&self, number: u64) -> anyhow::Result<()> {
        let mut state = self.state();
        if !state.drafts.remove(&number) {
            return Ok(());
        }
        let directory = self.0.files.layer(number);
        if is_in_use(&state.layers, number) {
            std::fs::remove_file(directory.join(files::DRAFT)).with_context(|| format!("give up draft {number}"))
        } else {
            self.0.files.discard(&directory).with_context(|| format!("remove draft {number}"))
        }
    }

    /// Puts everything written so far onto the disk.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let store = self.clone();
        blocking(move || store.sync().context("flush layers")).await
    }

    /// Unpacks an archive that is no layer into an empty directory, in a confined process. Blocks the thread.
    pub fn unpack_archive(&self, input: impl std::io::Read, directory: &Path) -> Result<Report, unpack::Error> {
        let limits = Limits { plain: true, ..self.options().limits.clone() };
        self.unpack_input(input, directory, &limits)
    }

    /// Unpacks a layer into a draft's empty upper directory, in a confined process. Blocks the thread.
    pub fn unpack_layer(&self, input: impl std::io::Read, directory: &Path) -> Result<Report, unpack::Error> {
        self.unpack_input(input, directory, &self.options().limits)
    }

    fn unpack_input(
        &self,
        mut input: impl std::io::Read,
        directory: &Path,
        limits: &Limits,
    ) -> Result<Report, unpack::Error> {
        let machine = |error: std::io::Error| unpack::Error::Machine(error.to_string());
        let mut job = Job::start(&self.options().unpacker, directory, limits).map_err(machine)?;
        let mut buffer = vec![0; 256 << 10];
        while !job.is_broken() {
            match input.read(&mut buffer).map_err(machine)? {
                0 => break,
                length => job.feed(&buffer[..length]),
            }
        }
        job.finish()
    }

    /// Archives a draft, which nobody may write to any more. Its blob stays as long as `hold`.
    pub async fn seal(&self, hold: &Hold, number: u64, options: &TreeOptions) -> anyhow::Result<Sealed> {
        let Some(root) = self.draft_root(number) else { bail!("seal draft {number}: it is gone") };
        let (store, options) = (self.clone(), options.clone());
        let (address, diff_id) = blocking(move || {
            let root = unpack::open_root(&root)?;
            store.archive(root, &options).with_context(|| format!("archive draft {number}"))
        })
        .await?;
        hold.0.hold(&address.digest);
        Ok(Sealed { number, diff_id, size: address.size })
    }

    /// Whether the blob of a draft that was sealed before is still here; from now on it stays as long as `hold`.
    pub fn is_sealed(&self, hold: &Hold, sealed: &Sealed) -> bool {
        hold.0.hold(&sealed.diff_id);
        self.blob(&sealed.diff_id).is_some()
    }

    /// Makes an image of `base` (none: of nothing) and sealed drafts over it, the lowest first. `config` is the configuration as JSON;
    /// its `rootfs` is written here. Names take the image over from whichever had them. An image that is here already is not made
    /// again.
    pub async fn assemble(
        &self,
        hold: &Hold,
        base: Option<&Image>,
        drafts: &[Sealed],
        config: serde_json::Value,
        names: &[oci::Reference],
    ) -> anyhow::Result<Image> {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        if let Some(base) = base {
            diff_ids.clone_from(base.config.rootfs().diff_ids());
            let bytes = self.files().read_blob(&base.manifest)?;
            for layer in Manifest::parse(&base.manifest, &bytes)?.layers {
                let compression = self.compression(&layer.digest)?;
                layers.push((layer, compression));
            }
        }
        let below = layers.len();
        for sealed in drafts {
            layers.push((Address { digest: sealed.diff_id.clone(), size: sealed.size }, Compression::None));
            diff_ids.push(sealed.diff_id.to_string());
        }
        let (config, manifest, document) = Manifest::of_config(config, &diff_ids, layers)?;
        let (record, plans) = manifest.plan(&config)?;
        let names: Vec<String> =
            names.iter().filter_map(oci::Reference::without_digest).map(|name| name.to_string()).collect();
        hold.0.hold(&manifest.config.digest);
        if let Some(image) = self.image(&record.id).filter(|image| image.manifest == manifest.digest) {
            let _changes = self.0.changes.lock().await;
            self.write_names(&image.id, &names).await?;
            return self.image(&image.id).with_context(|| format!("image {} is incomplete", image.id));
        }
        hold.0.hold(&manifest.digest);
        plans.iter().for_each(|plan| hold.0.hold(&plan.chain));
        let (store, numbers) = (self.clone(), drafts.iter().map(|sealed| sealed.number).collect::<Vec<_>>());
        let of_drafts = plans[below..].to_vec();
        blocking(move || {
            store.files().write_blob(&manifest.digest, &document)?;
            store.files().write_blob(&manifest.config.digest, &config)?;
            // Layers are whole on the disk before anything says that they are.
            store.sync().context("flush layers")
        })
        .await?;
        for (number, plan) in numbers.into_iter().zip(of_drafts) {
            let _turn = self.0.turns.take(format!("draft {number}")).await;
            let store = self.clone();
            blocking(move || store.adopt_draft(number, &plan)).await?;
        }
        self.ensure_layers(&plans, &Source::Stored, &hold.0).await?;
        self.commit_image(record, &names).await
    }

    /// Makes a draft the layer that a plan wants, where there is none yet. A draft that is another layer already is left: that one is
    /// unpacked from the blob.
    fn adopt_draft(&self, number: u64, plan: &LayerPlan) -> anyhow::Result<()> {
        {
            let state = self.state();
            if state.layers.contains_key(&plan.chain)
                || is_in_use(&state.layers, number)
                || !state.drafts.contains(&number)
            {
                return Ok(());
            }
        }
        let usage = crate::image::Usage::below(&self.0.files.layer_root(number));
        let record = LayerRecord {
            chain: plan.chain.clone(),
            diff_id: plan.diff_id.clone(),
            bytes: usage.bytes,
            inodes: usage.inodes,
        };
        self.0.files.write_record(files::LAYERS, &format!("{number}/{}", files::LAYER), &record)?;
        self.state().layers.insert(plan.chain.clone(), Layer { number, record });
        Ok(())
    }
}

/// Whether a directory is a layer of images.
fn is_in_use(layers: &Layers, number: u64) -> bool {
    layers.values().any(|layer| layer.number == number)
}
