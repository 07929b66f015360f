//! What happens: the last events in memory, and everyone who listens.
//!
//! Specification: <https://docs.docker.com/reference/api/engine/version/v1.50/#tag/System/operation/SystemEvents>.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use http::Response;
use serde::Serialize;
use serve::{Body, body};
use tokio::sync::broadcast;

use crate::{
    Engine, answer,
    call::Call,
    error::Result,
    filter::{Filters, moment},
};

/// Events that are remembered, as upstream does.
const REMEMBERED: usize = 256;
/// Events that a listener may be behind.
const BEHIND: usize = 1024;

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Until 1.51 beside `Action`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Of the object, where it is a container or an image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Image of a container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To whom.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: &'static str,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// To whom something happened.
#[derive(Clone, Debug, Serialize)]
pub struct Actor {
    /// Id, or name of a volume.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and more.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// All events.
#[derive(Debug)]
pub struct Events {
    last: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { last: Mutex::default(), sender: broadcast::channel(BEHIND).0 }
    }
}

impl Events {
    /// Tells of an event.
    pub fn tell(&self, kind: &'static str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = jiff::Timestamp::now();
        let shown = matches!(kind, "container" | "image");
        let event = Event {
            status: if shown { action.to_owned() } else { String::new() },
            id: if shown { id.to_owned() } else { String::new() },
            from: if kind == "container" {
                attributes.get("image").cloned().unwrap_or_default()
            } else {
                String::new()
            },
            kind,
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local",
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or_default(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(event.clone());
        if last.len() > REMEMBERED {
            last.pop_front();
        }
        // Under the lock, so that a listener that begins now gets each event once. Nobody may listen.
        let _ = self.sender.send(event);
    }

    fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.iter().cloned().collect(), self.sender.subscribe())
    }
}

impl Event {
    fn passes(&self, filters: &Filters) -> bool {
        let of = |kind: &'static str| {
            filters.any(kind, |wanted| {
                self.kind == kind
                    && (self.actor.id.starts_with(wanted)
                        || self.actor.attributes.get("name").is_some_and(|name| name == wanted))
            })
        };
        let image = || {
            filters.any("image", |wanted| {
                let names = [self.actor.id.as_str(), self.from.as_str()].into_iter();
                let mut names = names.chain(self.actor.attributes.get("name").map(String::as_str));
                names.any(|name| name == wanted || name.split(':').next() == Some(wanted))
            })
        };
        // `health_status: healthy` is found by its first word, too.
        let action = |wanted: &str| self.action == wanted || self.action.split(':').next() == Some(wanted);
        filters.any("type", |wanted| wanted == self.kind)
            && filters.any("event", action)
            && filters.any("scope", |wanted| wanted == self.scope)
            && of("container")
            && of("network")
            && of("volume")
            && image()
            && ["daemon", "plugin", "node", "service", "secret", "config"].iter().all(|kind| !filters.has(kind))
            && filters.labels(&self.actor.attributes)
    }
}

/// `GET /events`.
pub(crate) fn answer(engine: &Engine, call: &Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, FILTERS)?;
    let now = jiff::Timestamp::now();
    let bound = |name: &str| call.query.filled(name).map(|text| moment(text, now)).transpose();
    let (since, until) = (bound("since")?, bound("until")?);
    let (last, mut coming) = engine.events().listen();
    let (sender, body) = body::channel(64);
    engine.task().spawn_until_cancelled("events", async move {
        let nanoseconds = |time: jiff::Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let early = since.map(nanoseconds);
        let late = until.map(nanoseconds);
        let within = |event: &Event| late.is_none_or(|late| event.time_nano <= late) && event.passes(&filters);
        if let Some(early) = early {
            for event in last.iter().filter(|event| event.time_nano >= early && within(event)) {
                if sender.send(answer::line(event)).await.is_err() {
                    return;
                }
            }
        }
        let end = async {
            match until {
                Some(until) => {
                    let left = until.duration_since(jiff::Timestamp::now());
                    tokio::time::sleep(std::time::Duration::try_from(left).unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = coming.recv() => event,
                () = &mut end => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if within(&event) => {
                    if sender.send(answer::line(&event)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener to events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    Ok(answer::typed(body, "application/json"))
}
