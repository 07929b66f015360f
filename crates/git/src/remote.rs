//! A repository elsewhere: its references, and packs of what is behind them.
//!
//! ```text
//! first                     what the server can do             GET  info/refs?service=git-upload-pack, or a line's first packets
//! command=ls-refs           names and ids                      POST git-upload-pack, or the next packets of the line
//! command=fetch             [shallow-info] packfile, in three bands: content, progress, error
//! ```
//!
//! What is said is the same over HTTP ([`web`]) and SSH ([`crate::ssh`]): version 2 where the server speaks it, else what all
//! servers do ([`first`]).
//!
//! Specification: <https://git-scm.com/docs/protocol-v2>.

use std::sync::Arc;

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use http::{Request, Response};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Mutex,
};

use crate::{
    Error, Limits,
    id::{Format, Id},
    packet::{self, Packet, Packets},
    ssh::{self, address::Address, line::Line},
};

mod first;
mod web;

/// The body of an answer.
pub type Body = BoxStream<'static, std::io::Result<Bytes>>;
/// Sends a request, follows redirects, and tells the address that answered at last.
pub type Exchange =
    Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, std::io::Result<(http::Uri, Response<Body>)>> + Send + Sync>;

/// The ways to servers.
#[derive(Clone)]
pub struct Ways {
    /// Over HTTPS and HTTP.
    pub web: Exchange,
    /// Over SSH; none where that is not possible.
    pub ssh: Option<Arc<ssh::Access>>,
}

impl From<Exchange> for Ways {
    fn from(web: Exchange) -> Self {
        Self { web, ssh: None }
    }
}

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ways").field("ssh", &self.ssh).finish_non_exhaustive()
    }
}

/// References that a remote may have; beyond them it is asked for fewer by their prefixes.
const MOST_REFERENCES: usize = 1_000_000;
/// Capabilities that a server may list.
const MOST_CAPABILITIES: usize = 1_000;

/// A reference of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `refs/heads/main`, `HEAD`.
    pub name: String,
    /// What it leads to.
    pub id: Id,
    /// For an annotated tag, what that leads to.
    pub peeled: Option<Id>,
    /// For `HEAD`, the branch.
    pub symbolic: Option<String>,
}

/// A repository on a server.
pub struct Remote {
    transport: Transport,
    /// Without user and password.
    url: String,
    /// What the server said first.
    pub format: Format,
    version: Version,
}

enum Transport {
    Web(web::Web),
    Ssh { access: Arc<ssh::Access>, address: Box<Address>, line: Mutex<Option<Line>> },
}

/// What a server speaks.
enum Version {
    Second { shallow: bool, filter: bool },
    First(first::Advertised),
}

/// An answer that is being read.
enum Answer {
    Web(Packets<Body>),
    Ssh(Line),
}

impl Answer {
    fn packets(&mut self) -> &mut Packets<Body> {
        match self {
            Self::Web(packets) => packets,
            Self::Ssh(line) => &mut line.packets,
        }
    }
}

/// What a fetch brought besides the pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Commits whose parents were left out.
    pub shallow: Vec<Id>,
    /// Bytes of the pack.
    pub bytes: u64,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.url)
    }
}

impl Remote {
    /// Asks the server at an `https`, `http` or `ssh` URL, or at `user@host:path`, what it can do. User and password may stand in
    /// one of the web; where `authorization` is given, that is shown instead, and over SSH neither is.
    pub async fn open(url: &str, authorization: Option<&str>, ways: &Ways) -> Result<Self, Error> {
        let Some(address) = Address::parse(url)? else {
            let mut web = web::Web::new(url, authorization, ways.web.clone())?;
            let (version, format) = hello(&mut web.hello().await?, &web.url).await?;
            return Ok(Self { url: web.url.clone(), transport: Transport::Web(web), format, version });
        };
        let none = || Error::invalid(format!("{url}: repositories are not fetched over SSH from here"));
        let access = ways.ssh.clone().ok_or_else(none)?;
        let (line, version, format) = dial(&access, &address).await?;
        let line = Mutex::new(Some(line));
        let url = address.text.trim_end_matches('/').to_owned();
        Ok(Self { transport: Transport::Ssh { access, address: Box::new(address), line }, url, format, version })
    }

    /// The address without user and password of the web.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The references whose names begin with one of the prefixes, or all.
    pub async fn references(&self, prefixes: &[String]) -> Result<Vec<Reference>, Error> {
        if let Version::First(advertised) = &self.version {
            let asked = advertised.references.iter().filter(|reference| first::is_asked(&reference.name, prefixes));
            return Ok(asked.cloned().collect());
        }
        let mut request = self.command("ls-refs");
        packet::line(&mut request, "peel");
        packet::line(&mut request, "symrefs");
        prefixes.iter().for_each(|prefix| packet::line(&mut request, &format!("ref-prefix {prefix}")));
        packet::flush(&mut request);
        let mut answer = self.ask(request).await?;
        let packets = answer.packets();
        let mut references = Vec::new();
        while let Some(line) = packets.text().await? {
            if references.len() == MOST_REFERENCES {
                return Err(Error::TooLarge { what: "the list of references", limit: MOST_REFERENCES as u64 });
            }
            let mut words = line.split(' ');
            let id = words.next().unwrap_or_default();
            // A branch without a commit.
            if id == "unborn" {
                continue;
            }
            let (Some(id), Some(name)) = (Id::parse(id), words.next()) else {
                return Err(Error::invalid(format!("{}: a damaged reference: {line:?}", self.url)));
            };
            let mut reference = Reference { name: name.to_owned(), id, peeled: None, symbolic: None };
            for attribute in words {
                if let Some(target) = attribute.strip_prefix("symref-target:") {
                    reference.symbolic = Some(target.to_owned());
                } else if let Some(id) = attribute.strip_prefix("peeled:") {
                    reference.peeled = Id::parse(id);
                }
            }
            references.push(reference);
        }
        self.heard(answer).await;
        Ok(references)
    }

    /// Writes the pack of everything that `wants` lead to into `pack`: with `depth`, only that many commits deep.
    pub async fn fetch(
        &self,
        wants: &[Id],
        depth: Option<u32>,
        pack: &mut (impl AsyncWrite + Unpin),
        limits: &Limits,
    ) -> Result<Fetched, Error> {
        self.fetch_of(wants, depth, None, pack, limits).await
    }

    /// Whether the server leaves files out where it is asked to.
    pub fn filters(&self) -> bool {
        match &self.version {
            Version::Second { filter, .. } => *filter,
            Version::First(advertised) => advertised.filter,
        }
    }

    /// The same without files: commits and directories, so many commits deep.
    pub async fn fetch_history(
        &self,
        wants: &[Id],
        depth: u32,
        pack: &mut (impl AsyncWrite + Unpin),
        limits: &Limits,
    ) -> Result<Fetched, Error> {
        self.fetch_of(wants, Some(depth), Some("blob:none"), pack, limits).await
    }

    async fn fetch_of(
        &self,
        wants: &[Id],
        depth: Option<u32>,
        filter: Option<&str>,
        pack: &mut (impl AsyncWrite + Unpin),
        limits: &Limits,
    ) -> Result<Fetched, Error> {
        let shallow = match &self.version {
            Version::Second { shallow, .. } => *shallow,
            Version::First(advertised) => {
                let (wants, depth) = advertised.reaching(wants, depth);
                let mut answer = self.ask(advertised.request(&wants, depth, filter, &self.url)?).await?;
                let packets = answer.packets();
                let mut fetched = first::preamble(packets, depth.is_some()).await?;
                fetched.bytes = bands(packets, pack, limits.pack).await?;
                return Ok(fetched);
            }
        };
        let mut request = self.command("fetch");
        packet::line(&mut request, "ofs-delta");
        packet::line(&mut request, "no-progress");
        if let Some(depth) = depth.filter(|_| shallow) {
            packet::line(&mut request, &format!("deepen {depth}"));
        }
        if let Some(filter) = filter {
            packet::line(&mut request, &format!("filter {filter}"));
        }
        wants.iter().for_each(|id| packet::line(&mut request, &format!("want {id}")));
        packet::line(&mut request, "done");
        packet::flush(&mut request);
        let mut answer = self.ask(request).await?;
        let packets = answer.packets();
        let mut fetched = Fetched::default();
        while let Some(section) = packets.text().await? {
            match section.as_str() {
                "shallow-info" => {
                    while let Some(line) = packets.text().await? {
                        fetched.shallow.extend(line.strip_prefix("shallow ").and_then(Id::parse));
                        if fetched.shallow.len() > MOST_REFERENCES {
                            return Err(Error::TooLarge { what: "shallow-info", limit: MOST_REFERENCES as u64 });
                        }
                    }
                }
                "packfile" => {
                    fetched.bytes = bands(packets, pack, limits.pack).await?;
                    self.heard(answer).await;
                    return Ok(fetched);
                }
                // Sections that this request does not ask for may be skipped.
                _ => while packets.text().await?.is_some() {},
            }
        }
        Err(Error::invalid(format!("{}: the server sent no pack", self.url)))
    }

    fn command(&self, name: &str) -> Vec<u8> {
        let mut request = Vec::new();
        packet::line(&mut request, &format!("command={name}"));
        packet::line(&mut request, concat!("agent=madang/", env!("CARGO_PKG_VERSION")));
        packet::line(&mut request, &format!("object-format={}", self.format.name()));
        packet::delimiter(&mut request);
        request
    }

    /// Sends a request. Over SSH on the line that is there, or on a new one: whoever left an answer half read left its line.
    async fn ask(&self, request: Vec<u8>) -> Result<Answer, Error> {
        let (access, address, line) = match &self.transport {
            Transport::Web(web) => return Ok(Answer::Web(web.ask(request).await?)),
            Transport::Ssh { access, address, line } => (access, address, line),
        };
        let open = line.lock().await.take();
        let mut line = match open {
            Some(line) => line,
            None => dial(access, address).await?.0,
        };
        line.say(request).await?;
        Ok(Answer::Ssh(line))
    }

    /// Keeps the line of an answer that was read to its end. In the first versions that is the end of the line.
    async fn heard(&self, answer: Answer) {
        if let (Answer::Ssh(open), Transport::Ssh { line, .. }) = (answer, &self.transport) {
            *line.lock().await = Some(open);
        }
    }
}

/// Opens a line, and reads what the server says first.
async fn dial(access: &ssh::Access, address: &Address) -> Result<(Line, Version, Format), Error> {
    let mut line = Line::open(access, address).await?;
    let (version, format) = hello(&mut line.packets, &address.text).await?;
    Ok((line, version, format))
}

/// What a server says first: which version it speaks, and what it can do.
async fn hello(packets: &mut Packets<Body>, url: &str) -> Result<(Version, Format), Error> {
    let mut first = packets.text().await?;
    // Over HTTP some begin with the service's name.
    if first.as_deref().is_some_and(|line| line.starts_with("# service=")) {
        packets.next().await?;
        first = packets.text().await?;
    }
    if first.as_deref() != Some("version 2") {
        let advertised = first::advertised(first, packets, url).await?;
        let format = advertised.format;
        return Ok((Version::First(advertised), format));
    }
    let (mut fetch, mut count, mut format) = (None, 0, Format::Sha1);
    while let Some(line) = packets.text().await? {
        count += 1;
        if count > MOST_CAPABILITIES {
            return Err(Error::TooLarge { what: "the list of capabilities", limit: MOST_CAPABILITIES as u64 });
        }
        let (name, value) = line.split_once('=').unwrap_or((&line, ""));
        match name {
            "fetch" => {
                let has = |name: &str| value.split(' ').any(|feature| feature == name);
                fetch = Some(Version::Second { shallow: has("shallow"), filter: has("filter") });
            }
            "object-format" => {
                format = Format::parse(value)
                    .ok_or_else(|| Error::invalid(format!("{url}: unknown object format {value}")))?;
            }
            _ => {}
        }
    }
    let version = fetch.ok_or_else(|| Error::invalid(format!("{url}: the server offers no fetch")))?;
    Ok((version, format))
}

/// The content of band 1; an error of what band 3 says.
async fn bands<S: futures::Stream<Item = std::io::Result<Bytes>> + Unpin>(
    packets: &mut Packets<S>,
    pack: &mut (impl AsyncWrite + Unpin),
    limit: u64,
) -> Result<u64, Error> {
    let mut bytes = 0;
    while let Some(Packet::Data(data)) = packets.next().await? {
        match data.first() {
            Some(1) => {
                bytes += data.len() as u64 - 1;
                if bytes > limit {
                    return Err(Error::TooLarge { what: "the pack", limit });
                }
                pack.write_all(&data[1..]).await?;
            }
            Some(2) => {}
            Some(3) => return Err(Error::Remote(String::from_utf8_lossy(&data[1..]).trim().to_owned())),
            _ => return Err(Error::invalid("the remote sent an unknown band")),
        }
    }
    pack.flush().await?;
    Ok(bytes)
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let (bytes, mut at, mut decoded) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let (byte, length) = match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (byte, 3),
            None => (bytes[at], 1),
        };
        decoded.push(byte);
        at += length;
    }
    decoded
}

#[cfg(test)]
mod tests;
