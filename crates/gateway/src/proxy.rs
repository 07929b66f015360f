//! The path of a request: one function, from top to bottom.
//!
//! ```text
//! request ─ is it sound? ─ which rule? ─ preflight, redirect ─ which backend? ─ change it ─ copies
//!                                                                                   │
//!      answer ◄─ count, change, pass on ◄─ is it final? ◄─ endpoint, connection, send ◄┘
//!                                              └── no: another endpoint ──────────────┘
//! ```
//!
//! What a client can do wrong is answered here or by hyper before: see the table of cases in `tests/it/hostile.rs`.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, HeaderName},
    request::Parts,
    uri::PathAndQuery,
};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serve::{Body, Peer, body};
use task::Task;
use tokio::{sync::Semaphore, time::Sleep};

use crate::{
    backend::{self, Backend, Turn},
    balance::Outcome,
    headers, hosts, path,
    pool::{self, Answer, Failure},
    rule::{Entrance, Mirror, Rule, Target, weighted},
    table::Table,
    tally::{Series, Tally},
};

/// Attempts at most where nobody says otherwise; only of requests that no endpoint has worked on.
const ATTEMPTS: u32 = 3;
/// How long a client may pause within a request's body.
const PAUSE: Duration = Duration::from_secs(60);
/// Bytes of a request's body that are kept to be sent again.
const KEPT: usize = 64 << 10;
/// Bytes of a request's body that are kept to be sent to more than one.
const COPIED: usize = 1 << 20;
/// Copies under way at a time; more are left out.
const COPIES: usize = 256;
/// How long a copy may take.
const COPY: Duration = Duration::from_secs(30);

/// Answers requests by the table that is current.
pub struct Proxy {
    task: Task,
    table: RwLock<Arc<Table>>,
    copies: Arc<Semaphore>,
    /// What is counted.
    pub tally: Tally,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

/// Which port a request came in at, for the table and for the client.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The port as the table names it.
    pub port: u16,
    /// As the client sees it.
    pub entrance: Entrance,
}

impl Proxy {
    /// Serves nothing yet. What it starts runs below `task`.
    pub fn new(task: &Task) -> Arc<Self> {
        Arc::new(Self {
            task: task.clone(),
            table: RwLock::default(),
            copies: Arc::new(Semaphore::new(COPIES)),
            tally: Tally::default(),
        })
    }

    /// From now on requests are answered by `table`; those under way go on as they began.
    pub fn change(&self, table: Arc<Table>) {
        let old = std::mem::replace(&mut *self.table.write().unwrap_or_else(PoisonError::into_inner), table);
        drop(old);
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one request.
    pub async fn answer(&self, door: Door, mut request: Request<Body>) -> Response<Body> {
        let began = Instant::now();
        let tunnel = upgrade(&mut request);
        let (mut parts, content) = request.into_parts();
        let client = parts.extensions.get::<Peer>().and_then(|peer| peer.address).map(|address| address.ip());

        // Is it sound?
        let (host, path) = match sound(&parts) {
            Ok(sound) => sound,
            Err(refusal) => return self.refused(began, refusal),
        };

        // Which rule?
        let table = self.table();
        let Some(entry) = table.find(door.port, &host, &path, &parts) else {
            return self.refused(began, Refusal::new(StatusCode::NOT_FOUND, "no route for this host and path"));
        };
        let (rule, matched) = (entry.rule.clone(), entry.conditions.path.prefix());
        drop(table);
        let mut counted = Counted::new(&rule.series, began);

        // Preflight, redirect.
        let origin = match &rule.cors {
            None => None,
            Some(cors) => match cors.preflight(&parts) {
                Some(answer) => return counted.finish(answer),
                None => parts.headers.get(header::ORIGIN).cloned(),
            },
        };
        if let Some(redirect) = &rule.redirect {
            let location = redirect.location(door.entrance, &host, &path, matched, parts.uri.query());
            return counted.finish(redirected(&rule, redirect.status, &location));
        }

        // Which backend?
        let chosen = weighted(rule.targets.iter().map(|target| target.weight), backend::random());
        let Some(target) = chosen.and_then(|index| rule.targets.get(index)) else {
            return counted.finish(plain(StatusCode::INTERNAL_SERVER_ERROR, "this route leads nowhere"));
        };
        counted.move_to(&target.series);
        let backend = match &target.backend {
            Ok(backend) => backend,
            Err(status) => return counted.finish(plain(*status, "this route leads to what is not there")),
        };

        // Change it.
        let rewritten = change(&mut parts, &rule, target, door, client, &path, matched, tunnel.is_some());
        if let Err(refusal) = rewritten {
            return counted.finish(plain(refusal.status, refusal.reason));
        }

        // Copies.
        let content = if http_body::Body::is_end_stream(&content) { None } else { Some(patient(content)) };
        let content = match (rule.mirrors.is_empty() && target.mirrors.is_empty()) || tunnel.is_some() {
            true => content,
            false => self.copy(&parts, content, rule.mirrors.iter().chain(&target.mirrors)).await,
        };

        // What changes nothing when it is sent twice is kept, if it is small: its endpoint may go just now.
        let (content, copy) = match content {
            Some(content) if parts.method.is_idempotent() && length(&parts).is_some_and(|length| length <= KEPT) => {
                let (content, kept) = kept(content).await;
                (Some(content), kept)
            }
            content => (content, None),
        };

        // Endpoint, connection, send; another endpoint where that may help.
        let sending = self.send(&rule, target, backend, parts, (content, copy), tunnel);
        let sent = match rule.timeout {
            None => sending.await,
            Some(limit) => tokio::time::timeout(limit, sending).await.unwrap_or(Err(TIMED_OUT)),
        };

        // Count, change, pass on.
        let (mut response, turn) = match sent {
            Ok(sent) => sent,
            Err(refusal) => {
                let mut response = plain(refusal.status, refusal.reason);
                if let Some(cors) = &rule.cors {
                    cors.answer(origin.as_ref(), response.headers_mut());
                }
                return counted.finish(response);
            }
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            headers::end_to_end(response.headers_mut(), false);
        }
        target.response.apply(response.headers_mut());
        rule.response.apply(response.headers_mut());
        if let Some(cors) = &rule.cors {
            cors.answer(origin.as_ref(), response.headers_mut());
        }
        counted.pass(response, turn)
    }

    fn refused(&self, began: Instant, refusal: Refusal) -> Response<Body> {
        let mut answer = plain(refusal.status, refusal.reason);
        if refusal.close {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Counted::new(self.tally.unmatched(), began).finish(answer)
    }

    /// Sends a request to an endpoint of `backend`, and to another one where the first has not worked on it.
    async fn send(
        &self,
        rule: &Rule,
        target: &Target,
        backend: &Arc<Backend>,
        parts: Parts,
        (content, copy): (Option<Body>, Option<Bytes>),
        tunnel: Option<hyper::upgrade::OnUpgrade>,
    ) -> Result<(Response<Passed>, Turn), Refusal> {
        let upgrading = tunnel.is_some();
        // What no endpoint has seen can be sent again, and what changes nothing too, as long as it is all here.
        let harmless = (content.is_none() || copy.is_some()) && !upgrading && parts.method.is_idempotent();
        let codes = rule.retry.as_ref().map(|retry| retry.codes.as_slice()).unwrap_or_default();
        let most = rule.retry.as_ref().map_or(ATTEMPTS, |retry| retry.attempts.saturating_add(1));
        let http2 = backend.http2() && !upgrading;
        let mut request = Some(outgoing(parts, content, http2));
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut fresh = false;
        for attempt in 1.. {
            let Some(turn) = backend.turn(&tried) else {
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no endpoint is ready"));
            };
            let Some(sending) = request.take() else {
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, "the request cannot be sent again"));
            };
            let spare = if harmless && attempt < most { Some(again(&sending, copy.as_ref())) } else { None };
            let exchange = self.exchange(&turn, sending, http2, upgrading, fresh);
            let got = match rule.attempt {
                None => exchange.await,
                Some(limit) => match tokio::time::timeout(limit, exchange).await {
                    Ok(got) => got,
                    Err(_) => {
                        target.series.failed();
                        turn.endpoint().learn(Outcome::Ill);
                        if rule.retry.is_some() && spare.is_some() {
                            request = spare;
                            tried.push(turn.endpoint().address);
                            self.again(rule, target).await;
                            continue;
                        }
                        return Err(TIMED_OUT);
                    }
                },
            };
            match got {
                Ok(response) => {
                    let status = response.status();
                    let ill = matches!(status.as_u16(), 502..=504);
                    turn.endpoint().learn(if ill { Outcome::Ill } else { Outcome::Well });
                    if codes.contains(&status.as_u16()) && spare.is_some() {
                        request = spare;
                        drop(response);
                        self.again(rule, target).await;
                        continue;
                    }
                    let response = match (tunnel, response) {
                        (Some(client), Got::Upgrade(response)) => self.tunnel(client, response),
                        (_, Got::Answer(response)) => response.map(Passed::Answer),
                        (None, Got::Upgrade(response)) => response.map(|body| Passed::Answer(Answer::Shared(body))),
                    };
                    return Ok((response, turn));
                }
                Err(failure) => {
                    let address = turn.endpoint().address;
                    tracing::debug!(%address, error = failure.error, attempt, "endpoint did not answer");
                    target.series.failed();
                    // A connection that was closed for idleness says nothing of the endpoint.
                    let stale = failure.reused && !failure.connect;
                    if !stale {
                        turn.endpoint().learn(Outcome::Lost);
                        tried.push(address);
                    }
                    fresh = stale;
                    request = failure.request.or(spare);
                    if attempt >= most.max(ATTEMPTS) || request.is_none() {
                        let reason =
                            if failure.connect { "no endpoint can be reached" } else { "the connection broke" };
                        let status =
                            if failure.connect { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
                        return Err(Refusal::new(status, reason));
                    }
                    target.series.retried();
                }
            }
        }
        Err(Refusal::new(StatusCode::BAD_GATEWAY, "no endpoint answers"))
    }

    /// Counts another attempt, and waits as long as the rule says.
    async fn again(&self, rule: &Rule, target: &Target) {
        target.series.retried();
        if let Some(pause) = rule.retry.as_ref().map(|retry| retry.backoff).filter(|pause| !pause.is_zero()) {
            tokio::time::sleep(pause).await;
        }
    }

    async fn exchange(
        &self,
        turn: &Turn,
        request: Request<Body>,
        http2: bool,
        upgrading: bool,
        fresh: bool,
    ) -> Result<Got, Failure> {
        let endpoint = turn.endpoint();
        if upgrading {
            return pool::send_upgrade(&self.task, endpoint, request).await.map(Got::Upgrade);
        }
        match http2 {
            true => pool::send_http2(&self.task, endpoint, request).await.map(Got::Answer),
            false => pool::send(&self.task, endpoint, request, fresh).await.map(Got::Answer),
        }
    }

    /// Joins both connections once the endpoint has agreed to another protocol.
    fn tunnel(
        &self,
        client: hyper::upgrade::OnUpgrade,
        mut response: Response<hyper::body::Incoming>,
    ) -> Response<Passed> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| Passed::Answer(Answer::Shared(body)));
        }
        let server = hyper::upgrade::on(&mut response);
        self.task.spawn_until_cancelled("tunnel", async move {
            let (Ok(client), Ok(server)) = tokio::join!(client, server) else { return };
            let (mut client, mut server) = (hyper_util::rt::TokioIo::new(client), hyper_util::rt::TokioIo::new(server));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                tracing::debug!(%error, "tunnel");
            }
        });
        response.map(|_| Passed::Nothing)
    }

    /// Sends copies of a request, whose body is kept for that as far as it is bounded; gives the body back.
    async fn copy<'a>(
        &self,
        parts: &Parts,
        content: Option<Body>,
        mirrors: impl Iterator<Item = &'a Mirror>,
    ) -> Option<Body> {
        let mirrors: Vec<&Mirror> = mirrors.filter(|mirror| mirror.is_due(backend::random())).collect();
        if mirrors.is_empty() {
            return content;
        }
        let (content, kept) = match content {
            None => (None, Some(Bytes::new())),
            Some(content) => {
                let (content, kept) = kept(content).await;
                (Some(content), kept)
            }
        };
        let Some(kept) = kept else { return content };
        for mirror in mirrors {
            let Ok(permit) = self.copies.clone().try_acquire_owned() else { return content };
            let backend = mirror.backend.clone();
            let body = if kept.is_empty() { None } else { Some(body::full(kept.clone())) };
            let request = outgoing(parts.clone(), body, backend.http2());
            let task = self.task.clone();
            self.task.spawn_until_cancelled("copy", async move {
                let _permit = permit;
                let Some(turn) = backend.turn(&[]) else { return };
                let sending = async {
                    let sent = match backend.http2() {
                        true => pool::send_http2(&task, turn.endpoint(), request).await,
                        false => pool::send(&task, turn.endpoint(), request, false).await,
                    };
                    // Its answer is nobody's, but its connection is worth keeping.
                    if let Ok(mut answer) = sent {
                        while let Some(Ok(_)) = answer.frame().await {}
                    }
                };
                if tokio::time::timeout(COPY, sending).await.is_err() {
                    tracing::debug!(address = %turn.endpoint().address, "copy took too long");
                }
            });
        }
        content
    }
}

impl Mirror {
    fn is_due(&self, random: u64) -> bool {
        self.numerator >= self.denominator || random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    close: bool,
}

impl Refusal {
    const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, close: false }
    }

    /// After this nothing on the connection can be trusted.
    const fn last(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, close: true }
    }
}

const TIMED_OUT: Refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "no answer in time");

/// What has come of an attempt.
enum Got {
    Answer(Response<Answer>),
    Upgrade(Response<hyper::body::Incoming>),
}

impl Got {
    fn status(&self) -> StatusCode {
        match self {
            Self::Answer(response) => response.status(),
            Self::Upgrade(response) => response.status(),
        }
    }
}

/// The client's side of a request for another protocol.
fn upgrade(request: &mut Request<Body>) -> Option<hyper::upgrade::OnUpgrade> {
    let asked = request.version() == Version::HTTP_11 && serve::tunnel::is_upgrade(request.headers());
    // HTTP/2 within a tunnel would be requests that no rule has looked at.
    let http2 = request.headers().get_all(header::UPGRADE).iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.windows(3).any(|part| part == b"h2c")
    });
    (asked && !http2).then(|| hyper::upgrade::on(request))
}

/// The host, bare and in lower case, and the path, resolved.
fn sound(parts: &Parts) -> Result<(Cow<'static, str>, Cow<'static, str>), Refusal> {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    if parts.method == Method::CONNECT {
        return Err(Refusal::last(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy"));
    }
    // One length, said one way: else this end and the backend may not agree where the request ends.
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && parts.headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(Refusal::last(BAD, "the length of the request is said twice"));
    }
    let mut named = parts.headers.get_all(header::HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(Refusal::last(BAD, "more than one host"));
    }
    let header = match header.map(|value| value.to_str()) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return Err(Refusal::last(BAD, "no host can have that name")),
    };
    // What the request line names goes before the header, which must not contradict it.
    let authority = match (parts.uri.authority(), header) {
        (Some(line), Some(header)) if !line.as_str().eq_ignore_ascii_case(header) => {
            return Err(Refusal::last(BAD, "two hosts"));
        }
        (Some(line), _) => line.as_str(),
        (None, Some(header)) => header,
        (None, None) => return Err(Refusal::last(BAD, "no host")),
    };
    let Some(host) = hosts::bare(authority) else {
        return Err(Refusal::last(BAD, "no host can have that name"));
    };
    let path = parts.uri.path();
    let whole_server = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !whole_server {
        return Err(Refusal::last(BAD, "a path begins with a slash"));
    }
    let Some(path) = path::resolved(path) else {
        return Err(Refusal::last(BAD, "the path leads out of the root"));
    };
    Ok((Cow::Owned(host.to_ascii_lowercase()), Cow::Owned(path.into_owned())))
}

/// Changes a request as rule and target say, and tells the backend who asked.
#[expect(clippy::too_many_arguments, reason = "each is another part of the one request")]
fn change(
    parts: &mut Parts,
    rule: &Rule,
    target: &Target,
    door: Door,
    client: Option<IpAddr>,
    path: &str,
    matched: usize,
    upgrading: bool,
) -> Result<(), Refusal> {
    let authority = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let asked = authority.or_else(|| parts.headers.get(header::HOST).cloned());
    headers::end_to_end(&mut parts.headers, upgrading);
    // A body's length is the connection's business; hyper says it anew.
    parts.headers.remove(header::EXPECT);
    headers::forwarded(&mut parts.headers, client, door.entrance.secure, asked.clone());
    let changed = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let path = match changed {
        Some(change) => Cow::Owned(change.apply(path, matched)),
        None => Cow::Borrowed(path),
    };
    if parts.uri.authority().is_some() || changed.is_some() || path != parts.uri.path() {
        let text = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        parts.uri = Uri::try_from(text).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "no path"))?;
    }
    let host = rule.rewrite.as_ref().and_then(|rewrite| rewrite.host.clone()).or(asked);
    if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    rule.request.apply(&mut parts.headers);
    target.request.apply(&mut parts.headers);
    Ok(())
}

/// A request as an endpoint gets it.
fn outgoing(mut parts: Parts, content: Option<Body>, http2: bool) -> Request<Body> {
    parts.extensions = http::Extensions::new();
    parts.version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    if http2 {
        let host = parts.headers.remove(header::HOST);
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
        uri.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(uri) {
            parts.uri = uri;
        }
    }
    Request::from_parts(parts, content.unwrap_or_else(body::empty))
}

/// The same request once more, with what was kept of its body.
fn again(request: &Request<Body>, kept: Option<&Bytes>) -> Request<Body> {
    let mut copy = Request::new(kept.map_or_else(body::empty, |kept| body::full(kept.clone())));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// How long a request says its body is.
fn length(parts: &Parts) -> Option<usize> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn plain(status: StatusCode, reason: &'static str) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::from_static(reason.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    response
}

const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

fn redirected(rule: &Rule, status: StatusCode, location: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    match HeaderValue::from_str(location) {
        Ok(location) => {
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    rule.response.apply(response.headers_mut());
    response
}

/// A body that fails when the client pauses for too long.
fn patient(content: Body) -> Body {
    Patient { content, pause: None }.boxed_unsync()
}

struct Patient {
    content: Body,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Patient {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.content).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(frame);
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
        match pause.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the client sent nothing for too long".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.content.size_hint()
    }
}

/// Reads a body; gives it back with all of its bytes if they are few, and else with what was read before the rest.
async fn kept(mut content: Body) -> (Body, Option<Bytes>) {
    let mut read = Vec::new();
    let mut length = 0;
    let whole = loop {
        match content.frame().await {
            None => break true,
            Some(frame) => {
                length += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
                let goes_on = matches!(&frame, Ok(frame) if frame.is_data()) && length <= COPIED;
                read.push(frame);
                if !goes_on {
                    break false;
                }
            }
        }
    };
    if whole {
        let mut all = Vec::with_capacity(length);
        read.iter().flatten().filter_map(Frame::data_ref).for_each(|piece| all.extend_from_slice(piece));
        let all = Bytes::from(all);
        return (body::full(all.clone()), Some(all));
    }
    (Resumed { read: read.into_iter(), rest: content }.boxed_unsync(), None)
}

/// What was read of a body, and then the rest of it.
struct Resumed {
    read: std::vec::IntoIter<Result<Frame<Bytes>, body::Error>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        match self.read.next() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }
}

/// A request that is being counted.
struct Counted {
    series: Arc<Series>,
    began: Instant,
    status: StatusCode,
}

/// What a client's going away is counted as, as nginx names it.
const GONE: u16 = 499;

impl Counted {
    fn new(series: &Arc<Series>, began: Instant) -> Self {
        series.began();
        let status = StatusCode::from_u16(GONE).unwrap_or(StatusCode::BAD_REQUEST);
        Self { series: series.clone(), began, status }
    }

    /// It belongs to another series.
    fn move_to(&mut self, series: &Arc<Series>) {
        if !Arc::ptr_eq(&self.series, series) {
            series.began();
            self.series.moved();
            self.series = series.clone();
        }
    }

    /// Answered without a backend.
    fn finish(mut self, response: Response<Body>) -> Response<Body> {
        self.status = response.status();
        response
    }

    /// Answered by a backend: over when the body is.
    fn pass(mut self, response: Response<Passed>, turn: Turn) -> Response<Body> {
        self.status = response.status();
        if http_body::Body::is_end_stream(response.body()) {
            return response.map(|_| body::empty());
        }
        response.map(|content| Passing { content, _turn: turn, _counted: self }.boxed_unsync())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.series.ended(self.status, self.began.elapsed());
    }
}

/// The body of an answer on its way.
enum Passed {
    Answer(Answer),
    Nothing,
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Answer(answer) => Pin::new(answer).poll_frame(context),
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_end_stream(),
            Self::Nothing => true,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Answer(answer) => answer.size_hint(),
            Self::Nothing => http_body::SizeHint::with_exact(0),
        }
    }
}

struct Passing {
    content: Passed,
    _turn: Turn,
    _counted: Counted,
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        Pin::new(&mut self.content).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests;
