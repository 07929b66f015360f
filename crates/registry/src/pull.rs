//! Manifests and blobs on their way out.
//!
//! Blobs go out as `serve::file` sends files: a slow client costs no memory.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use oci::{Digest, distribution as codes};
use serve::Body;

use crate::{
    answer::{Answer, CONTENT_DIGEST, Refusal, respond},
    counted,
    registry::{Asked, without_body},
    route::Target,
};

#[cfg(test)]
mod tests;

/// What has a digest never changes.
const FOR_EVER: &str = "max-age=31536000";

/// `GET` and `HEAD` of `/v2/NAME/manifests/REFERENCE`.
pub(crate) async fn manifest(asked: &Asked<'_>, name: &str, target: &Target) -> Answer {
    let inner = asked.inner();
    if let Some(origin) = inner.cache.origin(name) {
        crate::cache::refresh(asked.registry, &origin, name, target).await?;
    }
    let (digest, media_type) = {
        let state = inner.index.state();
        let repository = state.repositories.get(name);
        let Some(repository) = repository else { return Err(unknown_repository(name)) };
        let unknown = || Refusal::missing(codes::MANIFEST_UNKNOWN, format!("{name} has no such manifest"));
        let digest = match target {
            Target::Digest(digest) => digest,
            Target::Tag(tag) => repository.tags.get(tag).ok_or_else(unknown)?,
        };
        let manifest = repository.manifests.get(digest).ok_or_else(unknown)?;
        (digest.clone(), manifest.media_type.clone())
    };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    if is_known(asked, &digest) {
        return Ok(respond(StatusCode::NOT_MODIFIED, &headers, Bytes::new()));
    }
    let bytes = asked.registry.read(&digest).await;
    let bytes = bytes.map_err(|error| Refusal::internal("read a manifest", &error))?;
    let length = bytes.len();
    let response = respond(StatusCode::OK, &headers, bytes);
    if !asked.head() {
        return Ok(response);
    }
    let mut response = without_body(response);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// `GET` and `HEAD` of `/v2/NAME/blobs/DIGEST`.
pub(crate) async fn blob(asked: &Asked<'_>, name: &str, digest: &Digest) -> Answer {
    let inner = asked.inner();
    // Whoever looks may rely on what they see: see `leases`.
    let _held = inner.leases.hold(vec![digest.clone()]).await;
    let here = {
        let state = inner.index.state();
        match state.repositories.get(name) {
            None => return Err(unknown_repository(name)),
            Some(repository) => repository.blobs.contains_key(digest),
        }
    };
    if inner.cache.origin(name).is_some() {
        counted::copy(&inner.counts, "blob", here);
    }
    if !here {
        let unknown = || Refusal::missing(codes::BLOB_UNKNOWN, format!("{name} has no such blob"));
        let origin = inner.cache.origin(name).ok_or_else(unknown)?;
        if let Some(response) = crate::cache::blob(asked, &origin, name, digest).await? {
            return Ok(response);
        }
    }
    let known = inner.index.state().repositories.get(name).and_then(|repository| repository.blobs.get(digest).copied());
    let opened = inner.blobs.open(digest, known.unwrap_or_default()).await;
    let blob = opened.map_err(|error| Refusal::internal("open a blob", &error))?;
    let size = blob.size();
    let mut headers = vec![
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, FOR_EVER.to_owned()),
    ];
    if is_known(asked, digest) {
        return Ok(respond(StatusCode::NOT_MODIFIED, &headers, Bytes::new()));
    }
    let wanted = match asked.header(header::RANGE) {
        // A range of something else than what the client began with is no use.
        Some(range) if asked.header(header::IF_RANGE).is_none_or(|tag| tag == format!("\"{digest}\"")) => {
            Range::parse(range, size)
        }
        _ => Range::Whole,
    };
    let (status, from, end) = match wanted {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part(from, end) => {
            headers.push((header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", end - 1)));
            (StatusCode::PARTIAL_CONTENT, from, end)
        }
        Range::None => {
            let refusal = Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                codes::SIZE_INVALID,
                format!("the blob has {size} bytes"),
            );
            return Err(refusal.with(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let mut response = respond(status, &headers, Bytes::new());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(end - from));
    if !asked.head() {
        let content = blob.part(asked.parts, from, end).await;
        *response.body_mut() = content.map_err(|error| Refusal::internal("send a blob", &error))?;
    }
    Ok(response)
}

/// Whether the client says that it has the document.
fn is_known(asked: &Asked<'_>, digest: &Digest) -> bool {
    let Some(tags) = asked.header(header::IF_NONE_MATCH) else { return false };
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_matches('"') == digest.as_str())
}

pub(crate) fn unknown_repository(name: &str) -> Refusal {
    Refusal::missing(codes::NAME_UNKNOWN, format!("there is no repository {name}"))
}

/// Which bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first up to, not with, the second.
    Part(u64, u64),
    /// None that there are.
    None,
}

impl Range {
    /// Reads a header of RFC 9110, 14.2. Several ranges, and what is no range, are answered with everything, as it allows.
    fn parse(header: &str, size: u64) -> Self {
        let Some(range) = header.strip_prefix("bytes=").filter(|range| !range.contains(',')) else {
            return Self::Whole;
        };
        let Some((first, last)) = range.trim().split_once('-') else { return Self::Whole };
        let number = |text: &str| -> Result<Option<u64>, ()> {
            match text {
                "" => Ok(None),
                text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    // What is too large for a number is too large for a blob.
                    Ok(Some(text.parse().unwrap_or(u64::MAX)))
                }
                _ => Err(()),
            }
        };
        match (number(first), number(last)) {
            (Ok(Some(first)), Ok(last)) => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                match () {
                    () if last.is_some_and(|last| last < first) => Self::Whole,
                    () if first >= size => Self::None,
                    () => Self::Part(first, end),
                }
            }
            (Ok(None), Ok(Some(0))) => Self::None,
            (Ok(None), Ok(Some(_))) if size == 0 => Self::None,
            (Ok(None), Ok(Some(last))) => Self::Part(size.saturating_sub(last), size),
            _ => Self::Whole,
        }
    }
}

/// An answer whose body is made elsewhere.
pub(crate) fn streamed(digest: &Digest, size: u64, content: Body) -> Response<Body> {
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
        (header::CACHE_CONTROL, FOR_EVER.to_owned()),
    ];
    let mut response = respond(StatusCode::OK, &headers, Bytes::new());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    *response.body_mut() = content;
    response
}
