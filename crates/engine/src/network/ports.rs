//! Ports of the machine that lead to containers.
//!
//! Each is claimed by a socket that is bound and never used, so that no other program takes it; the packets are led by the
//! network's table.

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

/// The machine's addresses that a port is asked for on, of those families in which the container has one itself.
fn host_addresses(wanted: &Wanted, target: Target) -> Vec<IpAddr> {
    let all = match wanted.host_ip {
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        Some(ip) => vec![ip],
    };
    all.into_iter().filter(|ip| target.of(*ip, 0).is_some()).collect()
}

/// Leads the ports of a container to where it is now. Those that it has already stay as they are.
pub(super) async fn publish(engine: &Engine, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record();
    let target = target(engine, &record);
    let wanted = wanted(&record)?;
    let count: usize = wanted.iter().map(|one| host_addresses(one, target).len()).sum();
    if count == 0 {
        lock(&container.claims).clear();
        container.change(|record| record.state.ports.clear());
        return Ok(engine.networks().bridges.publish(&container.id, Vec::new()).await?);
    }
    let mut before = record.state.ports.clone();
    // Whoever has claims needs no others; after a restart of the engine the same ports are claimed anew.
    let held = lock(&container.claims).len() == count && before.len() == count;
    let (mut published, mut claims) = (Vec::new(), Vec::new());
    if held {
        published.append(&mut before);
    } else {
        lock(&container.claims).clear();
        for one in wanted {
            let addresses = host_addresses(&one, target);
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
            let (port, claimed) = claim_all(one.protocol, &addresses, range).map_err(|error| {
                Error::failed(format!(
                    "driver failed programming external connectivity on endpoint {}: {error:#}",
                    record.name
                ))
            })?;
            claims.extend(claimed);
            published.extend(addresses.iter().map(|ip| Published {
                container_port: one.container_port,
                protocol: name(one.protocol).into(),
                host_ip: ip.to_string(),
                host_port: port,
            }));
        }
        lock(&container.claims).extend(claims);
    }
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

/// Claims one port on all of the addresses.
fn claim_all(
    protocol: Protocol,
    addresses: &[IpAddr],
    range: Option<(u16, u16)>,
) -> anyhow::Result<(u16, Vec<OwnedFd>)> {
    let [first, others @ ..] = addresses else { return Ok((0, Vec::new())) };
    let mut left = range;
    // Sockets of attempts that failed stay until the end, so that the kernel gives other ports.
    let mut passed = Vec::new();
    loop {
        let (port, claimed) = claim(protocol, *first, left)?;
        let mut claims: Vec<OwnedFd> = claimed.into_iter().collect();
        let mut refused = None;
        for ip in others {
            match claim(protocol, *ip, Some((port, port))) {
                Ok((_, claimed)) => claims.extend(claimed),
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
fn claim(protocol: Protocol, ip: IpAddr, range: Option<(u16, u16)>) -> anyhow::Result<(u16, Option<OwnedFd>)> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => {
            let (first, _) = range.context("a port of SCTP is given by number")?;
            return Ok((first, None));
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
        match bind(&socket, &SocketAddr::new(ip, port)) {
            Ok(()) => {
                let bound = SocketAddr::try_from(getsockname(&socket).context("look at a socket")?)?;
                return Ok((bound.port(), Some(socket)));
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
        assert!(held.is_some());
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
    fn a_port_is_asked_for_in_the_families_that_the_container_has() {
        let target = |ipv4: &str, ipv6: &str| Target { ipv4: ipv4.parse().ok(), ipv6: ipv6.parse().ok() };
        let wanted = |host_ip: &str| Wanted {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().ok(),
            host_ports: None,
        };
        for (host, has, expected) in [
            ("", target("10.0.0.2", ""), vec!["0.0.0.0"]),
            ("", target("10.0.0.2", "fd00::2"), vec!["0.0.0.0", "::"]),
            ("::", target("10.0.0.2", "fd00::2"), vec!["::"]),
            ("::1", target("10.0.0.2", ""), vec![]),
            ("127.0.0.1", target("10.0.0.2", "fd00::2"), vec!["127.0.0.1"]),
            ("", target("", ""), vec![]),
        ] {
            let found: Vec<String> = host_addresses(&wanted(host), has).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{host} {has:?}");
        }
        assert_eq!(target("", "fd00::2").of("::".parse().unwrap(), 80).unwrap().to_string(), "[fd00::2]:80");
    }
}
