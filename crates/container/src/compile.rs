//! From a runtime specification to a [`Plan`]: names to numbers, options to flags, rules to programs.
//!
//! Pure, but for two questions to the machine: which control groups it has, and its last capability.
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.

mod mounts;

use std::path::{Path as FilePath, PathBuf};

use oci_spec::runtime::{
    Capabilities as CapabilitySet, Hook as SpecHook, Hooks, IOPriorityClass, Linux, LinuxDeviceType, LinuxIdMapping,
    LinuxNamespaceType, LinuxPersonalityDomain, LinuxResources, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    PosixRlimitType, Process as SpecProcess, Spec,
};

use crate::{
    capability,
    cgroup::{self, Path, Version, devices, limits},
    plan::{
        Capabilities, Cgroup, Device, Hook, IdMap, Moment, Namespace, Overlay, Plan, Process, Rlimit, Root, Scheduler,
        Setting, Write,
    },
    protocol, seccomp,
};

/// Why a specification cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is missing or contradicts something else.
    #[error("{0}")]
    Invalid(String),
    /// A control group or a limit.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The system call filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(message.into()))
}

/// Where the root file system comes from.
#[derive(Clone, Copy, Debug)]
pub enum Rootfs<'a> {
    /// `root.path`, as it is.
    Directory,
    /// An overlay over `root.path`.
    Overlay {
        /// The topmost first.
        lowers: &'a [PathBuf],
        /// Where writes go.
        upper: &'a FilePath,
        /// The overlay's own.
        work: &'a FilePath,
        /// Further mount options.
        options: &'a [String],
        /// In a user namespace: whether what is written belongs on the disk to the users that the namespace sees.
        mapped: bool,
    },
}

/// A path as text; the protocol carries no other.
pub fn text(path: &FilePath) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => invalid(format!("path {} is not UTF-8", path.display())),
    }
}

/// Compiles a container. `group` is its control group; without one it stays in its parent's.
pub fn plan(spec: &Spec, rootfs: Rootfs<'_>, version: &Version, group: Option<&Path>) -> Result<Plan, Error> {
    let linux = spec.linux().clone().unwrap_or_default();
    // To leave these out silently would be a promise broken.
    let missing = [
        ("intelRdt", linux.intel_rdt().is_some()),
        ("memoryPolicy", linux.memory_policy().is_some()),
        ("netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
    ];
    if let Some((name, _)) = missing.iter().find(|(_, given)| *given) {
        return invalid(format!("linux.{name} is not supported"));
    }
    let Some(process_of_spec) = spec.process() else { return invalid("process is missing") };
    let mut process = process(process_of_spec)?;
    if let Some(rules) = linux.seccomp() {
        process.seccomp = Some(seccomp::compile(rules)?);
    }
    let namespaces = namespaces(&linux)?;
    let own = |kind: libc::c_int| namespaces.iter().any(|one| one.kind == kind as u64 && one.path.is_empty());
    let ids = |ranges: &Option<Vec<LinuxIdMapping>>| ranges.iter().flatten().map(id_map).collect::<Vec<_>>();
    let (uids, gids) = (ids(linux.uid_mappings()), ids(linux.gid_mappings()));
    if own(libc::CLONE_NEWUSER) && (uids.is_empty() || gids.is_empty()) {
        return invalid("a new user namespace needs uidMappings and gidMappings");
    }
    let mut sysctls = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        sysctls.push(sysctl(name, value)?);
    }
    sysctls.sort_by(|one, other| one.name.cmp(&other.name));
    let cgroup = group.map(|group| cgroup_of(version, group, linux.resources().as_ref())).transpose()?;
    let mounts = mounts::all(spec, version, group, own(libc::CLONE_NEWCGROUP))?;
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => libc::MS_SLAVE | libc::MS_REC,
        Some(name) => match mounts::propagation(name) {
            Some((kind, below)) => kind | if below { libc::MS_REC } else { 0 },
            None => return invalid(format!("rootfsPropagation {name:?} is unknown")),
        },
    };
    let annotations = spec.annotations().clone().unwrap_or_default();
    Ok(Plan {
        process: Some(process),
        root: Some(root(spec, rootfs)?),
        mounts,
        sysctls,
        hostname: spec.hostname().clone().filter(|_| own(libc::CLONE_NEWUTS)),
        domainname: spec.domainname().clone().filter(|_| own(libc::CLONE_NEWUTS)),
        namespaces,
        devices: devices_of(&linux)?,
        masked: linux.masked_paths().clone().unwrap_or_default(),
        readonly: linux.readonly_paths().clone().unwrap_or_default(),
        uids,
        gids,
        cgroup,
        propagation,
        hooks: spec.hooks().as_ref().map(hooks).transpose()?.unwrap_or_default(),
        personality: linux.personality().as_ref().map(|personality| match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }),
        time_offsets: time_offsets(&linux),
        bundle: String::new(),
        annotations: serde_json::to_string(&annotations).unwrap_or_default(),
    })
}

fn root(spec: &Spec, rootfs: Rootfs<'_>) -> Result<Root, Error> {
    let Some(root) = spec.root() else { return invalid("root is missing") };
    if !root.path().is_absolute() {
        return invalid(format!("root path {} is not absolute", root.path().display()));
    }
    let overlay = match rootfs {
        Rootfs::Directory => None,
        Rootfs::Overlay { lowers, upper, work, options, mapped } => {
            if lowers.is_empty() || lowers.len() > 128 {
                return invalid(format!("an overlay of {} layers: 1 to 128 can be mounted", lowers.len()));
            }
            let lowers = lowers.iter().map(|lower| text(lower)).collect::<Result<_, _>>()?;
            Some(Overlay { lowers, upper: text(upper)?, work: text(work)?, options: options.to_vec(), mapped })
        }
    };
    Ok(Root { path: text(root.path())?, readonly: root.readonly().unwrap_or(false), overlay })
}

/// Compiles a process that is run in a container later.
pub fn process(process: &SpecProcess) -> Result<Process, Error> {
    let args = process.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return invalid("process has no program");
    }
    let env = process.env().clone().unwrap_or_default();
    if let Some(text) = args.iter().chain(&env).find(|text| text.contains('\0')) {
        return invalid(format!("argument or variable {text:?} contains a zero byte"));
    }
    let user = process.user();
    let size = process.console_size();
    let mut rlimits = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        rlimits.push(Rlimit { resource: rlimit(limit.typ()), soft: limit.soft(), hard: limit.hard() });
    }
    Ok(Process {
        set_home: !env.iter().any(|variable| variable.starts_with("HOME=")),
        args,
        env,
        cwd: match text(process.cwd())? {
            cwd if cwd.is_empty() => "/".into(),
            cwd if cwd.starts_with('/') => cwd,
            cwd => return invalid(format!("working directory {cwd:?} is not absolute")),
        },
        terminal: process.terminal().unwrap_or(false),
        rows: size.map_or(0, |size| size.height().min(u16::MAX.into()) as u32),
        columns: size.map_or(0, |size| size.width().min(u16::MAX.into()) as u32),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities: Some(process.capabilities().as_ref().map_or_else(Capabilities::default, |sets| {
            let last = capability::last();
            let mask = |set: &Option<CapabilitySet>| mask(set, last);
            Capabilities {
                bounding: mask(sets.bounding()),
                effective: mask(sets.effective()),
                permitted: mask(sets.permitted()),
                inheritable: mask(sets.inheritable()),
                ambient: mask(sets.ambient()),
            }
        })),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        rlimits,
        oom_score_adj: process.oom_score_adj(),
        seccomp: None,
        apparmor: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
        selinux: process.selinux_label().clone().filter(|label| !label.is_empty()),
        io_priority: process.io_priority().as_ref().map(|priority| {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            class << 13 | (priority.priority().clamp(0, 7) as u32)
        }),
        scheduler: process.scheduler().as_ref().map(scheduler),
        inherited: 0,
        keep_keyring: false,
    })
}

/// Capabilities that the kernel does not have are left out, as every runtime does.
fn mask(set: &Option<CapabilitySet>, last: u32) -> u64 {
    let numbers = set.iter().flatten().filter_map(|one| capability::number(&one.to_string()));
    numbers.filter(|&number| number <= last).fold(0, |mask, number| mask | 1 << number)
}

fn scheduler(scheduler: &oci_spec::runtime::Scheduler) -> Scheduler {
    use LinuxSchedulerPolicy as Policy;
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 1,
        LinuxSchedulerFlag::SchedFlagReclaim => 2,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 4,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 8,
        LinuxSchedulerFlag::SchedFlagKeepParams => 16,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 32,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 64,
    };
    Scheduler {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |flags, one| flags | one),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0).max(0) as u32,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}

fn rlimit(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as Kind;
    match kind {
        Kind::RlimitCpu => libc::RLIMIT_CPU,
        Kind::RlimitFsize => libc::RLIMIT_FSIZE,
        Kind::RlimitData => libc::RLIMIT_DATA,
        Kind::RlimitStack => libc::RLIMIT_STACK,
        Kind::RlimitCore => libc::RLIMIT_CORE,
        Kind::RlimitRss => libc::RLIMIT_RSS,
        Kind::RlimitNproc => libc::RLIMIT_NPROC,
        Kind::RlimitNofile => libc::RLIMIT_NOFILE,
        Kind::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Kind::RlimitAs => libc::RLIMIT_AS,
        Kind::RlimitLocks => libc::RLIMIT_LOCKS,
        Kind::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Kind::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Kind::RlimitNice => libc::RLIMIT_NICE,
        Kind::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Kind::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn namespaces(linux: &Linux) -> Result<Vec<Namespace>, Error> {
    use LinuxNamespaceType as Type;
    let mut found = Vec::<Namespace>::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = match namespace.typ() {
            Type::Mount => libc::CLONE_NEWNS,
            Type::Cgroup => libc::CLONE_NEWCGROUP,
            Type::Uts => libc::CLONE_NEWUTS,
            Type::Ipc => libc::CLONE_NEWIPC,
            Type::User => libc::CLONE_NEWUSER,
            Type::Pid => libc::CLONE_NEWPID,
            Type::Network => libc::CLONE_NEWNET,
            Type::Time => libc::CLONE_NEWTIME,
        } as u64;
        if found.iter().any(|other| other.kind == kind) {
            return invalid(format!("namespace {} is listed twice", namespace.typ()));
        }
        let path = match namespace.path() {
            Some(path) if path.as_os_str().is_empty() => String::new(),
            Some(path) if !path.is_absolute() => {
                return invalid(format!("namespace path {} is not absolute", path.display()));
            }
            Some(path) => text(path)?,
            None => String::new(),
        };
        found.push(Namespace { kind, path });
    }
    if !found.iter().any(|namespace| namespace.kind == libc::CLONE_NEWNS as u64) {
        // Without one, a container's mounts would be the machine's.
        found.push(Namespace { kind: libc::CLONE_NEWNS as u64, path: String::new() });
    }
    Ok(found)
}

fn id_map(range: &LinuxIdMapping) -> IdMap {
    IdMap { inside: range.container_id(), outside: range.host_id(), size: range.size() }
}

/// A kernel setting as a path below `/proc/sys`. Dots separate; slashes may, and then dots belong to names.
pub fn sysctl(name: &str, value: &str) -> Result<Setting, Error> {
    let first = name.find(['.', '/']);
    let path: String = match first.map(|at| &name[at..=at]) {
        Some(".") => {
            let swap = |letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    };
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if path.split('/').any(bad) {
        return invalid(format!("sysctl {name:?} is not a name"));
    }
    Ok(Setting { name: path, value: value.to_owned() })
}

fn devices_of(linux: &Linux) -> Result<Vec<Device>, Error> {
    let mut found: Vec<Device> = DEVICES
        .iter()
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            kind: libc::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            ..Device::default()
        })
        .collect();
    for device in linux.devices().iter().flatten() {
        let path = text(device.path())?;
        let kind = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => return invalid(format!("device {path} has no type")),
        };
        let number = |number: i64| match u32::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) if kind == libc::S_IFIFO => Ok(0),
            Err(_) => invalid(format!("device {path} has number {number}")),
        };
        found.retain(|other| other.path != path);
        found.push(Device {
            kind,
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            path,
        });
    }
    Ok(found)
}

/// Nodes that every container has.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn hooks(hooks: &Hooks) -> Result<Vec<Hook>, Error> {
    let prestart = hooks.prestart();
    let moments = [
        (Moment::Prestart, prestart),
        (Moment::CreateRuntime, hooks.create_runtime()),
        (Moment::CreateContainer, hooks.create_container()),
        (Moment::StartContainer, hooks.start_container()),
        (Moment::Poststart, hooks.poststart()),
        (Moment::Poststop, hooks.poststop()),
    ];
    let mut found = Vec::new();
    for (moment, list) in moments {
        for hook in list.iter().flatten() {
            found.push(one_hook(moment, hook)?);
        }
    }
    Ok(found)
}

fn one_hook(moment: Moment, hook: &SpecHook) -> Result<Hook, Error> {
    if !hook.path().is_absolute() {
        return invalid(format!("hook {} is not absolute", hook.path().display()));
    }
    let path = text(hook.path())?;
    let timeout = match hook.timeout() {
        None => 0,
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => seconds,
            _ => return invalid(format!("hook {path} has a timeout of {seconds} s")),
        },
    };
    let args = hook.args().clone().filter(|args| !args.is_empty()).unwrap_or_else(|| vec![path.clone()]);
    Ok(Hook { moment: moment.into(), path, args, env: hook.env().clone().unwrap_or_default(), timeout })
}

fn time_offsets(linux: &Linux) -> Option<String> {
    let mut lines: Vec<_> = linux
        .time_offsets()
        .iter()
        .flatten()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)))
        .collect();
    lines.sort();
    Some(lines.concat()).filter(|lines| !lines.is_empty())
}

fn cgroup_of(version: &Version, path: &Path, resources: Option<&LinuxResources>) -> Result<Cgroup, Error> {
    let empty = LinuxResources::default();
    cgroup(version, path, Some(resources.unwrap_or(&empty)))
}

/// A control group. Without resources it limits nothing; with them, devices are at least limited to the defaults.
pub fn cgroup(version: &Version, path: &Path, resources: Option<&LinuxResources>) -> Result<Cgroup, Error> {
    let directories = version
        .directories(path)
        .iter()
        .map(|directory| cgroup::directory_text(directory))
        .collect::<Result<Vec<_>, _>>()?;
    let mut group = Cgroup {
        path: path.as_str().into(),
        directories,
        version: if version.is_v2() { 2 } else { 1 },
        ..Cgroup::default()
    };
    if let Some(resources) = resources {
        group.writes = limits::writes(version, path, resources)?;
        let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        if version.is_v2() {
            group.device_program = devices::program(&rules);
        } else {
            group.writes.extend(device_writes(version, path, &rules)?);
        }
    }
    Ok(group)
}

fn device_writes(version: &Version, path: &Path, rules: &[devices::Rule]) -> Result<Vec<Write>, Error> {
    let Some(directory) = version.directory_of("devices", path) else { return Ok(Vec::new()) };
    let write = |(file, value): (&str, String)| {
        Ok(Write { file: cgroup::directory_text(&directory.join(file))?, value, optional: false })
    };
    devices::lines(rules).into_iter().map(write).collect()
}

/// Compiles new limits for a container.
pub fn update(resources: &LinuxResources, version: &Version, path: &Path) -> Result<protocol::Update, Error> {
    let mut update = protocol::Update {
        id: String::new(),
        writes: limits::writes(version, path, resources)?,
        device_program: Vec::new(),
    };
    if let Some(list) = resources.devices() {
        let rules = devices::rules(list)?;
        if version.is_v2() {
            update.device_program = devices::program(&rules);
        } else {
            update.writes.extend(device_writes(version, path, &rules)?);
        }
    }
    Ok(update)
}

#[cfg(test)]
mod tests;
