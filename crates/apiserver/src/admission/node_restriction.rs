//! A node writes only what is its own: its Node, its Lease, the pods on it.

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::server::Server;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Where leases of nodes lie.
const LEASES: &str = "kube-node-lease";

/// Refuses what is not the node's.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(node) = attributes.user.node() else { return Ok(()) };
    match (attributes.kind.group, attributes.kind.plural, attributes.sub) {
        ("", "pods", "") => pod(server, attributes, node, object, old).await,
        ("", "pods", "status") => own(attributes, node, old.or(object), "update pod status for"),
        ("", "pods", "eviction") => {
            let pod = server.find("", "pods", attributes.namespace, attributes.name).await?;
            own(attributes, node, pod.map(|pod| pod.owned()).as_ref(), "evict")
        }
        ("", "pods", sub) => {
            Err(attributes
                .refuse(format!("unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed")))
        }
        ("", "nodes", _) => own_node(attributes, node, object, old),
        ("", "persistentvolumeclaims", "") => Err(attributes.refuse("may only update PVC status")),
        ("coordination.k8s.io", "leases", _) => {
            let name = object.map_or(attributes.name, meta::name);
            if attributes.namespace != LEASES {
                return Err(attributes.refuse(format!("can only access leases in the {LEASES:?} system namespace")));
            }
            if name != node {
                return Err(attributes.refuse("can only access node lease with the same name as the requesting node"));
            }
            Ok(())
        }
        ("storage.k8s.io", "csinodes", _) => {
            if object.map_or(attributes.name, meta::name) != node {
                return Err(attributes.refuse("can only access CSINode with the same name as the requesting node"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn own(attributes: &Attributes<'_>, node: &str, pod: Option<&Value>, what: &str) -> Result<(), Status> {
    match pod {
        Some(pod) if View::new(pod).at("spec").text("nodeName") == node => Ok(()),
        _ => Err(attributes.refuse(format!("node {node:?} can only {what} pods with spec.nodeName set to itself"))),
    }
}

async fn pod(
    server: &Server,
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    match attributes.operation {
        Operation::Delete => own(attributes, node, old, "delete"),
        Operation::Create => {
            let Some(pod) = object else { return Ok(()) };
            if !meta::annotations(pod).is_some_and(|map| map.contains_key(MIRROR)) {
                let why = format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
                return Err(attributes.refuse(why));
            }
            own(attributes, node, object, "create")?;
            let owners = meta::owner_references(pod);
            let [owner] = owners else {
                let count = if owners.is_empty() { "an" } else { "a single" };
                let why = format!("node {node:?} can only create pods with {count} owner reference set to itself");
                return Err(attributes.refuse(why));
            };
            let owner = View::new(owner);
            if owner.text("apiVersion") != "v1" || owner.text("kind") != "Node" || owner.text("name") != node {
                let why = format!("node {node:?} can only create pods with an owner reference set to itself");
                return Err(attributes.refuse(why));
            }
            if !owner.is("controller") {
                let why = format!("node {node:?} can only create pods with a controller owner reference set to itself");
                return Err(attributes.refuse(why));
            }
            if owner.is("blockOwnerDeletion") {
                return Err(
                    attributes.refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"))
                );
            }
            let found = server.find("", "nodes", "", node).await?.map(|found| meta::uid(&found.value()).to_owned());
            if found.as_deref() != Some(owner.text("uid")) {
                let (expected, got) = (owner.text("uid"), found.unwrap_or_default());
                return Err(attributes.refuse(format!("node {node} UID mismatch: expected {expected} got {got}")));
            }
            let references = crate::auth::node::references(pod);
            let reaches = |set: &std::collections::BTreeSet<String>| !set.is_empty();
            for (found, what) in [
                (reaches(&references.secrets), "secrets"),
                (reaches(&references.config_maps), "configmaps"),
                (reaches(&references.claims), "persistentvolumeclaims"),
                (!references.service_account.is_empty(), "a service account"),
            ] {
                if found {
                    return Err(attributes.refuse(format!("node {node:?} can not create pods that reference {what}")));
                }
            }
            Ok(())
        }
        operation => Err(attributes.refuse(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            format!("{operation:?}").to_uppercase()
        ))),
    }
}

/// Labels that a node may set on itself, under the prefixes that belong to Kubernetes.
fn may_label(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return true };
    if prefix == "node-restriction.kubernetes.io" || prefix.ends_with(".node-restriction.kubernetes.io") {
        return false;
    }
    let under = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if !under("kubernetes.io") && !under("k8s.io") {
        return true;
    }
    let known = matches!(
        key,
        "kubernetes.io/hostname"
            | "kubernetes.io/arch"
            | "kubernetes.io/os"
            | "beta.kubernetes.io/arch"
            | "beta.kubernetes.io/os"
            | "beta.kubernetes.io/instance-type"
            | "node.kubernetes.io/instance-type"
            | "topology.kubernetes.io/zone"
            | "topology.kubernetes.io/region"
            | "failure-domain.beta.kubernetes.io/zone"
            | "failure-domain.beta.kubernetes.io/region"
    );
    known || under("kubelet.kubernetes.io") || under("node.kubernetes.io")
}

fn own_node(
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let name = object.map_or(attributes.name, meta::name);
    if name != node {
        return Err(attributes.refuse(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    if attributes.operation == Operation::Delete && attributes.sub.is_empty() {
        return Err(attributes.refuse(format!("node {node:?} is not allowed to delete node {name:?}")));
    }
    let Some(new) = object else { return Ok(()) };
    if View::new(new).at("spec").has("configSource")
        && old.is_none_or(|old| {
            View::new(old).at("spec").at("configSource") != View::new(new).at("spec").at("configSource")
        })
    {
        return Err(attributes
            .refuse(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource")));
    }
    if let Some(old) = old {
        let taints = |value| View::new(value).at("spec").slice("taints");
        if taints(new) != taints(old) {
            return Err(attributes.refuse(format!("node {node:?} is not allowed to modify taints")));
        }
        if meta::owner_references(new) != meta::owner_references(old) {
            return Err(attributes.refuse(format!("node {node:?} is not allowed to modify ownerReferences")));
        }
    }
    let empty = serde_json::Map::new();
    let before = old.and_then(meta::labels).unwrap_or(&empty);
    let after = meta::labels(new).unwrap_or(&empty);
    let mut changed: Vec<&str> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key) && !may_label(key))
        .map(String::as_str)
        .collect();
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        let verb = if old.is_none() { "set" } else { "modify" };
        return Err(attributes.refuse(format!("is not allowed to {verb} the following labels: {}", changed.join(", "))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_labels_itself_within_bounds() {
        for (key, allowed) in [
            ("own", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("kubernetes.io/other", false),
            ("sub.kubernetes.io/x", false),
            ("x.kubelet.kubernetes.io/y", true),
            ("node.kubernetes.io/y", true),
            ("node-restriction.kubernetes.io/y", false),
            ("a.node-restriction.kubernetes.io/y", false),
            ("notkubernetes.io/y", true),
        ] {
            assert_eq!(may_label(key), allowed, "{key}");
        }
    }
}
