//! Containers: made, started, removed.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path as FilePath,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{CWD, FileType, Mode, OFlags},
};

use super::{Directory, Order, Status, console, start_time, write_whole};
use crate::{
    cgroup::{Group, Path, Version},
    child::{self, Context, Failure, Gate},
    plan::{Moment, Plan},
    protocol::FaultKind,
    spawn::{self, Home, Said, Spawned},
    sys,
};

/// How long processes may take to end once they are killed.
const END: Duration = Duration::from_secs(10);

/// `create` and `run`.
pub fn make(order: &Order) -> Result<i32, Failure> {
    let directory = Directory(order.directory.clone().into());
    let undo = |failure: Failure| {
        let _ = remove(&directory);
        failure
    };
    let plan = order.plan.as_ref().ok_or_else(|| Failure::new("there is nothing to make"))?;
    let signals = if order.run && !order.detach {
        // Who is left behind by the container's process is to be waited for as well.
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).context(|| "become a subreaper").map_err(undo)?;
        Some(console::forwarded_signals().map_err(undo)?)
    } else {
        None
    };
    let (spawned, terminal) = bring_up(plan, &directory).map_err(undo)?;
    let told = || -> Result<(), Failure> {
        let started = start_time(spawned.pid).unwrap_or(0);
        write_whole(&directory.0.join("process"), format!("{} {started}\n", spawned.pid).as_bytes())?;
        if !order.pid_file.is_empty() {
            write_whole(FilePath::new(&order.pid_file), spawned.pid.to_string().as_bytes())?;
        }
        Ok(())
    };
    told().map_err(|failure| {
        let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
        undo(failure)
    })?;
    let terminal = match (&terminal, order.console_socket.as_str()) {
        (Some(_), "") if signals.is_none() => {
            return Err(undo(Failure::new("a container with a terminal needs --console-socket")));
        }
        (Some(terminal), "") => Some(terminal),
        (Some(terminal), socket) => console::hand_over(terminal, socket).map(|()| None).map_err(undo)?,
        (None, _) => None,
    };
    if !order.run {
        return Ok(0);
    }
    start(&directory).map_err(undo)?;
    let Some(signals) = signals else { return Ok(0) };
    let code = console::attend(spawned.pid, spawned.pidfd.as_fd(), terminal.map(AsFd::as_fd), &signals)?;
    if !order.keep {
        remove(&directory)?;
    }
    Ok(code)
}

fn bring_up(plan: &Plan, directory: &Directory) -> Result<(Spawned, Option<OwnedFd>), Failure> {
    let fifo = directory.start_pipe();
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context(|| "make the start pipe")?;
    // Open both ways, so that the child waits for a byte rather than for a writer.
    let opened =
        rustix::fs::open(&fifo, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open the start pipe")?;
    if let Some(group) = &plan.cgroup {
        // A device program stays attached to the group without a descriptor of it.
        spawn::make_group(&Version::detect().context(|| "control groups")?, group)?;
    }
    let home = Home::here().context(|| "open namespaces")?;
    let place = spawn::Place { home: &home, shared_pid: None, users: None };
    let spawned = spawn::container(plan, [None, None, None], || Gate::Fifo(opened), place)?;
    loop {
        match hear(&spawned)? {
            Said::Ready(terminal) => return Ok((spawned, terminal)),
            Said::Hooks => {
                let hooks = child::run_hooks(plan, Moment::Prestart, "creating", spawned.pid)
                    .and_then(|()| child::run_hooks(plan, Moment::CreateRuntime, "creating", spawned.pid));
                if let Err(failure) = hooks {
                    let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
                    sys::wait(spawned.pid);
                    return Err(failure);
                }
                spawn::go(spawned.sync.as_fd()).context(|| "go on")?;
            }
            Said::Failed(failure) => {
                sys::wait(spawned.pid);
                return Err(failure);
            }
            Said::Silent => {
                sys::wait(spawned.pid);
                return Err(Failure::new("the container's process ended while it was set up"));
            }
        }
    }
}

/// Waits for what a child says.
pub fn hear(spawned: &Spawned) -> Result<Said, Failure> {
    loop {
        if let Some(said) = spawn::hear(spawned.sync.as_fd()).context(|| "hear the container's process")? {
            return Ok(said);
        }
        let mut wanted = [PollFd::new(&spawned.sync, PollFlags::IN)];
        match rustix::event::poll(&mut wanted, None::<&Timespec>) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "hear the container's process"),
        }
    }
}

/// Where a container is in its life.
pub fn status(directory: &Directory) -> Status {
    if directory.living().is_none() {
        return Status::Stopped;
    }
    if directory.start_pipe().exists() {
        return Status::Created;
    }
    if directory.group().is_some_and(|group| group.is_frozen()) { Status::Paused } else { Status::Running }
}

/// Lets a created container run its program.
pub fn start(directory: &Directory) -> Result<(), Failure> {
    let id = directory.id();
    match status(directory) {
        Status::Created => {}
        other => {
            let message = format!("cannot start container {id} that is {}", other.name());
            return Err(Failure { kind: FaultKind::State, message });
        }
    }
    let fifo = directory.start_pipe();
    let writer = rustix::fs::open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("start container {id}"))?;
    rustix::io::write(&writer, &[child::GO]).context(|| format!("start container {id}"))?;
    fs::remove_file(&fifo).context(|| "remove the start pipe")?;
    let plan = directory.plan()?;
    if let (true, Some((pid, _))) =
        (plan.hooks.iter().any(|hook| hook.moment() == Moment::Poststart), directory.process())
    {
        wait_for_program(pid);
        if let Err(failure) = child::run_hooks(&plan, Moment::Poststart, "running", pid) {
            // As the specification says, that is noted and no more.
            eprintln!("{}", failure.message);
        }
    }
    Ok(())
}

/// Until the process runs another program than the one that made it, for a second at most.
fn wait_for_program(pid: i32) {
    for _ in 0..1000 {
        match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(program) if program.to_string_lossy().contains("madang-shim") => {}
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills what is left of a container and removes it.
pub fn remove(directory: &Directory) -> Result<(), Failure> {
    let id = directory.id();
    if let Some(pid) = directory.living() {
        let _ = sys::kill_pid(pid, libc::SIGKILL);
    }
    let plan = directory.plan().ok();
    if let Some(cgroup) = plan.as_ref().and_then(|plan| plan.cgroup.as_ref()) {
        let path = Path::new(&cgroup.path).context(|| "control group")?;
        let group = Group::open(&Version::detect().context(|| "control groups")?, &path);
        if group.exists() && !group.kill(END) {
            return Err(Failure::new(format!("processes of container {id} do not end")));
        }
        group.remove(END).context(|| format!("container {id}"))?;
    }
    let deadline = Instant::now() + END;
    while directory.living().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let (Some(plan), true) = (&plan, directory.process().is_some())
        && let Err(failure) = child::run_hooks(plan, Moment::Poststop, "stopped", 0)
    {
        // As the specification says, that is noted and no more.
        eprintln!("{}", failure.message);
    }
    fs::remove_dir_all(&directory.0).context(|| format!("remove {}", directory.0.display()))
}
