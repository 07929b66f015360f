//! Groups and versions that other API servers answer for: APIServices that name a Service.
//!
//! ```text
//! /apis/GROUP/VERSION/... ─ authenticated, authorized here ─> X-Remote-User, -Group, -Extra ─> endpoint of the Service
//!                                                             over TLS, with the front proxy's certificate
//! ```
//!
//! What this server serves itself is never led elsewhere. Whether the others answer is looked at after each change and now
//! and then, as long as there are any; what they serve is learnt at the same time and shown in discovery.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{
    meta::{self, View},
    status::Status,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use rustls::ClientConfig;
use serde_json::{Map, Value, json};
use serve::{body, body::Body, tunnel};

use crate::{
    auth::User,
    cache::Start,
    call::Call,
    config::FrontProxy,
    connect,
    options::WriteOptions,
    remote::{self, Remote},
    selection::Selection,
    server::Server,
    write::{self, Manner, Target},
};

const GROUP: (&str, &str) = ("apiregistration.k8s.io", "apiservices");
/// How often a server that answers is looked at.
const STEADY: Duration = Duration::from_secs(30);
/// How often one that does not.
const TROUBLED: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest discovery document that is read, in bytes.
const DOCUMENT: usize = 4 * 1024 * 1024;

/// The APIServices as they are now.
#[derive(Debug, Default)]
pub struct Aggregator {
    known: Mutex<(u64, Arc<Vec<Api>>)>,
    /// What each serves, by the name of its APIService.
    served: Mutex<HashMap<String, Vec<Value>>>,
    changes: AtomicU64,
}

/// One group and version of another server.
#[derive(Debug)]
pub struct Api {
    /// Name of the APIService, `v1.example.com`.
    pub name: String,
    /// `spec.group`
    pub group: String,
    /// `spec.version`
    pub version: String,
    /// `groupPriorityMinimum` and `versionPriority`: the highest comes first.
    pub priority: (i64, i64),
    /// The condition `Available`.
    pub available: bool,
    service: (String, String, u16),
    remote: Remote,
}

impl Aggregator {
    /// The APIServices that name a Service, the most important first.
    pub fn all(&self, server: &Server) -> Arc<Vec<Api>> {
        let Ok(resource) = server.resource(GROUP.0, GROUP.1) else { return Arc::default() };
        let generation = resource.cache.generation();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != generation {
            let all = resource.cache.all(&Selection::everything(&resource.prefix));
            let mut apis: Vec<Api> = all.iter().filter_map(|object| Api::read(server, &object.value())).collect();
            apis.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
            *known = (generation, Arc::new(apis));
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        known.1.clone()
    }

    /// A number that grows with every change of what is served.
    pub fn generation(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What an API serves, in the form of the aggregated discovery document.
    pub fn resources(&self, name: &str) -> Vec<Value> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    fn learn(&self, name: &str, resources: Vec<Value>) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.get(name) != Some(&resources) {
            served.insert(name.to_owned(), resources);
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Api {
    fn read(server: &Server, object: &Value) -> Option<Self> {
        let view = View::new(object);
        let spec = view.at("spec");
        let service = spec.at("service");
        if !service.exists() {
            return None;
        }
        let (namespace, name) = (service.text("namespace"), service.text("name"));
        let port = service.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let tls = settings(server.config.front_proxy.as_ref(), spec);
        Some(Self {
            name: meta::name(object).to_owned(),
            group: spec.text("group").to_owned(),
            version: spec.text("version").to_owned(),
            priority: (spec.int("groupPriorityMinimum").unwrap_or(0), spec.int("versionPriority").unwrap_or(0)),
            available: condition(object) == Some("True"),
            service: (namespace.to_owned(), name.to_owned(), port),
            remote: Remote::service(namespace, name, port, tls),
        })
    }

    fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

fn condition(object: &Value) -> Option<&str> {
    let found = View::new(object).at("status").list("conditions").find(|item| item.text("type") == "Available")?;
    Some(found.text("status"))
}

/// TLS to another API server: it is shown the front proxy's certificate.
fn settings(proxy: Option<&FrontProxy>, spec: View<'_>) -> Result<Arc<ClientConfig>, String> {
    let proxy = proxy.ok_or("this server has no front proxy certificate")?;
    let identity = Some((proxy.certificate.as_slice(), proxy.key.as_slice()));
    if spec.is("insecureSkipTLSVerify") {
        return connect::trust::anyone_as(&proxy.certificate, &proxy.key).map_err(|error| error.to_string());
    }
    remote::trusting(spec.text("caBundle"), identity)
}

/// The API that a path leads to; none for what this server serves itself.
pub fn of(server: &Server, path: &str) -> Option<(Arc<Vec<Api>>, usize)> {
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let (group, version) = (parts.next()?, parts.next().filter(|version| !version.is_empty())?);
    let all = server.aggregator.all(server);
    let found = all.iter().position(|api| api.group == group && api.version == version)?;
    if server.feed.registry().serves(group, version) {
        return None;
    }
    Some((all, found))
}

/// Hands a request on. Whoever asks is authenticated and authorized already.
pub async fn proxy(server: &Arc<Server>, call: &Call, api: &Api) -> Result<Response<Body>, Status> {
    if !api.available {
        return Err(Status::service_unavailable("service unavailable"));
    }
    let failed = |why: String| Status::service_unavailable(format!("error trying to reach service: {why}"));
    let (target, authority) = api.remote.target(server).map_err(failed)?;
    let query = call.parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut request = connect::outgoing(call, &format!("{}{query}", call.parts.uri.path()))?;
    identify(request.headers_mut(), &call.user);
    let authority = HeaderValue::from_str(&authority).map_err(Status::internal)?;
    request.headers_mut().insert(header::HOST, authority);
    tunnel::forward(&server.task, request, &target).await.map_err(|error| failed(error.to_string()))
}

/// Says who asks, and drops what the caller says of it.
fn identify(headers: &mut HeaderMap, user: &User) {
    let claimed: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", escaped(key)), value);
        }
    }
}

/// A key of `extra` in a header's name: lower case, what a name cannot hold percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.to_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Looks after the APIServices until the server stops.
pub async fn run(server: Arc<Server>) {
    let Ok(resource) = server.resource(GROUP.0, GROUP.1) else { return };
    let everything = Arc::new(Selection::everything(&resource.prefix));
    while !server.task.is_cancelled() {
        let Ok(mut changes) = resource.cache.watch(everything.clone(), Start::Now) else { return };
        changes.replay.clear();
        loop {
            let mut steady = true;
            let mut others = false;
            for object in resource.cache.all(&everything) {
                let value = object.value();
                if View::new(&value).at("spec").has("service") {
                    others = true;
                } else if condition(&value) != Some("True") {
                    let text = "Local APIServices are always available";
                    tell(&server, object.name(), ("True", "Local", text)).await;
                }
            }
            for api in server.aggregator.all(&server).iter() {
                let (status, reason, message) = match check(&server, api).await {
                    Ok(resources) => {
                        server.aggregator.learn(&api.name, resources);
                        ("True", "Passed", "all checks passed".to_owned())
                    }
                    Err((reason, message)) => {
                        steady = false;
                        ("False", reason, message)
                    }
                };
                tell(&server, &api.name, (status, reason, &message)).await;
            }
            let pause = match (others, steady) {
                // Nothing to look at: only a change wakes this task.
                (false, _) => Duration::from_secs(u64::from(u32::MAX)),
                (true, true) => STEADY,
                (true, false) => TROUBLED,
            };
            match server.task.until_cancelled(tokio::time::timeout(pause, changes.live.recv())).await {
                None => return,
                Some(Ok(None)) => break,
                Some(_) => while changes.live.try_recv().is_ok() {},
            }
        }
    }
}

/// Whether an API answers: what it serves, or why not.
async fn check(server: &Arc<Server>, api: &Api) -> Result<Vec<Value>, (&'static str, String)> {
    let (namespace, name, port) = &api.service;
    let services = server.resource("", "services").map_err(|error| ("ServiceNotFound", error.to_string()))?;
    if services.cache.get(&services.key(namespace, name)).is_none() {
        return Err(("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    }
    remote::endpoint(server, namespace, name, *port).map_err(|_| {
        let text = format!("endpoints for service/{name} in {namespace:?} have no addresses with port name \"\"");
        ("MissingEndpoints", text)
    })?;
    let path = api.path();
    let failed = |why: String| {
        let text = format!("failing or missing response from https://{name}.{namespace}.svc:{port}{path}: {why}");
        ("FailedDiscoveryCheck", text)
    };
    let (target, authority) = api.remote.target(server).map_err(failed)?;
    let mut request = Request::new(body::empty());
    *request.uri_mut() = path.parse().map_err(|error| failed(format!("{error}")))?;
    identify(request.headers_mut(), &User::new("system:kube-aggregator", &[crate::auth::MASTERS]));
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let authority = HeaderValue::from_str(&authority).map_err(|error| failed(error.to_string()))?;
    request.headers_mut().insert(header::HOST, authority);
    let asked = async {
        let answer = tunnel::forward(&server.task, request, &target).await.map_err(|error| error.to_string())?;
        let code = answer.status();
        let bytes = crate::call::collect(answer.into_body(), DOCUMENT).await.map_err(|error| error.to_string())?;
        if code.is_success() { Ok(bytes) } else { Err(format!("bad status from the server: {}", code.as_u16())) }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => Err(failed("context deadline exceeded".to_owned())),
        Ok(Err(why)) => Err(failed(why)),
        Ok(Ok(bytes)) => Ok(resources(api, &bytes)),
    }
}

/// The resources of an `APIResourceList`, as the aggregated document has them.
fn resources(api: &Api, bytes: &Bytes) -> Vec<Value> {
    let list = api::json::parse(bytes).map(|parsed| parsed.value).unwrap_or_default();
    let mut found: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut subs: Vec<(String, Value)> = Vec::new();
    for item in View::new(&list).list("resources") {
        let text = |member: &str, or: &str| match item.text(member) {
            "" => or.to_owned(),
            own => own.to_owned(),
        };
        let kind = json!({
            "group": text("group", &api.group), "version": text("version", &api.version), "kind": item.text("kind"),
        });
        let verbs = item.at("verbs").value().clone();
        if let Some((resource, sub)) = item.text("name").split_once('/') {
            subs.push((resource.to_owned(), json!({ "subresource": sub, "responseKind": kind, "verbs": verbs })));
            continue;
        }
        let mut row = Map::new();
        row.insert("resource".to_owned(), item.text("name").into());
        row.insert("responseKind".to_owned(), kind);
        row.insert("scope".to_owned(), if item.is("namespaced") { "Namespaced" } else { "Cluster" }.into());
        row.insert("singularResource".to_owned(), item.text("singularName").into());
        row.insert("verbs".to_owned(), verbs);
        for member in ["shortNames", "categories"] {
            if !item.slice(member).is_empty() {
                row.insert(member.to_owned(), item.at(member).value().clone());
            }
        }
        found.insert(item.text("name").to_owned(), row);
    }
    for (resource, sub) in subs {
        if let Some(list) = found
            .get_mut(&resource)
            .and_then(|row| row.entry("subresources").or_insert_with(|| json!([])).as_array_mut())
        {
            list.push(sub);
        }
    }
    found.into_values().map(Value::Object).collect()
}

/// Notes whether an API answers.
async fn tell(server: &Server, name: &str, (status, reason, message): (&str, &str, &str)) {
    let Ok(resource) = server.resource(GROUP.0, GROUP.1) else { return };
    let target = Target { resource: &resource, version: resource.storage(), sub: "status", namespace: "", name };
    let now = meta::rfc3339(server.now());
    let change = |old: &Value| {
        let mut new = old.clone();
        let list = meta::object_at(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
        let Some(list) = list.as_array_mut() else { return Ok(new) };
        let condition = |since: &str| {
            json!({
                "type": "Available", "status": status, "lastTransitionTime": since, "reason": reason, "message": message,
            })
        };
        match list.iter_mut().find(|item| View::new(item).text("type") == "Available") {
            Some(own) => {
                let view = View::new(own);
                let since = if view.text("status") == status {
                    view.text("lastTransitionTime").to_owned()
                } else {
                    now.clone()
                };
                *own = condition(&since);
            }
            None => list.push(condition(&now)),
        }
        Ok(new)
    };
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    if let Err(error) = write::update(server, &Call::own(), target, &change, &WriteOptions::default(), manner).await
        && error.code() != 404
    {
        tracing::warn!(%error, name, "condition of an APIService");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_this_server_says_who_asks() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-scope", HeaderValue::from_static("all"));
        let mut user = User::new("ann", &["readers"]);
        user.extra.insert("Example.com/Key".to_owned(), vec!["v".to_owned()]);
        identify(&mut headers, &user);
        let all =
            |name: &str| -> Vec<&str> { headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect() };
        assert_eq!(all("x-remote-user"), ["ann"]);
        assert_eq!(all("x-remote-group"), ["readers", "system:authenticated"]);
        assert!(all("x-remote-extra-scope").is_empty());
        assert_eq!(escaped("Example.com/Key"), "example.com%2Fkey");
    }
}
