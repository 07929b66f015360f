//! Where results go: the image store, registries, files and directories of the client.
//!
//! | exporter | result |
//! |---|---|
//! | `moby`, `image` | an image of the store under its names, with `push` also in their registries |
//! | `docker`, `oci` | an archive, sent to the client, or with `tar=false` a layout |
//! | `local`, `tar` | the files alone, sent to the client |
//!
//! What was built for several platforms is an index of their images, or a directory for each: see `several`.
//!
//! <https://docs.docker.com/build/exporters/>

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use build::{
    progress::{Event, Outcome, Progress, Status as PartStatus, Vertex},
    request::{ArchiveForm, Compression, Sink},
    tree::{Root, Tree},
};
use futures::future::BoxFuture;
use image::{
    Image,
    push::{self, Push},
};
use jiff::Timestamp;
use oci::Reference;
use tonic::Status;

use super::{
    content, filesync,
    frontend::follow,
    jobs::{Job, Made},
    session::Session,
    wire::Exporter,
};
use crate::Engine;

mod several;

/// Bytes of an archive that wait to be sent.
const WAITING: usize = 1 << 20;
/// Hints of progress that may wait.
const HINTS: usize = 256;

/// Carries out all exporters of a build; returns what clients read of them.
pub async fn all(engine: &Engine, job: &Arc<Job>, parts: &[Arc<Made>]) -> Result<HashMap<String, String>, Status> {
    let Some(made) = several::here(parts) else { return Ok(HashMap::new()) };
    let exporters = exporters(job);
    let mut response = HashMap::new();
    if let Some(manifest) = job.cache_manifest() {
        response.insert("cache.manifest".to_owned(), manifest);
    }
    let mut stays = made.was_here;
    for (number, exporter) in exporters.iter().enumerate() {
        let (progress, shown) = follow(engine, job);
        let work = Export { engine, made, parts, number, exporter, progress, session: &job.request.session };
        let done = work.run(&mut response).await;
        drop(work);
        let _ = shown.await;
        done.map_err(|error| match error.downcast::<Status>() {
            Ok(status) => status,
            Err(error) => Status::unknown(format!("{error:#}")),
        })?;
        stays |= matches!(exporter.kind.as_str(), "moby" | "image");
    }
    // Nobody asked for the image itself, and its steps are in the cache.
    for part in parts {
        let stays = if part.id == made.id { stays } else { part.was_here };
        let unnamed = engine.images().get(part.id.as_str()).is_some_and(|image| image.names.is_empty());
        if !stays && unnamed {
            let removed = engine.images().remove(part.id.as_str()).await;
            removed.map_err(|error| Status::unknown(format!("remove the image of a build: {error:#}")))?;
        }
    }
    Ok(response)
}

/// What clients read of a result.
fn told(
    id: &oci::Digest,
    (manifest, size): (&oci::Digest, usize),
    media_type: &str,
    names: &[Reference],
    response: &mut HashMap<String, String>,
) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let descriptor = serde_json::json!({"mediaType": media_type, "digest": manifest, "size": size});
    response.insert("containerimage.digest".into(), manifest.to_string());
    response.insert("containerimage.config.digest".into(), id.to_string());
    response.insert("containerimage.descriptor".into(), STANDARD.encode(descriptor.to_string()));
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        response.insert("image.name".into(), names.join(","));
    }
}

fn exporters(job: &Job) -> Vec<Exporter> {
    let request = &job.request;
    if !request.exporters.is_empty() || request.exporter_deprecated.is_empty() {
        return request.exporters.clone();
    }
    let attributes = request.exporter_attributes_deprecated.clone();
    vec![Exporter { kind: request.exporter_deprecated.clone(), attributes }]
}

struct Export<'a> {
    engine: &'a Engine,
    /// The image that is kept here, where one is.
    made: &'a Made,
    /// It, and those for other platforms.
    parts: &'a [Arc<Made>],
    /// By which the client knows where the result goes.
    number: usize,
    exporter: &'a Exporter,
    progress: Progress,
    session: &'a str,
}

impl Export<'_> {
    fn attribute(&self, name: &str) -> &str {
        self.exporter.attributes.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether an attribute is set to what Go takes for true.
    fn flag(&self, name: &str) -> bool {
        matches!(self.attribute(name), "1" | "t" | "T" | "true" | "TRUE" | "True")
    }

    fn names(&self) -> anyhow::Result<Vec<Reference>> {
        let names = self.attribute("name").split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| Reference::parse(name).with_context(|| format!("name {name}"))).collect()
    }

    async fn session(&self) -> anyhow::Result<Session> {
        Ok(self.engine.buildkit().sessions.wait(self.session).await?)
    }

    fn image(&self) -> anyhow::Result<Image> {
        let found = self.engine.images().get(self.made.id.as_str());
        found.ok_or_else(|| anyhow!("image {} is gone", self.made.id))
    }

    async fn run(&self, response: &mut HashMap<String, String>) -> anyhow::Result<()> {
        let name = match self.exporter.kind.as_str() {
            "moby" | "image" => "exporting to image",
            "docker" => "exporting to docker image format",
            "oci" => "exporting to oci image format",
            "local" => "exporting to client directory",
            "tar" => "exporting to client tarball",
            other => bail!(Status::unimplemented(format!("exporter {other:?} could not be found"))),
        };
        let vertex = self.progress.know(Vertex { name: name.to_owned(), ..Vertex::default() }).await?;
        self.progress.start(vertex).await?;
        let done = match self.exporter.kind.as_str() {
            "moby" | "image" if self.parts.len() > 1 => self.index_store(vertex, response).await,
            "docker" | "oci" if self.parts.len() > 1 => self.index_archive(vertex, response).await,
            "moby" | "image" => self.image_store(vertex, response).await,
            "docker" | "oci" => self.archive(vertex, response).await,
            "local" => self.files(vertex).await,
            _ => self.tarball(vertex).await,
        };
        let outcome = match &done {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        self.progress.finish(vertex, outcome).await?;
        done
    }

    /// A part of the step: told when it begins, and when it has ended well.
    async fn part<T>(&self, vertex: u32, part: &str, work: BoxFuture<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
        let started = Timestamp::now();
        let tell =
            |ended| Event::Status(PartStatus { vertex, part: part.to_owned(), current: 0, total: 0, started, ended });
        self.progress.tell(tell(None)).await?;
        let done = work.await?;
        self.progress.tell(tell(Some(Timestamp::now()))).await?;
        Ok(done)
    }

    /// Gives the image its names, each told of with `note`, and keeps it; one that is to be pushed must have some.
    async fn give(&self, vertex: u32, names: &[Reference], note: &str) -> anyhow::Result<()> {
        for name in names {
            let naming = format!("naming to {name}{note}");
            self.part(vertex, &naming, Box::pin(self.engine.name_image(&self.made.id, Some(name)))).await?;
        }
        self.engine.name_image(&self.made.id, None).await?;
        if self.flag("push") && names.is_empty() {
            bail!("tag is needed when pushing to registry");
        }
        Ok(())
    }

    /// An image of the store; pushed, where that is asked for.
    async fn image_store(&self, vertex: u32, response: &mut HashMap<String, String>) -> anyhow::Result<()> {
        let names = self.names()?;
        let writing = format!("writing image {}", self.made.id);
        self.part(vertex, &writing, Box::pin(async { Ok(()) })).await?;
        self.give(vertex, &names, "").await?;
        if self.flag("push") {
            let session = self.session().await?;
            for name in &names {
                self.push(vertex, &session, name).await?;
            }
        }
        let image = self.image()?;
        self.describe(&image, &names, response)
    }

    /// How the registry of a name is reached, with what the client has for it.
    async fn access(&self, session: &Session, name: &Reference) -> anyhow::Result<image::pull::Pull> {
        let known = self.engine.asking(Arc::new(session.clone())).credentials(name.domain()).await?;
        Ok(self.engine.pull(known.into_iter().collect()))
    }

    async fn push(&self, vertex: u32, session: &Session, name: &Reference) -> anyhow::Result<()> {
        let access = self.access(session, name).await?;
        let started = Timestamp::now();
        let (sender, mut hints) = tokio::sync::mpsc::channel(HINTS);
        let told = move |told: push::Progress| {
            let (current, total, ended) = match told.state {
                push::State::Pushing { done, total } => (done, total, None),
                push::State::Pushed | push::State::Exists | push::State::Mounted(_) => (0, 0, Some(Timestamp::now())),
                push::State::Preparing | push::State::Waiting => return,
            };
            let part = format!("pushing layer {}", &told.layer.hex()[..12]);
            // Whoever follows slower than the network misses some of them.
            let _ = sender.try_send(PartStatus { vertex, part, current, total, started, ended });
        };
        let how = Push { access, progress: Some(Arc::new(told)) };
        let pushing = format!("pushing {name}");
        let push = async move {
            let pushed = self.engine.images().push(self.made.id.as_str(), name, &how).await;
            pushed?;
            Ok(())
        };
        let heard = async {
            while let Some(status) = hints.recv().await {
                self.progress.tell(Event::Status(status)).await?;
            }
            Ok(())
        };
        let (pushed, heard): (_, anyhow::Result<()>) = tokio::join!(self.part(vertex, &pushing, Box::pin(push)), heard);
        pushed.and(heard)
    }

    fn describe(
        &self,
        image: &Image,
        names: &[Reference],
        response: &mut HashMap<String, String>,
    ) -> anyhow::Result<()> {
        let manifest = self.engine.images().blob(&image.manifest).context("the image's manifest is gone")?;
        let document = std::fs::read(manifest)?;
        let media_type = serde_json::from_slice::<serde_json::Value>(&document)?["mediaType"].clone();
        let media_type = media_type.as_str().unwrap_or(oci::media::OCI_MANIFEST);
        told(&image.id, (&image.manifest, document.len()), media_type, names, response);
        Ok(())
    }

    /// An archive of the image, sent to the client; or with `tar=false` a layout in a directory of the client.
    async fn archive(&self, vertex: u32, response: &mut HashMap<String, String>) -> anyhow::Result<()> {
        let (names, image) = (self.names()?, self.image()?);
        let form = if self.exporter.kind == "docker" { ArchiveForm::Docker } else { ArchiveForm::Oci };
        let (digest, size, sent) = self.written(vertex, std::slice::from_ref(&image), form, names.clone()).await?;
        told(&image.id, (&digest, size), oci::media::OCI_MANIFEST, &names, response);
        self.send(vertex, sent, &digest, response).await
    }

    /// Writes images to a place of their own.
    async fn written(
        &self,
        vertex: u32,
        images: &[Image],
        form: ArchiveForm,
        names: Vec<Reference>,
    ) -> anyhow::Result<(oci::Digest, usize, tempfile::TempDir)> {
        let compression = match self.attribute("compression") {
            "uncompressed" => Compression::Uncompressed,
            "" | "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            other => {
                bail!(Status::unimplemented(format!(
                    "layers are not packed as {other} here: gzip, zstd or uncompressed"
                )))
            }
        };
        let place = tempfile::tempdir_in(&self.engine.settings().dir)?;
        let path = place.path().join("image");
        let to = if self.is_layout() { Sink::Directory(path.clone()) } else { Sink::File(path.clone()) };
        let work = self.engine.builder().write(images, form, names, compression, to);
        let (digest, size) = self.part(vertex, "exporting layers", Box::pin(work)).await?;
        Ok((digest, size, place))
    }

    /// Whether the client wants a layout instead of an archive.
    fn is_layout(&self) -> bool {
        matches!(self.attribute("tar"), "0" | "f" | "F" | "false" | "FALSE" | "False")
    }

    /// Sends what was written to the client.
    async fn send(
        &self,
        vertex: u32,
        place: tempfile::TempDir,
        digest: &oci::Digest,
        response: &HashMap<String, String>,
    ) -> anyhow::Result<()> {
        let (session, path) = (self.session().await?, place.path().join("image"));
        if self.is_layout() {
            let store = content::Store::export(&session);
            return self.part(vertex, "sending layout", Box::pin(store.send(&path, digest))).await;
        }
        let about: Vec<(String, String)> = response.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let file = tokio::fs::File::open(&path).await.context("open the archive")?;
        self.part(vertex, "sending tarball", Box::pin(filesync::send_file(&session, self.number, &about, file)))
            .await?;
        Ok(())
    }

    /// The image's files as one tree. What is returned beside it is to be kept meanwhile.
    fn root(&self) -> anyhow::Result<(Root, several::Kept)> {
        if self.parts.len() > 1 {
            return self.roots();
        }
        let image = self.image()?;
        if image.layers.is_empty() {
            let empty = tempfile::tempdir_in(&self.engine.settings().dir)?;
            let root = Root::new(std::fs::File::open(empty.path())?.into());
            return Ok((root, several::Kept { place: Some(empty), ..several::Kept::default() }));
        }
        Ok((Tree::layers(image.layers, image.id.to_string(), Vec::new()).open()?, several::Kept::default()))
    }

    async fn files(&self, vertex: u32) -> anyhow::Result<()> {
        let (session, (root, _kept)) = (self.session().await?, self.root()?);
        self.part(vertex, "copying files", Box::pin(filesync::send_tree(&session, self.number, root))).await?;
        Ok(())
    }

    async fn tarball(&self, vertex: u32) -> anyhow::Result<()> {
        use std::os::fd::AsFd as _;
        let (session, (root, _kept)) = (self.session().await?, self.root()?);
        let directory = root.as_fd().try_clone_to_owned()?;
        let (writer, reader) = tokio::io::duplex(WAITING);
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = tokio_util::io::SyncIoBridge::new(writer);
            let options = image::commit::TreeOptions { overlay: false, newest: None };
            image::commit::write_tree(directory, &options, &mut writer)?;
            Ok(writer.shutdown()?)
        });
        let work = async {
            let (written, sent) = tokio::join!(writing, filesync::send_file(&session, self.number, &[], reader));
            written.context("a thread that writes an archive").and_then(|written: anyhow::Result<()>| written).and(sent)
        };
        self.part(vertex, "sending tarball", Box::pin(work)).await?;
        Ok(())
    }
}
