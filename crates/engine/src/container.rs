//! Containers: one owner each of what is known, what runs, and who waits.
//!
//! ```text
//!          start                     ends
//! created ───────▶ running ◀──────▶ paused
//!    │              │    ▲
//!    │         ends ▼    │ start, or the restart policy after a while
//!    │            exited │ restarting
//!    └────▶ removing ◀───┘
//! ```
//!
//! Each start launches a shim of its own; it is the parent of the processes and outlives this one. What is on disk says which
//! shim it is, so that a later process finds it again.

pub mod archive;
pub mod attach;
pub mod commit;
pub mod create;
pub mod diff;
pub mod exec;
pub mod files;
pub mod health;
pub mod inspect;
pub mod life;
pub mod list;
pub mod logs;
pub mod mounts;
pub mod policy;
pub mod remove;
pub mod restore;
pub mod spec;
pub mod start;
pub mod stats;
pub mod top;
pub mod update;
pub mod wait;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use container::shim::Shim;
use tokio::sync::watch;

use crate::{
    Engine, disk,
    error::{Error, Result},
    model::record::{Record, Status},
    network::ports::Claim,
};

/// A container.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    record: Mutex<Record>,
    /// Held by whoever starts, stops or removes it.
    pub(crate) turn: tokio::sync::Mutex<()>,
    shim: Mutex<Option<Shim>>,
    progress: watch::Sender<Progress>,
    /// Who attached before it was started.
    pub(crate) early: Mutex<Vec<attach::Early>>,
    /// What keeps others from its published ports.
    pub(crate) claims: Mutex<Vec<Claim>>,
    /// Size of the terminal at the next start: rows, columns.
    pub(crate) console: Mutex<(u16, u16)>,
    /// The delay before the last restart.
    pub(crate) delay: Mutex<std::time::Duration>,
    /// Whether it stays although it ends, because it is started again at once.
    pub(crate) kept: Mutex<bool>,
    /// Ends the looks at its health, and a wait for a restart.
    pub(crate) run: Mutex<Option<task::Task>>,
}

/// What waiters see of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often it has ended.
    pub exits: u64,
    /// The last exit code.
    pub code: i32,
    /// Why it did not start, if it did not.
    pub error: String,
    /// Whether it is gone.
    pub removed: bool,
}

/// The lock of plain data that no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    pub(crate) fn new(record: Record) -> Self {
        let [rows, columns] = record.host.console_size.map(|size| u16::try_from(size).unwrap_or(u16::MAX));
        let progress =
            Progress { code: record.state.exit_code, error: record.state.error.clone(), ..Progress::default() };
        Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            turn: tokio::sync::Mutex::default(),
            shim: Mutex::default(),
            progress: watch::Sender::new(progress),
            early: Mutex::default(),
            claims: Mutex::default(),
            console: Mutex::new((rows, columns)),
            delay: Mutex::default(),
            kept: Mutex::default(),
            run: Mutex::default(),
        }
    }

    /// What is known of it now.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Looks at what is known of it.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.record))
    }

    /// Changes what is known of it, in memory; [`Container::save`] follows.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut lock(&self.record))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.look(|record| record.name.clone())
    }

    /// The shim of the present run.
    pub fn shim(&self) -> Option<Shim> {
        lock(&self.shim).clone()
    }

    pub(crate) fn set_shim(&self, shim: Option<Shim>) {
        *lock(&self.shim) = shim;
    }

    /// The shim and the name by which it knows the container; an error where it does not run.
    pub fn running(&self) -> Result<(Shim, String)> {
        let (running, sandbox) = self.look(|record| (record.state.is_running(), record.state.sandbox.clone()));
        match self.shim() {
            Some(shim) if running => Ok((shim, sandbox)),
            _ => Err(Error::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// What becomes of it.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn advance(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Puts what is known of it onto the disk.
    pub async fn save(&self, engine: &Engine) -> Result<()> {
        let (record, path) = (self.record(), engine.container_dir(&self.id).join("container.json"));
        Ok(disk::blocking(move || disk::write(&path, &record)).await?)
    }

    /// The same where nobody waits for it: that it fails is logged.
    pub(crate) async fn save_or_warn(&self, engine: &Engine) {
        if let Err(error) = self.save(engine).await {
            tracing::warn!(container = self.id, %error, "write down the state of a container");
        }
    }

    /// Tells of what happened to it, with its labels and what else there is to say.
    pub fn tell(&self, engine: &Engine, action: &str, more: &[(&str, String)]) {
        let attributes = self.look(|record| {
            let mut attributes: BTreeMap<String, String> = record.config.labels.clone();
            attributes.insert("image".into(), record.config.image.clone());
            attributes.insert("name".into(), record.name.clone());
            attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            attributes
        });
        engine.events().tell("container", action, &self.id, attributes);
    }
}

/// All containers.
#[derive(Debug, Default)]
pub struct Containers {
    all: Mutex<HashMap<String, Arc<Container>>>,
    /// Names that are given or being given, and to whom.
    names: Mutex<HashMap<String, String>>,
}

impl Containers {
    /// All, the newest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = lock(&self.all).values().cloned().collect();
        all.sort_by_cached_key(|container| std::cmp::Reverse(container.look(|record| record.created_at)));
        all
    }

    /// By id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Container>> {
        lock(&self.all).get(id).cloned()
    }

    /// By id, name, or the unambiguous beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Arc<Container>> {
        let missing = || Error::missing(format!("No such container: {wanted}"));
        if wanted.is_empty() {
            return Err(missing());
        }
        if let Some(found) = self.by_id(wanted) {
            return Ok(found);
        }
        let named = lock(&self.names).get(wanted.strip_prefix('/').unwrap_or(wanted)).cloned();
        if let Some(found) = named.and_then(|id| self.by_id(&id)) {
            return Ok(found);
        }
        let all = lock(&self.all);
        let mut found = all.iter().filter(|(id, _)| id.starts_with(wanted)).map(|(_, container)| container);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {wanted}"))),
            _ => Err(missing()),
        }
    }

    /// Reserves a name for an id.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut names = lock(&self.names);
        match names.get(name) {
            Some(other) if other != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{other}\". You have to remove \
                 (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a name back, where it is that id's.
    pub(crate) fn release(&self, name: &str, id: &str) {
        let mut names = lock(&self.names);
        if names.get(name).is_some_and(|owner| owner == id) {
            names.remove(name);
        }
    }

    pub(crate) fn keep(&self, container: Arc<Container>) {
        lock(&self.all).insert(container.id.clone(), container);
    }

    pub(crate) fn forget(&self, id: &str) {
        lock(&self.all).remove(id);
    }

    /// How many there are, by what they do: running, paused, stopped.
    pub fn counts(&self) -> (usize, usize, usize) {
        lock(&self.all).values().fold((0, 0, 0), |(running, paused, stopped), container| {
            container.look(|record| match (record.state.status, record.state.paused) {
                (Status::Running, true) => (running, paused + 1, stopped),
                (Status::Running, false) => (running + 1, paused, stopped),
                _ => (running, paused, stopped + 1),
            })
        })
    }
}

impl Engine {
    /// Where a container's record, logs and files are.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.settings().dir.join("containers").join(id)
    }

    /// What the image store calls the writable layer of a container. Names of pods' are ids alone.
    pub(crate) fn snapshot_name(id: &str) -> String {
        format!("engine-{id}")
    }
}
