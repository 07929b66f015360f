//! What a build tells while it runs: steps that become known, begin, write, and end.
//!
//! ```text
//! Known ─► Started ─► Log | Status ... ─► Finished (done, cached, failed, canceled)
//! ```
//!
//! The model is BuildKit's (vertexes, statuses, logs, warnings), so that its clients can be served from it:
//! <https://github.com/moby/buildkit/blob/master/api/services/control/control.proto>.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::dockerfile::Lines;

/// Events that may wait for a reader before the build waits too.
const WAITING: usize = 1024;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// There is a step; it has not begun.
    Known(Vertex),
    /// It begins.
    Started {
        /// [`Vertex::id`].
        vertex: u32,
        /// When.
        at: Timestamp,
    },
    /// How far a part of it is: a layer, the context, a file. Told again as it goes on.
    Status(Status),
    /// A piece of what it writes; not necessarily whole lines.
    Log {
        /// [`Vertex::id`].
        vertex: u32,
        /// When.
        at: Timestamp,
        /// Which stream.
        stream: Stream,
        /// The bytes, which need not be text.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// It has ended.
    Finished {
        /// [`Vertex::id`].
        vertex: u32,
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
    /// Something is unwise.
    Warning {
        /// What, in a line.
        message: String,
        /// Where in the Dockerfile.
        lines: Option<Lines>,
    },
}

/// A step as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vertex {
    /// Its number within the build, counted from 1 in the order in which steps become known.
    pub id: u32,
    /// `[builder 2/5] RUN make`, `[internal] load build context`.
    pub name: String,
    /// The steps whose results it uses.
    pub inputs: Vec<u32>,
    /// The stage it belongs to, by its place in the file.
    pub stage: Option<usize>,
    /// Where it stands.
    pub lines: Option<Lines>,
}

/// How far a part of a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`Vertex::id`].
    pub vertex: u32,
    /// Names the part: `transferring context`, a layer's digest.
    pub part: String,
    /// Bytes so far, or none where bytes say nothing.
    pub current: u64,
    /// Bytes in all, 0 where nobody knows.
    pub total: u64,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Which stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Its result was there.
    Cached,
    /// It failed; why, in a line.
    Failed(String),
    /// Something else failed first, or nobody wants it any more.
    Canceled,
}

/// Where a build tells its events. Clones tell to the same reader; when the reader goes, the build is cancelled.
#[derive(Clone, Debug)]
pub struct Progress {
    sender: mpsc::Sender<Event>,
    next: Arc<AtomicU32>,
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("whoever asked for the build has gone")]
pub struct Gone;

impl Progress {
    /// Both ends.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, next: Arc::default() }, receiver)
    }

    /// Tells an event; waits where the reader is slow.
    pub async fn tell(&self, event: Event) -> Result<(), Gone> {
        self.sender.send(event).await.map_err(|_| Gone)
    }

    /// Tells an event that a slow reader may miss.
    pub fn offer(&self, event: Event) {
        let _ = self.sender.try_send(event);
    }

    /// The same from a thread that may block.
    pub fn tell_blocking(&self, event: Event) -> Result<(), Gone> {
        self.sender.blocking_send(event).map_err(|_| Gone)
    }

    /// Resolves when the reader is gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Makes a step known and gives it its number, overwriting the one it has.
    pub async fn know(&self, vertex: Vertex) -> Result<u32, Gone> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(Event::Known(Vertex { id, ..vertex })).await?;
        Ok(id)
    }

    /// A step begins.
    pub async fn start(&self, vertex: u32) -> Result<(), Gone> {
        self.tell(Event::Started { vertex, at: Timestamp::now() }).await
    }

    /// A step has ended.
    pub async fn finish(&self, vertex: u32, outcome: Outcome) -> Result<(), Gone> {
        self.tell(Event::Finished { vertex, at: Timestamp::now(), outcome }).await
    }

    /// A step writes.
    pub async fn log(&self, vertex: u32, stream: Stream, bytes: Vec<u8>) -> Result<(), Gone> {
        self.tell(Event::Log { vertex, at: Timestamp::now(), stream, bytes }).await
    }
}

/// Bytes as text in JSON.
mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
