//! Keeps claims that pods use, and volumes that claims use, from going away under them: a finalizer each.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use std::{fmt::Debug, sync::Arc};

use client::{
    cache::{Cache, Key},
    queue::{Next, Queue},
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, Resource, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use task::Task;

use crate::caches::Caches;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// Runs both controllers, each with a client of its own.
pub fn run(task: &Task, claims_client: &Client, volumes_client: &Client, caches: &Caches) {
    let claims: Queue<Key> = Queue::new(task);
    let add = claims.clone();
    caches.claims.listen(move |change| add.add(change.key.clone()));
    let (add, all) = (claims.clone(), caches.claims.clone());
    caches.pods.listen(move |change| {
        // Only a pod that goes can set a claim free.
        let Some(pod) = change.old.as_ref().filter(|_| change.new.is_none()) else { return };
        for name in claims_of(pod) {
            let key = Key::new(&change.key.namespace, &name);
            if all.get(&key).is_some_and(|claim| claim.metadata.deletion_timestamp.is_some()) {
                add.add(key);
            }
        }
    });
    let (client, all, pods) = (claims_client.clone(), caches.claims.clone(), caches.pods.clone());
    claims.run("claim protection", 1, move |key| {
        let (client, all, pods) = (client.clone(), all.clone(), pods.clone());
        async move {
            pods.ready().await;
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client, &key.namespace);
            let used = |_: &PersistentVolumeClaim| {
                pods.list_in(&key.namespace).iter().any(|pod| {
                    let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some();
                    placed && claims_of(pod).any(|name| name == *key.name)
                })
            };
            protect(&api, &all, &key, CLAIM, used).await
        }
    });
    let volumes: Queue<Key> = Queue::new(task);
    let add = volumes.clone();
    caches.volumes.listen(move |change| add.add(change.key.clone()));
    let (client, all) = (volumes_client.clone(), caches.volumes.clone());
    volumes.run("volume protection", 1, move |key| {
        let (client, all) = (client.clone(), all.clone());
        async move {
            let bound = |volume: &PersistentVolume| {
                volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
            };
            protect(&Api::all(client), &all, &key, VOLUME, bound).await
        }
    });
}

/// The claims that a pod uses.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
        (None, None) => None,
    })
}

/// What to do with the finalizer.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
    Nothing,
}

fn step(leaving: bool, has: bool, used: impl FnOnce() -> bool) -> Step {
    match (leaving, has) {
        (false, false) => Step::Add,
        (true, true) if !used() => Step::Remove,
        _ => Step::Nothing,
    }
}

async fn protect<K>(
    api: &Api<K>,
    all: &Cache<K>,
    key: &Key,
    finalizer: &str,
    used: impl Fn(&K) -> bool,
) -> kube::Result<Next>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let Some(object): Option<Arc<K>> = all.get(key) else { return Ok(Next::Done) };
    let meta = object.meta();
    let has = meta.finalizers.iter().flatten().any(|name| name == finalizer);
    let mut changed = (*object).clone();
    let finalizers = changed.meta_mut().finalizers.get_or_insert_default();
    match step(meta.deletion_timestamp.is_some(), has, || used(&object)) {
        Step::Nothing => return Ok(Next::Done),
        Step::Add => finalizers.push(finalizer.to_owned()),
        Step::Remove => finalizers.retain(|name| name != finalizer),
    }
    match api.replace(&key.name, &PostParams::default(), &changed).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Next::Done),
        other => other.map(|_| Next::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_stays_while_somebody_uses_the_object() {
        assert_eq!(step(false, false, || false), Step::Add);
        assert_eq!(step(false, true, || false), Step::Nothing);
        assert_eq!(step(true, true, || true), Step::Nothing);
        assert_eq!(step(true, true, || false), Step::Remove);
        assert_eq!(step(true, false, || false), Step::Nothing);
    }
}
