//! A rule of a route, compiled: what a request must be, and what becomes of it.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule>.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode, request::Parts};
use regex::Regex;

use crate::{backend::Backend, cors::Cors, headers::Edit, kinds, path, path::PathMatch, tally::Series};

/// What a text must be.
#[derive(Clone, Debug)]
pub enum Text {
    /// Exactly this.
    Exact(String),
    /// A regular expression, for all of it.
    Regex(Regex),
}

impl Text {
    /// Reads a match; a regular expression may be wrong.
    pub fn of(kind: Option<&str>, value: &str) -> Result<Self, String> {
        match kind {
            Some("RegularExpression") => path::whole(value).map(Self::Regex),
            _ => Ok(Self::Exact(value.to_owned())),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// What a request must be.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Its path.
    pub path: PathMatch,
    /// Its method; any when missing.
    pub method: Option<Method>,
    /// All of these headers.
    pub headers: Vec<(HeaderName, Text)>,
    /// All of these query parameters.
    pub query: Vec<(String, Text)>,
}

impl Conditions {
    /// Reads a match.
    pub fn of(wanted: &kinds::Match) -> Result<Self, String> {
        let value = wanted.path.as_ref().and_then(|path| path.value.as_deref()).unwrap_or("/");
        let path = match wanted.path.as_ref().and_then(|path| path.kind.as_deref()) {
            Some("Exact") => PathMatch::Exact(value.to_owned()),
            Some("RegularExpression") => PathMatch::Regex(path::whole(value)?),
            _ => path::prefix(value),
        };
        let method = wanted.method.as_deref().map(|method| Method::from_bytes(method.as_bytes()));
        let mut headers: Vec<(HeaderName, Text)> = Vec::new();
        for header in &wanted.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
            // Of several matches of one header the first counts.
            if !headers.iter().any(|(known, _)| *known == name) {
                headers.push((name, Text::of(header.kind.as_deref(), &header.value)?));
            }
        }
        let mut query: Vec<(String, Text)> = Vec::new();
        for parameter in &wanted.query_params {
            if !query.iter().any(|(known, _)| *known == parameter.name) {
                query.push((parameter.name.clone(), Text::of(parameter.kind.as_deref(), &parameter.value)?));
            }
        }
        Ok(Self { path, method: method.transpose().map_err(|error| error.to_string())?, headers, query })
    }

    /// Whether a request is meant, whose path is resolved.
    pub fn match_request(&self, path: &str, parts: &Parts) -> bool {
        self.path.matches(path)
            && self.method.as_ref().is_none_or(|method| *method == parts.method)
            && self.headers.iter().all(|(name, wanted)| {
                let mut values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
                let Some(first) = values.next() else { return false };
                match values.next() {
                    None => wanted.matches(first),
                    // Several headers of a name are one whose values are separated by commas.
                    Some(second) => {
                        let mut joined = format!("{first},{second}");
                        values.for_each(|more| {
                            let _infallible = write!(joined, ",{more}");
                        });
                        wanted.matches(&joined)
                    }
                }
            })
            && self.query.iter().all(|(name, wanted)| {
                let query = parts.uri.query().unwrap_or_default();
                path::parameter(query, name).is_some_and(|value| wanted.matches(&value))
            })
    }

    /// What goes before what among rules of the same host: the greater first.
    pub fn rank(&self) -> ((u8, usize), bool, usize, usize) {
        (self.path.rank(), self.method.is_some(), self.headers.len(), self.query.len())
    }
}

/// What becomes of requests that match.
#[derive(Debug, Default)]
pub struct Rule {
    /// Changes of the request's headers.
    pub request: Edit,
    /// Changes of the answer's headers.
    pub response: Edit,
    /// What pages of other origins may ask.
    pub cors: Option<Cors>,
    /// An answer that leads elsewhere.
    pub redirect: Option<Redirect>,
    /// Another host, another path.
    pub rewrite: Option<Rewrite>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Where requests go.
    pub targets: Vec<Target>,
    /// How long a request may take as a whole.
    pub timeout: Option<Duration>,
    /// How long an attempt may take until the answer begins.
    pub attempt: Option<Duration>,
    /// When requests are sent again.
    pub retry: Option<Retry>,
    /// Counts what no backend answers.
    pub series: Arc<Series>,
}

/// One of those that requests go to.
#[derive(Debug)]
pub struct Target {
    /// Its part of the requests.
    pub weight: u32,
    /// Its endpoints, or what is answered in their stead.
    pub backend: Result<Arc<Backend>, StatusCode>,
    /// Changes of the request's headers.
    pub request: Edit,
    /// Changes of the answer's headers.
    pub response: Edit,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Counts them.
    pub series: Arc<Series>,
}

/// Who gets copies of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its endpoints.
    pub backend: Arc<Backend>,
    /// So many
    pub numerator: u32,
    /// of so many.
    pub denominator: u32,
}

/// When requests are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After these statuses.
    pub codes: Vec<u16>,
    /// How often at most.
    pub attempts: u32,
    /// The least time between two.
    pub backoff: Duration,
}

/// A change of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// All of it.
    Full(String),
    /// What was matched.
    Prefix(String),
}

impl PathChange {
    /// Reads a change.
    pub fn of(change: &kinds::PathChange) -> Self {
        match change.kind.as_str() {
            "ReplacePrefixMatch" => Self::Prefix(change.replace_prefix_match.clone().unwrap_or_default()),
            _ => Self::Full(change.replace_full_path.clone().unwrap_or_default()),
        }
    }

    /// The new path, where `matched` bytes of `path` were matched.
    pub fn apply(&self, path: &str, matched: usize) -> String {
        match self {
            Self::Full(full) if full.is_empty() => "/".to_owned(),
            Self::Full(full) => full.clone(),
            Self::Prefix(with) => path::replaced(path, matched, with),
        }
    }
}

/// Another host and path on the way to the backend.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The new host.
    pub host: Option<HeaderValue>,
    /// The new path.
    pub path: Option<PathChange>,
}

/// An answer that leads elsewhere; what is missing stays as the request has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
    /// The port.
    pub port: Option<u16>,
    /// The status.
    pub status: StatusCode,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Entrance {
    /// Over TLS.
    pub secure: bool,
    /// The port that clients see.
    pub port: u16,
    /// The port that clients see for HTTPS.
    pub https_port: u16,
    /// The port that clients see for HTTP.
    pub http_port: u16,
}

impl Redirect {
    /// Where a request for `path` of `host` is led that came in at `entrance`.
    pub fn location(&self, entrance: Entrance, host: &str, path: &str, matched: usize, query: Option<&str>) -> String {
        let own = if entrance.secure { "https" } else { "http" };
        let scheme = self.scheme.as_deref().unwrap_or(own);
        let port = match (self.port, self.scheme.as_deref()) {
            (Some(port), _) => port,
            (None, Some("https")) => entrance.https_port,
            (None, Some(_)) => entrance.http_port,
            (None, None) => entrance.port,
        };
        let usual = if scheme == "https" { 443 } else { 80 };
        let mut location = format!("{scheme}://{}", self.host.as_deref().unwrap_or(host));
        if port != usual {
            let _infallible = write!(location, ":{port}");
        }
        match &self.path {
            Some(change) => location += &change.apply(path, matched),
            None => location += path,
        }
        if let Some(query) = query {
            location.push('?');
            location += query;
        }
        location
    }
}

/// Which of the weights a random number falls into; `None` where all are zero.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    let all: u64 = weights.clone().map(u64::from).sum();
    let mut left = random.checked_rem(all)?;
    for (index, weight) in weights.enumerate() {
        let weight = u64::from(weight);
        if left < weight {
            return Some(index);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests;
