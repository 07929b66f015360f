//! What the gateway has in every cluster: the kinds, a class of gateways and one of ingresses, and rights.

use serde_json::{Value, json};

use crate::{kinds, plan};

/// The name of both classes.
pub const CLASS: &str = "madang";

/// The objects; `user` is who runs the gateway.
pub fn objects(user: &str) -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let mut objects = kinds::definitions();
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "madang:gateway"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "secrets", "namespaces"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "patch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["create", "patch"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"], "verbs": read},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update", "patch"]},
            {
                "apiGroups": [kinds::GROUP], "verbs": read,
                "resources": ["gatewayclasses", "gateways", "httproutes", "referencegrants"],
            },
            {
                "apiGroups": [kinds::GROUP], "verbs": ["update", "patch"],
                "resources": ["gatewayclasses/status", "gateways/status", "httproutes/status"],
            },
        ],
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "madang:gateway"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "madang:gateway"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }));
    let all = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    for (name, verbs) in [("view", &read[..]), ("edit", &all[..])] {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": format!("madang:gateway:{name}"),
                "labels": {format!("rbac.authorization.k8s.io/aggregate-to-{name}"): "true"},
            },
            "rules": [{"apiGroups": [kinds::GROUP], "resources": ["*"], "verbs": verbs}],
        }));
    }
    objects.push(json!({
        "apiVersion": format!("{}/v1", kinds::GROUP), "kind": "GatewayClass", "metadata": {"name": CLASS},
        "spec": {"controllerName": plan::CONTROLLER, "description": "served by Madang's own gateway"},
    }));
    objects.push(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": CLASS, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": plan::INGRESS_CONTROLLER},
    }));
    objects
}
