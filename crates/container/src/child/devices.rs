//! Device nodes, the links that programs expect below `/dev`, and terminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
    pty::OpenptFlags,
    termios::Winsize,
};

use super::{
    Context, Failure,
    rootfs::{Prepared, attach, bind},
    tree::{self, Leaf},
};
use crate::plan::{Device, Process};

/// What terminals are made of.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Makes the nodes and links.
pub fn make(root: &Prepared, devices: &[Device]) -> Result<(), Failure> {
    for device in devices {
        node(root, device).context(|| format!("make device {}", device.path))?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
    ];
    for (target, name) in links {
        if name == "core" && !std::path::Path::new(target).exists() {
            continue;
        }
        tree::link(root.directory(), target, "/dev", name).context(|| format!("make link /dev/{name}"))?;
    }
    if tree::open(root.directory(), "/dev/pts").is_ok_and(|pts| tree::is_on(pts, DEVPTS_MAGIC)) {
        // Whatever the image has there would be the machine's.
        if let Ok(dev) = tree::open(root.directory(), "/dev") {
            let _ = rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty());
        }
        tree::link(root.directory(), "pts/ptmx", "/dev", "ptmx").context(|| "make link /dev/ptmx")?;
    }
    Ok(())
}

fn node(root: &Prepared, device: &Device) -> rustix::io::Result<()> {
    let (directory, name) = device.path.rsplit_once('/').ok_or(Errno::INVAL)?;
    if name.is_empty() || name == ".." {
        return Err(Errno::INVAL);
    }
    let parent = tree::ensure(root.directory(), directory, Leaf::Directory)?;
    let kind = FileType::from_raw_mode(device.kind);
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&parent, name, kind, mode, rustix::fs::makedev(device.major, device.minor)) {
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            // The mask may have taken bits.
            rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())
        }
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind
                && (kind == FileType::Fifo || stat.st_rdev == rustix::fs::makedev(device.major, device.minor));
            if same { Ok(()) } else { Err(Errno::EXIST) }
        }
        // Not allowed in a user namespace: the machine's node is shown instead.
        Err(Errno::PERM) => {
            let target = tree::ensure(root.directory(), &device.path, Leaf::File)?;
            attach(bind(&device.path, false)?, target)
        }
        Err(error) => Err(error),
    }
}

/// A terminal of the container's own: the controlling end and the process's.
pub fn terminal(root: &Prepared, process: &Process) -> Result<(OwnedFd, OwnedFd), Failure> {
    let multiplexer = tree::open(root.directory(), "/dev/pts/ptmx").context(|| "find /dev/pts/ptmx")?;
    if !tree::is_on(&multiplexer, DEVPTS_MAGIC) {
        return Err(Failure::new("/dev/pts is not a devpts mount, which a terminal needs"));
    }
    let reopened = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&multiplexer));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(reopened, flags, Mode::empty()).context(|| "open a terminal")?;
    let slave = open_slave(&master, process)?;
    let console = tree::ensure(root.directory(), "/dev/console", Leaf::File).context(|| "make /dev/console")?;
    let bind = rustix::mount::open_tree(
        &slave,
        "",
        rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
            | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC
            | rustix::mount::OpenTreeFlags::AT_EMPTY_PATH,
    );
    bind.and_then(|bind| attach(bind, console)).context(|| "mount the terminal at /dev/console")?;
    Ok((master, slave))
}

/// A terminal for a further process, which is in the container already.
pub fn exec_terminal(process: &Process) -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(|| "open /")?;
    let found = tree::open(&root, "/dev/pts/ptmx").context(|| "find /dev/pts/ptmx")?;
    if !tree::is_on(&found, DEVPTS_MAGIC) {
        return Err(Failure::new("/dev/pts is not a devpts mount, which a terminal needs"));
    }
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).context(|| "open a terminal")?;
    if !tree::is_on(&master, DEVPTS_MAGIC) {
        return Err(Failure::new("/dev/pts is not a devpts mount, which a terminal needs"));
    }
    let slave = open_slave(&master, process)?;
    Ok((master, slave))
}

fn open_slave(master: &OwnedFd, process: &Process) -> Result<OwnedFd, Failure> {
    rustix::pty::unlockpt(master).context(|| "unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(master.as_fd(), flags).context(|| "open the terminal's other end")?;
    if process.rows != 0 || process.columns != 0 {
        let size = Winsize {
            ws_row: process.rows.min(u16::MAX.into()) as u16,
            ws_col: process.columns.min(u16::MAX.into()) as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).context(|| "set the terminal's size")?;
    }
    Ok(slave)
}
