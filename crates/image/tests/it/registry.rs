//! A registry for tests: serves what it is given, and fails as it is told.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use oci::Digest;
use task::Task;

use crate::place::Sample;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Media type and content by path.
type Served = HashMap<String, (String, Vec<u8>)>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What to answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// After so many bytes of the body.
    pub ends: Ends,
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq)]
pub enum Ends {
    Whole,
    Broken(usize),
    Stalled(usize),
    /// The body is sent so many times, as far as it is taken.
    Repeated(usize),
}

pub fn reply(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Option<Reply> {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Some(Reply { status, headers, body: body.into(), ends: Ends::Whole })
}

/// Decides about a request, given how many with the same method and path came before it; nothing for the usual answer.
type Rule = Box<dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync>;

pub struct Registry {
    pub address: SocketAddr,
    served: Arc<Mutex<Served>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Bytes of repeated bodies that were taken.
    pub sent: Arc<AtomicUsize>,
    task: Task,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl Registry {
    pub async fn start(rule: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::with_tls(None, rule).await
    }

    pub async fn with_tls(
        tls: Option<Arc<rustls::ServerConfig>>,
        rule: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap(),
            served: Arc::default(),
            seen: Arc::default(),
            sent: Arc::default(),
            task: Task::root("registry"),
        };
        let (served, seen, task) = (registry.served.clone(), registry.seen.clone(), registry.task.clone());
        let sent = registry.sent.clone();
        let rule: Arc<Rule> = Arc::new(Box::new(rule));
        registry.task.spawn("accept", async move {
            while let Some(Ok((stream, _))) = task.until_cancelled(listener.accept()).await {
                let (served, seen, rule, tls) = (served.clone(), seen.clone(), rule.clone(), tls.clone());
                let sent = sent.clone();
                task.spawn("connection", async move {
                    let service = hyper::service::service_fn(move |request| {
                        answer(request, served.clone(), seen.clone(), rule.clone(), sent.clone())
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(config) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        registry
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn reference(&self, name: &str) -> oci::Reference {
        oci::Reference::parse(&self.name(name)).unwrap()
    }

    /// Serves something at a path below `/v2/`.
    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.served.lock().unwrap().insert(format!("/v2/{path}"), (media_type.to_owned(), bytes.to_vec()));
    }

    /// Serves an image under a tag.
    pub fn put_image(&self, repository: &str, tag: &str, sample: &Sample) {
        self.put_document(repository, tag, oci::media::OCI_MANIFEST, &sample.manifest());
        self.put_blobs(repository, sample);
    }

    /// Serves a manifest or index under a tag and its digest.
    pub fn put_document(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        for target in [tag, Digest::sha256(bytes).as_str()] {
            self.put(&format!("{repository}/manifests/{target}"), media_type, bytes);
        }
    }

    pub fn put_blobs(&self, repository: &str, sample: &Sample) {
        for blob in sample.layers.iter().chain([&sample.config]) {
            self.put(&format!("{repository}/blobs/{}", Digest::sha256(blob)), "application/octet-stream", blob);
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// How many requests of a method had this in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method.as_str() == method && seen.path.contains(part)).count()
    }
}

async fn answer(
    request: Request<Incoming>,
    served: Arc<Mutex<Served>>,
    log: Arc<Mutex<Vec<Seen>>>,
    rule: Arc<Rule>,
    sent: Arc<AtomicUsize>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path_and_query().map(|path| path.to_string()).unwrap_or_default();
    let seen = Seen { method: head.method, path, headers: head.headers, body };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|other| other.method == seen.method && other.path == seen.path).count();
        log.push(seen.clone());
        before
    };
    let reply = rule(&seen, before).unwrap_or_else(|| usual(&seen, &served.lock().unwrap()));
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    if seen.method == Method::HEAD || reply.ends == Ends::Whole {
        let body = if seen.method == Method::HEAD { Vec::new() } else { reply.body };
        return Ok(response.body(Full::from(body).map_err(|never| match never {}).boxed_unsync()).unwrap());
    }
    if let Ends::Repeated(times) = reply.ends {
        let body = Bytes::from(reply.body);
        let pieces = futures::stream::iter((0..times).map(move |_| {
            sent.fetch_add(body.len(), Ordering::Relaxed);
            Ok(Frame::data(body.clone()))
        }));
        return Ok(response.body(StreamBody::new(pieces).boxed_unsync()).unwrap());
    }
    response = response.header("content-length", reply.body.len());
    let (Ends::Broken(at) | Ends::Stalled(at)) = reply.ends else { unreachable!() };
    let first = Bytes::copy_from_slice(&reply.body[..at]);
    let broken = matches!(reply.ends, Ends::Broken(_));
    let pieces = futures::stream::iter([Ok(Frame::data(first))]).chain(futures::stream::once(async move {
        // Lets the first piece out before the connection goes.
        tokio::time::sleep(Duration::from_millis(if broken { 20 } else { 30_000 })).await;
        Err(std::io::Error::other("as told"))
    }));
    Ok(response.body(StreamBody::new(pieces).boxed_unsync()).unwrap())
}

/// What an honest registry says.
pub fn usual(seen: &Seen, served: &Served) -> Reply {
    let path = seen.path.split('?').next().unwrap();
    let Some((media_type, bytes)) = served.get(path) else {
        let code = if path.contains("/manifests/") { "MANIFEST_UNKNOWN" } else { "BLOB_UNKNOWN" };
        return reply(404, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#)).unwrap();
    };
    let digest = Digest::sha256(bytes).to_string();
    let headers = [("content-type", media_type.as_str()), ("docker-content-digest", &digest)];
    let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        Some(from) if from < bytes.len() => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            reply(206, &[headers[0], headers[1], ("content-range", &range)], &bytes[from..]).unwrap()
        }
        _ => reply(StatusCode::OK.as_u16(), &headers, bytes.as_slice()).unwrap(),
    }
}
