//! Settings of `madang server`: flags over a YAML file over defaults.
//!
//! The file has the names of the flags, for example `data-dir: /srv/madang`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Where one instance keeps its state and its sockets: what every command needs to find it.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// State that survives a restart: objects, images, keys.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/madang")]
    pub data_dir: PathBuf,
    /// Sockets and ports of the running server.
    #[arg(long, value_name = "DIR", default_value = "/run/madang")]
    pub run_dir: PathBuf,
}

/// Flags of `madang server`; each can also stand in the file that `--config` names.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Flags {
    /// State that survives a restart [default: /var/lib/madang]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Sockets and ports of the running server [default: /run/madang]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// YAML file with the names of these flags
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Name of this machine's Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address by which other machines and pods reach this one [default: that of the default route]
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Option<Ipv4Addr>,
    /// Addresses of pods, a /22 a node [default: 10.42.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<Cidr>,
    /// Addresses of Services; the tenth is the cluster's DNS [default: 10.43.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<Cidr>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// cgroup below which pods run [default: madang]
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// Pods that this node takes [default: 500]
    #[arg(long, value_name = "N")]
    pub max_pods: Option<u32>,
    /// State elsewhere: etcd:http://HOST:2379 (repeatable)
    #[arg(long, value_name = "URL")]
    pub store: Vec<String>,
    /// Part not to start: dns, registry, engine, metrics, console, gateway (repeatable)
    #[arg(long, value_name = "PART")]
    pub without: Vec<String>,
    /// Port by name, 0 for any free one: api=6443, node=10250 (repeatable)
    #[arg(long = "port", value_name = "NAME=N")]
    pub port: Vec<String>,
    /// Run one role alone: control, node or edge
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// User id of the unprivileged role control [default: 60801]
    #[arg(long, value_name = "UID")]
    pub control_uid: Option<u32>,
    /// User id of the unprivileged role edge [default: 60802]
    #[arg(long, value_name = "UID")]
    pub edge_uid: Option<u32>,
    /// Ask for a login also where loopback is open without: to pull from the registry
    #[arg(long)]
    pub loopback_auth: bool,
    /// Give the gateway the machine's ports 80 and 443 instead of 8080 and 8443
    #[arg(long)]
    pub gateway_ports: bool,
    /// Registry whose images the cluster's own registry keeps copies of, such as docker.io (repeatable)
    #[arg(long, value_name = "NAME")]
    pub registry_cache: Vec<String>,
    /// Keep the registry's blobs in a bucket of S3, whose region, endpoint and credentials are in the environment as AWS_*
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    pub registry_bucket: Option<String>,
    /// Registries' mirrors and credentials [default: <data-dir>/registries.yaml]
    #[arg(long, value_name = "FILE")]
    pub registries: Option<PathBuf>,
    /// Labels of objects that metrics tell, as kube-state-metrics takes it: pods=[app,team],nodes=[*] (repeatable)
    #[arg(long, value_name = "KIND=[NAMES]")]
    pub metric_labels_allowlist: Vec<String>,
    /// Annotations of objects that metrics tell, written alike (repeatable)
    #[arg(long, value_name = "KIND=[NAMES]")]
    pub metric_annotations_allowlist: Vec<String>,
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub address: Ipv4Addr,
    /// Length of the network part, in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The `n`th address.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).saturating_add(n))
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no IPv4 network such as 10.42.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| (8..=28).contains(prefix)).ok_or_else(wrong)?;
        let mask = u32::MAX << (32 - prefix);
        if u32::from(address) & !mask != 0 {
            return Err(format!(
                "{text:?} has host bits set: did you mean {}/{prefix}?",
                Ipv4Addr::from(u32::from(address) & mask)
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Settings with every default filled in, as the supervisor hands them to the roles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub node_name: String,
    pub node_ip: Ipv4Addr,
    pub cluster_cidr: Cidr,
    pub service_cidr: Cidr,
    pub cluster_domain: String,
    pub cgroup_root: String,
    pub max_pods: u32,
    /// etcd endpoints; the embedded store when empty.
    pub etcd: Vec<String>,
    pub without: Vec<String>,
    /// Ports asked for; those in use once the listeners are open.
    pub ports: BTreeMap<String, u16>,
    pub control_uid: u32,
    pub edge_uid: u32,
    /// Whether clients on loopback have to log in.
    pub loopback_auth: bool,
    /// Registries that copies are kept of.
    pub registry_cache: Vec<String>,
    /// The bucket of S3 that the registry's blobs are in, if they are in one.
    #[serde(default)]
    pub registry_bucket: Option<String>,
    /// The one role that runs here, if not all do.
    #[serde(default)]
    pub only: Option<String>,
    pub registries: PathBuf,
    /// Labels of objects that metrics tell.
    #[serde(default)]
    pub metric_labels: Vec<String>,
    /// Annotations of objects that metrics tell.
    #[serde(default)]
    pub metric_annotations: Vec<String>,
    /// What links and tables of this instance are named after.
    pub instance: String,
}

/// Names and default numbers of the ports of the parts that there are.
pub const PORTS: &[(&str, u16)] = &[
    ("api", 6443),
    ("node", 10250),
    ("registry", 5000),
    ("prometheus", 9090),
    ("console", 3000),
    ("gateway-http", 8080),
    ("gateway-https", 8443),
];

/// The file of [`Config::keep`].
const INSTANCE: &str = "instance.json";

/// Parts that `--without` may name.
const PARTS: &[&str] = &["dns", "registry", "engine", "metrics", "pipeline", "console", "gateway"];

/// What the cluster's own registry is called in image names.
pub const REGISTRY: &str = "registry.madang.internal";
/// The name of the cluster's own git server.
pub const GIT: &str = "git.madang.internal";

impl Flags {
    /// Reads the file, if one is named, and fills in what neither says.
    pub fn resolve(mut self) -> Result<Config> {
        if let Some(path) = self.config.take() {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let file: Self = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
            self = self.over(file);
        }
        let data_dir = absolute(self.data_dir.unwrap_or_else(|| "/var/lib/madang".into()))?;
        let mut ports: BTreeMap<String, u16> = PORTS.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
        if self.gateway_ports {
            ports.extend([("gateway-http".to_owned(), 80), ("gateway-https".to_owned(), 443)]);
        }
        for setting in &self.port {
            let parsed = setting.split_once('=').and_then(|(name, port)| Some((name, port.parse().ok()?)));
            let Some((name, port)) = parsed else { bail!("--port {setting}: expected NAME=N") };
            let Some(known) = ports.get_mut(name) else {
                bail!("--port {setting}: no port of that name; there are {}", list(PORTS.iter().map(|(name, _)| *name)))
            };
            *known = port;
        }
        if let Some(unknown) = self.without.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("--without {unknown}: no part of that name; there are {}", list(PARTS.iter().copied()));
        }
        for (part, port) in [
            ("registry", "registry"),
            ("metrics", "prometheus"),
            ("console", "console"),
            ("gateway", "gateway-http"),
            ("gateway", "gateway-https"),
        ] {
            if self.without.iter().any(|name| name == part) {
                ports.remove(port);
            }
        }
        let mut etcd = Vec::new();
        for store in &self.store {
            let Some(endpoint) = store.strip_prefix("etcd:") else {
                bail!("--store {store}: expected etcd:http://HOST:2379");
            };
            etcd.push(endpoint.to_owned());
        }
        let (labels, annotations) = (&self.metric_labels_allowlist, &self.metric_annotations_allowlist);
        metrics::kube_state::Settings::allowing(labels, annotations).map_err(anyhow::Error::msg)?;
        let node_name = match self.node_name {
            Some(name) => name,
            None => host_name(),
        };
        Ok(Config {
            run_dir: absolute(self.run_dir.unwrap_or_else(|| "/run/madang".into()))?,
            node_name,
            node_ip: self.node_ip.unwrap_or_else(default_address),
            cluster_cidr: self.cluster_cidr.unwrap_or(Cidr { address: Ipv4Addr::new(10, 42, 0, 0), prefix: 16 }),
            service_cidr: self.service_cidr.unwrap_or(Cidr { address: Ipv4Addr::new(10, 43, 0, 0), prefix: 16 }),
            cluster_domain: self.cluster_domain.unwrap_or_else(|| "cluster.local".into()),
            cgroup_root: self.cgroup_root.unwrap_or_else(|| "madang".into()),
            max_pods: self.max_pods.unwrap_or(500),
            etcd,
            without: self.without,
            ports,
            control_uid: self.control_uid.unwrap_or(60801),
            edge_uid: self.edge_uid.unwrap_or(60802),
            loopback_auth: self.loopback_auth,
            registry_cache: self.registry_cache,
            registry_bucket: self.registry_bucket,
            only: None,
            registries: self.registries.unwrap_or_else(|| data_dir.join("registries.yaml")),
            metric_labels: self.metric_labels_allowlist,
            metric_annotations: self.metric_annotations_allowlist,
            instance: instance(&data_dir),
            data_dir,
        })
    }

    /// These settings where they say something, else those of `file`.
    fn over(self, file: Self) -> Self {
        fn lists(flags: Vec<String>, file: Vec<String>) -> Vec<String> {
            if flags.is_empty() { file } else { flags }
        }
        Self {
            data_dir: self.data_dir.or(file.data_dir),
            run_dir: self.run_dir.or(file.run_dir),
            config: None,
            node_name: self.node_name.or(file.node_name),
            node_ip: self.node_ip.or(file.node_ip),
            cluster_cidr: self.cluster_cidr.or(file.cluster_cidr),
            service_cidr: self.service_cidr.or(file.service_cidr),
            cluster_domain: self.cluster_domain.or(file.cluster_domain),
            cgroup_root: self.cgroup_root.or(file.cgroup_root),
            max_pods: self.max_pods.or(file.max_pods),
            store: lists(self.store, file.store),
            without: lists(self.without, file.without),
            port: [file.port, self.port].concat(),
            role: self.role.or(file.role),
            control_uid: self.control_uid.or(file.control_uid),
            edge_uid: self.edge_uid.or(file.edge_uid),
            loopback_auth: self.loopback_auth || file.loopback_auth,
            gateway_ports: self.gateway_ports || file.gateway_ports,
            registry_cache: lists(self.registry_cache, file.registry_cache),
            registry_bucket: self.registry_bucket.or(file.registry_bucket),
            registries: self.registries.or(file.registries),
            metric_labels_allowlist: lists(self.metric_labels_allowlist, file.metric_labels_allowlist),
            metric_annotations_allowlist: lists(self.metric_annotations_allowlist, file.metric_annotations_allowlist),
        }
    }
}

impl Config {
    /// The settings with which the instance in `data_dir` ran last; `None` if it never did.
    pub fn of_instance(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(INSTANCE);
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Keeps the settings for [`Config::of_instance`].
    pub fn keep(&self) -> Result<()> {
        crate::pki::write(&self.data_dir.join(INSTANCE), &serde_json::to_vec(self)?, None, 0o644)
    }

    /// The address of the cluster's DNS server: the tenth of the Services' network.
    pub fn dns_address(&self) -> Ipv4Addr {
        self.service_cidr.nth(10)
    }

    /// The directory of content that registry and node share.
    pub fn content_dir(&self) -> PathBuf {
        self.data_dir.join("content")
    }

    /// Where the node takes content from the registry.
    pub fn content_socket(&self) -> PathBuf {
        self.run_dir.join("content.sock")
    }

    /// Whether a part runs.
    pub fn with(&self, part: &str) -> bool {
        !self.without.iter().any(|name| name == part)
    }

    /// The port of that name.
    pub fn port(&self, name: &str) -> u16 {
        self.ports.get(name).copied().unwrap_or_default()
    }

    /// The API server as parts on this machine reach it.
    pub fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port("api"))
    }
}

/// The name of the instance in `data_dir`: `madang` in the usual place, a short one of its own elsewhere.
fn instance(data_dir: &Path) -> String {
    if data_dir == Path::new("/var/lib/madang") {
        return "madang".into();
    }
    // FNV-1a, 32 bits.
    let sum = data_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("md{:06x}", sum & 0xff_ffff)
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("path {}", path.display()))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() || name == "(none)" { "localhost".into() } else { name }
}

/// The source address of the default route. Connecting a UDP socket sends nothing.
fn default_address() -> Ipv4Addr {
    let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match address.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests;
