//! What every cluster has: namespaces, roles and bindings, priority classes, a class of volumes, the Service of the API itself.
//!
//! Installed at every start, in as few commits as possible: what is missing is made; roles and bindings that users narrowed
//! get back what upstream's have, unless their annotation `rbac.authorization.kubernetes.io/autoupdate` says "false".

use std::sync::Arc;

use anyhow::{Context, bail};
use api::{
    defaults, json,
    meta::{self, View},
};
use serde_json::{Value, json};
use store::{Compare, Op, Outcome, Revision, Txn};

use crate::{config::FRONT_PROXY, object::Object, registry::Resource, server::Server};

mod roles;

/// Namespaces that are there from the start.
const NAMESPACES: [&str; 5] = ["default", "kube-system", "kube-public", "kube-node-lease", "madang-system"];

/// Writes in one commit: the store's bound is 128.
const BATCH: usize = 100;

/// How often another server that starts at the same moment may be faster.
const TRIES: usize = 10;

/// Installs what is missing.
pub async fn install(server: &Arc<Server>) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        if attempt(server).await? {
            server.feed.fresh().await?;
            return Ok(());
        }
        server.feed.fresh().await?;
    }
    bail!("others change the same objects all the time")
}

/// Whether it was done, undisturbed by others.
async fn attempt(server: &Arc<Server>) -> anyhow::Result<bool> {
    let mut wanted = Vec::new();
    for name in NAMESPACES {
        wanted.push(made(
            "",
            "namespaces",
            json!({
                "kind": "Namespace", "apiVersion": "v1",
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            }),
        ));
    }
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        wanted.push(made(
            "scheduling.k8s.io",
            "priorityclasses",
            json!({
                "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
                "metadata": { "name": name, "generation": 1 },
                "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
            }),
        ));
    }
    wanted.push(made(
        "storage.k8s.io",
        "storageclasses",
        json!({
            "kind": "StorageClass", "apiVersion": "storage.k8s.io/v1",
            "metadata": {
                "name": "local-path", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
            },
            "provisioner": "madang.dev/local-path", "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
    ));
    wanted.extend(roles::all());
    wanted.push(authentication(server));
    wanted.extend(kubernetes_service(server));
    let mut compare = Vec::new();
    let mut ops = Vec::new();
    for (group, plural, mut object) in wanted {
        let resource = server.feed.registry().resource(group, plural).cloned().context(plural)?;
        let key: Arc<str> = resource.key(meta::namespace(&object), meta::name(&object)).into();
        let current = resource.cache.get(&key);
        match &current {
            None => {
                meta::set_uid(&mut object, &server.new_uid());
                meta::set_creation_timestamp(&mut object, server.now());
                defaults::apply(&resource.versions[resource.storage()].kind, &mut object);
            }
            Some(current) => match updated(&resource, current, &object) {
                Some(new) => object = new,
                None => continue,
            },
        }
        let mod_revision = Revision::new(current.map_or(0, |current| current.revision()));
        compare.push(Compare { key: key.clone(), mod_revision });
        let bytes = json::to_canonical(&object);
        ops.push(Op::Put { value: server.sealed(&key, &bytes).map_err(|status| anyhow::anyhow!("{status}"))?, key });
        if ops.len() == BATCH {
            let batch = (std::mem::take(&mut compare), std::mem::take(&mut ops));
            if !commit(server, batch.0, batch.1).await? {
                return Ok(false);
            }
        }
    }
    Ok(ops.is_empty() || commit(server, compare, ops).await?)
}

/// The role that says what every node may do.
pub fn node_role() -> Value {
    let found = roles::all()
        .into_iter()
        .find(|(_, plural, role)| *plural == "clusterroles" && meta::name(role) == "system:node");
    found.map_or(Value::Null, |(_, _, role)| role)
}

type Wanted = (&'static str, &'static str, Value);

fn made(group: &'static str, plural: &'static str, object: Value) -> Wanted {
    (group, plural, object)
}

/// `false` where another server of the same cluster was faster: it installs the same.
async fn commit(server: &Server, compare: Vec<Compare>, ops: Vec<Op>) -> anyhow::Result<bool> {
    let outcome = server.feed.store().commit(Txn { compare, ops }).await?;
    Ok(matches!(outcome, Outcome::Committed(_)))
}

/// The new state of an object that is there, if it must change.
fn updated(resource: &Resource, current: &Object, wanted: &Value) -> Option<Value> {
    let kind = &resource.versions[resource.storage()].kind;
    match (kind.group, kind.kind) {
        ("rbac.authorization.k8s.io", _) => roles::reconciled(&current.value(), wanted),
        ("", "Endpoints") => replaced(current, wanted, &["subsets"]),
        ("discovery.k8s.io", "EndpointSlice") => replaced(current, wanted, &["endpoints", "ports"]),
        ("", "ConfigMap") => replaced(current, wanted, &["data"]),
        _ => None,
    }
}

/// Takes members over from what is wanted where they differ.
fn replaced(current: &Object, wanted: &Value, members: &[&str]) -> Option<Value> {
    let mut new = current.owned();
    let mut differs = false;
    for member in members {
        let value = &wanted[*member];
        if !View::new(&new[*member]).same(View::new(value)) {
            new[*member] = value.clone();
            differs = true;
        }
    }
    differs.then_some(new)
}

/// How other servers check who a request comes from.
fn authentication(server: &Server) -> Wanted {
    let mut data = serde_json::Map::new();
    if !server.config.client_ca.is_empty() {
        data.insert("client-ca-file".to_owned(), server.config.client_ca.as_str().into());
    }
    if let Some(proxy) = &server.config.front_proxy {
        data.insert("requestheader-client-ca-file".to_owned(), proxy.authority.as_str().into());
        for (name, list) in [
            ("requestheader-allowed-names", FRONT_PROXY),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-uid-headers", "X-Remote-Uid"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ] {
            data.insert(name.to_owned(), json!([list]).to_string().into());
        }
    }
    made(
        "",
        "configmaps",
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
            "data": data,
        }),
    )
}

/// The Service `kubernetes`, the address that it has, and the endpoint behind it.
fn kubernetes_service(server: &Server) -> Vec<Wanted> {
    let (address, port) = server.config.advertise;
    let (network, length) = server.config.service_cidr;
    let ip = std::net::Ipv4Addr::from(u32::from(network) + 1).to_string();
    let (namespace, name) = ("default", "kubernetes");
    let subset_port = json!({ "name": "https", "port": port, "protocol": "TCP" });
    vec![
        made(
            "networking.k8s.io",
            "servicecidrs",
            json!({
                "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
                "metadata": { "name": name, "finalizers": ["networking.k8s.io/service-cidr-finalizer"] },
                "spec": { "cidrs": [format!("{network}/{length}")] },
                "status": { "conditions": [{
                    "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
                    "lastTransitionTime": meta::rfc3339(server.now()),
                }] },
            }),
        ),
        made("networking.k8s.io", "ipaddresses", crate::service_ip::address(&ip, namespace, name)),
        made(
            "",
            "services",
            json!({
                "kind": "Service", "apiVersion": "v1",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": { "component": "apiserver", "provider": "kubernetes" },
                },
                "spec": {
                    "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                    "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                    "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
                },
                "status": { "loadBalancer": {} },
            }),
        ),
        made(
            "",
            "endpoints",
            json!({
                "kind": "Endpoints", "apiVersion": "v1",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
                },
                "subsets": [{ "addresses": [{ "ip": address.to_string() }], "ports": [subset_port] }],
            }),
        ),
        made(
            "discovery.k8s.io",
            "endpointslices",
            json!({
                "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": { "kubernetes.io/service-name": name },
                },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": [address.to_string()], "conditions": { "ready": true } }],
                "ports": [subset_port],
            }),
        ),
    ]
}
