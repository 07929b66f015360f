//! Proxies from the environment, read as Go programs read them: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in capitals or
//! not. What is on this machine is never asked through a proxy.

use std::net::IpAddr;

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::registries::is_loopback;

/// Which requests go through which proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Whether it is itself spoken to with TLS.
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who is asked directly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    Network(IpAddr, u8),
    Name { suffix: String, itself: bool, port: Option<u16> },
}

impl Proxies {
    /// Reads variables through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let get = |name: &str| {
            get(name)
                .or_else(|| get(&name.to_lowercase()))
                .map(|value| value.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let proxy = |name: &str| get(name).map(|url| Proxy::parse(&url).with_context(|| name.to_owned())).transpose();
        Ok(Self {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            direct: get("NO_PROXY").iter().flat_map(|list| list.split(',')).filter_map(Direct::parse).collect(),
        })
    }

    /// The proxy for a host, if any.
    pub fn choose(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if is_loopback(&host) || self.direct.iter().any(|direct| direct.matches(&host, port)) {
            return None;
        }
        if https { self.https.as_ref() } else { self.http.as_ref() }
    }
}

impl Proxy {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("a proxy of scheme {scheme} is not supported"),
            None => (false, url),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().context("port of the proxy")?)),
            _ => (address, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            bail!("a proxy without a host");
        }
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            format!("Basic {}", STANDARD.encode([&decode(name)[..], b":", &decode(password)].concat()))
        });
        Ok(Self { tls, host: host.to_owned(), port: port.unwrap_or(if tls { 443 } else { 80 }), authorization })
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

impl Direct {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|&bits| bits <= if address.is_ipv4() { 32 } else { 128 })?;
            return Some(Self::Network(address, bits));
        }
        if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (entry.as_str(), None),
        };
        let name = name.strip_prefix('*').unwrap_or(name);
        let itself = !name.starts_with('.');
        Some(Self::Name { suffix: format!(".{}", name.trim_start_matches('.')), itself, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, bits) => {
                let Ok(address) = host.parse::<IpAddr>() else { return false };
                let number = |address: &IpAddr| match address {
                    IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 4),
                    IpAddr::V6(address) => (address.to_bits(), 6),
                };
                let ((network, version), (address, other)) = (number(network), number(&address));
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                version == other && (network ^ address) & mask == 0
            }
            Self::Name { suffix, itself, port: only } => {
                only.is_none_or(|only| only == port) && (host.ends_with(suffix) || (*itself && host == &suffix[1..]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_through_the_proxy_or_not() {
        let variables = [
            ("HTTPS_PROXY", "http://me:p%40ss@proxy.io:3128/"),
            ("http_proxy", "plain.io"),
            ("NO_PROXY", "direct.io, .below.io,10.0.0.0/8,[fd00::1],port.io:8443,*.star.io"),
        ];
        let proxies =
            Proxies::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
                .unwrap();
        let cases = [
            (true, "registry.io", 443, Some("proxy.io:3128")),
            (false, "registry.io", 80, Some("plain.io:80")),
            (true, "direct.io", 443, None),
            (true, "a.direct.io", 443, None),
            (true, "notdirect.io", 443, Some("proxy.io:3128")),
            (true, "below.io", 443, Some("proxy.io:3128")),
            (true, "a.below.io", 443, None),
            (true, "10.1.2.3", 443, None),
            (true, "11.1.2.3", 443, Some("proxy.io:3128")),
            (true, "[fd00::1]", 443, None),
            (true, "port.io", 443, Some("proxy.io:3128")),
            (true, "port.io", 8443, None),
            (true, "a.star.io", 443, None),
            (true, "localhost", 443, None),
            (true, "127.0.0.5", 443, None),
            (true, "[::1]", 443, None),
        ];
        for (https, host, port, expected) in cases {
            let chosen = proxies.choose(https, host, port).map(|proxy| format!("{proxy:?}"));
            assert_eq!(chosen.as_deref(), expected, "{host}:{port}");
        }
        let proxy = proxies.choose(true, "registry.io", 443).unwrap();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        let all = Proxies::read(|name| matches!(name, "HTTPS_PROXY" | "NO_PROXY").then(|| "*".to_owned()));
        assert!(all.unwrap().choose(true, "a.io", 443).is_none());
        assert!(Proxies::read(|name| (name == "HTTPS_PROXY").then(|| "socks5://a".to_owned())).is_err());
    }
}
