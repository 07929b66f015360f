//! ResourceQuota: counts anew what a namespace uses, after a quota was made or changed and after something was freed.
//!
//! ```text
//! quota made, limits changed ─┐
//! pod ended, shrunk, deleted ─┼─► queue ─► read quota ─ list what it tracks ─ recount ─► status, if the quota is the same
//! anything tracked deleted ───┘                                                            └─ not: once more
//! ```
//!
//! The API server charges what is created in the commit that creates it, and so changes the quota's version: a count that
//! was overtaken by a creation is refused and made again. Kinds that only some quota names are watched from then on.
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    admit::quota::{self, Counted},
    amount,
    meta::View,
};
use client::{
    cache::{Cache, Key, Scope},
    queue::{Next, Queue},
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use task::{Running, Task};

use crate::{
    caches::Caches,
    namespace::{Listed, discover},
};

/// Objects listed at a time.
const PAGE: u32 = 500;
/// How soon a kind that is not served yet is looked for again.
const NOT_SERVED: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Counter {
    task: Task,
    client: Client,
    quotas: Cache<ResourceQuota>,
    queue: Queue<Key>,
    /// What is served, as of the last look.
    served: Arc<Mutex<Vec<Listed>>>,
    /// Watches of kinds that quotas name.
    watched: Arc<Mutex<BTreeMap<String, Running>>>,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let counter = Counter {
        task: task.clone(),
        client: client.clone(),
        quotas: Cache::idle(),
        queue: Queue::new(task),
        served: Arc::default(),
        watched: Arc::default(),
    };
    let queue = counter.queue.clone();
    counter.quotas.listen(move |change| {
        let Some(new) = &change.new else { return };
        let spec = new.spec.as_ref();
        let counted = new.status.as_ref().is_some_and(|status| {
            status.used.is_some() && status.hard.as_ref() == spec.and_then(|spec| spec.hard.as_ref())
        });
        if !counted || change.old.as_ref().is_none_or(|old| old.spec != new.spec) {
            queue.add(change.key.clone());
        }
    });
    counter.quotas.start(task, Api::all(client.clone()), Scope::default());
    let freed = counter.clone();
    caches.pods.listen(move |change| {
        if frees_pod(change.old.as_deref(), change.new.as_deref()) {
            freed.recount(&change.key.namespace);
        }
    });
    let freed = counter.clone();
    caches.services.listen(move |change| {
        if frees_service(change.old.as_deref(), change.new.as_deref()) {
            freed.recount(&change.key.namespace);
        }
    });
    let queue = counter.queue.clone();
    queue.run("resource quota", 2, move |key| {
        let counter = counter.clone();
        async move { counter.work(&key).await }
    });
}

/// Whether a change of a pod may free something: its end, or a change of what it has.
fn frees_pod(old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return new.is_none() };
    let ended = |pod: &Pod| matches!(crate::pods::phase(pod), "Succeeded" | "Failed");
    let given = |pod: &Pod| {
        let spec = pod.spec.iter().flat_map(|spec| &spec.containers).map(|one| one.resources.clone());
        let status = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        (spec.collect::<Vec<_>>(), status.map(|one| one.resources.clone()).collect::<Vec<_>>())
    };
    ended(new) && !ended(old) || given(old) != given(new)
}

fn frees_service(old: Option<&Service>, new: Option<&Service>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return new.is_none() };
    let used = |service: &Service| {
        service.spec.as_ref().map(|spec| (spec.type_.clone(), spec.ports.as_ref().map_or(0, Vec::len)))
    };
    used(old) != used(new)
}

impl Counter {
    /// Every quota of a namespace is to be counted.
    fn recount(&self, namespace: &str) {
        for quota in self.quotas.list_in(namespace) {
            self.queue.add(Key::of(&*quota));
        }
    }

    async fn work(&self, key: &Key) -> kube::Result<Next> {
        self.quotas.ready().await;
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        // As upstream's controller it may list quotas, and update their status, but not get or patch them.
        let one = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let Some(mut present) = api.list(&one).await?.items.into_iter().next() else { return Ok(Next::Done) };
        let state = serde_json::to_value(&present).map_err(kube::Error::SerdeError)?;
        let view = View::new(&state);
        let hard = view.at("spec").at("hard");
        let names: Vec<&str> = hard.as_map().into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let mut missing = !self.all_known(&names);
        if missing {
            let found = discover(&self.client).await?;
            *self.served.lock().unwrap_or_else(PoisonError::into_inner) = found;
            missing = !self.all_known(&names);
        }
        let mut objects: Vec<(Listed, Vec<Value>)> = Vec::new();
        for kind in self.tracked(&names) {
            self.follow(&kind);
            let listed = self.list(&kind, &key.namespace).await?;
            objects.push((kind, listed));
        }
        let each = objects.iter().flat_map(|(kind, listed)| {
            let kind = Counted { group: &kind.group, plural: &kind.plural };
            listed.iter().map(move |object| (kind, object))
        });
        let used = quota::recount(&state, each, Timestamp::now());
        let status = view.at("status");
        let same = amount::read(status.at("hard")) == amount::read(hard) && amount::read(status.at("used")) == used;
        if !same || !status.has("used") {
            let status = json!({ "hard": hard.value(), "used": amount::write(&used) });
            present.status = serde_json::from_value(status).map_err(kube::Error::SerdeError)?;
            match api.replace_status(&key.name, &PostParams::default(), &present).await {
                // Something was created meanwhile, and charged.
                Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Next::After(Duration::ZERO)),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => _ = other?,
            }
        }
        // A definition may come later; whoever waits for the quota learns the rest now.
        Ok(if missing { Next::After(NOT_SERVED) } else { Next::Done })
    }

    /// Whether each name is that of something that is served.
    fn all_known(&self, names: &[&str]) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        !served.is_empty() && names.iter().all(|name| served.iter().any(|kind| counted(kind).tracks(name)))
    }

    /// The kinds of which a quota with these names counts the objects, each once.
    fn tracked(&self, names: &[&str]) -> Vec<Listed> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let found = served.iter().filter(|kind| {
            kind.namespaced
                && kind.verbs.iter().any(|verb| verb == "list")
                && names.iter().any(|name| counted(kind).tracks(name))
        });
        found.cloned().collect()
    }

    async fn list(&self, kind: &Listed, namespace: &str) -> kube::Result<Vec<Value>> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource(kind));
        let mut found = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = if is_measured(kind) {
                let page = api.list(&params).await?;
                let values = page.items.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
                found.extend(values.map_err(kube::Error::SerdeError)?);
                page.metadata.continue_
            } else {
                let page = api.list_metadata(&params).await?;
                found.extend(page.items.iter().map(|_| json!({})));
                page.metadata.continue_
            };
            match page.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// Watches a kind that no cache holds, from the first quota on that names it.
    fn follow(&self, kind: &Listed) {
        if kind.group.is_empty() && matches!(kind.plural.as_str(), "pods" | "services") {
            return;
        }
        let name = format!("{}/{}", kind.group, kind.plural);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.entry(name).or_insert_with(|| {
            let (counter, kind) = (self.clone(), kind.clone());
            self.task.spawn("quota watch", async move { counter.watch(kind).await })
        });
    }

    async fn watch(&self, kind: Listed) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &resource(&kind));
        let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
        while let Some(Some(event)) = self.task.until_cancelled(events.next()).await {
            match event {
                Ok(Event::Delete(object)) => self.recount(object.metadata.namespace.as_deref().unwrap_or_default()),
                Ok(Event::Apply(object)) if is_measured(&kind) => {
                    self.recount(object.metadata.namespace.as_deref().unwrap_or_default());
                }
                // What went while nobody watched.
                Ok(Event::InitDone) => self.quotas.list().iter().for_each(|quota| self.queue.add(Key::of(&**quota))),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(kind = kind.kind, %error, "quota watch");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// Whether more of an object counts than that it is there.
fn is_measured(kind: &Listed) -> bool {
    kind.group.is_empty() && matches!(kind.plural.as_str(), "pods" | "services" | "persistentvolumeclaims")
}

fn counted(kind: &Listed) -> Counted<'_> {
    Counted { group: &kind.group, plural: &kind.plural }
}

fn resource(kind: &Listed) -> ApiResource {
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    ApiResource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        api_version,
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_frees_its_share_when_it_ends() {
        let pod = |phase: &str| -> Pod { serde_json::from_value(json!({"status": {"phase": phase}})).unwrap() };
        assert!(frees_pod(Some(&pod("Running")), Some(&pod("Failed"))));
        assert!(!frees_pod(Some(&pod("Pending")), Some(&pod("Running"))));
        assert!(frees_pod(Some(&pod("Running")), None) && !frees_pod(None, Some(&pod("Running"))));
    }
}
