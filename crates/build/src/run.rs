//! `RUN`: a process in a container over the layers so far, whose changes become a layer.
//!
//! ```text
//! Process ─ user, mounts, variables ─► StepConfig ─ runtime ─► output, exit code ─ stubs removed ─► layer
//! ```
//!
//! A stage's steps share a sandbox, made when the first of them really runs: an address and a network of their own, or the machine's,
//! or none. Nothing of it outlives the build ([`Sandboxes`]).

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, bail};
use runtime::{
    Runtime,
    description::{ContainerConfig, Dns, Hosts, Mount, Resources, SandboxConfig, Security, Sharing},
    steps::{StepConfig, StepRoot, UID_PREFIX},
    user::{self, Databases, User},
    users::StepUsers,
};
use rustix::fs::{AtFlags, FileType, OFlags, Timespec, Timestamps};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    dockerfile,
    mounts::Made,
    plan::Platform,
    progress::{Progress, Stream},
    request::{NetworkMode, Options},
    resolve::Process,
    solve::own_platform,
    tree::{OPTIONS, Root},
    trust,
};

/// What the host name of steps is, as in BuildKit.
const HOSTNAME: &str = "buildkitsandbox";
/// How long the pod network may take to be there: builds go on while a server starts.
const NETWORK: Duration = Duration::from_secs(60);
/// Bytes of one step's output that are passed on.
const OUTPUT: usize = 2 << 20;
/// The last bytes of a step's output that its failure shows.
const TAIL: usize = 4096;
/// The largest user database.
const DATABASE: u64 = 4 << 20;

/// The sandboxes of one build.
pub struct Sandboxes {
    runtime: Runtime,
    name: String,
    config: SandboxConfig,
    made: AsyncMutex<HashMap<(usize, NetworkMode, bool), String>>,
}

impl Sandboxes {
    /// None so far. `name` tells builds apart.
    pub fn new(runtime: &Runtime, name: &str, options: &Options, nameservers: &[String]) -> Self {
        let mut hosts: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for (name, ip) in &options.hosts {
            hosts.entry(*ip).or_default().push(name.clone());
        }
        let aliases = hosts.into_iter().map(|(ip, names)| (ip.to_string(), names)).collect();
        let config = SandboxConfig {
            name: format!("build-{name}"),
            namespace: "madang-build".into(),
            hostname: HOSTNAME.into(),
            pid: Sharing::Container,
            ipc: Sharing::Pod,
            hosts: Hosts { fqdn: None, aliases },
            resources: Resources {
                memory: options.memory,
                cpu_quota: options.cpu_quota,
                cpu_period: options.cpu_period,
                cpu_shares: options.cpu_shares,
                ..Resources::default()
            },
            cgroup_parent: options.cgroup_parent.clone(),
            dns: dns(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), nameservers),
            ..SandboxConfig::default()
        };
        Self { runtime: runtime.clone(), name: name.to_owned(), config, made: AsyncMutex::default() }
    }

    /// The sandbox of a stage; with users of its own where `own_users`.
    pub async fn of(&self, stage: usize, network: NetworkMode, own_users: bool) -> anyhow::Result<String> {
        let mut made = self.made.lock().await;
        if let Some(id) = made.get(&(stage, network, own_users)) {
            return Ok(id.clone());
        }
        let mut config = self.config.clone();
        config.uid = format!("{UID_PREFIX}{}-{}", self.name, made.len());
        (config.own_users, config.step_users) = (own_users, own_users);
        match network {
            NetworkMode::Default => {
                let ready = tokio::time::timeout(NETWORK, self.runtime.connected()).await;
                ready.ok().with_context(|| format!("no network for steps after {} seconds", NETWORK.as_secs()))?;
            }
            NetworkMode::None => config.no_network = true,
            NetworkMode::Host => {
                config.host_network = true;
                config.dns = every_server(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
            }
        }
        let sandbox = self.runtime.run_pod_sandbox(config).await.context("make a sandbox for steps")?;
        made.insert((stage, network, own_users), sandbox.id.clone());
        Ok(sandbox.id)
    }

    /// Ends everything that runs, and removes it.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let mut made = self.made.lock().await;
        // Also what was being made when the build was given up.
        let prefix = format!("{UID_PREFIX}{}-", self.name);
        for sandbox in self.runtime.list_sandboxes() {
            if sandbox.record.config.uid.starts_with(&prefix) {
                self.runtime.remove_pod_sandbox(&sandbox.record.id).await?;
            }
        }
        made.clear();
        Ok(())
    }
}

/// Users for steps, where this machine can give them some: tried in a sandbox of its own, over layers in `dir`, which is not there yet.
pub async fn step_users(runtime: &Runtime, name: &str, dir: &Path) -> anyhow::Result<StepUsers> {
    let users = tokio::task::spawn_blocking(StepUsers::make).await?.context("make a user namespace")?;
    let config = SandboxConfig {
        name: format!("build-{name}"),
        namespace: "madang-build".into(),
        uid: format!("{UID_PREFIX}{name}"),
        pid: Sharing::Container,
        ipc: Sharing::Pod,
        no_network: true,
        own_users: true,
        step_users: true,
        ..SandboxConfig::default()
    };
    let sandbox = runtime.run_pod_sandbox(config).await?.id;
    let tried = runtime.try_step_users(&sandbox, dir, &OPTIONS).await;
    runtime.remove_pod_sandbox(&sandbox).await.context("remove its sandbox")?;
    tokio::fs::remove_dir_all(dir).await.with_context(|| format!("remove {}", dir.display()))?;
    tried.map(|()| users)
}

/// Removes what builds of an earlier process have left.
pub async fn remove_leftovers(runtime: &Runtime) -> anyhow::Result<()> {
    for sandbox in runtime.list_sandboxes() {
        if sandbox.record.config.uid.starts_with(UID_PREFIX) {
            tracing::info!(sandbox = sandbox.record.id, "remove a left-over sandbox of a build");
            runtime.remove_pod_sandbox(&sandbox.record.id).await?;
        }
    }
    Ok(())
}

/// Where emulators are registered: <https://docs.kernel.org/admin-guide/binfmt-misc.html>.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// Whether this machine runs programs of a platform: its own kind, what its kernel runs beside, or by an emulator.
pub fn runs(platform: &Platform) -> bool {
    let own = own_platform();
    if platform.os != own.os {
        return false;
    }
    let beside = matches!((own.architecture.as_str(), platform.architecture.as_str()), ("amd64", "386"));
    platform.architecture == own.architecture || beside || is_emulated(Path::new(EMULATORS), &platform.architecture)
}

/// Whether an emulator is registered that needs no file inside the container.
fn is_emulated(registered: &Path, architecture: &str) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        "mipsle" => "mipsel",
        other => other,
    };
    std::fs::read_to_string(registered.join(format!("qemu-{name}"))).is_ok_and(|text| {
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        text.lines().next() == Some("enabled") && flags.contains('F')
    })
}

/// The machine's resolver configuration, every server of it.
fn every_server(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// The same without servers on the machine's loopback, which steps cannot reach; `otherwise` where none is left.
fn dns(text: &str, otherwise: &[String]) -> Dns {
    let mut dns = every_server(text);
    dns.servers.retain(|server| {
        let bare = server.split('%').next().unwrap_or(server);
        bare.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
    });
    if dns.servers.is_empty() {
        dns.servers = otherwise.to_vec();
    }
    dns
}

/// The databases of users and groups in a root file system.
pub fn databases(root: &Root) -> anyhow::Result<Databases> {
    let read = |path: &str| root.text(Path::new(path), DATABASE).with_context(|| format!("read {path}"));
    Ok(Databases { passwd: read("/etc/passwd")?.unwrap_or_default(), group: read("/etc/group")?.unwrap_or_default() })
}

/// Who runs a step.
pub fn user(root: &Root, text: &str) -> anyhow::Result<User> {
    user::resolve(text, &Security::default(), &databases(root)?)
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Whether it was killed for want of memory.
    pub out_of_memory: bool,
    /// The end of what it wrote.
    pub tail: String,
}

/// A step and where it runs.
pub struct Work<'a> {
    /// The sandbox.
    pub sandbox: &'a str,
    /// The process.
    pub process: &'a Process,
    /// Who runs it.
    pub user: User,
    /// Its mounts.
    pub mounts: &'a [Made],
    /// Read-only directories, the topmost first.
    pub lowers: &'a [PathBuf],
    /// Where it writes.
    pub upper: &'a Path,
    /// Overlayfs's own directory.
    pub work: &'a Path,
    /// A directory for files that the step is given.
    pub scratch: &'a Path,
    /// Variables beside the step's own.
    pub environment: Vec<String>,
    /// The bundle of certificate authorities that it gets.
    pub bundle: Option<&'a Path>,
    /// The build's bounds.
    pub options: &'a Options,
}

/// Runs a step.
pub async fn run(runtime: &Runtime, work: &Work<'_>, progress: &Progress, vertex: u32) -> anyhow::Result<Ended> {
    let process = work.process;
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    let mut container = ContainerConfig {
        name: format!("step-{vertex}"),
        command: process.arguments.clone(),
        working_dir: Some(process.working_dir.clone()),
        env: process.environment.iter().chain(&work.environment).map(pair).collect(),
        ..ContainerConfig::default()
    };
    container.security.privileged = process.security == dockerfile::Security::Insecure;
    let read_only = |source: &Path, target: &str| Mount { readonly: true, ..Mount::bind(source, target) };
    if let Some(bundle) = work.bundle {
        // It lies wherever the machine has it, and everybody may read it.
        container.mounts.push(Mount { unmapped: true, ..read_only(bundle, trust::BUNDLE) });
    }
    if let Some((path, text)) = &process.script {
        let script = work.scratch.join("script");
        tokio::fs::write(&script, text).await.context("write the here-document")?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        container.mounts.push(read_only(&script, path));
    }
    let mut memory: Vec<(PathBuf, Option<u64>)> = Vec::new();
    memory.extend(work.options.shm_size.map(|size| (PathBuf::from("/dev/shm"), Some(size))));
    for made in work.mounts {
        match made {
            Made::Bind { source, target, read_only, mapped } => {
                let mount = Mount::bind(source, target);
                container.mounts.push(Mount { readonly: *read_only, unmapped: *mapped, ..mount });
            }
            Made::Memory { target, size } => memory.push((PathBuf::from(target), *size)),
        }
    }
    let step = StepConfig {
        container,
        user: work.user.clone(),
        root: StepRoot {
            lowers: work.lowers.to_vec(),
            upper: work.upper.to_owned(),
            work: work.work.to_owned(),
            options: OPTIONS.map(str::to_owned).to_vec(),
        },
        memory,
        limits: work.options.ulimits.iter().map(|limit| (limit.name.clone(), limit.soft, limit.hard)).collect(),
    };
    let mut running = runtime.run_step(work.sandbox, &step).await?;
    let tail = Mutex::new(Tail::default());
    let out = follow(running.streams.stdout.take(), Stream::Out, progress, vertex, &tail);
    let error = follow(running.streams.stderr.take(), Stream::Error, progress, vertex, &tail);
    let (out, error) = tokio::join!(out, error);
    let exit = runtime.step_exit(&running.id).await?;
    runtime.remove_container(&running.id).await?;
    out.and(error)?;
    let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Ended { code: exit.code, out_of_memory: exit.oom, tail: tail.text() })
}

/// The end of an output, and how much there was.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    seen: usize,
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(TAIL);
        self.bytes.drain(..excess);
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }
}

/// Passes a stream on.
async fn follow(
    stream: Option<impl tokio::io::AsyncRead + Unpin>,
    which: Stream,
    progress: &Progress,
    vertex: u32,
    tail: &Mutex<Tail>,
) -> anyhow::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => length,
        };
        let (before, after) = {
            let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tail.add(&buffer[..length]);
            let before = tail.seen;
            tail.seen += length;
            (before, tail.seen)
        };
        if before >= OUTPUT {
            continue;
        }
        let mut bytes = buffer[..length.min(OUTPUT - before)].to_vec();
        if after >= OUTPUT {
            bytes.extend_from_slice(format!("\n[output clipped, log limit {} MiB reached]\n", OUTPUT >> 20).as_bytes());
        }
        progress.log(vertex, which, bytes).await?;
    }
}

/// Places where something is mounted and nothing was before: made by the runtime, and removed when the step has left them empty.
pub struct Stubs(Vec<PathBuf>);

impl Stubs {
    /// Looks at the root before the step. `targets` are absolute paths; what is in memory anyway does not count.
    pub fn find(root: &Root, targets: &[&str]) -> anyhow::Result<Self> {
        let mut stubs = Vec::new();
        let files = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
        for target in files.iter().chain(targets) {
            let mut path = root.real_path(Path::new(target), true)?;
            while path.parent().is_some() && root.status(&path, false)?.is_none() {
                if !["/dev", "/proc", "/sys"].iter().any(|top| path.starts_with(top)) && !stubs.contains(&path) {
                    stubs.push(path.clone());
                }
                path.pop();
            }
        }
        // What is deepest goes first.
        stubs.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        Ok(Self(stubs))
    }

    /// Removes those that are empty from what the step has written.
    pub fn remove(&self, upper: &Root) -> anyhow::Result<()> {
        for path in &self.0 {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let Ok(parent) = upper.open(parent, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
            let Ok(status) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let before = rustix::fs::fstat(&parent)?;
            let removed = match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
                FileType::RegularFile if status.st_size == 0 => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
                _ => continue,
            };
            match removed {
                Ok(()) => restore(&parent, &before)?,
                Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {}
                Err(error) => bail!("remove {}: {error}", path.display()),
            }
        }
        Ok(())
    }
}

/// A directory's times as they were, so that the same step gives the same layer.
fn restore(directory: impl AsFd, status: &rustix::fs::Stat) -> rustix::io::Result<()> {
    let spec = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: spec(status.st_atime, status.st_atime_nsec),
        last_modification: spec(status.st_mtime, status.st_mtime_nsec),
    };
    rustix::fs::futimens(directory, &times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_ask_servers_that_they_can_reach() {
        let text = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\nsearch a b\noptions ndots:2\n";
        let reached = dns(text, &[]);
        assert_eq!(reached.servers, ["192.0.2.1"]);
        assert_eq!((reached.searches, reached.options), (vec!["a".to_owned(), "b".into()], vec!["ndots:2".to_owned()]));
        assert_eq!(dns("nameserver 127.0.0.53\n", &["10.43.0.10".into()]).servers, ["10.43.0.10"]);
        assert_eq!(every_server(text).servers.len(), 3);
    }

    #[test]
    fn emulators_count_that_need_no_file_in_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: POCF\noffset 0\n");
        write("qemu-s390x", "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: \noffset 0\n");
        write("qemu-arm", "disabled\ninterpreter /usr/bin/qemu-arm-static\nflags: F\noffset 0\n");
        let emulated = |architecture: &str| is_emulated(directory.path(), architecture);
        assert!(emulated("arm64"));
        assert!(!emulated("s390x") && !emulated("arm") && !emulated("riscv64"));
        assert!(runs(&own_platform()));
        assert!(!runs(&Platform { os: "windows".into(), ..own_platform() }));
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let mut tail = Tail::default();
        tail.add(&vec![b'a'; TAIL]);
        tail.add(b"last words");
        assert_eq!(tail.text().len(), TAIL + 1);
        assert!(tail.text().ends_with("last words\n"));
    }
}
