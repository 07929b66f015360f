//! The records of a cluster, kept by name and by address.
//!
//! Follows the [Kubernetes DNS specification](https://github.com/kubernetes/dns/blob/master/docs/specification.md), 1.1.0:
//!
//! ```text
//! DOMAIN ─┬─ svc ── NAMESPACE ── SERVICE ─┬─ HOSTNAME             A of an endpoint
//!         │                               └─ _PROTO ── _PORT      SRV
//!         ├─ pod ── NAMESPACE ── 1-2-3-4                          A, made from the name
//!         └─ dns-version                                          TXT
//! ```
//!
//! Names between others exist and have no records. Wildcards are no part of it.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// How long a question waits for the records, in a process that has just begun. Resolvers wait 5 s for us.
const BEGINNING: Duration = Duration::from_secs(4);

/// What a service's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The service's own addresses.
    Cluster(Vec<IpAddr>),
    /// The addresses of its endpoints.
    Headless,
    /// Another name (`ExternalName`).
    External(String),
}

/// A transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

/// A port, for SRV records. Ports without a name have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the port; may be empty.
    pub name: String,
    /// The number that clients connect to.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl Port {
    fn is(&self, name: &str, protocol: &str) -> bool {
        self.protocol.label() == protocol && !self.name.is_empty() && self.name.eq_ignore_ascii_case(name)
    }
}

/// A service as DNS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the name leads to.
    pub addresses: Addresses,
    /// The service's ports.
    pub ports: Vec<Port>,
}

/// An endpoint of a headless service that shall be found: one that is ready, or any if the service publishes those
/// that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Its name below the service's; without one, a name is made of the address.
    pub hostname: Option<String>,
    /// Its ports, under the names of the service's ports.
    pub ports: Vec<Port>,
}

impl Endpoint {
    fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
            _ => dashed(self.ip),
        }
    }
}

/// All records of a cluster. Changes are seen by the next query.
#[derive(Debug)]
pub struct Zone {
    /// Labels of the domain, lower case, the leftmost first.
    domain: Vec<String>,
    records: RwLock<Records>,
    /// Whether what is not among the records does not exist.
    complete: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Records {
    namespaces: HashMap<String, Namespace>,
    /// Which names an address has: namespace, service, and the endpoint's label if it is one.
    reverse: HashMap<IpAddr, Vec<(String, String, Option<String>)>>,
    /// Namespaces of this node's pods.
    pods: HashMap<IpAddr, String>,
    /// Counts changes.
    serial: u32,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Whether there is such a namespace, rather than only records for it.
    known: bool,
    services: HashMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    endpoints: Vec<Endpoint>,
}

/// What is asked for, as far as the zone tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
    Txt,
    Ns,
    Soa,
    Any,
    Other,
}

/// A record's data. Names are whole, without the last dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Address(IpAddr),
    /// Priority 0; port and target.
    Srv(u16, String),
    Txt(&'static str),
    Ns(String),
    Soa,
    Ptr(String),
}

/// What the zone says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such name.
    Nothing,
    /// There is, with these records of the kind that was asked for, and addresses that go with them.
    Records(Vec<Data>, Vec<(String, IpAddr)>),
    /// It is another name for this one.
    Alias(String),
}

impl Found {
    const EMPTY: Self = Self::Records(Vec::new(), Vec::new());
}

/// The namespace of the cluster's own parts.
const OWN: &str = "madang-system";
/// Version of the specification that names follow.
const VERSION: &str = "1.1.0";

/// An address as a label.
fn dashed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        IpAddr::V6(ip) => ip.to_string().replace(':', "-"),
    }
}

fn undashed(label: &str) -> Option<IpAddr> {
    if let Ok(ip) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(IpAddr::V4(ip));
    }
    label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

impl Zone {
    /// A zone without records, of a domain such as `cluster.local`.
    pub fn new(domain: &str) -> Self {
        let domain = domain.split('.').filter(|label| !label.is_empty()).map(str::to_ascii_lowercase).collect();
        Self { domain, records: RwLock::default(), complete: watch::Sender::new(false) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Records> {
        let mut records = self.records.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        records.serial = records.serial.wrapping_add(1);
        records
    }

    /// Says that all that exists has been set: until then a question for a name of the zone waits, and no name is denied.
    pub fn complete(&self) {
        self.complete.send_replace(true);
    }

    /// Waits until the records are complete; false if they still are not after a while.
    pub(crate) async fn wait_complete(&self) -> bool {
        if *self.complete.borrow() {
            return true;
        }
        let mut complete = self.complete.subscribe();
        matches!(timeout(BEGINNING, complete.wait_for(|complete| *complete)).await, Ok(Ok(_)))
    }

    /// Makes a namespace known; the names of its services and pods are below it.
    pub fn set_namespace(&self, namespace: &str) {
        self.write().namespaces.entry(namespace.to_owned()).or_default().known = true;
    }

    /// Forgets a namespace. Its services and pods are removed one by one.
    pub fn remove_namespace(&self, namespace: &str) {
        let mut records = self.write();
        if let Some(found) = records.namespaces.get_mut(namespace) {
            found.known = false;
            if found.services.is_empty() {
                records.namespaces.remove(namespace);
            }
        }
    }

    /// Sets or replaces a service.
    pub fn set_service(&self, namespace: &str, name: &str, service: Service) {
        self.write().change(namespace, name, |entry| entry.service = Some(service));
    }

    /// Removes a service and its endpoints.
    pub fn remove_service(&self, namespace: &str, name: &str) {
        self.write().change(namespace, name, |entry| *entry = Entry::default());
    }

    /// Replaces all endpoints of a headless service, whether the service is there yet or not.
    pub fn set_endpoints(&self, namespace: &str, name: &str, endpoints: Vec<Endpoint>) {
        self.write().change(namespace, name, |entry| entry.endpoints = endpoints);
    }

    /// Says which namespace a pod of this node belongs to: its queries are completed with that namespace's search
    /// list.
    pub fn set_pod(&self, ip: IpAddr, namespace: &str) {
        self.write().pods.insert(ip, namespace.to_owned());
    }

    /// Forgets a pod.
    pub fn remove_pod(&self, ip: IpAddr) {
        self.write().pods.remove(&ip);
    }

    /// The namespace of a pod of this node.
    pub(crate) fn namespace_of(&self, ip: IpAddr) -> Option<String> {
        self.read().pods.get(&ip).cloned()
    }

    /// Labels of the domain, the leftmost first.
    pub(crate) fn domain(&self) -> &[String] {
        &self.domain
    }

    /// How often the zone was changed.
    pub(crate) fn serial(&self) -> u32 {
        self.read().serial
    }

    /// The labels before the domain, if the name is of this zone. Labels are lower case.
    pub(crate) fn inside<'n, 's>(&self, name: &'n [&'s str]) -> Option<&'n [&'s str]> {
        let (front, back) = name.split_at(name.len().checked_sub(self.domain.len())?);
        back.iter().zip(&self.domain).all(|(label, domain)| label == domain).then_some(front)
    }

    /// Whether the name is one that the records decide about: of the zone, or of the cluster's own parts.
    pub(crate) fn decides(&self, name: &[&str]) -> bool {
        self.inside(name).is_some() || matches!(name, [_, "madang", "internal"])
    }

    /// The Service that `NAME.madang.internal` stands for: one of the cluster's own parts, under a name that is the same
    /// in every cluster. Nothing where there is no such Service.
    pub(crate) fn part(&self, name: &[&str]) -> Option<String> {
        let [part, "madang", "internal"] = name else { return None };
        let records = self.read();
        let known = records.namespaces.get(OWN)?.services.contains_key(*part);
        known.then(|| self.name(&[part, OWN, "svc"]))
    }

    fn name(&self, labels: &[&str]) -> String {
        let domain = self.domain.iter().map(String::as_str);
        labels.iter().copied().chain(domain).collect::<Vec<_>>().join(".")
    }

    /// Whether names that end so, below a search list of `namespace`, are of the cluster, whether they exist or not:
    /// `web` and `pod-0.web` with a service `web`, `web.shop` and `pod-0.web.shop` with a namespace `shop`.
    pub(crate) fn owns_suffix(&self, namespace: &str, base: &[&str]) -> bool {
        let Some(last) = base.last() else { return true };
        let records = self.read();
        let service = || records.namespaces.get(namespace).is_some_and(|found| found.services.contains_key(*last));
        base.len() == 1
            || records.namespaces.contains_key(*last)
            || ["svc", "pod"].contains(last)
            || (base.len() == 2 && service())
    }

    /// Looks up a name of the zone, given without the domain, in lower case.
    pub(crate) fn look_up(&self, name: &[&str], kind: Kind) -> Found {
        let records = self.read();
        let when = |there: bool| if there { Found::EMPTY } else { Found::Nothing };
        let known = |namespace: &str| records.namespaces.contains_key(namespace);
        match name {
            [] => match kind {
                Kind::Soa => Found::Records(vec![Data::Soa], Vec::new()),
                Kind::Ns => Found::Records(vec![Data::Ns(self.name(&["kube-dns", "kube-system", "svc"]))], Vec::new()),
                Kind::Any => Found::Records(vec![Data::Soa], Vec::new()),
                _ => Found::EMPTY,
            },
            ["dns-version"] => match kind {
                Kind::Txt | Kind::Any => Found::Records(vec![Data::Txt(VERSION)], Vec::new()),
                _ => Found::EMPTY,
            },
            ["svc" | "pod"] => Found::EMPTY,
            [namespace, "svc" | "pod"] => when(known(namespace)),
            [label, namespace, "pod"] => match undashed(label) {
                Some(ip) if known(namespace) => addresses([ip].into_iter(), kind),
                _ => Found::Nothing,
            },
            [rest @ .., service, namespace, "svc"] => {
                let found = records.namespaces.get(*namespace).and_then(|found| found.services.get(*service));
                match found.and_then(|entry| Some((entry.service.as_ref()?, &entry.endpoints))) {
                    Some((service_record, endpoints)) => {
                        self.of_service(rest, service, namespace, service_record, endpoints, kind)
                    }
                    None => Found::Nothing,
                }
            }
            _ => Found::Nothing,
        }
    }

    fn of_service(
        &self,
        rest: &[&str],
        name: &str,
        namespace: &str,
        service: &Service,
        endpoints: &[Endpoint],
        kind: Kind,
    ) -> Found {
        let headless = matches!(service.addresses, Addresses::Headless);
        match (rest, &service.addresses) {
            ([], Addresses::External(target)) => Found::Alias(target.trim_end_matches('.').to_ascii_lowercase()),
            ([], Addresses::Cluster(own)) => addresses(own.iter().copied(), kind),
            ([], Addresses::Headless) => {
                let mut seen = HashSet::new();
                addresses(endpoints.iter().map(|endpoint| endpoint.ip).filter(|ip| seen.insert(*ip)), kind)
            }
            (_, Addresses::External(_)) => Found::Nothing,
            ([protocol @ ("_tcp" | "_udp" | "_sctp")], _) => {
                let named = |ports: &[Port]| {
                    ports.iter().any(|port| port.protocol.label() == *protocol && !port.name.is_empty())
                };
                if named(&service.ports) { Found::EMPTY } else { Found::Nothing }
            }
            ([port, protocol], _) if port.starts_with('_') => {
                let Some(port) = port.strip_prefix('_') else { return Found::Nothing };
                let own = service.ports.iter().find(|own| own.is(port, protocol));
                if !matches!(kind, Kind::Srv | Kind::Any) {
                    return if own.is_some() { Found::EMPTY } else { Found::Nothing };
                }
                let mut targets = Vec::new();
                let mut glue = Vec::new();
                if headless {
                    for endpoint in endpoints {
                        for found in endpoint.ports.iter().filter(|found| found.is(port, protocol)) {
                            let target = self.name(&[&endpoint.label(), name, namespace, "svc"]);
                            glue.push((target.clone(), endpoint.ip));
                            targets.push(Data::Srv(found.port, target));
                        }
                    }
                } else if let (Some(own), Addresses::Cluster(ips)) = (own, &service.addresses) {
                    let target = self.name(&[name, namespace, "svc"]);
                    glue.extend(ips.iter().map(|ip| (target.clone(), *ip)));
                    targets.push(Data::Srv(own.port, target));
                }
                if targets.is_empty() && own.is_none() { Found::Nothing } else { Found::Records(targets, glue) }
            }
            ([label], Addresses::Headless) => {
                let mut named = endpoints.iter().filter(|endpoint| endpoint.label() == *label).peekable();
                if named.peek().is_none() {
                    return Found::Nothing;
                }
                let mut seen = HashSet::new();
                addresses(named.map(|endpoint| endpoint.ip).filter(|ip| seen.insert(*ip)), kind)
            }
            _ => Found::Nothing,
        }
    }

    /// The names of an address.
    pub(crate) fn names_of(&self, ip: IpAddr) -> Vec<Data> {
        let records = self.read();
        let names = records.reverse.get(&ip).map(Vec::as_slice).unwrap_or_default();
        let name = |(namespace, service, endpoint): &(String, String, Option<String>)| {
            let mut labels: Vec<&str> = endpoint.iter().map(String::as_str).collect();
            labels.extend([service.as_str(), namespace, "svc"]);
            Data::Ptr(self.name(&labels))
        };
        names.iter().map(name).collect()
    }
}

fn addresses(ips: impl Iterator<Item = IpAddr>, kind: Kind) -> Found {
    let wanted = |ip: &IpAddr| match kind {
        Kind::A => ip.is_ipv4(),
        Kind::Aaaa => ip.is_ipv6(),
        Kind::Any => true,
        _ => false,
    };
    Found::Records(ips.filter(wanted).map(Data::Address).collect(), Vec::new())
}

impl Records {
    fn change(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Entry)) {
        let found = self.namespaces.entry(namespace.to_owned()).or_default();
        let entry = found.services.entry(name.to_owned()).or_default();
        let before = reverse(entry);
        change(entry);
        let after = reverse(entry);
        if entry.service.is_none() && entry.endpoints.is_empty() {
            found.services.remove(name);
        }
        if !found.known && found.services.is_empty() {
            self.namespaces.remove(namespace);
        }
        for (ip, label) in before.iter().filter(|pair| !after.contains(pair)) {
            if let Some(names) = self.reverse.get_mut(ip) {
                names.retain(|(ns, service, endpoint)| ns != namespace || service != name || endpoint != label);
                if names.is_empty() {
                    self.reverse.remove(ip);
                }
            }
        }
        for (ip, label) in after.iter().filter(|pair| !before.contains(pair)) {
            let names = self.reverse.entry(*ip).or_default();
            names.push((namespace.to_owned(), name.to_owned(), label.clone()));
        }
    }
}

/// The addresses that lead back to a service, and the endpoint's label where it is one.
fn reverse(entry: &Entry) -> HashSet<(IpAddr, Option<String>)> {
    match entry.service.as_ref().map(|service| &service.addresses) {
        Some(Addresses::Cluster(ips)) => ips.iter().map(|ip| (*ip, None)).collect(),
        Some(Addresses::Headless) => {
            entry.endpoints.iter().map(|endpoint| (endpoint.ip, Some(endpoint.label()))).collect()
        }
        _ => HashSet::new(),
    }
}

#[cfg(test)]
mod tests;
