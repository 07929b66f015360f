//! How a shim begins: it takes its orders, leaves the daemon, makes the pod's namespaces, and listens.

use std::{
    fs,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::UnixListener,
    path::Path,
};

use prost::Message;
use rustix::{
    event::epoll::EventFlags,
    fs::{Mode, OFlags},
    pipe::PipeFlags,
};

use super::{Pod, Poll, Source, record};
use crate::{
    cgroup,
    child::{Context, Failure, set_oom_score_adj},
    idmap, pause, plan,
    protocol::Sandbox,
    spawn::{self, Home},
    sys::{self, Cloned},
};

/// Bytes of orders at most.
const ORDERS: u64 = 1 << 20;

/// Bytes read at a time from anything.
const BUFFER: usize = 8 << 10;

/// Answer to the daemon when everything stands.
const READY: &str = "ready\n";

/// Runs the shim of a pod: orders come on standard input, `ready` or an error goes to standard output.
pub fn main() -> i32 {
    // Whatever the daemon had open without marking it.
    let _ = sys::close_from(3);
    match launch() {
        Ok(Side::Launcher) => 0,
        Ok(Side::Shim(mut pod)) => match pod.run() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("shim: {error}");
                1
            }
        },
        Err(failure) => {
            eprintln!("shim: {}", failure.message);
            let _ = io::stdout().write_all(failure.message.as_bytes());
            1
        }
    }
}

enum Side {
    /// The process that the daemon started: its work is done.
    Launcher,
    /// The process that stays.
    Shim(Box<Pod>),
}

fn launch() -> Result<Side, Failure> {
    let mut orders = Vec::new();
    io::stdin().take(ORDERS).read_to_end(&mut orders).context(|| "read orders")?;
    let sandbox = Sandbox::decode(orders.as_slice()).context(|| "understand orders")?;
    drop(orders);
    // The launcher ends only when the shim stands, so that its exit code tells.
    let (done, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    match sys::clone(0, None).context(|| "make the shim's process")? {
        Cloned::Parent { pid, .. } => {
            drop(tell);
            let mut byte = [0; 1];
            let stands = matches!(rustix::io::read(&done, &mut byte[..]), Ok(1));
            if !stands {
                // It has said why.
                sys::exit(sys::wait(pid).max(1));
            }
            Ok(Side::Launcher)
        }
        Cloned::Child => {
            drop(done);
            let pod = stand(sandbox)?;
            let _ = io::stdout().write_all(READY.as_bytes());
            let _ = io::stdout().flush();
            let null = open_null()?;
            for standard in 0..2 {
                sys::dup_to_standard(&null, standard).context(|| "leave the daemon's streams")?;
            }
            let _ = rustix::io::write(&tell, b"!");
            sys::trim_memory();
            Ok(Side::Shim(Box::new(pod)))
        }
    }
}

fn open_null() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open /dev/null")
}

/// Becomes the pod's shim.
fn stand(sandbox: Sandbox) -> Result<Pod, Failure> {
    rustix::process::setsid().context(|| "make a session")?;
    rustix::process::chdir("/").context(|| "leave the daemon's directory")?;
    // Logs and sockets get the modes that they are opened with.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let _ = rustix::thread::set_name(c"madang-shim");
    set_oom_score_adj(sandbox.oom_score_adj)?;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).context(|| "become a subreaper")?;
    sys::ignore_broken_pipes();
    // Whoever means to stop a pod says so on the socket.
    let signals = sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .context(|| "watch signals")?;
    let version = cgroup::Version::detect().context(|| "control groups")?;
    let home = Home::here().context(|| "open namespaces")?;
    let users = make_namespaces(&sandbox)?;
    let init = if sandbox.share_pid { Some(start_init(&sandbox, &version, users.as_ref())?) } else { None };
    let exits = record::Exits::open(Path::new(&sandbox.dir)).context(|| format!("open exits in {}", sandbox.dir))?;
    let listener = listen(&sandbox.socket).context(|| format!("listen at {}", sandbox.socket))?;
    let poll = Poll::new().context(|| "make an event loop")?;
    poll.add(&listener, Source::Listener, EventFlags::IN).context(|| "watch the socket")?;
    poll.add(&signals, Source::Signals, EventFlags::IN).context(|| "watch signals")?;
    Ok(Pod {
        sandbox,
        poll,
        home,
        version,
        listener,
        signals,
        connections: Vec::new(),
        containers: Vec::new(),
        execs: Vec::new(),
        users,
        init,
        exits,
        watch: None,
        serial: 0,
        ending: None,
        buffer: vec![0; BUFFER].into_boxed_slice(),
    })
}

/// Makes the pod's namespaces and enters them, all but the user namespace: that comes back.
fn make_namespaces(sandbox: &Sandbox) -> Result<Option<OwnedFd>, Failure> {
    let user = libc::CLONE_NEWUSER as u64;
    let mut users = None;
    if sandbox.namespaces & user != 0 {
        // The others must belong to it from the beginning.
        for (kind, opened) in idmap::make(sandbox.namespaces, &sandbox.uids, &sandbox.gids)? {
            if kind == user {
                users = Some(opened);
            } else {
                sys::setns(&opened, kind).context(|| "join the pod's namespaces")?;
            }
        }
    } else {
        sys::unshare(sandbox.namespaces).context(|| "make the pod's namespaces")?;
    }
    if !sandbox.netns.is_empty() {
        let namespace = spawn::open_namespace(&sandbox.netns).context(|| format!("open {}", sandbox.netns))?;
        sys::setns(&namespace, libc::CLONE_NEWNET as u64).context(|| format!("join {}", sandbox.netns))?;
    }
    let has = |kind: i32| sandbox.namespaces & kind as u64 != 0;
    if has(libc::CLONE_NEWUTS) {
        if !sandbox.hostname.is_empty() {
            sys::set_hostname(&sandbox.hostname).context(|| format!("set host name {:?}", sandbox.hostname))?;
        }
        if !sandbox.domainname.is_empty() {
            sys::set_domainname(&sandbox.domainname).context(|| format!("set domain name {:?}", sandbox.domainname))?;
        }
    }
    if has(libc::CLONE_NEWNET) {
        sys::raise_loopback().context(|| "raise the loopback")?;
    }
    for plan::Setting { name, value } in &sandbox.sysctls {
        fs::write(format!("/proc/sys/{name}"), value).context(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(users)
}

/// Starts the first process of the shared process namespace.
fn start_init(
    sandbox: &Sandbox,
    version: &cgroup::Version,
    users: Option<&OwnedFd>,
) -> Result<(i32, OwnedFd), Failure> {
    let group = sandbox.init_cgroup.as_ref().ok_or_else(|| Failure::new("no control group for the pod's init"))?;
    spawn::make_group(version, group)?;
    let (ready, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    let spawned = spawn::init(group, users, || {
        let failure = pause::become_init();
        let _ = rustix::io::write(&tell, failure.message.as_bytes());
        sys::exit(1)
    })?;
    drop(tell);
    let mut text = String::new();
    fs::File::from(ready).take(4096).read_to_string(&mut text).context(|| "hear the pod's init")?;
    if text.is_empty() { Ok(spawned) } else { Err(Failure::new(format!("pod's init: {text}"))) }
}

/// Binds a socket that only its owner may use, in place of one that a dead shim has left.
fn listen(path: &str) -> io::Result<UnixListener> {
    let path = Path::new(path);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    // An address holds 108 bytes, a path may be longer.
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(short);
    rustix::process::umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
