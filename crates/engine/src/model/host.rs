//! The part of a container that belongs to the machine: mounts, limits, namespaces, ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A list in which what is not there is shown as null, as clients expect of Go.
type List<T> = Option<Vec<T>>;

/// `HostConfig` of the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `SOURCE:TARGET[:OPTIONS]`.
    pub binds: List<String>,
    /// Where the client writes the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output goes.
    pub log_config: LogConfig,
    /// `bridge`, `host`, `none`, `container:ID`, or a network's name.
    pub network_mode: String,
    /// Ports of the machine, by `PORT/PROTOCOL`.
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// What follows its end.
    pub restart_policy: RestartPolicy,
    /// Whether it goes when it ends.
    pub auto_remove: bool,
    /// Driver of anonymous volumes.
    pub volume_driver: String,
    /// `CONTAINER[:ro|rw]`.
    pub volumes_from: List<String>,
    /// Height and width of the terminal at the beginning.
    pub console_size: [u32; 2],
    /// Metadata for the runtime.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Capabilities added.
    pub cap_add: List<String>,
    /// Capabilities removed.
    pub cap_drop: List<String>,
    /// `private` or `host`.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// Domains searched.
    pub dns_search: Vec<String>,
    /// `NAME:ADDRESS`.
    pub extra_hosts: List<String>,
    /// Further groups.
    pub group_add: List<String>,
    /// `private`, `shareable`, `host`, `none`, `container:ID`.
    pub ipc_mode: String,
    /// Of no use.
    pub cgroup: String,
    /// `CONTAINER:ALIAS`.
    pub links: List<String>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// `host`, `container:ID`, or its own.
    pub pid_mode: String,
    /// All privileges.
    pub privileged: bool,
    /// Whether all exposed ports are published.
    pub publish_all_ports: bool,
    /// Whether the root file system refuses writes.
    pub readonly_rootfs: bool,
    /// `NAME=VALUE`.
    pub security_opt: List<String>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// Options by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// `host`, or its own.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host`.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Name of the runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Of Windows.
    pub isolation: String,
    /// Limits.
    #[serde(flatten)]
    pub resources: Resources,
    /// Mounts in the longer form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Paths hidden; null for the default.
    pub masked_paths: List<String>,
    /// Paths not writable; null for the default.
    pub readonly_paths: List<String>,
    /// Whether a process that reaps others is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

impl std::ops::Deref for HostConfig {
    type Target = Resources;

    fn deref(&self) -> &Resources {
        &self.resources
    }
}

/// `Resources` of the API: limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Weight.
    pub cpu_shares: i64,
    /// Bytes; 0 for no limit.
    pub memory: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Group above.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device.
    pub blkio_weight_device: List<WeightDevice>,
    /// Bytes a second.
    pub blkio_device_read_bps: List<ThrottleDevice>,
    /// Bytes a second.
    pub blkio_device_write_bps: List<ThrottleDevice>,
    /// Requests a second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: List<ThrottleDevice>,
    /// Requests a second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: List<ThrottleDevice>,
    /// Microseconds.
    pub cpu_period: u64,
    /// Microseconds a period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: u64,
    /// Microseconds a period.
    pub cpu_realtime_runtime: i64,
    /// `0-2,4`.
    pub cpuset_cpus: String,
    /// `0-1`.
    pub cpuset_mems: String,
    /// Devices of the machine.
    pub devices: List<DeviceMapping>,
    /// `c 1:3 rwm`.
    pub device_cgroup_rules: List<String>,
    /// Devices of drivers, such as graphics cards.
    pub device_requests: List<serde_json::Value>,
    /// Bytes below which memory is not taken away.
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 for no limit.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel waits instead of killing.
    pub oom_kill_disable: Option<bool>,
    /// Processes and threads; 0 and -1 for no limit.
    pub pids_limit: Option<i64>,
    /// Limits of each process.
    pub ulimits: List<Ulimit>,
    /// Of Windows.
    pub cpu_count: i64,
    /// Of Windows.
    pub cpu_percent: i64,
    /// Of Windows.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Of Windows.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
}

/// A weight of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Of the machine.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Of the machine.
    pub path: String,
    /// Bytes or requests a second.
    pub rate: u64,
}

/// A device of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the machine.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// A limit of each process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// -1 for no limit.
    pub hard: i64,
    /// -1 for no limit.
    pub soft: i64,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file`, `local` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Options.
    pub config: BTreeMap<String, String>,
}

/// A port of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Address of the machine; empty for all.
    pub host_ip: String,
    /// Port, or range; empty for any.
    pub host_port: String,
}

/// What follows a container's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Of `on-failure`; 0 for no bound.
    pub maximum_retry_count: i64,
}

/// A mount in the longer form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Path, name of a volume, name of an image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether it refuses writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Of no use on Linux.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// Of `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Of `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Of `image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// Of `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate` and so on.
    pub propagation: String,
    /// Without what is mounted below.
    pub non_recursive: bool,
    /// Whether a missing source is made.
    pub create_mountpoint: bool,
    /// Only the mount itself refuses writes.
    pub read_only_non_recursive: bool,
    /// Fails where mounts below cannot refuse writes.
    pub read_only_force_recursive: bool,
}

/// Options of a volume's mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Whether the image's files are not copied into an empty volume.
    pub no_copy: bool,
    /// Of a volume that is made.
    pub labels: BTreeMap<String, String>,
    /// Directory in the volume.
    pub subpath: String,
    /// Of a volume that is made.
    pub driver_config: Option<DriverConfig>,
}

/// Options of an image's mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// Directory in the image.
    pub subpath: String,
}

/// Options of a file system in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// 0 for half of the memory.
    pub size_bytes: i64,
    /// Permission bits.
    pub mode: u32,
    /// `["noexec"]`, `["uid", "1000"]`.
    pub options: Vec<Vec<String>>,
}

/// A driver of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// `local`.
    pub name: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}
