//! Persistent volumes, claims and what belongs to them.

use serde_json::json;

use super::harness::{creates, kind, updates};

#[test]
fn volumes() {
    let base = json!({
        "metadata": {"name": "pv"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}},
    });
    let volumes = kind("", "persistentvolumes");
    creates(
        volumes,
        &base,
        &[
            ("/spec/accessModes", json!([]), &["spec.accessModes: Required value"]),
            (
                "/spec/accessModes",
                json!(["ReadWriteOncePod", "ReadWriteOnce"]),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
            (
                "/spec/capacity",
                json!({}),
                &[
                    "spec.capacity: Required value",
                    r#"spec.capacity: Unsupported value: {}: supported values: "storage""#,
                ],
            ),
            (
                "/spec/capacity/storage",
                json!("0"),
                &[r#"spec.capacity[storage]: Invalid value: "0": must be greater than zero"#],
            ),
            ("/spec/hostPath", json!(null), &["spec: Required value: must specify a volume type"]),
            (
                "/spec/nfs",
                json!({"server": "s", "path": "/"}),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "/spec/volumeMode",
                json!("Tape"),
                &[r#"spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem""#],
            ),
        ],
    );
    updates(
        volumes,
        "",
        &base,
        &[
            ("/spec/persistentVolumeReclaimPolicy", json!("Delete"), &[]),
            ("/spec/volumeMode", json!("Block"), &[r#"volumeMode: Invalid value: "Block": field is immutable"#]),
        ],
    );
}

#[test]
fn claims() {
    let base = json!({
        "metadata": {"name": "claim", "namespace": "ns"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "a"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    });
    let claims = kind("", "persistentvolumeclaims");
    creates(
        claims,
        &base,
        &[
            ("/spec/accessModes", json!([]), &["spec.accessModes: Required value: at least 1 access mode is required"]),
            ("/spec/resources", json!({}), &["spec.resources[storage]: Required value"]),
            (
                "/spec/dataSource",
                json!({"kind": "Other", "name": "x"}),
                &[
                    r#"spec.dataSource: Invalid value: "Other": must be 'PersistentVolumeClaim' when referencing the default apiGroup"#,
                ],
            ),
        ],
    );
    updates(
        claims,
        "",
        &base,
        &[
            ("/spec/resources/requests/storage", json!("2Gi"), &[]),
            ("/spec/volumeName", json!("pv"), &[]),
            (
                "/spec/resources/requests/storage",
                json!("512Mi"),
                &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
        ],
    );
}

#[test]
fn classes_and_drivers() {
    let base = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/disk"});
    let classes = kind("storage.k8s.io", "storageclasses");
    creates(
        classes,
        &base,
        &[
            ("/provisioner", json!(""), &["provisioner: Required value"]),
            (
                "/reclaimPolicy",
                json!("Recycle"),
                &[r#"reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain""#],
            ),
        ],
    );
    let changed = "provisioner: Invalid value: null: field is immutable";
    updates(classes, "", &base, &[("/provisioner", json!("other"), &[changed])]);
    let base = json!({"metadata": {"name": "driver"}, "spec": {}});
    creates(
        kind("storage.k8s.io", "csidrivers"),
        &base,
        &[(
            "/spec/fsGroupPolicy",
            json!("x"),
            &[
                r#"spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType""#,
            ],
        )],
    );
}
