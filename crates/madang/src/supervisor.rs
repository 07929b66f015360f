//! The supervisor: prepares the instance, opens its sockets, starts the roles and starts them again when they end.
//!
//! ```text
//! lock ─ keys ─ sockets ─ start roles ─ all ready ─ "ready in N ms"
//!                            ▲    │ ended: wait 100 ms, 200 ms ... 10 s
//!                            └────┘
//! SIGTERM, SIGINT: edge, node, control; containers go on
//! ```
//!
//! It does no work of its own, so that nothing but the kernel can bring it down.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use task::Task;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    config::Config,
    kubeconfig,
    link::{Hello, Link, Said},
    pki,
    sockets::Sockets,
    status::{self, RoleState, Status},
};

/// A role: what it is called, which sockets it gets, and as whom it runs.
struct Role {
    name: &'static str,
    sockets: &'static [&'static str],
    user: User,
    /// How many arenas its allocator may have.
    arenas: fn() -> usize,
}

/// As whom a role runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    Control,
    Edge,
}

/// In the order of their start; they end in the reverse order.
const ROLES: &[Role] = &[
    Role { name: "control", sockets: &["api"], user: User::Control, arenas: || 2 },
    Role { name: "node", sockets: &["node", "dns-tcp", "dns-udp", "content"], user: User::Root, arenas: || 1 },
    Role { name: "edge", sockets: EDGE_SOCKETS, user: User::Edge, arenas: || 1 + serve::lanes::count() },
];

const EDGE_SOCKETS: &[&str] = &[
    "registry",
    "registry-tls",
    "prometheus",
    "prometheus-tls",
    "console",
    "console-tls",
    "gateway-http",
    "gateway-https",
];

/// The parts of the role edge.
const EDGE: &[&str] = &["registry", "metrics", "console", "pipeline", "gateway"];

const FIRST_RESTART: Duration = Duration::from_millis(100);
const LAST_RESTART: Duration = Duration::from_secs(10);
/// A role that ran this long starts again without delay.
const SETTLED: Duration = Duration::from_secs(60);
/// The file that every role has open while it runs.
pub const ALIVE: &str = "alive";
/// How long roles of a supervisor that was killed are waited for, and how often they are looked at.
const LAST_OF_OTHERS: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How long a role may take to end.
const STOP: Duration = Duration::from_secs(20);

/// Runs an instance until it is told to stop. `only` names the one role to run.
pub fn run(mut config: Config, only: Option<&str>) -> Result<()> {
    let started = Instant::now();
    if let Some(unknown) = only.filter(|name| !ROLES.iter().any(|role| role.name == *name)) {
        bail!("--role {unknown}: there are control, node and edge");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("running containers needs root: start `madang server` with sudo");
    }
    config.only = only.map(str::to_owned);
    let lock = prepare(&config)?;
    let files = pki::Files::of(&config);
    files.prepare(&config)?;
    let alive = after_others(&config)?;
    let mut sockets = Sockets::open(&mut config)?;
    sockets.add(ALIVE, alive);
    config.keep()?;
    kubeconfig::write(&config, &files)?;
    pki::write(&config.run_dir.join("ports.json"), &serde_json::to_vec(&config.ports)?, None, 0o644)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(supervise(config, sockets, only, started));
    drop(lock);
    done
}

/// Makes the directories and makes sure that no other server uses them.
fn prepare(config: &Config) -> Result<fs::File> {
    for (path, mode, owner) in [
        (config.data_dir.clone(), 0o755, None),
        (config.data_dir.join("store"), 0o700, Some(config.control_uid)),
        (config.data_dir.join("registry"), 0o700, Some(config.edge_uid)),
        (config.data_dir.join("metrics"), 0o700, Some(config.edge_uid)),
        (config.data_dir.join("git"), 0o700, Some(config.edge_uid)),
        (config.data_dir.join("pipelines"), 0o700, Some(config.edge_uid)),
        (console::session::Place::of(&config.data_dir).path().to_owned(), 0o700, Some(config.edge_uid)),
        (config.run_dir.clone(), 0o755, None),
    ] {
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("set mode of {}", path.display()))?;
        if owner.is_some() {
            std::os::unix::fs::chown(&path, owner, owner).with_context(|| format!("give {} away", path.display()))?;
        }
    }
    let path = config.data_dir.join("lock");
    let lock = fs::File::options().create(true).write(true).truncate(false).open(&path)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "{} is in use by another `madang server`: stop that one, or give --data-dir and --run-dir of its own",
            config.data_dir.display()
        );
    }
    Ok(lock)
}

/// Waits for the roles of a supervisor that was killed: they hold its sockets, and its state, for as long as they end.
/// Roles have the file that comes back open, and the lock on it goes with the last of them.
fn after_others(config: &Config) -> Result<OwnedFd> {
    let path = config.data_dir.join("roles");
    let file = fs::File::options().create(true).write(true).truncate(false).open(&path)?;
    let tries = LAST_OF_OTHERS.as_millis() / LOOK.as_millis();
    for turn in 0..tries {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(file.into());
        }
        if turn == 0 {
            eprintln!("waiting for parts of a server that was killed to end");
        }
        std::thread::sleep(LOOK);
    }
    bail!(
        "parts of an earlier `madang server` still use {} after {} s: end them (pgrep -f 'madang role')",
        config.data_dir.display(),
        LAST_OF_OTHERS.as_secs()
    )
}

async fn supervise(config: Config, sockets: Sockets, only: Option<&str>, started: Instant) -> Result<()> {
    let task = Task::root("supervisor");
    let wanted = |role: &&Role| {
        let needed = role.user != User::Edge || EDGE.iter().any(|part| config.with(part));
        only.map_or(needed, |only| only == role.name)
    };
    let roles: Vec<&Role> = ROLES.iter().filter(wanted).collect();
    let states: BTreeMap<String, RoleState> =
        roles.iter().map(|role| (role.name.to_owned(), RoleState::Starting)).collect();
    let status = watch::Sender::new(Status { ready: false, roles: states, ports: config.ports.clone() });
    status::serve(&task, &config.run_dir, status.subscribe())?;
    let sockets = std::sync::Arc::new(sockets);
    let mut stops = Vec::new();
    for role in roles {
        let (stop, stopped) = watch::channel(false);
        let (ended, end) = tokio::sync::oneshot::channel();
        let (config, sockets, status) = (config.clone(), sockets.clone(), status.clone());
        task.spawn("role", async move {
            keep(role, &config, &sockets, &status, stopped).await;
            let _ = ended.send(());
        });
        stops.push((stop, end));
    }
    let mut changes = status.subscribe();
    task.spawn("announce", async move {
        if changes.wait_for(|status| status.ready).await.is_ok() {
            eprintln!("ready in {} ms", started.elapsed().as_millis());
        }
    });
    crate::app::settle(&task);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    tracing::info!("stopping; containers go on");
    for (stop, end) in stops.into_iter().rev() {
        stop.send_replace(true);
        let _ = end.await;
    }
    task.drain(Duration::from_secs(1)).await;
    Ok(())
}

/// Starts a role and starts it again whenever it ends, until told to stop.
async fn keep(
    role: &Role,
    config: &Config,
    sockets: &Sockets,
    status: &watch::Sender<Status>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut delay = FIRST_RESTART;
    loop {
        let started = Instant::now();
        status.send_modify(|status| status.set(role.name, RoleState::Starting));
        let ended = once(role, config, sockets, status, &mut stopped).await;
        if *stopped.borrow() {
            return;
        }
        if started.elapsed() > SETTLED {
            delay = FIRST_RESTART;
        }
        match ended {
            Ok(how) => tracing::error!(role = role.name, %how, ?delay, "role ended; starting it again"),
            Err(error) => tracing::error!(role = role.name, error = format!("{error:#}"), ?delay, "role did not start"),
        }
        tokio::select! { () = tokio::time::sleep(delay) => {}, () = told(&mut stopped) => return }
        delay = (delay * 2).min(LAST_RESTART);
    }
}

async fn once(
    role: &Role,
    config: &Config,
    sockets: &Sockets,
    status: &watch::Sender<Status>,
    stopped: &mut watch::Receiver<bool>,
) -> Result<std::process::ExitStatus> {
    let (mine, theirs) = Link::pair()?;
    let (names, descriptors) = sockets.borrow(&[role.sockets, &[ALIVE]].concat());
    mine.greet(&Hello { config: config.clone(), sockets: names }, &descriptors)?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("madang").args(["role", role.name]).stdin(Stdio::from(theirs.into_fd()));
    let arenas = (role.arenas)().to_string();
    for (name, value) in [("MALLOC_ARENA_MAX", arenas.as_str())].into_iter().chain(THRESHOLDS) {
        command.env(name, std::env::var_os(name).unwrap_or_else(|| value.into()));
    }
    let user = match role.user {
        User::Root => None,
        User::Control => Some(config.control_uid),
        User::Edge => Some(config.edge_uid),
    };
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    let mut child = Command::from(command).kill_on_drop(true).spawn().context("start role")?;
    let link = mine.watch()?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended.context("wait for role"),
            said = link.heard() => match said {
                Ok(Some(Said::Ready)) => status.send_modify(|status| status.set(role.name, RoleState::Ready)),
                Ok(None) | Err(_) => return child.wait().await.context("wait for role"),
            },
            () = told(stopped) => return stop(child, role).await,
        }
    }
}

/// Has glibc's allocator give large pieces back at once. With few arenas for the threads of a role, it keeps less of what was
/// freed; measured in `docs/decisions/0002-allocator.md`. The environment may say otherwise.
const THRESHOLDS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Resolves once the role is to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn stop(mut child: Child, role: &Role) -> Result<std::process::ExitStatus> {
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    match tokio::time::timeout(STOP, child.wait()).await {
        Ok(ended) => ended.context("wait for role"),
        Err(_) => {
            tracing::warn!(role = role.name, "did not stop in time; killing it");
            child.kill().await.context("kill role")?;
            child.wait().await.context("wait for role")
        }
    }
}
