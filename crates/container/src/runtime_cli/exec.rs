//! `exec`: a further process in a container.

use std::{fs, os::fd::AsFd};

use oci_spec::runtime::Process;
use rustix::process::{Pid, PidfdFlags};

use super::{
    Global,
    arguments::{Arguments, Option},
    console,
    create::{hear, write_pid},
    state::{State, Status},
};
use crate::{
    cgroup::{Path, Version},
    child::{Context, Failure},
    compile,
    protocol::FaultKind,
    seccomp,
    spawn::{self, Home, Said},
    sys,
};

const EXEC: &[Option] = &[
    Option::value("console-socket", None),
    Option::value("cwd", None),
    Option::value("env", Some('e')),
    Option::flag("tty", Some('t')),
    Option::value("user", Some('u')),
    Option::value("additional-gids", Some('g')),
    Option::value("process", Some('p')),
    Option::flag("detach", Some('d')),
    Option::value("pid-file", None),
    Option::value("process-label", None),
    Option::value("apparmor", None),
    Option::flag("no-new-privs", None),
    Option::value("cap", Some('c')),
    Option::value("preserve-fds", None),
    Option::value("cgroup", None),
    Option::flag("ignore-paused", None),
];

/// `exec ID COMMAND`.
pub fn exec(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, EXEC)?;
    let state = global.load(arguments.id()?)?;
    match global.status(&state) {
        Status::Running | Status::Created => {}
        Status::Paused if arguments.has("ignore-paused") => {}
        other => {
            let message = format!("cannot exec in container {} that is {}", state.id, other.name());
            return Err(Failure { kind: FaultKind::State, message });
        }
    }
    let spec = global.specification(&state.id)?;
    let process = match arguments.value("process") {
        Some(file) => {
            let text = fs::read(file).context(|| format!("read {file}"))?;
            serde_json::from_slice(&text).context(|| format!("understand {file}"))?
        }
        None => process(&arguments, spec.process().clone().unwrap_or_default())?,
    };
    let mut plan = compile::process(&process).context(|| "process")?;
    if let Some(rules) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        plan.seccomp = Some(seccomp::compile(rules).context(|| "seccomp")?);
    }
    plan.inherited = arguments.number("preserve-fds")?.unwrap_or(0);
    let detached = arguments.has("detach");
    let socket = arguments.value("console-socket");
    if plan.terminal && detached && socket.is_none() {
        return Err(Failure::new("a detached process with a terminal needs --console-socket"));
    }
    let signals = if detached { None } else { Some(console::forwarded_signals()?) };
    let (spawned, terminal) = start(&state, &plan)?;
    let undo = |failure| {
        let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
        failure
    };
    if let Some(file) = arguments.value("pid-file") {
        write_pid(file, spawned.pid).map_err(undo)?;
    }
    let terminal = match (&terminal, socket) {
        (Some(terminal), Some(socket)) => console::hand_over(terminal, socket).map(|()| None).map_err(undo)?,
        (terminal, _) => terminal.as_ref(),
    };
    match signals {
        Some(signals) => console::attend(spawned.pid, spawned.pidfd.as_fd(), terminal.map(AsFd::as_fd), &signals),
        None => Ok(0),
    }
}

fn start(
    state: &State,
    plan: &crate::plan::Process,
) -> Result<(spawn::Spawned, std::option::Option<std::os::fd::OwnedFd>), Failure> {
    let pid = Pid::from_raw(state.pid).ok_or_else(|| Failure::new("the state has no process"))?;
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "find the container's process")?;
    let version = Version::detect().context(|| "control groups")?;
    let cgroup = match &state.cgroup {
        Some(path) => {
            let path = Path::new(path).context(|| "control group")?;
            Some(compile::cgroup(&version, &path, None).context(|| "control group")?)
        }
        None => None,
    };
    let home = Home::here().context(|| "open namespaces")?;
    let spawned = spawn::exec(plan, [None, None, None], init.as_fd(), state.pid, cgroup.as_ref(), &home)?;
    let mut terminal = None;
    loop {
        match hear(&spawned)? {
            Said::Ready(opened) => terminal = opened,
            Said::Hooks => {}
            Said::Silent => return Ok((spawned, terminal)),
            Said::Failed(failure) => {
                sys::wait(spawned.pid);
                return Err(failure);
            }
        }
    }
}

/// The container's own process, changed as the options say.
fn process(arguments: &Arguments, mut process: Process) -> Result<Process, Failure> {
    let command = arguments.rest().get(1..).unwrap_or_default();
    if command.is_empty() {
        return Err(Failure::new("there is nothing to run"));
    }
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(arguments.has("tty")));
    if let Some(cwd) = arguments.value("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for variable in arguments.values("env") {
        let name = variable.split('=').next().unwrap_or_default();
        env.retain(|other| other.split('=').next() != Some(name));
        env.push(variable.into());
    }
    process.set_env(Some(env));
    let number =
        |text: &str| text.parse::<u32>().map_err(|_| Failure::new(format!("{text:?} is not a user or group number")));
    if let Some(user) = arguments.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        let uid = number(uid)?;
        let gid = gid.map(number).transpose()?;
        let user = process.user_mut();
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    let groups = arguments.values("additional-gids").map(number).collect::<Result<Vec<_>, _>>()?;
    if !groups.is_empty() {
        process.user_mut().set_additional_gids(Some(groups));
    }
    if arguments.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = arguments.value("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if let Some(profile) = arguments.value("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    let caps: Vec<_> = arguments.values("cap").collect();
    if !caps.is_empty() {
        // The default of the type is not the empty sets.
        let mut sets = match process.capabilities() {
            Some(sets) => serde_json::to_value(sets).context(|| "capabilities")?,
            None => serde_json::json!({}),
        };
        for set in ["bounding", "effective", "permitted"] {
            let known = sets[set].as_array().cloned().unwrap_or_default();
            let added = caps.iter().map(|name| serde_json::json!(name));
            sets[set] = known.into_iter().chain(added).collect();
        }
        let sets = serde_json::from_value(sets).context(|| format!("{caps:?} are not capabilities"))?;
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}
