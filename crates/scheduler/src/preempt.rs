//! Preemption: which pods have to go so that one that matters more finds room, and where that costs least.
//!
//! ```text
//! each node: take away all pods of lower priority ─► does it fit now? ─► give back what fits beside it ─► the rest: victims
//! the node whose victims break the fewest budgets, matter least, are fewest, have run for the shortest time
//! ```
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#preemption>

use std::{cmp::Reverse, sync::Arc};

use client::{cache::Key, selector::matches};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};

use crate::{filter::obstacles, state::State};

/// A node and the pods that have to go from it.
#[derive(Debug)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// The pods, the most important first.
    pub victims: Vec<(Key, Arc<Pod>)>,
    /// How many of them their budgets do not let go.
    broken: usize,
}

/// A pod's priority.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn started(pod: &Pod) -> Option<Timestamp> {
    pod.status.as_ref()?.start_time.as_ref().map(|time| time.0)
}

/// Whether the pod may make others go at all.
pub fn may_preempt(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) != Some("Never")
}

/// The cheapest way to make room for `pod`, if there is one. `suits` tells whether a node is one that the pod could be on
/// whatever other pods there are, beside what the filters say.
pub fn choose(
    state: &State,
    pod: &Pod,
    budgets: &[Arc<PodDisruptionBudget>],
    suits: impl Fn(&str) -> bool,
) -> Option<Candidate> {
    let mut what_if = state.clone();
    let names: Vec<String> = state.nodes().map(|(name, _)| name.to_owned()).filter(|name| suits(name)).collect();
    let mut candidates: Vec<Candidate> =
        names.iter().filter_map(|name| candidate(&mut what_if, name, pod, budgets)).collect();
    candidates.sort_by_key(|candidate| {
        let pods = || candidate.victims.iter().map(|(_, pod)| pod);
        let highest = pods().map(|pod| priority(pod)).max().unwrap_or(i32::MIN);
        // As upstream: each counts for something even if its priority is negative.
        let sum: i64 = pods().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
        let earliest = pods().filter(|pod| priority(pod) == highest).filter_map(|pod| started(pod)).min();
        (candidate.broken, highest, sum, candidate.victims.len(), Reverse(earliest), candidate.node.clone())
    });
    candidates.into_iter().next()
}

/// What has to go from one node. `state` is left as it was.
fn candidate(state: &mut State, name: &str, pod: &Pod, budgets: &[Arc<PodDisruptionBudget>]) -> Option<Candidate> {
    let place = state.nodes().find(|(other, _)| *other == name)?.1;
    let mut lower: Vec<(Key, Arc<Pod>)> = place
        .pods
        .iter()
        .filter(|(_, other)| priority(other) < priority(pod))
        .map(|(key, other)| (key.clone(), other.clone()))
        .collect();
    if lower.is_empty() {
        return None;
    }
    // The most important first, and of those alike the one that has run longest.
    lower.sort_by_key(|(key, other)| (Reverse(priority(other)), started(other), key.clone()));
    for (key, _) in &lower {
        state.remove_pod(key);
    }
    let fits = |state: &State| {
        state
            .nodes()
            .find(|(other, _)| *other == name)
            .is_some_and(|(_, place)| obstacles(state, name, place, pod).is_empty())
    };
    let room = fits(state);
    let mut victims = Vec::new();
    let (guarded, free): (Vec<_>, Vec<_>) = {
        let mut left: Vec<i32> = budgets.iter().map(|budget| allowed(budget)).collect();
        lower.iter().cloned().partition(|(_, other)| breaks(other, budgets, &mut left))
    };
    let mut broken = 0;
    if room {
        for (guard, list) in [(true, &guarded), (false, &free)] {
            for (key, other) in list {
                state.place(key, other.clone(), name);
                if !fits(state) {
                    state.remove_pod(key);
                    victims.push((key.clone(), other.clone()));
                    broken += usize::from(guard);
                }
            }
        }
    }
    lower.iter().for_each(|(key, other)| state.place(key, other.clone(), name));
    victims.sort_by_key(|(_, other)| Reverse(priority(other)));
    (room && !victims.is_empty()).then(|| Candidate { node: name.to_owned(), victims, broken })
}

fn allowed(budget: &PodDisruptionBudget) -> i32 {
    budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
}

/// Whether the end of a pod, after those asked about before, is more than a budget allows.
fn breaks(pod: &Pod, budgets: &[Arc<PodDisruptionBudget>], left: &mut [i32]) -> bool {
    let mut broken = false;
    for (budget, left) in budgets.iter().zip(left) {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let selects = selector.is_some_and(|selector| matches(selector, pod.metadata.labels.as_ref()));
        let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        let counted =
            pod.metadata.name.as_ref().is_some_and(|name| disrupted.is_some_and(|all| all.contains_key(name)));
        if budget.metadata.namespace == pod.metadata.namespace && selects && !counted {
            *left -= 1;
            broken |= *left < 0;
        }
    }
    broken
}

#[cfg(test)]
mod tests;
