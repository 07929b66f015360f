//! What makes a StatefulSet's pods one another's successors: name, host name, labels and claims by ordinal.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-identity>

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use crate::{history::HASH, pods::from_template};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The set's name.
pub fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// What its pods carry.
pub fn reference(set: &StatefulSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "StatefulSet".into(),
        name: set_name(set).to_owned(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The ordinal in a pod's name; `None` if the name is not one of this set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let plain = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    (parent == set_name(set) && plain).then(|| ordinal.parse().ok())?
}

/// The first ordinal, and the one past the last.
pub fn range(set: &StatefulSet) -> (i32, i32) {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    (start, start.saturating_add(set.spec.replicas.unwrap_or(1)))
}

/// The name of the revision that a pod is of.
pub fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).map_or("", String::as_str)
}

/// The name of the claim of a pod for one of the set's claim templates.
pub fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.metadata.name.as_deref().unwrap_or_default(), set_name(set))
}

/// The pod of an ordinal.
pub fn pod_of(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = from_template(template, &reference(set), namespace);
    let name = format!("{}-{ordinal}", set_name(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    label(set, &mut pod, ordinal);
    pod.metadata.labels.get_or_insert_default().insert(HASH.into(), revision.to_owned());
    let Some(spec) = &mut pod.spec else { return pod };
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|name| !name.is_empty());
    let templates = set.spec.volume_claim_templates.as_deref().unwrap_or_default();
    let claims: Vec<Volume> = templates
        .iter()
        .map(|template| Volume {
            name: template.metadata.name.clone().unwrap_or_default(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                read_only: Some(false),
            }),
            ..Volume::default()
        })
        .collect();
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !claims.iter().any(|claim| claim.name == volume.name));
    volumes.extend(claims);
    pod
}

/// Puts the labels of an ordinal on its pod.
pub fn label(_set: &StatefulSet, pod: &mut Pod, ordinal: i32) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name);
    labels.insert(POD_INDEX.into(), ordinal.to_string());
}

/// Whether a pod has the labels of its ordinal.
pub fn labelled(pod: &Pod, ordinal: i32) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let value = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    value(POD_NAME) == pod.metadata.name.as_deref() && value(POD_INDEX) == Some(&ordinal.to_string())
}

/// The claims of an ordinal, as they are made.
pub fn claims_of(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let templates = set.spec.volume_claim_templates.as_deref().unwrap_or_default();
    templates
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.status = None;
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            claim
        })
        .collect()
}

/// Who owns a claim, by the set's policy of retention: with its owner it goes. `pod` is the one that has the claim, if it
/// is there; `kept` is whether its ordinal is one of the set's.
pub fn claim_owners(
    set: &StatefulSet,
    claim: &PersistentVolumeClaim,
    pod: Option<&Pod>,
    kept: bool,
) -> Vec<OwnerReference> {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let pod_reference = pod.map(|pod| OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    });
    let set_reference = reference(set);
    let ours = |known: &OwnerReference| {
        let same = |other: &OwnerReference| known.kind == other.kind && known.name == other.name;
        same(&set_reference) || pod_reference.as_ref().is_some_and(same)
    };
    let present = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut owners: Vec<OwnerReference> = present.into_iter().filter(|known| !ours(known)).collect();
    // A claim that somebody else manages is left to them.
    if owners.iter().any(|known| known.controller == Some(true)) {
        return owners;
    }
    if when_scaled && !kept {
        owners.extend(pod_reference);
    } else if when_deleted {
        owners.push(set_reference);
    }
    owners
}

/// Whether a claim is on its way out with an earlier pod of the same name: a new pod has to wait for that.
pub fn is_stale(claim: &PersistentVolumeClaim, pod: &str, uid: Option<&str>) -> bool {
    claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|known| known.kind == "Pod" && known.name == pod && Some(known.uid.as_str()) != uid)
}
