//! The shim's part of the OCI runtime's command line: making containers and processes, and removing them.
//!
//! ```text
//!  madang runtime create ─▶ order (plan, names) in a file ──exec──▶ this: group, clone, hooks, terminal
//!                                                                    the child waits at a pipe; this process ends
//! ```
//!
//! There is no shim to stay here: the caller, or whoever adopts its orphans, is the parent of the container's process.
//! Between commands everything is in the container's directory:
//!
//! ```text
//! ROOT/ID/state.json    what does not change, for `state` and `list`
//! ROOT/ID/config.json   the specification, as it was when the container was made
//! ROOT/ID/plan          what that was compiled to
//! ROOT/ID/process       process identifier and start time
//! ROOT/ID/start         a pipe; it exists until the container was started
//! ```

pub mod console;
mod container;
mod process;

use std::{
    fs,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use prost::Message;

pub use container::{remove, start, status};

use crate::{
    cgroup,
    child::{Context, Failure},
    clock,
    plan::{Cgroup, Plan, Process},
    protocol::FaultKind,
};

/// What is to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Order {
    /// The container's directory, which exists.
    #[prost(string, tag = "1")]
    pub directory: String,
    /// A container to make.
    #[prost(message, optional, tag = "2")]
    pub plan: Option<Plan>,
    /// Or a process to run in one that exists.
    #[prost(message, optional, tag = "3")]
    pub process: Option<Process>,
    /// Where its process identifier is written; empty for nowhere.
    #[prost(string, tag = "4")]
    pub pid_file: String,
    /// Where its terminal is sent; empty for nowhere.
    #[prost(string, tag = "5")]
    pub console_socket: String,
    /// Whether the container is started at once.
    #[prost(bool, tag = "6")]
    pub run: bool,
    /// Whether its end is not waited for.
    #[prost(bool, tag = "7")]
    pub detach: bool,
    /// Whether it stays when it has ended.
    #[prost(bool, tag = "8")]
    pub keep: bool,
    /// The control group of the container in which a process is run.
    #[prost(message, optional, tag = "9")]
    pub cgroup: Option<Cgroup>,
    /// Where errors are written beside standard error; empty for nowhere.
    #[prost(string, tag = "10")]
    pub log: String,
    /// Whether they are written as JSON.
    #[prost(bool, tag = "11")]
    pub log_json: bool,
}

/// Carries out the order in a file, which it removes. Gives the exit code.
pub fn main(file: Option<&str>) -> i32 {
    let Some(file) = file else { return 2 };
    let order = fs::read(file).context(|| format!("read {file}")).and_then(|bytes| {
        let _ = fs::remove_file(file);
        Order::decode(bytes.as_slice()).context(|| format!("understand {file}"))
    });
    match order {
        Ok(order) => {
            let result = if order.process.is_some() { process::exec(&order) } else { container::make(&order) };
            result.unwrap_or_else(|failure| report(&failure, &order.log, order.log_json))
        }
        Err(failure) => report(&failure, "", false),
    }
}

/// Tells of a failure where engines look for it. Gives the exit code.
pub fn report(failure: &Failure, log: &str, json: bool) -> i32 {
    eprintln!("madang runtime: {}", failure.message);
    if !log.is_empty()
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(log)
    {
        let stamp = clock::stamp(clock::now());
        let time = String::from_utf8_lossy(&stamp);
        let message = json_text(&failure.message);
        let _ = if json {
            writeln!(file, "{{\"level\":\"error\",\"msg\":{message},\"time\":\"{time}\"}}")
        } else {
            writeln!(file, "time=\"{time}\" level=error msg={message}")
        };
    }
    match failure.kind {
        FaultKind::ProgramNotFound => 127,
        FaultKind::ProgramNotExecutable => 126,
        _ => 1,
    }
}

/// A string as JSON has it.
pub fn json_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if u32::from(letter) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's directory.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// Its name.
    pub fn id(&self) -> String {
        self.0.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The pipe that exists until the container was started.
    pub fn start_pipe(&self) -> PathBuf {
        self.0.join("start")
    }

    /// What its specification was compiled to.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let file = self.0.join("plan");
        let bytes = fs::read(&file).context(|| format!("read {}", file.display()))?;
        Plan::decode(bytes.as_slice()).context(|| format!("understand {}", file.display()))
    }

    /// Its first process, and when that was started.
    pub fn process(&self) -> Option<(i32, u64)> {
        let text = fs::read_to_string(self.0.join("process")).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some((pid.parse().ok()?, started.parse().ok()?))
    }

    /// Its first process, while that lives.
    pub fn living(&self) -> Option<i32> {
        let (pid, started) = self.process()?;
        (start_time(pid) == Some(started)).then_some(pid)
    }

    /// Its control group.
    pub fn group(&self) -> Option<cgroup::Group> {
        let cgroup = self.plan().ok()?.cgroup?;
        let path = cgroup::Path::new(&cgroup.path).ok()?;
        Some(cgroup::Group::open(&cgroup::Version::detect().ok()?, &path))
    }
}

/// When a living process was started; `None` for one that is gone or a zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Writes a file, whole or not at all.
pub fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, file)).context(|| format!("write {}", file.display()))
}
