//! Host names and patterns: exact, `*.` before a suffix, or any.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#hostname>.

use std::collections::HashMap;

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// One name, in lower case.
    Exact(String),
    /// Names that end so, with one label or more before; the text begins with a dot.
    Suffix(String),
    /// All.
    Any,
}

impl Pattern {
    /// Reads a pattern; nothing, and an empty text, mean all.
    pub fn of(text: Option<&str>) -> Self {
        match text.unwrap_or_default().to_ascii_lowercase() {
            text if text.is_empty() || text == "*" => Self::Any,
            text => match text.strip_prefix('*') {
                Some(suffix) if suffix.starts_with('.') => Self::Suffix(suffix.to_owned()),
                _ => Self::Exact(text),
            },
        }
    }

    /// Whether a host, in lower case and without a port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    /// The hosts that both mean; `None` where there are none.
    pub fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one.clone()),
            (Self::Exact(name), one) | (one, Self::Exact(name)) => one.matches(name).then(|| Self::Exact(name.clone())),
            (Self::Suffix(a), Self::Suffix(b)) => {
                let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                long.ends_with(short.as_str()).then(|| Self::Suffix(long.clone()))
            }
        }
    }
}

/// Values by pattern: the most exact one that matches is found first.
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    exact: HashMap<String, T>,
    suffixes: HashMap<String, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffixes: HashMap::new(), any: None }
    }
}

impl<T> Hosts<T> {
    /// The value of exactly that pattern, made if there is none.
    pub fn entry(&mut self, pattern: Pattern, new: impl FnOnce() -> T) -> &mut T {
        match pattern {
            Pattern::Exact(name) => self.exact.entry(name).or_insert_with(new),
            Pattern::Suffix(suffix) => self.suffixes.entry(suffix).or_insert_with(new),
            Pattern::Any => self.any.get_or_insert_with(new),
        }
    }

    /// All values whose patterns match, the most exact first. `host` is in lower case and without a port.
    pub fn matching<'a, 'b>(&'a self, host: &'b str) -> impl Iterator<Item = &'a T> + use<'a, 'b, T> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        // The first label is never part of a suffix.
        let dots = if self.suffixes.is_empty() { "" } else { host };
        let suffixes = dots
            .char_indices()
            .filter(|(at, letter)| *at > 0 && *letter == '.')
            .filter_map(move |(at, _)| self.suffixes.get(&host[at..]));
        exact.into_iter().chain(suffixes).chain(self.any.as_ref())
    }

    /// All values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.suffixes.values_mut()).chain(self.any.as_mut())
    }
}

/// A request's host as it is compared: without its port and without a dot at its end. `None` for what no host can be.
/// Capital letters are left to the caller, for they are rare.
pub fn bare(authority: &str) -> Option<&str> {
    let host = match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => {
            let port = &authority[at + 1..];
            if !port.bytes().all(|byte| byte.is_ascii_digit()) || (!port.is_empty() && port.parse::<u16>().is_err()) {
                return None;
            }
            &authority[..at]
        }
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    (fits && !host.is_empty() && host.len() <= 255).then_some(host)
}

#[cfg(test)]
mod tests;
