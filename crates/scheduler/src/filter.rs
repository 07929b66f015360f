//! Which nodes can take a pod, and in upstream's words why one cannot.

use client::placement::{allows, tolerated, untolerated};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, Taint};

use crate::{
    affinity::{anywhere, present, selects, skew},
    resources::of_pod,
    state::{Place, State, ports_of},
};

/// Why `place` cannot take `pod`; empty if it can.
pub fn obstacles(state: &State, name: &str, place: &Place, pod: &Pod) -> Vec<String> {
    let (Some(node), Some(spec)) = (&place.node, &pod.spec) else { return vec!["node(s) had no node".into()] };
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let node_spec = node.spec.as_ref();
    let unschedulable =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    if node_spec.and_then(|spec| spec.unschedulable).unwrap_or(false) && !tolerated(&unschedulable, tolerations) {
        return vec!["node(s) were unschedulable".into()];
    }
    if let Some(taint) = untolerated(node, &["NoSchedule", "NoExecute"], tolerations) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)];
    }
    if !allows(spec, node) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    let wanted = ports_of(pod);
    if wanted.iter().any(|port| place.ports.iter().any(|taken| port.collides(taken))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    let lacking = lacking(place, pod);
    if !lacking.is_empty() {
        return lacking;
    }
    for constraint in spec.topology_spread_constraints.iter().flatten() {
        if constraint.when_unsatisfiable != "DoNotSchedule" {
            continue;
        }
        match skew(state, place, constraint, pod) {
            None => {
                return vec!["node(s) didn't match pod topology spread constraints (missing required label)".into()];
            }
            Some(skew) if skew > constraint.max_skew => {
                return vec!["node(s) didn't match pod topology spread constraints".into()];
            }
            Some(_) => {}
        }
    }
    neighbours(state, name, place, pod)
}

fn lacking(place: &Place, pod: &Pod) -> Vec<String> {
    let mut lacking = Vec::new();
    let room = place.allocatable.get("pods");
    if i64::try_from(place.pods.len()).unwrap_or(i64::MAX) >= room {
        lacking.push("Too many pods".into());
    }
    let Some(spec) = &pod.spec else { return lacking };
    for (name, amount) in of_pod(spec).iter() {
        if amount > 0 && amount > place.allocatable.get(name).saturating_sub(place.requested.get(name)) {
            lacking.push(format!("Insufficient {name}"));
        }
    }
    lacking
}

/// Required affinity and anti-affinity of the pod, and anti-affinity of the pods there against it.
fn neighbours(state: &State, _name: &str, place: &Place, pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let wanted = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let terms = wanted.and_then(|terms| terms.required_during_scheduling_ignored_during_execution.as_deref());
    for term in terms.unwrap_or_default() {
        // The first pod of a group that asks for its own kind may go anywhere.
        let first = selects(state, term, namespace, pod) && !anywhere(state, term, namespace);
        let labelled = crate::affinity::domain(place, &term.topology_key).is_some();
        if !(labelled && (first || present(state, place, term, namespace))) {
            return vec!["node(s) didn't match pod affinity rules".into()];
        }
    }
    for term in required_anti_affinity(pod) {
        if present(state, place, term, namespace) {
            return vec!["node(s) didn't match pod anti-affinity rules".into()];
        }
    }
    for (_, other_place) in state.nodes() {
        for other in other_place.pods.values() {
            let theirs = other.metadata.namespace.as_deref().unwrap_or_default();
            for term in required_anti_affinity(other) {
                let shared = crate::affinity::domain(other_place, &term.topology_key);
                if shared.is_some()
                    && shared == crate::affinity::domain(place, &term.topology_key)
                    && selects(state, term, theirs, pod)
                {
                    return vec!["node(s) didn't satisfy existing pods anti-affinity rules".into()];
                }
            }
        }
    }
    Vec::new()
}

fn required_anti_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|terms| terms.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
