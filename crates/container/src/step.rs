//! The step runner: what starts a pipeline's steps in a container, and outlives whoever asked for them.
//!
//! It is this program again, copied into a volume of the pod by an init container. A pipeline runs it through the API's `exec`:
//!
//! ```text
//! init container   step install /madang      ─► /madang/bin/step, steps/, workspace/
//! container        step wait                     the first process, where the image has none of its own: reaps, and waits to be ended
//! exec             step run  < request       ─► /madang/steps/KEY/        one directory a step, named by its key
//!                     │ starts, once                script  log  out  lock  result
//!                     ├──────────► step supervise ─► sh ─► log                    (a session of its own)
//!                     │                  └─ when it ends ─► result
//!                     └─ follows: log from an offset ─► standard output; at the end `exit CODE` ─► standard error
//! exec             step stop KEY                 ends what the step has started
//! exec             step end                      ends the container
//! exec             step read | write | exists | make | delete | list | pack | unpack PATH
//! ```
//!
//! A step is started once: the directory comes into being by a rename, and whoever asks for the same key again only follows. Its
//! supervisor holds a lock as long as it lives: a step without result and with a free lock was lost, which is said and not hidden. The
//! exit code is on disk before anyone is told.
//!
//! Exit codes of the runner itself: 0 done, 2 a wrong request, 3 what was named is not there, 4 lost, 1 anything else; the reason is on
//! standard error.

mod files;
mod request;
mod run;

use std::{io, path::Path};

/// Why a request was not carried out.
#[derive(Debug)]
enum Error {
    /// The request is wrong.
    Wrong(String),
    /// There is no such file.
    Missing(String),
    /// The step's process is gone, and nobody knows how it ended.
    Lost(String),
    /// The system says no.
    Io(String, io::Error),
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(format!("{what}: no such file or directory")),
            _ => Self::Io(what, error),
        }
    }

    fn code(&self) -> i32 {
        match self {
            Self::Wrong(_) => 2,
            Self::Missing(_) => 3,
            Self::Lost(_) => 4,
            Self::Io(..) => 1,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong(text) | Self::Missing(text) | Self::Lost(text) => out.write_str(text),
            Self::Io(what, error) => write!(out, "{what}: {error}"),
        }
    }
}

/// Carries out one request; gives the exit code.
pub fn main(arguments: &[String]) -> i32 {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["install", place] => run::install(Path::new(place)),
        ["wait"] => run::wait(),
        ["run"] => run::run(),
        ["supervise", place] => run::supervise(Path::new(place)),
        ["stop", key] => run::stop(key),
        ["end"] => run::end(),
        ["read", path] => files::read(path),
        ["write", path] => files::write(path),
        ["exists", path] => files::exists(path),
        ["make", path] => files::make(path),
        ["delete", path] => files::delete(path),
        ["list", path] => files::list(path),
        ["pack", path] => files::pack(path),
        ["unpack", path] => files::unpack(path),
        _ => Err(Error::Wrong("the step runner is run by pipelines".into())),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            error.code()
        }
    }
}
