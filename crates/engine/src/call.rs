//! A request taken apart: version, path, query, body.

use std::str::FromStr;

use http::{HeaderMap, Method, Request};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use serve::{Body, body};

use crate::error::{Error, Result};

/// Bytes of a JSON document in a request.
const DOCUMENT: usize = 16 << 20;

/// The minor number of a version of the API; the major one is 1.
pub type Version = u32;

/// The oldest version that is spoken.
pub const OLDEST: Version = 41;
/// The newest, and that of requests which name none.
pub const NEWEST: Version = 50;

/// One request.
pub struct Call {
    /// Method.
    pub method: Method,
    /// The version that it asks for.
    pub version: Version,
    /// Path behind the version, decoded, split at slashes.
    pub path: Vec<String>,
    /// Parameters behind the question mark.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Body,
    /// Becomes the connection where the request asks for an upgrade.
    pub upgrade: Option<OnUpgrade>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Call {
    /// Takes a request apart; fails for versions that are not spoken.
    pub fn new(mut request: Request<Body>) -> Result<Self> {
        let upgrade = serve::tunnel::is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let (version, path) = versioned(parts.uri.path())?;
        Ok(Self {
            method: parts.method,
            version,
            path: path.split('/').filter(|part| !part.is_empty()).map(decode).collect(),
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body,
            upgrade,
        })
    }

    /// A header's text; none where it is missing or is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Takes the body as a JSON document.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        // Who sends JSON must say so, as upstream has it: a page of the web cannot without being asked first.
        let kind = self.header("content-type").unwrap_or_default();
        if kind.split(';').next().is_none_or(|kind| kind.trim() != "application/json") {
            let message = format!("unsupported Content-Type header ({kind}): must be 'application/json'");
            return Err(Error::invalid(message));
        }
        let bytes = self.bytes(DOCUMENT).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
    }

    /// The same, with a default for an empty body.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let bytes = self.bytes(DOCUMENT).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("invalid JSON: {error}")))
    }

    /// Takes the body whole, at most `limit` bytes of it.
    pub async fn bytes(&mut self, limit: usize) -> Result<bytes::Bytes> {
        Ok(body::read(self.take_body(), limit).await?)
    }

    /// Takes the body; what is left has none.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(&mut self.body, body::empty())
    }
}

/// The version that a path begins with, and the rest of it.
fn versioned(path: &str) -> Result<(Version, &str)> {
    let Some((first, rest)) = path.strip_prefix("/v").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
        return Ok((NEWEST, path));
    };
    let Some((major, minor)) =
        first.split_once('.').and_then(|(major, minor)| Some((u32::from_str(major).ok()?, u32::from_str(minor).ok()?)))
    else {
        return Ok((NEWEST, path));
    };
    if (major, minor) > (1, NEWEST) {
        return Err(Error::invalid(format!(
            "client version {major}.{minor} is too new. Maximum supported API version is 1.{NEWEST}"
        )));
    }
    if (major, minor) < (1, OLDEST) {
        return Err(Error::invalid(format!(
            "client version {major}.{minor} is too old. Minimum supported API version is 1.{OLDEST}, please upgrade \
             your client to a newer version"
        )));
    }
    Ok((minor, rest))
}

/// Text with `%XX` decoded; what is no such escape stays.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten()
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(escaped.unwrap_or(byte));
        index += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parameters of a request, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `NAME=VALUE&...`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value that is not empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is set to something that means yes.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The same, where absence means yes too.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.filled(name).is_some() { self.flag(name) } else { default }
    }

    /// A parameter that is a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::invalid(format!("invalid value for {name}: {text:?} is no number"))),
        }
    }

    /// A parameter that holds JSON.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| Error::invalid(format!("invalid {name}: {error}")))
    }
}

#[cfg(test)]
mod tests;
