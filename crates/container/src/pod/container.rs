//! A container and its further processes, from the event loop's side.
//!
//! ```text
//!  Creating ──READY──▶ Created ──start──▶ Running ──first process ends──▶ draining ──▶ Stopped ──delete──▶ gone
//!      └── failed: gone       └────────────────────────────────────────────────▲
//! ```
//!
//! *Draining*: the output that is still in the pipes is read, then the exit is written down, then announced.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, io::Errno};

use super::{
    Asker, Pod, Source,
    attach::{Attachment, write_some},
    log::{Log, Stream},
};
use crate::{
    cgroup,
    child::{self, Failure},
    clock,
    plan::{Cgroup, Moment, Plan, Seccomp},
    protocol::{self, FaultKind, Reply, State},
    spawn::{self, Said},
    sys,
};

/// How long output is waited for after the first process has ended, when others still hold the pipes.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a control group may take to empty before a removal is given up.
const REMOVAL: Duration = Duration::from_secs(10);

/// How long after a first notice of an out-of-memory kill its count is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// A container.
#[derive(Debug)]
pub struct Container {
    pub serial: u32,
    pub id: String,
    pub state: State,
    /// 0 once its first process has ended.
    pub pid: i32,
    pub pidfd: Option<OwnedFd>,
    pub sync: Option<OwnedFd>,
    /// Who waits for its creation or start.
    pub asker: Option<Asker>,
    pub created_at: u64,
    pub started_at: u64,
    pub exit: Option<protocol::Exit>,
    pub paused: bool,
    pub cgroup: Option<Cgroup>,
    /// Version 2: what limits its devices.
    pub device_program: Option<OwnedFd>,
    /// Whether the kernel ends all its processes with the first.
    pub own_pid_namespace: bool,
    pub log: Option<Log>,
    pub outputs: [Option<OwnedFd>; 2],
    /// Output is not read while a reader is behind.
    pub held: [bool; 2],
    pub terminal: Option<OwnedFd>,
    /// The container's input, and what it has not taken yet.
    pub stdin: Option<OwnedFd>,
    pub stdin_pending: Vec<u8>,
    pub stdin_once: bool,
    /// Its input ends when it has taken what is pending.
    pub stdin_ending: bool,
    pub attachments: Vec<(u16, Attachment)>,
    pub next_attachment: u16,
    /// Also for processes that are run in it later.
    pub seccomp: Option<Rc<Seccomp>>,
    pub labels: (Option<String>, Option<String>),
    /// Kept where it has hooks for later.
    pub plan: Option<Box<Plan>>,
    /// Version 1: tells of out-of-memory.
    pub memory_event: Option<OwnedFd>,
    /// Version 2: number of its watch.
    pub memory_watch: Option<i32>,
    pub oom_kills: u64,
    pub second_look: Option<Instant>,
    /// How its first process ended, while output is drained, and until when.
    pub dying: Option<(i32, i32, Instant)>,
    /// Who waits for its removal, and until when it is tried.
    pub deleting: Option<(Option<Asker>, Instant)>,
}

/// A further process.
#[derive(Debug)]
pub struct Exec {
    pub serial: u32,
    pub container: u32,
    pub id: String,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub sync: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub asker: Asker,
    pub failed: bool,
}

impl Container {
    /// When it is to be looked at again though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let removal = self.deleting.as_ref().map(|_| Instant::now() + Duration::from_millis(2));
        let stalled = self.attachments.iter().filter_map(|(_, attachment)| attachment.deadline()).min();
        let draining = self.dying.map(|(_, _, until)| until);
        [removal, stalled, draining, self.second_look].into_iter().flatten().min()
    }

    /// Whether processes of it live.
    pub fn is_alive(&self) -> bool {
        self.pid != 0
    }

    /// As the protocol shows it.
    pub fn shown(&self) -> protocol::Container {
        protocol::Container {
            id: self.id.clone(),
            state: self.state.into(),
            pid: self.pid,
            created_at: self.created_at,
            started_at: self.started_at,
            exit: self.exit.clone(),
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path.clone()).unwrap_or_default(),
            paused: self.paused,
        }
    }

    pub fn group(&self, version: &cgroup::Version) -> Option<cgroup::Group> {
        let path = cgroup::Path::new(&self.cgroup.as_ref()?.path).ok()?;
        Some(cgroup::Group::open(version, &path))
    }
}

impl Pod {
    pub(super) fn container(&mut self, serial: u32) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.serial == serial)
    }

    /// A container's child has spoken.
    pub(super) fn hear_container(&mut self, serial: u32) {
        loop {
            let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
            let Some(sync) = &container.sync else { return };
            let said = match spawn::hear(sync.as_fd()) {
                Ok(Some(said)) => said,
                Ok(None) => return,
                Err(error) => Said::Failed(Failure::new(format!("hear the container's process: {error}"))),
            };
            match said {
                Said::Hooks => {
                    let result = match &container.plan {
                        Some(plan) => child::run_hooks(plan, Moment::Prestart, "creating", container.pid)
                            .and_then(|()| child::run_hooks(plan, Moment::CreateRuntime, "creating", container.pid)),
                        None => Ok(()),
                    };
                    match result {
                        Ok(()) => {
                            let _ = spawn::go(sync.as_fd());
                        }
                        Err(failure) => return self.creation_failed(serial, failure),
                    }
                }
                Said::Ready(terminal) => self.container_ready(serial, terminal),
                Said::Failed(failure) => return self.creation_failed(serial, failure),
                Said::Silent => return self.container_silent(serial),
            }
        }
    }

    fn container_ready(&mut self, serial: u32, terminal: Option<OwnedFd>) {
        let poll = &self.poll;
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        container.state = State::Created;
        container.created_at = clock::now();
        if let Some(terminal) = terminal {
            let watched = rustix::io::ioctl_fionbio(&terminal, true)
                .and_then(|()| poll.add(&terminal, Source::Output(serial, false), EventFlags::IN));
            if let Err(error) = watched {
                return self.creation_failed(serial, Failure::new(format!("watch the terminal: {error}")));
            }
            container.terminal = Some(terminal);
        }
        let started = protocol::Started { pid: container.pid, at: container.created_at };
        if let Some(asker) = container.asker.take() {
            self.answer(asker, Ok(Some(Reply::Started(started))));
        }
    }

    /// The sync socket has ended: the program runs, or the child is dead without a word.
    fn container_silent(&mut self, serial: u32) {
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        if let Some(sync) = container.sync.take() {
            self.poll.remove(&sync);
        }
        match container.state {
            State::Creating => {
                let failure = Failure::new("the container's process ended while it was set up");
                self.creation_failed(serial, failure);
            }
            State::Created if container.asker.is_some() => {
                container.state = State::Running;
                container.started_at = clock::now();
                let started = protocol::Started { pid: container.pid, at: container.started_at };
                let asker = container.asker.take();
                let hooks = container.plan.as_ref().map(|plan| (plan.clone(), container.pid));
                if let Some(asker) = asker {
                    self.answer(asker, Ok(Some(Reply::Started(started))));
                }
                if let Some((plan, pid)) = hooks
                    && let Err(failure) = child::run_hooks(&plan, Moment::Poststart, "running", pid)
                {
                    // As the specification says, that is noted and no more.
                    eprintln!("{}", failure.message);
                }
            }
            // Killed before its start: its end is heard of in another way.
            _ => {}
        }
    }

    /// Creation or start failed. A container that was never created goes without a trace.
    fn creation_failed(&mut self, serial: u32, failure: Failure) {
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        if let Some(sync) = container.sync.take() {
            self.poll.remove(&sync);
        }
        if let Some(pidfd) = &container.pidfd {
            let _ = sys::kill(pidfd, libc::SIGKILL);
        }
        let asker = container.asker.take();
        if container.state == State::Creating {
            // The answer comes once nothing is left, so that the name can be used again.
            self.remove_quietly(serial);
        }
        if let Some(asker) = asker {
            self.answer(asker, Err(failure));
        }
    }

    /// Takes a container that never was out of the list; its process is reaped as a stranger.
    fn remove_quietly(&mut self, serial: u32) {
        let Some(index) = self.containers.iter().position(|one| one.serial == serial) else { return };
        let mut container = self.containers.remove(index);
        self.forget_streams(&mut container);
        if let Some(group) = container.group(&self.version) {
            group.kill(Duration::from_millis(500));
            // The killed child may be a zombie still, which is in no group's way.
            if let Err(error) = group.remove(Duration::from_millis(500)) {
                eprintln!("remove what was left of container {}: {error}", container.id);
            }
        }
    }

    fn forget_streams(&self, container: &mut Container) {
        for descriptor in container.outputs.iter_mut().chain([
            &mut container.terminal,
            &mut container.stdin,
            &mut container.sync,
            &mut container.memory_event,
        ]) {
            if let Some(descriptor) = descriptor.take() {
                self.poll.remove(&descriptor);
            }
        }
        for (_, mut attachment) in container.attachments.drain(..) {
            attachment.drop_input(&self.poll);
            attachment.drop_output(&self.poll, false);
            attachment.drop_output(&self.poll, true);
        }
        container.stdin_pending = Vec::new();
        container.log = None;
    }

    /// A container has written something.
    pub(super) fn read_output(&mut self, serial: u32, error: bool) {
        // A few times at most, so that one that writes without end leaves the others time.
        for _ in 0..8 {
            if !self.read_output_once(serial, error) {
                return;
            }
        }
    }

    /// Whether there may be more.
    fn read_output_once(&mut self, serial: u32, error: bool) -> bool {
        let (poll, buffer) = (&self.poll, &mut self.buffer);
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return false };
        if container.held[usize::from(error)] {
            return false;
        }
        let terminal = container.terminal.is_some();
        let descriptor = match if terminal { &container.terminal } else { &container.outputs[usize::from(error)] } {
            Some(descriptor) => descriptor,
            None => return false,
        };
        let read = match rustix::io::read(descriptor, &mut buffer[..]) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(Errno::INTR) => return true,
            Err(Errno::AGAIN) => return false,
            // A terminal that no process has open. While the container lives, one may open it again.
            Err(Errno::IO) if terminal && container.is_alive() => {
                poll.remove(descriptor);
                container.held[0] = true;
                container.second_look = Some(Instant::now() + SECOND_LOOK);
                return false;
            }
            Err(_) => 0,
        };
        if read == 0 {
            poll.remove(descriptor);
            let stream = if error { Stream::Err } else { Stream::Out };
            if let Some(log) = &mut container.log {
                log.finish(stream);
            }
            if terminal {
                container.terminal = None;
            } else {
                container.outputs[usize::from(error)] = None;
            }
            for (_, attachment) in &mut container.attachments {
                if !attachment.is_behind(error) {
                    attachment.drop_output(poll, error);
                }
            }
            self.drained(serial);
            return false;
        }
        if let Some(log) = &mut container.log {
            log.write(if error { Stream::Err } else { Stream::Out }, &buffer[..read]);
        }
        let mut behind = false;
        for (index, attachment) in &mut container.attachments {
            attachment.write(poll, (serial, *index), error, &buffer[..read]);
            behind |= attachment.is_behind(error);
        }
        if behind {
            self.hold(serial, error, true);
            return false;
        }
        true
    }

    /// Stops reading a stream, or goes on.
    fn hold(&mut self, serial: u32, error: bool, hold: bool) {
        let poll = &self.poll;
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        if container.held[usize::from(error)] == hold {
            return;
        }
        let terminal = container.terminal.is_some();
        let descriptor = if terminal { &container.terminal } else { &container.outputs[usize::from(error)] };
        let Some(descriptor) = descriptor else { return };
        container.held[usize::from(error)] = hold;
        if hold {
            poll.remove(descriptor);
        } else {
            let _ = poll.add(descriptor, Source::Output(serial, error), EventFlags::IN);
        }
    }

    /// Something about an attached stream: 0 its input, 1 and 2 its outputs.
    pub(super) fn attached(&mut self, serial: u32, index: u16, stream: u8, flags: EventFlags) {
        if stream == 0 {
            return self.take_input(serial, index);
        }
        let error = stream == 2;
        let poll = &self.poll;
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        let Some((_, attachment)) = container.attachments.iter_mut().find(|(own, _)| *own == index) else { return };
        if flags.contains(EventFlags::ERR) {
            attachment.drop_output(poll, error);
        } else if flags.contains(EventFlags::OUT) {
            attachment.flush(poll, (serial, index), error);
            let ended =
                if container.terminal.is_some() { false } else { container.outputs[usize::from(error)].is_none() };
            if ended && !attachment.is_behind(error) {
                attachment.drop_output(poll, error);
            }
        }
        self.settle_attachments(serial);
    }

    /// After a change: forgets who has left, and lets output go on when nobody is behind.
    fn settle_attachments(&mut self, serial: u32) {
        let Some(container) = self.container(serial) else { return };
        let before = container.attachments.len();
        container.attachments.retain(|(_, attachment)| !attachment.is_over());
        if container.attachments.len() < before && container.stdin_once && container.attachments.is_empty() {
            self.end_input(serial);
        }
        for error in [false, true] {
            let Some(container) = self.container(serial) else { return };
            if !container.attachments.iter().any(|(_, attachment)| attachment.is_behind(error)) {
                self.hold(serial, error, false);
            }
        }
    }

    /// An attached client has sent input.
    fn take_input(&mut self, serial: u32, index: u16) {
        let (poll, buffer) = (&self.poll, &mut self.buffer);
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        let Some((_, attachment)) = container.attachments.iter_mut().find(|(own, _)| *own == index) else { return };
        let Some(stdin) = &attachment.stdin else { return };
        let read = match rustix::io::read(stdin, &mut buffer[..4096]) {
            Err(Errno::INTR | Errno::AGAIN) => return,
            Err(_) => 0,
            Ok(read) => read,
        };
        if read == 0 {
            attachment.drop_input(poll);
            let once = container.stdin_once;
            if once {
                self.end_input(serial);
            }
            return self.settle_attachments(serial);
        }
        container.stdin_pending.extend_from_slice(&buffer[..read]);
        self.feed(serial);
    }

    /// Gives a container its input. While it does not take all of it, no more is read.
    pub(super) fn feed(&mut self, serial: u32) {
        let poll = &self.poll;
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        let terminal = container.terminal.is_some();
        let Some(target) = (if terminal { &container.terminal } else { &container.stdin }) else {
            container.stdin_pending.clear();
            return;
        };
        match write_some(target, &container.stdin_pending) {
            Some(written) => drop(container.stdin_pending.drain(..written)),
            None => container.stdin_pending.clear(),
        }
        let full = !container.stdin_pending.is_empty();
        if !full {
            container.stdin_pending = Vec::new();
        }
        if !full && !terminal && container.stdin_ending {
            poll.remove(target);
            container.stdin = None;
            return;
        }
        let readable = if full { EventFlags::empty() } else { EventFlags::IN };
        for (index, attachment) in &container.attachments {
            if let Some(stdin) = &attachment.stdin {
                let _ = poll.modify(stdin, Source::Attached(serial, *index, 0), readable);
            }
        }
        if terminal {
            let flags = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            if !container.held[0] {
                let _ = poll.modify(target, Source::Output(serial, false), flags);
            }
        } else {
            let flags = if full { EventFlags::OUT } else { EventFlags::empty() };
            let _ = poll.modify(target, Source::Input(serial), flags);
        }
    }

    fn end_input(&mut self, serial: u32) {
        let Some(container) = self.container(serial) else { return };
        container.stdin_ending = true;
        self.feed(serial);
    }

    /// A container's first process has ended.
    pub(super) fn container_ended(&mut self, index: usize, code: i32, signal: i32) {
        let serial = self.containers[index].serial;
        // What it said last comes first.
        self.hear_container(serial);
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        if container.state == State::Creating {
            let failure = Failure::new("the container's process ended while it was set up");
            return self.creation_failed(serial, failure);
        }
        container.pid = 0;
        container.pidfd = None;
        container.dying = Some((code, signal, Instant::now() + DRAIN));
        if let Some(asker) = container.asker.take() {
            self.answer(asker, Err(Failure::new("the container's process ended before its program ran")));
        }
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        if !container.own_pid_namespace
            && let Some(cgroup) = &container.cgroup
            && let Ok(path) = cgroup::Path::new(&cgroup.path)
        {
            cgroup::kill_once(&self.version, &path);
        }
        let terminal = container.terminal.is_some();
        if terminal {
            self.read_output(serial, false);
        } else {
            self.read_output(serial, false);
            self.read_output(serial, true);
        }
        self.drained(serial);
    }

    /// Once all output of a container that has ended is read, tells of its end.
    fn drained(&mut self, serial: u32) {
        let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { return };
        let Some((code, signal, until)) = container.dying else { return };
        let open = container.terminal.is_some() || container.outputs.iter().any(Option::is_some);
        if open && Instant::now() < until {
            return;
        }
        container.dying = None;
        for stream in [Stream::Out, Stream::Err] {
            if let Some(log) = &mut container.log {
                log.finish(stream);
            }
        }
        let group = container.group(&self.version);
        let oom = group.map_or(0, |group| group.oom_kills()) > 0;
        let exit = protocol::Exit {
            code: if signal == 0 { code } else { 128 + signal },
            signal,
            oom,
            finished_at: clock::now(),
        };
        container.state = State::Stopped;
        container.paused = false;
        container.exit = Some(exit.clone());
        let id = container.id.clone();
        if let Some(watch) = container.memory_watch.take()
            && let Some(inotify) = &self.watch
        {
            let _ = rustix::fs::inotify::remove_watch(inotify, watch);
        }
        let Some(index) = self.containers.iter().position(|one| one.serial == serial) else { return };
        let mut container = std::mem::take(&mut self.containers[index].attachments);
        self.settle_readers(serial, &mut container);
        self.containers[index].attachments = container;
        let mut streams = std::mem::take(&mut self.containers[index].outputs).into_iter().collect::<Vec<_>>();
        streams.push(self.containers[index].terminal.take());
        streams.push(self.containers[index].stdin.take());
        streams.push(self.containers[index].memory_event.take());
        for descriptor in streams.into_iter().flatten() {
            self.poll.remove(&descriptor);
        }
        self.containers[index].log = None;
        self.containers[index].seccomp = None;
        if let Err(error) = self.exits.write(&id, &exit) {
            // Whoever is connected hears of it all the same.
            eprintln!("write down the end of {id}: {error}");
        }
        self.announce(protocol::Event { id, exec: String::new(), exit: Some(exit) });
        sys::trim_memory();
    }

    /// Ends the streams of those who have read everything.
    fn settle_readers(&self, serial: u32, attachments: &mut Vec<(u16, Attachment)>) {
        for (index, attachment) in attachments.iter_mut() {
            attachment.drop_input(&self.poll);
            for error in [false, true] {
                attachment.flush(&self.poll, (serial, *index), error);
                if !attachment.is_behind(error) {
                    attachment.drop_output(&self.poll, error);
                }
            }
        }
        attachments.retain(|(_, attachment)| !attachment.is_over());
    }

    /// Version 1: a container has met its memory limit.
    pub(super) fn out_of_memory(&mut self, serial: u32) {
        let mut count = [0; 8];
        let Some(container) = self.container(serial) else { return };
        if let Some(event) = &container.memory_event {
            let _ = rustix::io::read(event, &mut count[..]);
        }
        // The notice comes before the kill.
        container.second_look = Some(Instant::now() + SECOND_LOOK);
        self.count_kills(serial);
    }

    /// Version 2: a file of some container has changed.
    pub(super) fn memory_events(&mut self) {
        use rustix::fs::inotify;
        let Some(watch) = &self.watch else { return };
        let mut space = [std::mem::MaybeUninit::uninit(); 512];
        let mut reader = inotify::Reader::new(watch, &mut space);
        let mut numbers = Vec::new();
        while let Ok(event) = reader.next() {
            if !numbers.contains(&event.wd()) {
                numbers.push(event.wd());
            }
            if numbers.len() > 64 {
                break;
            }
        }
        let serials: Vec<_> = self
            .containers
            .iter()
            .filter(|container| container.memory_watch.is_some_and(|watch| numbers.contains(&watch)))
            .map(|container| container.serial)
            .collect();
        for serial in serials {
            self.count_kills(serial);
        }
    }

    fn count_kills(&mut self, serial: u32) {
        let version = self.version.clone();
        let Some(container) = self.container(serial) else { return };
        let kills = container.group(&version).map_or(0, |group| group.oom_kills());
        if kills > container.oom_kills {
            container.oom_kills = kills;
            container.second_look = None;
            if container.state == State::Running {
                let id = container.id.clone();
                self.announce(protocol::Event { id, exec: String::new(), exit: None });
            }
        }
    }

    /// Does what is due. Returns whether the shim is to end.
    pub(super) fn advance(&mut self) -> bool {
        let now = Instant::now();
        let due: Vec<_> = self
            .containers
            .iter()
            .filter(|container| container.deadline().is_some())
            .map(|container| container.serial)
            .collect();
        for serial in due {
            let poll = &self.poll;
            let Some(container) = self.containers.iter_mut().find(|one| one.serial == serial) else { continue };
            for (_, attachment) in &mut container.attachments {
                attachment.drop_stalled(poll, now);
            }
            if container.second_look.is_some_and(|at| now >= at) {
                container.second_look = None;
                self.count_kills(serial);
            }
            self.settle_attachments(serial);
            self.drained(serial);
            self.try_delete(serial, now);
        }
        self.try_end(now)
    }

    /// Asks for a removal.
    pub(super) fn delete(&mut self, serial: u32, asker: Option<Asker>) {
        if let Some(container) = self.container(serial) {
            container.deleting = Some((asker, Instant::now() + REMOVAL));
            self.try_delete(serial, Instant::now());
        }
    }

    fn try_delete(&mut self, serial: u32, now: Instant) {
        let Some(index) = self.containers.iter().position(|one| one.serial == serial) else { return };
        let Some((asker, until)) = self.containers[index].deleting else { return };
        if self.containers[index].state != State::Stopped {
            // Killed, and not yet dead.
            if now >= until {
                self.containers[index].deleting = None;
                if let Some(asker) = asker {
                    let message = format!("container {} does not end", self.containers[index].id);
                    self.answer(asker, Err(Failure { kind: FaultKind::State, message }));
                }
            }
            return;
        }
        if let Some(group) = self.containers[index].group(&self.version)
            && let Err(error) = group.remove(Duration::ZERO)
        {
            cgroup::kill_once(&self.version, group.path());
            if now < until {
                return;
            }
            self.containers[index].deleting = None;
            if let Some(asker) = asker {
                self.answer(asker, Err(Failure::new(error.to_string())));
            }
            return;
        }
        let mut container = self.containers.remove(index);
        self.forget_streams(&mut container);
        if let Some(plan) = &container.plan
            && let Err(failure) = child::run_hooks(plan, Moment::Poststop, "stopped", 0)
        {
            eprintln!("{}", failure.message);
        }
        if let Some(asker) = asker {
            self.answer(asker, Ok(None));
        }
        sys::trim_memory();
    }

    /// An exec's child has spoken.
    pub(super) fn hear_exec(&mut self, serial: u32) {
        loop {
            let Some(index) = self.execs.iter().position(|exec| exec.serial == serial) else { return };
            let exec = &mut self.execs[index];
            let Some(sync) = &exec.sync else { return };
            let said = match spawn::hear(sync.as_fd()) {
                Ok(Some(said)) => said,
                Ok(None) => return,
                Err(error) => Said::Failed(Failure::new(format!("hear the process: {error}"))),
            };
            let (asker, pid) = (exec.asker, exec.pid);
            match said {
                Said::Ready(terminal) => exec.terminal = terminal,
                Said::Hooks => {}
                Said::Failed(failure) => {
                    exec.failed = true;
                    let _ = sys::kill(&exec.pidfd, libc::SIGKILL);
                    if let Some(sync) = exec.sync.take() {
                        self.poll.remove(&sync);
                    }
                    return self.answer(asker, Err(failure));
                }
                Said::Silent => {
                    if let Some(sync) = exec.sync.take() {
                        self.poll.remove(&sync);
                    }
                    let terminal: Vec<_> = exec.terminal.take().into_iter().collect();
                    let started = protocol::Started { pid, at: clock::now() };
                    return self.answer_with(asker, Ok(Some(Reply::Started(started))), terminal);
                }
            }
        }
    }

    /// A further process has ended.
    pub(super) fn exec_ended(&mut self, index: usize, code: i32, signal: i32) {
        let serial = self.execs[index].serial;
        // What it said last comes first.
        self.hear_exec(serial);
        let Some(index) = self.execs.iter().position(|exec| exec.serial == serial) else { return };
        let exec = self.execs.swap_remove(index);
        if exec.failed {
            return;
        }
        let id = self.containers.iter().find(|one| one.serial == exec.container).map(|one| one.id.clone());
        let code = if signal == 0 { code } else { 128 + signal };
        let exit = protocol::Exit { code, signal, oom: false, finished_at: clock::now() };
        self.announce(protocol::Event { id: id.unwrap_or_default(), exec: exec.id, exit: Some(exit) });
    }
}

/// Has the kernel tell when a group of version 1 runs out of memory.
pub fn watch_memory_v1(version: &cgroup::Version, path: &cgroup::Path) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let directory = version.directory_of("memory", path).ok_or(io::ErrorKind::Unsupported)?;
    let event =
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)?;
    let control = std::fs::File::open(directory.join("memory.oom_control"))?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    cgroup::write_file(&directory.join("cgroup.event_control"), &line)?;
    Ok(event)
}
