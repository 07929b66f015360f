//! Claims of a pod: which nodes their volumes can be used on, and what is to be bound once a node is chosen.
//!
//! ```text
//! claim bound ─────────────────► only nodes that its volume reaches
//! claim waits for a consumer ──► nodes with a free volume that suits, or all if its class makes volumes
//!    node chosen: volume set aside, or the node named on the claim ─► binder and provisioner bind ─► pod bound
//! claim unbound otherwise ─────► no node yet
//! ```
//! <https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode>

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{
    cache::{Cache, Key},
    volumes::{SELECTED_NODE, annotation, class_of_claim, find, is_bound, reaches},
};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;

/// What a class names as its provisioner if nobody makes its volumes.
const NOBODY: &str = "kubernetes.io/no-provisioner";
/// How long volumes may take to be bound.
const PATIENCE: Duration = Duration::from_secs(600);

/// Claims, volumes and their classes. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Storage {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    /// Volumes that pods on their way to a node are about to get.
    reserved: Arc<Mutex<HashSet<String>>>,
    changed: watch::Sender<()>,
}

/// What a pod's claims need.
#[derive(Debug, Default)]
pub struct Needs {
    bound: Vec<Arc<PersistentVolume>>,
    open: Vec<Arc<PersistentVolumeClaim>>,
}

/// A claim and the volume that it is to get; none if one is to be made.
#[derive(Clone, Debug)]
pub struct Choice {
    claim: Arc<PersistentVolumeClaim>,
    volume: Option<Arc<PersistentVolume>>,
}

/// The names of the claims that a pod uses, and whether they are made for it.
pub fn claims_of(pod: &Pod) -> Vec<(String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some((claim.claim_name.clone(), false)),
            (None, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
            (None, None) => None,
        })
        .collect()
}

impl Storage {
    /// Those of the process; `changed` is called whenever a claim, volume or class changes.
    pub fn new(
        claims: Cache<PersistentVolumeClaim>,
        volumes: Cache<PersistentVolume>,
        classes: Cache<StorageClass>,
        changed: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Self {
        let sender = watch::Sender::new(());
        let (told, tell) = (sender.clone(), changed.clone());
        claims.listen(move |_| {
            told.send_replace(());
            tell();
        });
        let tell = changed.clone();
        volumes.listen(move |_| tell());
        classes.listen(move |_| changed());
        Self { claims, volumes, classes, reserved: Arc::default(), changed: sender }
    }

    /// Resolves once all of them are known.
    pub async fn ready(&self) {
        self.claims.ready().await;
        self.volumes.ready().await;
        self.classes.ready().await;
    }

    /// What the pod's claims need, or why no node can take the pod yet.
    ///
    /// # Errors
    /// Upstream's words for a claim that is missing, going, or not bound.
    pub fn needs(&self, pod: &Pod) -> Result<Needs, String> {
        let mut needs = Needs::default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for (name, own) in claims_of(pod) {
            let Some(claim) = self.claims.get(&Key::new(namespace, &name)) else {
                return Err(if own {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                });
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            let lost = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost");
            let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
            if lost {
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume_name:?}"
                ));
            }
            if is_bound(&claim) {
                match self.volumes.get(&Key::new("", &volume_name)) {
                    Some(volume) => needs.bound.push(volume),
                    None => {
                        return Err(format!(
                            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume_name:?}"
                        ));
                    }
                }
                continue;
            }
            let class = self.classes.get(&Key::new("", class_of_claim(&claim)));
            let waits = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
            if !waits || !volume_name.is_empty() {
                return Err("pod has unbound immediate PersistentVolumeClaims".into());
            }
            needs.open.push(claim);
        }
        Ok(needs)
    }

    /// Why the pod's volumes keep it from a node.
    pub fn obstacle(&self, needs: &Needs, node: &Node) -> Option<&'static str> {
        if needs.bound.iter().any(|volume| !reaches(volume, node)) {
            return Some("node(s) had volume node affinity conflict");
        }
        if needs.open.is_empty() {
            return None;
        }
        self.choose(needs, node).is_none().then_some("node(s) didn't find available persistent volumes to bind")
    }

    /// What each open claim gets on a node; `None` if one gets nothing.
    pub fn choose(&self, needs: &Needs, node: &Node) -> Option<Vec<Choice>> {
        let name = node.metadata.name.as_deref();
        let volumes = if needs.open.is_empty() { Vec::new() } else { self.volumes.list() };
        let reserved = self.reserved.lock().expect("reserved volumes").clone();
        let mut mine: HashSet<String> = HashSet::new();
        let mut choices = Vec::new();
        for claim in &needs.open {
            // A volume is being made already: for one node only.
            if let Some(selected) = annotation(&**claim, SELECTED_NODE) {
                if Some(selected) != name {
                    return None;
                }
                choices.push(Choice { claim: claim.clone(), volume: None });
                continue;
            }
            let taken = |volume: &PersistentVolume| {
                volume.metadata.name.as_ref().is_some_and(|name| reserved.contains(name) || mine.contains(name))
            };
            let found = find(claim, &volumes, Some(node), taken).cloned();
            if let Some(volume) = &found {
                mine.extend(volume.metadata.name.clone());
            } else {
                let class = self.classes.get(&Key::new("", class_of_claim(claim)))?;
                if class.provisioner == NOBODY || !topology(&class, node) {
                    return None;
                }
            }
            choices.push(Choice { claim: claim.clone(), volume: found });
        }
        Some(choices)
    }

    /// Keeps the chosen volumes from others.
    pub fn reserve(&self, choices: &[Choice]) {
        let names = choices.iter().filter_map(|choice| choice.volume.as_ref()?.metadata.name.clone());
        self.reserved.lock().expect("reserved volumes").extend(names);
    }

    /// Lets others have them again; what was bound they see as such.
    pub fn release(&self, choices: &[Choice]) {
        let mut reserved = self.reserved.lock().expect("reserved volumes");
        for name in choices.iter().filter_map(|choice| choice.volume.as_ref()?.metadata.name.as_ref()) {
            reserved.remove(name);
        }
    }

    /// Sets the chosen volumes aside, or names the node on claims for which volumes are to be made; resolves once all
    /// claims are bound to volumes that the node reaches.
    ///
    /// # Errors
    /// Why the pod has to be placed anew.
    pub async fn bind(&self, client: &Client, choices: &[Choice], node: &Node) -> Result<(), String> {
        for choice in choices {
            self.ask(client, choice, node).await.map_err(|error| error.to_string())?;
        }
        let mut changed = self.changed.subscribe();
        let all = async {
            while !self.all_bound(choices, node)? {
                if changed.changed().await.is_err() {
                    return Err("stopping".to_owned());
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.map_err(|_| "timed out waiting for volumes to be bound".to_owned())?
    }

    async fn ask(&self, client: &Client, choice: &Choice, node: &Node) -> kube::Result<()> {
        let meta = &choice.claim.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let params = PatchParams::default();
        match &choice.volume {
            Some(volume) => {
                let reference = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace,
                    "name": name, "uid": meta.uid});
                let patch = json!({"metadata": {"resourceVersion": volume.metadata.resource_version,
                        "annotations": {client::volumes::BOUND_BY_CONTROLLER: "yes"}},
                    "spec": {"claimRef": reference}});
                let api: Api<PersistentVolume> = Api::all(client.clone());
                let volume = volume.metadata.name.as_deref().unwrap_or_default();
                api.patch(volume, &params, &Patch::Merge(patch)).await.map(drop)
            }
            None if annotation(&*choice.claim, SELECTED_NODE) == node.metadata.name.as_deref() => Ok(()),
            None => {
                let patch = json!({"metadata": {"uid": meta.uid, "annotations": {SELECTED_NODE: node.metadata.name}}});
                let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
                api.patch(name, &params, &Patch::Merge(patch)).await.map(drop)
            }
        }
    }

    fn all_bound(&self, choices: &[Choice], node: &Node) -> Result<bool, String> {
        for choice in choices {
            let Some(claim) = self.claims.get(&Key::of(&*choice.claim)) else {
                return Err(format!("persistentvolumeclaim {} is gone", Key::of(&*choice.claim)));
            };
            if !is_bound(&claim) {
                return Ok(false);
            }
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            if self.volumes.get(&Key::new("", volume)).is_some_and(|volume| !reaches(&volume, node)) {
                return Err(format!("persistentvolume {volume} was bound on another node"));
            }
        }
        Ok(true)
    }
}

/// Whether a class makes volumes for a node.
fn topology(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    terms.is_empty()
        || terms.iter().any(|term| {
            term.match_label_expressions.iter().flatten().all(|wanted| {
                labels.and_then(|labels| labels.get(&wanted.key)).is_some_and(|value| wanted.values.contains(value))
            })
        })
}

#[cfg(test)]
mod tests;
