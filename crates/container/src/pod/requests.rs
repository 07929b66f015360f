//! What daemons ask for.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::EventFlags,
    fs::{Mode, OFlags, inotify},
    pipe::PipeFlags,
};

use super::{
    Asker, Pod, Source,
    attach::Attachment,
    container::{self, Container, Exec},
    log::Log,
};
use crate::{
    cgroup,
    child::{Context, Failure, Gate},
    clock,
    command::json_text,
    plan::Seccomp,
    protocol::{self, Call, FaultKind, Reply, State},
    spawn, sys,
};

/// Containers of one pod, stopped ones included.
const CONTAINERS: usize = 1000;

/// Further processes at a time.
const EXECS: usize = 1000;

/// Attachments of one container at a time.
const ATTACHMENTS: usize = 64;

/// How long the end of everything may take.
const END: Duration = Duration::from_secs(10);

type Answer = Result<Option<Reply>, Failure>;

fn fault<T>(kind: FaultKind, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { kind, message: message.into() })
}

impl Pod {
    /// Does what is asked. Some answers come later, from elsewhere.
    pub(super) fn request(&mut self, asker: Asker, call: Option<Call>, descriptors: Vec<OwnedFd>) {
        let answer = match call {
            Some(Call::Hello(_)) => Ok(Some(Reply::Hello(self.hello()))),
            Some(Call::Info(_)) => {
                let containers = self.containers.iter().map(Container::shown).collect();
                Ok(Some(Reply::Info(protocol::Info { containers })))
            }
            Some(Call::Subscribe(_)) => {
                if let Some(connection) = self.connection(asker.connection) {
                    connection.subscribed = true;
                }
                Ok(None)
            }
            Some(Call::Create(create)) => match self.create(asker, *create) {
                // Answered when the child is ready.
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Call::Start(target)) => match self.start(asker, &target.id) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Call::Exec(exec)) => match self.exec(asker, *exec, descriptors) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Call::Delete(target)) => match self.delete_request(asker, &target) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Call::Kill(kill)) => self.kill(&kill),
            Some(Call::Update(update)) => self.update(&update),
            Some(Call::Resize(resize)) => self.resize(&resize),
            Some(Call::Attach(attach)) => self.attach(&attach, descriptors),
            Some(Call::Pause(target)) => self.freeze(&target.id, true),
            Some(Call::Resume(target)) => self.freeze(&target.id, false),
            Some(Call::ReopenLog(target)) => self.reopen_log(&target.id),
            Some(Call::Dial(dial)) => match self.dial(&dial) {
                Ok(socket) => return self.answer_with(asker, Ok(None), vec![socket]),
                Err(failure) => Err(failure),
            },
            Some(Call::Shutdown(_)) => return self.shut_down(asker),
            None => fault(FaultKind::Invalid, "this shim is older than what is asked of it"),
        };
        self.answer(asker, answer);
    }

    fn hello(&self) -> protocol::Hello {
        protocol::Hello {
            version: protocol::VERSION,
            id: self.sandbox.id.clone(),
            pid: std::process::id() as i32,
            init: self.init.as_ref().map_or(0, |(pid, _)| *pid),
            cgroup: self.sandbox.cgroup.as_ref().map(|cgroup| cgroup.path.clone()).unwrap_or_default(),
        }
    }

    fn find(&mut self, id: &str) -> Result<&mut Container, Failure> {
        match self.containers.iter_mut().find(|container| container.id == id) {
            Some(container) => Ok(container),
            None => fault(FaultKind::NotFound, format!("no container {id}")),
        }
    }

    fn create(&mut self, asker: Asker, create: protocol::Create) -> Result<(), Failure> {
        let protocol::Create { id, plan, log, stdin, stdin_once } = create;
        let Some(mut plan) = plan else { return fault(FaultKind::Invalid, "nothing to create") };
        if id.is_empty() || id.len() > 255 || id.contains(['/', '\0']) {
            return fault(FaultKind::Invalid, format!("{id:?} is not a container's name"));
        }
        if self.containers.iter().any(|container| container.id == id) {
            return fault(FaultKind::Exists, format!("container {id} exists already"));
        }
        if self.ending.is_some() || self.containers.len() >= CONTAINERS {
            return fault(FaultKind::State, "no more containers can be made here");
        }
        if self.users.is_some() {
            (plan.uids, plan.gids) = (self.sandbox.uids.clone(), self.sandbox.gids.clone());
        }
        let Some(process) = &mut plan.process else { return fault(FaultKind::Invalid, "nothing to run") };
        let terminal = process.terminal;
        let seccomp = process.seccomp.clone().map(|seccomp| self.shared_filter(seccomp));
        let labels = (process.apparmor.clone(), process.selinux.clone());
        let annotations = &plan.annotations;
        plan.bundle = format!("\"ociVersion\":\"1.2.0\",\"id\":{},\"bundle\":\"\"", json_text(&id));
        debug_assert!(annotations.is_empty() || annotations.starts_with('{'));

        let log = log.map(|log| Log::open(log, terminal).context(|| "open the log")).transpose()?;
        let serial = self.next_serial();
        let device_program = match &plan.cgroup {
            Some(cgroup) => spawn::make_group(&self.version, cgroup).inspect_err(|_| self.remove_group(cgroup))?,
            None => None,
        };
        let result = self.spawn(&plan, serial, log.is_some(), terminal, stdin);
        let (spawned, ours) = match result {
            Ok(spawned) => spawned,
            Err(failure) => {
                if let Some(cgroup) = &plan.cgroup {
                    self.remove_group(cgroup);
                }
                return Err(failure);
            }
        };
        let own_pid_namespace = plan
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == libc::CLONE_NEWPID as u64 && namespace.path.is_empty());
        let (memory_event, memory_watch) = self.watch_memory(&plan, serial);
        let [stdin, out, error] = ours;
        let cgroup = plan.cgroup.take().map(|mut cgroup| {
            cgroup.writes = Vec::new();
            cgroup.device_program = Vec::new();
            cgroup
        });
        self.containers.push(Container {
            serial,
            id,
            state: State::Creating,
            pid: spawned.pid,
            pidfd: Some(spawned.pidfd),
            sync: Some(spawned.sync),
            asker: Some(asker),
            created_at: clock::now(),
            started_at: 0,
            exit: None,
            paused: false,
            cgroup,
            device_program,
            own_pid_namespace,
            log,
            outputs: [out, error],
            held: [false, false],
            terminal: None,
            stdin,
            stdin_pending: Vec::new(),
            stdin_once,
            stdin_ending: false,
            attachments: Vec::new(),
            next_attachment: 0,
            seccomp,
            labels,
            plan: if plan.hooks.is_empty() { None } else { Some(Box::new(plan)) },
            memory_event,
            memory_watch,
            oom_kills: 0,
            second_look: None,
            dying: None,
            deleting: None,
        });
        Ok(())
    }

    /// Filters are large and mostly the same: those of a pod's containers are kept once.
    fn shared_filter(&self, seccomp: Seccomp) -> Rc<Seccomp> {
        let known = self.containers.iter().filter_map(|container| container.seccomp.as_ref());
        known.into_iter().find(|known| ***known == seccomp).cloned().unwrap_or_else(|| Rc::new(seccomp))
    }

    fn remove_group(&self, cgroup: &crate::plan::Cgroup) {
        if let Ok(path) = cgroup::Path::new(&cgroup.path) {
            let _ = cgroup::Group::open(&self.version, &path).remove(Duration::from_millis(100));
        }
    }

    /// Makes the process and its streams: our ends of input, output and error come back.
    fn spawn(
        &mut self,
        plan: &crate::plan::Plan,
        serial: u32,
        log: bool,
        terminal: bool,
        stdin: bool,
    ) -> Result<(spawn::Spawned, [Option<OwnedFd>; 3]), Failure> {
        let mut ours = [None, None, None];
        let mut theirs = [None, None, None];
        if !terminal {
            let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe");
            if stdin {
                let (reader, writer) = pipe()?;
                rustix::io::ioctl_fionbio(&writer, true).context(|| "make a pipe")?;
                (theirs[0], ours[0]) = (Some(reader), Some(writer));
            } else {
                theirs[0] = Some(null()?);
            }
            // Also without a log someone may attach.
            let _ = log;
            for stream in [1, 2] {
                let (reader, writer) = pipe()?;
                rustix::io::ioctl_fionbio(&reader, true).context(|| "make a pipe")?;
                (ours[stream], theirs[stream]) = (Some(reader), Some(writer));
            }
        }
        let place = spawn::Place {
            home: &self.home,
            shared_pid: self.init.as_ref().map(|(_, pidfd)| pidfd.as_fd()),
            users: self.users.as_ref(),
        };
        let spawned = spawn::container(plan, theirs, || Gate::Sync, place)?;
        let watch = || -> rustix::io::Result<()> {
            rustix::io::ioctl_fionbio(&spawned.sync, true)?;
            self.poll.add(&spawned.sync, Source::Sync(serial), EventFlags::IN)?;
            if let Some(stdin) = &ours[0] {
                self.poll.add(stdin, Source::Input(serial), EventFlags::empty())?;
            }
            for (stream, error) in [(&ours[1], false), (&ours[2], true)] {
                if let Some(stream) = stream {
                    self.poll.add(stream, Source::Output(serial, error), EventFlags::IN)?;
                }
            }
            Ok(())
        };
        if let Err(error) = watch() {
            let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
            return Err(error).context(|| "watch the container");
        }
        Ok((spawned, ours))
    }

    /// Best effort: without it, an out-of-memory kill is still seen when the container ends.
    fn watch_memory(&mut self, plan: &crate::plan::Plan, serial: u32) -> (Option<OwnedFd>, Option<i32>) {
        let Some(path) = plan.cgroup.as_ref().and_then(|cgroup| cgroup::Path::new(&cgroup.path).ok()) else {
            return (None, None);
        };
        if !self.version.is_v2() {
            let event = container::watch_memory_v1(&self.version, &path).ok();
            let event = event.filter(|event| self.poll.add(event, Source::Memory(serial), EventFlags::IN).is_ok());
            return (event, None);
        }
        if self.watch.is_none()
            && let Ok(watch) = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            && self.poll.add(&watch, Source::MemoryEvents, EventFlags::IN).is_ok()
        {
            self.watch = Some(watch);
        }
        let file = self.version.directory_of("memory", &path).map(|directory| directory.join("memory.events"));
        let number = match (&self.watch, file) {
            (Some(watch), Some(file)) => inotify::add_watch(watch, file, inotify::WatchFlags::MODIFY).ok(),
            _ => None,
        };
        (None, number)
    }

    fn start(&mut self, asker: Asker, id: &str) -> Result<(), Failure> {
        let container = self.find(id)?;
        if container.state != State::Created || container.asker.is_some() {
            return fault(FaultKind::State, format!("container {id} is not waiting for its start"));
        }
        let Some(sync) = &container.sync else {
            return fault(FaultKind::State, format!("container {id} is not waiting for its start"));
        };
        spawn::go(sync.as_fd()).context(|| format!("start container {id}"))?;
        container.asker = Some(asker);
        Ok(())
    }

    fn kill(&mut self, kill: &protocol::Kill) -> Answer {
        if !(0..=64).contains(&kill.signal) {
            return fault(FaultKind::Invalid, format!("{} is not a signal", kill.signal));
        }
        let version = self.version.clone();
        if !kill.exec.is_empty() {
            let serial = self.find(&kill.id)?.serial;
            let exec = self.execs.iter().find(|exec| exec.container == serial && exec.id == kill.exec);
            return match exec.map(|exec| sys::kill(&exec.pidfd, kill.signal)) {
                None => fault(FaultKind::NotFound, format!("no process {} in container {}", kill.exec, kill.id)),
                Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(None),
                Some(Err(error)) => Err(error).context(|| format!("signal process {}", kill.exec)),
            };
        }
        let container = self.find(&kill.id)?;
        if kill.all
            && let Some(group) = container.group(&version)
        {
            if kill.signal == libc::SIGKILL {
                cgroup::kill_once(&version, group.path());
            } else {
                for pid in group.processes() {
                    let _ = sys::kill_pid(pid, kill.signal);
                }
            }
        }
        match container.pidfd.as_ref().map(|pidfd| sys::kill(pidfd, kill.signal)) {
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
            Some(Err(error)) => return Err(error).context(|| format!("signal container {}", kill.id)),
        }
        // A frozen process only dies once it thaws.
        if container.paused && kill.signal == libc::SIGKILL {
            if let Some(group) = container.group(&version) {
                let _ = group.freeze(false);
            }
            container.paused = false;
        }
        Ok(None)
    }

    fn delete_request(&mut self, asker: Asker, target: &protocol::Target) -> Result<(), Failure> {
        let container = self.find(&target.id)?;
        let (serial, stopped) = (container.serial, container.state == State::Stopped);
        if container.deleting.is_some() {
            return fault(FaultKind::State, format!("container {} is being removed", target.id));
        }
        if !stopped {
            if !target.force {
                return fault(FaultKind::State, format!("container {} is running", target.id));
            }
            self.kill(&protocol::Kill {
                id: target.id.clone(),
                signal: libc::SIGKILL,
                all: true,
                ..Default::default()
            })?;
        }
        self.delete(serial, Some(asker));
        Ok(())
    }

    fn update(&mut self, update: &protocol::Update) -> Answer {
        let container = self.find(&update.id)?;
        let Some(cgroup) = &container.cgroup else {
            return fault(FaultKind::State, format!("container {} has no control group", update.id));
        };
        // Nothing but this container's own files.
        let own = |write: &crate::plan::Write| {
            let mut directories = cgroup.directories.iter();
            let name = directories.find_map(|directory| write.file.strip_prefix(directory.as_str())?.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/'))
        };
        if let Some(write) = update.writes.iter().find(|write| !own(write)) {
            return fault(FaultKind::Invalid, format!("{} is not a control file of {}", write.file, update.id));
        }
        spawn::write_all(&update.writes)?;
        let earlier = container.device_program.as_ref().map(AsFd::as_fd);
        if let Some(program) = spawn::attach_program(cgroup, &update.device_program, earlier)? {
            container.device_program = Some(program);
        }
        Ok(None)
    }

    fn resize(&mut self, resize: &protocol::Resize) -> Answer {
        let container = self.find(&resize.id)?;
        let Some(terminal) = &container.terminal else {
            return fault(FaultKind::State, format!("container {} has no terminal", resize.id));
        };
        let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let size = rustix::termios::Winsize {
            ws_row: number(resize.rows),
            ws_col: number(resize.columns),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).context(|| "set the terminal's size")?;
        Ok(None)
    }

    fn exec(&mut self, asker: Asker, exec: protocol::Exec, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        let Some(mut process) = exec.process else { return fault(FaultKind::Invalid, "nothing to run") };
        let container = self.find(&exec.id)?;
        let (State::Running | State::Created, Some(pidfd)) = (container.state, &container.pidfd) else {
            return fault(FaultKind::State, format!("container {} is not running", exec.id));
        };
        if container.paused {
            return fault(FaultKind::State, format!("container {} is paused", exec.id));
        }
        let (serial, pid) = (container.serial, container.pid);
        process.seccomp = container.seccomp.as_deref().cloned();
        process.apparmor = process.apparmor.or_else(|| container.labels.0.clone());
        process.selinux = process.selinux.or_else(|| container.labels.1.clone());
        let pidfd = rustix::io::fcntl_dupfd_cloexec(pidfd, 3).context(|| "copy a descriptor")?;
        let cgroup = container.cgroup.clone();
        if self.execs.iter().any(|other| other.container == serial && other.id == exec.exec) {
            return fault(FaultKind::Exists, format!("process {} exists already in {}", exec.exec, exec.id));
        }
        if self.execs.len() >= EXECS {
            return fault(FaultKind::State, "too many processes at a time");
        }
        let mut stdio = [None, None, None];
        if !process.terminal {
            let mut descriptors = descriptors.into_iter();
            for (stream, bit) in [protocol::STDIN, protocol::STDOUT, protocol::STDERR].into_iter().enumerate() {
                stdio[stream] = match if exec.streams & bit != 0 { descriptors.next() } else { None } {
                    Some(descriptor) => Some(descriptor),
                    None => Some(null()?),
                };
            }
        }
        let spawned = spawn::exec(&process, stdio, pidfd.as_fd(), pid, cgroup.as_ref(), &self.home)?;
        let serial_of_exec = self.next_serial();
        let watched = rustix::io::ioctl_fionbio(&spawned.sync, true)
            .and_then(|()| self.poll.add(&spawned.sync, Source::ExecSync(serial_of_exec), EventFlags::IN));
        if let Err(error) = watched {
            let _ = sys::kill(&spawned.pidfd, libc::SIGKILL);
            return Err(error).context(|| "watch the process");
        }
        self.execs.push(Exec {
            serial: serial_of_exec,
            container: serial,
            id: exec.exec,
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            sync: Some(spawned.sync),
            terminal: None,
            asker,
            failed: false,
        });
        Ok(())
    }

    fn attach(&mut self, attach: &protocol::Attach, descriptors: Vec<OwnedFd>) -> Answer {
        let Some(container) = self.containers.iter_mut().find(|container| container.id == attach.id) else {
            return fault(FaultKind::NotFound, format!("no container {}", attach.id));
        };
        if !matches!(container.state, State::Running | State::Created) {
            return fault(FaultKind::State, format!("container {} is not running", attach.id));
        }
        if container.attachments.len() >= ATTACHMENTS {
            return fault(FaultKind::State, format!("too many are attached to container {}", attach.id));
        }
        let index = container.next_attachment;
        container.next_attachment = index.wrapping_add(1);
        let mut attachment = Attachment::new(&self.poll, container.serial, index, attach.streams, descriptors)
            .context(|| format!("attach to container {}", attach.id))?;
        if container.terminal.is_none() && container.stdin.is_none() {
            // Nobody takes input.
            attachment.drop_input(&self.poll);
        }
        container.attachments.push((index, attachment));
        Ok(None)
    }

    fn freeze(&mut self, id: &str, frozen: bool) -> Answer {
        let version = self.version.clone();
        let container = self.find(id)?;
        if container.state != State::Running {
            return fault(FaultKind::State, format!("container {id} is not running"));
        }
        let Some(group) = container.group(&version) else {
            return fault(FaultKind::State, format!("container {id} has no control group"));
        };
        group.freeze(frozen).context(|| format!("container {id}"))?;
        container.paused = frozen;
        Ok(None)
    }

    fn reopen_log(&mut self, id: &str) -> Answer {
        let container = self.find(id)?;
        match &mut container.log {
            Some(log) => log.reopen().context(|| format!("open the log of container {id}"))?,
            None => return fault(FaultKind::State, format!("container {id} writes no log")),
        }
        Ok(None)
    }

    fn dial(&self, dial: &protocol::Dial) -> Result<OwnedFd, Failure> {
        let Some(port) = u16::try_from(dial.port).ok().filter(|&port| port != 0) else {
            return fault(FaultKind::Invalid, format!("{} is not a port", dial.port));
        };
        // On the loopback a connection is made or refused at once.
        let limit = Duration::from_millis(500);
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        let first = TcpStream::connect_timeout(&addresses[0], limit);
        let socket = first.or_else(|error| TcpStream::connect_timeout(&addresses[1], limit).map_err(|_| error));
        socket.context(|| format!("connect to port {port} of {}", self.sandbox.id)).map(OwnedFd::from)
    }

    fn shut_down(&mut self, asker: Asker) {
        self.ending = Some((asker, Instant::now() + END));
        let serials: Vec<_> =
            self.containers.iter().map(|container| (container.serial, container.id.clone())).collect();
        for (serial, id) in serials {
            let _ = self.kill(&protocol::Kill { id, signal: libc::SIGKILL, all: true, ..Default::default() });
            self.delete(serial, None);
        }
        if let Some((_, init)) = &self.init {
            let _ = sys::kill(init, libc::SIGKILL);
        }
    }

    /// Whether everything is gone, or given up, and the asker told so.
    pub(super) fn try_end(&mut self, now: Instant) -> bool {
        let Some((asker, until)) = self.ending else { return false };
        if !self.containers.is_empty() && now < until {
            return false;
        }
        let path = self.sandbox.cgroup.as_ref().and_then(|cgroup| cgroup::Path::new(&cgroup.path).ok());
        if let Some(path) = path {
            let group = cgroup::Group::open(&self.version, &path);
            if let Err(error) = group.remove(Duration::ZERO) {
                cgroup::kill_once(&self.version, &path);
                if now < until {
                    return false;
                }
                eprintln!("{error}");
            }
        }
        let _ = std::fs::remove_file(&self.sandbox.socket);
        let left: Vec<_> = self.containers.iter().map(|container| container.id.as_str()).collect();
        let result = if left.is_empty() {
            Ok(None)
        } else {
            Err(Failure::new(format!("containers {} do not end", left.join(", "))))
        };
        self.answer(asker, result);
        true
    }
}

fn null() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open /dev/null")
}
