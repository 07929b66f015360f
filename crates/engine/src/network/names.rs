//! Names of containers, as others in the same networks see them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Weak},
};

use anyhow::Context as _;

use crate::{Engine, engine::Inner, model::record::Endpoint, network::Network};

/// Answers by what containers there are now.
struct Containers(Weak<Inner>);

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Containers")
    }
}

impl Containers {
    /// Names and addresses of those that `client` shares a network with.
    fn seen(&self, client: IpAddr) -> Vec<(Vec<String>, IpAddr)> {
        let Some(engine) = Engine::of(&self.0) else { return Vec::new() };
        let all: Vec<_> = engine
            .containers()
            .all()
            .iter()
            .map(|container| container.look(|record| (record.networks.clone(), record.name.clone(), record.id.clone())))
            .collect();
        let text = client.to_string();
        let endpoints = || {
            all.iter()
                .filter(|(networks, _, _)| {
                    let is = |endpoint: &Endpoint| endpoint.ip_address == text || endpoint.global_ipv6_address == text;
                    networks.values().any(is)
                })
                .flat_map(|(networks, _, _)| networks.values().filter(|endpoint| endpoint.has_address()))
        };
        let own: BTreeSet<&str> = endpoints().map(|endpoint| endpoint.network_id.as_str()).collect();
        let mut found = Vec::new();
        // What it calls others itself comes first.
        for endpoint in endpoints() {
            for link in endpoint.links.iter().flatten() {
                let (other, alias) = link.split_once(':').unwrap_or((link, link));
                let other = other.trim_start_matches('/');
                let linked =
                    all.iter().find(|(_, name, id)| name == other || (other.len() >= 12 && id.starts_with(other)));
                let place = linked.and_then(|(networks, _, _)| {
                    networks.values().find(|place| place.network_id == endpoint.network_id)
                });
                for ip in place.into_iter().flat_map(addresses) {
                    found.push((vec![alias.trim_start_matches('/').to_owned()], ip));
                }
            }
        }
        for (networks, _, _) in &all {
            for (network, endpoint) in
                networks.iter().filter(|(_, endpoint)| own.contains(endpoint.network_id.as_str()))
            {
                let Some(names) = &endpoint.dns_names else { continue };
                for ip in addresses(endpoint) {
                    let long = names.iter().map(|name| format!("{name}.{network}"));
                    found.push((names.iter().cloned().chain(long).collect(), ip));
                }
            }
        }
        found
    }
}

/// The addresses of a container in a network, while it runs.
fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    [&endpoint.ip_address, &endpoint.global_ipv6_address].into_iter().filter_map(|ip| ip.parse().ok())
}

impl dns::Names for Containers {
    fn addresses(&self, client: IpAddr, name: &str) -> Option<Vec<IpAddr>> {
        let seen = self.seen(client);
        let found: Vec<IpAddr> = seen
            .into_iter()
            .filter(|(names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|(_, ip)| ip)
            .collect();
        (!found.is_empty()).then_some(found)
    }

    fn name(&self, client: IpAddr, address: IpAddr) -> Option<String> {
        let seen = self.seen(client);
        let (names, _) = seen.into_iter().find(|(_, ip)| *ip == address)?;
        // The longer form of the first name: half of them are short ones.
        names.get(names.len() / 2).cloned()
    }
}

/// Serves the names of a network on its gateway's address, as part of the task that comes back.
pub(super) fn serve(engine: &Engine, network: &Network) -> anyhow::Result<task::Task> {
    let of_ipv6 = || network.ipv6.as_ref().and_then(|ipv6| ipv6.gateway).map(IpAddr::V6);
    let gateway = network.gateway.map(IpAddr::V4).or_else(of_ipv6);
    let gateway = gateway.context("a network without a gateway has no names")?;
    let address = SocketAddr::new(gateway, 53);
    let udp = UdpSocket::bind(address).with_context(|| format!("listen on {address} (udp) for names"))?;
    let tcp = TcpListener::bind(address).with_context(|| format!("listen on {address} (tcp) for names"))?;
    let text = std::fs::read_to_string(&engine.settings().resolv_conf).unwrap_or_default();
    let mut config = dns::Config::from_resolv_conf(&text);
    config.names = Some(Arc::new(Containers(engine.weak())));
    let below = engine.task().child("names");
    // A domain that nobody can ask for: all names here are the containers'.
    let zone = Arc::new(dns::Zone::new("containers.invalid"));
    zone.complete();
    dns::Server::run(&below, vec![udp], vec![tcp], config, zone).context("serve names")?;
    Ok(below)
}
