//! The Dockerfile frontend: from attributes and a session to a request that the builder carries out.
//!
//! ```text
//! attributes ─▶ places ─ fetched from the client ─▶ directories, texts ─▶ build::Request ─▶ image
//! ```
//!
//! What is fetched lies in a directory of its own until the build has ended. Steps of fetching are told like steps of a build,
//! under the names that BuildKit gives them.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use build::{
    progress::{Event, Outcome, Progress, Status as PartStatus, Vertex},
    request::{CachePlace, CacheTo, Compression, Context, Error, File, Options, Output, Part, Request},
};
use jiff::Timestamp;
use oci::Reference;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::{
    attributes::{self, Attributes, Invalid, Place},
    content,
    filesync::{self, Wanted},
    jobs::{Job, Made},
    session::Session,
    status::Shown,
    wire::{Any, CacheOptionsEntry, Definition, RpcStatus},
};
use crate::Engine;

/// Largest Dockerfile, or file of ignored patterns.
const TEXT: u64 = 4 << 20;
/// How often progress of a transfer is told.
const OFTEN: Duration = Duration::from_millis(100);
/// Names of images that stand for results of other builds.
pub const RESULTS: &str = "madang.internal/build";
/// Where a JSON document of an error's place is from.
const SOURCE_URL: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// What a frontend is asked for.
pub struct Asked {
    /// `dockerfile.v0`.
    pub frontend: String,
    /// Attributes.
    pub attributes: Attributes,
    /// Definitions that attributes name.
    pub inputs: HashMap<String, Definition>,
    /// What the client allows.
    pub entitlements: Vec<String>,
    /// The client's session.
    pub session: String,
    /// Where results of steps come from.
    pub cache_imports: Vec<CacheOptionsEntry>,
}

/// Builds; tells the job what happens. Of several platforms each has a result, in the order in which they were asked for.
pub async fn build(engine: &Engine, job: &Arc<Job>, asked: Asked) -> Result<Vec<Made>, Status> {
    let frontend = match asked.frontend.as_str() {
        "dockerfile.v0" => Ok(()),
        "gateway.v0" => {
            let image = asked.attributes.get("source").map(String::as_str).unwrap_or_default();
            let own = image.trim_start_matches("docker.io/");
            match own.starts_with("docker/dockerfile:") || own.starts_with("docker/dockerfile-upstream:") {
                true => Ok(()),
                false => Err(format!("frontend image {image} is not run: only the Dockerfile frontend is built in")),
            }
        }
        other => Err(format!("frontend {other} not found")),
    };
    frontend.map_err(Status::unimplemented)?;
    if let Some(request) = asked.attributes.get("requestid") {
        return Err(Status::unimplemented(format!("unsupported request {request}")));
    }
    carry_out(engine, job, &asked, None).await
}

/// Builds a Dockerfile that this engine has written, with the files of `place`.
pub async fn build_text(engine: &Engine, job: &Arc<Job>, place: Place, text: String) -> Result<Vec<Made>, Status> {
    let asked = Asked {
        frontend: String::new(),
        attributes: Attributes::new(),
        inputs: HashMap::new(),
        entitlements: Vec::new(),
        session: job.request.session.clone(),
        cache_imports: Vec::new(),
    };
    carry_out(engine, job, &asked, Some((place, text))).await
}

async fn carry_out(
    engine: &Engine,
    job: &Arc<Job>,
    asked: &Asked,
    written: Option<(Place, String)>,
) -> Result<Vec<Made>, Status> {
    let session = engine.buildkit().sessions.wait(&asked.session).await?;
    let (progress, shown) = follow(engine, job);
    let mut work = Work { engine, session, asked, job, progress, places: Vec::new() };
    let built = match written {
        None => work.run().await,
        Some((place, text)) => work.run_written(place, text).await,
    };
    drop(work);
    // All that was told is with the job before the answer is.
    if let Ok(counts) = shown.await {
        job.count(counts);
    }
    built.map_err(Failure::status)
}

/// A way to tell a job events; the second half resolves once all are told.
pub fn follow(engine: &Engine, job: &Arc<Job>) -> (Progress, oneshot::Receiver<(i32, i32)>) {
    let (progress, mut events) = Progress::channel();
    let (done, ended) = oneshot::channel();
    let job = job.clone();
    static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut shown = Shown::new(format!("{}/{run}", job.request.reference));
    engine.task().spawn("build progress", async move {
        while let Some(event) = events.recv().await {
            if let Event::Warning { .. } = &event
                && let Some((name, text)) = job.source()
            {
                shown.about(&name, &text);
            }
            let answer = shown.of(event);
            job.tell(answer);
        }
        let _ = done.send(shown.counts());
    });
    (progress, ended)
}

/// Why there is no result.
pub enum Failure {
    Build(Box<Error>),
    Status(Status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Build(Box::new(error))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Build(Box::new(Error::Other(error)))
    }
}

impl From<Invalid> for Failure {
    fn from(error: Invalid) -> Self {
        // Without a code of its own, which clients would print before it.
        Self::Status(Status::unknown(error.0))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<build::progress::Gone> for Failure {
    fn from(gone: build::progress::Gone) -> Self {
        Self::Build(Box::new(gone.into()))
    }
}

impl Failure {
    /// With the lines of the Dockerfile that it is about, as clients show them.
    fn status(self) -> Status {
        let error = match self {
            Self::Status(status) => return status,
            Self::Build(error) => error,
        };
        let message = error.to_string();
        match *error {
            Error::Canceled => Status::cancelled(message),
            Error::Invalid(_) | Error::Other(_) => Status::unknown(message),
            Error::Dockerfile { lines, name, text, .. } => {
                let place = |line: usize| serde_json::json!({ "line": line });
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let source = serde_json::json!({
                    "info": {"filename": name, "data": STANDARD.encode(&text), "language": "Dockerfile"},
                    "ranges": [{"start": place(lines.first), "end": place(lines.last)}],
                });
                let detail = Any { type_url: SOURCE_URL.to_owned(), value: source.to_string().into_bytes() };
                let carried = RpcStatus { code: Code::Unknown as i32, message: message.clone(), details: vec![detail] };
                Status::with_details(Code::Unknown, message, carried.encode_to_vec().into())
            }
        }
    }
}

/// One run of the frontend.
struct Work<'a> {
    engine: &'a Engine,
    session: Session,
    asked: &'a Asked,
    job: &'a Job,
    progress: Progress,
    /// Removed with the run.
    places: Vec<tempfile::TempDir>,
}

/// A transfer as it is shown.
struct Shape<'a> {
    step: &'a str,
    part: &'a str,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<Vec<Made>, Failure> {
        let asked = self.asked;
        let options = attributes::options(&asked.attributes, &asked.entitlements)?;
        let main = attributes::main_context(&asked.attributes, &asked.inputs)?;
        let named = attributes::named_contexts(&asked.attributes, &asked.inputs)?;
        let filename = asked.attributes.get("filename").map_or("Dockerfile", String::as_str);
        let dockerfile = match attributes::dockerfile_place(&asked.attributes, &asked.inputs, &main) {
            Some(Place::Local { name, session }) => self.dockerfile(&name, session.as_deref(), filename).await?,
            _ => File::InContext(filename.to_owned()),
        };
        let ignore = match &dockerfile {
            File::Text { ignore, .. } => ignore.clone(),
            File::InContext(_) => None,
        };
        let context = self.context(main, ignore).await?;
        let mut contexts = BTreeMap::new();
        let mut lent = Vec::new();
        for (name, place) in named {
            let place = match place {
                Place::Image(image) => Context::Image(self.image(&image, &mut lent).await?),
                Place::Local { name: directory, session } => {
                    let step = format!("[context {name}] load from client");
                    let ignore = self
                        .ignored(&directory, session.as_deref(), &format!("[context {name}] load .dockerignore"))
                        .await?;
                    let exclude = attributes::excludes(&ignore.unwrap_or_default());
                    let wanted = Wanted { name: directory, follow: Vec::new(), exclude };
                    let shape = Shape { step: &step, part: "transferring" };
                    Context::Directory(self.fetch(wanted, session.as_deref(), shape).await?)
                }
                Place::Layout { store, digest } => self.layout(&name, &store, digest, &options).await?,
                other => self.elsewhere(other).await?,
            };
            contexts.insert(name, place);
        }
        let built = self.image_of(options, context, dockerfile, contexts).await;
        for name in lent {
            self.engine.images().untag(&name).await?;
        }
        built
    }

    /// The same for a Dockerfile of the engine's own.
    async fn run_written(&mut self, place: Place, text: String) -> Result<Vec<Made>, Failure> {
        let context = match place {
            Place::Local { name, session } => {
                let shape = Shape { step: "[internal] load from client", part: "transferring" };
                let wanted = Wanted { name, ..Wanted::default() };
                Context::Directory(self.fetch(wanted, session.as_deref(), shape).await?)
            }
            Place::Upload(_) => self.elsewhere(place).await?,
            Place::Remote(_) | Place::Image(_) | Place::Layout { .. } | Place::Nothing => Context::Empty,
        };
        let dockerfile = File::Text { name: "source".to_owned(), text, ignore: None };
        self.image_of(Options::default(), context, dockerfile, BTreeMap::new()).await
    }

    /// Has the builder make an image without a name, or one for each platform.
    async fn image_of(
        &mut self,
        options: Options,
        context: Context,
        dockerfile: File,
        named: BTreeMap<String, Context>,
    ) -> Result<Vec<Made>, Failure> {
        let outputs = match options.platforms().map_err(Status::invalid_argument)?.len() {
            1 => vec![Output::Image { names: Vec::new(), push: false, compression: Compression::default() }],
            _ => vec![Output::Parts],
        };
        let mut options = options;
        let sent = self.caches(&mut options).await?;
        let options = self.engine.allowed(options).map_err(|error| Status::permission_denied(format!("{error:#}")))?;
        let client = self.engine.asking(Arc::new(self.session.clone()));
        let realm = self.engine.realm();
        let request = Request { options, context, dockerfile, named, client, outputs, realm };
        let before: Vec<_> = self.engine.images().list().into_iter().map(|image| image.id).collect();
        let built = self.engine.builder().build(request, &self.progress).await?;
        for (directory, layout) in sent {
            self.send_cache(&directory, &layout).await?;
        }
        let of_part = |part: Part| (part.image, part.config, Some(part.platform));
        let one = built.image.map(|id| (id, built.config, built.platform));
        let all: Vec<_> = one.into_iter().chain(built.parts.into_iter().map(of_part)).collect();
        if all.is_empty() {
            return Err(anyhow!("the build has made no image").into());
        }
        let made = |(id, config, platform)| Made { was_here: before.contains(&id), id, config, platform };
        Ok(all.into_iter().map(made).collect())
    }

    /// Where results of steps come from and go, as the client says it. The client's own directories stand in as directories of this
    /// build: read ones are fetched here, written ones are returned, to be sent.
    async fn caches(&mut self, options: &mut Options) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
        let fields = |entry: &CacheOptionsEntry| {
            let mut fields: BTreeMap<String, String> = entry.attributes.clone().into_iter().collect();
            fields.insert("type".to_owned(), entry.kind.clone());
            fields
        };
        let cache = self.job.request.cache.clone().unwrap_or_default();
        let written =
            attributes::cache_imports(&self.asked.attributes).map_err(|error| Status::invalid_argument(error.0))?;
        let mut known = Vec::new();
        for entry in cache.imports.iter().chain(&self.asked.cache_imports).chain(&written) {
            // Inline results are in an image, which is asked for like any.
            let place = CachePlace::from(&fields(entry)).map_err(Status::unimplemented)?;
            if known.contains(&place) {
                continue;
            }
            known.push(place.clone());
            match place {
                CachePlace::Local { path, digest, .. } => {
                    options.cache_from.extend(self.fetch_cache(&path, digest).await?)
                }
                place @ CachePlace::Registry { .. } => options.cache_from.push(place),
            }
        }
        let mut sent = Vec::new();
        for entry in &cache.exports {
            if entry.kind == "inline" {
                options.inline_cache = true;
                continue;
            }
            let mut to = CacheTo::from(&fields(entry)).map_err(Status::unimplemented)?;
            if let CachePlace::Local { path, tag, .. } = &mut to.place {
                let own = self.place()?.join("cache");
                sent.push((std::mem::replace(path, own.clone()), own));
                *tag = None;
            }
            options.cache_to.push(to);
        }
        Ok(sent)
    }

    /// A directory that goes with this run.
    fn place(&mut self) -> Result<PathBuf, Failure> {
        let place = tempfile::tempdir_in(&self.engine.settings().dir).context("make a directory for a build")?;
        let path = place.path().to_owned();
        self.places.push(place);
        Ok(path)
    }

    /// Fetches a cache from a directory of the client. One that cannot be fetched is told and left out: it may not be there yet.
    async fn fetch_cache(
        &mut self,
        directory: &Path,
        digest: Option<oci::Digest>,
    ) -> Result<Option<CachePlace>, Failure> {
        let own = self.place()?.join("cache");
        let name = format!("importing cache manifest from {}", directory.display());
        let vertex = self.progress.know(Vertex { name, ..Vertex::default() }).await?;
        self.progress.start(vertex).await?;
        let fetched = async {
            let digest = digest.context("the client names no digest of it")?;
            content::Store::cache(&self.session, directory).fetch(&digest, &own).await?;
            Ok(CachePlace::Local { path: own.clone(), tag: None, digest: Some(digest) })
        };
        let fetched: anyhow::Result<CachePlace> = fetched.await;
        let outcome = fetched.as_ref().map_or_else(|error| Outcome::Failed(format!("{error:#}")), |_| Outcome::Done);
        self.progress.finish(vertex, outcome).await?;
        Ok(fetched.ok())
    }

    /// Sends a cache that the builder has written to a directory of the client, which notes its name itself.
    async fn send_cache(&self, directory: &Path, layout: &Path) -> Result<(), Failure> {
        let name = format!("sending cache to {}", directory.display());
        let vertex = self.progress.know(Vertex { name, ..Vertex::default() }).await?;
        self.progress.start(vertex).await?;
        let sent = async {
            let index =
                tokio::fs::read(layout.join(oci::archive::OCI_INDEX)).await.context("read the cache's index")?;
            let mut index: serde_json::Value =
                serde_json::from_slice(&index).context("understand the cache's index")?;
            let mut descriptor = index["manifests"][0].take();
            let digest: oci::Digest =
                serde_json::from_value(descriptor["digest"].clone()).context("the cache's digest")?;
            if let Some(fields) = descriptor.as_object_mut() {
                fields.remove("annotations");
            }
            content::Store::cache(&self.session, directory).send(layout, &digest).await?;
            self.job.set_cache_manifest(descriptor.to_string());
            anyhow::Ok(())
        };
        let sent = sent.await;
        let outcome = sent.as_ref().map_or_else(|error| Outcome::Failed(format!("{error:#}")), |()| Outcome::Done);
        self.progress.finish(vertex, outcome).await?;
        Ok(sent?)
    }

    /// Fetches an image of a layout of the client's, told as a step.
    async fn layout(
        &mut self,
        name: &str,
        store: &str,
        digest: oci::Digest,
        options: &Options,
    ) -> Result<Context, Failure> {
        let own = self.place()?.join("layout");
        let step = format!("[context {name}] OCI load from client");
        let vertex = self.progress.know(Vertex { name: step, ..Vertex::default() }).await?;
        self.progress.start(vertex).await?;
        let machines = options.machines().map_err(Status::invalid_argument)?;
        let store = content::Store::layout(&self.session, store);
        let fetched = store.fetch_image(&digest, &machines, &own).await;
        let outcome = fetched.as_ref().map_or_else(|error| Outcome::Failed(format!("{error:#}")), |()| Outcome::Done);
        self.progress.finish(vertex, outcome).await?;
        fetched.with_context(|| format!("context {name}"))?;
        Ok(Context::Layout(own, image::Which::Digest(digest)))
    }

    /// Fetches the Dockerfile, and the patterns beside it.
    async fn dockerfile(&mut self, name: &str, session: Option<&str>, filename: &str) -> Result<File, Failure> {
        let mut follow = vec![filename.to_owned(), format!("{filename}.dockerignore")];
        let lower = filename.strip_suffix("Dockerfile").map(|above| format!("{above}dockerfile"));
        let lower = lower.filter(|lower| !lower.trim_end_matches("dockerfile").ends_with(|c: char| c != '/'));
        follow.extend(lower.clone());
        let step = format!("[internal] load build definition from {filename}");
        let wanted = Wanted { name: name.to_owned(), follow, exclude: Vec::new() };
        let place = self.fetch(wanted, session, Shape { step: &step, part: "transferring dockerfile:" }).await?;
        let mut found = read(&place, filename)?;
        if let (None, Some(lower)) = (&found, &lower) {
            found = read(&place, lower)?;
        }
        let text = found.ok_or_else(|| {
            Status::not_found(format!("failed to read dockerfile: open {filename}: no such file or directory"))
        })?;
        let ignore = read(&place, &format!("{filename}.dockerignore"))?;
        self.job.set_source(filename, &text);
        Ok(File::Text { name: filename.to_owned(), text, ignore })
    }

    /// The patterns of a directory's own `.dockerignore`.
    async fn ignored(&mut self, name: &str, session: Option<&str>, step: &str) -> Result<Option<String>, Failure> {
        let wanted = Wanted { name: name.to_owned(), follow: vec![".dockerignore".into()], exclude: Vec::new() };
        let place = self.fetch(wanted, session, Shape { step, part: "transferring context:" }).await?;
        read(&place, ".dockerignore")
    }

    /// Fetches the main context.
    async fn context(&mut self, main: Place, ignore: Option<String>) -> Result<Context, Failure> {
        let Place::Local { name, session } = main else { return self.elsewhere(main).await };
        let ignore = match ignore {
            Some(ignore) => Some(ignore),
            None => self.ignored(&name, session.as_deref(), "[internal] load .dockerignore").await?,
        };
        let exclude = attributes::excludes(&ignore.unwrap_or_default());
        let shape = Shape { step: "[internal] load build context", part: "transferring context:" };
        let wanted = Wanted { name, follow: Vec::new(), exclude };
        Ok(Context::Directory(self.fetch(wanted, session.as_deref(), shape).await?))
    }

    async fn elsewhere(&self, place: Place) -> Result<Context, Failure> {
        Ok(match place {
            Place::Upload(url) => Context::Archive(Box::new(self.session.upload(&url).await?)),
            Place::Remote(url) => Context::Remote(url),
            Place::Image(image) => Context::Image(reference(&image)?),
            Place::Nothing => Context::Empty,
            Place::Local { name, .. } | Place::Layout { store: name, .. } => {
                return Err(Status::internal(format!("directory {name} has to be fetched")).into());
            }
        })
    }

    /// An image that stands for a context; a result of another build gets its name for as long as this one takes.
    async fn image(&self, name: &str, lent: &mut Vec<Reference>) -> Result<Reference, Failure> {
        let reference = reference(name)?;
        if reference.repository() == RESULTS {
            if self.engine.view().is_some() {
                // Whoever names an image by its id must not thereby have it.
                return Err(
                    Status::permission_denied("results of other targets are not used through this socket").into()
                );
            }
            let id = format!("sha256:{}", reference.tag().unwrap_or_default());
            self.engine.images().tag(&id, &reference).await.context("use the result of another target")?;
            lent.push(reference.clone());
        }
        Ok(reference)
    }

    /// Fetches files into a directory of their own, told as a step.
    async fn fetch(&mut self, wanted: Wanted, session: Option<&str>, shape: Shape<'_>) -> Result<PathBuf, Failure> {
        let session = match session.filter(|id| *id != self.session.id()) {
            Some(id) => self.engine.buildkit().sessions.wait(id).await?,
            None => self.session.clone(),
        };
        let above = self.engine.settings().dir.join("contexts");
        let place = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&above)?;
            tempfile::tempdir_in(&above)
        });
        let place = place
            .await
            .context("a thread that makes directories")?
            .context("make a directory for files of the client")?;
        let path = place.path().to_owned();
        self.places.push(place);
        let vertex = self.progress.know(Vertex { name: shape.step.to_owned(), ..Vertex::default() }).await?;
        self.progress.start(vertex).await?;
        let started = Timestamp::now();
        let part = shape.part.to_owned();
        let status = move |current: u64, ended| {
            Event::Status(PartStatus { vertex, part: part.clone(), current, total: 0, started, ended })
        };
        let (progress, mut last, telling) = (self.progress.clone(), Instant::now(), status.clone());
        let last = {
            last -= OFTEN;
            std::sync::Mutex::new(last)
        };
        let told = move |bytes| {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.elapsed() >= OFTEN {
                *last = Instant::now();
                // Whoever does not listen is noticed by the build itself.
                let _ = progress.tell_blocking(telling(bytes, None));
            }
        };
        match filesync::receive(&session, &wanted, &path, told).await {
            Ok(received) => {
                self.progress.tell(status(received.bytes, Some(Timestamp::now()))).await?;
                self.progress.finish(vertex, Outcome::Done).await?;
                Ok(path)
            }
            Err(error) => {
                self.progress.finish(vertex, Outcome::Failed(format!("{error:#}"))).await?;
                Err(error.into())
            }
        }
    }
}

fn reference(image: &str) -> Result<Reference, Failure> {
    let parsed = Reference::parse(image);
    parsed.map_err(|error| Status::invalid_argument(format!("image {image}: {error}")).into())
}

/// A small text of a fetched directory, its links followed within it.
fn read(place: &Path, name: &str) -> Result<Option<String>, Failure> {
    let directory = std::fs::File::open(place).with_context(|| format!("open {}", place.display()))?;
    let root = build::tree::Root::new(directory.into());
    root.text(Path::new(name), TEXT).with_context(|| format!("read {name}")).map_err(Failure::from)
}
