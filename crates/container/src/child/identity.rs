//! Who a process is and what it may do: limits, user, capabilities, system call filter.
//!
//! ```text
//!  filter (if privileges may be gained) ─▶ bounding set ─▶ user ─▶ capability sets ─▶ ambient set ─▶ filter (else)
//! ```
//!
//! A filter needs a privilege to load unless no new privileges can be gained; then it is loaded last, so that it need not
//! allow what set-up itself calls.

use std::os::fd::BorrowedFd;

use rustix::{
    fs::{FileType, Gid, Mode, Uid},
    io::Errno,
};

use super::{Context, Failure};
use crate::{
    capability,
    plan::{Capabilities, Process},
    sys,
};

/// What may be set before the process waits for its start: resource limits, priorities, labels.
pub fn limit(process: &Process) -> Result<(), Failure> {
    for limit in &process.rlimits {
        sys::setrlimit(limit.resource, limit.soft, limit.hard)
            .context(|| format!("set resource limit {} to {}:{}", limit.resource, limit.soft, limit.hard))?;
    }
    if let Some(priority) = process.io_priority {
        sys::io_priority(priority).context(|| "set I/O priority")?;
    }
    if let Some(scheduler) = &process.scheduler {
        sys::scheduler(scheduler).context(|| "set scheduler")?;
    }
    if let Some(profile) = &process.apparmor {
        let file = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"];
        let file = file.iter().find(|file| std::path::Path::new(file).exists());
        let file = file.ok_or_else(|| Failure::new("this machine has no AppArmor"))?;
        std::fs::write(file, format!("exec {profile}")).context(|| format!("set AppArmor profile {profile}"))?;
    }
    if let Some(label) = &process.selinux {
        std::fs::write("/proc/self/attr/exec", label).context(|| format!("set SELinux label {label}"))?;
    }
    Ok(())
}

/// Raises hard limits as far as the process's go: inside a user namespace nobody may.
pub fn raise_limits(process: &Process) -> Result<(), Failure> {
    for limit in &process.rlimits {
        let raise = || -> rustix::io::Result<()> {
            let (soft, hard) = sys::getrlimit(limit.resource)?;
            if limit.hard > hard { sys::setrlimit(limit.resource, soft, limit.hard) } else { Ok(()) }
        };
        raise().context(|| format!("raise resource limit {} to {}", limit.resource, limit.hard))?;
    }
    Ok(())
}

/// Becomes the process's user, with its capabilities and no more.
pub fn take(process: &Process) -> Result<(), Failure> {
    if process.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context(|| "forbid new privileges")?;
    } else {
        filter(process)?;
    }
    give_streams(process.uid);
    let wanted = process.capabilities.unwrap_or_default();
    bound(wanted.bounding)?;
    // Otherwise they go with user 0.
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).context(|| "keep capabilities")?;
    match sys::setgroups(&process.groups) {
        Ok(()) => {}
        Err(Errno::PERM) if process.groups.is_empty() => {}
        Err(error) => Err(error).context(|| "set groups")?,
    }
    sys::setgid(process.gid).context(|| format!("set group {}", process.gid))?;
    sys::setuid(process.uid).context(|| format!("set user {}", process.uid))?;
    sets(&wanted)?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0).context(|| "keep capabilities")?;
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022) & 0o777));
    // Whoever could trace the parent may not trace this.
    sys::prctl(libc::PR_SET_PDEATHSIG, 0, 0).context(|| "clear the parent's signal")?;
    if process.no_new_privileges {
        filter(process)?;
    }
    Ok(())
}

fn filter(process: &Process) -> Result<(), Failure> {
    match &process.seccomp {
        Some(seccomp) => sys::seccomp(&seccomp.program, seccomp.flags).context(|| "load the system call filter"),
        None => Ok(()),
    }
}

fn bound(bounding: u64) -> Result<(), Failure> {
    for number in 0..=capability::last() {
        if bounding & 1 << number == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, number.into(), 0) {
                Ok(_) | Err(Errno::INVAL) => {}
                Err(error) => Err(error).context(|| format!("drop capability {number}"))?,
            }
        }
    }
    Ok(())
}

fn sets(wanted: &Capabilities) -> Result<(), Failure> {
    // What this process itself was not given it cannot pass on.
    let have = sys::permitted_capabilities().context(|| "read capabilities")?;
    let (effective, permitted) = (wanted.effective & have, wanted.permitted & have);
    let inheritable = wanted.inheritable & have;
    sys::capset(effective & permitted, permitted, inheritable).context(|| "set capabilities")?;
    for number in 0..=capability::last() {
        if wanted.ambient & 1 << number != 0 {
            let raise = libc::PR_CAP_AMBIENT_RAISE as u64;
            match sys::prctl(libc::PR_CAP_AMBIENT, raise, number.into()) {
                // Not among those permitted and inheritable: it is not an ambient one then.
                Ok(_) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => Err(error).context(|| format!("raise ambient capability {number}"))?,
            }
        }
    }
    Ok(())
}

/// Lets the user open `/dev/stdout` and its like: pipes and terminals belong to who made them.
fn give_streams(uid: u32) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        give_stream(stream, uid);
    }
}

/// Gives a pipe or a terminal to a user. Anything else is not ours to give, the machine's null device least of all.
pub fn give_stream(stream: BorrowedFd<'_>, uid: u32) {
    let Ok(stat) = rustix::fs::fstat(stream) else { return };
    let ours = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => rustix::termios::isatty(stream),
        _ => false,
    };
    if ours && stat.st_uid != uid {
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>);
    }
}
