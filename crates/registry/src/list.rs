//! Lists: tags, repositories, and what was said about a manifest.

use std::ops::Bound;

use http::{HeaderName, StatusCode, header};
use oci::{Digest, media, query::encoded};
use serde_json::json;

use crate::{
    answer::{Answer, Refusal, json},
    manifest::Parsed,
    pull::unknown_repository,
    registry::Asked,
};

/// Says by what referrers were chosen.
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Entries of one answer at most.
const PAGE: usize = 10_000;
/// Bytes of descriptors in one answer, below the four megabytes that clients read.
const REFERRERS: usize = 3 << 20;

/// What part of a list is wanted.
fn page<'a>(asked: &'a Asked<'_>) -> Result<(usize, Option<&'a str>), Refusal> {
    let wanted = match asked.parameter("n") {
        None => PAGE,
        Some(text) => {
            let wrong = |_| Refusal::invalid("PAGINATION_NUMBER_INVALID", format!("n={text:?} is no number"));
            text.parse::<u64>().map_err(wrong)?.min(PAGE as u64) as usize
        }
    };
    Ok((wanted, asked.parameter("last")))
}

/// Up to `wanted` names after `last`, and the last of them if there are more.
fn names<'a>(
    all: impl Iterator<Item = &'a String>,
    last: Option<&str>,
    wanted: usize,
) -> (Vec<&'a String>, Option<&'a String>) {
    let mut rest = all.skip_while(|name| last.is_some_and(|last| name.as_str() <= last)).peekable();
    let mut page = Vec::new();
    while page.len() < wanted
        && let Some(name) = rest.next()
    {
        page.push(name);
    }
    let more = rest.peek().and(page.last().copied());
    (page, more)
}

fn next(path: &str, wanted: usize, more: Option<&String>) -> Vec<(HeaderName, String)> {
    let link = |last: &String| (header::LINK, format!("<{path}?n={wanted}&last={}>; rel=\"next\"", encoded(last)));
    more.map(link).into_iter().collect()
}

/// `GET /v2/NAME/tags/list`.
pub(crate) fn tags(asked: &Asked<'_>, name: &str) -> Answer {
    let (wanted, last) = page(asked)?;
    let state = asked.inner().index.state();
    let repository = state.repositories.get(name).ok_or_else(|| unknown_repository(name))?;
    let (tags, more) = names(repository.tags.keys(), last, wanted);
    let headers = next(&format!("/v2/{name}/tags/list"), wanted, more);
    json(StatusCode::OK, &headers, &json!({"name": name, "tags": tags}))
}

/// `GET /v2/_catalog`.
pub(crate) fn catalog(asked: &Asked<'_>) -> Answer {
    let (wanted, last) = page(asked)?;
    let state = asked.inner().index.state();
    let (repositories, more) = names(state.repositories.keys(), last, wanted);
    json(StatusCode::OK, &next("/v2/_catalog", wanted, more), &json!({"repositories": repositories}))
}

/// `GET /v2/NAME/referrers/DIGEST`: manifests that are about that one.
pub(crate) async fn referrers(asked: &Asked<'_>, name: &str, subject: &Digest) -> Answer {
    let wanted = asked.parameter("artifactType");
    let after = match asked.parameter("last") {
        None => Bound::Unbounded,
        Some(last) => Bound::Excluded(crate::route::digest(last)?),
    };
    let found: Vec<(Digest, String, u64, Option<String>)> = {
        let state = asked.inner().index.state();
        let repository = state.repositories.get(name);
        let about = repository.and_then(|repository| Some((repository, repository.referrers.get(subject)?)));
        about.map_or_else(Vec::new, |(repository, about)| {
            let manifests = about.range((after, Bound::Unbounded)).filter_map(|digest| {
                let manifest = repository.manifests.get(digest)?;
                let kind = manifest.artifact_type.as_deref();
                (wanted.is_none() || wanted == kind).then(|| {
                    (digest.clone(), manifest.media_type.clone(), manifest.size, manifest.artifact_type.clone())
                })
            });
            manifests.collect()
        })
    };
    let (mut descriptors, mut bytes, mut more) = (Vec::new(), 0, None);
    for (digest, media_type, size, kind) in found {
        let text = asked.registry.read(&digest).await;
        let text = text.map_err(|error| Refusal::internal("read a referrer", &error))?;
        let parsed = Parsed::read(&text, None)
            .map_err(|reason| Refusal::internal("read a referrer", &format!("{digest}: {reason}")))?;
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": size});
        if let Some(kind) = kind {
            descriptor["artifactType"] = kind.into();
        }
        if !parsed.annotations.is_empty() {
            descriptor["annotations"] = json!(parsed.annotations);
        }
        let length = descriptor.to_string().len();
        if !descriptors.is_empty() && bytes + length > REFERRERS {
            more = descriptors.last().and_then(|last: &serde_json::Value| last["digest"].as_str()).map(str::to_owned);
            break;
        }
        bytes += length;
        descriptors.push(descriptor);
    }
    let mut headers = vec![(header::CONTENT_TYPE, media::OCI_INDEX.to_owned())];
    let mut filter = String::new();
    if let Some(kind) = wanted {
        headers.push((FILTERS, "artifactType".to_owned()));
        filter = format!("artifactType={}&", encoded(kind));
    }
    if let Some(last) = more {
        let link = format!("</v2/{name}/referrers/{subject}?{filter}last={}>; rel=\"next\"", encoded(&last));
        headers.push((header::LINK, link));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": descriptors});
    json(StatusCode::OK, &headers, &index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let all: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let cases = [
            (None, 10, "abc", None),
            (None, 2, "ab", Some("b")),
            (Some("b"), 2, "c", None),
            (Some("aa"), 1, "b", Some("b")),
            (Some("c"), 1, "", None),
            (None, 0, "", None),
        ];
        for (last, wanted, expected, more) in cases {
            let (page, next) = names(all.iter(), last, wanted);
            let page: String = page.into_iter().map(String::as_str).collect();
            assert_eq!((page.as_str(), next.map(String::as_str)), (expected, more), "{last:?} {wanted}");
        }
    }
}
