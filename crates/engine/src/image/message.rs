//! Streams of messages while something takes long: pulls, pushes, loads, builds.
//!
//! Each line is a document: `{"status": "Downloading", "id": "0123456789ab", "progressDetail": {"current": 1, "total": 2}}`, and
//! at the end perhaps `{"errorDetail": {"message": "..."}, "error": "..."}`. Clients draw a line for each `id`. An error that comes
//! before the first message is the answer's status instead.
//!
//! <https://github.com/moby/moby/blob/v28.2.2/pkg/jsonmessage/jsonmessage.go>

use http::Response;
use serde_json::{Value, json};
use serve::{Body, body};
use tokio::sync::mpsc;

use crate::{Engine, answer, error::Error, error::Result};

/// Messages that may wait for a slow client.
const WAITING: usize = 256;
/// Letters of the bar that older clients print as it is.
const BAR: u64 = 50;

/// Where messages go. Clones tell the same client.
#[derive(Clone, Debug)]
pub struct Messages(mpsc::Sender<Value>);

impl Messages {
    /// Tells; waits while the client is slow, and does nothing once it has gone.
    pub async fn tell(&self, message: Value) {
        let _ = self.0.send(message).await;
    }

    /// Tells what may also be left out: how far something is.
    pub fn hint(&self, message: Value) {
        let _ = self.0.try_send(message);
    }

    /// Resolves when the client has gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

/// A plain message, about `id` unless that is empty.
pub fn status(text: impl Into<String>, id: &str) -> Value {
    let mut message = json!({ "status": text.into() });
    if !id.is_empty() {
        message["id"] = id.into();
        message["progressDetail"] = json!({});
    }
    message
}

/// How far something is.
pub fn progress(text: &str, id: &str, current: u64, total: u64) -> Value {
    let mut detail = json!({ "current": current });
    if total > 0 {
        detail["total"] = total.into();
    }
    json!({ "status": text, "progressDetail": detail, "progress": bar(current, total), "id": id })
}

/// `[=====>     ]  1.2MB/3.4MB`.
fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return size(current);
    }
    let done = (u128::from(current) * u128::from(BAR) / u128::from(total)) as usize;
    let head = if done < BAR as usize { ">" } else { "" };
    let left = (BAR as usize).saturating_sub(done + head.len());
    format!("[{}{head}{}] {:>8}/{}", "=".repeat(done), " ".repeat(left), size(current), size(total))
}

/// A size as clients print it: thousands, four digits.
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if amount < 1000.0 {
            break;
        }
        (amount, unit) = (amount / 1000.0, next);
    }
    let digits = if amount >= 1000.0 { 0 } else { 3 - (amount.max(1.0).log10() as usize) };
    let text = format!("{amount:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// The last message of what failed.
fn failure(error: &Error) -> Value {
    json!({ "errorDetail": { "message": error.message }, "error": error.message })
}

/// Runs work that tells messages, below the engine's task, and answers with them. Work ends when the client goes.
pub async fn stream<F>(engine: &Engine, name: &'static str, work: impl FnOnce(Messages) -> F) -> Result<Response<Body>>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, mut messages) = mpsc::channel(WAITING);
    let messages_of = Messages(sender);
    let listener = messages_of.clone();
    let work = work(messages_of);
    let (ended, mut outcome) = tokio::sync::oneshot::channel();
    engine.task().spawn_until_cancelled(name, async move {
        let done = tokio::select! {
            done = work => done,
            () = listener.gone() => Err(Error::failed("the client has gone")),
        };
        let _ = ended.send(done);
    });
    let first = messages.recv().await;
    let Some(first) = first else {
        let done = outcome.await.unwrap_or_else(|_| Err(Error::failed("the engine is ending")));
        return done.map(|()| answer::typed(body::empty(), "application/json"));
    };
    let (lines, body) = body::channel(16);
    engine.task().spawn_until_cancelled("messages", async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if lines.send(answer::line(&message)).await.is_err() {
                return;
            }
            next = messages.recv().await;
        }
        let done = (&mut outcome).await.unwrap_or_else(|_| Err(Error::failed("the engine is ending")));
        if let Err(error) = done {
            let _ = lines.send(answer::line(&failure(&error))).await;
        }
    });
    Ok(answer::typed(body, "application/json"))
}
