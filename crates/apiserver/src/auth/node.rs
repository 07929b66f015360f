//! The node authorizer: a node reads what its pods refer to, and nothing else of that kind.
//!
//! What every node may do is in the bootstrap role `system:node`; what depends on its pods is decided here.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use std::{collections::BTreeSet, sync::LazyLock};

use api::meta::View;
use serde_json::Value;

use super::{
    User,
    rbac::{Rule, Wanted},
};
use crate::{selection::Selection, server::Server};

/// Objects of its namespace that a pod refers to, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct References {
    /// Secrets, of volumes, environments and image pulls.
    pub secrets: BTreeSet<String>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// PersistentVolumeClaims.
    pub claims: BTreeSet<String>,
    /// The service account.
    pub service_account: String,
}

/// What a pod refers to.
pub fn references(pod: &Value) -> References {
    let mut found = References::default();
    let spec = View::new(pod).at("spec");
    found.service_account = spec.text("serviceAccountName").to_owned();
    let add = |set: &mut BTreeSet<String>, name: &str| {
        if !name.is_empty() {
            set.insert(name.to_owned());
        }
    };
    for secret in spec.list("imagePullSecrets") {
        add(&mut found.secrets, secret.text("name"));
    }
    for volume in spec.list("volumes") {
        add(&mut found.secrets, volume.at("secret").text("secretName"));
        add(&mut found.config_maps, volume.at("configMap").text("name"));
        add(&mut found.claims, volume.at("persistentVolumeClaim").text("claimName"));
        if volume.has("ephemeral") {
            let name = format!("{}-{}", api::meta::name(pod), volume.text("name"));
            add(&mut found.claims, &name);
        }
        for source in volume.at("projected").list("sources") {
            add(&mut found.secrets, source.at("secret").text("name"));
            add(&mut found.config_maps, source.at("configMap").text("name"));
        }
        for kind in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            add(&mut found.secrets, volume.at(kind).at("secretRef").text("name"));
        }
        add(&mut found.secrets, volume.at("azureFile").text("secretName"));
        add(&mut found.secrets, volume.at("csi").at("nodePublishSecretRef").text("name"));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.list(list) {
            for from in container.list("envFrom") {
                add(&mut found.secrets, from.at("secretRef").text("name"));
                add(&mut found.config_maps, from.at("configMapRef").text("name"));
            }
            for variable in container.list("env") {
                let from = variable.at("valueFrom");
                add(&mut found.secrets, from.at("secretKeyRef").text("name"));
                add(&mut found.config_maps, from.at("configMapKeyRef").text("name"));
            }
        }
    }
    found
}

/// Where leases of nodes lie.
const LEASES: &str = "kube-node-lease";

/// Whether a node may do it: what all nodes may by the role `system:node`, but of objects that belong to pods only those
/// of its own.
pub fn allows(server: &Server, user: &User, wanted: &Wanted<'_>) -> bool {
    let Some(node) = user.node() else { return false };
    let get = wanted.verb == "get" && wanted.subresource.is_empty();
    let read = matches!(wanted.verb, "get" | "list" | "watch") && wanted.subresource.is_empty();
    let own = |of: fn(&References) -> &BTreeSet<String>| {
        !wanted.name.is_empty()
            && any_pod(server, node, wanted.namespace, |pod| of(&references(pod)).contains(wanted.name))
    };
    match (wanted.group, wanted.resource) {
        ("", "secrets") => read && own(|found| &found.secrets),
        ("", "configmaps") => read && own(|found| &found.config_maps),
        ("", "persistentvolumeclaims") => {
            let status = wanted.subresource == "status" && matches!(wanted.verb, "update" | "patch");
            (get || status) && own(|found| &found.claims)
        }
        ("", "persistentvolumes") => get && volume(server, node, wanted.name),
        ("", "serviceaccounts") => {
            let token = wanted.verb == "create" && wanted.subresource == "token";
            (get || token)
                && !wanted.name.is_empty()
                && any_pod(server, node, wanted.namespace, |pod| references(pod).service_account == wanted.name)
        }
        ("coordination.k8s.io", "leases") => {
            wanted.namespace == LEASES
                && match wanted.verb {
                    "create" => true,
                    "get" | "update" | "patch" | "delete" => wanted.name == node,
                    _ => false,
                }
        }
        ("storage.k8s.io", "csinodes") => match wanted.verb {
            "create" => wanted.subresource.is_empty(),
            "get" | "update" | "patch" | "delete" => wanted.subresource.is_empty() && wanted.name == node,
            _ => false,
        },
        ("", "nodes") => match (wanted.verb, wanted.subresource) {
            ("create", "") => true,
            ("get" | "list" | "watch", "") => wanted.name == node || wanted.verb != "get" && wanted.name.is_empty(),
            ("update" | "patch", "" | "status") => wanted.name == node,
            _ => false,
        },
        ("", "pods") => match (wanted.verb, wanted.subresource) {
            ("get", "") => {
                !wanted.name.is_empty()
                    && any_pod(server, node, wanted.namespace, |pod| api::meta::name(pod) == wanted.name)
            }
            ("list" | "watch" | "create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => {
                true
            }
            _ => false,
        },
        _ => common().iter().any(|rule| rule.allows(wanted)),
    }
}

/// What all nodes may do with objects that belong to no pod.
fn common() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let all = crate::bootstrap::node_role();
        View::new(&all).list("rules").map(Rule::read).collect()
    });
    &RULES
}

fn any_pod(server: &Server, node: &str, namespace: &str, test: impl Fn(&Value) -> bool) -> bool {
    let Ok(pods) = server.resource("", "pods") else { return false };
    let selection = Selection::on_node(&pods.scope(namespace), node);
    !namespace.is_empty() && pods.cache.all(&selection).iter().any(|pod| test(&pod.value()))
}

/// Whether a volume belongs to a claim of one of the node's pods.
fn volume(server: &Server, node: &str, name: &str) -> bool {
    let Ok(volumes) = server.resource("", "persistentvolumes") else { return false };
    let Some(volume) = volumes.cache.get(&volumes.key("", name)) else { return false };
    let value = volume.value();
    let claim = View::new(&value).at("spec").at("claimRef");
    any_pod(server, node, claim.text("namespace"), |pod| references(pod).claims.contains(claim.text("name")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_reference_of_a_pod_is_found() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "configMap": {"name": "c1"}},
                {"name": "c", "projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "v1"}},
                {"name": "e", "ephemeral": {}},
            ],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s3"}}}], "envFrom": [{"configMapRef": {"name": "c3"}}]}],
            "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c4"}}}], "envFrom": [{"secretRef": {"name": "s4"}}]}],
        }});
        let found = references(&pod);
        assert_eq!(found.secrets.into_iter().collect::<Vec<_>>(), ["pull", "s1", "s2", "s3", "s4"]);
        assert_eq!(found.config_maps.into_iter().collect::<Vec<_>>(), ["c1", "c2", "c3", "c4"]);
        assert_eq!(found.claims.into_iter().collect::<Vec<_>>(), ["p-e", "v1"]);
        assert_eq!(found.service_account, "sa");
    }
}
