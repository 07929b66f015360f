//! Which way a request goes: straight, or through a proxy.
//!
//! `NO_PROXY` and `no_proxy` list names, `.suffixes`, `*.suffixes`, addresses, networks and `*`, each with a port or none.
//! Requests to this machine itself never take a proxy that the environment names.
//! See <https://pkg.go.dev/golang.org/x/net/http/httpproxy>.

use std::net::IpAddr;

use base64::Engine;
use http::Uri;

use super::settings::Proxy as Settings;

/// A proxy.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// Host and port.
    pub authority: String,
    /// Whether it is spoken to with TLS.
    pub tls: bool,
    /// Its `Proxy-Authorization` header.
    pub credentials: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.authority)
    }
}

impl Proxy {
    /// A proxy by its URL; a URL without scheme is one of `http`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(format!("proxy {scheme}: only http and https proxies are supported")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err("proxy address names no host".to_owned());
        }
        let port = if tls { 443 } else { 80 };
        let has_port = host.rsplit(']').next().unwrap_or_default().contains(':');
        let authority = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        let credentials = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = format!("{}:{}", unescape(name), unescape(password));
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        Ok(Self { authority, tls, credentials })
    }
}

/// `%41` to `A`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Decides the way of each request.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
    /// Whether requests to this machine go straight whatever the lists say.
    local: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Direct {
    All,
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    /// A name; with `true` only what is below it.
    Name(String, bool, Option<u16>),
}

impl Ways {
    /// What configuration says; `environment` gives variables by name.
    pub fn of(settings: &Settings, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        if settings.proxy_from_environment {
            let get = |name: &str| {
                [name.to_owned(), name.to_lowercase()]
                    .iter()
                    .find_map(|name| environment(name))
                    .filter(|v| !v.is_empty())
            };
            let proxy = |name: &str| get(name).map(|url| Proxy::parse(&url)).transpose();
            return Ok(Self {
                http: proxy("HTTP_PROXY")?,
                https: proxy("HTTPS_PROXY")?,
                direct: directs(&get("NO_PROXY").unwrap_or_default()),
                local: true,
            });
        }
        if settings.proxy_url.0.is_empty() {
            return Ok(Self::default());
        }
        let proxy = Proxy::parse(&settings.proxy_url.0)?;
        let local = !settings.no_proxy.is_empty();
        Ok(Self { http: Some(proxy.clone()), https: Some(proxy), direct: directs(&settings.no_proxy), local })
    }

    /// The proxy for an address; `None` if it is reached straight.
    pub fn proxy(&self, uri: &Uri) -> Option<&Proxy> {
        let tls = uri.scheme_str() == Some("https");
        let proxy = if tls { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let address: Option<IpAddr> = host.parse().ok();
        if self.local && (host == "localhost" || address.is_some_and(|address| address.is_loopback())) {
            return None;
        }
        let straight = self.direct.iter().any(|direct| match direct {
            Direct::All => true,
            Direct::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
            Direct::Address(one, wanted) => address == Some(*one) && wanted.is_none_or(|wanted| wanted == port),
            Direct::Name(name, below, wanted) => {
                wanted.is_none_or(|wanted| wanted == port)
                    && ((!below && host == *name)
                        || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')))
            }
        });
        (!straight).then_some(proxy)
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let equal = |one: u128, other: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(bits));
        shift >= width || one >> shift == other >> shift
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => equal(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => bits == 0 || equal(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

fn directs(list: &str) -> Vec<Direct> {
    list.split(',').filter_map(|item| direct(item.trim().to_lowercase().as_str())).collect()
}

fn direct(item: &str) -> Option<Direct> {
    if item.is_empty() {
        return None;
    }
    if item == "*" {
        return Some(Direct::All);
    }
    if let Some((network, bits)) = item.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse(), bits.parse())
    {
        return Some(Direct::Network(network, bits));
    }
    let bare = item.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Some(Direct::Address(address, None));
    }
    let (host, port) = match item.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (item, None),
    };
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(Direct::Address(address, port));
    }
    let name = host.strip_prefix('*').unwrap_or(host);
    match name.strip_prefix('.') {
        Some(suffix) => Some(Direct::Name(suffix.to_owned(), true, port)),
        None => Some(Direct::Name(name.to_owned(), false, port)),
    }
}
