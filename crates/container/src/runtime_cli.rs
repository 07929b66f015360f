//! The command line of an OCI runtime: what `runc` and `crun` do, for engines and test suites that know those.
//!
//! ```text
//!  words ─▶ specification ─▶ plan ─▶ order in a file ──exec──▶ the shim's program: clone (see `command`)
//! ```
//!
//! Commands that make processes end in the shim's program, which is small and has no threads; the others end here. There is
//! no shim that stays: the caller, or whoever adopts its orphans, is the parent of the container's process.
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md>; the options are `runc`'s.

mod arguments;
mod create;
mod report;
mod state;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use arguments::{Arguments, Option};
use prost::Message;

use crate::{
    child::Failure,
    command::{self, Directory, Order, write_whole},
    shim::{Binary, Error},
};

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
#[derive(Debug, Default)]
struct Global {
    /// Where containers' directories are.
    root: PathBuf,
    /// Whether group paths are `SLICE:PREFIX:NAME`.
    systemd: bool,
    /// Where errors go, beside standard error; empty for nowhere.
    log: String,
    /// Whether they are JSON there.
    log_json: bool,
}

/// What a command comes to.
enum Outcome {
    /// It is done, with this exit code.
    Done(i32),
    /// The shim's program has an order to carry out.
    Order(PathBuf),
}

/// Runs a command line, without the program's name. Gives the exit code, unless the shim's program takes this process
/// over.
pub fn main(shim: impl FnOnce() -> Result<Binary, Error>, arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let mut global = Global::default();
    let failure = match run(arguments, &mut global) {
        Ok(Outcome::Done(code)) => return code,
        Ok(Outcome::Order(file)) => {
            let error = match shim() {
                Ok(binary) => binary.carry_out(&file),
                Err(error) => error,
            };
            let _ = std::fs::remove_file(file);
            Failure::new(error.to_string())
        }
        Err(failure) => failure,
    };
    command::report(&failure, &global.log, global.log_json)
}

/// Leaves an order for the shim's program.
fn write_order(global: &Global, directory: &Directory, order: Order) -> Result<PathBuf, Failure> {
    let order = Order { log: global.log.clone(), log_json: global.log_json, ..order };
    let file = directory.0.join(format!("order-{}", std::process::id()));
    write_whole(&file, &order.encode_to_vec())?;
    Ok(file)
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

fn run(arguments: impl IntoIterator<Item = OsString>, global: &mut Global) -> Result<Outcome, Failure> {
    let mut words = Vec::new();
    for word in arguments {
        words.push(word.into_string().map_err(|word| Failure::new(format!("{word:?} is not UTF-8")))?);
    }
    let parsed = Arguments::parse(&words, GLOBAL)?;
    *global = Global {
        root: Path::new(parsed.value("root").unwrap_or("/run/madang/runtime")).to_owned(),
        systemd: parsed.has("systemd-cgroup"),
        log: parsed.value("log").unwrap_or_default().to_owned(),
        log_json: parsed.value("log-format") == Some("json"),
    };
    if parsed.has("version") {
        println!("madang runtime\nspec: {VERSION}");
        return Ok(Outcome::Done(0));
    }
    let (command, rest) = match parsed.rest().split_first() {
        Some((command, rest)) if !parsed.has("help") => (command.as_str(), rest),
        _ => {
            print!("{USAGE}");
            return Ok(Outcome::Done(if parsed.has("help") { 0 } else { 1 }));
        }
    };
    let code = match command {
        "create" => return create::create(global, rest, false).map(Outcome::Order),
        "run" => return create::create(global, rest, true).map(Outcome::Order),
        "exec" => return create::exec(global, rest).map(Outcome::Order),
        "start" => state::start(global, rest),
        "state" => report::state(global, rest),
        "kill" => state::kill(global, rest),
        "delete" => state::delete(global, rest),
        "list" => report::list(global, rest),
        "ps" => report::ps(global, rest),
        "pause" => state::freeze(global, rest, true),
        "resume" => state::freeze(global, rest, false),
        "update" => state::update(global, rest),
        "events" => report::events(global, rest),
        "features" => report::features(),
        "spec" => report::spec(rest),
        "help" => {
            print!("{USAGE}");
            Ok(0)
        }
        other => Err(Failure::new(format!("no command {other:?}; see madang runtime --help"))),
    };
    code.map(Outcome::Done)
}
