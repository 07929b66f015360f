//! Makes volumes of the class `local-path`: directories on the machine of the node that the scheduler chose.
//!
//! ```text
//! claim names this provisioner and a node ─► PUT volumes/NAME at the node's API ─► its path ─► PersistentVolume
//! volume Released, to be deleted ──────────► DELETE volumes/NAME at the node's API ─────────► gone
//! ```
//! The node makes and removes the directory, since it alone can; its API is reached as logs are, through the API server.

use std::{collections::BTreeMap, sync::Arc};

use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
    volumes::{SELECTED_NODE, annotation, class_of_claim, is_bound},
};
use k8s_openapi::{
    api::{
        core::v1::{
            LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
            PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams},
};
use serde_json::Value;
use task::Task;

use super::binder::PROVISIONER;
use crate::{caches::Caches, hands::refusal};

/// This provisioner's name, as classes write it.
pub const NAME: &str = "madang.dev/local-path";
const MADE_BY: &str = "pv.kubernetes.io/provisioned-by";
const HOSTNAME: &str = "kubernetes.io/hostname";

#[derive(Clone)]
struct Provisioner {
    client: Client,
    caches: Caches,
    events: Recorder,
}

/// Runs the provisioner.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let (claims, volumes): (Queue<Key>, Queue<Key>) = (Queue::new(task), Queue::new(task));
    let add = claims.clone();
    caches.claims.listen(move |change| {
        if change.new.as_ref().is_some_and(|claim| is_ours(claim)) {
            add.add(change.key.clone());
        }
    });
    let add = volumes.clone();
    caches.volumes.listen(move |change| {
        if change.new.as_ref().is_some_and(|volume| is_over(volume)) {
            add.add(change.key.clone());
        }
    });
    let provisioner =
        Provisioner { client: client.clone(), caches: caches.clone(), events: Recorder::new(task, client, NAME, None) };
    let mine = provisioner.clone();
    claims.run("provision volume", 2, move |key| {
        let provisioner = mine.clone();
        async move { provisioner.make(&key).await }
    });
    volumes.run("remove volume", 2, move |key| {
        let provisioner = provisioner.clone();
        async move { provisioner.remove(&key).await }
    });
}

/// Whether the claim wants a volume made here.
fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).is_some_and(|name| !name.is_empty());
    annotation(claim, PROVISIONER) == Some(NAME)
        && !named
        && !is_bound(claim)
        && claim.metadata.deletion_timestamp.is_none()
}

/// Whether the volume was made here and is not needed any more.
fn is_over(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    annotation(volume, MADE_BY) == Some(NAME) && policy == Some("Delete") && phase == Some("Released")
}

/// The volume of a claim: its name is the claim's uid, so that none is made twice.
fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// The volume of a claim, at `path` of the machine with that host name.
fn volume_of(claim: &PersistentVolumeClaim, class: &StorageClass, host: &str, path: String) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let asked = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let storage = asked.get("storage").cloned().unwrap_or_else(|| Quantity("0".into()));
    let on_host =
        NodeSelectorRequirement { key: HOSTNAME.into(), operator: "In".into(), values: Some(vec![host.to_owned()]) };
    let terms = vec![NodeSelectorTerm { match_expressions: Some(vec![on_host]), match_fields: None }];
    let mut volume = PersistentVolume {
        spec: Some(PersistentVolumeSpec {
            capacity: Some(BTreeMap::from([("storage".to_owned(), storage)])),
            access_modes: spec.access_modes,
            storage_class_name: class.metadata.name.clone(),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone().or_else(|| Some("Delete".into())),
            mount_options: class.mount_options.clone(),
            volume_mode: Some("Filesystem".into()),
            local: Some(LocalVolumeSource { path, fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: terms }) }),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            }),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    };
    volume.metadata.name = Some(volume_name(claim));
    volume.metadata.annotations = Some(BTreeMap::from([(MADE_BY.to_owned(), NAME.to_owned())]));
    volume
}

/// The host name that a volume is bound to.
fn host_of(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let expressions = required.node_selector_terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    expressions
        .filter(|found| found.key == HOSTNAME)
        .find_map(|found| found.values.as_ref()?.first().map(String::as_str))
}

fn hostname(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(HOSTNAME).map(String::as_str)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Provisioner {
    async fn make(&self, key: &Key) -> kube::Result<Next> {
        self.caches.nodes.ready().await;
        self.caches.classes.ready().await;
        let Some(claim) = self.caches.claims.get(key).filter(|claim| is_ours(claim)) else { return Ok(Next::Done) };
        if self.caches.volumes.get(&Key::new("", &volume_name(&claim))).is_some() {
            return Ok(Next::Done);
        }
        let Some(class) = self.caches.classes.get(&Key::new("", class_of_claim(&claim))) else { return Ok(Next::Done) };
        let about = claim.object_ref(&());
        match self.provision(&claim, &class).await {
            Ok(name) => {
                let message = format!("Successfully provisioned volume {name}");
                self.events.say(&about, Severity::Normal, "ProvisioningSucceeded", message);
                Ok(Next::Done)
            }
            Err(error) => {
                let why = match &error {
                    Failure::Api(error) => refusal(error),
                    other => other.to_string(),
                };
                let message =
                    format!("failed to provision volume with StorageClass {:?}: {why}", class_of_claim(&claim));
                self.events.say(&about, Severity::Warning, "ProvisioningFailed", message);
                match error {
                    Failure::Api(error) => Err(error),
                    // Nothing changes before the claim, its node or its class does.
                    Failure::Block | Failure::Node | Failure::Answer => Ok(Next::Done),
                }
            }
        }
    }

    async fn provision(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<String, Failure> {
        if claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
            return Err(Failure::Block);
        }
        let node = match annotation(claim, SELECTED_NODE) {
            Some(name) => self.caches.nodes.get(&Key::new("", name)),
            // A class that does not wait for a pod leaves the choice to us.
            None => self.caches.nodes.list().into_iter().find(|node| is_ready(node)),
        };
        let node: Arc<Node> = node.ok_or(Failure::Node)?;
        let node_name = node.metadata.name.as_deref().unwrap_or_default();
        let host = hostname(&node).unwrap_or(node_name);
        let name = volume_name(claim);
        let answer: Value = self.client.request(directory("PUT", node_name, &name)).await?;
        let path = answer["path"].as_str().ok_or(Failure::Answer)?.to_owned();
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &volume_of(claim, class, host, path)).await {
            Ok(_) => Ok(name),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(name),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, key: &Key) -> kube::Result<Next> {
        self.caches.nodes.ready().await;
        let Some(volume) = self.caches.volumes.get(key).filter(|volume| is_over(volume)) else { return Ok(Next::Done) };
        let host = host_of(&volume).unwrap_or_default();
        let node = self.caches.nodes.list().into_iter().find(|node| hostname(node) == Some(host));
        // With its machine the directory has gone too.
        if let Some(node) = node {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            if let Err(error) = self.client.request_text(directory("DELETE", name, &key.name)).await {
                let message = format!("failed to delete volume {}: {}", key.name, refusal(&error));
                self.events.say(&volume.object_ref(&()), Severity::Warning, "VolumeFailedDelete", message);
                return Err(error);
            }
        }
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Next::Done),
            other => other.map(|_| Next::Done),
        }
    }
}

/// A request about a volume's directory to the API of its node.
fn directory(method: &str, node: &str, volume: &str) -> http::Request<Vec<u8>> {
    let path = format!("/api/v1/nodes/{node}/proxy/volumes/{volume}");
    http::Request::builder().method(method).uri(path).body(Vec::new()).expect("names of objects make a path")
}

/// Why no volume was made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("block volumes are not supported: directories hold file systems only")]
    Block,
    #[error("the selected node is not there")]
    Node,
    #[error("the node told no path")]
    Answer,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_belongs_to_its_claim_and_its_machine() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": {PROVISIONER: NAME}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap();
        assert!(is_ours(&claim));
        let class: StorageClass =
            serde_json::from_value(json!({"metadata": {"name": "local-path"}, "provisioner": NAME})).unwrap();
        let mut volume = volume_of(&claim, &class, "host", "/data/volumes/pvc-u".into());
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-u"));
        assert_eq!(host_of(&volume), Some("host"));
        assert!(client::volumes::is_for(&volume, &claim));
        assert!(!is_over(&volume));
        volume.status = serde_json::from_value(json!({"phase": "Released"})).unwrap();
        assert!(is_over(&volume));
        volume.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some("Retain".into());
        assert!(!is_over(&volume));
    }
}
