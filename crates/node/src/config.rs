//! What a node is given, and what its parts share.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, OnceLock, RwLock},
};

use counts::counter::Counts;
use futures::future::BoxFuture;
use http::{Request, Response};
use image::names::Names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use runtime::Runtime;
use serve::Body;
use task::Task;
use tokio::sync::watch;

use crate::{
    event::Recorder, field::Allocatable, images::Images, objects, pod::state::Resize, pressure::policy::Pressures,
    trust::Trust, volume::Place,
};

/// The Kubernetes version whose behaviour this is.
pub const VERSION: &str = "v1.37.1";

/// Answers requests below `/builds` of the node's API that whoever asks has the right to.
#[derive(Clone)]
pub struct Builds(pub Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>);

impl std::fmt::Debug for Builds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Builds")
    }
}

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Directory of pods: volumes and logs.
    pub pods_dir: PathBuf,
    /// Directory of volumes that were made for claims.
    pub volumes_dir: PathBuf,
    /// Directory of seccomp profiles that pods name.
    pub seccomp_dir: PathBuf,
    /// Most pods at a time.
    pub max_pods: u32,
    /// Address of the cluster's DNS server; this node answers on it.
    pub cluster_dns: Ipv4Addr,
    /// Name below which the cluster's names are, `cluster.local`.
    pub cluster_domain: String,
    /// Name of this instance, in names of links and tables.
    pub instance: String,
    /// Addresses of all pods, `ADDRESS/BITS`.
    pub cluster_cidr: String,
    /// Addresses of services, `ADDRESS/BITS`.
    pub service_cidr: String,
    /// Port of the node's own API.
    pub api_port: u16,
    /// Where sockets of pods that build are, a directory a pod, by UID; none where nothing builds here.
    pub build_sockets: Option<PathBuf>,
    /// Who answers for builds below `/builds`; nobody where nothing builds here.
    pub builds: Option<Builds>,
    /// The machine's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Version of this program.
    pub version: String,
    /// What pulls may use: mirrors, certificates, credentials.
    pub registries: Arc<image::pull::Registries>,
    /// When the certificates end by which the node shows itself to the API server, and to its own clients.
    pub certificates_end: [Option<Timestamp>; 2],
}

/// What all parts of a node share. Clones are the same.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

/// The parts.
pub struct Inner {
    /// Settings.
    pub config: Config,
    /// The API server.
    pub client: kube::Client,
    /// Sandboxes and containers.
    pub runtime: Runtime,
    /// ConfigMaps and Secrets that pods refer to.
    pub objects: objects::Store,
    /// Trust bundles and certificate requests that pods need.
    pub trust: Trust,
    /// Events.
    pub recorder: Recorder,
    /// What is counted for `/metrics`.
    pub counts: Counts,
    /// Pulls.
    pub images: Images,
    /// Finds hosts outside the cluster by name.
    pub names: Names,
    /// All Services.
    pub services: client::cache::Cache<Service>,
    /// Names for the DNS server.
    pub zone: Arc<dns::Zone>,
    /// What the machine has.
    pub capacity: Allocatable,
    /// What pods may use of the machine.
    pub allocatable: Allocatable,
    /// The machine's memory, bytes.
    pub memory: i64,
    /// Whether pods can have a network.
    pub network_ready: watch::Sender<bool>,
    /// What there is a want of.
    pub pressures: watch::Sender<Pressures>,
    /// The node's object as last seen.
    pub node: RwLock<Option<Arc<Node>>>,
    /// Told when that object changes.
    pub node_changed: tokio::sync::Notify,
    /// Says whether there is room for what a pod's spec asks for by now.
    pub room: OnceLock<Room>,
    /// Everything the node does.
    pub task: Task,
}

/// See [`Inner::room`].
pub type Room = Box<dyn Fn(&Pod) -> Result<(), Resize> + Send + Sync>;

impl Shared {
    /// Puts the parts together.
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The node's address.
    pub fn host_ip(&self) -> IpAddr {
        self.0.config.ip.into()
    }

    /// Directory of a pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.0.config.pods_dir.join(uid)
    }

    /// Where the volumes of a pod are.
    pub fn volumes(&self, uid: &str) -> Place {
        let config = &self.0.config;
        Place {
            dir: self.pod_dir(uid),
            memory: self.runtime.config().run_dir.join("volumes").join(uid),
            provisioned: config.volumes_dir.clone(),
            socket: config.build_sockets.as_ref().map(|dir| dir.join(uid)),
        }
    }

    /// Whether there is room for what a pod's spec asks for by now.
    pub fn room(&self, pod: &Pod) -> Result<(), Resize> {
        self.room.get().map_or(Ok(()), |room| room(pod))
    }

    /// The node's object as last seen.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.0.node.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl std::ops::Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.0.config.name)
    }
}

/// The time, to the microsecond.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A time of the operating system as the API's.
pub fn timestamp(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}
