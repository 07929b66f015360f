//! Which pod has which address of the node's range.
//!
//! The record of a sandbox names its address before anything uses it, so that the records alone tell after a crash what is
//! taken. Addresses are handed out round and round: one that was given back is used again as late as possible, because
//! others may still talk to its last owner.

use std::{collections::HashSet, net::Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};

/// A range of addresses, `10.42.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    size: u32,
}

impl Range {
    /// Reads `ADDRESS/BITS`.
    pub fn parse(text: &str) -> Result<Self> {
        let (address, bits) =
            text.split_once('/').with_context(|| format!("pod range {text:?} has no prefix length"))?;
        let address: Ipv4Addr = address.parse().with_context(|| format!("pod range {text:?}"))?;
        let bits: u32 = bits.parse().with_context(|| format!("pod range {text:?}"))?;
        ensure!((8..=30).contains(&bits), "pod range {text:?}: prefix length is not in 8 to 30");
        let size = 1u32 << (32 - bits);
        Ok(Self { base: u32::from(address) & !(size - 1), size })
    }

    /// Whether `ip` lies in the range.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip).checked_sub(self.base).is_some_and(|offset| offset < self.size)
    }
}

/// The addresses of a range and which are taken.
#[derive(Debug)]
pub struct Pool {
    range: Range,
    taken: HashSet<Ipv4Addr>,
    next: u32,
}

impl Pool {
    /// A pool of which `taken` are in use. Those outside of the range (it was changed) are remembered too, so that giving
    /// them back is no special case.
    pub fn new(range: Range, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let taken: HashSet<_> = taken.into_iter().collect();
        let last = taken.iter().filter(|ip| range.contains(**ip)).map(|ip| u32::from(*ip) - range.base).max();
        Self { range, taken, next: last.map_or(2, |last| last + 1) }
    }

    /// Takes an address. The network's own, the first (a conventional gateway) and the last are never given.
    pub fn take(&mut self) -> Result<Ipv4Addr> {
        let first = if self.range.size > 4 { 2 } else { 1 };
        let last = self.range.size - 2;
        for _ in first..=last {
            if self.next < first || self.next > last {
                self.next = first;
            }
            let ip = Ipv4Addr::from(self.range.base + self.next);
            self.next += 1;
            if self.taken.insert(ip) {
                return Ok(ip);
            }
        }
        bail!("no free address in the node's pod range of {} addresses", self.range.size)
    }

    /// Gives an address back.
    pub fn release(&mut self, ip: Ipv4Addr) {
        self.taken.remove(&ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str, taken: &[[u8; 4]]) -> Pool {
        Pool::new(Range::parse(range).unwrap(), taken.iter().map(|octets| Ipv4Addr::from(*octets)))
    }

    #[test]
    fn addresses_are_reused_as_late_as_possible() {
        let mut pool = pool("10.42.0.0/29", &[]);
        let first = pool.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 42, 0, 2));
        pool.release(first);
        let rest: Vec<_> = (0..4).map(|_| pool.take().unwrap().octets()[3]).collect();
        assert_eq!(rest, [3, 4, 5, 6]);
        assert_eq!(pool.take().unwrap(), first);
        assert!(pool.take().is_err());
    }

    #[test]
    fn addresses_taken_before_a_restart_stay_taken() {
        let mut pool = pool("10.42.0.0/29", &[[10, 42, 0, 2], [10, 42, 0, 3], [192, 168, 0, 1]]);
        assert_eq!(pool.take().unwrap(), Ipv4Addr::new(10, 42, 0, 4));
    }

    #[test]
    fn ranges_are_checked() {
        assert!(Range::parse("10.42.0.0").is_err());
        assert!(Range::parse("10.42.0.0/31").is_err());
        assert!(Range::parse("10.42.0.300/24").is_err());
        assert!(Range::parse("10.42.3.7/22").unwrap().contains(Ipv4Addr::new(10, 42, 0, 1)));
    }
}
