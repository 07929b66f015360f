//! What networks have of IPv6: addresses beside those of IPv4, and a table of the other family that does the same.
//!
//! ```text
//! bridge      gateway, and fe80::1 to ask for neighbours from; the machine forwards
//! container   an address of its own at once, and a default route
//! table       the same name and chains: DNAT of published ports, nothing between bridges, masquerade
//! ```
//!
//! There is nothing like `route_localnet`: what is sent to `::1` never leaves the machine, and is for whoever publishes ports to
//! pass on. <https://docs.docker.com/engine/daemon/ipv6/>

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    path::PathBuf,
};

use super::{Bridge, Bridge6, Forward, Inner, PUBLISHED, Place, STATUS_TRANSLATED, State, whole};
use crate::{
    Error,
    error::kernel,
    firewall,
    link::{self, Index},
    netlink::{Request, Socket},
    nft::{self, Batch, CtKey, Data, Family, FibType, Field, Holds, Hook, Refused, Reg, Set, Use, Verdict},
};

const PORTS: Set = Set {
    name: "ports",
    key: &[Field::Address6, Field::Protocol, Field::Port],
    holds: Holds::Fields(&[Field::Address6, Field::Port]),
    dynamic: None,
};
/// Bytes of a key, and of what it holds.
const KEY: usize = 24;
const TARGET: usize = 20;
/// What neighbours are asked for from, on every bridge: the machine's own address there may not be the one that a packet has.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

impl Inner {
    /// Gives a bridge its addresses, and has the machine forward.
    pub(super) fn make_ipv6(&self, name: &str, index: Index, bridge: &Bridge6) -> io::Result<()> {
        let home = PathBuf::from(format!("/proc/self/fd/{}", self.home.as_raw_fd()));
        link::inside(&home, |_| {
            forward()?;
            set(&format!("{name}/disable_ipv6"), "0")?;
            let mut request = Request::default();
            link::network_address6(&mut request, index, bridge.gateway, bridge.subnet.prefix());
            if bridge.gateway != ROUTER {
                link::network_address6(&mut request, index, ROUTER, 64);
            }
            Socket::route()?.all(request).map(drop)
        })
    }

    /// Makes the table of the family what it shall be; none where no network has addresses of it.
    pub(super) fn write_ipv6(&self, state: &mut State) -> Result<(), Error> {
        let name = self.names.instance.as_str();
        let State { netfilter: socket, bridges, forwards } = state;
        let bridges: Vec<_> = bridges.values().filter(|bridge| bridge.ipv6.is_some()).collect();
        let bridges: Vec<(String, &Bridge)> = bridges.into_iter().map(|bridge| (self.link(bridge), bridge)).collect();
        let mut batch = Batch::of(Family::V6, name);
        if bridges.is_empty() {
            if nft::comment(socket, Family::V6, name).map_err(kernel(format!("find table {name}")))?.is_none() {
                return Ok(());
            }
            batch.remove_table();
        } else {
            firewall::let_through(socket, Family::V6, &self.names)?;
            rules(&mut batch, &self.names.link_prefix, &bridges);
            let elements: Vec<_> = forwards.values().flatten().filter_map(element).collect();
            batch.add(PORTS.name, elements.iter().map(|(key, to)| (&key[..], Data::Bytes(to))));
        }
        let refused = |refused: Refused| Error::Kernel { what: refused.what, source: refused.source };
        batch.commit(socket).map_err(refused)
    }
}

/// Gives a container its address and its way out. The calling thread is in its namespace.
pub(super) fn enter(inside: &mut Socket, index: Index, place: &Place, bridge: &Bridge) -> io::Result<()> {
    let (Some(ip), Some(of_bridge)) = (place.ipv6, &bridge.ipv6) else { return Ok(()) };
    // Routers are those of the network, whatever others say.
    set(&format!("{}/accept_ra", place.link), "0")?;
    let mut request = Request::default();
    link::network_address6(&mut request, index, ip, of_bridge.subnet.prefix());
    if place.default_route6 && !bridge.internal {
        link::default_route6(&mut request, of_bridge.gateway, index);
    }
    inside.all(request).map(drop)
}

/// Has the machine forward. One that learned its own routes from routers goes on doing so, which forwarding would end.
fn forward() -> io::Result<()> {
    if read("all/forwarding")? == "1" {
        return Ok(());
    }
    for entry in std::fs::read_dir(SETTINGS)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| *name != "all") else { continue };
        let setting = format!("{name}/accept_ra");
        match read(&setting) {
            Ok(value) if value == "1" => set(&setting, "2")?,
            Ok(_) => {}
            // The link has gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    set("all/forwarding", "1")
}

fn read(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("{SETTINGS}/{name}"))?.trim().to_owned())
}

fn set(name: &str, value: &str) -> io::Result<()> {
    if read(name)? == value {
        return Ok(());
    }
    let said = |error: io::Error| io::Error::new(error.kind(), format!("set net/ipv6/conf/{name} to {value}: {error}"));
    std::fs::write(format!("{SETTINGS}/{name}"), value).map_err(said)
}

/// A published port as the table holds it; none of the other family.
fn element(forward: &Forward) -> Option<([u8; KEY], [u8; TARGET])> {
    let (IpAddr::V6(host_ip), SocketAddr::V6(to)) = (forward.host_ip, forward.to) else { return None };
    let (mut key, mut target) = ([0; KEY], [0; TARGET]);
    key[..16].copy_from_slice(&host_ip.octets());
    key[16] = forward.protocol.number();
    key[20..22].copy_from_slice(&forward.host_port.to_be_bytes());
    target[..16].copy_from_slice(&to.ip().octets());
    target[16..18].copy_from_slice(&to.port().to_be_bytes());
    Some((key, target))
}

/// Makes the table anew, without elements.
fn rules(batch: &mut Batch<'_>, prefix: &str, bridges: &[(String, &Bridge)]) {
    // Removing what may not be there is an error, so it is made first.
    batch.table("bridges");
    batch.remove_table();
    batch.table("bridges");
    batch.set(&PORTS);
    batch.chain(PUBLISHED);
    batch.base_chain("prerouting", Use::Nat, Hook::Prerouting, -101);
    batch.base_chain("output", Use::Nat, Hook::Output, -101);
    batch.base_chain("postrouting", Use::Nat, Hook::Postrouting, 99);
    batch.base_chain("forward", Use::Filter, Hook::Forward, -11);
    for chain in ["prerouting", "output"] {
        batch.rule(chain, |rule| {
            rule.local(FibType::Destination, Reg(0), true).verdict(&Verdict::Jump(PUBLISHED));
        });
    }
    let loopback = crate::Cidr6::new(Ipv6Addr::LOCALHOST, 128).expect("a prefix of 128 bits");
    // Its answers could not come back.
    batch.rule(PUBLISHED, |rule| {
        rule.destination6(Reg(0)).within6(Reg(0), loopback, true).verdict(&Verdict::Return);
    });
    for wild in [false, true] {
        batch.rule(PUBLISHED, |rule| {
            if wild {
                rule.constant(&[0; 16], Reg(0));
            } else {
                rule.destination6(Reg(0));
            }
            rule.protocol(Reg(4)).port(Reg(5)).map(PORTS.name, Reg(0), Reg(6)).dnat6(Reg(6));
        });
    }
    super::forward(batch, &super::ours(prefix, bridges), bridges);
    for (link, bridge) in bridges {
        let Some(ipv6) = &bridge.ipv6 else { continue };
        if bridge.masquerade && !bridge.internal {
            batch.rule("postrouting", |rule| {
                rule.output_name(Reg(0)).is_not(Reg(0), &whole(link));
                rule.source6(Reg(0)).within6(Reg(0), ipv6.subnet, true).masquerade();
            });
        }
        // Who reaches itself by a published port would answer itself directly, and not know the answer.
        batch.rule("postrouting", |rule| {
            rule.ct(CtKey::Status, Reg(0)).bits(Reg(0), STATUS_TRANSLATED, true);
            rule.source6(Reg(0)).within6(Reg(0), ipv6.subnet, true);
            rule.destination6(Reg(0)).within6(Reg(0), ipv6.subnet, true).masquerade();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    #[test]
    fn a_published_port_is_an_element_of_its_own_family() {
        let to: SocketAddr = "[fd00::2]:80".parse().unwrap();
        let forward = Forward { host_ip: "::".parse().unwrap(), host_port: 0x1234, protocol: Protocol::Udp, to };
        let (key, target) = element(&forward).unwrap();
        assert_eq!((key[..16].to_vec(), &key[16..]), (vec![0; 16], &[17, 0, 0, 0, 0x12, 0x34, 0, 0][..]));
        assert_eq!((&target[..2], &target[15..]), (&[0xfd, 0][..], &[2, 0, 80, 0, 0][..]));
        assert!(forward.element().is_none());
        let other = Forward { host_ip: "0.0.0.0".parse().unwrap(), to: "10.0.0.2:80".parse().unwrap(), ..forward };
        assert!(element(&other).is_none() && other.element().is_some());
    }
}
