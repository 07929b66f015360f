//! Starting a container: each step, and how it is taken back.
//!
//! ```text
//! files ─ group ─ shim ─ network ─ hosts, resolv.conf ─ specification ─ create ─ who attached early ─ program
//! ```

use std::{fs, io, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use container::{
    cgroup::{self, Group, Version},
    shim::{self, Events, LogFile, Rootfs, SandboxSpec, Shim, Stdio},
};
use runtime::user::Databases;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{
    Engine,
    container::{Container, life, lock, spec},
    disk,
    error::{self, Error},
    model::{
        host::LogConfig,
        record::{Record, Status},
    },
    network::ports,
};

/// The shim is about as precious as a daemon.
const SHIM_OOM_SCORE: i32 = -998;
/// Bytes of a log file that nobody bounds: none, as upstream has it.
const UNBOUNDED: u64 = 0;

/// Starts a container that does not run; whether it had to be.
pub async fn start(engine: &Engine, container: &Arc<Container>) -> error::Result<bool> {
    let _turn = container.turn.lock().await;
    match container.look(|record| record.state.status) {
        Status::Running => {
            if container.look(|record| record.state.paused) {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            return Ok(false);
        }
        Status::Removing | Status::Dead => {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
        Status::Created | Status::Exited | Status::Restarting => {}
    }
    container.change(|record| {
        record.state.restarts = 0;
        record.state.stopped_by_hand = false;
    });
    life::stop_waiting(container);
    run(engine, container).await?;
    Ok(true)
}

/// Starts a container; the caller holds its turn.
pub(crate) async fn run(engine: &Engine, container: &Arc<Container>) -> error::Result<()> {
    let sandbox = runtime::record::new_id()?;
    container.change(|record| {
        record.state.sandbox.clone_from(&sandbox);
        record.state.boot_id = engine.boot_id().to_owned();
        record.state.error.clear();
        record.state.oom_killed = false;
    });
    // Whatever happens to this process, the shim is found by this name.
    container.save(engine).await?;
    match bring_up(engine, container, &sandbox).await {
        Ok((shim, events)) => {
            container.save(engine).await?;
            container.tell(engine, "start", &[]);
            life::follow(engine, container, shim, events);
            super::health::watch(engine, container, None);
            Ok(())
        }
        Err(failed) => {
            clear(engine, container).await;
            let (code, message) = explain(&failed);
            container.change(|record| {
                record.state.exit_code = code;
                record.state.error.clone_from(&message);
                record.state.pid = 0;
                if record.state.status == Status::Restarting {
                    record.state.status = Status::Exited;
                }
            });
            container.save_or_warn(engine).await;
            lock(&container.early).clear();
            container.advance(|progress| {
                progress.exits += 1;
                progress.code = code;
                progress.error.clone_from(&message);
            });
            if container.look(|record| record.host.auto_remove) {
                life::remove_soon(engine, container);
            }
            match failed.downcast::<Error>() {
                Ok(error) => Err(error),
                Err(_) => Err(Error::new(status_of(code), message)),
            }
        }
    }
}

/// A failure as upstream's clients look for it: they find exit codes by the words.
fn explain(failed: &anyhow::Error) -> (i32, String) {
    let code = match failed.downcast_ref::<shim::Error>() {
        Some(shim::Error::ProgramNotFound(_)) => 127,
        Some(shim::Error::ProgramNotExecutable(_)) => 126,
        _ => 128,
    };
    (code, format!("failed to create task for container: {failed:#}"))
}

fn status_of(code: i32) -> http::StatusCode {
    if code == 128 { http::StatusCode::INTERNAL_SERVER_ERROR } else { http::StatusCode::BAD_REQUEST }
}

async fn bring_up(engine: &Engine, container: &Arc<Container>, sandbox: &str) -> Result<(Shim, Events)> {
    let record = container.record();
    let dir = engine.container_dir(&container.id);
    let version = Version::detect().context("detect control groups")?;
    let group = group_of(engine, &record)?;
    let (prepared, path, at) = (record.clone(), group.clone(), dir.clone());
    disk::blocking(move || prepare(&prepared, &version, &path, &at)).await?;
    let network = record.host.network_mode.as_str();
    let shares = network == "host" || network.starts_with("container:");
    let sysctls = record.host.sysctls.iter().filter(|(name, _)| name.starts_with("net.") && !shares);
    let mut sysctls: std::collections::BTreeMap<String, String> =
        sysctls.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !shares {
        for (name, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            sysctls.entry(name.into()).or_insert_with(|| value.into());
        }
    }
    let launched = SandboxSpec {
        id: sandbox.to_owned(),
        dir: dir.join("shim"),
        socket: engine.shim_socket(sandbox),
        hostname: if record.host.uts_mode == "host" { String::new() } else { record.config.hostname.clone() },
        domainname: record.config.domainname.clone(),
        host_network: shares,
        host_pid: record.host.pid_mode == "host",
        host_ipc: record.host.ipc_mode == "host",
        share_pid: record.host.init.unwrap_or(false) && record.host.pid_mode.is_empty(),
        cgroup: group.clone(),
        sysctls,
        oom_score_adj: SHIM_OOM_SCORE,
        users: None,
    };
    let shim = Shim::launch(engine.task(), engine.runtime().binary(), &launched).await.context("launch shim")?;
    container.set_shim(Some(shim.clone()));
    let events = shim.events();
    engine.networks().attach(engine, container, &shim.netns()).await?;
    let record = container.record();
    let databases = databases(engine, &record)?;
    let (built, cgroup) = (engine.clone(), group.join("main")?.as_str().to_owned());
    let (of_spec, at) = (record.clone(), files_dir(engine, &record)?);
    let spec = disk::blocking(move || spec::build(&built, &of_spec, &at, &cgroup, &databases)).await?;
    let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&container.id));
    let snapshot = snapshot.with_context(|| format!("the files of container {} are gone", container.id))?;
    let rootfs = Rootfs::Overlay {
        lowers: snapshot.lowers,
        upper: snapshot.upper,
        work: snapshot.work,
        options: Vec::new(),
        mapped: false,
    };
    let log = log_limits(&record.host.log_config)?;
    let stdio = Stdio {
        log: log.map(|(max_bytes, max_files)| LogFile { path: dir.join("logs/log"), max_bytes, max_files }),
        terminal: record.config.tty,
        stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
    };
    let pid = shim.create(sandbox, &spec, &rootfs, &stdio).await?;
    let waiting: Vec<_> = lock(&container.early).drain(..).collect();
    for early in waiting {
        let streams = shim.attach(sandbox, early.stdin).await?;
        // Who has gone meanwhile needs none.
        let _ = early.sender.send(streams);
    }
    let (rows, columns) = *lock(&container.console);
    if record.config.tty && rows > 0 && columns > 0 {
        shim.resize(sandbox, rows, columns).await?;
    }
    let started_at = shim.start(sandbox).await?;
    container.change(|record| {
        record.state.status = Status::Running;
        record.state.paused = false;
        record.state.pid = pid;
        record.state.started_at = Some(started_at);
        record.state.finished_at = None;
        record.state.exit_code = 0;
    });
    Ok((shim, events))
}

/// The image's users, and what the container made of them.
pub(crate) fn databases(engine: &Engine, record: &Record) -> Result<Databases> {
    let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&record.id));
    let snapshot = snapshot.with_context(|| format!("the files of container {} are gone", record.id))?;
    let layers: Vec<_> = std::iter::once(snapshot.upper).chain(snapshot.lowers).collect();
    Ok(Databases::read(&layers))
}

/// The directory of the files of `/etc` that a container is given: another's where it shares a network.
fn files_dir(engine: &Engine, record: &Record) -> Result<std::path::PathBuf> {
    let id = match record.host.network_mode.strip_prefix("container:") {
        Some(other) => engine.containers().find(other)?.id.clone(),
        None => record.id.clone(),
    };
    Ok(engine.container_dir(&id))
}

/// The group of a container: below it is that of its processes, `main`.
pub(crate) fn group_of(engine: &Engine, record: &Record) -> Result<cgroup::Path> {
    let mut path = cgroup::Path::new(&engine.settings().cgroup_root)?;
    for part in record.host.resources.cgroup_parent.split('/').filter(|part| !part.is_empty()) {
        path = path.join(part)?;
    }
    Ok(path.join(&record.id)?)
}

/// What is made by plain system calls.
fn prepare(record: &Record, version: &Version, group: &cgroup::Path, dir: &Path) -> Result<()> {
    for name in ["rootfs", "shim", "logs"] {
        fs::create_dir_all(dir.join(name)).with_context(|| format!("make {name} of container {}", record.id))?;
    }
    if record.host.ipc_mode == "shareable" {
        let shm = dir.join("shm");
        unmount_shm(dir);
        fs::create_dir_all(&shm).with_context(|| format!("make {}", shm.display()))?;
        let options = std::ffi::CString::new(format!("mode=1777,size={}", record.host.shm_size)).context("options")?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        rustix::mount::mount("shm", &shm, "tmpfs", flags, Some(options.as_c_str()))
            .with_context(|| format!("mount {}", shm.display()))?;
    }
    Group::create(version, group)?;
    Ok(())
}

fn unmount_shm(dir: &Path) {
    match rustix::mount::unmount(dir.join("shm"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "unmount /dev/shm of a container"),
    }
}

/// Takes away all that a run needed: shim, network, group. That something fails is logged; the next start tries again.
pub(crate) async fn clear(engine: &Engine, container: &Arc<Container>) {
    let record = container.record();
    let shim = container.shim();
    container.set_shim(None);
    if let Err(error) = engine.networks().detach(engine, container).await {
        tracing::warn!(container = container.id, %error, "take a container off its networks");
    }
    let shim = match shim {
        Some(shim) => Some(shim),
        // Launching may have failed after the shim was there.
        None if record.state.sandbox.is_empty() => None,
        None => {
            let found = Shim::connect(engine.task(), &engine.shim_socket(&record.state.sandbox)).await.ok();
            found.filter(|shim| shim.id() == record.state.sandbox)
        }
    };
    if let Some(shim) = shim
        && let Err(error) = shim.shutdown().await
    {
        tracing::warn!(container = container.id, %error, "end the shim of a container");
    }
    let (group, dir) = (group_of(engine, &record), engine.container_dir(&container.id));
    let socket = engine.shim_socket(&record.state.sandbox);
    let cleared = disk::blocking(move || {
        unmount_shm(&dir);
        let group = Group::open(&Version::detect().context("detect control groups")?, &group?);
        if group.exists() {
            group.kill(std::time::Duration::from_secs(10));
            group.remove(std::time::Duration::from_secs(5))?;
        }
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove the shim's socket"),
            _ => Ok(()),
        }
    });
    if let Err(error) = cleared.await {
        tracing::warn!(container = container.id, error = format!("{error:#}"), "clear up after a container");
    }
    ports::release(container).await;
}

/// Bytes of a log file and files kept; none where nothing is kept.
pub(crate) fn log_limits(config: &LogConfig) -> error::Result<Option<(u64, u32)>> {
    if config.kind == "none" {
        return Ok(None);
    }
    let local = config.kind == "local";
    let (mut bytes, mut files) = if local { (20 << 20, 5) } else { (UNBOUNDED, 1) };
    for (name, value) in &config.config {
        match name.as_str() {
            "max-size" => {
                bytes = size(value).ok_or_else(|| Error::invalid(format!("invalid log opt max-size: {value:?}")))?;
            }
            "max-file" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                files = number.ok_or_else(|| Error::invalid("max-file cannot be less than 1"))?;
            }
            "compress" | "mode" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" => {}
            _ => return Err(Error::invalid(format!("unknown log opt '{name}' for {} log driver", config.kind))),
        }
    }
    Ok(Some((bytes, files)))
}

/// `10m`, `1.5g`, `512`.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, unit) = match lower.char_indices().last()? {
        (at, letter) if letter.is_ascii_alphabetic() => (lower.get(..at)?, letter),
        _ => (lower, ' '),
    };
    let factor: u32 = match unit {
        ' ' => 0,
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * (1u64 << factor) as f64;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// How long a run took.
pub(crate) fn ran(record: &Record, finished_at: SystemTime) -> std::time::Duration {
    record.state.started_at.and_then(|start| finished_at.duration_since(start).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_options_of_logs_are_read() {
        for (text, bytes) in [
            ("10m", Some(10 << 20)),
            ("1.5k", Some(1536)),
            ("7", Some(7)),
            ("2GB", Some(2 << 30)),
            ("x", None),
            ("", None),
            ("-1m", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        let config = |kind: &str, pairs: &[(&str, &str)]| LogConfig {
            kind: kind.into(),
            config: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        assert_eq!(log_limits(&config("json-file", &[])).unwrap(), Some((0, 1)));
        assert_eq!(
            log_limits(&config("json-file", &[("max-size", "1m"), ("max-file", "3")])).unwrap(),
            Some((1 << 20, 3))
        );
        assert_eq!(log_limits(&config("none", &[])).unwrap(), None);
        assert!(log_limits(&config("json-file", &[("what", "1")])).is_err());
        assert!(log_limits(&config("json-file", &[("max-file", "0")])).is_err());
    }

    #[test]
    fn exit_codes_follow_the_reason() {
        let not_found = anyhow::Error::from(shim::Error::ProgramNotFound("exec: executable file not found".into()));
        assert_eq!(explain(&not_found).0, 127);
        assert_eq!(explain(&anyhow::anyhow!("x")).0, 128);
    }
}
