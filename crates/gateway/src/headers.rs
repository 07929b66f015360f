//! Headers: what routes change of them, and what belongs to one connection only and is not passed on.
//!
//! See RFC 9110, 7.6.1, and <https://gateway-api.sigs.k8s.io/reference/spec/#httpheaderfilter>.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::kinds::{Header, HeaderChange};

/// A change of headers.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Edit {
    /// Reads a change. The API server has checked names; what still is no header is left out.
    pub fn of(change: &HeaderChange) -> Self {
        let read = |headers: &[Header]| {
            let one = |header: &Header| {
                let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(&header.value).ok()?))
            };
            headers.iter().filter_map(one).collect()
        };
        Self {
            set: read(&change.set),
            add: read(&change.add),
            remove: change.remove.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect(),
        }
    }

    /// This change, and then another.
    pub fn and(mut self, other: Self) -> Self {
        self.set.extend(other.set);
        self.add.extend(other.add);
        self.remove.extend(other.remove);
        self
    }

    /// Carries the change out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Takes away what concerns one connection only, also what `Connection` names. Where `upgrade`, what asks for the
/// upgrade stays.
pub fn end_to_end(headers: &mut HeaderMap, upgrade: bool) {
    let trailers = headers.get(header::TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !KEPT.contains(name))
            .collect();
        for name in named {
            if !(upgrade && name == header::UPGRADE) {
                headers.remove(name);
            }
        }
    }
    let asked = if upgrade { headers.remove(header::UPGRADE) } else { None };
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(asked) = asked {
        headers.insert(header::UPGRADE, asked);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// What `Connection` may name as it likes, and is passed on nevertheless: a client must not be able to take away what the
/// gateway itself says, or what frames the message.
const KEPT: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-proto"),
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Tells the backend who asked, and how. What the client said of addresses before it stays; the rest is replaced.
pub fn forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, secure: bool, host: Option<HeaderValue>) {
    if let Some(client) = client {
        let text = match headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
            Some(before) if before.len() < 2048 => format!("{before}, {client}"),
            _ => client.to_string(),
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(FORWARDED_FOR, value);
        }
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if secure { "https" } else { "http" }));
    match host {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
}

#[cfg(test)]
mod tests;
