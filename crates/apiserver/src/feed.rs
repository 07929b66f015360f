//! From the store to the caches: one load at start, then one watch for everything.
//!
//! ```text
//! load ──> follow ──(interrupted)──> follow again ──(compacted meanwhile)──> load anew, as changes ──> follow
//! ```
//!
//! The watch covers every key, so the caches move together, and one revision says how far all of them are. When a
//! CustomResourceDefinition changes, the routes are replaced before that revision is announced: whoever waited for the
//! definition's commit finds the new resource served.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use store::{Event, Prompt, Revision, Store};
use task::Task;

use crate::{
    cache::{Applied, Cache},
    custom::Definition,
    encryption::Keyring,
    object::Object,
    registry::{self, ROOT, Registry, Resource},
};

/// Entries read from the store at a time.
const PAGE: usize = 5000;

/// The caches and what fills them.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    keyring: Arc<Keyring>,
    applied: Arc<Applied>,
    registry: RwLock<Arc<Registry>>,
    prompt: RwLock<Option<Prompt>>,
}

/// Definitions of custom resources.
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

impl Feed {
    /// Reads everything in the store.
    pub async fn load(store: Store, keyring: Arc<Keyring>) -> anyhow::Result<Arc<Self>> {
        let revision = store.revision().await.context("read the store's revision")?;
        let applied = Arc::new(Applied::new(revision.get()));
        let feed = Self {
            registry: RwLock::new(Arc::new(Registry::built_in(&applied))),
            store,
            keyring,
            applied,
            prompt: RwLock::default(),
        };
        let all = feed.read_all(revision).await?;
        feed.fill(all, revision.get());
        Ok(Arc::new(feed))
    }

    /// Everything below the root, by storage prefix.
    async fn read_all(&self, revision: Revision) -> anyhow::Result<HashMap<String, BTreeMap<Arc<str>, Arc<Object>>>> {
        let mut all: HashMap<String, BTreeMap<Arc<str>, Arc<Object>>> = HashMap::new();
        let mut from: Option<String> = None;
        loop {
            let page = self.store.range(ROOT, from.as_deref(), Some(revision), PAGE).await.context("read the store")?;
            for entry in &page.entries {
                let Some(prefix) = registry::prefix_of(&entry.key) else { continue };
                let bytes = self.unsealed(&entry.key, &entry.value)?;
                let object = Object::new(entry.key.clone(), bytes, entry.mod_revision.get());
                match all.get_mut(prefix) {
                    Some(objects) => _ = objects.insert(entry.key.clone(), object),
                    None => _ = all.insert(prefix.to_owned(), [(entry.key.clone(), object)].into()),
                }
            }
            match page.entries.last() {
                Some(last) if page.more => from = Some(format!("{}\0", last.key)),
                _ => return Ok(all),
            }
        }
    }

    fn unsealed(&self, key: &str, value: &Bytes) -> anyhow::Result<Bytes> {
        if Keyring::covers(key) { self.keyring.unseal(key, value) } else { Ok(value.clone()) }
    }

    /// Gives every cache its state at `revision`; watchers see what is different as changes.
    fn fill(&self, mut all: HashMap<String, BTreeMap<Arc<str>, Arc<Object>>>, revision: u64) {
        let registry = self.registry();
        for resource in registry.stored().filter(|resource| resource.definition.is_none()) {
            resource.cache.replace(all.remove(&*resource.prefix).unwrap_or_default(), revision);
        }
        let definitions = definitions(&registry);
        let customs = definitions.into_iter().map(|definition| {
            let objects = all.remove(&*definition.prefix).unwrap_or_default();
            let cache = match registry.customs.iter().find(|own| own.prefix == definition.prefix) {
                Some(own) => {
                    own.cache.replace(objects, revision);
                    own.cache.clone()
                }
                None => Arc::new(Cache::new(self.applied.clone(), revision, objects.into_values())),
            };
            (definition, cache)
        });
        let next = registry.with_customs(customs.collect());
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.applied.advance(revision);
    }

    /// What is served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the caches are.
    pub fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The keys that seal Secrets.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Waits until the caches hold everything that was committed before this call, by whichever server.
    pub async fn fresh(&self) -> Result<u64, store::Error> {
        let revision = self.store.revision().await?.get();
        if self.await_revision(revision, Duration::from_secs(10)).await {
            return Ok(revision);
        }
        Err(store::Error::Unavailable(format!("the caches are at {}, behind {revision}", self.applied.get())))
    }

    /// Waits until the caches are at `revision`; `false` if that takes longer than `within`.
    pub async fn await_revision(&self, revision: u64, within: Duration) -> bool {
        if self.applied.get() >= revision {
            return true;
        }
        if let Some(prompt) = &*self.prompt.read().unwrap_or_else(PoisonError::into_inner) {
            prompt.ask();
        }
        self.applied.reached(revision, within).await
    }

    /// Follows the store until `task` is cancelled.
    pub async fn run(self: Arc<Self>, task: Task) {
        let mut pause = Duration::from_millis(50);
        while !task.is_cancelled() {
            let started = std::time::Instant::now();
            let Some(ended) = task.until_cancelled(self.follow()).await else { break };
            match ended {
                store::Error::Compacted { oldest } => {
                    tracing::warn!(%oldest, "missed changes of the store, reading it anew");
                    if let Some(Err(error)) = task.until_cancelled(self.reload()).await {
                        tracing::error!(%error, "read the store anew");
                    }
                }
                error => tracing::warn!(%error, "watch of the store ended"),
            }
            pause = if started.elapsed() > Duration::from_secs(30) {
                Duration::from_millis(50)
            } else {
                (pause * 2).min(Duration::from_secs(5))
            };
            task.until_cancelled(tokio::time::sleep(pause)).await;
        }
        for resource in self.registry().stored() {
            resource.cache.end_watches();
        }
    }

    async fn follow(&self) -> store::Error {
        let mut watch = match self.store.watch(ROOT, Revision::new(self.applied.get())).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        *self.prompt.write().unwrap_or_else(PoisonError::into_inner) = Some(watch.prompt());
        loop {
            match watch.next().await {
                Ok(batch) => {
                    self.apply(&batch.events).await;
                    self.applied.advance(batch.revision.get());
                }
                Err(error) => return error,
            }
        }
    }

    async fn reload(&self) -> anyhow::Result<()> {
        let revision = self.store.revision().await?;
        let all = self.read_all(revision).await?;
        self.fill(all, revision.get());
        Ok(())
    }

    async fn apply(&self, events: &[Event]) {
        let mut registry = self.registry();
        let mut owner: Option<Arc<Resource>> = None;
        for event in events {
            let key = event.key();
            if !owner.as_ref().is_some_and(|owner| key.starts_with(&*owner.prefix)) {
                owner = registry.owner(key).cloned();
            }
            let Some(resource) = &owner else { continue };
            let revision = event.revision().get();
            let object = match event {
                Event::Delete { .. } => None,
                Event::Put { entry, .. } => match self.unsealed(key, &entry.value) {
                    Ok(bytes) => Some(Object::new(key.clone(), bytes, revision)),
                    Err(error) => {
                        tracing::error!(%error, %key, "stored value cannot be read");
                        continue;
                    }
                },
            };
            resource.cache.apply(key, object, revision);
            if resource.is(DEFINITIONS.0, DEFINITIONS.1) {
                self.refresh_customs(revision).await;
                registry = self.registry();
                owner = None;
            }
        }
    }

    /// Makes the routes follow the definitions.
    async fn refresh_customs(&self, revision: u64) {
        let registry = self.registry();
        let mut customs = Vec::new();
        for definition in definitions(&registry) {
            let cache = match registry.customs.iter().find(|own| own.prefix == definition.prefix) {
                Some(own) => own.cache.clone(),
                None => Arc::new(self.read_cache(&definition, revision).await),
            };
            customs.push((definition, cache));
        }
        let next = registry.with_customs(customs);
        for gone in &registry.customs {
            let stays = next.customs.iter().find(|own| own.prefix == gone.prefix);
            let served = |resource: &Resource| -> Vec<&'static str> {
                resource.versions.iter().map(|served| served.kind.version).collect()
            };
            if stays.is_none_or(|stays| served(stays) != served(gone)) {
                gone.cache.end_watches();
            }
        }
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// The objects that already lie under a definition that is new to this server.
    async fn read_cache(&self, definition: &Definition, revision: u64) -> Cache {
        let mut objects = Vec::new();
        match self.store.range(&definition.prefix, None, Some(Revision::new(revision)), 0).await {
            Ok(page) => {
                for entry in page.entries {
                    objects.push(Object::new(entry.key, entry.value, entry.mod_revision.get()));
                }
            }
            Err(error) => tracing::error!(%error, prefix = %definition.prefix, "read custom resources"),
        }
        Cache::new(self.applied.clone(), revision, objects)
    }
}

/// What the definitions in the cache say, as far as they are established. What did not change is kept as it is.
fn definitions(registry: &Registry) -> Vec<Arc<Definition>> {
    let Some(resource) = registry.resource(DEFINITIONS.0, DEFINITIONS.1) else { return Vec::new() };
    let mut found = Vec::new();
    for object in resource.cache.all(&crate::selection::Selection::everything(&resource.prefix)) {
        let mut known = registry.customs.iter().filter_map(|custom| custom.definition.as_ref());
        match known.find(|known| known.name == object.name()) {
            Some(known) if known.source == object.revision() => found.push(known.clone()),
            known => found.extend(Definition::read(&object, known.map(|known| &**known)).map(Arc::new)),
        }
    }
    found
}
