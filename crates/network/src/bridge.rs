//! Bridges: networks that people make for their containers, beside those of pods.
//!
//! ```text
//!    container                    container                 the world
//!   eth0 172.18.0.2              eth0 172.18.0.3                │
//!        │ default via 172.18.0.1     │                       uplink
//!   ─────┼────────────────────────────┼─────────────────────────┼──── namespaces
//!      veth ────── bridge 172.18.0.1 ─┘ ──── routing, NAT ──────┘
//!
//! prerouting, output: a published port of the machine → address and port of a container (DNAT)
//! forward:            nothing between bridges, nothing from elsewhere but to published ports
//! postrouting:        masquerade what leaves a bridge for elsewhere; hairpins; the machine's loopback
//! ```
//!
//! A network may have addresses of IPv6 beside these or instead of them, which `ipv6` makes the same of.
//!
//! They have a table, names of links and a life apart from those of pods: an instance `NAME` of its own, so that what finds and
//! removes the one does it for the other too. There are few networks and ports: each change writes the table anew, in one
//! transaction.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

mod ipv6;

use crate::{
    Cidr, Cidr6, Error, Protocol,
    conntrack::{self, Flow},
    error::{is, kernel, lock},
    firewall,
    link::{self, End, Route, Way},
    names::Names,
    netlink::{Request, Socket},
    nft::{Batch, CtKey, Data, Expressions, Family, FibType, Field, Holds, Hook, Refused, Reg, Set, Use, Verdict},
    service::Key,
    table::endpoint_bytes,
};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its identifier.
    pub id: String,
    /// Name of the link; none for one that is made up.
    pub link: Option<String>,
    /// What it has of IPv4.
    pub ipv4: Option<Bridge4>,
    /// What it has of IPv6.
    pub ipv6: Option<Bridge6>,
    /// Whether nothing leaves it.
    pub internal: bool,
    /// Whether what leaves it gets the machine's address.
    pub masquerade: bool,
    /// Whether its containers reach one another.
    pub open: bool,
    /// Bytes of a packet; none for 1500.
    pub mtu: Option<u32>,
}

/// A network's addresses of IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge4 {
    /// The machine's address in it.
    pub gateway: Ipv4Addr,
    /// Its addresses.
    pub subnet: Cidr,
}

/// A network's addresses of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge6 {
    /// The machine's address in it.
    pub gateway: Ipv6Addr,
    /// Its addresses.
    pub subnet: Cidr6,
}

/// A container's place in a network.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its identifier.
    pub id: String,
    /// The network's.
    pub bridge: String,
    /// The network namespace, such as `/proc/PID/ns/net`.
    pub netns: PathBuf,
    /// What the link is called there.
    pub link: String,
    /// The address of IPv4, in a network that has such.
    pub ip: Option<Ipv4Addr>,
    /// The address of IPv6, in a network that has such.
    pub ipv6: Option<Ipv6Addr>,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// Whether the default route leads here.
    pub default_route: bool,
    /// Whether that of IPv6 does.
    pub default_route6: bool,
}

/// A port of the machine that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The machine's address; 0.0.0.0 and :: mean all of the family.
    pub host_ip: IpAddr,
    /// The machine's port.
    pub host_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where it leads: an address of the same family.
    pub to: SocketAddr,
}

impl Forward {
    /// What no two can have.
    fn key(&self) -> (IpAddr, Protocol, u16) {
        (self.host_ip, self.protocol, self.host_port)
    }

    /// The element of the table; none for the other family.
    fn element(&self) -> Option<([u8; 20], [u8; 8])> {
        match (self.host_ip, self.to) {
            (IpAddr::V4(address), SocketAddr::V4(to)) => {
                let key = Key { address, protocol: self.protocol, port: self.host_port };
                Some((key.bytes(), endpoint_bytes(to)))
            }
            _ => None,
        }
    }
}

/// All bridges of an instance. Clones are the same.
#[derive(Clone, Debug)]
pub struct Bridges(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Names,
    ipv6: bool,
    /// The namespace of the links: threads that work may be in another.
    home: File,
    route: Mutex<Socket>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    netfilter: Socket,
    bridges: BTreeMap<String, Bridge>,
    /// By the container's identifier.
    forwards: BTreeMap<String, Vec<Forward>>,
}

const MTU: u32 = 1500;
const PORTS: Set = Set {
    name: "ports",
    key: &[Field::Address, Field::Protocol, Field::Port],
    holds: Holds::Fields(&[Field::Address, Field::Port]),
    dynamic: None,
};
const PUBLISHED: &str = "published";
const STATE_INVALID: u32 = 1;
const STATE_KNOWN: u32 = 2 | 4;
/// `IPS_DST_NAT`: the connection's destination was translated.
const STATUS_TRANSLATED: u32 = 1 << 5;

impl Bridges {
    /// Takes up the instance `name` in the calling thread's network namespace. What a former process left stays until it is
    /// made or removed.
    ///
    /// # Errors
    /// The kernel's refusal (root is needed).
    pub async fn open(name: &str) -> Result<Self, Error> {
        // Not on another thread: that might be in another namespace.
        let route = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let netfilter = Socket::netfilter().map_err(kernel("open netfilter socket"))?;
        crate::network::set_sysctl("net/ipv4/ip_forward", "1")?;
        Ok(Self(Arc::new(Inner {
            names: Names::of(name),
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            home: File::open("/proc/thread-self/ns/net").map_err(kernel("open the network namespace"))?,
            route: Mutex::new(route),
            state: Mutex::new(State { netfilter, bridges: BTreeMap::new(), forwards: BTreeMap::new() }),
        })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| Error::Kernel { what: "work on bridges".into(), source: io::Error::other(error) })?
    }

    /// Makes a network, or mends what is missing of it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn make(&self, bridge: Bridge) -> Result<(), Error> {
        self.blocking(move |inner| {
            inner.make(&bridge).map_err(kernel(format!("make network {}: link {}", bridge.id, inner.link(&bridge))))?;
            let mut state = lock(&inner.state);
            state.bridges.insert(bridge.id.clone(), bridge);
            inner.write(&mut state)
        })
        .await
    }

    /// Removes a network. One that is not there is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.blocking(move |inner| {
            let mut state = lock(&inner.state);
            let Some(bridge) = state.bridges.remove(&id) else { return Ok(()) };
            inner.write(&mut state)?;
            drop(state);
            let link = inner.link(&bridge);
            inner.remove_link(&link).map_err(kernel(format!("remove network {id}: link {link}")))
        })
        .await
    }

    /// Brings the loopback link of a container up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn loopback(&self, netns: &Path) -> Result<(), Error> {
        let netns = netns.to_owned();
        self.blocking(move |_| {
            link::inside(&netns, |_| {
                let mut request = Request::default();
                link::up(&mut request, link::LOOPBACK);
                Socket::route()?.all(request).map(drop)
            })
            .map_err(kernel(format!("bring loopback of {} up", netns.display())))
        })
        .await
    }

    /// Puts a container into a network. Done again, it is no error.
    ///
    /// # Errors
    /// [`Error::Sandbox`] where the network is not there; the kernel's refusal. Nothing is left then.
    pub async fn join(&self, place: Place) -> Result<(), Error> {
        self.blocking(move |inner| {
            let bridge = lock(&inner.state).bridges.get(&place.bridge).cloned();
            let Some(bridge) = bridge else {
                return Err(Error::Sandbox { id: place.id.clone(), reason: format!("no network {}", place.bridge) });
            };
            let near = inner.near(&place.id);
            inner.join(&place, &bridge, &near).map_err(|error| {
                // The first refusal is told.
                let _ = inner.remove_link(&near);
                kernel(format!("join network {}: link {near}", place.bridge))(error)
            })
        })
        .await
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn leave(&self, id: &str) -> Result<(), Error> {
        let near = self.0.near(id);
        self.blocking(move |inner| inner.remove_link(&near).map_err(kernel(format!("remove link {near}")))).await
    }

    /// Makes `forwards` all ports of the machine that lead to the container `owner`.
    ///
    /// # Errors
    /// [`Error::Sandbox`] when another has one of them; the kernel's refusal.
    pub async fn publish(&self, owner: &str, forwards: Vec<Forward>) -> Result<(), Error> {
        let owner = owner.to_owned();
        self.blocking(move |inner| {
            let mut state = lock(&inner.state);
            let others = state.forwards.iter().filter(|(other, _)| **other != owner).flat_map(|(_, list)| list);
            let taken: HashSet<_> = others.map(Forward::key).collect();
            if let Some(twice) = forwards.iter().find(|forward| taken.contains(&forward.key())) {
                let Forward { host_ip, host_port, .. } = twice;
                let address = SocketAddr::new(*host_ip, *host_port);
                let reason = format!("Bind for {address} failed: port is already allocated");
                return Err(Error::Sandbox { id: owner, reason });
            }
            let before = state.forwards.remove(&owner).unwrap_or_default();
            if before == forwards {
                state.forwards.insert(owner, before);
                return Ok(());
            }
            let udp = before.iter().chain(&forwards).filter(|forward| forward.protocol == Protocol::Udp);
            let udp: HashSet<u16> = udp.map(|forward| forward.host_port).collect();
            if !forwards.is_empty() {
                state.forwards.insert(owner, forwards);
            }
            inner.write(&mut state)?;
            if !udp.is_empty() {
                let stale = |flow: &Flow| udp.contains(&flow.to.port());
                let forgotten = conntrack::forget(&mut state.netfilter, stale)
                    .and_then(|_| if inner.ipv6 { conntrack::forget6(&mut state.netfilter, &udp) } else { Ok(0) });
                if let Err(error) = forgotten {
                    tracing::warn!(%error, "stale udp flows were not forgotten");
                }
            }
            Ok(())
        })
        .await
    }
}

impl Inner {
    fn link(&self, bridge: &Bridge) -> String {
        bridge.link.clone().unwrap_or_else(|| self.names.link(&format!("bridge/{}", bridge.id)))
    }

    fn near(&self, place: &str) -> String {
        self.names.link(&format!("place/{place}"))
    }

    fn find(&self, name: &str) -> io::Result<Option<link::Link>> {
        let mut request = Request::default();
        link::find(&mut request, name);
        match lock(&self.route).all(request) {
            Ok(answers) => Ok(answers.last().and_then(link::found)),
            Err(error) if is(&error, libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove_link(&self, name: &str) -> io::Result<()> {
        let mut request = Request::default();
        link::remove(&mut request, name);
        match lock(&self.route).all(request) {
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    fn make(&self, bridge: &Bridge) -> io::Result<()> {
        let name = self.link(bridge);
        let index = match self.find(&name)? {
            Some(found) => found.index,
            None => {
                let mut request = Request::default();
                link::bridge(&mut request, &name, mac(bridge), bridge.mtu.unwrap_or(MTU));
                lock(&self.route).all(request)?;
                let found = self.find(&name)?;
                found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?.index
            }
        };
        let mut request = Request::default();
        link::settings(&mut request, index, &self.names.alias(&bridge.id), self.ipv6);
        if let Some(ipv4) = &bridge.ipv4 {
            link::network_address(&mut request, index, ipv4.gateway, ipv4.subnet.prefix());
        }
        link::up(&mut request, index);
        lock(&self.route).all(request)?;
        match &bridge.ipv6 {
            Some(of_bridge) => self.make_ipv6(&name, index, of_bridge),
            None => Ok(()),
        }
    }

    fn join(&self, place: &Place, bridge: &Bridge, near: &str) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        let master = self.find(&self.link(bridge))?.ok_or_else(gone)?.index;
        let mtu = bridge.mtu.unwrap_or(MTU);
        link::inside(&place.netns, |netns| {
            let mut inside = Socket::route()?;
            let mut request = Request::default();
            link::find(&mut request, &place.link);
            let there = inside.exchange(request)?.first().and_then(link::found).is_some();
            if !there {
                // What an earlier attempt left leads nowhere.
                self.remove_link(near)?;
                let mut near_mac = place.mac;
                near_mac[0] = 0xfe;
                let ends = (End { name: near, mac: near_mac }, End { name: &place.link, mac: place.mac });
                let mut request = Request::default();
                link::veth(&mut request, &ends.0, &ends.1, netns.as_fd(), mtu);
                lock(&self.route).all(request)?;
            }
            let index = self.find(near)?.ok_or_else(gone)?.index;
            let mut request = Request::default();
            link::alias(&mut request, index, &self.names.alias(&place.id), self.ipv6);
            link::enslave(&mut request, index, master);
            link::up(&mut request, index);
            lock(&self.route).all(request)?;
            let mut request = Request::default();
            link::up(&mut request, link::LOOPBACK);
            link::find(&mut request, &place.link);
            let index = inside.all(request)?.last().and_then(link::found).ok_or_else(gone)?.index;
            let mut request = Request::default();
            if let (Some(ip), Some(ipv4)) = (place.ip, &bridge.ipv4) {
                link::network_address(&mut request, index, ip, ipv4.subnet.prefix());
            }
            link::up(&mut request, index);
            if let (true, false, Some(ipv4)) = (place.default_route, bridge.internal, &bridge.ipv4) {
                let to = Cidr::new(Ipv4Addr::UNSPECIFIED, 0).expect("a prefix of 0 bits");
                let way = Way::Via(ipv4.gateway, index);
                link::route(&mut request, &Route { to, way, source: None, metric: None });
            }
            inside.all(request)?;
            ipv6::enter(&mut inside, index, place, bridge)
        })
    }

    /// Makes the table what it shall be.
    fn write(&self, state: &mut State) -> Result<(), Error> {
        firewall::let_through(&mut state.netfilter, Family::V4, &self.names)?;
        let mut batch = Batch::new(&self.names.instance);
        rules(
            &mut batch,
            &self.names.link_prefix,
            &state.bridges.values().map(|b| (self.link(b), b)).collect::<Vec<_>>(),
        );
        let elements: Vec<_> = state.forwards.values().flatten().filter_map(Forward::element).collect();
        batch.add(PORTS.name, elements.iter().map(|(key, to)| (&key[..12], Data::Bytes(to))));
        let refused = |refused: Refused| Error::Kernel { what: refused.what, source: refused.source };
        batch.commit(&mut state.netfilter).map_err(refused)?;
        self.write_ipv6(state)
    }
}

/// An Ethernet address that follows from the network's own, so that who remembers the one is right about the other.
fn mac(bridge: &Bridge) -> [u8; 6] {
    let [a, b, c, d] = match (&bridge.ipv4, &bridge.ipv6) {
        (Some(ipv4), _) => ipv4.gateway.octets(),
        (None, Some(ipv6)) => {
            // Gateways of networks differ in their subnets.
            let octets = ipv6.gateway.octets();
            [octets[6], octets[7], octets[14], octets[15]]
        }
        (None, None) => [0; 4],
    };
    [0x02, 0x42, a, b, c, d]
}

/// A link's name as the kernel compares it, whole.
fn whole(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// Makes the table anew, without elements.
fn rules(batch: &mut Batch<'_>, prefix: &str, bridges: &[(String, &Bridge)]) {
    // Removing what may not be there is an error, so it is made first.
    batch.table("bridges");
    batch.remove_table();
    batch.table("bridges");
    batch.set(&PORTS);
    batch.chain(PUBLISHED);
    batch.base_chain("guard", Use::Filter, Hook::Prerouting, -300);
    batch.base_chain("prerouting", Use::Nat, Hook::Prerouting, -101);
    batch.base_chain("output", Use::Nat, Hook::Output, -101);
    batch.base_chain("postrouting", Use::Nat, Hook::Postrouting, 99);
    batch.base_chain("forward", Use::Filter, Hook::Forward, -11);
    let loopback = Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("a prefix of 8 bits");
    let ours = ours(prefix, bridges);
    // Links carry translated loopback addresses, so a container might else reach what listens on loopback only.
    for link in &ours {
        batch.rule("guard", |rule| {
            rule.input_name(Reg(0)).is(Reg(0), link);
            rule.destination(Reg(0)).within(Reg(0), loopback, true).verdict(&Verdict::Drop);
        });
    }
    for chain in ["prerouting", "output"] {
        batch.rule(chain, |rule| {
            rule.local(FibType::Destination, Reg(0), true).verdict(&Verdict::Jump(PUBLISHED));
        });
    }
    for wild in [false, true] {
        batch.rule(PUBLISHED, |rule| {
            if wild {
                rule.constant(&[0; 4], Reg(0));
            } else {
                rule.destination(Reg(0));
            }
            rule.protocol(Reg(1)).port(Reg(2)).map(PORTS.name, Reg(0), Reg(4)).dnat(Reg(4));
        });
    }
    forward(batch, &ours, bridges);
    for (link, bridge) in bridges {
        let Some(ipv4) = &bridge.ipv4 else { continue };
        if bridge.masquerade && !bridge.internal {
            batch.rule("postrouting", |rule| {
                rule.output_name(Reg(0)).is_not(Reg(0), &whole(link));
                rule.source(Reg(0)).within(Reg(0), ipv4.subnet, true).masquerade();
            });
        }
        // Who reaches itself by a published port would answer itself directly, and not know the answer.
        batch.rule("postrouting", |rule| {
            rule.ct(CtKey::Status, Reg(0)).bits(Reg(0), STATUS_TRANSLATED, true);
            rule.source(Reg(0)).within(Reg(0), ipv4.subnet, true);
            rule.destination(Reg(0)).within(Reg(0), ipv4.subnet, true).masquerade();
        });
        batch.rule("postrouting", |rule| {
            rule.source(Reg(0)).within(Reg(0), loopback, true);
            rule.destination(Reg(0)).within(Reg(0), ipv4.subnet, true).masquerade();
        });
    }
}

/// How names of links of networks begin.
fn ours(prefix: &str, bridges: &[(String, &Bridge)]) -> Vec<Vec<u8>> {
    // Names that people chose do not begin as ours do.
    let named = bridges.iter().filter(|(link, _)| !link.starts_with(prefix)).map(|(link, _)| whole(link).to_vec());
    std::iter::once(prefix.as_bytes().to_vec()).chain(named).collect()
}

/// What may pass between links.
fn forward(batch: &mut Batch<'_>, ours: &[Vec<u8>], bridges: &[(String, &Bridge)]) {
    for link in ours {
        batch.rule("forward", |rule| {
            rule.input_name(Reg(0)).is(Reg(0), link);
            rule.ct(CtKey::State, Reg(0)).bits(Reg(0), STATE_INVALID, true).verdict(&Verdict::Drop);
        });
    }
    batch.rule("forward", |rule| {
        rule.ct(CtKey::State, Reg(0)).bits(Reg(0), STATE_KNOWN, true).verdict(&Verdict::Accept);
    });
    for (link, bridge) in bridges {
        let (link, verdict) = (whole(link), if bridge.open { Verdict::Accept } else { Verdict::Drop });
        batch.rule("forward", |rule| {
            rule.input_name(Reg(0)).is(Reg(0), &link);
            rule.output_name(Reg(0)).is(Reg(0), &link).verdict(&verdict);
        });
        if bridge.internal {
            let drop = |rule: &mut Expressions<'_>, input: bool| {
                if input {
                    rule.input_name(Reg(0));
                } else {
                    rule.output_name(Reg(0));
                }
                rule.is(Reg(0), &link).verdict(&Verdict::Drop);
            };
            batch.rule("forward", |rule| drop(rule, true));
            batch.rule("forward", |rule| drop(rule, false));
        }
    }
    batch.rule("forward", |rule| {
        rule.ct(CtKey::Status, Reg(0)).bits(Reg(0), STATUS_TRANSLATED, true).verdict(&Verdict::Accept);
    });
    for link in ours {
        batch.rule("forward", |rule| {
            rule.output_name(Reg(0)).is(Reg(0), link).verdict(&Verdict::Drop);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_compared_whole() {
        assert_eq!(&whole("br0")[..4], b"br0\0");
        assert_eq!(whole("a-name-that-is-much-too-long")[15], 0);
    }

    #[test]
    fn links_have_addresses_that_follow_from_the_networks() {
        let bridge = |ipv4: Option<&str>, ipv6: &str| Bridge {
            id: "net".into(),
            link: None,
            ipv4: ipv4
                .map(|gateway| Bridge4 { gateway: gateway.parse().unwrap(), subnet: "172.18.0.0/16".parse().unwrap() }),
            ipv6: Some(Bridge6 { gateway: ipv6.parse().unwrap(), subnet: "fd00::/16".parse().unwrap() }),
            internal: false,
            masquerade: true,
            open: true,
            mtu: None,
        };
        assert_eq!(mac(&bridge(Some("172.18.0.2"), "fd00:1:2:3::1")), [2, 0x42, 172, 18, 0, 2]);
        assert_eq!(mac(&bridge(None, "fd00:1:2:304::1")), [2, 0x42, 3, 4, 0, 1]);
    }
}
