//! Sizes step by step.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::{Old, Rolling, Share, new_replicas, old_replicas, proportional};

fn rolling(replicas: i32, surge: serde_json::Value, unavailable: serde_json::Value) -> Rolling {
    let deployment: Deployment = serde_json::from_value(json!({"metadata": {}, "spec": {
        "replicas": replicas, "selector": {}, "template": {},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
    .unwrap();
    Rolling::of(&deployment)
}

#[test]
fn shares_round_towards_progress_and_safety() {
    assert_eq!(rolling(10, json!("25%"), json!("25%")), Rolling { replicas: 10, surge: 3, unavailable: 2 });
    assert_eq!(rolling(1, json!("25%"), json!("25%")), Rolling { replicas: 1, surge: 1, unavailable: 0 });
    assert_eq!(rolling(3, json!(0), json!("1%")), Rolling { replicas: 3, surge: 0, unavailable: 1 });
}

#[test]
fn a_rollout_ends_within_its_bounds_whatever_becomes_available() {
    for (replicas, surge, unavailable) in [(10, 3, 2), (1, 1, 0), (3, 0, 1), (5, 5, 0), (4, 0, 4)] {
        let bounds = Rolling { replicas, surge, unavailable };
        let (mut new, mut ready, mut old) = (0, 0, replicas);
        for step in 0.. {
            assert!(step < 100, "{bounds:?} does not end");
            let grown = new_replicas(&bounds, new, old);
            if grown == new {
                let sizes = old_replicas(&bounds, new, ready, new - ready, &[Old { wanted: old, available: old }]);
                old = sizes[0];
            }
            new = grown;
            assert!(new + old <= replicas + surge, "{bounds:?}: {new} + {old}");
            assert!(ready + old >= replicas - unavailable, "{bounds:?}: {ready} + {old} available");
            if new == replicas && old == 0 {
                break;
            }
            // One pod at a time becomes ready.
            ready = (ready + 1).min(new);
        }
    }
}

#[test]
fn what_is_broken_goes_first() {
    let bounds = Rolling { replicas: 10, surge: 2, unavailable: 2 };
    let old = [Old { wanted: 6, available: 0 }, Old { wanted: 4, available: 4 }];
    assert_eq!(old_replicas(&bounds, 2, 0, 2, &old), [4, 4]);
}

#[test]
fn a_resized_deployment_keeps_its_proportions() {
    let bounds = Rolling { replicas: 20, surge: 4, unavailable: 0 };
    let shares = [Share { wanted: 10, maximum: Some(12), age: 1 }, Share { wanted: 2, maximum: Some(12), age: 2 }];
    assert_eq!(proportional(&bounds, &shares), [20, 4]);
    let none = Rolling { replicas: 0, surge: 0, unavailable: 0 };
    assert_eq!(proportional(&none, &shares), [0, 0]);
}
