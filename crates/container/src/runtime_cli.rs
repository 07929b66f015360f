//! The command line of an OCI runtime: what `runc` and `crun` do, for engines and test suites that know those.
//!
//! ```text
//!  madang runtime ──exec──▶ this, in the shim's program
//!  create ─▶ state directory, group, clone ─▶ the child waits at a pipe; this process ends
//!  start  ─▶ a byte through the pipe
//! ```
//!
//! There is no shim here: the caller, or whoever adopts its orphans, is the parent of the container's process. What is
//! known of a container is in `ROOT/ID/` (see [`state`]).
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md>; the options are `runc`'s.

mod arguments;
mod console;
mod create;
mod exec;
mod report;
mod state;

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use arguments::{Arguments, Option};

use crate::{child::Failure, clock};

/// The newest version of the specification that this follows.
const VERSION: &str = "1.2.1";

const USAGE: &str = "\
usage: madang runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup] COMMAND

  create [-b BUNDLE] [--console-socket SOCKET] [--pid-file FILE] [--preserve-fds N] [--no-new-keyring] ID
  start ID
  run [-d] [--keep] [options of create] ID
  exec [-d] [-t] [-u UID[:GID]] [-e VAR=VALUE] [--cwd DIR] [-p PROCESS.json] [--cap CAP] [--console-socket SOCKET]
       [--pid-file FILE] [--preserve-fds N] [--no-new-privs] ID COMMAND [ARG...]
  state ID
  kill [-a] ID [SIGNAL]
  delete [-f] ID
  list [-q] [-f table|json]
  ps [-f table|json] ID
  pause ID
  resume ID
  update [-r RESOURCES.json|-] [--memory BYTES] [--cpu-share N] [--cpu-quota US] [--cpu-period US] [--cpuset-cpus LIST]
         [--cpuset-mems LIST] [--pids-limit N] ID
  events [--stats] [--interval SECONDS] ID
  features
  spec [-b BUNDLE]
";

/// What all commands share.
#[derive(Debug)]
struct Global {
    /// Where containers' directories are.
    root: PathBuf,
    /// Whether group paths are `SLICE:PREFIX:NAME`.
    systemd: bool,
}

/// Where errors go, beside standard error.
#[derive(Debug, Default)]
struct Log {
    file: std::option::Option<PathBuf>,
    json: bool,
}

/// Runs a command line, without the program's name. Gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let mut log = Log::default();
    match run(arguments, &mut log) {
        Ok(code) => code,
        Err(failure) => {
            log.write(&failure.message);
            eprintln!("madang runtime: {}", failure.message);
            match failure.kind {
                crate::protocol::FaultKind::ProgramNotFound => 127,
                crate::protocol::FaultKind::ProgramNotExecutable => 126,
                _ => 1,
            }
        }
    }
}

impl Log {
    /// In the form that engines read errors from.
    fn write(&self, message: &str) {
        let Some(path) = &self.file else { return };
        let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) else { return };
        let stamp = clock::stamp(clock::now());
        let time = String::from_utf8_lossy(&stamp);
        let line = if self.json {
            serde_json::json!({"level": "error", "msg": message, "time": time}).to_string()
        } else {
            format!("time=\"{time}\" level=error msg={message:?}")
        };
        let _ = writeln!(file, "{line}");
    }
}

const GLOBAL: &[Option] = &[
    Option::value("root", None),
    Option::value("log", None),
    Option::value("log-format", None),
    Option::value("rootless", None),
    Option::value("criu", None),
    Option::flag("debug", None),
    Option::flag("systemd-cgroup", None),
    Option::flag("help", Some('h')),
    Option::flag("version", Some('v')),
];

fn run(arguments: impl IntoIterator<Item = OsString>, log: &mut Log) -> Result<i32, Failure> {
    let mut words = Vec::new();
    for word in arguments {
        words.push(word.into_string().map_err(|word| Failure::new(format!("{word:?} is not UTF-8")))?);
    }
    let parsed = Arguments::parse(&words, GLOBAL)?;
    log.file = parsed.value("log").map(PathBuf::from);
    log.json = parsed.value("log-format") == Some("json");
    if parsed.has("version") {
        println!("madang runtime\nspec: {VERSION}");
        return Ok(0);
    }
    let (command, rest) = match parsed.rest().split_first() {
        Some((command, rest)) if !parsed.has("help") => (command.as_str(), rest),
        _ => {
            print!("{USAGE}");
            return Ok(if parsed.has("help") { 0 } else { 1 });
        }
    };
    let root = parsed.value("root").unwrap_or("/run/madang/runtime");
    let global = Global { root: Path::new(root).to_owned(), systemd: parsed.has("systemd-cgroup") };
    match command {
        "create" => create::create(&global, rest),
        "run" => create::run(&global, rest),
        "start" => create::start(&global, rest),
        "exec" => exec::exec(&global, rest),
        "state" => report::state(&global, rest),
        "kill" => state::kill(&global, rest),
        "delete" => state::delete(&global, rest),
        "list" => report::list(&global, rest),
        "ps" => report::ps(&global, rest),
        "pause" => state::freeze(&global, rest, true),
        "resume" => state::freeze(&global, rest, false),
        "update" => state::update(&global, rest),
        "events" => report::events(&global, rest),
        "features" => report::features(),
        "spec" => report::spec(rest),
        "help" => {
            print!("{USAGE}");
            Ok(0)
        }
        other => Err(Failure::new(format!("no command {other:?}; see madang runtime --help"))),
    }
}
