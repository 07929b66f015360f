//! Address ranges and transport protocols, as the rest of the crate takes and gives them.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of IPv4 addresses, such as `10.42.0.0/16`. The host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// A text that is no range of IPv4 addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 range such as 10.42.0.0/16")]
pub struct CidrError(pub String);

impl Cidr {
    /// The range of `prefix` leading bits that holds `address`; `None` when `prefix` is more than 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 {
            return None;
        }
        let range = Self { address, prefix };
        Some(Self { address: Ipv4Addr::from_bits(address.to_bits() & range.mask().to_bits()), prefix })
    }

    /// The lowest address.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits all addresses share, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// Whether `address` is one of the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.address.to_bits()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            if prefix.len() > 2 || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A range of IPv6 addresses, such as `fd00:1::/64`. The host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr6 {
    address: Ipv6Addr,
    prefix: u8,
}

/// A text that is no range of IPv6 addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv6 range such as fd00:1::/64")]
pub struct Cidr6Error(pub String);

impl Cidr6 {
    /// The range of `prefix` leading bits that holds `address`; `None` when `prefix` is more than 128.
    pub fn new(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        if prefix > 128 {
            return None;
        }
        let range = Self { address, prefix };
        Some(Self { address: Ipv6Addr::from_bits(address.to_bits() & range.mask().to_bits()), prefix })
    }

    /// The lowest address.
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// The highest address.
    pub fn last(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() | !self.mask().to_bits())
    }

    /// How many leading bits all addresses share, 0 to 128.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bits that all addresses share.
    pub fn mask(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// Whether `address` is one of the range.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.address.to_bits()
    }
}

impl FromStr for Cidr6 {
    type Err = Cidr6Error;

    fn from_str(text: &str) -> Result<Self, Cidr6Error> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            if prefix.len() > 3 || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            Cidr6::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| Cidr6Error(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A transport protocol that services and host ports are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of a number in the IP header, if it is one of ours.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_and_written() {
        for (text, want) in [
            ("10.42.0.0/16", Some("10.42.0.0/16")),
            ("10.42.3.4/16", Some("10.42.0.0/16")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("1.2.3.4/32", Some("1.2.3.4/32")),
            ("1.2.3.4", None),
            ("1.2.3.4/33", None),
            ("1.2.3.4/+8", None),
            ("1.2.3.4/008", None),
            ("1.2.3/8", None),
            ("fd00::/8", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Cidr>().ok().map(|range| range.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_range_holds_its_addresses() {
        for (range, address, want) in [
            ("10.42.0.0/16", "10.42.255.255", true),
            ("10.42.0.0/16", "10.43.0.0", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), want, "{range} {address}");
        }
    }

    #[test]
    fn a_range_of_the_larger_family_is_read_written_and_holds_its_addresses() {
        for (text, want, last) in [
            ("fd00:1::7/64", "fd00:1::/64", "fd00:1::ffff:ffff:ffff:ffff"),
            ("::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::1/128", "fe80::1/128", "fe80::1"),
        ] {
            let range: Cidr6 = text.parse().unwrap();
            assert_eq!((range.to_string().as_str(), range.last().to_string().as_str()), (want, last), "{text}");
            assert!(range.contains(range.address()) && range.contains(range.last()), "{text}");
        }
        assert!(!"fd00:1::/64".parse::<Cidr6>().unwrap().contains("fd00:1:0:1::".parse().unwrap()));
        for wrong in ["fd00::", "fd00::/129", "fd00::/+8", "10.0.0.0/8", "", "fd00::/0064"] {
            assert!(wrong.parse::<Cidr6>().is_err(), "{wrong}");
        }
    }
}
