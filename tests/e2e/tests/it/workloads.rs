//! Controllers at work: rollouts, garbage, namespaces, custom resources.

use crate::shared::{IMAGE, space};

fn deployment(name: &str, replicas: u32, version: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{version: "{version}"}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 1 & wait; done"]
"#
    )
}

#[test]
fn a_rollout_replaces_every_pod_and_a_killed_one_comes_back() {
    let Some(kubectl) = space("rollout") else { return };
    kubectl.apply(&deployment("web", 3, "1"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    let before = kubectl.run(&["get", "pods", "-o", "name"]).good();
    kubectl.apply(&deployment("web", 3, "2"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    let after = kubectl.until(&["get", "pods", "-o", "name"], |out| out.lines().count() == 3);
    assert!(after.lines().all(|pod| !before.contains(pod)), "{before} {after}");
    let victim = after.lines().next().unwrap();
    kubectl.run(&["delete", victim]).good();
    kubectl.until(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"], |out| out == "3");
}

#[test]
fn a_paused_rollout_waits_and_a_stuck_one_says_so() {
    let Some(kubectl) = space("paused") else { return };
    kubectl.apply(&deployment("web", 1, "1").replace("replicas: 1", "replicas: 1\n  progressDeadlineSeconds: 2"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    kubectl.run(&["rollout", "pause", "deployment/web"]).good();
    kubectl.run(&["set", "image", "deployment/web", "main=test.invalid/no:1"]).good();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(kubectl.run(&["get", "replicasets", "-o", "name"]).good().lines().count(), 1);
    kubectl.run(&["rollout", "resume", "deployment/web"]).good();
    let reason = r#"jsonpath={.status.conditions[?(@.type=="Progressing")].reason}"#;
    kubectl.until(&["get", "deployment", "web", "-o", reason], |out| out == "ProgressDeadlineExceeded");
    assert_eq!(kubectl.field("deployment/web", "{.status.availableReplicas}"), "1");
}

#[test]
fn orphans_stay_and_dependents_go() {
    let Some(kubectl) = space("garbage") else { return };
    kubectl.apply(&deployment("web", 1, "1"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    kubectl.run(&["delete", "deployment", "web", "--cascade=orphan"]).good();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(kubectl.run(&["get", "replicasets", "-o", "name"]).good().lines().count(), 1);
    kubectl.apply(&deployment("web", 1, "1"));
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    assert_eq!(kubectl.run(&["get", "replicasets", "-o", "name"]).good().lines().count(), 1, "adopted");
    kubectl.run(&["delete", "deployment", "web", "--cascade=foreground"]).good();
    assert_eq!(kubectl.run(&["get", "replicasets,pods", "-o", "name"]).good(), "");
}

#[test]
fn a_namespace_takes_everything_with_it() {
    let Some(kubectl) = space("ending") else { return };
    kubectl.apply(&deployment("web", 2, "1"));
    kubectl.run(&["create", "configmap", "a"]).good();
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).good();
    let name = kubectl.field("configmap/a", "{.metadata.namespace}");
    kubectl.run(&["delete", "namespace", &name, "--timeout=60s"]).good();
    assert!(kubectl.run(&["get", "namespace", &name]).bad().contains("not found"));
    assert!(kubectl.run(&["create", "configmap", "b"]).bad().contains("not found"));
}

#[test]
fn custom_resources_are_pruned_defaulted_checked_and_printed() {
    let Some(kubectl) = space("custom") else { return };
    let group = format!("{}.e2e.madang.dev", kubectl.field("serviceaccount/default", "{.metadata.namespace}"));
    kubectl.apply(&format!(
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: boats.{group}}}
spec:
  group: {group}
  names: {{kind: Boat, plural: boats, shortNames: [bt]}}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{status: {{}}, scale: {{specReplicasPath: .spec.masts, statusReplicasPath: .status.masts}}}}
    additionalPrinterColumns: [{{name: Masts, type: integer, jsonPath: .spec.masts}}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [name]
            properties:
              name: {{type: string, maxLength: 10}}
              masts: {{type: integer, minimum: 1, default: 2}}
          status: {{type: object, properties: {{masts: {{type: integer}}}}}}
"#
    ));
    let crd = format!("crd/boats.{group}");
    kubectl.run(&["wait", "--for=condition=Established", &crd, "--timeout=10s"]).good();
    let boat = |spec: &str| format!("{{apiVersion: {group}/v1, kind: Boat, metadata: {{name: b}}, spec: {spec}}}");
    let refused = kubectl.with_input(&["apply", "-f", "-"], &boat("{masts: 1}")).bad();
    assert!(refused.contains("spec.name: Required value"), "{refused}");
    let refused = kubectl.with_input(&["apply", "-f", "-"], &boat("{name: x, masts: 0}")).bad();
    assert!(refused.contains("should be greater than or equal to 1"), "{refused}");
    kubectl.with_input(&["apply", "--validate=false", "-f", "-"], &boat("{name: x, extra: gone}")).good();
    assert_eq!(kubectl.field("bt/b", "{.spec}"), r#"{"masts":2,"name":"x"}"#);
    assert!(kubectl.run(&["get", "boats"]).good().contains("MASTS"));
    kubectl.run(&["scale", "boat/b", "--replicas=3"]).good();
    assert_eq!(kubectl.field("boat/b", "{.spec.masts}"), "3");
    kubectl.run(&["delete", &crd, "--timeout=30s"]).good();
    assert!(!kubectl.run(&["get", "boats"]).ok);
}
