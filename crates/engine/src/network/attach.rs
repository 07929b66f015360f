//! Putting a container into its networks, and what it is told of them in `/etc`.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use ::network::{Cidr, Place};
use anyhow::Context as _;

use crate::{
    Engine,
    container::Container,
    disk,
    error::{Error, Result},
    model::record::{Endpoint, Record},
    network::{Network, Networks, address, ipv6, ports},
};

/// An Ethernet address as people write it.
pub(crate) fn mac(text: &str) -> Result<[u8; 6]> {
    let bad = || Error::invalid(format!("invalid MAC address: {text}"));
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
    }
    // A group address is nobody's own.
    if parts.next().is_some() || bytes[0] & 1 == 1 { Err(bad()) } else { Ok(bytes) }
}

/// The address that a container has where nobody chose one: it follows from the others.
fn mac_of(ip: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> [u8; 6] {
    let last = |ip: Ipv6Addr| (ip.to_bits() as u32).to_be_bytes();
    let [a, b, c, d] = ip.map(|ip| ip.octets()).or(ipv6.map(last)).unwrap_or_default();
    [0x02, 0x42, a, b, c, d]
}

/// The same of an endpoint.
fn mac_of_endpoint(endpoint: &Endpoint) -> [u8; 6] {
    mac_of(endpoint.ip_address.parse().ok(), endpoint.global_ipv6_address.parse().ok())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

impl Networks {
    /// Puts a container whose shim has `netns` into all its networks, leads its ports there and writes its files. One that is in
    /// them already (it was found again) keeps its addresses.
    pub(crate) async fn attach(&self, engine: &Engine, container: &Arc<Container>, netns: &Path) -> anyhow::Result<()> {
        let record = container.record();
        let mode = record.host.network_mode.clone();
        if !mode.starts_with("container:") {
            if mode != "host" {
                self.bridges.loopback(netns).await?;
            }
            for (number, name) in in_order(&record).into_iter().enumerate() {
                self.enter(engine, container, &name, netns, number).await?;
            }
            ports::publish(engine, container).await?;
            write_files(engine, container).await?;
        }
        Ok(())
    }

    /// Puts a container into one network.
    async fn enter(
        &self,
        engine: &Engine,
        container: &Arc<Container>,
        name: &str,
        netns: &Path,
        number: usize,
    ) -> anyhow::Result<()> {
        let wanted = container.look(|record| record.networks.get(name).cloned()).unwrap_or_default();
        // Networks may have been made anew under the same name.
        let network = self.find(&wanted.network_id).or_else(|_| self.find(name))?;
        if network.driver != "bridge" {
            container.change(|record| {
                if let Some(endpoint) = record.networks.get_mut(name) {
                    endpoint.network_id.clone_from(&network.id);
                    if endpoint.endpoint_id.is_empty() {
                        endpoint.endpoint_id = runtime::record::new_id().unwrap_or_default();
                    }
                }
            });
            return Ok(());
        }
        let _changes = self.changes.lock().await;
        let ipv4 = match network.cidr() {
            None => None,
            Some(subnet) => {
                let known: Option<Ipv4Addr> = wanted.ip_address.parse().ok().filter(|ip| subnet.contains(*ip));
                let ip = match known {
                    Some(ip) => ip,
                    None => take(engine, &network, subnet, &container.id, &wanted)?,
                };
                Some((ip, subnet.prefix()))
            }
        };
        let ipv6 = ipv6::take(engine, &network, &container.id, &wanted)?;
        anyhow::ensure!(ipv4.is_some() || ipv6.is_some(), "network {} has no addresses", network.name);
        let mac = match wanted.mac_address.as_str() {
            "" => mac_of(ipv4.map(|(ip, _)| ip), ipv6.map(|(ip, _)| ip)),
            text => mac(text)?,
        };
        let id = if wanted.endpoint_id.is_empty() { runtime::record::new_id()? } else { wanted.endpoint_id.clone() };
        let leads_out = |endpoint: &Endpoint| {
            self.find(&endpoint.network_id).is_ok_and(|found| found.driver == "bridge" && !found.internal)
        };
        let has_ipv4 = |endpoint: &Endpoint| self.find(&endpoint.network_id).is_ok_and(|found| found.cidr().is_some());
        let has_ipv6 = |endpoint: &Endpoint| self.find(&endpoint.network_id).is_ok_and(|found| found.ipv6.is_some());
        let record = container.record();
        let first = default_network(&record, |endpoint| leads_out(endpoint) && has_ipv4(endpoint));
        let first6 = default_network(&record, |endpoint| leads_out(endpoint) && has_ipv6(endpoint));
        container.change(|record| {
            let names = dns_names(record, &wanted);
            let chosen = record.networks.entry(name.to_owned()).or_default();
            chosen.network_id.clone_from(&network.id);
            chosen.endpoint_id.clone_from(&id);
            if let Some((ip, prefix)) = ipv4 {
                chosen.ip_address = ip.to_string();
                chosen.ip_prefix_len = prefix;
                let gateway = network.gateway.filter(|_| !network.internal);
                chosen.gateway = gateway.map(|ip| ip.to_string()).unwrap_or_default();
            }
            if let (Some((ip, prefix)), Some(ipv6)) = (ipv6, &network.ipv6) {
                chosen.global_ipv6_address = ip.to_string();
                chosen.global_ipv6_prefix_len = prefix;
                let gateway = ipv6.gateway.filter(|_| !network.internal);
                chosen.ipv6_gateway = gateway.map(|ip| ip.to_string()).unwrap_or_default();
            }
            chosen.mac_address = mac_text(mac);
            chosen.dns_names = network.has_names().then_some(names);
        });
        let place = Place {
            id,
            bridge: network.id.clone(),
            netns: netns.to_owned(),
            link: format!("eth{number}"),
            ip: ipv4.map(|(ip, _)| ip),
            ipv6: ipv6.map(|(ip, _)| ip),
            mac,
            default_route: first.as_deref() == Some(name),
            default_route6: first6.as_deref() == Some(name),
        };
        Ok(self.bridges.join(place).await?)
    }

    /// Takes a container off all its networks.
    pub(crate) async fn detach(&self, _engine: &Engine, container: &Arc<Container>) -> Result<()> {
        self.bridges.publish(&container.id, Vec::new()).await.context("take published ports back")?;
        let endpoints = container.look(|record| record.networks.clone());
        for endpoint in endpoints.values().filter(|endpoint| endpoint.has_address()) {
            self.bridges.leave(&endpoint.endpoint_id).await.context("leave a network")?;
        }
        container.change(|record| {
            record.state.ports.clear();
            record.networks.values_mut().for_each(clear);
        });
        Ok(())
    }
}

/// Leaves of an endpoint what was asked for.
fn clear(endpoint: &mut Endpoint) {
    // An address that follows from another is none that was asked for.
    if endpoint.has_address() && mac_text(mac_of_endpoint(endpoint)) == endpoint.mac_address {
        endpoint.mac_address.clear();
    }
    endpoint.endpoint_id.clear();
    endpoint.ip_address.clear();
    endpoint.gateway.clear();
    endpoint.ip_prefix_len = 0;
    endpoint.ipv6_gateway.clear();
    endpoint.global_ipv6_address.clear();
    endpoint.global_ipv6_prefix_len = 0;
}

/// Names of a container's networks: the one it was made for first, which becomes `eth0`.
fn in_order(record: &Record) -> Vec<String> {
    let mode = if record.host.network_mode == "default" { "bridge" } else { &record.host.network_mode };
    let mut names: Vec<String> = record.networks.keys().cloned().collect();
    names.sort_by_key(|name| {
        let made_for = name == mode || record.networks.get(name).is_some_and(|endpoint| endpoint.network_id == mode);
        !made_for
    });
    names
}

/// The network that has the default route, of those that lead anywhere: that of the highest priority, then the first by name.
fn default_network(record: &Record, leads_out: impl Fn(&Endpoint) -> bool) -> Option<String> {
    let best =
        record.networks.iter().filter(|(_, endpoint)| leads_out(endpoint)).max_by(|(one, first), (other, second)| {
            first.gw_priority.cmp(&second.gw_priority).then_with(|| other.cmp(one))
        });
    best.map(|(name, _)| name.clone())
}

fn dns_names(record: &Record, wanted: &Endpoint) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    let aliases = wanted.aliases.clone().unwrap_or_default();
    let short: String = record.id.chars().take(12).collect();
    for name in aliases.into_iter().chain([short, record.config.hostname.clone()]) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The address that was asked for, else a free one.
fn take(engine: &Engine, network: &Network, subnet: Cidr, container: &str, wanted: &Endpoint) -> Result<Ipv4Addr> {
    let mut taken: HashSet<Ipv4Addr> = network.kept.values().copied().chain(network.gateway).collect();
    let (mut used, mut reserved) = (HashSet::new(), HashSet::new());
    for other in engine.containers().all().iter().filter(|other| other.id != container) {
        other.look(|record| {
            for endpoint in record.networks.values().filter(|endpoint| endpoint.network_id == network.id) {
                used.extend(endpoint.ip_address.parse::<Ipv4Addr>().ok());
                reserved.extend(endpoint.ipam_config.as_ref().and_then(|ipam| ipam.ipv4.parse::<Ipv4Addr>().ok()));
            }
        });
    }
    if let Some(asked) = wanted.ipam_config.as_ref().and_then(|ipam| ipam.ipv4.parse::<Ipv4Addr>().ok()) {
        if used.contains(&asked) || taken.contains(&asked) {
            return Err(Error::forbidden("Address already in use"));
        }
        return Ok(asked);
    }
    taken.extend(used);
    // Addresses that others asked for are theirs when they start.
    taken.extend(reserved);
    address::take(subnet, network.range.parse().ok(), &taken).ok_or_else(|| {
        Error::failed(format!("no available IPv4 addresses on this network's address pools: {}", network.name))
    })
}

/// Puts a container into a further network, at once where it runs.
pub(crate) async fn connect(
    engine: &Engine,
    container: &Arc<Container>,
    network: &Arc<Network>,
    mut endpoint: Endpoint,
) -> Result<()> {
    let _turn = container.turn.lock().await;
    let record = container.record();
    let mode = record.host.network_mode.as_str();
    if mode == "host" || mode.starts_with("container:") || network.driver != "bridge" {
        return Err(Error::forbidden(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    if record.networks.values().any(|found| found.network_id == network.id) {
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    endpoint.network_id.clone_from(&network.id);
    let number = record.networks.len();
    container.change(|record| {
        record.networks.remove("none");
        record.networks.insert(network.name.clone(), endpoint);
    });
    if let Ok((shim, _)) = container.running() {
        let entered = engine.networks().enter(engine, container, &network.name, &shim.netns(), number).await;
        if let Err(error) = entered {
            container.change(|record| drop(record.networks.remove(&network.name)));
            return Err(error.into());
        }
        ports::publish(engine, container).await?;
        write_files(engine, container).await?;
    }
    container.save(engine).await
}

/// Takes a container out of a network.
pub(crate) async fn disconnect(
    engine: &Engine,
    container: &Arc<Container>,
    network: &Arc<Network>,
    force: bool,
) -> Result<()> {
    let _turn = container.turn.lock().await;
    if network.driver == "host" {
        return Err(Error::forbidden(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    let found = container.look(|record| {
        let found = record.networks.iter().find(|(_, endpoint)| endpoint.network_id == network.id);
        found.map(|(name, endpoint)| (name.clone(), endpoint.clone()))
    });
    let Some((name, endpoint)) = found else {
        if force {
            return Ok(());
        }
        return Err(Error::forbidden(format!(
            "container {} is not connected to network {}",
            container.id, network.name
        )));
    };
    if endpoint.has_address() {
        engine.networks().bridges.leave(&endpoint.endpoint_id).await.context("leave a network")?;
    }
    container.change(|record| drop(record.networks.remove(&name)));
    if container.running().is_ok() {
        ports::publish(engine, container).await?;
        write_files(engine, container).await?;
    }
    container.save(engine).await
}

/// Writes `hosts`, `resolv.conf` and `hostname` of a container.
async fn write_files(engine: &Engine, container: &Arc<Container>) -> anyhow::Result<()> {
    let record = container.record();
    let dir = engine.container_dir(&container.id);
    let named = record
        .networks
        .values()
        .any(|endpoint| engine.networks().find(&endpoint.network_id).is_ok_and(|network| network.has_names()));
    let links = links(engine, &record);
    let machine_resolv = engine.settings().resolv_conf.clone();
    disk::blocking(move || {
        let host = record.host.network_mode == "host";
        let machine = |path: &Path| match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            found => found.with_context(|| format!("read {}", path.display())),
        };
        let mut hosts_text = if host { machine(Path::new("/etc/hosts"))? } else { hosts(&record) };
        for (name, ip) in extra_hosts(&record).into_iter().chain(links) {
            writeln!(hosts_text, "{ip}\t{name}").context("write hosts")?;
        }
        let resolv = resolv_conf(&record, &machine(&machine_resolv)?, named, host);
        for (name, text) in
            [("hosts", hosts_text), ("resolv.conf", resolv), ("hostname", format!("{}\n", record.config.hostname))]
        {
            // In place: the file is mounted.
            fs::write(dir.join(name), text).with_context(|| format!("write {name} of container {}", record.id))?;
        }
        Ok(())
    })
    .await
}

/// Names and addresses of `--link`, which on the default network are in hosts.
fn links(engine: &Engine, record: &Record) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for link in record.host.links.iter().flatten() {
        let (other, alias) = link.split_once(':').unwrap_or((link, link));
        let Ok(other) = engine.containers().find(other) else { continue };
        let ip = other.look(|other| {
            let shared = other.networks.iter().find(|(name, _)| record.networks.contains_key(*name));
            let ips = shared.map(|(_, endpoint)| [endpoint.ip_address.clone(), endpoint.global_ipv6_address.clone()]);
            ips.into_iter().flatten().find(|ip| !ip.is_empty()).unwrap_or_default()
        });
        if !ip.is_empty() {
            found.push((format!("{} {}", alias.trim_start_matches('/'), other.name()), ip));
        }
    }
    found
}

/// `NAME:ADDRESS`, or `NAME=ADDRESS`; `host-gateway` stands for the machine.
fn extra_hosts(record: &Record) -> Vec<(String, String)> {
    let of_ipv4 = record.networks.values().map(|endpoint| endpoint.gateway.clone());
    let of_ipv6 = record.networks.values().map(|endpoint| endpoint.ipv6_gateway.clone());
    let gateway = of_ipv4.chain(of_ipv6).find(|gateway| !gateway.is_empty());
    record
        .host
        .extra_hosts
        .iter()
        .flatten()
        .filter_map(|text| text.split_once(['=', ':']))
        .map(|(name, ip)| {
            let ip = match ip.trim_matches(['[', ']']) {
                "host-gateway" => gateway.clone().unwrap_or_else(|| "127.0.0.1".into()),
                ip => ip.to_owned(),
            };
            (name.to_owned(), ip)
        })
        .collect()
}

fn hosts(record: &Record) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    let name = &record.config.hostname;
    for endpoint in record.networks.values().filter(|endpoint| endpoint.has_address()) {
        let long = if record.config.domainname.is_empty() {
            String::new()
        } else {
            format!("{name}.{} ", record.config.domainname)
        };
        for ip in [&endpoint.ip_address, &endpoint.global_ipv6_address].into_iter().filter(|ip| !ip.is_empty()) {
            let _ = writeln!(text, "{ip}\t{long}{name}");
        }
    }
    text
}

/// `/etc/resolv.conf`: what was asked for, else the machine's. Where networks have names, their server is asked first.
fn resolv_conf(record: &Record, machine: &str, named: bool, host: bool) -> String {
    let of = |word: &str| -> Vec<String> {
        let lines = machine.lines().filter_map(|line| line.trim().strip_prefix(word));
        lines.flat_map(|rest| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let host_config = &record.host;
    let mut servers = if host_config.dns.is_empty() { of("nameserver ") } else { host_config.dns.clone() };
    if !host && host_config.dns.is_empty() {
        // The machine's loopback is not the container's.
        servers.retain(|server| {
            !server.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) && !server.contains('%')
        });
        if servers.is_empty() {
            servers = vec!["8.8.8.8".into(), "8.8.4.4".into()];
        }
    }
    let mut options = if host_config.dns_options.is_empty() { of("options ") } else { host_config.dns_options.clone() };
    if named && host_config.dns.is_empty() {
        let gateways: BTreeMap<&String, String> = record
            .networks
            .iter()
            .filter(|(name, endpoint)| *name != "bridge" && endpoint.dns_names.is_some())
            .filter_map(|(name, endpoint)| Some((name, server_of(endpoint)?)))
            .collect();
        if !gateways.is_empty() {
            servers = gateways.into_values().take(3).collect();
            options.retain(|option| !option.starts_with("ndots:"));
            options.push("ndots:0".into());
        }
    }
    let mut search = if host_config.dns_search.is_empty() { of("search ") } else { host_config.dns_search.clone() };
    search.retain(|domain| domain != ".");
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

/// Where the names of an endpoint's network are served: the machine's address in it.
fn server_of(endpoint: &Endpoint) -> Option<String> {
    let gateways = [&endpoint.gateway, &endpoint.ipv6_gateway];
    if let Some(gateway) = gateways.into_iter().find(|gateway| !gateway.is_empty()) {
        return Some(gateway.clone());
    }
    // Internal networks have no router, but the machine is in them.
    if let Ok(ip) = endpoint.ip_address.parse::<Ipv4Addr>() {
        let mask = u32::MAX.checked_shl(32 - u32::from(endpoint.ip_prefix_len)).unwrap_or(0);
        return Some(Ipv4Addr::from((u32::from(ip) & mask) + 1).to_string());
    }
    let ip: Ipv6Addr = endpoint.global_ipv6_address.parse().ok()?;
    let mask = u128::MAX.checked_shl(128 - u32::from(endpoint.global_ipv6_prefix_len)).unwrap_or(0);
    Some(Ipv6Addr::from_bits((ip.to_bits() & mask) + 1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{config::Config, host::HostConfig, record::State};

    fn record() -> Record {
        let endpoint = |ip: &str, gateway: &str, priority: i64, named: bool| Endpoint {
            ip_address: ip.into(),
            ip_prefix_len: 16,
            gateway: gateway.into(),
            gw_priority: priority,
            dns_names: named.then(|| vec!["web".into()]),
            ..Endpoint::default()
        };
        Record {
            id: "ab".repeat(32),
            name: "web".into(),
            created_at: std::time::SystemTime::UNIX_EPOCH,
            image: String::new(),
            config: Config { hostname: "web-1".into(), ..Config::default() },
            host: HostConfig { network_mode: "shop".into(), ..HostConfig::default() },
            mounts: Vec::new(),
            networks: BTreeMap::from([
                ("back".into(), endpoint("172.19.0.5", "172.19.0.1", 0, true)),
                ("shop".into(), endpoint("172.18.0.2", "172.18.0.1", 0, true)),
            ]),
            state: State::default(),
        }
    }

    #[test]
    fn the_network_it_was_made_for_is_first_and_the_default_route_goes_by_priority_and_name() {
        let mut record = record();
        assert_eq!(in_order(&record), ["shop", "back"]);
        let chosen = |record: &Record| default_network(record, |endpoint| !endpoint.gateway.is_empty());
        assert_eq!(chosen(&record).as_deref(), Some("back"));
        record.networks.get_mut("shop").unwrap().gw_priority = 5;
        assert_eq!(chosen(&record).as_deref(), Some("shop"));
        record.networks.get_mut("shop").unwrap().gateway.clear();
        assert_eq!(chosen(&record).as_deref(), Some("back"), "nothing leaves an internal network");
    }

    #[test]
    fn resolvers_are_the_networks_own_or_the_machines_without_its_loopback() {
        let machine = "nameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch example.org\noptions ndots:2 edns0\n";
        let named = resolv_conf(&record(), machine, true, false);
        assert_eq!(named, "nameserver 172.19.0.1\nnameserver 172.18.0.1\nsearch example.org\noptions edns0 ndots:0\n");
        let mut six = record();
        for (endpoint, gateway) in six.networks.values_mut().zip(["", "fd00:2::1"]) {
            (endpoint.ip_address, endpoint.gateway) = (String::new(), String::new());
            (endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len) = ("fd00:1::7".into(), 64);
            endpoint.ipv6_gateway = gateway.into();
        }
        assert!(resolv_conf(&six, "", true, false).starts_with("nameserver fd00:1::1\nnameserver fd00:2::1\n"));
        let plain = resolv_conf(&record(), machine, false, false);
        assert_eq!(plain, "nameserver 10.0.0.2\nsearch example.org\noptions ndots:2 edns0\n");
        assert!(resolv_conf(&record(), machine, false, true).starts_with("nameserver 127.0.0.53\n"));
        assert!(resolv_conf(&record(), "", false, false).starts_with("nameserver 8.8.8.8\n"));
    }

    #[test]
    fn ethernet_addresses_are_read() {
        assert_eq!(mac("02:42:ac:11:00:02").unwrap(), [2, 0x42, 0xac, 0x11, 0, 2]);
        for bad in ["", "02:42", "02:42:ac:11:00:zz", "03:42:ac:11:00:02", "02:42:ac:11:00:02:03"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
        let of = |ip: &str, ipv6: &str| mac_text(mac_of(ip.parse().ok(), ipv6.parse().ok()));
        assert_eq!(of("172.17.0.2", "fd00::7"), "02:42:ac:11:00:02");
        assert_eq!(of("", "fd00::1:0:7"), "02:42:00:00:00:07");
    }

    #[test]
    fn hosts_name_the_container_and_what_was_added() {
        let mut record = record();
        record.host.extra_hosts = Some(vec!["db:10.0.0.9".into(), "machine=host-gateway".into()]);
        assert!(hosts(&record).contains("172.18.0.2\tweb-1\n"));
        assert_eq!(extra_hosts(&record)[0], ("db".into(), "10.0.0.9".into()));
        assert_eq!(extra_hosts(&record)[1].1, "172.19.0.1");
    }
}
