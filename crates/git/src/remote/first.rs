//! Versions 0 and 1: a server tells all its references at once, and what it can do behind the first of them.
//!
//! ```text
//! server   [version 1]  ID NAME\0CAPABILITIES  ID NAME ...  flush
//! client   want ID CAPABILITIES  want ID ...  [deepen N] [filter SPEC]  flush  done
//! server   [shallow ID ... flush]  NAK  the pack, in bands
//! ```
//!
//! An SSH server speaks so to whoever may not set `GIT_PROTOCOL` there, which is what most distributions ship; over HTTP
//! those do that are older than git 2.18.
//!
//! Specification: <https://git-scm.com/docs/pack-protocol>, <https://git-scm.com/docs/protocol-capabilities>.

use bytes::Bytes;
use futures::Stream;

use super::{Fetched, MOST_REFERENCES, Reference};
use crate::{
    Error,
    id::{Format, Id},
    packet::{self, Packet, Packets},
};

/// What a server told.
#[derive(Clone, Debug)]
pub(super) struct Advertised {
    pub references: Vec<Reference>,
    pub format: Format,
    pub shallow: bool,
    pub filter: bool,
    bands: Option<&'static str>,
    offsets: bool,
    progress: bool,
    /// Whether it gives what no reference leads to directly.
    any: bool,
}

/// Reads what a server tells, whose first line was read.
pub(super) async fn advertised<S: Stream<Item = std::io::Result<Bytes>> + Unpin>(
    first: Option<String>,
    packets: &mut Packets<S>,
    url: &str,
) -> Result<Advertised, Error> {
    let damaged = |line: &str| Error::invalid(format!("{url}: a damaged reference: {line:?}"));
    let mut line = match first.as_deref() {
        Some("version 1") => packets.text().await?,
        _ => first,
    };
    // Servers without version 0 and without a reference say nothing at all.
    let capabilities = match &line {
        None => return Err(Error::invalid(format!("{url}: the server tells nothing: is this a git repository?"))),
        Some(first) => match first.split_once('\0') {
            Some((_, capabilities)) => capabilities.to_owned(),
            None if first.split(' ').next().is_some_and(|id| Id::parse(id).is_some()) => String::new(),
            None => {
                return Err(Error::invalid(format!(
                    "{url}: the server speaks no version of git's protocol that is known"
                )));
            }
        },
    };
    let list = || capabilities.split(' ');
    let has = |name: &str| list().any(|capability| capability == name);
    let format = match list().find_map(|capability| capability.strip_prefix("object-format=")) {
        None => Format::Sha1,
        Some(name) => {
            Format::parse(name).ok_or_else(|| Error::invalid(format!("{url}: unknown object format {name}")))?
        }
    };
    let mut references: Vec<Reference> = Vec::new();
    while let Some(text) = line {
        let text = text.split('\0').next().unwrap_or_default();
        let (id, name) = text.split_once(' ').ok_or_else(|| damaged(text))?;
        // What the server itself does not have whole is its own matter; a repository without a commit has a line that names none.
        if id != "shallow" && name != "capabilities^{}" {
            let id = Id::parse(id).ok_or_else(|| damaged(text))?;
            match name.strip_suffix("^{}") {
                Some(tag) => {
                    let last = references.last_mut().filter(|last| last.name == tag);
                    last.ok_or_else(|| damaged(text))?.peeled = Some(id);
                }
                None => references.push(Reference { name: name.to_owned(), id, peeled: None, symbolic: None }),
            }
        }
        if references.len() > MOST_REFERENCES {
            return Err(Error::TooLarge { what: "the list of references", limit: MOST_REFERENCES as u64 });
        }
        line = packets.text().await?;
    }
    for (name, target) in list().filter_map(|capability| capability.strip_prefix("symref=")?.split_once(':')) {
        if let Some(reference) = references.iter_mut().find(|reference| reference.name == name) {
            reference.symbolic = Some(target.to_owned());
        }
    }
    Ok(Advertised {
        references,
        format,
        shallow: has("shallow"),
        filter: has("filter"),
        bands: ["side-band-64k", "side-band"].into_iter().find(|name| has(name)),
        offsets: has("ofs-delta"),
        progress: has("no-progress"),
        any: has("allow-reachable-sha1-in-want"),
    })
}

impl Advertised {
    /// What to ask for to have `wants`, and how deep: a commit that no reference leads to directly comes with the whole history of all
    /// that do, or not at all, as to `git` itself.
    pub fn reaching(&self, wants: &[Id], depth: Option<u32>) -> (Vec<Id>, Option<u32>) {
        let told = |id: &Id| self.references.iter().any(|reference| reference.id == *id);
        if self.any || wants.iter().all(told) {
            return (wants.to_vec(), depth.filter(|_| self.shallow));
        }
        let mut all: Vec<Id> = self.references.iter().map(|reference| reference.id).collect();
        all.sort_unstable();
        all.dedup();
        (all, None)
    }

    /// A request for a pack.
    pub fn request(&self, wants: &[Id], depth: Option<u32>, filter: Option<&str>, url: &str) -> Result<Vec<u8>, Error> {
        let old = || Error::invalid(format!("{url}: the server is too old: it cannot tell a pack from an error"));
        let mut capabilities = format!(" {}", self.bands.ok_or_else(old)?);
        let more = [(self.offsets, "ofs-delta"), (self.progress, "no-progress"), (filter.is_some(), "filter")];
        more.iter().filter(|(wanted, _)| *wanted).for_each(|(_, name)| capabilities += &format!(" {name}"));
        if self.format != Format::Sha1 {
            capabilities += &format!(" object-format={}", self.format.name());
        }
        capabilities += concat!(" agent=madang/", env!("CARGO_PKG_VERSION"));
        let mut request = Vec::new();
        for (at, id) in wants.iter().enumerate() {
            packet::line(&mut request, &format!("want {id}{}", if at == 0 { &capabilities } else { "" }));
        }
        if let Some(depth) = depth {
            packet::line(&mut request, &format!("deepen {depth}"));
        }
        if let Some(filter) = filter {
            packet::line(&mut request, &format!("filter {filter}"));
        }
        packet::flush(&mut request);
        packet::line(&mut request, "done");
        Ok(request)
    }
}

/// Reads an answer up to its pack. `deepened`: whether a depth was asked for.
pub(super) async fn preamble<S: Stream<Item = std::io::Result<Bytes>> + Unpin>(
    packets: &mut Packets<S>,
    deepened: bool,
) -> Result<Fetched, Error> {
    let mut fetched = Fetched::default();
    if deepened {
        while let Some(line) = packets.text().await? {
            fetched.shallow.extend(line.strip_prefix("shallow ").and_then(Id::parse));
            if fetched.shallow.len() > MOST_REFERENCES {
                return Err(Error::TooLarge { what: "shallow-info", limit: MOST_REFERENCES as u64 });
            }
        }
    }
    match packets.next().await? {
        Some(Packet::Data(line)) if line.starts_with(b"NAK") => Ok(fetched),
        Some(Packet::Data(line)) if line.starts_with(b"ERR ") => {
            Err(Error::Remote(String::from_utf8_lossy(&line[4..]).trim().to_owned()))
        }
        _ => Err(Error::invalid("the remote's answer is no pack")),
    }
}

/// Whether a reference was asked for.
pub(super) fn is_asked(name: &str, prefixes: &[String]) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
}
