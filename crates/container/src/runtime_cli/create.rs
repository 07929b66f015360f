//! `create`, `start` and `run`.

use std::{
    env, fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path as FilePath, PathBuf},
    time::Duration,
};

use oci_spec::runtime::Spec;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
};

use super::{
    Global,
    arguments::{Arguments, Option},
    console,
    state::{self, State, Status, start_time},
};
use crate::{
    child::{self, Context, Failure, Gate},
    clock,
    plan::{Moment, Plan},
    protocol::FaultKind,
    spawn::{self, Home, Said, Spawned},
    sys,
};

const CREATE: &[Option] = &[
    Option::value("bundle", Some('b')),
    Option::value("console-socket", None),
    Option::value("pid-file", None),
    Option::value("preserve-fds", None),
    Option::flag("no-new-keyring", None),
    Option::flag("no-pivot", None),
    Option::flag("detach", Some('d')),
    Option::flag("keep", None),
];

/// `create ID`.
pub fn create(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, CREATE)?;
    let made = make(global, &arguments)?;
    match (&made.terminal, arguments.value("console-socket")) {
        (Some(terminal), Some(socket)) => console::hand_over(terminal, socket),
        (Some(_), None) => Err(Failure::new("a container with a terminal needs --console-socket")),
        (None, _) => Ok(()),
    }
    .inspect_err(|_| drop(state::remove(global, &made.state)))?;
    Ok(0)
}

/// `start ID`.
pub fn start(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[])?;
    let state = global.load(arguments.id()?)?;
    start_it(global, &state)?;
    Ok(0)
}

/// `run ID`: both, and in the foreground waiting for the end.
pub fn run(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, CREATE)?;
    // Who is left behind by the container's process is to be waited for as well.
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).context(|| "become a subreaper")?;
    let signals = if arguments.has("detach") { None } else { Some(console::forwarded_signals()?) };
    let made = make(global, &arguments)?;
    let undo = |failure: Failure| {
        let _ = state::remove(global, &made.state);
        failure
    };
    let terminal = match (&made.terminal, arguments.value("console-socket")) {
        (Some(terminal), Some(socket)) => console::hand_over(terminal, socket).map(|()| None).map_err(undo)?,
        (Some(_), None) if arguments.has("detach") => {
            return Err(undo(Failure::new("a detached container with a terminal needs --console-socket")));
        }
        (Some(terminal), None) => Some(terminal),
        (None, _) => None,
    };
    start_it(global, &made.state).map_err(undo)?;
    let Some(signals) = signals else { return Ok(0) };
    let code = console::attend(made.spawned.pid, made.spawned.pidfd.as_fd(), terminal.map(AsFd::as_fd), &signals)?;
    if !arguments.has("keep") {
        state::remove(global, &made.state)?;
    }
    Ok(code)
}

struct Made {
    state: State,
    spawned: Spawned,
    terminal: std::option::Option<OwnedFd>,
}

fn make(global: &Global, arguments: &Arguments) -> Result<Made, Failure> {
    let id = arguments.id()?;
    if arguments.has("no-pivot") {
        return Err(Failure::new("--no-pivot is not supported: containers always change their root"));
    }
    let bundle = fs::canonicalize(arguments.value("bundle").unwrap_or(".")).context(|| "bundle")?;
    let config = bundle.join("config.json");
    let text = fs::read(&config).context(|| format!("read {}", config.display()))?;
    let mut spec: Spec = serde_json::from_slice(&text).context(|| format!("understand {}", config.display()))?;
    check_version(&spec)?;
    make_absolute(&mut spec, &bundle)?;
    let group = state::group_path(global, &spec, id)?;
    let mut plan = state::plan(id, &bundle, &spec, Some(&group))?;
    let inherited = arguments.number("preserve-fds")?.unwrap_or(0) + listening_descriptors(&mut plan);
    if let Some(process) = &mut plan.process {
        process.inherited = inherited;
        process.keep_keyring = arguments.has("no-new-keyring");
    }
    let directory = global.make_directory(id)?;
    let undo = |failure: Failure| {
        let _ = fs::remove_dir_all(&directory);
        failure
    };
    let specification = serde_json::to_vec(&spec).context(|| "write the specification").map_err(undo)?;
    fs::write(directory.join("config.json"), specification).context(|| "write the specification").map_err(undo)?;
    let undo = |failure: Failure| {
        state::undo_group(&plan);
        let _ = fs::remove_dir_all(&directory);
        failure
    };
    let (spawned, terminal) = bring_up(&plan, &directory).map_err(undo)?;
    let undo = |failure: Failure| {
        let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
        undo(failure)
    };
    let state = State {
        id: id.into(),
        pid: spawned.pid,
        started: start_time(spawned.pid).unwrap_or(0),
        bundle,
        created: String::from_utf8_lossy(&clock::stamp(clock::now())).into_owned(),
        cgroup: plan.cgroup.as_ref().map(|group| group.path.clone()),
        owner: rustix::process::geteuid().as_raw(),
    };
    global.save(&state).map_err(undo)?;
    if let Some(file) = arguments.value("pid-file") {
        write_pid(file, spawned.pid).map_err(undo)?;
    }
    Ok(Made { state, spawned, terminal })
}

/// Writes a process identifier, whole or not at all.
pub fn write_pid(file: &str, pid: i32) -> Result<(), Failure> {
    let new = format!("{file}.new");
    fs::write(&new, pid.to_string()).and_then(|()| fs::rename(&new, file)).context(|| format!("write {file}"))
}

fn check_version(spec: &Spec) -> Result<(), Failure> {
    if spec.version().split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Failure::new(format!("ociVersion {:?} is not supported: this is {}", spec.version(), super::VERSION)))
}

/// Paths that a bundle may give relative to itself.
fn make_absolute(spec: &mut Spec, bundle: &FilePath) -> Result<(), Failure> {
    if let Some(root) = spec.root_mut() {
        let path = fs::canonicalize(bundle.join(root.path())).context(|| "root.path")?;
        root.set_path(path);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let (true, Some(source)) = (bind, mount.source().clone())
            && source.is_relative()
        {
            mount.set_source(Some(bundle.join(source)));
        }
    }
    Ok(())
}

/// Sockets that a service manager has opened for us are the container's.
fn listening_descriptors(plan: &mut Plan) -> u32 {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID").is_none_or(|pid| pid == std::process::id());
    let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0).min(1000);
    if let (1.., Some(process)) = (count, &mut plan.process) {
        process.env.push(format!("LISTEN_FDS={count}"));
        process.env.push("LISTEN_PID=1".into());
        if let Ok(names) = env::var("LISTEN_FDNAMES") {
            process.env.push(format!("LISTEN_FDNAMES={names}"));
        }
    }
    count
}

fn bring_up(plan: &Plan, directory: &FilePath) -> Result<(Spawned, std::option::Option<OwnedFd>), Failure> {
    let fifo: PathBuf = directory.join("start");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .context(|| "make the start pipe")?;
    // Open both ways, so that the child waits for a byte rather than for a writer.
    let opened =
        rustix::fs::open(&fifo, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open the start pipe")?;
    state::make_group(plan)?;
    let home = Home::here().context(|| "open namespaces")?;
    let spawned = spawn::container(plan, [None, None, None], || Gate::Fifo(opened), None, &home)?;
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

fn start_it(global: &Global, state: &State) -> Result<(), Failure> {
    match global.status(state) {
        Status::Created => {}
        other => {
            let message = format!("cannot start container {} that is {}", state.id, other.name());
            return Err(Failure { kind: FaultKind::State, message });
        }
    }
    let fifo = global.directory(&state.id).join("start");
    let writer = rustix::fs::open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("start container {}", state.id))?;
    rustix::io::write(&writer, &[child::GO]).context(|| format!("start container {}", state.id))?;
    fs::remove_file(&fifo).context(|| "remove the start pipe")?;
    let spec = global.specification(&state.id)?;
    let plan = state::plan(&state.id, &state.bundle, &spec, None)?;
    if plan.hooks.iter().any(|hook| hook.moment() == Moment::Poststart) {
        wait_for_program(state.pid);
        if let Err(failure) = child::run_hooks(&plan, Moment::Poststart, "running", state.pid) {
            // As the specification says, that is noted and no more.
            eprintln!("{}", failure.message);
        }
    }
    Ok(())
}

/// Until the process runs another program than this, for a second at most.
fn wait_for_program(pid: i32) {
    let own = fs::read_link("/proc/self/exe").ok();
    for _ in 0..1000 {
        let other = fs::read_link(format!("/proc/{pid}/exe")).ok();
        if other.is_none() || other != own {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
