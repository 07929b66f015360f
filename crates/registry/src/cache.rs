//! Images of named other registries, fetched when first asked for and kept: `docker.io/library/nginx` is a repository here.
//!
//! ```text
//! manifest by tag     asked of the origin again after a minute; what is kept is served if the origin cannot be reached
//! manifest by digest  kept for good
//! blob                streamed to the client while it is stored; the next client reads it here
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use http::Response;
use image::pull::{self, Pull};
use oci::{Digest, Reference, distribution as codes};
use serve::{Body, body};
use tokio::sync::mpsc;

use crate::{
    Registry,
    answer::Refusal,
    counted,
    index::{Change, Manifest},
    manifest::{Entry, Parsed},
    registry::Asked,
    route::Target,
};

/// How long a tag is taken to lead where it led.
const FRESH: Duration = Duration::from_secs(60);
/// Pieces between the origin and its two readers.
const QUEUE: usize = 4;
/// Tags whose age is remembered.
const REMEMBERED: usize = 100_000;

/// Which registries are kept copies of, and how they are reached.
#[derive(Clone, Default)]
pub struct Cache {
    /// Their names as in image names: `docker.io`, `quay.io`.
    pub origins: Vec<String>,
    /// Mirrors, certificates and credentials.
    pub pull: Arc<Pull>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("origins", &self.origins).finish()
    }
}

impl Cache {
    pub(crate) fn knows(&self, origin: &str) -> bool {
        self.origins.iter().any(|name| name == origin)
    }

    /// The image elsewhere that a repository here stands for.
    pub(crate) fn origin(&self, repository: &str) -> Option<Origin> {
        let (registry, path) = repository.split_once('/')?;
        self.knows(registry).then(|| Origin { registry: registry.to_owned(), path: path.to_owned() })
    }
}

/// A repository elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    registry: String,
    path: String,
}

impl Origin {
    fn reference(&self, target: &str) -> Result<Reference, Refusal> {
        let separator = if target.contains(':') { '@' } else { ':' };
        let text = format!("{}/{}{separator}{target}", self.registry, self.path);
        Reference::parse(&text).map_err(|error| Refusal::invalid(codes::NAME_INVALID, format!("{text}: {error}")))
    }
}

fn refused(error: pull::Error, code: &'static str) -> Refusal {
    let text = error.to_string();
    let status = match error {
        pull::Error::NotFound(_) => http::StatusCode::NOT_FOUND,
        // The origin's refusal says nothing about this registry's credentials.
        pull::Error::Denied(_) => http::StatusCode::NOT_FOUND,
        pull::Error::Unavailable(_) | pull::Error::Other(_) => http::StatusCode::BAD_GATEWAY,
    };
    Refusal::new(status, code, text)
}

/// Makes sure that a manifest is here, and that a tag leads where it leads at its origin.
pub(crate) async fn refresh(registry: &Registry, origin: &Origin, name: &str, target: &Target) -> Result<(), Refusal> {
    let inner = &registry.0;
    let has = |digest: &Digest| {
        inner.index.state().repositories.get(name).is_some_and(|repository| repository.manifests.contains_key(digest))
    };
    let pull = &inner.cache.pull;
    match target {
        Target::Digest(digest) => {
            let here = has(digest);
            counted::copy(&inner.counts, "manifest", here);
            if here { Ok(()) } else { fetch(registry, origin, name, digest.as_str(), None).await }
        }
        Target::Tag(tag) => {
            let key = format!("{name}:{tag}");
            let kept = inner.index.state().repositories.get(name).and_then(|there| there.tags.get(tag).cloned());
            let recent = |at: &Instant| at.elapsed() < FRESH;
            if kept.is_some() && inner.compared.lock().expect("compared lock").get(&key).is_some_and(recent) {
                return Ok(());
            }
            let reference = origin.reference(tag)?;
            let updated = async {
                let current = pull::upstream::digest(&reference, pull)
                    .await
                    .map_err(|error| refused(error, codes::MANIFEST_UNKNOWN))?;
                counted::copy(&inner.counts, "manifest", current.as_ref().is_some_and(has));
                match current {
                    Some(digest) if kept.as_ref() == Some(&digest) => Ok(()),
                    Some(digest) if has(&digest) => {
                        let change = Change::Tag { repository: name.to_owned(), tag: tag.clone(), digest };
                        inner.index.commit(vec![change]).await.map_err(|error| Refusal::internal("keep a tag", &error))
                    }
                    _ => fetch(registry, origin, name, tag, Some(tag)).await,
                }
            };
            match updated.await {
                Ok(()) => {
                    let mut compared = inner.compared.lock().expect("compared lock");
                    if compared.len() >= REMEMBERED {
                        compared.retain(|_, at| recent(at));
                    }
                    compared.insert(key, Instant::now());
                    Ok(())
                }
                Err(refusal) if kept.is_some() && refusal.status == http::StatusCode::BAD_GATEWAY => {
                    tracing::warn!(image = %reference, reason = refusal.message, "origin is out of reach: serving what is kept");
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            }
        }
    }
}

async fn fetch(
    registry: &Registry,
    origin: &Origin,
    name: &str,
    target: &str,
    tag: Option<&str>,
) -> Result<(), Refusal> {
    let inner = &registry.0;
    let reference = origin.reference(target)?;
    let (digest, bytes) = pull::upstream::manifest(&reference, &inner.cache.pull)
        .await
        .map_err(|error| refused(error, codes::MANIFEST_UNKNOWN))?;
    let parsed = Parsed::read(&bytes, None)
        .map_err(|reason| Refusal::new(http::StatusCode::BAD_GATEWAY, codes::MANIFEST_INVALID, reason))?;
    let _held = inner.leases.hold(vec![digest.clone()]).await;
    let size = bytes.len() as u64;
    inner.blobs.put(&digest, bytes.into()).await?;
    let manifest = Manifest {
        refers: parsed.refers(),
        media_type: parsed.media_type,
        size,
        subject: parsed.subject,
        artifact_type: parsed.artifact_type,
    };
    let mut changes = vec![Change::Store { repository: name.to_owned(), digest: digest.clone(), manifest }];
    changes.extend(tag.map(|tag| Change::Tag { repository: name.to_owned(), tag: tag.to_owned(), digest }));
    inner.index.commit(changes).await.map_err(|error| Refusal::internal("keep a manifest", &format!("{error:#}")))
}

/// Fetches a blob that one of the manifests here refers to. For a whole blob, the answer is what arrives, as it arrives;
/// otherwise there is none yet, but the blob is here.
pub(crate) async fn blob(
    asked: &Asked<'_>,
    origin: &Origin,
    name: &str,
    digest: &Digest,
) -> Result<Option<Response<Body>>, Refusal> {
    let inner = asked.inner();
    let promised = inner.index.state().repositories.get(name).and_then(|repository| repository.promised(digest));
    let size = promised.ok_or_else(|| {
        Refusal::missing(codes::BLOB_UNKNOWN, format!("no manifest of {name} that is kept here refers to that blob"))
    })?;
    if asked.head() {
        // Said without fetching it.
        return Ok(Some(crate::registry::without_body(crate::pull::streamed(digest, size, body::empty()))));
    }
    let whole = !asked.parts.headers.contains_key(http::header::RANGE);
    let (to_client, for_client) = mpsc::channel::<Result<Bytes, body::Error>>(QUEUE);
    let (done, ended) = tokio::sync::oneshot::channel();
    let (registry, origin, name, wanted) = (asked.registry.clone(), origin.clone(), name.to_owned(), digest.clone());
    let held = inner.leases.hold(vec![digest.clone()]).await;
    // The client may go; what was begun is finished, since the next one will ask for the same.
    inner.task.spawn("cache", async move {
        let client = whole.then_some(to_client);
        let outcome = keep(&registry, &origin, name, Entry { digest: wanted, size }, client).await;
        drop(held);
        let _ = done.send(outcome);
    });
    if whole {
        let mut for_client = for_client;
        let pieces = futures::stream::poll_fn(move |context| for_client.poll_recv(context));
        return Ok(Some(crate::pull::streamed(digest, size, body::stream(pieces))));
    }
    ended.await.map_err(|error| Refusal::internal("fetch a blob", &error))??;
    Ok(None)
}

/// Streams a blob from its origin into the content store, and to the client as long as there is one.
async fn keep(
    registry: &Registry,
    origin: &Origin,
    repository: String,
    blob: Entry,
    client: Option<mpsc::Sender<Result<Bytes, body::Error>>>,
) -> Result<(), Refusal> {
    let inner = &registry.0;
    let reference = origin.reference(blob.digest.as_str())?;
    let id = inner.blobs.begin(blob.digest.algorithm()).await?;
    let (sender, mut pieces) = mpsc::channel::<Result<Bytes, pull::Error>>(QUEUE);
    let (to_store, mut for_store) = mpsc::channel::<Result<Bytes, body::Error>>(QUEUE);
    let fetched = pull::upstream::blob(&reference, &inner.cache.pull, &blob.digest, blob.size, sender);
    let split = async move {
        let mut client = client;
        let mut last: Option<Bytes> = None;
        while let Some(piece) = pieces.recv().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    let text = error.to_string();
                    if let Some(client) = &client {
                        let _ = client.send(Err(text.clone().into())).await;
                    }
                    let _ = to_store.send(Err(text.into())).await;
                    return None;
                }
            };
            // The client gets the last piece only once the whole was found to be right.
            if let (Some(earlier), Some(reader)) = (last.replace(piece.clone()), client.as_ref())
                && reader.send(Ok(earlier)).await.is_err()
            {
                client = None;
            }
            if to_store.send(Ok(piece)).await.is_err() {
                return None;
            }
        }
        client.zip(last)
    };
    let stored = async {
        let body = futures::stream::poll_fn(move |context| for_store.poll_recv(context)).boxed();
        inner.blobs.append(&id, Some(0), body).await
    };
    let ((), rest, stored) = tokio::join!(fetched, split, stored);
    let finish = async {
        stored?;
        inner.blobs.finish(&id, &blob.digest).await?;
        let change = Change::Link { repository, blob };
        inner.index.commit(vec![change]).await.map_err(|error| Refusal::internal("keep a blob", &format!("{error:#}")))
    };
    let finished: Result<(), Refusal> = finish.await;
    match (&finished, rest) {
        (Ok(()), Some((client, last))) => drop(client.send(Ok(last)).await),
        (Err(refusal), rest) => {
            let _ = inner.blobs.cancel(&id).await;
            tracing::warn!(image = %reference, reason = refusal.message, "blob of another registry is not kept");
            if let Some((client, _)) = rest {
                let _ = client.send(Err(refusal.message.clone().into())).await;
            }
        }
        _ => {}
    }
    finished
}
