//! `Build` objects: carried out by this machine's engine, each in a control group of its own.
//!
//! ```text
//! watch ─► queue ─► decide (object, what is known here) ─► claim, start, stop, delete
//!                                                             │
//!          DIR/UID/context    an archive that was sent        ▼
//!          DIR/UID/log   ◄── lines of the build ─── work: sources, rights ─► build::Builder ─► pushed ─► status
//! ```
//!
//! The object's status is the memory: after a restart of the server a build that was Running is begun again, from what the cache has.
//! Logs and archives go by the node's API (`/builds/NAMESPACE/NAME/log`, `/context`), for those who have the right to `builds/log` and
//! `builds/context`.
//!
//! In reading order: [`kind`], [`decide`], [`work`], [`log`], [`door`].

pub mod kind;

pub mod decide;

pub mod work;

pub mod log;

pub mod door;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use client::{
    cache::{Cache, Key, Scope},
    events::{Recorder, Severity},
    queue::{Next, Queue},
};
use container::cgroup;
use image::pull::Registries;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use task::Task;
use tokio::sync::watch;

use crate::{Engine, disk};
use decide::{Action, Known, decide};
use kind::{Build, Phase, Status};

/// Builds at a time; more wait for their turn.
const MOST: usize = 16;
/// Turns that are taken at a time.
const WORKERS: usize = 4;
/// How long an end that cannot be told is tried to be told again at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// What control groups of builds begin with.
const GROUP: &str = "build-";
/// How long processes of a removed control group may take to die.
const DYING: Duration = Duration::from_secs(10);

/// What carrying out objects takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Group below which containers run, relative to the root of every hierarchy.
    pub cgroup_root: String,
    /// The cluster's own registry, as images name it.
    pub registry: String,
    /// The host of the cluster's own git server.
    pub git: String,
    /// Mirrors and certificate authorities, without the machine's credentials.
    pub registries: Arc<Registries>,
}

/// All builds of this node. Clones are the same.
#[derive(Clone)]
pub struct Builds(Arc<Inner>);

struct Inner {
    engine: Engine,
    client: kube::Client,
    settings: Settings,
    task: Task,
    dir: PathBuf,
    cache: Cache<Build>,
    queue: Queue<Key>,
    events: Recorder,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By UID.
    running: HashMap<String, Running>,
    /// Builds that have ended here, until the cache knows it.
    over: HashSet<String>,
}

/// A build that runs.
struct Running {
    key: Key,
    task: Task,
    log: watch::Receiver<u64>,
}

fn uid_of(build: &Build) -> &str {
    build.metadata.uid.as_deref().unwrap_or_default()
}

/// Carries out builds until `task` ends.
pub fn start(task: &Task, engine: Engine, client: kube::Client, settings: Settings) -> Builds {
    let queue = Queue::new(task);
    let cache = Cache::idle();
    let added = queue.clone();
    cache.listen(move |change: &client::cache::Change<Build>| added.add(change.key.clone()));
    cache.start(task, Api::all(client.clone()), Scope::default());
    let builds = Builds(Arc::new(Inner {
        dir: engine.settings().dir.join("builds"),
        events: Recorder::new(task, &client, "madang-engine", Some(&settings.node)),
        engine,
        client,
        settings,
        task: task.clone(),
        cache,
        queue: queue.clone(),
        state: Mutex::default(),
    }));
    let looped = builds.clone();
    task.spawn_until_cancelled("builds", async move {
        looped.0.cache.ready().await;
        if let Err(error) = looped.remove_leftovers().await {
            tracing::warn!(error = format!("{error:#}"), "remove what builds of an earlier process have left");
        }
        looped.0.cache.list().iter().for_each(|build| queue.add(Key::of(&**build)));
        let turns = looped.clone();
        queue.run("builds", WORKERS, move |key| {
            let builds = turns.clone();
            async move { builds.turn(&key).await.map_err(|error| format!("{error:#}")) }
        });
    });
    builds
}

impl Builds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a build.
    fn dir(&self, uid: &str) -> PathBuf {
        self.0.dir.join(uid)
    }

    fn api(&self, namespace: &str) -> Api<Build> {
        Api::namespaced(self.0.client.clone(), namespace)
    }

    /// Removes control groups and directories of builds that are not there.
    async fn remove_leftovers(&self) -> Result<()> {
        let root = cgroup::Path::new(&self.0.settings.cgroup_root)?;
        let alive: HashSet<String> = self.0.cache.list().iter().map(|build| uid_of(build).to_owned()).collect();
        let dir = self.0.dir.clone();
        disk::blocking(move || {
            let version = cgroup::Version::detect()?;
            let group = cgroup::Group::open(&version, &root);
            for child in group.children().into_iter().filter(|name| name.starts_with(GROUP)) {
                cgroup::Group::open(&version, &root.join(&child)?).remove(DYING)?;
            }
            disk::private_directory(&dir)?;
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                if !alive.contains(entry.file_name().to_string_lossy().as_ref()) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn turn(&self, key: &Key) -> Result<Next> {
        let Some(build) = self.0.cache.get(key) else {
            self.forget(key, None).await?;
            return Ok(Next::Done);
        };
        let uid = uid_of(&build).to_owned();
        // Another one of the same name before it.
        self.forget(key, Some(&uid)).await?;
        let known = {
            let mut state = self.lock();
            if build.status.phase.is_over() {
                state.over.remove(&uid);
            } else if state.over.contains(&uid) {
                return Ok(Next::Done);
            }
            Known { runs: state.running.contains_key(&uid), uploaded: self.dir(&uid).join(door::CONTEXT).exists() }
        };
        match decide(&build, known, &self.0.settings.node, Timestamp::now()) {
            Action::Nothing => Ok(Next::Done),
            Action::Later(delay) => Ok(Next::After(delay)),
            Action::Claim => {
                let status = json!({"nodeName": self.0.settings.node, "phase": Phase::Pending});
                self.patch(&build, status, true).await.map(|()| Next::Done)
            }
            Action::Await => {
                let message = "the context is to be sent to the node";
                let status = json!({"reason": "WaitingForContext", "message": message});
                self.patch(&build, status, true).await.map(|()| Next::Done)
            }
            Action::Start => self.begin(&build).await,
            Action::Stop => {
                if let Some(running) = self.lock().running.get(&uid) {
                    running.task.cancel();
                }
                Ok(Next::Done)
            }
            Action::Finish(phase, reason, message) => {
                let end = work::End { phase, reason, message, ..work::End::default() };
                self.patch(&build, ended(&build, &end, Timestamp::now()), true).await.map(|()| Next::Done)
            }
            Action::Delete => {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                    ..DeleteParams::default()
                };
                match self.api(&key.namespace).delete(&key.name, &parameters).await {
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(Next::Done),
                    deleted => deleted.map(|_| Next::Done).context("delete a build whose time has come"),
                }
            }
        }
    }

    /// Ends what runs under a name, but for `uid`, and removes what was kept of it.
    async fn forget(&self, key: &Key, uid: Option<&str>) -> Result<()> {
        let mut any = false;
        for (known, running) in &self.lock().running {
            if running.key == *key && uid != Some(known.as_str()) {
                running.task.cancel();
                any = true;
            }
        }
        if uid.is_some() && !any {
            return Ok(());
        }
        let alive: HashSet<String> = self.0.cache.list().iter().map(|build| uid_of(build).to_owned()).collect();
        let running: HashSet<String> = self.lock().running.keys().cloned().collect();
        self.lock().over.retain(|uid| alive.contains(uid));
        let dir = self.0.dir.clone();
        disk::blocking(move || {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                let uid = entry.file_name().to_string_lossy().into_owned();
                // What runs removes its own when it has ended.
                if !alive.contains(&uid) && !running.contains(&uid) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        })
        .await
        .context("remove files of builds that are gone")
    }

    /// Begins a build: the status says so first, so that no other process can believe otherwise.
    async fn begin(&self, build: &Build) -> Result<Next> {
        if self.lock().running.len() >= MOST {
            return Ok(Next::After(Duration::from_secs(1)));
        }
        let (uid, key) = (uid_of(build).to_owned(), Key::of(build));
        let now = Timestamp::now();
        let started = build.status.start_time.clone().unwrap_or_else(|| shown(now));
        let status = json!({
            "phase": Phase::Running, "reason": null, "message": null,
            "attempts": build.status.attempts + 1, "startTime": started,
            "conditions": [condition(build, "Complete", "False", "Running", "it is being built", now)],
        });
        self.patch(build, status, true).await?;
        let dir = self.dir(&uid);
        let log = disk::blocking(move || {
            disk::private_directory(&dir)?;
            Ok(log::Log::open(&dir.join(door::LOG))?)
        });
        let log = log.await.context("begin the log of a build")?;
        let task = self.0.task.child(format!("build-{uid}"));
        let running = Running { key: key.clone(), task: task.clone(), log: log.follow() };
        self.lock().running.insert(uid.clone(), running);
        let (builds, build) = (self.clone(), build.clone());
        self.say(&build, Severity::Normal, "Started", "Build is being carried out");
        self.0.task.spawn("build of an object", async move {
            let end = builds.carry_out(&build, &task, log).await;
            if let Some(end) = end {
                builds.tell_end(&build, &end).await;
                builds.lock().over.insert(uid.clone());
            }
            builds.lock().running.remove(&uid);
            builds.0.queue.add(key);
        });
        Ok(Next::Done)
    }

    /// Tells how a build has ended, until it is told or nobody can hear it.
    async fn tell_end(&self, build: &Build, end: &work::End) {
        let (severity, reason) = match end.phase {
            Phase::Succeeded => (Severity::Normal, "Succeeded"),
            Phase::Cancelled => (Severity::Normal, "Cancelled"),
            _ => (Severity::Warning, "Failed"),
        };
        self.say(build, severity, reason, &end.message);
        let status = ended(build, end, Timestamp::now());
        let mut pause = AGAIN.0;
        while let Err(error) = self.patch(build, status.clone(), false).await {
            tracing::debug!(error = format!("{error:#}"), "the end of a build is told again");
            if self.0.task.until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    fn say(&self, build: &Build, severity: Severity, reason: &str, message: &str) {
        let about = ObjectReference {
            api_version: Some(<Build as kube::Resource>::api_version(&()).into_owned()),
            kind: Some("Build".to_owned()),
            name: build.metadata.name.clone(),
            namespace: build.metadata.namespace.clone(),
            uid: build.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.0.events.say(&about, severity, reason, message);
    }

    /// Writes fields of the status; with `exact` only of the object as it was seen. An object that is gone is no error.
    async fn patch(&self, build: &Build, status: Value, exact: bool) -> Result<()> {
        let Key { namespace, name } = Key::of(build);
        let mut metadata = json!({"uid": build.metadata.uid});
        if exact {
            metadata["resourceVersion"] = json!(build.metadata.resource_version);
        }
        let patch = json!({"metadata": metadata, "status": status});
        match self.api(&namespace).patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            // Another object of the same name, which has a status of its own.
            Err(kube::Error::Api(status)) if !exact && status.code == 409 && status.message.contains("uid") => Ok(()),
            patched => patched.map(drop).with_context(|| format!("write the status of build {namespace}/{name}")),
        }
    }
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn condition(build: &Build, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": shown(now),
        "observedGeneration": build.metadata.generation,
    })
}

/// The status of a build that is over.
fn ended(build: &Build, end: &work::End, now: Timestamp) -> Value {
    let good = end.phase == Phase::Succeeded;
    let (complete, failed) = if good { ("True", "False") } else { ("False", "True") };
    let status =
        Status { image_id: end.image.clone(), digest: end.digest.clone(), steps: end.steps, ..Status::default() };
    json!({
        "phase": end.phase, "reason": end.reason, "message": end.message, "completionTime": shown(now),
        "imageID": status.image_id, "digest": status.digest, "tags": end.tags, "steps": status.steps, "logBytes": end.log_bytes,
        "conditions": [
            condition(build, "Complete", complete, end.reason, &end.message, now),
            condition(build, "Failed", failed, end.reason, &end.message, now),
        ],
    })
}

#[cfg(test)]
mod tests;
