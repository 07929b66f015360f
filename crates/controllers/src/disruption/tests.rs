//! How many pods may go.

use serde_json::{Value, json};

use super::*;

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status})).unwrap()
}

fn pod(name: &str, ready: bool, leaving: bool) -> Arc<Pod> {
    let mut pod = json!({"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    if leaving {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

#[test]
fn a_budget_asks_for_a_number_or_a_share() {
    let cases = [
        (json!({"minAvailable": 2}), (4, 2)),
        (json!({"minAvailable": "50%"}), (5, 3)),
        (json!({"maxUnavailable": 1}), (5, 4)),
        (json!({"maxUnavailable": "30%"}), (5, 3)),
        (json!({"maxUnavailable": 9}), (5, 0)),
        (json!({"maxUnavailable": 0}), (5, 5)),
    ];
    for (spec, counts) in cases {
        let budget = budget(spec.clone(), json!({}));
        assert_eq!(expected(&wanted(budget.spec.as_ref().unwrap()), 4, 5), counts, "{spec}");
    }
}

#[test]
fn what_is_healthy_beyond_that_may_go() {
    let pods = [pod("a", true, false), pod("b", true, false), pod("c", false, false), pod("d", true, true)];
    let cases = [
        ((4, 1), 1, "SufficientPods"),
        ((4, 2), 0, "InsufficientPods"),
        ((4, 9), 0, "InsufficientPods"),
        ((0, 0), 0, "InsufficientPods"),
    ];
    for (counts, allowed, reason) in cases {
        let (status, _) = status(&budget(json!({}), json!({})), &pods, counts, now());
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(2), Some(allowed)), "{counts:?}");
        assert_eq!(status.conditions.unwrap()[0].reason, reason);
        assert_eq!(status.observed_generation, Some(2));
    }
}

#[test]
fn evicted_pods_are_held_until_they_go_or_do_not() {
    let disrupted = json!({"disruptedPods": {"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:57:00Z", "gone": "2026-01-01T00:59:59Z"}});
    let pods = [pod("a", true, false), pod("b", true, false)];
    let (status, again) = status(&budget(json!({}), disrupted), &pods, (2, 0), now());
    assert_eq!(status.disrupted_pods.unwrap().keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!((status.current_healthy, again), (Some(1), Some(Duration::from_secs(60))));
}

#[test]
fn a_condition_of_a_pod_that_stays_is_taken_back() {
    let mut pod = (*pod("a", true, false)).clone();
    assert_eq!(stale_after(&pod, now()), None);
    let condition = |reason: &str| PodCondition {
        type_: TARGET.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        last_transition_time: Some(Time("2026-01-01T00:59:30Z".parse().unwrap())),
        ..PodCondition::default()
    };
    pod.status.as_mut().unwrap().conditions = Some(vec![condition("EvictionByEvictionAPI")]);
    assert_eq!(stale_after(&pod, now()), Some(Duration::from_secs(90)));
    pod.status.as_mut().unwrap().conditions = Some(vec![condition("TerminationByKubelet")]);
    assert_eq!(stale_after(&pod, now()), None);
}
