//! Revisions: how a deployment's sets are named, numbered and annotated.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};

use super::plan::Rolling;

/// The label that tells the pods of one set from those of another.
pub const HASH: &str = "pod-template-hash";
/// The annotation with the number of a set, and of the deployment's newest.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the deployment's size when the set was scaled last.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation with the deployment's size and surge when the set was scaled last.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The set's name.
pub fn name(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
}

fn number(set: &ReplicaSet, key: &str) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

/// The set's revision.
pub fn of(set: &ReplicaSet) -> Option<i64> {
    number(set, REVISION)
}

/// The deployment's size when the set was scaled last.
pub fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED).and_then(|number| i32::try_from(number).ok())
}

/// The deployment's size and surge when the set was scaled last.
pub fn maximum(set: &ReplicaSet) -> Option<i32> {
    number(set, MAXIMUM).and_then(|number| i32::try_from(number).ok())
}

/// Annotations of a set: the deployment's own, revision and sizes. A set that becomes the newest again keeps its earlier
/// numbers as history.
pub fn annotations(deployment: &Deployment, set: Option<&ReplicaSet>, newest: i64) -> BTreeMap<String, String> {
    let mut all = set.and_then(|set| set.metadata.annotations.clone()).unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if ![REVISION, HISTORY, DESIRED, MAXIMUM, APPLIED].contains(&key.as_str()) {
            all.insert(key.clone(), value.clone());
        }
    }
    let known = set.and_then(of).unwrap_or(0);
    if known < newest {
        if known > 0 {
            let history = all.get(HISTORY).map_or_else(|| known.to_string(), |history| format!("{history},{known}"));
            all.insert(HISTORY.into(), history);
        }
        all.insert(REVISION.into(), newest.to_string());
    }
    if set.is_none() {
        let rolling = Rolling::of(deployment);
        all.insert(DESIRED.into(), rolling.replicas.to_string());
        all.insert(MAXIMUM.into(), (rolling.replicas + rolling.surge).to_string());
    }
    all
}

/// A short name for a template: 10 characters without vowels, so that no word comes out.
pub fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_vec(template).unwrap_or_default();
    // FNV-1a, 64 bits.
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.into_iter().chain(collisions.to_le_bytes()) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (0..10)
        .map(|_| {
            let letter = LETTERS[(sum % LETTERS.len() as u64) as usize];
            sum /= LETTERS.len() as u64;
            char::from(letter)
        })
        .collect()
}

/// The set of the deployment's template, without size and annotations.
pub fn set_of(deployment: &Deployment, hash: &str, owner: OwnerReference) -> ReplicaSet {
    let mut set = ReplicaSet::default();
    let spec = &deployment.spec;
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    set.metadata.labels = Some(labels.clone());
    set.metadata.namespace = deployment.metadata.namespace.clone();
    set.metadata.name = Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default()));
    set.metadata.owner_references = Some(vec![owner]);
    let mut selector: LabelSelector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.into());
    set.spec = ReplicaSetSpec {
        replicas: Some(0),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    set
}
