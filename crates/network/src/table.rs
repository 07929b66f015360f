//! The one nf_tables table of an instance: which sets, chains and rules it has.
//!
//! ```text
//! prerouting ─ (from elsewhere) ─▶ outside ──▶ @outside ─┐
//!      └────────▶ dispatch ─▶ @services ─────────────────┤   chain per number of endpoints K:
//! output ───────▶ dispatch ─▶ node-ports ─▶ @host-ports  ├─▶ pick-K: random 0..K . key ─▶ @endpoints ─▶ DNAT
//!                                   └─────▶ @services ───┘   stick-T-K: the client's last one, else like pick-K
//!
//! forward, output, input ─▶ @unserved ─▶ refuse
//! postrouting ─▶ translated ─▶ as-node        (hairpins, node and foreign clients of services)
//!            └─▶ masquerade                   (pods to the world)
//! ```
//!
//! All services share the chains: the verdict map says which chain a service's key leads to, by the number of its
//! endpoints, and the chain finds the endpoint under the drawn number and the same key. So a change of a service is a
//! change of a few elements, and never of rules.

use std::{collections::HashMap, fmt, net::SocketAddrV4, time::Duration};

use crate::{
    Cidr,
    nft::{Batch, CtKey, Data, Expressions, FibType, Field, Holds, Hook, Reg, Set, Use, Verdict},
    service::{Fate, Front, Key},
};

/// Changes whenever the sets, chains or rules below do: a table of another layout is made anew at start.
const LAYOUT: u32 = 2;

/// What rules are made of besides services.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// The links to pods begin so.
    pub(crate) link_prefix: String,
    pub(crate) pod_cidr: Cidr,
    pub(crate) cluster_cidr: Cidr,
    pub(crate) service_cidr: Cidr,
    pub(crate) node_ip: std::net::Ipv4Addr,
    pub(crate) masquerade: bool,
}

impl Base {
    /// The table's comment, by which a later process sees whether the rules are those it would make.
    pub(crate) fn comment(&self) -> String {
        format!(
            "layout {LAYOUT} pods {} of {} services {} node {} masquerade {}",
            self.pod_cidr, self.cluster_cidr, self.service_cidr, self.node_ip, self.masquerade
        )
    }
}

/// The sets, in the order in which elements are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Addresses that the node itself answers.
    Own,
    /// What pods reach themselves through: address . the same address.
    Hairpin,
    /// Key → pod's address and port.
    HostPorts,
    /// Key → chain.
    Services,
    /// Key → chain, for clients from elsewhere.
    Outside,
    /// Number . key → endpoint.
    Endpoints,
    /// Keys whose connections get the node's address.
    Masqueraded,
    /// Key → refuse or drop.
    Unserved,
}

use Field::{Address, Number, Port, Protocol};

const KEY: &[Field] = &[Address, Protocol, Port];
const ENDPOINT: &[Field] = &[Address, Port];
/// Number of an endpoint . client . key, for as long as the client comes back.
const AFFINITY: Set = Set {
    name: "affinity",
    key: &[Number, Address, Address, Protocol, Port],
    holds: Holds::Nothing,
    dynamic: Some(65_535),
};

impl Place {
    pub(crate) const ALL: [Self; 8] = [
        Self::Own,
        Self::Hairpin,
        Self::HostPorts,
        Self::Services,
        Self::Outside,
        Self::Endpoints,
        Self::Masqueraded,
        Self::Unserved,
    ];

    pub(crate) fn set(self) -> Set {
        let (name, key, holds): (_, &'static [Field], _) = match self {
            Self::Own => ("own", &[Address], Holds::Nothing),
            Self::Hairpin => ("hairpin", &[Address, Address], Holds::Nothing),
            Self::HostPorts => ("host-ports", KEY, Holds::Fields(ENDPOINT)),
            Self::Services => ("services", KEY, Holds::Verdicts),
            Self::Outside => ("outside", KEY, Holds::Verdicts),
            Self::Endpoints => ("endpoints", &[Number, Address, Protocol, Port], Holds::Fields(ENDPOINT)),
            Self::Masqueraded => ("masqueraded", KEY, Holds::Nothing),
            Self::Unserved => ("unserved", KEY, Holds::Verdicts),
        };
        Set { name, key, holds, dynamic: None }
    }

    fn key_length(self) -> usize {
        4 * self.set().key.len()
    }
}

/// A key of any set; the rest is zero.
pub(crate) type KeyBytes = [u8; 20];

/// What an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Value {
    Nothing,
    Refuse,
    Drop,
    Chain(Chain),
    Endpoint([u8; 8]),
}

/// An element of one of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) place: Place,
    pub(crate) key: KeyBytes,
    pub(crate) value: Value,
}

/// A chain that sends connections to one of `count` endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Chain {
    /// The key's address is 0.0.0.0, whatever the packet's is.
    pub(crate) wild: bool,
    /// Among the endpoints for clients from elsewhere.
    pub(crate) outside: bool,
    /// For how many milliseconds a client stays with its endpoint.
    pub(crate) affinity: Option<u64>,
    pub(crate) count: u32,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.affinity {
            None => f.write_str("pick-")?,
            Some(timeout) => write!(f, "stick-{timeout}-")?,
        }
        if self.wild {
            f.write_str("node-")?;
        }
        if self.outside {
            f.write_str("outside-")?;
        }
        write!(f, "{}", self.count)
    }
}

/// The endpoints for clients from elsewhere have numbers from here on.
const OUTSIDE_NUMBERS: u32 = 1 << 16;

fn fill(parts: &[&[u8]]) -> KeyBytes {
    let mut key = [0; 20];
    for (field, part) in key.chunks_exact_mut(4).zip(parts) {
        field[..part.len()].copy_from_slice(part);
    }
    key
}

impl Key {
    /// As the sets have it.
    pub(crate) fn bytes(self) -> KeyBytes {
        fill(&[&self.address.octets(), &[self.protocol.number()], &self.port.to_be_bytes()])
    }
}

/// An endpoint as the sets hold it.
pub(crate) fn endpoint_bytes(endpoint: SocketAddrV4) -> [u8; 8] {
    let (address, port) = (endpoint.ip().octets(), endpoint.port().to_be_bytes());
    [address[0], address[1], address[2], address[3], port[0], port[1], 0, 0]
}

impl Element {
    pub(crate) fn own(address: std::net::Ipv4Addr) -> Self {
        Self { place: Place::Own, key: fill(&[&address.octets()]), value: Value::Nothing }
    }

    pub(crate) fn hairpin(address: std::net::Ipv4Addr) -> Self {
        Self { place: Place::Hairpin, key: fill(&[&address.octets(), &address.octets()]), value: Value::Nothing }
    }

    pub(crate) fn host_port(key: Key, to: SocketAddrV4) -> Self {
        Self { place: Place::HostPorts, key: key.bytes(), value: Value::Endpoint(endpoint_bytes(to)) }
    }

    pub(crate) fn key_bytes(&self) -> &[u8] {
        &self.key[..self.place.key_length()]
    }
}

/// The elements that make a front, sorted.
pub(crate) fn elements(key: Key, front: &Front, into: &mut Vec<Element>) {
    let start = into.len();
    let bytes = key.bytes();
    let affinity = front.affinity.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let mut pick = |place, endpoints: &[SocketAddrV4], outside| {
        let chain = Chain { wild: key.is_wild(), outside, affinity, count: endpoints.len() as u32 };
        into.push(Element { place, key: bytes, value: Value::Chain(chain) });
        let first = if outside { OUTSIDE_NUMBERS } else { 0 };
        for (number, endpoint) in (first..).zip(endpoints) {
            let mut numbered = [0; 20];
            numbered[..4].copy_from_slice(&number.to_ne_bytes());
            numbered[4..16].copy_from_slice(&bytes[..12]);
            let value = endpoint_bytes(*endpoint);
            into.push(Element { place: Place::Endpoints, key: numbered, value: Value::Endpoint(value) });
        }
    };
    if let Fate::Pick(endpoints) = &front.inside {
        pick(Place::Services, endpoints, false);
    }
    if let Some(Fate::Pick(endpoints)) = &front.outside {
        pick(Place::Outside, endpoints, true);
    }
    match front.inside {
        Fate::Pick(_) if front.masquerade => {
            into.push(Element { place: Place::Masqueraded, key: bytes, value: Value::Nothing });
        }
        Fate::Pick(_) => {}
        Fate::Refuse => into.push(Element { place: Place::Unserved, key: bytes, value: Value::Refuse }),
        Fate::Drop => into.push(Element { place: Place::Unserved, key: bytes, value: Value::Drop }),
    }
    if let Some(Fate::Drop | Fate::Refuse) = front.outside {
        into.push(Element { place: Place::Outside, key: bytes, value: Value::Drop });
    }
    into[start..].sort_unstable();
}

/// Elements to take out and to put in.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) remove: Vec<Element>,
    pub(crate) add: Vec<Element>,
}

impl Changes {
    /// What turns `old` into `new`; both are sorted. An element whose value changes is taken out and put in again.
    pub(crate) fn compare(&mut self, old: &[Element], new: &[Element]) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.cmp(new),
            };
            if order.is_le() {
                let element = old.next().copied();
                self.remove.extend(element.filter(|_| order.is_lt()));
            }
            if order.is_ge() {
                let element = new.next().copied();
                self.add.extend(element.filter(|_| order.is_gt()));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Writes the changes of elements; chains must be there.
    pub(crate) fn write(&self, batch: &mut Batch<'_>) {
        for place in Place::ALL {
            let name = place.set().name;
            batch.remove(name, self.remove.iter().filter(|e| e.place == place).map(Element::key_bytes));
        }
        let mut names: HashMap<Chain, String> = HashMap::new();
        for element in &self.add {
            if let Value::Chain(chain) = element.value {
                names.entry(chain).or_insert_with(|| chain.to_string());
            }
        }
        for place in Place::ALL {
            let of_place = self.add.iter().filter(|element| element.place == place);
            let data = |element: &Element| match &element.value {
                Value::Chain(chain) => Data::Verdict(Verdict::Goto(&names[chain])),
                _ => unreachable!("only chains are looked up"),
            };
            batch.add(
                place.set().name,
                of_place.map(|element| {
                    let data = match &element.value {
                        Value::Nothing => Data::Nothing,
                        Value::Refuse => Data::Verdict(Verdict::Goto(REFUSE)),
                        Value::Drop => Data::Verdict(Verdict::Drop),
                        Value::Endpoint(bytes) => Data::Bytes(bytes),
                        Value::Chain(_) => data(element),
                    };
                    (element.key_bytes(), data)
                }),
            );
        }
    }
}

const DISPATCH: &str = "dispatch";
const OUTSIDE: &str = "outside-clients";
const NODE_PORTS: &str = "node-ports";
const UNSERVED: &str = "unserved-services";
const REFUSE: &str = "refuse";
const TRANSLATED: &str = "translated";
const AS_NODE: &str = "as-node";

const STATE_INVALID: u32 = 1;
const STATE_NEW: u32 = 8;
/// `IPS_DST_NAT`: the connection's destination was translated.
const STATUS_TRANSLATED: u32 = 1 << 5;

/// Loads the key of a packet into three registers.
fn load_key(rule: &mut Expressions<'_>, wild: bool, to: Reg) {
    if wild {
        rule.constant(&[0; 4], to);
    } else {
        rule.destination(to);
    }
    rule.protocol(Reg(to.0 + 1)).port(Reg(to.0 + 2));
}

/// Makes the table anew, without elements: sets, chains, rules.
pub(crate) fn write(batch: &mut Batch<'_>, base: &Base) {
    // Removing what may not be there is an error, so it is made first.
    batch.table(&base.comment());
    batch.remove_table();
    batch.table(&base.comment());
    for place in Place::ALL {
        batch.set(&place.set());
    }
    batch.set(&AFFINITY);
    for chain in [DISPATCH, OUTSIDE, NODE_PORTS, UNSERVED, REFUSE, TRANSLATED, AS_NODE] {
        batch.chain(chain);
    }
    batch.base_chain("guard", Use::Filter, Hook::Prerouting, -300);
    batch.base_chain("prerouting", Use::Nat, Hook::Prerouting, -100);
    batch.base_chain("output", Use::Nat, Hook::Output, -100);
    batch.base_chain("postrouting", Use::Nat, Hook::Postrouting, 100);
    batch.base_chain("forward", Use::Filter, Hook::Forward, -10);
    batch.base_chain("local-in", Use::Filter, Hook::Input, -10);
    batch.base_chain("local-out", Use::Filter, Hook::Output, -10);
    destinations(batch, base);
    refusals(batch, base);
    sources(batch, base);
}

fn set(place: Place) -> &'static str {
    place.set().name
}

/// The rules that send connections to endpoints.
fn destinations(batch: &mut Batch<'_>, base: &Base) {
    let own = |rule: &mut Expressions<'_>| {
        rule.destination(Reg(0)).lookup(set(Place::Own), Reg(0)).verdict(&Verdict::Return);
    };
    batch.rule("prerouting", own);
    batch.rule("prerouting", |rule| {
        rule.source(Reg(0)).within(Reg(0), base.cluster_cidr, false);
        rule.local(FibType::Source, Reg(0), false).verdict(&Verdict::Jump(OUTSIDE));
    });
    batch.rule("prerouting", |rule| {
        rule.verdict(&Verdict::Jump(DISPATCH));
    });
    batch.rule("output", own);
    batch.rule("output", |rule| {
        rule.verdict(&Verdict::Jump(DISPATCH));
    });
    let lead = |batch: &mut Batch<'_>, chain: &str, place, wild| {
        batch.rule(chain, |rule| {
            load_key(rule, wild, Reg(0));
            rule.verdict_map(set(place), Reg(0));
        });
    };
    lead(batch, OUTSIDE, Place::Outside, false);
    batch.rule(OUTSIDE, |rule| {
        rule.local(FibType::Destination, Reg(0), true);
        load_key(rule, true, Reg(0));
        rule.verdict_map(set(Place::Outside), Reg(0));
    });
    lead(batch, DISPATCH, Place::Services, false);
    batch.rule(DISPATCH, |rule| {
        rule.local(FibType::Destination, Reg(0), true).verdict(&Verdict::Goto(NODE_PORTS));
    });
    for wild in [false, true] {
        batch.rule(NODE_PORTS, |rule| {
            load_key(rule, wild, Reg(0));
            rule.map(set(Place::HostPorts), Reg(0), Reg(4)).dnat(Reg(4));
        });
    }
    lead(batch, NODE_PORTS, Place::Services, true);
}

/// The rules that refuse what no endpoint answers, and what must not be.
fn refusals(batch: &mut Batch<'_>, base: &Base) {
    let from_pod = |rule: &mut Expressions<'_>| {
        rule.input_name(Reg(0)).is(Reg(0), base.link_prefix.as_bytes());
    };
    // Links to pods carry translated loopback addresses, so a pod might else reach what listens on loopback only.
    batch.rule("guard", |rule| {
        from_pod(rule);
        rule.destination(Reg(0)).is(Reg(0), &[127]).verdict(&Verdict::Drop);
    });
    // What connection tracking gave up on would reach the client untranslated, and be answered with a reset.
    batch.rule("forward", |rule| {
        from_pod(rule);
        rule.ct(CtKey::State, Reg(0)).bits(Reg(0), STATE_INVALID, true).verdict(&Verdict::Drop);
    });
    for chain in ["forward", "local-out"] {
        batch.rule(chain, |rule| {
            rule.ct(CtKey::State, Reg(0)).bits(Reg(0), STATE_NEW, true).verdict(&Verdict::Jump(UNSERVED));
        });
    }
    for wild in [false, true] {
        batch.rule("local-in", |rule| {
            rule.ct(CtKey::State, Reg(0)).bits(Reg(0), STATE_NEW, true);
            rule.destination(Reg(0)).lookup_none(set(Place::Own), Reg(0));
            load_key(rule, wild, Reg(0));
            rule.verdict_map(set(Place::Unserved), Reg(0));
        });
    }
    batch.rule(UNSERVED, |rule| {
        rule.destination(Reg(0)).lookup(set(Place::Own), Reg(0)).verdict(&Verdict::Return);
    });
    batch.rule(UNSERVED, |rule| {
        load_key(rule, false, Reg(0));
        rule.verdict_map(set(Place::Unserved), Reg(0));
    });
    batch.rule(UNSERVED, |rule| {
        rule.destination(Reg(0)).within(Reg(0), base.service_cidr, true).verdict(&Verdict::Goto(REFUSE));
    });
    batch.rule(REFUSE, |rule| {
        rule.protocol(Reg(0)).is(Reg(0), &[crate::Protocol::Tcp.number()]).reset();
    });
    batch.rule(REFUSE, |rule| {
        rule.unreachable();
    });
}

/// The rules that give connections another source.
fn sources(batch: &mut Batch<'_>, base: &Base) {
    batch.rule("postrouting", |rule| {
        rule.ct(CtKey::Status, Reg(0)).bits(Reg(0), STATUS_TRANSLATED, true).verdict(&Verdict::Jump(TRANSLATED));
    });
    if base.masquerade {
        let multicast = Cidr::new(std::net::Ipv4Addr::new(224, 0, 0, 0), 4).expect("a prefix of 4 bits");
        batch.rule("postrouting", |rule| {
            rule.source(Reg(0)).within(Reg(0), base.pod_cidr, true);
            rule.destination(Reg(0)).within(Reg(0), base.cluster_cidr, false);
            rule.destination(Reg(0)).within(Reg(0), multicast, false).masquerade();
        });
    }
    // A pod that reaches itself would answer itself directly, and not know the answer.
    batch.rule(TRANSLATED, |rule| {
        rule.source(Reg(0)).destination(Reg(1)).lookup(set(Place::Hairpin), Reg(0)).verdict(&Verdict::Goto(AS_NODE));
    });
    // The node's own connections may have any of its addresses, loopback ones too.
    batch.rule(TRANSLATED, |rule| {
        rule.destination(Reg(0)).within(Reg(0), base.cluster_cidr, true);
        rule.local(FibType::Source, Reg(0), true).verdict(&Verdict::Goto(AS_NODE));
    });
    // Cluster addresses: what comes from outside the cluster must go back the way it came.
    batch.rule(TRANSLATED, |rule| {
        rule.ct(CtKey::OriginalAddress, Reg(0)).within(Reg(0), base.service_cidr, true);
        rule.source(Reg(0)).within(Reg(0), base.cluster_cidr, false).verdict(&Verdict::Goto(AS_NODE));
    });
    for wild in [false, true] {
        batch.rule(TRANSLATED, |rule| {
            if wild {
                rule.constant(&[0; 4], Reg(0));
            } else {
                rule.ct(CtKey::OriginalAddress, Reg(0));
            }
            rule.protocol(Reg(1)).ct(CtKey::OriginalPort, Reg(2));
            rule.lookup(set(Place::Masqueraded), Reg(0)).verdict(&Verdict::Goto(AS_NODE));
        });
    }
    batch.rule(AS_NODE, |rule| {
        rule.destination(Reg(0)).within(Reg(0), base.pod_cidr, true);
        rule.constant(&base.node_ip.octets(), Reg(0)).snat(Reg(0));
    });
    batch.rule(AS_NODE, |rule| {
        rule.masquerade();
    });
}

impl Chain {
    /// Makes the chain with its rules.
    pub(crate) fn write(&self, batch: &mut Batch<'_>) {
        let name = self.to_string();
        match self.affinity {
            None => {
                batch.chain(&name);
                batch.rule(&name, |rule| {
                    rule.random(self.count, self.first(), Reg(0));
                    self.lead(rule);
                });
            }
            Some(timeout) => self.write_sticky(batch, &name, Duration::from_millis(timeout)),
        }
    }

    /// One chain an endpoint, which remembers the client; before them, one that finds the client's last endpoint, or
    /// else draws one: the first out of K, the second out of the K - 1 that are left, and so on.
    fn write_sticky(&self, batch: &mut Batch<'_>, name: &str, timeout: Duration) {
        let client = |rule: &mut Expressions<'_>, number: u32| {
            rule.constant(&number.to_ne_bytes(), Reg(0)).source(Reg(1));
            load_key(rule, self.wild, Reg(2));
        };
        let numbers = self.first()..self.first() + self.count;
        for number in numbers.clone() {
            let one = self.one(number);
            batch.chain(&one);
            // If no more clients can be remembered, the rule ends here and the next one leads on.
            batch.rule(&one, |rule| {
                client(rule, number);
                rule.remember(AFFINITY.name, Reg(0), timeout);
            });
            batch.rule(&one, |rule| {
                rule.constant(&number.to_ne_bytes(), Reg(0));
                self.lead(rule);
            });
        }
        batch.chain(name);
        for number in numbers.clone() {
            batch.rule(name, |rule| {
                client(rule, number);
                rule.lookup(AFFINITY.name, Reg(0)).verdict(&Verdict::Goto(&self.one(number)));
            });
        }
        for (number, left) in numbers.zip((1..=self.count).rev()) {
            batch.rule(name, |rule| {
                if left > 1 {
                    rule.random(left, 0, Reg(0)).is(Reg(0), &[0; 4]);
                }
                rule.verdict(&Verdict::Goto(&self.one(number)));
            });
        }
    }

    /// Removes the chain and those that are only its own.
    pub(crate) fn remove(&self, batch: &mut Batch<'_>) {
        batch.remove_chain(&self.to_string());
        if self.affinity.is_some() {
            for number in self.first()..self.first() + self.count {
                batch.remove_chain(&self.one(number));
            }
        }
    }

    fn first(&self) -> u32 {
        if self.outside { OUTSIDE_NUMBERS } else { 0 }
    }

    /// The chain of one endpoint of a chain with affinity.
    fn one(&self, number: u32) -> String {
        format!("{self}-{}", number - self.first())
    }

    /// Sends the connection to the endpoint whose number is in register 0.
    fn lead(&self, rule: &mut Expressions<'_>) {
        load_key(rule, self.wild, Reg(1));
        rule.map(set(Place::Endpoints), Reg(0), Reg(4)).dnat(Reg(4));
    }
}

#[cfg(test)]
mod tests;
