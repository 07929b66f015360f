//! What fetches are answered with: `git-upload-pack`.
//!
//! ```text
//! version 2   command=ls-refs | command=fetch: want, have, shallow, deepen, filter, done
//!             ─► acknowledgments │ shallow-info │ packfile in bands
//! version 0   want …, have …, done
//!             ─► shallow … │ ACK … │ pack, in bands or as it is
//! ```
//!
//! Each request says everything: nothing is kept between two. Any object may be asked for by its id, as in version 2 of
//! `git` itself: who may read a repository may read all of it.
//!
//! Specification: <https://git-scm.com/docs/protocol-v2>, <https://git-scm.com/docs/pack-protocol>.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};

use crate::{
    Error,
    id::Id,
    pack,
    packet::{self, Packet},
    repository::{Reader, Repository},
    walk::{self, Ask, Boundary, Depth, Filter},
};

/// Wants, haves and prefixes that one request may have.
const MOST_LINES: usize = 300_000;
/// How this side calls itself.
pub const AGENT: &str = "madang";

/// Takes pieces of an answer; an error ends the work: nobody listens any more.
pub type Sink<'a> = &'a mut dyn FnMut(Bytes) -> Result<(), Error>;

/// The lines of a request up to each separator.
struct Lines {
    held: BytesMut,
    taken: usize,
}

impl Lines {
    fn new(body: &[u8]) -> Self {
        Self { held: BytesMut::from(body), taken: 0 }
    }

    /// The next line; none at a separator or the end.
    fn next(&mut self) -> Result<Option<String>, Error> {
        match self.packet()? {
            Some(Packet::Data(data)) => {
                let text = std::str::from_utf8(&data).map_err(|_| Error::invalid("a request that is not UTF-8"))?;
                Ok(Some(text.trim_end_matches('\n').to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn packet(&mut self) -> Result<Option<Packet>, Error> {
        self.taken += 1;
        if self.taken > MOST_LINES {
            return Err(Error::TooLarge { what: "the request's list of lines", limit: MOST_LINES as u64 });
        }
        packet::take(&mut self.held)
    }
}

fn id(text: &str) -> Result<Id, Error> {
    Id::parse(text).ok_or_else(|| Error::invalid(format!("{text:?} is no object id")))
}

/// What version 2 begins with: what can be asked.
pub fn capabilities(repository: &Repository) -> Vec<u8> {
    let mut out = Vec::new();
    packet::line(&mut out, "version 2");
    packet::line(&mut out, &format!("agent={AGENT}"));
    packet::line(&mut out, "ls-refs=unborn");
    packet::line(&mut out, "fetch=shallow filter wait-for-done");
    packet::line(&mut out, "server-option");
    packet::line(&mut out, &format!("object-format={}", repository.format().name()));
    packet::flush(&mut out);
    out
}

/// Answers a request of version 2. Blocks.
pub fn answer(repository: &Repository, body: &[u8], sink: Sink<'_>) -> Result<(), Error> {
    let mut lines = Lines::new(body);
    let mut command = String::new();
    let mut arguments = false;
    loop {
        match lines.packet()? {
            Some(Packet::Data(data)) => {
                let text = String::from_utf8_lossy(&data);
                let text = text.trim_end_matches('\n');
                if let Some(name) = text.strip_prefix("command=") {
                    command = name.to_owned();
                } else if let Some(format) = text.strip_prefix("object-format=")
                    && format != repository.format().name()
                {
                    return Err(Error::invalid(format!("mismatched object format: {format}")));
                }
            }
            Some(Packet::Delimiter) => {
                arguments = true;
                break;
            }
            _ => break,
        }
    }
    match command.as_str() {
        "ls-refs" => {
            let mut arguments = if arguments { lines } else { Lines::new(b"0000") };
            list(repository, &mut arguments, sink)
        }
        "fetch" => fetch(repository, &mut lines, sink),
        // A flush alone: the client has nothing to ask.
        "" => Ok(()),
        other => Err(Error::invalid(format!("invalid command '{other}'"))),
    }
}

fn list(repository: &Repository, arguments: &mut Lines, sink: Sink<'_>) -> Result<(), Error> {
    let (mut peel, mut symbolic, mut unborn, mut prefixes) = (false, false, false, Vec::new());
    while let Some(line) = arguments.next()? {
        match line.as_str() {
            "peel" => peel = true,
            "symrefs" => symbolic = true,
            "unborn" => unborn = true,
            line => prefixes.extend(line.strip_prefix("ref-prefix ").map(str::to_owned)),
        }
    }
    let references = repository.references();
    let wanted = |name: &str| prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
    let mut out = Vec::new();
    if wanted("HEAD") {
        let target = if symbolic { format!(" symref-target:{}", references.head()) } else { String::new() };
        match references.get(references.head()) {
            Some(head) => packet::line(&mut out, &format!("{} HEAD{target}", head.id)),
            None if unborn && symbolic => packet::line(&mut out, &format!("unborn HEAD{target}")),
            None => {}
        }
    }
    for (name, target) in references.iter().filter(|(name, _)| wanted(name)) {
        let peeled = match target.peeled {
            Some(id) if peel => format!(" peeled:{id}"),
            _ => String::new(),
        };
        packet::line(&mut out, &format!("{} {name}{peeled}", target.id));
        if out.len() > 60 << 10 {
            sink(std::mem::take(&mut out).into())?;
        }
    }
    packet::flush(&mut out);
    sink(out.into())
}

/// What a fetch says, in either version.
#[derive(Default)]
struct Fetch {
    ask: Ask,
    since: Option<i64>,
    not: Vec<String>,
    relative: bool,
    commits: Option<u32>,
    done: bool,
    wait: bool,
    tags: bool,
    offsets: bool,
    quiet: bool,
}

impl Fetch {
    /// Takes a line; whether it was one of a fetch.
    fn take(&mut self, line: &str, reader: &Reader) -> Result<bool, Error> {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "want" => self.ask.wants.push(id(value)?),
            "have" => {
                let have = id(value)?;
                if reader.has(&have)? {
                    self.ask.haves.push(have);
                }
            }
            "shallow" => {
                self.ask.shallow.insert(id(value)?);
            }
            "deepen" => {
                let depth: u32 = value.parse().map_err(|_| Error::invalid(format!("invalid deepen: {value}")))?;
                self.commits = (depth > 0).then_some(depth);
            }
            "deepen-since" => {
                self.since = Some(value.parse().map_err(|_| Error::invalid(format!("invalid deepen-since: {value}")))?);
            }
            "deepen-not" => self.not.push(value.to_owned()),
            "deepen-relative" => self.relative = true,
            "filter" => self.ask.filter = Filter::parse(value)?,
            "done" => self.done = true,
            "wait-for-done" => self.wait = true,
            "include-tag" => self.tags = true,
            "ofs-delta" => self.offsets = true,
            "no-progress" => self.quiet = true,
            "thin-pack" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts together how deep it goes, and checks what is wanted.
    fn settle(&mut self, repository: &Repository, reader: &Reader) -> Result<(), Error> {
        let several =
            usize::from(self.commits.is_some()) + usize::from(self.since.is_some()) + usize::from(!self.not.is_empty());
        if several > 1 {
            return Err(Error::invalid("deepen, deepen-since and deepen-not cannot be used together"));
        }
        self.ask.depth = match (self.commits, self.since) {
            (Some(depth), _) if self.relative => Depth::Further(depth),
            (Some(depth), _) => Depth::Commits(depth),
            (_, Some(time)) => Depth::Since(time),
            _ if self.not.is_empty() => Depth::Whole,
            _ => {
                let references = repository.references();
                let find = |name: &String| {
                    let whole = [name.clone(), format!("refs/tags/{name}"), format!("refs/heads/{name}")];
                    let target = whole.iter().find_map(|name| references.get(name));
                    target
                        .map(|target| target.id)
                        .ok_or_else(|| Error::invalid(format!("git upload-pack: deepen-not is not a ref: {name}")))
                };
                Depth::Not(self.not.iter().map(find).collect::<Result<_, _>>()?)
            }
        };
        for want in &self.ask.wants {
            if !reader.has(want)? {
                return Err(Error::invalid(format!("upload-pack: not our ref {want}")));
            }
        }
        Ok(())
    }
}

fn fetch(repository: &Repository, lines: &mut Lines, sink: Sink<'_>) -> Result<(), Error> {
    let mut reader = repository.reader();
    let mut fetch = Fetch::default();
    while let Some(line) = lines.next()? {
        if !fetch.take(&line, &reader)? {
            return Err(Error::invalid(format!("unexpected line: '{line}'")));
        }
    }
    fetch.settle(repository, &reader)?;
    let mut out = Vec::new();
    if !fetch.done {
        packet::line(&mut out, "acknowledgments");
        let common: HashSet<Id> = fetch.ask.haves.iter().copied().collect();
        if common.is_empty() {
            packet::line(&mut out, "NAK");
        }
        for have in &fetch.ask.haves {
            packet::line(&mut out, &format!("ACK {have}"));
        }
        if fetch.wait || !walk::ready(&mut reader, &fetch.ask.wants, &common)? {
            packet::flush(&mut out);
            return sink(out.into());
        }
        packet::line(&mut out, "ready");
        packet::delimiter(&mut out);
    }
    let boundary = walk::boundary(&mut reader, &fetch.ask)?;
    if fetch.ask.depth != Depth::Whole {
        packet::line(&mut out, "shallow-info");
        told(&mut out, &boundary);
        packet::delimiter(&mut out);
    }
    packet::line(&mut out, "packfile");
    sink(out.into())?;
    send(repository, &mut reader, &fetch, &boundary, Some(packet::LONGEST), sink)?;
    sink(Bytes::from_static(b"0000"))
}

fn told(out: &mut Vec<u8>, boundary: &Boundary) {
    boundary.shallow.iter().for_each(|id| packet::line(out, &format!("shallow {id}")));
    boundary.unshallow.iter().for_each(|id| packet::line(out, &format!("unshallow {id}")));
}

/// Sends the pack, in bands whose packets have at most so many bytes, or as it is.
fn send(
    repository: &Repository,
    reader: &mut Reader,
    fetch: &Fetch,
    boundary: &Boundary,
    bands: Option<usize>,
    sink: Sink<'_>,
) -> Result<(), Error> {
    let mut ids = walk::objects(reader, &fetch.ask, boundary)?;
    if fetch.tags {
        let sent: HashSet<Id> = ids.iter().copied().collect();
        let references = repository.references();
        let tags = references.iter().filter(|(_, target)| target.peeled.is_some_and(|peeled| sent.contains(&peeled)));
        ids.extend(tags.map(|(_, target)| target.id).filter(|id| !sent.contains(id)));
        ids.sort_unstable();
        ids.dedup();
    }
    if let Some(longest) = bands
        && !fetch.quiet
    {
        let mut out = Vec::new();
        packet::band(&mut out, 2, format!("Sending {} objects.\n", ids.len()).as_bytes(), longest);
        sink(out.into())?;
    }
    let piece = bands.unwrap_or(64 << 10) - 5;
    let mut held = Vec::with_capacity(piece);
    let flush = |held: &mut Vec<u8>, sink: Sink<'_>| match bands {
        None => sink(std::mem::take(held).into()),
        Some(longest) => {
            let mut out = Vec::with_capacity(held.len() + 5);
            packet::band(&mut out, 1, held, longest);
            held.clear();
            sink(out.into())
        }
    };
    pack::output::write(reader, ids, fetch.offsets, &mut |mut bytes| {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(piece - held.len()));
            held.extend_from_slice(now);
            bytes = later;
            if held.len() == piece {
                flush(&mut held, sink)?;
            }
        }
        Ok(())
    })?;
    if held.is_empty() { Ok(()) } else { flush(&mut held, sink) }
}

/// What version 0 begins with: every reference, and on the first line what can be asked.
pub fn advertisement(repository: &Repository) -> Vec<u8> {
    let references = repository.references();
    let capabilities = format!(
        "multi_ack_detailed no-done side-band side-band-64k thin-pack shallow deepen-since deepen-not deepen-relative \
         filter allow-tip-sha1-in-want allow-reachable-sha1-in-want ofs-delta no-progress include-tag \
         symref=HEAD:{} object-format={} agent={AGENT}",
        references.head(),
        repository.format().name()
    );
    let head = references.get(references.head()).map(|target| ("HEAD", target.id));
    let all = references.iter().flat_map(|(name, target)| {
        let peeled = target.peeled.map(|peeled| (format!("{name}^{{}}"), peeled));
        std::iter::once((name.to_owned(), target.id)).chain(peeled)
    });
    advertise(head.map(|(name, id)| (name.to_owned(), id)).into_iter().chain(all), &capabilities, repository)
}

/// References in the form of version 0.
pub(crate) fn advertise(
    references: impl Iterator<Item = (String, Id)>,
    capabilities: &str,
    repository: &Repository,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut first = true;
    for (name, id) in references {
        let extra = if first { format!("\0{capabilities}") } else { String::new() };
        packet::line(&mut out, &format!("{id} {name}{extra}"));
        first = false;
    }
    if first {
        let none = "0".repeat(2 * repository.format().length());
        packet::line(&mut out, &format!("{none} capabilities^{{}}\0{capabilities}"));
    }
    packet::flush(&mut out);
    out
}

/// Answers a request of version 0. Blocks.
pub fn answer_first_version(repository: &Repository, body: &[u8], sink: Sink<'_>) -> Result<(), Error> {
    let mut reader = repository.reader();
    let (mut fetch, mut lines) = (Fetch::default(), Lines::new(body));
    let mut words: Vec<String> = Vec::new();
    while let Some(line) = lines.next()? {
        let mut line = line.as_str();
        // The first want has what the client can do behind its id.
        if fetch.ask.wants.is_empty() && line.starts_with("want ") {
            let end = line[5..].find([' ', '\0']).map_or(line.len(), |at| at + 5);
            words = line[end..].split([' ', '\0']).map(str::to_owned).collect();
            line = &line[..end];
        }
        if !fetch.take(line, &reader)? {
            return Err(Error::invalid(format!(
                "upload-pack: protocol error, expected to get object ID, not '{line}'"
            )));
        }
    }
    let can = |word: &str| words.iter().any(|each| each == word);
    if fetch.ask.wants.is_empty() {
        return Ok(());
    }
    (fetch.tags, fetch.offsets, fetch.quiet) = (can("include-tag"), can("ofs-delta"), can("no-progress"));
    fetch.relative |= can("deepen-relative");
    fetch.settle(repository, &reader)?;
    let boundary = walk::boundary(&mut reader, &fetch.ask)?;
    let mut out = Vec::new();
    if fetch.ask.depth != Depth::Whole {
        told(&mut out, &boundary);
        packet::flush(&mut out);
    }
    let detailed = can("multi_ack_detailed");
    let (mut last, mut ready, mut told_ready) = (None, false, false);
    loop {
        match lines.packet()? {
            Some(Packet::Data(data)) => {
                let text = String::from_utf8_lossy(&data).trim_end_matches('\n').to_owned();
                if text == "done" {
                    fetch.done = true;
                    break;
                }
                let before = fetch.ask.haves.len();
                if !text.starts_with("have ") || !fetch.take(&text, &reader)? {
                    return Err(Error::invalid(format!("upload-pack: expected SHA1 list, got '{text}'")));
                }
                let Some(have) = fetch.ask.haves.get(before).copied() else { continue };
                if detailed {
                    packet::line(&mut out, &format!("ACK {have} common"));
                } else if last.is_none() {
                    packet::line(&mut out, &format!("ACK {have}"));
                }
                last = Some(have);
            }
            // Between two lots of haves.
            Some(Packet::Flush) => {
                let common: HashSet<Id> = fetch.ask.haves.iter().copied().collect();
                if detailed && !told_ready && walk::ready(&mut reader, &fetch.ask.wants, &common)? {
                    let last = last.expect("something is common");
                    packet::line(&mut out, &format!("ACK {last} ready"));
                    told_ready = true;
                }
                if last.is_none() || detailed {
                    packet::line(&mut out, "NAK");
                }
                if told_ready && can("no-done") {
                    ready = true;
                    break;
                }
            }
            _ => break,
        }
    }
    if !fetch.done && !ready {
        // A clone that wants no history says nothing more before `done`.
        return sink(out.into());
    }
    match last {
        Some(last) if detailed => packet::line(&mut out, &format!("ACK {last}")),
        Some(_) => {}
        None => packet::line(&mut out, "NAK"),
    }
    sink(out.into())?;
    let bands = match (can("side-band-64k"), can("side-band")) {
        (true, _) => Some(packet::LONGEST),
        (_, true) => Some(1000),
        _ => None,
    };
    send(repository, &mut reader, &fetch, &boundary, bands, sink)?;
    if bands.is_some() { sink(Bytes::from_static(b"0000")) } else { Ok(()) }
}

/// An error as both versions tell it.
pub fn told_error(error: &Error) -> Bytes {
    let mut out = Vec::new();
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(1000));
    packet::line(&mut out, &format!("ERR {text}"));
    out.into()
}
