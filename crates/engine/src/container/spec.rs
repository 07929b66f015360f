//! The runtime specification of a container, from its record.
//!
//! Namespaces that are not listed are those of the shim: network (or the machine's), IPC, host name.
//! <https://github.com/opencontainers/runtime-spec/blob/main/config.md>

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use build::request::ULIMITS;
use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use runtime::{
    description::{ContainerConfig, GroupsPolicy, Security},
    user::{self, Databases, User},
};
use serde_json::{Map, Value, json};

use crate::{
    Engine,
    container::mounts,
    error,
    model::{host::HostConfig, host::Resources, record::Record},
};

/// What security options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    no_new_privileges: bool,
    /// A profile, or `unconfined`.
    seccomp: Option<String>,
    apparmor: Option<String>,
    label: Vec<String>,
}

fn options(host: &HostConfig) -> error::Result<Options> {
    let mut found = Options::default();
    for option in host.security_opt.iter().flatten() {
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((name, value)) => (name, value),
            None => (option.as_str(), ""),
        };
        match (name, value) {
            ("no-new-privileges", "" | "true") => found.no_new_privileges = true,
            ("no-new-privileges", "false") => {}
            ("seccomp", value) => found.seccomp = Some(value.to_owned()),
            ("apparmor", value) => found.apparmor = Some(value.to_owned()),
            ("label", value) => found.label.push(value.to_owned()),
            ("systempaths", "unconfined") | ("writable-cgroups", _) => {}
            _ => return Err(error::Error::invalid(format!("invalid --security-opt 2: {option:?}"))),
        }
    }
    Ok(found)
}

/// Whether capabilities, security options and devices can be had.
pub(crate) fn check(engine: &Engine, host: &HostConfig) -> error::Result<()> {
    let options = options(host)?;
    if let Some(profile) = options.seccomp.filter(|profile| !matches!(profile.as_str(), "unconfined" | "builtin"))
        && serde_json::from_str::<Value>(&profile).is_err()
    {
        return Err(error::Error::invalid("seccomp: the profile is no JSON"));
    }
    capabilities(engine, host).map_err(|error| error::Error::invalid(format!("invalid capability: {error:#}")))?;
    for rule in host.resources.device_cgroup_rules.iter().flatten() {
        device_rule(rule).map_err(|_| error::Error::invalid(format!("invalid device cgroup rule format: '{rule}'")))?;
    }
    for limit in host.resources.ulimits.iter().flatten() {
        if !ULIMITS.contains(&limit.name.as_str()) {
            return Err(error::Error::invalid(format!("invalid ulimit type: {}", limit.name)));
        }
        if limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard) {
            return Err(error::Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    Ok(())
}

fn capabilities(engine: &Engine, host: &HostConfig) -> Result<BTreeSet<String>> {
    let security = Security {
        privileged: host.privileged,
        add_capabilities: host.cap_add.clone().unwrap_or_default(),
        drop_capabilities: host.cap_drop.clone().unwrap_or_default(),
        ..Security::default()
    };
    let config = ContainerConfig { security, ..ContainerConfig::default() };
    runtime::spec::capabilities(&config, engine.runtime().capabilities())
}

fn seccomp(host: &HostConfig, scratch: &Path, capabilities: &BTreeSet<String>) -> Result<Option<LinuxSeccomp>> {
    let chosen = options(host)?.seccomp;
    match chosen.as_deref() {
        Some("unconfined") => Ok(None),
        None | Some("builtin") if host.privileged => Ok(None),
        None | Some("builtin") => {
            Ok(Some(container::seccomp::runtime_default(capabilities.iter().map(String::as_str))))
        }
        Some(profile) => {
            let path = scratch.join("seccomp.json");
            fs::write(&path, profile).with_context(|| format!("write {}", path.display()))?;
            runtime::seccomp::read_profile(&path, capabilities).map(Some)
        }
    }
}

/// Who the processes of a container are.
fn user_of(text: &str, host: &HostConfig, databases: &Databases) -> Result<User> {
    let security = Security { user: Some(text.to_owned()), groups_policy: GroupsPolicy::Merge, ..Security::default() };
    let mut found = user::resolve("", &security, databases)?;
    for group in host.group_add.iter().flatten() {
        let number = match group.parse() {
            Ok(number) => number,
            Err(_) => {
                let security = Security { user: Some(format!("0:{group}")), ..Security::default() };
                let resolved = user::resolve("", &security, databases);
                resolved.with_context(|| format!("Unable to find group {group}"))?.gid
            }
        };
        if !found.groups.contains(&number) {
            found.groups.push(number);
        }
    }
    Ok(found)
}

/// What the environment of every process begins with, unless it is set.
fn environment(record: &Record, terminal: bool, home: Option<&str>, uid: u32, more: &[String]) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        let same = |known: &String| known.split('=').next() == Some(name);
        match (env.iter_mut().find(|known| same(known)), pair.contains('=')) {
            (Some(old), true) => pair.clone_into(old),
            (None, true) => env.push(pair.to_owned()),
            (_, false) => env.retain(|known| !same(known)),
        }
    };
    set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set(&format!("HOSTNAME={}", record.config.hostname));
    if terminal {
        set("TERM=xterm");
    }
    record.config.env.iter().for_each(|pair| set(pair));
    more.iter().for_each(|pair| set(pair));
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        let home = home.unwrap_or(if uid == 0 { "/root" } else { "/" });
        env.push(format!("HOME={home}"));
    }
    env
}

fn command_line(record: &Record) -> Vec<String> {
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    [words(&record.config.entrypoint), words(&record.config.cmd)].concat()
}

/// A namespace that another container lends.
fn lent(engine: &Engine, mode: &str, name: &str) -> Result<Option<PathBuf>> {
    let Some(other) = mode.strip_prefix("container:") else { return Ok(None) };
    let other = engine.containers().find(other)?;
    let (running, pid) = other.look(|record| (record.state.is_running(), record.state.pid));
    if !running || pid == 0 {
        bail!(error::Error::conflict(format!("cannot join {name} namespace of a non running container: {}", other.id)));
    }
    Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/{name}"))))
}

fn namespaces(engine: &Engine, host: &HostConfig) -> Result<Vec<Value>> {
    let mut list = vec![json!({"type": "mount"})];
    if host.cgroupns_mode != "host" {
        list.push(json!({"type": "cgroup"}));
    }
    match lent(engine, &host.pid_mode, "pid")? {
        Some(path) => list.push(json!({"type": "pid", "path": path})),
        // With a first process of its own the shim makes the namespace.
        None if host.pid_mode != "host" && !host.init.unwrap_or(false) => list.push(json!({"type": "pid"})),
        None => {}
    }
    if let Some(path) = lent(engine, &host.ipc_mode, "ipc")? {
        list.push(json!({"type": "ipc", "path": path}));
    }
    if let Some(path) = lent(engine, &host.network_mode, "net")? {
        list.push(json!({"type": "network", "path": path}));
    }
    // Where the shim is in the machine's network, it has the machine's host name too.
    let shares = host.network_mode == "host" || host.network_mode.starts_with("container:");
    if shares && host.uts_mode != "host" {
        list.push(json!({"type": "uts"}));
    }
    Ok(list)
}

/// The directory of `/dev/shm` that a container shares.
pub(crate) fn shared_shm(engine: &Engine, record: &Record) -> Result<Option<PathBuf>> {
    match record.host.ipc_mode.as_str() {
        "shareable" => Ok(Some(engine.container_dir(&record.id).join("shm"))),
        "host" => Ok(Some("/dev/shm".into())),
        mode => match mode.strip_prefix("container:") {
            Some(other) => {
                let other = engine.containers().find(other)?;
                if other.look(|record| record.host.ipc_mode != "shareable") {
                    bail!(error::Error::conflict(format!(
                        "cannot join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                         container)",
                        other.id
                    )));
                }
                Ok(Some(engine.container_dir(&other.id).join("shm")))
            }
            None => Ok(None),
        },
    }
}

/// Mounts that every container has, and then its own.
fn all_mounts(engine: &Engine, record: &Record, files: &Path) -> Result<Vec<Value>> {
    let host = &record.host;
    let sys = if host.privileged { "rw" } else { "ro" };
    let own = mounts::of_spec(engine, record)?;
    let covered = |path: &str| own.iter().any(|(to, _)| to == path);
    let mut list = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
    ];
    if host.network_mode == "host" || host.network_mode.starts_with("container:") {
        list.push(json!({"destination": "/sys", "type": "bind", "source": "/sys",
                         "options": ["rbind", "nosuid", "noexec", "nodev", sys]}));
    } else {
        list.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                         "options": ["nosuid", "noexec", "nodev", sys]}));
        list.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                         "options": ["nosuid", "noexec", "nodev", "relatime", sys]}));
    }
    for (file, to) in [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")] {
        if !covered(to) {
            let access = if host.readonly_rootfs { "ro" } else { "rw" };
            list.push(json!({"destination": to, "type": "bind", "source": files.join(file),
                             "options": ["rbind", "rprivate", access]}));
        }
    }
    if host.ipc_mode != "none" && !covered("/dev/shm") {
        list.push(match shared_shm(engine, record)? {
            Some(source) => json!({"destination": "/dev/shm", "type": "bind", "source": source,
                                   "options": ["rbind", "nosuid", "noexec", "nodev", "rw"]}),
            None => json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                           "options": ["nosuid", "noexec", "nodev", "mode=1777", format!("size={}", host.shm_size)]}),
        });
    }
    list.extend(own.into_iter().map(|(_, mount)| mount));
    Ok(list)
}

/// `c 1:3 rwm`, numbers may be `*`.
fn device_rule(text: &str) -> Result<Value> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words.as_slice() else { bail!("three words are wanted") };
    let (major, minor) = numbers.split_once(':').context("no colon")?;
    let good = matches!(*kind, "a" | "b" | "c") && access.chars().all(|letter| "rwm".contains(letter));
    if !good || access.is_empty() {
        bail!("unknown letters");
    }
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (name, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[name] = number.parse::<u32>()?.into();
        }
    }
    Ok(rule)
}

/// Nodes and rules of the devices of the machine that a container gets.
fn devices(host: &HostConfig) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut nodes = Vec::new();
    let mut rules = vec![json!({"allow": host.privileged, "access": "rwm"})];
    let mut add = |path: &Path, to: PathBuf, access: &str| -> Result<()> {
        let metadata = fs::metadata(path).with_context(|| {
            format!("error gathering device information while adding custom device {:?}", path.display().to_string())
        })?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => bail!("{:?} is not a device node", path.display().to_string()),
        };
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        nodes.push(
            json!({"path": to, "type": kind, "major": major, "minor": minor, "fileMode": metadata.mode() & 0o777,
                          "uid": metadata.uid(), "gid": metadata.gid()}),
        );
        rules.push(json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access}));
        Ok(())
    };
    for device in host.resources.devices.iter().flatten() {
        let to = if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
        let access = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
        let path = Path::new(&device.path_on_host);
        if path.is_dir() {
            for (source, below) in below(path)? {
                add(&source, Path::new(to).join(below), access)?;
            }
        } else {
            add(path, to.into(), access)?;
        }
    }
    if host.privileged {
        for (source, _) in below(Path::new("/dev"))? {
            // Some go away while one looks.
            let _ = add(&source, source.clone(), "rwm");
        }
    }
    for rule in host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(rule)?);
    }
    Ok((nodes, rules))
}

/// Mounts of a container's own, links into `/proc`, and the nodes that every container has anyway.
const OWN_DEVICES: &[&str] =
    &["pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "random", "urandom", "tty", ".udev"];

/// Device nodes below a directory, with their paths from there.
fn below(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("read directory {}", next.display()))? {
            let Ok(entry) = entry else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if next == Path::new("/dev") && OWN_DEVICES.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let path = entry.path();
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                let rest = path.strip_prefix(dir).unwrap_or(&path).to_owned();
                found.push((path, rest));
            }
        }
    }
    Ok(found)
}

/// Limits in the form of the runtime specification.
pub(crate) fn limits(limits: &Resources) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    let mut cpu = Map::new();
    let mut put = |name: &str, value: Value| drop(cpu.insert(name.into(), value));
    if limits.cpu_shares > 0 {
        put("shares", limits.cpu_shares.into());
    }
    if limits.nano_cpus > 0 {
        put("period", 100_000.into());
        put("quota", (limits.nano_cpus / 10_000).into());
    }
    if limits.cpu_period > 0 {
        put("period", limits.cpu_period.into());
    }
    if limits.cpu_quota != 0 {
        put("quota", limits.cpu_quota.into());
    }
    if limits.cpu_realtime_period > 0 {
        put("realtimePeriod", limits.cpu_realtime_period.into());
    }
    if limits.cpu_realtime_runtime != 0 {
        put("realtimeRuntime", limits.cpu_realtime_runtime.into());
    }
    if !limits.cpuset_cpus.is_empty() {
        put("cpus", limits.cpuset_cpus.clone().into());
    }
    if !limits.cpuset_mems.is_empty() {
        put("mems", limits.cpuset_mems.clone().into());
    }
    if !cpu.is_empty() {
        out.insert("cpu".into(), cpu.into());
    }
    let mut memory = Map::new();
    if limits.memory > 0 {
        memory.insert("limit".into(), limits.memory.into());
    }
    if limits.memory_swap != 0 {
        memory.insert("swap".into(), limits.memory_swap.into());
    }
    if limits.memory_reservation > 0 {
        memory.insert("reservation".into(), limits.memory_reservation.into());
    }
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| *value >= 0) {
        memory.insert("swappiness".into(), swappiness.into());
    }
    if limits.oom_kill_disable == Some(true) {
        memory.insert("disableOOMKiller".into(), true.into());
    }
    if !memory.is_empty() {
        out.insert("memory".into(), memory.into());
    }
    if let Some(pids) = limits.pids_limit.filter(|limit| *limit != 0) {
        out.insert("pids".into(), json!({"limit": pids}));
    }
    let block = block(limits)?;
    if !block.is_empty() {
        out.insert("blockIO".into(), block.into());
    }
    Ok(out)
}

fn block(limits: &Resources) -> Result<Map<String, Value>> {
    let numbers = |path: &str| -> Result<(u32, u32)> {
        let metadata = fs::metadata(path).with_context(|| format!("look at device {path}"))?;
        Ok((rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())))
    };
    let mut out = Map::new();
    if limits.blkio_weight > 0 {
        out.insert("weight".into(), limits.blkio_weight.into());
    }
    let mut weights = Vec::new();
    for device in limits.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        weights.push(json!({"major": major, "minor": minor, "weight": device.weight}));
    }
    if !weights.is_empty() {
        out.insert("weightDevice".into(), weights.into());
    }
    for (name, list) in [
        ("throttleReadBpsDevice", &limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &limits.blkio_device_write_iops),
    ] {
        let mut rates = Vec::new();
        for device in list.iter().flatten() {
            let (major, minor) = numbers(&device.path)?;
            rates.push(json!({"major": major, "minor": minor, "rate": device.rate}));
        }
        if !rates.is_empty() {
            out.insert(name.into(), rates.into());
        }
    }
    Ok(out)
}

/// What a process is run with.
pub(crate) struct Run<'a> {
    pub(crate) args: Vec<String>,
    pub(crate) env: &'a [String],
    pub(crate) cwd: &'a str,
    /// None for the container's.
    pub(crate) user: Option<&'a str>,
    pub(crate) terminal: bool,
    /// All capabilities, whatever the container has.
    pub(crate) privileged: bool,
}

/// A process of a container: its first, or a later one. `databases` name its users.
pub(crate) fn process(engine: &Engine, record: &Record, run: &Run<'_>, databases: &Databases) -> Result<Process> {
    let host = &record.host;
    let text = run.user.filter(|user| !user.is_empty()).unwrap_or(&record.config.user);
    let user = user_of(text, host, databases)?;
    let capabilities =
        if run.privileged { engine.runtime().capabilities().clone() } else { capabilities(engine, host)? };
    let mut rlimits = Vec::new();
    let most = engine.runtime().open_files();
    if !host.resources.ulimits.iter().flatten().any(|limit| limit.name == "nofile") {
        rlimits.push(json!({"type": "RLIMIT_NOFILE", "soft": most, "hard": most}));
    }
    for limit in host.resources.ulimits.iter().flatten() {
        let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
        let kind = format!("RLIMIT_{}", limit.name.to_uppercase());
        rlimits.push(json!({"type": kind, "soft": value(limit.soft), "hard": value(limit.hard)}));
    }
    // Whoever is not root has capabilities only to gain, through files that grant them.
    let root = user.uid == 0;
    let effective = if root { capabilities.clone() } else { BTreeSet::new() };
    let cwd = [run.cwd, &record.config.working_dir, "/"].into_iter().find(|path| !path.is_empty()).unwrap_or("/");
    let options = options(host)?;
    let mut process = json!({
        "terminal": run.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": run.args,
        "env": environment(record, run.terminal, user.home.as_deref(), user.uid, run.env),
        "cwd": cwd,
        "capabilities": {"bounding": capabilities, "effective": effective, "permitted": effective,
                         "inheritable": [], "ambient": []},
        "rlimits": rlimits,
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    });
    if let Some(profile) = options.apparmor.filter(|profile| profile != "unconfined") {
        process["apparmorProfile"] = profile.into();
    }
    serde_json::from_value(process).context("build the process of a container")
}

/// Makes the specification of a container. `dir` is the container's directory, `cgroup` its group.
pub(crate) fn build(engine: &Engine, record: &Record, dir: &Path, cgroup: &str, databases: &Databases) -> Result<Spec> {
    let host = &record.host;
    let run = Run {
        args: command_line(record),
        env: &[],
        cwd: "",
        user: None,
        terminal: record.config.tty,
        privileged: false,
    };
    let process = process(engine, record, &run, databases)?;
    let (nodes, rules) = devices(host)?;
    let mut resources = limits(&host.resources)?;
    resources.insert("devices".into(), rules.into());
    let seccomp = seccomp(host, dir, &capabilities(engine, host)?)?;
    let propagation = record.mounts.iter().map(|mount| mount.propagation.trim_start_matches('r'));
    let propagation = propagation.fold("rprivate", |root, own| match own {
        "shared" => "rshared",
        "slave" if root != "rshared" => "rslave",
        _ => root,
    });
    // Those of the network belong to the namespace, which the shim has made.
    let sysctls: Map<String, Value> = host
        .sysctls
        .iter()
        .filter(|(name, _)| !name.starts_with("net."))
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    let mut linux = json!({
        "namespaces": namespaces(engine, host)?,
        "cgroupsPath": cgroup,
        "resources": resources,
        "devices": nodes,
        "sysctl": sysctls,
        "rootfsPropagation": propagation,
        "maskedPaths": host.masked_paths.clone().unwrap_or_default(),
        "readonlyPaths": host.readonly_paths.clone().unwrap_or_default(),
    });
    if let Some(seccomp) = seccomp {
        linux["seccomp"] = serde_json::to_value(seccomp).context("encode the system call filter")?;
    }
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "hostname": record.config.hostname,
        "domainname": record.config.domainname,
        "root": {"path": dir.join("rootfs"), "readonly": host.readonly_rootfs},
        "mounts": all_mounts(engine, record, dir)?,
        "linux": linux,
        "annotations": host.annotations,
    });
    spec["process"] = serde_json::to_value(process).context("encode the process")?;
    serde_json::from_value(spec).context("build runtime specification")
}

#[cfg(test)]
mod tests;
