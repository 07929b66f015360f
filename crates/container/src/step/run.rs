//! Processes of steps: started once, supervised, followed, ended.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, inotify};

use super::{
    Error,
    request::{Request, is_key},
};
use crate::sys;

/// The variable by which processes of a step are known.
const MARK: &str = "MADANG_STEP";
/// How long processes may take to end when they are asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of captured output that are handed over.
const CAPTURED: u64 = 32 << 20;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Where the runner is installed: the directory around its own.
fn place() -> Result<PathBuf, Error> {
    let program = env::current_exe().map_err(Error::io("find the step runner"))?;
    match program.parent().and_then(Path::parent) {
        Some(place) => Ok(place.to_owned()),
        None => Err(Error::Wrong("the step runner is not where it was installed".into())),
    }
}

/// Copies the runner into a volume, and makes the directories there.
pub(super) fn install(place: &Path) -> Result<(), Error> {
    for name in ["bin", "steps", "workspace"] {
        let directory = place.join(name);
        fs::create_dir_all(&directory).map_err(Error::io(format!("make {}", directory.display())))?;
        // Containers of a pod may run as different users.
        let mode = if name == "bin" { 0o755 } else { 0o1777 };
        let mode = if name == "workspace" { 0o777 } else { mode };
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode))
            .map_err(Error::io(format!("open {} to all", directory.display())))?;
    }
    let (from, to) = (env::current_exe(), place.join("bin/step"));
    let from = from.map_err(Error::io("find the step runner"))?;
    let beside = place.join("bin/.step");
    fs::copy(&from, &beside).map_err(Error::io(format!("copy to {}", beside.display())))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).map_err(Error::io("make the runner executable"))?;
    fs::rename(&beside, &to).map_err(Error::io(format!("put {} in place", to.display())))
}

/// The first process of a container: takes what is left to it, until it is asked to end.
pub(super) fn wait() -> Result<(), Error> {
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD];
    let signals =
        sys::signal_descriptor(&signals).map_err(|error| Error::Io("wait for signals".into(), error.into()))?;
    let mut signals = File::from(signals);
    let mut signal = [0; size_of::<libc::signalfd_siginfo>()];
    loop {
        while sys::reap().is_some() {}
        let mut ready = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Io("wait for signals".into(), error.into())),
        }
        match signals.read_exact(&mut signal) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(Error::Io("wait for signals".into(), error)),
        }
        let number = i32::from_ne_bytes([signal[0], signal[1], signal[2], signal[3]]);
        if number != libc::SIGCHLD {
            return Ok(());
        }
    }
}

/// Starts a step if nobody has, and follows it.
pub(super) fn run() -> Result<(), Error> {
    let request = Request::read(&mut BufReader::new(io::stdin().lock()))?;
    let steps = place()?.join("steps");
    let directory = steps.join(&request.key);
    if !directory.exists() {
        if request.follow {
            return Err(Error::Lost(format!("step {} was never started here", request.key)));
        }
        start(&steps, &request)?;
    }
    follow(&directory, request.offset)
}

/// Prepares a directory and has a supervisor put it in place.
fn start(steps: &Path, request: &Request) -> Result<(), Error> {
    let workspace = steps.parent().unwrap_or(steps).join("workspace");
    let directory = workspace.join(&request.directory);
    fs::create_dir_all(&directory).map_err(Error::io(format!("make {}", directory.display())))?;
    let prepared = steps.join(format!(".{}.{}", request.key, std::process::id()));
    fs::create_dir(&prepared).map_err(Error::io(format!("make {}", prepared.display())))?;
    let write = |name: &str, bytes: &[u8], mode: u32| {
        let path = prepared.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(Error::io(format!("write {}", path.display())))
    };
    write("script", request.script.as_bytes(), 0o700)?;
    write("log", b"", 0o600)?;
    write("lock", b"", 0o600)?;
    write("directory", directory.as_os_str().as_encoded_bytes(), 0o600)?;
    if request.capture {
        write("out", b"", 0o600)?;
    }
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    for variable in &request.environment {
        let Some((name, value)) = variable.split_once('=') else { continue };
        if name.is_empty() || variable.contains('\0') {
            continue;
        }
        match name.strip_suffix('+') {
            Some(name) => {
                let before = environment.get(name).cloned().or_else(|| env::var(name).ok());
                let value = match before {
                    Some(before) if !before.is_empty() => format!("{value}:{before}"),
                    _ => value.to_owned(),
                };
                environment.insert(name.to_owned(), value);
            }
            None => drop(environment.insert(name.to_owned(), value.to_owned())),
        }
    }
    let mut supervisor = Command::new(env::current_exe().map_err(Error::io("find the step runner"))?);
    supervisor
        .args(["step", "supervise"])
        .arg(&prepared)
        .envs(environment)
        .env(MARK, &request.key)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = supervisor.spawn().map_err(Error::io("start the supervisor"))?;
    // It says one line once the step is in place and begun, and closes both.
    let mut said = String::new();
    let read = child.stdout.take().map(|out| out.take(100).read_to_string(&mut said));
    if matches!(read, Some(Ok(_))) && said == "begun\n" {
        return Ok(());
    }
    let mut why = String::new();
    let _ = child.stderr.take().map(|out| out.take(4096).read_to_string(&mut why));
    let _ = child.wait();
    let _ = fs::remove_dir_all(&prepared);
    // Somebody else was faster: it is followed.
    if steps.join(&request.key).exists() {
        return Ok(());
    }
    Err(Error::Io(format!("start step {}", request.key), io::Error::other(why.trim().to_owned())))
}

/// The parent of a step's process: holds its lock, and writes how it ended.
pub(super) fn supervise(prepared: &Path) -> Result<(), Error> {
    // Of a session of its own: what ends the one who asked does not end this.
    let _ = rustix::process::setsid();
    let key = env::var(MARK).unwrap_or_default();
    let steps = prepared.parent().unwrap_or(prepared);
    if !is_key(&key) {
        return Err(Error::Wrong("a supervisor is started by the step runner".into()));
    }
    let lock = OpenOptions::new().write(true).open(prepared.join("lock")).map_err(Error::io("open the step's lock"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| Error::Io("take the step's lock".into(), error.into()))?;
    let directory = steps.join(&key);
    // Only one of those who try gets there: the other finds a directory that is not empty.
    fs::rename(prepared, &directory).map_err(Error::io(format!("put {} in place", directory.display())))?;
    let open = |name: &str| {
        let file = OpenOptions::new().append(true).open(directory.join(name));
        file.map_err(Error::io(format!("open the step's {name}")))
    };
    let log = open("log")?;
    let out = if directory.join("out").exists() { open("out")? } else { open("log")? };
    let script = directory.join("script");
    let mut first = [0; 2];
    let direct = File::open(&script).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *b"#!";
    let mut command = match direct {
        true => Command::new(&script),
        false => {
            let mut shell = Command::new("sh");
            shell.arg("-xe").arg(&script);
            shell
        }
    };
    let mut spoken = log.try_clone().map_err(Error::io("open the step's log"))?;
    let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn();
    {
        let mut told = io::stdout().lock();
        let _ = told.write_all(b"begun\n").and_then(|()| told.flush());
    }
    // Whoever started this waits for both to end.
    let null = OpenOptions::new().write(true).open("/dev/null").map_err(Error::io("open /dev/null"))?;
    for standard in [1, 2] {
        sys::dup_to_standard(&null, standard)
            .map_err(|error| Error::Io("leave the one who asked".into(), error.into()))?;
    }
    let code = match child {
        Ok(mut child) => match child.wait() {
            Ok(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1),
            Err(error) => {
                let _ = writeln!(spoken, "wait for the step's process: {error}");
                1
            }
        },
        Err(error) => {
            let program = if direct { "the script's interpreter" } else { "sh, which steps are run by," };
            let _ = writeln!(spoken, "{program} could not be started: {error}");
            if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
        }
    };
    let _ = spoken.sync_data();
    let beside = directory.join(".result");
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(code.to_string().as_bytes())?;
        file.sync_data()?;
        fs::rename(&beside, directory.join("result"))
    };
    write().map_err(Error::io("write the step's result"))?;
    drop(lock);
    Ok(())
}

/// Hands on a step's log from an offset, while it grows; then how it ended.
fn follow(directory: &Path, offset: u64) -> Result<(), Error> {
    let mut log = File::open(directory.join("log")).map_err(Error::io("open the step's log"))?;
    log.seek(SeekFrom::Start(offset)).map_err(Error::io("seek in the step's log"))?;
    let lock = OpenOptions::new().read(true).open(directory.join("lock")).map_err(Error::io("open the step's lock"))?;
    let watch = || -> rustix::io::Result<File> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&watch, directory, what)?;
        Ok(watch.into())
    };
    let mut watch = watch().map_err(|error| Error::Io("watch the step".into(), error.into()))?;
    let mut piece = vec![0; PIECE];
    let mut out = io::stdout().lock();
    loop {
        // Before the log is read: what the process wrote comes before its result.
        let ended = fs::read_to_string(directory.join("result")).ok();
        let free = ended.is_none()
            && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_ok()
            && !directory.join("result").exists();
        loop {
            let read = log.read(&mut piece).map_err(Error::io("read the step's log"))?;
            if read == 0 {
                break;
            }
            // Whoever listened has gone: the step goes on without them.
            out.write_all(&piece[..read]).and_then(|()| out.flush()).map_err(Error::io("hand on the log"))?;
        }
        if let Some(code) = ended {
            let mut end = io::stderr().lock();
            let done = writeln!(end, "exit {}", code.trim());
            done.map_err(Error::io("tell the exit code"))?;
            if let Ok(captured) = File::open(directory.join("out")) {
                io::copy(&mut captured.take(CAPTURED), &mut end).map_err(Error::io("hand on the output"))?;
            }
            return Ok(());
        }
        if free {
            return Err(Error::Lost("the step's process is gone, and left no exit code".into()));
        }
        watch.read(&mut piece).map_err(Error::io("watch the step"))?;
    }
}

/// Ends all processes of a step: asks them to, then kills them.
pub(super) fn stop(key: &str) -> Result<(), Error> {
    if !is_key(key) {
        return Err(Error::Wrong(format!("{key:?} is no step's key")));
    }
    let directory = place()?.join("steps").join(key);
    let asked = Instant::now();
    let mut signal = libc::SIGTERM;
    loop {
        let members = members(key, &directory);
        if members.is_empty() {
            return Ok(());
        }
        for process in members {
            let _ = sys::kill_pid(process, signal);
        }
        // Asked once; killed as often as new ones are found.
        while asked.elapsed() < GRACE && signal == libc::SIGTERM {
            std::thread::sleep(Duration::from_millis(20));
            if self::members(key, &directory).is_empty() {
                return Ok(());
            }
        }
        if asked.elapsed() > GRACE * 4 {
            return Err(Error::Io(format!("end step {key}"), io::Error::other("its processes cannot be killed")));
        }
        signal = libc::SIGKILL;
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the container that this is run in: all that runs there is asked to end, its first process with it.
pub(super) fn end() -> Result<(), Error> {
    // In a process namespace that is the whole pod's, the first process is the pod's and not this container's.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let own = namespace("self").map_err(Error::io("find the container's own processes"))?;
    if namespace("1").map_err(Error::io("look at the container's first process"))? != own {
        return Err(Error::Wrong("the pod's containers share their processes: none of them is ended alone".into()));
    }
    for (process, signal) in [(1, libc::SIGTERM), (-1, libc::SIGTERM)] {
        // Nobody else may be there.
        let _ = sys::kill_pid(process, signal);
    }
    std::thread::sleep(GRACE);
    // The first process cannot be killed from within; what keeps it waiting can.
    let _ = sys::kill_pid(-1, libc::SIGKILL);
    Ok(())
}

/// Processes of a step, but not its supervisor, which has to write how it ended.
fn members(key: &str, directory: &Path) -> Vec<i32> {
    let mark = format!("{MARK}={key}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = env::current_exe().ok();
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if !environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            continue;
        }
        let runner = fs::read_link(entry.path().join("exe")).ok();
        if runner.is_some() && runner == own && !directory.join("result").exists() {
            continue;
        }
        // What has ended and was not taken yet has no environment; it is not here.
        found.push(process);
    }
    found
}
