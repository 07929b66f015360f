//! Which volume suits a claim: what the binder of claims and the scheduler must agree about.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#binding>

use std::{cmp::Ordering, sync::Arc};

use api::quantity::Quantity as Exact;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::Resource;

use crate::{placement::selector_matches, selector::matches};

/// The annotation that says that a claim and its volume have been bound to each other.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The annotation that says that it was not a user who bound them.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The annotation by which the scheduler tells for which node a volume is wanted.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation with the class as it was written before there was a field for it.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// An annotation of an object.
pub fn annotation<'a, K: Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(name).map(String::as_str)
}

/// The class that a claim asks for, empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let field = || claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(claim, CLASS).or_else(field).unwrap_or_default()
}

/// The class of a volume, empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(volume, CLASS).or_else(field).unwrap_or_default()
}

/// Whether the volume is set aside for the claim, by its name and, if it names one, its uid.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// Whether the claim is bound, and the volume knows it.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).is_some_and(|name| !name.is_empty());
    named && annotation(claim, BIND_COMPLETED).is_some()
}

/// Whether the volume can be used on the node.
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| selector_matches(required, node))
}

fn size(quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<Exact> {
    Exact::parse(&quantity?.0).ok()
}

/// What the volume holds.
fn capacity(volume: &PersistentVolume) -> Option<Exact> {
    size(volume.spec.as_ref()?.capacity.as_ref()?.get("storage"))
}

/// Whether the volume is large enough, of the right mode and not about to go.
fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(spec), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let asked = wanted.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let enough = match (capacity(volume), size(asked.and_then(|asked| asked.get("storage")))) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(there), Some(asked)) => there.cmp(&asked) != Ordering::Less,
    };
    volume.metadata.deletion_timestamp.is_none() && mode(&spec.volume_mode) == mode(&wanted.volume_mode) && enough
}

/// Whether a volume that nobody claims suits a claim.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(spec), Some(wanted)) = (&volume.spec, &claim.spec) else { return false };
    let available = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let modes = wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode));
    let selected = wanted.selector.as_ref().is_none_or(|selector| matches(selector, volume.metadata.labels.as_ref()));
    available && spec.claim_ref.is_none() && modes && selected && class_of_volume(volume) == class_of_claim(claim)
}

/// The volume for a claim: the one set aside for it, else the smallest that suits. With a node, only those that can be used
/// there. `reserved` are volumes that others are about to get.
pub fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
    reserved: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let here = |volume: &&Arc<PersistentVolume>| node.is_none_or(|node| reaches(volume, node));
    let usable = || volumes.iter().filter(|volume| fits(volume, claim)).filter(here);
    usable().find(|volume| is_for(volume, claim)).or_else(|| {
        usable().filter(|volume| suits(volume, claim) && !reserved(volume)).min_by(|a, b| {
            let order = match (capacity(a), capacity(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            };
            order.then_with(|| a.metadata.name.cmp(&b.metadata.name))
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut whole = json!({"metadata": {"name": name, "labels": {"disk": name}}, "status": {"phase": "Available"},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]}});
        let merged = whole["spec"].as_object_mut().unwrap();
        spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
        Arc::new(serde_json::from_value(whole).unwrap())
    }

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut whole = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        let merged = whole["spec"].as_object_mut().unwrap();
        spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn the_smallest_volume_that_suits_is_taken_unless_one_is_set_aside() {
        let mine = json!({"claimRef": {"namespace": "n", "name": "c"}});
        let other = json!({"claimRef": {"namespace": "n", "name": "c", "uid": "other"}});
        let local = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}});
        let cases: [(Value, Vec<Arc<PersistentVolume>>, Option<&str>); 10] = [
            (json!({}), vec![volume("a", "5Gi", json!({})), volume("b", "2Gi", json!({}))], Some("b")),
            (json!({}), vec![volume("a", "5Gi", mine), volume("b", "2Gi", json!({}))], Some("a")),
            (json!({}), vec![volume("a", "5Gi", other)], None),
            (json!({}), vec![volume("a", "1000Mi", json!({}))], None),
            (json!({"storageClassName": "x"}), vec![volume("a", "2Gi", json!({}))], None),
            (json!({"storageClassName": "x"}), vec![volume("a", "2Gi", json!({"storageClassName": "x"}))], Some("a")),
            (json!({"accessModes": ["ReadWriteMany"]}), vec![volume("a", "2Gi", json!({}))], None),
            (json!({"volumeMode": "Block"}), vec![volume("a", "2Gi", json!({}))], None),
            (
                json!({"selector": {"matchLabels": {"disk": "b"}}}),
                vec![volume("a", "2Gi", json!({})), volume("b", "3Gi", json!({}))],
                Some("b"),
            ),
            (json!({}), vec![volume("a", "2Gi", local)], Some("a")),
        ];
        for (spec, volumes, expected) in cases {
            let found = find(&claim(spec.clone()), &volumes, None, |_| false);
            assert_eq!(found.and_then(|volume| volume.metadata.name.as_deref()), expected, "{spec}");
        }
    }

    #[test]
    fn a_volume_of_one_node_is_no_volume_of_another() {
        let local = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}}});
        let volumes = [volume("v", "2Gi", local)];
        let node = |name: &str| serde_json::from_value::<Node>(json!({"metadata": {"name": name}})).unwrap();
        assert!(find(&claim(json!({})), &volumes, Some(&node("a")), |_| false).is_some());
        assert!(find(&claim(json!({})), &volumes, Some(&node("b")), |_| false).is_none());
        assert!(find(&claim(json!({})), &volumes, Some(&node("a")), |_| true).is_none());
    }
}
