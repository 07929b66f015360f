//! The node authorizer: a node reads what its pods refer to, and nothing else of that kind.
//!
//! What every node may do is in the bootstrap role `system:node`; what depends on its pods is decided here.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>

use std::collections::BTreeSet;

use api::meta::View;
use serde_json::Value;

use super::{User, rbac::Wanted};
use crate::server::Server;

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

/// Whether a node may do it because one of its pods needs it.
pub fn allows(_server: &Server, _user: &User, _wanted: &Wanted<'_>) -> bool {
    false
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
