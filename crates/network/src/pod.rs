//! Attaching pods: a veth pair, addresses and routes at both ends, and what leads to host ports.
//!
//! ```text
//!   node                                        pod
//!   mdXXXXYYYYYYYYY  ee:ee:ee:ee:ee:ee ───── eth0  0a:58:<address>
//!   <address>/32 is there                    everything is at 169.254.1.1, which is there
//! ```
//!
//! Neither end ever asks for the other's Ethernet address: both have it for good. The node's end takes packets from the
//! pod's own address only.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{
    Cidr, Error, Protocol,
    error::{is, kernel, lock},
    firewall,
    keeper::Keeper,
    link::{self, End, Link, Mac, Route, Way},
    names::Names,
    netlink::{Request, Socket},
    nft::Family,
    service::Key,
    table::Element,
};

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

/// A pod sees the node at this address; it is on no link and only in the pod's neighbour table.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The node's end of every pod's link. They never meet, so one address serves all.
const NODE_MAC: Mac = [0xee; 6];
const POD_LINK: &str = "eth0";
/// How long a link may take until packets pass; mostly it is less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pods of an instance and what attaching them takes.
#[derive(Debug)]
pub(crate) struct Pods {
    names: Names,
    pod_cidr: Cidr,
    mtu: u32,
    ipv6: bool,
    /// The source address of what the node sends to pods, where it is an address of the machine.
    source: Option<Ipv4Addr>,
    route: Mutex<Socket>,
    /// Removing a link takes the kernel tens of milliseconds, during which others are attached.
    removal: Mutex<Socket>,
    attached: Mutex<HashMap<String, Pod>>,
}

impl Pods {
    pub(crate) fn new(
        names: Names,
        pod_cidr: Cidr,
        mtu: u32,
        ipv6: bool,
        source: Option<Ipv4Addr>,
        (route, removal): (Socket, Socket),
        attached: HashMap<String, Pod>,
    ) -> Self {
        let (route, removal) = (Mutex::new(route), Mutex::new(removal));
        Self { names, pod_cidr, mtu, ipv6, source, route, removal, attached: Mutex::new(attached) }
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn route(&self) -> MutexGuard<'_, Socket> {
        lock(&self.route)
    }

    pub(crate) fn all(&self) -> Vec<Pod> {
        lock(&self.attached).values().cloned().collect()
    }

    /// Knows of no pods any more; their links are gone.
    pub(crate) fn forget(&self) {
        lock(&self.attached).clear();
    }

    /// Gives a pod its link, address, routes and host ports.
    pub(crate) fn attach(&self, sandbox: &SandboxNet, keeper: &Mutex<Keeper>) -> Result<Pod, Error> {
        let id = sandbox.id.as_str();
        let fail = |reason: String| Error::Sandbox { id: id.into(), reason };
        if id.is_empty() || id.len() > 200 || id.contains('\0') {
            return Err(fail("an identifier is 1 to 200 bytes".into()));
        }
        if !self.pod_cidr.contains(sandbox.ip) {
            return Err(fail(format!("{} is not in {}", sandbox.ip, self.pod_cidr)));
        }
        let pod =
            Pod { id: id.into(), ip: sandbox.ip, link: self.names.link(id), host_ports: sandbox.host_ports.clone() };
        if lock(&self.attached).get(id).is_some_and(|before| before.ip != pod.ip) {
            self.detach(id, keeper)?;
        }
        // The place is taken before the work begins, so that two calls cannot both find it free.
        let before = {
            let mut pods = lock(&self.attached);
            if let Some(reason) = conflict(&pods, &pod) {
                return Err(fail(reason));
            }
            pods.insert(id.into(), pod.clone())
        };
        let through = firewall::let_through(lock(keeper).socket(), Family::V4, &self.names);
        let done =
            through.and_then(|()| self.join(sandbox, &pod)).and_then(|()| lead(keeper, before.as_ref(), Some(&pod)));
        match done {
            Ok(()) => Ok(pod),
            Err(error) => {
                let _ = self.remove_link(&pod.link);
                let _ = lead(keeper, Some(&pod), None);
                lock(&self.attached).remove(id);
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
        link::inside(&sandbox.netns, |netns| {
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
                    made = self.find_link(&pod.link).map(|link| link.index);
                }
            }
            let index = made?;
            self.set_up_node(index, pod, pod_mac)?;
            set_up_pod(&mut inside, pod.ip)
        })
        .map_err(kernel(what()))?;
        self.wait(&pod.link).map_err(kernel(what()))
    }

    /// The node's side: settings before it is up, and the way to the pod.
    fn set_up_node(&self, index: link::Index, pod: &Pod, pod_mac: Mac) -> io::Result<()> {
        let mut request = Request::default();
        link::settings(&mut request, index, &self.names.alias(&pod.id), self.ipv6);
        link::up(&mut request, index);
        link::neighbour(&mut request, index, pod.ip, pod_mac);
        let to = Cidr::new(pod.ip, 32).expect("a prefix of 32 bits");
        link::route(&mut request, &Route { to, way: Way::Link(index), source: self.source, metric: None });
        self.route().all(request).map(drop)
    }

    /// Waits until packets pass. The end that came up first takes them only after the kernel has noticed, in a worker of
    /// its own, that the other is up too; what is sent before is lost.
    fn wait(&self, name: &str) -> io::Result<()> {
        let start = Instant::now();
        while !self.find_link(name)?.passes {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the link did not come up"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn make_link(&self, near: &End<'_>, far: &End<'_>, netns: BorrowedFd<'_>) -> io::Result<link::Index> {
        let mut request = Request::default();
        link::veth(&mut request, near, far, netns, self.mtu);
        link::find(&mut request, near.name);
        let answers = self.route().all(request)?;
        let link = answers.last().and_then(link::found).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        Ok(link.index)
    }

    fn find_link(&self, name: &str) -> io::Result<Link> {
        let mut request = Request::default();
        link::find(&mut request, name);
        let answers = self.route().all(request)?;
        answers.last().and_then(link::found).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    fn remove_link(&self, name: &str) -> io::Result<()> {
        let mut request = Request::default();
        link::remove(&mut request, name);
        match lock(&self.removal).all(request) {
            Err(error) if is(&error, libc::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Takes a pod's link and host ports away.
    pub(crate) fn detach(&self, id: &str, keeper: &Mutex<Keeper>) -> Result<(), Error> {
        let pod = lock(&self.attached).get(id).cloned();
        if let Some(pod) = &pod {
            lead(keeper, Some(pod), None)?;
        }
        let link = self.names.link(id);
        self.remove_link(&link).map_err(kernel(format!("detach sandbox {id}: remove link {link}")))?;
        lock(&self.attached).remove(id);
        Ok(())
    }
}

/// Puts into the table what belongs to `new` instead of what belongs to `old`.
fn lead(keeper: &Mutex<Keeper>, old: Option<&Pod>, new: Option<&Pod>) -> Result<(), Error> {
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
    let mut keeper = lock(keeper);
    keeper.exchange(remove, new_elements)?;
    let udp =
        |pod: Option<&Pod>| pod.is_some_and(|pod| pod.host_ports.iter().any(|port| port.protocol == Protocol::Udp));
    if udp(old) || udp(new) {
        let ports: HashSet<u16> = new.iter().flat_map(|pod| &pod.host_ports).map(|port| port.host_port).collect();
        let (gone, come) = (old.map(|pod| pod.ip), new.map(|pod| pod.ip));
        keeper.forget_flows(|flow| {
            let answered_by = *flow.answered_by.ip();
            (gone == Some(answered_by) && come != gone)
                || (flow.to == flow.answered_by && ports.contains(&flow.to.port()))
        });
    }
    Ok(())
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
    let index = index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?.index;
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
