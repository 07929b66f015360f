//! Asks servers outside, and remembers for a short while what they said.
//!
//! Servers are asked in order, by UDP from a port of its own each time, and by TCP where an answer was cut short. One that
//! does not answer is put last for a while.
//!
//! ```text
//! usable ──no answer──▶ resting ──10 s──▶ usable
//! ```

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{LowerName, RData, Record, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{timeout, timeout_at},
};

use crate::{
    counted,
    message::{Reply, Request, UDP_PAYLOAD},
};

/// How long one server may take. Resolvers wait 5 s for us.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long all attempts together may take.
const TOTAL: Duration = Duration::from_millis(4500);
/// How long a server that did not answer is put last.
const REST: Duration = Duration::from_secs(10);
/// Answers are remembered for as long as they say, and at most this long.
const LONGEST: Duration = Duration::from_secs(60);
/// That there is no such name is remembered at most this long.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(10);
/// How many answers are remembered.
const CAPACITY: usize = 2048;
/// Larger answers are not remembered.
const LARGEST: usize = 64;

/// Servers outside and what they said.
#[derive(Debug)]
pub(crate) struct Forwarder {
    servers: Vec<Server>,
    memory: Mutex<HashMap<Key, Remembered>>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    rests_until: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: LowerName,
    kind: RecordType,
    dnssec_ok: bool,
    checking_disabled: bool,
}

#[derive(Debug)]
struct Remembered {
    reply: Arc<Reply>,
    since: Instant,
    until: Instant,
}

impl Forwarder {
    pub(crate) fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let servers = servers.into_iter().map(|address| Server { address, rests_until: Mutex::default() }).collect();
        Self { servers, memory: Mutex::default() }
    }

    /// What the servers outside say to `question`. The code is SERVFAIL if none can be asked.
    pub(crate) async fn ask(&self, question: &Query, request: &Request) -> Reply {
        let key = Key {
            name: LowerName::new(&question.name),
            kind: question.query_type,
            dnssec_ok: request.dnssec_ok(),
            checking_disabled: request.checking_disabled(),
        };
        if let Some(reply) = self.recall(&key) {
            counted::recalled(denies(&reply));
            return reply;
        }
        counted::forgotten();
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = request.checking_disabled();
        message.queries = vec![question.clone()];
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(request.dnssec_ok());
        message.edns = Some(edns);
        let reply = self.ask_in_turn(&message).await;
        if let Some(reply) = &reply {
            self.remember(key, reply);
        }
        reply.unwrap_or_else(|| Reply::empty(ResponseCode::ServFail))
    }

    async fn ask_in_turn(&self, message: &Message) -> Option<Reply> {
        let bytes = message.to_vec().ok()?;
        let deadline = tokio::time::Instant::now() + TOTAL;
        let mut unwilling = None;
        // Every server once, and, since a packet can get lost, the first ones again.
        let order = self.order();
        for server in order.iter().chain(&order).chain(&order).take(order.len().max(3)) {
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            let attempt = tokio::time::Instant::now() + ATTEMPT;
            let began = Instant::now();
            let answer = exchange(server.address, message, &bytes, attempt.min(deadline)).await;
            let code = answer.as_ref().ok().map(|answer| answer.metadata.response_code);
            counted::forwarded(server.address, code, began.elapsed());
            match answer {
                Ok(reply) => {
                    let code = reply.metadata.response_code;
                    let reply = reply_of(reply);
                    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                        return Some(reply);
                    }
                    unwilling = Some(reply);
                    if order.len() == 1 {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(server = %server.address, %error, "no answer");
                    let until = Instant::now() + REST;
                    *server.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
                }
            }
        }
        unwilling
    }

    fn order(&self) -> Vec<&Server> {
        let now = Instant::now();
        let rests = |server: &Server| {
            server.rests_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > now)
        };
        let mut order: Vec<&Server> = self.servers.iter().collect();
        order.sort_by_key(|server| rests(server));
        order
    }

    fn recall(&self, key: &Key) -> Option<Reply> {
        let now = Instant::now();
        let (reply, age) = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let found = memory.get(key).filter(|found| found.until > now)?;
            (found.reply.clone(), u32::try_from((now - found.since).as_secs()).unwrap_or(u32::MAX))
        };
        let mut reply = Reply::clone(&reply);
        for record in reply.answers.iter_mut().chain(&mut reply.authorities).chain(&mut reply.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(reply)
    }

    fn remember(&self, key: Key, reply: &Reply) {
        let size = reply.answers.len() + reply.authorities.len() + reply.additionals.len();
        let Some(time) = worth(reply).filter(|time| !time.is_zero() && size <= LARGEST) else { return };
        let since = Instant::now();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= CAPACITY {
            memory.retain(|_, found| found.until > since);
        }
        if memory.len() >= CAPACITY {
            let mut count = 0;
            memory.retain(|_, _| {
                count += 1;
                count % 4 != 0
            });
        }
        memory.insert(key, Remembered { reply: Arc::new(reply.clone()), since, until: since + time });
        let denials = memory.values().filter(|found| denies(&found.reply)).count();
        counted::remembers(memory.len() - denials, denials);
    }
}

/// Whether an answer says that there is nothing.
fn denies(reply: &Reply) -> bool {
    reply.code != ResponseCode::NoError || reply.answers.is_empty()
}

/// How long an answer may be remembered.
fn worth(reply: &Reply) -> Option<Duration> {
    let shortest = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    let negative = || {
        reply.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        })
    };
    match reply.code {
        ResponseCode::NoError if !reply.answers.is_empty() => {
            shortest(&reply.answers).map(|ttl| Duration::from_secs(ttl.into()).min(LONGEST))
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            negative().map(|ttl| Duration::from_secs(ttl.into()).min(LONGEST_NEGATIVE))
        }
        _ => None,
    }
}

fn reply_of(message: Message) -> Reply {
    Reply {
        code: message.metadata.response_code,
        authoritative: false,
        authentic: message.metadata.authentic_data,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
    }
}

/// Asks one server, by UDP and, if the answer is cut short, by TCP.
async fn exchange(
    server: SocketAddr,
    query: &Message,
    bytes: &[u8],
    deadline: tokio::time::Instant,
) -> io::Result<Message> {
    let answer = timeout_at(deadline, by_udp(server, query, bytes)).await.map_err(|_| late())??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    // What is there is better than nothing.
    Ok(timeout(ATTEMPT, by_tcp(server, query, bytes)).await.map_err(|_| late()).flatten().unwrap_or(answer))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

async fn by_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is late, or forged.
        if let Some(answer) = answer_to(query, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = Vec::with_capacity(bytes.len() + 2);
    framed.extend_from_slice(&u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes());
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer_to(query, &buffer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "answers something else"))
}

fn answer_to(query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries == query.queries
            || (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError));
    same.then_some(answer)
}
