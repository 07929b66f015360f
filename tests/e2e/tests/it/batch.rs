//! Workloads beyond Deployments: jobs, schedules, sets with claims, one pod a node, budgets.

use crate::shared::{IMAGE, space};

/// A pod's spec that runs a shell command.
fn runs(command: &str) -> String {
    format!(
        r#"{{"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers":
            [{{"name": "main", "image": "{IMAGE}", "command": ["sh", "-c", "{command}"]}}]}}"#
    )
}

const WAITS: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

#[test]
fn an_indexed_job_runs_each_index_once_and_a_failing_one_says_why() {
    let Some(kubectl) = space("jobs") else { return };
    kubectl.apply(&format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "count"}}, "spec": {{"completions": 3,
            "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 600,
            "template": {{"spec": {}}}}}}}"#,
        runs("echo index-$JOB_COMPLETION_INDEX on $HOSTNAME")
    ));
    kubectl.run(&["wait", "--for=condition=Complete", "job/count", "--timeout=60s"]).good();
    assert_eq!(kubectl.field("job/count", "{.status.completedIndexes}"), "0-2");
    let index = "batch.kubernetes.io/job-completion-index=2";
    let log = kubectl.run(&["logs", "-l", index]).good();
    assert_eq!(log.trim(), "index-2 on count-2");
    kubectl.apply(&format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "broken"}}, "spec": {{"backoffLimit": 6,
            "podFailurePolicy": {{"rules": [{{"action": "FailJob", "onExitCodes": {{"operator": "In", "values": [42]}}}}]}},
            "template": {{"spec": {}}}}}}}"#,
        runs("exit 42")
    ));
    kubectl.run(&["wait", "--for=condition=Failed", "job/broken", "--timeout=60s"]).good();
    let reason = r#"{.status.conditions[?(@.type=="Failed")].reason}"#;
    assert_eq!(kubectl.field("job/broken", reason), "PodFailurePolicy");
    assert_eq!(kubectl.field("job/broken", "{.status.failed}"), "1");
    kubectl.run(&["delete", "job", "count", "broken"]).good();
    kubectl.until(&["get", "pods", "-o", "name"], str::is_empty);
}

#[test]
fn a_schedule_makes_a_job_by_hand_and_none_while_suspended() {
    let Some(kubectl) = space("schedules") else { return };
    kubectl.apply(&format!(
        r#"{{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {{"name": "often"}}, "spec": {{"suspend": true,
            "schedule": "* * * * *", "timeZone": "Asia/Seoul", "jobTemplate": {{"spec": {{"template": {{"spec": {}}}}}}}}}}}"#,
        runs("true")
    ));
    kubectl.run(&["create", "job", "--from=cronjob/often", "once"]).good();
    kubectl.run(&["wait", "--for=condition=Complete", "job/once", "--timeout=60s"]).good();
    assert_eq!(kubectl.run(&["get", "jobs", "-o", "name"]).good().trim(), "job.batch/once");
}

#[test]
fn a_stateful_set_keeps_its_names_and_its_data_and_lets_both_go() {
    let Some(kubectl) = space("stateful") else { return };
    let set = |version: &str| {
        format!(
            r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: 2
  selector: {{matchLabels: {{app: db}}}}
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Delete, whenScaled: Retain}}
  template:
    metadata: {{labels: {{app: db}}, annotations: {{version: "{version}"}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {IMAGE}
        command: [sh, -c, "echo {version}-$HOSTNAME >> /data/log; {WAITS}"]
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"#
        )
    };
    kubectl.apply(&set("one"));
    kubectl.run(&["rollout", "status", "statefulset/db", "--timeout=60s"]).good();
    kubectl.apply(&set("two"));
    kubectl.run(&["rollout", "status", "statefulset/db", "--timeout=60s"]).good();
    assert_eq!(kubectl.run(&["exec", "db-1", "--", "cat", "/data/log"]).good(), "one-db-1\ntwo-db-1\n");
    assert_eq!(kubectl.run(&["get", "controllerrevisions", "-o", "name"]).good().lines().count(), 2);
    let volume = kubectl.field("pvc/data-db-1", "{.spec.volumeName}");
    assert_eq!(kubectl.field(&format!("pv/{volume}"), "{.status.phase}"), "Bound");
    kubectl.run(&["scale", "statefulset/db", "--replicas=1"]).good();
    kubectl.until(&["get", "pods", "-o", "name"], |out| out.trim() == "pod/db-0");
    assert_eq!(kubectl.field("pvc/data-db-1", "{.status.phase}"), "Bound", "kept for the pod's return");
    kubectl.run(&["delete", "statefulset", "db"]).good();
    kubectl.until(&["get", "pvc", "-o", "name"], str::is_empty);
    kubectl.until(&["get", "pv", "-o", "name"], |out| !out.contains(&volume));
}

#[test]
fn a_daemon_set_has_a_pod_on_each_node_and_a_budget_keeps_it_there() {
    let Some(kubectl) = space("daemons") else { return };
    kubectl.apply(&format!(
        r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: agent}}
spec:
  selector: {{matchLabels: {{app: agent}}}}
  template:
    metadata: {{labels: {{app: agent}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: {IMAGE}, command: [sh, -c, "{WAITS}"]}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: agent}}
spec: {{minAvailable: 1, selector: {{matchLabels: {{app: agent}}}}}}
"#
    ));
    kubectl.run(&["rollout", "status", "daemonset/agent", "--timeout=60s"]).good();
    kubectl.until(&["get", "pdb", "agent", "-o", "jsonpath={.status.currentHealthy}"], |out| out == "1");
    let pod = kubectl.run(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]).good();
    let space = kubectl.field("pdb/agent", "{.metadata.namespace}");
    let eviction = format!(
        r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}", "namespace": "{space}"}}}}"#
    );
    let path = format!("/api/v1/namespaces/{space}/pods/{pod}/eviction");
    let refused = kubectl.with_input(&["create", "--raw", &path, "-f", "-"], &eviction).bad();
    assert!(refused.contains("disruption budget"), "{refused}");
    kubectl.run(&["delete", "pdb", "agent"]).good();
    kubectl.with_input(&["create", "--raw", &path, "-f", "-"], &eviction).good();
    kubectl.until(&["get", "pods", "-o", "name"], |out| out.lines().count() == 1 && !out.contains(&pod));
    kubectl.run(&["rollout", "status", "daemonset/agent", "--timeout=60s"]).good();
}
