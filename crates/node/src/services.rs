//! Services as the network and the DNS server want them, from Services and EndpointSlices.
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/>
//!
//! ```text
//! Service, its EndpointSlices ──▶ ports with endpoints ──▶ network
//!                             └─▶ records ──────────────▶ DNS
//! ```
//!
//! Pure but for [`Tables`], which follows the caches. What changes together goes to the kernel together.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use client::cache::{Cache, Key};
use dns::{Addresses, Endpoint as DnsEndpoint, Port as DnsPort};
use k8s_openapi::api::{
    core::v1::{Namespace, Service, ServicePort as SpecPort},
    discovery::v1::EndpointSlice,
};
use kube::Api;
use network::{Protocol, ServicePort};
use tokio::sync::mpsc;

use crate::config::{Shared, now};

/// Changes that come within this time of each other go to the kernel together.
const TOGETHER: Duration = Duration::from_millis(2);
/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const DEFAULT_AFFINITY: u64 = 10_800;

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn dns_protocol(text: Option<&str>) -> dns::Protocol {
    match text {
        Some("UDP") => dns::Protocol::Udp,
        Some("SCTP") => dns::Protocol::Sctp,
        _ => dns::Protocol::Tcp,
    }
}

fn ipv4(list: &[String]) -> Vec<Ipv4Addr> {
    list.iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// One address behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    address: SocketAddrV4,
    local: bool,
    ready: bool,
    serving: bool,
    terminating: bool,
}

fn candidates(port: &SpecPort, slices: &[Arc<EndpointSlice>], node: &str) -> Vec<Candidate> {
    let name = port.name.as_deref().unwrap_or("");
    let mut found: Vec<Candidate> = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let number = slice.ports.iter().flatten().find(|own| {
            own.name.as_deref().unwrap_or("") == name
                && protocol(own.protocol.as_deref()) == protocol(port.protocol.as_deref())
        });
        let Some(number) = number.and_then(|own| own.port).and_then(|number| u16::try_from(number).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let ready = conditions.ready != Some(false);
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<Ipv4Addr>().ok()) else { continue };
            let address = SocketAddrV4::new(ip, number);
            if found.iter().any(|known| known.address == address) {
                continue;
            }
            found.push(Candidate {
                address,
                local: endpoint.node_name.as_deref() == Some(node),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating == Some(true),
            });
        }
    }
    found.sort_by_key(|candidate| candidate.address);
    found
}

/// Those that take connections: the ready ones or, where there is none, those that are ending and still serve.
fn usable(candidates: &[Candidate], local: bool) -> Vec<SocketAddrV4> {
    let here = || candidates.iter().filter(|candidate| !local || candidate.local);
    let ready: Vec<_> = here().filter(|candidate| candidate.ready).map(|candidate| candidate.address).collect();
    if !ready.is_empty() {
        return ready;
    }
    here().filter(|candidate| candidate.serving && candidate.terminating).map(|candidate| candidate.address).collect()
}

/// The ports of a service for the network; none for one without an address of its own.
pub fn ports(service: &Service, slices: &[Arc<EndpointSlice>], node: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let mut cluster = spec.cluster_ips.clone().unwrap_or_default();
    if cluster.is_empty() {
        cluster.extend(spec.cluster_ip.clone());
    }
    let cluster_ips = ipv4(&cluster);
    if cluster_ips.is_empty() {
        return Vec::new();
    }
    let mut external_ips = ipv4(spec.external_ips.as_deref().unwrap_or_default());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for ingress in balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default() {
        // Addresses of a proxy are not ours to catch.
        if ingress.ip_mode.as_deref() != Some("Proxy") {
            external_ips.extend(ingress.ip.as_ref().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
        }
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        Duration::from_secs(seconds.unwrap_or(DEFAULT_AFFINITY))
    });
    let port = |port: &SpecPort| {
        let candidates = candidates(port, slices, node);
        Some(ServicePort {
            cluster_ips: cluster_ips.clone(),
            external_ips: external_ips.clone(),
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            protocol: protocol(port.protocol.as_deref()),
            endpoints: usable(&candidates, false),
            local_endpoints: usable(&candidates, true),
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

/// A service's records; none for one without a name that leads anywhere.
pub fn record(service: &Service) -> Option<dns::Service> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(DnsPort {
            name: port.name.clone().unwrap_or_default(),
            port: u16::try_from(port.port).ok()?,
            protocol: dns_protocol(port.protocol.as_deref()),
        })
    });
    let addresses = if spec.type_.as_deref() == Some("ExternalName") {
        Addresses::External(spec.external_name.clone().filter(|name| !name.is_empty())?)
    } else if spec.cluster_ip.as_deref() == Some("None") {
        Addresses::Headless
    } else {
        let mut ips = spec.cluster_ips.clone().unwrap_or_default();
        if ips.is_empty() {
            ips.extend(spec.cluster_ip.clone());
        }
        let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        if ips.is_empty() {
            return None;
        }
        Addresses::Cluster(ips)
    };
    Some(dns::Service { addresses, ports: ports.collect() })
}

/// The endpoints by which a headless service is found.
pub fn endpoints(service: &Service, slices: &[Arc<EndpointSlice>]) -> Vec<DnsEndpoint> {
    let all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let mut found: Vec<DnsEndpoint> = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(DnsPort {
                name: port.name.clone().unwrap_or_default(),
                port: u16::try_from(port.port?).ok()?,
                protocol: dns_protocol(port.protocol.as_deref()),
            })
        });
        let ports: Vec<DnsPort> = ports.collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
            if !ready && !all {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                match found.iter_mut().find(|known| known.ip == ip) {
                    Some(known) => {
                        let new = ports.iter().filter(|port| !known.ports.contains(port)).cloned();
                        let new: Vec<_> = new.collect();
                        known.ports.extend(new);
                    }
                    None => found.push(DnsEndpoint {
                        ip,
                        hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
                        ports: ports.clone(),
                    }),
                }
            }
        }
    }
    found
}

/// Keeps the network's tables and the zone current.
pub struct Tables {
    shared: Shared,
    slices: Cache<EndpointSlice>,
    namespaces: Cache<Namespace>,
}

enum Input {
    Service(Key),
    Namespace(String, bool),
}

impl Tables {
    /// Tables of `shared`'s node.
    pub fn new(shared: &Shared) -> Self {
        Self { shared: shared.clone(), slices: Cache::idle(), namespaces: Cache::idle() }
    }

    /// Follows the caches until the node's task ends. The cache of Services, shared with others, is started here too.
    pub async fn run(self) {
        let (sender, mut inputs) = mpsc::unbounded_channel();
        let services = sender.clone();
        self.shared.services.listen(move |change| {
            let _ = services.send(Input::Service(change.key.clone()));
        });
        let slices = sender.clone();
        self.slices.listen(move |change| {
            for slice in change.old.iter().chain(&change.new) {
                if let Some(name) = service_of(slice) {
                    let _ = slices.send(Input::Service(Key::new(&change.key.namespace, name)));
                }
            }
        });
        self.namespaces.listen(move |change| {
            let _ = sender.send(Input::Namespace(change.key.name.to_string(), change.new.is_some()));
        });
        let (task, client) = (&self.shared.task, &self.shared.client);
        self.shared.services.start(task, Api::all(client.clone()), Default::default());
        self.slices.start(task, Api::all(client.clone()), Default::default());
        self.namespaces.start(task, Api::all(client.clone()), Default::default());
        let mut ready = self.shared.network_ready.subscribe();
        let work = async {
            self.shared.services.ready().await;
            self.slices.ready().await;
            self.namespaces.ready().await;
            self.sort_waiting(&mut inputs);
            self.shared.zone.complete();
            if ready.wait_for(|ready| *ready).await.is_err() {
                return;
            }
            self.sort_waiting(&mut inputs);
            self.replace().await;
            while let Some(input) = inputs.recv().await {
                let mut changed = HashSet::new();
                self.sort(input, &mut changed);
                tokio::time::sleep(TOGETHER).await;
                changed.extend(self.sort_waiting(&mut inputs));
                if !changed.is_empty() {
                    self.change(&changed).await;
                }
            }
        };
        self.shared.task.until_cancelled(work).await;
    }

    /// Sorts what has come so far; returns the Services among it.
    fn sort_waiting(&self, inputs: &mut mpsc::UnboundedReceiver<Input>) -> HashSet<Key> {
        let mut changed = HashSet::new();
        while let Ok(input) = inputs.try_recv() {
            self.sort(input, &mut changed);
        }
        changed
    }

    fn sort(&self, input: Input, changed: &mut HashSet<Key>) {
        match input {
            Input::Service(key) => {
                self.names(&key);
                changed.insert(key);
            }
            Input::Namespace(name, true) => self.shared.zone.set_namespace(&name),
            Input::Namespace(name, false) => self.shared.zone.remove_namespace(&name),
        }
    }

    fn slices_of(&self, key: &Key) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.slices.list_in(&key.namespace);
        slices.retain(|slice| service_of(slice) == Some(&key.name));
        slices
    }

    fn names(&self, key: &Key) {
        let service = self.shared.services.get(key);
        match service.as_ref().and_then(|service| record(service)) {
            Some(record) => {
                let headless = record.addresses == Addresses::Headless;
                self.shared.zone.set_service(&key.namespace, &key.name, record);
                if let (true, Some(service)) = (headless, &service) {
                    let endpoints = endpoints(service, &self.slices_of(key));
                    self.shared.zone.set_endpoints(&key.namespace, &key.name, endpoints);
                }
            }
            None => self.shared.zone.remove_service(&key.namespace, &key.name),
        }
    }

    fn ports(&self, key: &Key) -> Option<Arc<[ServicePort]>> {
        let service = self.shared.services.get(key)?;
        let ports = ports(&service, &self.slices_of(key), &self.shared.config.name);
        (!ports.is_empty()).then(|| ports.into())
    }

    /// All services, at the beginning: what a former process left is replaced.
    async fn replace(&self) {
        let Some(network) = self.shared.runtime.network() else { return };
        let all = self.shared.services.list().into_iter().filter_map(|service| {
            let key = Key::of(&*service);
            Some((key.to_string().into(), self.ports(&key)?))
        });
        let began = Instant::now();
        if let Err(error) = network.services(all.collect()).await {
            tracing::error!(%error, "set service tables");
        }
        self.shared.counts.took("kubeproxy_sync_full_proxy_rules_duration_seconds", &[], began.elapsed());
        self.synced(began);
    }

    async fn change(&self, changed: &HashSet<Key>) {
        let Some(network) = self.shared.runtime.network() else { return };
        let changes = changed.iter().map(|key| (key.to_string().into(), self.ports(key)));
        let began = Instant::now();
        if let Err(error) = network.change(changes.collect()).await {
            tracing::warn!(%error, "change service tables; all of them are set anew");
            self.replace().await;
        } else {
            self.shared.counts.took("kubeproxy_sync_partial_proxy_rules_duration_seconds", &[], began.elapsed());
            self.synced(began);
        }
    }

    /// Counts under kube-proxy's names what has come to the kernel.
    fn synced(&self, began: Instant) {
        let counts = &self.shared.counts;
        counts.took("kubeproxy_sync_proxy_rules_duration_seconds", &[], began.elapsed());
        counts.set("kubeproxy_sync_proxy_rules_last_timestamp_seconds", &[], now().as_second() as f64);
    }
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})).unwrap()
    }

    fn slice(endpoints: Value) -> Vec<Arc<EndpointSlice>> {
        let slice = json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints});
        vec![Arc::new(serde_json::from_value(slice).unwrap())]
    }

    fn plain() -> Value {
        json!({"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]})
    }

    fn shown(list: &[SocketAddrV4]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_endpoints_are_used_and_ending_ones_only_without_them() {
        let ready = json!({"addresses": ["10.42.0.5"], "nodeName": "n1", "conditions": {"ready": true}});
        let other = json!({"addresses": ["10.42.1.5"], "nodeName": "n2"});
        let unready = json!({"addresses": ["10.42.0.6"], "nodeName": "n1", "conditions": {"ready": false}});
        let ending = json!({"addresses": ["10.42.0.7"], "nodeName": "n1",
            "conditions": {"ready": false, "serving": true, "terminating": true}});
        let port = |endpoints: Value| ports(&service(plain()), &slice(endpoints), "n1").remove(0);
        let all = port(json!([ready, other, unready, ending]));
        assert_eq!(shown(&all.endpoints), ["10.42.0.5:8080", "10.42.1.5:8080"]);
        assert_eq!(shown(&all.local_endpoints), ["10.42.0.5:8080"]);
        assert_eq!(all.node_port, Some(30080));
        let last = port(json!([unready, ending]));
        assert_eq!(shown(&last.endpoints), ["10.42.0.7:8080"]);
    }

    #[test]
    fn services_without_an_address_of_their_own_are_names_only() {
        let headless = service(json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}));
        assert!(ports(&headless, &[], "n1").is_empty());
        assert_eq!(record(&headless).unwrap().addresses, Addresses::Headless);
        let external = service(json!({"type": "ExternalName", "externalName": "db.example"}));
        assert!(ports(&external, &[], "n1").is_empty());
        assert_eq!(record(&external).unwrap().addresses, Addresses::External("db.example".into()));
        assert!(record(&service(json!({"ports": []}))).is_none());
    }

    #[test]
    fn headless_services_are_found_by_their_ready_endpoints() {
        let list = slice(json!([
            {"addresses": ["10.42.0.5"], "hostname": "web-0"},
            {"addresses": ["10.42.0.6"], "conditions": {"ready": false}},
        ]));
        let headless = service(json!({"clusterIP": "None"}));
        let found = endpoints(&headless, &list);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].hostname.as_deref(), Some("web-0"));
        let all = service(json!({"clusterIP": "None", "publishNotReadyAddresses": true}));
        assert_eq!(endpoints(&all, &list).len(), 2);
    }

    #[test]
    fn policies_and_affinity_reach_the_network() {
        let mut spec = plain();
        spec["sessionAffinity"] = json!("ClientIP");
        spec["externalTrafficPolicy"] = json!("Local");
        spec["externalIPs"] = json!(["198.51.100.7"]);
        let port = ports(&service(spec), &[], "n1").remove(0);
        assert_eq!(port.affinity, Some(Duration::from_secs(10_800)));
        assert!(port.external_local && !port.internal_local);
        assert_eq!(port.external_ips, ["198.51.100.7".parse::<Ipv4Addr>().unwrap()]);
    }
}
