//! Terms of pod affinity and topology spread, judged against nodes and the pods on them.

use std::collections::BTreeMap;

use client::{
    placement::{allows, untolerated},
    selector::matches,
};
use k8s_openapi::{
    api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::state::{Place, State, has_ended};

/// The value of a topology label on the node of `place`.
pub fn domain<'a>(place: &'a Place, key: &str) -> Option<&'a str> {
    place.node.as_ref()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether `other` is what the term of a pod in `namespace` speaks of: its namespace is named, or its namespace's labels
/// are selected, or neither is said and it is the same one.
pub fn selects(state: &State, term: &PodAffinityTerm, namespace: &str, other: &Pod) -> bool {
    let theirs = other.metadata.namespace.as_deref().unwrap_or_default();
    let named = term.namespaces.as_deref().unwrap_or_default();
    let labelled = |selector: &LabelSelector| matches(selector, state.namespace(theirs));
    let chosen = term.namespace_selector.as_ref().is_some_and(labelled);
    let own = named.is_empty() && term.namespace_selector.is_none() && theirs == namespace;
    (chosen || own || named.iter().any(|name| name == theirs))
        && term.label_selector.as_ref().is_some_and(|selector| matches(selector, other.metadata.labels.as_ref()))
}

/// Whether any pod that the term speaks of runs in the domain of `place`.
pub fn present(state: &State, place: &Place, term: &PodAffinityTerm, namespace: &str) -> bool {
    let Some(here) = domain(place, &term.topology_key) else { return false };
    state
        .nodes()
        .filter(|(_, other)| domain(other, &term.topology_key) == Some(here))
        .flat_map(|(_, other)| other.pods.values())
        .any(|pod| !has_ended(pod) && selects(state, term, namespace, pod))
}

/// Whether any pod that the term speaks of runs anywhere.
pub fn anywhere(state: &State, term: &PodAffinityTerm, namespace: &str) -> bool {
    state
        .nodes()
        .filter(|(_, place)| domain(place, &term.topology_key).is_some())
        .flat_map(|(_, place)| place.pods.values())
        .any(|pod| !has_ended(pod) && selects(state, term, namespace, pod))
}

/// Whether a node counts in a constraint: by default those that the pod's own words allow, whatever their taints.
fn eligible(place: &Place, constraint: &TopologySpreadConstraint, pod: &Pod) -> bool {
    let (Some(node), Some(spec)) = (&place.node, &pod.spec) else { return false };
    let honours = |policy: &Option<String>, default: bool| policy.as_ref().map_or(default, |policy| policy == "Honor");
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    (!honours(&constraint.node_affinity_policy, true) || allows(spec, node))
        && (!honours(&constraint.node_taints_policy, false)
            || untolerated(node, &["NoSchedule", "NoExecute"], tolerations).is_none())
}

/// How much one more pod on `place` would exceed the fewest in any domain; `None` if the node has no such label.
pub fn skew(state: &State, place: &Place, constraint: &TopologySpreadConstraint, pod: &Pod) -> Option<i32> {
    let here = domain(place, &constraint.topology_key)?;
    let namespace = pod.metadata.namespace.as_deref();
    let selector = constraint.label_selector.as_ref()?;
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for (_, other) in state.nodes().filter(|(_, other)| eligible(other, constraint, pod)) {
        let Some(domain) = domain(other, &constraint.topology_key) else { continue };
        let counted = other.pods.values().filter(|other| {
            !has_ended(other)
                && other.metadata.deletion_timestamp.is_none()
                && other.metadata.namespace.as_deref() == namespace
                && matches(selector, other.metadata.labels.as_ref())
        });
        *counts.entry(domain).or_default() += i32::try_from(counted.count()).unwrap_or(i32::MAX);
    }
    let enough = constraint.min_domains.is_none_or(|wanted| counts.len() >= usize::try_from(wanted).unwrap_or(0));
    let fewest = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
    let own = i32::from(matches(selector, pod.metadata.labels.as_ref()));
    Some(counts.get(here).copied().unwrap_or(0) + own - fewest)
}
