//! What all parts of the engine share: where it keeps things, the images, the registries.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use image::pull::Registries;
use runtime::Runtime;
use task::Task;

use crate::buildkit;

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

/// The engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    settings: Settings,
    task: Task,
    runtime: Runtime,
    registries: Arc<Registries>,
    builder: build::builder::Builder,
    buildkit: buildkit::State,
    started_at: SystemTime,
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
            cache: CACHE,
        };
        let builder = build::builder::Builder::open(task, building, runtime.clone()).await?;
        Ok(Self(Arc::new(Inner {
            settings,
            task: task.clone(),
            runtime,
            registries,
            builder,
            buildkit: buildkit::State::default(),
            started_at: SystemTime::now(),
        })))
    }

    /// What carries out builds.
    pub fn builder(&self) -> &build::builder::Builder {
        &self.0.builder
    }

    /// Sessions and builds of BuildKit's clients.
    pub(crate) fn buildkit(&self) -> &buildkit::State {
        &self.0.buildkit
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What work of requests is part of.
    pub fn task(&self) -> &Task {
        &self.0.task
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

    /// When it was opened.
    pub fn started_at(&self) -> SystemTime {
        self.0.started_at
    }
}
