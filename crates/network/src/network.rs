//! The network of one instance on one node.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use crate::{Cidr, Protocol, ServicePort, Services};

/// What an instance is given. Two instances on one machine differ in name and in ranges.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the instance: of its table, and hashed into the names of its links. Letters, digits, `-` and `_`; at
    /// most 32 bytes.
    pub name: String,
    /// Addresses of the pods of this node.
    pub pod_cidr: Cidr,
    /// Addresses of the pods of all nodes: what goes there keeps its source address.
    pub cluster_cidr: Cidr,
    /// Addresses of services inside the cluster.
    pub service_cidr: Cidr,
    /// An address of the node, by which pods see it.
    pub node_ip: Ipv4Addr,
    /// MTU of the pods' links in bytes; by default that of the link of the default route, else 1500.
    pub mtu: Option<u32>,
    /// Whether what pods send out of the cluster gets the node's address.
    pub masquerade: bool,
}

/// A pod to attach.
#[derive(Clone, Debug)]
pub struct SandboxNet {
    /// Identifier of the sandbox.
    pub id: String,
    /// The network namespace, such as `/proc/PID/ns/net`.
    pub netns: PathBuf,
    /// The pod's address, from [`Config::pod_cidr`].
    pub ip: Ipv4Addr,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<HostPort>,
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The node's address; 0.0.0.0 means all of them.
    pub host_ip: Ipv4Addr,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A pod that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Identifier of the sandbox.
    pub id: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The link on the node's side.
    pub link: String,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<HostPort>,
}

/// Something of an instance that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A table of nf_tables.
    Table(String),
    /// A link.
    Link(String),
    /// A route, as its destination.
    Route(String),
    /// An address on the loopback link.
    Address(Ipv4Addr),
}

/// What went wrong, with the object it went wrong with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("network {name}: {reason}")]
    Config {
        /// Name of the instance.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// The verb and the object.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The network of one instance. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
}

impl Network {
    /// Takes up the network of `config.name` in the calling thread's network namespace: forwarding, routes and table
    /// are made, and pods that a former process attached are found.
    pub async fn open(config: Config) -> Result<Self, Error> {
        Ok(Self(Arc::new(Inner { config })))
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The pods that are attached now, in no order.
    pub fn pods(&self) -> Vec<Pod> {
        Vec::new()
    }

    /// Gives a pod its link, address and routes, and leads its host ports there. Attaching the same sandbox again
    /// mends what is missing.
    pub async fn attach(&self, _sandbox: SandboxNet) -> Result<Pod, Error> {
        Err(self.unfinished())
    }

    /// Takes the pod's link and host ports away. A sandbox that is not attached is no error.
    pub async fn detach(&self, _id: &str) -> Result<(), Error> {
        Err(self.unfinished())
    }

    /// Makes `services` all services there are. Only what differs from before goes to the kernel, as one transaction.
    pub async fn services(&self, _services: Services) -> Result<(), Error> {
        Err(self.unfinished())
    }

    /// Sets or removes (`None`) some services and leaves the others, as one transaction.
    pub async fn change(&self, _changes: Vec<(Arc<str>, Option<Arc<[ServicePort]>>)>) -> Result<(), Error> {
        Err(self.unfinished())
    }

    /// Makes `ip` an address of the node, for a service that the node itself answers (cluster DNS). Services never
    /// lead away from it.
    pub async fn add_address(&self, _ip: Ipv4Addr) -> Result<(), Error> {
        Err(self.unfinished())
    }

    /// Removes all of this instance: links, routes, addresses, table. Pods lose their network.
    pub async fn cleanup(&self) -> Result<(), Error> {
        Err(self.unfinished())
    }

    /// What there is of the instance `name` in the calling thread's network namespace.
    pub async fn leftovers(_name: &str) -> Result<Vec<Leftover>, Error> {
        Ok(Vec::new())
    }

    fn unfinished(&self) -> Error {
        Error::Config { name: self.0.config.name.clone(), reason: "not written yet".into() }
    }
}
