//! The loop: follows objects, plans when they change, puts plans in place, and says what is to be said.
//!
//! ```text
//! change of a slice ─► its Service's backends, at once
//! any other change ─► (5 ms, for those that come with it) ─► plan ─► table, ports, certificates ─► own addresses ─► statuses
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::cache::{Cache, Key, Scope};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use task::Task;
use tokio::sync::Notify;

use crate::{
    backend::{self, Backend, Backends},
    kinds::{Gateway, GatewayClass, HttpRoute, ReferenceGrant},
    listen::Listeners,
    plan::{self, Kind, Lasting, Plan, Said, Settings, World, certificate::Keys, condition, outlet},
    proxy::Proxy,
};

/// Changes that come together are planned together.
const TOGETHER: Duration = Duration::from_millis(5);
/// After a status could not be written.
const AGAIN: Duration = Duration::from_millis(500);

/// One cache a kind.
#[derive(Debug)]
struct Caches {
    classes: Cache<GatewayClass>,
    gateways: Cache<Gateway>,
    routes: Cache<HttpRoute>,
    grants: Cache<ReferenceGrant>,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    secrets: Cache<Secret>,
    namespaces: Cache<Namespace>,
    ingresses: Cache<Ingress>,
    ingress_classes: Cache<IngressClass>,
}

/// What is needed to run.
#[derive(Clone)]
pub struct Gateways {
    /// The API server.
    pub client: Client,
    /// What answers requests.
    pub proxy: Arc<Proxy>,
    /// What this machine can do.
    pub settings: Settings,
}

impl std::fmt::Debug for Gateways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateways").field("settings", &self.settings).finish()
    }
}

/// Follows the cluster's objects until `task` ends.
pub fn run(task: &Task, gateways: Gateways, listeners: Listeners) {
    let wake = Arc::new(Notify::new());
    let backends = Arc::new(Backends::default());
    let caches = Arc::new(follow(task, &gateways.client, &wake));
    let dirty: Arc<Mutex<BTreeSet<Key>>> = Arc::default();
    {
        let (dirty, wake) = (dirty.clone(), wake.clone());
        caches.slices.listen(move |change| {
            let slices = [&change.old, &change.new];
            let services = slices.into_iter().flatten().filter_map(|slice| service_of(slice));
            dirty.lock().unwrap_or_else(PoisonError::into_inner).extend(services);
            wake.notify_one();
        });
    }
    let within = task.clone();
    task.spawn_until_cancelled("gateways", async move {
        let keeper =
            Keeper { gateways, caches, backends, listeners, keys: Keys::default(), dirty, outlets: BTreeMap::new() };
        keeper.keep(&within, &wake).await;
    });
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get("kubernetes.io/service-name")?;
    Some(Key::new(slice.metadata.namespace.as_deref().unwrap_or_default(), service))
}

fn follow(task: &Task, client: &Client, wake: &Arc<Notify>) -> Caches {
    fn filled<K>(task: &Task, client: &Client, wake: Option<&Arc<Notify>>, scope: Scope, trim: fn(&mut K)) -> Cache<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let cache = Cache::idle();
        if let Some(wake) = wake.cloned() {
            cache.listen(move |_| wake.notify_one());
        }
        cache.start_trimmed(task, Api::all(client.clone()), scope, trim);
        cache
    }
    let all = Scope::default;
    Caches {
        classes: filled(task, client, Some(wake), all(), |_| ()),
        gateways: filled(task, client, Some(wake), all(), |_| ()),
        routes: filled(task, client, Some(wake), all(), |_| ()),
        grants: filled(task, client, Some(wake), all(), |_| ()),
        services: filled(task, client, Some(wake), all(), |service: &mut Service| {
            service.status = None;
            service.metadata.annotations = None;
        }),
        slices: filled(task, client, None, all(), |slice: &mut EndpointSlice| {
            slice.metadata.annotations = None;
            for endpoint in slice.endpoints.iter_mut().flatten() {
                endpoint.target_ref = None;
                endpoint.node_name = None;
                endpoint.hints = None;
            }
        }),
        secrets: filled(task, client, Some(wake), Scope::fields("type=kubernetes.io/tls"), |secret: &mut Secret| {
            secret.metadata.annotations = None;
        }),
        namespaces: filled(task, client, Some(wake), all(), |_| ()),
        ingresses: filled(task, client, Some(wake), all(), |_| ()),
        ingress_classes: filled(task, client, Some(wake), all(), |_| ()),
    }
}

impl Caches {
    async fn ready(&self) {
        tokio::join!(
            self.classes.ready(),
            self.gateways.ready(),
            self.routes.ready(),
            self.grants.ready(),
            self.services.ready(),
            self.slices.ready(),
            self.secrets.ready(),
            self.namespaces.ready(),
            self.ingresses.ready(),
            self.ingress_classes.ready(),
        );
    }

    fn world(&self) -> World {
        World {
            classes: self.classes.list(),
            gateways: self.gateways.list(),
            routes: self.routes.list(),
            grants: self.grants.list(),
            services: self.services.list().into_iter().map(|one| (Key::of(&*one), one)).collect(),
            secrets: self.secrets.list().into_iter().map(|one| (Key::of(&*one), one)).collect(),
            namespaces: self.namespaces.list().into_iter().map(|one| (Key::of(&*one), one)).collect(),
            ingresses: self.ingresses.list(),
            ingress_classes: self.ingress_classes.list(),
        }
    }
}

struct Keeper {
    gateways: Gateways,
    caches: Arc<Caches>,
    backends: Arc<Backends>,
    listeners: Listeners,
    keys: Keys,
    dirty: Arc<Mutex<BTreeSet<Key>>>,
    /// Services and slices of gateways' own addresses, as they were written last.
    outlets: BTreeMap<Key, (Value, Value)>,
}

impl Keeper {
    async fn keep(mut self, task: &Task, wake: &Arc<Notify>) {
        // A plan made of half of the objects would say that the other half is not there.
        self.caches.ready().await;
        wake.notify_one();
        loop {
            wake.notified().await;
            tokio::time::sleep(TOGETHER).await;
            self.endpoints();
            let world = self.caches.world();
            let mut plan = self.plan(&world);
            if self.doors(&plan.apart) {
                let new = std::mem::take(&mut plan.new);
                plan = self.plan(&world);
                plan.new.extend(new);
            }
            plan.new.iter().for_each(|backend| self.fill(backend));
            let refused = self.listeners.change(&plan.ports, std::mem::take(&mut plan.certificates));
            self.gateways.proxy.change(Arc::new(std::mem::take(&mut plan.table)));
            if refused != self.gateways.settings.refused {
                // What could not be opened is to be said: once more, with what is known now.
                self.gateways.settings.refused.extend(refused);
                plan = self.plan(&world);
                self.gateways.proxy.change(Arc::new(std::mem::take(&mut plan.table)));
            }
            self.backends.prune();
            self.gateways.proxy.tally.prune();
            self.keys.retain(|key| world.secrets.contains_key(key));
            let mut failed = self.outlets(&world, &plan.apart).await;
            for said in plan.statuses {
                if let Err(error) = self.say(&said).await {
                    let conflict =
                        matches!(&error, kube::Error::Api(status) if status.code == 409 || status.code == 404);
                    // Somebody was faster: the change that comes of it wakes this loop by itself.
                    if !conflict {
                        tracing::warn!(kind = ?said.kind, key = %said.key, %error, "status is tried again");
                        failed = true;
                    }
                }
            }
            if failed {
                let wake = wake.clone();
                task.spawn_until_cancelled("statuses", async move {
                    tokio::time::sleep(AGAIN).await;
                    wake.notify_one();
                });
            }
        }
    }

    fn plan(&mut self, world: &World) -> Plan {
        let mut lasting = Lasting { backends: &self.backends, tally: &self.gateways.proxy.tally, keys: &mut self.keys };
        plan::plan(world, &self.gateways.settings, &mut lasting)
    }

    /// Opens the doors behind gateways' own addresses, and forgets those that nobody wants any more; whether there are new ones.
    fn doors(&mut self, apart: &BTreeMap<Key, BTreeMap<u16, bool>>) -> bool {
        let known = &mut self.gateways.settings.doors;
        known.retain(|(gateway, port), door| {
            let wanted = apart.get(gateway).and_then(|ports| ports.get(port));
            wanted.is_some() && self.listeners.secure(*door).as_ref() == wanted
        });
        let mut opened = false;
        for (gateway, ports) in apart {
            for (port, secure) in ports {
                if known.contains_key(&(gateway.clone(), *port)) {
                    continue;
                }
                match self.listeners.open(*port, *secure) {
                    Ok(door) => {
                        known.insert((gateway.clone(), *port), door);
                        opened = true;
                    }
                    Err(error) => tracing::warn!(%gateway, port, %error, "no port for a gateway's own address"),
                }
            }
        }
        opened
    }

    /// Writes Services and slices of gateways' own addresses where they are not as they were; whether any could not be.
    async fn outlets(&mut self, world: &World, apart: &BTreeMap<Key, BTreeMap<u16, bool>>) -> bool {
        self.outlets.retain(|gateway, _| apart.contains_key(gateway));
        let mut failed = false;
        for gateway in &world.gateways {
            let key = Key::of(&**gateway);
            let Some(ports) = apart.get(&key) else { continue };
            let Some(objects) = outlet::objects(&self.gateways.settings, gateway, ports) else { continue };
            let at = outlet::key(gateway);
            let stands = outlet::is_there(world, gateway) && self.caches.slices.get(&at).is_some();
            if stands && self.outlets.get(&key) == Some(&objects) {
                continue;
            }
            match self.lead(&at, &objects).await {
                Ok(()) => drop(self.outlets.insert(key, objects)),
                Err(error) => {
                    tracing::warn!(gateway = %key, %error, "own address is tried again");
                    failed = true;
                }
            }
        }
        failed
    }

    async fn lead(&self, at: &Key, (service, slice): &(Value, Value)) -> kube::Result<()> {
        let client = &self.gateways.client;
        let how = PatchParams::apply("madang-gateway").force();
        let services: Api<Service> = Api::namespaced(client.clone(), &at.namespace);
        services.patch(&at.name, &how, &Patch::Apply(service)).await?;
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &at.namespace);
        slices.patch(&at.name, &how, &Patch::Apply(slice)).await.map(drop)
    }

    /// Says of the backends of Services whose slices have changed where their endpoints are.
    fn endpoints(&self) {
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        for service in dirty {
            for backend in self.backends.of_service(&service.namespace, &service.name) {
                self.fill(&backend);
            }
        }
    }

    fn fill(&self, backend: &Backend) {
        let key = Key::new(&backend.key.namespace, &backend.key.service);
        let Some(service) = self.caches.services.get(&key) else { return self.backends.set(backend, &[], false) };
        let slices: Vec<Arc<EndpointSlice>> = self
            .caches
            .slices
            .list_in(&key.namespace)
            .into_iter()
            .filter(|slice| service_of(slice).as_ref() == Some(&key))
            .collect();
        let (addresses, http2) = backend::addresses(&service, backend.key.port, &slices);
        self.backends.set(backend, &addresses, http2);
    }

    async fn say(&self, said: &Said) -> kube::Result<()> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let new = condition::timed(&said.old, said.new.clone(), &now);
        if covers(&said.old, &new) {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": said.version}, "status": new});
        let client = &self.gateways.client;
        let (namespace, name) = (&*said.key.namespace, &*said.key.name);
        match said.kind {
            Kind::Class => write(Api::<GatewayClass>::all(client.clone()), name, patch).await,
            Kind::Gateway => write(Api::<Gateway>::namespaced(client.clone(), namespace), name, patch).await,
            Kind::Route => write(Api::<HttpRoute>::namespaced(client.clone(), namespace), name, patch).await,
            Kind::Ingress => write(Api::<Ingress>::namespaced(client.clone(), namespace), name, patch).await,
        }
    }
}

async fn write<K>(api: Api<K>, name: &str, patch: Value) -> kube::Result<()>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Whether a merge of `new` into `old` changes nothing.
fn covers(old: &Value, new: &Value) -> bool {
    match new {
        Value::Object(fields) => fields.iter().all(|(name, value)| match old.get(name) {
            Some(known) => covers(known, value),
            None => value.is_null(),
        }),
        other => old == other,
    }
}
