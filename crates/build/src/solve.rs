//! Carrying out a build: stages side by side, the steps of each one after the other, every step found in the cache or done.
//!
//! ```text
//! stage ─ waits for those it uses ─► State ─ step ─► State ─ step ─► ...
//!                                     step: key ─ cache ─► there
//!                                                    └─► draft ─ work (files, run) ─► noted under the key
//! ```
//!
//! A copy from another stage has two keys: one by what the stage's layers are, found without looking at files, and one by the contents
//! of what is copied, which stays the same when the stage was built anew with the same result.

mod files;
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, anyhow};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use image::{Image, store::drafts::Draft};
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use crate::{
    builder::Inner,
    cache::{
        Noted, Record, Use,
        carried::{Made, Source, Trail},
    },
    client::Client,
    dockerfile::{Dockerfile, Lines},
    image as config,
    key::{Fields, Key},
    plan::{self, Origin, Plan, Platform},
    progress::{Gone, Outcome, Progress, Vertex},
    request::{Error, Options, Realm},
    resolve::{Action, Base, Kind, Resolved, resolve},
    run::Sandboxes,
    tree::Tree,
};

/// The files of a stage at some point.
#[derive(Clone)]
pub struct State {
    /// What the keys of following steps are made from.
    pub key: Key,
    /// The image below.
    pub base: Option<Image>,
    /// What steps have written, the lowest first.
    pub layers: Vec<Layer>,
}

/// What a step has written.
#[derive(Clone)]
pub struct Layer {
    /// The draft.
    pub number: u64,
    /// Its directory.
    pub root: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    _held: Arc<Use>,
}

impl State {
    fn scratch() -> Self {
        Self { key: Fields::new("scratch").finish(), base: None, layers: Vec::new() }
    }

    fn image(image: &Image) -> Self {
        let mut key = Fields::new("image");
        key.list(image.config.rootfs().diff_ids());
        Self { key: key.finish(), base: Some(image.clone()), layers: Vec::new() }
    }

    /// Its directories, the topmost first; `empty` where there is none.
    pub fn lowers(&self, empty: &Path) -> Vec<PathBuf> {
        let own = self.layers.iter().rev().map(|layer| layer.root.clone());
        let below = self.base.iter().flat_map(|image| image.layers.iter().cloned());
        let mut all: Vec<PathBuf> = own.chain(below).collect();
        if all.is_empty() {
            all.push(empty.to_owned());
        }
        all
    }

    /// Its files.
    pub fn tree(&self, empty: &Path) -> Tree {
        let mut identity = Fields::new("tree");
        identity.list(self.base.iter().flat_map(|image| image.config.rootfs().diff_ids()));
        for layer in &self.layers {
            // Numbers of drafts are used again, but not at the same time.
            identity.number(layer.number).add(layer.created.as_nanosecond().to_be_bytes());
        }
        let holds = self.layers.iter().map(|layer| layer._held.clone() as Arc<_>).collect();
        Tree::layers(self.lowers(empty), identity.finish(), holds)
    }

    fn with(mut self, number: u64, root: PathBuf, record: &Record, held: Use) -> Self {
        self.layers.push(Layer { number, root, created: record.created, _held: Arc::new(held) });
        self.key.clone_from(&record.next);
        self
    }
}

/// A stage has failed, or the build was cancelled; why is in [`Solve::failure`].
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

type Stage<'a> = Shared<BoxFuture<'a, Result<Arc<State>, Stopped>>>;

/// One build, everything it needs being here.
pub struct Solve<'a> {
    /// The builder.
    pub inner: &'a Inner,
    /// What was asked for.
    pub options: &'a Options,
    /// Whose it is.
    pub realm: &'a Realm,
    /// Whom to ask.
    pub client: Arc<dyn Client>,
    /// Whom to tell.
    pub progress: &'a Progress,
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// Its name and text.
    pub source: (&'a str, &'a str),
    /// The main context.
    pub context: Arc<Tree>,
    /// Contexts by name.
    pub named: BTreeMap<String, Arc<Tree>>,
    /// Images by the names that the Dockerfile has for them, and by platform.
    pub images: BTreeMap<(String, Platform), Image>,
    /// The platform of each stage.
    pub platforms: Vec<Platform>,
    /// Results of other machines.
    pub sources: &'a [Source],
    /// What was found and made.
    pub trail: Trail,
    /// Where steps run.
    pub sandboxes: &'a Sandboxes,
    /// A directory of this build's own.
    pub scratch: &'a Path,
    /// The bundle of certificate authorities that steps get.
    pub bundle: Option<PathBuf>,
    /// Set when what blocks a thread is to end.
    pub stop: Arc<AtomicBool>,
    /// What blocks a thread, to be waited for.
    pub tracker: TaskTracker,
    /// Sources that were fetched for this build, by what was asked for.
    pub fetched: tokio::sync::Mutex<BTreeMap<String, Arc<crate::source::Fetched>>>,
    /// Why it has failed.
    pub failure: Mutex<Option<Error>>,
    /// Steps carried out, and found.
    pub counts: (AtomicUsize, AtomicUsize),
}

/// What a build has come to.
pub struct Solved {
    /// The target's files.
    pub state: Arc<State>,
    /// The target's configuration.
    pub resolved: Resolved,
    /// The configuration of the image that the target's first stage started from.
    pub history: usize,
}

/// A result, and whether it was there.
type Done = (State, bool);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Solve<'_> {
    /// Carries the build out. `plan` says what is needed.
    pub async fn solve(&self, mut plan: Plan) -> Result<Solved, Error> {
        self.replace_named(&mut plan);
        let mut resolved = self.resolve(&mut plan)?;
        let order = plan.order();
        let vertices = self.announce(&plan, &order, &resolved).await?;
        let target = plan.target;
        let plan = &plan;
        let done = {
            let mut stages: BTreeMap<usize, Stage<'_>> = BTreeMap::new();
            for at in order {
                let before = stages.clone();
                let (resolved, vertices) = (&resolved, &vertices);
                let stage = async move {
                    let (Some(resolved), Some(vertices)) = (resolved.get(&at), vertices.get(&at)) else {
                        return Err(self.stopped(Error::Other(anyhow!("stage {at} was not resolved"))));
                    };
                    self.stage(plan, at, resolved, vertices, &before).await.map(Arc::new)
                };
                stages.insert(at, stage.boxed().shared());
            }
            futures::future::try_join_all(stages.values().cloned()).await.map(|mut all| all.pop())
        };
        let failure = || lock(&self.failure).take().unwrap_or(Error::Canceled);
        // The target is the last in order.
        let state = done.map_err(|Stopped| failure())?.ok_or_else(failure)?;
        let resolved = resolved.remove(&target).ok_or_else(failure)?;
        Ok(Solved { history: self.inherited(plan, target), state, resolved })
    }

    fn stopped(&self, error: Error) -> Stopped {
        lock(&self.failure).get_or_insert(error);
        Stopped
    }

    /// An image that a stage needs.
    fn image(&self, at: usize, name: &str) -> Option<&Image> {
        self.images.get(&(name.to_owned(), self.platforms[at].clone()))
    }

    /// Lines of history that the target has from an image.
    fn inherited(&self, plan: &Plan, target: usize) -> usize {
        let mut at = target;
        loop {
            match &plan.stages[at].base {
                Origin::Stage(earlier) => at = *earlier,
                Origin::Image(name) => {
                    return self.image(at, name).map_or(0, |image| image.config.history().as_ref().map_or(0, Vec::len));
                }
                Origin::Scratch => return 0,
            }
        }
    }

    /// A named context takes the place of a stage of its name: what that stage would have needed is not needed.
    fn replace_named(&self, plan: &mut Plan) {
        for (stage, node) in self.file.stages.iter().zip(&mut plan.stages) {
            if let Some(name) = stage.name.as_ref().filter(|name| self.named.contains_key(*name)) {
                node.base = Origin::Image(name.clone());
                node.needs.clear();
            }
        }
    }

    /// Whether a stage is but a name for a context.
    fn is_context(&self, at: usize) -> Option<&Arc<Tree>> {
        self.file.stages[at].name.as_ref().and_then(|name| self.named.get(name))
    }

    /// Everything that is known without carrying anything out.
    fn resolve(&self, plan: &mut Plan) -> Result<BTreeMap<usize, Resolved>, Error> {
        let (name, text) = self.source;
        let in_file = |error| Error::in_file(error, name, text);
        loop {
            let mut all: BTreeMap<usize, Resolved> = BTreeMap::new();
            let mut missed: BTreeSet<(usize, Origin)> = BTreeSet::new();
            for at in plan.order() {
                if self.is_context(at).is_some() {
                    let image = self.file.stages[at].name.as_ref().and_then(|name| self.image(at, name));
                    let image = image.map(|image| self.configuration(image)).transpose()?;
                    all.insert(at, Resolved { image: image.unwrap_or_default(), ..Resolved::default() });
                    continue;
                }
                let image;
                let base = match &plan.stages[at].base {
                    Origin::Scratch => Base::Scratch,
                    Origin::Stage(earlier) => all.get(earlier).map_or(Base::Scratch, Base::Stage),
                    Origin::Image(name) => match self.image(at, name) {
                        Some(found) => {
                            image = self.configuration(found)?;
                            Base::Image(&image)
                        }
                        None => Base::Scratch,
                    },
                };
                let resolved = resolve(self.file, plan, at, base, &self.options.arguments).map_err(in_file)?;
                for action in &resolved.actions {
                    for origin in self.origins(at, action)? {
                        if !plan.stages[at].needs.contains(&origin) {
                            missed.insert((at, origin));
                        }
                    }
                }
                all.insert(at, resolved);
            }
            // What a trigger of a base image copies from was not in the file.
            if missed.is_empty() {
                return Ok(all);
            }
            for (at, origin) in missed {
                plan.stages[at].needs.insert(origin);
            }
        }
    }

    fn configuration(&self, image: &Image) -> anyhow::Result<config::Image> {
        let path = self.inner.store().blob(&image.id).with_context(|| format!("image {} is gone", image.id))?;
        let bytes = std::fs::read(&path).with_context(|| format!("read the configuration of image {}", image.id))?;
        serde_json::from_slice(&bytes).with_context(|| format!("understand the configuration of image {}", image.id))
    }

    /// What an action uses besides the stage it is in.
    fn origins(&self, at: usize, action: &Action) -> Result<Vec<Origin>, Error> {
        let names: Vec<&String> = match &action.kind {
            Kind::Copy { copy, .. } => copy.from.iter().collect(),
            Kind::Run(process) => process.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
            Kind::Directory { .. } => Vec::new(),
        };
        let (name, text) = self.source;
        let named = |from: &&&String| !self.named.contains_key(from.as_str());
        let origins = names.iter().filter(named).map(|from| plan::origin(self.file, at, from, action.lines));
        origins.collect::<Result<_, _>>().map_err(|error| Error::in_file(error, name, text))
    }

    /// Tells of all steps, and gives each its number: of a stage first the one of its base.
    async fn announce(
        &self,
        plan: &Plan,
        order: &[usize],
        resolved: &BTreeMap<usize, Resolved>,
    ) -> Result<BTreeMap<usize, Vec<u32>>, Gone> {
        let mut vertices: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for &at in order {
            let Some(stage) = resolved.get(&at) else { continue };
            let image = match &plan.stages[at].base {
                Origin::Image(name) => self.image(at, name).map(|image| (name, image)),
                _ => None,
            };
            let total = stage.actions.len() + usize::from(image.is_some());
            let name = match &self.file.stages[at].name {
                Some(name) => format!("{name} "),
                None if order.len() > 1 => format!("stage-{at} "),
                None => String::new(),
            };
            let mut of_stage = Vec::new();
            let mut number = 0;
            let mut before: Vec<u32> = plan.stages[at]
                .before()
                .filter_map(|earlier| vertices.get(&earlier).and_then(|all| all.last()).copied())
                .collect();
            if let Some((written, image)) = image {
                number += 1;
                let reference =
                    oci::Reference::parse(written).map_or_else(|_| written.clone(), |name| name.to_string());
                let vertex = Vertex {
                    name: format!("[{name}{number}/{total}] FROM {reference}@{}", image.manifest),
                    inputs: before.clone(),
                    stage: Some(at),
                    lines: Some(self.file.stages[at].lines),
                    ..Vertex::default()
                };
                of_stage.push(self.progress.know(vertex).await?);
                before = of_stage.clone();
            } else {
                of_stage.push(0);
            }
            for action in &stage.actions {
                number += 1;
                let vertex = Vertex {
                    name: format!("[{name}{number}/{total}] {}", action.title),
                    inputs: before.clone(),
                    stage: Some(at),
                    lines: Some(action.lines),
                    ..Vertex::default()
                };
                let id = self.progress.know(vertex).await?;
                of_stage.push(id);
                before = vec![id];
            }
            vertices.insert(at, of_stage);
        }
        Ok(vertices)
    }

    async fn stage(
        &self,
        plan: &Plan,
        at: usize,
        resolved: &Resolved,
        vertices: &[u32],
        before: &BTreeMap<usize, Stage<'_>>,
    ) -> Result<State, Stopped> {
        let as_image = self.file.stages[at].name.as_ref().and_then(|name| self.image(at, name));
        if let (Some(_), Some(image)) = (self.is_context(at), as_image) {
            return Ok(State::image(image));
        }
        if let Some(tree) = self.is_context(at) {
            let begun = self.context_as_base(tree.clone()).await;
            return begun.map_err(|error| self.stopped(Error::Other(error)));
        }
        let mut state = match &plan.stages[at].base {
            Origin::Scratch => State::scratch(),
            Origin::Stage(earlier) => match before.get(earlier) {
                Some(stage) => (*stage.clone().await?).clone(),
                None => return Err(self.stopped(Error::Other(anyhow!("stage {earlier} is not there")))),
            },
            Origin::Image(name) => match (self.image(at, name), self.named.get(name)) {
                (Some(image), _) => State::image(image),
                (None, Some(tree)) => {
                    let begun = self.context_as_base(tree.clone()).await;
                    begun.map_err(|error| self.stopped(Error::Other(error)))?
                }
                (None, None) => return Err(self.stopped(Error::Other(anyhow!("image {name} is not there")))),
            },
        };
        if vertices[0] != 0 {
            let told = async {
                self.progress.start(vertices[0]).await?;
                self.progress.finish(vertices[0], Outcome::Cached).await
            };
            told.await.map_err(|gone| self.stopped(gone.into()))?;
        }
        for (action, &vertex) in resolved.actions.iter().zip(&vertices[1..]) {
            let origins = self.wait_for(at, action, before).await?;
            let begun = self.progress.start(vertex).await;
            begun.map_err(|gone| self.stopped(gone.into()))?;
            let done = self.step(at, state, action, vertex, &origins).await;
            let (outcome, result) = match done {
                Ok((state, true)) => {
                    self.counts.1.fetch_add(1, Ordering::Relaxed);
                    (Outcome::Cached, Ok(state))
                }
                Ok((state, false)) => {
                    self.counts.0.fetch_add(1, Ordering::Relaxed);
                    (Outcome::Done, Ok(state))
                }
                Err(failure) => {
                    let message = failure.to_string();
                    (Outcome::Failed(message), Err(self.failed(action, failure)))
                }
            };
            self.progress.finish(vertex, outcome).await.map_err(|gone| self.stopped(gone.into()))?;
            state = result?;
        }
        Ok(state)
    }

    fn failed(&self, action: &Action, failure: Failure) -> Stopped {
        let (name, text) = self.source;
        let (message, tail) = match failure {
            Failure::Ended { message, tail } => (message, tail),
            Failure::Other(error) if error.is::<Gone>() => return self.stopped(Error::Canceled),
            Failure::Other(error) => (format!("{error:#}"), String::new()),
        };
        let lines: Lines = action.lines;
        self.stopped(Error::Dockerfile {
            message,
            lines,
            name: name.to_owned(),
            text: text.to_owned(),
            step: Some(Box::new((action.title.clone(), tail))),
        })
    }

    /// The files that an action uses, by the names that it has for them.
    async fn wait_for(
        &self,
        at: usize,
        action: &Action,
        before: &BTreeMap<usize, Stage<'_>>,
    ) -> Result<BTreeMap<String, Arc<Tree>>, Stopped> {
        let names: Vec<&String> = match &action.kind {
            Kind::Copy { copy, .. } => copy.from.iter().collect(),
            Kind::Run(process) => process.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
            Kind::Directory { .. } => Vec::new(),
        };
        let empty = &self.inner.empty;
        let mut found = BTreeMap::new();
        for name in names {
            let tree = match self.named.get(name) {
                Some(tree) => tree.clone(),
                None => {
                    let origin = plan::origin(self.file, at, name, action.lines);
                    let (file, text) = self.source;
                    let origin = origin.map_err(|error| self.stopped(Error::in_file(error, file, text)))?;
                    match origin {
                        Origin::Scratch => Arc::new(State::scratch().tree(empty)),
                        Origin::Stage(earlier) => match before.get(&earlier) {
                            Some(stage) => Arc::new(stage.clone().await?.tree(empty)),
                            None => return Err(self.stopped(Error::Other(anyhow!("stage {name} is not there")))),
                        },
                        Origin::Image(image) => match self.image(at, &image) {
                            Some(image) => Arc::new(State::image(image).tree(empty)),
                            None => return Err(self.stopped(Error::Other(anyhow!("image {name} is not there")))),
                        },
                    }
                }
            };
            found.insert(name.clone(), tree);
        }
        Ok(found)
    }

    async fn step(
        &self,
        at: usize,
        state: State,
        action: &Action,
        vertex: u32,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> Result<Done, Failure> {
        let stage = self.file.stages[at].name.as_deref().unwrap_or_default();
        let forced = self.options.no_cache
            || self.options.no_cache_filter.iter().any(|name| name.eq_ignore_ascii_case(stage) && !stage.is_empty());
        let step = Step { stage: at, action, vertex, forced };
        match &action.kind {
            Kind::Directory { path, user } => self.directory(&step, state, path, user).await,
            Kind::Copy { copy, add } => self.copy(&step, state, copy, *add, origins).await,
            Kind::Run(process) => self.run(&step, state, process, origins).await,
        }
    }

    /// The result for one of the keys, the first that is there; known by all of them from now on.
    async fn find(&self, step: &Step<'_>, state: &State, keys: &[&Key]) -> anyhow::Result<Option<State>> {
        if step.forced {
            return Ok(None);
        }
        let kept: Vec<Key> = keys.iter().map(|key| self.of_realm(key)).collect();
        for (at, key) in kept.iter().enumerate() {
            let Some((record, root, held)) = self.inner.cache.find(key) else { continue };
            for other in kept[..at].iter().filter(|other| *other != key) {
                self.inner.cache.alias(other, &record).await?;
            }
            self.trace(&record);
            return Ok(Some(state.clone().with(record.layer, root, &record, held)));
        }
        self.carried(step, state, keys, &kept).await
    }

    /// Keeps in mind what was found or made, for `--cache-to`.
    fn trace(&self, record: &Record) {
        let Record { layer, next, created, title, found_by, .. } = record.clone();
        for key in &found_by {
            self.trail.add(key, Made { number: layer, next: next.clone(), created, title: title.clone() });
        }
    }

    /// The result that one of the build's `--cache-from` has: its layer is fetched, and from now on it is known here too. One that
    /// cannot be fetched is made anew.
    async fn carried(
        &self,
        step: &Step<'_>,
        state: &State,
        keys: &[&Key],
        kept: &[Key],
    ) -> anyhow::Result<Option<State>> {
        for source in self.sources {
            let Some(found) = keys.iter().find_map(|key| source.find(key)) else { continue };
            let file = self.scratch.join(format!("carried-{}", step.vertex));
            let fetched = async {
                source.layer(&found.layer, &file).await?;
                let (draft, held) = self.begin(state, false).await?;
                let (store, packed, upper) = (self.inner.store().clone(), file.clone(), draft.upper.clone());
                let unpack = move || -> anyhow::Result<oci::Digest> {
                    let input = std::fs::File::open(&packed).with_context(|| format!("open {}", packed.display()))?;
                    Ok(store.unpack_layer(input, &upper)?.diff_id)
                };
                let unpacked = self.blocking(unpack).await?;
                if unpacked != found.layer {
                    return Err(anyhow!("it holds {unpacked}"));
                }
                self.inner.store().end_draft(&draft).await?;
                let upper = draft.upper.clone();
                let usage = tokio::task::spawn_blocking(move || image::image::Usage::below(&upper)).await?;
                let (next, created) = (found.next.clone(), Some(found.created));
                let found_by = keys.iter().map(|key| (*key).clone()).collect();
                let noted = Noted { next, title: &found.title, bytes: usage.bytes, created, found_by };
                let record = self.inner.cache.note(kept, draft.number, noted).await?;
                anyhow::Ok((draft, held, record))
            };
            let fetched = fetched.await;
            if let Err(error) = tokio::fs::remove_file(&file).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), %error, "remove the archive of a cached layer");
            }
            match fetched {
                Ok((draft, held, record)) => {
                    self.trace(&record);
                    return Ok(Some(state.clone().with(draft.number, draft.upper, &record, held)));
                }
                Err(error) => {
                    tracing::warn!(layer = %found.layer, error = format!("{error:#}"), "a cached result is made anew");
                }
            }
        }
        Ok(None)
    }

    /// The key under which a result is kept: another one for everybody who shares no results.
    fn of_realm(&self, key: &Key) -> Key {
        if self.realm.name().is_empty() {
            return key.clone();
        }
        let mut fields = Fields::new("realm");
        fields.add(self.realm.name()).add(key);
        fields.finish()
    }

    /// Begins what a step writes.
    async fn begin(&self, state: &State, link: bool) -> anyhow::Result<(Draft, Use)> {
        let below = if link { None } else { state.lowers(&self.inner.empty).first().cloned() };
        self.inner.cache.begin(below.as_deref()).await
    }

    /// Notes what a step has written. The last of the keys is the one that following keys are made from.
    async fn note(
        &self,
        step: &Step<'_>,
        state: State,
        (draft, held): (Draft, Use),
        keys: Vec<Key>,
    ) -> anyhow::Result<State> {
        self.inner.store().end_draft(&draft).await?;
        let upper = draft.upper.clone();
        let usage = tokio::task::spawn_blocking(move || image::image::Usage::below(&upper)).await?;
        let mut next = keys.last().cloned().unwrap_or_default();
        if step.forced {
            // What follows must not be taken from what followed an earlier result.
            let mut fields = Fields::new("forced");
            fields.add(&next).number(draft.number).add(Timestamp::now().as_nanosecond().to_be_bytes());
            next = fields.finish();
        }
        let title = &step.action.title;
        let kept: Vec<Key> = keys.iter().map(|key| self.of_realm(key)).collect();
        let noted = Noted { next: next.clone(), title, bytes: usage.bytes, created: None, found_by: keys };
        let record = self.inner.cache.note(&kept, draft.number, noted).await?;
        self.trace(&record);
        Ok(state.with(draft.number, draft.upper, &record, held))
    }
}

/// A step that is being carried out.
pub struct Step<'a> {
    stage: usize,
    action: &'a Action,
    vertex: u32,
    /// Whether its result is not taken from the cache.
    forced: bool,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its process said so.
    #[error("{message}")]
    Ended {
        /// For people.
        message: String,
        /// The end of what it wrote.
        tail: String,
    },
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// This machine's platform.
pub fn own_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
}
