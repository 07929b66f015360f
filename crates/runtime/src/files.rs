//! The three files of `/etc` that the runtime writes for a sandbox, as text.

use std::{fmt::Write as _, net::IpAddr};

use crate::description::{Dns, SandboxConfig};

/// `/etc/hosts` of a sandbox with an address of its own.
pub fn hosts(config: &SandboxConfig, ip: Option<IpAddr>) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    if let Some(ip) = ip {
        match &config.hosts.fqdn {
            Some(fqdn) => writeln!(text, "{ip}\t{fqdn}\t{}", config.hostname),
            None => writeln!(text, "{ip}\t{}", config.hostname),
        }
        .expect("writing to a string");
    }
    aliases(&mut text, config);
    text
}

/// `/etc/hosts` of a sandbox in the machine's network: the machine's and the aliases.
pub fn host_network_hosts(config: &SandboxConfig, machine: &str) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{machine}");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    aliases(&mut text, config);
    text
}

fn aliases(text: &mut String, config: &SandboxConfig) {
    if config.hosts.aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for (ip, names) in &config.hosts.aliases {
        writeln!(text, "{ip}\t{}", names.join("\t")).expect("writing to a string");
    }
}

/// `/etc/resolv.conf`.
pub fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        writeln!(text, "search {}", dns.searches.join(" ")).expect("writing to a string");
    }
    for server in &dns.servers {
        writeln!(text, "nameserver {server}").expect("writing to a string");
    }
    if !dns.options.is_empty() {
        writeln!(text, "options {}", dns.options.join(" ")).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Hosts;

    #[test]
    fn a_pod_finds_itself_and_its_aliases() {
        let config = SandboxConfig {
            hostname: "web-0".into(),
            hosts: Hosts {
                fqdn: Some("web-0.web.shop.svc.cluster.local".into()),
                aliases: vec![("10.1.2.3".into(), vec!["db".into(), "db.example".into()])],
            },
            ..Default::default()
        };
        let text = hosts(&config, Some("10.42.0.9".parse().unwrap()));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n"));
        assert!(text.contains("10.42.0.9\tweb-0.web.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("10.1.2.3\tdb\tdb.example\n"), "{text}");
        let text = host_network_hosts(&config, "127.0.0.1 localhost");
        assert!(!text.contains("# Kubernetes-managed hosts file.\n"));
    }

    #[test]
    fn resolv_conf_leaves_out_what_is_empty() {
        let dns = Dns { servers: vec!["10.43.0.10".into()], ..Default::default() };
        assert_eq!(resolv_conf(&dns), "nameserver 10.43.0.10\n");
        let dns = Dns {
            searches: vec!["a.svc.cluster.local".into(), "cluster.local".into()],
            options: vec!["ndots:5".into()],
            ..dns
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.svc.cluster.local cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n"
        );
    }
}
