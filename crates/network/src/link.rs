//! Links, addresses, routes and neighbours, in the words of
//! [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html).
//!
//! Functions named after an object write the message that makes it; `links`, `routes` and `addresses` list what is there.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use crate::{
    Cidr,
    netlink::{ACK, Answer, CREATE, DUMP, EXCLUSIVE, REPLACE, Request, Socket, attribute, attributes, text},
};

/// The kernel's number of a link in one namespace.
pub(crate) type Index = u32;
/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// The loopback link has this number in every namespace.
pub(crate) const LOOPBACK: Index = 1;
/// Marks routes as ours (`proto` in `ip route`); numbers above 4 are free for the taking.
const OUR_PROTOCOL: u8 = 109;

/// `IF_OPER_UP`
const OPERATING: u8 = 6;
const VETH_PEER: u16 = 1;
const INET_CONF: u16 = 1;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
/// Numbers of per-interface settings, from linux/ip.h.
const CONF_RP_FILTER: u16 = 8;
const CONF_ROUTE_LOCALNET: u16 = 26;

fn ifinfo(index: Index, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// One end of a veth pair.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// Makes a veth pair: one end in the socket's namespace, the other in `netns`. Both are down.
pub(crate) fn veth(request: &mut Request, near: &End<'_>, far: &End<'_>, netns: BorrowedFd<'_>, mtu: u32) {
    let common = |request: &mut Request, end: &End<'_>| {
        request.text(libc::IFLA_IFNAME, end.name);
        request.attribute(libc::IFLA_ADDRESS, &end.mac);
        request.u32(libc::IFLA_MTU, mtu);
        // Without more queues than one there is less to make and to remove.
        request.u32(libc::IFLA_NUM_TX_QUEUES, 1);
        request.u32(libc::IFLA_NUM_RX_QUEUES, 1);
    };
    request.message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfo(0, 0, 0));
    common(request, near);
    request.nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, "veth");
        info.nest(libc::IFLA_INFO_DATA, |data| {
            data.nest(VETH_PEER, |peer| {
                peer.raw(&ifinfo(0, 0, 0));
                common(peer, far);
                peer.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
            });
        });
    });
}

/// Makes a bridge.
pub(crate) fn bridge(request: &mut Request, name: &str, mac: Mac, mtu: u32) {
    request.message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &ifinfo(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name);
    request.attribute(libc::IFLA_ADDRESS, &mac);
    request.u32(libc::IFLA_MTU, mtu);
    request.nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "bridge"));
}

/// Makes a link a port of a bridge.
pub(crate) fn enslave(request: &mut Request, index: Index, bridge: Index) {
    request.message(libc::RTM_SETLINK, ACK, &ifinfo(index, 0, 0));
    request.u32(libc::IFLA_MASTER, bridge);
}

/// Gives a port of a bridge another name for people; it has no addresses of its own.
pub(crate) fn alias(request: &mut Request, index: Index, alias: &str, ipv6: bool) {
    request.message(libc::RTM_SETLINK, ACK, &ifinfo(index, 0, 0));
    request.attribute(libc::IFLA_IFALIAS, alias.as_bytes());
    if ipv6 {
        request.nest(libc::IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET6 as u16, |inet6| inet6.attribute(INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]));
        });
    }
}

/// Asks for a link by name.
pub(crate) fn find(request: &mut Request, name: &str) {
    request.message(libc::RTM_GETLINK, ACK, &ifinfo(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name);
}

/// The link in the answer to [`find`].
pub(crate) fn found(answer: &Answer) -> Option<Link> {
    answer.objects.first().and_then(|object| link(object))
}

/// Gives a link another name for people, and settings of a link to a pod: only the pod's own address may come from
/// there, and loopback addresses may be translated on the way.
pub(crate) fn settings(request: &mut Request, index: Index, alias: &str, ipv6: bool) {
    request.message(libc::RTM_SETLINK, ACK, &ifinfo(index, 0, 0));
    request.attribute(libc::IFLA_IFALIAS, alias.as_bytes());
    request.nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET as u16, |inet| {
            inet.nest(INET_CONF, |conf| {
                conf.u32(CONF_RP_FILTER, 1);
                conf.u32(CONF_ROUTE_LOCALNET, 1);
            });
        });
        if ipv6 {
            families.nest(libc::AF_INET6 as u16, |inet6| {
                inet6.attribute(INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
            });
        }
    });
}

/// Brings a link up.
pub(crate) fn up(request: &mut Request, index: Index) {
    let up = libc::IFF_UP as u32;
    request.message(libc::RTM_SETLINK, ACK, &ifinfo(index, up, up));
}

/// Removes a link by name.
pub(crate) fn remove(request: &mut Request, name: &str) {
    request.message(libc::RTM_DELLINK, ACK, &ifinfo(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name);
}

/// Gives a link an address that is its whole network. An address that only this machine uses has the scope `host` and
/// is never taken as source by itself.
pub(crate) fn address(request: &mut Request, index: Index, ip: Ipv4Addr, host_only: bool, label: Option<&str>) {
    let scope = if host_only { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    request.message(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, &ifaddr(index, scope));
    request.attribute(libc::IFA_LOCAL, &ip.octets());
    request.attribute(libc::IFA_ADDRESS, &ip.octets());
    if let Some(label) = label {
        request.text(libc::IFA_LABEL, label);
    }
}

/// Gives a link an address in a network of `prefix` bits.
pub(crate) fn network_address(request: &mut Request, index: Index, ip: Ipv4Addr, prefix: u8) {
    let mut header = ifaddr(index, libc::RT_SCOPE_UNIVERSE);
    header[1] = prefix;
    request.message(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, &header);
    request.attribute(libc::IFA_LOCAL, &ip.octets());
    request.attribute(libc::IFA_ADDRESS, &ip.octets());
    let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    request.attribute(libc::IFA_BROADCAST, &(u32::from(ip) | host_bits).to_be_bytes());
}

/// Gives a link an address of the larger family in a network of `prefix` bits, to be used at once: whoever gives it out knows that
/// nobody else has it.
pub(crate) fn network_address6(request: &mut Request, index: Index, ip: Ipv6Addr, prefix: u8) {
    let flags = libc::IFA_F_NODAD as u8;
    let mut header = [libc::AF_INET6 as u8, prefix, flags, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    request.message(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, &header);
    request.attribute(libc::IFA_LOCAL, &ip.octets());
    request.attribute(libc::IFA_ADDRESS, &ip.octets());
}

/// Makes the default route of the larger family, or replaces it.
pub(crate) fn default_route6(request: &mut Request, gateway: Ipv6Addr, index: Index) {
    let (table, scope, class) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
    let header = [libc::AF_INET6 as u8, 0, 0, 0, table, OUR_PROTOCOL, scope, class, 0, 0, 0, 0];
    request.message(libc::RTM_NEWROUTE, ACK | CREATE | REPLACE, &header);
    request.attribute(libc::RTA_GATEWAY, &gateway.octets());
    request.u32(libc::RTA_OIF, index);
}

/// Takes an address of [`address`] away.
pub(crate) fn remove_address(request: &mut Request, index: Index, ip: Ipv4Addr) {
    request.message(libc::RTM_DELADDR, ACK, &ifaddr(index, libc::RT_SCOPE_UNIVERSE));
    request.attribute(libc::IFA_LOCAL, &ip.octets());
}

fn ifaddr(index: Index, scope: u8) -> [u8; 8] {
    let mut header = [libc::AF_INET as u8, 32, 0, scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Binds an address on a link to an Ethernet address for good, so that nobody asks for it.
pub(crate) fn neighbour(request: &mut Request, index: Index, ip: Ipv4Addr, mac: Mac) {
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    request.message(libc::RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header);
    request.attribute(libc::NDA_DST, &ip.octets());
    request.attribute(libc::NDA_LLADDR, &mac);
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight to the link.
    Link(Index),
    /// To a router on the link.
    Via(Ipv4Addr, Index),
    /// Nowhere: senders are told so.
    Unreachable,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Cidr,
    pub(crate) way: Way,
    /// The source address of what the machine itself sends there.
    pub(crate) source: Option<Ipv4Addr>,
    /// Higher counts less; tells the routes of one instance from those of another.
    pub(crate) metric: Option<u32>,
}

/// Makes a route, or replaces that with the same destination and metric.
pub(crate) fn route(request: &mut Request, route: &Route) {
    route_message(request, libc::RTM_NEWROUTE, ACK | CREATE | REPLACE, route);
}

/// Removes a route.
pub(crate) fn remove_route(request: &mut Request, route: &Route) {
    route_message(request, libc::RTM_DELROUTE, ACK, route);
}

fn route_message(request: &mut Request, kind: u16, flags: u16, route: &Route) {
    let (scope, class) = match route.way {
        Way::Link(_) => (libc::RT_SCOPE_LINK, libc::RTN_UNICAST),
        Way::Via(..) => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST),
        Way::Unreachable => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNREACHABLE),
    };
    let header =
        [libc::AF_INET as u8, route.to.prefix(), 0, 0, libc::RT_TABLE_MAIN, OUR_PROTOCOL, scope, class, 0, 0, 0, 0];
    request.message(kind, flags, &header);
    if route.to.prefix() > 0 {
        request.attribute(libc::RTA_DST, &route.to.address().octets());
    }
    match route.way {
        Way::Link(index) => request.u32(libc::RTA_OIF, index),
        Way::Via(gateway, index) => {
            request.attribute(libc::RTA_GATEWAY, &gateway.octets());
            request.u32(libc::RTA_OIF, index);
        }
        Way::Unreachable => {}
    }
    if let Some(source) = route.source {
        request.attribute(libc::RTA_PREFSRC, &source.octets());
    }
    if let Some(metric) = route.metric {
        request.u32(libc::RTA_PRIORITY, metric);
    }
}

/// A link as it was listed.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: Index,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) mtu: u32,
    /// Whether packets pass. A link that is brought up takes them only some time after its other end is up, too.
    pub(crate) passes: bool,
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn ip(bytes: Option<&[u8]>) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes?).ok()?))
}

fn link(object: &[u8]) -> Option<Link> {
    let rest = object.get(16..)?;
    Some(Link {
        index: number(object.get(4..8))?,
        name: text(attribute(rest, libc::IFLA_IFNAME)?),
        alias: attribute(rest, libc::IFLA_IFALIAS).map(text),
        mtu: number(attribute(rest, libc::IFLA_MTU)).unwrap_or(0),
        passes: attribute(rest, libc::IFLA_OPERSTATE) == Some(&[OPERATING]),
    })
}

/// All links.
pub(crate) fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let request = || {
        let mut request = Request::default();
        request.message(libc::RTM_GETLINK, DUMP, &ifinfo(0, 0, 0));
        request
    };
    socket.dump(request, |links: &mut Vec<Link>, object| links.extend(link(object)))
}

/// The IPv4 routes of the main table that are ours, or lead by default.
pub(crate) fn routes(socket: &mut Socket) -> io::Result<Vec<Listed>> {
    let request = || {
        let mut request = Request::default();
        request.message(libc::RTM_GETROUTE, DUMP, &[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        request
    };
    socket.dump(request, |routes: &mut Vec<Listed>, object| routes.extend(listed(object)))
}

/// A route as it was listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub(crate) route: Route,
    /// Whether we made it.
    pub(crate) ours: bool,
}

fn listed(object: &[u8]) -> Option<Listed> {
    let (header, rest) = (object.get(..12)?, object.get(12..)?);
    if header[4] != libc::RT_TABLE_MAIN {
        return None;
    }
    let (mut to, mut out, mut gateway, mut source, mut metric) = (Ipv4Addr::UNSPECIFIED, None, None, None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            libc::RTA_DST => to = ip(Some(value))?,
            libc::RTA_OIF => out = number(Some(value)),
            libc::RTA_GATEWAY => gateway = ip(Some(value)),
            libc::RTA_PREFSRC => source = ip(Some(value)),
            libc::RTA_PRIORITY => metric = number(Some(value)),
            _ => {}
        }
    }
    let way = match (header[7], out, gateway) {
        (libc::RTN_UNREACHABLE, ..) => Way::Unreachable,
        (libc::RTN_UNICAST, Some(index), Some(gateway)) => Way::Via(gateway, index),
        (libc::RTN_UNICAST, Some(index), None) => Way::Link(index),
        _ => return None,
    };
    let route = Route { to: Cidr::new(to, header[1])?, way, source, metric };
    Some(Listed { route, ours: header[5] == OUR_PROTOCOL })
}

/// The IPv4 addresses of the loopback link that carry `label`.
pub(crate) fn labelled(socket: &mut Socket, label: &str) -> io::Result<Vec<Ipv4Addr>> {
    let all: Vec<(Index, Ipv4Addr, String)> = addresses(socket)?;
    Ok(all.into_iter().filter(|(index, _, found)| *index == LOOPBACK && found == label).map(|(_, ip, _)| ip).collect())
}

/// All IPv4 addresses: link, address, label.
pub(crate) fn addresses(socket: &mut Socket) -> io::Result<Vec<(Index, Ipv4Addr, String)>> {
    let request = || {
        let mut request = Request::default();
        request.message(libc::RTM_GETADDR, DUMP, &[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]);
        request
    };
    socket.dump(request, |found: &mut Vec<_>, object| {
        let Some((header, rest)) = object.get(..8).zip(object.get(8..)) else { return };
        let label = attribute(rest, libc::IFA_LABEL).map(text).unwrap_or_default();
        if let Some((index, address)) = number(header.get(4..8)).zip(ip(attribute(rest, libc::IFA_LOCAL))) {
            found.push((index, address, label));
        }
    })
}

/// Runs `work` on a thread of its own that is in the namespace `netns`, and ends the thread.
pub(crate) fn inside<T: Send>(netns: &Path, work: impl FnOnce(&File) -> io::Result<T> + Send) -> io::Result<T> {
    let file = File::open(netns)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&file),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )?;
                work(&file)
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
