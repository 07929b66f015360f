//! OpenAPI documents: `/openapi/v2` of everything, `/openapi/v3` one a group and version.
//!
//! Documents are written when somebody asks, and not kept; what is kept by clients is known to be current by its hash, in the
//! ETag and in the addresses that the index gives.
//!
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>

use std::collections::BTreeMap;

use api::{
    kinds::{self, Kind},
    openapi::{self, Resource},
    status::Status,
};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serve::{body, body::Body};

use crate::{call::Call, registry::Registry, server::Server};

/// A served kind with what a custom resource adds to it.
struct Row<'a> {
    kind: Kind,
    schema: Option<&'a [u8]>,
    selectable: Vec<&'a str>,
}

/// Answers OpenAPI paths; `None` for any other.
pub fn answer(server: &Server, call: &Call, path: &str) -> Result<Option<Response<Body>>, Status> {
    let registry = server.feed.registry();
    let json = HeaderValue::from_static("application/json");
    match path {
        "/openapi/v2" => {
            let rows = rows(&registry);
            let resources = resources(&rows, |_| true);
            let hash = openapi::hash(&resources);
            if takes_binary(call) {
                let kind = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
                let tag = format!("{hash}-PB");
                return Ok(Some(tagged(call, kind, &tag, || openapi::v2_protobuf(&resources).into())));
            }
            check_accept(call)?;
            Ok(Some(tagged(call, json, &hash, || openapi::v2(&resources).into())))
        }
        "/openapi/v3" => {
            let rows = rows(&registry);
            let index: Vec<(String, String)> = groups(&rows)
                .into_iter()
                .map(|(path, (group, version))| {
                    let hash = openapi::hash(&resources(&rows, |kind| kind.group == group && kind.version == version));
                    (path, hash)
                })
                .collect();
            let bytes: Bytes = openapi::v3_index(index.iter().map(|(path, hash)| (path.as_str(), hash.clone()))).into();
            let tag = crate::discovery::etag(&bytes);
            Ok(Some(tagged(call, json, tag.trim_matches('"'), || bytes)))
        }
        _ => {
            let Some(name) = path.strip_prefix("/openapi/v3/") else { return Ok(None) };
            let rows = rows(&registry);
            let groups = groups(&rows);
            let Some((group, version)) = groups.get(name) else { return Ok(None) };
            let resources = resources(&rows, |kind| kind.group == *group && kind.version == *version);
            let hash = openapi::hash(&resources);
            if let Some(wanted) = call.query.get("hash").filter(|wanted| *wanted != hash) {
                tracing::debug!(wanted, "an old OpenAPI document is asked for");
                let mut response = call.stream(301, json, body::empty());
                if let Ok(value) = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={hash}")) {
                    response.headers_mut().insert(header::LOCATION, value);
                }
                return Ok(Some(response));
            }
            let mut response = tagged(call, json, &hash, || openapi::v3(&resources).into());
            if call.query.get("hash").is_some() {
                let value = HeaderValue::from_static("public, immutable");
                response.headers_mut().insert(header::CACHE_CONTROL, value);
            }
            Ok(Some(response))
        }
    }
}

/// Clients written in Go ask for version 2 in its binary form alone.
fn takes_binary(call: &Call) -> bool {
    let first = call.header(header::ACCEPT).split(',').next().unwrap_or_default();
    first.contains("com.github.proto-openapi.spec.v2") && first.contains("+protobuf")
}

/// Otherwise the documents are JSON; who accepts something else only is told so.
fn check_accept(call: &Call) -> Result<(), Status> {
    let accept = call.header(header::ACCEPT);
    let takes = accept.is_empty() || ["json", "*/*", "application/*"].iter().any(|name| accept.contains(name));
    if takes { Ok(()) } else { Err(Status::not_acceptable(&["application/json"])) }
}

fn tagged(call: &Call, kind: HeaderValue, hash: &str, make: impl FnOnce() -> Bytes) -> Response<Body> {
    let tag = format!("\"{hash}\"");
    let known =
        call.header(header::IF_NONE_MATCH).split(',').any(|own| matches!(own.trim(), own if own == tag || own == "*"));
    let mut response = if known { call.stream(304, kind, body::empty()) } else { call.answer(200, kind, make()) };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn rows(registry: &Registry) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> =
        kinds::all().iter().map(|kind| Row { kind: *kind, schema: None, selectable: Vec::new() }).collect();
    for custom in &registry.customs {
        let Some(definition) = &custom.definition else { continue };
        for served in &custom.versions {
            let version = definition.version(served.kind.version);
            rows.push(Row {
                kind: served.kind,
                schema: version.and_then(|version| version.schema.as_deref()),
                selectable: definition.selectable(served.kind.version).iter().map(String::as_str).collect(),
            });
        }
    }
    rows
}

fn resources<'a>(rows: &'a [Row<'_>], wanted: impl Fn(&Kind) -> bool) -> Vec<Resource<'a>> {
    rows.iter()
        .filter(|row| wanted(&row.kind))
        .map(|row| Resource { kind: &row.kind, schema: row.schema, selectable: &row.selectable })
        .collect()
}

/// Paths of documents with their group and version.
fn groups(rows: &[Row<'_>]) -> BTreeMap<String, (&'static str, &'static str)> {
    rows.iter()
        .map(|row| {
            let (group, version) = (row.kind.group, row.kind.version);
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            (path, (group, version))
        })
        .collect()
}
