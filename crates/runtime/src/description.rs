//! What a sandbox and a container are asked to be: the request side of CRI, in plain types.
//!
//! Both descriptions are stored beside the state of what was made from them, so that a restarted daemon knows its
//! containers without asking anyone. `annotations` is the caller's own memory: it comes back unread.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Whose namespace the processes are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// One of the container's own.
    Container,
    /// One shared by all containers of the sandbox.
    #[default]
    Pod,
    /// The machine's.
    Node,
}

/// A transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the machine that leads to a port of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Address of the machine it listens on; none for all.
    pub host_ip: Option<IpAddr>,
    /// Port on the machine.
    pub host_port: u16,
    /// Port in the sandbox.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// One pod's sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// Counts sandboxes of the same pod from 0.
    pub attempt: u32,
    /// Host name inside; at most 63 bytes.
    pub hostname: String,
    /// Whether it lives in the machine's network.
    pub host_network: bool,
    /// Whether its network is one of its own in which nothing but itself can be reached. Not with `host_network`.
    #[serde(default)]
    pub no_network: bool,
    /// Process ids: `Container`, `Pod` (shared) or `Node`.
    pub pid: Sharing,
    /// System V IPC and `/dev/shm`: `Pod` or `Node`.
    pub ipc: Sharing,
    /// Whether users and groups are its own: root inside is nobody outside. Not with the machine's network, processes or IPC.
    #[serde(default)]
    pub own_users: bool,
    /// With `own_users`: whether they are those of build steps, the same for all of them: every number that a file of an image may
    /// have is one of the machine's that is nobody. With these the machine's network is allowed.
    #[serde(default)]
    pub step_users: bool,
    /// Published ports; empty with `host_network`.
    pub host_ports: Vec<HostPort>,
    /// Whether the runtime writes `/etc/hosts`.
    pub hosts: Hosts,
    /// Contents of `/etc/resolv.conf`.
    pub dns: Dns,
    /// Kernel parameters of the sandbox's namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the sandbox as a whole.
    pub resources: Resources,
    /// Group below the root of all pods, `burstable` or `burstable/podUID-0` for example; empty for the root itself.
    pub cgroup_parent: String,
    /// Directory below which containers log to `CONTAINER/ATTEMPT.log`.
    pub log_dir: PathBuf,
    /// The caller's own memory.
    pub annotations: BTreeMap<String, String>,
}

/// `/etc/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    /// Fully qualified name of the pod, beside its host name.
    pub fqdn: Option<String>,
    /// Further lines: address and names.
    pub aliases: Vec<(String, Vec<String>)>,
}

/// One container of a sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Container name, unique in the pod.
    pub name: String,
    /// Counts containers of that name from 0.
    pub attempt: u32,
    /// Id (config digest) or name of an image that is present.
    pub image: String,
    /// The name that was asked for, for status.
    pub image_name: String,
    /// Replaces the image's entrypoint and command; empty keeps them. Like `args` and `env` it may hold secrets, and is not
    /// written to disk.
    #[serde(skip)]
    pub command: Vec<String>,
    /// Replaces the image's command; empty keeps it, unless `command` is given.
    #[serde(skip)]
    pub args: Vec<String>,
    /// Working directory; none for the image's.
    pub working_dir: Option<String>,
    /// Environment, added to the image's; later ones win.
    #[serde(skip)]
    pub env: Vec<(String, String)>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Devices of the machine.
    pub devices: Vec<Device>,
    /// Users and privileges.
    pub security: Security,
    /// Limits.
    pub resources: Resources,
    /// Whether standard input stays open for attach.
    pub stdin: bool,
    /// Close standard input after the first attached client left.
    pub stdin_once: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Signal that stops it, `SIGTERM` or `15`; none for the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// File inside the container of which the contents explain its end.
    pub termination_message: Option<PathBuf>,
    /// The caller's own memory.
    pub annotations: BTreeMap<String, String>,
}

/// A file or directory of the machine, seen in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the machine.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Not writable.
    pub readonly: bool,
    /// Also not writable in mounts below it.
    pub recursive_readonly: bool,
    /// How later mounts pass.
    pub propagation: Propagation,
    /// In a sandbox with users of its own: whether files belong inside to whom they belong outside, who then is nobody. Else they
    /// are mapped: root's are root's.
    #[serde(default)]
    pub unmapped: bool,
}

impl Mount {
    /// A writable private mount.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
            unmapped: false,
        }
    }
}

/// How mounts made later on one side of a mount appear on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the machine to the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A device of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the machine.
    pub host: PathBuf,
    /// Path in the container.
    pub container: PathBuf,
    /// Some of `rwm`.
    pub access: String,
}

/// Which system calls are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The default profile of container engines.
    #[default]
    RuntimeDefault,
    /// Nothing is refused.
    Unconfined,
    /// A profile in the JSON form of the OCI runtime specification or of container engines.
    Profile(PathBuf),
}

/// Which groups of the image's user apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Groups of the image's `/etc/group` and the requested ones.
    #[default]
    Merge,
    /// Requested ones only.
    Strict,
}

/// Users and privileges of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// `UID`, `NAME`, `UID:GID`...; none for the image's.
    pub user: Option<String>,
    /// Primary group; none for the user's.
    pub group: Option<u32>,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// Whether the image's groups apply.
    pub groups_policy: GroupsPolicy,
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// Whether the root file system refuses writes.
    pub readonly_root: bool,
    /// Whether `execve` may add privileges.
    pub no_new_privileges: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities removed.
    pub drop_capabilities: Vec<String>,
    /// System calls.
    pub seccomp: Seccomp,
    /// `/proc` as the kernel shows it, nothing masked.
    pub unmasked_proc: bool,
}

/// Limits, as cgroups and the OOM killer know them. Absent means unlimited or inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight of CPU time, 2 to 262144 (cgroup v1 shares).
    pub cpu_shares: Option<u64>,
    /// CPU time a period, microseconds.
    pub cpu_quota: Option<i64>,
    /// The period, microseconds.
    pub cpu_period: Option<u64>,
    /// Memory, bytes.
    pub memory: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// -1000 to 1000; higher is killed earlier.
    pub oom_score_adj: Option<i32>,
    /// Whether memory exhaustion kills only the process that caused it (cgroup v2 `memory.oom.group` off).
    pub single_process_oom: bool,
}

impl Resources {
    /// In the OCI specification's form.
    pub fn to_oci(&self) -> serde_json::Value {
        let mut out = serde_json::Map::new();
        let mut cpu = serde_json::Map::new();
        if let Some(shares) = self.cpu_shares {
            cpu.insert("shares".into(), shares.into());
        }
        if let Some(quota) = self.cpu_quota {
            cpu.insert("quota".into(), quota.into());
            cpu.insert("period".into(), self.cpu_period.unwrap_or(100_000).into());
        }
        if !cpu.is_empty() {
            out.insert("cpu".into(), cpu.into());
        }
        if let Some(memory) = self.memory {
            // Swap equal to memory: a limit on memory that can be escaped by swapping is none.
            out.insert("memory".into(), serde_json::json!({"limit": memory, "swap": memory}));
        }
        if let Some(pids) = self.pids {
            out.insert("pids".into(), serde_json::json!({"limit": pids}));
        }
        out.into()
    }
}

/// Where the log of one attempt of a container lies below a pod's log directory.
pub fn log_path(log_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    log_dir.join(container).join(format!("{attempt}.log"))
}
