//! Garbage collector: deletes what its owners have left behind, and makes owners wait for, or let go of, dependents.
//!
//! ```text
//! metadata of every kind ─► graph: who owns whom ─► queue of uids ─► decide ─► delete, patch owners, drop finalizer
//! ```
//!
//! | an object | and | then |
//! |---|---|---|
//! | has owners, none of which is there | | it is deleted |
//! | is being deleted, with finalizer `foregroundDeletion` | dependents block it | they are deleted first |
//! | | none is left | the finalizer is removed |
//! | has only such owners, and owns one of them in a circle | | no owner waits for it any more, then it is deleted |
//! | is being deleted, with finalizer `orphan` | | dependents forget it, then the finalizer is removed |
//!
//! Of objects that neither own nor are owned only the uid is remembered.
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

pub mod graph;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::queue::{Next, Queue};
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, InitialListStrategy},
};
use serde_json::json;
use task::{Running, Task};

use self::graph::{Graph, Item, Node, Owner, Step, Uid};
use crate::namespace::{Listed, discover};

/// How long after a change of the custom resources the set of kinds is read again.
const REDISCOVER: Duration = Duration::from_millis(500);
const WORKERS: usize = 4;

#[derive(Clone)]
struct Collector {
    task: Task,
    client: Client,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<Uid>,
    kinds: Arc<Mutex<BTreeMap<String, (Listed, Running)>>>,
    rediscover: Queue<&'static str>,
}

/// Runs the collector.
pub fn run(task: &Task, client: &Client) {
    let collector = Collector {
        task: task.clone(),
        client: client.clone(),
        graph: Arc::default(),
        queue: Queue::new(task),
        kinds: Arc::default(),
        rediscover: Queue::new(task),
    };
    collector.rediscover.add("kinds");
    let (rediscover, kinds) = (collector.rediscover.clone(), collector.clone());
    rediscover.run("kinds with owners", 1, move |_| {
        let kinds = kinds.clone();
        async move { kinds.follow_all().await.map(|()| Next::Done) }
    });
    let queue = collector.queue.clone();
    queue.run("garbage", WORKERS, move |uid| {
        let collector = collector.clone();
        async move { collector.work(uid).await }
    });
}

impl Collector {
    /// Starts a watch of each kind that has none yet, and ends those of kinds that are gone.
    async fn follow_all(&self) -> kube::Result<()> {
        let found = discover(&self.client).await?;
        let wanted: BTreeMap<String, Listed> = found
            .into_iter()
            .filter(|kind| ["list", "watch", "delete"].iter().all(|verb| kind.verbs.iter().any(|known| known == verb)))
            // Events have no dependents and come in great numbers.
            .filter(|kind| kind.plural != "events")
            .map(|kind| (format!("{}/{}", kind.group, kind.plural), kind))
            .collect();
        let mut kinds = self.kinds.lock().expect("kinds");
        kinds.retain(|name, (known, running)| {
            let stays = wanted.get(name).is_some_and(|kind| kind.version == known.version);
            if !stays {
                running.abort();
            }
            stays
        });
        for (name, kind) in wanted {
            if !kinds.contains_key(&name) {
                let (collector, followed) = (self.clone(), kind.clone());
                let running =
                    self.task.spawn_until_cancelled("garbage watch", async move { collector.follow(followed).await });
                kinds.insert(name, (kind, running));
            }
        }
        Ok(())
    }

    async fn follow(&self, kind: Listed) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &resource(&kind));
        let config =
            watcher::Config { initial_list_strategy: InitialListStrategy::StreamingList, ..watcher::Config::default() };
        let mut events = watcher::watcher(api, config).boxed();
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.extend(uid_of(&object));
                    self.take(&kind, &object);
                }
                Ok(Event::InitDone) => {
                    self.rediscover_after(&kind);
                    let changed = self.graph.lock().expect("graph").keep_only(&kind.group, &kind.plural, &listed);
                    listed = Vec::new();
                    changed.into_iter().for_each(|uid| self.queue.add(uid));
                }
                Ok(Event::Apply(object)) => {
                    self.rediscover_after(&kind);
                    self.take(&kind, &object);
                }
                Ok(Event::Delete(object)) => {
                    self.rediscover_after(&kind);
                    if let Some(uid) = uid_of(&object) {
                        let changed = self.graph.lock().expect("graph").remove(uid);
                        changed.into_iter().for_each(|uid| self.queue.add(uid));
                    }
                }
                Err(error) => {
                    tracing::debug!(kind = kind.kind, %error, "garbage watch");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// What defines kinds has changed: the set of kinds is read again, once for many changes.
    fn rediscover_after(&self, changed: &Listed) {
        if changed.plural == "customresourcedefinitions" {
            self.rediscover.add_after("kinds", REDISCOVER);
        }
    }

    fn take(&self, kind: &Listed, object: &PartialObjectMeta<DynamicObject>) {
        let Some(uid) = uid_of(object) else { return };
        let meta = &object.metadata;
        let owners = meta.owner_references.iter().flatten().filter_map(|owner| {
            Some(Owner {
                uid: Uid::parse(&owner.uid)?,
                item: Item {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    namespace: meta.namespace.clone().unwrap_or_default(),
                    name: owner.name.clone(),
                },
                blocks: owner.block_owner_deletion.unwrap_or(false),
            })
        });
        let finalizer = |name: &str| meta.finalizers.iter().flatten().any(|known| known == name);
        let node = Node {
            group: kind.group.clone(),
            plural: kind.plural.clone(),
            item: Item {
                api_version: if kind.group.is_empty() {
                    kind.version.clone()
                } else {
                    format!("{}/{}", kind.group, kind.version)
                },
                kind: kind.kind.clone(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            },
            owners: owners.collect(),
            leaving: meta.deletion_timestamp.is_some(),
            foreground: finalizer("foregroundDeletion"),
            orphan: finalizer("orphan"),
        };
        let changed = self.graph.lock().expect("graph").put(uid, node);
        changed.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn work(&self, uid: Uid) -> kube::Result<Next> {
        let unknown = self.graph.lock().expect("graph").unknown_owners(uid);
        for owner in unknown {
            let there = self.is_there(&owner).await?;
            self.graph.lock().expect("graph").learn(owner.uid, there);
        }
        let step = self.graph.lock().expect("graph").decide(uid);
        match step {
            Step::Nothing => {}
            Step::Delete { item, policy } => self.delete(uid, &item, policy).await?,
            Step::DropOwners { item, gone } => {
                let owners: Vec<_> =
                    gone.iter().map(|uid| json!({"$patch": "delete", "uid": uid.to_string()})).collect();
                let patch = json!({"metadata": {"uid": uid.to_string(), "ownerReferences": owners}});
                self.patch(&item, patch).await?;
            }
            Step::BreakCircle { item, owners } => {
                self.unblock_owners(&item, &owners).await?;
                self.delete(uid, &item, PropagationPolicy::Foreground).await?;
            }
            Step::Unblock { item } => self.remove_finalizer(uid, &item, "foregroundDeletion").await?,
            Step::Orphan { item, dependents } => {
                for (dependent, at) in dependents {
                    let patch = json!({"metadata": {"uid": dependent.to_string(),
                        "ownerReferences": [{"$patch": "delete", "uid": uid.to_string()}]}});
                    self.patch(&at, patch).await?;
                }
                self.remove_finalizer(uid, &item, "orphan").await?;
            }
            Step::DeleteDependents { dependents } => {
                for dependent in dependents {
                    self.queue.add(dependent);
                }
            }
        }
        Ok(Next::Done)
    }

    fn api(&self, item: &Item) -> Option<Api<DynamicObject>> {
        let group = item.api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.lock().expect("kinds");
        let (kind, _) = kinds.values().find(|(kind, _)| kind.group == group && kind.kind == item.kind)?;
        let resource = resource(kind);
        Some(if kind.namespaced && !item.namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), &item.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        })
    }

    /// Asks the API server whether the owner is there, with that uid.
    async fn is_there(&self, owner: &Owner) -> kube::Result<bool> {
        // An owner of a kind that is not served is given the benefit of the doubt.
        let Some(api) = self.api(&owner.item) else { return Ok(true) };
        match api.get_metadata(&owner.item.name).await {
            Ok(found) => Ok(uid_of(&found) == Some(owner.uid)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, uid: Uid, item: &Item, policy: PropagationPolicy) -> kube::Result<()> {
        let Some(api) = self.api(item) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(uid.to_string()), resource_version: None }),
            ..DeleteParams::default()
        };
        tracing::debug!(kind = item.kind, namespace = item.namespace, name = item.name, "collected");
        match api.delete(&item.name, &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn patch(&self, item: &Item, patch: serde_json::Value) -> kube::Result<()> {
        let Some(api) = self.api(item) else { return Ok(()) };
        let patched = match api.patch(&item.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            // Custom resources know no strategic merge.
            Err(kube::Error::Api(status)) if status.code == 415 => {
                let current = api.get_metadata(&item.name).await?;
                let doomed: Vec<&str> = patch["metadata"]["ownerReferences"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|owner| owner["uid"].as_str())
                    .collect();
                let owners: Vec<_> = current
                    .metadata
                    .owner_references
                    .into_iter()
                    .flatten()
                    .filter(|owner| !doomed.contains(&owner.uid.as_str()))
                    .collect();
                let merge = json!({"metadata": {"resourceVersion": current.metadata.resource_version,
                    "uid": current.metadata.uid, "ownerReferences": owners}});
                api.patch(&item.name, &PatchParams::default(), &Patch::Merge(&merge)).await
            }
            other => other,
        };
        match patched {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Lets none of `owners` wait for `item`.
    async fn unblock_owners(&self, item: &Item, owners: &[Uid]) -> kube::Result<()> {
        let Some(api) = self.api(item) else { return Ok(()) };
        let current = match api.get_metadata(&item.name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            other => other?,
        };
        let mut references = current.metadata.owner_references.unwrap_or_default();
        for reference in &mut references {
            if Uid::parse(&reference.uid).is_some_and(|uid| owners.contains(&uid)) {
                reference.block_owner_deletion = Some(false);
            }
        }
        let patch = json!({"metadata": {"resourceVersion": current.metadata.resource_version,
            "uid": current.metadata.uid, "ownerReferences": references}});
        match api.patch(&item.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn remove_finalizer(&self, uid: Uid, item: &Item, finalizer: &str) -> kube::Result<()> {
        let Some(api) = self.api(item) else { return Ok(()) };
        let current = match api.get_metadata(&item.name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            other => other?,
        };
        if uid_of(&current) != Some(uid) {
            return Ok(());
        }
        let finalizers: Vec<_> =
            current.metadata.finalizers.into_iter().flatten().filter(|name| name != finalizer).collect();
        let patch =
            json!({"metadata": {"resourceVersion": current.metadata.resource_version, "finalizers": finalizers}});
        match api.patch(&item.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn uid_of(object: &PartialObjectMeta<DynamicObject>) -> Option<Uid> {
    Uid::parse(object.metadata.uid.as_deref()?)
}

fn resource(kind: &Listed) -> ApiResource {
    ApiResource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        api_version: if kind.group.is_empty() {
            kind.version.clone()
        } else {
            format!("{}/{}", kind.group, kind.version)
        },
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}
