//! ConfigMaps and Secrets that pods of this node refer to: one watch an object, shared, for as long as a pod needs it and
//! a while longer.
//!
//! A node may read only what its pods refer to, and object by object; hence no cache of whole kinds.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::cache::{Cache, Key, Scope};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use task::Task;

use crate::{env::Objects, volume::References};

/// How long an object that nobody needs is kept: the next pod of the namespace starts sooner.
const LINGER: Duration = Duration::from_secs(60);
/// How long a pod waits to learn whether an object exists.
const PATIENCE: Duration = Duration::from_secs(30);

/// Called when an object has changed.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The objects in use. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    config_maps: Held<ConfigMap>,
    secrets: Held<Secret>,
}

impl Store {
    /// A store without objects.
    pub fn new(task: &Task, client: &kube::Client) -> Self {
        Self { config_maps: Held::new(task, client), secrets: Held::new(task, client) }
    }

    /// Holds the objects that the pod `uid` refers to, and releases those that it referred to before and does not now.
    pub fn hold(&self, uid: &str, namespace: &str, references: &References, notify: &Notify) {
        self.config_maps.hold(uid, namespace, &references.config_maps, notify);
        self.secrets.hold(uid, namespace, &references.secrets, notify);
    }

    /// Releases everything that the pod `uid` held.
    pub fn release(&self, uid: &str, namespace: &str) {
        let none: Notify = Arc::new(|| {});
        self.hold(uid, namespace, &References::default(), &none);
    }

    /// Resolves once it is known of each object whether it exists, or patience is over.
    pub async fn ready(&self, namespace: &str, references: &References) {
        let all = async {
            self.config_maps.ready(namespace, &references.config_maps).await;
            self.secrets.ready(namespace, &references.secrets).await;
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(namespace, "objects that pods refer to cannot be read");
        }
    }

    /// The objects of one namespace, as far as they are held.
    pub fn of(&self, namespace: &str) -> View {
        View { store: self.clone(), namespace: namespace.to_owned() }
    }
}

/// Objects of one kind in use.
struct Held<K>(Arc<Inner<K>>);

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K> {
    client: kube::Client,
    task: Task,
    entries: Mutex<HashMap<Key, Entry<K>>>,
}

struct Entry<K> {
    cache: Cache<K>,
    task: Task,
    holders: Arc<Mutex<HashMap<String, Notify>>>,
    /// Counts uses, so that a timer knows whether it still means what it was set for.
    uses: u64,
}

impl<K> Held<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    fn new(task: &Task, client: &kube::Client) -> Self {
        let task = task.child(K::plural(&()));
        Self(Arc::new(Inner { client: client.clone(), task, entries: Mutex::default() }))
    }

    fn hold(&self, uid: &str, namespace: &str, names: &[String], notify: &Notify) {
        let mut entries = lock(&self.0.entries);
        for name in names {
            let entry = entries.entry(Key::new(namespace, name)).or_insert_with(|| self.watch(namespace, name));
            entry.uses += 1;
            lock(&entry.holders).insert(uid.to_owned(), notify.clone());
        }
        for (key, entry) in entries.iter() {
            let wanted = &*key.namespace == namespace && names.iter().any(|name| **name == *key.name);
            let mut holders = lock(&entry.holders);
            if !wanted && holders.remove(uid).is_some() && holders.is_empty() {
                self.linger(key.clone(), entry.uses);
            }
        }
    }

    fn watch(&self, namespace: &str, name: &str) -> Entry<K> {
        let task = self.0.task.child(name);
        let cache = Cache::idle();
        let holders: Arc<Mutex<HashMap<String, Notify>>> = Arc::default();
        let listening = holders.clone();
        cache.listen(move |_| {
            let notify: Vec<Notify> = lock(&listening).values().cloned().collect();
            notify.iter().for_each(|notify| notify());
        });
        let api = Api::namespaced(self.0.client.clone(), namespace);
        cache.start(&task, api, Scope::fields(format!("metadata.name={name}")));
        Entry { cache, task, holders, uses: 0 }
    }

    /// Ends a watch after a while, unless somebody comes back.
    fn linger(&self, key: Key, uses: u64) {
        let held = self.clone();
        self.0.task.spawn("linger", async move {
            if held.0.task.until_cancelled(tokio::time::sleep(LINGER)).await.is_none() {
                return;
            }
            let mut entries = lock(&held.0.entries);
            let idle = entries.get(&key).is_some_and(|entry| entry.uses == uses && lock(&entry.holders).is_empty());
            if let Some(entry) = idle.then(|| entries.remove(&key)).flatten() {
                entry.task.cancel();
            }
        });
    }

    async fn ready(&self, namespace: &str, names: &[String]) {
        for name in names {
            let cache = lock(&self.0.entries).get(&Key::new(namespace, name)).map(|entry| entry.cache.clone());
            if let Some(cache) = cache {
                cache.ready().await;
            }
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = Key::new(namespace, name);
        lock(&self.0.entries).get(&key)?.cache.get(&key)
    }
}

/// Objects of one namespace.
pub struct View {
    store: Store,
    namespace: String,
}

impl Objects for View {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.store.config_maps.get(&self.namespace, name)
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.store.secrets.get(&self.namespace, name)
    }
}
