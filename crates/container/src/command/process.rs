//! A further process in a container.

use std::{os::fd::AsFd, path::Path as FilePath};

use rustix::process::{Pid, PidfdFlags};

use super::{Directory, Order, console, container::hear, write_whole};
use crate::{
    child::{Context, Failure},
    protocol::FaultKind,
    spawn::{self, Home, Said},
    sys,
};

/// `exec`.
pub fn exec(order: &Order) -> Result<i32, Failure> {
    let directory = Directory(order.directory.clone().into());
    let process = order.process.as_ref().ok_or_else(|| Failure::new("there is nothing to run"))?;
    if process.terminal && order.detach && order.console_socket.is_empty() {
        return Err(Failure::new("a detached process with a terminal needs --console-socket"));
    }
    let signals = if order.detach { None } else { Some(console::forwarded_signals()?) };
    let pid = directory.living().ok_or_else(|| Failure {
        kind: FaultKind::State,
        message: format!("container {} is not running", directory.id()),
    })?;
    let first = Pid::from_raw(pid).ok_or_else(|| Failure::new("the container has no process"))?;
    let init = rustix::process::pidfd_open(first, PidfdFlags::empty()).context(|| "find the container's process")?;
    let home = Home::here().context(|| "open namespaces")?;
    let spawned = spawn::exec(process, [None, None, None], init.as_fd(), pid, order.cgroup.as_ref(), &home)?;
    let mut terminal = None;
    loop {
        match hear(&spawned)? {
            Said::Ready(opened) => terminal = opened,
            Said::Hooks => {}
            Said::Silent => break,
            Said::Failed(failure) => {
                sys::wait(spawned.pid);
                return Err(failure);
            }
        }
    }
    let undo = |failure| {
        let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
        failure
    };
    if !order.pid_file.is_empty() {
        write_whole(FilePath::new(&order.pid_file), spawned.pid.to_string().as_bytes()).map_err(undo)?;
    }
    let terminal = match (&terminal, order.console_socket.as_str()) {
        (Some(terminal), socket) if !socket.is_empty() => {
            console::hand_over(terminal, socket).map(|()| None).map_err(undo)?
        }
        (terminal, _) => terminal.as_ref(),
    };
    match signals {
        Some(signals) => console::attend(spawned.pid, spawned.pidfd.as_fd(), terminal.map(AsFd::as_fd), &signals),
        None => Ok(0),
    }
}
