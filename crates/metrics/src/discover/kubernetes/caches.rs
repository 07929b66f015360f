//! Objects as they are now: one cache a kind and selection, shared by all jobs.

use std::{
    any::Any,
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use client::cache::{Cache, Scope};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    batch::v1::Job,
    core::v1::{Endpoints, Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use task::Task;
use tokio::sync::watch;

/// A cache, and a number that grows with each change.
#[derive(Clone, Debug)]
pub struct Kind<K> {
    /// The objects.
    pub cache: Cache<K>,
    changes: watch::Receiver<u64>,
}

/// Caches of a cluster. Clones are the same.
#[derive(Clone)]
pub struct Caches {
    client: kube::Client,
    task: Task,
    known: Arc<Mutex<HashMap<(String, String), Arc<dyn Any + Send + Sync>>>>,
}

impl Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caches")
    }
}

impl Caches {
    /// Caches that are filled by `client`, each from when it is first wanted until `task` ends.
    pub fn new(task: &Task, client: kube::Client) -> Self {
        Self { client, task: task.child("cluster"), known: Arc::default() }
    }

    /// The client.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    fn get<K>(&self, scope: Scope) -> Kind<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let selection = format!("{:?} {:?}", scope.labels, scope.fields);
        let key = (K::plural(&()).into_owned() + "." + &K::group(&()), selection);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = known.get(&key).and_then(|kind| kind.downcast_ref::<Kind<K>>()) {
            return kind.clone();
        }
        let cache: Cache<K> = Cache::idle();
        let (sender, changes) = watch::channel(0u64);
        cache.listen(move |_| sender.send_modify(|count| *count = count.wrapping_add(1)));
        cache.start(&self.task, Api::all(self.client.clone()), scope);
        let kind = Kind { cache, changes };
        known.insert(key, Arc::new(kind.clone()));
        kind
    }

    /// Pods.
    pub fn pods(&self, scope: Scope) -> Kind<Pod> {
        self.get(scope)
    }

    /// Services.
    pub fn services(&self, scope: Scope) -> Kind<Service> {
        self.get(scope)
    }

    /// Endpoints.
    pub fn endpoints(&self, scope: Scope) -> Kind<Endpoints> {
        self.get(scope)
    }

    /// Endpoint slices.
    pub fn slices(&self, scope: Scope) -> Kind<EndpointSlice> {
        self.get(scope)
    }

    /// Ingresses.
    pub fn ingresses(&self, scope: Scope) -> Kind<Ingress> {
        self.get(scope)
    }

    /// Nodes.
    pub fn nodes(&self, scope: Scope) -> Kind<Node> {
        self.get(scope)
    }

    /// Namespaces.
    pub fn namespaces(&self) -> Kind<Namespace> {
        self.get(Scope::default())
    }

    /// Replica sets.
    pub fn replica_sets(&self) -> Kind<ReplicaSet> {
        self.get(Scope::default())
    }

    /// Jobs.
    pub fn jobs(&self) -> Kind<Job> {
        self.get(Scope::default())
    }
}

/// Resolves once a cache, if it is wanted, is complete.
pub async fn ready<K>(kind: &Option<Kind<K>>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    if let Some(kind) = kind {
        kind.cache.ready().await;
    }
}

/// Resolves once something has changed in a cache that is wanted.
pub async fn changed<K>(kind: &mut Option<Kind<K>>) {
    match kind {
        Some(kind) => {
            if kind.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// All objects of a cache that is wanted.
pub fn list<K>(kind: &Option<Kind<K>>) -> Vec<Arc<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    kind.as_ref().map(|kind| kind.cache.list()).unwrap_or_default()
}
