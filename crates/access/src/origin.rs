//! Listeners on loopback without a login: only requests that a program on this machine meant for them are answered.
//!
//! A page in a browser can send requests to loopback, and by rebinding a name of its own to 127.0.0.1 it can even read
//! the answers. Both show in headers that pages cannot set: `Host` names the page's host, `Origin` the page.

use http::{HeaderMap, Uri, header};

/// Whether `Host`, and `Origin` if there is one, name this machine's loopback.
pub fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| uri.authority().map(|own| own.as_str()));
    let origin = headers.get(header::ORIGIN);
    let same =
        |value: &str| value.parse::<Uri>().ok().and_then(|origin| origin.host().map(is_loopback)).unwrap_or(false);
    host.is_some_and(|host| is_loopback(without_port(host)))
        && origin.is_none_or(|origin| origin.to_str().is_ok_and(same))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let cases = [
            (Some("127.0.0.1:5000"), None, true),
            (Some("localhost"), None, true),
            (Some("[::1]:5000"), None, true),
            (Some("evil.example:5000"), None, false),
            (Some("127.0.0.1.evil.example"), None, false),
            (Some("127.0.0.1:5000"), Some("http://evil.example"), false),
            (Some("127.0.0.1:5000"), Some("null"), false),
            (Some("127.0.0.1:5000"), Some("http://localhost:3000"), true),
            (None, None, false),
        ];
        for (host, origin, expected) in cases {
            let mut headers = HeaderMap::new();
            host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
            origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
            assert_eq!(is_local(&headers, &Uri::from_static("/")), expected, "{host:?} {origin:?}");
        }
    }
}
