//! User namespaces: mappings of identifiers, for containers and for single mounts.
//!
//! A namespace is made by a child that does nothing else: only who is outside may write its mapping.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
};

use rustix::pipe::PipeFlags;

use crate::{
    child::{Context, Failure},
    plan::IdMap,
    spawn::open_namespace,
    sys::{self, Cloned, MountChange},
};

/// A user namespace in which nobody is, for [`map`]: users and groups from 0 on inside are those from `outside` on of the machine,
/// `size` of them. A process with threads may ask for it: the child that it takes neither allocates nor locks.
pub fn namespace(outside: u32, size: u32) -> io::Result<OwnedFd> {
    let range = [IdMap { inside: 0, outside, size }];
    let made = make(0, &range, &range).map_err(|failure| io::Error::other(failure.message))?;
    made.into_iter().next().map(|(_, opened)| opened).ok_or_else(|| io::Error::other("no user namespace was made"))
}

/// Has the files of a mount belong to the users of a namespace: to its root what is root's on the disk. The mount is not mounted
/// anywhere yet.
///
/// # Errors
/// `EINVAL` from file systems that cannot be mapped. <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>
pub fn map(mount: impl AsFd, users: impl AsFd) -> io::Result<()> {
    let change = MountChange { users: Some(users.as_fd()), ..MountChange::default() };
    Ok(sys::mount_setattr(mount, &change)?)
}

/// Makes a user namespace with this mapping and, owned by it, namespaces of the other `kinds`. Gives them by kind, in the
/// order user, network, UTS, IPC.
pub(crate) fn make(kinds: u64, uids: &[IdMap], gids: &[IdMap]) -> Result<Vec<(u64, OwnedFd)>, Failure> {
    let (wait, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    let user = libc::CLONE_NEWUSER as u64;
    match sys::clone(kinds | user, None).context(|| "make a user namespace")? {
        Cloned::Child => {
            drop(go);
            // Until the parent has taken what it wants, or has died.
            let _ = fs::File::from(wait).read(&mut [0; 1]);
            sys::exit(0)
        }
        Cloned::Parent { pid, .. } => {
            drop(wait);
            let result = take(pid, kinds | user, uids, gids);
            drop(go);
            sys::wait(pid);
            result
        }
    }
}

fn take(pid: i32, kinds: u64, uids: &[IdMap], gids: &[IdMap]) -> Result<Vec<(u64, OwnedFd)>, Failure> {
    for (name, ranges) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String =
            ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.size)).collect();
        fs::write(format!("/proc/{pid}/{name}"), &lines).context(|| format!("write {name} {lines:?}"))?;
    }
    let names = [
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWIPC, "ipc"),
    ];
    let wanted = names.into_iter().filter(|(kind, _)| kinds & *kind as u64 != 0);
    wanted
        .map(|(kind, name)| {
            let opened = open_namespace(&format!("/proc/{pid}/ns/{name}"));
            opened.context(|| format!("open a namespace of kind {name}")).map(|opened| (kind as u64, opened))
        })
        .collect()
}

/// The identifier outside of one inside.
pub(crate) fn outside(ranges: &[IdMap], inside: u32) -> Option<u32> {
    let range = ranges.iter().find(|range| inside >= range.inside && inside - range.inside < range.size)?;
    range.outside.checked_add(inside - range.inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_in_their_range() {
        let ranges = [IdMap { inside: 0, outside: 1000, size: 10 }, IdMap { inside: 50, outside: 5, size: 1 }];
        for (inside, found) in [(0, Some(1000)), (9, Some(1009)), (10, None), (50, Some(5)), (51, None)] {
            assert_eq!(outside(&ranges, inside), found, "{inside}");
        }
    }
}
