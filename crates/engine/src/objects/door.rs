//! Logs and archives of builds, by the node's API, which has asked before whether whoever asks may.
//!
//! ```text
//! GET  /builds/NAMESPACE/NAME/log?offset=N&follow=true     lines from byte N on, to the end of the build
//! POST /builds/NAMESPACE/NAME/context                      the archive that a build with context.upload waits for
//! ```

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use client::cache::Key;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serve::{Body, body};
use tokio::{io::AsyncWriteExt as _, sync::watch};

use super::{Builds, kind::Build, log::read, uid_of};
use crate::{
    call::Query,
    disk,
    error::{Error, Result},
};

/// The file of an archive that was sent.
pub(super) const CONTEXT: &str = "context";
/// The file of the log.
pub(super) const LOG: &str = "log";
/// Bytes of an archive.
const LARGEST: u64 = 8 << 30;
/// Bytes of a log that are read at once.
const PIECE: usize = 64 << 10;
/// How often a build that has not begun is looked at by those who follow it.
const LOOK: Duration = Duration::from_millis(250);

impl Builds {
    /// Answers a request below `/builds`.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let answered = match (request.method(), parts.as_slice()) {
            (&Method::GET, ["builds", namespace, name, "log"]) => self.log(request.uri().query(), namespace, name),
            (&Method::POST, ["builds", namespace, name, "context"]) => {
                self.take(request.into_body(), namespace, name).await
            }
            (_, ["builds", _, _, "log" | "context"]) => {
                Err(Error::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
            }
            _ => Err(Error::missing("404 page not found")),
        };
        answered.unwrap_or_else(|error| {
            let mut response = Response::new(body::full(error.message.clone()));
            *response.status_mut() = error.status;
            response
        })
    }

    fn here(&self, namespace: &str, name: &str) -> Result<Arc<Build>> {
        let found = self.0.cache.get(&Key::new(namespace, name));
        let build = found.ok_or_else(|| Error::missing(format!("builds.madang.dev {name:?} not found")))?;
        match &build.status.node_name {
            Some(node) if *node == self.0.settings.node => Ok(build),
            Some(node) => Err(Error::missing(format!("build {name:?} is carried out by node {node}"))),
            None => Err(Error::missing(format!("build {name:?} has no node yet: ask again"))),
        }
    }

    fn log(&self, query: Option<&str>, namespace: &str, name: &str) -> Result<Response<Body>> {
        let query = Query::parse(query.unwrap_or_default());
        let build = self.here(namespace, name)?;
        let (mut offset, follow) = (query.number::<u64>("offset")?.unwrap_or(0), query.flag("follow"));
        let uid = uid_of(&build).to_owned();
        let path = self.dir(&uid).join(LOG);
        let (sender, body) = body::channel(4);
        let builds = self.clone();
        self.0.task.spawn_until_cancelled("log of a build", async move {
            let mut growth = builds.growth(&uid);
            loop {
                let (from, file) = (offset, path.clone());
                let piece = disk::blocking(move || match read(&file, from, PIECE) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                    piece => Ok(piece?),
                });
                let piece = match piece.await {
                    Ok(piece) => piece,
                    Err(error) => return drop(sender.send(Err(error.into())).await),
                };
                if !piece.is_empty() {
                    offset += piece.len() as u64;
                    if sender.send(Ok(piece.into())).await.is_err() {
                        return;
                    }
                    continue;
                }
                if !follow {
                    return;
                }
                let more = async {
                    if let Some(grown) = &mut growth {
                        if grown.changed().await.is_err() {
                            // It ended: what was written last is read once more.
                            growth = None;
                        }
                        return true;
                    }
                    growth = builds.growth(&uid);
                    if growth.is_none() && builds.is_over(&uid, &Key::of(&*build)) {
                        return false;
                    }
                    tokio::time::sleep(LOOK).await;
                    true
                };
                let more = tokio::select! {
                    more = more => more,
                    () = sender.closed() => return,
                };
                if !more {
                    return;
                }
            }
        });
        let mut response = Response::new(body);
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Ok(response)
    }

    /// Hears of a build's log growing; none where it is not being built.
    fn growth(&self, uid: &str) -> Option<watch::Receiver<u64>> {
        self.lock().running.get(uid).map(|running| running.log.clone())
    }

    /// Whether nothing more will be written.
    fn is_over(&self, uid: &str, key: &Key) -> bool {
        let found = self.0.cache.get(key);
        found.is_none_or(|build| uid_of(&build) != uid || build.status.phase.is_over())
    }

    /// Keeps an archive for a build that waits for it.
    async fn take(&self, body: Body, namespace: &str, name: &str) -> Result<Response<Body>> {
        let build = self.here(namespace, name)?;
        if build.spec.context.upload.is_none() {
            return Err(Error::conflict(format!("build {name:?} waits for no context: it has none with upload")));
        }
        let dir = self.dir(uid_of(&build));
        if dir.join(CONTEXT).exists() || build.status.phase.is_over() {
            return Err(Error::conflict(format!("build {name:?} has its context already")));
        }
        let made = dir.clone();
        disk::blocking(move || disk::private_directory(&made)).await?;
        let temporary =
            disk::blocking(move || Ok(tempfile::NamedTempFile::new_in(&dir).map(|file| (file, dir))?)).await?;
        let (temporary, dir) = temporary;
        let mut file = tokio::fs::File::from_std(temporary.reopen().context("open a file for the context")?);
        let mut pieces = body.into_data_stream();
        let mut length = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| Error::invalid(format!("the context broke off: {error}")))?;
            length += piece.len() as u64;
            if length > LARGEST {
                let message = format!("the context has more than {LARGEST} bytes");
                return Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            file.write_all(&piece).await.context("write the context")?;
        }
        if length == 0 {
            return Err(Error::invalid("the context is empty: an archive is wanted"));
        }
        file.sync_all().await.context("write the context")?;
        let place: PathBuf = dir.join(CONTEXT);
        disk::blocking(move || {
            temporary.persist_noclobber(&place).map(drop).map_err(|error| anyhow::Error::from(error.error))
        })
        .await
        .map_err(|_| Error::conflict(format!("build {name:?} has its context already")))?;
        self.0.queue.add(Key::new(namespace, name));
        let mut response = Response::new(body::full("{}"));
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }
}
