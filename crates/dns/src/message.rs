//! Queries as they come in and answers as they go out.
//!
//! Follows [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035) and, for sizes and flags,
//! [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891). What is no query is not answered; what is a query and cannot be
//! used is answered with the reason.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
    serialize::binary::{BinEncodable, BinEncoder},
};

/// What we accept by UDP and say so, and the most that we send: what passes any path unfragmented.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// What a client accepts by UDP if it does not say.
const PLAIN_PAYLOAD: u16 = 512;
/// The length of an OPT record without options.
const OPT_LENGTH: u16 = 11;

/// How a query came, and how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A query that can be answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    metadata: Metadata,
    pub(crate) question: Query,
    edns: Option<Extended>,
    transport: Transport,
}

#[derive(Clone, Copy, Debug)]
struct Extended {
    payload: u16,
    dnssec_ok: bool,
}

impl Request {
    /// How it came.
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether the client wants signatures.
    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the client wants answers that did not pass validation.
    pub(crate) fn checking_disabled(&self) -> bool {
        self.metadata.checking_disabled
    }

    /// Whether the client allows that others are asked.
    pub(crate) fn recursion_desired(&self) -> bool {
        self.metadata.recursion_desired
    }
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Reply {
    /// An answer without records.
    pub(crate) fn empty(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            authentic: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Query(Box<Request>),
    /// It cannot be used; these bytes say why.
    Unusable(Vec<u8>),
    /// It is no query.
    Nothing,
}

/// Reads what came in. Never fails.
pub(crate) fn read(bytes: &[u8], transport: Transport) -> Incoming {
    // An answer to an answer could go back and forth for ever.
    let Some(&[id_high, id_low, flags, ..]) = bytes.first_chunk::<12>() else { return Incoming::Nothing };
    if flags & 0x80 != 0 {
        return Incoming::Nothing;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let op_code = OpCode::from_u8(flags >> 3 & 0xf);
    let unusable = |code| {
        let error = Message::error_msg(id, op_code, code);
        error.to_vec().map_or(Incoming::Nothing, Incoming::Unusable)
    };
    if op_code != OpCode::Query {
        return unusable(ResponseCode::NotImp);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return unusable(ResponseCode::FormErr) };
    if message.queries.len() != 1 || message.metadata.message_type != MessageType::Query {
        return unusable(ResponseCode::FormErr);
    }
    let Some(question) = message.queries.pop() else { return unusable(ResponseCode::FormErr) };
    let edns = message.edns.as_ref();
    let version = edns.map_or(0, Edns::version);
    let edns = edns.map(|edns| Extended { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok });
    let request = Request { metadata: message.metadata, question, edns, transport };
    if version != 0 {
        return Incoming::Unusable(write(&request, Reply::empty(ResponseCode::BADVERS)));
    }
    let class = request.question.query_class;
    let kind = request.question.query_type;
    if class != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return Incoming::Unusable(write(&request, Reply::empty(ResponseCode::Refused)));
    }
    Incoming::Query(Box::new(request))
}

/// The bytes of an answer, no longer than the client takes: additional records are left out first, and where answers
/// are, the client is told to come again by TCP.
pub(crate) fn write(request: &Request, reply: Reply) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.authentic_data = reply.authentic;
    metadata.recursion_available = true;
    let mut message = Message::new(metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = metadata;
    message.queries = vec![request.question.clone()];
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
    message.edns = request.edns.map(|edns| {
        let mut own = Edns::new();
        own.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(edns.dnssec_ok);
        own
    });
    let limit = match (request.transport, request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_PAYLOAD,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD),
    };
    fit(message, limit)
}

fn fit(mut message: Message, limit: u16) -> Vec<u8> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(limit);
    let code = message.metadata.response_code;
    if let Some(bytes) = message.to_vec().ok().filter(fits) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = message.to_vec().ok().filter(fits) {
        return bytes;
    }
    message.authorities.clear();
    message.metadata.truncation = true;
    // How many answers fit is what an encoder of that size writes into the header.
    let edns = message.edns.take();
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit - OPT_LENGTH);
    let written = message.emit(&mut encoder).ok().and_then(|()| bytes.get(6..8));
    let count = written.map_or(0, |count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    message.answers.truncate(count);
    message.edns = edns;
    message.to_vec().ok().filter(fits).unwrap_or_else(|| {
        // A question that leaves no place for an answer.
        Message::error_msg(message.metadata.id, OpCode::Query, code).to_vec().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
