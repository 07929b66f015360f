//! Events: what happened to an object, in words for people.
//!
//! ```text
//! say ─▶ queue ─▶ one writer ─┬─ said before: its count is raised
//!                             ├─ the object causes too many: silence for a while
//!                             └─ new: created
//! ```
//!
//! Nothing waits for events, nothing depends on them, and one object that fails in a loop cannot drown the others: each
//! may cause 25 at once and one more every five minutes, as upstream's clients allow.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use task::Task;
use tokio::sync::mpsc;

/// Events that wait to be written at most; more are dropped.
const QUEUE: usize = 4096;
/// Different events, and objects, that are remembered.
const MEMORY: usize = 4096;
/// How long an event is counted rather than written anew.
const FRESH: Duration = Duration::from_secs(600);
/// Events of one object at once, and the time after which there is room for one more.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// Events give way to what they are about.
const DELAY: Duration = Duration::from_millis(30);
/// Events that are being written at once.
const TOGETHER: usize = 16;
/// Characters of a message, as the API allows them.
const MESSAGE: usize = 1024;

/// Takes events in the name of one component. Cloning shares the memory of what was said before.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
    component: Arc<str>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug)]
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    at: Timestamp,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({})", self.component)
    }
}

impl Recorder {
    /// Events by `component`, on the machine `host` if it is a part of one; written until `task` ends.
    pub fn new(task: &Task, client: &Client, component: &str, host: Option<&str>) -> Self {
        let (sender, notes) = mpsc::channel(QUEUE);
        let writer = Writer {
            client: client.clone(),
            component: component.to_owned(),
            host: host.map(str::to_owned),
            written: HashMap::new(),
            buckets: HashMap::new(),
        };
        task.spawn_until_cancelled("events", writer.run(notes));
        Self { sender, component: component.into() }
    }

    /// Writes an event in the background. Failures are logged: nothing may depend on events.
    pub fn say(&self, about: &ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let message = message.into();
        let note = Note { about: about.clone(), severity, reason: reason.to_owned(), message, at: Timestamp::now() };
        if self.sender.try_send(note).is_err() {
            tracing::debug!(component = &*self.component, reason, "event dropped: too many wait");
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

/// By which an event is the same as another: object, field, severity, reason, message.
type Said = (Option<String>, Option<String>, Severity, String, String);

struct Writer {
    client: Client,
    component: String,
    host: Option<String>,
    written: HashMap<Said, Written>,
    buckets: HashMap<Option<String>, Bucket>,
}

/// What came of one write: a note whose event is not there any more comes back, to be said anew.
type Outcome = BoxFuture<'static, Option<(Said, Note)>>;

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut writing: FuturesUnordered<Outcome> = FuturesUnordered::new();
        loop {
            tokio::select! {
                note = notes.recv(), if writing.len() < TOGETHER => {
                    let Some(note) = note else { return };
                    let age = Timestamp::now().duration_since(note.at).unsigned_abs();
                    tokio::time::sleep(DELAY.saturating_sub(age)).await;
                    let now = Instant::now();
                    self.forget(now);
                    let bucket = self.buckets.entry(note.about.uid.clone());
                    if bucket.or_insert(Bucket { tokens: BURST, at: now }).take(now) {
                        writing.push(self.write(note, now));
                    }
                }
                Some(outcome) = writing.next(), if !writing.is_empty() => {
                    if let Some((said, note)) = outcome {
                        self.written.remove(&said);
                        writing.push(self.write(note, Instant::now()));
                    }
                }
            }
        }
    }

    /// Keeps the memory bounded.
    fn forget(&mut self, now: Instant) {
        if self.written.len() > MEMORY {
            self.written.retain(|_, entry| now.duration_since(entry.last) < FRESH);
        }
        if self.written.len() > MEMORY {
            self.written.clear();
        }
        if self.buckets.len() > MEMORY {
            self.buckets.retain(|_, bucket| now.duration_since(bucket.at) < REFILL);
        }
        if self.buckets.len() > MEMORY {
            self.buckets.clear();
        }
    }

    /// Counts an event that was written before, or writes it.
    fn write(&mut self, note: Note, now: Instant) -> Outcome {
        let about = &note.about;
        let said: Said =
            (about.uid.clone(), about.field_path.clone(), note.severity, note.reason.clone(), note.message.clone());
        let component = self.component.clone();
        // Often the namespace is going: nobody will read it.
        let log = move |reason: &str, error: &kube::Error| tracing::debug!(component, %error, reason, "write event");
        if let Some(entry) = self.written.get_mut(&said).filter(|entry| now.duration_since(entry.last) < FRESH) {
            (entry.count, entry.last) = (entry.count + 1, now);
            let api: Api<Event> = Api::namespaced(self.client.clone(), &entry.namespace);
            let patch = serde_json::json!({"count": entry.count, "lastTimestamp": Time(note.at)});
            let name = entry.name.clone();
            return Box::pin(async move {
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                    Ok(_) => None,
                    Err(kube::Error::Api(status)) if status.code == 404 => Some((said, note)),
                    Err(error) => {
                        log(&note.reason, &error);
                        None
                    }
                }
            });
        }
        let event = event(&note, &self.component, self.host.as_deref());
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        self.written.insert(said, Written { name, namespace, count: 1, last: now });
        Box::pin(async move {
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                log(&note.reason, &error);
            }
            None
        })
    }
}

fn event(note: &Note, component: &str, host: Option<&str>) -> Event {
    // Events of objects without a namespace stand in `default`.
    let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".into());
    let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or_default(), note.at.as_nanosecond());
    let host = host.map(str::to_owned);
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: note.about.clone(),
        type_: Some(note.severity.name().into()),
        reason: Some(note.reason.clone()),
        message: Some(note.message.chars().take(MESSAGE).collect()),
        source: Some(EventSource { component: Some(component.to_owned()), host: host.clone() }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: host,
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        count: Some(1),
        ..Event::default()
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
    fn events_of_cluster_wide_objects_stand_in_default_and_long_messages_are_cut() {
        let about = ObjectReference { kind: Some("Node".into()), name: Some("a".into()), ..Default::default() };
        let at = Timestamp::UNIX_EPOCH;
        let note = Note { about, severity: Severity::Warning, reason: "R".into(), message: "x".repeat(5000), at };
        let event = event(&note, "kubelet", Some("a"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.message.map(|message| message.len()), Some(MESSAGE));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
