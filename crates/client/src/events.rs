//! Events: what happened to an object, in words for people, written by one task a component in the order in which it was
//! said. [`correlate`] tells what becomes of repetitions and floods.

pub mod correlate;

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use task::Task;
use tokio::sync::mpsc;

use self::correlate::{Correlator, Said, Written};

/// Events that wait to be written at most; what comes on top of them is lost.
const WAITING: usize = 1000;

/// Writes events in the name of one component. Cloning shares the memory of what was said before.
#[derive(Clone)]
pub struct Recorder {
    component: Arc<str>,
    say: mpsc::Sender<Told>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

/// An event on its way.
struct Told {
    about: ObjectReference,
    said: Said,
    time: Timestamp,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({})", self.component)
    }
}

impl Recorder {
    /// Events by `component`, on the machine `host` if it is a part of one; written by a task below `task`.
    pub fn new(task: &Task, client: &Client, component: &str, host: Option<&str>) -> Self {
        let (say, mut told) = mpsc::channel(WAITING);
        let writer = Writer { client: client.clone(), component: component.to_owned(), host: host.map(str::to_owned) };
        task.spawn_until_cancelled("events", async move {
            let mut memory = Correlator::default();
            while let Some(Told { about, said, time }) = told.recv().await {
                let (kind, reason) = (said.kind, said.reason.clone());
                let Some(written) = memory.take(said, time) else { continue };
                if let Err(error) = writer.write(about, kind, reason, written, time).await {
                    tracing::debug!(component = writer.component, %error, "write event");
                }
            }
        });
        Self { component: component.into(), say }
    }

    /// Writes an event in the background. Failures are logged: nothing may depend on events.
    pub fn say(&self, about: &ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let kind = match severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        let said = Said {
            // Some objects, such as nodes, are named where others have a uid; all have a name.
            uid: about.uid.clone().or_else(|| about.name.clone()).unwrap_or_default(),
            field: about.field_path.clone().unwrap_or_default(),
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        };
        let told = Told { about: about.clone(), said, time: Timestamp::now() };
        if self.say.try_send(told).is_err() {
            tracing::debug!(component = &*self.component, reason, "event lost: too many wait to be written");
        }
    }
}

/// What an event may say at most, bytes.
const LONGEST: usize = 1024;

struct Writer {
    client: Client,
    component: String,
    host: Option<String>,
}

impl Writer {
    async fn write(
        &self,
        about: ObjectReference,
        kind: &'static str,
        reason: String,
        written: Written,
        now: Timestamp,
    ) -> kube::Result<()> {
        // Events of objects without a namespace stand in `default`.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), written.first.as_nanosecond());
        let mut message = written.message;
        message.truncate(message.floor_char_boundary(LONGEST));
        if written.count > 1 {
            let patch =
                serde_json::json!({"count": written.count, "message": message, "lastTimestamp": now.to_string()});
            match events.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // It has ended meanwhile: it begins anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let mut event = Event {
            involved_object: about,
            type_: Some(kind.into()),
            reason: Some(reason),
            message: Some(message),
            count: Some(written.count),
            reporting_component: Some(self.component.clone()),
            reporting_instance: self.host.clone(),
            first_timestamp: Some(Time(written.first)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some(self.component.clone()), host: self.host.clone() }),
            ..Event::default()
        };
        event.metadata.namespace = Some(namespace);
        event.metadata.name = Some(name);
        events.create(&PostParams::default(), &event).await.map(drop)
    }
}
