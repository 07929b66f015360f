//! Uploads that become blobs, manifests, and what is deleted.
//!
//! ```text
//! POST uploads ─► 202 and a place ─ PATCH … PATCH ─ PUT ?digest ─┐
//!      ?digest, whole body ──────────────────────────────────────┼─► content, then the link in the index ─► 201
//!      ?mount ── a repository that the client may read has it ────┘
//! PUT manifest ── everything that it refers to is here, with its size ─► content, index ─► 201
//! ```
//!
//! Content is on the disk before the index says so, and the index is on the disk before the client hears 201.

use anyhow::Context;
use http::{HeaderName, StatusCode, header};
use oci::{Digest, digest::Algorithm, distribution as codes, query::encoded, reference::is_tag};
use serve::{Body, body};

use crate::{
    answer::{Answer, CONTENT_DIGEST, Refusal, respond},
    auth::{Action, Scope},
    index::{Change, Manifest, Repository},
    manifest::{Entry, Parsed},
    registry::Asked,
    route::{self, Target},
};

/// The upload's id, beside its place.
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Says that the subject of a manifest was seen.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// The tags that a manifest was given.
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags given with one manifest at most.
const TAGS: usize = 10;
/// Repositories asked about when a blob is mounted from anywhere.
const SOURCES: usize = 8;

/// `POST /v2/NAME/blobs/uploads/`.
pub(crate) async fn begin(asked: &Asked<'_>, name: &str, body: Body) -> Answer {
    let inner = asked.inner();
    if let Some(digest) = asked.parameter("mount") {
        if let Some(answer) = mount(asked, name, &route::digest(digest)?).await? {
            return Ok(answer);
        }
    } else if let Some(digest) = asked.parameter("digest") {
        let digest = route::digest(digest)?;
        let held = inner.leases.hold(vec![digest.clone()]).await;
        let id = inner.blobs.begin(digest.algorithm()).await?;
        if let Err(error) = inner.blobs.receive(asked.parts, &id, Some(0), body).await {
            // Nobody knows this upload, so nobody can go on with it.
            let _ = inner.blobs.cancel(&id).await;
            return Err(error.into());
        }
        let answer = publish(asked, name, &id, &digest).await;
        drop(held);
        return answer;
    }
    let algorithm = match asked.parameter("digest-algorithm") {
        None | Some("sha256") => Algorithm::Sha256,
        Some("sha512") => Algorithm::Sha512,
        Some(other) => return Err(Refusal::invalid(codes::DIGEST_INVALID, format!("algorithm {other} is not known"))),
    };
    let id = inner.blobs.begin(algorithm).await?;
    Ok(progress(asked, StatusCode::ACCEPTED, name, &id, 0))
}

/// `GET /v2/NAME/blobs/uploads/ID`.
pub(crate) async fn status(asked: &Asked<'_>, name: &str, id: &str) -> Answer {
    let received = asked.inner().blobs.received(id).await?;
    Ok(progress(asked, StatusCode::NO_CONTENT, name, id, received))
}

/// `PATCH /v2/NAME/blobs/uploads/ID`.
pub(crate) async fn append(asked: &Asked<'_>, name: &str, id: &str, body: Body) -> Answer {
    let from = chunk(asked)?;
    match asked.inner().blobs.receive(asked.parts, id, from, body).await {
        Ok(received) => Ok(progress(asked, StatusCode::ACCEPTED, name, id, received)),
        Err(error) => Err(gap(asked, name, id, error)),
    }
}

/// `PUT /v2/NAME/blobs/uploads/ID?digest=DIGEST`.
pub(crate) async fn finish(asked: &Asked<'_>, name: &str, id: &str, body: Body) -> Answer {
    let inner = asked.inner();
    let text = asked.parameter("digest");
    let digest = route::digest(text.ok_or_else(|| Refusal::invalid(codes::DIGEST_INVALID, "there is no digest"))?)?;
    let from = chunk(asked)?;
    let held = inner.leases.hold(vec![digest.clone()]).await;
    if let Err(error) = inner.blobs.receive(asked.parts, id, from, body).await {
        return Err(gap(asked, name, id, error));
    }
    let answer = publish(asked, name, id, &digest).await;
    drop(held);
    answer
}

/// `DELETE /v2/NAME/blobs/uploads/ID`.
pub(crate) async fn cancel(asked: &Asked<'_>, id: &str) -> Answer {
    asked.inner().blobs.cancel(id).await?;
    Ok(respond(StatusCode::NO_CONTENT, &[], ""))
}

async fn publish(asked: &Asked<'_>, name: &str, id: &str, digest: &Digest) -> Answer {
    let inner = asked.inner();
    // Ends even when the client has gone, so that content and index agree.
    let (registry, name_of, id, wanted) = (asked.registry.clone(), name.to_owned(), id.to_owned(), digest.clone());
    let (done, ended) = tokio::sync::oneshot::channel();
    let held = inner.leases.hold(vec![digest.clone()]).await;
    inner.task.spawn("publish", async move {
        let publish = async {
            let size = registry.0.blobs.finish(&id, &wanted).await?;
            let blob = Entry { digest: wanted, size };
            link(&registry, name_of, blob).await
        };
        let outcome = publish.await;
        drop(held);
        let _ = done.send(outcome);
    });
    ended.await.map_err(|error| Refusal::internal("publish a blob", &error))??;
    Ok(created(name, digest))
}

async fn link(registry: &crate::Registry, repository: String, blob: Entry) -> Result<(), Refusal> {
    let linked = registry.0.index.commit(vec![Change::Link { repository, blob }]).await;
    registry.0.loosened.notify_one();
    linked.map_err(|error| uncommitted(&error))
}

fn uncommitted(error: &anyhow::Error) -> Refusal {
    let full = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if full.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::StorageFull) {
        return image::content::Error::Full.into();
    }
    Refusal::internal("change the index", &format!("{error:#}"))
}

/// A blob of another repository, where the client may read that.
async fn mount(asked: &Asked<'_>, name: &str, digest: &Digest) -> Result<Option<http::Response<Body>>, Refusal> {
    let inner = asked.inner();
    let _held = inner.leases.hold(vec![digest.clone()]).await;
    let (sources, size) = {
        let state = inner.index.state();
        let has = |repository: &Repository| repository.blobs.get(digest).copied();
        let sources: Vec<(String, u64)> = match asked.parameter("from") {
            Some(from) => {
                state.repositories.get(from).and_then(has).map(|size| (from.to_owned(), size)).into_iter().collect()
            }
            None => {
                let all = state.repositories.iter();
                all.filter_map(|(name, repository)| Some((name.clone(), has(repository)?))).take(SOURCES).collect()
            }
        };
        let Some(size) = sources.first().map(|(_, size)| *size) else { return Ok(None) };
        (sources, size)
    };
    for (source, _) in sources {
        if source == name || asked.door.admit(asked.parts, Some(Scope::repository(&source, Action::Pull))).await.is_ok()
        {
            link(asked.registry, name.to_owned(), Entry { digest: digest.clone(), size }).await?;
            return Ok(Some(created(name, digest)));
        }
    }
    Ok(None)
}

fn created(name: &str, digest: &Digest) -> http::Response<Body> {
    let headers = [(header::LOCATION, format!("/v2/{name}/blobs/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    respond(StatusCode::CREATED, &headers, "")
}

fn progress(asked: &Asked<'_>, status: StatusCode, name: &str, id: &str, received: u64) -> http::Response<Body> {
    // A client that took this for a mirror goes on doing so.
    let place = match asked.parameter("ns") {
        Some(namespace) => format!("?ns={}", encoded(namespace)),
        None => String::new(),
    };
    let headers = [
        (header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}{place}")),
        (header::RANGE, format!("0-{}", received.saturating_sub(1))),
        (UPLOAD_ID, id.to_owned()),
    ];
    respond(status, &headers, "")
}

/// An error of an upload; where it goes on is said if that is what was wrong.
fn gap(asked: &Asked<'_>, name: &str, id: &str, error: image::content::Error) -> Refusal {
    let here = match &error {
        image::content::Error::Offset { here } => Some(*here),
        _ => None,
    };
    let mut refusal = Refusal::from(error);
    if let Some(here) = here {
        let told = progress(asked, StatusCode::ACCEPTED, name, id, here);
        for name in [header::LOCATION, header::RANGE] {
            if let Some(value) = told.headers().get(&name).and_then(|value| value.to_str().ok()) {
                refusal = refusal.with(name, value);
            }
        }
    }
    refusal
}

/// Where the piece starts, if the client says so: `Content-Range: FIRST-LAST`.
fn chunk(asked: &Asked<'_>) -> Result<Option<u64>, Refusal> {
    let Some(range) = asked.header(header::CONTENT_RANGE) else { return Ok(None) };
    let wrong = || Refusal::invalid(codes::BLOB_UPLOAD_INVALID, format!("content range {range:?} is no FIRST-LAST"));
    let bare = range.strip_prefix("bytes ").unwrap_or(range);
    let bare = bare.split('/').next().unwrap_or_default();
    let (first, last) = bare.split_once('-').ok_or_else(wrong)?;
    let (first, last): (u64, u64) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or_else(wrong)?;
    let announced = asked.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != length) {
        let reason = format!("the range has {length} bytes, the body {}", announced.unwrap_or_default());
        return Err(Refusal::invalid(codes::SIZE_INVALID, reason));
    }
    Ok(Some(first))
}

/// `PUT /v2/NAME/manifests/REFERENCE`.
pub(crate) async fn manifest(asked: &Asked<'_>, name: &str, target: &Target, body: Body) -> Answer {
    let inner = asked.inner();
    let settings = &inner.settings;
    let read = tokio::time::timeout(settings.stall, body::read(body, settings.manifest_bytes)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(body::ReadError::TooLarge { limit })) => {
            let reason = format!("the manifest is larger than {limit} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, codes::MANIFEST_INVALID, reason));
        }
        Ok(Err(error)) => return Err(Refusal::invalid(codes::MANIFEST_INVALID, error.to_string())),
        Err(_) => return Err(Refusal::invalid(codes::MANIFEST_INVALID, "nothing came for too long")),
    };
    let digest = match (target, asked.parameter("digest")) {
        (Target::Digest(digest), _) => digest.clone(),
        (Target::Tag(_), Some(digest)) => route::digest(digest)?,
        (Target::Tag(_), None) => Digest::sha256(&bytes),
    };
    if !digest.matches(&bytes) {
        return Err(Refusal::invalid(codes::DIGEST_INVALID, "the manifest has another digest"));
    }
    let mut tags: Vec<String> =
        asked.query.iter().filter(|(key, _)| key == "tag").map(|(_, value)| value.clone()).collect();
    if let Target::Tag(tag) = target {
        tags = vec![tag.clone()];
    }
    if tags.len() > TAGS {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, codes::NAME_INVALID, format!("more than {TAGS} tags")));
    }
    if let Some(wrong) = tags.iter().find(|tag| !is_tag(tag)) {
        return Err(Refusal::invalid(codes::NAME_INVALID, format!("{wrong:?} is no tag")));
    }
    let parsed = Parsed::read(&bytes, asked.header(header::CONTENT_TYPE))
        .map_err(|reason| Refusal::invalid(codes::MANIFEST_INVALID, reason))?;
    let mut needed: Vec<Digest> = parsed.refers().into_iter().map(|entry| entry.digest).collect();
    needed.push(digest.clone());
    let _held = inner.leases.hold(needed).await;
    let _change = inner.changes.lock().await;
    complete(inner.index.state().repositories.get(name), name, &parsed)?;
    let size = bytes.len() as u64;
    inner.blobs.put(&digest, bytes).await?;
    let mut changes = vec![Change::Store {
        repository: name.to_owned(),
        digest: digest.clone(),
        manifest: Manifest {
            media_type: parsed.media_type.clone(),
            size,
            refers: parsed.refers(),
            subject: parsed.subject.clone(),
            artifact_type: parsed.artifact_type.clone(),
        },
    }];
    changes.extend(tags.iter().map(|tag| Change::Tag {
        repository: name.to_owned(),
        tag: tag.clone(),
        digest: digest.clone(),
    }));
    inner.index.commit(changes).await.map_err(|error| uncommitted(&error))?;
    let mut headers =
        vec![(header::LOCATION, format!("/v2/{name}/manifests/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    headers.extend(parsed.subject.map(|subject| (SUBJECT, subject.to_string())));
    headers.extend(tags.into_iter().map(|tag| (TAG, tag)));
    Ok(respond(StatusCode::CREATED, &headers, ""))
}

/// Whether the repository has everything that a manifest needs, with the sizes that it says.
fn complete(repository: Option<&Repository>, name: &str, parsed: &Parsed) -> Result<(), Refusal> {
    let blob = |digest: &Digest| repository.and_then(|repository| repository.blobs.get(digest).copied());
    let manifest = |digest: &Digest| repository.and_then(|repository| repository.manifests.get(digest)).map(|m| m.size);
    let blobs = parsed.blobs.iter().map(|entry| (entry, blob(&entry.digest), true));
    let manifests = parsed.manifests.iter().map(|entry| (entry, manifest(&entry.digest), true));
    let foreign = parsed.foreign.iter().map(|entry| (entry, blob(&entry.digest), false));
    for (entry, here, required) in blobs.chain(manifests).chain(foreign) {
        match here {
            Some(size) if size != entry.size => {
                let reason = format!("{} has {size} bytes, not {}", entry.digest, entry.size);
                return Err(Refusal::invalid(codes::MANIFEST_INVALID, reason));
            }
            None if required => {
                let reason = format!("{name} does not have {}", entry.digest);
                return Err(Refusal::invalid(codes::MANIFEST_BLOB_UNKNOWN, reason));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `DELETE /v2/NAME/manifests/REFERENCE`: by digest the manifest with its tags, by tag only the tag.
pub(crate) async fn delete_manifest(asked: &Asked<'_>, name: &str, target: &Target) -> Answer {
    let repository = name.to_owned();
    let change = match target {
        Target::Tag(tag) => Change::Untag { repository, tag: tag.clone() },
        Target::Digest(digest) => Change::Forget { repository, digest: digest.clone() },
    };
    delete(asked, change, codes::MANIFEST_UNKNOWN).await
}

/// `DELETE /v2/NAME/blobs/DIGEST`.
pub(crate) async fn delete_blob(asked: &Asked<'_>, name: &str, digest: &Digest) -> Answer {
    delete(asked, Change::Unlink { repository: name.to_owned(), digest: digest.clone() }, codes::BLOB_UNKNOWN).await
}

async fn delete(asked: &Asked<'_>, change: Change, code: &'static str) -> Answer {
    let inner = asked.inner();
    let _change = inner.changes.lock().await;
    if !inner.index.state().lacks(&change) {
        return Err(Refusal::missing(code, "there is nothing of that name to delete"));
    }
    let deleted = inner.index.commit(vec![change]).await.context("delete");
    inner.loosened.notify_one();
    deleted.map_err(|error| uncommitted(&error))?;
    Ok(respond(StatusCode::ACCEPTED, &[], ""))
}
