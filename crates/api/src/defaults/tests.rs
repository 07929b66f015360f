//! Tests of `defaults`: cases as data where there are many.

use serde_json::{Value, json};

use super::apply_type;
use super::pod::tag;

fn check(group: &str, version: &str, kind: &str, given: Value, expected: Value) {
    let mut object = given.clone();
    apply_type(group, version, kind, &mut object);
    object.as_object_mut().unwrap().remove("metadata");
    assert_eq!(object, expected, "{kind} from {given}");
    let mut again = object.clone();
    apply_type(group, version, kind, &mut again);
    again.as_object_mut().unwrap().remove("metadata");
    assert_eq!(again, object, "{kind} a second time");
}

fn container(extra: Value) -> Value {
    let mut container = json!({
        "name": "a", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    merge(&mut container, extra);
    container
}

fn pod_spec(extra: Value) -> Value {
    let mut spec = json!({
        "containers": [container(json!({}))],
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    });
    merge(&mut spec, extra);
    spec
}

fn merge(into: &mut Value, extra: Value) {
    for (key, value) in extra.as_object().unwrap() {
        into[key] = value.clone();
    }
}

fn check_pod(spec: Value, expected: Value) {
    let mut expected = expected;
    merge(&mut expected, json!({"enableServiceLinks": true}));
    check("", "v1", "Pod", json!({"spec": spec}), json!({"spec": expected, "status": {}}));
}

#[test]
fn a_pod_gets_upstreams_defaults() {
    let given = json!({"name": "a", "image": "nginx"});
    check_pod(json!({"containers": [given]}), pod_spec(json!({})));
}

#[test]
fn a_pods_requests_follow_its_limits_and_quantities_become_canonical() {
    let given = json!({"name": "a", "image": "nginx", "resources":
        {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5}}});
    let resources = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}});
    check_pod(
        json!({"containers": [given]}),
        pod_spec(json!({"containers": [container(json!({"resources": resources}))]})),
    );
}

#[test]
fn on_the_hosts_network_container_ports_are_host_ports() {
    let given = json!({"name": "a", "image": "nginx", "ports": [{"containerPort": 80}]});
    let ports = json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]);
    check_pod(
        json!({"hostNetwork": true, "containers": [given]}),
        pod_spec(json!({"hostNetwork": true, "containers": [container(json!({"ports": ports}))]})),
    );
}

#[test]
fn the_two_names_of_the_service_account_agree() {
    for given in [
        json!({"serviceAccountName": "x"}),
        json!({"serviceAccount": "x"}),
        json!({"serviceAccountName": "x", "serviceAccount": "y"}),
    ] {
        let mut spec = given;
        merge(&mut spec, json!({"containers": [{"name": "a", "image": "nginx"}]}));
        check_pod(spec, pod_spec(json!({"serviceAccountName": "x", "serviceAccount": "x"})));
    }
}

#[test]
fn probes_hooks_and_variables_get_their_defaults() {
    let given = json!({"name": "a", "image": "nginx",
        "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 1}, "periodSeconds": 5},
        "lifecycle": {"preStop": {"httpGet": {"port": "http"}}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]});
    let probe = |mut probe: Value, period: i64| {
        merge(
            &mut probe,
            json!({"timeoutSeconds": 1, "periodSeconds": period, "successThreshold": 1, "failureThreshold": 3}),
        );
        probe
    };
    let expected = container(json!({
        "livenessProbe": probe(json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}}), 10),
        "readinessProbe": probe(json!({"grpc": {"port": 1, "service": ""}}), 5),
        "lifecycle": {"preStop": {"httpGet": {"port": "http", "path": "/", "scheme": "HTTP"}}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}},
            {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
    }));
    check_pod(json!({"containers": [given]}), pod_spec(json!({"containers": [expected]})));
}

#[test]
fn volumes_get_their_defaults() {
    for (given, expected) in [
        (json!({"name": "v"}), json!({"name": "v", "emptyDir": {}})),
        (json!({"name": "v", "emptyDir": null}), json!({"name": "v", "emptyDir": {}})),
        (
            json!({"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}}),
            json!({"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}),
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/a"}}),
            json!({"name": "v", "hostPath": {"path": "/a", "type": ""}}),
        ),
        (
            json!({"name": "v", "secret": {"secretName": "s"}}),
            json!({"name": "v", "secret": {"secretName": "s", "defaultMode": 420}}),
        ),
        (
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}),
            json!({"name": "v", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                {"downwardAPI": {"items":
                    [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels", "apiVersion": "v1"}}]}}]}}),
        ),
    ] {
        check_pod(
            json!({"containers": [{"name": "a", "image": "nginx"}], "volumes": [given]}),
            pod_spec(json!({"volumes": [expected]})),
        );
    }
}

#[test]
fn a_template_is_no_pod() {
    let template = json!({"spec": {"terminationGracePeriodSeconds": -1, "containers":
        [{"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "1"}}}]}});
    let expected = pod_spec(json!({"terminationGracePeriodSeconds": -1, "containers":
        [container(json!({"resources": {"limits": {"cpu": "1"}}}))]}));
    check(
        "apps",
        "v1",
        "Deployment",
        json!({"spec": {"selector": {}, "template": template}}),
        json!({"status": {}, "spec": {
            "selector": {}, "template": {"metadata": {}, "spec": expected}, "replicas": 1, "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        }}),
    );
}

#[test]
fn workloads_get_their_defaults() {
    let template = json!({"spec": {"containers": []}});
    let full = json!({"metadata": {}, "spec": pod_spec(json!({"containers": []}))});
    for (group, kind, given, expected) in [
        (
            "apps",
            "ReplicaSet",
            json!({"spec": {"template": template}}),
            json!({"spec": {"template": full, "replicas": 1}, "status": {"replicas": 0}}),
        ),
        (
            "apps",
            "DaemonSet",
            json!({"spec": {"template": template}}),
            json!({"spec": {"template": full, "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}},
                "status": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
                    "numberReady": 0}}),
        ),
        (
            "apps",
            "StatefulSet",
            json!({"spec": {"template": template, "volumeClaimTemplates": [{"metadata": {"name": "d"}}]}}),
            json!({"spec": {"template": full, "replicas": 1, "revisionHistoryLimit": 10,
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
                    "spec": {"volumeMode": "Filesystem", "resources": {}}, "status": {"phase": "Pending"}}]},
                "status": {"replicas": 0, "availableReplicas": 0}}),
        ),
        (
            "batch",
            "Job",
            json!({"spec": {"template": template}}),
            json!({"spec": {"template": full, "completions": 1, "parallelism": 1, "backoffLimit": 6,
                "completionMode": "NonIndexed", "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
                "manualSelector": false}, "status": {}}),
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}}),
            json!({"spec": {"schedule": "* * * * *", "concurrencyPolicy": "Allow", "suspend": false,
                "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
                "jobTemplate": {"metadata": {}, "spec": {"template": full}}}, "status": {}}),
        ),
    ] {
        check(group, "v1", kind, given, expected);
    }
}

#[test]
fn a_job_and_a_replication_controller_take_labels_from_their_template() {
    let mut job = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    apply_type("batch", "v1", "Job", &mut job);
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let mut controller = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    apply_type("", "v1", "ReplicationController", &mut controller);
    assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
}

#[test]
fn a_service_gets_upstreams_defaults() {
    for (given, expected) in [
        (
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}),
        ),
        (
            json!({"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": "http"}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}], "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "type": "NodePort",
                "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster"}),
        ),
        (
            json!({"type": "LoadBalancer"}),
            json!({"sessionAffinity": "None", "type": "LoadBalancer", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}),
        ),
        (
            json!({"type": "ExternalName", "externalName": "x.test"}),
            json!({"sessionAffinity": "None", "type": "ExternalName", "externalName": "x.test"}),
        ),
    ] {
        check("", "v1", "Service", json!({"spec": given}), json!({"spec": expected, "status": {"loadBalancer": {}}}));
    }
}

#[test]
fn other_core_kinds_get_their_defaults() {
    for (kind, given, expected) in [
        (
            "Secret",
            json!({"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "eA=="}}),
            json!({"type": "Opaque", "data": {"a": "Yg==", "c": "eA=="}}),
        ),
        ("ConfigMap", json!({}), json!({})),
        ("Namespace", json!({}), json!({"spec": {}, "status": {"phase": "Active"}})),
        (
            "Endpoints",
            json!({"subsets": [{"ports": [{"port": 1}]}]}),
            json!({"subsets": [{"ports": [{"port": 1, "protocol": "TCP"}]}]}),
        ),
        (
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2000m"}, "min": {"memory": "1Mi"}}]}}),
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}}]}}),
        ),
        (
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1024Mi"}, "hostPath": {"path": "/a"}}}),
            json!({"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a", "type": ""},
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        ),
    ] {
        check("", "v1", kind, given, expected);
    }
    let mut namespace = json!({"metadata": {"name": "a"}});
    apply_type("", "v1", "Namespace", &mut namespace);
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
}

#[test]
fn kinds_of_other_groups_get_their_defaults() {
    let rbac = "rbac.authorization.k8s.io";
    for (group, kind, given, expected) in [
        (
            rbac,
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects":
                [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            json!({"roleRef": {"kind": "Role", "name": "r", "apiGroup": rbac}, "subjects":
                [{"kind": "User", "name": "u", "apiGroup": rbac},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"ports": [{"port": 1}]}),
            json!({"ports": [{"port": 1, "name": "", "protocol": "TCP"}]}),
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "egress": [{"ports": [{"port": 1, "protocol": "TCP"}]}]}}),
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"provisioner": "p"}),
            json!({"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        ),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration",
            json!({"webhooks": [{"name": "w", "rules": [{}], "clientConfig": {"service": {"name": "s"}}}]}),
            json!({"webhooks": [{"name": "w", "rules": [{"scope": "*"}],
                "clientConfig": {"service": {"name": "s", "port": 443}}, "failurePolicy": "Fail",
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10,
                "reinvocationPolicy": "Never"}]}),
        ),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            json!({"spec": {"names": {"kind": "Foo", "plural": "foos"}, "versions":
                [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]}}),
            json!({"spec": {"names": {"kind": "Foo", "plural": "foos", "singular": "foo", "listKind": "FooList"},
                "versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}],
                "conversion": {"strategy": "None"}},
                "status": {"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v2"]}}),
        ),
        (
            "authentication.k8s.io",
            "TokenRequest",
            json!({"spec": {}}),
            json!({"spec": {"expirationSeconds": 3600}, "status": {"token": ""}}),
        ),
    ] {
        check(group, "v1", kind, given, expected);
    }
}

#[test]
fn an_autoscaler_scales_on_cpu_unless_told_otherwise() {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    check(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 9}}}}),
        json!({"spec": {"maxReplicas": 3, "minReplicas": 1,
            "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 9, "selectPolicy": "Max",
                    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]},
                "scaleDown": {"selectPolicy": "Max", "policies": [percent]},
            }}, "status": {"desiredReplicas": 0}}),
    );
}

#[test]
fn an_images_tag_is_read_as_docker_reads_it() {
    for (image, found) in [
        ("nginx", "latest"),
        ("nginx:1.27", "1.27"),
        ("nginx:latest", "latest"),
        ("localhost:5000/nginx", "latest"),
        ("registry.test:5000/a/nginx:2", "2"),
        ("nginx@sha256:0123", ""),
        ("nginx:1@sha256:0123", "1"),
        ("", ""),
        ("Nginx", ""),
        ("a b", ""),
        ("nginx:", ""),
        (":1", ""),
    ] {
        assert_eq!(tag(image), found, "{image}");
    }
}

#[test]
fn objects_of_the_wrong_shape_do_not_panic() {
    for kind in crate::kinds::all() {
        for given in [
            json!(null),
            json!([]),
            json!({"spec": 1, "status": [], "metadata": "x"}),
            json!({"spec": {"template": 3, "containers": {}, "ports": [1, "x"], "metrics": {}, "versions": 1}, "rules": 1}),
            json!({"spec": {"template": {"spec": {"containers": [1, {"env": [1], "resources": [], "ports": 1}]}}}}),
            json!({"webhooks": [{"rules": 1}], "subsets": 4, "subjects": [1], "data": 4, "stringData": {"a": 1}}),
        ] {
            let mut object = given;
            super::apply(kind, &mut object);
        }
    }
}
