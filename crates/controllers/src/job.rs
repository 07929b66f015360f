//! Job: runs pods to completion, and counts each exactly once.
//!
//! ```text
//! claim pods ─► decide ─► delete, create ─► status with the uids of ended pods ─► their finalizers ─► counts, end
//! ```
//! A pod carries the finalizer `batch.kubernetes.io/job-tracking` until its end stands in the status, so that none is lost
//! or counted twice, whenever this process ends. [`decide`] holds the rules.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>

pub mod backoff;
pub mod decide;
pub mod expiry;
pub mod indexes;
pub mod policy;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use client::{
    cache::{Change, Key},
    events::Severity,
    queue::{Next, Queue},
    selector::matches,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use task::Task;

use self::{
    backoff::Backoff,
    decide::{Decision, FAILURES, IGNORED, INDEX, Known, New, decide, has_finalizer, is_finished, settle},
};
use crate::{
    caches::Caches,
    expectations::{Expectations, Written},
    hands::{Hands, is_ending, slowly},
    ownership::Owner,
    pods::{controller_of, forgive_missing, from_template},
};

/// What a pod carries until its end is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const COMPONENT: &str = "job-controller";
/// The manager that `spec.managedBy` names for this controller.
const MANAGER: &str = "kubernetes.io/job-controller";
const WORKERS: usize = 4;

#[derive(Clone)]
struct Controller {
    hands: Hands,
    caches: Caches,
    memory: Arc<Memory>,
}

/// What is known beside the caches.
#[derive(Default)]
struct Memory {
    expectations: Expectations,
    written: Written,
    /// Uids of pods whose finalizer was removed, until the cache shows it.
    stripped: Mutex<HashSet<String>>,
    backoffs: Mutex<HashMap<Key, Backoff>>,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let orphans: Queue<Key> = Queue::new(task);
    let memory: Arc<Memory> = Arc::default();
    let (add, left, pods) = (queue.clone(), orphans.clone(), caches.pods.clone());
    caches.jobs.listen(move |change| {
        add.add(change.key.clone());
        // Its pods have nobody else who would let them go.
        let ended = change.new.as_ref().is_none_or(|job| is_finished(job).is_some());
        if let Some(job) = change.old.as_ref().filter(|_| ended) {
            let owned = |pod: &&Arc<Pod>| {
                controller_of(pod.metadata.owner_references.as_ref())
                    .is_some_and(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
            };
            let all = pods.list_in(&change.key.namespace);
            all.iter().filter(|pod| has_finalizer(pod)).filter(owned).for_each(|pod| left.add(Key::of(&**pod)));
        }
    });
    let (add, left, jobs, known) = (queue.clone(), orphans.clone(), caches.jobs.clone(), memory.clone());
    caches.pods.listen(move |change| {
        heed(change, &known);
        let owner = |pod: &Option<Arc<Pod>>| pod.as_ref().and_then(|pod| owner_key(pod));
        let (before, after) = (owner(&change.old), owner(&change.new));
        if let Some(pod) = change.new.as_ref().filter(|pod| has_finalizer(pod)) {
            let live = after.as_ref().and_then(|key| jobs.get(key)).is_some_and(|job| is_finished(&job).is_none());
            if !live {
                left.add(Key::of(&**pod));
            }
        }
        match &change.new {
            Some(pod) if after.is_none() && controller_of(pod.metadata.owner_references.as_ref()).is_none() => {
                for job in jobs.list_in(&change.key.namespace) {
                    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                    if selector.is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref())) {
                        add.add(Key::of(&*job));
                    }
                }
            }
            _ => {}
        }
        before.into_iter().chain(after).for_each(|key| add.add(key));
    });
    let controller = Controller { hands: Hands::new(task, client, COMPONENT), caches: caches.clone(), memory };
    let mine = controller.clone();
    queue.run("job", WORKERS, move |key| {
        let controller = mine.clone();
        async move { controller.reconcile(&key).await }
    });
    orphans.run("pods of jobs that are gone", 1, move |key| {
        let controller = controller.clone();
        async move { controller.let_go(&key).await }
    });
}

fn owner_key(pod: &Pod) -> Option<Key> {
    let owner = controller_of(pod.metadata.owner_references.as_ref()).filter(|owner| owner.kind == "Job")?;
    Some(Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// Notes what was expected and has been seen.
fn heed(change: &Change<Pod>, known: &Memory) {
    let Some(pod) = change.new.as_ref().or(change.old.as_ref()) else { return };
    let Some(key) = owner_key(pod) else { return };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if change.old.is_none() {
        known.expectations.created(&key);
    }
    if change.new.is_none() || pod.metadata.deletion_timestamp.is_some() {
        known.expectations.deleted(&key, uid);
    }
    if change.new.is_none() || !has_finalizer(pod) {
        known.stripped.lock().expect("stripped pods").remove(uid);
    }
}

fn reference(job: &Job) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: job.metadata.name.clone().unwrap_or_default(),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.pods.ready().await;
        self.caches.jobs.ready().await;
        let memory = &self.memory;
        let forget = || {
            memory.expectations.forget(key);
            memory.written.forget(key);
            memory.backoffs.lock().expect("backoffs").remove(key);
        };
        let Some(job) = self.caches.jobs.get(key) else {
            forget();
            return Ok(Next::Done);
        };
        let Some(spec) = &job.spec else { return Ok(Next::Done) };
        if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return Ok(Next::Done);
        }
        if is_finished(&job).is_some() {
            forget();
            return Ok(Next::Done);
        }
        if memory.written.outdated(key, job.metadata.resource_version.as_deref()) {
            return Ok(Next::Done);
        }
        let met = memory.expectations.met(key);
        let reference = reference(&job);
        let nothing = LabelSelector { match_expressions: Some(Vec::new()), match_labels: None };
        let owner = Owner {
            reference: &reference,
            plural: "jobs",
            namespace: &key.namespace,
            selector: spec.selector.as_ref().unwrap_or(&nothing),
            leaving: job.metadata.deletion_timestamp.is_some(),
            finalizer: Some(FINALIZER),
        };
        let pods = self.caches.pods.list_in(&key.namespace);
        let selects = spec.selector.is_some();
        let pods = owner.claim(&self.hands.client, pods, |_| selects).await?;
        let decision = {
            let stripped = memory.stripped.lock().expect("stripped pods").clone();
            let backoff = memory.backoffs.lock().expect("backoffs").get(key).cloned().unwrap_or_default();
            let now = Timestamp::now();
            decide(&Known { job: &job, pods: &pods, stripped: &stripped, met, backoff: &backoff, now })
        };
        self.act(key, &job, decision).await
    }

    async fn act(&self, key: &Key, job: &Job, mut decision: Decision) -> kube::Result<Next> {
        let about = job.object_ref(&());
        let memory = &self.memory;
        for pod in &decision.delete {
            memory.expectations.expect_deletion(key, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        let deleted = join_all(decision.delete.iter().map(|pod| self.hands.delete(&about, pod))).await;
        let mut failed = None;
        for (pod, outcome) in decision.delete.iter().zip(deleted) {
            if let Err(error) = outcome {
                memory.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let wanted = decision.create.len();
        memory.expectations.expect_creations(key, wanted);
        let create = |new: New| {
            let (pod, about) = (pod_of(job, &new), &about);
            async move { self.hands.create(about, &pod).await.map(drop) }
        };
        let (made, failed) = slowly(decision.create.clone(), create).await;
        (made..wanted).for_each(|_| memory.expectations.created(key));
        let missing = i32::try_from(wanted - made).unwrap_or(0);
        if missing > 0 {
            decision.status.active = decision.status.active.map(|active| active - missing).filter(|active| *active > 0);
        }
        if let Some(suspended) = decision.suspended {
            let (reason, message) = if suspended { ("Suspended", "Job suspended") } else { ("Resumed", "Job resumed") };
            self.hands.events.say(&about, Severity::Normal, reason, message);
        }
        self.settle(key, job, &mut decision).await?;
        match (failed.filter(|error| !is_ending(error)), decision.again) {
            (Some(error), _) => Err(error),
            (None, Some(delay)) => Ok(Next::After(delay)),
            (None, None) => Ok(Next::Done),
        }
    }

    /// Writes the status, removes finalizers, and ends the Job if that was the last of it.
    async fn settle(&self, key: &Key, job: &Job, decision: &mut Decision) -> kube::Result<()> {
        let api: Api<Job> = Api::namespaced(self.hands.client.clone(), &key.namespace);
        let mut current = job.clone();
        let write = async |current: &mut Job, decision: &Decision| -> kube::Result<()> {
            if current.status.as_ref() == Some(&decision.status) {
                return Ok(());
            }
            current.status = Some(decision.status.clone());
            *current = api.replace_status(&key.name, &PostParams::default(), current).await?;
            self.memory.written.note(key, current.metadata.resource_version.as_deref());
            Ok(())
        };
        if !decision.strip.is_empty() {
            write(&mut current, decision).await?;
            let outcomes = join_all(decision.strip.iter().map(|pod| self.strip(pod))).await;
            let waits: HashSet<&str> = decision
                .strip
                .iter()
                .zip(&outcomes)
                .filter(|(_, outcome)| outcome.is_err())
                .filter_map(|(pod, _)| pod.metadata.uid.as_deref())
                .collect();
            let mut uncounted = decision.status.uncounted_terminated_pods.take().unwrap_or_default();
            settle(&mut decision.status, &mut uncounted, |uid| waits.contains(uid));
            decision.status.uncounted_terminated_pods = Some(uncounted);
            if let Some(error) = outcomes.into_iter().find_map(Result::err) {
                write(&mut current, decision).await?;
                return Err(error);
            }
        }
        self.memory.backoffs.lock().expect("backoffs").insert(key.clone(), decision.backoff.clone());
        let counted = decision
            .status
            .uncounted_terminated_pods
            .as_ref()
            .is_none_or(|uncounted| uncounted.failed.is_none() && uncounted.succeeded.is_none());
        let finish = decision.finish.take().filter(|_| counted && decision.status.terminating.unwrap_or(0) == 0);
        if let Some(end) = &finish {
            if end.type_ == "Complete" {
                decision.status.completion_time = end.last_transition_time.clone();
            }
            decision.status.conditions.get_or_insert_default().push(end.clone());
        }
        write(&mut current, decision).await?;
        if let Some(end) = finish {
            let about = job.object_ref(&());
            if end.type_ == "Complete" {
                self.hands.events.say(&about, Severity::Normal, "Completed", "Job completed");
            } else {
                let reason = end.reason.unwrap_or_default();
                self.hands.events.say(&about, Severity::Warning, &reason, end.message.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Removes the finalizer of a pod.
    async fn strip(&self, pod: &Pod) -> kube::Result<()> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.memory.stripped.lock().expect("stripped pods").insert(uid.clone());
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.hands.client.clone(), namespace);
        let patch = json!({"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => Ok(()),
            // The pod is gone, or another by now: nothing waits.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
            Err(error) => {
                self.memory.stripped.lock().expect("stripped pods").remove(&uid);
                // A conflict of uids is another pod of that name.
                if matches!(&error, kube::Error::Api(status) if status.code == 409) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Lets a pod go that no Job counts any more.
    async fn let_go(&self, key: &Key) -> kube::Result<Next> {
        self.caches.pods.ready().await;
        self.caches.jobs.ready().await;
        let Some(pod) = self.caches.pods.get(key).filter(|pod| has_finalizer(pod)) else { return Ok(Next::Done) };
        let owner = controller_of(pod.metadata.owner_references.as_ref());
        let job = owner_key(&pod).and_then(|key| self.caches.jobs.get(&key));
        let live = job.is_some_and(|job| {
            let same = owner.is_some_and(|owner| Some(&owner.uid) == job.metadata.uid.as_ref());
            let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).unwrap_or(MANAGER);
            same && (is_finished(&job).is_none() || manager != MANAGER)
        });
        if live {
            return Ok(Next::Done);
        }
        let api: Api<Pod> = Api::namespaced(self.hands.client.clone(), &key.namespace);
        let patch = json!({"metadata": {"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        forgive_missing(api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        Ok(Next::Done)
    }
}

/// The pod to be made.
fn pod_of(job: &Job, new: &New) -> Pod {
    let Some(spec) = &job.spec else { return Pod::default() };
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = from_template(&spec.template, &reference(job), namespace);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let Some(index) = new.index else { return pod };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if let Some((counted, ignored)) = new.failures {
        annotations.insert(FAILURES.into(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.into(), ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    pod.metadata.generate_name = Some(generate_name(name, index));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
    }
    pod
}

/// `NAME-INDEX-`, the name cut so that the API server's five characters still fit.
fn generate_name(name: &str, index: i32) -> String {
    const LONGEST: usize = 63 - 5;
    let tail = format!("-{index}-");
    let room = LONGEST.saturating_sub(tail.len()).min(name.len());
    let cut = name.get(..room).unwrap_or(name);
    format!("{cut}{tail}")
}

/// Tells a container its index, unless it sets the variable itself.
fn tell_index(container: &mut Container) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.annotations['{INDEX}']"), api_version: None };
    env.push(EnvVar {
        name: VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}
