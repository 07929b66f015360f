//! Events: what happened to an object, in words for people. Repetitions raise the count of the first one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use k8s_openapi::{
    api::core::v1::{Event, ObjectReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use task::Task;

/// Writes events in the name of one component. Cloning shares the memory of what was said before.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    client: Client,
    task: Task,
    component: String,
    host: Option<String>,
    said: Mutex<HashMap<Said, Repetition>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Said {
    uid: String,
    field: String,
    kind: &'static str,
    reason: String,
    message: String,
}

#[derive(Clone)]
struct Repetition {
    name: String,
    count: i32,
}

/// Different events remembered; past it the memory starts anew, and repetitions become events of their own.
const MEMORY: usize = 2048;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({})", self.0.component)
    }
}

impl Recorder {
    /// Events by `component`, on the machine `host` if it is a part of one; written by tasks below `task`.
    pub fn new(task: &Task, client: &Client, component: &str, host: Option<&str>) -> Self {
        Self(Arc::new(Inner {
            client: client.clone(),
            task: task.clone(),
            component: component.to_owned(),
            host: host.map(str::to_owned),
            said: Mutex::default(),
        }))
    }

    /// Writes an event in the background. Failures are logged: nothing may depend on events.
    pub fn say(&self, about: &ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let (inner, about, reason, message) = (self.0.clone(), about.clone(), reason.to_owned(), message.into());
        self.0.task.spawn_until_cancelled("event", async move {
            if let Err(error) = inner.write(about, severity, reason, message).await {
                tracing::debug!(component = inner.component, %error, "write event");
            }
        });
    }
}

impl Inner {
    async fn write(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: String,
        message: String,
    ) -> kube::Result<()> {
        let kind = match severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        // Events of objects without a namespace stand in `default`.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let said = Said {
            uid: about.uid.clone().unwrap_or_default(),
            field: about.field_path.clone().unwrap_or_default(),
            kind,
            reason: reason.clone(),
            message: message.clone(),
        };
        let now = Timestamp::now();
        let earlier = {
            let mut memory = self.said.lock().expect("events lock");
            if memory.len() >= MEMORY {
                memory.clear();
            }
            let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
            let entry = memory.entry(said).or_insert(Repetition { name, count: 0 });
            entry.count += 1;
            entry.clone()
        };
        if earlier.count > 1 {
            let patch = serde_json::json!({"count": earlier.count, "lastTimestamp": now.to_string()});
            match events.patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let mut event = Event {
            involved_object: about,
            type_: Some(kind.into()),
            reason: Some(reason),
            message: Some(message),
            count: Some(earlier.count),
            reporting_component: Some(self.component.clone()),
            reporting_instance: self.host.clone(),
            ..Event::default()
        };
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        event.first_timestamp = Some(time.clone());
        event.last_timestamp = Some(time);
        event.metadata.namespace = Some(namespace);
        event.metadata.name = Some(earlier.name);
        event.source = Some(k8s_openapi::api::core::v1::EventSource {
            component: Some(self.component.clone()),
            host: self.host.clone(),
        });
        events.create(&PostParams::default(), &event).await.map(drop)
    }
}
