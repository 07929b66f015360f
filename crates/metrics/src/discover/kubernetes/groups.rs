//! Objects to groups of targets, a function for each role.

use std::{collections::BTreeMap, sync::Arc};

use client::cache::{Cache, Key};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    batch::v1::Job,
    core::v1::{EndpointAddress, Endpoints, Namespace, Node, ObjectReference, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
};

use super::labels::{self, Meta, host_port};
use crate::{config::discovery::Attach, scrape::target::Group};

/// Other objects that belong to targets.
pub struct Around<'a> {
    /// What is to be said of them.
    pub attach: &'a Attach,
    /// Pods.
    pub pods: Option<&'a Cache<Pod>>,
    /// Services.
    pub services: Option<&'a Cache<Service>>,
    /// Nodes.
    pub nodes: Option<&'a Cache<Node>>,
    /// Namespaces.
    pub spaces: Option<&'a Cache<Namespace>>,
    /// Replica sets.
    pub sets: Option<&'a Cache<ReplicaSet>>,
    /// Jobs.
    pub jobs: Option<&'a Cache<Job>>,
}

impl Around<'_> {
    /// A replica set.
    pub fn set(&self, namespace: &str, name: &str) -> Option<Arc<ReplicaSet>> {
        self.sets?.get(&Key::new(namespace, name))
    }

    /// A job.
    pub fn job(&self, namespace: &str, name: &str) -> Option<Arc<Job>> {
        self.jobs?.get(&Key::new(namespace, name))
    }

    fn node(&self, name: Option<&String>) -> Option<Arc<Node>> {
        self.nodes?.get(&Key::new("", name?))
    }

    fn add_node(&self, meta: &mut Meta, name: Option<&String>) {
        if self.attach.node
            && let Some(node) = self.node(name)
        {
            meta.object(&node.metadata, "node");
        }
    }

    fn add_namespace(&self, meta: &mut Meta, namespace: &str) {
        if self.attach.namespace
            && let Some(space) = self.spaces.and_then(|spaces| spaces.get(&Key::new("", namespace)))
        {
            meta.notes(&space.metadata, "namespace");
        }
    }

    fn pod(&self, reference: Option<&ObjectReference>) -> Option<Arc<Pod>> {
        let reference = reference.filter(|reference| reference.kind.as_deref() == Some("Pod"))?;
        let key =
            Key::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
        self.pods?.get(&key)
    }
}

fn names(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A node: its own API.
pub fn node(node: &Node) -> Option<Group> {
    let status = node.status.as_ref()?;
    let mut addresses: BTreeMap<&str, &str> = BTreeMap::new();
    for address in status.addresses.iter().flatten() {
        addresses.entry(&address.type_).or_insert(&address.address);
    }
    let order = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
    let address = order.iter().find_map(|kind| addresses.get(kind))?;
    let port = status.daemon_endpoints.as_ref().and_then(|daemon| daemon.kubelet_endpoint.as_ref());
    let mut target = Meta::default();
    target.address(host_port(address, port.map_or(0, |endpoint| endpoint.port)));
    target.0.insert("instance".to_owned(), node.metadata.name.clone().unwrap_or_default());
    for (kind, address) in &addresses {
        target.set(&format!("node_address_{}", super::super::label_name(kind)), *address);
    }
    Some(Group {
        source: format!("node/{}", node.metadata.name.clone().unwrap_or_default()),
        targets: vec![target.labels()],
        labels: labels::node(node).labels(),
    })
}

/// A pod: each port of its containers.
pub fn pod(pod: &Pod, around: &Around<'_>) -> Group {
    let (namespace, name) = names(&pod.metadata);
    let mut group = Group { source: format!("pod/{namespace}/{name}"), ..Group::default() };
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
    let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    if ip.is_empty() || (around.attach.node && around.node(on).is_none()) {
        return group;
    }
    let mut shared = labels::pod(pod, around);
    shared.set("namespace", namespace.clone());
    around.add_node(&mut shared, on);
    around.add_namespace(&mut shared, &namespace);
    group.labels = shared.labels();
    for (container, init) in labels::containers(pod) {
        let status = pod.status.as_ref();
        let statuses = status.and_then(|status| {
            if init { status.init_container_statuses.as_ref() } else { status.container_statuses.as_ref() }
        });
        let id = statuses
            .and_then(|statuses| statuses.iter().find(|status| status.name == container.name))
            .and_then(|status| status.container_id.clone());
        let ports = container.ports.as_deref().unwrap_or_default();
        for port in ports {
            let mut target = Meta::default();
            target.address(host_port(&ip, port.container_port));
            labels::port(&mut target, container, port, init);
            target.set_some("pod_container_id", id.as_ref());
            group.targets.push(target.labels());
        }
        if ports.is_empty() {
            let mut target = Meta::default();
            target
                .address(ip.clone())
                .set("pod_container_name", container.name.clone())
                .set("pod_container_image", container.image.clone().unwrap_or_default())
                .set("pod_container_init", init.to_string())
                .set_some("pod_container_id", id.as_ref());
            group.targets.push(target.labels());
        }
    }
    group
}

/// A service: each of its ports.
pub fn service(service: &Service, around: &Around<'_>) -> Group {
    let (namespace, name) = names(&service.metadata);
    let mut shared = labels::service(service);
    around.add_namespace(&mut shared, &namespace);
    let mut targets = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    let kind = spec.type_.clone().unwrap_or_default();
    for port in spec.ports.iter().flatten() {
        let mut target = Meta::default();
        target
            .address(host_port(&format!("{name}.{namespace}.svc"), port.port))
            .set("service_port_name", port.name.clone().unwrap_or_default())
            .set("service_port_number", port.port.to_string())
            .set("service_port_protocol", port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))
            .set("service_type", kind.clone());
        if kind == "ExternalName" {
            target.set("service_external_name", spec.external_name.clone().unwrap_or_default());
        } else {
            target.set("service_cluster_ip", spec.cluster_ip.clone().unwrap_or_default());
        }
        if kind == "LoadBalancer" {
            let given = service.status.iter().flat_map(|status| status.load_balancer.iter());
            let addresses: Vec<String> = given
                .flat_map(|balancer| balancer.ingress.iter().flatten())
                .filter_map(|ingress| ingress.ip.clone())
                .filter(|ip| !ip.is_empty())
                .collect();
            let fixed = || spec.load_balancer_ip.clone().unwrap_or_default();
            target.set("service_loadbalancer_ip", if addresses.is_empty() { fixed() } else { addresses.join(",") });
        }
        targets.push(target.labels());
    }
    Group { source: format!("svc/{namespace}/{name}"), targets, labels: shared.labels() }
}

/// Pods behind endpoints, and their ports that have become targets.
#[derive(Default)]
struct Behind(BTreeMap<(String, String), (Arc<Pod>, Vec<i32>)>);

impl Behind {
    /// Adds what the pod behind an address gives to its target.
    fn add(&mut self, target: &mut Meta, pod: Arc<Pod>, port: Option<i32>, around: &Around<'_>) {
        target.merge(labels::pod(&pod, around));
        for (container, init) in labels::containers(&pod) {
            let same = container.ports.iter().flatten().find(|own| Some(own.container_port) == port);
            if let Some(own) = same {
                labels::port(target, container, own, init);
            }
        }
        let entry = self.0.entry(names(&pod.metadata)).or_insert_with(|| (pod, Vec::new()));
        entry.1.extend(port);
    }

    /// Targets for the other ports of these pods.
    fn others(self, around: &Around<'_>, group: &mut Group) {
        for (pod, seen) in self.0.into_values() {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
            if ip.is_empty() {
                continue;
            }
            for (container, init) in labels::containers(&pod) {
                for port in container.ports.iter().flatten().filter(|port| !seen.contains(&port.container_port)) {
                    let mut target = Meta::default();
                    target.address(host_port(&ip, port.container_port));
                    labels::port(&mut target, container, port, init);
                    target.merge(labels::pod(&pod, around));
                    group.targets.push(target.labels());
                }
            }
        }
    }
}

/// Endpoints: each address with each port, and what else their pods expose.
pub fn endpoints(endpoints: &Endpoints, around: &Around<'_>) -> Group {
    let (namespace, name) = names(&endpoints.metadata);
    let mut group = Group { source: format!("endpoints/{namespace}/{name}"), ..Group::default() };
    let mut shared = Meta::default();
    shared.set("namespace", namespace.clone());
    if let Some(service) = around.services.and_then(|services| services.get(&Key::new(&namespace, &name))) {
        shared.merge(labels::service(&service));
    }
    shared.object(&endpoints.metadata, "endpoints");
    around.add_namespace(&mut shared, &namespace);
    group.labels = shared.labels();
    let mut behind = Behind::default();
    for subset in endpoints.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            let mut add = |address: &EndpointAddress, ready: bool| {
                let mut target = Meta::default();
                target
                    .address(host_port(&address.ip, port.port))
                    .set("endpoint_port_name", port.name.clone().unwrap_or_default())
                    .set("endpoint_port_protocol", port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))
                    .set("endpoint_ready", ready.to_string());
                let reference = address.target_ref.as_ref();
                if let Some(reference) = reference {
                    target
                        .set("endpoint_address_target_kind", reference.kind.clone().unwrap_or_default())
                        .set("endpoint_address_target_name", reference.name.clone().unwrap_or_default());
                }
                target.set_some("endpoint_node_name", address.node_name.as_ref());
                target.set_some("endpoint_hostname", address.hostname.as_ref());
                let of_node = reference.filter(|reference| reference.kind.as_deref() == Some("Node"));
                let on = address.node_name.as_ref().or_else(|| of_node.and_then(|reference| reference.name.as_ref()));
                around.add_node(&mut target, on);
                if let Some(pod) = around.pod(reference) {
                    behind.add(&mut target, pod, Some(port.port), around);
                }
                group.targets.push(target.labels());
            };
            subset.addresses.iter().flatten().for_each(|address| add(address, true));
            subset.not_ready_addresses.iter().flatten().for_each(|address| add(address, false));
        }
    }
    behind.others(around, &mut group);
    group
}

/// An endpoint slice: each address with each port, and what else their pods expose.
pub fn slice(slice: &EndpointSlice, around: &Around<'_>) -> Group {
    let (namespace, name) = names(&slice.metadata);
    let mut group = Group { source: format!("endpointslice/{namespace}/{name}"), ..Group::default() };
    let mut shared = Meta::default();
    shared.set("namespace", namespace.clone()).set("endpointslice_address_type", slice.address_type.clone());
    shared.object(&slice.metadata, "endpointslice");
    let labels = slice.metadata.labels.as_ref();
    let service = labels
        .and_then(|labels| labels.get("kubernetes.io/service-name"))
        .and_then(|name| around.services?.get(&Key::new(&namespace, name)));
    if let Some(service) = &service {
        shared.merge(labels::service(service));
    }
    around.add_namespace(&mut shared, &namespace);
    group.labels = shared.labels();
    if service.is_some_and(|service| is_secondary(&service, slice)) {
        return group;
    }
    let mut behind = Behind::default();
    for endpoint in slice.endpoints.iter().flatten() {
        for port in slice.ports.iter().flatten() {
            for address in &endpoint.addresses {
                let mut target = Meta::default();
                target.address(port.port.map_or_else(|| address.clone(), |port| host_port(address, port)));
                target.set_some("endpointslice_port_name", port.name.as_ref());
                target.set_some("endpointslice_port_protocol", port.protocol.as_ref());
                target.set_some("endpointslice_port", port.port);
                target.set_some("endpointslice_port_app_protocol", port.app_protocol.as_ref());
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                target.set_some("endpointslice_endpoint_conditions_ready", conditions.ready);
                target.set_some("endpointslice_endpoint_conditions_serving", conditions.serving);
                target.set_some("endpointslice_endpoint_conditions_terminating", conditions.terminating);
                target.set_some("endpointslice_endpoint_hostname", endpoint.hostname.as_ref());
                let reference = endpoint.target_ref.as_ref();
                if let Some(reference) = reference {
                    target
                        .set("endpointslice_address_target_kind", reference.kind.clone().unwrap_or_default())
                        .set("endpointslice_address_target_name", reference.name.clone().unwrap_or_default());
                }
                target.set_some("endpointslice_endpoint_node_name", endpoint.node_name.as_ref());
                target.set_some("endpointslice_endpoint_zone", endpoint.zone.as_ref());
                for (name, value) in endpoint.deprecated_topology.iter().flatten() {
                    let name = super::super::label_name(name);
                    target.set(&format!("endpointslice_endpoint_topology_{name}"), value.clone());
                    target.set(&format!("endpointslice_endpoint_topology_present_{name}"), "true");
                }
                let of_node = reference.filter(|reference| reference.kind.as_deref() == Some("Node"));
                let on = of_node.and_then(|reference| reference.name.as_ref()).or(endpoint.node_name.as_ref());
                around.add_node(&mut target, on);
                if let Some(pod) = around.pod(reference) {
                    behind.add(&mut target, pod, port.port, around);
                }
                group.targets.push(target.labels());
            }
        }
    }
    behind.others(around, &mut group);
    group
}

/// Whether a slice repeats, in the second family of addresses, what another says.
fn is_secondary(service: &Service, slice: &EndpointSlice) -> bool {
    let Some(spec) = &service.spec else { return false };
    let dual = matches!(spec.ip_family_policy.as_deref(), Some("PreferDualStack" | "RequireDualStack"));
    dual && spec.ip_families.iter().flatten().next().is_some_and(|first| *first != slice.address_type)
}

/// An ingress: each path of each host.
pub fn ingress(ingress: &Ingress, around: &Around<'_>) -> Group {
    let (namespace, name) = names(&ingress.metadata);
    let spec = ingress.spec.clone().unwrap_or_default();
    let mut shared = Meta::default();
    shared.set("namespace", namespace.clone());
    shared.set_some("ingress_class_name", spec.ingress_class_name.as_ref());
    shared.object(&ingress.metadata, "ingress");
    around.add_namespace(&mut shared, &namespace);
    let secure: Vec<&String> = spec.tls.iter().flatten().flat_map(|tls| tls.hosts.iter().flatten()).collect();
    let mut targets = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let host = rule.host.clone().unwrap_or_default();
        let scheme = if secure.iter().any(|pattern| covers(pattern, &host)) { "https" } else { "http" };
        let paths: Vec<String> = match &rule.http {
            None => vec!["/".to_owned()],
            Some(http) => {
                let path =
                    |path: Option<&String>| path.filter(|path| !path.is_empty()).map_or("/", |path| path).to_owned();
                http.paths.iter().map(|found| path(found.path.as_ref())).collect()
            }
        };
        for path in paths {
            let mut target = Meta::default();
            target
                .address(host.clone())
                .set("ingress_scheme", scheme)
                .set("ingress_host", host.clone())
                .set("ingress_path", path);
            targets.push(target.labels());
        }
    }
    Group { source: format!("ingress/{namespace}/{name}"), targets, labels: shared.labels() }
}

/// Whether a host's name is the pattern, or what stands for its first part is `*`.
fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || match (pattern.strip_prefix("*."), host.split_once('.')) {
            (Some(rest), Some((_, below))) => rest == below,
            _ => false,
        }
}
