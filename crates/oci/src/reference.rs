//! Image references as users write them, brought to their full form: `nginx` is `docker.io/library/nginx:latest`.
//!
//! ```text
//! reference = [domain "/"] path [":" tag] ["@" digest]
//! ```
//!
//! Grammar, limits and error texts are those of <https://github.com/distribution/reference>, because kubelets and
//! `docker` show them to users.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};

#[cfg(test)]
mod tests;

/// Longest path of a repository, in characters.
const PATH_LIMIT: usize = 255;
/// Longest tag, in characters.
const TAG_LIMIT: usize = 128;
const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A normalised reference: always with a domain, and with a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference, worded as upstream does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Outside the grammar.
    #[error("invalid reference format")]
    Format,
    /// Uppercase letters in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits, which would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is longer than 255 characters.
    #[error("repository name must not be more than {PATH_LIMIT} characters")]
    TooLong,
    /// The part after `@`.
    #[error(transparent)]
    Digest(#[from] digest::ParseError),
}

impl Reference {
    /// Parses and normalises. Without tag and digest, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if is_identifier(text) {
            return Err(ParseError::Identifier(text.into()));
        }
        let (domain, remainder) = split_domain(text);
        let repository = remainder.split(':').next().unwrap_or_default();
        if repository.chars().any(char::is_uppercase) {
            return Err(ParseError::Uppercase(repository.into()));
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        if !is_domain(&domain) || !path.split('/').all(is_component) || !tag.is_none_or(is_tag) {
            return Err(ParseError::Format);
        }
        if path.len() > PATH_LIMIT {
            return Err(ParseError::TooLong);
        }
        let digest = digest.map(parse_digest).transpose()?;
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { path: path.to_owned(), domain, tag, digest })
    }

    /// The registry's name, with its port: `docker.io`, `127.0.0.1:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path: `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of a manifest or index.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What registries call the reference: the digest, else the tag.
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The same repository by `digest` only.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository by tag only; nothing where there is none.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// As `docker` shows it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => {
                let official = self.path.strip_prefix(OFFICIAL).is_some_and(|name| !name.contains('/'));
                rest.strip_prefix(OFFICIAL).filter(|_| official).unwrap_or(rest).to_owned()
            }
            None => full,
        }
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is 64 lowercase hexadecimal digits, as an image id.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits off the registry, which is Docker Hub unless the first part looks like a host.
fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((host, rest))
            if host == "localhost" || host.contains(['.', ':']) || host.chars().any(char::is_uppercase) =>
        {
            (if host == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { host }, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        (domain.to_owned(), format!("{OFFICIAL}{remainder}"))
    } else {
        (domain.to_owned(), remainder.to_owned())
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        Some(colon) if !domain[colon..].contains(']') => (&domain[..colon], Some(&domain[colon + 1..])),
        _ => (domain, None),
    };
    let port_fits = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => host.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        }),
    };
    port_fits && host_fits
}

/// Whether `path` is a repository within a registry: `team/app`.
pub fn is_repository(path: &str) -> bool {
    path.len() <= PATH_LIMIT && path.split('/').all(is_component)
}

/// Lowercase letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'_' | b'.', ..] => 1,
            _ => rest.iter().take_while(|&&byte| byte == b'-').count(),
        };
        if separator == 0 {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// Whether `tag` is a tag.
pub fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn parse_digest(text: &str) -> Result<Digest, ParseError> {
    // The grammar of references asks for at least 32 hexadecimal digits; what is shorter is no reference at all.
    let (algorithm, hex) = text.split_once(':').ok_or(ParseError::Format)?;
    if hex.len() < 32
        || !hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        || !algorithm.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
    {
        return Err(ParseError::Format);
    }
    Ok(text.parse()?)
}
