//! WATCH: the changes of a collection as a stream that ends when the client goes, the time is up, or the client is too slow.
//!
//! ```text
//! resourceVersion unset or 0   ADDED for what is there, then changes
//! resourceVersion N            changes after N: from the cache's log, or the store's history where that is too short
//! sendInitialEvents=true       ADDED for what is there, a bookmark that says so, then changes
//! ```
//!
//! The stream is a state machine polled by the connection; a watcher has no task of its own.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use api::status::Status;
use bytes::Bytes;
use futures::Stream;
use http::Response;
use ring::rand::{SecureRandom, SystemRandom};
use serve::{body, body::Body};
use store::{Event, Revision};
use tokio::time::{Instant, Sleep};

use crate::{
    cache::{Applied, Change, Delivery, Live, Start, Subscription},
    call::Call,
    convert, encode,
    negotiate::{Format, View},
    object::Object,
    options::{self, ListOptions},
    read,
    registry::Resource,
    selection::Selection,
    server::Server,
    wire::Wire,
};

/// A watch without `timeoutSeconds` ends after this long, or up to twice as long, so that reconnects spread out.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Bookmarks come this often where nothing else does.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long the first answer waits for a revision that is not there yet.
const WAIT: Duration = Duration::from_secs(3);

/// Starts a watch.
pub async fn watch(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    let (wire, _) = read::wire(call, served, version)?;
    if wire.format == Format::Yaml {
        return Err(Status::not_acceptable(&["application/json", "application/vnd.kubernetes.protobuf"]));
    }
    let options = ListOptions::parse(&call.query, true)?;
    let selection = Arc::new(Selection::parse(resource, version, &call.info, &options)?);
    let wanted = options::revision(&options.resource_version)?;
    let initial = options.initial_events;
    let start = match (wanted, initial) {
        (Some(revision), Some(true)) if revision > 0 => {
            if !server.feed.await_revision(revision, WAIT).await {
                return Err(Status::too_large_resource_version(revision, server.feed.applied().get(), 1));
            }
            Start::Now
        }
        (None, _) => {
            let revision = server.fresh_revision().await?;
            if initial == Some(false) { Start::After(revision) } else { Start::Now }
        }
        (Some(0), Some(false)) => Start::After(server.feed.applied().get()),
        (Some(0), _) => Start::Now,
        (Some(revision), _) => {
            // A revision of the future is waited for; upstream sends nothing until it is there either.
            if !server.feed.await_revision(revision, WAIT).await {
                return Err(Status::too_large_resource_version(revision, server.feed.applied().get(), 1));
            }
            Start::After(revision)
        }
    };
    let foreign = convert::is_foreign(resource);
    let stored = if foreign { Arc::new(selection.without_fields()) } else { selection.clone() };
    let mut subscription = match resource.cache.watch(stored.clone(), start) {
        Ok(subscription) => subscription,
        Err(too_old) => match start {
            Start::After(revision) => match resume(server, resource, &stored, revision).await? {
                Some(subscription) => subscription,
                // What upstream sends, too: the stream begins, and its only event is the error.
                None => {
                    let status = Status::too_old(revision, too_old.floor);
                    let event = encode::error_event(wire.format, &status);
                    return Ok(call.stream(200, wire.format.stream_type(), body::full(event)));
                }
            },
            Start::Now => return Err(Status::internal("watch cannot start")),
        },
    };
    if foreign {
        subscription = converted(server, resource, version, &selection, subscription).await?;
    }
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => spread(TIMEOUT),
    };
    let stream = Frames {
        resource: resource.clone(),
        wire,
        replay: subscription.replay,
        live: subscription.live,
        _registration: subscription.registration,
        applied: server.feed.applied().clone(),
        sent: subscription.revision,
        bookmarks: options.bookmarks,
        initial_end: initial == Some(true) && options.bookmarks,
        deadline: Box::pin(tokio::time::sleep(timeout)),
        next_bookmark: Box::pin(tokio::time::sleep(BOOKMARK)),
        now: server.now(),
        clock: server.config.clock.clone(),
        ended: false,
        _open: server.metrics.open_watch(served),
    };
    Ok(call.stream(200, wire.format.stream_type(), body::stream(stream)))
}

/// Changes that wait between the conversion and the connection.
const CONVERTED: usize = 64;

/// The same changes with objects that a webhook converts, of those that are selected by what they become. A change that
/// cannot be converted ends the watch: whoever watches starts again, and learns why.
async fn converted(
    server: &Arc<Server>,
    resource: &Arc<Resource>,
    version: usize,
    selection: &Arc<Selection>,
    mut subscription: Subscription,
) -> Result<Subscription, Status> {
    let mut replay = VecDeque::new();
    for (_, live) in std::mem::take(&mut subscription.replay) {
        replay.extend(convert_change(server, resource, version, selection, &live.change).await?);
    }
    subscription.replay = replay;
    let (send, receive) = tokio::sync::mpsc::channel(CONVERTED);
    let mut live = std::mem::replace(&mut subscription.live, receive);
    let (server, resource, selection) = (server.clone(), resource.clone(), selection.clone());
    server.task.clone().spawn("converted watch", async move {
        while let Some(Some((_, change))) = server.task.until_cancelled(live.recv()).await {
            match convert_change(&server, &resource, version, &selection, &change.change).await {
                Ok(None) => {}
                Ok(Some(delivery)) => {
                    if send.send(delivery).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, prefix = &*resource.prefix, "converted watch");
                    return;
                }
            }
        }
    });
    Ok(subscription)
}

async fn convert_change(
    server: &Server,
    resource: &Resource,
    version: usize,
    selection: &Selection,
    change: &Change,
) -> Result<Option<Delivery>, Status> {
    let served = &resource.versions[version];
    let states = [Some(change.object.clone()), change.previous.clone()].into_iter().flatten().collect();
    let mut states = convert::shown(server, resource, served, states).await?.into_iter();
    let Some(object) = states.next() else { return Ok(None) };
    let change = Change { object, previous: states.next(), deleted: change.deleted };
    Ok(change.shown(selection).map(|shown| (shown, Live::new(change))))
}

fn spread(least: Duration) -> Duration {
    let mut bytes = [0u8; 4];
    _ = SystemRandom::new().fill(&mut bytes);
    least + least.mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

/// The changes after a revision that the log no longer has, from the store's history. `None` once they are compacted.
async fn resume(
    server: &Server,
    resource: &Arc<Resource>,
    selection: &Arc<Selection>,
    after: u64,
) -> Result<Option<Subscription>, Status> {
    let qualified = resource.versions[0].kind.resource();
    let failed = |error: store::Error| match error {
        store::Error::Compacted { .. } => None,
        error => Some(crate::server::store_failed(qualified, &error)),
    };
    // Two rounds are enough: while the history is read, the log moves on by a few changes only.
    let mut replay: VecDeque<Delivery> = VecDeque::new();
    let mut reached = after;
    for _ in 0..3 {
        let target = server.feed.applied().get();
        let mut history = match server.feed.store().watch(selection.prefix(), Revision::new(reached)).await {
            Ok(history) => history,
            Err(error) => return failed(error).map_or(Ok(None), Err),
        };
        history.prompt().ask();
        while reached < target {
            let batch = match history.next().await {
                Ok(batch) => batch,
                Err(error) => return failed(error).map_or(Ok(None), Err),
            };
            for event in &batch.events {
                let Some(change) = change(server, event)? else { return Ok(None) };
                if let Some(shown) = change.shown(selection) {
                    replay.push_back((shown, Live::new(change)));
                }
            }
            reached = batch.revision.get();
        }
        if let Ok(mut subscription) = resource.cache.watch(selection.clone(), Start::After(reached)) {
            replay.append(&mut subscription.replay);
            subscription.replay = replay;
            return Ok(Some(subscription));
        }
    }
    Ok(None)
}

/// A change as the store's history tells it; `None` where the state before is no longer known.
fn change(server: &Server, event: &Event) -> Result<Option<Change>, Status> {
    let read = |entry: &store::Entry| -> Result<Arc<Object>, Status> {
        let bytes = server.opened(&entry.key, &entry.value)?;
        Ok(Object::new(entry.key.clone(), bytes, entry.mod_revision.get()))
    };
    Ok(match event {
        Event::Put { entry, prev } => {
            if prev.is_none() && entry.version > 1 {
                return Ok(None);
            }
            let previous = prev.as_ref().map(read).transpose()?;
            Some(Change { object: read(entry)?, previous, deleted: false })
        }
        Event::Delete { revision, prev: Some(prev), .. } => {
            let previous = read(prev)?;
            Some(Change { object: previous.at(revision.get()), previous: Some(previous), deleted: true })
        }
        Event::Delete { prev: None, .. } => None,
    })
}

/// The stream of one watch.
struct Frames {
    resource: Arc<Resource>,
    wire: Wire,
    replay: VecDeque<Delivery>,
    live: tokio::sync::mpsc::Receiver<Delivery>,
    _registration: crate::cache::Registration,
    applied: Arc<Applied>,
    /// The client knows everything up to this revision.
    sent: u64,
    bookmarks: bool,
    /// The bookmark that ends the initial events is still to come.
    initial_end: bool,
    deadline: Pin<Box<Sleep>>,
    next_bookmark: Pin<Box<Sleep>>,
    now: jiff::Timestamp,
    clock: task::Clock,
    ended: bool,
    _open: crate::metrics::OpenWatch,
}

impl Frames {
    fn frame(&mut self, (shown, live): &Delivery) -> Bytes {
        if self.wire.view == View::Table {
            self.now = crate::server::timestamp(&self.clock);
        }
        self.sent = self.sent.max(live.change.object.revision());
        let (resource, wire, now) = (&self.resource, self.wire, self.now);
        let bytes =
            live.frame(*shown, wire, |change| encode::event(resource, wire, *shown, &change.subject(*shown), now));
        self.wire.columns = false;
        bytes
    }

    fn bookmark(&mut self, initial_end: bool) -> Bytes {
        let bytes = encode::bookmark(&self.resource, self.wire, self.sent, initial_end);
        self.wire.columns = false;
        bytes
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, body::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(delivery) = this.replay.pop_front() {
            return Poll::Ready(Some(Ok(this.frame(&delivery))));
        }
        if this.initial_end {
            this.initial_end = false;
            return Poll::Ready(Some(Ok(this.bookmark(true))));
        }
        // What is complete is read before the queue is found empty, so that a bookmark never runs ahead of a change.
        let complete = this.applied.get();
        match this.live.poll_recv(context) {
            Poll::Ready(Some(delivery)) => return Poll::Ready(Some(Ok(this.frame(&delivery)))),
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if this.deadline.as_mut().poll(context).is_ready() {
            this.ended = true;
            if this.bookmarks {
                this.sent = this.sent.max(complete);
                return Poll::Ready(Some(Ok(this.bookmark(false))));
            }
            return Poll::Ready(None);
        }
        if this.bookmarks && this.next_bookmark.as_mut().poll(context).is_ready() {
            this.next_bookmark.as_mut().reset(Instant::now() + BOOKMARK);
            // Polled again so that the timer wakes this task.
            _ = this.next_bookmark.as_mut().poll(context);
            this.sent = this.sent.max(complete);
            return Poll::Ready(Some(Ok(this.bookmark(false))));
        }
        Poll::Pending
    }
}
