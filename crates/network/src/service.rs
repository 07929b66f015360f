//! What a service is to the network: addresses in front, endpoints behind, and the policy between them.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use crate::Protocol;

/// All services of the cluster by a name of the caller's choice (`namespace/name`), each with its ports. The ports are
/// behind an [`Arc`]: an unchanged service given again by the same pointer costs nothing.
pub type Services = HashMap<Arc<str>, Arc<[ServicePort]>>;

/// One port of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Addresses of the service inside the cluster.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// External addresses and those of load balancers.
    pub external_ips: Vec<Ipv4Addr>,
    /// The port on `cluster_ips` and `external_ips`.
    pub port: u16,
    /// The port on every address of the node.
    pub node_port: Option<u16>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// All endpoints that take new connections.
    pub endpoints: Vec<SocketAddrV4>,
    /// Those of `endpoints` that run on this node.
    pub local_endpoints: Vec<SocketAddrV4>,
    /// A client stays with its endpoint until it made no connection for this long (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`: cluster addresses lead to endpoints of this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: external addresses and the node port lead to endpoints of this node only, and
    /// the client's address is kept.
    pub external_local: bool,
}
