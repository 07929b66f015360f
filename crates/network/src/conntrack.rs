//! Forgets connections of UDP that lead where they should not lead any more.
//!
//! A UDP flow that goes on keeps its entry, and with it its old endpoint, for ever; the kernel does not look at the
//! service again. TCP needs nothing of the kind: a dead endpoint ends the connection.
//!
//! The numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::netlink::{ACK, DUMP, Request, Socket, attribute, attributes};

const MSG_GET: u16 = 1;
const MSG_DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE: u16 = 2;
const PROTO_DESTINATION: u16 = 3;
const FILTER_ORIGINAL_FLAGS: u16 = 1;
/// Only entries whose protocol is that of the tuple given.
const FILTER_BY_PROTOCOL: u32 = 1 << 3;
const UDP: u8 = 17;
/// Deletions sent at once.
const CHUNK: usize = 256;

/// A UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where the client sent it.
    pub(crate) to: SocketAddrV4,
    /// Who answers it: the same, unless it was translated.
    pub(crate) answered_by: SocketAddrV4,
}

struct Entry {
    flow: Flow,
    found: Found,
}

/// What names an entry, to remove it.
struct Found {
    original: Vec<u8>,
    reply: Vec<u8>,
    id: Option<Vec<u8>>,
}

fn kind(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | message
}

/// Forgets every UDP flow for which `stale` holds, and says how many there were.
pub(crate) fn forget(socket: &mut Socket, stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    forget_of(socket, libc::AF_INET, |object| entry(object).filter(|entry| stale(&entry.flow)).map(|entry| entry.found))
}

/// Forgets every UDP flow of the larger family that was sent to one of `ports`, and says how many there were.
pub(crate) fn forget6(socket: &mut Socket, ports: &HashSet<u16>) -> io::Result<usize> {
    let stale = |object: &[u8]| {
        let found = found(object)?;
        let port = attribute(attribute(&found.original, TUPLE_PROTO)?, PROTO_DESTINATION)?.try_into().ok()?;
        ports.contains(&u16::from_be_bytes(port)).then_some(found)
    };
    forget_of(socket, libc::AF_INET6, stale)
}

fn forget_of(socket: &mut Socket, family: i32, stale: impl Fn(&[u8]) -> Option<Found>) -> io::Result<usize> {
    let header = [family as u8, libc::NFNETLINK_V0 as u8, 0, 0];
    let request = || {
        let mut request = Request::default();
        request.message(kind(MSG_GET), DUMP, &header);
        request.nest(TUPLE_ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTO, |proto| proto.attribute(PROTO_NUMBER, &[UDP]));
        });
        request.nest(FILTER, |filter| filter.u32(FILTER_ORIGINAL_FLAGS, FILTER_BY_PROTOCOL));
        request
    };
    let mut entries: Vec<Found> = socket.dump(request, |found: &mut Vec<Found>, object| found.extend(stale(object)))?;
    for entries in entries.chunks_mut(CHUNK) {
        let mut request = Request::default();
        for entry in entries {
            request.message(kind(MSG_DELETE), ACK, &header);
            request.attribute(TUPLE_ORIGINAL | libc::NLA_F_NESTED as u16, &entry.original);
            if let Some(id) = &entry.id {
                request.attribute(ID, id);
            }
        }
        for answer in socket.exchange(request)? {
            match answer.refusal {
                Some(refusal) if !refusal.is(libc::ENOENT) => return Err(refusal.into_error()),
                _ => {}
            }
        }
    }
    Ok(entries.len())
}

/// An entry of UDP.
fn found(object: &[u8]) -> Option<Found> {
    let rest = object.get(4..)?;
    let (mut original, mut reply, mut id) = (None, None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            TUPLE_ORIGINAL => original = Some(value),
            TUPLE_REPLY => reply = Some(value),
            ID => id = Some(value.to_vec()),
            _ => {}
        }
    }
    let (original, reply) = (original?.to_vec(), reply?.to_vec());
    if attribute(attribute(&original, TUPLE_PROTO)?, PROTO_NUMBER)? != [UDP] {
        return None;
    }
    Some(Found { original, reply, id })
}

fn entry(object: &[u8]) -> Option<Entry> {
    let found = found(object)?;
    let flow = Flow {
        to: end(&found.original, IP_DESTINATION, PROTO_DESTINATION)?,
        answered_by: end(&found.reply, IP_SOURCE, PROTO_SOURCE)?,
    };
    Some(Entry { flow, found })
}

fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let address: [u8; 4] = attribute(attribute(tuple, TUPLE_IP)?, address)?.try_into().ok()?;
    let port: [u8; 2] = attribute(attribute(tuple, TUPLE_PROTO)?, port)?.try_into().ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes(port)))
}
