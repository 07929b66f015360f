//! Networks: those that are always there (`bridge`, `host`, `none`), and those that people make.
//!
//! ```text
//! DIR/networks/ID.json ─▶ Network ─┬─ a bridge of the machine (crate network)
//!                                  └─ user-defined: a DNS server on the bridge's address, names by who asks
//! ```
//!
//! Specification: <https://docs.docker.com/engine/network/>.

mod address;
pub mod attach;
mod ipv6;
mod names;
pub(crate) mod ports;
mod relay;

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use ::network::{Bridge, Bridge4, Bridges, Cidr};
use anyhow::Context as _;
use http::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use serve::Body;

pub use ipv6::Ipv6;

use crate::{
    Engine, Settings, answer,
    call::{Call, Query},
    disk,
    error::{Error, Result},
    filter::Filters,
    model::{
        self,
        config::Config,
        host::HostConfig,
        record::{Endpoint, Record},
    },
    route,
    system::timestamp,
};

/// Networks that are always there.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];
/// Networks of one machine.
const LIMIT: usize = 1000;

/// A network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// Whether nothing leaves it.
    pub internal: bool,
    /// Of no use without a swarm.
    pub attachable: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `ADDRESS/BITS`; empty for `host` and `none`, and where it has addresses of IPv6 alone.
    pub subnet: String,
    /// Addresses given out by itself, if not all of the subnet.
    pub range: String,
    /// The machine's address in it.
    pub gateway: Option<Ipv4Addr>,
    /// Addresses never given out, by name.
    pub kept: BTreeMap<String, Ipv4Addr>,
    /// Whether somebody chose the subnet.
    pub chosen: bool,
    /// What it has of IPv6; none where that was not asked for.
    pub ipv6: Option<Ipv6>,
}

impl Network {
    /// Whether containers in it find one another by name.
    pub fn has_names(&self) -> bool {
        self.driver == "bridge" && self.name != "bridge"
    }

    /// Its addresses, where it has any.
    pub fn cidr(&self) -> Option<Cidr> {
        self.subnet.parse().ok()
    }

    fn bridge(&self) -> Option<Bridge> {
        let option = |name: &str| self.options.get(&format!("com.docker.network.bridge.{name}"));
        let on = |name: &str| option(name).is_none_or(|value| !matches!(value.as_str(), "false" | "0"));
        let ipv4 = self.gateway.zip(self.cidr()).map(|(gateway, subnet)| Bridge4 { gateway, subnet });
        let ipv6 = self.ipv6.as_ref().and_then(Ipv6::bridge);
        if ipv4.is_none() && ipv6.is_none() {
            return None;
        }
        Some(Bridge {
            id: self.id.clone(),
            link: option("name").filter(|name| !name.is_empty()).cloned(),
            ipv4,
            ipv6,
            internal: self.internal,
            masquerade: on("enable_ip_masquerade"),
            open: on("enable_icc"),
            mtu: self.options.get("com.docker.network.driver.mtu").and_then(|mtu| mtu.parse().ok()),
        })
    }
}

/// All networks.
pub struct Networks {
    dir: PathBuf,
    bridges: Bridges,
    all: Mutex<HashMap<String, Arc<Network>>>,
    /// DNS servers by network.
    servers: Mutex<HashMap<String, task::Task>>,
    /// Held while networks come and go, and while addresses are given out.
    changes: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Networks").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: String,
    driver: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<ConfigFrom>,
    scope: String,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: String,
    config: Vec<IpamConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamConfig {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectRequest {
    container: String,
    endpoint_config: Endpoint,
    force: bool,
}

impl Networks {
    /// Takes up what is on disk.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let dir = settings.dir.join("networks");
        let read = dir.clone();
        let all = disk::blocking(move || {
            disk::private_directory(&read)?;
            let mut all = HashMap::new();
            for entry in std::fs::read_dir(&read).context("read networks")? {
                let path = entry.context("read networks")?.path();
                if path.extension().is_some_and(|extension| extension == "json")
                    && let Some(network) = disk::read::<Network>(&path)?
                {
                    all.insert(network.id.clone(), Arc::new(network));
                }
            }
            Ok(all)
        })
        .await?;
        // A name of its own: the links and the table of pods have a life apart.
        let bridges = Bridges::open(&crate::networks_of(&settings.instance)).await.context("take up bridges")?;
        let (all, servers) = (Mutex::new(all), Mutex::default());
        Ok(Self { dir, bridges, all, servers, changes: tokio::sync::Mutex::default() })
    }

    /// Makes what is missing: the networks that are always there, and bridges that went with the machine's last boot.
    pub(crate) async fn start(&self, engine: &Engine) -> anyhow::Result<()> {
        for (name, driver) in PREDEFINED {
            if self.by_name(name).is_some() {
                continue;
            }
            let mut network = Network {
                id: runtime::record::new_id()?,
                name: name.into(),
                driver: driver.into(),
                created_at: Some(SystemTime::now()),
                ..Network::default()
            };
            if driver == "bridge" {
                self.choose(&mut network, &IpamConfig::default())?;
            }
            self.keep(network).await?;
        }
        for network in self.list() {
            if let Err(error) = self.raise(engine, &network).await {
                tracing::warn!(network = network.name, error = format!("{error:#}"), "raise a network");
            }
        }
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Network>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All networks, by name.
    pub fn list(&self) -> Vec<Arc<Network>> {
        let mut list: Vec<_> = self.all().values().cloned().collect();
        list.sort_by(|one, other| one.name.cmp(&other.name));
        list
    }

    fn by_name(&self, name: &str) -> Option<Arc<Network>> {
        self.all().values().find(|network| network.name == name).cloned()
    }

    /// By id, name, or the unambiguous beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Arc<Network>> {
        let missing = || Error::missing(format!("network {wanted} not found"));
        if wanted.is_empty() {
            return Err(missing());
        }
        if let Some(found) = self.all().get(wanted).cloned() {
            return Ok(found);
        }
        if let Some(found) = self.by_name(wanted) {
            return Ok(found);
        }
        let all = self.all();
        let mut found = all.values().filter(|network| network.id.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("network {wanted} is ambiguous"))),
            _ => Err(missing()),
        }
    }

    async fn keep(&self, network: Network) -> anyhow::Result<Arc<Network>> {
        let (path, written) = (self.dir.join(format!("{}.json", network.id)), network.clone());
        disk::blocking(move || disk::write(&path, &written)).await?;
        let network = Arc::new(network);
        self.all().insert(network.id.clone(), network.clone());
        Ok(network)
    }

    /// Makes the bridge of a network and the server of its names.
    async fn raise(&self, engine: &Engine, network: &Arc<Network>) -> anyhow::Result<()> {
        let Some(bridge) = network.bridge() else { return Ok(()) };
        self.bridges.make(bridge).await?;
        if network.has_names() {
            let server = names::serve(engine, network)?;
            self.servers.lock().unwrap_or_else(PoisonError::into_inner).insert(network.id.clone(), server);
        }
        Ok(())
    }

    /// Gives a network its addresses: those asked for, or free ones.
    fn choose(&self, network: &mut Network, wanted: &IpamConfig) -> Result<()> {
        let own: Vec<Cidr> = self.list().iter().filter_map(|network| network.cidr()).collect();
        let subnet = if wanted.subnet.is_empty() {
            if !wanted.gateway.is_empty() || !wanted.ip_range.is_empty() {
                return Err(Error::invalid("invalid network config: a gateway or range needs a subnet"));
            }
            address::free(&own, &address::of_machine())
                .ok_or_else(|| Error::failed("all predefined address pools have been fully subnetted"))?
        } else {
            let subnet = address::subnet(&wanted.subnet)?;
            if own.iter().any(|other| address::overlap(*other, subnet)) {
                return Err(Error::forbidden("Pool overlaps with other one on this address space"));
            }
            network.chosen = true;
            subnet
        };
        let inside = |text: &str| -> Result<Ipv4Addr> {
            let text = text.split('/').next().unwrap_or_default();
            let ip: Ipv4Addr = text.parse().map_err(|_| Error::invalid(format!("invalid address {text}")))?;
            if subnet.contains(ip) {
                Ok(ip)
            } else {
                Err(Error::invalid(format!("no matching subnet for address {ip}")))
            }
        };
        if !wanted.ip_range.is_empty() {
            let range = address::subnet(&wanted.ip_range)?;
            if !subnet.contains(range.address()) || range.prefix() < subnet.prefix() {
                return Err(Error::invalid(format!("no matching subnet for range {}", wanted.ip_range)));
            }
            network.range = range.to_string();
        }
        network.gateway = Some(match wanted.gateway.as_str() {
            "" => {
                let base = network.range.parse::<Cidr>().map_or(subnet, |range| range);
                Ipv4Addr::from(u32::from(base.address()).saturating_add(1))
            }
            text => inside(text)?,
        });
        for (name, ip) in &wanted.auxiliary_addresses {
            network.kept.insert(name.clone(), inside(ip)?);
        }
        network.subnet = subnet.to_string();
        Ok(())
    }

    async fn create(&self, engine: &Engine, request: CreateRequest) -> Result<Arc<Network>> {
        let CreateRequest { name, driver, .. } = &request;
        check_name(name)?;
        if request.ingress || request.scope == "swarm" || driver == "overlay" {
            return Err(Error::unsupported("This node is not a swarm manager: networks of a swarm are not there"));
        }
        if request.config_only || request.config_from.as_ref().is_some_and(|from| !from.network.is_empty()) {
            return Err(Error::unsupported("networks that only hold configuration are not supported"));
        }
        if !matches!(driver.as_str(), "" | "bridge" | "default") {
            return Err(match driver.as_str() {
                "host" | "null" => Error::forbidden(format!("only one instance of \"{driver}\" network is allowed")),
                _ => Error::missing(format!("could not find plugin {driver} in v1 plugin registry: plugin not found")),
            });
        }
        if !matches!(request.ipam.driver.as_str(), "" | "default") {
            return Err(Error::missing(format!("could not find IPAM driver {}", request.ipam.driver)));
        }
        // What is of a family counts only where that is asked for, as upstream has it.
        let (of_ipv6, of_ipv4): (Vec<&IpamConfig>, Vec<&IpamConfig>) =
            request.ipam.config.iter().partition(|config| config.subnet.contains(':'));
        let enabled = |asked: Option<bool>, option: &str, otherwise: bool| match (asked, request.options.get(option)) {
            (Some(asked), _) => Ok(asked),
            (None, None) => Ok(otherwise),
            (None, Some(text)) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(Error::invalid(format!("driver-opt {option:?} is not a valid bool"))),
            },
        };
        let with_ipv4 = enabled(request.enable_ipv4, "com.docker.network.enable_ipv4", true)?;
        let with_ipv6 = enabled(request.enable_ipv6, "com.docker.network.enable_ipv6", false)?;
        if !with_ipv4 && !with_ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        for (family, list) in [("IPv4", &of_ipv4), ("IPv6", &of_ipv6)] {
            if list.len() > 1 {
                return Err(Error::invalid(format!("bridge driver doesn't support more than one {family} subnet")));
            }
        }
        let _changes = self.changes.lock().await;
        if self.by_name(name).is_some() {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        if self.all().len() >= LIMIT {
            return Err(Error::forbidden(format!("there are {LIMIT} networks already")));
        }
        let mut network = Network {
            id: runtime::record::new_id()?,
            name: name.clone(),
            driver: "bridge".into(),
            created_at: Some(SystemTime::now()),
            internal: request.internal,
            attachable: request.attachable,
            options: request.options.clone(),
            labels: request.labels.clone(),
            ..Network::default()
        };
        if let Some(link) = network.options.get("com.docker.network.bridge.name")
            && (link.len() > 15 || link.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'/'))
        {
            return Err(Error::invalid(format!("invalid name of a bridge: {link}")));
        }
        if with_ipv4 {
            self.choose(&mut network, &of_ipv4.first().copied().cloned().unwrap_or_default())?;
        }
        if with_ipv6 {
            let all = self.list();
            let others: Vec<&Ipv6> = all.iter().filter_map(|other| other.ipv6.as_ref()).collect();
            network.ipv6 = Some(ipv6::choose(&others, &of_ipv6.first().copied().cloned().unwrap_or_default())?);
        }
        let network = self.keep(network).await?;
        if let Err(error) = self.raise(engine, &network).await {
            if let Err(error) = self.drop_network(&network).await {
                tracing::warn!(network = network.name, %error, "undo a network");
            }
            return Err(error.into());
        }
        Ok(network)
    }

    async fn drop_network(&self, network: &Network) -> Result<()> {
        let server = self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(&network.id);
        if let Some(server) = server {
            server.drain(std::time::Duration::from_secs(1)).await;
        }
        self.bridges.remove(&network.id).await.context("remove a network")?;
        let path = self.dir.join(format!("{}.json", network.id));
        disk::blocking(move || std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display())))
            .await?;
        self.all().remove(&network.id);
        Ok(())
    }

    async fn remove(&self, engine: &Engine, network: &Arc<Network>) -> Result<()> {
        if PREDEFINED.iter().any(|(name, _)| *name == network.name) {
            return Err(Error::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        let _changes = self.changes.lock().await;
        let users = users(engine, network);
        if !users.is_empty() {
            let names: Vec<String> = users
                .iter()
                .map(|record| format!("name:\"{}\" id:\"{}\"", record.name, record.id.get(..12).unwrap_or_default()))
                .collect();
            return Err(Error::forbidden(format!(
                "error while removing network: network {} has active endpoints ({})",
                network.name,
                names.join(", ")
            )));
        }
        self.drop_network(network).await
    }

    /// The networks that a container is to be in, by name.
    pub(crate) fn endpoints(
        &self,
        engine: &Engine,
        host: &HostConfig,
        config: &Config,
        wanted: BTreeMap<String, Endpoint>,
    ) -> Result<BTreeMap<String, Endpoint>> {
        let mode = host.network_mode.as_str();
        if let Some(other) = mode.strip_prefix("container:") {
            engine.containers().find(other)?;
            if !wanted.is_empty() {
                return Err(Error::invalid("conflicting options: a container's network and networks of its own"));
            }
            return Ok(BTreeMap::new());
        }
        let mut found = BTreeMap::new();
        let named = |name: &str| self.find(if name == "default" { "bridge" } else { name });
        let mut all: Vec<(Arc<Network>, Endpoint)> = Vec::new();
        for (name, endpoint) in wanted {
            all.push((named(&name)?, endpoint));
        }
        let first = named(mode)?;
        if !all.iter().any(|(network, _)| network.id == first.id) {
            all.push((first.clone(), Endpoint::default()));
        }
        for (network, mut endpoint) in all {
            if network.driver != "bridge" && found.len() + 1 > 1 {
                return Err(Error::invalid("conflicting options: the networks host and none stand alone"));
            }
            if network.id == first.id && endpoint.mac_address.is_empty() {
                endpoint.mac_address.clone_from(&config.mac_address);
            }
            check_endpoint(&network, &endpoint)?;
            endpoint.network_id.clone_from(&network.id);
            found.insert(network.name.clone(), endpoint);
        }
        Ok(found)
    }
}

fn check_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let good = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.len() <= 255
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b' '));
    if !good {
        return Err(Error::invalid(format!("invalid network name: {name:?}")));
    }
    if PREDEFINED.iter().any(|(known, _)| *known == name) || matches!(name, "default" | "container") {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    Ok(())
}

/// Whether a container can be in a network as it asks for.
fn check_endpoint(network: &Network, endpoint: &Endpoint) -> Result<()> {
    if let Some(ipam) = &endpoint.ipam_config
        && !ipam.ipv4.is_empty()
    {
        if !network.has_names() {
            return Err(Error::invalid("user specified IP address is supported on user defined networks only"));
        }
        if !network.chosen {
            return Err(Error::invalid(
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            ));
        }
        let ip: Ipv4Addr =
            ipam.ipv4.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {}", ipam.ipv4)))?;
        if !network.cidr().is_some_and(|subnet| subnet.contains(ip)) {
            return Err(Error::invalid(format!("no configured subnet contains IP address {ip}")));
        }
    }
    if let Some(ipam) = &endpoint.ipam_config
        && !ipam.ipv6.is_empty()
    {
        ipv6::check(network, &ipam.ipv6)?;
    }
    if endpoint.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) && !network.has_names() {
        return Err(Error::invalid("network-scoped alias is supported only for containers in user defined networks"));
    }
    if !endpoint.mac_address.is_empty() {
        attach::mac(&endpoint.mac_address)?;
    }
    Ok(())
}

/// Running containers in a network.
fn users(engine: &Engine, network: &Network) -> Vec<Record> {
    let uses = |record: &Record| {
        record.state.is_running() && record.networks.values().any(|endpoint| endpoint.network_id == network.id)
    };
    engine.containers().all().iter().map(|container| container.record()).filter(uses).collect()
}

/// Answers requests below `/networks`.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path: Vec<String> = call.path.split_off(1);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let networks = engine.networks();
    match (&call.method, path.as_slice()) {
        (&Method::GET, []) => list(engine, &call),
        (&Method::POST, ["create"]) => {
            let network = networks.create(engine, model::lenient(call.json().await?)?).await?;
            tell(engine, &network, "create", None);
            answer::created(&json!({"Id": network.id, "Warning": ""}))
        }
        (&Method::POST, ["prune"]) => prune(engine, &call.query).await,
        (&Method::GET, [id]) => answer::json(&shown(engine, &*networks.find(id)?, true)),
        (&Method::DELETE, [id]) => {
            let network = networks.find(id)?;
            networks.remove(engine, &network).await?;
            tell(engine, &network, "destroy", None);
            Ok(answer::done())
        }
        (&Method::POST, [id, what @ ("connect" | "disconnect")]) => {
            let network = networks.find(id)?;
            let request: ConnectRequest = model::lenient(call.json().await?)?;
            let container = match engine.containers().find(&request.container) {
                Ok(container) => container,
                // What is to be forgotten may be gone already.
                Err(_) if request.force => return Ok(answer::empty(http::StatusCode::OK)),
                Err(error) => return Err(error),
            };
            if *what == "connect" {
                check_endpoint(&network, &request.endpoint_config)?;
                attach::connect(engine, &container, &network, request.endpoint_config).await?;
            } else {
                attach::disconnect(engine, &container, &network, request.force).await?;
            }
            tell(engine, &network, what, Some(&container.id));
            Ok(answer::empty(http::StatusCode::OK))
        }
        _ => Err(route::unknown()),
    }
}

fn tell(engine: &Engine, network: &Network, action: &str, container: Option<&str>) {
    let mut attributes =
        BTreeMap::from([("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())]);
    if let Some(container) = container {
        attributes.insert("container".into(), container.to_owned());
    }
    engine.events().tell("network", action, &network.id, attributes);
}

fn shown(engine: &Engine, network: &Network, containers: bool) -> Value {
    let mut config = Vec::new();
    if let (Some(gateway), false) = (network.gateway, network.subnet.is_empty()) {
        let mut one = json!({"Subnet": network.subnet, "Gateway": gateway});
        if !network.range.is_empty() {
            one["IPRange"] = network.range.clone().into();
        }
        if !network.kept.is_empty() {
            one["AuxiliaryAddresses"] = json!(network.kept);
        }
        config.push(one);
    }
    if let Some((ipv6, gateway)) = network.ipv6.as_ref().and_then(|ipv6| ipv6.gateway.map(|gateway| (ipv6, gateway))) {
        let mut one = json!({"Subnet": ipv6.subnet, "Gateway": gateway});
        if !ipv6.range.is_empty() {
            one["IPRange"] = ipv6.range.clone().into();
        }
        if !ipv6.kept.is_empty() {
            one["AuxiliaryAddresses"] = json!(ipv6.kept);
        }
        config.push(one);
    }
    let mut members = Map::new();
    if containers {
        for record in users(engine, network) {
            let Some(endpoint) = record.networks.values().find(|endpoint| endpoint.network_id == network.id) else {
                continue;
            };
            let with_bits = |ip: &str, bits: u8| if ip.is_empty() { String::new() } else { format!("{ip}/{bits}") };
            members.insert(
                record.id.clone(),
                json!({"Name": record.name, "EndpointID": endpoint.endpoint_id, "MacAddress": endpoint.mac_address,
                       "IPv4Address": with_bits(&endpoint.ip_address, endpoint.ip_prefix_len),
                       "IPv6Address": with_bits(&endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len)}),
            );
        }
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created_at.map(timestamp),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.driver != "bridge" || !network.subnet.is_empty(),
        "EnableIPv6": network.ipv6.is_some(),
        "IPAM": {"Driver": "default", "Options": null, "Config": config},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": members,
        "Options": network.options,
        "Labels": network.labels,
    })
}

fn list(engine: &Engine, call: &Call) -> Result<Response<Body>> {
    let filters = Filters::of(&call.query, &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let dangling = filters.flag("dangling")?;
    let found = engine.networks().list().into_iter().filter(|network| {
        let predefined = PREDEFINED.iter().any(|(name, _)| *name == network.name);
        filters.any("name", |part| network.name.contains(part))
            && filters.any("id", |id| network.id.starts_with(id))
            && filters.any("driver", |driver| network.driver == driver)
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |kind| (kind == "builtin") == predefined)
            && filters.labels(&network.labels)
            && dangling.is_none_or(|dangling| (!predefined && users(engine, network).is_empty()) == dangling)
    });
    answer::json(&found.map(|network| shown(engine, &network, false)).collect::<Vec<_>>())
}

async fn prune(engine: &Engine, query: &Query) -> Result<Response<Body>> {
    let filters = Filters::of(query, &["label", "label!", "until"])?;
    let until = filters.until()?;
    let mentioned = |network: &Network| {
        let all = engine.containers().all();
        all.iter().any(|container| {
            container.look(|record| record.networks.values().any(|endpoint| endpoint.network_id == network.id))
        })
    };
    let mut deleted = Vec::new();
    for network in engine.networks().list() {
        let created = network.created_at.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
        let keeps = PREDEFINED.iter().any(|(name, _)| *name == network.name)
            || !filters.labels(&network.labels)
            || until.is_some_and(|until| created > until)
            || mentioned(&network);
        if keeps {
            continue;
        }
        match engine.networks().remove(engine, &network).await {
            Ok(()) => {
                tell(engine, &network, "destroy", None);
                deleted.push(network.name.clone());
            }
            Err(error) => tracing::debug!(network = network.name, %error, "prune"),
        }
    }
    engine.events().tell("network", "prune", "", BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]));
    answer::json(&json!({"NetworksDeleted": deleted}))
}
