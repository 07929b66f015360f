//! Jenkins' remote API below `/jenkins`: what its clients need to list, make, start, follow and end pipelines
//! (<https://www.jenkins.io/doc/book/using/remote-access-api/>).
//!
//! ```text
//! request ─ caller: user:token ─ route ─┬─ show     folders, jobs, builds, queue as JSON
//!           and what they may do        ├─ change   config.xml, build, stop, delete: with the caller's own token
//!                                       └─ output   log, tests, artifacts
//! ```
//!
//! A folder is a namespace, a job a Pipeline, a build a PipelineRun with its number. The user's name is not looked at where the password is
//! a token of Kubernetes, as for Git. No cookie is ever taken, so that no page can make a browser speak for somebody; crumbs are handed out
//! since clients ask for them. What an answer tells was read when it was asked for: nothing is kept here.
//!
//! In reading order:
//!
//! - [`route`]: what an address names
//! - [`shape`]: `tree` and `depth`
//! - [`config`]: a pipeline as a document, and back
//! - `document`: answers as XML

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use access::gate::{Gate, Refusal, User};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{
    cache::{Cache, Key},
    own,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::{Api, Client, Resource, ResourceExt};
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serve::{Body, body};

use crate::{
    kind::{Pipeline, PipelineRun, Pipelines, Runs},
    left::parcel::hex,
    record::Records,
};
use client::own::Kind;

mod build;
mod change;
pub mod config;
mod document;
mod form;
mod output;
pub mod route;
pub mod shape;
mod show;

use route::{Place, Route, Which};
use shape::{Shape, Tree};

/// The version of Jenkins that clients are told: the one whose answers these are.
const VERSION: &str = "2.528";
/// Clients of the API server that are kept.
const MOST_CLIENTS: usize = 32;
/// Bytes of a form.
const FORM: usize = 1 << 20;
/// How long to wait until what was just written is seen.
const SEEN: Duration = Duration::from_secs(2);

/// How a caller's token becomes a client.
pub type Connect = Arc<dyn Fn(&str) -> anyhow::Result<Client> + Send + Sync>;

/// Jenkins' remote API. Clones share everything.
#[derive(Clone)]
pub struct Jenkins(Arc<Inner>);

struct Inner {
    gate: Gate,
    pipelines: Cache<Pipeline>,
    runs: Cache<PipelineRun>,
    records: Records,
    connect: Connect,
    clients: Mutex<VecDeque<([u8; 32], Client)>>,
}

impl fmt::Debug for Jenkins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jenkins")
    }
}

/// What is answered instead of what was asked for.
#[derive(Debug)]
struct No(StatusCode, String);

impl No {
    fn missing(what: impl fmt::Display) -> Self {
        Self(StatusCode::NOT_FOUND, format!("there is no {what}"))
    }

    fn invalid(text: impl fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, text.to_string())
    }

    fn broken(error: impl fmt::Display) -> Self {
        tracing::warn!(error = error.to_string(), "answer a client of Jenkins");
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.status(), refusal.to_string())
    }
}

impl From<kube::Error> for No {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                // What fits no schema is the client's fault, in Jenkins' terms a bad request.
                let code = if status.code == 422 { 400 } else { status.code };
                Self(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST), status.message.clone())
            }
            error => Self::broken(format!("ask the API server: {error}")),
        }
    }
}

impl From<std::io::Error> for No {
    fn from(error: std::io::Error) -> Self {
        Self::broken(error)
    }
}

impl From<crate::left::parcel::Error> for No {
    fn from(error: crate::left::parcel::Error) -> Self {
        Self::broken(error)
    }
}

type Answer = Result<Response<Body>, No>;

/// Who asks, with what they may use.
struct Caller {
    user: User,
    token: String,
    client: Client,
    /// What addresses in answers begin with: `http://127.0.0.1:3000/jenkins/`.
    base: String,
}

/// The password of `user:password`, or a bearer's token.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let found = if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let plain = STANDARD.decode(rest.trim()).ok()?;
        std::str::from_utf8(&plain).ok()?.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    Some(found).filter(|token| !token.is_empty())
}

fn with(kind: &'static str, bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn json(value: &Json) -> Response<Body> {
    with("application/json;charset=utf-8", value.to_string())
}

/// An answer of JSON as a document, or what a path of the query leads to in it.
async fn as_xml(answer: Response<Body>, query: &[(String, String)]) -> Answer {
    let bytes = answer.into_body().collect().await.map_err(|error| No::broken(error.to_string()))?.to_bytes();
    let value: Json = serde_json::from_slice(&bytes).map_err(|error| No::broken(error.to_string()))?;
    let (path, wrapper) = (form::value(query, "xpath"), form::value(query, "wrapper"));
    match document::answer(&document::of(&value), path, wrapper) {
        Ok(document::Answer::Xml(text)) => Ok(with("application/xml;charset=utf-8", text)),
        Ok(document::Answer::Text(text)) => Ok(plain(text)),
        Err(why) => Err(No(StatusCode::BAD_REQUEST, why)),
    }
}

fn plain(text: impl Into<String>) -> Response<Body> {
    with("text/plain;charset=utf-8", text.into())
}

/// To another place, as Jenkins answers what it has done.
fn found(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// The number of a run in the queue: the same for as long as there is the run.
fn queue_number(uid: &str) -> u64 {
    let hash = digest(&SHA256, uid.as_bytes());
    // What every client can hold as a number.
    hash.as_ref().iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte)) | 1
}

/// What stands where Jenkins has a page for people.
fn page(what: &str) -> Response<Body> {
    plain(format!("Jenkins' remote API has {what} at api/json below this address; people look at the console.\n"))
}

fn right(
    kind: &str,
    part: Option<&str>,
    verb: &str,
    namespace: Option<&str>,
    name: Option<&str>,
) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(own::GROUP.to_owned()),
        resource: Some(kind.to_owned()),
        subresource: part.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    }
}

impl Jenkins {
    /// Of pipelines and runs as caches hold them; `connect` makes clients of callers' own tokens.
    pub fn new(
        gate: Gate,
        pipelines: Cache<Pipeline>,
        runs: Cache<PipelineRun>,
        records: Records,
        connect: Connect,
    ) -> Self {
        Self(Arc::new(Inner { gate, pipelines, runs, records, connect, clients: Mutex::default() }))
    }

    /// Answers a request whose path, without what stands before, is `path`; `secure` says whether it came over TLS.
    pub async fn answer(&self, path: &str, secure: bool, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut response = match self.0.answered(path, secure, &parts, body).await {
            Ok(response) => response,
            Err(No(status, text)) => {
                let mut response = plain(format!("{text}\n"));
                *response.status_mut() = status;
                if status == StatusCode::UNAUTHORIZED {
                    let challenge = HeaderValue::from_static("Basic realm=\"madang token\"");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
        };
        response.headers_mut().insert("x-jenkins", HeaderValue::from_static(VERSION));
        response
    }
}

impl Inner {
    async fn caller(&self, secure: bool, parts: &Parts) -> Result<Caller, No> {
        let token = token(&parts.headers).ok_or_else(|| {
            let text = "give a user's name and a token as password: `madang token` prints one";
            No(StatusCode::UNAUTHORIZED, text.to_owned())
        })?;
        let user = self.gate.who_has(&token).await?;
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
        let base = format!("{}://{host}/jenkins/", if secure { "https" } else { "http" });
        let client = self.client(&token)?;
        Ok(Caller { user, token, client, base })
    }

    /// A client with somebody's token; a few are kept, each with its connection.
    fn client(&self, token: &str) -> Result<Client, No> {
        let sum = digest(&SHA256, token.as_bytes());
        let sum: [u8; 32] = sum.as_ref().try_into().unwrap_or([0; 32]);
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == sum) {
            return Ok(client.clone());
        }
        let client = (self.connect)(token).map_err(|error| No::broken(format!("{error:#}")))?;
        clients.push_back((sum, client.clone()));
        if clients.len() > MOST_CLIENTS {
            clients.pop_front();
        }
        Ok(client)
    }

    async fn answered(&self, path: &str, secure: bool, parts: &Parts, body: Body) -> Answer {
        // A browser adds a password that it knows to what any page asks for.
        if parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site") {
            return Err(No(StatusCode::FORBIDDEN, "pages are answered nothing here: this is for programs".to_owned()));
        }
        let route = route::read(path).map_err(|error| No(StatusCode::NOT_FOUND, error))?;
        let caller = self.caller(secure, parts).await?;
        let query = form::read(parts.uri.query().unwrap_or_default().as_bytes());
        if parts.headers.contains_key("jenkins-crumb") && parts.headers.get("jenkins-crumb") != Some(&caller.crumb()) {
            return Err(No(StatusCode::FORBIDDEN, "No valid crumb was included in the request".to_owned()));
        }
        match parts.method {
            Method::GET | Method::HEAD if route.rest.ends_with(&["api".to_owned(), "xml".to_owned()]) => {
                let mut route = route;
                route.rest.pop();
                route.rest.push("json".to_owned());
                let answer = self.shown(&caller, &route, &query, parts).await?;
                as_xml(answer, &query).await
            }
            Method::GET | Method::HEAD => self.shown(&caller, &route, &query, parts).await,
            Method::POST => self.changed(&caller, &route, query, parts, body).await,
            _ => Err(No(StatusCode::METHOD_NOT_ALLOWED, "GET and POST are answered here".to_owned())),
        }
    }

    /// What is read.
    async fn shown(&self, caller: &Caller, route: &Route, query: &[(String, String)], parts: &Parts) -> Answer {
        let value = |name: &str| form::value(query, name);
        let tree = value("tree").map(Tree::read).transpose().map_err(No::invalid)?;
        let depth = value("depth").and_then(|depth| depth.parse().ok()).unwrap_or(0);
        let shape = Shape::new(tree.as_ref(), depth);
        let rest: Vec<&str> = route.rest.iter().map(String::as_str).collect();
        match (&route.place, rest.as_slice()) {
            (Place::Root, []) => Ok(page("all jobs")),
            // Changes lead to pages, and clients follow them.
            (Place::Folder(_), []) => Ok(page("this folder")),
            (Place::Job(key), []) => self.pipeline(caller, key).await.map(|_| page("this job")),
            (Place::Root, ["api", "json"]) => Ok(json(&self.root(caller, route.view.as_deref(), shape).await?)),
            (Place::Root, ["me" | "whoAmI", "api", "json"]) => Ok(json(&show::person(caller, shape))),
            (Place::Root, ["crumbIssuer", "api", "json"]) => Ok(json(&show::crumb(caller))),
            (Place::Root, ["pluginManager", "api", "json"]) => Ok(json(&serde_json::json!({ "plugins": [] }))),
            (Place::Root, ["queue", "api", "json"]) => Ok(json(&self.queue(caller, shape).await?)),
            (Place::Root, ["queue", "item", number, "api", "json"]) => {
                Ok(json(&self.queue_item(caller, number, shape).await?))
            }
            (Place::Root, ["computer", "api", "json"]) => Ok(json(&self.computers(caller, shape).await?)),
            (Place::Root, ["computer", _, "api", "json"]) => Ok(json(&self.computer(caller, shape).await?)),
            (Place::Folder(namespace), ["api", "json"]) => {
                let folder = self.folder(caller, namespace, route.view.as_deref(), shape).await?;
                Ok(json(&folder))
            }
            (Place::Job(key), ["api", "json"]) => Ok(json(&self.job(caller, key, shape).await?)),
            (Place::Job(key), ["config.xml"]) => {
                let pipeline = self.pipeline(caller, key).await?;
                Ok(with("application/xml;charset=utf-8", config::write(&pipeline.spec, &key.namespace)))
            }
            (Place::Build(key, which), rest) => {
                let run = self.run(caller, key, which).await?;
                self.of_build(caller, key, &run, rest, query, shape, parts).await
            }
            _ => Err(No::missing(format!("page {}", parts.uri.path()))),
        }
    }

    /// Whether somebody may see pipelines of a namespace.
    async fn may_see(&self, caller: &Caller, namespace: &str) -> Result<bool, No> {
        match self.gate.may_do(&caller.user, right(Pipelines::PLURAL, None, "list", Some(namespace), None)).await {
            Ok(()) => Ok(true),
            Err(Refusal::Forbidden { .. }) => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Pipelines that somebody may see, in the order of their names.
    async fn visible(&self, caller: &Caller) -> Result<Vec<Arc<Pipeline>>, No> {
        self.pipelines.ready().await;
        let mut all = self.pipelines.list();
        all.sort_by_key(|pipeline| (pipeline.namespace(), pipeline.name_any()));
        match self.gate.may_do(&caller.user, right(Pipelines::PLURAL, None, "list", None, None)).await {
            Ok(()) => return Ok(all),
            Err(Refusal::Forbidden { .. }) => {}
            Err(refusal) => return Err(refusal.into()),
        }
        let mut seen: std::collections::BTreeMap<String, bool> = std::collections::BTreeMap::new();
        let mut visible = Vec::new();
        for pipeline in all {
            let namespace = pipeline.namespace().unwrap_or_default();
            let may = match seen.get(&namespace) {
                Some(may) => *may,
                None => {
                    let may = self.may_see(caller, &namespace).await?;
                    seen.insert(namespace, may);
                    may
                }
            };
            if may {
                visible.push(pipeline);
            }
        }
        Ok(visible)
    }

    /// A pipeline, read as the caller.
    async fn pipeline(&self, caller: &Caller, key: &Key) -> Result<Pipeline, No> {
        let api: Api<Pipeline> = Api::namespaced(caller.client.clone(), &key.namespace);
        match api.get(&key.name).await {
            // What may not be seen is not there.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Err(No::missing(format!("job {key}"))),
            found => Ok(found?),
        }
    }

    /// Runs of a pipeline that have a number, the newest first.
    fn runs_of(&self, key: &Key) -> Vec<Arc<PipelineRun>> {
        let mut runs = self.runs.list_in(&key.namespace);
        runs.retain(|run| run.spec.pipeline_ref.name == *key.name && build::number(run).is_some());
        runs.sort_by_key(|run| std::cmp::Reverse(build::number(run)));
        runs
    }

    /// A run by its number or by what it is called.
    async fn run(&self, caller: &Caller, key: &Key, which: &Which) -> Result<Arc<PipelineRun>, No> {
        let may = right(Runs::PLURAL, None, "get", Some(&key.namespace), None);
        match self.gate.may_do(&caller.user, may).await {
            Err(Refusal::Forbidden { .. }) => return Err(No::missing(format!("job {key}"))),
            other => other?,
        }
        self.runs.ready().await;
        let runs = self.runs_of(key);
        let run = match which {
            Which::Number(number) => runs.into_iter().find(|run| build::number(run) == Some(*number)),
            Which::Named(name) => build::named(&runs, name).cloned(),
        };
        run.ok_or_else(|| No::missing(format!("build {which} of {key}")))
    }

    /// Waits until a cache holds what was written; clients ask for it at once.
    async fn seen<K>(&self, cache: &Cache<K>, key: &Key, there: impl Fn(Option<&K>) -> bool)
    where
        K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let begin = tokio::time::Instant::now();
        while !there(cache.get(key).as_deref()) && begin.elapsed() < SEEN {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Caller {
    /// What this caller is told to send along: no secret, since it is worth nothing without the token.
    fn crumb(&self) -> HeaderValue {
        let sum = digest(&SHA256, format!("crumb of {}", self.token).as_bytes());
        HeaderValue::from_str(&hex(sum.as_ref())).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests;
