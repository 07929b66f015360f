//! How the child loses everything but the directory that it unpacks into.
//!
//! | against | by |
//! |---|---|
//! | reading or writing elsewhere | own mount namespace, `pivot_root` into the directory, the old root detached |
//! | opening a device that the archive made, running a program from it | the directory bound with `nodev`, `noexec`, `nosuid` |
//! | descriptors that leaked in | all but the socket closed |
//! | network, mounts, processes, signals, tracing, keys, kernel modules | system calls allowed by name, the others refused |
//! | other powers of root | capabilities dropped but for those that owners, modes, devices and file capabilities need |
//! | memory, endless work, core dumps | resource limits |
//! | outliving its parent | death signal |

use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::Path};

use anyhow::Context;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
    process::{Resource, Rlimit, Signal},
    thread::{CapabilitySet, CapabilitySets},
};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

use super::tree;

/// Bytes of address space: buffers, a zstd window and the lists of the report.
const MEMORY: u64 = 2 << 30;
/// Seconds of CPU.
const CPU: u64 = 3600;

/// Confines this process to its working directory and returns it. Needs root; cannot be undone.
pub fn enter() -> anyhow::Result<OwnedFd> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("set death signal")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    close_leaked().context("close descriptors")?;
    pivot().context("enter the directory")?;
    let root = tree::open_root(Path::new("/")).context("open the directory")?;
    limit().context("set resource limits")?;
    drop_capabilities().context("drop capabilities")?;
    rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
    filter_calls().context("filter system calls")?;
    Ok(root)
}

/// Closes what is neither standard input, output, error nor the socket's copy, which has the close-on-exec mark that
/// leaked descriptors lack.
fn close_leaked() -> io::Result<()> {
    let mut leaked = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if number <= 2 {
            continue;
        }
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).unwrap_or("0");
        let flags = u32::from_str_radix(flags, 8).unwrap_or(0);
        if flags & rustix::fs::OFlags::CLOEXEC.bits() == 0 {
            leaked.push(number);
        }
    }
    for number in leaked {
        nix::unistd::close(number)?;
    }
    Ok(())
}

/// Makes the working directory the root of a mount namespace of its own.
fn pivot() -> anyhow::Result<()> {
    let directory = std::env::current_dir().context("find the working directory")?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("unshare mounts")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).context("make mounts private")?;
    rustix::mount::mount_bind(&directory, &directory).context("bind")?;
    let plain = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
    rustix::mount::mount_remount(&directory, plain, "").context("bind without devices")?;
    std::env::set_current_dir(&directory).context("change directory")?;
    rustix::process::pivot_root(".", ".").context("pivot")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context("detach the old root")?;
    std::env::set_current_dir("/").context("change directory")?;
    Ok(())
}

fn limit() -> io::Result<()> {
    for (resource, value) in [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU),
        (Resource::Core, 0),
        (Resource::Nofile, 64),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ] {
        let lowered = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, lowered)?;
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::MKNOD
        | CapabilitySet::SETFCAP;
    // First, while the right to do so is held. Those that this kernel does not know cannot be had either.
    for capability in CapabilitySet::all().difference(kept).iter() {
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What reading a socket, writing files and managing memory take. Anything else fails with `EPERM`.
fn filter_calls() -> anyhow::Result<()> {
    let allowed = [
        // Files below the root.
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_close,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_lseek,
        libc::SYS_ftruncate,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_getdents64,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_unlinkat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fsetxattr,
        libc::SYS_utimensat,
        libc::SYS_fcntl,
        // The socket that it was born with; no other can be made.
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_shutdown,
        // Memory, time, ending.
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_geteuid,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let rules: BTreeMap<_, _> = allowed.into_iter().map(|call| (call, Vec::new())).collect();
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, machine)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}
