//! Gets and lists: from the cache, at the revision that the client asks for.
//!
//! | resourceVersion | resourceVersionMatch | answered with |
//! |---|---|---|
//! | unset | | the latest state: the cache, once it has caught up with the store |
//! | `0` | | whatever the cache has |
//! | N | unset or NotOlderThan | the cache, once it is at N; 504 when it does not get there |
//! | N | Exact | the state at N, from the store's history; 410 once that is compacted |
//!
//! With `limit` and no cache tricks, an unset match and N mean Exact, as upstream has it. A continue token names the revision
//! of its first page, and all following ones show that revision; when it is compacted, the 410 carries a token that goes on
//! at the latest one.

use std::{sync::Arc, time::Duration};

use api::{print::Include, status::Status};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Response;
use serde_json::{Value, json};
use serve::{body, body::Body};
use store::Revision;

use crate::{
    cache::Listed,
    call::{COMPRESS, Call, Compressed, mark_compressed},
    convert,
    encode::{self, List},
    negotiate::{Offer, View},
    object::Object,
    options::{self, ListOptions, Match},
    registry::{Resource, Served},
    selection::Selection,
    server::Server,
    wire::Wire,
};

/// How long a read waits for a revision that is not there yet.
const WAIT: Duration = Duration::from_secs(3);

/// Entries read from the store's history at a time.
const PAGE: usize = 1000;

/// What may be asked of a resource's objects.
pub fn offer(served: &Served) -> Offer {
    Offer { protobuf: served.schema.is_some(), views: true }
}

/// The encoding that a call asks for.
pub fn wire(call: &Call, served: &Served, version: usize) -> Result<(Wire, bool), Status> {
    let accepted = call.accepted(offer(served))?;
    let rows = if accepted.view == View::Table { options::row_object(&call.query)? } else { Include::None };
    Ok((Wire { format: accepted.format, view: accepted.view, version, rows, columns: true }, accepted.pretty))
}

/// One object as an answer.
pub async fn shown(
    server: &Server,
    call: &Call,
    resource: &Resource,
    version: usize,
    object: &Arc<Object>,
    code: u16,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    let (wire, pretty) = wire(call, served, version)?;
    let converted = convert::shown(server, resource, served, vec![object.clone()]).await?;
    let mut bytes = encode::object(resource, wire, converted.first().unwrap_or(object), server.now())?;
    if pretty && let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
        bytes = encode::json(&value, true);
    }
    Ok(call.answer(code, wire.format.content_type(), bytes))
}

/// GET of one object.
pub async fn get(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let info = &call.info;
    let wanted = call.query.get("resourceVersion").unwrap_or_default();
    match options::revision(wanted)? {
        None => server.fresh().await?,
        Some(0) => {}
        Some(revision) => at_least(server, revision).await?,
    }
    let object = find(resource, version, &info.namespace, &info.name)?;
    shown(server, call, resource, version, &object, 200).await
}

/// An object that is in the cache, or upstream's 404.
pub fn find(resource: &Resource, version: usize, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
    let kind = &resource.versions[version].kind;
    // The path of a Namespace names it as its own namespace too.
    let namespace = if kind.namespaced { namespace } else { "" };
    resource.cache.get(&resource.key(namespace, name)).ok_or_else(|| Status::not_found(kind.resource(), name))
}

async fn at_least(server: &Server, revision: u64) -> Result<(), Status> {
    if server.feed.await_revision(revision, WAIT).await {
        return Ok(());
    }
    Err(Status::too_large_resource_version(revision, server.feed.applied().get(), 1))
}

/// LIST of a collection.
pub async fn list(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let served = &resource.versions[version];
    let (wire, pretty) = wire(call, served, version)?;
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(resource, version, &call.info, &options)?;
    let (listed, continuation) = collect(server, resource, served, &selection, &options).await?;
    let list = encode::list(resource, wire, listed, continuation, server.now())?;
    let kind = wire.format.content_type();
    Ok(match list {
        List::Whole(bytes) => call.answer(200, kind, indented(bytes, pretty)),
        List::Pieces(pieces) if pretty => {
            let mut whole = Vec::with_capacity(pieces.len());
            pieces.for_each(|piece| whole.extend_from_slice(&piece));
            call.answer(200, kind, indented(whole.into(), pretty))
        }
        List::Pieces(pieces) if pieces.len() > COMPRESS && call.compresses() => {
            let pieces = Compressed::new(pieces);
            let mut response = call.stream(200, kind, body::stream(futures::stream::iter(pieces.map(Ok))));
            mark_compressed(&mut response);
            response
        }
        List::Pieces(pieces) => {
            let len = pieces.len();
            let mut response = call.stream(200, kind, body::stream(futures::stream::iter(pieces.map(Ok))));
            response.headers_mut().insert(http::header::CONTENT_LENGTH, len.into());
            response
        }
    })
}

fn indented(bytes: bytes::Bytes, pretty: bool) -> bytes::Bytes {
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) if pretty => encode::json(&value, true),
        _ => bytes,
    }
}

/// The objects that a list shows, in a form that can be shown in the version of `served`, and the token that leads to the
/// rest.
///
/// Where a webhook converts, fields are looked at afterwards, so that a list by fields comes in one piece.
pub async fn collect(
    server: &Server,
    resource: &Arc<Resource>,
    served: &Served,
    selection: &Selection,
    options: &ListOptions,
) -> Result<(Listed, Option<String>), Status> {
    if !convert::is_foreign(resource) {
        return stored(server, resource, served, selection, options).await;
    }
    let loose = selection.without_fields();
    let whole = ListOptions { limit: if selection.has_fields() { 0 } else { options.limit }, ..options.clone() };
    let (mut listed, next) = stored(server, resource, served, &loose, &whole).await?;
    listed.objects = convert::shown(server, resource, served, listed.objects).await?;
    listed.objects.retain(|object| selection.matches(object));
    Ok((listed, next))
}

/// The same as they are stored.
async fn stored(
    server: &Server,
    resource: &Arc<Resource>,
    served: &Served,
    selection: &Selection,
    options: &ListOptions,
) -> Result<(Listed, Option<String>), Status> {
    let limit = options.limit;
    if !options.continuation.is_empty() {
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Token::parse(&options.continuation, &resource.prefix)?;
        let listed = match token.revision {
            Some(revision) => history(server, resource, served, selection, &token, revision, limit).await?,
            None => {
                server.fresh().await?;
                resource.cache.list(selection, Some(&token.after), limit)
            }
        };
        let next = next_token(resource, &listed, token.revision.unwrap_or(listed.revision));
        return Ok((listed, next));
    }
    let wanted = options::revision(&options.resource_version)?;
    let exact = match (wanted, options.resource_version_match) {
        (Some(revision), Some(Match::Exact)) => Some(revision),
        (Some(revision), None) if limit > 0 && revision > 0 => Some(revision),
        _ => None,
    };
    if let Some(revision) = exact {
        at_least(server, revision).await?;
        let listed = if revision == server.feed.applied().get() {
            let listed = resource.cache.list(selection, None, limit);
            if listed.revision == revision { Some(listed) } else { None }
        } else {
            None
        };
        let listed = match listed {
            Some(listed) => listed,
            None => {
                let token = Token { revision: Some(revision), after: String::new() };
                history(server, resource, served, selection, &token, revision, limit).await?
            }
        };
        let next = next_token(resource, &listed, revision);
        return Ok((listed, next));
    }
    match wanted {
        None => server.fresh().await?,
        Some(0) => {}
        Some(revision) => at_least(server, revision).await?,
    }
    let listed = resource.cache.list(selection, None, limit);
    let next = next_token(resource, &listed, listed.revision);
    Ok((listed, next))
}

fn next_token(resource: &Resource, listed: &Listed, revision: u64) -> Option<String> {
    let last = listed.objects.last().filter(|_| listed.more)?;
    Some(Token { revision: Some(revision), after: last.key().to_string() }.encode(&resource.prefix))
}

/// A page of the state at a past revision, from the store.
async fn history(
    server: &Server,
    resource: &Arc<Resource>,
    served: &Served,
    selection: &Selection,
    token: &Token,
    revision: u64,
    limit: usize,
) -> Result<Listed, Status> {
    let mut listed = Listed { revision, ..Listed::default() };
    let scope = selection.prefix();
    let mut from = if token.after.is_empty() { scope.to_owned() } else { format!("{}\0", token.after) };
    loop {
        let ask = if limit == 0 { PAGE } else { PAGE.min(limit - listed.objects.len() + 1) };
        let page = server
            .feed
            .store()
            .range(scope, Some(&from), Some(Revision::new(revision)), ask)
            .await
            .map_err(|error| gone(error, served, resource, token))?;
        for (seen, entry) in (1u64..).zip(&page.entries) {
            let bytes = server.opened(&entry.key, &entry.value)?;
            let object = Object::new(entry.key.clone(), bytes, entry.mod_revision.get());
            if !(selection.covers(object.key()) && selection.matches(&object)) {
                continue;
            }
            if limit > 0 && listed.objects.len() == limit {
                listed.more = true;
                listed.remaining = selection.is_plain().then(|| page.count + 1 - seen);
                return Ok(listed);
            }
            listed.objects.push(object);
        }
        match page.entries.last() {
            Some(last) if page.more => from = format!("{}\0", last.key),
            _ => return Ok(listed),
        }
    }
}

fn gone(error: store::Error, served: &Served, resource: &Resource, token: &Token) -> Status {
    match error {
        store::Error::Compacted { .. } if !token.after.is_empty() => {
            let next = Token { revision: None, after: token.after.clone() }.encode(&resource.prefix);
            let message = "The provided continue parameter is too old to display a consistent list result; list anew, or use \
                           the continue token of this answer, which goes on at the latest state";
            Status::expired(message).with_continue(&next)
        }
        store::Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        error => crate::server::store_failed(served.kind.resource(), &error),
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// The revision of the first page; none to go on at the latest.
    revision: Option<u64>,
    /// The last key that was shown.
    after: String,
}

impl Token {
    fn encode(&self, prefix: &str) -> String {
        let start = self.after.strip_prefix(prefix).unwrap_or(&self.after);
        // As upstream writes it: the key behind the last one shown, and -1 for "whatever is latest".
        let revision = self.revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": format!("{start}\0") });
        BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(text: &str, prefix: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| invalid("illegal base64 data"))?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid("not a token"))?;
        if token["v"] != "meta.k8s.io/v1" {
            return Err(invalid(&format!("server does not recognize this encoded version {}", token["v"])));
        }
        let start = token["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(invalid("encoded start key empty"));
        }
        if start.split('/').any(|part| matches!(part.trim_end_matches('\0'), "." | "..")) || start.starts_with('/') {
            return Err(invalid(start));
        }
        let revision = match token["rv"].as_i64() {
            Some(-1) => None,
            Some(revision) if revision > 0 => u64::try_from(revision).ok(),
            _ => return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        };
        Ok(Self { revision, after: format!("{prefix}{}", start.trim_end_matches('\0')) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let prefix = "/registry/core/pods/";
        for revision in [Some(17), None] {
            let token = Token { revision, after: format!("{prefix}web/a") };
            assert_eq!(Token::parse(&token.encode(prefix), prefix).unwrap(), token);
        }
        let odd = |value: Value| Token::parse(&BASE64_URL_SAFE_NO_PAD.encode(value.to_string()), prefix);
        for bad in [
            odd(json!({"v": "meta.k8s.io/v2", "rv": 1, "start": "a"})),
            odd(json!({"v": "meta.k8s.io/v1", "rv": 1, "start": ""})),
            odd(json!({"v": "meta.k8s.io/v1", "rv": 0, "start": "a"})),
            odd(json!({"v": "meta.k8s.io/v1", "rv": 1, "start": "../secrets/a"})),
            Token::parse("%%%", prefix),
            Token::parse("YWJj", prefix),
        ] {
            assert_eq!(bad.unwrap_err().code(), 400);
        }
    }
}
