//! Tests of `delete`: cases as data where there are many.

use super::*;
use crate::{cache::Applied, registry::Registry};
use serde_json::json;

fn step(group: &str, plural: &str, object: &Value, options: &DeleteOptions) -> Fate {
    let registry = Registry::built_in(&Arc::new(Applied::new(1)));
    let resource = registry.resource(group, plural).unwrap().clone();
    decide(&resource.versions[0], object, options, "2026-01-01T00:01:00Z".parse().unwrap())
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
}

fn pod(extra: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "a", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
    api::patch::merge(&mut pod, &extra).unwrap();
    pod
}

#[test]
fn a_running_pod_is_given_time() {
    let Fate::Mark(new) = step("", "pods", &pod(json!({})), &DeleteOptions::default()) else { panic!() };
    assert_eq!(new["metadata"]["deletionTimestamp"], "2026-01-01T00:01:30Z");
    assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(new["metadata"]["generation"], 2);
    let Fate::Mark(new) = step("", "pods", &pod(json!({})), &grace(-5)) else { panic!() };
    assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 1);
}

#[test]
fn a_pod_that_runs_nowhere_goes_at_once() {
    for extra in [json!({"spec": {"nodeName": null}}), json!({"status": {"phase": "Failed"}})] {
        assert_eq!(step("", "pods", &pod(extra), &DeleteOptions::default()), Fate::Remove);
    }
    assert_eq!(step("", "pods", &pod(json!({})), &grace(0)), Fate::Remove);
}

#[test]
fn a_grace_period_is_only_ever_shortened() {
    let dying =
        pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:01:20Z", "deletionGracePeriodSeconds": 30}}));
    assert_eq!(step("", "pods", &dying, &DeleteOptions::default()), Fate::Wait);
    assert_eq!(step("", "pods", &dying, &grace(60)), Fate::Wait);
    let Fate::Mark(new) = step("", "pods", &dying, &grace(15)) else { panic!() };
    assert_eq!(new["metadata"]["deletionTimestamp"], "2026-01-01T00:01:05Z");
    assert_eq!(new["metadata"]["generation"], 1);
    let Fate::Mark(new) = step("", "pods", &dying, &grace(5)) else { panic!() };
    assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 1);
    assert_eq!(step("", "pods", &dying, &grace(0)), Fate::Remove);
}

#[test]
fn finalizers_keep_an_object_until_the_last_is_gone() {
    let object = json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}});
    let Fate::Mark(new) = step("", "configmaps", &object, &DeleteOptions::default()) else { panic!() };
    assert_eq!(new["metadata"]["deletionTimestamp"], "2026-01-01T00:01:00Z");
    assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 0);
    let options = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let Fate::Mark(new) = step("apps", "deployments", &json!({"metadata": {"name": "a"}}), &options) else { panic!() };
    assert_eq!(new["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(
        step("apps", "deployments", &json!({"metadata": {"name": "a"}}), &DeleteOptions::default()),
        Fate::Remove
    );
}

#[test]
fn jobs_orphan_by_default_as_upstream_has_it() {
    let Fate::Mark(new) = step("batch", "jobs", &json!({"metadata": {"name": "a"}}), &DeleteOptions::default()) else {
        panic!()
    };
    assert_eq!(new["metadata"]["finalizers"], json!(["orphan"]));
}

#[test]
fn a_namespace_waits_for_its_contents() {
    let namespace =
        json!({"metadata": {"name": "web"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let Fate::Mark(new) = step("", "namespaces", &namespace, &DeleteOptions::default()) else { panic!() };
    assert_eq!(new["status"]["phase"], "Terminating");
    assert_eq!(step("", "namespaces", &new, &DeleteOptions::default()), Fate::Wait);
    let mut empty = new.clone();
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(step("", "namespaces", &empty, &DeleteOptions::default()), Fate::Remove);
}
