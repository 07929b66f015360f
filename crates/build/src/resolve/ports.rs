//! `EXPOSE`: ports, ranges, protocols.

/// The ports that `[[ip:]host:]port[-port][/protocol]` means, each as `port/protocol`. The host's side is checked and dropped.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let parts: Vec<&str> = text.rsplitn(3, ':').collect();
    let (port, protocol) = parts[0].split_once('/').unwrap_or((parts[0], ""));
    if port.is_empty() {
        return Err(format!("invalid port: {text:?}: no port specified"));
    }
    let protocol = protocol.to_ascii_lowercase();
    let protocol = match protocol.as_str() {
        "" => "tcp",
        "tcp" | "udp" | "sctp" => &protocol,
        _ => return Err(format!("invalid port: {text:?}: invalid proto: {protocol}")),
    };
    if let Some(ip) = parts.get(2).filter(|ip| !ip.is_empty()) {
        let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        if bare.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {ip}"));
        }
    }
    let (first, last) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if let Some(host) = parts.get(1).filter(|host| !host.is_empty()) {
        let (from, to) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if to - from != last - first && first != last {
            return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
