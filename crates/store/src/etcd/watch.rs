//! A watch in etcd: a stream of its own, so that asking it for progress asks no other.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc};
use tonic::{Request, Status, Streaming, codegen::http::uri::PathAndQuery, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use crate::{Batch, Error, Event, Result, Revision};

use super::{Client, Refused, at, copy, end, entry, wire, wire::watch_request};

/// How often a watch that sees no changes asks for progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// How long after a request for progress that was not answered it is made again: etcd does not answer while the watch
/// catches up.
const AGAIN: Duration = Duration::from_millis(100);

/// A watch of an etcd store.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    requests: mpsc::Sender<wire::WatchRequest>,
    answers: Streaming<wire::WatchResponse>,
    wanted: Arc<Notify>,
    /// Whether somebody waits for progress.
    asking: bool,
    /// The revision of the last batch.
    reported: Revision,
}

/// Asks a watch of an etcd store for progress.
#[derive(Clone, Debug)]
pub struct Prompt(Arc<Notify>);

impl Prompt {
    /// See [`crate::Prompt::ask`].
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

impl Watch {
    /// Opens the stream and waits until etcd has the watch.
    pub(super) async fn begin(client: &Client, prefix: &str, after: Revision) -> Result<Self> {
        let create = watch_request::Request::Create(wire::WatchCreateRequest {
            key: if prefix.is_empty() { copy("\0") } else { copy(prefix) },
            range_end: end(prefix),
            start_revision: after.get() as i64 + 1,
            progress_notify: true,
            prev_kv: true,
        });
        let (sender, receiver) = mpsc::channel(16);
        let _ = sender.try_send(wire::WatchRequest { request: Some(create) });
        let requests = futures::stream::unfold(receiver, |mut receiver| async {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
        let (member, mut grpc) = client.member();
        let opened = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<wire::WatchRequest, wire::WatchResponse>::default();
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            let mut request = Request::new(requests);
            // A member that is cut off from the others must end the watch rather than go quiet.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
            let first = answers.message().await?.ok_or_else(|| Status::unavailable("the watch ended"))?;
            Ok((answers, first))
        };
        let opened = match tokio::time::timeout(super::CALL, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Status::deadline_exceeded("the watch did not begin")),
        };
        let (answers, first) = opened.map_err(|status| client.refused(member, status).into_error())?;
        ended(&first)?;
        if !first.created {
            return Err(Error::Unavailable("etcd answered a watch with something else".into()));
        }
        let wanted = Arc::new(Notify::new());
        Ok(Self { client: client.clone(), requests: sender, answers, wanted, asking: false, reported: after })
    }

    /// See [`crate::Watch::prompt`].
    pub fn prompt(&self) -> Prompt {
        Prompt(self.wanted.clone())
    }

    /// See [`crate::Watch::next`].
    pub async fn next(&mut self) -> Result<Batch> {
        loop {
            let interval = if self.asking { AGAIN } else { PROGRESS };
            let answer = tokio::select! {
                answer = self.answers.message() => answer.map_err(|status| Refused(status).into_error())?,
                () = self.wanted.notified() => {
                    self.ask();
                    self.asking = true;
                    continue;
                }
                () = tokio::time::sleep(interval) => {
                    if self.asking && let Some(batch) = self.idle().await? {
                        return Ok(batch);
                    }
                    self.ask();
                    continue;
                }
            };
            let answer = answer.ok_or_else(|| Error::Unavailable("etcd ended the watch".into()))?;
            ended(&answer)?;
            if answer.created {
                continue;
            }
            let mut events = Vec::with_capacity(answer.events.len());
            for change in answer.events {
                events.push(event(change)?);
            }
            // While a watch catches up the header is ahead of it.
            let revision = events.last().map_or_else(|| at(&answer.header), |event| Ok(event.revision()))?;
            self.asking &= !events.is_empty();
            self.reported = self.reported.max(revision);
            return Ok(Batch { revision, events });
        }
    }

    /// Progress without an answer: etcd gives none either when nothing happened since the watch began.
    async fn idle(&mut self) -> Result<Option<Batch>> {
        let revision = self.client.revision().await?;
        self.asking = revision > self.reported;
        Ok((!self.asking).then_some(Batch { revision, events: Vec::new() }))
    }

    fn ask(&self) {
        let progress = watch_request::Request::Progress(wire::WatchProgressRequest {});
        // When it is full, many requests are on their way already.
        let _ = self.requests.try_send(wire::WatchRequest { request: Some(progress) });
    }
}

fn ended(answer: &wire::WatchResponse) -> Result<()> {
    if answer.compact_revision > 0 {
        return Err(Error::Compacted { oldest: Revision::new(answer.compact_revision as u64) });
    }
    match answer.canceled {
        true => Err(Error::Unavailable(format!("etcd cancelled the watch: {}", answer.cancel_reason))),
        false => Ok(()),
    }
}

fn event(change: wire::Event) -> Result<Event> {
    let kv = change.kv.ok_or_else(|| Error::Unavailable("etcd sent a change of nothing".into()))?;
    let prev = change.prev_kv.map(entry).transpose()?;
    let entry = entry(kv)?;
    Ok(match change.kind {
        0 => Event::Put { entry, prev },
        _ => Event::Delete { key: entry.key, revision: entry.mod_revision, prev },
    })
}
