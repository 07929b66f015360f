//! The store in etcd, through its v3 protocol: one cluster of etcd behind any number of API servers.
//!
//! ```text
//! get, range ──▶ KV/Range      commit ──▶ KV/Txn      compact ──▶ KV/Compact      watch ──▶ Watch/Watch, a stream each
//! ```
//!
//! A call goes to one member. When that one cannot be reached the next call goes to the next member, and a read is tried
//! there at once; a commit is not, since it may have happened. Reads are linearizable. See
//! <https://etcd.io/docs/v3.6/learning/api/>.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel, transport::Endpoint,
};
use tonic_prost::ProstCodec;

use crate::{
    Backup, Entry, Error, Op, Outcome, Page, Result, Revision, Txn,
    embedded::{checkpoint::Encoder, frame::StoreId, index::Version, record::Head},
};

mod watch;
mod wire;

pub use watch::{Prompt, Watch};

use wire::{request_op, response_op};

/// How long a call may take.
const CALL: Duration = Duration::from_secs(15);
/// How long connecting to a member may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Entries that are asked for at a time.
const PAGE: usize = 1000;

/// A connection to a cluster of etcd. Cloning gives another handle to the same connections.
#[derive(Clone)]
pub struct Client(Arc<Members>);

struct Members {
    endpoints: Vec<String>,
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.0.endpoints).finish()
    }
}

impl Client {
    /// See [`crate::Store::etcd`].
    pub async fn connect(endpoints: &[String]) -> Result<Self> {
        let mut channels = Vec::new();
        for endpoint in endpoints {
            let invalid = |error: &dyn fmt::Display| Error::Invalid(format!("etcd endpoint {endpoint}: {error}"));
            let parsed = Endpoint::from_shared(endpoint.clone()).map_err(|error| invalid(&error))?;
            if parsed.uri().scheme_str() != Some("http") {
                return Err(invalid(&"only http is supported"));
            }
            let channel = parsed
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10));
            channels.push(channel.connect_lazy());
        }
        if channels.is_empty() {
            return Err(Error::Invalid("no etcd endpoint is given".into()));
        }
        let client = Self(Arc::new(Members { endpoints: endpoints.to_vec(), channels, current: AtomicUsize::new(0) }));
        let status: wire::StatusResponse = client
            .read("/etcdserverpb.Maintenance/Status", wire::StatusRequest {})
            .await
            .map_err(|s| s.into_error())?;
        tracing::info!(version = %status.version, bytes = status.db_size, "connected to etcd");
        if old(&status.version) {
            tracing::warn!(version = %status.version, "this etcd may report the progress of watches too early");
        }
        Ok(client)
    }

    /// See [`crate::Store::get`].
    pub async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision)> {
        if key.is_empty() {
            return Ok((None, self.revision().await?));
        }
        let request = wire::RangeRequest { key: copy(key), ..wire::RangeRequest::default() };
        let answer = self.range_call(request).await.map_err(|s| s.into_error())?;
        let revision = at(&answer.header)?;
        Ok((answer.kvs.into_iter().next().map(entry).transpose()?, revision))
    }

    /// See [`crate::Store::range`].
    pub async fn range(&self, prefix: &str, from: Option<&str>, at: Option<Revision>, limit: usize) -> Result<Page> {
        let start = from.filter(|from| *from > prefix).unwrap_or(prefix);
        let range_end = end(prefix);
        let mut page = Page { revision: at.unwrap_or_default(), entries: Vec::new(), more: false, count: 0 };
        if !range_end_after(start, &range_end) {
            page.revision = match at {
                Some(revision) => revision,
                None => self.revision().await?,
            };
            return Ok(page);
        }
        let mut key = if start.is_empty() { Bytes::from_static(b"\0") } else { copy(start) };
        loop {
            let left = if limit == 0 { PAGE } else { PAGE.min(limit - page.entries.len()) };
            let request = wire::RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: left as i64,
                revision: page.revision.get() as i64,
                ..wire::RangeRequest::default()
            };
            let answer = match self.range_call(request).await {
                Ok(answer) => answer,
                Err(status) => return Err(self.explain(status, at.unwrap_or(page.revision)).await),
            };
            if page.revision == Revision::ABSENT {
                page.revision = self::at(&answer.header)?;
            }
            if page.entries.is_empty() {
                page.count = answer.count as u64;
            }
            page.more = answer.more;
            for kv in answer.kvs {
                page.entries.push(entry(kv)?);
            }
            match page.entries.last() {
                Some(last) if page.more && (limit == 0 || page.entries.len() < limit) => {
                    key = [last.key.as_bytes(), b"\0"].concat().into();
                }
                _ => return Ok(page),
            }
        }
    }

    /// See [`crate::Store::commit`].
    pub async fn commit(&self, txn: Txn) -> Result<Outcome> {
        txn.check()?;
        let compare = |compare: &crate::Compare| wire::Compare {
            result: 0,
            target: 2,
            key: copy(&compare.key),
            mod_revision: Some(compare.mod_revision.get() as i64),
        };
        let write = |op: Op| match op {
            Op::Put { key, value } => request_op::Request::Put(wire::PutRequest { key: copy(&key), value }),
            Op::Delete { key } => request_op::Request::DeleteRange(wire::DeleteRangeRequest { key: copy(&key) }),
        };
        let look = |compare: &crate::Compare| {
            request_op::Request::Range(wire::RangeRequest { key: copy(&compare.key), ..wire::RangeRequest::default() })
        };
        let op = |request| wire::RequestOp { request: Some(request) };
        let request = wire::TxnRequest {
            compare: txn.compare.iter().map(compare).collect(),
            failure: txn.compare.iter().map(look).map(op).collect(),
            success: txn.ops.into_iter().map(write).map(op).collect(),
        };
        let answer: wire::TxnResponse =
            self.call("/etcdserverpb.KV/Txn", request).await.map_err(|status| status.into_error())?;
        if answer.succeeded {
            return Ok(Outcome::Committed(at(&answer.header)?));
        }
        let current = |response: wire::ResponseOp| match response.response {
            Some(response_op::Response::Range(range)) => range.kvs.into_iter().next().map(entry).transpose(),
            None => Err(Error::Unavailable("etcd answered a read with something else".into())),
        };
        Ok(Outcome::Conflict(answer.responses.into_iter().map(current).collect::<Result<_>>()?))
    }

    /// See [`crate::Store::watch`].
    pub async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        Watch::begin(self, prefix, after).await
    }

    /// See [`crate::Store::revision`].
    pub async fn revision(&self) -> Result<Revision> {
        let request = wire::RangeRequest { key: copy("\0"), count_only: true, ..wire::RangeRequest::default() };
        let answer = self.range_call(request).await.map_err(|status| status.into_error())?;
        at(&answer.header)
    }

    /// See [`crate::Store::compact`].
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        let request = wire::CompactionRequest { revision: revision.get() as i64 };
        let answer: Result<wire::CompactionResponse, _> = self.call("/etcdserverpb.KV/Compact", request).await;
        match answer {
            Ok(_) => Ok(()),
            Err(status) => Err(self.explain(status, revision).await),
        }
    }

    /// See [`crate::Store::backup`].
    pub async fn backup(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<Backup> {
        let failed = |error| Error::io("write the backup", error);
        let id = StoreId::random().map_err(failed)?;
        let revision = self.revision().await?;
        let mut encoder = Encoder::new(id, revision.get());
        let head = Head { revision: revision.get(), compacted: revision.get(), ..Head::default() };
        let mut bytes = 0;
        let mut from = None;
        let mut next = encoder.head(&head);
        loop {
            out.write_all(next).await.map_err(failed)?;
            bytes += next.len() as u64;
            let page = self.range("", from.as_deref(), Some(revision), PAGE).await?;
            for Entry { key, value, create_revision, mod_revision, version } in &page.entries {
                let (created, modified) = (create_revision.get(), mod_revision.get());
                let version = Version { modified, created, version: *version, value: Some(value.clone()) };
                if encoder.add(key, &version) {
                    let frame = encoder.keys();
                    out.write_all(frame).await.map_err(failed)?;
                    bytes += frame.len() as u64;
                }
            }
            next = encoder.keys();
            match page.entries.last() {
                Some(last) if page.more => from = Some(format!("{}\0", last.key)),
                _ => break,
            }
        }
        out.write_all(next).await.map_err(failed)?;
        bytes += next.len() as u64;
        let end = encoder.end();
        out.write_all(end).await.map_err(failed)?;
        bytes += end.len() as u64;
        out.flush().await.map_err(failed)?;
        Ok(Backup { revision, bytes })
    }

    async fn range_call(&self, request: wire::RangeRequest) -> Result<wire::RangeResponse, Refused> {
        self.read("/etcdserverpb.KV/Range", request).await
    }

    /// A call that may be made twice: tried at each member.
    async fn read<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Refused>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut tries = self.0.channels.len() + 1;
        loop {
            match self.call(path, request.clone()).await {
                Err(Refused(status)) if status.code() == Code::Unavailable && tries > 1 => tries -= 1,
                answer => return answer,
            }
        }
    }

    /// A call to the current member.
    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Refused>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let (member, mut grpc) = self.member();
        let answer = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await
        };
        let answer = match tokio::time::timeout(CALL, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs()))),
        };
        answer.map(|answer| answer.into_inner()).map_err(|status| self.refused(member, status))
    }

    /// The member to talk to.
    fn member(&self) -> (usize, Grpc<Channel>) {
        let member = self.0.current.load(Ordering::Relaxed);
        let grpc = Grpc::new(self.0.channels[member].clone());
        (member, grpc.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
    }

    /// Leaves a member that cannot be reached.
    fn refused(&self, member: usize, status: Status) -> Refused {
        if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
            let next = (member + 1) % self.0.channels.len();
            let _ = self.0.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Refused(status)
    }

    /// The error for a call about `revision`.
    async fn explain(&self, refused: Refused, revision: Revision) -> Error {
        let message = refused.0.message();
        if message.contains("has been compacted") {
            return Error::Compacted { oldest: self.oldest().await.unwrap_or(Revision::ABSENT) };
        }
        if message.contains("future revision") {
            return Error::FutureRevision { asked: revision };
        }
        refused.into_error()
    }

    /// The revision up to which etcd is compacted, which only a watch of the distant past tells.
    async fn oldest(&self) -> Result<Revision> {
        let ended = async {
            let mut watch = self.watch("\0", Revision::ABSENT).await?;
            loop {
                watch.next().await?;
            }
        };
        match tokio::time::timeout(CALL, ended).await {
            Ok(Err(Error::Compacted { oldest })) => Ok(oldest),
            Ok(Err::<std::convert::Infallible, _>(error)) => Err(error),
            Err(_) => Err(Error::Unavailable("etcd does not tell its oldest revision".into())),
            Ok(Ok(never)) => match never {},
        }
    }
}

/// A refused call.
struct Refused(Status);

impl Refused {
    fn into_error(self) -> Error {
        let status = self.0;
        let message = status.message();
        if message.contains("request is too large") || message.contains("larger than max") {
            let limit = crate::data::TXN_BYTES;
            return Error::TooLarge { what: "transaction", size: limit + 1, limit };
        }
        if message.contains("database space exceeded") {
            return Error::Full(format!("etcd: {message}"));
        }
        match status.code() {
            Code::InvalidArgument => Error::Invalid(format!("etcd: {message}")),
            code => Error::Unavailable(format!("etcd: {code:?}: {message}")),
        }
    }
}

fn copy(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// The end of the range of keys with a prefix: the first key after them; `\0` when there is none.
fn end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 0xff, so the last one can always be raised.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end.into()
}

fn range_end_after(start: &str, end: &[u8]) -> bool {
    end == b"\0" || start.as_bytes() < end
}

fn at(header: &Option<wire::ResponseHeader>) -> Result<Revision> {
    let header = header.as_ref().ok_or_else(|| Error::Unavailable("etcd answered without a header".into()))?;
    Ok(Revision::new(header.revision as u64))
}

fn entry(kv: wire::KeyValue) -> Result<Entry> {
    let key = std::str::from_utf8(&kv.key);
    Ok(Entry {
        key: key.map_err(|_| Error::Invalid(format!("etcd has a key that is not text: {:?}", kv.key)))?.into(),
        value: kv.value,
        create_revision: Revision::new(kv.create_revision as u64),
        mod_revision: Revision::new(kv.mod_revision as u64),
        version: kv.version as u64,
    })
}

/// Whether a server of this version may answer a progress request before it sent the events before it: fixed in 3.4.25
/// and 3.5.8.
fn old(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version < (3, 4, 25) || ((3, 5, 0)..(3, 5, 8)).contains(&version)
}

#[cfg(test)]
mod tests;
