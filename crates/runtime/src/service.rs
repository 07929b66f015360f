//! The service itself: what it holds, how it is opened, and how it finds again what runs.
//!
//! ```text
//! open ── records on disk ──┬─ shim answers ─▶ follow its events; exits it has seen meanwhile go into the records
//!                           └─ shim is gone ─▶ its file of exits; what is not in there was lost
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, RwLock},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use container::{
    cgroup::{self, Version},
    shim::{self, Shim},
};
use network::Network;
use task::Task;
use tokio::sync::{mpsc, watch};

use crate::{
    address::{Pool, Range},
    record::{self, ContainerRecord, Exit, SandboxRecord},
    spec,
};

/// What a runtime is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// Records, files of sandboxes.
    pub dir: PathBuf,
    /// Sockets of shims.
    pub run_dir: PathBuf,
    /// Group below which all pods are, relative to the root of every hierarchy: `madang/pods`.
    pub cgroup_root: String,
    /// Bytes of a log file before the next is begun.
    pub log_bytes: u64,
    /// Log files kept of one container.
    pub log_files: u32,
}

/// Something that happened by itself.
#[derive(Clone, Debug)]
pub enum Event {
    /// A container has ended.
    Exited {
        /// UID of its pod.
        uid: String,
        /// Its sandbox.
        sandbox: String,
        /// Its record, with the exit.
        container: Box<ContainerRecord>,
    },
    /// The shim of a sandbox is gone, and with it everything that ran in it.
    Died {
        /// UID of its pod.
        uid: String,
        /// The sandbox.
        sandbox: String,
    },
}

/// Sandboxes and containers of one machine. Clones are the same service.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub config: Config,
    pub images: image::Store,
    pub binary: shim::Binary,
    pub version: Version,
    pub task: Task,
    pub boot_id: String,
    /// Capabilities that this process may hand on.
    pub capabilities: BTreeSet<String>,
    /// Open files that a container's processes may have: raising the limit takes a privilege that this process may lack.
    pub open_files: u64,
    pub network: RwLock<Option<Network>>,
    /// Whether `network` is there.
    pub connected: watch::Sender<bool>,
    pub pool: Mutex<Option<Pool>>,
    pub sandboxes: RwLock<HashMap<String, Arc<Sandbox>>>,
    /// Held while a sandbox is given users of its own.
    pub placing: Mutex<()>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<Event>>>,
}

/// A sandbox in memory.
pub(crate) struct Sandbox {
    pub record: Mutex<SandboxRecord>,
    pub shim: Mutex<Option<Shim>>,
    pub containers: Mutex<HashMap<String, Arc<Container>>>,
    /// Held while it is being made, stopped or removed.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

/// A container in memory.
pub(crate) struct Container {
    pub record: Mutex<ContainerRecord>,
    /// Whether it has ended.
    pub ended: watch::Sender<bool>,
}

/// A sandbox as callers see it.
#[derive(Clone, Debug)]
pub struct SandboxStatus {
    /// What is known.
    pub record: SandboxRecord,
    /// Whether its shim is alive.
    pub alive: bool,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// The lock of plain data that no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Sandbox {
    pub fn new(record: SandboxRecord) -> Self {
        Self { record: Mutex::new(record), shim: Mutex::new(None), containers: Mutex::default(), turn: Arc::default() }
    }

    pub fn shim(&self) -> Result<Shim> {
        lock(&self.shim).clone().with_context(|| format!("sandbox {} is not running", lock(&self.record).id))
    }

    pub fn container(&self, id: &str) -> Option<Arc<Container>> {
        lock(&self.containers).get(id).cloned()
    }
}

impl Container {
    pub fn new(record: ContainerRecord) -> Self {
        let ended = record.exit.is_some() || record.failure.is_some();
        Self { record: Mutex::new(record), ended: watch::Sender::new(ended) }
    }

    pub fn record(&self) -> ContainerRecord {
        lock(&self.record).clone()
    }
}

impl Runtime {
    /// Takes up what is in `config.dir`: finds running shims again and settles what happened meanwhile. Sandboxes with a
    /// network of their own can be made once [`Runtime::connect`] was called.
    pub async fn open(task: &Task, config: Config, images: image::Store, binary: shim::Binary) -> Result<Self> {
        tokio::fs::create_dir_all(config.dir.join("sandboxes"))
            .await
            .with_context(|| format!("make {}", config.dir.display()))?;
        tokio::fs::create_dir_all(&config.run_dir)
            .await
            .with_context(|| format!("make {}", config.run_dir.display()))?;
        let version = Version::detect().context("detect control groups")?;
        let status = tokio::fs::read_to_string("/proc/self/status").await.context("read /proc/self/status")?;
        let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap_or("0");
        let runtime = Self(Arc::new(Inner {
            capabilities: spec::capabilities_of_mask(mask),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .maximum
                .map_or(spec::OPEN_FILES, |limit| limit.min(spec::OPEN_FILES)),
            images,
            binary,
            version,
            task: task.clone(),
            boot_id: record::boot_id()?,
            network: RwLock::default(),
            connected: watch::Sender::new(false),
            pool: Mutex::default(),
            sandboxes: RwLock::default(),
            placing: Mutex::default(),
            listeners: Mutex::default(),
            config,
        }));
        runtime.recover().await?;
        Ok(runtime)
    }

    /// Gives the runtime its network, of which `pod_cidr` (`ADDRESS/BITS`) is this node's range. Sandboxes that are
    /// attached but not known are detached, those that run are attached anew where something is missing.
    pub async fn connect(&self, network: Network, pod_cidr: &str) -> Result<()> {
        let range = Range::parse(pod_cidr)?;
        let sandboxes = self.all();
        let taken: Vec<Ipv4Addr> = sandboxes
            .iter()
            .map(|sandbox| lock(&sandbox.record).clone())
            .filter(|record| !record.stopped)
            .filter_map(|record| record.ip)
            .collect();
        *lock(&self.0.pool) = Some(Pool::new(range, taken));
        for pod in network.pods() {
            let known = self.find(&pod.id).is_some_and(|sandbox| !lock(&sandbox.record).stopped);
            if !known {
                network.detach(&pod.id).await.with_context(|| format!("detach left-over sandbox {}", pod.id))?;
            }
        }
        *self.0.network.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(network.clone());
        self.0.connected.send_replace(true);
        for sandbox in sandboxes {
            // Apart from the next line: asking for a shim that is gone looks at the record too.
            let record = lock(&sandbox.record).clone();
            let Ok(shim) = sandbox.shim() else { continue };
            if let Some(request) = crate::sandboxes::attachment(&record, &shim)
                && let Err(error) = network.attach(request).await
            {
                tracing::warn!(sandbox = record.id, %error, "attach after restart");
            }
        }
        Ok(())
    }

    /// Resolves once there is a network: a server that starts serves requests before it.
    pub async fn connected(&self) {
        // It does not close: this service holds it.
        drop(self.0.connected.subscribe().wait_for(|connected| *connected).await);
    }

    /// The network, once there is one.
    pub fn network(&self) -> Option<Network> {
        self.0.network.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The images of this machine.
    pub fn images(&self) -> &image::Store {
        &self.0.images
    }

    /// The shim's program.
    pub fn binary(&self) -> &shim::Binary {
        &self.0.binary
    }

    /// Capabilities (`CAP_...`) that containers may be given.
    pub fn capabilities(&self) -> &BTreeSet<String> {
        &self.0.capabilities
    }

    /// Open files that a container's processes may have.
    pub fn open_files(&self) -> u64 {
        self.0.open_files
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Everything that happens from now on.
    pub fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.0.listeners).push(sender);
        receiver
    }

    pub(crate) fn tell(&self, event: &Event) {
        lock(&self.0.listeners).retain(|listener| listener.send(event.clone()).is_ok());
    }

    pub(crate) fn all(&self) -> Vec<Arc<Sandbox>> {
        self.0.sandboxes.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.0.sandboxes.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        self.find(id).with_context(|| format!("no sandbox {id}"))
    }

    /// The sandbox and the container of an id.
    pub(crate) fn container(&self, id: &str) -> Result<(Arc<Sandbox>, Arc<Container>)> {
        let found = self.all().into_iter().find_map(|sandbox| sandbox.container(id).map(|found| (sandbox, found)));
        found.with_context(|| format!("no container {id}"))
    }

    pub(crate) fn keep(&self, sandbox: Arc<Sandbox>) {
        let id = lock(&sandbox.record).id.clone();
        self.0.sandboxes.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, sandbox);
    }

    pub(crate) fn forget(&self, id: &str) {
        self.0.sandboxes.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }

    pub(crate) fn save_sandbox(&self, record: &SandboxRecord) -> Result<()> {
        record::write(&record::sandbox_dir(&self.0.config.dir, &record.id).join("sandbox.json"), record)
    }

    pub(crate) fn save_container(&self, record: &ContainerRecord) -> Result<()> {
        let dir = record::container_dir(&self.0.config.dir, &record.sandbox, &record.id);
        record::write(&dir.join("container.json"), record)
    }

    pub(crate) fn socket(&self, id: &str) -> PathBuf {
        self.0.config.run_dir.join(format!("{}.sock", &id[..id.len().min(16)]))
    }

    /// What `exec` runs its commands as.
    pub(crate) fn process_path(&self, container: &str) -> PathBuf {
        self.0.config.run_dir.join(format!("{}.process", &container[..container.len().min(16)]))
    }

    pub(crate) fn cgroup(&self, record: &SandboxRecord) -> Result<cgroup::Path> {
        let mut path = cgroup::Path::new(&self.0.config.cgroup_root)?;
        for part in record.config.cgroup_parent.split('/').filter(|part| !part.is_empty()) {
            path = path.join(part)?;
        }
        Ok(path.join(&format!("pod{}-{}", record.config.uid, record.config.attempt))?)
    }

    /// Whether the machine has control groups of version 2.
    pub fn is_cgroup_v2(&self) -> bool {
        self.0.version.is_v2()
    }

    /// Sandboxes, oldest first.
    pub fn list_sandboxes(&self) -> Vec<SandboxStatus> {
        let status = |sandbox: &Arc<Sandbox>| SandboxStatus {
            record: lock(&sandbox.record).clone(),
            alive: lock(&sandbox.shim).is_some(),
        };
        let mut list: Vec<_> = self.all().iter().map(status).collect();
        list.sort_by_key(|status| status.record.created_at);
        list
    }

    /// Containers of one sandbox, or of all, oldest first.
    pub fn list_containers(&self, sandbox: Option<&str>) -> Vec<ContainerRecord> {
        let sandboxes = match sandbox {
            Some(id) => self.find(id).into_iter().collect(),
            None => self.all(),
        };
        let records = |sandbox: Arc<Sandbox>| -> Vec<ContainerRecord> {
            lock(&sandbox.containers).values().map(|container| container.record()).collect()
        };
        let mut list: Vec<_> = sandboxes.into_iter().flat_map(records).collect();
        list.sort_by_key(|record| record.created_at);
        list
    }

    async fn recover(&self) -> Result<()> {
        let dir = self.0.config.dir.clone();
        let (found, broken) = tokio::task::spawn_blocking(move || record::load(&dir)).await??;
        for dir in broken {
            tracing::info!(dir = %dir.display(), "remove half-made directory");
            crate::sandboxes::unmount_shm(&dir);
            if let Err(error) = tokio::fs::remove_dir_all(&dir).await {
                tracing::warn!(dir = %dir.display(), %error, "remove half-made directory");
            }
        }
        let known: BTreeSet<String> =
            found.iter().flat_map(|(_, containers)| containers.iter().map(|container| container.id.clone())).collect();
        for id in self.0.images.snapshots() {
            // Snapshots of others (builds) have names of another form.
            if id.len() == 64
                && !known.contains(&id)
                && let Err(error) = self.0.images.release(&id).await
            {
                tracing::warn!(container = id, error = format!("{error:#}"), "remove files of a forgotten container");
            }
        }
        for (record, containers) in found {
            let sandbox = Arc::new(Sandbox::new(record));
            for container in containers {
                lock(&sandbox.containers).insert(container.id.clone(), Arc::new(Container::new(container)));
            }
            self.keep(sandbox.clone());
            self.find_again(&sandbox).await;
        }
        Ok(())
    }

    /// Settles what became of one sandbox while nobody looked.
    async fn find_again(&self, sandbox: &Arc<Sandbox>) {
        let record = lock(&sandbox.record).clone();
        if !record.stopped && record.boot_id == self.0.boot_id {
            match self.reconnect(sandbox, &record).await {
                Ok(()) => return,
                Err(error) => tracing::info!(sandbox = record.id, %error, "shim is gone"),
            }
        }
        self.lose(sandbox);
    }

    async fn reconnect(&self, sandbox: &Arc<Sandbox>, record: &SandboxRecord) -> Result<()> {
        let shim = Shim::connect(&self.0.task, &self.socket(&record.id)).await?;
        if shim.id() != record.id {
            bail!("another shim answers: {}", shim.id());
        }
        self.follow(sandbox.clone(), shim.clone());
        let info = shim.info().await?;
        for state in info.containers {
            let Some(container) = sandbox.container(&state.id) else { continue };
            if let Some(started_at) = state.started_at {
                let mut record = lock(&container.record);
                if record.started_at.is_none() {
                    record.started_at = Some(started_at);
                    if let Err(error) = self.save_container(&record) {
                        tracing::warn!(container = record.id, error = format!("{error:#}"), "write down a start");
                    }
                }
            }
            if let Some(exit) = state.exit {
                self.settle(sandbox, &container, exit.into()).await;
            }
        }
        // Containers that the shim does not know have ended before and are in its file, or were never made.
        self.settle_from_file(sandbox);
        *lock(&sandbox.shim) = Some(shim);
        Ok(())
    }

    /// Notes that everything of a sandbox without a shim has ended.
    pub(crate) fn lose(&self, sandbox: &Arc<Sandbox>) {
        *lock(&sandbox.shim) = None;
        self.settle_from_file(sandbox);
        let containers: Vec<_> = lock(&sandbox.containers).values().cloned().collect();
        for container in containers {
            let open = {
                let record = lock(&container.record);
                record.exit.is_none() && record.failure.is_none()
            };
            if open {
                let exit = Exit { code: 137, signal: None, oom: false, finished_at: SystemTime::now(), lost: true };
                self.note_exit(sandbox, &container, exit);
            }
        }
    }

    fn settle_from_file(&self, sandbox: &Arc<Sandbox>) {
        let dir = record::sandbox_dir(&self.0.config.dir, &lock(&sandbox.record).id).join("shim");
        let exits = shim::Exits::read(&dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "read how containers ended; they count as lost");
            Default::default()
        });
        let containers: Vec<_> = lock(&sandbox.containers).values().cloned().collect();
        for container in containers {
            let id = lock(&container.record).id.clone();
            if let Some(exit) = exits.get(&id) {
                self.note_exit(sandbox, &container, exit.into());
            }
        }
    }

    /// Reads the events of a shim until it is gone.
    pub(crate) fn follow(&self, sandbox: Arc<Sandbox>, shim: Shim) {
        let (runtime, mut events) = (self.clone(), shim.events());
        self.0.task.spawn("shim events", async move {
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = runtime.0.task.cancelled() => return,
                };
                match event {
                    Some(shim::Event::Exited { id, exit }) => {
                        let Some(container) = sandbox.container(&id) else { continue };
                        runtime.settle(&sandbox, &container, exit.into()).await;
                    }
                    Some(shim::Event::Oom { id }) => tracing::info!(container = id, "out of memory"),
                    // It is this process that ends, and with it the connection; the shim goes on.
                    None if runtime.0.task.is_cancelled() => return,
                    None => break,
                }
            }
            let record = lock(&sandbox.record).clone();
            if record.stopping {
                return;
            }
            tracing::warn!(sandbox = record.id, pod = record.config.name, "shim is gone");
            runtime.lose(&sandbox);
            runtime.tell(&Event::Died { uid: record.config.uid, sandbox: record.id });
        });
    }

    /// Notes an exit and lets the shim forget the container.
    async fn settle(&self, sandbox: &Arc<Sandbox>, container: &Arc<Container>, exit: Exit) {
        self.note_exit(sandbox, container, exit);
        let id = lock(&container.record).id.clone();
        let shim = lock(&sandbox.shim).clone();
        if let Some(shim) = shim
            && let Err(error) = shim.delete(&id, false).await
        {
            tracing::debug!(container = id, %error, "shim keeps an ended container");
        }
    }

    fn note_exit(&self, sandbox: &Arc<Sandbox>, container: &Arc<Container>, exit: Exit) {
        let record = {
            let mut record = lock(&container.record);
            if record.exit.is_some() {
                return;
            }
            record.exit = Some(exit);
            if let Err(error) = self.save_container(&record) {
                tracing::warn!(container = record.id, %error, "write down an exit");
            }
            record.clone()
        };
        container.ended.send_replace(true);
        let uid = lock(&sandbox.record).config.uid.clone();
        self.tell(&Event::Exited { uid, sandbox: record.sandbox.clone(), container: Box::new(record) });
    }
}

impl From<shim::Exit> for Exit {
    fn from(exit: shim::Exit) -> Self {
        Self { code: exit.code, signal: exit.signal, oom: exit.oom, finished_at: exit.finished_at, lost: false }
    }
}
