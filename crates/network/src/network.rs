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
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Cidr, Protocol, Services,
    conntrack::{self, Flow},
    desired::{Desired, Plan},
    link::{self, End, Mac, Route, Way},
    netlink::{Request, Socket},
    nft::{self, Batch},
    service::{Change, Key},
    table::{self, Base, Element, Place, Value, endpoint_bytes},
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

/// A pod to attach.
#[derive(Clone, Debug)]
pub struct SandboxNet {
    /// Identifier of the sandbox; at most 200 bytes.
    pub id: String,
    /// The network namespace, such as `/proc/PID/ns/net`.
    pub netns: PathBuf,
    /// The pod's address, from [`Config::pod_cidr`].
    pub ip: Ipv4Addr,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<HostPort>,
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The node's address; 0.0.0.0 means all of them.
    pub host_ip: Ipv4Addr,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl HostPort {
    fn key(&self) -> Key {
        Key { address: self.host_ip, protocol: self.protocol, port: self.host_port }
    }
}

/// A pod that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Identifier of the sandbox.
    pub id: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The link on the node's side.
    pub link: String,
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<HostPort>,
}

/// Something of an instance that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A table of nf_tables.
    Table(String),
    /// A link.
    Link(String),
    /// A route, by its destination.
    Route(Cidr),
    /// An address of the loopback link.
    Address(Ipv4Addr),
}

/// What went wrong, with the object it went wrong with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("network {name}: {reason}")]
    Config {
        /// Name of the instance.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sandbox asks for what it cannot have.
    #[error("attach sandbox {id}: {reason}")]
    Sandbox {
        /// Identifier of the sandbox.
        id: String,
        /// What it cannot have, and who has it.
        reason: String,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// The verb and the object.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A pod sees the node at this address; it is on no link and only in the pod's neighbour table.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The node's end of every pod's link. They never meet, so one address serves all.
const NODE_MAC: Mac = [0xee; 6];
const POD_LINK: &str = "eth0";
const DEFAULT_MTU: u32 = 1500;

/// The network of one instance. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    names: Names,
    mtu: u32,
    ipv6: bool,
    /// The source address of what the node sends to pods, where it is an address of the machine.
    source: Option<Ipv4Addr>,
    route: Mutex<Socket>,
    tables: Mutex<Tables>,
    pods: Mutex<HashMap<String, Pod>>,
}

/// What an instance's objects are called.
#[derive(Clone, Debug)]
struct Names {
    instance: String,
    /// Links to pods begin so: two letters and 20 bits of the instance's name.
    link_prefix: String,
    /// The addresses on the loopback link carry this.
    label: String,
    /// The metric of its routes.
    metric: u32,
}

impl Names {
    fn of(instance: &str) -> Self {
        let hash = hash(instance);
        let link_prefix = format!("md{}", letters(hash, 4));
        let label = format!("lo:{link_prefix}");
        Self { instance: instance.into(), link_prefix, label, metric: 0x6d00_0000 | (hash as u32 & 0xff_ffff) }
    }

    fn link(&self, id: &str) -> String {
        format!("{}{}", self.link_prefix, letters(hash(id), 9))
    }

    fn alias(&self, id: &str) -> String {
        format!("{}/{id}", self.instance)
    }
}

/// FNV-1a, which is the same in every process and version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn letters(hash: u64, count: u32) -> String {
    (0..count)
        .map(|place| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(hash >> (64 - 5 * (place + 1))) as usize & 31]))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is checked against the kernel by the next change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Kernel { what, source }
}

fn is(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

impl Network {
    /// Takes up the network of `config.name` in the calling thread's network namespace: forwarding, routes and table
    /// are made, and pods that a former process attached are found. Services that a former process applied work on
    /// until the first [`Network::services`].
    ///
    /// # Errors
    /// [`Error::Config`], or the kernel's refusal (root is needed).
    pub async fn open(config: Config) -> Result<Self, Error> {
        check(&config)?;
        let names = Names::of(&config.name);
        // Not on another thread: that might be in another namespace.
        let mut route = Socket::route().map_err(kernel("open rtnetlink socket"))?;
        let mut netfilter = Socket::netfilter().map_err(kernel("open netfilter socket"))?;
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
        let mut desired = Desired::default();
        let comment =
            nft::comment(&mut netfilter, &config.name).map_err(kernel(format!("find table {}", config.name)))?;
        let known = comment.as_deref() == Some(base.comment().as_str());
        if known {
            let found = recover_others(&mut netfilter, &config.name)
                .map_err(kernel(format!("list what table {} holds", config.name)))?;
            for element in &found {
                recover_host_port(element, &mut pods);
            }
            desired.adopt(found);
        }
        let mut tables =
            Tables { name: config.name.clone(), base, socket: netfilter, desired, in_step: known, complete: false };
        if !known {
            tables.desired.adopt(pods.values().map(|pod| Element::hairpin(pod.ip)));
            let own = link::labelled(&mut route, &names.label).map_err(kernel("list addresses"))?;
            tables.desired.adopt(own.into_iter().map(Element::own));
            tables.renew()?;
        }
        tracing::debug!(name = %config.name, pods = pods.len(), mtu, "network taken up");
        Ok(Self(Arc::new(Inner {
            config,
            names,
            mtu,
            source,
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            route: Mutex::new(route),
            tables: Mutex::new(tables),
            pods: Mutex::new(pods),
        })))
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The pods that are attached now, in no order.
    pub fn pods(&self) -> Vec<Pod> {
        lock(&self.0.pods).values().cloned().collect()
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
        self.blocking(move |inner| inner.attach(&sandbox)).await
    }

    /// Takes the pod's link and host ports away. A sandbox that is not attached is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn detach(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.blocking(move |inner| inner.detach(&id)).await
    }

    /// Makes `services` all services there are. Only what differs from before goes to the kernel, as one transaction.
    ///
    /// # Errors
    /// The kernel's refusal; the next call makes the table anew.
    pub async fn services(&self, services: Services) -> Result<(), Error> {
        self.blocking(move |inner| {
            let mut tables = lock(&inner.tables);
            let differences = tables.desired.differences(&services);
            let first = !std::mem::replace(&mut tables.complete, true);
            tables.in_step &= !first;
            tables.apply(differences, Vec::new(), Vec::new())
        })
        .await
    }

    /// Sets or removes (`None`) some services and leaves the others, as one transaction. [`Network::services`] comes
    /// first.
    ///
    /// # Errors
    /// The kernel's refusal; the next call makes the table anew.
    pub async fn change(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.blocking(move |inner| lock(&inner.tables).apply(changes, Vec::new(), Vec::new())).await
    }

    /// Makes `ip` an address of the node, for a service that the node itself answers (cluster DNS). Services never
    /// lead away from it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn add_address(&self, ip: Ipv4Addr) -> Result<(), Error> {
        self.blocking(move |inner| {
            let mut request = Request::default();
            link::address(&mut request, link::LOOPBACK, ip, true, Some(&inner.names.label));
            link::up(&mut request, link::LOOPBACK);
            lock(&inner.route).all(request).map_err(kernel(format!("add address {ip}")))?;
            lock(&inner.tables).apply(Vec::new(), Vec::new(), vec![Element::own(ip)])
        })
        .await
    }

    /// Removes all of this instance: links, routes, addresses, table. Pods lose their network.
    ///
    /// # Errors
    /// The kernel's refusal. What comes after is tried nonetheless, and the first refusal given.
    pub async fn cleanup(&self) -> Result<(), Error> {
        self.blocking(|inner| {
            let (mut route, mut tables) = (lock(&inner.route), lock(&inner.tables));
            let mut first = Ok(());
            for leftover in leftovers(&mut route, &mut tables.socket, &inner.names)? {
                first = first.and(remove(&mut route, &mut tables.socket, &inner.names, &leftover));
            }
            lock(&inner.pods).clear();
            tables.desired = Desired::default();
            (tables.in_step, tables.complete) = (false, false);
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
        leftovers(&mut route, &mut netfilter, &Names::of(name))
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
        let found = leftovers(&mut route, &mut netfilter, &names)?;
        for leftover in &found {
            remove(&mut route, &mut netfilter, &names, leftover)?;
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

fn set_sysctl(name: &str, value: &str) -> Result<(), Error> {
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

/// The elements that no list of services brings back.
fn recover_others(socket: &mut Socket, table: &str) -> io::Result<Vec<Element>> {
    let mut found = Vec::new();
    for place in [Place::Own, Place::Hairpin, Place::HostPorts] {
        for (bytes, data) in nft::elements(socket, table, place.set().name)? {
            let mut key = [0; 20];
            if let Some(key) = key.get_mut(..bytes.len()) {
                key.copy_from_slice(&bytes);
            }
            let value = <[u8; 8]>::try_from(data).map_or(Value::Nothing, Value::Endpoint);
            found.push(Element { place, key, value });
        }
    }
    Ok(found)
}

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

impl Inner {
    fn attach(&self, sandbox: &SandboxNet) -> Result<Pod, Error> {
        let id = sandbox.id.as_str();
        let fail = |reason: String| Error::Sandbox { id: id.into(), reason };
        if id.is_empty() || id.len() > 200 || id.contains('\0') {
            return Err(fail("an identifier is 1 to 200 bytes".into()));
        }
        if !self.config.pod_cidr.contains(sandbox.ip) {
            return Err(fail(format!("{} is not in {}", sandbox.ip, self.config.pod_cidr)));
        }
        let pod =
            Pod { id: id.into(), ip: sandbox.ip, link: self.names.link(id), host_ports: sandbox.host_ports.clone() };
        // The place is taken before the work begins, so that two calls cannot both find it free.
        let before = {
            let mut pods = lock(&self.pods);
            if let Some(reason) = conflict(&pods, &pod) {
                return Err(fail(reason));
            }
            pods.insert(id.into(), pod.clone())
        };
        let done = self.join(sandbox, &pod).and_then(|()| self.lead(before.as_ref(), Some(&pod)));
        match done {
            Ok(()) => Ok(pod),
            Err(error) => {
                let _ = self.remove_link(&pod.link);
                let _ = self.lead(Some(&pod), None);
                lock(&self.pods).remove(id);
                Err(error)
            }
        }
    }

    /// Makes the veth pair and sets up both ends.
    fn join(&self, sandbox: &SandboxNet, pod: &Pod) -> Result<(), Error> {
        let octets = pod.ip.octets();
        let pod_mac = [0x0a, 0x58, octets[0], octets[1], octets[2], octets[3]];
        let what = || format!("attach sandbox {}: link {}", pod.id, pod.link);
        let near = End { name: &pod.link, mac: NODE_MAC };
        let far = End { name: POD_LINK, mac: pod_mac };
        let index = link::inside(&sandbox.netns, |netns| {
            let mut inside = Socket::route()?;
            let mut made = self.make_link(&near, &far, netns.as_fd());
            if made.as_ref().is_err_and(|error| is(error, libc::EEXIST)) {
                // From an earlier attempt; of use only if its other end is in this namespace.
                let mut request = Request::default();
                link::find(&mut request, POD_LINK);
                if inside.exchange(request)?.first().and_then(link::found).is_none() {
                    self.remove_link(&pod.link)?;
                    made = self.make_link(&near, &far, netns.as_fd());
                } else {
                    made = self.find_link(&pod.link);
                }
            }
            let index = made?;
            set_up_pod(&mut inside, pod.ip)?;
            Ok(index)
        })
        .map_err(kernel(what()))?;
        let mut request = Request::default();
        link::settings(&mut request, index, &self.names.alias(&pod.id), self.ipv6);
        link::up(&mut request, index);
        link::neighbour(&mut request, index, pod.ip, pod_mac);
        let to = Cidr::new(pod.ip, 32).expect("a prefix of 32 bits");
        link::route(&mut request, &Route { to, way: Way::Link(index), source: self.source, metric: None });
        lock(&self.route).all(request).map_err(kernel(what()))?;
        Ok(())
    }

    fn make_link(&self, near: &End<'_>, far: &End<'_>, netns: std::os::fd::BorrowedFd<'_>) -> io::Result<link::Index> {
        let mut request = Request::default();
        link::veth(&mut request, near, far, netns, self.mtu);
        link::find(&mut request, near.name);
        let answers = lock(&self.route).all(request)?;
        answers.last().and_then(link::found).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn find_link(&self, name: &str) -> io::Result<link::Index> {
        let mut request = Request::default();
        link::find(&mut request, name);
        let answers = lock(&self.route).all(request)?;
        answers.last().and_then(link::found).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn remove_link(&self, name: &str) -> io::Result<()> {
        let mut request = Request::default();
        link::remove(&mut request, name);
        match lock(&self.route).all(request) {
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Puts into the table what belongs to `new` instead of what belongs to `old`.
    fn lead(&self, old: Option<&Pod>, new: Option<&Pod>) -> Result<(), Error> {
        let elements = |pod: Option<&Pod>| -> Vec<Element> {
            let Some(pod) = pod else { return Vec::new() };
            let ports = pod
                .host_ports
                .iter()
                .map(|port| Element::host_port(port.key(), SocketAddrV4::new(pod.ip, port.container_port)));
            std::iter::once(Element::hairpin(pod.ip)).chain(ports).collect()
        };
        let (old_elements, new_elements) = (elements(old), elements(new));
        let remove = old_elements.into_iter().filter(|element| !new_elements.contains(element)).collect();
        let mut tables = lock(&self.tables);
        tables.apply(Vec::new(), remove, new_elements)?;
        let udp =
            |pod: Option<&Pod>| pod.is_some_and(|pod| pod.host_ports.iter().any(|port| port.protocol == Protocol::Udp));
        if udp(old) || udp(new) {
            let ports: HashSet<u16> = new.iter().flat_map(|pod| &pod.host_ports).map(|port| port.host_port).collect();
            let (gone, come) = (old.map(|pod| pod.ip), new.map(|pod| pod.ip));
            tables.forget_flows(|flow| {
                let answered_by = *flow.answered_by.ip();
                (gone == Some(answered_by) && come != gone)
                    || (flow.to == flow.answered_by && ports.contains(&flow.to.port()))
            });
        }
        Ok(())
    }

    fn detach(&self, id: &str) -> Result<(), Error> {
        let pod = lock(&self.pods).get(id).cloned();
        if let Some(pod) = &pod {
            self.lead(Some(pod), None)?;
        }
        let link = self.names.link(id);
        self.remove_link(&link).map_err(kernel(format!("detach sandbox {id}: remove link {link}")))?;
        lock(&self.pods).remove(id);
        Ok(())
    }
}

/// Why `pod` cannot be attached beside the others.
fn conflict(pods: &HashMap<String, Pod>, pod: &Pod) -> Option<String> {
    for other in pods.values().filter(|other| other.id != pod.id) {
        if other.ip == pod.ip {
            return Some(format!("address {} belongs to sandbox {}", pod.ip, other.id));
        }
        if let Some(port) = pod.host_ports.iter().find(|port| other.host_ports.iter().any(|o| o.key() == port.key())) {
            let HostPort { host_ip, host_port, protocol, .. } = port;
            return Some(format!("host port {host_ip}:{host_port}/{protocol} belongs to sandbox {}", other.id));
        }
    }
    let mut seen = HashSet::new();
    let twice = pod.host_ports.iter().find(|port| !seen.insert(port.key()))?;
    Some(format!("host port {}:{}/{} is given twice", twice.host_ip, twice.host_port, twice.protocol))
}

/// The pod's side: loopback, address, and the node as the way to everywhere.
fn set_up_pod(socket: &mut Socket, ip: Ipv4Addr) -> io::Result<()> {
    let mut request = Request::default();
    link::up(&mut request, link::LOOPBACK);
    link::find(&mut request, POD_LINK);
    let index = socket.all(request)?.last().and_then(link::found);
    let index = index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mut request = Request::default();
    link::up(&mut request, index);
    link::address(&mut request, index, ip, false, None);
    link::neighbour(&mut request, index, GATEWAY, NODE_MAC);
    let gateway = Cidr::new(GATEWAY, 32).expect("a prefix of 32 bits");
    let everywhere = Cidr::new(Ipv4Addr::UNSPECIFIED, 0).expect("a prefix of 0 bits");
    link::route(&mut request, &Route { to: gateway, way: Way::Link(index), source: None, metric: None });
    link::route(&mut request, &Route { to: everywhere, way: Way::Via(GATEWAY, index), source: None, metric: None });
    socket.all(request).map(drop)
}

/// The table and what it shall hold.
#[derive(Debug)]
struct Tables {
    name: String,
    base: Base,
    socket: Socket,
    desired: Desired,
    /// Whether the kernel's table holds just what is desired.
    in_step: bool,
    /// Whether all services were given once; until then those of a former process are left in the table.
    complete: bool,
}

impl Tables {
    fn apply(&mut self, services: Vec<Change>, remove: Vec<Element>, add: Vec<Element>) -> Result<(), Error> {
        self.complete |= !services.is_empty();
        let plan = self.desired.plan(services, remove, add);
        if plan.is_empty() && self.in_step {
            return Ok(());
        }
        let udp: HashSet<Key> = plan.keys().filter(|key| key.protocol == Protocol::Udp).collect();
        if !self.in_step {
            self.desired.commit(plan);
            self.renew()?;
            let all: HashSet<Key> = self.desired.keys().filter(|key| key.protocol == Protocol::Udp).collect();
            self.forget_stale(&all.union(&udp).copied().collect());
            return Ok(());
        }
        let done = self.write(&plan);
        self.desired.commit(plan);
        match done {
            Ok(()) => {}
            Err(refused) if refused.is_out_of_step() => {
                tracing::warn!(table = %self.name, what = %refused.what, error = %refused.source,
                    "the table is not as it was left, and is made anew");
                self.in_step = false;
                self.renew()?;
            }
            Err(nft::Refused { what, source }) => {
                self.in_step = false;
                return Err(Error::Kernel { what, source });
            }
        }
        self.forget_stale(&udp);
        Ok(())
    }

    fn write(&mut self, plan: &Plan) -> Result<(), nft::Refused> {
        let mut batch = Batch::new(&self.name);
        for chain in &plan.new_chains {
            chain.write(&mut batch);
        }
        plan.changes.write(&mut batch);
        for chain in &plan.old_chains {
            batch.remove_chain(&chain.to_string());
        }
        batch.commit(&mut self.socket)
    }

    /// Makes the table anew with all it shall hold, in one transaction.
    fn renew(&mut self) -> Result<(), Error> {
        let (changes, chains) = self.desired.all();
        let mut batch = Batch::new(&self.name);
        table::write(&mut batch, &self.base);
        for chain in chains {
            chain.write(&mut batch);
        }
        changes.write(&mut batch);
        batch.commit(&mut self.socket).map_err(|nft::Refused { what, source }| Error::Kernel { what, source })?;
        self.in_step = true;
        Ok(())
    }

    /// Forgets UDP flows to `keys` that lead elsewhere than they now should.
    fn forget_stale(&mut self, keys: &HashSet<Key>) {
        if keys.is_empty() {
            return;
        }
        let Self { desired, socket, .. } = self;
        let stale = |flow: &Flow| {
            let exact = Key { address: *flow.to.ip(), protocol: Protocol::Udp, port: flow.to.port() };
            let wild = Key { address: Ipv4Addr::UNSPECIFIED, ..exact };
            let Some(key) = [exact, wild].into_iter().find(|key| keys.contains(key)) else { return false };
            match desired.front(key) {
                Some(front) => !front.leads_to(flow.answered_by),
                None => flow.to != flow.answered_by,
            }
        };
        // A host port has its own life, and the same port on other addresses is none of ours.
        let host_ports: HashSet<[u8; 8]> = desired
            .others()
            .iter()
            .filter_map(|element| match element.value {
                Value::Endpoint(bytes) => Some(bytes),
                _ => None,
            })
            .collect();
        let stale = |flow: &Flow| stale(flow) && !host_ports.contains(&endpoint_bytes(flow.answered_by));
        if let Err(error) = conntrack::forget(socket, stale) {
            tracing::warn!(table = %self.name, %error, "stale udp flows were not forgotten");
        }
    }

    fn forget_flows(&mut self, stale: impl Fn(&Flow) -> bool) {
        if let Err(error) = conntrack::forget(&mut self.socket, stale) {
            tracing::warn!(table = %self.name, %error, "stale udp flows were not forgotten");
        }
    }
}

fn leftovers(route: &mut Socket, netfilter: &mut Socket, names: &Names) -> Result<Vec<Leftover>, Error> {
    let mut found = Vec::new();
    if nft::comment(netfilter, &names.instance).map_err(kernel(format!("find table {}", names.instance)))?.is_some() {
        found.push(Leftover::Table(names.instance.clone()));
    }
    let links = link::links(route).map_err(kernel("list links"))?;
    let ours = links.into_iter().filter(|link| link.name.starts_with(&names.link_prefix));
    found.extend(ours.map(|link| Leftover::Link(link.name)));
    let routes = link::routes(route).map_err(kernel("list routes"))?;
    let ours = routes.iter().filter(|listed| listed.ours && listed.route.metric == Some(names.metric));
    found.extend(ours.map(|listed| Leftover::Route(listed.route.to)));
    let addresses = link::labelled(route, &names.label).map_err(kernel("list addresses"))?;
    found.extend(addresses.into_iter().map(Leftover::Address));
    Ok(found)
}

fn remove(route: &mut Socket, netfilter: &mut Socket, names: &Names, leftover: &Leftover) -> Result<(), Error> {
    let mut request = Request::default();
    match leftover {
        Leftover::Table(name) => {
            let mut batch = Batch::new(name);
            batch.remove_table();
            return match batch.commit(netfilter) {
                Err(refused) if refused.source.kind() != io::ErrorKind::NotFound => {
                    Err(Error::Kernel { what: refused.what, source: refused.source })
                }
                _ => Ok(()),
            };
        }
        Leftover::Link(name) => link::remove(&mut request, name),
        Leftover::Address(ip) => link::remove_address(&mut request, link::LOOPBACK, *ip),
        Leftover::Route(to) => {
            let listed = link::routes(route).map_err(kernel("list routes"))?;
            let ours = listed.iter().filter(|found| found.ours && found.route.metric == Some(names.metric));
            for found in ours.filter(|found| found.route.to == *to) {
                link::remove_route(&mut request, &found.route);
            }
        }
    }
    match route.all(request) {
        // It went by itself in the meantime, as the route of a link that is gone does.
        Err(error) if [libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL].iter().any(|code| is(&error, *code)) => Ok(()),
        other => other.map(drop).map_err(kernel(format!("remove {leftover:?}"))),
    }
}
