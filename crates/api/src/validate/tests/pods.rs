//! Pods as upstream's own tests of validation have them, in short.

use serde_json::{Value, json};

use super::harness::{creates, kind, updates};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "abc", "namespace": "ns"},
        "spec": {
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "image"}],
        },
    })
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn containers() {
    let label = format!(r#"spec.containers[0].name: Invalid value: "C_": {LABEL}"#);
    creates(
        kind("", "pods"),
        &pod(),
        &[
            ("/spec/containers", json!([]), &["spec.containers: Required value"]),
            ("/spec/containers/0/name", json!(""), &["spec.containers[0].name: Required value"]),
            ("/spec/containers/0/name", json!("C_"), &[label.as_str()]),
            ("/spec/containers/0/image", json!(""), &["spec.containers[0].image: Required value"]),
            (
                "/spec/containers/0/image",
                json!(" x"),
                &[r#"spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace"#],
            ),
            (
                "/spec/containers/0/imagePullPolicy",
                json!("Sometimes"),
                &[
                    r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#,
                ],
            ),
            (
                "/spec/containers",
                json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]),
                &[r#"spec.containers[1].name: Duplicate value: "c""#],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 0}]),
                &["spec.containers[0].ports[0].containerPort: Required value"],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 65536}]),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 80, "protocol": "ICMP"}]),
                &[
                    r#"spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP""#,
                ],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
                &[r#"spec.containers[0].ports[1].name: Duplicate value: "a""#],
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
                &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80""#],
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "a=b", "value": "x"}]),
                &[
                    r#"spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
                ],
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
                &[
                    r#"spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
                ],
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "A", "valueFrom": {}}]),
                &[
                    r#"spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
                ],
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.whoops"}}}]),
                &[
                    r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.whoops": error converting fieldPath: field label not supported: metadata.whoops"#,
                ],
            ),
            (
                "/spec/containers/0/resources",
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                &[
                    r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
                ],
            ),
            (
                "/spec/containers/0/resources",
                json!({"requests": {"cpus": "1"}}),
                &[
                    r#"spec.containers[0].resources.requests[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified"#,
                    r#"spec.containers[0].resources.requests[cpus]: Invalid value: "cpus": must be a standard resource for containers"#,
                ],
            ),
            (
                "/spec/containers/0/volumeMounts",
                json!([{"name": "nope", "mountPath": "/x"}]),
                &[r#"spec.containers[0].volumeMounts[0].name: Not found: "nope""#],
            ),
            (
                "/spec/containers/0/volumeMounts",
                json!([{"name": "data", "mountPath": ""}]),
                &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
            ),
            (
                "/spec/containers/0/volumeMounts",
                json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a"}]),
                &[r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#],
            ),
            (
                "/spec/containers/0/volumeMounts",
                json!([{"name": "data", "mountPath": "/a", "subPath": "../x"}]),
                &[r#"spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'"#],
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({}),
                &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                "/spec/containers/0/readinessProbe",
                json!({"tcpSocket": {"port": 0}}),
                &[
                    "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/containers/0/securityContext",
                json!({"privileged": true, "allowPrivilegeEscalation": false}),
                &[
                    r#"spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
                ],
            ),
            (
                "/spec/initContainers",
                json!([{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["x"]}}}]),
                &[
                    "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            (
                "/spec/initContainers",
                json!([{"name": "c", "image": "i"}]),
                &[r#"spec.initContainers[0].name: Duplicate value: "c""#],
            ),
            ("/spec/initContainers", json!([{"name": "i", "image": "i", "restartPolicy": "Always"}]), &[]),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "image": "i", "terminationMessagePolicy": "File"}]),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
        ],
    );
}

#[test]
fn the_pod_as_a_whole() {
    let hostname = format!(r#"spec.hostname: Invalid value: "A": {LABEL}"#);
    creates(
        kind("", "pods"),
        &pod(),
        &[
            (
                "/spec/restartPolicy",
                json!("Sometimes"),
                &[
                    r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
                ],
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
            ),
            ("/spec/hostname", json!("A"), &[hostname.as_str()]),
            (
                "/spec/dnsPolicy",
                json!("None"),
                &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (
                "/spec/hostAliases",
                json!([{"ip": "999.9.9.9", "hostnames": ["a"]}]),
                &[
                    r#"spec.hostAliases[0].ip: Invalid value: "999.9.9.9": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                ],
            ),
            (
                "/spec/tolerations",
                json!([{"key": "a", "operator": "Exists", "value": "b"}]),
                &[
                    r#"spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'"#,
                ],
            ),
            (
                "/spec/affinity",
                json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}, "topologyKey": ""}]}}),
                &[
                    "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
                    r#"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty"#,
                    r#"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#,
                ],
            ),
            (
                "/spec/volumes",
                json!([{"name": "data", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]),
                &[r#"spec.volumes[1].name: Duplicate value: "data""#],
            ),
            ("/spec/volumes", json!([{"name": "data", "hostPath": null, "emptyDir": {}}]), &[]),
            (
                "/spec/volumes",
                json!([{"name": "data", "emptyDir": {}, "hostPath": {"path": "/"}}]),
                &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "/spec/volumes",
                json!([{"name": "data", "hostPath": {"path": "/a/../b"}}]),
                &[r#"spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#],
            ),
            ("/spec/hostPID", json!(true), &[]),
            (
                "/spec/securityContext",
                json!({"runAsUser": -1}),
                &["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
            ),
            (
                "/spec/topologySpreadConstraints",
                json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
                &["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
            ),
        ],
    );
}

#[test]
fn updates_may_change_little() {
    let mut base = pod();
    base["spec"]["nodeName"] = json!("node");
    let may_not = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";
    updates(
        kind("", "pods"),
        "",
        &base,
        &[
            ("/metadata/labels", json!({"a": "b"}), &[]),
            ("/spec/containers/0/image", json!("other"), &[]),
            ("/spec/containers/0/image", json!(""), &["spec.containers[0].image: Required value"; 2]),
            ("/spec/activeDeadlineSeconds", json!(30), &[]),
            (
                "/spec/containers",
                json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]),
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
        ],
    );
    let kind = kind("", "pods");
    let mut old = super::harness::defaulted(kind, base);
    super::harness::put(&mut old, "/metadata/resourceVersion", json!("1"));
    for (pointer, value) in
        [("/spec/nodeName", json!("b")), ("/spec/restartPolicy", json!("Never")), ("/spec/hostname", json!("h"))]
    {
        let mut new = old.clone();
        super::harness::put(&mut new, pointer, value);
        let found = super::harness::messages(&super::super::update(kind, "", &new, &old));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(may_not), "{found:?}");
    }
}

#[test]
fn status_and_ephemeral_containers() {
    let pods = kind("", "pods");
    updates(
        pods,
        "ephemeralcontainers",
        &pod(),
        &[
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "image": "i", "terminationMessagePolicy": "File"}]),
                &[],
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "c", "image": "i", "terminationMessagePolicy": "File"}]),
                &[r#"spec.ephemeralContainers[0].name: Duplicate value: "c""#],
            ),
        ],
    );
    updates(
        pods,
        "status",
        &pod(),
        &[
            ("/status/phase", json!("Running"), &[]),
            (
                "/status/podIPs",
                json!([{"ip": "1.2.3.400"}]),
                &[
                    r#"status.podIPs[0]: Invalid value: "1.2.3.400": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                ],
            ),
        ],
    );
}
