//! The engine as somebody sees it who may build, pull and push, and nothing else: a pod through a socket of its own.
//!
//! ```text
//! names that the pod gave, in a table of its own ─► images of the machine's store, kept by a name that only the table's owner has
//! ```
//!
//! Images are found by the table's names, and by ids that are in the table: not by what others call theirs. Registries are asked in
//! the name of the pod's ServiceAccount ([`rights`](crate::rights)), results of steps are shared with its namespace alone.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use build::{
    client::Client,
    request::{Confined, NetworkMode, Options, Realm},
};
use image::{
    Image,
    pull::{Credentials, Pull},
};
use oci::{Digest, Reference};

use crate::{
    Engine, buildkit,
    rights::{InTheNameOf, Rights},
};

/// Below this name images are kept for pods; nobody else sees it.
const KEPT: &str = "pods.madang.internal";
/// Names of one view.
const MOST: usize = 1000;
/// Digits of an id that mean an image in a request.
const REQUEST: usize = 4;
/// The same in a Dockerfile, where words are rather names.
const DOCKERFILE: usize = 12;

/// What somebody sees.
pub struct View {
    /// By which it is known: the pod's UID.
    pub id: String,
    /// In whose name registries are asked.
    pub rights: Arc<Rights>,
    /// Whose results are shared.
    pub confined: Confined,
    /// Sessions and builds of its own.
    pub(crate) buildkit: buildkit::State,
    file: PathBuf,
    names: Mutex<BTreeMap<String, Digest>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({})", self.id)
    }
}

/// Whether a name is one that images are kept by for somebody.
pub(crate) fn is_kept(name: &str) -> bool {
    name.strip_prefix(KEPT).is_some_and(|rest| rest.starts_with('/'))
}

fn kept_name(view: &str, image: &Digest) -> Result<Reference> {
    Reference::parse(&format!("{KEPT}/{view}:{}", image.hex())).context("name an image that is kept for a pod")
}

impl View {
    /// Takes up the table in `dir`, or begins one.
    pub fn open(id: &str, dir: &Path, rights: Rights, confined: Confined) -> Result<Self> {
        let file = dir.join(format!("{id}.json"));
        let names = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("understand {}", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Self {
            id: id.to_owned(),
            rights: Arc::new(rights),
            confined,
            buildkit: buildkit::State::default(),
            file,
            names: Mutex::new(names),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Digest>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&*self.lock())?;
        let (file, temporary) = (self.file.clone(), self.file.with_extension("new"));
        let write = move || {
            fs::write(&temporary, bytes)?;
            fs::rename(&temporary, &file)
        };
        tokio::task::spawn_blocking(write).await?.with_context(|| format!("write {}", self.file.display()))
    }

    /// An image as it is seen: with the view's names and no others.
    fn shown(&self, image: Image) -> Image {
        let names = self.lock();
        let own = names.iter().filter(|(_, id)| **id == image.id).map(|(name, _)| name.clone());
        Image { names: own.filter(|name| !is_kept(name)).collect(), digests: Vec::new(), ..image }
    }

    /// The image of a name, an id, or the beginning of one that has at least `shortest` digits.
    fn find(&self, name: &str, shortest: usize) -> Option<Digest> {
        let whole = Reference::parse(name).map(|reference| reference.to_string());
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let names = self.lock();
        let by_name = whole.ok().and_then(|whole| names.get(&whole).cloned());
        by_name.or_else(|| names.values().find(|id| hex.len() >= shortest && id.hex().starts_with(hex)).cloned())
    }

    fn image(&self, engine: &Engine, name: &str) -> Option<Image> {
        let id = self.find(name, REQUEST)?;
        engine.images().get(id.as_str()).map(|image| self.shown(image))
    }

    /// Forgets names, and lets images go that none is left for.
    async fn forget(&self, engine: &Engine, gone: impl Fn(&str, &Digest) -> bool) -> Result<Vec<Digest>> {
        let lost = {
            let mut names = self.lock();
            let before: Vec<Digest> = names.values().cloned().collect();
            names.retain(|name, id| !gone(name, id));
            let mut lost: Vec<Digest> =
                before.into_iter().filter(|id| !names.values().any(|left| left == id)).collect();
            lost.sort();
            lost.dedup();
            lost
        };
        self.save().await?;
        for id in &lost {
            let_go(engine, &kept_name(&self.id, id)?, id).await?;
        }
        Ok(lost)
    }
}

/// Takes a keeping name away, and the image with it where it was the last one.
async fn let_go(engine: &Engine, kept: &Reference, id: &Digest) -> Result<()> {
    let images = engine.images();
    images.untag(kept).await?;
    let unnamed = images.get(id.as_str()).is_some_and(|image| image.names.is_empty() && image.digests.is_empty());
    if unnamed && images.snapshots_of(id).is_empty() {
        images.remove(id.as_str()).await?;
    }
    Ok(())
}

/// Removes what was kept for views of which none is among `alive`.
pub(crate) async fn sweep(engine: &Engine, dir: &Path, alive: impl Fn(&str) -> bool) -> Result<()> {
    for image in engine.images().list() {
        for name in image.names.iter().filter(|name| is_kept(name)) {
            let owner = name[KEPT.len() + 1..].split(':').next().unwrap_or_default();
            if !alive(owner) {
                let_go(engine, &Reference::parse(name)?, &image.id).await?;
            }
        }
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("list {}", dir.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        let owner = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !alive(owner) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

impl Engine {
    /// Whose builds are.
    pub(crate) fn realm(&self) -> Realm {
        let Some(view) = self.view().cloned() else { return Realm::Machine };
        let confined = view.confined.clone();
        Realm::Confined(Confined { own: Some(Arc::new(move |name| view.find(name, DOCKERFILE))), ..confined })
    }

    /// How registries are asked.
    pub(crate) fn pull(&self, credentials: Vec<Credentials>) -> Pull {
        match self.view() {
            None => Pull { credentials, registries: self.registries().clone(), ..Pull::default() },
            Some(view) => {
                Pull { credentials, registries: view.confined.registries.clone(), abroad: true, ..Pull::default() }
            }
        }
    }

    /// Credentials for a registry: those that a request brought, or the account's.
    pub(crate) async fn credentials(&self, registry: &str, brought: Vec<Credentials>) -> Result<Vec<Credentials>> {
        match self.view() {
            Some(view) if registry == view.rights.registry || brought.is_empty() => {
                Ok(view.rights.credentials(registry).await?.into_iter().collect())
            }
            _ => Ok(brought),
        }
    }

    /// Whom a build asks.
    pub(crate) fn asking(&self, client: Arc<dyn Client>) -> Arc<dyn Client> {
        match self.view() {
            None => client,
            Some(view) => Arc::new(InTheNameOf { rights: view.rights.clone(), client }),
        }
    }

    /// Options of a build as far as they are allowed.
    pub(crate) fn allowed(&self, mut options: Options) -> Result<Options> {
        let Some(view) = self.view() else { return Ok(options) };
        if options.allow_host_network || options.network == NetworkMode::Host {
            bail!("network.host is not allowed here: builds for a pod have a network of their own");
        }
        if options.allow_insecure {
            bail!("security.insecure is not allowed here: steps of builds for a pod have no further privileges");
        }
        if !options.cgroup_parent.is_empty() {
            bail!("cgroup-parent is not allowed here: builds for a pod have a control group of their own");
        }
        // Below the pod's own, so that its bounds hold, and its end ends the build.
        let sandboxes = self.runtime().list_sandboxes();
        let sandbox = sandboxes.into_iter().rev().find(|sandbox| sandbox.record.config.uid == view.id);
        let config = sandbox.context("the pod that this socket is for has no sandbox")?.record.config;
        let group = format!("{}/pod{}-{}", config.cgroup_parent, config.uid, config.attempt);
        group.trim_start_matches('/').clone_into(&mut options.cgroup_parent);
        Ok(options)
    }

    /// An image by name or id, if it is to be seen.
    pub(crate) fn seen_image(&self, name: &str) -> Option<Image> {
        match self.view() {
            None => self.images().get(name),
            Some(view) => view.image(self, name),
        }
    }

    /// All images that are to be seen, without the names by which they are kept for others.
    pub(crate) fn seen_images(&self) -> Vec<Image> {
        let all = self.images().list();
        match self.view() {
            None => {
                let seen = all.into_iter().map(|mut image| {
                    let before = image.names.len();
                    image.names.retain(|name| !is_kept(name));
                    (before == 0 || !image.names.is_empty() || !image.digests.is_empty(), image)
                });
                seen.filter(|(seen, _)| *seen).map(|(_, image)| image).collect()
            }
            Some(view) => {
                let of = |image: &Image| view.lock().values().any(|id| *id == image.id);
                all.into_iter().filter(of).map(|image| view.shown(image)).collect()
            }
        }
    }

    /// Gives an image a name, taking it from whichever had it; without a name it is kept.
    pub(crate) async fn name_image(&self, id: &Digest, name: Option<&Reference>) -> Result<()> {
        let Some(view) = self.view() else {
            return match name {
                Some(name) => self.images().tag(id.as_str(), name).await,
                None => Ok(()),
            };
        };
        let kept = kept_name(&view.id, id)?;
        self.images().tag(id.as_str(), &kept).await?;
        let name = name.unwrap_or(&kept).to_string();
        let replaced = {
            let mut names = view.lock();
            if names.len() >= MOST && !names.contains_key(&name) {
                bail!("there are {MOST} names of images already: remove some");
            }
            names.insert(name, id.clone())
        };
        view.save().await?;
        match replaced {
            // It has gone from the table, unless another name is left for it.
            Some(before) if !view.lock().values().any(|left| *left == before) => {
                let_go(self, &kept_name(&view.id, &before)?, &before).await
            }
            _ => Ok(()),
        }
    }

    /// Takes a name away from the view, or an image with all its names; what went, as clients are told.
    pub(crate) async fn unname_image(&self, name: &str) -> Result<Option<(Vec<String>, Vec<Digest>)>> {
        let Some(view) = self.view() else { return Ok(None) };
        let Some(image) = view.image(self, name) else { return Ok(None) };
        let whole = Reference::parse(name).map(|reference| reference.to_string()).unwrap_or_default();
        let by_name = view.lock().contains_key(&whole);
        let untagged = if by_name { vec![whole.clone()] } else { image.names.clone() };
        let left = image.names.iter().any(|other| by_name && *other != whole);
        let deleted = view
            .forget(self, |known, id| match left {
                true => known == whole,
                false => *id == image.id,
            })
            .await?;
        Ok(Some((untagged, deleted)))
    }

    /// Forgets everything of a view, whose pod has gone.
    pub(crate) async fn end_view(&self, view: &View) -> Result<()> {
        view.forget(self, |_, _| true).await?;
        match fs::remove_file(&view.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", view.file.display()))
            }
            _ => Ok(()),
        }
    }
}
