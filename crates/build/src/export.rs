//! What is made of a target: an image in the store, archives, files.
//!
//! ```text
//! State ─ seal: layers archived side by side ─► assemble: image ─► pushed
//!   │                                                         └─► layout ─► archive or directory
//!   └─ files ─► archive or directory
//! ```
//!
//! The same layers and configuration are the same image: times in the configuration are those of the steps, or what
//! `SOURCE_DATE_EPOCH` says, never that of the export. <https://docs.docker.com/build/exporters/>

mod layout;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, bail};
use image::{
    Image,
    commit::{TreeOptions, write_tree},
    pull::Pull,
    push::{self, Push},
    store::drafts::{Hold, Sealed},
};
use jiff::Timestamp;
use oci::Reference;
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    builder::Inner,
    cache::carried::{self, Carried, Made, Packed, Trail},
    client::Client,
    copy::{Copier, Target},
    ignore::Ignore,
    image::History,
    plan::Platform,
    progress::{Outcome, Progress, Status, Vertex},
    request::{ArchiveForm, Built, CachePlace, CacheTo, Compression, Error, Options, Output, Part, Sink},
    select::Pick,
    solve::{Solved, State},
    tree::Root,
};

/// Layers archived at a time.
const PARALLEL: usize = 2;

/// What an export takes.
pub struct Export<'a> {
    /// The builder.
    pub inner: &'a Inner,
    /// What was asked for.
    pub options: &'a Options,
    /// Whom to tell.
    pub progress: &'a Progress,
    /// What was built.
    pub solved: &'a Solved,
    /// What was found and made on the way.
    pub trail: &'a Trail,
    /// The platform that was asked for.
    pub platform: Platform,
    /// How registries are reached.
    pub pull: Pull,
    /// Whom to ask for credentials.
    pub client: Arc<dyn Client>,
    /// Whether images get no names here.
    pub confined: bool,
    /// A directory of this build's own.
    pub scratch: &'a Path,
    /// Set when what blocks a thread is to end.
    pub stop: Arc<AtomicBool>,
}

/// The time that `SOURCE_DATE_EPOCH` names, in seconds since 1970.
pub fn epoch(options: &Options) -> Result<Option<i64>, Error> {
    match options.arguments.get("SOURCE_DATE_EPOCH").map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<i64>()
            .ok()
            .filter(|seconds| Timestamp::from_second(*seconds).is_ok())
            .map(Some)
            .ok_or_else(|| Error::Invalid(format!("SOURCE_DATE_EPOCH={text}: not a number of seconds since 1970"))),
    }
}

/// History with times: lines that were there keep theirs, new ones that made a layer get the layer's, others that of the layer before
/// them, or of the first new one. `known` lines were there.
pub fn dated(mut history: Vec<History>, known: usize, layers: &[Timestamp], epoch: Option<i64>) -> Vec<History> {
    let epoch = epoch.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let shown = |time: Timestamp| epoch.unwrap_or(time).to_string();
    let last_known = history[..known.min(history.len())].iter().rev().find_map(|line| line.created.clone());
    let first = layers.first().map(|time| shown(*time)).or(last_known);
    let first = epoch.map(|time| time.to_string()).or(first);
    let (mut layers, mut before) = (layers.iter(), first);
    for line in history.iter_mut().skip(known) {
        if !line.empty_layer
            && let Some(time) = layers.next()
        {
            before = Some(shown(*time));
        }
        line.created.clone_from(&before);
    }
    history
}

impl Export<'_> {
    /// Makes all outputs.
    pub async fn export(&self, outputs: &[Output]) -> Result<Built, Error> {
        let hold = self.inner.store().hold();
        let config = self.whole_config(&hold).await?;
        let mut built = Built {
            config: serde_json::to_vec(&config).map_err(anyhow::Error::from)?,
            platform: Some(self.platform.clone()),
            ..Built::default()
        };
        for output in outputs {
            let title = match output {
                Output::Nothing => continue,
                Output::Image { .. } => "exporting to image",
                Output::Archive { form: ArchiveForm::Docker, .. } => "exporting to docker image format",
                Output::Archive { form: ArchiveForm::Oci, .. } => "exporting to oci image format",
                Output::Files { .. } => "exporting to client",
                Output::Parts => "exporting layers",
            };
            let vertex = self.progress.know(Vertex { name: title.to_owned(), ..Vertex::default() }).await?;
            self.progress.start(vertex).await?;
            let done = self.output(output, &hold, vertex, &config, &mut built).await;
            let outcome = match &done {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            self.progress.finish(vertex, outcome).await?;
            done?;
        }
        for to in &self.options.cache_to {
            let name = format!("exporting cache to {}", to.place);
            let vertex = self.progress.know(Vertex { name, ..Vertex::default() }).await?;
            self.progress.start(vertex).await?;
            let done = self.cache(to, &hold, vertex).await;
            let outcome = match &done {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            self.progress.finish(vertex, outcome).await?;
            if !to.may_fail {
                done?;
            }
        }
        Ok(built)
    }

    /// The image's configuration, without `rootfs`, with the results that it carries.
    async fn whole_config(&self, hold: &Hold) -> Result<serde_json::Value, Error> {
        let mut config = self.config()?;
        if self.options.has_inline_cache() {
            config[carried::INLINE] = self.inline(hold).await?;
        }
        Ok(config)
    }

    fn part(&self, image: &Image, config: &serde_json::Value) -> anyhow::Result<Part> {
        let config = serde_json::to_vec(config)?;
        Ok(Part { platform: self.platform.clone(), image: image.id.clone(), config })
    }

    /// An output for several platforms.
    async fn index(&self, output: &Output, images: &[Image], vertex: u32, built: &mut Built) -> anyhow::Result<()> {
        let store = self.inner.store();
        match output {
            Output::Image { names, .. } => {
                if names.is_empty() {
                    bail!("an image without a name cannot be pushed");
                }
                for name in names {
                    let mut access = self.pull.clone();
                    access.credentials.extend(self.client.credentials(name.domain()).await?);
                    let (digest, _) = push_index(self.inner, images, name, access).await?;
                    self.tell(vertex, &format!("pushing index for {name}@{digest}")).await?;
                    built.manifest = Some(digest);
                    built.names.push(name.clone());
                }
                Ok(())
            }
            Output::Archive { names, compression, to, .. } => {
                let (store, images) = (store.clone(), images.to_vec());
                let (names, compression) = (names.clone(), *compression);
                let wanted = layout::Wanted { store, images, docker: false, names, compression };
                let (to, scratch) = (to.clone(), self.scratch.to_owned());
                let written = tokio::task::spawn_blocking(move || layout::write(&wanted, &to, &scratch)).await?;
                let (index, _) = written.context("write the archive")?;
                built.manifest.get_or_insert(index);
                self.tell(vertex, "sending tarball").await
            }
            Output::Files { .. } | Output::Parts | Output::Nothing => Ok(()),
        }
    }

    /// The results that the image's own layers are: its configuration carries them, so that the image is a cache.
    async fn inline(&self, hold: &Hold) -> anyhow::Result<serde_json::Value> {
        let of_outcome: Vec<u64> = self.solved.state.layers.iter().map(|layer| layer.number).collect();
        let mut records: Vec<Carried> = Vec::new();
        for (key, Made { number, next, created, title }) in self.trail.all() {
            if of_outcome.contains(&number) {
                let layer = self.seal_one(hold, number).await?.diff_id;
                let record = Carried { key, next, created, title, layer };
                if !records.contains(&record) {
                    records.push(record);
                }
            }
        }
        // The same image, however its stages were done side by side.
        records.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(serde_json::to_value(records)?)
    }

    /// Writes results of steps where `--cache-to` says.
    async fn cache(&self, to: &CacheTo, hold: &Hold, vertex: u32) -> anyhow::Result<()> {
        let of_outcome: Vec<u64> = self.solved.state.layers.iter().map(|layer| layer.number).collect();
        let mut trail = self.trail.all();
        trail.retain(|(_, made)| to.all || of_outcome.contains(&made.number));
        let directory = tempfile::Builder::new().prefix("cache-").tempdir_in(self.scratch)?;
        let mut packed: BTreeMap<u64, Packed> = BTreeMap::new();
        let mut records: Vec<Carried> = Vec::new();
        for (key, made) in trail {
            let layer = match packed.get(&made.number) {
                Some(packed) => packed.diff_id.clone(),
                None => {
                    let sealed = self.seal_one(hold, made.number).await?;
                    let source = self.inner.store().blob(&sealed.diff_id);
                    let source = source.with_context(|| format!("layer {} is gone", sealed.diff_id))?;
                    let (place, compression) = (directory.path().to_owned(), to.compression);
                    let (digest, size, file) = match compression {
                        Compression::Uncompressed => (sealed.diff_id.clone(), sealed.size, source),
                        Compression::Gzip | Compression::Zstd => {
                            let to = place.clone();
                            let pack = move || layout::pack(&source, &to, compression);
                            let (digest, size) = tokio::task::spawn_blocking(pack).await??;
                            (digest.clone(), size, place.join(digest.hex()))
                        }
                    };
                    let diff_id = sealed.diff_id.clone();
                    let media_type = media_type(to.compression);
                    packed.insert(made.number, Packed { diff_id: diff_id.clone(), digest, size, file, media_type });
                    diff_id
                }
            };
            let Made { next, created, title, .. } = made;
            let record = Carried { key, next, created, title, layer };
            if !records.contains(&record) {
                records.push(record);
            }
        }
        let mut pull = self.pull.clone();
        if let CachePlace::Registry { reference } = &to.place {
            let name = Reference::parse(reference).with_context(|| format!("cache {reference:?}"))?;
            pull.credentials.extend(self.client.credentials(name.domain()).await?);
        }
        // The same layer, made by two steps, is sent once.
        let mut layers: Vec<Packed> = packed.into_values().collect();
        layers.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        layers.dedup_by(|a, b| a.diff_id == b.diff_id);
        let digest = carried::export(&to.place, records, &layers, &pull, directory.path()).await?;
        self.tell(vertex, &format!("writing cache manifest {digest}")).await
    }

    async fn output(
        &self,
        output: &Output,
        hold: &Hold,
        vertex: u32,
        config: &serde_json::Value,
        built: &mut Built,
    ) -> anyhow::Result<()> {
        match output {
            Output::Nothing => Ok(()),
            Output::Parts => {
                let image = self.image(hold, vertex, config, &[]).await?;
                built.parts.push(self.part(&image, config)?);
                Ok(())
            }
            Output::Image { names, push, .. } => {
                let named = if self.confined { &[] } else { names.as_slice() };
                let image = self.image(hold, vertex, config, named).await?;
                for name in named {
                    self.tell(vertex, &format!("naming to {name}")).await?;
                }
                built.image = Some(image.id.clone());
                built.manifest = Some(image.manifest.clone());
                built.names.extend(names.iter().cloned());
                if *push {
                    if names.is_empty() {
                        bail!("an image without a name cannot be pushed");
                    }
                    for name in names {
                        let mut access = self.pull.clone();
                        access.credentials.extend(self.client.credentials(name.domain()).await?);
                        let how = Push { access, progress: None };
                        let pushed = self.inner.store().push(&image.id.to_string(), name, &how).await?;
                        self.tell(vertex, &format!("pushing manifest for {name}@{}", pushed.digest)).await?;
                        built.manifest = Some(pushed.digest);
                    }
                }
                Ok(())
            }
            Output::Archive { form, names, compression, to } => {
                let image = self.image(hold, vertex, config, &[]).await?;
                built.image.get_or_insert(image.id.clone());
                let wanted = layout::Wanted {
                    store: self.inner.store().clone(),
                    images: vec![image.clone()],
                    docker: *form == ArchiveForm::Docker,
                    names: names.clone(),
                    compression: *compression,
                };
                let (to, scratch) = (to.clone(), self.scratch.to_owned());
                let written = tokio::task::spawn_blocking(move || layout::write(&wanted, &to, &scratch)).await?;
                let (manifest, _) = written.context("write the archive")?;
                built.manifest.get_or_insert(manifest);
                self.tell(vertex, "sending tarball").await?;
                // Asked for as a file, it is none of the store's.
                if image.is_unnamed() {
                    self.inner.store().remove(&image.id.to_string()).await?;
                }
                Ok(())
            }
            Output::Files { to } => {
                let (tree, to, stop) = (self.solved.state.tree(&self.inner.empty), to.clone(), self.stop.clone());
                let newest = epoch(self.options)?;
                let write = move || -> anyhow::Result<()> {
                    let root = tree.open()?;
                    match &to {
                        Sink::File(path) => {
                            let file =
                                std::fs::File::create(path).with_context(|| format!("make {}", path.display()))?;
                            let options = TreeOptions { overlay: false, newest };
                            let directory = root.open(Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY)?;
                            let output = std::io::BufWriter::with_capacity(256 << 10, file);
                            write_tree(directory, &options, output)
                        }
                        Sink::Directory(path) => {
                            std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
                            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                            let output = Root::new(rustix::fs::open(path, flags, Mode::empty())?);
                            let target = Target { destination: "/".into(), ..Target::default() };
                            let pick = Pick {
                                path: "/".into(),
                                name: Default::default(),
                                directory: true,
                                include: None,
                                exclude: Ignore::default(),
                            };
                            let mut copier = Copier::new(&output, &target, &stop)?;
                            copier.copy(&tree, &root, &pick)?;
                            copier.finish()
                        }
                    }
                };
                tokio::task::spawn_blocking(write).await?.context("write the files")?;
                self.tell(vertex, "copying files").await
            }
        }
    }

    /// Something that is done.
    async fn tell(&self, vertex: u32, part: &str) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let status = Status { vertex, part: part.to_owned(), current: 0, total: 0, started: now, ended: Some(now) };
        Ok(self.progress.tell(crate::progress::Event::Status(status)).await?)
    }

    async fn image(
        &self,
        hold: &Hold,
        vertex: u32,
        config: &serde_json::Value,
        names: &[Reference],
    ) -> anyhow::Result<Image> {
        let sealed = self.seal(hold, &self.solved.state).await?;
        self.tell(vertex, "exporting layers").await?;
        let store = self.inner.store();
        let base = self.solved.state.base.as_ref();
        if let Some(base) = base {
            store.hold_image(hold, base)?;
        }
        let image = store.assemble(hold, base, &sealed, config.clone(), names).await.context("make the image")?;
        self.tell(vertex, &format!("writing image {}", image.id)).await?;
        Ok(image)
    }

    async fn seal(&self, hold: &Hold, state: &State) -> anyhow::Result<Vec<Sealed>> {
        let permits = Semaphore::new(PARALLEL);
        let seal = |number: u64| {
            let permits = &permits;
            async move {
                let _permit = permits.acquire().await?;
                self.seal_one(hold, number).await
            }
        };
        futures::future::try_join_all(state.layers.iter().map(|layer| seal(layer.number))).await
    }

    async fn seal_one(&self, hold: &Hold, number: u64) -> anyhow::Result<Sealed> {
        let newest = epoch(self.options)?;
        let (store, cache) = (self.inner.store(), &self.inner.cache);
        if let Some(sealed) = cache.sealed(number, newest).filter(|sealed| store.is_sealed(hold, sealed)) {
            return Ok(sealed);
        }
        let sealed = store.seal(hold, number, &TreeOptions { overlay: true, newest }).await?;
        cache.note_sealed(&sealed, newest).await?;
        Ok(sealed)
    }

    /// The image's configuration, without `rootfs`.
    fn config(&self) -> Result<serde_json::Value, Error> {
        let epoch = epoch(self.options)?;
        let Solved { state, resolved, history } = self.solved;
        let mut image = resolved.image.clone();
        image.config.labels.extend(self.options.labels.clone());
        // A stage that began with a context has a layer that no instruction made.
        let new_lines = image.history.iter().skip(*history).filter(|line| !line.empty_layer).count();
        for _ in new_lines..state.layers.len() {
            let line = History { created_by: "COPY / / # context".into(), ..History::default() };
            image.history.insert(*history, line);
        }
        let times: Vec<Timestamp> = state.layers.iter().map(|layer| layer.created).collect();
        let lines = dated(image.history, *history, &times, epoch);
        let created = lines.iter().rev().find_map(|line| line.created.clone());
        let created = created.or_else(|| epoch.and_then(|at| Timestamp::from_second(at).ok()).map(|at| at.to_string()));
        let platform = self.image_platform();
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": image.config,
            "history": lines,
        });
        if !platform.variant.is_empty() {
            config["variant"] = platform.variant.into();
        }
        if let Some(author) = image.author {
            config["author"] = author.into();
        }
        if let Some(created) = created {
            config["created"] = created.into();
        }
        Ok(config)
    }

    /// That of the base image, else what was asked for.
    fn image_platform(&self) -> Platform {
        match &self.solved.state.base {
            Some(image) => Platform {
                os: image.config.os().to_string(),
                architecture: image.config.architecture().to_string(),
                variant: image.config.variant().clone().unwrap_or_default(),
            },
            None => self.platform.clone(),
        }
    }
}

/// Whether a build for several platforms has a place for what it makes.
pub fn check_several(options: &Options, outputs: &[Output]) -> Result<(), Error> {
    if !options.cache_to.is_empty() {
        let message = "results of steps for several platforms are not written: build one at a time with --cache-to";
        return Err(Error::Invalid(message.to_owned()));
    }
    for output in outputs {
        let message = match output {
            Output::Image { push: false, .. } => {
                "an image for several platforms is not kept here, where one of them runs: push it, or write it with type=oci"
            }
            Output::Archive { form: ArchiveForm::Docker, .. } => {
                "docker's archives hold one platform: type=oci holds several"
            }
            Output::Files { .. } => "files of several platforms are not written to one place: build one at a time",
            Output::Image { .. } | Output::Archive { .. } | Output::Parts | Output::Nothing => continue,
        };
        return Err(Error::Invalid(message.to_owned()));
    }
    Ok(())
}

/// Makes the outputs of a build for several platforms, each of which is a part: an index of their images.
pub async fn several(parts: &[Export<'_>], outputs: &[Output]) -> Result<Built, Error> {
    let mut built = Built::default();
    let Some(first) = parts.first() else { return Ok(built) };
    if outputs.iter().all(|output| matches!(output, Output::Nothing)) {
        return Ok(built);
    }
    let vertex = Vertex { name: "exporting to image".to_owned(), ..Vertex::default() };
    let vertex = first.progress.know(vertex).await?;
    first.progress.start(vertex).await?;
    let work = async {
        let hold = first.inner.store().hold();
        let mut images = Vec::new();
        for part in parts {
            let config = part.whole_config(&hold).await?;
            let image = part.image(&hold, vertex, &config, &[]).await?;
            if outputs.contains(&Output::Parts) {
                built.parts.push(part.part(&image, &config)?);
            }
            images.push(image);
        }
        for output in outputs {
            first.index(output, &images, vertex, &mut built).await?;
        }
        drop(hold);
        for image in images.iter().filter(|image| !built.parts.iter().any(|part| part.image == image.id)) {
            if first.inner.store().get(image.id.as_str()).is_some_and(|image| image.is_unnamed()) {
                first.inner.store().remove(image.id.as_str()).await?;
            }
        }
        anyhow::Ok(())
    };
    let done = work.await;
    let outcome = match &done {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    first.progress.finish(vertex, outcome).await?;
    done?;
    Ok(built)
}

/// Writes images of the store, for a platform each, as an archive or a layout; returns digest and size in bytes of the manifest, or of
/// the index of several.
pub async fn write(
    inner: &Inner,
    images: &[Image],
    form: ArchiveForm,
    names: Vec<Reference>,
    compression: Compression,
    to: Sink,
) -> anyhow::Result<(oci::Digest, usize)> {
    let hold = inner.store().hold();
    for image in images {
        inner.store().hold_image(&hold, image)?;
    }
    let (store, images) = (inner.store().clone(), images.to_vec());
    let wanted = layout::Wanted { store, images, docker: form == ArchiveForm::Docker, names, compression };
    let scratch = inner.settings.dir.join("tmp");
    let written = tokio::task::spawn_blocking(move || {
        let _hold = hold;
        layout::write(&wanted, &to, &scratch)
    });
    written.await?.context("write the archive")
}

/// Digest and size in bytes of the index of images, as they are in the store.
pub fn index(inner: &Inner, images: &[Image]) -> anyhow::Result<(oci::Digest, usize)> {
    let mut entries = Vec::new();
    for image in images {
        let path = inner.store().blob(&image.manifest);
        let path = path.with_context(|| format!("the manifest of image {} is gone", image.id))?;
        let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let media_type = document["mediaType"].as_str().unwrap_or(oci::media::OCI_MANIFEST);
        let size = std::fs::metadata(&path)?.len();
        entries.push(json!({"mediaType": media_type, "digest": image.manifest, "size": size,
                            "platform": layout::platform(image)}));
    }
    let document = layout::index(entries)?;
    Ok((oci::Digest::sha256(&document), document.len()))
}

/// Sends images and their index to the registry of a name; returns the index's digest and size in bytes.
pub async fn push_index(
    inner: &Inner,
    images: &[Image],
    name: &Reference,
    access: Pull,
) -> anyhow::Result<(oci::Digest, usize)> {
    let (mut manifests, mut entries) = (Vec::new(), Vec::new());
    for image in images {
        let (content, _) = inner.store().pushable(image, name.domain()).await?;
        entries.push(json!({
            "mediaType": content.media_type, "digest": oci::Digest::sha256(&content.document),
            "size": content.document.len(), "platform": layout::platform(image),
        }));
        manifests.push(content);
    }
    let document = layout::index(entries)?;
    let size = document.len();
    let media_type = oci::media::OCI_INDEX.to_owned();
    let content = push::Content { media_type, document, blobs: Vec::new(), manifests };
    let pushed = push::send(&content, name, &Push { access, progress: None }).await?;
    Ok((pushed.digest, size))
}

/// The compression of a layout's layers.
pub(crate) fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Uncompressed => oci::media::OCI_LAYER,
        Compression::Gzip => oci::media::OCI_LAYER_GZIP,
        Compression::Zstd => oci::media::OCI_LAYER_ZSTD,
    }
}

#[cfg(test)]
mod tests;
