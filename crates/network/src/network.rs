//! The network of one instance on one node: attaching pods, applying services, and taking it all away.
//!
//! ```text
//! absent ──attach──▶ attached ──detach──▶ absent
//!                      │  ▲
//!         process ends ▼  │ open: links are found by their second name, INSTANCE/SANDBOX
//!                      left
//! ```
//!
//! What is attached is in the kernel and nowhere else. Every call is whole when it returns; each blocks a thread of
//! tokio's blocking pool for the milliseconds that it takes.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::{
    Cidr, Error, HostPort, Leftover, Pod, Protocol, SandboxNet, Services,
    error::{kernel, lock},
    firewall,
    keeper::Keeper,
    leftover,
    link::{self, Route, Way},
    names::Names,
    netlink::{Request, Socket},
    nft::Family,
    pod::Pods,
    service::Change,
    table::{Base, Element, Place, Value},
};

/// What an instance is given. Two instances on one machine differ in name and in ranges.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the instance: of its table, and hashed into the names of its links. Letters, digits, `-` and `_`; at
    /// most 32 bytes.
    pub name: String,
    /// Addresses of the pods of this node.
    pub pod_cidr: Cidr,
    /// Addresses of the pods of all nodes: what goes there keeps its source address.
    pub cluster_cidr: Cidr,
    /// Addresses of services inside the cluster.
    pub service_cidr: Cidr,
    /// An address of the node, by which pods see it.
    pub node_ip: Ipv4Addr,
    /// MTU of the pods' links in bytes; by default that of the link of the default route, else 1500.
    pub mtu: Option<u32>,
    /// Whether what pods send out of the cluster gets the node's address.
    pub masquerade: bool,
}

const DEFAULT_MTU: u32 = 1500;

/// The network of one instance. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    keeper: Mutex<Keeper>,
    pods: Pods,
}

impl Network {
    /// What the near ends of the links to an instance's pods begin with.
    pub fn link_prefix(instance: &str) -> String {
        Names::of(instance).link_prefix
    }

    /// Takes up the network of `config.name` in the calling thread's network namespace: forwarding, routes and table
    /// are made, and pods that a former process attached are found. Services that a former process applied work on
    /// until the first [`Network::services`]. Forwarding of IPv4 stays switched on when the instance is gone, since others
    /// may have come to need it.
    ///
    /// # Errors
    /// [`Error::Config`], or the kernel's refusal (root is needed).
    pub async fn open(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let names = Names::of(&config.name);
        // Not on another thread: that might be in another namespace.
        let mut route = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let netfilter = Socket::netfilter().map_err(kernel("open netfilter socket"))?;
        set_sysctl("net/ipv4/ip_forward", "1")?;
        let links = link::links(&mut route).map_err(kernel("list links"))?;
        let routes = link::routes(&mut route).map_err(kernel("list routes"))?;
        let mtu = config.mtu.unwrap_or_else(|| uplink_mtu(&links, &routes));
        let mut request = Request::default();
        // The kernel refuses routes whose source is no address of the machine.
        let addresses = link::addresses(&mut route).map_err(kernel("list addresses"))?;
        let source = addresses.iter().any(|(_, address, _)| *address == config.node_ip).then_some(config.node_ip);
        if source.is_none() {
            tracing::warn!(name = %config.name, node_ip = %config.node_ip, "the node's address is on no link");
        }
        for wanted in instance_routes(&config, &names, source) {
            link::route(&mut request, &wanted);
        }
        route.all(request).map_err(kernel(format!("make the routes of network {}", config.name)))?;

        let mut pods = HashMap::new();
        let prefix = names.alias("");
        for found in links {
            let Some(id) = found.alias.as_deref().and_then(|alias| alias.strip_prefix(&prefix)) else { continue };
            let ours = |listed: &&link::Listed| listed.ours && listed.route.way == Way::Link(found.index);
            let Some(listed) = routes.iter().find(ours) else { continue };
            let pod = Pod { id: id.into(), ip: listed.route.to.address(), link: found.name, host_ports: Vec::new() };
            pods.insert(id.to_owned(), pod);
        }
        let base = Base {
            link_prefix: names.link_prefix.clone(),
            pod_cidr: config.pod_cidr,
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
            node_ip: config.node_ip,
            masquerade: config.masquerade,
        };
        let mut keeper = Keeper::new(&config.name, base, netfilter)?;
        let found = keeper.others().map_err(kernel(format!("list what table {} holds", config.name)))?;
        for element in &found {
            recover_host_port(element, &mut pods);
        }
        let own = link::labelled(&mut route, &names.label).map_err(kernel("list addresses"))?;
        let pairs = pods.values().map(|pod| Element::hairpin(pod.ip));
        keeper.begin(found, own.into_iter().map(Element::own).chain(pairs).collect())?;
        firewall::let_through(keeper.socket(), Family::V4, &names)?;
        tracing::debug!(name = %config.name, pods = pods.len(), mtu, "network taken up");
        let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let removal = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let pods = Pods::new(names, config.pod_cidr, mtu, ipv6, source, (route, removal), pods);
        Ok(Self(Arc::new(Inner { config, keeper: Mutex::new(keeper), pods })))
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The pods that are attached now, in no order.
    pub fn pods(&self) -> Vec<Pod> {
        self.0.pods.all()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| Error::Kernel { what: "work on the network".into(), source: io::Error::other(error) })?
    }

    /// Gives a pod its link, address and routes, and leads its host ports there. Attaching the same sandbox again
    /// mends what is missing.
    ///
    /// # Errors
    /// [`Error::Sandbox`] when another pod has the address or a host port; the kernel's refusal. Nothing is left then.
    pub async fn attach(&self, sandbox: SandboxNet) -> Result<Pod, Error> {
        self.blocking(move |inner| inner.pods.attach(&sandbox, &inner.keeper)).await
    }

    /// Takes the pod's link and host ports away. A sandbox that is not attached is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn detach(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.blocking(move |inner| inner.pods.detach(&id, &inner.keeper)).await
    }

    /// Makes `services` all services there are. Only what differs from before goes to the kernel, as one transaction.
    ///
    /// # Errors
    /// The kernel's refusal; the next call makes the table anew.
    pub async fn services(&self, services: Services) -> Result<(), Error> {
        self.blocking(move |inner| lock(&inner.keeper).services(&services)).await
    }

    /// Sets or removes (`None`) some services and leaves the others, as one transaction. [`Network::services`] comes
    /// first.
    ///
    /// # Errors
    /// The kernel's refusal; the next call makes the table anew.
    pub async fn change(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.blocking(move |inner| lock(&inner.keeper).change(changes)).await
    }

    /// Makes `ip` an address of the node, for a service that the node itself answers (cluster DNS). Services never
    /// lead away from it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn add_address(&self, ip: Ipv4Addr) -> Result<(), Error> {
        self.blocking(move |inner| {
            let mut request = Request::default();
            link::address(&mut request, link::LOOPBACK, ip, true, Some(&inner.pods.names().label));
            link::up(&mut request, link::LOOPBACK);
            inner.pods.route().all(request).map_err(kernel(format!("add address {ip}")))?;
            lock(&inner.keeper).exchange(Vec::new(), vec![Element::own(ip)])
        })
        .await
    }

    /// Removes all of this instance: links, routes, addresses, table. Pods lose their network.
    ///
    /// # Errors
    /// The kernel's refusal. What comes after is tried nonetheless, and the first refusal given.
    pub async fn cleanup(&self) -> Result<(), Error> {
        self.blocking(|inner| {
            let mut keeper = lock(&inner.keeper);
            let mut first = Ok(());
            let (mut route, names) = (inner.pods.route(), inner.pods.names());
            for leftover in leftover::find(&mut route, keeper.socket(), names)? {
                first = first.and(leftover::remove(&mut route, keeper.socket(), names, &leftover));
            }
            inner.pods.forget();
            keeper.forget();
            first
        })
        .await
    }

    /// What there is of the instance `name` in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn leftovers(name: &str) -> Result<Vec<Leftover>, Error> {
        let mut route = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let mut netfilter = Socket::netfilter().map_err(kernel("open netfilter socket"))?;
        leftover::find(&mut route, &mut netfilter, &Names::of(name))
    }

    /// Removes what there is of the instance `name` in the calling thread's network namespace, and says what it was.
    /// For when no process of the instance runs.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn remove_leftovers(name: &str) -> Result<Vec<Leftover>, Error> {
        let mut route = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let mut netfilter = Socket::netfilter().map_err(kernel("open netfilter socket"))?;
        let names = Names::of(name);
        let found = leftover::find(&mut route, &mut netfilter, &names)?;
        for leftover in &found {
            leftover::remove(&mut route, &mut netfilter, &names, leftover)?;
        }
        Ok(found)
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let bad = |reason: &str| Err(Error::Config { name: config.name.clone(), reason: reason.into() });
    let name = config.name.as_bytes();
    if name.is_empty() || name.len() > 32 || !name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
        return bad("a name is 1 to 32 letters, digits, - and _");
    }
    if config.mtu.is_some_and(|mtu| !(68..=65_535).contains(&mtu)) {
        return bad("an mtu is 68 to 65535 bytes");
    }
    if config.cluster_cidr.contains(config.service_cidr.address())
        || config.service_cidr.contains(config.cluster_cidr.address())
    {
        return bad("pods and services share addresses");
    }
    Ok(())
}

pub(crate) fn set_sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{name}");
    // Writing what is there already resets other settings.
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(kernel(format!("set {name} to {value}")))
}

fn uplink_mtu(links: &[link::Link], routes: &[link::Listed]) -> u32 {
    let default = routes.iter().filter(|listed| listed.route.to.prefix() == 0);
    let best = default.min_by_key(|listed| listed.route.metric.unwrap_or(0));
    let index = best.and_then(|listed| match listed.route.way {
        Way::Link(index) | Way::Via(_, index) => Some(index),
        Way::Unreachable => None,
    });
    let link = links.iter().find(|link| Some(link.index) == index);
    link.map(|link| link.mtu).filter(|mtu| *mtu >= 68).unwrap_or(DEFAULT_MTU)
}

/// Pods that are not there are unreachable at once, rather than looked for beyond the uplink. Service addresses have a
/// route so that the node can send there without a default route too; what no service answers is refused on the way.
fn instance_routes(config: &Config, names: &Names, source: Option<Ipv4Addr>) -> [Route; 2] {
    let metric = Some(names.metric);
    [
        Route { to: config.pod_cidr, way: Way::Unreachable, source: None, metric },
        Route { to: config.service_cidr, way: Way::Link(link::LOOPBACK), source, metric },
    ]
}

/// Gives a pod that was found the host port of an element that was found.
fn recover_host_port(element: &Element, pods: &mut HashMap<String, Pod>) {
    let (Place::HostPorts, Value::Endpoint(to)) = (element.place, element.value) else { return };
    let ip = Ipv4Addr::new(to[0], to[1], to[2], to[3]);
    let Some(protocol) = Protocol::from_number(element.key[4]) else { return };
    if let Some(pod) = pods.values_mut().find(|pod| pod.ip == ip) {
        pod.host_ports.push(HostPort {
            host_ip: Ipv4Addr::new(element.key[0], element.key[1], element.key[2], element.key[3]),
            host_port: u16::from_be_bytes([element.key[8], element.key[9]]),
            container_port: u16::from_be_bytes([to[4], to[5]]),
            protocol,
        });
    }
}
