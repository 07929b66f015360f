//! What all parts of the engine share: where it keeps things, the images, the registries.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::SystemTime,
};

use image::pull::Registries;
use runtime::Runtime;
use task::Task;

use crate::{
    buildkit,
    container::{Containers, exec::Execs, restore},
    disk,
    error::{Error, Result},
    events::Events,
    network::Networks,
    view::View,
    volume::Volumes,
};

/// Steps of builds that run at a time, at least: most of them wait for the network or the disk.
const PARALLEL: usize = 4;
/// Name servers of build steps where the machine has none but its own, as upstream chooses them.
const NAMESERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// Bytes that the cache of builds may take.
const CACHE: u64 = 20 << 30;

/// What an engine is given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Containers, networks and volumes.
    pub dir: PathBuf,
    /// Sockets of shims.
    pub run_dir: PathBuf,
    /// Group below which containers run, relative to the root of every hierarchy.
    pub cgroup_root: String,
    /// Name of the machine.
    pub name: String,
    /// Version of the product.
    pub version: String,
    /// Name of the instance, by which its links and tables are told from another's.
    pub instance: String,
    /// Where the machine says which servers it asks for names.
    pub resolv_conf: PathBuf,
}

/// The engine, whole or as a pod sees it. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>, Option<Arc<View>>);

pub(crate) struct Inner {
    settings: Settings,
    task: Task,
    runtime: Runtime,
    registries: Arc<Registries>,
    builder: build::builder::Builder,
    buildkit: buildkit::State,
    started_at: SystemTime,
    boot_id: String,
    containers: Containers,
    execs: Execs,
    networks: Networks,
    volumes: Volumes,
    events: Events,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes up what is in `settings.dir`. `runtime` is the one that pods use: images are shared with it, names are not.
    pub async fn open(
        task: &Task,
        settings: Settings,
        runtime: Runtime,
        registries: Arc<Registries>,
    ) -> anyhow::Result<Self> {
        let building = build::builder::Settings {
            dir: settings.dir.join("build"),
            registries: registries.clone(),
            trust: image::pull::Trust::Host,
            parallel: std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(PARALLEL),
            nameservers: NAMESERVERS.map(str::to_owned).to_vec(),
            own_users: true,
            cache: CACHE,
        };
        let builder = build::builder::Builder::open(task, building, runtime.clone()).await?;
        for dir in [&settings.dir, &settings.run_dir] {
            let dir = dir.clone();
            disk::blocking(move || disk::private_directory(&dir)).await?;
        }
        let volumes = settings.dir.join("volumes");
        let inner = Arc::new(Inner {
            boot_id: runtime::record::boot_id()?,
            containers: Containers::default(),
            execs: Execs::default(),
            networks: Networks::open(&settings).await?,
            volumes: disk::blocking(move || Volumes::open(volumes)).await?,
            events: Events::default(),
            settings,
            task: task.clone(),
            runtime,
            registries,
            builder,
            buildkit: buildkit::State::default(),
            started_at: SystemTime::now(),
        });
        let engine = Self(inner, None);
        restore::all(&engine).await?;
        engine.networks().start(&engine).await?;
        restore::settle(&engine).await;
        Ok(engine)
    }

    /// What carries out builds.
    pub fn builder(&self) -> &build::builder::Builder {
        &self.0.builder
    }

    /// The same engine for somebody who may only build, pull and push.
    pub(crate) fn seen(&self, view: Arc<View>) -> Self {
        Self(self.0.clone(), Some(view))
    }

    /// What somebody sees of it; none for those who see all.
    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.1.as_ref()
    }

    /// Sessions and builds of BuildKit's clients.
    pub(crate) fn buildkit(&self) -> &buildkit::State {
        self.view().map_or(&self.0.buildkit, |view| &view.buildkit)
    }

    /// For what must not keep the engine alive.
    pub(crate) fn weak(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// The engine that is meant, while it is there.
    pub(crate) fn of(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(|inner| Self(inner, None))
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What work of requests is part of.
    pub fn task(&self) -> &Task {
        &self.0.task
    }

    /// Does something to its end, also when whoever asked for it hangs up meanwhile: what is half started, stopped or removed is neither.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.task().spawn(name, async move {
            // Nobody may be waiting any more.
            let _ = tell.send(work.await);
        });
        let ended = || Error::new(http::StatusCode::SERVICE_UNAVAILABLE, "the server ends");
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The images of this machine.
    pub fn images(&self) -> &image::Store {
        self.0.runtime.images()
    }

    /// Sandboxes and containers of the machine, pods' among them.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Mirrors, certificates and credentials for registries.
    pub fn registries(&self) -> &Arc<Registries> {
        &self.0.registries
    }

    /// Containers.
    pub fn containers(&self) -> &Containers {
        &self.0.containers
    }

    /// Further processes in them.
    pub fn execs(&self) -> &Execs {
        &self.0.execs
    }

    /// Networks.
    pub fn networks(&self) -> &Networks {
        &self.0.networks
    }

    /// Volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.0.volumes
    }

    /// What happens.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The kernel's name for this boot of the machine.
    pub fn boot_id(&self) -> &str {
        &self.0.boot_id
    }

    /// Where the shim of a run listens.
    pub(crate) fn shim_socket(&self, sandbox: &str) -> PathBuf {
        self.0.settings.run_dir.join(format!("{}.sock", sandbox.get(..16).unwrap_or(sandbox)))
    }

    /// When it was opened.
    pub fn started_at(&self) -> SystemTime {
        self.0.started_at
    }
}
