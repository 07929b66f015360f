//! The shim's own process: one event loop that is parent to everything in its pod.
//!
//! ```text
//!                 ┌──────────── epoll ────────────┐
//!  daemons ◀─────▶ connections   containers ◀─────▶ processes
//!                 │  requests      sync, output,   │
//!                 │  events        attachments     │
//!                 └── signals: children end ───────┘
//! ```
//!
//! Nothing here waits for anything else: a daemon that does not read, a process that does not end, an attached reader that
//! is slow, each only delays itself.

mod attach;
mod container;
mod log;
mod record;
mod requests;
mod start;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

pub use start::main;

use crate::{
    cgroup,
    child::Failure,
    protocol::{self, FaultKind, Incoming, Reply, Response},
    spawn::Home,
    sys,
};
use container::{Container, Exec};

/// Bytes of replies and events that a daemon may leave unread before the connection is given up.
const UNREAD: usize = 4 << 20;

/// Connections at a time: the daemon's, one of a daemon that takes its place, and tools.
const CONNECTIONS: usize = 16;

/// What an event is about: the part in the top byte, a serial number, and for attachments an index, below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Signals,
    Connection(u32),
    /// A container's sync socket.
    Sync(u32),
    /// A container's output: false for standard output or the terminal, true for standard error.
    Output(u32, bool),
    /// A container's input takes more.
    Input(u32),
    /// Version 1: the container ran out of memory.
    Memory(u32),
    /// An attached stream: container, attachment, which stream.
    Attached(u32, u16, u8),
    /// An exec's sync socket.
    ExecSync(u32),
    /// Version 2: some container's memory events changed.
    MemoryEvents,
}

impl Source {
    fn data(self) -> epoll::EventData {
        let pack = |part: u64, serial: u32, index: u16, stream: u8| {
            epoll::EventData::new_u64(part << 56 | u64::from(stream) << 48 | u64::from(index) << 32 | u64::from(serial))
        };
        match self {
            Self::Listener => pack(0, 0, 0, 0),
            Self::Signals => pack(1, 0, 0, 0),
            Self::Connection(serial) => pack(2, serial, 0, 0),
            Self::Sync(serial) => pack(3, serial, 0, 0),
            Self::Output(serial, error) => pack(4, serial, 0, error.into()),
            Self::Input(serial) => pack(5, serial, 0, 0),
            Self::Memory(serial) => pack(6, serial, 0, 0),
            Self::Attached(serial, index, stream) => pack(7, serial, index, stream),
            Self::ExecSync(serial) => pack(8, serial, 0, 0),
            Self::MemoryEvents => pack(9, 0, 0, 0),
        }
    }

    fn of(data: epoll::EventData) -> Option<Self> {
        let data = data.u64();
        let (serial, index, stream) = (data as u32, (data >> 32) as u16, (data >> 48) as u8);
        Some(match data >> 56 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(serial),
            3 => Self::Sync(serial),
            4 => Self::Output(serial, stream != 0),
            5 => Self::Input(serial),
            6 => Self::Memory(serial),
            7 => Self::Attached(serial, index, stream),
            8 => Self::ExecSync(serial),
            9 => Self::MemoryEvents,
            _ => return None,
        })
    }
}

/// The event loop's registry.
#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

impl Poll {
    fn new() -> rustix::io::Result<Self> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Self)
    }

    pub fn add(&self, descriptor: impl AsFd, source: Source, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.0, descriptor, source.data(), flags)
    }

    pub fn modify(&self, descriptor: impl AsFd, source: Source, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::modify(&self.0, descriptor, source.data(), flags)
    }

    /// Descriptors that processes hold copies of are not forgotten by closing them here.
    pub fn remove(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.0, descriptor);
    }
}

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    connection: u32,
    number: u64,
}

/// A daemon's connection.
#[derive(Debug)]
struct Connection {
    serial: u32,
    stream: UnixStream,
    incoming: Incoming,
    /// Frames that it has not taken yet; of the first, this many bytes are gone.
    outgoing: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    sent: usize,
    unread: usize,
    /// Whether it is watched for taking more.
    blocked: bool,
    subscribed: bool,
}

/// Everything that a shim knows.
#[derive(Debug)]
pub(super) struct Pod {
    sandbox: protocol::Sandbox,
    poll: Poll,
    home: Home,
    version: cgroup::Version,
    listener: UnixListener,
    signals: OwnedFd,
    connections: Vec<Connection>,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    /// The pod's user namespace, where it has one of its own.
    users: Option<OwnedFd>,
    /// The first process of the shared process namespace.
    init: Option<(i32, OwnedFd)>,
    exits: record::Exits,
    /// Version 2: watches the containers' memory events.
    watch: Option<OwnedFd>,
    serial: u32,
    /// Who asked for the shutdown, and by when everything must be gone.
    ending: Option<(Asker, Instant)>,
    /// Reused for everything that is read.
    buffer: Box<[u8]>,
}

impl Pod {
    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1).max(1);
        self.serial
    }

    /// Runs until the pod is shut down.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::<epoll::Event>::with_capacity(32);
        loop {
            events.clear();
            let timeout = self.next_deadline().map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
            });
            match epoll::wait(&self.poll.0, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Children first: what they wrote is read before their end is told.
            let mut children = false;
            for event in &events {
                match Source::of(event.data) {
                    Some(Source::Signals) => children = true,
                    Some(source) => self.handle(source, event.flags),
                    None => {}
                }
            }
            if children {
                self.reap();
            }
            if self.advance() {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, source: Source, flags: epoll::EventFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {}
            Source::Connection(serial) => self.serve(serial, flags),
            Source::Sync(serial) => self.hear_container(serial),
            Source::Output(serial, error) => self.read_output(serial, error),
            Source::Input(serial) => self.feed(serial),
            Source::Memory(serial) => self.out_of_memory(serial),
            Source::Attached(serial, index, stream) => self.attached(serial, index, stream, flags),
            Source::ExecSync(serial) => self.hear_exec(serial),
            Source::MemoryEvents => self.memory_events(),
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        // Only who may open the socket's directory gets here; and only user 0, or who this shim runs as.
        let trusted = rustix::net::sockopt::socket_peercred(&stream)
            .is_ok_and(|peer| peer.uid.as_raw() == 0 || peer.uid == rustix::process::geteuid());
        if !trusted || self.connections.len() >= CONNECTIONS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let serial = self.next_serial();
        if self.poll.add(&stream, Source::Connection(serial), epoll::EventFlags::IN).is_ok() {
            self.connections.push(Connection {
                serial,
                stream,
                incoming: Incoming::default(),
                outgoing: VecDeque::new(),
                sent: 0,
                unread: 0,
                blocked: false,
                subscribed: false,
            });
        }
    }

    fn connection(&mut self, serial: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.serial == serial)
    }

    fn close(&mut self, serial: u32) {
        if let Some(index) = self.connections.iter().position(|connection| connection.serial == serial) {
            let connection = self.connections.swap_remove(index);
            self.poll.remove(&connection.stream);
        }
    }

    fn serve(&mut self, serial: u32, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            self.flush(serial);
        }
        if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            return;
        }
        let Some(connection) = self.connection(serial) else { return };
        match connection.incoming.receive(&connection.stream) {
            Ok(0) => return self.close(serial),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => return self.close(serial),
        }
        loop {
            let Some(connection) = self.connection(serial) else { return };
            match connection.incoming.take::<protocol::Request>() {
                Ok(Some((request, descriptors))) => {
                    let asker = Asker { connection: serial, number: request.number };
                    self.request(asker, request.call, descriptors);
                }
                Ok(None) => return,
                Err(error) => {
                    // Out of step: nothing that follows can be understood.
                    self.answer(
                        Asker { connection: serial, number: 0 },
                        Err(Failure { kind: FaultKind::Invalid, message: error.to_string() }),
                    );
                    return self.close(serial);
                }
            }
        }
    }

    fn answer(&mut self, asker: Asker, result: Result<Option<Reply>, Failure>) {
        self.answer_with(asker, result, Vec::new());
    }

    fn answer_with(&mut self, asker: Asker, result: Result<Option<Reply>, Failure>, descriptors: Vec<OwnedFd>) {
        let (fault, reply) = match result {
            Ok(reply) => (None, reply),
            Err(failure) => (Some(protocol::Fault { kind: failure.kind.into(), message: failure.message }), None),
        };
        let response = Response { number: asker.number, fault, reply };
        self.send(asker.connection, protocol::encode(&response, descriptors.len()), descriptors);
    }

    /// Tells everyone who listens.
    fn announce(&mut self, event: protocol::Event) {
        let response = Response { number: 0, fault: None, reply: Some(Reply::Event(event)) };
        let frame = protocol::encode(&response, 0);
        let listeners: Vec<_> =
            self.connections.iter().filter(|connection| connection.subscribed).map(|one| one.serial).collect();
        for serial in listeners {
            self.send(serial, frame.clone(), Vec::new());
        }
    }

    fn send(&mut self, serial: u32, frame: Vec<u8>, descriptors: Vec<OwnedFd>) {
        let Some(connection) = self.connection(serial) else { return };
        connection.unread += frame.len();
        connection.outgoing.push_back((frame, descriptors));
        if connection.unread > UNREAD {
            return self.close(serial);
        }
        self.flush(serial);
    }

    fn flush(&mut self, serial: u32) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.serial == serial) else {
            return;
        };
        while let Some((frame, descriptors)) = connection.outgoing.front() {
            let rights: Vec<BorrowedFd<'_>> =
                if connection.sent == 0 { descriptors.iter().map(AsFd::as_fd).collect() } else { Vec::new() };
            match protocol::send(&connection.stream, &frame[connection.sent..], &rights) {
                Ok(sent) => {
                    connection.sent += sent;
                    if connection.sent == frame.len() {
                        connection.unread -= frame.len();
                        connection.sent = 0;
                        connection.outgoing.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.close(serial),
            }
        }
        let blocked = !connection.outgoing.is_empty();
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let flags = if blocked { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            let _ = self.poll.modify(&connection.stream, Source::Connection(serial), flags);
        }
    }

    /// Collects children that have ended, also those that only ended up here.
    fn reap(&mut self) {
        // One signal may stand for several, so its number does not count.
        while rustix::io::read(&self.signals, &mut self.buffer[..]).is_ok() {}
        while let Some((pid, code, signal)) = sys::reap() {
            if let Some(index) = self.containers.iter().position(|container| container.pid == pid) {
                self.container_ended(index, code, signal);
            } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
                self.exec_ended(index, code, signal);
            }
        }
    }

    /// When something is to be looked at again though nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let containers = self.containers.iter().filter_map(Container::deadline);
        containers.chain(self.ending.map(|_| Instant::now() + Duration::from_millis(5))).min()
    }
}
