//! The builder: one for a machine, shared by all who ask it for builds.
//!
//! ```text
//! Request ─ contexts opened, Dockerfile read ─ plan ─ images fetched ─ solve ─ export ─► Built
//!    └ dropped, or its reader gone: what runs is ended, what was begun is removed
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use image::{
    Image,
    pull::{self, Pull, Registries, Trust},
};
use jiff::Timestamp;
use oci::{Digest, Reference};
use runtime::{Runtime, users::StepUsers};
use task::Task;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{
    cache::{
        Cache, Prune,
        carried::{Source, Trail},
    },
    client::Client,
    content::Memory,
    context::{self, Ground, Opened},
    dockerfile,
    export::{self, Export},
    plan::{self, Plan, Platform},
    progress::{Event, Outcome, Progress, Status, Vertex},
    request::{ArchiveForm, Built, CachePlace, Compression, Context, Error, Options, Realm, Request, Sink},
    run::{Sandboxes, remove_leftovers, step_users},
    solve::{Solve, own_platform},
    source::Fetching,
    tree::Tree,
    trust,
};

mod pictures;

use pictures::{Picture, Ways};

/// How long threads may take to notice that a build has ended: as long as one file's copy takes.
const BLOCKED: Duration = Duration::from_secs(60);

/// What a builder is given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory, on the same file system as the image store: cache, what is under way.
    pub dir: PathBuf,
    /// Mirrors, certificates and credentials of this machine.
    pub registries: Arc<Registries>,
    /// Whether steps and downloads get the machine's certificate authorities and proxies.
    pub trust: Trust,
    /// Steps that run at a time, in all builds together.
    pub parallel: usize,
    /// Name servers for steps where the machine has none but its own.
    pub nameservers: Vec<String>,
    /// Whether steps are root of a user namespace only, where this machine can do that; else they are the machine's root, with few of
    /// its rights.
    pub own_users: bool,
    /// Bytes that the cache may take; what was not used for the longest time goes first.
    pub cache: u64,
}

/// Builds images. Clones are the same builder.
#[derive(Clone)]
pub struct Builder(Arc<Inner>);

/// What builds share.
pub(crate) struct Inner {
    pub settings: Settings,
    pub runtime: Runtime,
    pub task: Task,
    pub cache: Cache,
    pub memory: Arc<Memory>,
    /// Steps that run.
    pub running: Semaphore,
    /// Threads that copy and hash.
    pub files: Semaphore,
    /// An empty directory, the root of what has no files.
    pub empty: PathBuf,
    builds: AtomicU64,
    /// Users of steps, once it is known whether this machine can give them some.
    users: OnceCell<Option<StepUsers>>,
}

impl Inner {
    /// Users for a step; none where it has to be the machine's root.
    pub async fn step_users(&self) -> Option<&StepUsers> {
        if !self.settings.own_users {
            return None;
        }
        let find = || async {
            let number = self.builds.fetch_add(1, Ordering::Relaxed);
            let dir = self.settings.dir.join("tmp").join(format!("users-{number}"));
            let (runtime, name) = (self.runtime.clone(), format!("{:x}-users-{number}", std::process::id()));
            let (tell, told) = tokio::sync::oneshot::channel();
            // To its end, also when the build that asks is given up meanwhile.
            self.task.spawn("users of steps", async move {
                let _ = tell.send(step_users(&runtime, &name, &dir).await);
            });
            match told.await.unwrap_or_else(|_| Err(anyhow!("the builder ends"))) {
                Ok(users) => Some(users),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "steps of builds run as root: this machine has no user namespace for them");
                    None
                }
            }
        };
        self.users.get_or_init(find).await.as_ref()
    }

    pub fn store(&self) -> &image::Store {
        self.runtime.images()
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// Asks a build to end when whoever waits for it does not any more.
struct Waiting(Task);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Builder {
    /// Takes up the cache in `settings.dir`, and removes what builds of an earlier process have left.
    pub async fn open(task: &Task, settings: Settings, runtime: Runtime) -> anyhow::Result<Self> {
        remove_leftovers(&runtime).await.context("remove containers of earlier builds")?;
        let dir = settings.dir.clone();
        let empty = dir.join("empty");
        let made = empty.clone();
        tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let scratch = dir.join("tmp");
            std::fs::create_dir_all(&scratch).with_context(|| format!("make {}", scratch.display()))?;
            unmount_below(&scratch)?;
            std::fs::remove_dir_all(&scratch).with_context(|| format!("empty {}", scratch.display()))?;
            for directory in [&scratch, &made, &dir.join("sources"), &dir.join("mounts")] {
                std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
            }
            // Contexts and secrets pass through it.
            Ok(std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?)
        })
        .await??;
        let cache =
            Cache::open(&settings.dir.join("cache"), runtime.images().clone()).await.context("open the cache")?;
        Ok(Self(Arc::new(Inner {
            running: Semaphore::new(settings.parallel.max(1)),
            files: Semaphore::new(settings.parallel.max(2)),
            settings,
            runtime,
            task: task.clone(),
            cache,
            memory: Arc::default(),
            empty,
            builds: AtomicU64::new(0),
            users: OnceCell::new(),
        })))
    }

    /// Results of earlier steps.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Where caches of `RUN --mount=type=cache` are, for `mounts::cache`.
    pub fn mounts_dir(&self) -> PathBuf {
        self.0.settings.dir.join("mounts")
    }

    /// Writes an image of the store as an archive or a layout, layers that are not packed as `compression` says; several, for a platform
    /// each, with their index. Returns the digest of what is whole, and its size in bytes.
    pub async fn write(
        &self,
        images: &[Image],
        form: ArchiveForm,
        names: Vec<Reference>,
        compression: Compression,
        to: Sink,
    ) -> anyhow::Result<(oci::Digest, usize)> {
        export::write(&self.0, images, form, names, compression, to).await
    }

    /// The digest of the index of images that are for a platform each, as they are in the store, and its size in bytes.
    pub fn index(&self, images: &[Image]) -> anyhow::Result<(oci::Digest, usize)> {
        export::index(&self.0, images)
    }

    /// Sends images that are for a platform each, and their index, to the registry of a name. Returns the digest of the index, and its
    /// size in bytes.
    pub async fn push_index(
        &self,
        images: &[Image],
        name: &Reference,
        access: Pull,
    ) -> anyhow::Result<(oci::Digest, usize)> {
        export::push_index(&self.0, images, name, access).await
    }

    /// Builds. Ends early, with everything that runs for it, when the future is dropped or the reader of `progress` goes.
    pub async fn build(&self, request: Request, progress: &Progress) -> Result<Built, Error> {
        let number = self.0.builds.fetch_add(1, Ordering::Relaxed);
        let task = self.0.task.child(format!("build-{number}"));
        let waiting = Waiting(task.clone());
        let (sender, answer) = tokio::sync::oneshot::channel();
        let (inner, own, progress) = (self.0.clone(), task.clone(), progress.clone());
        task.spawn("build", async move {
            let built = inner.carry_out(&own, number, request, &progress).await;
            // Nobody may be waiting any more.
            let _ = sender.send(built);
        });
        let built = answer.await.unwrap_or(Err(Error::Canceled));
        drop(waiting);
        built
    }
}

impl Inner {
    async fn carry_out(
        self: &Arc<Self>,
        task: &Task,
        number: u64,
        request: Request,
        progress: &Progress,
    ) -> Result<Built, Error> {
        let scratch = self.settings.dir.join("tmp").join(number.to_string());
        tokio::fs::create_dir_all(&scratch).await.with_context(|| format!("make {}", scratch.display()))?;
        let name = format!("{:x}-{number}", std::process::id());
        let sandboxes = Sandboxes::new(&self.runtime, &name, &request.options, &self.settings.nameservers);
        let stop = Arc::new(AtomicBool::new(false));
        let tracker = TaskTracker::new();
        let one = One {
            inner: self,
            progress,
            sandboxes: &sandboxes,
            scratch: &scratch,
            stop: stop.clone(),
            tracker: tracker.clone(),
            taken_in: Mutex::default(),
        };
        let built = tokio::select! {
            built = one.build(request) => built,
            () = task.cancelled() => Err(Error::Canceled),
            () = progress.gone() => Err(Error::Canceled),
        };
        stop.store(true, Ordering::Relaxed);
        tracker.close();
        if tokio::time::timeout(BLOCKED, tracker.wait()).await.is_err() {
            tracing::warn!(build = number, "threads of a build do not end");
        }
        let made = built.iter().flat_map(|built| built.image.iter().chain(built.parts.iter().map(|part| &part.image)));
        let kept: Vec<&oci::Digest> = made.collect();
        if let Err(error) = one.give_back(&kept).await {
            tracing::warn!(build = number, error = format!("{error:#}"), "clean up after a build");
        }
        if let Err(error) = self.clean_up(&sandboxes, &scratch).await {
            tracing::warn!(build = number, error = format!("{error:#}"), "clean up after a build");
        }
        built
    }

    async fn clean_up(&self, sandboxes: &Sandboxes, scratch: &Path) -> anyhow::Result<()> {
        sandboxes.remove().await.context("remove its containers")?;
        let directory = scratch.to_owned();
        tokio::task::spawn_blocking(move || {
            unmount_below(&directory)?;
            std::fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))
        })
        .await??;
        self.cache.settle().await.context("settle the cache")?;
        self.cache.prune(Prune { keep: Some(self.settings.cache), ..Prune::default() }).await.map(drop)
    }
}

/// One build's surroundings.
struct One<'a> {
    inner: &'a Arc<Inner>,
    progress: &'a Progress,
    sandboxes: &'a Sandboxes,
    scratch: &'a Path,
    stop: Arc<AtomicBool>,
    /// What blocks threads.
    tracker: TaskTracker,
    /// Images that are in the store for this build alone.
    taken_in: Mutex<Vec<oci::Digest>>,
}

impl One<'_> {
    async fn build(&self, request: Request) -> Result<Built, Error> {
        let Request { options, context, dockerfile: from, named, client, outputs, realm } = request;
        let own = own_platform();
        let platforms = options.platforms().map_err(Error::Invalid)?;
        if platforms.len() > 1 {
            export::check_several(&options, &outputs)?;
        }
        export::epoch(&options)?;
        let pull = self.pull(&realm);
        // The definition.
        let shown = match &from {
            crate::request::File::InContext(path) => path.clone(),
            crate::request::File::Text { name, .. } => name.clone(),
        };
        let opened = self.timed("load build definition from ", &shown, self.open(context, &client, &realm)).await?;
        let (name, text, ignore) = opened.dockerfile(&from)?;
        let in_file = |error| Error::in_file(error, &name, &text);
        let file = dockerfile::parse(&text).map_err(in_file)?;
        for warning in &file.warnings {
            let event = Event::Warning { message: warning.message.clone(), lines: Some(warning.lines) };
            self.progress.tell(event).await?;
        }
        let (mut contexts, mut pictures) = (BTreeMap::new(), BTreeMap::new());
        for (name, context) in named {
            let picture = match context {
                Context::Image(reference) => Ok(Picture::Named(reference)),
                Context::Layout(directory, which) => Ok(Picture::Layout(directory, which)),
                other => Err(other),
            };
            let context = match picture {
                Ok(picture) => {
                    pictures.insert(name.to_ascii_lowercase(), picture);
                    continue;
                }
                Err(context) => context,
            };
            let opened = self.timed("load context ", &name, self.open(context, &client, &realm)).await?;
            let ignore = opened.ignore().with_context(|| format!("context {name}"))?;
            contexts.insert(name.to_ascii_lowercase(), Arc::new(opened.into_tree(ignore)?));
        }
        let context = Arc::new(opened.into_tree(ignore)?);
        let sources = self.sources(&options, &realm, &pull, &client).await?;
        let bundle = match self.inner.settings.trust {
            Trust::Host => trust::bundle(),
            Trust::Configured => None,
        };
        let (mut steps, mut done) = ((0, 0), Vec::new());
        for platform in platforms {
            let wanted = plan::Options {
                target: options.target.clone().filter(|target| !target.is_empty()),
                arguments: options.arguments.clone(),
                build: own.clone(),
                platform: platform.clone(),
            };
            let plan = Plan::new(&file, &wanted).map_err(in_file)?;
            let ways = Ways { pull: &pull, client: &client, ask: realm.is_confined(), own: &own };
            let found = self.pictures(&pictures, &file, &plan, &ways).await?;
            let mut named = contexts.clone();
            named.extend(found.trees);
            let mut images = self.images(&file, &plan, &named, &options, &own, &pull, &client, &realm).await?;
            images.extend(found.images);
            let solve = Solve {
                inner: self.inner,
                options: &options,
                realm: &realm,
                client: client.clone(),
                progress: self.progress,
                file: &file,
                source: (&name, &text),
                context: context.clone(),
                named,
                images,
                platforms: (0..plan.stages.len()).map(|at| plan.platform_of(at).clone()).collect(),
                sources: &sources,
                trail: Trail::default(),
                sandboxes: self.sandboxes,
                scratch: self.scratch,
                bundle: bundle.clone(),
                stop: self.stop.clone(),
                tracker: self.tracker.clone(),
                fetched: tokio::sync::Mutex::default(),
                failure: Mutex::default(),
                counts: (AtomicUsize::new(0), AtomicUsize::new(0)),
            };
            let solved = solve.solve(plan).await?;
            steps.0 += solve.counts.0.load(Ordering::Relaxed);
            steps.1 += solve.counts.1.load(Ordering::Relaxed);
            done.push((platform, solved, solve.trail.clone()));
        }
        let parts = done.iter().map(|(platform, solved, trail)| Export {
            inner: self.inner,
            options: &options,
            progress: self.progress,
            solved,
            trail,
            platform: platform.clone(),
            pull: pull.clone(),
            client: client.clone(),
            confined: realm.is_confined(),
            scratch: self.scratch,
            stop: self.stop.clone(),
        });
        let parts: Vec<Export<'_>> = parts.collect();
        let mut built = match parts.as_slice() {
            [one] => one.export(&outputs).await?,
            several => export::several(several, &outputs).await?,
        };
        built.steps = steps;
        Ok(built)
    }

    fn pull(&self, realm: &Realm) -> Pull {
        let settings = &self.inner.settings;
        let (registries, abroad) = match realm {
            Realm::Machine => (&settings.registries, false),
            Realm::Confined(confined) => (&confined.registries, true),
        };
        Pull { registries: registries.clone(), trust: settings.trust, abroad, ..Pull::default() }
    }

    /// Does something that progress shows as internal.
    async fn timed<T, E: Into<Error>>(
        &self,
        what: &str,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let vertex = Vertex { name: format!("[internal] {what}{name}"), ..Vertex::default() };
        let vertex = self.progress.know(vertex).await?;
        self.progress.start(vertex).await?;
        let done = work.await.map_err(Into::into);
        let outcome = done.as_ref().map_or_else(|error: &Error| Outcome::Failed(error.to_string()), |_| Outcome::Done);
        self.progress.finish(vertex, outcome).await?;
        done
    }

    async fn open(&self, context: Context, client: &Arc<dyn Client>, realm: &Realm) -> anyhow::Result<Opened> {
        let settings = &self.inner.settings;
        let fetching = Fetching {
            directory: settings.dir.join("sources"),
            trust: settings.trust,
            registries: self.pull(realm).registries,
            client: client.clone(),
            abroad: realm.is_confined(),
        };
        let ground = Ground { store: self.inner.store(), scratch: self.scratch, fetching: &fetching };
        context::open(&ground, context, async |reference: Reference| {
            let image = self.image(&reference, realm.is_confined(), &self.pull(realm), client, 0).await?;
            let hold = self.inner.store().hold();
            self.inner.store().hold_image(&hold, &image)?;
            Ok(Tree::layers(image.layers.clone(), image.id.to_string(), vec![Arc::new(hold)]))
        })
        .await
    }

    /// Opens what `--cache-from` names. One that cannot be opened is told and left out, as BuildKit does: it may not be there yet.
    async fn sources(
        &self,
        options: &Options,
        realm: &Realm,
        pull: &Pull,
        client: &Arc<dyn Client>,
    ) -> Result<Vec<Source>, Error> {
        let places = options.cache_from.iter().chain(options.cache_to.iter().map(|to| &to.place));
        if let Some(place) = places.into_iter().find(|place| matches!(place, CachePlace::Local { .. }))
            && realm.is_confined()
        {
            return Err(Error::Invalid(format!("cache {place}: a directory of this machine is not allowed here")));
        }
        let mut sources = Vec::new();
        for place in &options.cache_from {
            let mut pull = pull.clone();
            let vertex = Vertex { name: format!("importing cache manifest from {place}"), ..Vertex::default() };
            let vertex = self.progress.know(vertex).await?;
            self.progress.start(vertex).await?;
            let opened = async {
                if let CachePlace::Registry { reference } = place {
                    let name = Reference::parse(reference).with_context(|| format!("cache {reference:?}"))?;
                    pull.credentials.extend(client.credentials(name.domain()).await?);
                }
                Source::open(place, pull).await
            };
            let outcome = match opened.await {
                Ok(source) => {
                    sources.push(source);
                    Outcome::Done
                }
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            self.progress.finish(vertex, outcome).await?;
        }
        Ok(sources)
    }

    /// The images that a plan needs, by the names that the Dockerfile has for them.
    #[expect(clippy::too_many_arguments, reason = "everything that a build knows so far")]
    async fn images(
        &self,
        file: &dockerfile::Dockerfile,
        plan: &Plan,
        named: &BTreeMap<String, Arc<Tree>>,
        options: &Options,
        own: &Platform,
        pull: &Pull,
        client: &Arc<dyn Client>,
        realm: &Realm,
    ) -> Result<BTreeMap<(String, Platform), Image>, Error> {
        let replaced: BTreeSet<&str> = file
            .stages
            .iter()
            .filter_map(|stage| stage.name.as_deref())
            .filter(|name| named.contains_key(*name))
            .collect();
        let wanted = plan.images().into_iter().filter(|(name, _)| {
            let lower = name.to_ascii_lowercase();
            !named.contains_key(&lower) && !replaced.contains(lower.as_str())
        });
        let fetch = wanted.map(async |(name, platform)| {
            // What has an id is here or nowhere.
            let reference = match is_id(name) {
                true => None,
                false => Some(Reference::parse(name).map_err(|error| {
                    Error::Invalid(format!("failed to parse stage name {name:?}: invalid reference format: {error}"))
                })?),
            };
            let shown = reference.as_ref().map_or_else(|| name.to_owned(), Reference::to_string);
            let vertex = Vertex { name: format!("[internal] load metadata for {shown}"), ..Vertex::default() };
            let vertex = self.progress.know(vertex).await?;
            self.progress.start(vertex).await?;
            let mut pull = pull.clone();
            if platform != own {
                pull.machine = Some(platform.machine());
                pull.unnamed = true;
            }
            let fits = |image: &Image| image.config.architecture().to_string() == platform.architecture;
            let found = match (self.local(name, options.pull, realm).filter(fits), &reference) {
                (Some(image), _) => Ok(image),
                (None, None) => {
                    Err(anyhow!("no such image for {platform} is here, and registries know none by their ids"))
                }
                (None, Some(reference)) => {
                    let ask = options.pull || realm.is_confined();
                    self.image(reference, ask, &pull, client, vertex).await.and_then(|image| match fits(&image) {
                        true => Ok(image),
                        false => Err(anyhow!("{reference} is for {}, not for {platform}", image.config.architecture())),
                    })
                }
            };
            let outcome = found.as_ref().map_or_else(|error| Outcome::Failed(format!("{error:#}")), |_| Outcome::Done);
            self.progress.finish(vertex, outcome).await?;
            let image = found.with_context(|| format!("{name}: failed to resolve source metadata for {shown}"))?;
            Ok(((name.to_owned(), platform.clone()), image))
        });
        let all: Vec<((String, Platform), Image)> =
            futures::future::try_join_all(fetch).await.map_err(|error: Error| error)?;
        Ok(all.into_iter().collect())
    }

    /// An image that is here under what a Dockerfile calls it: a name, unless registries are to be asked, an id, or the beginning of one.
    /// For who has no rights here those count that are their own.
    fn local(&self, name: &str, ask: bool, realm: &Realm) -> Option<Image> {
        if ask && !is_id(name) {
            return None;
        }
        let store = self.inner.store();
        match realm {
            Realm::Machine => store.get(name),
            Realm::Confined(confined) => store.get(confined.own.as_ref()?(name)?.as_str()),
        }
    }

    /// An image that is here, or from its registry.
    async fn image(
        &self,
        reference: &Reference,
        ask: bool,
        pull: &Pull,
        client: &Arc<dyn Client>,
        vertex: u32,
    ) -> anyhow::Result<Image> {
        let store = self.inner.store();
        let fits = |image: &Image| match &pull.machine {
            Some(machine) => image.config.architecture().to_string() == machine.architecture,
            None => true,
        };
        if !ask && let Some(image) = store.get(&reference.to_string()).filter(fits) {
            return Ok(image);
        }
        let mut pull = pull.clone();
        pull.credentials.extend(client.credentials(reference.domain()).await?);
        if vertex != 0 {
            let (progress, began) = (self.progress.clone(), Timestamp::now());
            pull.progress = Some(Arc::new(move |layer: pull::Progress| {
                let status = Status {
                    vertex,
                    part: layer.layer.to_string(),
                    current: layer.done,
                    total: layer.total,
                    started: began,
                    ended: (layer.done == layer.total).then(Timestamp::now),
                };
                // A reader that is slower than the network misses some of them.
                progress.offer(Event::Status(status));
            }));
        }
        Ok(store.pull(reference, &pull).await?)
    }
}

/// Whether a name is an image's whole id, with its algorithm or without.
fn is_id(name: &str) -> bool {
    name.parse::<Digest>().is_ok() || format!("sha256:{name}").parse::<Digest>().is_ok()
}

/// Unmounts what is mounted below a directory, the innermost first.
fn unmount_below(directory: &Path) -> anyhow::Result<()> {
    let directory = directory.canonicalize().with_context(|| format!("find {}", directory.display()))?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read mounts")?;
    let unescaped =
        |path: &str| PathBuf::from(path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped)
        .filter(|path| path.starts_with(&directory) && *path != directory)
        .collect();
    mounts.sort();
    for path in mounts.into_iter().rev() {
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH)
            .with_context(|| format!("unmount {}", path.display()))?;
    }
    Ok(())
}
