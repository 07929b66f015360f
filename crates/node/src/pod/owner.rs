//! The owner of one pod: takes what happens from its mailbox, asks [`super::decide`] what to do, and has it done.
//!
//! ```text
//! mailbox ─▶ decide ─▶ actions ─┬─▶ work (tasks of their own) ─▶ mailbox
//!    ▲                          ├─▶ probes ─▶ mailbox
//!    └── clock                  └─▶ status: one write at a time, the newest wins
//! ```
//!
//! The owner itself never waits for anything but its mailbox, so that a pod that hangs can always be deleted.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Map, Value, json};
use task::{Running, Task};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    decide::{self, Action, Event, Probe},
    state::{Sandbox, Spec, State, Step},
    volumes::{Credentials, Volumes},
    work,
};
use crate::{
    config::{Shared, now},
    objects::Notify,
    probe::{self, Report, Target},
    reach::Caller,
    trust, volume,
};

/// Pending is not news: it is written only if it lasts.
const QUIET: Duration = Duration::from_millis(100);
/// First and longest delay of a status that the API server did not take.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Upstream's bounds of pods' starts, seconds.
const START: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// What comes to an owner.
#[derive(Debug)]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// A probe failed: which, of which container (name, id), in words.
    Unhealthy(Probe, String, String, String),
    /// A referenced object has changed.
    ObjectsChanged,
    /// An update of volumes has ended; when tokens were made.
    Refreshed(Result<(), String>),
    /// A status was written, or not.
    Written(Box<PodStatus>, Result<Box<Pod>, kube::Error>),
    /// The object was deleted, or not.
    Deleted(Result<(), kube::Error>),
}

/// Where messages for an owner go.
pub type Mailbox = mpsc::UnboundedSender<Message>;

struct ProbeSet {
    id: String,
    /// Liveness and startup.
    calm: Task,
    /// All of them.
    all: Task,
    gate: watch::Sender<bool>,
}

struct Owner {
    shared: Shared,
    task: Task,
    state: State,
    uid: String,
    mailbox: Mailbox,
    probes: HashMap<String, ProbeSet>,
    stops: HashMap<String, Running>,
    credentials: Credentials,
    /// Whether volumes must be looked at again once the present look has ended.
    stale: bool,
    refreshing: bool,
    published: PodStatus,
    dirty: bool,
    writing: bool,
    retry: Duration,
    hold_until: Instant,
    delete_pending: bool,
}

/// Begins an owner. It ends by itself when its pod is gone, and calls `ended` then.
pub fn start(shared: &Shared, state: State, first: Vec<Event>, ended: impl FnOnce() + Send + 'static) -> Mailbox {
    let (mailbox, messages) = mpsc::unbounded_channel();
    let uid = state.pod.metadata.uid.clone().unwrap_or_default();
    let task = shared.task.child(&uid);
    let published = state.pod.status.clone().unwrap_or_default();
    let owner = Owner {
        shared: shared.clone(),
        task: task.clone(),
        state,
        uid,
        mailbox: mailbox.clone(),
        probes: HashMap::new(),
        stops: HashMap::new(),
        credentials: Credentials::default(),
        stale: false,
        refreshing: false,
        published,
        dirty: false,
        writing: false,
        retry: RETRY.0,
        hold_until: Instant::now() + QUIET,
        delete_pending: false,
    };
    task.clone().spawn("owner", async move {
        task.until_cancelled(owner.run(messages, first)).await;
        task.cancel();
        ended();
    });
    mailbox
}

impl Owner {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, first: Vec<Event>) {
        self.hold_objects();
        self.resume_probes();
        for event in first {
            if self.decide(event) {
                return;
            }
        }
        loop {
            self.flush();
            let wake = self.wake_at();
            let message = tokio::select! {
                message = messages.recv() => message,
                () = sleep_until(wake) => Some(Message::Event(Event::Wake)),
            };
            let Some(message) = message else { return };
            if self.take(message) {
                return;
            }
            // What has piled up is taken in before the next status goes out.
            while let Ok(message) = messages.try_recv() {
                if self.take(message) {
                    return;
                }
            }
        }
    }

    /// Takes one message in; true at the end.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Event(event) => self.decide(event),
            Message::Unhealthy(kind, name, id, text) => {
                if self.probes.get(&name).is_some_and(|set| set.id == id) {
                    let message = format!("{} probe failed: {text}", probe::name(kind));
                    self.shared.recorder.pod(&self.state.pod, Some(&name), true, "Unhealthy", message);
                }
                false
            }
            Message::ObjectsChanged => {
                self.refresh();
                self.decide(Event::ObjectsChanged)
            }
            Message::Refreshed(result) => {
                self.refreshing = false;
                if let Err(message) = result {
                    self.shared.recorder.pod(&self.state.pod, None, true, "FailedMount", message);
                }
                if std::mem::take(&mut self.stale) {
                    self.refresh();
                }
                false
            }
            Message::Written(status, result) => {
                self.written(*status, result);
                false
            }
            Message::Deleted(result) => {
                match result {
                    Ok(()) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                        return self.decide(Event::Removed);
                    }
                    Err(error) => {
                        tracing::debug!(pod = self.state.full_name(), %error, "delete object");
                        self.state.deleting = false;
                        self.dirty = true;
                        self.hold_until = Instant::now() + RETRY.0;
                    }
                }
                false
            }
        }
    }

    /// One step; true at the end.
    fn decide(&mut self, event: Event) -> bool {
        let changed = matches!(event, Event::Changed(_));
        let startup = match &event {
            Event::Probed(name, id, Probe::Startup, true) => Some((name.clone(), id.clone())),
            _ => None,
        };
        let mounted = matches!(event, Event::Volumes(_));
        let old = changed.then(|| self.state.pod.clone());
        let actions = decide::decide(&mut self.state, event, now());
        if let Some((name, id)) = startup
            && let Some(set) = self.probes.get(&name).filter(|set| set.id == id)
        {
            set.gate.send_replace(true);
        }
        if let Some(old) = old {
            self.hold_objects();
            let meta = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
            if meta(&old) != meta(&self.state.pod) {
                self.refresh();
            }
        }
        if mounted && std::mem::take(&mut self.stale) {
            self.refresh();
        }
        let mut finished = false;
        for action in actions {
            finished |= self.act(action);
        }
        finished
    }

    /// Has one action done; true for the last.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::MountVolumes => {
                let (make, credentials) = (self.volumes(), self.credentials.clone());
                self.work(async move { Event::Volumes(make.make(&credentials).await.map(drop)) });
            }
            Action::UnmountVolumes => {
                self.shared.objects.release(&self.uid, self.namespace());
                self.shared.trust.release(&self.uid);
                let place = self.shared.volumes(&self.uid);
                self.work(async move { Event::Volumes(work::blocking(move || volume::unmount(&place)).await) });
            }
            Action::CreateSandbox(attempt) => {
                let (shared, pod) = (self.shared.clone(), self.state.granted_pod());
                self.work(async move { work::create_sandbox(&shared, &pod, attempt).await });
            }
            Action::StopSandbox(id) => {
                let (shared, address) = (self.shared.clone(), self.pod_ip());
                self.work(async move { work::stop_sandbox(&shared, &id, address).await });
            }
            Action::FetchImage(name) => {
                let (shared, pod) = (self.shared.clone(), self.state.pod.clone());
                self.work(async move { work::fetch_image(&shared, &pod, name).await });
            }
            Action::Start(name, attempt, image) => {
                let start = work::Start {
                    shared: self.shared.clone(),
                    pod: self.state.granted_pod(),
                    status: self.state.status.clone(),
                    sandbox: match &self.state.sandbox {
                        Sandbox::Ready { id, .. } => id.clone(),
                        _ => String::new(),
                    },
                    name,
                    attempt,
                    image,
                };
                self.work(start.run());
            }
            Action::RunHook(name, id) => {
                if let Some(container) = self.plain(&name) {
                    let (task, shared, ip) = (self.task.clone(), self.shared.clone(), self.reach_ip());
                    self.work(async move { work::post_start(&task, &shared, container, id, ip).await });
                }
            }
            Action::Stop { name, id, grace, hook } => {
                let stop = work::StopContainer {
                    task: self.task.clone(),
                    shared: self.shared.clone(),
                    pod: self.state.pod.clone(),
                    container: self.plain(&name),
                    id,
                    pod_ip: self.reach_ip(),
                    grace,
                    hook,
                };
                if let Some(old) = self.stops.remove(&name) {
                    old.abort();
                }
                self.stops.retain(|_, running| !running.is_finished());
                let task = self.task.clone();
                let stopping = self.task.spawn("stop", async move {
                    task.until_cancelled(stop.run()).await;
                });
                self.stops.insert(name, stopping);
            }
            Action::AskForRoom => {
                let verdict = self.shared.room(&self.state.pod);
                let _ = self.mailbox.send(Message::Event(Event::Granted(verdict)));
            }
            Action::Resize(name, id) => {
                let Sandbox::Ready { id: sandbox, .. } = &self.state.sandbox else { return false };
                let (shared, pod, sandbox) = (self.shared.clone(), self.state.granted_pod(), sandbox.clone());
                self.work(async move { work::resize(&shared, &pod, &sandbox, name, id).await });
            }
            Action::StartProbes(name, id) => self.start_probes(&name, &id),
            Action::CalmProbes(name) => {
                if let Some(set) = self.probes.get(&name) {
                    set.calm.cancel();
                }
            }
            Action::StopProbes(name) => {
                if let Some(set) = self.probes.remove(&name) {
                    set.all.cancel();
                }
            }
            Action::Record { warning, reason, message, container } => {
                self.shared.recorder.pod(&self.state.pod, container.as_deref(), warning, reason, message);
            }
            Action::Publish => self.dirty = true,
            Action::Remove => {
                for (_, set) in self.probes.drain() {
                    set.all.cancel();
                }
                self.shared.counts.forget("prober_", "pod_uid", &self.uid);
                let (shared, uid, namespace) = (self.shared.clone(), self.uid.clone(), self.namespace().to_owned());
                self.work(async move { Event::Cleaned(work::remove(&shared, &uid, &namespace).await) });
            }
            Action::Delete => self.delete_pending = true,
            Action::Finish => return true,
        }
        false
    }

    /// Does something beside the owner and puts what came of it into the mailbox.
    fn work(&self, future: impl Future<Output = Event> + Send + 'static) {
        let (mailbox, task) = (self.mailbox.clone(), self.task.clone());
        self.task.spawn("work", async move {
            if let Some(event) = task.until_cancelled(future).await {
                let _ = mailbox.send(Message::Event(event));
            }
        });
    }

    fn namespace(&self) -> &str {
        self.state.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn plain(&self, name: &str) -> Option<Container> {
        self.state.spec(name).and_then(Spec::plain).cloned()
    }

    fn pod_ip(&self) -> Option<IpAddr> {
        match &self.state.sandbox {
            Sandbox::Ready { ip, .. } => *ip,
            _ => self.state.status.pod_ip.as_ref().and_then(|ip| ip.parse().ok()),
        }
    }

    /// Where the pod is reached from here.
    fn reach_ip(&self) -> IpAddr {
        self.pod_ip().unwrap_or(self.shared.host_ip())
    }

    // ---- volumes ----

    fn hold_objects(&self) {
        if self.state.ending.is_some() {
            return;
        }
        let mailbox = self.mailbox.clone();
        let notify: Notify = Arc::new(move || {
            let _ = mailbox.send(Message::ObjectsChanged);
        });
        let references = volume::references(&self.state.pod);
        self.shared.objects.hold(&self.uid, self.namespace(), &references, &notify);
        self.shared.trust.hold(&self.uid, trust::needs(&self.state.pod), &notify);
    }

    fn volumes(&self) -> Volumes {
        Volumes {
            shared: self.shared.clone(),
            pod: self.state.pod.clone(),
            status: self.state.status.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Brings volumes up to date.
    fn refresh(&mut self) {
        if self.refreshing || self.state.volumes == Step::Busy {
            self.stale = true;
            return;
        }
        if self.state.volumes != Step::Done || self.state.ending.is_some() {
            return;
        }
        self.refreshing = true;
        let (make, credentials, mailbox) = (self.volumes(), self.credentials.clone(), self.mailbox.clone());
        self.task.spawn_until_cancelled("refresh", async move {
            let result = make.make(&credentials).await.map(drop);
            let _ = mailbox.send(Message::Refreshed(result));
        });
    }

    // ---- probes ----

    /// Probes of containers that were running before this owner was there.
    fn resume_probes(&mut self) {
        let running: Vec<(String, String)> = self
            .state
            .containers
            .iter()
            .filter_map(|container| container.running().map(|running| (container.name.clone(), running.id.clone())))
            .collect();
        for (name, id) in running {
            self.start_probes(&name, &id);
        }
    }

    fn start_probes(&mut self, name: &str, id: &str) {
        if let Some(old) = self.probes.remove(name) {
            old.all.cancel();
        }
        let Some(container) = self.plain(name) else { return };
        let Some(known) = self.state.container(name) else { return };
        let started_at = known.running().map_or_else(now, |running| running.started_at);
        let age: Duration = now().duration_since(started_at).try_into().unwrap_or_default();
        let all = self.task.child(id);
        let calm = all.child("calm");
        let gate = watch::Sender::new(known.started);
        let kinds = [
            (Probe::Startup, container.startup_probe.clone().filter(|_| !known.started), &calm),
            (Probe::Liveness, container.liveness_probe.clone(), &calm),
            (Probe::Readiness, container.readiness_probe.clone(), &all),
        ];
        let target = Target { id: id.to_owned(), container, pod_ip: self.reach_ip(), age };
        for (kind, spec, task) in kinds {
            let Some(spec) = spec else { continue };
            let (mailbox, name, id) = (self.mailbox.clone(), name.to_owned(), id.to_owned());
            let (counts, pod) = (self.shared.counts.clone(), self.state.pod.clone());
            let report = move |report: Report| {
                let message = match report {
                    Report::Asked(passed, took) => return probe::count(&counts, &pod, &name, kind, passed, took),
                    Report::Verdict(passed) => Message::Event(Event::Probed(name.clone(), id.clone(), kind, passed)),
                    Report::Failure(text) => Message::Unhealthy(kind, name.clone(), id.clone(), text),
                };
                let _ = mailbox.send(message);
            };
            let caller = Caller { task: task.clone(), names: self.shared.names.clone(), agent: probe::AGENT };
            let running =
                probe::run(caller, self.shared.runtime.clone(), kind, spec, target.clone(), gate.subscribe(), report);
            task.spawn("probe", running);
        }
        self.probes.insert(name.to_owned(), ProbeSet { id: id.to_owned(), calm, all, gate });
    }

    // ---- time ----

    fn wake_at(&self) -> Option<Instant> {
        let present = now();
        let mut times: Vec<Timestamp> = decide::next_wake(&self.state, present).into_iter().collect();
        if self.state.volumes == Step::Done && self.state.ending.is_none() && !self.refreshing {
            times.extend(self.credentials.due(&self.state.pod));
        }
        let clock = times.into_iter().min().map(|time| {
            let delay: Duration = time.duration_since(present).try_into().unwrap_or_default();
            Instant::now() + delay
        });
        let write = (self.dirty && !self.writing).then_some(self.hold_until);
        clock.into_iter().chain(write).min()
    }

    // ---- status ----

    /// Writes the status if there is a new one and none is being written, and deletes the object after the last.
    fn flush(&mut self) {
        if self.state.volumes == Step::Done && self.credentials.due(&self.state.pod).is_some_and(|at| at <= now()) {
            self.refresh();
        }
        if self.writing {
            return;
        }
        if self.dirty && !self.state.removed {
            if Instant::now() < self.hold_until && self.is_quiet() {
                return;
            }
            self.dirty = false;
            if let Some(patch) = status_patch(&self.published, &self.state.status, &self.uid) {
                self.write(patch);
                return;
            }
        }
        if self.delete_pending && !self.state.removed {
            self.delete_pending = false;
            self.delete();
        } else if self.state.cleaned == Step::Done && !self.state.deleting && !self.state.removed {
            // A deletion that failed is tried again.
            self.state.deleting = true;
            self.delete();
        }
    }

    /// Whether the new status says no more than that the pod is being started.
    fn is_quiet(&self) -> bool {
        if self.retry > RETRY.0 {
            return true;
        }
        let status = &self.state.status;
        let waits = |list: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
            list.iter().flatten().all(|status| {
                let reason = status.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
                matches!(reason, Some("ContainerCreating" | "PodInitializing"))
            })
        };
        self.state.ending.is_none()
            && status.phase.as_deref() == Some("Pending")
            && waits(&status.container_statuses)
            && waits(&status.init_container_statuses)
    }

    fn write(&mut self, patch: Value) {
        self.writing = true;
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), self.namespace());
        let name = self.state.pod.metadata.name.clone().unwrap_or_default();
        let (mailbox, status) = (self.mailbox.clone(), Box::new(self.state.status.clone()));
        self.task.spawn("status", async move {
            let result = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            let _ = mailbox.send(Message::Written(status, result.map(Box::new)));
        });
    }

    fn written(&mut self, status: PodStatus, result: Result<Box<Pod>, kube::Error>) {
        self.writing = false;
        match result {
            Ok(_) => {
                let runs = |status: &PodStatus| status.phase.as_deref() == Some("Running");
                if runs(&status) && !runs(&self.published) {
                    let took = now().duration_since(self.state.start_time).unsigned_abs();
                    let (counts, seconds) = (&self.shared.counts, took.as_secs_f64());
                    counts.observe("kubelet_pod_start_duration_seconds", START, &[], seconds);
                    counts.took("kubelet_pod_worker_duration_seconds", &[("operation_type", "create")], took);
                }
                self.published = status;
                self.retry = RETRY.0;
                self.hold_until = Instant::now() + QUIET;
            }
            // Gone, or another pod of the same name: the watch will say so.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                tracing::debug!(pod = self.state.full_name(), code = status.code, "status not taken");
            }
            Err(error) => {
                tracing::warn!(pod = self.state.full_name(), %error, "write status");
                self.dirty = true;
                self.retry = (self.retry * 2).min(RETRY.1);
                self.hold_until = Instant::now() + self.retry;
            }
        }
    }

    fn delete(&mut self) {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), self.namespace());
        let name = self.state.pod.metadata.name.clone().unwrap_or_default();
        let (mailbox, uid) = (self.mailbox.clone(), self.uid.clone());
        self.task.spawn("delete", async move {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
            let _ = mailbox.send(Message::Deleted(api.delete(&name, &params).await.map(drop)));
        });
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The strategic merge patch that leads from one status to another; none where they are equal. Lists are sent whole, but for
/// conditions, which others write too.
pub fn status_patch(old: &PodStatus, new: &PodStatus, uid: &str) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, new) = (object(old), object(new));
    let mut patch = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        let value = match key.as_str() {
            "conditions" => {
                let known = list(&old, key);
                let changed: Vec<Value> =
                    list(&new, key).into_iter().filter(|condition| !known.contains(condition)).map(complete).collect();
                let gone = known.iter().filter(|condition| {
                    !list(&new, key).iter().any(|other| other["type"] == condition["type"])
                        && super::status::OWN_CONDITIONS.contains(&condition["type"].as_str().unwrap_or(""))
                });
                let gone = gone.map(|condition| json!({"$patch": "delete", "type": condition["type"]}));
                let all: Vec<Value> = changed.into_iter().chain(gone).collect();
                if all.is_empty() {
                    continue;
                }
                Value::Array(all)
            }
            "podIPs" | "hostIPs" => {
                let mut items = vec![json!({"$patch": "replace"})];
                items.extend(list(&new, key));
                // Only the former is merged by key; the latter is replaced anyway.
                if key == "hostIPs" { Value::Array(list(&new, key)) } else { Value::Array(items) }
            }
            _ => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    for key in old.keys() {
        if !new.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    if patch.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": patch}))
}

fn list(map: &Map<String, Value>, key: &str) -> Vec<Value> {
    map.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A condition that clears what it does not have, since it is merged into the old one.
fn complete(mut condition: Value) -> Value {
    if let Some(fields) = condition.as_object_mut() {
        for key in ["reason", "message"] {
            fields.entry(key).or_insert(Value::Null);
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_patch_holds_only_what_changed() {
        let old = status(json!({"phase": "Pending", "reason": "X", "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "PodScheduled", "status": "True"}, {"type": "x.example/gate", "status": "True"},
        ]}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "10.42.0.5"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"},
        ]}));
        assert_eq!(status_patch(&old, &old, "u"), None);
        let wanted = json!({"metadata": {"uid": "u"}, "status": {
            "phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "10.42.0.5"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
        }});
        assert_eq!(status_patch(&old, &new, "u"), Some(wanted));
    }
}
