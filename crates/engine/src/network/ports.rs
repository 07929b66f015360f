//! Ports of the machine that lead to containers.
//!
//! Each is claimed by a socket that is bound and never used, so that no other program takes it; the packets are led by the
//! network's table.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
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
    host_ip: Ipv4Addr,
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
            let host_ip = match host_ip.as_str() {
                "" => Ipv4Addr::UNSPECIFIED,
                // All addresses of the other family: there is none of it here.
                text if text.contains(':') => continue,
                text => text.parse().map_err(|_| bad("address"))?,
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
                let host_ip = Ipv4Addr::UNSPECIFIED;
                found.push(Wanted { container_port, protocol: protocol(protocol_name), host_ip, host_ports: None });
            }
        }
    }
    Ok(found)
}

/// Leads the ports of a container to where it is now. Those that it has already stay as they are.
pub(super) async fn publish(engine: &Engine, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record();
    let target = target(engine, &record);
    let Some(target) = target else {
        lock(&container.claims).clear();
        container.change(|record| record.state.ports.clear());
        return Ok(engine.networks().bridges.publish(&container.id, Vec::new()).await?);
    };
    let wanted = wanted(&record)?;
    let mut before = record.state.ports.clone();
    // Whoever has claims needs no others; after a restart of the engine the same ports are claimed anew.
    let held = lock(&container.claims).len() == before.len() && !before.is_empty();
    let (mut published, mut claims) = (Vec::new(), Vec::new());
    if held {
        published.append(&mut before);
    } else {
        for one in wanted {
            let known = before.iter().position(|known| {
                known.container_port == one.container_port
                    && known.protocol == name(one.protocol)
                    && known.host_ip == one.host_ip.to_string()
                    && one.host_ports.is_none_or(|(first, last)| (first..=last).contains(&known.host_port))
            });
            let range = match known {
                Some(at) => {
                    let port = before.remove(at).host_port;
                    Some((port, port))
                }
                None => one.host_ports,
            };
            let (port, claim) = claim(one.protocol, one.host_ip, range).map_err(|error| {
                Error::failed(format!(
                    "driver failed programming external connectivity on endpoint {}: {error:#}",
                    record.name
                ))
            })?;
            claims.extend(claim);
            published.push(Published {
                container_port: one.container_port,
                protocol: name(one.protocol).into(),
                host_ip: one.host_ip.to_string(),
                host_port: port,
            });
        }
        lock(&container.claims).extend(claims);
    }
    published.sort();
    let forwards = published
        .iter()
        .map(|one| Forward {
            host_ip: one.host_ip.parse().unwrap_or(Ipv4Addr::UNSPECIFIED),
            host_port: one.host_port,
            protocol: protocol(&one.protocol),
            to: SocketAddrV4::new(target, one.container_port),
        })
        .collect();
    engine.networks().bridges.publish(&container.id, forwards).await?;
    container.change(|record| record.state.ports = published);
    Ok(())
}

/// The address that ports lead to: that of the first network from which anything leaves.
fn target(engine: &Engine, record: &Record) -> Option<Ipv4Addr> {
    let mut endpoints: Vec<_> = record.networks.iter().collect();
    endpoints.sort_by_key(|(name, endpoint)| (std::cmp::Reverse(endpoint.gw_priority), (*name).clone()));
    endpoints.into_iter().find_map(|(_, endpoint)| {
        let network = engine.networks().find(&endpoint.network_id).ok()?;
        endpoint.ip_address.parse().ok().filter(|_| !network.internal)
    })
}

/// Claims a port of the machine. SCTP is not in every kernel, and is led without a claim.
fn claim(protocol: Protocol, ip: Ipv4Addr, range: Option<(u16, u16)>) -> anyhow::Result<(u16, Option<OwnedFd>)> {
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
        let socket =
            socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(number)).context("make a socket")?;
        match bind(&socket, &SocketAddrV4::new(ip, port)) {
            Ok(()) => {
                let bound = SocketAddrV4::try_from(getsockname(&socket).context("look at a socket")?)?;
                return Ok((bound.port(), Some(socket)));
            }
            Err(error) => refused = Some((port, error)),
        }
    }
    let (port, error) = refused.context("an empty range of ports")?;
    let reason =
        if error == rustix::io::Errno::ADDRINUSE { "port is already allocated".into() } else { error.to_string() };
    anyhow::bail!("Bind for {ip}:{port} failed: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_a_range_gives_the_next() {
        let ip = Ipv4Addr::LOCALHOST;
        let (first, held) = claim(Protocol::Tcp, ip, None).unwrap();
        assert!(held.is_some());
        let error = claim(Protocol::Tcp, ip, Some((first, first))).unwrap_err();
        assert_eq!(error.to_string(), format!("Bind for 127.0.0.1:{first} failed: port is already allocated"));
        // The same number of another protocol is another port.
        assert_eq!(claim(Protocol::Udp, ip, Some((first, first))).unwrap().0, first);
    }
}
