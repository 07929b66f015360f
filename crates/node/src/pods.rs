//! All pods of this node: a watch, and an owner for each.
//!
//! ```text
//! watch spec.nodeName=me ──┐
//! runtime: exits, deaths ──┼─▶ by UID ─▶ owner's mailbox
//! owner has ended ─────────┘
//! ```
//!
//! At the beginning, what the runtime has and the API server does not is removed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock},
    time::Duration,
};

use client::cache::{Cache, Change, Scope};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use runtime::{Event as RuntimeEvent, record::ContainerRecord};
use tokio::sync::mpsc;

use crate::{
    admit::{self, Place},
    config::{Shared, now},
    pod::{
        decide::Event,
        owner::{self, Mailbox, Message},
        restore::{self, ended_of},
        state::{Admission, State},
        work,
    },
    resources,
};

/// The pods of this node. Clones are the same.
#[derive(Clone)]
pub struct Pods {
    shared: Shared,
    cache: Cache<Pod>,
    owners: Arc<RwLock<HashMap<String, (Mailbox, Arc<Pod>)>>>,
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

enum Input {
    Pod(Change<Pod>),
    Runtime(Box<RuntimeEvent>),
    Ended(String),
}

impl Pods {
    /// Pods of the node, none yet.
    pub fn new(shared: &Shared) -> Self {
        let pods = Self { shared: shared.clone(), cache: Cache::idle(), owners: Arc::default() };
        let (owners, own) = (pods.owners.clone(), shared.clone());
        let room = move |pod: &Pod| {
            let owners = owners.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let others = owners.values().map(|(_, other)| &**other);
            let others = others.filter(|other| other.metadata.uid != pod.metadata.uid && !has_ended(other));
            admit::grant(pod, &others.collect::<Vec<_>>(), &own.allocatable)
        };
        let _ = shared.room.set(Box::new(room));
        pods
    }

    /// A pod by namespace and name, as the API server has it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.cache.get(&client::cache::Key::new(namespace, name))
    }

    /// All pods, as the API server has them.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.cache.list()
    }

    /// The newest container of a name in a pod, and the one before it.
    pub fn containers(&self, pod: &Pod, name: &str) -> Vec<ContainerRecord> {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let sandboxes =
            self.shared.runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.record.config.uid == uid);
        let mut found: Vec<ContainerRecord> = sandboxes
            .flat_map(|sandbox| self.shared.runtime.list_containers(Some(&sandbox.record.id)))
            .filter(|record| record.config.name == name)
            .collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.config.attempt));
        found
    }

    /// Pods that were taken on and have not ended.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        let owners = self.owners.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        owners.values().map(|(_, pod)| pod.clone()).filter(|pod| !has_ended(pod)).collect()
    }

    /// Ends a pod for want of something, which `message` says. `disrupted`: it was none of the pod's own doing.
    pub fn evict(&self, uid: &str, message: String, disrupted: bool, grace: Duration) {
        if let Some((mailbox, _)) = self.lock().get(uid) {
            let _ = mailbox.send(Message::Event(Event::Evict { message, disrupted, grace }));
        }
    }

    /// The sandbox that a pod runs in.
    pub fn sandbox(&self, pod: &Pod) -> Option<String> {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let alive = |sandbox: &runtime::SandboxStatus| sandbox.record.config.uid == uid && sandbox.alive;
        self.shared.runtime.list_sandboxes().into_iter().rfind(alive).map(|sandbox| sandbox.record.id)
    }

    /// Looks after the pods until the node's task ends.
    pub async fn run(self) {
        let (sender, mut inputs) = mpsc::unbounded_channel();
        let pods = sender.clone();
        self.cache.listen(move |change| {
            let _ = pods.send(Input::Pod(change.clone()));
        });
        let (events, task) = (sender.clone(), self.shared.task.clone());
        let mut stream = self.shared.runtime.events();
        self.shared.task.spawn("runtime events", async move {
            while let Some(Some(event)) = task.until_cancelled(stream.recv()).await {
                if events.send(Input::Runtime(Box::new(event))).is_err() {
                    return;
                }
            }
        });
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let scope = Scope::fields(format!("spec.nodeName={}", self.shared.config.name));
        self.cache.start(&self.shared.task, api, scope);
        let tidy = self.clone();
        self.shared.task.spawn("orphans", async move {
            let task = tidy.shared.task.clone();
            let work = async {
                tidy.cache.ready().await;
                tidy.remove_orphans().await;
            };
            task.until_cancelled(work).await;
        });
        while let Some(Some(input)) = self.shared.task.until_cancelled(inputs.recv()).await {
            match input {
                Input::Pod(change) => self.changed(change, &sender),
                Input::Runtime(event) => self.happened(*event),
                Input::Ended(uid) => self.ended(&uid, &sender),
            }
        }
    }

    fn lock(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, (Mailbox, Arc<Pod>)>> {
        self.owners.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn changed(&self, change: Change<Pod>, sender: &mpsc::UnboundedSender<Input>) {
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        let (old, new) = (change.old.as_ref().map(uid), change.new.as_ref().map(uid));
        if let Some(old) = old.filter(|old| new.as_ref() != Some(old))
            && let Some((mailbox, _)) = self.lock().get(&old)
        {
            // What the object said last counts: it may have been given a shorter grace.
            if let Some(last) = &change.old {
                let _ = mailbox.send(Message::Event(Event::Changed(last.clone())));
            }
            let _ = mailbox.send(Message::Event(Event::Removed));
        }
        let Some(pod) = change.new else { return };
        let needs = |pod: &Pod| (has_ended(pod), pod.spec.as_ref().map(resources::pod_requests));
        if change.old.as_ref().is_some_and(|old| needs(old) != needs(&pod)) {
            self.tell_of_room();
        }
        let uid = uid(&pod);
        if let Some((mailbox, known)) = self.lock().get_mut(&uid) {
            known.clone_from(&pod);
            let _ = mailbox.send(Message::Event(Event::Changed(pod)));
            return;
        }
        let mailbox = self.begin(&uid, pod.clone(), sender.clone());
        self.lock().insert(uid, (mailbox, pod));
    }

    fn begin(&self, uid: &str, pod: Arc<Pod>, sender: mpsc::UnboundedSender<Input>) -> Mailbox {
        let mut state = State::new(pod.clone(), self.shared.host_ip(), now());
        let sandboxes: Vec<_> = self
            .shared
            .runtime
            .list_sandboxes()
            .into_iter()
            .filter(|sandbox| sandbox.record.config.uid == uid)
            .collect();
        let containers: Vec<ContainerRecord> = sandboxes
            .iter()
            .flat_map(|sandbox| self.shared.runtime.list_containers(Some(&sandbox.record.id)))
            .collect();
        restore::restore(&mut state, &sandboxes, &containers, |record| self.last_words(record));
        for sandbox in &sandboxes {
            if let (true, Some(ip)) = (sandbox.alive, sandbox.record.ip) {
                self.shared.zone.set_pod(ip.into(), &sandbox.record.config.namespace);
            }
        }
        let first = if state.admission == Admission::Pending {
            vec![Event::Admitted(self.admit(&pod))]
        } else {
            vec![Event::Changed(pod)]
        };
        let uid = uid.to_owned();
        owner::start(&self.shared, state, first, move || {
            let _ = sender.send(Input::Ended(uid));
        })
    }

    fn admit(&self, pod: &Pod) -> Result<(), (String, String)> {
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("");
        // One that was running here, or has ended, is not asked again.
        if matches!(phase, "Running" | "Succeeded" | "Failed") {
            return Ok(());
        }
        let owners = self.owners.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let others: Vec<&Pod> = owners.values().map(|(_, pod)| &**pod).filter(|pod| !has_ended(pod)).collect();
        let node = self.shared.node();
        let labels = node.as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        let place = Place {
            name: &self.shared.config.name,
            labels: &labels,
            allocatable: &self.shared.allocatable,
            max_pods: self.shared.config.max_pods,
            pressures: *self.shared.pressures.borrow(),
        };
        admit::admit(pod, &others, place)
    }

    fn last_words(&self, record: &ContainerRecord) -> Option<String> {
        let fallback = record.config.annotations.get(restore::TERMINATION_FALLBACK).is_some_and(|text| text == "true");
        self.shared.runtime.termination_message(&record.id, fallback)
    }

    fn happened(&self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { uid, container, .. } => {
                let Some(mailbox) = self.lock().get(&uid).map(|(mailbox, _)| mailbox.clone()) else { return };
                if let Some(ended) = ended_of(&container, self.last_words(&container)) {
                    let _ = mailbox.send(Message::Event(Event::Exited(container.config.name, ended)));
                }
            }
            RuntimeEvent::Died { uid, sandbox } => {
                if let Some((mailbox, _)) = self.lock().get(&uid) {
                    let _ = mailbox.send(Message::Event(Event::SandboxDied(sandbox)));
                }
            }
        }
    }

    /// Others may have been waiting for what a pod leaves.
    fn tell_of_room(&self) {
        for (mailbox, _) in self.lock().values() {
            let _ = mailbox.send(Message::Event(Event::Room));
        }
    }

    fn ended(&self, uid: &str, sender: &mpsc::UnboundedSender<Input>) {
        let Some((_, pod)) = self.lock().remove(uid) else { return };
        self.tell_of_room();
        // An owner that ended while its pod is still there (it was ended by a panic) begins again.
        let (namespace, name) =
            (pod.metadata.namespace.as_deref().unwrap_or(""), pod.metadata.name.as_deref().unwrap_or(""));
        if let Some(present) = self.get(namespace, name).filter(|present| present.metadata.uid.as_deref() == Some(uid))
        {
            if self.shared.task.is_cancelled() || present.metadata.deletion_timestamp.is_some() {
                return;
            }
            tracing::error!(namespace, name, "the owner of a pod ended; begin again");
            let mailbox = self.begin(uid, present.clone(), sender.clone());
            self.lock().insert(uid.to_owned(), (mailbox, present));
        }
    }

    /// Removes pods that the API server does not have: they were deleted while nobody was here.
    async fn remove_orphans(&self) {
        let known: HashSet<String> = self.list().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let mut orphans: HashMap<String, String> = HashMap::new();
        for sandbox in self.shared.runtime.list_sandboxes() {
            let config = &sandbox.record.config;
            // Those of builds are no pods'.
            if !known.contains(&config.uid) && !config.uid.starts_with(runtime::steps::UID_PREFIX) {
                orphans.insert(config.uid.clone(), config.namespace.clone());
            }
        }
        if let Ok(mut entries) = tokio::fs::read_dir(&self.shared.config.pods_dir).await {
            while let Ok(Some(entry)) = entries.next_entry().await {
                let name = entry.file_name().to_string_lossy().into_owned();
                // UIDs have the form of UUIDs; other directories are not pods'.
                if name.len() == 36 && name.matches('-').count() == 4 && !known.contains(&name) {
                    orphans.entry(name).or_default();
                }
            }
        }
        for (uid, namespace) in orphans {
            if self.lock().contains_key(&uid) {
                continue;
            }
            tracing::info!(uid, namespace, "remove a pod that was deleted meanwhile");
            if let Err(message) = work::remove(&self.shared, &uid, &namespace).await {
                tracing::warn!(uid, message, "remove a pod that was deleted meanwhile");
            }
        }
    }
}
