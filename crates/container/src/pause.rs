//! The first process of a pod's shared process namespace: it keeps the namespace, and reaps whoever is left to it.
//!
//! It is this program again, with nothing of the machine in reach: an empty root, no capabilities, no descriptors, nobody's
//! user. In process lists it is `/pause`, the name that everyone expects there.

use std::{convert::Infallible, os::fd::OwnedFd, ptr};

use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags},
};

use crate::{
    capability,
    child::{Context, Failure},
    sys::{self, MountChange},
};

/// The name that it is run by.
pub const NAME: &str = "/pause";

/// Nobody.
const USER: u32 = 65535;

/// In the new namespaces: leaves everything behind and runs this program again. Returns only what went wrong.
pub fn become_init() -> Failure {
    match try_become_init() {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_become_init() -> Result<Infallible, Failure> {
    sys::reset_signals();
    rustix::process::setsid().context(|| "make a session")?;
    sys::unshare(libc::CLONE_NEWCGROUP as u64).context(|| "make a cgroup namespace")?;
    let program = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open this program")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).context(|| "open /dev/null")?;
    for standard in 0..3 {
        sys::dup_to_standard(&null, standard).context(|| "set standard streams")?;
    }
    enter_emptiness()?;
    sys::close_on_exec_from(3).context(|| "close descriptors")?;
    for number in 0..=capability::last() {
        let _ = sys::prctl(libc::PR_CAPBSET_DROP, number.into(), 0);
    }
    sys::setgroups(&[]).context(|| "drop groups")?;
    for result in [sys::setgid(USER), sys::setuid(USER)] {
        match result {
            // A user namespace may be too small to have it; its root is nobody outside.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).context(|| "become nobody"),
        }
    }
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context(|| "forbid new privileges")?;
    run(&program)
}

/// An empty, read-only root.
fn enter_emptiness() -> Result<(), Failure> {
    let machine = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(|| "open /")?;
    let change = MountChange { propagation: libc::MS_PRIVATE, below: true, ..MountChange::default() };
    sys::mount_setattr(&machine, &change).context(|| "cut off the machine's mounts")?;
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "mode", "0555")?;
        rustix::mount::fsconfig_set_string(&context, "nr_inodes", "1")?;
        rustix::mount::fsconfig_create(&context)?;
        let root = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        // Any directory will do to carry it.
        rustix::mount::move_mount(&root, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        rustix::process::fchdir(&root)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(root)
    };
    make().context(|| "make an empty root").map(drop)
}

fn run(program: &OwnedFd) -> Result<Infallible, Failure> {
    let arguments = [c"/pause".as_ptr(), ptr::null()];
    match sys::execveat(program, &arguments, &[ptr::null()]) {
        // A program of shared libraries, as tests have it, cannot find them here: it goes on as the copy that it is.
        rustix::io::Errno::NOENT => {
            let _ = sys::close_from(3);
            main()
        }
        error => Err(Failure::new(format!("run this program again: {error}"))),
    }
}

/// What it does from then on.
pub fn main() -> ! {
    let _ = rustix::thread::set_name(c"pause");
    loop {
        // With SIGCHLD ignored the kernel reaps by itself; signals end it, if its namespace's members may send them.
        sys::sleep_forever();
    }
}
