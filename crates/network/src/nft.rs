//! A writer of nf_tables transactions: tables, chains, sets, elements and rules.
//!
//! A [`Batch`] collects changes of one table and is committed whole or not at all. The numbers are those of
//! `linux/netfilter/nf_tables.h`; `nft --debug=netlink` shows the same expressions in words.
//!
//! ```text
//! batch begin │ new table │ new set … │ new chain … │ new rule … │ del elements … │ new elements … │ batch end
//! ```

use std::{io, net::Ipv4Addr};

use crate::netlink::{ACK, Answer, CREATE, DUMP, NEST_LIMIT, Request, Socket, attribute, attributes, text};

mod expression;

pub(crate) use expression::{CtKey, Expressions, FibType, Reg};

/// Which packets a table sees. Values are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4 = libc::NFPROTO_IPV4 as isize,
    V6 = libc::NFPROTO_IPV6 as isize,
}

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const MSG_NEWTABLE: u16 = 0;
const MSG_GETTABLE: u16 = 1;
const MSG_DELTABLE: u16 = 2;
const MSG_NEWCHAIN: u16 = 3;
const MSG_GETCHAIN: u16 = 4;
const MSG_DELCHAIN: u16 = 5;
const MSG_NEWRULE: u16 = 6;
const MSG_GETRULE: u16 = 7;
const MSG_DELRULE: u16 = 8;
const MSG_NEWSET: u16 = 9;
const MSG_NEWSETELEM: u16 = 12;
const MSG_GETSETELEM: u16 = 13;
const MSG_DELSETELEM: u16 = 14;

const LIST_ELEM: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_HOOKNUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_DESC: u16 = 9;
const SET_DESC_SIZE: u16 = 1;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
const SET_FLAG_MAP: u32 = 0x8;
const SET_FLAG_TIMEOUT: u32 = 0x10;
const SET_FLAG_EVAL: u32 = 0x20;
/// A comment in the user data of a table or rule, as `nft` writes and shows it.
const USERDATA_COMMENT: u8 = 0;

fn comment_bytes(comment: &str) -> Vec<u8> {
    let mut bytes = vec![USERDATA_COMMENT, u8::try_from(comment.len() + 1).expect("a comment of less than 255 bytes")];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

fn comment_text(bytes: &[u8]) -> String {
    bytes.get(2..).map(text).unwrap_or_default()
}

/// Where a base chain hangs. Values are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Filter,
    Nat,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Drop,
    Accept,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

impl Verdict<'_> {
    fn write(&self, request: &mut Request) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Return => (-5, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        request.nest(DATA_VERDICT, |verdict| {
            verdict.be32(VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                verdict.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// One part of a key or of data. Each takes 4 bytes, but for the larger addresses, which take 16. Values are nft's, which shows keys
/// by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Address = 7,
    Address6 = 8,
    Protocol = 12,
    Port = 13,
    /// A number in the machine's byte order.
    Number = 19,
}

/// What elements hold besides their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Nothing,
    Verdicts,
    Fields(&'static [Field]),
}

/// The definition of a set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    pub(crate) holds: Holds,
    /// Whether rules add elements, which then end by themselves; at most this many.
    pub(crate) dynamic: Option<u32>,
}

fn data_type(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | *field as u32)
}

fn length(fields: &[Field]) -> u32 {
    fields.iter().map(|field| if *field == Field::Address6 { 16 } else { 4 }).sum()
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    Nothing,
    Verdict(Verdict<'a>),
    Bytes(&'a [u8]),
}

/// Changes of one table that happen together.
pub(crate) struct Batch<'a> {
    table: &'a str,
    family: Family,
    request: Request,
    sets: u32,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, libc::NFNETLINK_V0 as u8, high, low]
}

fn kind(message: u16) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | message
}

impl<'a> Batch<'a> {
    /// Nothing to do in `table` yet.
    pub(crate) fn new(table: &'a str) -> Self {
        Self::of(Family::V4, table)
    }

    /// The same in `table` of a family: tables of several families may have one name.
    pub(crate) fn of(family: Family, table: &'a str) -> Self {
        let mut request = Request::default();
        request.message(BATCH_BEGIN, 0, &header(0, libc::NFNL_SUBSYS_NFTABLES as u16));
        Self { table, family, request, sets: 0 }
    }

    fn message(&mut self, message: u16, flags: u16) -> &mut Request {
        self.request.message(kind(message), flags, &header(self.family as u8, 0));
        &mut self.request
    }

    /// Makes the table, if it is not there.
    pub(crate) fn table(&mut self, comment: &str) {
        let table = self.table;
        let request = self.message(MSG_NEWTABLE, CREATE);
        request.text(TABLE_NAME, table);
        request.attribute(TABLE_USERDATA, &comment_bytes(comment));
    }

    /// Removes the table and all in it.
    pub(crate) fn remove_table(&mut self) {
        let table = self.table;
        self.message(MSG_DELTABLE, 0).text(TABLE_NAME, table);
    }

    /// Makes a chain that rules and elements lead to.
    pub(crate) fn chain(&mut self, name: &str) {
        let table = self.table;
        let request = self.message(MSG_NEWCHAIN, CREATE);
        request.text(CHAIN_TABLE, table);
        request.text(CHAIN_NAME, name);
    }

    /// Makes a chain that packets come to by themselves. Its policy is to accept.
    pub(crate) fn base_chain(&mut self, name: &str, purpose: Use, hook: Hook, priority: i32) {
        let table = self.table;
        let request = self.message(MSG_NEWCHAIN, CREATE);
        request.text(CHAIN_TABLE, table);
        request.text(CHAIN_NAME, name);
        request.nest(CHAIN_HOOK, |inner| {
            inner.be32(HOOK_HOOKNUM, hook as u32);
            inner.be32(HOOK_PRIORITY, priority as u32);
        });
        request.be32(CHAIN_POLICY, 1);
        request.text(
            CHAIN_TYPE,
            match purpose {
                Use::Filter => "filter",
                Use::Nat => "nat",
            },
        );
    }

    /// Removes a chain with its rules. Nothing may lead to it any more.
    pub(crate) fn remove_chain(&mut self, name: &str) {
        let table = self.table;
        let request = self.message(MSG_DELCHAIN, 0);
        request.text(CHAIN_TABLE, table);
        request.text(CHAIN_NAME, name);
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Expressions<'_>)) {
        let table = self.table;
        let request = self.message(MSG_NEWRULE, CREATE | libc::NLM_F_APPEND as u16);
        request.text(RULE_TABLE, table);
        request.text(RULE_CHAIN, chain);
        request.nest(RULE_EXPRESSIONS, |inner| write(&mut Expressions(inner)));
    }

    /// Puts a rule with a comment before all others of a chain.
    pub(crate) fn insert_rule(&mut self, chain: &str, comment: &str, write: impl FnOnce(&mut Expressions<'_>)) {
        let table = self.table;
        let request = self.message(MSG_NEWRULE, CREATE);
        request.text(RULE_TABLE, table);
        request.text(RULE_CHAIN, chain);
        request.nest(RULE_EXPRESSIONS, |inner| write(&mut Expressions(inner)));
        request.attribute(RULE_USERDATA, &comment_bytes(comment));
    }

    /// Removes a rule.
    pub(crate) fn remove_rule(&mut self, chain: &str, handle: Handle) {
        let table = self.table;
        let request = self.message(MSG_DELRULE, 0);
        request.text(RULE_TABLE, table);
        request.text(RULE_CHAIN, chain);
        request.attribute(RULE_HANDLE, &handle.0);
    }

    /// Makes a set or map.
    pub(crate) fn set(&mut self, set: &Set) {
        self.sets += 1;
        let (id, table) = (self.sets, self.table);
        let request = self.message(MSG_NEWSET, CREATE);
        request.text(SET_TABLE, table);
        request.text(SET_NAME, set.name);
        let mut flags = 0;
        match set.holds {
            Holds::Nothing => {}
            Holds::Verdicts => {
                flags |= SET_FLAG_MAP;
                request.be32(SET_DATA_TYPE, DATA_TYPE_VERDICT);
            }
            Holds::Fields(fields) => {
                flags |= SET_FLAG_MAP;
                request.be32(SET_DATA_TYPE, data_type(fields));
                request.be32(SET_DATA_LEN, length(fields));
            }
        }
        if let Some(size) = set.dynamic {
            flags |= SET_FLAG_TIMEOUT | SET_FLAG_EVAL;
            request.nest(SET_DESC, |desc| desc.be32(SET_DESC_SIZE, size));
            // Every element brings its own timeout; this one is only a form.
            request.attribute(SET_TIMEOUT, &10_800_000u64.to_be_bytes());
        }
        request.be32(SET_FLAGS, flags);
        request.be32(SET_KEY_TYPE, data_type(set.key));
        request.be32(SET_KEY_LEN, length(set.key));
        request.be32(SET_ID, id);
    }

    /// Adds elements. They must not be there.
    pub(crate) fn add<'e>(&mut self, set: &str, elements: impl IntoIterator<Item = (&'e [u8], Data<'e>)>) {
        self.elements(MSG_NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements. They must be there.
    pub(crate) fn remove<'e>(&mut self, set: &str, keys: impl IntoIterator<Item = &'e [u8]>) {
        self.elements(MSG_DELSETELEM, 0, set, keys.into_iter().map(|key| (key, Data::Nothing)));
    }

    fn elements<'e>(
        &mut self,
        message: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = (&'e [u8], Data<'e>)>,
    ) {
        let table = self.table;
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let request = self.message(message, flags);
            request.text(ELEM_LIST_TABLE, table);
            request.text(ELEM_LIST_SET, set);
            request.nest(ELEM_LIST_ELEMENTS, |list| {
                let start = list.len();
                while list.len() - start < NEST_LIMIT
                    && let Some((key, data)) = elements.next()
                {
                    list.nest(LIST_ELEM, |element| {
                        element.nest(ELEM_KEY, |value| value.attribute(DATA_VALUE, key));
                        match data {
                            Data::Nothing => {}
                            Data::Verdict(verdict) => element.nest(ELEM_DATA, |value| verdict.write(value)),
                            Data::Bytes(bytes) => element.nest(ELEM_DATA, |value| value.attribute(DATA_VALUE, bytes)),
                        }
                    });
                }
            });
        }
    }

    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.request.count() == 1
    }

    /// Makes all changes, or none. The error names the object that the kernel refused.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Refused> {
        if self.is_empty() {
            return Ok(());
        }
        self.request.flag_last(ACK);
        self.request.message(BATCH_END, 0, &header(0, libc::NFNL_SUBSYS_NFTABLES as u16));
        let table = self.table;
        match socket.batch(&mut self.request) {
            Ok(Ok(())) => Ok(()),
            Ok(Err((index, refusal))) => {
                let offset = refusal.offset;
                let what = self.request.get(index).map_or_else(String::new, |message| describe(message, offset));
                Err(Refused { what: format!("table {table}: {what}"), source: refusal.into_error() })
            }
            Err(source) => Err(Refused { what: format!("table {table}: commit"), source }),
        }
    }
}

/// A transaction that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The object.
    pub(crate) what: String,
    /// The kernel's answer.
    pub(crate) source: io::Error,
}

impl Refused {
    /// Whether the table is not as we left it, so that making it anew may help.
    pub(crate) fn is_out_of_step(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy
        )
    }
}

/// What a message was about, in words. `offset` is where in it the kernel found fault.
fn describe(message: &[u8], offset: Option<usize>) -> String {
    let body = message.get(20..).unwrap_or_default();
    let named = |kind| attribute(body, kind).map(text).unwrap_or_default();
    match u16::from_ne_bytes([message[4], message[5]]) & 0xff {
        MSG_NEWTABLE => "make".into(),
        MSG_DELTABLE => "remove".into(),
        MSG_NEWCHAIN => format!("make chain {}", named(CHAIN_NAME)),
        MSG_DELCHAIN => format!("remove chain {}", named(CHAIN_NAME)),
        MSG_NEWRULE => format!("add a rule to chain {}", named(RULE_CHAIN)),
        MSG_DELRULE => format!("remove a rule from chain {}", named(RULE_CHAIN)),
        MSG_NEWSET => format!("make set {}", named(SET_NAME)),
        kind @ (MSG_NEWSETELEM | MSG_DELSETELEM) => {
            let verb = if kind == MSG_NEWSETELEM { "add to" } else { "remove from" };
            let set = named(ELEM_LIST_SET);
            match element_at(message, offset) {
                Some(key) => format!("{verb} set {set}: element {key}"),
                None => format!("{verb} set {set}"),
            }
        }
        _ => "begin".into(),
    }
}

/// The key of the element that covers `offset`, as numbers.
fn element_at(message: &[u8], offset: Option<usize>) -> Option<String> {
    let (offset, base) = (offset?, message.as_ptr() as usize);
    let list = attribute(message.get(20..)?, ELEM_LIST_ELEMENTS)?;
    let element = attributes(list)
        .map(|(_, element)| element)
        .take_while(|element| element.as_ptr() as usize - base <= offset + 4)
        .last()?;
    let key = attribute(attribute(element, ELEM_KEY)?, DATA_VALUE)?;
    Some(key.chunks(4).map(show).collect::<Vec<_>>().join(" . "))
}

/// Four bytes of a key: protocols and ports are padded with zeros behind, addresses mostly are not.
fn show(field: &[u8]) -> String {
    match *field {
        [a, 0, 0, 0] => a.to_string(),
        [a, b, 0, 0] => u16::from_be_bytes([a, b]).to_string(),
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).to_string(),
        _ => format!("{field:?}"),
    }
}

/// A rule's number in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle([u8; 8]);

/// Whether a base chain drops what none of its rules decides about; `None` if there is no such chain.
pub(crate) fn drops(socket: &mut Socket, family: Family, table: &str, chain: &str) -> io::Result<Option<bool>> {
    let mut request = Request::default();
    request.message(kind(MSG_GETCHAIN), ACK, &header(family as u8, 0));
    request.text(CHAIN_TABLE, table);
    request.text(CHAIN_NAME, chain);
    let answer = socket.exchange(request)?.pop().unwrap_or_default();
    match answer {
        Answer { refusal: Some(refusal), .. } if refusal.is(libc::ENOENT) => Ok(None),
        Answer { refusal: Some(refusal), .. } => Err(refusal.into_error()),
        Answer { objects, .. } => {
            let rest = objects.first().and_then(|object| object.get(4..)).unwrap_or_default();
            Ok(Some(attribute(rest, CHAIN_POLICY) == Some(&[0; 4])))
        }
    }
}

/// The rules of a chain that carry `comment`.
pub(crate) fn rules(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: &str,
    comment: &str,
) -> io::Result<Vec<Handle>> {
    let request = || {
        let mut request = Request::default();
        request.message(kind(MSG_GETRULE), DUMP, &header(family as u8, 0));
        request.text(RULE_TABLE, table);
        request.text(RULE_CHAIN, chain);
        request
    };
    let found = socket.dump(request, |found: &mut Vec<Handle>, object| {
        let rest = object.get(4..).unwrap_or_default();
        let is_it = |kind, want: &str| attribute(rest, kind).map(text).as_deref() == Some(want);
        let commented = attribute(rest, RULE_USERDATA).map(comment_text).as_deref() == Some(comment);
        if is_it(RULE_TABLE, table) && is_it(RULE_CHAIN, chain) && commented {
            let handle = attribute(rest, RULE_HANDLE).and_then(|bytes| bytes.try_into().ok());
            found.extend(handle.map(Handle));
        }
    });
    match found {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}

/// The comment of a table, if the table is there; without one it is empty.
pub(crate) fn comment(socket: &mut Socket, family: Family, table: &str) -> io::Result<Option<String>> {
    let mut request = Request::default();
    request.message(kind(MSG_GETTABLE), ACK, &header(family as u8, 0));
    request.text(TABLE_NAME, table);
    let answer = socket.exchange(request)?.pop().unwrap_or_default();
    match answer {
        Answer { refusal: Some(refusal), .. } if refusal.is(libc::ENOENT) => Ok(None),
        Answer { refusal: Some(refusal), .. } => Err(refusal.into_error()),
        Answer { objects, .. } => {
            let userdata =
                objects.first().and_then(|object| object.get(4..)).and_then(|rest| attribute(rest, TABLE_USERDATA));
            Ok(Some(userdata.map(comment_text).unwrap_or_default()))
        }
    }
}

/// All elements of a set: key, and data where it is bytes.
pub(crate) fn elements(socket: &mut Socket, table: &str, set: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let request = || {
        let mut request = Request::default();
        request.message(kind(MSG_GETSETELEM), DUMP, &header(Family::V4 as u8, 0));
        request.text(ELEM_LIST_TABLE, table);
        request.text(ELEM_LIST_SET, set);
        request
    };
    socket.dump(request, |found: &mut Vec<_>, object| {
        let list = object.get(4..).and_then(|rest| attribute(rest, ELEM_LIST_ELEMENTS)).unwrap_or_default();
        for (_, element) in attributes(list) {
            let value = |kind| attribute(element, kind).and_then(|data| attribute(data, DATA_VALUE));
            if let Some(key) = value(ELEM_KEY) {
                found.push((key.to_vec(), value(ELEM_DATA).unwrap_or_default().to_vec()));
            }
        }
    })
}

#[cfg(test)]
mod tests;
