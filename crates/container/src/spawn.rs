//! Making a container's processes, as their parent sees it.
//!
//! ```text
//!  parent                                        child
//!  open namespaces, groups ── clone ───────────▶ set-up (see `child`)
//!  hooks of the machine's side ◀── HOOKS ──────── (only where there are such hooks)
//!                              ─── GO ─────────▶
//!                              ◀── READY, terminal
//!                              ─── GO ─────────▶ runs the program: the socket ends
//! ```
//!
//! The parent never waits: it hears from the child by the sync socket, among everything else that it hears of.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path as FilePath,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
};

use crate::{
    cgroup,
    child::{self, Context, Failure, Gate, Setup},
    plan::{Cgroup, Plan, Process, Write},
    sys::{self, Cloned},
};

/// A child in the making.
#[derive(Debug)]
pub struct Spawned {
    /// Its process identifier, as this process sees it.
    pub pid: i32,
    /// The process itself.
    pub pidfd: OwnedFd,
    /// The parent's end of the sync socket.
    pub sync: OwnedFd,
}

/// This process's own namespaces, to come back to after making a child elsewhere.
#[derive(Debug)]
pub struct Home {
    pid: OwnedFd,
    time: Option<OwnedFd>,
}

impl Home {
    /// Remembers them.
    pub fn here() -> rustix::io::Result<Self> {
        Ok(Self { pid: open_namespace("/proc/self/ns/pid")?, time: open_namespace("/proc/self/ns/time").ok() })
    }
}

/// Opens a namespace's file.
pub fn open_namespace(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

const NEWPID: u64 = libc::CLONE_NEWPID as u64;
const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
const NEWTIME: u64 = libc::CLONE_NEWTIME as u64;
const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

/// Starts making a container. `shared_pid` is a process whose process namespace it joins, where the plan makes none. The
/// control group exists already ([`make_group`]).
pub fn container(
    plan: &Plan,
    stdio: [Option<OwnedFd>; 3],
    gate: impl FnOnce() -> Gate,
    shared_pid: Option<BorrowedFd<'_>>,
    home: &Home,
) -> Result<Spawned, Failure> {
    let mut flags = 0;
    let mut joins = Vec::new();
    let mut pid_namespace = None;
    for namespace in &plan.namespaces {
        if namespace.path.is_empty() {
            // A cgroup namespace is made by the child once it is in its group, a time namespace before it is made.
            flags |= namespace.kind & !(NEWCGROUP | NEWTIME);
            continue;
        }
        let opened = open_namespace(&namespace.path).context(|| format!("open namespace {}", namespace.path))?;
        if namespace.kind == NEWPID {
            pid_namespace = Some(opened);
        } else {
            joins.push((opened, namespace.kind));
        }
    }
    // The user namespace decides about the others.
    joins.sort_by_key(|(_, kind)| *kind != NEWUSER);
    let (groups, group) = open_groups(plan.cgroup.as_ref())?;
    let (ours, theirs) = sync_pair()?;
    let target = match (&pid_namespace, shared_pid) {
        (Some(namespace), _) => Some(namespace.as_fd()),
        (None, Some(process)) if flags & NEWPID == 0 => Some(process),
        _ => None,
    };
    let new_time = plan.namespaces.iter().any(|one| one.kind == NEWTIME && one.path.is_empty());
    let away = Away::go(home, target, new_time.then_some(plan.time_offsets.as_deref().unwrap_or_default()))?;
    let cloned = sys::clone(flags, group.as_ref().map(AsFd::as_fd));
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        let setup = Setup { sync: theirs, stdio, joins, groups };
        child::container(plan, setup, gate());
    }
    drop(away);
    parent(cloned, ours)
}

/// Starts a further process in the namespaces of process `init`, whose identifier is `pid`.
pub fn exec(
    process: &Process,
    stdio: [Option<OwnedFd>; 3],
    init: BorrowedFd<'_>,
    pid: i32,
    cgroup: Option<&Cgroup>,
    home: &Home,
) -> Result<Spawned, Failure> {
    let gone = || "container is not running".to_owned();
    let mut kinds = (libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC) as u64
        | libc::CLONE_NEWNET as u64;
    let users = format!("/proc/{pid}/ns/user");
    let own_users = fs::read_link("/proc/self/ns/user").context(gone)?;
    if fs::read_link(&users).context(gone)? != own_users {
        kinds |= NEWUSER;
    }
    let init_copy = rustix::io::fcntl_dupfd_cloexec(init, 3).context(|| "copy a descriptor")?;
    let (groups, group) = open_groups(cgroup)?;
    let (ours, theirs) = sync_pair()?;
    let away = Away::go(home, Some(init), None).context_not_running()?;
    let cloned = sys::clone(0, group.as_ref().map(AsFd::as_fd));
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        let setup = Setup { sync: theirs, stdio, joins: vec![(init_copy, kinds)], groups };
        child::exec(process, setup);
    }
    drop(away);
    // What a process namespace without its first process answers.
    if let Err(Errno::NOMEM | Errno::SRCH) = cloned {
        return Err(Failure { kind: crate::protocol::FaultKind::State, message: gone() });
    }
    parent(cloned, ours)
}

trait NotRunning<T> {
    fn context_not_running(self) -> Result<T, Failure>;
}

impl<T> NotRunning<T> for Result<T, Failure> {
    fn context_not_running(self) -> Result<T, Failure> {
        self.map_err(|failure| Failure { kind: crate::protocol::FaultKind::State, ..failure })
    }
}

fn parent(cloned: rustix::io::Result<Cloned>, sync: OwnedFd) -> Result<Spawned, Failure> {
    match cloned.context(|| "make a process")? {
        Cloned::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, sync }),
        Cloned::Child => unreachable!("the child does not return"),
    }
}

fn sync_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .context(|| "make a pair of sockets")
}

/// Elsewhere for the children that are made meanwhile; this process itself stays. Comes back when dropped.
struct Away<'a> {
    home: &'a Home,
    pid: bool,
    time: bool,
}

impl<'a> Away<'a> {
    fn go(home: &'a Home, pid: Option<BorrowedFd<'_>>, time_offsets: Option<&str>) -> Result<Self, Failure> {
        let mut away = Self { home, pid: false, time: false };
        if let Some(target) = pid {
            sys::setns(target, NEWPID).context(|| "join a process namespace")?;
            away.pid = true;
        }
        if let Some(offsets) = time_offsets {
            sys::unshare(NEWTIME).context(|| "make a time namespace")?;
            away.time = true;
            if !offsets.is_empty() {
                fs::write("/proc/self/timens_offsets", offsets).context(|| "set clock offsets")?;
            }
        }
        Ok(away)
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        if self.pid {
            let _ = sys::setns(&self.home.pid, NEWPID);
        }
        if let (true, Some(time)) = (self.time, &self.home.time) {
            let _ = sys::setns(time, NEWTIME);
        }
    }
}

/// Version 1: files to join by. Version 2: the directory to be made in.
fn open_groups(cgroup: Option<&Cgroup>) -> Result<(Vec<OwnedFd>, Option<OwnedFd>), Failure> {
    let Some(cgroup) = cgroup else { return Ok((Vec::new(), None)) };
    let open = |path: &str, flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open control group {path}"))
    };
    if cgroup.version == 2 {
        let directory =
            cgroup.directories.first().ok_or_else(|| Failure::new("a control group without a directory"))?;
        return Ok((Vec::new(), Some(open(directory, OFlags::RDONLY | OFlags::DIRECTORY)?)));
    }
    let mut files = Vec::new();
    for directory in &cgroup.directories {
        files.push(open(&format!("{directory}/cgroup.procs"), OFlags::WRONLY)?);
    }
    Ok((files, None))
}

/// Makes a control group and limits it. Gives the device program of version 2, to be replaced later.
pub fn make_group(version: &cgroup::Version, cgroup: &Cgroup) -> Result<Option<OwnedFd>, Failure> {
    let path = cgroup::Path::new(&cgroup.path).context(|| "control group")?;
    cgroup::Group::create(version, &path).context(|| format!("make control group {path}"))?;
    write_all(&cgroup.writes)?;
    attach_program(cgroup, &cgroup.device_program, None)
}

/// Attaches a device program in place of an earlier one. On version 1 there is none.
pub fn attach_program(
    cgroup: &Cgroup,
    program: &[u8],
    earlier: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>, Failure> {
    let (2, Some(directory), false) = (cgroup.version, cgroup.directories.first(), program.is_empty()) else {
        return Ok(None);
    };
    let group =
        rustix::fs::open(directory.as_str(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open control group {directory}"))?;
    sys::attach_device_program(&group, program, earlier).context(|| "limit devices").map(Some)
}

/// Writes control files.
pub fn write_all(writes: &[Write]) -> Result<(), Failure> {
    for write in writes {
        match cgroup::write_file(FilePath::new(&write.file), &write.value) {
            Ok(()) => {}
            Err(_) if write.optional => {}
            Err(error) => return Err(refused(write, &error)),
        }
    }
    Ok(())
}

fn refused(write: &Write, error: &io::Error) -> Failure {
    Failure::new(format!("write {:?} to {}: {error}", write.value, write.file))
}

/// What a child says.
#[derive(Debug)]
pub enum Said {
    /// It wants the hooks of the machine's side run, and [`child::GO`].
    Hooks,
    /// It is set up and waits (a container), or has a terminal to hand over (a further process).
    Ready(Option<OwnedFd>),
    /// It failed.
    Failed(Failure),
    /// It runs its program, or is dead.
    Silent,
}

/// Hears one message of a child. `None` where there is none yet.
pub fn hear(sync: BorrowedFd<'_>) -> io::Result<Option<Said>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0u8; 8192];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match rustix::net::recvmsg(sync, &mut [io::IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        // The child has gone with a message of ours unread.
        Err(Errno::CONNRESET) => return Ok(Some(Said::Silent)),
        other => other?,
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptor = rights.last();
        }
    }
    Ok(Some(match buffer[..received.bytes] {
        [] => Said::Silent,
        [child::HOOKS, ..] => Said::Hooks,
        [child::READY, ..] => Said::Ready(descriptor),
        [child::FAILED, kind, ref text @ ..] => Said::Failed(Failure {
            kind: i32::from(kind).try_into().unwrap_or(crate::protocol::FaultKind::Other),
            message: String::from_utf8_lossy(text).into_owned(),
        }),
        _ => Said::Failed(Failure::new("a child said what nobody understands")),
    }))
}

/// Lets a child go on.
pub fn go(sync: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::net::send(sync, &[child::GO], rustix::net::SendFlags::NOSIGNAL).map(drop)
}
