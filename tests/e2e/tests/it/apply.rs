//! Server-side apply as kubectl drives it.

use crate::shared::space;

fn map(value: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings}}, data: {{key: {value}}}}}")
}

const SERVER_SIDE: [&str; 4] = ["apply", "--server-side", "--filename", "-"];

#[test]
fn configurations_are_applied_by_the_server_and_conflicts_forced() {
    let Some(kubectl) = space("ssa") else { return };
    assert!(kubectl.with_input(&SERVER_SIDE, &map("one")).good().contains("serverside-applied"));
    let version = kubectl.field("configmap/settings", "{.metadata.resourceVersion}");
    kubectl.with_input(&SERVER_SIDE, &map("one")).good();
    assert_eq!(kubectl.field("configmap/settings", "{.metadata.resourceVersion}"), version, "nothing changed");

    let other = [&SERVER_SIDE[..], &["--field-manager=other"]].concat();
    let conflict = kubectl.with_input(&other, &map("two")).bad();
    assert!(conflict.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.key"), "{conflict}");
    assert!(conflict.contains("--force-conflicts"), "{conflict}");
    kubectl.with_input(&[&other[..], &["--force-conflicts"]].concat(), &map("two")).good();
    assert_eq!(kubectl.field("configmap/settings", "{.data.key}"), "two");

    let hidden = kubectl.run(&["get", "configmap", "settings", "--output=yaml"]).good();
    assert!(!hidden.contains("managedFields"), "{hidden}");
    let shown = kubectl.run(&["get", "configmap", "settings", "--output=yaml", "--show-managed-fields"]).good();
    for expected in ["manager: other", "operation: Apply", "f:key: {}", "fieldsType: FieldsV1"] {
        assert!(shown.contains(expected), "no {expected:?} in:\n{shown}");
    }
    let diff =
        kubectl.with_input(&["diff", "--server-side", "--field-manager=other", "--filename", "-"], &map("three"));
    assert!(!diff.ok && diff.out.contains("+  key: three"), "{diff:?}");
}

#[test]
fn client_side_applying_is_taken_over() {
    let Some(kubectl) = space("csa") else { return };
    let two = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {key: one, more: x}}";
    kubectl.apply(two);
    let managers = "{.metadata.managedFields[*].manager}";
    assert_eq!(kubectl.field("configmap/settings", managers), "kubectl-client-side-apply");
    kubectl.with_input(&SERVER_SIDE, &map("two")).good();
    assert_eq!(kubectl.field("configmap/settings", "{.data}"), r#"{"key":"two"}"#);
    assert_eq!(kubectl.field("configmap/settings", "{.metadata.managedFields[0].operation}"), "Apply");
}

#[test]
fn controllers_own_what_they_write() {
    let Some(kubectl) = space("owners") else { return };
    kubectl.run(&["create", "deployment", "web", "--image=none:1", "--replicas=0"]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=30s"]).good();
    let entries = "{range .metadata.managedFields[*]}{.manager} {.operation} {.subresource};{end}";
    let owners = kubectl.field("deployment/web", entries);
    for expected in ["kubectl-create Update ;", "kube-controller-manager Update status;"] {
        assert!(owners.contains(expected), "no {expected:?} in {owners}");
    }
    kubectl.run(&["scale", "deployment/web", "--replicas=0"]).good();
}
