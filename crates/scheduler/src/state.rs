//! The cluster as the scheduler sees it: nodes, what their pods ask for, and pods placed but not yet confirmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::cache::Key;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::resources::{Amounts, of_pod};

/// All nodes by name.
#[derive(Clone, Debug, Default)]
pub struct State {
    nodes: BTreeMap<String, Place>,
    /// The node of each placed pod.
    placed: BTreeMap<Key, String>,
    /// The labels of each namespace.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The object; `None` while pods name a node that is not there.
    pub node: Option<Arc<Node>>,
    /// What it offers.
    pub allocatable: Amounts,
    /// The sum over its pods.
    pub requested: Amounts,
    /// Its pods.
    pub pods: BTreeMap<Key, Arc<Pod>>,
    /// Host ports in use.
    pub ports: BTreeSet<HostPort>,
}

/// A port of the host that a container takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number.
    pub port: i32,
    /// The address; `0.0.0.0` for all.
    pub address: String,
}

impl HostPort {
    /// Whether both cannot be had at a time.
    pub fn collides(&self, other: &Self) -> bool {
        let any = |address: &str| address == "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (self.address == other.address || any(&self.address) || any(&other.address))
    }
}

/// Host ports that a pod takes.
pub fn ports_of(pod: &Pod) -> Vec<HostPort> {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.or(host_network.then_some(port.container_port)).filter(|port| *port > 0)?;
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: number,
                address: address.unwrap_or_else(|| "0.0.0.0".into()),
            })
        })
        .collect()
}

/// Whether the pod has ended and takes nothing any more.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The node that the pod is bound to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

impl State {
    /// All nodes, ordered by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.nodes.iter().filter(|(_, place)| place.node.is_some()).map(|(name, place)| (name.as_str(), place))
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes().count()
    }

    /// The labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Takes in a namespace that came or changed, or one that is gone.
    pub fn put_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// Takes in a node that came or changed.
    pub fn put_node(&mut self, name: &str, node: Arc<Node>) {
        let place = self.nodes.entry(name.to_owned()).or_default();
        let offered = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        place.allocatable = Amounts::of(offered);
        place.node = Some(node);
    }

    /// Forgets a node; its pods stay known until they go.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(place) = self.nodes.get_mut(name) {
            place.node = None;
            if place.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Counts `pod` on `node`, moved there if it was elsewhere.
    pub fn place(&mut self, key: &Key, pod: Arc<Pod>, node: &str) {
        self.remove_pod(key);
        let place = self.nodes.entry(node.to_owned()).or_default();
        if let Some(spec) = &pod.spec {
            place.requested.add(&of_pod(spec));
        }
        place.ports.extend(ports_of(&pod));
        place.pods.insert(key.clone(), pod);
        self.placed.insert(key.clone(), node.to_owned());
    }

    /// Stops counting a pod; returns whether it was counted.
    pub fn remove_pod(&mut self, key: &Key) -> bool {
        let Some(node) = self.placed.remove(key) else { return false };
        let Some(place) = self.nodes.get_mut(&node) else { return false };
        let Some(pod) = place.pods.remove(key) else { return false };
        if let Some(spec) = &pod.spec {
            place.requested.subtract(&of_pod(spec));
        }
        place.ports = place.pods.values().flat_map(|pod| ports_of(pod)).collect();
        if place.node.is_none() && place.pods.is_empty() {
            self.nodes.remove(&node);
        }
        true
    }
}
