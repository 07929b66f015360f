//! What daemon and shim say to each other over the shim's socket.
//!
//! ```text
//! frame:  length (u32) · descriptors (u8) · 3 zero bytes · protobuf message      little endian
//! daemon: Request{1, hello} ──▶ ◀── Response{1, hello}
//!         Request{2, exec} + 3 descriptors ──▶ ◀── Response{2, exec}
//!                                              ◀── Response{0, event}  (once subscribed)
//! ```
//!
//! Descriptors ride beside the first byte of their frame, so the bytes of an exec or attach session never pass through
//! here. A shim lives as long as its pod, so a newer daemon meets older shims: it reads [`Hello::version`] and asks for
//! nothing that the shim does not know; messages are protobuf, so fields may be added.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::plan;

/// Counts up with each thing that a daemon must ask for differently.
pub const VERSION: u32 = 1;

/// Bytes of the largest message: a plan whose environment fills an API object, with room to spare.
pub const MAX_MESSAGE: usize = 8 << 20;

/// Descriptors that one frame carries at most.
pub const MAX_DESCRIPTORS: usize = 8;

const HEADER: usize = 8;

/// From daemon to shim.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the daemon, repeated in the response; never 0.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// What is asked.
    #[prost(oneof = "Call", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17")]
    pub call: Option<Call>,
}

/// What is asked of a shim.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Call {
    /// Who are you?
    #[prost(message, tag = "2")]
    Hello(Nothing),
    /// All containers and their states.
    #[prost(message, tag = "3")]
    Info(Nothing),
    /// Make a container, up to the point of running its program.
    #[prost(message, tag = "4")]
    Create(Box<Create>),
    /// Run the program of a created container.
    #[prost(message, tag = "5")]
    Start(Target),
    /// Send a signal.
    #[prost(message, tag = "6")]
    Kill(Kill),
    /// Remove a stopped container, and its control group.
    #[prost(message, tag = "7")]
    Delete(Target),
    /// Write control files.
    #[prost(message, tag = "8")]
    Update(Update),
    /// Set a terminal's size.
    #[prost(message, tag = "9")]
    Resize(Resize),
    /// Run a process in a container.
    #[prost(message, tag = "10")]
    Exec(Box<Exec>),
    /// Join a container's standard streams.
    #[prost(message, tag = "11")]
    Attach(Attach),
    /// Send events on this connection from now on.
    #[prost(message, tag = "12")]
    Subscribe(Nothing),
    /// Kill everything, remove it, and end.
    #[prost(message, tag = "13")]
    Shutdown(Nothing),
    /// Freeze a container.
    #[prost(message, tag = "14")]
    Pause(Target),
    /// Let it go on.
    #[prost(message, tag = "15")]
    Resume(Target),
    /// Open the log file anew, after someone else has moved it.
    #[prost(message, tag = "16")]
    ReopenLog(Target),
    /// Connect to a port on the pod's loopback and hand over the socket.
    #[prost(message, tag = "17")]
    Dial(Dial),
}

/// From shim to daemon.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request's number, or 0 for an event.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Why it failed, where it did.
    #[prost(message, optional, tag = "2")]
    pub fault: Option<Fault>,
    /// What comes back, where something does.
    #[prost(oneof = "Reply", tags = "3, 4, 5, 6")]
    pub reply: Option<Reply>,
}

/// What comes back.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Reply {
    /// To [`Call::Hello`].
    #[prost(message, tag = "3")]
    Hello(Hello),
    /// To [`Call::Info`].
    #[prost(message, tag = "4")]
    Info(Info),
    /// To [`Call::Create`], [`Call::Start`] and [`Call::Exec`].
    #[prost(message, tag = "5")]
    Started(Started),
    /// Unasked.
    #[prost(message, tag = "6")]
    Event(Event),
}

/// No arguments.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Nothing {}

/// A container's name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Target {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `delete`: kill it first where it runs.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// A new container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// Its name, unique in the pod.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What to make.
    #[prost(message, optional, tag = "2")]
    pub plan: Option<plan::Plan>,
    /// Where output goes.
    #[prost(message, optional, tag = "3")]
    pub log: Option<Log>,
    /// Whether standard input stays open for [`Call::Attach`].
    #[prost(bool, tag = "4")]
    pub stdin: bool,
    /// Whether it ends with the first one attached.
    #[prost(bool, tag = "5")]
    pub stdin_once: bool,
}

/// A log file in CRI's format.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// The current file.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Bytes after which the next file is begun; 0 for never.
    #[prost(uint64, tag = "2")]
    pub max_bytes: u64,
    /// Files kept, the current one included.
    #[prost(uint32, tag = "3")]
    pub max_files: u32,
}

/// A signal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kill {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its execs rather than its first process; empty for that.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// Signal number.
    #[prost(int32, tag = "3")]
    pub signal: i32,
    /// Every process of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// New limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Update {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Control files below its groups.
    #[prost(message, repeated, tag = "2")]
    pub writes: Vec<plan::Write>,
    /// Version 2: replaces the device program where it is not empty.
    #[prost(bytes = "vec", tag = "3")]
    pub device_program: Vec<u8>,
}

/// A terminal's size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resize {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its execs, or empty.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// Rows.
    #[prost(uint32, tag = "3")]
    pub rows: u32,
    /// Columns.
    #[prost(uint32, tag = "4")]
    pub columns: u32,
}

/// A process to run in a container. Descriptors: those that `streams` names, in the order of its bits; with a terminal
/// none, and the response carries the terminal's other end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exec {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's name, unique in the container.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// What to run.
    #[prost(message, optional, tag = "3")]
    pub process: Option<plan::Process>,
    /// [`STDIN`], [`STDOUT`] and [`STDERR`] that come as descriptors; the others are `/dev/null`.
    #[prost(uint32, tag = "4")]
    pub streams: u32,
}

/// Bit of standard input in [`Exec::streams`] and [`Attach::streams`].
pub const STDIN: u32 = 1;
/// Bit of standard output.
pub const STDOUT: u32 = 2;
/// Bit of standard error.
pub const STDERR: u32 = 4;

/// Join a container's streams. Descriptors: those that `streams` names, in the order of its bits: one to read input
/// from, one or two to write output to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attach {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Which streams.
    #[prost(uint32, tag = "2")]
    pub streams: u32,
}

/// Connect within the pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dial {
    /// TCP port on the pod's loopback.
    #[prost(uint32, tag = "1")]
    pub port: u32,
}

/// What a shim says of itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Its protocol [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The pod's name.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Process identifier, in the daemon's namespace.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// The first process of a shared process namespace, or 0.
    #[prost(int32, tag = "4")]
    pub init: i32,
    /// The pod's control group, below the root of every hierarchy.
    #[prost(string, tag = "5")]
    pub cgroup: String,
}

/// All containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Info {
    /// In the order of creation.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

/// A container's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    /// Its name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Where it is in its life.
    #[prost(enumeration = "State", tag = "2")]
    pub state: i32,
    /// Its first process, 0 once that has ended.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub created_at: u64,
    /// Nanoseconds since 1970; 0 where it was never started.
    #[prost(uint64, tag = "5")]
    pub started_at: u64,
    /// How it ended.
    #[prost(message, optional, tag = "6")]
    pub exit: Option<Exit>,
    /// Below the root of every hierarchy; empty for none of its own.
    #[prost(string, tag = "7")]
    pub cgroup: String,
    /// Whether it is frozen.
    #[prost(bool, tag = "8")]
    pub paused: bool,
}

/// Where a container is in its life.
///
/// ```text
/// Creating ─▶ Created ─▶ Running ─▶ Stopped ─▶ (deleted)
///                └──────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// Being made.
    Creating = 0,
    /// Waits for its start.
    Created = 1,
    /// Its program runs.
    Running = 2,
    /// Its first process has ended.
    Stopped = 3,
}

/// How a process ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exit {
    /// Exit code, or 128 and the signal's number.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The signal, or 0.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// Whether the kernel killed a process of the container for want of memory.
    #[prost(bool, tag = "3")]
    pub oom: bool,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub finished_at: u64,
}

/// A process that now exists.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Started {
    /// In the daemon's namespace.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub at: u64,
}

/// Something happened.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its execs, or empty.
    #[prost(string, tag = "2")]
    pub exec: String,
    /// The process has ended; absent for an out-of-memory kill in a container that goes on.
    #[prost(message, optional, tag = "3")]
    pub exit: Option<Exit>,
}

/// Why a request failed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Fault {
    /// What a caller branches on.
    #[prost(enumeration = "FaultKind", tag = "1")]
    pub kind: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum FaultKind {
    /// Anything else.
    Other = 0,
    /// No such container or exec.
    NotFound = 1,
    /// The name is taken.
    Exists = 2,
    /// Not in this state.
    State = 3,
    /// The program was not found: exit code 127 by convention.
    ProgramNotFound = 4,
    /// The program may not be executed: exit code 126.
    ProgramNotExecutable = 5,
    /// The request is malformed, or not known to this shim.
    Invalid = 6,
}

/// How the shim is started: read from standard input, to its end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sandbox {
    /// The pod's name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// State that outlives shim and daemon.
    #[prost(string, tag = "2")]
    pub dir: String,
    /// Where to listen.
    #[prost(string, tag = "3")]
    pub socket: String,
    /// `CLONE_NEW…` of the namespaces that the pod has of its own.
    #[prost(uint64, tag = "4")]
    pub namespaces: u64,
    /// Whether its containers share a process namespace, with an init of the shim's.
    #[prost(bool, tag = "5")]
    pub share_pid: bool,
    /// For the UTS namespace.
    #[prost(string, tag = "6")]
    pub hostname: String,
    /// The pod's control group.
    #[prost(message, optional, tag = "7")]
    pub cgroup: Option<plan::Cgroup>,
    /// The group of the shared process namespace's init, below the pod's.
    #[prost(message, optional, tag = "8")]
    pub init_cgroup: Option<plan::Cgroup>,
    /// Below `/proc/sys`, dots already slashes.
    #[prost(message, repeated, tag = "9")]
    pub sysctls: Vec<plan::Setting>,
    /// The shim's own `oom_score_adj`.
    #[prost(int32, tag = "10")]
    pub oom_score_adj: i32,
    /// Mapping of the pod's user namespace; empty for none.
    #[prost(message, repeated, tag = "11")]
    pub uids: Vec<plan::IdMap>,
    /// Mapping of the pod's user namespace; empty for none.
    #[prost(message, repeated, tag = "12")]
    pub gids: Vec<plan::IdMap>,
    /// For the UTS namespace.
    #[prost(string, tag = "13")]
    pub domainname: String,
    /// Network namespace to join rather than make; empty for none.
    #[prost(string, tag = "14")]
    pub netns: String,
}

/// A message as bytes on the wire, header included.
pub fn encode(message: &impl prost::Message, descriptors: usize) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&[u8::try_from(descriptors).unwrap_or(u8::MAX), 0, 0, 0]);
    message.encode_raw(&mut frame);
    frame
}

/// Sends what of `bytes` the socket takes, and the descriptors with the first of them. Returns how many it took.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in one message"));
    }
    let sent = rustix::net::sendmsg(socket, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// Bytes and descriptors that arrived, until whole frames can be taken.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    descriptors: std::collections::VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads once. `Ok(0)` is the end.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0u8; 4096];
        let missing = self.missing().clamp(1, 256 << 10);
        let read = if missing > chunk.len() {
            let start = self.bytes.len();
            self.bytes.resize(start + missing, 0);
            let result = rustix::net::recvmsg(
                socket,
                &mut [io::IoSliceMut::new(&mut self.bytes[start..])],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            self.bytes.truncate(start + result.as_ref().map_or(0, |message| message.bytes));
            result?.bytes
        } else {
            let message = rustix::net::recvmsg(
                socket,
                &mut [io::IoSliceMut::new(&mut chunk)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            self.bytes.extend_from_slice(&chunk[..message.bytes]);
            message.bytes
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.descriptors.extend(rights);
            }
        }
        if self.descriptors.len() > 4 * MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than frames announce"));
        }
        Ok(read)
    }

    fn length(&self) -> Option<usize> {
        let header = self.bytes.get(..4)?;
        Some(u32::from_le_bytes(header.try_into().ok()?) as usize)
    }

    fn missing(&self) -> usize {
        self.length().map_or(HEADER, |length| (HEADER + length.min(MAX_MESSAGE)).saturating_sub(self.bytes.len()))
    }

    /// The next whole message, or `None` until more has arrived.
    pub fn take<M: prost::Message + Default>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let Some(length) = self.length() else { return Ok(None) };
        if length > MAX_MESSAGE {
            let text = format!("message of {length} bytes is longer than {MAX_MESSAGE}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        let message = M::decode(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let announced = usize::from(self.bytes[4]);
        if announced > self.descriptors.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "fewer descriptors than the frame announces"));
        }
        let descriptors = self.descriptors.drain(..announced).collect();
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(4096);
        }
        Ok(Some((message, descriptors)))
    }
}

#[cfg(test)]
mod tests;
