//! What is served, for clients to find out: the aggregated document, and the older ones a group and a version each.
//!
//! Documents are made when they are first asked for after a change of the registry, and kept.
//!
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use api::{
    kinds::{self, Kind, Sub},
    status::Status,
};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value, json};
use serve::body::{self, Body};

use crate::{aggregate::Api, call::Call, custom::compare_versions, encode, registry::Registry, server::Server};

/// Documents already made, for one generation of the registry.
#[derive(Debug, Default)]
pub struct Documents {
    state: Mutex<State>,
}

/// What the documents were made of, and the documents with their ETags by name.
type State = (Generation, HashMap<String, (Bytes, String)>);

/// The generations of the registry, and of what other servers serve.
type Generation = (u64, u64);

impl Documents {
    /// A document and its ETag.
    fn get(&self, generation: Generation, name: &str, make: impl FnOnce() -> Value) -> (Bytes, String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != generation {
            *state = (generation, HashMap::new());
        }
        if let Some(found) = state.1.get(name) {
            return found.clone();
        }
        let bytes = encode::json(&make(), false);
        let made = (bytes.clone(), etag(&bytes));
        state.1.insert(name.to_owned(), made.clone());
        made
    }
}

/// A strong ETag: the hash of the bytes, quoted.
pub fn etag(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut text = String::with_capacity(66);
    text.push('"');
    for byte in digest.as_ref() {
        _ = write!(text, "{byte:02X}");
    }
    text.push('"');
    text
}

/// Every kind that is served, built-in ones in upstream's order first.
fn served(registry: &Registry) -> Vec<Kind> {
    let mut all: Vec<Kind> = kinds::all().to_vec();
    for custom in &registry.customs {
        all.extend(custom.versions.iter().map(|served| served.kind));
    }
    all
}

/// Groups with their versions, the preferred one first.
pub fn groups(registry: &Registry) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups = kinds::groups();
    let built_in = groups.len();
    let mut customs: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for custom in &registry.customs {
        for served in &custom.versions {
            let kind = &served.kind;
            let groups = if groups[..built_in].iter().any(|(group, _)| *group == kind.group) {
                &mut groups
            } else {
                &mut customs
            };
            match groups.iter_mut().find(|(group, _)| *group == kind.group) {
                Some((_, versions)) if versions.contains(&kind.version) => {}
                Some((_, versions)) => versions.push(kind.version),
                None => groups.push((kind.group, vec![kind.version])),
            }
        }
    }
    for (_, versions) in &mut customs {
        versions.sort_by(|a, b| compare_versions(b, a));
    }
    customs.sort();
    groups.extend(customs);
    groups
}

/// Answers discovery paths; `None` for any other.
pub fn answer(server: &Server, call: &Call, path: &str) -> Result<Option<Response<Body>>, Status> {
    let registry = server.feed.registry();
    let apis = server.aggregator.all(server);
    let others = Others { server, apis: &apis };
    let generation = (registry.generation, server.aggregator.generation());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let documents = &server.discovery;
    if matches!(parts.as_slice(), ["api"] | ["apis"])
        && let Some(version) = aggregated(call)
    {
        let legacy = parts[0] == "api";
        let (bytes, tag) = documents.get(generation, &format!("aggregated {} {version}", parts[0]), || {
            aggregate(&registry, &others, legacy, version)
        });
        let kind = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let kind = HeaderValue::from_str(&kind).map_err(Status::internal)?;
        return Ok(Some(tagged(call, kind, bytes, &tag)));
    }
    let name = parts.join("/");
    let make = || -> Option<Value> {
        match parts.as_slice() {
            ["api"] => Some(json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{
                    "clientCIDR": "0.0.0.0/0",
                    "serverAddress": format!("{}:{}", server.config.advertise.0, server.config.advertise.1),
                }],
            })),
            ["apis"] => {
                let groups = groups(&registry);
                let groups: Vec<Value> = groups
                    .iter()
                    .filter(|(group, _)| !group.is_empty())
                    .map(|(group, versions)| one_group(group, &others.with(group, versions)))
                    .chain(others.groups(&registry).into_iter().map(|group| one_group(group, &others.with(group, &[]))))
                    .collect();
                Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
            }
            ["apis", group] => {
                let groups = groups(&registry);
                let own = groups.iter().find(|(own, _)| own == group && !own.is_empty());
                let versions = others.with(group, own.map_or(&[][..], |(_, versions)| versions));
                if versions.is_empty() {
                    return None;
                }
                let mut value = one_group(group, &versions);
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
                Some(value)
            }
            ["api", version] => resources(&registry, "", version),
            ["apis", group, version] if !group.is_empty() => resources(&registry, group, version),
            _ => None,
        }
    };
    if !matches!(parts.first(), Some(&"api" | &"apis")) {
        return Ok(None);
    }
    let Some(value) = make() else { return Ok(None) };
    let (bytes, _) = documents.get(generation, &name, || value);
    let accepted = call.accepted(crate::negotiate::Offer::PLAIN)?;
    if accepted.pretty || accepted.format == crate::negotiate::Format::Yaml {
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        return call.value(200, None, &value).map(Some);
    }
    Ok(Some(call.answer(200, HeaderValue::from_static("application/json"), bytes)))
}

fn tagged(call: &Call, kind: HeaderValue, bytes: Bytes, tag: &str) -> Response<Body> {
    let mut response = if call.header(header::IF_NONE_MATCH).split(',').any(|own| own.trim() == tag) {
        call.stream(304, kind, body::empty())
    } else {
        call.answer(200, kind, bytes)
    };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The version of the aggregated document that the client prefers to anything else.
fn aggregated(call: &Call) -> Option<&'static str> {
    for value in call.headers().get_all(header::ACCEPT) {
        for clause in value.to_str().ok()?.split(',') {
            let plain = clause.replace(' ', "");
            if !plain.starts_with("application/json") {
                continue;
            }
            if plain.contains("as=APIGroupDiscoveryList") && plain.contains("g=apidiscovery.k8s.io") {
                let version = plain.split(';').find_map(|part| part.strip_prefix("v="));
                match version {
                    Some("v2") => return Some("v2"),
                    Some("v2beta1") => return Some("v2beta1"),
                    _ => continue,
                }
            }
            return None;
        }
    }
    None
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn one_group(group: &str, versions: &[&str]) -> Value {
    let of = |version: &&str| json!({ "groupVersion": api_version(group, version), "version": version });
    json!({
        "name": group,
        "versions": versions.iter().map(of).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(of),
    })
}

fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<Kind> =
        served(registry).into_iter().filter(|kind| kind.group == group && kind.version == version).collect();
    if rows.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for kind in &rows {
        let mut row = Map::new();
        row.insert("name".to_owned(), kind.plural.into());
        row.insert("singularName".to_owned(), kind.singular.into());
        row.insert("namespaced".to_owned(), kind.namespaced.into());
        row.insert("kind".to_owned(), kind.kind.into());
        row.insert("verbs".to_owned(), json!(kind.verbs));
        for (key, list) in [("shortNames", kind.short_names), ("categories", kind.categories)] {
            if !list.is_empty() {
                row.insert(key.to_owned(), json!(list));
            }
        }
        if kind.is_stored() {
            row.insert("storageVersionHash".to_owned(), storage_hash(kind).into());
        }
        resources.push(Value::Object(row));
        for sub in kind.subresources {
            let mut row = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (kind.group, kind.version) {
                row["group"] = sub.group.into();
                row["version"] = sub.version.into();
            }
            resources.push(row);
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": resources,
    }))
}

/// Upstream's hash where the table has it; else one made alike, from the stored group, version and kind.
fn storage_hash(kind: &Kind) -> String {
    if !kind.storage_hash.is_empty() {
        return kind.storage_hash.to_owned();
    }
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = format!("{}/{}/{}", kind.storage_group, kind.storage_version, kind.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    BASE64_STANDARD.encode(&digest.as_ref()[..8])
}

/// What other servers serve, beside what this one does.
struct Others<'a> {
    server: &'a Server,
    apis: &'a [Api],
}

impl<'a> Others<'a> {
    /// Groups of which this server serves nothing, the most important first.
    fn groups(&self, registry: &Registry) -> Vec<&'a str> {
        let own = groups(registry);
        let mut found: Vec<&str> = Vec::new();
        for api in self.apis {
            if !own.iter().any(|(group, _)| *group == api.group) && !found.contains(&api.group.as_str()) {
                found.push(&api.group);
            }
        }
        found
    }

    /// The versions of a group, this server's own first.
    fn with<'b>(&self, group: &str, own: &[&'b str]) -> Vec<&'b str>
    where
        'a: 'b,
    {
        let mut versions = own.to_vec();
        for api in self.apis.iter().filter(|api| api.group == group) {
            if !versions.contains(&api.version.as_str()) {
                versions.push(&api.version);
            }
        }
        versions
    }

    /// The versions of a group that only others serve, as the aggregated document has them.
    fn documents(&self, group: &str, own: &[&str]) -> Vec<Value> {
        let others = self.apis.iter().filter(|api| api.group == group && !own.contains(&api.version.as_str()));
        let of = |api: &Api| {
            let freshness = if api.available { "Current" } else { "Stale" };
            json!({
                "version": api.version, "resources": self.server.aggregator.resources(&api.name), "freshness": freshness,
            })
        };
        others.map(of).collect()
    }
}

fn aggregate(registry: &Registry, others: &Others<'_>, legacy: bool, discovery: &str) -> Value {
    let rows = served(registry);
    let mut items = Vec::new();
    for (group, versions) in groups(registry).iter().filter(|(group, _)| group.is_empty() == legacy) {
        let foreign = others.documents(group, versions);
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = rows
                    .iter()
                    .filter(|kind| kind.group == *group && kind.version == *version)
                    .map(one_resource)
                    .collect();
                json!({ "version": version, "resources": resources, "freshness": "Current" })
            })
            .chain(foreign)
            .collect();
        items.push(json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions }));
    }
    if !legacy {
        for group in others.groups(registry) {
            let versions = others.documents(group, &[]);
            items.push(json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions }));
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{discovery}"), "metadata": {}, "items": items,
    })
}

fn one_resource(kind: &Kind) -> Value {
    let mut row = Map::new();
    row.insert("resource".to_owned(), kind.plural.into());
    row.insert("responseKind".to_owned(), response_kind(kind.group, kind.version, kind.kind));
    row.insert("scope".to_owned(), if kind.namespaced { "Namespaced" } else { "Cluster" }.into());
    row.insert("singularResource".to_owned(), kind.singular.into());
    row.insert("verbs".to_owned(), json!(kind.verbs));
    for (key, list) in [("shortNames", kind.short_names), ("categories", kind.categories)] {
        if !list.is_empty() {
            row.insert(key.to_owned(), json!(list));
        }
    }
    if !kind.subresources.is_empty() {
        let subs = kind.subresources.iter().map(|sub: &Sub| {
            json!({
                "subresource": sub.name,
                "responseKind": response_kind(sub.group, sub.version, sub.kind),
                "verbs": sub.verbs,
            })
        });
        row.insert("subresources".to_owned(), subs.collect());
    }
    row.into()
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}
