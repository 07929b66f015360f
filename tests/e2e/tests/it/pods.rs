//! What containers see and how they end.

use crate::shared::{IMAGE, pod, space};

#[test]
fn containers_have_namespaces_a_root_and_an_address_of_their_own() {
    let Some(kubectl) = space("own") else { return };
    let script =
        "cut -d' ' -f1,4 /proc/1/stat; hostname; head -1 /proc/self/mountinfo; ip -4 addr show eth0; sleep 100";
    kubectl.apply(&pod("own", script));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/own", "--timeout=30s"]).good();
    let log = kubectl.until(&["logs", "own"], |out| out.contains("inet"));
    assert!(log.starts_with("1 0\nown\n"), "{log}");
    assert!(log.contains("overlay"), "{log}");
    let address = kubectl.field("pod/own", "{.status.podIP}");
    assert!(log.contains(&format!("inet {address}/32")), "{log}");
}

#[test]
fn environment_comes_from_fields_maps_and_secrets_and_is_expanded() {
    let Some(kubectl) = space("env") else { return };
    kubectl.run(&["create", "configmap", "map", "--from-literal=a=from-map", "--from-literal=B=all"]).good();
    kubectl.run(&["create", "secret", "generic", "secret", "--from-literal=s=from-secret"]).good();
    kubectl.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: env}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {IMAGE}
    command: [echo, $(ONE), $(TWO), $(THREE), $(FOUR), $(B), $(FIVE), $(NONE), $$(ONE)]
    resources: {{limits: {{memory: 64Mi}}}}
    envFrom: [{{configMapRef: {{name: map}}}}]
    env:
    - {{name: ONE, value: one}}
    - {{name: TWO, valueFrom: {{configMapKeyRef: {{name: map, key: a}}}}}}
    - {{name: THREE, valueFrom: {{secretKeyRef: {{name: secret, key: s}}}}}}
    - {{name: FOUR, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: FIVE, valueFrom: {{resourceFieldRef: {{resource: limits.memory, divisor: 1Mi}}}}}}
"#
    ));
    let log = kubectl.until(&["logs", "env"], |out| !out.is_empty());
    assert_eq!(log, "one from-map from-secret env all 64 $(NONE) $(ONE)\n");
}

#[test]
fn volumes_hold_maps_secrets_fields_and_scratch_space() {
    let Some(kubectl) = space("volumes") else { return };
    kubectl.run(&["create", "configmap", "map", "--from-literal=file=before"]).good();
    kubectl.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: volumes, labels: {{tier: test}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, "echo scratch > /scratch/x; while sleep 1; do :; done"]
    volumeMounts:
    - {{name: map, mountPath: /map}}
    - {{name: all, mountPath: /all, readOnly: true}}
    - {{name: scratch, mountPath: /scratch}}
  - name: other
    image: {IMAGE}
    command: [sh, -c, "while sleep 1; do :; done"]
    volumeMounts: [{{name: scratch, mountPath: /shared}}]
  volumes:
  - {{name: map, configMap: {{name: map}}}}
  - {{name: scratch, emptyDir: {{medium: Memory}}}}
  - name: all
    projected:
      sources:
      - {{configMap: {{name: map, items: [{{key: file, path: a/b}}]}}}}
      - {{downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
"#
    ));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/volumes", "--timeout=30s"]).good();
    let read = |container: &str, path: &str| kubectl.run(&["exec", "volumes", "-c", container, "--", "cat", path]);
    assert_eq!(read("main", "/map/file").good(), "before");
    assert_eq!(read("main", "/all/a/b").good(), "before");
    assert_eq!(read("main", "/all/labels").good(), "tier=\"test\"");
    assert_eq!(read("other", "/shared/x").good(), "scratch\n");
    assert!(read("main", "/var/run/secrets/kubernetes.io/serviceaccount/token").good().split('.').count() == 3);
    assert!(kubectl.run(&["exec", "volumes", "-c", "main", "--", "touch", "/all/x"]).bad().contains("Read-only"));
    kubectl.run(&["patch", "configmap", "map", "--patch", r#"{"data":{"file":"after"}}"#]).good();
    kubectl.until(&["exec", "volumes", "-c", "main", "--", "cat", "/map/file"], |out| out == "after");
}

#[test]
fn ends_are_told_by_code_reason_and_phase() {
    let Some(kubectl) = space("ends") else { return };
    kubectl.apply(&pod("good", "exit 0"));
    kubectl.apply(&pod("bad", "echo because > /dev/termination-log; exit 3"));
    let hungry = pod("hungry", "x=a; while true; do x=$x$x; done");
    kubectl.apply(&hungry.replace("    command:", "    resources: {limits: {memory: 16Mi}}\n    command:"));
    kubectl.apply(&pod("absent", "true").replace(IMAGE, "test.invalid/no/such:1"));
    let phase = |name: &str, expected: &str| {
        kubectl.until(&["get", "pod", name, "-o", "jsonpath={.status.phase}"], |out| out == expected);
    };
    phase("good", "Succeeded");
    phase("bad", "Failed");
    phase("hungry", "Failed");
    let terminated = |name: &str, field: &str| {
        kubectl.field(&format!("pod/{name}"), &format!("{{.status.containerStatuses[0].state.terminated.{field}}}"))
    };
    assert_eq!(terminated("good", "reason"), "Completed");
    assert_eq!((terminated("bad", "exitCode"), terminated("bad", "message")), ("3".into(), "because\n".into()));
    assert_eq!(terminated("hungry", "reason"), "OOMKilled");
    kubectl.until(&["get", "pod", "absent"], |out| out.contains("ErrImagePull") || out.contains("ImagePullBackOff"));
}

#[test]
fn probes_restart_and_hold_back() {
    let Some(kubectl) = space("probes") else { return };
    let probed = |name: &str, kind: &str, probe: &str| {
        pod(name, "touch /tmp/up; sleep 2; rm /tmp/up; sleep 1000")
            .replace("restartPolicy: Never", "restartPolicy: Always")
            .replace(
                "    command:",
                &format!("    {kind}: {{{probe}, periodSeconds: 1, failureThreshold: 1}}\n    command:"),
            )
    };
    kubectl.apply(&probed("live", "livenessProbe", "exec: {command: [cat, /tmp/up]}"));
    kubectl.apply(&probed("ready", "readinessProbe", "tcpSocket: {port: 81}"));
    kubectl.until(&["get", "pod", "live", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"], |out| {
        out != "0" && !out.is_empty()
    });
    assert!(kubectl.run(&["get", "events"]).good().contains("Liveness probe failed"));
    assert_eq!(kubectl.field("pod/ready", "{.status.containerStatuses[0].ready}"), "false");
}

#[test]
fn security_settings_take_effect() {
    let Some(kubectl) = space("security") else { return };
    let secured = pod("secured", "id -u; id -g; touch /x; grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status").replace(
        "    command:",
        "    securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n    command:",
    );
    kubectl.apply(&secured);
    let log = kubectl.until(&["logs", "secured"], |out| out.contains("Seccomp"));
    assert!(log.starts_with("1000\n2000\n"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        assert!(log.contains(line), "no {line} in {log}");
    }
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let Some(kubectl) = space("init") else { return };
    let ordered = pod("ordered", "cat /steps/log").replace(
        "  containers:",
        &format!(
            "  initContainers:\n  - {{name: one, image: {IMAGE}, command: [sh, -c, 'echo one >> /steps/log'], volumeMounts: [{{name: work, mountPath: /steps}}]}}\n  - {{name: two, image: {IMAGE}, command: [sh, -c, 'echo two >> /steps/log'], volumeMounts: [{{name: work, mountPath: /steps}}]}}\n  volumes: [{{name: work, emptyDir: {{}}}}]\n  containers:"
        ),
    );
    let ordered = format!("{ordered}    volumeMounts: [{{name: work, mountPath: /steps}}]\n");
    kubectl.apply(&ordered);
    assert_eq!(kubectl.until(&["logs", "ordered"], |out| !out.is_empty()), "one\ntwo\n");
}
