//! The expressions that rules are made of. Each loads into, computes with, or acts on 4-byte registers.

use std::time::Duration;

use super::{DATA_VALUE, LIST_ELEM, Verdict};
use crate::netlink::Request;

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
/// `RTN_LOCAL`: an address of this machine.
const LOCAL: u32 = 2;
const NAT_SNAT: u32 = 0;
const NAT_DNAT: u32 = 1;
/// Choose the new source port at random (`NF_NAT_RANGE_PROTO_RANDOM_FULLY`).
const FULLY_RANDOM: u32 = 0x10;
const REJECT_ICMP: u32 = 0;
const REJECT_RESET: u32 = 1;
const PORT_UNREACHABLE: u8 = 3;
const NUMGEN_RANDOM: u32 = 1;
const DYNSET_UPDATE: u32 = 1;

/// A register of 4 bytes, 0 to 15. What is longer fills those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg(pub(crate) u32);

impl Reg {
    fn number(self) -> u32 {
        8 + self.0
    }
}

/// A property of the packet's connection. Values are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CtKey {
    State = 0,
    Status = 2,
    /// The destination port of the first packet.
    OriginalPort = 12,
    /// The destination address of the first packet.
    OriginalAddress = 20,
}

/// Which address [`Expressions::local`] asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FibType {
    Source,
    Destination,
}

/// Writes the expressions of a rule, in order. A comparison or lookup that fails ends the rule.
pub(crate) struct Expressions<'a>(pub(super) &'a mut Request);

impl Expressions<'_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Request)) -> &mut Self {
        self.0.nest(LIST_ELEM, |element| {
            element.text(EXPR_NAME, name);
            element.nest(EXPR_DATA, data);
        });
        self
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, to: Reg) -> &mut Self {
        self.expression("payload", |data| {
            data.be32(1, to.number());
            data.be32(2, base);
            data.be32(3, offset);
            data.be32(4, length);
        })
    }

    /// Loads the source address.
    pub(crate) fn source(&mut self, to: Reg) -> &mut Self {
        self.payload(NETWORK_HEADER, 12, 4, to)
    }

    /// Loads the destination address.
    pub(crate) fn destination(&mut self, to: Reg) -> &mut Self {
        self.payload(NETWORK_HEADER, 16, 4, to)
    }

    /// Loads the source address of the larger family: 16 bytes, 4 registers.
    pub(crate) fn source6(&mut self, to: Reg) -> &mut Self {
        self.payload(NETWORK_HEADER, 8, 16, to)
    }

    /// Loads the destination address of the larger family: 16 bytes, 4 registers.
    pub(crate) fn destination6(&mut self, to: Reg) -> &mut Self {
        self.payload(NETWORK_HEADER, 24, 16, to)
    }

    /// Loads the destination port, which TCP, UDP and SCTP have at the same place.
    pub(crate) fn port(&mut self, to: Reg) -> &mut Self {
        self.payload(TRANSPORT_HEADER, 2, 2, to)
    }

    fn meta(&mut self, key: u32, to: Reg) -> &mut Self {
        self.expression("meta", |data| {
            data.be32(2, key);
            data.be32(1, to.number());
        })
    }

    /// Loads the transport protocol.
    pub(crate) fn protocol(&mut self, to: Reg) -> &mut Self {
        self.meta(META_L4PROTO, to)
    }

    /// Loads the name of the link that the packet came in by: 16 bytes, 4 registers.
    pub(crate) fn input_name(&mut self, to: Reg) -> &mut Self {
        self.meta(META_IIFNAME, to)
    }

    /// Loads the name of the link that the packet leaves by: 16 bytes, 4 registers.
    pub(crate) fn output_name(&mut self, to: Reg) -> &mut Self {
        self.meta(META_OIFNAME, to)
    }

    /// Counts packets and bytes.
    pub(crate) fn counter(&mut self) -> &mut Self {
        self.expression("counter", |_| {})
    }

    /// Loads a property of the connection.
    pub(crate) fn ct(&mut self, key: CtKey, to: Reg) -> &mut Self {
        self.expression("ct", |data| {
            data.be32(2, key as u32);
            data.be32(1, to.number());
            if matches!(key, CtKey::OriginalAddress | CtKey::OriginalPort) {
                data.attribute(3, &[0]);
            }
        })
    }

    /// Goes on if the bits of `mask` that the register has are any (`want`) or none.
    pub(crate) fn bits(&mut self, register: Reg, mask: u32, want: bool) -> &mut Self {
        self.mask(register, &mask.to_ne_bytes());
        self.compare(register, if want { CMP_NEQ } else { CMP_EQ }, &[0; 4])
    }

    fn mask(&mut self, register: Reg, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |data| {
            data.be32(1, register.number());
            data.be32(2, register.number());
            data.be32(3, mask.len() as u32);
            data.nest(4, |value| value.attribute(DATA_VALUE, mask));
            data.nest(5, |value| value.attribute(DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    fn compare(&mut self, register: Reg, operator: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |data| {
            data.be32(1, register.number());
            data.be32(2, operator);
            data.nest(3, |inner| inner.attribute(DATA_VALUE, value));
        })
    }

    /// Goes on if the register begins with `value`.
    pub(crate) fn is(&mut self, register: Reg, value: &[u8]) -> &mut Self {
        self.compare(register, CMP_EQ, value)
    }

    /// Goes on if the register does not begin with `value`.
    pub(crate) fn is_not(&mut self, register: Reg, value: &[u8]) -> &mut Self {
        self.compare(register, CMP_NEQ, value)
    }

    /// Goes on if the address in the register is in `range` (`want`) or is not.
    pub(crate) fn within(&mut self, register: Reg, range: crate::Cidr, want: bool) -> &mut Self {
        self.mask(register, &range.mask().octets());
        self.compare(register, if want { CMP_EQ } else { CMP_NEQ }, &range.address().octets())
    }

    /// The same for the larger family, whose addresses fill 4 registers.
    pub(crate) fn within6(&mut self, register: Reg, range: crate::Cidr6, want: bool) -> &mut Self {
        self.mask(register, &range.mask().octets());
        self.compare(register, if want { CMP_EQ } else { CMP_NEQ }, &range.address().octets())
    }

    /// Goes on if the packet's address is one of this machine (`want`) or is not.
    pub(crate) fn local(&mut self, which: FibType, scratch: Reg, want: bool) -> &mut Self {
        self.expression("fib", |data| {
            data.be32(1, scratch.number());
            data.be32(2, FIB_RESULT_ADDRTYPE);
            data.be32(
                3,
                match which {
                    FibType::Source => FIB_SADDR,
                    FibType::Destination => FIB_DADDR,
                },
            );
        });
        self.compare(scratch, if want { CMP_EQ } else { CMP_NEQ }, &LOCAL.to_ne_bytes())
    }

    /// Goes on if the key that starts in `key` is in the set.
    pub(crate) fn lookup(&mut self, set: &str, key: Reg) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, set);
            data.be32(2, key.number());
        })
    }

    /// Goes on if the key that starts in `key` is not in the set.
    pub(crate) fn lookup_none(&mut self, set: &str, key: Reg) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, set);
            data.be32(2, key.number());
            data.be32(5, 1);
        })
    }

    /// Goes on if the key is in the map, and loads what it holds.
    pub(crate) fn map(&mut self, map: &str, key: Reg, to: Reg) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, map);
            data.be32(2, key.number());
            data.be32(3, to.number());
        })
    }

    /// Does what the map says about the key, if it is there.
    pub(crate) fn verdict_map(&mut self, map: &str, key: Reg) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, map);
            data.be32(2, key.number());
            data.be32(3, 0);
        })
    }

    /// Loads a random number from `offset` to `offset + count - 1`, in the machine's byte order.
    pub(crate) fn random(&mut self, count: u32, offset: u32, to: Reg) -> &mut Self {
        self.expression("numgen", |data| {
            data.be32(1, to.number());
            data.be32(2, count);
            data.be32(3, NUMGEN_RANDOM);
            data.be32(4, offset);
        })
    }

    /// Loads a constant.
    pub(crate) fn constant(&mut self, value: &[u8], to: Reg) -> &mut Self {
        self.expression("immediate", |data| {
            data.be32(1, to.number());
            data.nest(2, |inner| inner.attribute(DATA_VALUE, value));
        })
    }

    /// Adds a key to a dynamic set, or keeps it there, for `timeout` from now. The rule ends if the set is full.
    pub(crate) fn remember(&mut self, set: &str, key: Reg, timeout: Duration) -> &mut Self {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.expression("dynset", |data| {
            data.text(1, set);
            data.be32(3, DYNSET_UPDATE);
            data.be32(4, key.number());
            data.attribute(6, &milliseconds.to_be_bytes());
        })
    }

    /// Sends the connection to the address in one register and the port in the next.
    pub(crate) fn dnat(&mut self, address: Reg) -> &mut Self {
        self.expression("nat", |data| {
            data.be32(1, NAT_DNAT);
            data.be32(2, libc::NFPROTO_IPV4 as u32);
            data.be32(3, address.number());
            data.be32(5, Reg(address.0 + 1).number());
        })
    }

    /// Sends the connection to the address of the larger family in 4 registers and the port in the next.
    pub(crate) fn dnat6(&mut self, address: Reg) -> &mut Self {
        self.expression("nat", |data| {
            data.be32(1, NAT_DNAT);
            data.be32(2, libc::NFPROTO_IPV6 as u32);
            data.be32(3, address.number());
            data.be32(5, Reg(address.0 + 4).number());
        })
    }

    /// Gives the connection the source address in a register, and a random port.
    pub(crate) fn snat(&mut self, address: Reg) -> &mut Self {
        self.expression("nat", |data| {
            data.be32(1, NAT_SNAT);
            data.be32(2, libc::NFPROTO_IPV4 as u32);
            data.be32(3, address.number());
            data.be32(7, FULLY_RANDOM);
        })
    }

    /// Gives the connection the address of the link that it leaves by, and a random port.
    pub(crate) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |data| data.be32(1, FULLY_RANDOM))
    }

    /// Refuses with a TCP reset.
    pub(crate) fn reset(&mut self) -> &mut Self {
        self.expression("reject", |data| data.be32(1, REJECT_RESET))
    }

    /// Refuses with ICMP port unreachable.
    pub(crate) fn unreachable(&mut self) -> &mut Self {
        self.expression("reject", |data| {
            data.be32(1, REJECT_ICMP);
            data.attribute(2, &[PORT_UNREACHABLE]);
        })
    }

    /// Ends with a verdict.
    pub(crate) fn verdict(&mut self, verdict: &Verdict<'_>) -> &mut Self {
        self.expression("immediate", |data| {
            data.be32(1, 0);
            data.nest(2, |inner| verdict.write(inner));
        })
    }
}
