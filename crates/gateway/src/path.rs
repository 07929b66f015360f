//! Paths and queries: brought into one form, matched, changed.
//!
//! What a route protects must not be reached by another spelling of its path: dot segments, also those that are written with
//! `%2e`, are resolved before anything is matched, and the resolved form is what backends see (RFC 3986, 6.2.2.3). Nothing
//! else is changed: two slashes, and `%2F`, mean something to some backends.

use std::borrow::Cow;

use regex::Regex;

/// What a path must be.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Exactly this.
    Exact(String),
    /// These segments first; without a slash at the end, empty for all.
    Prefix(String),
    /// A regular expression, for the whole path.
    Regex(Regex),
}

impl PathMatch {
    /// Whether a path is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == path,
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// What goes before what: exact ones, then regular expressions, then prefixes; the longer first.
    pub fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(path) => (2, path.len()),
            Self::Regex(regex) => (1, regex.as_str().len()),
            Self::Prefix(prefix) => (0, prefix.len()),
        }
    }

    /// Length of the part of a path that was matched, where it makes sense to replace it.
    pub fn prefix(&self) -> usize {
        match self {
            Self::Prefix(prefix) => prefix.len(),
            Self::Exact(_) | Self::Regex(_) => 0,
        }
    }
}

/// A prefix as it is compared.
pub fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix(text.trim_end_matches('/').to_owned())
}

/// A regular expression over a whole text; bounded in size, for users write it.
pub fn whole(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(256 << 10)
        .dfa_size_limit(512 << 10)
        .nest_limit(64)
        .build()
        .map_err(|error| error.to_string())
}

/// The path without dot segments; `None` where they lead out of the root.
pub fn resolved(path: &str) -> Option<Cow<'_, str>> {
    if !suspicious(path) {
        return Some(Cow::Borrowed(path));
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match dots(segment) {
            Some(1) if last => kept.push(""),
            Some(1) => {}
            Some(_) => {
                kept.pop()?;
                if last {
                    kept.push("");
                }
            }
            None => kept.push(segment),
        }
    }
    let mut whole = String::with_capacity(path.len());
    for segment in kept {
        whole.push('/');
        whole.push_str(segment);
    }
    if whole.is_empty() {
        whole.push('/');
    }
    Some(Cow::Owned(whole))
}

/// A quick look: most paths have no segment that begins with a dot.
fn suspicious(path: &str) -> bool {
    path.as_bytes().windows(2).any(|pair| pair == b"/." || pair == b"/%")
}

/// How many dots a segment is, if it is one or two and nothing else.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest.as_bytes() {
            [b'.', ..] => &rest[1..],
            [b'%', b'2', b'e' | b'E', ..] => &rest[3..],
            _ => return None,
        };
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
}

/// The path with the first `matched` bytes replaced; slashes are kept single where the two meet.
pub fn replaced(path: &str, matched: usize, with: &str) -> String {
    let rest = path.get(matched..).unwrap_or_default();
    let with = with.trim_end_matches('/');
    let rest = if rest.is_empty() || rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let whole = format!("{with}{rest}");
    if whole.is_empty() { "/".to_owned() } else { whole }
}

/// The first value of a query parameter, decoded.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key)? == name).then(|| decoded(value)).flatten()
    })
}

/// A text without percent signs and plusses; `None` where that is no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests;
