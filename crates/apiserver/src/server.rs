//! The server itself: what it is made of, how it starts, and the road of a request from its bytes to its answer.
//!
//! ```text
//! handle ─ path ─ authenticate ─ impersonate ─ authorize ─ route ─┬─ read, watch        cache
//!                                                                  ├─ write, patch, delete  store
//!                                                                  ├─ sub-resources, reviews
//!                                                                  └─ discovery, health, metrics
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use api::{
    meta::Qualified,
    status::{Attempt, AttemptOn, Status},
};
use bytes::Bytes;
use http::{Method, Request, Response};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use serve::{Peer, body::Body};
use store::Store;
use task::{Clock, Task};

use crate::{
    admission::{Attributes, quota::Turns},
    aggregate,
    auth::{self, User, certificate::Certificates, rbac, rbac::Rbac, token::Tokens},
    bootstrap,
    call::Call,
    commit::Extra,
    config::Config,
    connect, crd, delete, discovery, expiry,
    feed::Feed,
    metrics::Metrics,
    object::Object,
    patch, path,
    path::RequestInfo,
    plain,
    query::Query,
    read,
    registry::{Resource, Route},
    review, service_ip, sub, watch, webhook, write,
    write::Target,
};

/// An API server. Cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct ApiServer(Arc<Server>);

/// What an API server consists of.
#[derive(Debug)]
pub struct Server {
    /// Settings.
    pub config: Config,
    /// Store, caches and routes.
    pub feed: Arc<Feed>,
    /// Everything that runs.
    pub task: Task,
    /// Client certificates.
    pub certificates: Certificates,
    /// Bearer tokens.
    pub tokens: Tokens,
    /// Roles and bindings.
    pub rbac: Rbac,
    /// What is counted.
    pub metrics: Metrics,
    /// Discovery documents.
    pub discovery: discovery::Documents,
    /// API servers behind this one.
    pub aggregator: aggregate::Aggregator,
    /// Admission webhooks.
    pub hooks: webhook::Hooks,
    /// Who may charge quotas.
    pub turns: Turns,
    random: SystemRandom,
    ready: AtomicBool,
}

impl ApiServer {
    /// Loads what is in the store, adds what every cluster has, and starts to follow the store.
    pub async fn start(task: Task, config: Config, store: Store) -> anyhow::Result<Self> {
        let keyring = Arc::new(crate::encryption::Keyring::open(&config.encryption_keys)?);
        let feed = Feed::load(store, keyring).await?;
        let tokens = Tokens::open(&config).context("service account tokens")?;
        let server = Arc::new(Server {
            feed: feed.clone(),
            certificates: Certificates::default(),
            tokens,
            rbac: Rbac::default(),
            metrics: Metrics::default(),
            discovery: discovery::Documents::default(),
            aggregator: aggregate::Aggregator::default(),
            hooks: webhook::Hooks::default(),
            turns: Turns::default(),
            random: SystemRandom::new(),
            ready: AtomicBool::new(false),
            task: task.clone(),
            config,
        });
        task.spawn("store feed", feed.run(task.clone()));
        bootstrap::install(&server).await.context("install bootstrap objects")?;
        let roles = server.resource(rbac::GROUP, "clusterroles").map_err(|status| anyhow::anyhow!("{status}"))?;
        auth::aggregation::gather(&server, &roles).await.map_err(|status| anyhow::anyhow!("gather roles: {status}"))?;
        task.spawn("aggregated roles", auth::aggregation::run(server.clone()));
        task.spawn("custom resource definitions", crd::run(server.clone()));
        task.spawn("api services", aggregate::run(server.clone()));
        task.spawn("old events", expiry::run(server.clone()));
        task.spawn("compaction", compact(server.clone()));
        server.ready.store(true, Ordering::Release);
        Ok(Self(server))
    }

    /// Answers a request. Who asks is taken from a [`User`] in its extensions, else from [`Peer`] and headers.
    pub fn handle(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<> {
        let server = self.0.clone();
        async move { server.handle(request).await }
    }

    /// Whether start-up is complete.
    pub fn ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }
}

/// Forgets old revisions now and then, but only if there were writes since.
async fn compact(server: Arc<Server>) {
    let every = server.config.compaction;
    let mut last = server.feed.applied().get();
    loop {
        // Without a write there is nothing to wake up for.
        if server.task.until_cancelled(server.feed.applied().beyond(last)).await.is_none() {
            return;
        }
        if server.task.until_cancelled(server.config.clock.sleep(every)).await.is_none() {
            return;
        }
        let now = server.feed.applied().get();
        match server.feed.store().compact(store::Revision::new(last)).await {
            Ok(()) | Err(store::Error::Compacted { .. }) => {}
            Err(error) => tracing::warn!(%error, "compact the store"),
        }
        last = now;
    }
}

/// The time of day as objects carry it.
pub fn timestamp(clock: &Clock) -> Timestamp {
    Timestamp::try_from(clock.now()).unwrap_or_default()
}

/// What a client is told when the store cannot do it.
pub fn store_failed(resource: Qualified<'_>, error: &store::Error) -> Status {
    match error {
        store::Error::Compacted { .. } => Status::expired("The resourceVersion for the provided watch is too old."),
        store::Error::TooLarge { .. } => Status::too_large(&error.to_string()),
        store::Error::Unavailable(_) => {
            tracing::warn!(%error, "store");
            Status::server_timeout(resource, "store", 2)
        }
        _ => {
            tracing::error!(%error, "store");
            Status::internal(error)
        }
    }
}

impl Server {
    /// The time of day.
    pub fn now(&self) -> Timestamp {
        timestamp(&self.config.clock)
    }

    /// Any number.
    pub fn random(&self) -> u32 {
        let mut bytes = [0u8; 4];
        // The system's generator does not fail once the machine is up; names and spreads need no more than that.
        _ = self.random.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// A random UUID (version 4).
    pub fn new_uid(&self) -> String {
        let mut bytes = [0u8; 16];
        _ = self.random.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let n = u128::from_be_bytes(bytes);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            n >> 80 & 0xffff,
            n >> 64 & 0xffff,
            n >> 48 & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }

    /// Whether start-up is complete.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits until the caches hold everything committed before.
    pub async fn fresh(&self) -> Result<(), Status> {
        self.fresh_revision().await.map(|_| ())
    }

    /// The same, and tells the revision.
    pub async fn fresh_revision(&self) -> Result<u64, Status> {
        self.feed.fresh().await.map_err(|error| store_failed(Qualified { group: "", name: "" }, &error))
    }

    /// A built-in resource of the kinds table.
    pub fn resource(&self, group: &str, plural: &str) -> Result<Arc<Resource>, Status> {
        let found = self.feed.registry().resource(group, plural).cloned();
        found.ok_or_else(|| Status::internal(format!("resource {plural}.{group} is not served")))
    }

    /// An object from the cache, once it has caught up if the object is not there yet.
    pub async fn find(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.resource(group, plural)?;
        let key = resource.key(namespace, name);
        if let Some(object) = resource.cache.get(&key) {
            return Ok(Some(object));
        }
        self.fresh().await?;
        Ok(resource.cache.get(&key))
    }

    /// The bytes to store for `key`.
    pub fn sealed(&self, key: &str, bytes: &Bytes) -> Result<Bytes, Status> {
        if !crate::encryption::Keyring::covers(key) {
            return Ok(bytes.clone());
        }
        self.feed.keyring().seal(key, bytes).map_err(Status::internal)
    }

    /// The bytes that were stored for `key`.
    pub fn opened(&self, key: &str, bytes: &Bytes) -> Result<Bytes, Status> {
        if !crate::encryption::Keyring::covers(key) {
            return Ok(bytes.clone());
        }
        self.feed.keyring().unseal(key, bytes).map_err(Status::internal)
    }

    /// Called after each commit: the answer goes out when the caches have what was written, so that whoever has it finds it
    /// in effect, in lists as in admission, roles and routes.
    pub async fn written(&self, object: &Object) {
        self.feed.await_revision(object.revision(), Duration::from_secs(5)).await;
    }

    /// Addresses and ports that a Service takes or frees with this change.
    pub fn allocate(
        &self,
        attributes: &Attributes<'_>,
        new: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<Extra, Status> {
        if attributes.is("", "Service") {
            service_ip::allocate(self, attributes, new, old)
        } else {
            Ok(Extra::default())
        }
    }

    /// Refuses unless the caller may also do `verb` to the target.
    pub async fn may(&self, call: &Call, verb: &str, target: Target<'_>) -> Result<(), Status> {
        let kind = &target.served().kind;
        let wanted = rbac::Wanted {
            verb,
            group: kind.group,
            resource: kind.plural,
            subresource: target.sub,
            namespace: target.namespace,
            name: target.name,
            path: "",
        };
        self.authorize(&call.user, &wanted).await
    }

    /// Whether a user may do something. What was granted a moment ago counts: a refusal is looked at again once the cache
    /// has caught up.
    pub async fn allows(&self, user: &User, wanted: &rbac::Wanted<'_>) -> bool {
        if user.is_in(auth::MASTERS) || self.decide(user, wanted) {
            return true;
        }
        let before = self.feed.applied().get();
        match self.feed.fresh().await {
            Ok(revision) if revision > before => self.decide(user, wanted),
            _ => false,
        }
    }

    fn decide(&self, user: &User, wanted: &rbac::Wanted<'_>) -> bool {
        let registry = self.feed.registry();
        auth::node::allows(self, user, wanted) || self.rbac.allows(&registry, user, wanted)
    }

    /// The same as an error.
    pub async fn authorize(&self, user: &User, wanted: &rbac::Wanted<'_>) -> Result<(), Status> {
        if self.allows(user, wanted).await {
            return Ok(());
        }
        let on = if wanted.resource.is_empty() {
            AttemptOn::Path(wanted.path)
        } else {
            AttemptOn::Resource {
                resource: Qualified { group: wanted.group, name: wanted.resource },
                subresource: wanted.subresource,
                namespace: wanted.namespace,
                name: wanted.name,
            }
        };
        Err(Status::forbidden(Attempt { user: &user.name, verb: wanted.verb, on, reason: "" }))
    }

    async fn authenticate(&self, parts: &http::request::Parts) -> Result<Arc<User>, Status> {
        if let Some(user) = parts.extensions.get::<User>() {
            return Ok(Arc::new(user.clone()));
        }
        if let Some(user) = parts.extensions.get::<Arc<User>>() {
            return Ok(user.clone());
        }
        if let Some(certificate) = parts.extensions.get::<Peer>().and_then(|peer| peer.certificates.first())
            && let Some((user, left)) = self.certificates.user(certificate, self.now())
        {
            self.metrics.certificate(left);
            return Ok(user);
        }
        let token = auth::token::bearer(&parts.headers).map(str::to_owned);
        if let Some(token) = token.or_else(|| auth::token::websocket_bearer(&parts.headers)) {
            return match self.tokens.user(self, &token).await {
                Some(user) => Ok(user),
                None => Err(Status::unauthorized("")),
            };
        }
        Ok(Arc::new(User::anonymous()))
    }

    async fn handle(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let (info, unclear) = match path::parse(&parts.method, parts.uri.path(), &query) {
            Ok(info) => (info, None),
            Err(error) => (RequestInfo { path: parts.uri.path().to_owned(), ..RequestInfo::default() }, Some(error)),
        };
        let mut call = Call::new(info, query, parts, Arc::new(User::anonymous()), body);
        let reading = matches!(call.info.verb.as_str(), "get" | "list" | "watch");
        let in_flight = self.metrics.begin(reading);
        let result = match unclear {
            Some(error) => Err(Status::internal(error)),
            None => self.answer(&mut call).await,
        };
        let response = match result {
            Ok(response) => response,
            Err(status) => {
                call.drop_body().await;
                call.status(&status)
            }
        };
        drop(in_flight);
        self.metrics.request(&call, &response, started.elapsed());
        response
    }

    async fn answer(self: &Arc<Self>, call: &mut Call) -> Result<Response<Body>, Status> {
        let user = self.authenticate(&call.parts).await?;
        call.user = auth::impersonate::user(self, user, &call.parts.headers).await?;
        let info = &call.info;
        // Anonymous users get 401, not 403, where only credentials are missing, as with upstream's anonymous access limited
        // to health endpoints.
        let wanted = rbac::Wanted::of(info);
        if let Err(refusal) = self.authorize(&call.user, &wanted).await {
            return Err(if call.user.name == auth::ANONYMOUS { Status::unauthorized("") } else { refusal });
        }
        if let Some((apis, position)) = aggregate::of(self, call.parts.uri.path()) {
            return aggregate::proxy(self, call, &apis[position]).await;
        }
        if info.is_resource { self.resource_request(call).await } else { plain::answer(self, call).await }
    }

    async fn resource_request(self: &Arc<Self>, call: &Call) -> Result<Response<Body>, Status> {
        let info = &call.info;
        let registry = self.feed.registry();
        let Some(route) = registry.route(&info.group, &info.version, &info.resource) else {
            return Err(Status::no_such_resource());
        };
        let kind = route.kind();
        let whole = matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
        let scoped =
            kind.namespaced != info.namespace.is_empty() || kind.kind == "Namespace" || whole && kind.namespaced;
        if !scoped {
            return Err(if info.verb == "create" { Status::method_not_allowed() } else { Status::no_such_resource() });
        }
        match route {
            Route::Virtual(kind) if info.subresource.is_empty() => review::answer(self, call, kind).await,
            Route::Virtual(_) => Err(Status::no_such_resource()),
            Route::Stored(resource, version) if !info.subresource.is_empty() => {
                self.sub_resource(call, resource, *version).await
            }
            Route::Stored(resource, version) => self.stored(call, resource, *version).await,
        }
    }

    async fn stored(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        version: usize,
    ) -> Result<Response<Body>, Status> {
        let served = &resource.versions[version];
        let named = call.parts.method != Method::POST && !call.info.name.is_empty();
        let verb = call.info.verb.as_str();
        if !served.kind.allows(verb) || verb == "create" && !call.info.name.is_empty() {
            return Err(Status::method_not_supported(served.kind.resource(), verb));
        }
        if let Some(definition) = &resource.definition
            && let Some(warning) = definition.version(served.kind.version).and_then(|version| version.warning.as_ref())
        {
            call.warn(warning);
        }
        match verb {
            "get" if named => read::get(self, call, resource, version).await,
            "list" => read::list(self, call, resource, version).await,
            "watch" => watch::watch(self, call, resource, version).await,
            "create" => write::create(self, call, resource, version).await,
            "update" if named => write::replace(self, call, resource, version).await,
            "patch" if named => patch::patch_object(self, call, resource, version).await,
            "delete" if named => delete::delete(self, call, resource, version).await,
            "deletecollection" => delete::delete_collection(self, call, resource, version).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn sub_resource(
        self: &Arc<Self>,
        call: &Call,
        resource: &Arc<Resource>,
        version: usize,
    ) -> Result<Response<Body>, Status> {
        let served = &resource.versions[version];
        let Some(sub) = served.kind.subresource(&call.info.subresource) else {
            return Err(Status::no_such_resource());
        };
        if connect::is_stream(sub) {
            return connect::answer(self, call, resource, version, sub).await;
        }
        let verb = call.info.verb.as_str();
        if !sub.verbs.contains(&verb) {
            return Err(Status::method_not_supported(served.kind.resource(), verb));
        }
        sub::answer(self, call, resource, version, sub).await
    }
}
