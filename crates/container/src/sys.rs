//! System calls that `rustix` does not wrap, or only for processes with threads.
//!
//! Everything unsafe that shim and children need is here, in functions that are safe to call in a process without threads.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    ffi::{CStr, c_char, c_int, c_long},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::io::Errno;

/// The result of a call that gives -1 on failure.
fn check(result: c_long) -> rustix::io::Result<c_long> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Too wide for the type that `libc` gives its siblings.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// The one that called.
    Parent {
        /// The child.
        pid: i32,
        /// The child, without mistaking another for it.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// Makes a child, as `fork` does, in new namespaces and in a control group of version 2.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> rustix::io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeros is a valid value of this struct of numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has memory of its own, and goes on as this process would: it has no other
    // threads whose locks could be held. The arguments outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of_val(&arguments)) };
    match check(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just given us this descriptor.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Makes a brother of this process, a child of its parent, in new namespaces. The parent hears of its end as of this
/// process's own.
pub fn clone_brother(namespaces: u64) -> rustix::io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeros is a valid value of this struct of numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | (libc::CLONE_PIDFD | libc::CLONE_PARENT) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // SAFETY: as in `clone`.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of_val(&arguments)) };
    match check(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just given us this descriptor.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Moves into the namespaces of `kinds` that `fd` names.
pub fn setns(fd: impl AsFd, kinds: u64) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), kinds as c_int) }.into()).map(drop)
}

/// Makes new namespaces for this process.
pub fn unshare(kinds: u64) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed. Of file descriptors and memory nothing is unshared.
    check(unsafe { libc::unshare(kinds as c_int) }.into()).map(drop)
}

/// What is changed about a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountChange<'a> {
    /// `MOUNT_ATTR_…`.
    pub set: u64,
    /// `MOUNT_ATTR_…`.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// The user namespace by whose mapping identifiers are mapped.
    pub users: Option<BorrowedFd<'a>>,
    /// Also everything below.
    pub below: bool,
}

/// Changes a mount that a descriptor names.
pub fn mount_setattr(mount: impl AsFd, change: &MountChange<'_>) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set | if change.users.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: change.users.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if change.below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes outlive the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    check(result).map(drop)
}

/// Marks all descriptors from `first` on to be closed by `execve`.
pub fn close_on_exec_from(first: u32) -> rustix::io::Result<()> {
    // SAFETY: nothing is closed now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result).map(drop)
}

/// Closes all descriptors from `first` on, which nobody in this process may own.
pub fn close_from(first: u32) -> rustix::io::Result<()> {
    // SAFETY: called at the beginning of `main`, when what is open was only inherited.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Runs another program in this process. Returns only what went wrong.
pub fn execve(path: &CStr, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    debug_assert!(arguments.last().is_some_and(|last| last.is_null()));
    debug_assert!(environment.last().is_some_and(|last| last.is_null()));
    // SAFETY: both lists end with a null pointer, and their strings with a zero byte.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Runs an open file in this process. Returns only what went wrong.
pub fn execveat(file: impl AsFd, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    debug_assert!(arguments.last().is_some_and(|last| last.is_null()));
    debug_assert!(environment.last().is_some_and(|last| last.is_null()));
    let file = file.as_fd().as_raw_fd();
    // SAFETY: both lists end with a null pointer, and their strings with a zero byte.
    unsafe {
        libc::execveat(file, c"".as_ptr(), arguments.as_ptr().cast(), environment.as_ptr().cast(), libc::AT_EMPTY_PATH)
    };
    last_error()
}

/// Ends this process at once, without running anything of the parent's.
pub fn exit(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

/// Signals as a new program expects them: none blocked, none ignored.
pub fn reset_signals() {
    // SAFETY: the sets are initialised by `sigemptyset`, and SIG_DFL is a valid disposition.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Blocks the signals that a descriptor shall give, and opens it.
pub fn signal_descriptor(signals: &[c_int]) -> rustix::io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset`; the descriptor is new.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Lets writes to closed pipes fail rather than kill.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// A child that has ended: its process identifier, exit code and signal (the other is 0).
pub fn reap() -> Option<(i32, i32, i32)> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    if pid <= 0 {
        return None;
    }
    if libc::WIFSIGNALED(status) {
        Some((pid, 0, libc::WTERMSIG(status)))
    } else {
        Some((pid, libc::WEXITSTATUS(status), 0))
    }
}

/// Waits for one child to end: its exit code, 128 and the signal's number where one killed it.
pub fn wait(pid: i32) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: the status outlives the call.
        let result = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if result == pid {
            break;
        }
        if result < 0 && last_error() != Errno::INTR {
            return 0;
        }
    }
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Sends any signal, by number.
pub fn kill(pidfd: impl AsFd, signal: i32) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0)
    };
    check(result).map(drop)
}

/// Sends any signal to a process by its identifier.
pub fn kill_pid(pid: i32, signal: i32) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sets the three capability sets of this process.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> rustix::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |shift: u32| Half {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: header and both halves outlive the call, and version 3 has two.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) }).map(drop)
}

/// The permitted capabilities of this process.
pub fn permitted_capabilities() -> rustix::io::Result<u64> {
    Ok(capget()?[1])
}

/// The effective, permitted and inheritable capabilities of this process.
fn capget() -> rustix::io::Result<[u64; 3]> {
    let header = [0x2008_0522u32, 0];
    let mut halves = [[0u32; 3]; 2];
    // SAFETY: header and both halves outlive the call, and version 3 has two.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), halves.as_mut_ptr()) })?;
    Ok([0, 1, 2].map(|set| u64::from(halves[0][set]) | u64::from(halves[1][set]) << 32))
}

/// Whom files belong to that this process makes from now on. Its rights over files stay: the kernel takes them from whoever
/// stops being root in this respect.
pub fn make_files_as(uid: u32, gid: u32) -> rustix::io::Result<()> {
    let [effective, permitted, inheritable] = capget()?;
    // SAFETY: no memory is passed.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
    // The calls say who it was before, whatever they did; nobody's number changes nothing.
    // SAFETY: no memory is passed.
    let now = unsafe { [libc::syscall(libc::SYS_setfsuid, u32::MAX), libc::syscall(libc::SYS_setfsgid, u32::MAX)] };
    if now.map(|id| id as u32) != [uid, gid] {
        return Err(Errno::PERM);
    }
    capset(effective, permitted, inheritable)
}

/// `prctl` with numbers only.
pub fn prctl(option: c_int, one: u64, two: u64) -> rustix::io::Result<c_long> {
    // SAFETY: the callers' options take no addresses.
    check(unsafe { libc::prctl(option, one, two, 0, 0) }.into())
}

/// Loads a system call filter for this process.
pub fn seccomp(program: &[u8], flags: u32) -> rustix::io::Result<()> {
    let Ok(length) = u16::try_from(program.len() / 8) else { return Err(Errno::INVAL) };
    // The kernel wants its own alignment.
    let words: Vec<u64> =
        program.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default())).collect();
    let filter = libc::sock_fprog { len: length, filter: words.as_ptr().cast_mut().cast() };
    // SAFETY: the filter's instructions are eight bytes each and outlive the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    check(result).map(drop)
}

/// `setgroups`, for this process without threads.
pub fn setgroups(groups: &[u32]) -> rustix::io::Result<()> {
    // SAFETY: the list outlives the call and the length is its own.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// `setresgid` with the same group three times.
pub fn setgid(gid: u32) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// `setresuid` with the same user three times.
pub fn setuid(uid: u32) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// `setrlimit`, by number.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: the limit outlives the call; no old one is asked for.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), ptr::null_mut::<u64>()) };
    check(result).map(drop)
}

/// `getrlimit`, by number: the soft and the hard limit.
pub fn getrlimit(resource: u32) -> rustix::io::Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: no new limit is passed; the old one outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::null::<u64>(), limit.as_mut_ptr()) };
    check(result).map(|_| (limit[0], limit[1]))
}

/// A session keyring of this process's own.
pub fn join_session_keyring() -> rustix::io::Result<()> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name is allowed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ptr::null::<c_char>()) };
    check(result).map(drop)
}

/// `personality`.
pub fn personality(domain: u64) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// `ioprio_set` of this process.
pub fn io_priority(priority: u32) -> rustix::io::Result<()> {
    const PROCESS: c_int = 1;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, priority) }).map(drop)
}

/// `sched_setattr` of this process.
pub fn scheduler(scheduler: &crate::plan::Scheduler) -> rustix::io::Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    // SAFETY: the attributes outlive the call and say their size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Sets the host name of this UTS namespace.
pub fn set_hostname(name: &str) -> rustix::io::Result<()> {
    // SAFETY: the length is the name's.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Sets the domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> rustix::io::Result<()> {
    // SAFETY: the length is the name's.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// Makes a terminal the controlling one of this session.
pub fn set_controlling_terminal(terminal: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Puts a descriptor in the place of standard input, output or error.
pub fn dup_to_standard(descriptor: impl AsFd, standard: c_int) -> rustix::io::Result<()> {
    debug_assert!((0..3).contains(&standard));
    // SAFETY: the standard descriptors belong to nobody in particular.
    check(unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), standard) }.into()).map(drop)
}

/// Loads a device program and attaches it to a control group of version 2, in place of an earlier one.
pub fn attach_device_program(
    group: impl AsFd,
    program: &[u8],
    earlier: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<OwnedFd> {
    const PROG_LOAD: c_int = 5;
    const PROG_ATTACH: c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    const REPLACE: u32 = 4;
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        version: u32,
        flags: u32,
        name: [u8; 16],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
        replaced: u32,
    }
    let words: Vec<u64> =
        program.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default())).collect();
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: words.len() as u32,
        instructions: words.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the instructions outlive the call, which copies them; the structure says its size.
    let loaded = check(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: the kernel has just given us this descriptor.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as RawFd) };
    let attach = Attach {
        target: group.as_fd().as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: if earlier.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: earlier.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: numbers only; the structure says its size.
    check(unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) })?;
    Ok(loaded)
}

/// Gives memory that was freed back to the kernel.
pub fn trim_memory() {
    // SAFETY: it takes a number and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Waits for signals, with children reaped by the kernel. SIGTERM and SIGINT end the process.
pub fn sleep_forever() {
    // SAFETY: SIG_IGN is a valid disposition, and the handler only calls what a handler may.
    unsafe {
        extern "C" fn end(_: c_int) {
            exit(0)
        }
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, end as extern "C" fn(c_int) as libc::sighandler_t);
        libc::signal(libc::SIGINT, end as extern "C" fn(c_int) as libc::sighandler_t);
        libc::pause();
    }
}

/// Raises the loopback of this network namespace.
pub fn raise_loopback() -> rustix::io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all zeros is a valid value; the name is shorter than its field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into()).map(drop)
}
