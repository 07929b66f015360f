//! What releases have in every cluster: their kind, and rights.

use anyhow::Result;
use serde_json::{Value, json};

use crate::kind;

/// The objects; `user` is who runs releases.
///
/// # Errors
/// The definition is damaged.
pub fn objects(user: &str) -> Result<Vec<Value>> {
    let read = ["get", "list", "watch"];
    let all = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    let mut objects = vec![
        kind::definition()?,
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "madang:release"},
            "rules": [
                {"apiGroups": [kind::GROUP], "resources": [kind::PLURAL], "verbs": read},
                {"apiGroups": [kind::GROUP], "resources": ["releases/status"], "verbs": ["update", "patch"]},
                {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["get", "update"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
                // Where metrics are asked by name, this one may read.
                {"apiGroups": ["metrics.madang.dev"], "resources": ["samples"], "verbs": ["get"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "madang:release"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "madang:release"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ];
    for (name, verbs) in [("view", &read[..]), ("edit", &all[..])] {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": format!("madang:release:{name}"),
                "labels": {format!("rbac.authorization.k8s.io/aggregate-to-{name}"): "true"},
            },
            "rules": [{"apiGroups": [kind::GROUP], "resources": [kind::PLURAL], "verbs": verbs}],
        }));
    }
    Ok(objects)
}
