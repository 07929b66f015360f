//! A repository elsewhere: its references, and packs of what is behind them.
//!
//! ```text
//! GET  info/refs?service=git-upload-pack      what the server can do
//! POST git-upload-pack   command=ls-refs      names and ids
//! POST git-upload-pack   command=fetch        [shallow-info] packfile, in three bands: content, progress, error
//! ```
//!
//! Specification: <https://git-scm.com/docs/protocol-v2>, <https://git-scm.com/docs/http-protocol>.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use http::{Method, Request, Response, header};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{
    Error, Limits,
    id::{Format, Id},
    packet::{self, Packet, Packets},
};

/// The body of an answer.
pub type Body = BoxStream<'static, std::io::Result<Bytes>>;
/// Sends a request, follows redirects, and tells the address that answered at last.
pub type Exchange =
    Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, std::io::Result<(http::Uri, Response<Body>)>> + Send + Sync>;

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
    exchange: Exchange,
    /// Without user and password.
    url: String,
    authorization: Option<header::HeaderValue>,
    /// What the server said first.
    pub format: Format,
    shallow: bool,
    filter: bool,
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
    /// Asks the server at an `http` or `https` URL what it can do. User and password may stand in it; where
    /// `authorization` is given, that is shown instead.
    pub async fn open(url: &str, authorization: Option<&str>, exchange: Exchange) -> Result<Self, Error> {
        let (plain, basic) = without_user(url)?;
        let authorization = match authorization.map(str::to_owned).or(basic) {
            None => None,
            Some(text) => {
                let mut value = header::HeaderValue::from_str(&text)
                    .map_err(|_| Error::invalid("the credentials for the repository are no header's value"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut remote =
            Self { exchange, url: plain, authorization, format: Format::Sha1, shallow: false, filter: false };
        let address = format!("{}/info/refs?service=git-upload-pack", remote.url);
        let (last, body) = remote.send(Method::GET, &address, Bytes::new()).await?;
        // Where a server moved, what follows goes to the new place.
        if let Some(base) = last.to_string().strip_suffix("/info/refs?service=git-upload-pack") {
            if base != remote.url && !same_origin(base, &remote.url) {
                remote.authorization = None;
            }
            remote.url = base.to_owned();
        }
        remote.capabilities(body).await?;
        Ok(remote)
    }

    /// The address without user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn capabilities(&mut self, body: Body) -> Result<(), Error> {
        let mut packets = Packets::new(body);
        let mut first = packets.text().await?;
        // Some servers begin with the service's name, as in the older protocol.
        if first.as_deref().is_some_and(|line| line.starts_with("# service=")) {
            packets.next().await?;
            first = packets.text().await?;
        }
        if first.as_deref() != Some("version 2") {
            return Err(Error::invalid(format!(
                "{}: the server does not speak version 2 of git's protocol (git 2.18 and newer do)",
                self.url
            )));
        }
        let (mut fetch, mut count) = (false, 0);
        while let Some(line) = packets.text().await? {
            count += 1;
            if count > MOST_CAPABILITIES {
                return Err(Error::TooLarge { what: "the list of capabilities", limit: MOST_CAPABILITIES as u64 });
            }
            let (name, value) = line.split_once('=').unwrap_or((&line, ""));
            match name {
                "fetch" => {
                    fetch = true;
                    self.shallow = value.split(' ').any(|feature| feature == "shallow");
                    self.filter = value.split(' ').any(|feature| feature == "filter");
                }
                "object-format" => {
                    self.format = Format::parse(value)
                        .ok_or_else(|| Error::invalid(format!("{}: unknown object format {value}", self.url)))?;
                }
                _ => {}
            }
        }
        if fetch { Ok(()) } else { Err(Error::invalid(format!("{}: the server offers no fetch", self.url))) }
    }

    /// The references whose names begin with one of the prefixes, or all.
    pub async fn references(&self, prefixes: &[String]) -> Result<Vec<Reference>, Error> {
        let mut request = self.command("ls-refs");
        packet::line(&mut request, "peel");
        packet::line(&mut request, "symrefs");
        prefixes.iter().for_each(|prefix| packet::line(&mut request, &format!("ref-prefix {prefix}")));
        packet::flush(&mut request);
        let mut packets = Packets::new(self.upload_pack(request).await?);
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
        self.filter
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
        let mut request = self.command("fetch");
        packet::line(&mut request, "ofs-delta");
        packet::line(&mut request, "no-progress");
        if let Some(depth) = depth.filter(|_| self.shallow) {
            packet::line(&mut request, &format!("deepen {depth}"));
        }
        if let Some(filter) = filter {
            packet::line(&mut request, &format!("filter {filter}"));
        }
        wants.iter().for_each(|id| packet::line(&mut request, &format!("want {id}")));
        packet::line(&mut request, "done");
        packet::flush(&mut request);
        let mut packets = Packets::new(self.upload_pack(request).await?);
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
                    fetched.bytes = bands(&mut packets, pack, limits.pack).await?;
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

    async fn upload_pack(&self, request: Vec<u8>) -> Result<Body, Error> {
        let address = format!("{}/git-upload-pack", self.url);
        Ok(self.send(Method::POST, &address, request.into()).await?.1)
    }

    async fn send(&self, method: Method, address: &str, body: Bytes) -> Result<(http::Uri, Body), Error> {
        let mut request = Request::builder().method(&method).uri(address).header("git-protocol", "version=2");
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-git-upload-pack-request");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|error| Error::invalid(format!("{}: {error}", self.url)))?;
        let (last, answer) = (self.exchange)(request).await?;
        if !answer.status().is_success() {
            return Err(Error::Refused { url: self.url.clone(), status: answer.status() });
        }
        Ok((last, answer.into_body()))
    }
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

/// The URL without user and password, and those as a header's value.
fn without_user(url: &str) -> Result<(String, Option<String>), Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        let what = if scheme.is_empty() { url } else { scheme };
        return Err(Error::invalid(format!("{what}: repositories are fetched over https or http")));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((user, host)) => (Some(user), host),
    };
    let basic = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        format!("Basic {}", STANDARD.encode([&decode(name)[..], b":", &decode(password)].concat()))
    });
    Ok((format!("{scheme}://{host}/{}", path.trim_end_matches('/')), basic))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Vec<u8> {
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

fn same_origin(left: &str, right: &str) -> bool {
    let origin = |url: &str| url.parse::<http::Uri>().ok().map(|uri| (uri.scheme().cloned(), uri.authority().cloned()));
    origin(left).is_some() && origin(left) == origin(right)
}

#[cfg(test)]
mod tests;
