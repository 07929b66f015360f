//! Forgets connections of UDP that lead where they should not lead any more.
//!
//! A UDP flow that goes on keeps its entry, and with it its old endpoint, for ever; the kernel does not look at the
//! service again. TCP needs nothing of the kind: a dead endpoint ends the connection.
//!
//! The numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::{
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
    original: Vec<u8>,
    id: Option<Vec<u8>>,
}

fn kind(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | message
}

const HEADER: [u8; 4] = [libc::AF_INET as u8, libc::NFNETLINK_V0 as u8, 0, 0];

/// Forgets every UDP flow for which `stale` holds, and says how many there were.
pub(crate) fn forget(socket: &mut Socket, stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let request = || {
        let mut request = Request::default();
        request.message(kind(MSG_GET), DUMP, &HEADER);
        request.nest(TUPLE_ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTO, |proto| proto.attribute(PROTO_NUMBER, &[UDP]));
        });
        request.nest(FILTER, |filter| filter.u32(FILTER_ORIGINAL_FLAGS, FILTER_BY_PROTOCOL));
        request
    };
    let mut entries: Vec<Entry> = socket.dump(request, |found: &mut Vec<Entry>, object| {
        found.extend(entry(object).filter(|entry| stale(&entry.flow)));
    })?;
    for entries in entries.chunks_mut(CHUNK) {
        let mut request = Request::default();
        for entry in entries {
            request.message(kind(MSG_DELETE), ACK, &HEADER);
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

fn entry(object: &[u8]) -> Option<Entry> {
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
    let (original, reply) = (original?, reply?);
    if attribute(attribute(original, TUPLE_PROTO)?, PROTO_NUMBER)? != [UDP] {
        return None;
    }
    let flow = Flow {
        to: end(original, IP_DESTINATION, PROTO_DESTINATION)?,
        answered_by: end(reply, IP_SOURCE, PROTO_SOURCE)?,
    };
    Some(Entry { flow, original: original.to_vec(), id })
}

fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let address: [u8; 4] = attribute(attribute(tuple, TUPLE_IP)?, address)?.try_into().ok()?;
    let port: [u8; 2] = attribute(attribute(tuple, TUPLE_PROTO)?, port)?.try_into().ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes(port)))
}
