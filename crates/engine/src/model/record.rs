//! What is remembered of a container: `DIR/containers/ID/container.json`, written whole, synced, and renamed into place.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{config::Config, host::HostConfig};

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash in front.
    pub name: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// The image's id.
    pub image: String,
    /// The request with the image's defaults.
    pub config: Config,
    /// The request with defaults.
    pub host: HostConfig,
    /// Volumes, binds and the like, by what they are made of.
    pub mounts: Vec<MountPoint>,
    /// Networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// Where it is in its life.
    pub state: State,
}

/// Where a container is in its life.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The step.
    pub status: Status,
    /// Whether it is frozen.
    pub paused: bool,
    /// Its first process.
    pub pid: i32,
    /// Name of the sandbox whose shim runs it: another with each start.
    pub sandbox: String,
    /// Boot of the machine in which it runs.
    pub boot_id: String,
    /// Exit code of the last run.
    pub exit_code: i32,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// Why it did not start.
    pub error: String,
    /// Of the last run.
    pub started_at: Option<SystemTime>,
    /// Of the last run.
    pub finished_at: Option<SystemTime>,
    /// Times that it was started again by itself since somebody started it.
    pub restarts: u32,
    /// Whether somebody stopped it: `unless-stopped` then leaves it so.
    pub stopped_by_hand: bool,
    /// What looking at its health has shown.
    pub health: Option<Health>,
    /// Ports of the machine, as they were given out.
    pub ports: Vec<Published>,
}

/// A step of a container's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its process lives.
    Running,
    /// Waits to be started again.
    Restarting,
    /// Being removed.
    Removing,
    /// Its process has ended.
    Exited,
    /// Removing it failed.
    Dead,
}

impl State {
    /// The word that the API has for it.
    pub fn word(&self) -> &'static str {
        match self.status {
            Status::Created => "created",
            Status::Running if self.paused => "paused",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Whether its process lives.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }
}

/// A container's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five looks.
    pub log: Vec<Look>,
}

/// One look at a container's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Look {
    /// When it began.
    pub start: String,
    /// When it was over.
    pub end: String,
    /// 0 is well; -1 that it could not be looked.
    pub exit_code: i32,
    /// What the command said, at most 4096 bytes.
    pub output: String,
}

/// What is mounted where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Of a volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the machine.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// Of a volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as they were given.
    pub mode: String,
    /// Whether it takes writes.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// How mounts pass.
    pub propagation: String,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// What was asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// `CONTAINER:ALIAS`.
    pub links: Option<Vec<String>>,
    /// Further names in the network.
    pub aliases: Option<Vec<String>>,
    /// Ethernet address.
    pub mac_address: String,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The highest has the default route.
    pub gw_priority: i64,
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The place itself, while it runs.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's router.
    pub gateway: String,
    /// The address, while it runs.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits of the network.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The network's router of IPv6.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The address of IPv6, while it runs, in networks that have such.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits of the network's addresses of IPv6.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// All names that lead here.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

impl Endpoint {
    /// Whether the container is in the network now, with an address of either family.
    pub fn has_address(&self) -> bool {
        !self.ip_address.is_empty() || !self.global_ipv6_address.is_empty()
    }
}

/// Addresses that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    /// IPv4.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// IPv6.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// Link local.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<String>,
}

/// A port of the machine that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// Address of the machine.
    pub host_ip: String,
    /// Port of the machine.
    pub host_port: u16,
}
