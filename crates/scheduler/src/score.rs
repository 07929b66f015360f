//! How well a node suits a pod, from 0 to 100 for each consideration, weighted as upstream weighs them by default.

use client::placement::{term_matches, tolerated};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::{
    affinity::{present, skew},
    resources::{Amounts, of_pod},
    state::{Place, State},
};

/// What a container without requests is taken to use, so that such pods spread too.
const CPU: i64 = 100;
const MEMORY: i64 = 200 << 20;

/// The weighted sum for one node that passed the filters; larger is better.
pub fn score(state: &State, place: &Place, pod: &Pod) -> i64 {
    let mut asked = pod.spec.as_ref().map(of_pod).unwrap_or_default();
    let unset = |name: &str, amount: i64, asked: &Amounts| if asked.get(name) == 0 { amount } else { 0 };
    let (cpu, memory) = (unset("cpu", CPU, &asked), unset("memory", MEMORY, &asked));
    asked.add(&place.requested);
    let used = |name: &str, extra: i64| {
        let room = place.allocatable.get(name).max(1);
        (asked.get(name).saturating_add(extra)).saturating_mul(100).checked_div(room).unwrap_or(100).clamp(0, 100)
    };
    // Pods that ask for nothing still take a place.
    let crowd =
        i64::try_from(place.pods.len()).unwrap_or(i64::MAX).saturating_mul(100) / place.allocatable.get("pods").max(1);
    let (cpu, memory) = (used("cpu", cpu), used("memory", memory));
    let free = (200 - cpu - memory) / 2;
    let balance = 100 - (cpu - memory).abs();
    free + balance
        + (100 - crowd.clamp(0, 100))
        + 2 * wished_nodes(place, pod)
        + 3 * taints(place, pod)
        + 2 * neighbours(state, place, pod)
        + 2 * spread(state, place, pod)
}

fn wished_nodes(place: &Place, pod: &Pod) -> i64 {
    let Some(node) = &place.node else { return 0 };
    let terms = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default();
    let total: i64 = terms.iter().map(|term| i64::from(term.weight)).sum();
    let met: i64 =
        terms.iter().filter(|term| term_matches(&term.preference, node)).map(|term| i64::from(term.weight)).sum();
    if total == 0 { 0 } else { met * 100 / total }
}

fn taints(place: &Place, pod: &Pod) -> i64 {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = place.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_deref());
    let soft = taints
        .unwrap_or_default()
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(taint, tolerations))
        .count();
    100 / (1 + i64::try_from(soft).unwrap_or(i64::MAX - 1))
}

fn neighbours(state: &State, place: &Place, pod: &Pod) -> i64 {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|terms| terms.preferred_during_scheduling_ignored_during_execution.as_deref());
    let far = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|terms| terms.preferred_during_scheduling_ignored_during_execution.as_deref());
    let weigh = |terms: Option<&[WeightedPodAffinityTerm]>| -> i64 {
        let there = |term: &PodAffinityTerm| present(state, place, term, namespace);
        terms
            .unwrap_or_default()
            .iter()
            .filter(|term| there(&term.pod_affinity_term))
            .map(|term| i64::from(term.weight))
            .sum()
    };
    (weigh(near) - weigh(far)).clamp(-100, 100)
}

fn spread(state: &State, place: &Place, pod: &Pod) -> i64 {
    let constraints = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref());
    constraints
        .unwrap_or_default()
        .iter()
        .filter(|constraint| constraint.when_unsatisfiable == "ScheduleAnyway")
        .map(|constraint| {
            skew(state, place, constraint, pod)
                .map_or(-100, |skew| -10 * i64::from((skew - constraint.max_skew).max(0)))
        })
        .sum::<i64>()
        .clamp(-100, 0)
}
