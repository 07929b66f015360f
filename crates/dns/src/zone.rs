//! The records of a cluster, kept by name and by address.
//!
//! Follows the [Kubernetes DNS specification](https://github.com/kubernetes/dns/blob/master/docs/specification.md), 1.1.0.

use std::net::IpAddr;

/// What a service's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The service's own addresses.
    Cluster(Vec<IpAddr>),
    /// The addresses of its endpoints.
    Headless,
    /// Another name (`ExternalName`).
    External(String),
}

/// A transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port, for SRV records. Ports without a name have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the port; may be empty.
    pub name: String,
    /// The number that clients connect to.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A service as DNS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the name leads to.
    pub addresses: Addresses,
    /// The service's ports.
    pub ports: Vec<Port>,
}

/// An endpoint of a headless service that shall be found: one that is ready, or any if the service publishes those
/// that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Its name below the service's; without one, a name is made of the address.
    pub hostname: Option<String>,
    /// Its ports, under the names of the service's ports.
    pub ports: Vec<Port>,
}

/// All records of a cluster. Changes are seen by the next query.
#[derive(Debug)]
pub struct Zone {}

impl Zone {
    /// A zone without records, of a domain such as `cluster.local`.
    pub fn new(_domain: &str) -> Self {
        Self {}
    }

    /// Makes a namespace known; the names of its services and pods are below it.
    pub fn set_namespace(&self, _namespace: &str) {}

    /// Forgets a namespace. Its services and pods are removed one by one.
    pub fn remove_namespace(&self, _namespace: &str) {}

    /// Sets or replaces a service.
    pub fn set_service(&self, _namespace: &str, _name: &str, _service: Service) {}

    /// Removes a service and its endpoints.
    pub fn remove_service(&self, _namespace: &str, _name: &str) {}

    /// Replaces all endpoints of a headless service, whether the service is there yet or not.
    pub fn set_endpoints(&self, _namespace: &str, _name: &str, _endpoints: Vec<Endpoint>) {}

    /// Says which namespace a pod of this node belongs to: its queries are completed with that namespace's search
    /// list.
    pub fn set_pod(&self, _ip: IpAddr, _namespace: &str) {}

    /// Forgets a pod.
    pub fn remove_pod(&self, _ip: IpAddr) {}
}
