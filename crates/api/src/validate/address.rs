//! IP addresses and CIDRs.
//!
//! Old fields of the API take every form of an address, new ones only the canonical one; neither takes leading zeros or IPv4
//! written as IPv6, which some programs would read differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Errors, Path};
use crate::status::quote;

/// An address with or without leading zeros in its octets.
fn sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let octets: Option<Vec<u8>> = text
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let significant = part.trim_start_matches('0');
            match (digits, significant) {
                (true, "") => Some(0),
                (true, significant) => significant.parse().ok(),
                (false, _) => None,
            }
        })
        .collect();
    match octets.as_deref() {
        Some(&[a, b, c, d]) => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => None,
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An address in an old field. Addresses that the old object had are taken as they are.
pub fn ip(path: &Path<'_>, text: &str, old: &[&str], errors: &mut Errors) {
    if !old.contains(&text) {
        parsed(path, text, errors);
    }
}

fn parsed(path: &Path<'_>, text: &str, errors: &mut Errors) -> Option<IpAddr> {
    let Some(address) = sloppy(text) else {
        errors.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        errors.invalid(path, text, "must not have leading 0s");
        return None;
    }
    if is_mapped(address) {
        errors.invalid(path, text, "must not be an IPv4-mapped IPv6 address");
        return None;
    }
    Some(address)
}

/// An address in a new field: in canonical form.
pub fn canonical_ip(path: &Path<'_>, text: &str, errors: &mut Errors) {
    if let Some(address) = parsed(path, text, errors) {
        let canonical = address.to_string();
        if canonical != text {
            errors.invalid(path, text, format!("must be in canonical form ({})", quote(&canonical)));
        }
    }
}

/// A network in an old field.
pub fn cidr(path: &Path<'_>, text: &str, old: &[&str], errors: &mut Errors) {
    if !old.contains(&text) {
        parsed_cidr(path, text, errors);
    }
}

/// A network in a new field: in canonical form.
pub fn canonical_cidr(path: &Path<'_>, text: &str, errors: &mut Errors) {
    if let Some((address, length)) = parsed_cidr(path, text, errors) {
        let canonical = format!("{address}/{length}");
        if canonical != text {
            errors.invalid(path, text, format!("must be in canonical form ({})", quote(&canonical)));
        }
    }
}

fn parsed_cidr(path: &Path<'_>, text: &str, errors: &mut Errors) -> Option<(IpAddr, u32)> {
    let parts = text.split_once('/').and_then(|(address, length)| {
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let address = sloppy(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse::<u32>().ok().filter(|length| digits && *length <= most)?;
        Some((address, length))
    });
    let Some((address, length)) = parts else {
        errors.invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return None;
    };
    let (address_text, length_text) = text.split_once('/').unwrap_or((text, ""));
    let leading = length_text.len() > 1 && length_text.starts_with('0');
    if address_text.parse::<IpAddr>().is_err() || leading {
        errors.invalid(path, text, "must not have leading 0s in IP or prefix length");
        return None;
    }
    if is_mapped(address) {
        errors.invalid(path, text, "must not have an IPv4-mapped IPv6 address");
        return None;
    }
    if masked(address, length) != address {
        errors.invalid(path, text, "must not have bits set beyond the prefix length");
        return None;
    }
    Some((address, length))
}

fn masked(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

/// A network that is known to be well-formed.
pub fn network(text: &str) -> Option<(IpAddr, u32)> {
    let mut errors = Errors::new();
    parsed_cidr(&Path::ROOT, text, &mut errors)
}

/// Whether a network holds another address or network of the same family.
pub fn contains(outer: (IpAddr, u32), inner: (IpAddr, u32)) -> bool {
    outer.0.is_ipv4() == inner.0.is_ipv4() && inner.1 >= outer.1 && masked(inner.0, outer.1) == outer.0
}

/// An address that something in the cluster can be reached at: not the machine itself, not its link.
pub fn endpoint(path: &Path<'_>, text: &str, errors: &mut Errors) {
    let Some(address) = sloppy(text) else {
        errors.invalid(path, text, "must be a valid IP address");
        return;
    };
    let (unspecified, loopback, link_local, link_local_multicast) = match address {
        IpAddr::V4(address) => (
            address.is_unspecified(),
            address.is_loopback(),
            address.is_link_local(),
            address.octets()[..3] == [224, 0, 0],
        ),
        IpAddr::V6(address) => (
            address.is_unspecified(),
            address.is_loopback(),
            address.is_unicast_link_local(),
            address.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if unspecified {
        errors.invalid(path, text, "may not be unspecified (0.0.0.0 or ::)");
    }
    if loopback {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
