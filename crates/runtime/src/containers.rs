//! Making, stopping and removing containers, and what comes out of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use container::{
    cgroup::Group,
    shim::{self, Exec, LogFile, Rootfs, Stdio},
};
use image::{Image, Snapshot};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, Process};

use crate::{
    description::{ContainerConfig, Device, Resources, Seccomp, log_path},
    record::{self, ContainerRecord, SandboxRecord},
    seccomp,
    service::{Container, Runtime, Sandbox, lock},
    spec::{self, DeviceNode, ImageConfig},
    user::{self, Databases},
};

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was made.
    #[error("{0:#}")]
    Create(anyhow::Error),
    /// It was made, and its program could not be run: the exit code that stands for the reason.
    #[error("{message}")]
    Start {
        /// For people.
        message: String,
        /// 127 not found, 126 not executable, 128 anything else.
        code: i32,
        /// The container, with its failure noted.
        record: Box<ContainerRecord>,
    },
}

impl From<anyhow::Error> for StartError {
    fn from(error: anyhow::Error) -> Self {
        Self::Create(error)
    }
}

/// Bytes of a termination message, and of a log's end that stands for one.
const MESSAGE_LIMIT: usize = 4096;
const FALLBACK_LIMIT: usize = 2048;
const FALLBACK_LINES: usize = 80;
/// Time for a killed container to be gone.
const KILLED: Duration = Duration::from_secs(30);

impl Runtime {
    /// Creates a container and starts its program.
    pub async fn run_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerRecord, StartError> {
        let began = Instant::now();
        let record = self.create_container(sandbox, config).await?;
        let created = began.elapsed();
        let started = self.start_container(&record.id).await;
        tracing::debug!(container = record.config.name, ?created, started = ?began.elapsed(), "container");
        started
    }

    /// Makes a container, up to the point of running its program.
    pub async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerRecord> {
        let sandbox = self.sandbox(sandbox)?;
        let shim = sandbox.shim()?;
        let image = self.0.images.get(&config.image).with_context(|| format!("no image {}", config.image))?;
        let id = record::new_id()?;
        let began = Instant::now();
        let snapshot =
            self.0.images.snapshot(&image, &id).await.with_context(|| format!("make files of container {id}"))?;
        let (runtime, owner, key) = (self.clone(), lock(&sandbox.record).clone(), id.clone());
        let prepared =
            tokio::task::spawn_blocking(move || runtime.prepare_container(&owner, &key, config, &image)).await;
        let prepared = match prepared.context("prepare container").and_then(|prepared| prepared) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.discard(&sandbox, &id).await;
                return Err(error);
            }
        };
        tracing::debug!(container = id, prepared = ?began.elapsed(), "container");
        let Prepared { record, spec, stdio } = prepared;
        lock(&sandbox.containers).insert(id.clone(), Arc::new(Container::new(record.clone())));
        let Snapshot { lowers, upper, work } = snapshot;
        let rootfs = Rootfs::Overlay { lowers, upper, work, options: Vec::new(), mapped: false };
        if let Err(error) = shim.create(&id, &spec, &rootfs, &stdio).await {
            self.discard(&sandbox, &id).await;
            return Err(error).context("create container");
        }
        Ok(record)
    }

    /// Takes back what was made for a container that came to nothing.
    async fn discard(&self, sandbox: &Arc<Sandbox>, id: &str) {
        if let Err(error) = self.0.images.release(id).await {
            tracing::warn!(container = id, error = format!("{error:#}"), "remove files of a container");
        }
        self.forget_process(id).await;
        lock(&sandbox.containers).remove(id);
        let owner = lock(&sandbox.record).id.clone();
        match tokio::fs::remove_dir_all(record::container_dir(&self.0.config.dir, &owner, id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(container = id, %error, "remove the record of a container");
            }
            _ => {}
        }
    }

    /// Removes what `exec` would run commands as; none there is no error.
    pub(crate) async fn forget_process(&self, id: &str) {
        match tokio::fs::remove_file(self.process_path(id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(container = id, %error, "remove the process description of a container");
            }
            _ => {}
        }
    }

    fn prepare_container(
        &self,
        sandbox: &SandboxRecord,
        id: &str,
        config: ContainerConfig,
        image: &Image,
    ) -> Result<Prepared> {
        let image_config = image_config(image);
        let databases = Databases::read(&image.layers);
        let user = user::resolve(&image_config.user, &config.security, &databases)?;
        let dir = record::container_dir(&self.0.config.dir, &sandbox.id, id);
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(&rootfs).with_context(|| format!("make {}", rootfs.display()))?;
        if config.termination_message.is_some() {
            let path = dir.join("termination-log");
            fs::write(&path, "").with_context(|| format!("make {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context("open the termination log to all")?;
        }
        if config.security.readonly_root {
            for index in 0..image_config.volumes.len() {
                let path = dir.join("volumes").join(index.to_string());
                fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            }
        }
        let log = log_path(&sandbox.config.log_dir, &config.name, config.attempt);
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        let capabilities = spec::capabilities(&config, &self.0.capabilities)?;
        let signal = config.stop_signal.clone().unwrap_or_else(|| image_config.stop_signal.clone());
        let stop_signal = signal_number(&signal)?;
        let seccomp = seccomp_of(&config, &capabilities)?;
        let nodes = device_nodes(&config)?;
        let cgroup = self.cgroup(sandbox)?.join(id)?;
        let spec = spec::build(&spec::Input {
            container: &config,
            sandbox: &sandbox.config,
            image: &image_config,
            user: &user,
            sandbox_dir: &record::sandbox_dir(&self.0.config.dir, &sandbox.id),
            container_dir: &dir,
            rootfs: &rootfs,
            cgroups_path: Path::new(cgroup.as_str()),
            available: &self.0.capabilities,
            open_files: self.0.open_files,
            seccomp,
            host_devices: &nodes,
        })?;
        if let Some(process) = spec.process() {
            // Environments hold secrets: beside the sockets, not in the data directory.
            record::write(&self.process_path(id), process)?;
        }
        let stdio = Stdio {
            log: Some(LogFile { path: log, max_bytes: self.0.config.log_bytes, max_files: self.0.config.log_files }),
            terminal: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
        };
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox: sandbox.id.clone(),
            image_id: image.id.to_string(),
            user: (user.uid, user.gid, user.groups),
            stop_signal,
            created_at: SystemTime::now(),
            started_at: None,
            exit: None,
            failure: None,
            config,
        };
        self.save_container(&record)?;
        Ok(Prepared { record, spec, stdio })
    }

    /// Starts the program of a container that was created.
    pub async fn start_container(&self, id: &str) -> Result<ContainerRecord, StartError> {
        let (sandbox, container) = self.container(id)?;
        let shim = sandbox.shim()?;
        match shim.start(id).await {
            Ok(started_at) => {
                let record = {
                    let mut record = lock(&container.record);
                    record.started_at = Some(started_at);
                    record.clone()
                };
                self.save_container(&record)?;
                Ok(record)
            }
            Err(error) => {
                let code = match &error {
                    shim::Error::ProgramNotFound(_) => 127,
                    shim::Error::ProgramNotExecutable(_) => 126,
                    _ => 128,
                };
                let message = format!("failed to start container: {error}");
                if let Err(error) = shim.delete(id, true).await {
                    tracing::debug!(container = id, %error, "shim keeps a container that did not start");
                }
                let record = {
                    let mut record = lock(&container.record);
                    record.failure = Some(message.clone());
                    record.clone()
                };
                container.ended.send_replace(true);
                self.save_container(&record)?;
                Err(StartError::Start { message, code, record: Box::new(record) })
            }
        }
    }

    /// Asks a container to end, and kills it when `grace` has passed. Returns once it has ended; a container that has ended
    /// already, or is not there, is no error. May be called again with a shorter grace while one waits.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Ok((sandbox, container)) = self.container(id) else { return Ok(()) };
        let mut ended = container.ended.subscribe();
        if *ended.borrow_and_update() {
            return Ok(());
        }
        let shim = sandbox.shim()?;
        let signal = lock(&container.record).stop_signal;
        if !grace.is_zero() {
            tolerate(shim.kill(id, signal, false).await).with_context(|| format!("signal container {id}"))?;
            if tokio::time::timeout(grace, ended.wait_for(|ended| *ended)).await.is_ok() {
                return Ok(());
            }
        }
        tolerate(shim.kill(id, libc::SIGKILL, true).await).with_context(|| format!("kill container {id}"))?;
        match tokio::time::timeout(KILLED, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => anyhow::bail!("container {id} does not end"),
        }
    }

    /// Sends a signal to a container's first process.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<()> {
        let (sandbox, _) = self.container(id)?;
        Ok(sandbox.shim()?.kill(id, signal, false).await?)
    }

    /// Removes a container, killing it if need be; not its logs. One that is not there is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let Ok((sandbox, _)) = self.container(id) else { return Ok(()) };
        let shim = lock(&sandbox.shim).clone();
        if let Some(shim) = shim {
            tolerate(shim.delete(id, true).await).with_context(|| format!("remove container {id}"))?;
        }
        self.discard(&sandbox, id).await;
        Ok(())
    }

    /// Changes the limits of a running container, and notes `annotations` beside those it has.
    pub async fn update_container(
        &self,
        id: &str,
        resources: &Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<()> {
        let (sandbox, container) = self.container(id)?;
        let limits: LinuxResources = serde_json::from_value(resources.to_oci()).context("limits")?;
        sandbox.shim()?.update(id, &limits).await.with_context(|| format!("limit container {id}"))?;
        let record = {
            let mut record = lock(&container.record);
            record.config.resources = resources.clone();
            record.config.annotations.extend(annotations);
            record.clone()
        };
        self.save_container(&record)
    }

    /// What is known of a container.
    pub fn container_record(&self, id: &str) -> Option<ContainerRecord> {
        self.container(id).ok().map(|(_, container)| container.record())
    }

    /// Whether a container has ended, now and later. One that is not there has.
    pub fn ended(&self, id: &str) -> tokio::sync::watch::Receiver<bool> {
        match self.container(id) {
            Ok((_, container)) => container.ended.subscribe(),
            Err(_) => tokio::sync::watch::Sender::new(true).subscribe(),
        }
    }

    /// Runs a command in a container, as its user and with its environment.
    pub async fn exec(&self, id: &str, command: Vec<String>, terminal: bool, stdin: bool) -> Result<Exec, shim::Error> {
        let missing = |error: anyhow::Error| shim::Error::NotFound(format!("{error:#}"));
        let (sandbox, container) = self.container(id).map_err(missing)?;
        let record = container.record();
        if record.started_at.is_none() || record.exit.is_some() {
            return Err(shim::Error::State(format!("container {} is not running", record.config.name)));
        }
        let process: Option<Process> = record::read(&self.process_path(id)).map_err(missing)?;
        let mut process = process.ok_or_else(|| shim::Error::NotFound(format!("container {id} has no process")))?;
        process.set_args(Some(command));
        process.set_terminal(Some(terminal));
        if terminal {
            let mut env = process.env().clone().unwrap_or_default();
            if !env.iter().any(|pair| pair.starts_with("TERM=")) {
                env.push("TERM=xterm".into());
            }
            process.set_env(Some(env));
        }
        sandbox.shim().map_err(missing)?.exec(id, &process, terminal, stdin).await
    }

    /// Kills a command that [`Runtime::exec`] started.
    pub async fn kill_exec(&self, id: &str, exec: &str) -> Result<()> {
        let (sandbox, _) = self.container(id)?;
        tolerate(sandbox.shim()?.kill_exec(id, exec, libc::SIGKILL).await)?;
        Ok(())
    }

    /// Joins the standard streams of a container.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Exec> {
        let (sandbox, _) = self.container(id)?;
        Ok(sandbox.shim()?.attach(id, stdin).await?)
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let (sandbox, _) = self.container(id)?;
        Ok(sandbox.shim()?.resize(id, rows, columns).await?)
    }

    /// Where a container logs now; older files are beside it with `.1`, `.2` ... behind.
    pub fn container_log_path(&self, id: &str) -> Result<PathBuf> {
        let (sandbox, container) = self.container(id)?;
        let config = lock(&container.record).config.clone();
        let path = log_path(&lock(&sandbox.record).config.log_dir, &config.name, config.attempt);
        Ok(path)
    }

    /// The last words of a container that has ended: its termination message or, with `fallback` and an error, the end of
    /// its log. `None` where it left none.
    pub fn termination_message(&self, id: &str, fallback: bool) -> Option<String> {
        let record = self.container_record(id)?;
        let path = record::container_dir(&self.0.config.dir, &record.sandbox, id).join("termination-log");
        let mut message = Vec::new();
        if let Ok(file) = fs::File::open(&path)
            && let Err(error) = file.take(MESSAGE_LIMIT as u64).read_to_end(&mut message)
        {
            tracing::debug!(container = id, %error, "read a termination message");
        }
        let failed = record.exit.as_ref().is_some_and(|exit| exit.code != 0);
        if message.is_empty() && fallback && failed {
            message = self.container_log_path(id).ok().and_then(|path| log_end(&path).ok()).unwrap_or_default();
        }
        (!message.is_empty()).then(|| String::from_utf8_lossy(&message).into_owned())
    }

    /// What a container has used since it was made.
    pub fn container_stats(&self, id: &str) -> Result<container::cgroup::Stats> {
        let (sandbox, _) = self.container(id)?;
        let path = self.cgroup(&lock(&sandbox.record))?.join(id)?;
        Ok(Group::open(&self.0.version, &path).stats()?)
    }
}

struct Prepared {
    record: ContainerRecord,
    spec: oci_spec::runtime::Spec,
    stdio: Stdio,
}

/// A process that has ended meanwhile needs no signal.
fn tolerate(result: Result<(), shim::Error>) -> Result<(), shim::Error> {
    match result {
        Err(shim::Error::NotFound(_) | shim::Error::State(_)) => Ok(()),
        other => other,
    }
}

/// The last lines of a log in CRI's format, without their prefixes.
fn log_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    // Prefixes take about 40 bytes a line.
    let window = (FALLBACK_LIMIT + FALLBACK_LINES * 48) as u64;
    file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
    let mut text = Vec::new();
    file.take(window).read_to_end(&mut text)?;
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let skip = usize::from(length > window).max(lines.len().saturating_sub(FALLBACK_LINES));
    let mut out = Vec::new();
    for line in &lines[skip.min(lines.len())..] {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (tag, rest) = (fields.nth(2), fields.next());
        let Some(rest) = rest else { continue };
        let rest = if tag == Some(b"P".as_slice()) { rest.strip_suffix(b"\n").unwrap_or(rest) } else { rest };
        out.extend_from_slice(rest);
    }
    let excess = out.len().saturating_sub(FALLBACK_LIMIT);
    out.drain(..excess);
    Ok(out)
}

/// The parts of an image's configuration that matter here.
pub fn image_config(image: &Image) -> ImageConfig {
    let Some(config) = image.config.config() else { return ImageConfig::default() };
    ImageConfig {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
        volumes: config.volumes().clone().unwrap_or_default(),
    }
}

pub(crate) fn seccomp_of(config: &ContainerConfig, capabilities: &BTreeSet<String>) -> Result<Option<LinuxSeccomp>> {
    if config.security.privileged {
        return Ok(None);
    }
    match &config.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => {
            Ok(Some(container::seccomp::runtime_default(capabilities.iter().map(String::as_str))))
        }
        Seccomp::Profile(path) => seccomp::read_profile(path, capabilities).map(Some),
    }
}

/// The number of a signal by name (`SIGTERM`, `TERM`) or number; SIGTERM for none.
pub fn signal_number(text: &str) -> Result<i32> {
    const NAMES: &[(&str, i32)] = &[
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("CHLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    let text = text.trim();
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>()
        && (1..=64).contains(&number)
    {
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, base: i32, sign: i32| {
        let rest = name.strip_prefix(prefix)?;
        let offset: i32 = if rest.is_empty() { 0 } else { rest.get(1..)?.parse().ok()? };
        Some(base + sign * offset).filter(|number| (34..=64).contains(number))
    };
    let plain = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    plain
        .or_else(|| real_time("RTMIN", 34, 1))
        .or_else(|| real_time("RTMAX", 64, -1))
        .with_context(|| format!("unknown signal {text:?}"))
}

/// Device nodes of a container: all of the machine's for a privileged one, else those asked for.
pub(crate) fn device_nodes(config: &ContainerConfig) -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    if config.security.privileged {
        all_devices(Path::new("/dev"), &mut nodes);
    }
    for Device { host, container, access } in &config.devices {
        let metadata = fs::metadata(host).with_context(|| format!("look at device {}", host.display()))?;
        if let Some(node) = device_node(&metadata, container.clone(), access) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

fn device_node(metadata: &fs::Metadata, path: PathBuf, access: &str) -> Option<DeviceNode> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    Some(DeviceNode {
        path,
        kind,
        major: i64::from(rustix::fs::major(metadata.rdev())),
        minor: i64::from(rustix::fs::minor(metadata.rdev())),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

/// Mounts of a container's own, links into `/proc`, and the nodes that every container has anyway.
const OWN_DEVICES: &[&str] =
    &["pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "random", "urandom", "tty", ".udev"];

fn all_devices(dir: &Path, nodes: &mut Vec<DeviceNode>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        let top = dir == Path::new("/dev");
        if top && OWN_DEVICES.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if metadata.is_dir() {
            all_devices(&entry.path(), nodes);
        } else {
            nodes.extend(device_node(&metadata, entry.path(), "rwm"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_all_their_forms() {
        let cases = [("", 15), ("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)];
        for (text, number) in cases {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        assert!(signal_number("SIGNOTHING").is_err());
        assert!(signal_number("99").is_err());
    }

    #[test]
    fn the_end_of_a_log_stands_for_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line = |text: &str, tag: &str| format!("2026-01-01T00:00:00.000000000Z stdout {tag} {text}\n");
        let mut log: String = (0..200).map(|index| line(&format!("line {index}"), "F")).collect();
        log.push_str(&line("half ", "P"));
        log.push_str(&line("done", "F"));
        fs::write(&path, log).unwrap();
        let end = String::from_utf8(log_end(&path).unwrap()).unwrap();
        assert!(end.ends_with("line 199\nhalf done\n"), "{end}");
        assert!(end.lines().count() <= FALLBACK_LINES);
    }
}
