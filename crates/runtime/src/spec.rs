//! The OCI runtime specification of a container, from its description, its sandbox and its image.
//!
//! Pure: it reads nothing but its arguments. <https://github.com/opencontainers/runtime-spec/blob/main/config.md>
//!
//! The namespaces listed are those of the container's own. Network, IPC and UTS belong to the sandbox, whose shim puts
//! the container into them; so does the shim's pid namespace where the pod shares one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::{
    description::{ContainerConfig, Propagation, SandboxConfig, Sharing},
    user::User,
};

/// What an image says of the processes that run from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// Its default rest.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// User string.
    pub user: String,
    /// Working directory.
    pub working_dir: String,
    /// Stop signal.
    pub stop_signal: String,
    /// Paths that the image wants on volumes.
    pub volumes: Vec<String>,
}

/// Everything a specification is made from.
#[derive(Debug)]
pub struct Input<'a> {
    /// The container.
    pub container: &'a ContainerConfig,
    /// Its sandbox.
    pub sandbox: &'a SandboxConfig,
    /// Its image.
    pub image: &'a ImageConfig,
    /// Its user.
    pub user: &'a User,
    /// The sandbox's directory: `hosts`, `resolv.conf`, `hostname`, `shm`.
    pub sandbox_dir: &'a Path,
    /// The container's directory: `termination-log`, `volumes/N`.
    pub container_dir: &'a Path,
    /// Where the root file system is seen.
    pub rootfs: &'a Path,
    /// The container's group, as the cgroup specification of the runtime wants it.
    pub cgroups_path: &'a Path,
    /// Capabilities that this process may hand on (`CAP_...`).
    pub available: &'a BTreeSet<String>,
    /// Open files that its processes may have.
    pub open_files: u64,
    /// The filter of system calls, none for no filter.
    pub seccomp: Option<LinuxSeccomp>,
    /// Device nodes of the machine, for privileged containers: path, `c` or `b`, major, minor, mode, uid, gid.
    pub host_devices: &'a [DeviceNode],
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path in the container.
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Some of `rwm`.
    pub access: String,
}

/// Capabilities of a container that asks for nothing.
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All capabilities, by number.
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Paths of `/proc` and `/sys` that are hidden.
pub const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of `/proc` that refuse writes.
pub const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Open files of a container's processes, where the machine allows as many.
pub const OPEN_FILES: u64 = 1_048_576;

/// The capabilities that a bit mask of the kernel (`CapBnd` of `/proc/self/status`, hexadecimal) names.
pub fn capabilities_of_mask(mask: &str) -> BTreeSet<String> {
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    let names = CAPABILITIES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    names.map(|(_, name)| (*name).to_owned()).collect()
}

/// The capabilities of a container.
pub fn capabilities(config: &ContainerConfig, available: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let security = &config.security;
    if security.privileged {
        return Ok(available.clone());
    }
    let normal = |name: &String| {
        let upper = name.to_uppercase();
        if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
    };
    let add: Vec<String> = security.add_capabilities.iter().map(normal).collect();
    let drop: Vec<String> = security.drop_capabilities.iter().map(normal).collect();
    for name in add.iter().chain(&drop) {
        if name != "CAP_ALL" && !CAPABILITIES.contains(&name.as_str()) {
            bail!("unknown capability {name:?}");
        }
    }
    let all = |names: &[String]| names.iter().any(|name| name == "CAP_ALL");
    let mut set: BTreeSet<String> = if all(&add) {
        available.clone()
    } else if all(&drop) {
        BTreeSet::new()
    } else {
        DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect()
    };
    if !(all(&add) && all(&drop)) {
        set.retain(|name| !drop.contains(name));
    }
    set.extend(add.into_iter().filter(|name| name != "CAP_ALL"));
    set.retain(|name| available.contains(name));
    Ok(set)
}

/// The command line of a container.
pub fn command_line(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>> {
    let mut line = if config.command.is_empty() { image.entrypoint.clone() } else { config.command.clone() };
    if !config.args.is_empty() {
        line.extend(config.args.iter().cloned());
    } else if config.command.is_empty() {
        line.extend(image.cmd.iter().cloned());
    }
    if line.is_empty() {
        bail!("no command specified");
    }
    Ok(line)
}

fn environment(input: &Input<'_>) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    if !input.sandbox.hostname.is_empty() {
        set("HOSTNAME", &input.sandbox.hostname);
    }
    if input.container.tty {
        set("TERM", "xterm");
    }
    let image = input.image.env.iter().filter_map(|pair| pair.split_once('='));
    image.for_each(|(name, value)| set(name, value));
    input.container.env.iter().for_each(|(name, value)| set(name, value));
    if !env.iter().any(|(name, _)| name == "HOME") {
        let home = input.user.home.as_deref().unwrap_or(if input.user.uid == 0 { "/root" } else { "/" });
        env.push(("HOME".into(), home.into()));
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn mounts(input: &Input<'_>) -> Vec<Value> {
    let Input { container, sandbox, .. } = input;
    let privileged = container.security.privileged;
    let sys = if privileged { "rw" } else { "ro" };
    let mut list = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
    ];
    if sandbox.host_network {
        // A sysfs of one's own shows the network of the mounting process's namespace and needs to own that.
        list.push(json!({"destination": "/sys", "type": "bind", "source": "/sys",
                         "options": ["rbind", "nosuid", "noexec", "nodev", sys]}));
    } else {
        list.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                         "options": ["nosuid", "noexec", "nodev", sys]}));
        list.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                         "options": ["nosuid", "noexec", "nodev", "relatime", sys]}));
    }
    // With users of its own, files belong inside to whom they belong outside.
    let mapped: &[&str] = if sandbox.own_users { &["ridmap"] } else { &[] };
    let mut bind = |source: &Path, target: &str, options: &[&str]| {
        let options = [options, mapped].concat();
        list.push(json!({"destination": target, "type": "bind", "source": source, "options": options}));
    };
    let covered = |path: &str| container.mounts.iter().any(|mount| mount.target == Path::new(path));
    let writable = if container.security.readonly_root { "ro" } else { "rw" };
    for (file, target) in [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")]
    {
        if !covered(target) {
            bind(&input.sandbox_dir.join(file), target, &["rbind", "rprivate", writable]);
        }
    }
    if !covered("/dev/shm") {
        match sandbox.ipc {
            Sharing::Node => bind(Path::new("/dev/shm"), "/dev/shm", &["rbind", "nosuid", "noexec", "nodev", "rw"]),
            _ => bind(&input.sandbox_dir.join("shm"), "/dev/shm", &["rbind", "nosuid", "noexec", "nodev", "rw"]),
        }
    }
    if let Some(path) = &container.termination_message {
        bind(&input.container_dir.join("termination-log"), &path.to_string_lossy(), &["rbind", "rprivate", "rw"]);
    }
    if container.security.readonly_root {
        // Elsewhere the writable layer serves; here the paths that the image wants to write need a directory.
        let wanted = input.image.volumes.iter().enumerate();
        for (index, path) in wanted.filter(|(_, path)| !covered(path)) {
            bind(&input.container_dir.join("volumes").join(index.to_string()), path, &["rbind", "rprivate", "rw"]);
        }
    }
    for mount in &container.mounts {
        let propagation = match mount.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let access = match (mount.readonly, mount.recursive_readonly) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        };
        let mapped = if mount.unmapped { &[] } else { mapped };
        let options = [&["rbind", propagation, access], mapped].concat();
        list.push(json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": options}));
    }
    list
}

fn namespaces(sandbox: &SandboxConfig) -> Vec<Value> {
    let mut list = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    if sandbox.pid == Sharing::Container {
        list.push(json!({"type": "pid"}));
    }
    list
}

/// Makes the specification.
pub fn build(input: &Input<'_>) -> Result<oci_spec::runtime::Spec> {
    let Input { container, sandbox, image, user, .. } = input;
    let security = &container.security;
    let capabilities = capabilities(container, input.available)?;
    let cwd = container.working_dir.as_deref().unwrap_or(&image.working_dir);
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let mut resources = container.resources.to_oci();
    let (mut devices, mut rules) = (Vec::new(), Vec::new());
    rules.push(json!({"allow": security.privileged, "access": "rwm"}));
    for node in input.host_devices {
        devices.push(json!({"path": node.path, "type": node.kind, "major": node.major, "minor": node.minor,
                            "fileMode": node.mode, "uid": node.uid, "gid": node.gid}));
        if !security.privileged {
            rules.push(json!({"allow": true, "type": node.kind, "major": node.major, "minor": node.minor,
                              "access": node.access}));
        }
    }
    resources["devices"] = rules.into();
    let mut linux = json!({
        "namespaces": namespaces(sandbox),
        "cgroupsPath": input.cgroups_path,
        "resources": resources,
        "devices": devices,
        "rootfsPropagation": root_propagation(container),
    });
    if !security.privileged && !security.unmasked_proc {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READONLY);
    }
    if let Some(seccomp) = &input.seccomp {
        linux["seccomp"] = serde_json::to_value(seccomp).context("encode the system call filter")?;
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "hostname": sandbox.hostname,
        "root": {"path": input.rootfs, "readonly": security.readonly_root},
        "mounts": mounts(input),
        "linux": linux,
        "process": {
            "terminal": container.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": command_line(container, image)?,
            "env": environment(input),
            "cwd": cwd,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                             "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": input.open_files, "hard": input.open_files}],
            "noNewPrivileges": security.no_new_privileges,
            "oomScoreAdj": container.resources.oom_score_adj.unwrap_or(0),
        },
    });
    serde_json::from_value(spec).context("build runtime specification")
}

/// The root must pass mounts on where one of its mounts does.
fn root_propagation(container: &ContainerConfig) -> &'static str {
    let has = |wanted| container.mounts.iter().any(|mount| mount.propagation == wanted);
    if has(Propagation::Bidirectional) {
        "rshared"
    } else if has(Propagation::HostToContainer) {
        "rslave"
    } else {
        "rprivate"
    }
}

#[cfg(test)]
mod tests;
