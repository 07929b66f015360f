//! Paths and queries of requests. Whatever is not within the grammar of names, tags and digests goes no further, so that
//! nothing of a path ever reaches the file system.

use http::Uri;
use oci::{
    Digest, distribution as codes,
    reference::{is_repository, is_tag},
};

use crate::answer::Refusal;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: is there a registry, and am I known?
    Root,
    /// `/token`: credentials for a token.
    Token,
    /// `/metrics`: what is counted.
    Metrics,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest(String, Target),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(String, Digest),
    /// `/v2/NAME/blobs/uploads/`.
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`.
    Upload(String, String),
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(String, Digest),
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

impl Route {
    /// Reads a path.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        if path == "/token" {
            return Ok(Self::Token);
        }
        if path == "/metrics" {
            return Ok(Self::Metrics);
        }
        let nowhere = || Refusal::missing(codes::NAME_UNKNOWN, "no such path");
        let rest = path.strip_prefix("/v2").ok_or_else(nowhere)?;
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Root);
        }
        let rest = rest.strip_prefix('/').ok_or_else(nowhere)?;
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let parts: Vec<String> = rest.split('/').map(decode).collect::<Option<_>>().ok_or_else(nowhere)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, (*id).to_owned())),
            [name @ .., "blobs", text] => Ok(Self::Blob(repository(name)?, digest(text)?)),
            [name @ .., "referrers", text] => Ok(Self::Referrers(repository(name)?, digest(text)?)),
            [name @ .., "manifests", text] => Ok(Self::Manifest(repository(name)?, Target::parse(text)?)),
            _ => Err(nowhere()),
        }
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') {
            return Ok(Self::Digest(digest(text)?));
        }
        match is_tag(text) {
            true => Ok(Self::Tag(text.to_owned())),
            false => Err(Refusal::invalid(codes::NAME_INVALID, "neither a tag nor a digest")),
        }
    }
}

fn repository(parts: &[&str]) -> Result<String, Refusal> {
    let name = parts.join("/");
    match is_repository(&name) {
        true => Ok(name),
        false => Err(Refusal::invalid(codes::NAME_INVALID, "the repository's name is outside the grammar")),
    }
}

pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(codes::DIGEST_INVALID, format!("{error}")))
}

/// The parameters of a query, decoded, in order; what is no UTF-8 is left out.
pub(crate) fn query(uri: &Uri) -> Vec<(String, String)> {
    form(uri.query().unwrap_or_default())
}

/// `key=value&...`
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// The first parameter of that name that is not empty.
pub(crate) fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = after;
            }
            (b'%', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
