//! Which writes follow from which pods.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::json;

use super::{Action, plan};

fn service() -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}))
    .unwrap()
}

fn pod(n: usize, ready: bool, port: i32) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("web-{n}"), "namespace": "default", "uid": format!("u{n:04}"), "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", n / 250, n % 250 + 1),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap(),
    )
}

/// Applies actions as the API server would.
fn apply(slices: &mut Vec<Arc<EndpointSlice>>, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                slice.metadata.name = Some(format!("web-{}", slices.len() + 100));
                slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => {
                let at = slices.iter().position(|old| old.metadata.name == slice.metadata.name).unwrap();
                slices[at] = Arc::new(*slice);
            }
            Action::Delete(name) => slices.retain(|old| old.metadata.name.as_deref() != Some(&name)),
        }
    }
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect()
}

#[test]
fn slices_fill_change_little_and_come_to_rest() {
    let (service, mut slices) = (service(), Vec::new());
    let actions = plan(&service, &[], |_| None, &slices);
    apply(&mut slices, actions);
    assert_eq!(sizes(&slices), [0]);
    let mut pods: Vec<_> = (0..250).map(|n| pod(n, true, 8080)).collect();
    let actions = plan(&service, &pods, |_| None, &slices);
    apply(&mut slices, actions);
    assert_eq!(sizes(&slices), [100, 100, 50]);
    assert!(plan(&service, &pods, |_| None, &slices).is_empty());
    pods[7] = pod(7, false, 8080);
    let actions = plan(&service, &pods, |_| None, &slices);
    assert_eq!(actions.len(), 1, "{actions:?}");
    apply(&mut slices, actions);
    let unready = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(false));
    assert_eq!(unready.count(), 1);
    pods.truncate(1);
    let actions = plan(&service, &pods, |_| None, &slices);
    apply(&mut slices, actions);
    assert_eq!(sizes(&slices), [1]);
    let actions = plan(&service, &[], |_| None, &slices);
    apply(&mut slices, actions);
    assert_eq!(sizes(&slices), [0]);
    assert!(plan(&service, &[], |_| None, &slices).is_empty());
}

#[test]
fn pods_whose_named_port_differs_stand_in_slices_of_their_own() {
    let (service, mut slices) = (service(), Vec::new());
    let pods = [pod(1, true, 8080), pod(2, true, 9090)];
    apply(&mut slices, plan(&service, &pods, |_| Some("z".into()), &[]));
    assert_eq!(sizes(&slices), [1, 1]);
    assert_eq!(slices[0].endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z"));
    assert!(plan(&service, &pods, |_| Some("z".into()), &slices).is_empty());
}
