//! Notices that pages show while something is wrong: `/api/v1/notifications` and its live stream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use jiff::Timestamp;
use serve::{Body, body};
use tokio::sync::{Semaphore, watch};

use super::reply::{Answer, Reply};

/// The configuration could not be read anew.
pub const CONFIGURATION: &str = "Configuration reload has failed.";
/// Who may listen at a time; upstream's default.
const LISTENERS: usize = 16;

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    text: &'static str,
    date: Timestamp,
    active: bool,
}

impl Notice {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({"text": self.text, "date": self.date.to_string(), "active": self.active})
    }
}

/// What is wrong now.
#[derive(Debug)]
pub struct Notices {
    now: watch::Sender<Vec<Notice>>,
    room: Arc<Semaphore>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { now: watch::Sender::new(Vec::new()), room: Arc::new(Semaphore::new(LISTENERS)) }
    }
}

impl Notices {
    /// Says that something is wrong, or no longer.
    pub fn set(&self, text: &'static str, active: bool) {
        self.now.send_if_modified(|notices| {
            let known = notices.iter().position(|notice| notice.text == text);
            match (known, active) {
                (None, true) => notices.push(Notice { text, date: Timestamp::now(), active }),
                (Some(at), false) => drop(notices.remove(at)),
                _ => return false,
            }
            true
        });
    }

    /// `/api/v1/notifications`
    pub fn list(&self) -> Answer {
        let list: Vec<_> = self.now.borrow().iter().map(Notice::json).collect();
        Reply::value(&list)
    }

    /// `/api/v1/notifications/live`: events, until the client goes.
    pub fn live(&self) -> Response<Body> {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            let mut response = Response::new(body::empty());
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            return response;
        };
        let state = (self.now.subscribe(), Vec::<Notice>::new(), true, permit);
        let events = futures::stream::unfold(state, |(mut now, before, first, permit)| async move {
            if !first {
                now.changed().await.ok()?;
            }
            let current = now.borrow_and_update().clone();
            let gone = before.iter().filter(|notice| !current.contains(notice));
            let gone = gone.map(|notice| Notice { active: false, ..notice.clone() });
            let new = current.iter().filter(|notice| !before.contains(notice)).cloned();
            let text: String = gone.chain(new).map(|notice| format!("data: {}\n\n", notice.json())).collect();
            Some((Ok(Bytes::from(text)), (now, current, false, permit)))
        });
        let mut response = Response::new(body::stream(events));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}
