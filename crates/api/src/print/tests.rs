//! Tests of `print`: cases as data where there are many.

use serde_json::{Value, json};

use super::path::JsonPath;
use super::*;

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural).unwrap()
}

/// Cells of an object made an hour ago, as text between bars.
fn shown(group: &str, plural: &str, mut object: Value) -> String {
    meta::set_name(&mut object, "x");
    meta::set_creation_timestamp(&mut object, "2026-01-01T23:00:00Z".parse().unwrap());
    let cells = row(kind(group, plural), &object, now());
    let texts: Vec<String> =
        cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect();
    texts.join("|")
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kinds::all() {
        for object in [
            json!({}),
            json!({"spec": 1, "status": "x", "metadata": []}),
            json!({"spec": {"metrics": [1], "ports": [1], "rules": {}, "containers": 4, "template": []}, "subsets": [4],
                "status": {"conditions": [1], "initContainerStatuses": [7, {"state": 1}], "containerStatuses": [0]}}),
        ] {
            assert_eq!(row(kind, &object, now()).len(), columns(kind).len(), "{} {object}", kind.kind);
        }
    }
}

#[test]
fn ages_are_shown_as_kubectl_shows_them() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (600, "10m"),
        (3600, "60m"),
        (10800, "3h"),
        (11400, "3h10m"),
        (28800, "8h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63072000, "2y"),
        (64000000, "2y10d"),
        (315360000, "10y"),
    ] {
        assert_eq!(age::human(seconds), text, "{seconds}");
    }
    assert_eq!(age::since("", now()), "<unknown>");
}

fn pod(spec: Value, status: Value) -> String {
    let mut object = json!({"spec": spec, "status": status});
    if object["spec"].get("containers").is_none() {
        object["spec"]["containers"] = json!([{"name": "a"}]);
    }
    shown("", "pods", object)
}

#[test]
fn a_pods_status_is_one_word() {
    let waiting = |reason: &str| json!({"name": "a", "state": {"waiting": {"reason": reason}}, "restartCount": 0});
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}, "restartCount": 0});
    for (spec, status, expected) in [
        (json!({}), json!({"phase": "Pending"}), "x|0/1|Pending|0|60m|<none>|<none>|<none>|<none>"),
        (
            json!({"nodeName": "n"}),
            json!({"phase": "Running", "containerStatuses": [running], "podIPs": [{"ip": "10.0.0.1"}]}),
            "x|1/1|Running|0|60m|10.0.0.1|n|<none>|<none>",
        ),
        (
            json!({}),
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T23:59:00Z"}}}]}),
            "x|0/1|CrashLoopBackOff|3 (60s ago)|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"initContainers": [{"name": "i"}, {"name": "j"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}, {"name": "j"}]}),
            "x|0/1|Init:0/2|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2}}}]}),
            "x|0/1|Init:ExitCode:2|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}),
            "x|0/1|Init:ImagePullBackOff|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}]}),
            json!({"phase": "Running", "containerStatuses": [running], "initContainerStatuses":
                [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}]}),
            "x|2/2|Running|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses":
                [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                    {"name": "b", "ready": true, "state": {"running": {}}}]}),
            "x|1/2|Running|0|60m|<none>|<none>|<none>|<none>",
        ),
        (json!({}), json!({"phase": "Failed", "reason": "Evicted"}), "x|0/1|Evicted|0|60m|<none>|<none>|<none>|<none>"),
        (
            json!({}),
            json!({"phase": "Succeeded", "containerStatuses":
                [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "x|0/1|Completed|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({}),
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "x|0/1|Signal:9|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"schedulingGates": [{"name": "g"}]}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "x|0/1|SchedulingGated|0|60m|<none>|<none>|<none>|<none>",
        ),
        (
            json!({"readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]}),
            json!({"phase": "Running", "conditions": [{"type": "g", "status": "True"}]}),
            "x|0/1|Running|0|60m|<none>|<none>|<none>|1/2",
        ),
    ] {
        assert_eq!(pod(spec, status), expected);
    }
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": [{}]},
        "status": {"phase": "Running"}});
    assert!(shown("", "pods", deleted).starts_with("x|0/1|Terminating|"));
}

#[test]
fn a_pod_that_ended_says_so_in_its_row() {
    let printer = Printer::built_in(kind("", "pods"));
    let row = printer.row(&json!({"status": {"phase": "Succeeded"}}), Include::None, now());
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    assert!(row.get("object").is_none());
    assert!(printer.row(&json!({}), Include::Metadata, now()).get("conditions").is_none());
}

#[test]
fn cells_are_upstreams() {
    for (group, plural, object, expected) in [
        ("", "namespaces", json!({"status": {"phase": "Active"}}), "x|Active|60m"),
        ("", "secrets", json!({"type": "Opaque", "data": {"a": "", "b": ""}}), "x|Opaque|2|60m"),
        ("", "configmaps", json!({"data": {"a": ""}, "binaryData": {"b": ""}}), "x|2|60m"),
        ("", "limitranges", json!({}), "x|2026-01-01T23:00:00Z"),
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"], "selector": {"b": "2", "a": "1"},
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 53, "protocol": "UDP"}]}}),
            "x|NodePort|10.0.0.1|<none>|80:30000/TCP,53/UDP|60m|a=1,b=2",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}}),
            "x|LoadBalancer|10.0.0.1|<pending>|<none>|60m|<none>",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "ExternalName", "externalName": "a.test"}}),
            "x|ExternalName|<none>|a.test|<none>|60m|<none>",
        ),
        (
            "",
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
            "x|1.1.1.1:1,2.2.2.2:1,1.1.1.1:2 + 1 more...|60m",
        ),
        (
            "",
            "nodes",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
                    "nodeInfo": {"kubeletVersion": "v1.37.1", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64",
                        "containerRuntimeVersion": "madang://0"}}}),
            "x|Ready,SchedulingDisabled|control-plane,edge|60m|v1.37.1|10.0.0.2|<none>|Debian|6.1 (amd64)|madang://0",
        ),
        (
            "",
            "events",
            json!({"type": "Warning", "reason": "BackOff", "message": " failed\n", "count": 4,
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
                "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-01T23:50:00Z",
                "lastTimestamp": "2026-01-01T23:59:50Z"}),
            "10s|Warning|BackOff|pod/p|spec|kubelet, n|failed|10m|4|x",
        ),
        (
            "events.k8s.io",
            "events",
            json!({"type": "Normal", "reason": "Started", "note": "ok", "regarding": {"kind": "Pod", "name": "p"},
                "reportingController": "c", "eventTime": "2026-01-01T23:59:59.5Z"}),
            "0s|Normal|Started|pod/p||c|ok|0s|1|x",
        ),
        (
            "",
            "resourcequotas",
            json!({"status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1", "cpu": "500m"}}}),
            "x|cpu: 500m/1, pods: 1/4|limits.cpu: 0/2|60m",
        ),
        (
            "",
            "persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"},
                "storageClassName": "fast", "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}),
            "x|1Gi|RWO,RWX|Retain|Bound|n/c|fast|<unset>||60m|Filesystem",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "fast", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
            "x|Pending||||fast|<unset>|60m|Filesystem",
        ),
        (
            "apps",
            "deployments",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec":
                {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            "x|1/3|2|1|60m|c,d|i,j|a=b",
        ),
        (
            "apps",
            "replicasets",
            json!({"spec": {"replicas": 3, "selector": {}}, "status": {"replicas": 2}}),
            "x|3|2|0|60m|||<none>",
        ),
        ("apps", "statefulsets", json!({"spec": {"replicas": 2}}), "x|0/2|60m||"),
        (
            "apps",
            "daemonsets",
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"nodeSelector": {"z": "1"}}}},
                "status": {"desiredNumberScheduled": 1, "numberReady": 1}}),
            "x|1|0|1|0|0|z=1|60m|||a=b",
        ),
        (
            "apps",
            "controllerrevisions",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]},
                "revision": 3}),
            "x|daemonset.apps/d|3|60m",
        ),
        (
            "batch",
            "jobs",
            json!({"spec": {"completions": 3, "selector": {}}, "status": {"succeeded": 1, "startTime": "2026-01-01T23:59:00Z"}}),
            "x|Running|1/3|60s|60m|||<none>",
        ),
        (
            "batch",
            "cronjobs",
            json!({"spec": {"schedule": "* * * * *", "suspend": false}}),
            "x|* * * * *|<none>|False|0|<none>|60m|||<none>",
        ),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}}),
            "x|50%|N/A|2|60m",
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics":
                [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]},
                "status": {"currentReplicas": 2, "currentMetrics":
                    [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10}}}]}}),
            "x|Deployment/d|cpu: 10%/80%|1|5|2|60m",
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"rules": [{"host": "a"}, {}], "tls": [{}]}}),
            "x|<none>|a||80, 443|60m",
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            "x|IPv4|80,x|1.1.1.1|60m",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            "x|Role/r|60m|u||n/s",
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"provisioner": "p", "reclaimPolicy": "Retain"}),
            "x|p|Retain|Immediate|false|60m",
        ),
        ("coordination.k8s.io", "leases", json!({"spec": {"holderIdentity": "h"}}), "x|h|60m"),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            json!({"value": 5, "preemptionPolicy": "Never"}),
            "x|5|false|60m|Never",
        ),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            json!({"spec": {"scope": "Namespaced", "group": "g", "names": {"kind": "K", "shortNames": ["k"]}, "versions":
                [{"name": "v2", "served": true}, {"name": "v1", "served": true, "storage": true}, {"name": "v0"}]}}),
            "x|Namespaced|v1(storage),v2|2026-01-01T23:00:00Z|g|K|k|false",
        ),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
                "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}),
            "x|60m|s|u|60m|Approved,Issued",
        ),
    ] {
        assert_eq!(shown(group, plural, object), expected, "{plural}");
    }
}

#[test]
fn paths_find_what_they_name() {
    let object = json!({"spec": {"a": {"b-c": 1}, "list": [{"type": "Ready", "status": "True", "n": 1},
        {"type": "Other", "status": "False", "n": 2}]}, "metadata": {"labels": {"x.y/z": "v"}}});
    for (path, found) in [
        (".spec.a.b-c", json!([1])),
        ("$.spec.a.b-c", json!([1])),
        (".spec.a['b-c']", json!([1])),
        (".spec.list[0].type", json!(["Ready"])),
        (".spec.list[-1].type", json!(["Other"])),
        (".spec.list[*].n", json!([1, 2])),
        (".spec.list[0:1].n", json!([1])),
        (".spec.list[?(@.type==\"Ready\")].status", json!(["True"])),
        (".spec.list[?(@.type=='Other')].status", json!(["False"])),
        (".spec.list[?(@.n > 1)].type", json!(["Other"])),
        (".spec.list[?(@.missing)].type", json!([])),
        (".metadata.labels.x\\.y/z", json!(["v"])),
        (".metadata.labels['x.y/z']", json!(["v"])),
        ("..type", json!(["Ready", "Other"])),
        (".spec.nothing", json!([])),
    ] {
        let path_read = JsonPath::parse(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(json!(path_read.find(&object)), found, "{path}");
    }
    for bad in [".a[", ".a[x]", ".a[?(@.b==]", "a b", ".a[?(@.b", ".a['b"] {
        assert_eq!(JsonPath::parse(bad), None, "{bad}");
    }
}

fn widgets() -> Kind {
    Kind::custom(&kinds::Custom {
        group: "example.test",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        singular: "widget",
        short_names: vec![],
        categories: vec![],
        namespaced: true,
        status: false,
        scale: false,
        storage_version: "v1",
    })
}

#[test]
fn custom_columns_show_what_their_paths_find() {
    let additional = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
        {"name": "Made", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "description": "its color"},
        {"name": "All", "type": "string", "jsonPath": ".spec.list"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
    ]);
    let printer = Printer::custom(&widgets(), &additional);
    assert_eq!(printer.columns().len(), 7);
    assert_eq!((printer.columns()[1].priority, printer.columns()[3].description.as_str()), (1, "its color"));
    let object = json!({"metadata": {"name": "w", "creationTimestamp": "2026-01-01T23:00:00Z"},
        "spec": {"size": 3.0, "color": "red", "list": [1, "a"], "on": true}});
    assert_eq!(Value::from(printer.cells(&object, now())), json!(["w", 3, "60m", "red", "[1,\"a\"]", true, null]));
    let plain = Printer::custom(&widgets(), &Value::Null);
    assert_eq!(Value::from(plain.cells(&object, now())), json!(["w", "60m"]));
}

#[test]
fn a_table_has_columns_rows_and_the_lists_version() {
    let printer = Printer::built_in(kind("", "namespaces"));
    let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}});
    let rows = vec![printer.row(&object, Include::Metadata, now())];
    let table = table(&printer, rows, json!({"resourceVersion": "5"}), true);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["metadata"]["resourceVersion"], "5");
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(
        Include::parse("x").unwrap_err(),
        "includeObject: Invalid value: \"x\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

#[test]
fn in_a_list_the_default_storage_class_is_marked() {
    let printer = Printer::built_in(kind("storage.k8s.io", "storageclasses"));
    let class = |name: &str, default: &str, time: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": time,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
    };
    let rows = [
        class("a", "true", "2026-01-01T00:00:00Z"),
        class("b", "true", "2026-01-01T10:00:00Z"),
        class("c", "false", "2026-01-01T20:00:00Z"),
    ];
    let rows = rows.iter().map(|object| printer.row(object, Include::Metadata, now())).collect();
    let table = table(&printer, rows, json!({}), false);
    let names: Vec<&Value> = table["rows"].as_array().unwrap().iter().map(|row| &row["cells"][0]).collect();
    assert_eq!(json!(names), json!(["a", "b (default)", "c"]));
}
