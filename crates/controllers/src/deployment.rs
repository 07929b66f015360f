//! Deployment: moves pods from one ReplicaSet to the next as the template changes.
//!
//! ```text
//! claim sets ─► the set of this template (made if missing, with the next revision)
//!            ─► paused: only scale       Recreate: old to 0, then new up
//!            ─► RollingUpdate: new up as far as surge allows, old down as far as availability allows
//!            ─► status, conditions, clean-up of old revisions
//! ```
//! [`plan`] holds the arithmetic, [`condition`] what the status says.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

pub mod condition;
pub mod plan;
pub mod revision;

use std::{collections::BTreeMap, sync::Arc};

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
    selector::matches,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use task::Task;

use self::{
    plan::Rolling,
    revision::{DESIRED, HASH, MAXIMUM, REVISION},
};
use crate::{
    caches::Caches,
    pods::{Claim, claim, controller_of},
};

const WORKERS: usize = 4;

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Caches,
    events: Recorder,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.deployments.listen(move |change| add.add(change.key.clone()));
    let (add, deployments) = (queue.clone(), caches.deployments.clone());
    caches.replica_sets.listen(move |change| {
        for set in [&change.old, &change.new].into_iter().flatten() {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            match controller_of(set.metadata.owner_references.as_ref()) {
                Some(owner) if owner.kind == "Deployment" => add.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    for deployment in deployments.list_in(namespace) {
                        if matches(&deployment.spec.selector, set.metadata.labels.as_ref()) {
                            add.add(Key::of(&*deployment));
                        }
                    }
                }
            }
        }
    });
    // Recreate waits for the last pod of the old revision.
    let (add, sets) = (queue.clone(), caches.replica_sets.clone());
    caches.pods.listen(move |change| {
        let (Some(old), None) = (&change.old, &change.new) else { return };
        let Some(owner) = controller_of(old.metadata.owner_references.as_ref()) else { return };
        let namespace = old.metadata.namespace.as_deref().unwrap_or_default();
        let set = sets.get(&Key::new(namespace, &owner.name));
        let deployment = set.as_ref().and_then(|set| controller_of(set.metadata.owner_references.as_ref()));
        if let Some(deployment) = deployment {
            add.add(Key::new(namespace, &deployment.name));
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: caches.clone(),
        events: Recorder::new(task, client, "deployment-controller", None),
    };
    queue.run("deployment", WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// The replica sets of one deployment.
struct Sets {
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn present(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

impl Controller {
    fn sets_api(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        for ready in [self.caches.deployments.is_ready(), self.caches.replica_sets.is_ready()] {
            if !ready {
                self.caches.deployments.ready().await;
                self.caches.replica_sets.ready().await;
            }
        }
        self.caches.pods.ready().await;
        let Some(deployment) = self.caches.deployments.get(key) else { return Ok(Next::Done) };
        let spec = &deployment.spec;
        let mut sets = self.claim(&deployment).await?;
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.finish(key, &deployment, &sets).await;
        }
        let paused = spec.paused.unwrap_or(false);
        let replicas = spec.replicas.unwrap_or(1);
        let rescaled =
            sets.all().any(|set| wanted(set) > 0 && revision::desired(set).is_some_and(|was| was != replicas));
        if paused || rescaled {
            self.find_or_make(&deployment, &mut sets, false).await?;
            self.scale_proportionally(&deployment, &mut sets).await?;
        } else if spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            self.recreate(&deployment, &mut sets).await?;
        } else {
            self.roll(&deployment, &mut sets).await?;
        }
        if !paused {
            self.clean_up(&deployment, &mut sets).await?;
        }
        self.finish(key, &deployment, &sets).await
    }

    /// The deployment's sets, orphans adopted and strangers released.
    async fn claim(&self, deployment: &Deployment) -> kube::Result<Sets> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let spec = &deployment.spec;
        let api = self.sets_api(namespace);
        let mut mine: Vec<ReplicaSet> = Vec::new();
        for set in self.caches.replica_sets.list_in(namespace) {
            let selected = matches(&spec.selector, set.metadata.labels.as_ref());
            let leaving = set.metadata.deletion_timestamp.is_some();
            let name = set.metadata.name.as_deref().unwrap_or_default();
            match claim(set.metadata.owner_references.as_ref(), uid, selected, leaving) {
                Claim::Mine => mine.push((*set).clone()),
                Claim::Adopt if deployment.metadata.deletion_timestamp.is_none() => {
                    let owners = json!({"metadata": {"uid": set.metadata.uid, "ownerReferences": [owner_reference(deployment)]}});
                    mine.push(api.patch(name, &PatchParams::default(), &Patch::Strategic(owners)).await?);
                }
                Claim::Release => {
                    let owners = json!({"metadata": {"uid": set.metadata.uid,
                        "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
                    api.patch(name, &PatchParams::default(), &Patch::Strategic(owners)).await?;
                }
                Claim::Adopt | Claim::Foreign => {}
            }
        }
        mine.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let at = mine.iter().position(|set| {
            let template = set.spec.template.as_ref();
            template.is_some_and(|template| same_template(template, &spec.template))
        });
        let new = at.map(|at| mine.remove(at));
        Ok(Sets { new, old: mine })
    }

    /// Makes sure that the set of the current template carries the newest revision; makes it if `make` is set.
    async fn find_or_make(&self, deployment: &Deployment, sets: &mut Sets, make: bool) -> kube::Result<()> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let newest = sets.old.iter().filter_map(revision::of).max().unwrap_or(0) + 1;
        let api = self.sets_api(namespace);
        if let Some(set) = &sets.new {
            let mut changed = set.clone();
            let annotations = revision::annotations(deployment, Some(set), newest);
            let least = deployment.spec.min_ready_seconds;
            let spec_changed = changed.spec.min_ready_seconds != least;
            if set.metadata.annotations.as_ref() != Some(&annotations) || spec_changed {
                changed.metadata.annotations = Some(annotations);
                changed.spec.min_ready_seconds = least;
                sets.new = Some(api.replace(&revision::name(&changed), &PostParams::default(), &changed).await?);
            }
        } else if make {
            let Some(set) = self.make(deployment, sets, newest).await? else { return Ok(()) };
            sets.new = Some(set);
        }
        if let Some(set) = &sets.new {
            let number = revision::of(set).unwrap_or(newest).to_string();
            let known = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
            if known != Some(&number) {
                let mut whole = deployment.clone();
                whole.metadata.annotations.get_or_insert_default().insert(REVISION.into(), number);
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                let name = deployment.metadata.name.as_deref().unwrap_or_default();
                match deployments.replace(name, &PostParams::default(), &whole).await {
                    // A newer one, or its end, is on its way through the cache.
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    /// A new set, named by the hash of its template. `None` if that name is another template's: then the collision count
    /// is raised, and the next turn takes another name.
    async fn make(&self, deployment: &Deployment, sets: &Sets, newest: i64) -> kube::Result<Option<ReplicaSet>> {
        let spec = &deployment.spec;
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = revision::hash(&spec.template, collisions.unwrap_or(0));
        let replicas = plan::new_replicas(&self.rolling(deployment), 0, sets.old.iter().map(wanted).sum());
        let mut set = revision::set_of(deployment, &hash, owner_reference(deployment));
        set.metadata.annotations = Some(revision::annotations(deployment, None, newest));
        set.spec.replicas = Some(replicas);
        let api = self.sets_api(namespace);
        match api.create(&PostParams::default(), &set).await {
            Ok(made) => {
                let message = format!("Scaled up replica set {} from 0 to {replicas}", revision::name(&made));
                if replicas > 0 {
                    self.events.say(&deployment.object_ref(&()), Severity::Normal, "ScalingReplicaSet", message);
                }
                Ok(Some(made))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let existing = api.get(&revision::name(&set)).await?;
                let ours = controller_of(existing.metadata.owner_references.as_ref())
                    .is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
                let template = existing.spec.template.as_ref();
                if ours && template.is_some_and(|template| same_template(template, &spec.template)) {
                    return Ok(Some(existing));
                }
                let mut whole = deployment.clone();
                whole.status.get_or_insert_default().collision_count = Some(collisions.unwrap_or(0) + 1);
                let name = deployment.metadata.name.as_deref().unwrap_or_default();
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                deployments.replace_status(name, &PostParams::default(), &whole).await?;
                Ok(None)
            }
            Err(error) => {
                let message = format!("Failed to create new replica set {:?}: {error}", revision::name(&set));
                self.events.say(&deployment.object_ref(&()), Severity::Warning, "ReplicaSetCreateError", message);
                Err(error)
            }
        }
    }

    fn rolling(&self, deployment: &Deployment) -> Rolling {
        Rolling::of(deployment)
    }

    async fn roll(&self, deployment: &Deployment, sets: &mut Sets) -> kube::Result<()> {
        self.find_or_make(deployment, sets, true).await?;
        let rolling = self.rolling(deployment);
        let Some(new) = &sets.new else { return Ok(()) };
        let total_old: i32 = sets.old.iter().map(wanted).sum();
        let replicas = plan::new_replicas(&rolling, wanted(new), total_old);
        if replicas != wanted(new) {
            sets.new = Some(self.scale(deployment, new, replicas).await?);
            return Ok(());
        }
        let states: Vec<plan::Old> =
            sets.old.iter().map(|set| plan::Old { wanted: wanted(set), available: available(set) }).collect();
        let unavailable = (wanted(new) - available(new)).max(0);
        let down = plan::old_replicas(&rolling, wanted(new), available(new), unavailable, &states);
        for (set, replicas) in sets.old.iter_mut().zip(down) {
            if replicas != wanted(set) {
                *set = self.scale(deployment, set, replicas).await?;
            }
        }
        Ok(())
    }

    async fn recreate(&self, deployment: &Deployment, sets: &mut Sets) -> kube::Result<()> {
        self.find_or_make(deployment, sets, false).await?;
        let mut scaled = false;
        for set in &mut sets.old {
            if wanted(set) > 0 {
                *set = self.scale(deployment, set, 0).await?;
                scaled = true;
            }
        }
        if scaled || self.old_pods_run(sets) {
            return Ok(());
        }
        self.find_or_make(deployment, sets, true).await?;
        let replicas = deployment.spec.replicas.unwrap_or(1);
        if let Some(new) = &sets.new
            && wanted(new) != replicas
        {
            sets.new = Some(self.scale(deployment, new, replicas).await?);
        }
        Ok(())
    }

    fn old_pods_run(&self, sets: &Sets) -> bool {
        let uids: Vec<&String> = sets.old.iter().filter_map(|set| set.metadata.uid.as_ref()).collect();
        let Some(namespace) = sets.old.first().and_then(|set| set.metadata.namespace.as_deref()) else { return false };
        let pods: Vec<Arc<Pod>> = self.caches.pods.list_in(namespace);
        pods.iter().any(|pod| {
            let owner = controller_of(pod.metadata.owner_references.as_ref());
            owner.is_some_and(|owner| uids.contains(&&owner.uid))
                && !matches!(crate::pods::phase(pod), "Succeeded" | "Failed")
        })
    }

    async fn scale_proportionally(&self, deployment: &Deployment, sets: &mut Sets) -> kube::Result<()> {
        let rolling = self.rolling(deployment);
        let mut live: Vec<&mut ReplicaSet> =
            sets.old.iter_mut().chain(&mut sets.new).filter(|set| wanted(set) > 0).collect();
        let one = match live.len() {
            0 => sets.new.as_mut(),
            1 => live.pop(),
            _ => None,
        };
        if let Some(set) = one {
            *set = self.scale(deployment, set, rolling.replicas).await?;
            return Ok(());
        }
        let saturated = sets.new.as_ref().is_some_and(|set| {
            wanted(set) == rolling.replicas
                && available(set) == rolling.replicas
                && revision::desired(set) == Some(rolling.replicas)
        });
        if saturated {
            for set in sets.old.iter_mut().filter(|set| wanted(set) > 0) {
                *set = self.scale(deployment, set, 0).await?;
            }
            return Ok(());
        }
        let mut live: Vec<&mut ReplicaSet> =
            sets.old.iter_mut().chain(&mut sets.new).filter(|set| wanted(set) > 0).collect();
        let shares: Vec<plan::Share> = live
            .iter()
            .map(|set| plan::Share {
                wanted: wanted(set),
                maximum: revision::maximum(set),
                age: revision::of(set).unwrap_or(0),
            })
            .collect();
        let targets = plan::proportional(&rolling, &shares);
        for (set, replicas) in live.iter_mut().zip(targets) {
            **set = self.scale(deployment, set, replicas).await?;
        }
        Ok(())
    }

    /// Sets a set's size, and notes the deployment's own, by which a later change of it is recognized.
    async fn scale(&self, deployment: &Deployment, set: &ReplicaSet, replicas: i32) -> kube::Result<ReplicaSet> {
        let rolling = self.rolling(deployment);
        let (desired, maximum) = (rolling.replicas.to_string(), (rolling.replicas + rolling.surge).to_string());
        let note = |key: &str| set.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let before = wanted(set);
        if before == replicas && note(DESIRED) == Some(&desired) && note(MAXIMUM) == Some(&maximum) {
            return Ok(set.clone());
        }
        let patch = json!({"metadata": {"resourceVersion": set.metadata.resource_version,
            "annotations": {DESIRED: desired, MAXIMUM: maximum}}, "spec": {"replicas": replicas}});
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = revision::name(set);
        let scaled = self.sets_api(namespace).patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        if before != replicas {
            let way = if replicas > before { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {before} to {replicas}");
            self.events.say(&deployment.object_ref(&()), Severity::Normal, "ScalingReplicaSet", message);
        }
        Ok(scaled)
    }

    /// Deletes the oldest revisions past the limit, once the deployment is complete.
    async fn clean_up(&self, deployment: &Deployment, sets: &mut Sets) -> kube::Result<()> {
        let limit = deployment.spec.revision_history_limit.unwrap_or(10);
        if !condition::is_complete(deployment, sets.new.as_ref(), sets.all()) {
            return Ok(());
        }
        let idle = |set: &&ReplicaSet| {
            wanted(set) == 0
                && present(set) == 0
                && set.metadata.deletion_timestamp.is_none()
                && set.metadata.generation <= set.status.as_ref().and_then(|status| status.observed_generation)
        };
        let mut candidates: Vec<&ReplicaSet> = sets.old.iter().filter(idle).collect();
        candidates.sort_by_key(|set| revision::of(set));
        let surplus = candidates.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for set in &candidates[..surplus] {
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            let params = DeleteParams::background();
            match self.sets_api(namespace).delete(&revision::name(set), &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    async fn finish(&self, key: &Key, deployment: &Deployment, sets: &Sets) -> kube::Result<Next> {
        let now = Timestamp::now();
        let (status, again) = condition::status(deployment, sets.new.as_ref(), &sets.all().collect::<Vec<_>>(), now);
        if deployment.status.as_ref() != Some(&status) {
            let mut whole = (*deployment).clone();
            whole.status = Some(status);
            let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &whole).await {
                // Changed or deleted since it was looked at: another turn comes, or none is needed.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                other => drop(other?),
            }
        }
        Ok(again.map_or(Next::Done, Next::After))
    }
}

fn owner_reference(deployment: &Deployment) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether two templates are the same but for the hash that a set adds.
fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let labels = |template: &PodTemplateSpec| -> BTreeMap<String, String> {
        let meta = template.metadata.as_ref();
        let mut labels = meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.remove(HASH);
        labels
    };
    let annotations = |template: &PodTemplateSpec| {
        template.metadata.as_ref().and_then(|meta| meta.annotations.clone()).unwrap_or_default()
    };
    a.spec == b.spec && labels(a) == labels(b) && annotations(a) == annotations(b)
}
