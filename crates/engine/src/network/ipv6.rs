//! What networks have of IPv6, beside their addresses of IPv4: a subnet that somebody chose, or one of this machine's own.
//!
//! Addresses that nobody chose are unique local ones: `fd`, 40 bits drawn once for all networks of the machine, then a number.
//! <https://datatracker.ietf.org/doc/html/rfc4193>, <https://docs.docker.com/engine/daemon/ipv6/>

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv6Addr,
};

use ::network::{Bridge6, Cidr6};
use serde::{Deserialize, Serialize};

use super::{IpamConfig, Network};
use crate::{
    Engine,
    error::{Error, Result},
    model::record::Endpoint,
};

/// A network's addresses of IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipv6 {
    /// `ADDRESS/BITS`.
    pub subnet: String,
    /// Addresses given out by itself, if not all of the subnet.
    pub range: String,
    /// The machine's address in it.
    pub gateway: Option<Ipv6Addr>,
    /// Addresses never given out, by name.
    pub kept: BTreeMap<String, Ipv6Addr>,
    /// Whether somebody chose the subnet.
    pub chosen: bool,
}

impl Ipv6 {
    /// Its addresses.
    pub fn cidr(&self) -> Option<Cidr6> {
        self.subnet.parse().ok()
    }

    pub(super) fn bridge(&self) -> Option<Bridge6> {
        Some(Bridge6 { gateway: self.gateway?, subnet: self.cidr()? })
    }
}

/// Reads `ADDRESS/BITS`; host bits are dropped.
fn subnet(text: &str) -> Result<Cidr6> {
    let bad = || Error::invalid(format!("invalid subnet {text}: only IPv6 networks of 8 to 126 bits are supported"));
    let range: Cidr6 = text.parse().map_err(|_| bad())?;
    let first = range.address();
    if !(8..=126).contains(&range.prefix()) || first.is_multicast() || first.is_loopback() || first.is_unspecified() {
        return Err(bad());
    }
    Ok(range)
}

fn overlap(one: Cidr6, other: Cidr6) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

/// The first network of 64 bits below the 40 that are the machine's own which nobody has.
fn free(machine: [u8; 5], own: &[Cidr6]) -> Option<Cidr6> {
    let [a, b, c, d, e] = machine.map(u16::from);
    let numbered = |number: u16| Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, number, 0, 0, 0, 0);
    let home = Cidr6::new(numbered(0), 48)?;
    // First and last number of what others have.
    let mut taken: Vec<(u16, u16)> = own
        .iter()
        .filter(|other| overlap(**other, home))
        .map(|other| match other.prefix() {
            ..=48 => (0, u16::MAX),
            prefix => {
                let first = other.address().segments()[3];
                (first, first | u16::MAX.checked_shr(u32::from(prefix) - 48).unwrap_or(0))
            }
        })
        .collect();
    taken.sort_unstable();
    let mut next = 0_u32;
    for (first, last) in taken {
        if u32::from(first) > next {
            break;
        }
        next = next.max(u32::from(last) + 1);
    }
    Cidr6::new(numbered(u16::try_from(next).ok()?), 64)
}

/// The 40 bits of an address that nobody chose.
fn machine_of(subnet: Cidr6) -> [u8; 5] {
    let octets = subnet.address().octets();
    [octets[1], octets[2], octets[3], octets[4], octets[5]]
}

/// Gives a network its addresses: those asked for, or free ones. `others` are all networks.
pub(super) fn choose(others: &[&Ipv6], wanted: &IpamConfig) -> Result<Ipv6> {
    let own: Vec<Cidr6> = others.iter().filter_map(|other| other.cidr()).collect();
    let mut chosen = Ipv6 { chosen: !wanted.subnet.is_empty(), ..Ipv6::default() };
    let subnet_of = if chosen.chosen {
        let subnet = subnet(&wanted.subnet)?;
        if own.iter().any(|other| overlap(*other, subnet)) {
            return Err(Error::forbidden("Pool overlaps with other one on this address space"));
        }
        subnet
    } else {
        let machine = others.iter().find(|other| !other.chosen).and_then(|other| other.cidr()).map(machine_of);
        let machine = match machine {
            Some(machine) => machine,
            None => drawn(&runtime::record::new_id()?),
        };
        free(machine, &own).ok_or_else(|| Error::failed("all predefined address pools have been fully subnetted"))?
    };
    let inside = |text: &str| -> Result<Ipv6Addr> {
        let text = text.split('/').next().unwrap_or_default();
        let ip: Ipv6Addr = text.parse().map_err(|_| Error::invalid(format!("invalid address {text}")))?;
        if subnet_of.contains(ip) {
            Ok(ip)
        } else {
            Err(Error::invalid(format!("no matching subnet for address {ip}")))
        }
    };
    let mut base = subnet_of;
    if !wanted.ip_range.is_empty() {
        let range = subnet(&wanted.ip_range)?;
        if !subnet_of.contains(range.address()) || range.prefix() < subnet_of.prefix() {
            return Err(Error::invalid(format!("no matching subnet for range {}", wanted.ip_range)));
        }
        chosen.range = range.to_string();
        base = range;
    }
    chosen.gateway = Some(match wanted.gateway.as_str() {
        "" => Ipv6Addr::from_bits(base.address().to_bits() | 1),
        text => inside(text)?,
    });
    for (name, ip) in &wanted.auxiliary_addresses {
        chosen.kept.insert(name.clone(), inside(ip)?);
    }
    chosen.subnet = subnet_of.to_string();
    Ok(chosen)
}

/// 40 bits of a random number in hexadecimal digits.
fn drawn(id: &str) -> [u8; 5] {
    let mut bytes = [0; 5];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = id.get(at * 2..at * 2 + 2).and_then(|text| u8::from_str_radix(text, 16).ok()).unwrap_or_default();
    }
    bytes
}

/// The first address of a network that is not taken; not its first, which stands for its routers.
fn first_free(subnet: Cidr6, range: Option<Cidr6>, taken: &HashSet<Ipv6Addr>) -> Option<Ipv6Addr> {
    let from = range.unwrap_or(subnet);
    let low = from.address().to_bits().max(subnet.address().to_bits() + 1);
    (low..=from.last().to_bits()).map(Ipv6Addr::from_bits).find(|ip| !taken.contains(ip))
}

/// The address that a container asked for, else a free one; none where the network has none.
pub(super) fn take(
    engine: &Engine,
    network: &Network,
    container: &str,
    wanted: &Endpoint,
) -> Result<Option<(Ipv6Addr, u8)>> {
    let Some(ipv6) = &network.ipv6 else { return Ok(None) };
    let subnet = ipv6.cidr().ok_or_else(|| Error::failed("a network without addresses"))?;
    let known = wanted.global_ipv6_address.parse::<Ipv6Addr>().ok().filter(|ip| subnet.contains(*ip));
    if let Some(ip) = known {
        return Ok(Some((ip, subnet.prefix())));
    }
    let mut taken: HashSet<Ipv6Addr> = ipv6.kept.values().copied().chain(ipv6.gateway).collect();
    let (mut used, mut reserved) = (HashSet::new(), HashSet::new());
    for other in engine.containers().all().iter().filter(|other| other.id != container) {
        other.look(|record| {
            for endpoint in record.networks.values().filter(|endpoint| endpoint.network_id == network.id) {
                used.extend(endpoint.global_ipv6_address.parse::<Ipv6Addr>().ok());
                reserved.extend(asked(endpoint));
            }
        });
    }
    if let Some(asked) = asked(wanted) {
        if used.contains(&asked) || taken.contains(&asked) {
            return Err(Error::forbidden("Address already in use"));
        }
        return Ok(Some((asked, subnet.prefix())));
    }
    taken.extend(used);
    taken.extend(reserved);
    let ip = first_free(subnet, ipv6.range.parse().ok(), &taken);
    let none =
        || Error::failed(format!("no available IPv6 addresses on this network's address pools: {}", network.name));
    Ok(Some((ip.ok_or_else(none)?, subnet.prefix())))
}

fn asked(endpoint: &Endpoint) -> Option<Ipv6Addr> {
    endpoint.ipam_config.as_ref().and_then(|ipam| ipam.ipv6.parse().ok())
}

/// Whether a container can have the address that it asks for.
pub(super) fn check(network: &Network, asked: &str) -> Result<()> {
    let ip: Ipv6Addr = asked.parse().map_err(|_| Error::invalid(format!("invalid IPv6 address: {asked}")))?;
    let Some(ipv6) = &network.ipv6 else {
        return Err(Error::invalid(format!("network {} has no IPv6 addresses: make it with --ipv6", network.name)));
    };
    if !ipv6.chosen {
        return Err(Error::invalid(
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ));
    }
    if !ipv6.cidr().is_some_and(|subnet| subnet.contains(ip)) {
        return Err(Error::invalid(format!("no configured subnet contains IP address {ip}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str, gateway: &str, range: &str) -> IpamConfig {
        IpamConfig { subnet: subnet.into(), gateway: gateway.into(), ip_range: range.into(), ..IpamConfig::default() }
    }

    #[test]
    fn networks_that_nobody_chose_share_forty_bits_and_differ_in_the_next() {
        let first = choose(&[], &IpamConfig::default()).unwrap();
        let second = choose(&[&first], &IpamConfig::default()).unwrap();
        let (one, other) = (first.cidr().unwrap(), second.cidr().unwrap());
        assert_eq!((one.prefix(), machine_of(one)), (64, machine_of(other)));
        assert!(one.address().octets()[0] == 0xfd && !overlap(one, other), "{one} {other}");
        assert_eq!(first.gateway.unwrap().to_bits(), one.address().to_bits() + 1);
        assert!(!first.chosen);
        let all: Vec<Cidr6> = (0..=u16::MAX)
            .filter_map(|at| Cidr6::new(Ipv6Addr::new(0xfd01, 0x203, 0x405, at, 0, 0, 0, 0), 64))
            .collect();
        assert_eq!(free([1, 2, 3, 4, 5], &all), None);
        assert_eq!(free([1, 2, 3, 4, 5], &all[..7]), Some(all[7]));
        let taken = |text: &str| free([1, 2, 3, 4, 5], &[text.parse().unwrap()]);
        assert_eq!(taken("fd01:203:405::/49"), Some(all[0x8000]));
        assert_eq!((taken("fd01:203:405::/48"), taken("fd00::/8")), (None, None));
        assert_eq!((taken("fd01:203:405::/80"), taken("fd02::/48")), (Some(all[1]), Some(all[0])));
    }

    #[test]
    fn what_was_asked_for_lies_in_the_subnet() {
        let chosen = choose(&[], &config("fd00:1::9/64", "", "")).unwrap();
        assert_eq!((chosen.subnet.as_str(), chosen.gateway), ("fd00:1::/64", "fd00:1::1".parse().ok()));
        let chosen = choose(&[], &config("fd00:1::/64", "fd00:1::fe", "fd00:1::100/120")).unwrap();
        assert_eq!((chosen.range.as_str(), chosen.gateway), ("fd00:1::100/120", "fd00:1::fe".parse().ok()));
        for wrong in [
            config("fd00:1::/127", "", ""),
            config("ff02::/64", "", ""),
            config("10.0.0.0/8", "", ""),
            config("fd00:1::/64", "fd00:2::1", ""),
            config("fd00:1::/64", "", "fd00:2::/80"),
            config("fd00:1::/64", "", "fd00::/16"),
        ] {
            assert!(choose(&[], &wrong).is_err(), "{wrong:?}");
        }
        assert!(choose(&[&chosen], &config("fd00::/16", "", "")).is_err());
    }

    #[test]
    fn addresses_are_given_from_the_range_and_never_the_first() {
        let net: Cidr6 = "fd00::/126".parse().unwrap();
        let mut taken = HashSet::from(["fd00::1".parse().unwrap()]);
        let mut given = Vec::new();
        while let Some(ip) = first_free(net, None, &taken) {
            taken.insert(ip);
            given.push(ip.to_string());
        }
        assert_eq!(given, ["fd00::2", "fd00::3"]);
        let wide: Cidr6 = "fd00::/64".parse().unwrap();
        let range = "fd00::1:0/112".parse().ok();
        assert_eq!(first_free(wide, range, &HashSet::new()), "fd00::1:0".parse().ok());
    }
}
