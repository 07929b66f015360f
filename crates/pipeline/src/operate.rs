//! The loop over PipelineRuns: which run begins, which waits, and where each is that is on its way.
//!
//! ```text
//! PipelineRun ─ change ─► queue ─ turn ─► decide: begin │ wait │ nothing
//!                                            begin ─► drive: one task a run, which owns its status, record and process
//!                                            known ─► the change is handed to that task: abort, answers to input
//!                                            gone  ─► its task ends, its record is removed
//! ```
//!
//! After a start of the server every run that has not ended begins again, and goes on from its record ([`crate::drive`]).

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use client::{
    cache::{Cache, Key, Scope},
    exec::Commands,
    queue::{Next, Queue},
};
use counts::counter::Counts;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use task::Task;
use tokio::sync::{mpsc, watch};

use crate::{
    drive::{self, locks::Locks},
    hand::Hand,
    kind::{Concurrency, Phase, Pipeline, PipelineRun, RUN, RunStatus},
    left::sweep,
    reach::Reach,
    record::Records,
    repositories::Repositories,
    trigger::start::Starter,
};

/// Runs at the same time; more of them wait.
const MOST: usize = 300;
/// Orders that wait for a run's task.
const ORDERS: usize = 64;

/// What running pipelines takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where records are.
    pub dir: PathBuf,
    /// Program and arguments of the process that interprets ([`crate::interpreter::serve`]).
    pub interpreter: Vec<OsString>,
    /// The image of the step runner.
    pub step_image: String,
    /// The console's address, which runs are told as theirs: `http://127.0.0.1:3000`.
    pub url: String,
    /// The API server, `https://HOST:PORT`, and who has signed for it, PEM: for what runs do in their accounts' names.
    pub api: String,
    /// As above.
    pub authority: Vec<u8>,
    /// Whether nodes give pods sockets to build through, and carry out `Build` objects.
    pub builds: bool,
    /// The cluster's own registry, as images name it.
    pub registry: String,
    /// Where it answers to this process, with TLS; none where it does not.
    pub registry_address: Option<(String, u16)>,
}

/// The pipelines of a cluster. Cloning shares them.
#[derive(Clone)]
pub struct Pipelines(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub settings: Settings,
    pub client: Client,
    pub task: Task,
    pub pipelines: Cache<Pipeline>,
    pub runs: Cache<PipelineRun>,
    pub hand: Hand,
    pub reach: Reach,
    pub records: Records,
    pub repositories: Repositories,
    pub locks: Locks,
    pub counts: Counts,
    pub starter: Starter,
    /// Who waits for a change of an object.
    pub waiters: Waiters,
    queue: Queue<Key>,
    active: Mutex<HashMap<String, Active>>,
    /// UIDs of runs that have ended here, of which the cache may not know it yet.
    ended: Mutex<HashSet<String>>,
    /// UIDs of runs, for those whose objects are gone.
    known: Mutex<HashMap<Key, String>>,
    /// The last numbers given, by pipeline.
    numbers: Mutex<HashMap<Key, u64>>,
}

/// A run on its way.
pub(crate) struct Active {
    pub orders: mpsc::Sender<Order>,
    pub book: Option<Arc<crate::book::Book>>,
}

/// What a run's task is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// The object has changed.
    Changed(Arc<PipelineRun>),
    /// It is gone.
    Gone,
    /// A newer run, of this number, has gone past it.
    Superseded(u64),
}

impl std::fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipelines({})", self.0.settings.dir.display())
    }
}

/// Those who wait for objects to change.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<(&'static str, Key), watch::Sender<u64>>>);

impl Waiters {
    fn all(&self) -> MutexGuard<'_, HashMap<(&'static str, Key), watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whenever an object of a kind changes, from now on.
    pub fn wait(&self, kind: &'static str, key: &Key) -> watch::Receiver<u64> {
        let mut all = self.all();
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry((kind, key.clone())).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn changed(&self, kind: &'static str, key: &Key) {
        if let Some(sender) = self.all().get(&(kind, key.clone())) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl Pipelines {
    /// Follows the objects until `task` ends.
    pub fn start(
        task: &Task,
        settings: Settings,
        client: Client,
        (commands, reach): (Commands, Reach),
        repositories: Repositories,
    ) -> Self {
        let queue = Queue::new(task);
        let (pipelines, runs, pods) = (Cache::idle(), Cache::idle(), Cache::idle());
        let starter = Starter::start(
            task,
            settings.dir.join(".webhooks"),
            client.clone(),
            pipelines.clone(),
            repositories.objects(),
        );
        let inner = Arc::new(Inner {
            records: Records::new(settings.dir.clone()),
            settings,
            client: client.clone(),
            task: task.clone(),
            pipelines: pipelines.clone(),
            runs: runs.clone(),
            hand: Hand { commands, pods: pods.clone() },
            reach,
            repositories,
            locks: Locks::default(),
            counts: Counts::default(),
            starter,
            waiters: Waiters::default(),
            queue: queue.clone(),
            active: Mutex::default(),
            ended: Mutex::default(),
            known: Mutex::default(),
            numbers: Mutex::default(),
        });
        let listening = Arc::downgrade(&inner);
        runs.listen(move |change: &client::cache::Change<PipelineRun>| {
            let Some(inner) = listening.upgrade() else { return };
            inner.waiters.changed("run", &change.key);
            let ended = |run: &Option<Arc<PipelineRun>>| {
                run.as_ref().and_then(|run| run.status.as_ref()).is_some_and(|status| status.phase.is_final())
            };
            let generation =
                |run: &Option<Arc<PipelineRun>>| run.as_ref().map(|run| run.metadata.generation.unwrap_or_default());
            // What this loop writes itself is no news to it.
            if generation(&change.old) != generation(&change.new) || ended(&change.old) != ended(&change.new) {
                inner.queue.add(change.key.clone());
            }
        });
        let listening = Arc::downgrade(&inner);
        pods.listen(move |change: &client::cache::Change<Pod>| {
            if let Some(inner) = listening.upgrade() {
                inner.waiters.changed("pod", &change.key);
            }
        });
        let listening = Arc::downgrade(&inner);
        pipelines.listen(move |change: &client::cache::Change<Pipeline>| {
            let Some(inner) = listening.upgrade() else { return };
            let suspended = |one: &Option<Arc<Pipeline>>| one.as_ref().map(|one| one.spec.suspend);
            if suspended(&change.old) != suspended(&change.new) {
                inner.look_again(&change.key);
            }
        });
        pipelines.start(task, Api::all(client.clone()), Scope::default());
        pods.start(task, Api::all(client.clone()), Scope { labels: Some(RUN.to_owned()), ..Scope::default() });
        runs.start(task, Api::all(client), Scope::default());
        sweep::start(task, inner.client.clone(), inner.pipelines.clone(), inner.runs.clone(), inner.records.clone());
        let (sweeping, working) = (inner.clone(), inner.clone());
        task.spawn_until_cancelled("records", async move { sweeping.sweep().await });
        queue.run("pipelines", 4, move |key| {
            let inner = working.clone();
            async move { inner.turn(&key).await }
        });
        Self(inner)
    }

    /// The record of a run.
    pub fn record(&self, run: &PipelineRun) -> Option<crate::record::Record> {
        self.0.records.of(run.metadata.uid.as_deref()?)
    }

    /// The records of all runs.
    pub fn records(&self) -> &Records {
        &self.0.records
    }

    /// What starts runs.
    pub fn starter(&self) -> &Starter {
        &self.0.starter
    }

    /// Runs, as they are known here.
    pub fn runs(&self) -> &Cache<PipelineRun> {
        &self.0.runs
    }

    /// Pipelines, as they are known here.
    pub fn pipelines(&self) -> &Cache<Pipeline> {
        &self.0.pipelines
    }

    /// Tells how long a run's log is whenever it grows, while the run is on its way.
    pub fn followed(&self, run: &PipelineRun) -> Option<watch::Receiver<u64>> {
        let active = self.0.active();
        Some(active.get(run.metadata.uid.as_deref()?)?.book.as_ref()?.followed())
    }
}

/// What is done about a run that is not on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Begin,
    Wait(String),
    /// First these are ended.
    Replace(Vec<String>),
}

/// Whether a run begins, given those of its pipeline that have not ended: name, creation, whether it is on its way.
fn decide(
    concurrency: Concurrency,
    suspended: bool,
    mine: (&str, i64, u64),
    others: &[(String, i64, u64, bool)],
    active: usize,
) -> Decision {
    if suspended {
        return Decision::Wait("the pipeline is suspended".into());
    }
    if active >= MOST {
        return Decision::Wait(format!("{MOST} runs are on their way"));
    }
    let earlier = |other: &&(String, i64, u64, bool)| (other.1, other.2, &*other.0) < (mine.1, mine.2, mine.0);
    match concurrency {
        Concurrency::Allow => Decision::Begin,
        Concurrency::Queue => match others.iter().find(|other| other.3 || earlier(other)) {
            Some(other) => Decision::Wait(format!("run {} has not ended", other.0)),
            None => Decision::Begin,
        },
        Concurrency::Replace => {
            let old: Vec<String> = others.iter().filter(earlier).map(|other| other.0.clone()).collect();
            if old.is_empty() { Decision::Begin } else { Decision::Replace(old) }
        }
    }
}

impl Inner {
    pub(crate) fn active(&self) -> MutexGuard<'_, HashMap<String, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a run on its way that a newer one has gone past.
    pub(crate) fn supersede(&self, uid: &str, newer: u64) {
        let orders = self.active().get(uid).map(|active| active.orders.clone());
        if let Some(orders) = orders {
            self.task
                .spawn_until_cancelled("supersede", async move { drop(orders.send(Order::Superseded(newer)).await) });
        }
    }

    /// The next number of a pipeline's runs.
    pub(crate) fn number(&self, pipeline: &Key) -> u64 {
        let stands = self.pipelines.get(pipeline).and_then(|one| Some(one.status.as_ref()?.number)).unwrap_or_default();
        let runs = self.runs.list_in(&pipeline.namespace);
        let of_it = runs.iter().filter(|run| *run.spec.pipeline_ref.name == *pipeline.name);
        let highest = of_it.filter_map(|run| Some(run.status.as_ref()?.number)).max().unwrap_or_default();
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = numbers.entry(pipeline.clone()).or_default();
        *last = (*last).max(stands).max(highest) + 1;
        *last
    }

    /// Looks at all runs of a pipeline that may wait.
    pub(crate) fn look_again(&self, pipeline: &Key) {
        for run in self.runs.list_in(&pipeline.namespace) {
            let ended = run.status.as_ref().is_some_and(|status| status.phase.is_final());
            if *run.spec.pipeline_ref.name == *pipeline.name && !ended {
                self.queue.add(Key::of(&*run));
            }
        }
    }

    /// Records whose objects went while nobody looked.
    async fn sweep(&self) {
        self.runs.ready().await;
        let records = self.records.clone();
        let found = tokio::task::spawn_blocking(move || records.all()).await;
        let Ok(Ok(found)) = found else { return };
        let there: HashSet<String> = self.runs.list().iter().filter_map(|run| run.metadata.uid.clone()).collect();
        for uid in found.into_iter().filter(|uid| !there.contains(uid)) {
            self.remove(&uid).await;
        }
    }

    async fn remove(&self, uid: &str) {
        let (records, uid) = (self.records.clone(), uid.to_owned());
        let removed = tokio::task::spawn_blocking(move || records.remove(&uid)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "remove the record of a run");
        }
    }

    async fn turn(self: &Arc<Self>, key: &Key) -> Result<Next> {
        self.runs.ready().await;
        self.pipelines.ready().await;
        self.hand.pods.ready().await;
        let Some(run) = self.runs.get(key) else {
            let uid = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            if let Some(uid) = uid {
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
                let orders = self.active().get(&uid).map(|active| active.orders.clone());
                match orders {
                    // Its task removes the record once nothing writes there any more.
                    Some(orders) => drop(orders.send(Order::Gone).await),
                    None => self.remove(&uid).await,
                }
            }
            return Ok(Next::Done);
        };
        let uid = run.metadata.uid.clone().context("a run without UID")?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), uid.clone());
        let pipeline = Key::new(&key.namespace, &run.spec.pipeline_ref.name);
        let status = run.status.clone().unwrap_or_default();
        if status.phase.is_final() {
            self.look_again(&pipeline);
            return Ok(Next::Done);
        }
        let orders = self.active().get(&uid).map(|active| active.orders.clone());
        if let Some(orders) = orders {
            drop(orders.send(Order::Changed(run)).await);
            return Ok(Next::Done);
        }
        let over = self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&uid);
        if over || run.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let begun = self.records.of(&uid).is_some_and(|record| record.start().exists());
        // One that was on its way goes on, whatever else there is; one that is ended before it began has nothing to wait for.
        if !begun && !run.spec.abort {
            let found = self.pipelines.get(&pipeline);
            let concurrency = found.as_ref().map(|one| {
                one.spec.concurrency.or(one.status.as_ref().and_then(|status| status.concurrency)).unwrap_or_default()
            });
            let suspended = found.as_ref().is_some_and(|one| one.spec.suspend);
            let created = |run: &PipelineRun| {
                let time = run.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
                (time.unwrap_or_default(), run.metadata.generation.map_or(0, |_| number_of(run)))
            };
            let others: Vec<(String, i64, u64, bool)> = self
                .runs
                .list_in(&key.namespace)
                .iter()
                .filter(|other| {
                    other.spec.pipeline_ref.name == *pipeline.name && other.metadata.uid != run.metadata.uid
                })
                .filter(|other| !other.status.as_ref().is_some_and(|status| status.phase.is_final()))
                .map(|other| {
                    let (time, version) = created(other);
                    let uid = other.metadata.uid.clone().unwrap_or_default();
                    let name = other.metadata.name.clone().unwrap_or_default();
                    (name, time, version, self.active().contains_key(&uid))
                })
                .collect();
            let (time, version) = created(&run);
            let active = self.active().len();
            match decide(concurrency.unwrap_or_default(), suspended, (&key.name, time, version), &others, active) {
                Decision::Begin => {}
                Decision::Wait(why) => {
                    if status.phase != Phase::Queued || status.message.as_deref() != Some(&*why) {
                        self.say(&run, &RunStatus { phase: Phase::Queued, message: Some(why), ..status }).await?;
                    }
                    // What it waits for tells when it ends; the bound on all runs does not.
                    return Ok(if active >= MOST { Next::After(Duration::from_secs(1)) } else { Next::Done });
                }
                Decision::Replace(old) => {
                    for name in old {
                        let api: Api<PipelineRun> = Api::namespaced(self.client.clone(), &key.namespace);
                        let patch = json!({"spec": {"abort": true, "abortedBy": format!("run {}", key.name)}});
                        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                    }
                }
            }
        }
        self.begin(run, uid);
        Ok(Next::Done)
    }

    /// Starts a run's task.
    fn begin(self: &Arc<Self>, run: Arc<PipelineRun>, uid: String) {
        let (orders, ordered) = mpsc::channel(ORDERS);
        let key = Key::of(&*run);
        self.active().insert(uid.clone(), Active { orders, book: None });
        let inner = self.clone();
        self.task.spawn("pipeline run", async move {
            let driven = inner.task.until_cancelled(drive::drive(&inner, run.clone(), ordered)).await;
            if driven.is_none() {
                // The server ends; the run goes on with the next one.
                return;
            }
            let gone = inner.runs.get(&key).is_none_or(|now| now.metadata.uid.as_deref() != Some(&*uid));
            inner.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone());
            inner.active().remove(&uid);
            if gone {
                inner.ended.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
                inner.remove(&uid).await;
            }
            inner.locks.released(&uid);
            inner.look_again(&Key::new(&key.namespace, &run.spec.pipeline_ref.name));
        });
    }

    /// Writes a run's status.
    pub(crate) async fn say(&self, run: &PipelineRun, status: &RunStatus) -> kube::Result<PipelineRun> {
        let name = run.metadata.name.as_deref().unwrap_or_default();
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PipelineRun> = Api::namespaced(self.client.clone(), namespace);
        let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        // What is not said any more is taken away.
        for name in ["message", "duration", "stages", "agents", "result", "finished"] {
            if let Some(fields) = status.as_object_mut() {
                fields.entry(name).or_insert(serde_json::Value::Null);
            }
        }
        let patch = json!({"metadata": {"uid": run.metadata.uid}, "status": status});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }
}

/// A tie-breaker among runs of one moment.
fn number_of(run: &PipelineRun) -> u64 {
    run.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_waits_or_replaces_as_its_pipeline_says() {
        let others = [("a".to_owned(), 1, 1, true), ("c".to_owned(), 9, 9, false)];
        let decided =
            |concurrency, suspended, others: &[_], active| decide(concurrency, suspended, ("b", 5, 5), others, active);
        assert_eq!(decided(Concurrency::Allow, false, &others, 1), Decision::Begin);
        assert_eq!(decided(Concurrency::Queue, false, &others, 1), Decision::Wait("run a has not ended".into()));
        assert_eq!(decided(Concurrency::Queue, false, &others[1..], 0), Decision::Begin);
        assert_eq!(decided(Concurrency::Replace, false, &others, 1), Decision::Replace(vec!["a".into()]));
        assert!(matches!(decided(Concurrency::Allow, true, &[], 0), Decision::Wait(_)));
        assert!(matches!(decided(Concurrency::Allow, false, &[], MOST), Decision::Wait(_)));
    }
}
