//! Ports of the machine that lead to containers.
//!
//! Each is claimed by a socket that is bound, so that no other program takes it; the packets are led by the network's table. Those that
//! no table can lead — to `::1`, and to a container without an address of the family — come to the socket, and a relay passes them on.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use ::network::{Forward, Protocol};
use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with};

use crate::{
    Engine,
    container::{Container, create, lock},
    error::{Error, Result},
    model::{
        host::PortBinding,
        record::{Published, Record},
    },
    network::relay::{Relay, WAITING},
};

/// A port that is asked for; none for any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    container_port: u16,
    protocol: Protocol,
    /// None for all addresses of each family that the container has.
    host_ip: Option<IpAddr>,
    /// The first and last that will do; none for any.
    host_ports: Option<(u16, u16)>,
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn protocol(name: &str) -> Protocol {
    match name {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// What a container wants published.
fn wanted(record: &Record) -> Result<Vec<Wanted>> {
    let mut found = Vec::new();
    for (port, bindings) in &record.host.port_bindings {
        let (container_port, protocol_name) = create::port_of(port)?;
        for PortBinding { host_ip, host_port } in bindings {
            let bad = |what: &str| Error::invalid(format!("invalid {what} of port {port}: {host_ip}:{host_port}"));
            let host_ip = match host_ip.trim_matches(['[', ']']) {
                "" => None,
                text => Some(text.parse().map_err(|_| bad("address"))?),
            };
            let host_ports = match host_port.as_str() {
                "" | "0" => None,
                text => {
                    let (first, last) = text.split_once('-').unwrap_or((text, text));
                    let number = |text: &str| text.parse::<u16>().map_err(|_| bad("port"));
                    let (first, last) = (number(first)?, number(last)?);
                    if first == 0 || first > last {
                        return Err(bad("range"));
                    }
                    Some((first, last))
                }
            };
            found.push(Wanted { container_port, protocol: protocol(protocol_name), host_ip, host_ports });
        }
    }
    if record.host.publish_all_ports {
        for port in record.config.exposed_ports.keys() {
            let (container_port, protocol_name) = create::port_of(port)?;
            if !found.iter().any(|one| one.container_port == container_port && one.protocol == protocol(protocol_name))
            {
                let protocol = protocol(protocol_name);
                found.push(Wanted { container_port, protocol, host_ip: None, host_ports: None });
            }
        }
    }
    Ok(found)
}

/// The machine's addresses that a port is asked for on.
fn host_addresses(wanted: &Wanted, target: Target, with_ipv6: bool) -> Vec<IpAddr> {
    let all = match wanted.host_ip {
        _ if target.ipv4.is_none() && target.ipv6.is_none() => Vec::new(),
        None if !with_ipv6 => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        Some(ip) => vec![ip],
    };
    // What is no port of a stream or of datagrams is not relayed.
    all.into_iter().filter(|ip| wanted.protocol != Protocol::Sctp || target.of(*ip, 0).is_some()).collect()
}

/// Whether this machine has IPv6 at all.
fn has_ipv6() -> bool {
    socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None).is_ok()
}

/// A port of the machine that nobody else has.
#[derive(Debug)]
pub(crate) struct Claim {
    host_ip: IpAddr,
    container_port: u16,
    protocol: Protocol,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// By whoever has it in the table: SCTP is not in every kernel.
    Nothing,
    /// By a socket to which nothing comes.
    Socket(OwnedFd),
    /// By one from which what comes is passed on.
    Relay(Relay),
}

impl Claim {
    /// Leads what no table leads.
    fn lead(self, task: &task::Task, target: Target) -> anyhow::Result<Self> {
        let to = target.near(self.host_ip, self.container_port);
        let relayed = self.host_ip.is_ipv6() || target.ipv4.is_none();
        let held = match (self.held, to) {
            (Held::Relay(relay), Some(to)) => {
                relay.lead(to);
                Held::Relay(relay)
            }
            (Held::Socket(socket), Some(to)) if relayed => Held::Relay(match self.protocol {
                Protocol::Udp => Relay::udp(task, socket, to)?,
                _ => Relay::tcp(task, socket, to)?,
            }),
            (held, _) => held,
        };
        Ok(Self { held, ..self })
    }
}

/// Lets others have the ports of a container.
pub(crate) async fn release(container: &Container) {
    let claims = std::mem::take(&mut *lock(&container.claims));
    for claim in claims {
        if let Held::Relay(relay) = claim.held {
            relay.end().await;
        }
    }
}

/// Leads the ports of a container to where it is now. Those that it has already stay as they are.
pub(super) async fn publish(engine: &Engine, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record();
    let target = target(engine, &record);
    let (wanted, with_ipv6) = (wanted(&record)?, has_ipv6());
    let count: usize = wanted.iter().map(|one| host_addresses(one, target, with_ipv6).len()).sum();
    if count == 0 {
        release(container).await;
        container.change(|record| record.state.ports.clear());
        return Ok(engine.networks().bridges.publish(&container.id, Vec::new()).await?);
    }
    let mut before = record.state.ports.clone();
    // Whoever has claims needs no others; after a restart of the engine the same ports are claimed anew.
    let held = lock(&container.claims).len() == count && before.len() == count;
    let (mut published, mut claims) = (Vec::new(), Vec::new());
    if held {
        published.append(&mut before);
        claims.append(&mut lock(&container.claims));
    } else {
        release(container).await;
        for one in wanted {
            let addresses = host_addresses(&one, target, with_ipv6);
            let known = before.iter().position(|known| {
                known.container_port == one.container_port
                    && known.protocol == name(one.protocol)
                    && addresses.iter().any(|ip| known.host_ip == ip.to_string())
                    && one.host_ports.is_none_or(|(first, last)| (first..=last).contains(&known.host_port))
            });
            let range = match known {
                Some(at) => {
                    let port = before.remove(at).host_port;
                    Some((port, port))
                }
                None => one.host_ports,
            };
            let (port, claimed) =
                claim_all(one.protocol, &addresses, range).map_err(|error| refused(&record, &error))?;
            claims.extend(addresses.iter().zip(claimed).map(|(ip, held)| Claim {
                host_ip: *ip,
                container_port: one.container_port,
                protocol: one.protocol,
                held,
            }));
            published.extend(addresses.iter().map(|ip| Published {
                container_port: one.container_port,
                protocol: name(one.protocol).into(),
                host_ip: ip.to_string(),
                host_port: port,
            }));
        }
    }
    let led = claims.into_iter().map(|claim| claim.lead(engine.task(), target));
    let led: anyhow::Result<Vec<Claim>> = led.collect();
    *lock(&container.claims) = led.map_err(|error| refused(&record, &error))?;
    published.sort();
    let forwards = published.iter().filter_map(|one| {
        let host_ip = one.host_ip.parse().ok()?;
        let to = target.of(host_ip, one.container_port)?;
        Some(Forward { host_ip, host_port: one.host_port, protocol: protocol(&one.protocol), to })
    });
    engine.networks().bridges.publish(&container.id, forwards.collect()).await?;
    container.change(|record| record.state.ports = published);
    Ok(())
}

fn refused(record: &Record, error: &anyhow::Error) -> Error {
    Error::failed(format!("driver failed programming external connectivity on endpoint {}: {error:#}", record.name))
}

/// The addresses that ports lead to: of each family, that of the first network from which anything leaves.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl Target {
    /// Where a port of the machine's address `host` leads; nowhere where the container has no address of that family.
    fn of(self, host: IpAddr, port: u16) -> Option<SocketAddr> {
        let ip = match host {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        };
        ip.map(|ip| SocketAddr::new(ip, port))
    }

    /// The same, or where it has an address of the other family.
    fn near(self, host: IpAddr, port: u16) -> Option<SocketAddr> {
        let others = match host {
            IpAddr::V4(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        self.of(host, port).or_else(|| self.of(others, port))
    }
}

fn target(engine: &Engine, record: &Record) -> Target {
    let mut endpoints: Vec<_> = record.networks.iter().collect();
    endpoints.sort_by_key(|(name, endpoint)| (std::cmp::Reverse(endpoint.gw_priority), (*name).clone()));
    let mut found = Target::default();
    for (_, endpoint) in endpoints {
        let Ok(network) = engine.networks().find(&endpoint.network_id) else { continue };
        if !network.internal {
            found.ipv4 = found.ipv4.or_else(|| endpoint.ip_address.parse().ok());
            found.ipv6 = found.ipv6.or_else(|| endpoint.global_ipv6_address.parse().ok());
        }
    }
    found
}

/// Ports tried when the one that the kernel gave of one family is taken in the other.
const ATTEMPTS: usize = 32;

/// Claims one port on all of the addresses, in their order.
fn claim_all(protocol: Protocol, addresses: &[IpAddr], range: Option<(u16, u16)>) -> anyhow::Result<(u16, Vec<Held>)> {
    let [first, others @ ..] = addresses else { return Ok((0, Vec::new())) };
    let mut left = range;
    // Sockets of attempts that failed stay until the end, so that the kernel gives other ports.
    let mut passed = Vec::new();
    loop {
        let (port, claimed) = claim(protocol, *first, left)?;
        let mut claims = vec![claimed];
        let mut refused = None;
        for ip in others {
            match claim(protocol, *ip, Some((port, port))) {
                Ok((_, claimed)) => claims.push(claimed),
                Err(error) => refused = Some(error),
            }
        }
        let Some(error) = refused else { return Ok((port, claims)) };
        passed.extend(claims);
        left = match left {
            Some((_, last)) if port < last => Some((port + 1, last)),
            None if passed.len() < ATTEMPTS => None,
            _ => return Err(error),
        };
    }
}

/// Claims a port of the machine. SCTP is not in every kernel, and is led without a claim.
fn claim(protocol: Protocol, ip: IpAddr, range: Option<(u16, u16)>) -> anyhow::Result<(u16, Held)> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => {
            let (first, _) = range.context("a port of SCTP is given by number")?;
            return Ok((first, Held::Nothing));
        }
    };
    let (first, last) = range.unwrap_or((0, 0));
    let mut refused = None;
    for port in first..=last {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)).context("make a socket")?;
        if ip.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true).context("keep a socket to its family")?;
        }
        // What comes to these is taken, and connections of an earlier relay may still be ending.
        let taken = ip.is_ipv6() && protocol == Protocol::Tcp;
        if taken {
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true).context("use a port again")?;
        }
        let bound = bind(&socket, &SocketAddr::new(ip, port));
        // From here on nobody else can have it, in spite of that.
        match bound.and_then(|()| if taken { rustix::net::listen(&socket, WAITING) } else { Ok(()) }) {
            Ok(()) => {
                let bound = SocketAddr::try_from(getsockname(&socket).context("look at a socket")?)?;
                return Ok((bound.port(), Held::Socket(socket)));
            }
            Err(error) => refused = Some((port, error)),
        }
    }
    let (port, error) = refused.context("an empty range of ports")?;
    let reason =
        if error == rustix::io::Errno::ADDRINUSE { "port is already allocated".into() } else { error.to_string() };
    anyhow::bail!("Bind for {} failed: {reason}", SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_a_range_gives_the_next() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (first, held) = claim(Protocol::Tcp, ip, None).unwrap();
        assert!(matches!(held, Held::Socket(_)));
        let error = claim(Protocol::Tcp, ip, Some((first, first))).unwrap_err();
        assert_eq!(error.to_string(), format!("Bind for 127.0.0.1:{first} failed: port is already allocated"));
        // The same number of another protocol is another port.
        assert_eq!(claim(Protocol::Udp, ip, Some((first, first))).unwrap().0, first);
    }

    #[test]
    fn a_port_of_both_families_has_one_number() {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let (port, claims) = claim_all(Protocol::Tcp, &both, None).unwrap();
        assert_eq!(claims.len(), 2);
        for ip in both {
            assert!(claim(Protocol::Tcp, ip, Some((port, port))).is_err(), "{ip}");
        }
        drop(claims);
        // Taken in the second family only: the next number of the range is it.
        let (_, held) = claim(Protocol::Tcp, both[1], Some((port, port))).unwrap();
        assert!(claim_all(Protocol::Tcp, &both, Some((port, port))).is_err());
        if let Some(next) = port.checked_add(8) {
            assert!(claim_all(Protocol::Tcp, &both, Some((port, next))).unwrap().0 > port);
        }
        drop(held);
    }

    #[test]
    fn a_port_is_asked_for_in_both_families_and_led_to_the_one_that_the_container_has() {
        let target = |ipv4: &str, ipv6: &str| Target { ipv4: ipv4.parse().ok(), ipv6: ipv6.parse().ok() };
        let wanted = |host_ip: &str, protocol| Wanted {
            container_port: 80,
            protocol,
            host_ip: host_ip.parse().ok(),
            host_ports: None,
        };
        let tcp = |host_ip: &str| wanted(host_ip, Protocol::Tcp);
        for (wanted, has, with_ipv6, expected) in [
            (tcp(""), target("10.0.0.2", ""), true, vec!["0.0.0.0", "::"]),
            (tcp(""), target("10.0.0.2", ""), false, vec!["0.0.0.0"]),
            (tcp(""), target("10.0.0.2", "fd00::2"), true, vec!["0.0.0.0", "::"]),
            (tcp(""), target("", "fd00::2"), true, vec!["0.0.0.0", "::"]),
            (tcp("::"), target("10.0.0.2", "fd00::2"), true, vec!["::"]),
            (tcp("::1"), target("10.0.0.2", ""), true, vec!["::1"]),
            (tcp("127.0.0.1"), target("10.0.0.2", "fd00::2"), true, vec!["127.0.0.1"]),
            (tcp(""), target("", ""), true, vec![]),
            (wanted("", Protocol::Sctp), target("10.0.0.2", ""), true, vec!["0.0.0.0"]),
        ] {
            let found: Vec<String> = host_addresses(&wanted, has, with_ipv6).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{wanted:?} {has:?}");
        }
        let led = |has: Target, host: &str| {
            let host = host.parse().unwrap();
            [has.of(host, 80), has.near(host, 80)].map(|to| to.map(|to| to.to_string()).unwrap_or_default())
        };
        assert_eq!(led(target("", "fd00::2"), "::"), ["[fd00::2]:80", "[fd00::2]:80"]);
        assert_eq!(led(target("", "fd00::2"), "0.0.0.0"), ["", "[fd00::2]:80"]);
        assert_eq!(led(target("10.0.0.2", ""), "::1"), ["", "10.0.0.2:80"]);
    }
}
