//! Puts an answer together from the zone, the search lists and the servers outside.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};

use crate::{
    Names, Zone,
    forward::Forwarder,
    message::{Reply, Request},
    search::{self, Candidate},
    zone::{Data, Found, Kind},
};

/// How long clients may keep what the zone says, in seconds: short, because endpoints come and go.
const TTL: u32 = 5;
/// Aliases that lead to aliases are followed so far.
const ALIASES: usize = 8;
/// Weights of a service's SRV records add up to about this.
const WEIGHTS: usize = 100;

/// All that answers are made of.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) zone: Arc<Zone>,
    pub(crate) forwarder: Forwarder,
    /// Labels of the host's search domains.
    pub(crate) search: Vec<Vec<String>>,
    /// Ranges whose reverse names are answered here.
    pub(crate) reverse: Vec<(IpAddr, u8)>,
    pub(crate) names: Option<Arc<dyn Names>>,
    /// Which of several addresses comes first changes from answer to answer.
    pub(crate) turn: AtomicUsize,
}

/// The labels of a name in lower case; those that are no text are no names of ours.
fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect()
}

fn texts(labels: &[String]) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}

fn name(labels: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Name> {
    let mut whole = Name::from_labels(labels.into_iter().map(|label| label.as_ref().as_bytes().to_vec())).ok()?;
    whole.set_fqdn(true);
    Some(whole)
}

fn absolute(text: &str) -> Option<Name> {
    name(text.split('.').filter(|label| !label.is_empty()))
}

fn kind(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::TXT => Kind::Txt,
        RecordType::NS => Kind::Ns,
        RecordType::SOA => Kind::Soa,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

fn address(owner: &Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(owner.clone(), TTL, data)
}

impl Answers {
    /// Answers a query of `client`.
    pub(crate) async fn answer(&self, request: &Request, client: IpAddr) -> Reply {
        let asked = &request.question;
        let whole = labels(&asked.name);
        let parts = texts(&whole);
        if let Some(reply) = self.of_client(asked, &parts, client) {
            return reply;
        }
        let reversed = reverse_address(&parts).filter(|ip| self.is_reversed_here(*ip));
        if (self.zone.decides(&parts) || reversed.is_some()) && !self.zone.wait_complete().await {
            return Reply::empty(ResponseCode::ServFail);
        }
        if let Some(front) = self.zone.inside(&parts) {
            let reply = self.resolve(asked, request).await;
            if reply.code != ResponseCode::NXDomain || !matches!(asked.query_type, RecordType::A | RecordType::AAAA) {
                return reply;
            }
            return self.search(front, request, client).await.unwrap_or(reply);
        }
        if let Some(ip) = reversed {
            return self.reverse(asked, ip);
        }
        self.resolve(asked, request).await
    }

    /// What only some clients know.
    fn of_client(&self, asked: &Query, parts: &[&str], client: IpAddr) -> Option<Reply> {
        let names = self.names.as_ref()?;
        let mut reply = Reply { authoritative: true, ..Reply::empty(ResponseCode::NoError) };
        if let Some(ip) = reverse_address(parts) {
            let target = absolute(&names.name(client, ip)?)?;
            reply.answers.push(Record::from_rdata(asked.name.clone(), TTL, RData::PTR(PTR(target))));
            return Some(reply);
        }
        let mut found = names.addresses(client, &parts.join("."))?;
        found.retain(|ip| match asked.query_type {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        });
        if found.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % found.len();
            found.rotate_left(turn);
        }
        reply.answers = found.into_iter().map(|ip| address(&asked.name, ip)).collect();
        Some(reply)
    }

    /// Looks for the names that the query may stand for.
    async fn search(&self, front: &[&str], request: &Request, client: IpAddr) -> Option<Reply> {
        let namespace = self.zone.namespace_of(client)?;
        let base = search::base(front, &namespace)?;
        let candidates = if self.zone.inside(base).is_some() {
            vec![Candidate::Outside(base.iter().map(|label| (*label).to_owned()).collect())]
        } else {
            search::candidates(base, self.zone.owns_suffix(&namespace, base), &self.search)
        };
        let asked = &request.question;
        for candidate in candidates {
            let target = match candidate {
                Candidate::Inside(labels) => name(labels.iter().chain(self.zone.domain())),
                Candidate::Outside(labels) => name(labels),
            };
            // A name that is too long does not exist.
            let Some(target) = target else { continue };
            let question = Query::query(target.clone(), asked.query_type);
            let mut reply = self.resolve(&question, request).await;
            if reply.code != ResponseCode::NXDomain {
                let alias = Record::from_rdata(asked.name.clone(), TTL, RData::CNAME(CNAME(target)));
                reply.answers.insert(0, alias);
                reply.authentic = false;
                return Some(reply);
            }
        }
        None
    }

    /// Looks up one name, in the zone or outside, and what it is an alias of.
    async fn resolve(&self, question: &Query, request: &Request) -> Reply {
        let mut reply = Reply::empty(ResponseCode::NoError);
        let mut owner = question.name.clone();
        for _ in 0..ALIASES {
            let whole = labels(&owner);
            let parts = texts(&whole);
            let found = match (self.zone.inside(&parts), self.zone.part(&parts)) {
                (Some(front), _) => self.zone.look_up(front, kind(question.query_type)),
                (None, Some(service)) => Found::Alias(service),
                (None, None) => return self.outside(owner, question.query_type, request, reply).await,
            };
            reply.authoritative = true;
            match found {
                Found::Nothing => {
                    reply.code = ResponseCode::NXDomain;
                    reply.authorities = self.soa().into_iter().collect();
                    return reply;
                }
                Found::Records(found, glue) => {
                    if found.is_empty() {
                        reply.authorities = self.soa().into_iter().collect();
                    }
                    self.add(&mut reply, &owner, found, glue);
                    return reply;
                }
                Found::Alias(target) => {
                    // A target that is no name cannot be had.
                    let Some(target) = absolute(&target).filter(|target| !target.is_root()) else {
                        reply.code = ResponseCode::ServFail;
                        return reply;
                    };
                    reply.answers.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
                    if matches!(question.query_type, RecordType::CNAME | RecordType::ANY) {
                        return reply;
                    }
                    owner = target;
                }
            }
        }
        reply.code = ResponseCode::ServFail;
        reply
    }

    async fn outside(&self, name: Name, kind: RecordType, request: &Request, so_far: Reply) -> Reply {
        if !request.recursion_desired() {
            let code = if so_far.answers.is_empty() { ResponseCode::Refused } else { ResponseCode::NoError };
            return Reply { code, ..so_far };
        }
        let reply = self.forwarder.ask(&Query::query(name, kind), request).await;
        if so_far.answers.is_empty() {
            return Reply { authentic: reply.authentic && request.dnssec_ok(), ..reply };
        }
        // The alias is ours and true even where its target cannot be had.
        let answers = so_far.answers.into_iter().chain(reply.answers).collect();
        Reply { answers, authoritative: true, authentic: false, ..reply }
    }

    fn add(&self, reply: &mut Reply, owner: &Name, mut found: Vec<Data>, glue: Vec<(String, IpAddr)>) {
        if found.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % found.len();
            found.rotate_left(turn);
        }
        let weight = (WEIGHTS / found.len().max(1)).max(1) as u16;
        for data in found {
            let data = match data {
                Data::Address(ip) => {
                    reply.answers.push(address(owner, ip));
                    continue;
                }
                Data::Srv(port, target) => {
                    absolute(&target).map(|target| RData::SRV(SRV::new(0, weight, port, target)))
                }
                Data::Txt(text) => Some(RData::TXT(TXT::new(vec![text.to_owned()]))),
                Data::Ns(target) => absolute(&target).map(|target| RData::NS(NS(target))),
                Data::Ptr(target) => absolute(&target).map(|target| RData::PTR(PTR(target))),
                Data::Soa => {
                    reply.answers.extend(self.soa());
                    continue;
                }
            };
            reply.answers.extend(data.map(|data| Record::from_rdata(owner.clone(), TTL, data)));
        }
        for (target, ip) in glue {
            reply.additionals.extend(absolute(&target).map(|target| address(&target, ip)));
        }
    }

    fn soa(&self) -> Option<Record> {
        self.soa_of(name(self.zone.domain())?)
    }

    fn soa_of(&self, owner: Name) -> Option<Record> {
        let domain = self.zone.domain();
        let server = name(["ns", "dns"].into_iter().chain(domain.iter().map(String::as_str)))?;
        let person = name(std::iter::once("hostmaster").chain(domain.iter().map(String::as_str)))?;
        let soa = SOA::new(server, person, self.zone.serial(), 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(owner, TTL, RData::SOA(soa)))
    }

    fn is_reversed_here(&self, ip: IpAddr) -> bool {
        self.reverse.iter().any(|(range, prefix)| match (ip, range) {
            (IpAddr::V4(ip), IpAddr::V4(range)) => {
                let shift = 32 - u32::from(*prefix).min(32);
                (ip.to_bits() ^ range.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(range)) => {
                let shift = 128 - u32::from(*prefix).min(128);
                (ip.to_bits() ^ range.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        })
    }

    fn reverse(&self, asked: &Query, ip: IpAddr) -> Reply {
        let mut reply = Reply::empty(ResponseCode::NoError);
        reply.authoritative = true;
        let names = self.zone.names_of(ip);
        let there = !names.is_empty();
        if there && matches!(asked.query_type, RecordType::PTR | RecordType::ANY) {
            self.add(&mut reply, &asked.name, names, Vec::new());
            return reply;
        }
        if !there {
            reply.code = ResponseCode::NXDomain;
        }
        // The name itself is as good a zone as any: its parent's would need to be known.
        reply.authorities = self.soa_of(asked.name.clone()).into_iter().collect();
        reply
    }
}

/// The address that a whole reverse name stands for.
fn reverse_address(name: &[&str]) -> Option<IpAddr> {
    match name {
        [d, c, b, a, "in-addr", "arpa"] => {
            Some(IpAddr::V4(Ipv4Addr::new(a.parse().ok()?, b.parse().ok()?, c.parse().ok()?, d.parse().ok()?)))
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut bits = 0u128;
            for nibble in nibbles.iter().rev() {
                let digit = u8::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1)?;
                bits = bits << 4 | u128::from(digit);
            }
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
