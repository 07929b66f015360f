//! Claims: what a pod's claim is bound to, as far as this node can mount it: directories and files of the machine.
//!
//! ```text
//! volume of the pod ─ claim (Bound) ─ PersistentVolume (claimRef: that claim; its nodes: this one) ─ local or hostPath
//! ```
//!
//! Pure. Binding claims and making volumes for them is the work of controllers.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};

use crate::admit;

/// A pod's use of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Name of the claim.
    pub name: String,
    /// Whether the pod only reads.
    pub read_only: bool,
    /// Whether the claim was made for the pod and must be its own.
    pub own: bool,
}

/// What a claim is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Directory or file of the machine.
    pub path: PathBuf,
    /// What the path must be.
    pub kind: Kind,
    /// Whether it may not be written.
    pub read_only: bool,
}

/// Which kind of volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `local`: a directory, given to the pod's group.
    Local,
    /// `hostPath` with its `type`.
    HostPath(String),
}

/// The claim that a volume of `pod` uses; none for volumes of other kinds.
pub fn reference(pod: &Pod, volume: &Volume) -> Option<Reference> {
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        return Some(Reference { name: source.claim_name.clone(), read_only, own: false });
    }
    let pod = pod.metadata.name.as_deref().unwrap_or("");
    volume.ephemeral.is_some().then(|| Reference {
        name: format!("{pod}-{}", volume.name),
        read_only: false,
        own: true,
    })
}

/// The name of the volume that a claim is bound to.
///
/// # Errors
/// It is not bound, is going, or is not the pod's.
pub fn bound(pod: &Pod, reference: &Reference, claim: &PersistentVolumeClaim) -> Result<String> {
    let uid = pod.metadata.uid.as_ref();
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    if reference.own && !owners.iter().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == uid) {
        let name = pod.metadata.name.as_deref().unwrap_or("");
        bail!("PVC {} was not created for pod {name} (pod is not owner)", reference.name);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        bail!("PVC is being deleted");
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        bail!("PVC is not bound");
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
    name.context("PVC has empty pvc.Spec.VolumeName")
}

/// What the volume of a claim is on this node, whose name and labels are given.
///
/// # Errors
/// It belongs to another claim, is on another node, or is of a kind that this node does not mount.
pub fn resolve(
    reference: &Reference,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    node: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Claimed> {
    let name = volume.metadata.name.as_deref().unwrap_or("");
    let spec = volume.spec.as_ref().with_context(|| format!("PV {name:?} has no spec"))?;
    let Some(holder) = &spec.claim_ref else { bail!("found PV object {name:?} with nil pv.Spec.ClaimRef") };
    if holder.uid != claim.metadata.uid {
        bail!("PV {name:?} is bound to another claim: its pv.Spec.ClaimRef.UID is not the PVC's");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        bail!("PV {name:?} is a block device: this node mounts file systems only");
    }
    let none = BTreeMap::new();
    if let Some(required) = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref()) {
        let here = required.node_selector_terms.iter();
        if !here.clone().any(|term| admit::matches(term, node, labels.unwrap_or(&none))) {
            bail!("PV {name:?} is not on this node: no matching NodeSelectorTerms");
        }
    }
    let read_only = reference.read_only || only_read(&spec.access_modes);
    if let Some(source) = &spec.local {
        return Ok(Claimed { path: source.path.clone().into(), kind: Kind::Local, read_only });
    }
    if let Some(source) = &spec.host_path {
        let kind = Kind::HostPath(source.type_.clone().unwrap_or_default());
        return Ok(Claimed { path: source.path.clone().into(), kind, read_only });
    }
    bail!("PV {name:?} is neither local nor hostPath: this node mounts no others")
}

fn only_read(modes: &Option<Vec<String>>) -> bool {
    modes.as_deref().is_some_and(|modes| !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(value: Value) -> PersistentVolumeClaim {
        let mut whole = json!({"metadata": {"name": "data", "uid": "c1"}, "spec": {"volumeName": "v"},
            "status": {"phase": "Bound"}});
        let merged = value.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(merged);
        serde_json::from_value(whole).unwrap()
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "uid": "p1"}})).unwrap()
    }

    #[test]
    fn claims_count_once_they_are_bound_and_the_pods_own() {
        let plain = Reference { name: "data".into(), read_only: false, own: false };
        let own = Reference { own: true, ..plain.clone() };
        let of = |reference: &Reference, value| bound(&pod(), reference, &claim(value)).map_err(|why| why.to_string());
        assert_eq!(of(&plain, json!({})), Ok("v".into()));
        assert_eq!(of(&plain, json!({"status": {"phase": "Pending"}})), Err("PVC is not bound".into()));
        let going = json!({"metadata": {"name": "data", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(of(&plain, going), Err("PVC is being deleted".into()));
        assert!(of(&own, json!({})).unwrap_err().contains("pod is not owner"));
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "p1", "controller": true});
        assert_eq!(of(&own, json!({"metadata": {"name": "data", "ownerReferences": [owner]}})), Ok("v".into()));
    }

    #[test]
    fn volumes_are_mounted_where_they_are_and_for_whom_they_are() {
        let reference = Reference { name: "data".into(), read_only: false, own: false };
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let of = |spec: Value| {
            let mut volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": "c1"}}});
            volume["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let volume = serde_json::from_value(volume).unwrap();
            resolve(&reference, &claim(json!({})), &volume, "n1", Some(&labels)).map_err(|why| why.to_string())
        };
        let local = |read_only| Ok(Claimed { path: "/d".into(), kind: Kind::Local, read_only });
        assert_eq!(of(json!({"local": {"path": "/d"}})), local(false));
        assert_eq!(of(json!({"local": {"path": "/d"}, "accessModes": ["ReadOnlyMany"]})), local(true));
        let host = Claimed { path: "/h".into(), kind: Kind::HostPath("DirectoryOrCreate".into()), read_only: false };
        assert_eq!(of(json!({"hostPath": {"path": "/h", "type": "DirectoryOrCreate"}})), Ok(host));
        let on = |zone: &str| {
            let expression = json!({"key": "zone", "operator": "In", "values": [zone]});
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
        };
        assert_eq!(of(json!({"local": {"path": "/d"}, "nodeAffinity": on("a")})), local(false));
        let away = of(json!({"local": {"path": "/d"}, "nodeAffinity": on("b")})).unwrap_err();
        assert!(away.contains("not on this node"), "{away}");
        assert!(of(json!({"local": {"path": "/d"}, "claimRef": {"uid": "c2"}})).unwrap_err().contains("another claim"));
        assert!(of(json!({"csi": {"driver": "d", "volumeHandle": "h"}})).unwrap_err().contains("neither"));
    }
}
