//! What a service is to the network: addresses in front, endpoints behind, and the policy between them.
//!
//! Follows [virtual IPs and service proxies](https://kubernetes.io/docs/reference/networking/virtual-ips/): what each of
//! a service's addresses does is one [`Front`], worked out here without touching the kernel.
//!
//! | address | from pods and the node | from outside |
//! |---|---|---|
//! | cluster address, `internalTrafficPolicy: Cluster` | any endpoint | the same |
//! | cluster address, `internalTrafficPolicy: Local` | an endpoint of this node, else nothing | the same |
//! | external address or node port, `externalTrafficPolicy: Cluster` | any endpoint, as the node | the same |
//! | external address or node port, `externalTrafficPolicy: Local` | any endpoint | an endpoint of this node as the client, else nothing |

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use crate::Protocol;

/// All services of the cluster by a name of the caller's choice (`namespace/name`), each with its ports. The ports are
/// behind an [`Arc`]: an unchanged service given again by the same pointer costs nothing.
pub type Services = HashMap<Arc<str>, Arc<[ServicePort]>>;

/// A service to set, or (`None`) to remove.
pub type Change = (Arc<str>, Option<Arc<[ServicePort]>>);

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

/// An address, protocol and port that connections are made to. Node ports have the address 0.0.0.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl Key {
    /// Whether it stands for all addresses of the node.
    pub(crate) fn is_wild(self) -> bool {
        self.address.is_unspecified()
    }
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Refused, so that the client knows at once.
    Refuse,
    /// Dropped: another node may answer.
    Drop,
    /// Sent to one of these, each equally often. Never empty.
    Pick(Vec<SocketAddrV4>),
}

/// What one address of a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// With connections from pods and the node, and from elsewhere unless `outside` says otherwise.
    pub(crate) inside: Fate,
    /// With connections from elsewhere.
    pub(crate) outside: Option<Fate>,
    /// Whether endpoints see the node as the client, so that answers come back through it.
    pub(crate) masquerade: bool,
    /// How long a client stays with its endpoint.
    pub(crate) affinity: Option<Duration>,
}

/// More endpoints of one service than this are left out.
pub(crate) const MAX_ENDPOINTS: usize = 1 << 16;

/// What each address of a service does. An address that comes up twice counts once.
pub(crate) fn fronts(ports: &[ServicePort]) -> Vec<(Key, Front)> {
    let mut fronts = Vec::new();
    for port in ports {
        let all = || pick(&port.endpoints, Fate::Refuse);
        let local = || {
            let none = if port.endpoints.is_empty() { Fate::Refuse } else { Fate::Drop };
            pick(&port.local_endpoints, none)
        };
        let key = |address, number| Key { address, protocol: port.protocol, port: number };
        for address in &port.cluster_ips {
            let inside = if port.internal_local { local() } else { all() };
            let front = Front { inside, outside: None, masquerade: false, affinity: port.affinity };
            fronts.push((key(*address, port.port), front));
        }
        let external = port.external_ips.iter().map(|address| key(*address, port.port));
        let node = port.node_port.map(|number| key(Ipv4Addr::UNSPECIFIED, number));
        for key in external.chain(node) {
            let front = Front {
                inside: all(),
                outside: (port.external_local && !port.endpoints.is_empty()).then(local),
                masquerade: !port.external_local,
                affinity: port.affinity,
            };
            fronts.push((key, front));
        }
    }
    let mut seen = HashSet::with_capacity(fronts.len());
    fronts.retain(|(key, _)| key.port != 0 && seen.insert(*key));
    fronts
}

fn pick(endpoints: &[SocketAddrV4], none: Fate) -> Fate {
    let mut chosen: Vec<SocketAddrV4> = Vec::with_capacity(endpoints.len());
    if endpoints.len() <= 8 {
        for endpoint in endpoints {
            if !chosen.contains(endpoint) {
                chosen.push(*endpoint);
            }
        }
    } else {
        let mut seen = HashSet::with_capacity(endpoints.len());
        chosen.extend(endpoints.iter().filter(|endpoint| seen.insert(**endpoint)).take(MAX_ENDPOINTS));
    }
    if chosen.is_empty() { none } else { Fate::Pick(chosen) }
}

impl Front {
    /// The same front with endpoints in an order that changes as few places as can be, compared with `old`.
    pub(crate) fn placed_like(self, old: &Front) -> Front {
        let place = |fate: Fate, old: Option<&Fate>| match (fate, old) {
            (Fate::Pick(new), Some(Fate::Pick(old))) => Fate::Pick(place(old, new)),
            (fate, _) => fate,
        };
        Front {
            inside: place(self.inside, Some(&old.inside)),
            outside: self.outside.map(|fate| place(fate, old.outside.as_ref())),
            ..self
        }
    }

    /// Whether connections may be sent to `endpoint`.
    pub(crate) fn leads_to(&self, endpoint: SocketAddrV4) -> bool {
        let picks = |fate: &Fate| matches!(fate, Fate::Pick(endpoints) if endpoints.contains(&endpoint));
        picks(&self.inside) || self.outside.as_ref().is_some_and(picks)
    }
}

/// Puts `new` in an order in which those that are in `old` keep their place, as far as there are places.
fn place(old: &[SocketAddrV4], new: Vec<SocketAddrV4>) -> Vec<SocketAddrV4> {
    if old == new {
        return new;
    }
    let mut left: HashSet<SocketAddrV4> = new.iter().copied().collect();
    let mut places: Vec<Option<SocketAddrV4>> =
        old.iter().take(new.len()).map(|endpoint| left.take(endpoint)).collect();
    places.resize(new.len(), None);
    let mut newcomers = new.iter().filter(|endpoint| left.contains(endpoint));
    places.into_iter().map(|place| place.or_else(|| newcomers.next().copied()).expect("as many as places")).collect()
}

#[cfg(test)]
mod tests;
