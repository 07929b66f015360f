//! Starting a node: parts in the order in which they need each other.
//!
//! ```text
//! caches, zone ─ register ─ pods (host network at once) ─ API
//!                    └─ pod range known ─ network ─ DNS address, service tables ─ Ready
//! ```

use std::{
    net::{TcpListener, UdpSocket},
    path::Path,
    sync::{Arc, OnceLock, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use client::cache::Cache;
use counts::counter::Counts;
use image::{names::Names, pull::Pull};
use network::Network;
use runtime::Runtime;
use rustls::ServerConfig;
use serve::http::Limits;
use task::Task;
use tokio::sync::{Notify, watch};

use crate::{
    api::Api,
    config::{Config, Inner, Shared},
    event::Recorder,
    images::Images,
    objects,
    pods::Pods,
    pressure::Warden,
    register::{self, Registration},
    services::Tables,
    trust::Trust,
};

/// Delay of a network that could not be set up.
const RETRY: Duration = Duration::from_secs(2);

/// Where the machine keeps names of its own.
const HOSTS: &str = "/etc/hosts";

/// What the node listens on. The sockets are bound already, by whoever may.
pub struct Sockets {
    /// The node's API.
    pub api: TcpListener,
    /// Its certificate, and the authority of its clients.
    pub api_tls: Arc<ServerConfig>,
    /// DNS.
    pub dns_udp: Vec<UdpSocket>,
    /// DNS.
    pub dns_tcp: Vec<TcpListener>,
}

/// A node that was started. It runs until its task ends.
#[derive(Clone, Debug)]
pub struct Node {
    shared: Shared,
}

impl Node {
    /// Starts a node: registers it, looks after its pods, keeps service tables and names, answers its API and DNS.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub fn start(
        task: &Task,
        config: Config,
        client: kube::Client,
        runtime: Runtime,
        sockets: Sockets,
    ) -> Result<Self> {
        let task = task.child("node");
        let dir = &config.pods_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let recorder = Recorder::start(&task, &client, &config.name);
        let (capacity, allocatable) = register::resources(&config)?;
        let zone = Arc::new(dns::Zone::new(&config.cluster_domain));
        let counts = Counts::default();
        let names = Names::from_files(&config.resolv_conf, Path::new(HOSTS));
        let pulls = Pull { registries: config.registries.clone(), names: names.clone(), ..Pull::default() };
        let images = Images::new(runtime.images().clone(), client.clone(), recorder.clone(), counts.clone(), pulls);
        let shared = Shared::new(Inner {
            objects: objects::Store::new(&task, &client),
            trust: Trust::new(&task, &client, &config.name),
            recorder,
            counts,
            images,
            names,
            services: Cache::idle(),
            zone: zone.clone(),
            capacity,
            allocatable,
            memory: register::memory()?,
            network_ready: watch::Sender::new(false),
            pressures: watch::Sender::default(),
            node: RwLock::default(),
            node_changed: Notify::new(),
            room: OnceLock::new(),
            task: task.clone(),
            runtime,
            client,
            config,
        });
        serve_dns(&shared, sockets.dns_udp, sockets.dns_tcp)?;

        let pods = Pods::new(&shared);
        let api = Api::new(&shared, &pods);
        sockets.api.set_nonblocking(true).context("node API socket")?;
        let listener = tokio::net::TcpListener::from_std(sockets.api).context("node API socket")?;
        let handler = move |request| api.clone().handle(request);
        let tls = Some(sockets.api_tls);
        task.spawn("api", serve::http::serve(task.child("api"), listener, tls, Limits::default(), handler));

        spawn(&task, "register", Registration::new(&shared).run());
        spawn(&task, "network", connect(shared.clone()));
        spawn(&task, "services", Tables::new(&shared).run());
        spawn(&task, "pressure", Warden::new(&shared, &pods).run());
        spawn(&task, "pods", pods.run());
        Ok(Self { shared })
    }

    /// Resolves once pods can have a network.
    pub async fn ready(&self) {
        let mut ready = self.shared.network_ready.subscribe();
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// What the node's parts share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

fn spawn(task: &Task, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    let own = task.clone();
    task.spawn(name, async move {
        own.until_cancelled(future).await;
    });
}

fn serve_dns(shared: &Shared, udp: Vec<UdpSocket>, tcp: Vec<TcpListener>) -> Result<()> {
    if udp.is_empty() && tcp.is_empty() {
        return Ok(());
    }
    let path = &shared.config.resolv_conf;
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "no servers to ask for names outside the cluster");
        String::new()
    });
    let mut config = dns::Config::from_resolv_conf(&text);
    for range in [&shared.config.cluster_cidr, &shared.config.service_cidr] {
        if let Ok(range) = range.parse::<network::Cidr>() {
            config.reverse.push((range.address().into(), range.prefix()));
        }
    }
    dns::Server::run(&shared.task, udp, tcp, config, shared.zone.clone()).context("DNS sockets")
}

/// Waits for the node's range of pod addresses and sets the network up.
async fn connect(shared: Shared) {
    let cidr = loop {
        let known = shared.node().and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
        if let Some(cidr) = known.filter(|cidr| !cidr.is_empty()) {
            break cidr;
        }
        shared.node_changed.notified().await;
    };
    loop {
        match open(&shared, &cidr).await {
            Ok(()) => break,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "set up the pod network");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    shared.network_ready.send_replace(true);
}

async fn open(shared: &Shared, cidr: &str) -> Result<()> {
    let config = &shared.config;
    let range = |text: &str| text.parse::<network::Cidr>().with_context(|| format!("range {text:?}"));
    let network = Network::open(network::Config {
        name: config.instance.clone(),
        pod_cidr: range(cidr)?,
        cluster_cidr: range(&config.cluster_cidr)?,
        service_cidr: range(&config.service_cidr)?,
        node_ip: config.ip,
        mtu: None,
        masquerade: true,
    })
    .await
    .context("open the network")?;
    network.add_address(config.cluster_dns).await.context("add the DNS address")?;
    shared.runtime.connect(network, cidr).await.context("connect the runtime")
}
