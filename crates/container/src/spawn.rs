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
    idmap,
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

/// Where a container is made.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The namespaces to come back to.
    pub home: &'a Home,
    /// A process whose process namespace the container joins, where its plan makes none.
    pub shared_pid: Option<BorrowedFd<'a>>,
    /// The pod's user namespace, where its plan makes none.
    pub users: Option<&'a OwnedFd>,
}

/// Starts making a container. Its control group exists already ([`make_group`]).
pub fn container(
    plan: &Plan,
    stdio: [Option<OwnedFd>; 3],
    gate: impl FnOnce() -> Gate,
    place: Place<'_>,
) -> Result<Spawned, Failure> {
    let mut flags = 0;
    let mut joins = Vec::new();
    let (mut pid_namespace, mut own_users) = (None, None);
    for namespace in &plan.namespaces {
        if namespace.path.is_empty() {
            // A cgroup namespace is made by the child once it is in its group, a time namespace before it is made.
            flags |= namespace.kind & !(NEWCGROUP | NEWTIME | NEWUSER);
            if namespace.kind == NEWUSER {
                own_users = idmap::make(0, &plan.uids, &plan.gids)?.pop().map(|(_, opened)| opened);
            }
            continue;
        }
        let opened = open_namespace(&namespace.path).context(|| format!("open namespace {}", namespace.path))?;
        match namespace.kind {
            NEWPID => pid_namespace = Some(opened),
            NEWUSER => own_users = Some(opened),
            kind => joins.push((opened, kind)),
        }
    }
    let users = own_users.as_ref().or(place.users);
    let mut mappings = Vec::new();
    for mount in plan.mounts.iter().filter(|mount| !mount.uids.is_empty()) {
        let made = idmap::make(0, &mount.uids, &mount.gids)?;
        mappings.extend(made.into_iter().map(|(_, users)| (mount.to.clone(), users)));
    }
    let (groups, group) = open_groups(plan.cgroup.as_ref())?;
    let (ours, theirs) = sync_pair()?;
    let target = match (&pid_namespace, place.shared_pid) {
        (Some(namespace), _) => Some(namespace.as_fd()),
        (None, Some(process)) if flags & NEWPID == 0 => Some(process),
        _ => None,
    };
    let new_time = plan.namespaces.iter().any(|one| one.kind == NEWTIME && one.path.is_empty());
    let offsets = new_time.then_some(plan.time_offsets.as_deref().unwrap_or_default());
    let away = Away::go(place.home, target, offsets)?;
    let setup = Setup { sync: theirs, stdio, joins, groups, sources: None, mappings };
    let group = group.as_ref().map(AsFd::as_fd);
    if let Some(users) = users {
        let sync = rustix::io::fcntl_dupfd_cloexec(&ours, 3).context(|| "copy a descriptor")?;
        let made = in_users(
            group,
            flags,
            sync,
            setup,
            |setup| child::enter_users(plan, setup, users),
            |setup| {
                drop(ours);
                child::container(plan, setup, gate())
            },
        );
        drop(away);
        return made;
    }
    let cloned = sys::clone(flags, group);
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        child::container(plan, setup, gate());
    }
    drop(away);
    parent(cloned, ours)
}

/// Makes a process whose namespaces belong to a user namespace: a first process joins that and makes a second, which takes
/// its place.
///
/// ```text
///  this ── clone ──▶ first: groups, sources, joins the user namespace
///   │                  └── clone as a brother ──▶ second: the container
///   ◀── which process that is ── ends
/// ```
fn in_users(
    group: Option<BorrowedFd<'_>>,
    namespaces: u64,
    sync: OwnedFd,
    mut setup: Setup,
    enter: impl FnOnce(&mut Setup) -> Result<(), Failure>,
    child: impl FnOnce(Setup),
) -> Result<Spawned, Failure> {
    let (hear_of, tell) = sync_pair()?;
    match sys::clone(0, group).context(|| "make a process")? {
        Cloned::Child => {
            let entered = enter(&mut setup)
                .and_then(|()| sys::clone_brother(namespaces).context(|| "make a process in the user namespace"));
            match entered {
                Ok(Cloned::Child) => {
                    drop((sync, hear_of, tell));
                    child(setup);
                    sys::exit(1)
                }
                Ok(Cloned::Parent { pidfd, .. }) => {
                    let told = crate::protocol::send(&tell, b"!", &[pidfd.as_fd()]);
                    sys::exit(i32::from(told.is_err()))
                }
                Err(failure) => child::fail(setup.sync.as_fd(), &failure),
            }
        }
        Cloned::Parent { pid, .. } => {
            drop((tell, setup));
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0; 1];
            let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
            let _ = rustix::net::recvmsg(&hear_of, &mut [io::IoSliceMut::new(&mut byte)], &mut ancillary, flags);
            sys::wait(pid);
            let pidfd = ancillary.drain().find_map(|message| match message {
                rustix::net::RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
                _ => None,
            });
            match pidfd {
                Some(pidfd) => Ok(Spawned { pid: pid_of(&pidfd)?, pidfd, sync }),
                None => match hear(sync.as_fd()) {
                    Ok(Some(Said::Failed(failure))) => Err(failure),
                    _ => Err(Failure::new("the process that joins the user namespace ended")),
                },
            }
        }
    }
}

/// The identifier of a process, as this process sees it.
fn pid_of(pidfd: &OwnedFd) -> Result<i32, Failure> {
    use std::os::fd::AsRawFd;
    let text =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).context(|| "look at a process")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.and_then(|pid| pid.trim().parse().ok()).ok_or_else(|| Failure::new("a process has no identifier"))
}

/// Makes the first process of a pod's process namespace, which runs `child`.
pub fn init(cgroup: &Cgroup, users: Option<&OwnedFd>, child: impl FnOnce()) -> Result<(i32, OwnedFd), Failure> {
    let namespaces = NEWPID | (libc::CLONE_NEWNS as u64);
    let (groups, group) = open_groups(Some(cgroup))?;
    let (ours, theirs) = sync_pair()?;
    let setup = Setup {
        sync: theirs,
        stdio: [None, None, None],
        joins: Vec::new(),
        groups,
        sources: None,
        mappings: Vec::new(),
    };
    let enter = |setup: &mut Setup| {
        for group in setup.groups.drain(..) {
            rustix::io::write(&group, b"0").context(|| "join a control group")?;
        }
        child::set_oom_score_adj(-998)
    };
    let group = group.as_ref().map(AsFd::as_fd);
    let spawned = match users {
        Some(users) => {
            let enter = |setup: &mut Setup| enter(setup).and_then(|()| child::join_users(users));
            in_users(group, namespaces, ours, setup, enter, |_| child())?
        }
        None => {
            let cloned = sys::clone(namespaces, group);
            if let Ok(Cloned::Child) = cloned {
                let mut setup = setup;
                match enter(&mut setup) {
                    Ok(()) => {
                        child();
                        sys::exit(1)
                    }
                    Err(failure) => child::fail(setup.sync.as_fd(), &failure),
                }
            }
            drop(setup);
            parent(cloned, ours)?
        }
    };
    Ok((spawned.pid, spawned.pidfd))
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
    for (kind, name) in [(NEWUSER, "user"), (NEWTIME, "time")] {
        // Joining one's own user namespace is an error, and not every kernel has the other.
        let Ok(own) = fs::read_link(format!("/proc/self/ns/{name}")) else { continue };
        if fs::read_link(format!("/proc/{pid}/ns/{name}")).context(gone)? != own {
            kinds |= kind;
        }
    }
    let init_copy = rustix::io::fcntl_dupfd_cloexec(init, 3).context(|| "copy a descriptor")?;
    let (groups, group) = open_groups(cgroup)?;
    let (ours, theirs) = sync_pair()?;
    let away = Away::go(home, Some(init), None).context_not_running()?;
    let cloned = sys::clone(0, group.as_ref().map(AsFd::as_fd));
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        let joins = vec![(init_copy, kinds)];
        let setup = Setup { sync: theirs, stdio, joins, groups, sources: None, mappings: Vec::new() };
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
