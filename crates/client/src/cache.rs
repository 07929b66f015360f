//! One cache a kind: listed once, kept current by one watch, shared by every loop of the process.
//!
//! ```text
//!            ┌──────────── Init: objects missing at InitDone are deletions ◄─┐
//! watch ─────┤                                                               │ watch broken
//!            └── Apply, Delete ── map ── listeners (called in order) ────────┘
//! ```
//!
//! Objects are shared, never copied. A listener is called for each change in the order of the API server, on the
//! cache's own task: it should do no more than put a key into a [`Queue`](crate::queue::Queue) or wake somebody.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::{self, Debug, Display},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, InitialListStrategy},
};
use serde::de::DeserializeOwned;
use task::Task;
use tokio::sync::watch;

/// What names an object within its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for objects without a namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of the object `name` in `namespace`; the latter is empty where the kind has none.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// What happened to one object: at least one of the two is there.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// Which object.
    pub key: Key,
    /// As it was known before; `None` if it was not.
    pub old: Option<Arc<K>>,
    /// As it is now; `None` once deleted.
    pub new: Option<Arc<K>>,
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind as the API server last told them. Cloning shares the cache.
pub struct Cache<K>(Arc<Inner<K>>);

struct Inner<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    listeners: Mutex<Vec<Listener<K>>>,
    ready: watch::Sender<bool>,
    tally: Mutex<Tally>,
}

/// How a cache has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lists that were complete.
    pub lists: u64,
    /// Lists that broke off.
    pub failed_lists: u64,
    /// Watches that went on from a list.
    pub watches: u64,
    /// Watches that broke off.
    pub failed_watches: u64,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Debug for Cache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache<{}>", std::any::type_name::<K>())
    }
}

/// What of a kind is cached.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only objects with these labels, in the API's text form.
    pub labels: Option<String>,
    /// Only objects with these fields, in the API's text form.
    pub fields: Option<String>,
}

impl Scope {
    /// Only objects whose fields match, for example `spec.nodeName=a`.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { labels: None, fields: Some(selector.into()) }
    }
}

impl<K> Cache<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// A cache that nobody fills yet: add listeners with [`Cache::listen`], then [`Cache::start`] it.
    pub fn idle() -> Self {
        Self(Arc::new(Inner {
            objects: RwLock::default(),
            listeners: Mutex::default(),
            ready: watch::Sender::new(false),
            tally: Mutex::default(),
        }))
    }

    /// A cache of these objects that nobody fills any further: what tests and simulations look at.
    pub fn holding(objects: impl IntoIterator<Item = K>) -> Self {
        let cache = Self::idle();
        objects.into_iter().for_each(|object| cache.put(object));
        cache.0.ready.send_replace(true);
        cache
    }

    /// Fills the cache from `api` until `task` ends. Failures are retried with growing delays, and logged once they last.
    pub fn start(&self, task: &Task, api: Api<K>, scope: Scope) {
        self.start_trimmed(task, api, scope, |_| ());
    }

    /// The same; `trim` takes from each object what nobody here looks at, before it is kept.
    pub fn start_trimmed(&self, task: &Task, api: Api<K>, scope: Scope, trim: fn(&mut K)) {
        let cache = self.clone();
        task.spawn_until_cancelled("cache", async move { cache.follow(api, scope, trim).await });
    }

    /// How it has fared so far.
    pub fn tally(&self) -> Tally {
        *self.0.tally.lock().expect("tally lock")
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.0.tally.lock().expect("tally lock"));
    }

    /// A cache that is filled at once.
    pub fn of(task: &Task, api: Api<K>, scope: Scope) -> Self {
        let cache = Self::idle();
        cache.start(task, api, scope);
        cache
    }

    async fn follow(&self, api: Api<K>, scope: Scope, trim: fn(&mut K)) {
        let config = watcher::Config {
            label_selector: scope.labels,
            field_selector: scope.fields,
            initial_list_strategy: InitialListStrategy::StreamingList,
            ..watcher::Config::default()
        };
        let mut delay = FIRST_DELAY;
        let mut seen = HashSet::new();
        let mut listing = true;
        let mut events = watcher::watcher(api, config).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(mut event) => {
                    delay = FIRST_DELAY;
                    match &mut event {
                        Event::Init => listing = true,
                        Event::InitDone => {
                            listing = false;
                            self.count(|tally| {
                                tally.lists += 1;
                                tally.watches += 1;
                            });
                        }
                        Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => trim(object),
                    }
                    self.take(event, &mut seen);
                }
                Err(error) => {
                    self.count(|tally| *if listing { &mut tally.failed_lists } else { &mut tally.failed_watches } += 1);
                    // A node may ask for what its pod needs just after the pod has gone: that ends by itself.
                    if delay >= SPEAK_UP {
                        tracing::warn!(kind = std::any::type_name::<K>(), %error, ?delay, "watch fails again and again");
                    } else {
                        tracing::debug!(kind = std::any::type_name::<K>(), %error, ?delay, "watch is tried again");
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_DELAY);
                }
            }
        }
    }

    fn take(&self, event: Event<K>, seen: &mut HashSet<Key>) {
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(object) => {
                seen.insert(Key::of(&object));
                self.put(object);
            }
            Event::InitDone => {
                let gone: Vec<Key> = {
                    let objects = self.0.objects.read().expect("cache lock");
                    objects.keys().filter(|key| !seen.contains(key)).cloned().collect()
                };
                gone.into_iter().for_each(|key| self.remove(key, None));
                std::mem::take(seen);
                self.0.ready.send_replace(true);
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.remove(Key::of(&object), Some(object)),
        }
    }

    fn put(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let (key, new) = (Key::of(&object), Arc::new(object));
        let old = self.0.objects.write().expect("cache lock").insert(key.clone(), new.clone());
        if old.as_ref().is_some_and(|old| old.meta().resource_version == new.meta().resource_version) {
            return;
        }
        self.tell(&Change { key, old, new: Some(new) });
    }

    fn remove(&self, key: Key, last: Option<K>) {
        let old = self.0.objects.write().expect("cache lock").remove(&key);
        let old = last.map(Arc::new).or(old);
        self.tell(&Change { key, old, new: None });
    }

    fn tell(&self, change: &Change<K>) {
        for listener in self.0.listeners.lock().expect("listeners lock").iter() {
            listener(change);
        }
    }

    /// Calls `listener` for each change from now on, and at once for each object already there.
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut listeners = self.0.listeners.lock().expect("listeners lock");
        for (key, object) in self.0.objects.read().expect("cache lock").iter() {
            listener(&Change { key: key.clone(), old: None, new: Some(object.clone()) });
        }
        listeners.push(Box::new(listener));
    }

    /// The object of that key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.0.objects.read().expect("cache lock").get(key).cloned()
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.objects.read().expect("cache lock").values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.0.objects.read().expect("cache lock");
        objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Resolves once the first list is complete.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(30);
/// From this delay on a failure is worth a warning.
const SPEAK_UP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
