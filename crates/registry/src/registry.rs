//! The registry itself: what it is made of, and which part answers which request.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use counts::counter::Counts;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use oci::{Digest, distribution as codes};
use serve::{Body, body};
use task::Task;
use tokio::sync::Notify;

use crate::{
    answer::{Answer, Refusal, respond},
    auth::{Action, Door, Scope},
    blobs::Blobs,
    cache::Cache,
    collect,
    counted::{self, Counted},
    index::Index,
    leases::Leases,
    list, pull, push,
    route::{self, Route, parameter},
};

/// How a registry works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of its index.
    pub dir: PathBuf,
    /// What it is called in image names: `registry.madang.internal`.
    pub name: String,
    /// How long content that nothing refers to is kept, so that pushes under way find it.
    pub grace: Duration,
    /// Bytes of the largest manifest.
    pub manifest_bytes: usize,
    /// How long to wait for the next bytes of a manifest.
    pub stall: Duration,
}

impl Settings {
    /// The usual bounds.
    pub fn new(dir: PathBuf, name: impl Into<String>) -> Self {
        Self {
            dir,
            name: name.into(),
            grace: Duration::from_secs(3600),
            manifest_bytes: 4 << 20,
            stall: Duration::from_secs(60),
        }
    }
}

/// A registry. Clones are the same.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub settings: Settings,
    pub index: Index,
    pub blobs: Blobs,
    pub leases: Leases,
    pub cache: Cache,
    pub task: Task,
    /// Told when something may have become garbage.
    pub loosened: Notify,
    /// Manifests are changed one at a time, so that what one refers to is not deleted meanwhile.
    pub changes: tokio::sync::Mutex<()>,
    /// When each tag of a cached repository was last compared with its origin.
    pub compared: Mutex<std::collections::HashMap<String, std::time::Instant>>,
    pub counts: Counts,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("dir", &self.0.settings.dir).finish()
    }
}

impl Registry {
    /// Opens the registry; garbage is collected by tasks below `task`.
    pub async fn open(task: &Task, settings: Settings, blobs: Blobs, cache: Cache) -> Result<Self> {
        let index = Index::open(&settings.dir).await?;
        let registry = Self(Arc::new(Inner {
            leases: Leases::new(settings.grace),
            settings,
            index,
            blobs,
            cache,
            task: task.child("registry"),
            loosened: Notify::new(),
            changes: tokio::sync::Mutex::default(),
            compared: Mutex::default(),
            counts: Counts::default(),
        }));
        // What a crash left is found once.
        registry.0.loosened.notify_one();
        let collector = registry.clone();
        task.spawn("collect", async move { collect::run(collector).await });
        Ok(registry)
    }

    /// Removes what nothing refers to and nobody relies on; returns how many blobs that were.
    pub async fn collect(&self) -> Result<usize> {
        collect::collect(self).await
    }

    /// Answers a request that came in by `door`.
    pub async fn answer(&self, door: &Door, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let counted = Counted::begin(&self.0.counts, &parts);
        let mut response = match self.handle(door, &parts, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        counted.answered(&response);
        let headers = response.headers_mut();
        headers.insert("docker-distribution-api-version", http::HeaderValue::from_static("registry/2.0"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
        response
    }

    async fn handle(&self, door: &Door, parts: &Parts, body: Body) -> Answer {
        door.check_origin(parts)?;
        let query = route::query(&parts.uri);
        let route = self.within(Route::parse(parts.uri.path())?, parameter(&query, "ns"))?;
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        let scope = |name: &str, action: Action| Scope::repository(name, action);
        let asked = Asked { registry: self, door, parts, query: &query };
        match &route {
            Route::Token => door.token(parts, &query, body).await,
            Route::Root if read => {
                door.admit(parts, None).await?;
                Ok(respond(StatusCode::OK, &[(header::CONTENT_TYPE, "application/json".into())], "{}"))
            }
            Route::Metrics if read => {
                door.admit_page(parts, "/metrics").await?;
                Ok(counted::page(self))
            }
            Route::Catalog if read => {
                door.admit(parts, Some(Scope::catalog())).await?;
                list::catalog(&asked)
            }
            Route::Tags(name) if read => {
                door.admit(parts, Some(scope(name, Action::Pull))).await?;
                list::tags(&asked, name)
            }
            Route::Referrers(name, digest) if read => {
                door.admit(parts, Some(scope(name, Action::Pull))).await?;
                list::referrers(&asked, name, digest).await
            }
            Route::Blob(name, digest) if read => {
                door.admit(parts, Some(scope(name, Action::Pull))).await?;
                pull::blob(&asked, name, digest).await
            }
            Route::Manifest(name, target) if read => {
                door.admit(parts, Some(scope(name, Action::Pull))).await?;
                pull::manifest(&asked, name, target).await
            }
            Route::Manifest(name, target) if parts.method == Method::PUT => {
                self.admit_change(door, parts, name, Action::Push).await?;
                push::manifest(&asked, name, target, body).await
            }
            Route::Manifest(name, target) if parts.method == Method::DELETE => {
                self.admit_change(door, parts, name, Action::Delete).await?;
                push::delete_manifest(&asked, name, target).await
            }
            Route::Blob(name, digest) if parts.method == Method::DELETE => {
                self.admit_change(door, parts, name, Action::Delete).await?;
                push::delete_blob(&asked, name, digest).await
            }
            Route::Uploads(name) if parts.method == Method::POST => {
                self.admit_change(door, parts, name, Action::Push).await?;
                push::begin(&asked, name, body).await
            }
            Route::Upload(name, id) => {
                self.admit_change(door, parts, name, Action::Push).await?;
                match parts.method {
                    Method::GET | Method::HEAD => push::status(&asked, name, id).await,
                    Method::PATCH => push::append(&asked, name, id, body).await,
                    Method::PUT => push::finish(&asked, name, id, body).await,
                    Method::DELETE => push::cancel(&asked, id).await,
                    _ => Err(Refusal::method("an upload is read, patched, put or deleted")),
                }
            }
            _ => Err(Refusal::method(format!("{} means nothing here", parts.method))),
        }
    }

    /// What is kept for an origin is changed by nobody but the cache.
    async fn admit_change(&self, door: &Door, parts: &Parts, name: &str, action: Action) -> Result<(), Refusal> {
        door.admit(parts, Some(Scope::repository(name, action))).await?;
        match self.0.cache.origin(name) {
            None => Ok(()),
            Some(_) => Err(Refusal::method(format!("{name} is kept for another registry: push it there"))),
        }
    }

    /// Clients that take this registry for a mirror say of which one: its repositories are below its name.
    fn within(&self, route: Route, namespace: Option<&str>) -> Result<Route, Refusal> {
        let Some(origin) = namespace.filter(|namespace| *namespace != self.0.settings.name) else { return Ok(route) };
        if !self.0.cache.knows(origin) {
            return Err(Refusal::missing(codes::NAME_UNKNOWN, format!("nothing is kept here for {origin}")));
        }
        let below = |name: String| format!("{origin}/{name}");
        Ok(match route {
            Route::Tags(name) => Route::Tags(below(name)),
            Route::Manifest(name, target) => Route::Manifest(below(name), target),
            Route::Blob(name, digest) => Route::Blob(below(name), digest),
            Route::Uploads(name) => Route::Uploads(below(name)),
            Route::Upload(name, id) => Route::Upload(below(name), id),
            Route::Referrers(name, digest) => Route::Referrers(below(name), digest),
            other => other,
        })
    }

    /// The bytes of a manifest or other small blob.
    pub(crate) async fn read(&self, digest: &Digest) -> std::io::Result<bytes::Bytes> {
        self.0.blobs.read(digest, self.0.settings.manifest_bytes).await
    }
}

/// A request that was let in.
pub(crate) struct Asked<'a> {
    pub registry: &'a Registry,
    pub door: &'a Door,
    pub parts: &'a Parts,
    pub query: &'a [(String, String)],
}

impl Asked<'_> {
    pub fn inner(&self) -> &Inner {
        &self.registry.0
    }

    /// A header that is text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(self.query, name)
    }

    /// Whether only headers are wanted.
    pub fn head(&self) -> bool {
        self.parts.method == Method::HEAD
    }
}

/// An answer without a body that says how long it would be.
pub(crate) fn without_body(mut response: Response<Body>) -> Response<Body> {
    *response.body_mut() = body::empty();
    response
}
