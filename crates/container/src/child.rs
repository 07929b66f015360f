//! What a new process does between `clone` and its program.
//!
//! ```text
//!  clone ─▶ groups ─▶ namespaces ─▶ root, mounts, devices ─▶ pivot ─▶ paths, limits ─▶ "ready", wait
//!                                                                                        │ start
//!            program ◀─ working directory ◀─ user, capabilities, filter ◀────────────────┘
//! ```
//!
//! The child is a copy of a process without threads, so it runs as ordinary code. What fails is told to the parent over
//! the sync socket, in words; the socket's end by `execve` tells that nothing did.

mod devices;
mod hooks;
mod identity;
mod mounts;
mod program;
mod rootfs;
pub(crate) mod tree;

use std::{
    fmt::Display,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{io::Errno, net::SendFlags};

pub use hooks::run as run_hooks;
pub use rootfs::Sources;

use crate::{
    idmap,
    plan::{Moment, Plan, Process},
    protocol::FaultKind,
    sys,
};

/// Why a child could not become what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What callers branch on.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Any failure.
    pub fn new(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Other, message: message.into() }
    }
}

/// Says what was tried when something failed.
pub(crate) trait Context<T> {
    /// `what` is only made when it is needed.
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{}: {error}", what())))
    }
}

/// First byte of what a child says.
pub const READY: u8 = b'R';
/// A failure: its kind in one byte and its text follow.
pub const FAILED: u8 = b'E';
/// The parent is to run the hooks of its side, and to answer.
pub const HOOKS: u8 = b'H';
/// The parent's answer: go on.
pub const GO: u8 = b'G';

/// What tells a created container to start.
#[derive(Debug)]
pub enum Gate {
    /// [`GO`] on the sync socket.
    Sync,
    /// A byte through this pipe, for engines whose parent process does not stay.
    Fifo(OwnedFd),
}

/// What the parent has opened for the child.
#[derive(Debug)]
pub struct Setup {
    /// The child's end of the sync socket.
    pub sync: OwnedFd,
    /// Standard input, output and error; with a terminal none of them.
    pub stdio: [Option<OwnedFd>; 3],
    /// Namespaces to join, with their kinds, in order.
    pub joins: Vec<(OwnedFd, u64)>,
    /// Version 1: the files through which it joins its control groups.
    pub groups: Vec<OwnedFd>,
    /// In a user namespace: what only the machine's root could open or mount.
    pub sources: Option<Sources>,
    /// User namespaces whose mapping single mounts have, by destination.
    pub mappings: Vec<(String, OwnedFd)>,
}

/// A container's first process. Never returns.
pub fn container(plan: &Plan, setup: Setup, gate: Gate) -> ! {
    let sync = setup.sync.as_fd();
    let failure = match become_container(plan, &setup, &gate) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    fail(sync, &failure)
}

/// A further process of a container. Never returns.
pub fn exec(process: &Process, setup: Setup) -> ! {
    let sync = setup.sync.as_fd();
    let failure = match become_exec(process, &setup) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    fail(sync, &failure)
}

/// Tells the parent of a failure, and ends.
pub fn fail(sync: BorrowedFd<'_>, failure: &Failure) -> ! {
    let mut message = vec![FAILED, failure.kind as u8];
    let mut text = failure.message.as_str();
    while text.len() > 8000 {
        text = &text[..text.floor_char_boundary(8000)];
    }
    message.extend_from_slice(text.as_bytes());
    let _ = rustix::net::send(sync, &message, SendFlags::NOSIGNAL);
    sys::exit(127)
}

fn begin(setup: &Setup) -> Result<(), Failure> {
    sys::reset_signals();
    rustix::process::setsid().context(|| "make a session")?;
    for (standard, descriptor) in setup.stdio.iter().enumerate() {
        if let Some(descriptor) = descriptor {
            sys::dup_to_standard(descriptor, standard as i32).context(|| "set standard streams")?;
        }
    }
    for group in &setup.groups {
        rustix::io::write(group, b"0").context(|| "join a control group")?;
    }
    Ok(())
}

fn join(setup: &Setup) -> Result<(), Failure> {
    for (namespace, kinds) in &setup.joins {
        sys::setns(namespace, *kinds).context(|| "join a namespace")?;
        if kinds & libc::CLONE_NEWUSER as u64 != 0 {
            become_root()?;
        }
    }
    Ok(())
}

/// What is done for a container in a user namespace while this process still is the machine's root: control groups, sources
/// of mounts. Then it joins the namespace. What it makes next belongs there.
pub fn enter_users(plan: &Plan, setup: &mut Setup, users: &OwnedFd) -> Result<(), Failure> {
    for group in setup.groups.drain(..) {
        rustix::io::write(&group, b"0").context(|| "join a control group")?;
    }
    let process = plan.process.as_ref().ok_or_else(|| Failure::new("the plan has no process"))?;
    oom_score_adj(process)?;
    if let Some(uid) = idmap::outside(&plan.uids, process.uid) {
        // Nobody inside could: the streams belong to a user that does not exist there.
        for stream in setup.stdio.iter().flatten() {
            identity::give_stream(stream.as_fd(), uid);
        }
    }
    identity::raise_limits(process)?;
    setup.sources = Some(rootfs::gather(plan, users, &setup.mappings)?);
    join_users(users)
}

/// Joins a user namespace, as its root.
pub fn join_users(users: &OwnedFd) -> Result<(), Failure> {
    sys::setns(users, libc::CLONE_NEWUSER as u64).context(|| "join the user namespace")?;
    become_root()
}

/// In a new user namespace a process has all capabilities, but is nobody until it says otherwise.
fn become_root() -> Result<(), Failure> {
    sys::setgid(0).context(|| "become group 0 of the user namespace")?;
    sys::setuid(0).context(|| "become user 0 of the user namespace")?;
    match sys::setgroups(&[]) {
        // Where the mapping forbids it there is none to drop.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error).context(|| "drop groups"),
    }
}

fn wait_for_go(sync: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut answer = [0; 1];
    match rustix::net::recv(sync, &mut answer[..], rustix::net::RecvFlags::empty()) {
        Ok((1, _)) if answer[0] == GO => Ok(()),
        Ok(_) => sys::exit(1),
        Err(error) => Err(error).context(|| "wait for the parent"),
    }
}

fn say(sync: BorrowedFd<'_>, message: &[u8]) -> Result<(), Failure> {
    rustix::net::send(sync, message, SendFlags::NOSIGNAL).context(|| "talk to the parent").map(drop)
}

fn oom_score_adj(process: &Process) -> Result<(), Failure> {
    match process.oom_score_adj {
        Some(score) => set_oom_score_adj(score),
        None => Ok(()),
    }
}

/// Sets this process's score. Where this machine's root may not lower it, it stays as it is.
pub fn set_oom_score_adj(score: i32) -> Result<(), Failure> {
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.context(|| format!("set oom_score_adj to {score}")),
    }
}

fn become_container(plan: &Plan, setup: &Setup, gate: &Gate) -> Result<std::convert::Infallible, Failure> {
    let sync = setup.sync.as_fd();
    let process = plan.process.as_ref().ok_or_else(|| Failure::new("the plan has no process"))?;
    let own = |kind: i32| plan.namespaces.iter().any(|one| one.kind == kind as u64 && one.path.is_empty());
    begin(setup)?;
    oom_score_adj(process)?;
    join(setup)?;
    if own(libc::CLONE_NEWCGROUP) {
        sys::unshare(libc::CLONE_NEWCGROUP as u64).context(|| "make a cgroup namespace")?;
    }
    if let Some(name) = &plan.hostname {
        sys::set_hostname(name).context(|| format!("set host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        sys::set_domainname(name).context(|| format!("set domain name {name:?}"))?;
    }
    for setting in &plan.sysctls {
        fs::write(format!("/proc/sys/{}", setting.name), &setting.value)
            .context(|| format!("set sysctl {} to {:?}", setting.name, setting.value))?;
    }

    let mut root = rootfs::prepare(plan, setup.sources.as_ref())?;
    for mount in &plan.mounts {
        mounts::make(&mut root, mount, &setup.mappings)?;
    }
    if !plan.mounts.iter().any(|mount| mount.to == "/dev" && mount.source() == crate::plan::Source::Bind) {
        devices::make(&root, &plan.devices)?;
    }
    let terminal = if process.terminal { Some(devices::terminal(&root, process)?) } else { None };
    make_working_directory(&root, process)?;

    if plan.hooks.iter().any(|hook| matches!(hook.moment(), Moment::Prestart | Moment::CreateRuntime)) {
        say(sync, &[HOOKS])?;
        wait_for_go(sync)?;
    }
    hooks::run(plan, Moment::CreateContainer, "creating", std::process::id() as i32)?;
    for path in &plan.readonly {
        rootfs::make_readonly(&root, path).context(|| format!("make {path} read-only"))?;
    }
    rootfs::mask(&root, &plan.masked)?;
    root.enter(plan)?;

    if let Some(domain) = plan.personality {
        sys::personality(domain).context(|| "set personality")?;
    }
    if let Some((_, slave)) = &terminal {
        sys::set_controlling_terminal(slave).context(|| "set the controlling terminal")?;
        for standard in 0..3 {
            sys::dup_to_standard(slave, standard).context(|| "set standard streams")?;
        }
    }
    if !process.keep_keyring {
        sys::join_session_keyring().or_else(without_keyrings).context(|| "make a session keyring")?;
    }
    let program = program::Program::find(process)?;
    identity::limit(process)?;
    sys::close_on_exec_from(3 + process.inherited).context(|| "close descriptors")?;

    match &terminal {
        Some((master, _)) => ready_with_terminal(sync, master)?,
        None => say(sync, &[READY])?,
    }
    drop(terminal);
    match gate {
        Gate::Sync => wait_for_go(sync)?,
        Gate::Fifo(fifo) => {
            rustix::io::read(fifo, &mut [0; 1][..]).context(|| "wait for the start")?;
        }
    }
    hooks::run(plan, Moment::StartContainer, "created", std::process::id() as i32)?;
    identity::take(process)?;
    program.run(process)
}

fn become_exec(process: &Process, setup: &Setup) -> Result<std::convert::Infallible, Failure> {
    let sync = setup.sync.as_fd();
    // Until it runs the program, what is open here must not be reached from inside.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).context(|| "forbid tracing")?;
    begin(setup)?;
    oom_score_adj(process)?;
    join(setup)?;
    if process.terminal {
        let (master, slave) = devices::exec_terminal(process)?;
        sys::set_controlling_terminal(&slave).context(|| "set the controlling terminal")?;
        for standard in 0..3 {
            sys::dup_to_standard(&slave, standard).context(|| "set standard streams")?;
        }
        ready_with_terminal(sync, &master)?;
    }
    if !process.keep_keyring {
        sys::join_session_keyring().or_else(without_keyrings).context(|| "make a session keyring")?;
    }
    let program = program::Program::find(process)?;
    identity::limit(process)?;
    sys::close_on_exec_from(3 + process.inherited).context(|| "close descriptors")?;
    identity::take(process)?;
    program.run(process)
}

/// Kernels without keyrings have none to leak, and a full quota is no reason to refuse a container.
fn without_keyrings(error: Errno) -> rustix::io::Result<()> {
    match error {
        Errno::NOSYS | Errno::PERM | Errno::DQUOT | Errno::ACCESS => Ok(()),
        other => Err(other),
    }
}

fn ready_with_terminal(sync: BorrowedFd<'_>, master: &OwnedFd) -> Result<(), Failure> {
    crate::protocol::send(sync, &[READY], &[master.as_fd()]).context(|| "hand over the terminal").map(drop)
}

fn make_working_directory(root: &rootfs::Prepared, process: &Process) -> Result<(), Failure> {
    // A program's directory that is missing in the image is made, and belongs to root, as in every runtime.
    tree::ensure(root.directory(), &process.cwd, tree::Leaf::Directory)
        .context(|| format!("make working directory {}", process.cwd))
        .map(drop)
        .or_else(|failure| {
            // A read-only root may lack it: then running the program says so.
            if root.is_writable() { Err(failure) } else { Ok(()) }
        })
}
