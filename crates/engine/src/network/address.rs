//! Which addresses networks and containers get.

use std::{collections::HashSet, net::Ipv4Addr};

use ::network::Cidr;

use crate::error::{Error, Result};

/// Networks that are given out by themselves: upstream's.
fn pools() -> impl Iterator<Item = Cidr> {
    let of = |a: u8, b: u8, c: u8, prefix: u8| Cidr::new(Ipv4Addr::new(a, b, c, 0), prefix);
    let large = (17..32).filter_map(move |second| of(172, second, 0, 16));
    let small = (0..16).filter_map(move |step| of(192, 168, step * 16, 20));
    large.chain(small)
}

/// Whether two networks share addresses.
pub(super) fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

/// Reads `ADDRESS/BITS`; host bits are dropped.
pub(super) fn subnet(text: &str) -> Result<Cidr> {
    let bad = || Error::invalid(format!("invalid subnet {text}: only IPv4 networks of 8 to 30 bits are supported"));
    let (address, bits) = text.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let bits: u8 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(bad)?;
    let mask = u32::MAX << (32 - bits);
    Cidr::new(Ipv4Addr::from(u32::from(address) & mask), bits).ok_or_else(bad)
}

/// Networks that the machine reaches by itself.
pub(super) fn of_machine() -> Vec<Cidr> {
    // The thread's own: the first thread may be in another namespace.
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    routes(&text)
}

/// Networks in the text of `/proc/net/route`, the default route left out.
fn routes(text: &str) -> Vec<Cidr> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (to, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
            if mask == 0 {
                return None;
            }
            Cidr::new(Ipv4Addr::from(to), u8::try_from(mask.count_ones()).ok()?)
        })
        .collect()
}

/// The first network of the pools that nobody has.
pub(super) fn free(own: &[Cidr], machine: &[Cidr]) -> Option<Cidr> {
    pools().find(|pool| !own.iter().chain(machine).any(|taken| overlap(*pool, *taken)))
}

/// The first address of a network that is not taken; not its first, which is the network's, nor its last.
pub(super) fn take(subnet: Cidr, range: Option<Cidr>, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let bounds = |cidr: Cidr| {
        let first = u32::from(cidr.address());
        (first, first | u32::MAX.checked_shr(cidr.prefix().into()).unwrap_or(0))
    };
    let (first, last) = bounds(subnet);
    let (low, high) = bounds(range.unwrap_or(subnet));
    (low.max(first + 1)..=high.min(last - 1)).map(Ipv4Addr::from).find(|ip| !taken.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_the_machine_uses_are_passed_over() {
        let machine = routes(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
             eth0 00000000 010011AC 0003 0 0 0 00000000 0 0 0\n\
             eth0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n",
        );
        assert_eq!(machine, [subnet("172.17.0.0/16").unwrap()]);
        let first = free(&[], &machine).unwrap();
        assert_eq!(first, subnet("172.18.0.0/16").unwrap());
        assert_eq!(free(&[first], &machine).unwrap(), subnet("172.19.0.0/16").unwrap());
        let all: Vec<Cidr> = pools().collect();
        assert!(free(&all, &[]).is_none());
    }

    #[test]
    fn addresses_are_given_from_the_range_and_never_the_edges() {
        let net = subnet("10.9.8.7/29").unwrap();
        assert_eq!(net, subnet("10.9.8.0/29").unwrap());
        let mut taken = HashSet::from([Ipv4Addr::new(10, 9, 8, 1)]);
        let mut given = Vec::new();
        while let Some(ip) = take(net, None, &taken) {
            taken.insert(ip);
            given.push(ip.octets()[3]);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        let range = subnet("10.9.8.4/30").ok();
        assert_eq!(take(net, range, &HashSet::new()), Some(Ipv4Addr::new(10, 9, 8, 4)));
        assert!(subnet("10.0.0.0/31").is_err() && subnet("x/8").is_err() && subnet("::1/64").is_err());
    }
}
