//! The registry's side of [`super::door`].

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, Request, StatusCode};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use image::content::{Error, Rest};
use oci::{Digest, digest::Algorithm};
use serve::{
    Body, body,
    handed::{Handing, Slot},
};
use task::Task;
use tokio::net::UnixStream;

use super::door::Trouble;

/// Largest answer, in bytes: a list of all blobs.
const ANSWER: usize = 256 << 20;
/// Connections kept for later.
const IDLE: usize = 16;

/// Connections to the node, one a request at a time.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    task: Task,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Body>,
    /// Where a descriptor for the next request is left.
    next: Slot,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.socket).finish()
    }
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self(Arc::new(Inner { socket: socket.to_owned(), task: Task::root("content"), idle: Mutex::default() }))
    }

    pub async fn begin(&self, algorithm: Algorithm) -> Result<String, Error> {
        self.ask(Method::POST, &format!("/uploads?algorithm={}", algorithm.name()), body::empty()).await
    }

    pub async fn received(&self, id: &str) -> Result<u64, Error> {
        number(self.ask(Method::GET, &format!("/uploads/{}", plain(id)?), body::empty()).await?)
    }

    pub async fn append<S, E>(&self, id: &str, from: Option<u64>, pieces: S) -> Result<u64, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Into<serve::body::Error>,
    {
        let from = from.map(|from| format!("?from={from}")).unwrap_or_default();
        let pieces = body::stream(pieces.map(|piece| piece.map_err(Into::into)));
        number(self.ask(Method::PATCH, &format!("/uploads/{}{from}", plain(id)?), pieces).await?)
    }

    pub async fn append_from(&self, id: &str, from: Option<u64>, rest: Rest) -> Result<u64, Error> {
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let path = format!("/uploads/{}?left={}{from}", plain(id)?, rest.left);
        let before = body::full(rest.before.concat());
        number(self.ask_with(Method::PATCH, &path, before, Some(rest.socket)).await?)
    }

    pub async fn finish(&self, id: &str, digest: &Digest) -> Result<u64, Error> {
        number(self.ask(Method::PUT, &format!("/uploads/{}?digest={digest}", plain(id)?), body::empty()).await?)
    }

    pub async fn cancel(&self, id: &str) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/uploads/{}", plain(id)?), body::empty()).await.map(drop)
    }

    pub async fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), Error> {
        self.ask(Method::PUT, &format!("/blobs?digest={digest}"), body::full(bytes)).await.map(drop)
    }

    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/blobs?digest={digest}"), body::empty()).await.map(drop)
    }

    pub async fn list(&self) -> Result<Vec<Digest>, Error> {
        let text = self.ask(Method::GET, "/blobs", body::empty()).await?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    pub async fn expire(&self) -> Result<(), Error> {
        self.ask(Method::POST, "/expire", body::empty()).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, content: Body) -> Result<String, Error> {
        self.ask_with(method, path, content, None).await
    }

    async fn ask_with(
        &self,
        method: Method,
        path: &str,
        content: Body,
        socket: Option<OwnedFd>,
    ) -> Result<String, Error> {
        let mut connection = self.connection().await?;
        if let Some(socket) = socket {
            connection.next.set(socket);
        }
        let request = Request::builder().method(method).uri(path).header(http::header::HOST, "node").body(content);
        let request = request.map_err(|error| anyhow!("ask the node {path}: {error}"))?;
        let answer = connection.sender.send_request(request).await;
        // A body that breaks off takes the connection with it; the node has kept what came.
        let answer = answer.map_err(|error| Error::Broken(reason(&error)))?;
        let (status, text) = whole(answer).await?;
        let mut idle = self.0.idle.lock().expect("idle connections lock");
        if idle.len() < IDLE {
            idle.push(connection);
        }
        drop(idle);
        match status {
            StatusCode::OK => Ok(String::from_utf8(text.to_vec()).context("answer of the node")?),
            _ => {
                let trouble: Trouble = serde_json::from_slice(&text).context("answer of the node")?;
                Err(trouble.into())
            }
        }
    }

    async fn connection(&self) -> Result<Connection, Error> {
        loop {
            let Some(mut kept) = self.0.idle.lock().expect("idle connections lock").pop() else { break };
            if kept.sender.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let named = || format!("connect to the node at {}", self.0.socket.display());
        let stream = UnixStream::connect(&self.0.socket).await.with_context(named)?;
        let (stream, next) = Handing::new(stream);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(named)?;
        self.0.task.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the node");
            }
        });
        Ok(Connection { sender, next })
    }
}

async fn whole(answer: http::Response<Incoming>) -> Result<(StatusCode, Bytes), Error> {
    use http_body_util::BodyExt;
    let status = answer.status();
    let read = http_body_util::Limited::new(answer.into_body(), ANSWER).collect().await;
    let text = read.map_err(|error| anyhow!("answer of the node: {error}"))?;
    Ok((status, text.to_bytes()))
}

/// The innermost cause: what the client of the registry did.
fn reason(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn number(text: String) -> Result<u64, Error> {
    Ok(text.parse().with_context(|| format!("answer of the node: {text:?}"))?)
}

/// Ids of uploads are hexadecimal; others are nobody's.
fn plain(id: &str) -> Result<&str, Error> {
    match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(id),
        false => Err(Error::Unknown),
    }
}
