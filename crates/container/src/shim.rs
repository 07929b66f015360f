//! The daemon's side of a shim: start one, find one again, ask it for things.
//!
//! ```text
//! Binary (sealed memfd) ── launch ──▶ shim process ──▶ socket
//!                                                       ▲
//! Shim (handle) ── connection, one reader task ─────────┘      after a restart: connect
//! ```
//!
//! A shim outlives the daemon. Whoever finds it again subscribes to its events and then asks for
//! [`info`](Shim::info): what happened in between is in the containers' states, and exits are also in the file
//! [`exits`](Exits) of the sandbox's directory, should the shim itself be gone.

mod binary;
mod connection;
mod exits;
mod launch;
mod stream;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use task::Task;

pub use binary::Binary;
pub use connection::Events;
pub use exits::Exits;
pub use stream::{Input, Output, Terminal};

use crate::{
    cgroup, compile,
    protocol::{self, Call, FaultKind, Nothing, Reply},
};

/// What can go wrong between daemon and shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such container or exec.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    Exists(String),
    /// Not possible in the container's state: it is not running, or still is.
    #[error("{0}")]
    State(String),
    /// The program was not found in the container. By convention its exit code is 127.
    #[error("{0}")]
    ProgramNotFound(String),
    /// The program may not be executed. By convention its exit code is 126.
    #[error("{0}")]
    ProgramNotExecutable(String),
    /// The shim refused, or could not.
    #[error("{0}")]
    Failed(String),
    /// The connection ended: the shim is gone, or is ending. Connecting again tells.
    #[error("shim {0} is gone")]
    Gone(String),
    /// The specification cannot be carried out.
    #[error(transparent)]
    Spec(#[from] compile::Error),
    /// The machine's control groups cannot be used, or a path to one is invalid.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A system call of the daemon failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    fn from_fault(fault: protocol::Fault) -> Self {
        match fault.kind() {
            FaultKind::NotFound => Self::NotFound(fault.message),
            FaultKind::Exists => Self::Exists(fault.message),
            FaultKind::State => Self::State(fault.message),
            FaultKind::ProgramNotFound => Self::ProgramNotFound(fault.message),
            FaultKind::ProgramNotExecutable => Self::ProgramNotExecutable(fault.message),
            FaultKind::Other | FaultKind::Invalid => Self::Failed(fault.message),
        }
    }
}

/// A pod's sandbox: what its shim holds.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// The pod's name, seen in process lists.
    pub id: String,
    /// Directory for what outlives shim and daemon: `exits`, `shim.log`. Made where it is missing.
    pub dir: PathBuf,
    /// Where the shim listens. Any length: it is bound by a short name.
    pub socket: PathBuf,
    /// Host name of the UTS namespace; empty to keep the machine's.
    pub hostname: String,
    /// Domain name of the UTS namespace; empty to keep the machine's.
    pub domainname: String,
    /// Whether it uses the machine's network (and UTS) namespace.
    pub host_network: bool,
    /// Whether its containers use the machine's process namespace.
    pub host_pid: bool,
    /// Whether it uses the machine's IPC namespace.
    pub host_ipc: bool,
    /// Whether its containers share one process namespace. The shim then keeps a minimal process 1 in it, in the group
    /// `init` below [`SandboxSpec::cgroup`].
    pub share_pid: bool,
    /// The pod's control group, made by the caller. The shim removes it, with everything below, when it shuts down.
    pub cgroup: cgroup::Path,
    /// Kernel settings of the pod's namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// The shim's own `oom_score_adj`; Kubernetes' daemons use -999.
    pub oom_score_adj: i32,
    /// A user namespace of the pod's own, all its containers in it.
    pub users: Option<Users>,
}

/// Mappings of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Ranges of user identifiers.
    pub uids: Vec<IdRange>,
    /// Ranges of group identifiers.
    pub gids: Vec<IdRange>,
}

/// A range of identifiers in a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First identifier inside.
    pub inside: u32,
    /// First identifier outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// `Spec.root.path` as it is, which must then be absolute.
    Directory,
    /// An overlay that the shim mounts over `Spec.root.path` (an empty directory) inside the container's mount namespace,
    /// so that the machine never sees it.
    Overlay {
        /// Unpacked layers, the topmost first; at most 128.
        lowers: Vec<PathBuf>,
        /// Where writes go.
        upper: PathBuf,
        /// The overlay's own directory, on the same file system.
        work: PathBuf,
        /// Further mount options, such as `volatile`.
        options: Vec<String>,
        /// In a sandbox with users of its own: whether what is written belongs on the disk to the users that the container
        /// sees, as the layers' files do. `upper` and `work` then have the same parent.
        mapped: bool,
    },
}

/// A container's standard streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Where output is written, in CRI's log format.
    pub log: Option<LogFile>,
    /// Whether the streams are a terminal. Overrides the specification's `process.terminal`.
    pub terminal: bool,
    /// Whether standard input is kept open for those who attach.
    pub stdin: bool,
    /// Whether it ends when the first of them goes.
    pub stdin_once: bool,
}

/// A log file that the shim rotates: `path`, `path.1`, `path.2`, …, the oldest with the highest number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The current file. Its directory must exist.
    pub path: PathBuf,
    /// Bytes after which the next file is begun; 0 for never.
    pub max_bytes: u64,
    /// Files kept, the current one included; 0 counts as 1.
    pub max_files: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 and the signal's number.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom: bool,
    /// When.
    pub finished_at: SystemTime,
}

/// A container as its shim sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub id: String,
    /// Where it is in its life.
    pub status: protocol::State,
    /// Its first process while it lives.
    pub pid: Option<i32>,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its program was started.
    pub started_at: Option<SystemTime>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Whether it is frozen.
    pub paused: bool,
}

/// What a shim says of itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// The shim's process identifier.
    pub pid: i32,
    /// The pod's network namespace, valid while the shim lives.
    pub netns: PathBuf,
    /// Its protocol version.
    pub version: u32,
    /// The first process of the pod's shared process namespace.
    pub init: Option<i32>,
    /// Its containers, in the order of creation.
    pub containers: Vec<ContainerState>,
}

/// Something happened in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container's first process has ended, its log is complete and its exit is on disk.
    Exited {
        /// The container.
        id: String,
        /// How it ended.
        exit: Exit,
    },
    /// The kernel killed a process of a container for want of memory, and the container goes on for now.
    Oom {
        /// The container.
        id: String,
    },
}

/// A process that was run in a container, or a container's own streams.
#[derive(Debug)]
pub struct Exec {
    /// Its name within the container; empty for an attachment.
    pub id: String,
    /// Its process identifier, 0 for an attachment.
    pub pid: i32,
    /// Takes its input; dropping it ends the input (but not a terminal's).
    pub stdin: Option<Input>,
    /// Gives its output; with a terminal everything.
    pub stdout: Option<Output>,
    /// Gives its errors.
    pub stderr: Option<Output>,
    terminal: Option<Terminal>,
    exit: Option<tokio::sync::oneshot::Receiver<Exit>>,
}

impl Exec {
    /// How the process ended, once it has. Only once; an attachment has no exit of its own.
    pub async fn exit(&mut self) -> Result<Exit, Error> {
        match self.exit.take() {
            Some(receiver) => receiver.await.map_err(|_| Error::Gone(self.id.clone())),
            None => Err(Error::State(format!("exec {} has no exit to wait for", self.id))),
        }
    }

    /// The same apart from the streams, for whoever waits elsewhere than they are read.
    pub fn take_exit(&mut self) -> Option<tokio::sync::oneshot::Receiver<Exit>> {
        self.exit.take()
    }

    /// The terminal of an exec that has one: sets its size. (An attached container's is [`Shim::resize`]'s.)
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal.clone()
    }
}

/// A handle to a shim. Cloning gives another handle to the same connection, which ends with the last.
#[derive(Clone, Debug)]
pub struct Shim {
    id: Arc<str>,
    hello: Arc<protocol::Hello>,
    connection: Arc<connection::Connection>,
    execs: Arc<AtomicU64>,
}

impl Shim {
    /// Starts a shim and connects to it. It belongs to nobody afterwards: a session of its own, adopted by process 1.
    pub async fn launch(task: &Task, binary: &Binary, spec: &SandboxSpec) -> Result<Self, Error> {
        let (binary, sandbox) = (binary.clone(), launch::sandbox(spec)?);
        let socket = spec.socket.clone();
        tokio::task::spawn_blocking(move || launch::run(&binary, &sandbox))
            .await
            .map_err(|error| Error::Failed(format!("launch shim: {error}")))??;
        Self::connect(task, &socket).await
    }

    /// Finds a running shim again.
    pub async fn connect(task: &Task, socket: &Path) -> Result<Self, Error> {
        let what = format!("connect to shim {}", socket.display());
        let stream = launch::connect(socket).map_err(Error::io(what.clone()))?;
        let connection = connection::Connection::open(task, stream, &what)?;
        let response = connection.call(Call::Hello(Nothing {}), &[]).await?;
        let Some(Reply::Hello(hello)) = response.reply else {
            return Err(Error::Failed(format!("{what}: it did not say hello")));
        };
        connection.call(Call::Subscribe(Nothing {}), &[]).await?;
        let id: Arc<str> = hello.id.as_str().into();
        // Names of execs must differ from those of an earlier daemon that the shim may still know.
        let first =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        Ok(Self { id, hello: hello.into(), connection: connection.into(), execs: Arc::new(first.into()) })
    }

    /// The pod's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The shim's process identifier.
    pub fn pid(&self) -> i32 {
        self.hello.pid
    }

    /// The pod's network namespace, valid while the shim lives.
    pub fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.hello.pid).into()
    }

    async fn call(&self, call: Call) -> Result<protocol::Response, Error> {
        self.connection.call(call, &[]).await
    }

    /// Everything the shim knows.
    pub async fn info(&self) -> Result<Info, Error> {
        let response = self.call(Call::Info(Nothing {})).await?;
        let Some(Reply::Info(info)) = response.reply else {
            return Err(Error::Failed(format!("shim {} gave no information", self.id)));
        };
        Ok(Info {
            pid: self.hello.pid,
            netns: self.netns(),
            version: self.hello.version,
            init: Some(self.hello.init).filter(|&pid| pid != 0),
            containers: info.containers.into_iter().map(ContainerState::from).collect(),
        })
    }

    /// Makes a container, up to the point of running its program. On failure nothing is left of it.
    ///
    /// Namespaces that the specification does not list are the pod's. Its control group is `linux.cgroupsPath` below the
    /// root of the hierarchies, or `id` below the pod's. Returns the process identifier.
    pub async fn create(&self, id: &str, spec: &Spec, rootfs: &Rootfs, stdio: &Stdio) -> Result<i32, Error> {
        let group = match spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref()) {
            Some(path) => cgroup::Path::new(&path.to_string_lossy())?,
            None => cgroup::Path::new(&self.hello.cgroup)?.join(id)?,
        };
        let mut plan = compile::plan(spec, rootfs_of(rootfs), &cgroup::Version::detect()?, Some(&group))?;
        if let Some(process) = &mut plan.process {
            process.terminal = stdio.terminal;
        }
        let log = match &stdio.log {
            Some(log) => Some(protocol::Log {
                path: text(&log.path)?,
                max_bytes: log.max_bytes,
                max_files: log.max_files.max(1),
            }),
            None => None,
        };
        let create =
            protocol::Create { id: id.into(), plan: Some(plan), log, stdin: stdio.stdin, stdin_once: stdio.stdin_once };
        Ok(started(self.call(Call::Create(create.into())).await?).pid)
    }

    /// Runs the program of a created container; returns once it runs.
    pub async fn start(&self, id: &str) -> Result<SystemTime, Error> {
        let response = self.call(Call::Start(target(id))).await?;
        Ok(time(started(response).at))
    }

    /// Sends a signal to the container's first process, or to `all` its processes. Succeeds where it has ended already.
    pub async fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), Error> {
        let kill = protocol::Kill { id: id.into(), exec: String::new(), signal, all };
        self.call(Call::Kill(kill)).await.map(drop)
    }

    /// Sends a signal to a process that [`Shim::exec`] started.
    pub async fn kill_exec(&self, id: &str, exec: &str, signal: i32) -> Result<(), Error> {
        let kill = protocol::Kill { id: id.into(), exec: exec.into(), signal, all: false };
        self.call(Call::Kill(kill)).await.map(drop)
    }

    /// Removes a container that has ended, with its control group. With `force`, kills it first.
    pub async fn delete(&self, id: &str, force: bool) -> Result<(), Error> {
        self.call(Call::Delete(protocol::Target { id: id.into(), force })).await.map(drop)
    }

    /// Changes a container's limits.
    pub async fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), Error> {
        let info = self.call(Call::Info(Nothing {})).await?;
        let Some(Reply::Info(info)) = info.reply else { return Err(Error::Gone(self.id.to_string())) };
        let container = info
            .containers
            .into_iter()
            .find(|container| container.id == id)
            .ok_or_else(|| Error::NotFound(format!("no container {id}")))?;
        let path = cgroup::Path::new(&container.cgroup)?;
        let update = compile::update(resources, &cgroup::Version::detect()?, &path)?;
        self.call(Call::Update(protocol::Update { id: id.into(), ..update })).await.map(drop)
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let resize =
            protocol::Resize { id: id.into(), exec: String::new(), rows: rows.into(), columns: columns.into() };
        self.call(Call::Resize(resize)).await.map(drop)
    }

    /// Freezes a container.
    pub async fn pause(&self, id: &str) -> Result<(), Error> {
        self.call(Call::Pause(target(id))).await.map(drop)
    }

    /// Lets a frozen container go on.
    pub async fn resume(&self, id: &str) -> Result<(), Error> {
        self.call(Call::Resume(target(id))).await.map(drop)
    }

    /// Opens a container's log file anew, after someone else has moved it.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        self.call(Call::ReopenLog(target(id))).await.map(drop)
    }

    /// Runs a process in a container and returns once it runs. With a terminal, `stdout` gives everything.
    pub async fn exec(&self, id: &str, process: &Process, terminal: bool, stdin: bool) -> Result<Exec, Error> {
        let mut process = compile::process(process)?;
        process.terminal = terminal;
        let exec = format!("{:x}", self.execs.fetch_add(1, Ordering::Relaxed));
        let request =
            |streams| protocol::Exec { id: id.into(), exec: exec.clone(), process: Some(process.clone()), streams };
        let exit = self.connection.expect_exit(&exec);
        if terminal {
            let call = Call::Exec(request(0).into());
            let mut response = self.connection.call_with_descriptors(call, &[]).await;
            if response.is_err() {
                self.connection.forget_exit(&exec);
            }
            let (started_response, descriptors) = response.as_mut().map_err(take_error)?;
            let master = descriptors
                .pop()
                .ok_or_else(|| Error::Failed(format!("shim {} gave no terminal for an exec", self.id)))?;
            let terminal = Terminal::new(master).map_err(Error::io("open the terminal of an exec"))?;
            return Ok(Exec {
                id: exec,
                pid: started(std::mem::take(started_response)).pid,
                stdin: stdin.then(|| Input::Terminal(terminal.clone())),
                stdout: Some(Output::Terminal(terminal.clone())),
                stderr: None,
                terminal: Some(terminal),
                exit: Some(exit),
            });
        }
        let pipes = || stream::Pipes::new(stdin, true).map_err(Error::io("make pipes for an exec"));
        let pipes = match pipes() {
            Ok(pipes) => pipes,
            Err(error) => {
                self.connection.forget_exit(&exec);
                return Err(error);
            }
        };
        let result = self.connection.call(Call::Exec(request(pipes.streams()).into()), &pipes.theirs()).await;
        match result {
            Ok(response) => Ok(Exec {
                id: exec,
                pid: started(response).pid,
                stdin: pipes.stdin,
                stdout: pipes.stdout,
                stderr: pipes.stderr,
                terminal: None,
                exit: Some(exit),
            }),
            Err(error) => {
                self.connection.forget_exit(&exec);
                Err(error)
            }
        }
    }

    /// Joins a container's streams, from now on. Dropping the streams leaves it alone, except that `stdin_once` ends its
    /// input. With a terminal everything comes on `stdout`.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Exec, Error> {
        let pipes = stream::Pipes::new(stdin, true).map_err(Error::io("make pipes to attach"))?;
        let call = Call::Attach(protocol::Attach { id: id.into(), streams: pipes.streams() });
        self.connection.call(call, &pipes.theirs()).await?;
        Ok(Exec {
            id: String::new(),
            pid: 0,
            stdin: pipes.stdin,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            terminal: None,
            exit: None,
        })
    }

    /// Connects to a TCP port on the loopback of the pod.
    pub async fn dial(&self, port: u16) -> Result<tokio::net::TcpStream, Error> {
        let call = Call::Dial(protocol::Dial { port: port.into() });
        let (_, mut descriptors) = self.connection.call_with_descriptors(call, &[]).await?;
        let socket = descriptors
            .pop()
            .ok_or_else(|| Error::Failed(format!("shim {} gave no connection to port {port}", self.id)))?;
        let stream = std::net::TcpStream::from(socket);
        stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpStream::from_std(stream))
            .map_err(Error::io(format!("connect to port {port} of {}", self.id)))
    }

    /// What happens from now on, in order. Ends when the shim or the connection does.
    pub fn events(&self) -> Events {
        self.connection.events()
    }

    /// Kills everything, removes the control groups and the socket, and waits until the shim is gone.
    pub async fn shutdown(&self) -> Result<(), Error> {
        match self.call(Call::Shutdown(Nothing {})).await {
            Ok(_) | Err(Error::Gone(_)) => {}
            Err(error) => return Err(error),
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), self.connection.closed());
        closed.await.map_err(|_| Error::Failed(format!("shim {} does not end", self.id)))
    }
}

fn take_error(error: &mut Error) -> Error {
    std::mem::replace(error, Error::Gone(String::new()))
}

fn rootfs_of(rootfs: &Rootfs) -> compile::Rootfs<'_> {
    match rootfs {
        Rootfs::Directory => compile::Rootfs::Directory,
        Rootfs::Overlay { lowers, upper, work, options, mapped } => {
            compile::Rootfs::Overlay { lowers, upper, work, options, mapped: *mapped }
        }
    }
}

fn text(path: &Path) -> Result<String, Error> {
    compile::text(path).map_err(Error::from)
}

fn target(id: &str) -> protocol::Target {
    protocol::Target { id: id.into(), force: false }
}

fn time(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn started(response: protocol::Response) -> protocol::Started {
    match response.reply {
        Some(Reply::Started(started)) => started,
        _ => protocol::Started::default(),
    }
}

impl From<protocol::Exit> for Exit {
    fn from(exit: protocol::Exit) -> Self {
        Self {
            code: exit.code,
            signal: Some(exit.signal).filter(|&signal| signal != 0),
            oom: exit.oom,
            finished_at: time(exit.finished_at),
        }
    }
}

impl From<protocol::Container> for ContainerState {
    fn from(container: protocol::Container) -> Self {
        Self {
            status: container.state(),
            pid: Some(container.pid).filter(|&pid| pid != 0),
            created_at: time(container.created_at),
            started_at: Some(container.started_at).filter(|&at| at != 0).map(time),
            exit: container.exit.map(Exit::from),
            paused: container.paused,
            id: container.id,
        }
    }
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<std::os::fd::BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
