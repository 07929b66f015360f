//! What a pod's spec asks of its sandbox: names, DNS, ports, namespaces. Pure.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use runtime::description::{Dns, HostPort, Hosts, Protocol, SandboxConfig, Sharing};

use crate::{config::Config, resources};

/// Handlers of RuntimeClasses that this node has: none, its own runtime by name, and the name by which clusters with other
/// engines know the plain OCI runtime.
pub const HANDLERS: &[&str] = &["", "madang", "runc"];

/// Longest host name of Linux.
const HOSTNAME: usize = 63;

/// The machine's resolver configuration, as far as pods inherit it.
pub fn host_dns(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or("");
        let rest: Vec<String> = words.map(str::to_owned).collect();
        match key {
            "nameserver" => dns.servers.extend(rest.into_iter().take(1)),
            "search" | "domain" => dns.searches = rest,
            "options" => dns.options.extend(rest),
            _ => {}
        }
    }
    dns
}

/// `/etc/resolv.conf` of a pod. `host` is the machine's.
pub fn dns(pod: &Pod, spec: &PodSpec, config: &Config, host: &Dns) -> Dns {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirstWithHostNet" => "ClusterFirst",
        "ClusterFirst" if spec.host_network == Some(true) => "Default",
        other => other,
    };
    let mut dns = match policy {
        "None" => Dns::default(),
        "Default" => host.clone(),
        _ => {
            let domain = &config.cluster_domain;
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(host.searches.iter().cloned());
            Dns { servers: vec![config.cluster_dns.to_string()], searches, options: vec!["ndots:5".into()] }
        }
    };
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    for list in [&mut dns.servers, &mut dns.searches] {
        let mut seen = Vec::new();
        list.retain(|item| {
            !seen.contains(item) && {
                seen.push(item.clone());
                true
            }
        });
    }
    dns.servers.truncate(3);
    dns.searches.truncate(32);
    dns
}

/// Host name and, where the pod has a subdomain, its fully qualified name.
pub fn names(pod: &Pod, spec: &PodSpec, domain: &str) -> (String, Option<String>) {
    let own = spec.hostname_override.as_deref().filter(|name| !name.is_empty());
    let name = own.or(spec.hostname.as_deref().filter(|name| !name.is_empty()));
    let name = name.unwrap_or(pod.metadata.name.as_deref().unwrap_or("pod"));
    let short: String = name.chars().take(HOSTNAME).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty() && own.is_none());
    let fqdn = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{domain}"));
    let full = spec.set_hostname_as_fqdn == Some(true);
    match (&fqdn, full) {
        (Some(name), true) if name.len() <= HOSTNAME + 1 => (name.clone(), fqdn),
        _ => (short, fqdn),
    }
}

/// Ports of the machine that lead to the pod.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                container_port: u16::try_from(port.container_port).ok()?,
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
            })
        })
        .collect()
}

/// The description of a pod's sandbox.
pub fn describe(
    pod: &Pod,
    attempt: u32,
    config: &Config,
    host: &Dns,
    node_hostname: &str,
    log_dir: &Path,
) -> SandboxConfig {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let host_network = spec.host_network == Some(true);
    let (hostname, fqdn) = names(pod, spec, &config.cluster_domain);
    let context = spec.security_context.as_ref();
    let sysctls: BTreeMap<String, String> = context
        .and_then(|context| context.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
        .collect();
    let pid = if spec.host_pid == Some(true) {
        Sharing::Node
    } else if spec.share_process_namespace == Some(true) {
        Sharing::Pod
    } else {
        Sharing::Container
    };
    let aliases = spec.host_aliases.iter().flatten();
    SandboxConfig {
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        attempt,
        hostname: if host_network && spec.hostname_override.is_none() { node_hostname.to_owned() } else { hostname },
        host_network,
        no_network: false,
        pid,
        ipc: if spec.host_ipc == Some(true) { Sharing::Node } else { Sharing::Pod },
        own_users: spec.host_users == Some(false) && !host_network,
        step_users: false,
        host_ports: if host_network { Vec::new() } else { host_ports(spec) },
        hosts: Hosts {
            fqdn,
            aliases: aliases.map(|alias| (alias.ip.clone(), alias.hostnames.clone().unwrap_or_default())).collect(),
        },
        dns: dns(pod, spec, config, host),
        sysctls,
        resources: resources::pod(spec),
        cgroup_parent: resources::qos(pod).cgroup().to_owned(),
        log_dir: log_dir.to_owned(),
        annotations: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config() -> Config {
        Config {
            name: "n1".into(),
            ip: "192.0.2.1".parse().unwrap(),
            labels: BTreeMap::new(),
            pods_dir: "/pods".into(),
            volumes_dir: "/volumes".into(),
            seccomp_dir: "/seccomp".into(),
            max_pods: 110,
            cluster_dns: "10.43.0.10".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            instance: "madang".into(),
            cluster_cidr: "10.42.0.0/16".into(),
            service_cidr: "10.43.0.0/16".into(),
            api_port: 10250,
            build_sockets: None,
            builds: None,
            resolv_conf: "/etc/resolv.conf".into(),
            version: "0.0.0".into(),
            registries: Default::default(),
            certificates_end: [None, None],
        }
    }

    fn described(spec: Value) -> SandboxConfig {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap();
        let host = host_dns("search corp.example\nnameserver 192.0.2.53\noptions timeout:1\n");
        describe(&pod, 0, &config(), &host, "machine", Path::new("/logs"))
    }

    #[test]
    fn dns_follows_the_policy() {
        let of = |spec: Value| {
            let dns = described(spec).dns;
            (dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" "))
        };
        let text = |servers: &str, searches: &str, options: &str| {
            (servers.to_owned(), searches.to_owned(), options.to_owned())
        };
        let cluster = "shop.svc.cluster.local svc.cluster.local cluster.local corp.example";
        assert_eq!(of(json!({"containers": []})), text("10.43.0.10", cluster, "ndots:5"));
        let host = text("192.0.2.53", "corp.example", "timeout:1");
        assert_eq!(of(json!({"containers": [], "dnsPolicy": "Default"})), host);
        assert_eq!(of(json!({"containers": [], "hostNetwork": true})), host);
        let with = json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(of(with), text("10.43.0.10", cluster, "ndots:5"));
        let own = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
            "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        assert_eq!(of(own), text("1.1.1.1", "a.b", "ndots:2 edns0"));
        let more = json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}});
        assert_eq!(of(more).2, "ndots:2");
    }

    #[test]
    fn host_names_follow_the_spec() {
        let cases = [
            (json!({"containers": []}), "web", None),
            (json!({"containers": [], "hostname": "h"}), "h", None),
            (json!({"containers": [], "hostname": "h", "subdomain": "s"}), "h", Some("h.s.shop.svc.cluster.local")),
            (
                json!({"containers": [], "subdomain": "s", "setHostnameAsFQDN": true}),
                "web.s.shop.svc.cluster.local",
                Some("web.s.shop.svc.cluster.local"),
            ),
            (json!({"containers": [], "hostNetwork": true}), "machine", None),
        ];
        for (spec, hostname, fqdn) in cases {
            let config = described(spec);
            assert_eq!((config.hostname.as_str(), config.hosts.fqdn.as_deref()), (hostname, fqdn));
        }
    }

    #[test]
    fn published_ports_are_those_with_a_host_port() {
        let config = described(json!({"containers": [{"name": "a", "ports": [
            {"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "127.0.0.1"},
        ]}]}));
        assert_eq!(config.host_ports.len(), 1);
        assert_eq!(config.host_ports[0].protocol, Protocol::Udp);
        assert_eq!(config.host_ports[0].host_ip, Some("127.0.0.1".parse().unwrap()));
    }
}
