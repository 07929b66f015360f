//! The four requests of smart HTTP, and their answers.
//!
//! ```text
//! GET  …/info/refs?service=git-upload-pack      what can be fetched
//! POST …/git-upload-pack                        a fetch
//! GET  …/info/refs?service=git-receive-pack     what can be pushed
//! POST …/git-receive-pack                       a push
//! ```
//!
//! Who asks, and what for, is the caller's to judge: between [`route`] and the answer.
//!
//! Specification: <https://git-scm.com/docs/http-protocol>.

use std::{io::Read, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::sync::mpsc;

use crate::{
    Error, packet, receive,
    remote::Body,
    repository::{Repository, Update},
    upload,
};

/// Bytes of a request for a fetch: ids of what is wanted and had.
const LARGEST_FETCH: usize = 24 << 20;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// What can be fetched.
    Fetchable,
    /// A fetch.
    Fetch,
    /// What can be pushed.
    Pushable,
    /// A push.
    Push,
}

impl Service {
    /// Whether it is there to change something.
    pub fn writes(self) -> bool {
        matches!(self, Self::Pushable | Self::Push)
    }
}

/// The repository's path and what is asked of it; none where it is no request of git's.
pub fn route<'a>(method: &Method, path: &'a str, query: Option<&str>) -> Option<(&'a str, Service)> {
    if let Some(repository) = path.strip_suffix("/info/refs") {
        let services = [("git-upload-pack", Service::Fetchable), ("git-receive-pack", Service::Pushable)];
        let asked = query?.split('&').find_map(|pair| pair.strip_prefix("service="))?;
        let service = services.into_iter().find(|(name, _)| *name == asked)?.1;
        return (method == Method::GET).then_some((repository, service));
    }
    let services = [("/git-upload-pack", Service::Fetch), ("/git-receive-pack", Service::Push)];
    let found = services.into_iter().find_map(|(end, service)| Some((path.strip_suffix(end)?, service)));
    found.filter(|_| method == Method::POST)
}

fn answer(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, max-age=0, must-revalidate"));
    response
}

/// A short answer in words, which `git` shows.
pub fn refuse(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = answer("text/plain; charset=utf-8", whole(format!("{text}\n").into()));
    *response.status_mut() = status;
    response
}

fn whole(bytes: Bytes) -> Body {
    stream::once(async move { Ok(bytes) }).boxed()
}

/// Whether the client speaks version 2.
fn second_version(headers: &HeaderMap) -> bool {
    let value = headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(':').any(|part| part.trim() == "version=2")
}

/// What can be fetched or pushed.
pub fn advertise(repository: &Repository, service: Service, headers: &HeaderMap) -> Response<Body> {
    let (kind, name, list) = match service {
        Service::Pushable | Service::Push => {
            ("application/x-git-receive-pack-advertisement", "git-receive-pack", receive::advertisement(repository))
        }
        _ if second_version(headers) => {
            let list = upload::capabilities(repository);
            return answer("application/x-git-upload-pack-advertisement", whole(list.into()));
        }
        _ => ("application/x-git-upload-pack-advertisement", "git-upload-pack", upload::advertisement(repository)),
    };
    let mut out = Vec::new();
    packet::line(&mut out, &format!("# service={name}"));
    packet::flush(&mut out);
    out.extend(list);
    answer(kind, whole(out.into()))
}

/// Answers a fetch. The pack is made as it is read; when nobody reads any more its making ends.
pub async fn fetch<S>(repository: Arc<Repository>, headers: &HeaderMap, body: S) -> Result<Response<Body>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let request = gather(headers, body).await?;
    let second = second_version(headers);
    let (sender, mut receiver) = mpsc::channel::<std::io::Result<Bytes>>(4);
    // It ends with its reader: the channel closes.
    tokio::task::spawn_blocking(move || {
        let gone = || Error::Io(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let mut sink = |bytes: Bytes| sender.blocking_send(Ok(bytes)).map_err(|_| gone());
        let done = if second {
            upload::answer(&repository, &request, &mut sink)
        } else {
            upload::answer_first_version(&repository, &request, &mut sink)
        };
        match done {
            Ok(()) => {}
            // The client has gone, which is no error of this side.
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                let _ = sink(upload::told_error(&error));
            }
        }
    });
    let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
    Ok(answer("application/x-git-upload-pack-result", pieces.boxed()))
}

/// Reads the request of a fetch, which may be compressed.
async fn gather<S>(headers: &HeaderMap, mut body: S) -> Result<Vec<u8>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let large = || Error::TooLarge { what: "the request", limit: LARGEST_FETCH as u64 };
    let mut held = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if held.len() + piece.len() > LARGEST_FETCH {
            return Err(large());
        }
        held.extend_from_slice(&piece);
    }
    if !compressed(headers)? {
        return Ok(held.to_vec());
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&held[..]).take(LARGEST_FETCH as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > LARGEST_FETCH { Err(large()) } else { Ok(plain) }
}

fn compressed(headers: &HeaderMap) -> Result<bool, Error> {
    match headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err(Error::invalid("a request in an unknown encoding")),
    }
}

/// Answers a push. `refused` says why a reference may not be changed; `changed` is told what was, before the client is.
pub async fn push<S>(
    repository: Arc<Repository>,
    headers: &HeaderMap,
    body: S,
    refused: impl Fn(&Update) -> Option<String> + Send + 'static,
    changed: impl FnOnce(&[Update], &[String]) + Send + 'static,
) -> Result<Response<Body>, Error>
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    const KIND: &str = "application/x-git-receive-pack-result";
    let push = if compressed(headers)? {
        // Only what has no pack is compressed, so that it is short.
        let plain = gather(headers, body).await?;
        receive::take(&repository, stream::iter([Ok(Bytes::from(plain))])).await?
    } else {
        receive::take(&repository, body).await?
    };
    let Some(push) = push else { return Ok(answer(KIND, whole(Bytes::new()))) };
    let work = tokio::task::spawn_blocking(move || {
        let options = push.options.clone();
        let pushed = push.carry_out(&repository, &refused)?;
        if !pushed.changed.is_empty() {
            changed(&pushed.changed, &options);
        }
        // The client need not wait for it, but the next one may not find a thousand packs.
        if repository.scattered() {
            repository.repack()?;
        }
        Ok::<_, Error>(pushed.answer)
    });
    let bytes = work.await.map_err(|error| Error::Io(std::io::Error::other(error)))??;
    Ok(answer(KIND, whole(bytes)))
}
