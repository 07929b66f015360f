//! Events: what people read in `kubectl describe`. One task writes them, so that nothing waits for them; equal ones are
//! counted, and an object that causes too many is silenced for a while.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use task::Task;
use tokio::sync::mpsc;

/// Events that wait to be written at most; more are dropped.
const QUEUE: usize = 4096;
/// Different events that are remembered.
const MEMORY: usize = 4096;
/// How long an event is counted rather than written anew.
const FRESH: Duration = Duration::from_secs(600);
/// Events of one object at once, and the time after which there is room for one more.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// Events give way to what they are about.
const DELAY: Duration = Duration::from_millis(30);

/// Takes events.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
    node: Arc<str>,
}

#[derive(Clone, Debug)]
struct Note {
    about: ObjectReference,
    warning: bool,
    reason: String,
    message: String,
    at: Timestamp,
}

/// The reference to a pod, or to one of its containers.
pub fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let spec = pod.spec.as_ref();
    let field = container.map(|name| {
        let init = spec.is_some_and(|spec| spec.init_containers.iter().flatten().any(|other| other.name == name));
        let ephemeral =
            spec.is_some_and(|spec| spec.ephemeral_containers.iter().flatten().any(|other| other.name == name));
        let list = if init {
            "initContainers"
        } else if ephemeral {
            "ephemeralContainers"
        } else {
            "containers"
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: field,
    }
}

impl Recorder {
    /// Writes events in the name of `node` until `task` ends.
    pub fn start(task: &Task, client: kube::Client, node: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let recorder = Self { sender, node: node.into() };
        let (own, writing) = (task.clone(), write(client, receiver, node.to_owned()));
        task.spawn("events", async move {
            own.until_cancelled(writing).await;
        });
        recorder
    }

    /// Records an event about a pod or a container of it.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: String) {
        self.record(pod_reference(pod, container), warning, reason, message);
    }

    /// Records an event about this node.
    pub fn node(&self, warning: bool, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node.to_string()),
            uid: Some(self.node.to_string()),
            ..Default::default()
        };
        self.record(about, warning, reason, message);
    }

    fn record(&self, about: ObjectReference, warning: bool, reason: &str, message: String) {
        let note = Note { about, warning, reason: reason.to_owned(), message, at: Timestamp::now() };
        if self.sender.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: too many wait");
        }
    }
}

/// What was written of an event.
struct Written {
    name: String,
    namespace: String,
    count: i32,
    last: Instant,
}

/// A bucket of tokens: one an event.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        self.tokens = (self.tokens + gained).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

type Seen = (Option<String>, Option<String>, String, String);

async fn write(client: kube::Client, mut notes: mpsc::Receiver<Note>, node: String) {
    let mut written: HashMap<Seen, Written> = HashMap::new();
    let mut buckets: HashMap<Option<String>, Bucket> = HashMap::new();
    while let Some(note) = notes.recv().await {
        let age = Timestamp::now().duration_since(note.at).unsigned_abs();
        tokio::time::sleep(DELAY.saturating_sub(age)).await;
        let now = Instant::now();
        if written.len() > MEMORY {
            written.retain(|_, entry| now.duration_since(entry.last) < FRESH);
        }
        if buckets.len() > MEMORY {
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < REFILL);
        }
        let bucket = buckets.entry(note.about.uid.clone()).or_insert(Bucket { tokens: BURST, at: now });
        if !bucket.take(now) {
            continue;
        }
        let key = (note.about.uid.clone(), note.about.field_path.clone(), note.reason.clone(), note.message.clone());
        if let Some(entry) = written.get_mut(&key).filter(|entry| now.duration_since(entry.last) < FRESH) {
            let api: Api<Event> = Api::namespaced(client.clone(), &entry.namespace);
            let patch = serde_json::json!({"count": entry.count + 1, "lastTimestamp": Time(note.at)});
            match api.patch(&entry.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {
                    entry.count += 1;
                    entry.last = now;
                    continue;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::debug!(%error, "count an event");
                    continue;
                }
            }
        }
        let event = event(&note, &node);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                written.insert(key, Written { name, namespace, count: 1, last: now });
            }
            // The namespace is going: nobody will read it.
            Err(error) => tracing::debug!(%error, reason = note.reason, "write an event"),
        }
    }
}

fn event(note: &Note, node: &str) -> Event {
    let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".into());
    let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or(""), note.at.as_nanosecond());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..Default::default() },
        involved_object: note.about.clone(),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.clone()),
        message: Some(note.message.chars().take(1024).collect()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        count: Some(1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_causes_too_many_events_is_silenced_for_a_while() {
        let now = Instant::now();
        let mut bucket = Bucket { tokens: BURST, at: now };
        assert_eq!((0..100).filter(|_| bucket.take(now)).count(), 25);
        assert!(bucket.take(now + REFILL));
        assert!(!bucket.take(now + REFILL));
    }

    #[test]
    fn containers_are_named_by_their_place_in_the_spec() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "web"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}}))
        .unwrap();
        let path = |name| pod_reference(&pod, Some(name)).field_path.unwrap();
        assert_eq!(path("i"), "spec.initContainers{i}");
        assert_eq!(path("a"), "spec.containers{a}");
    }
}
