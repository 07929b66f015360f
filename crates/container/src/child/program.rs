//! The program: found inside the container, and run.

use std::{
    convert::Infallible,
    ffi::{CString, c_char},
    ptr,
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use super::{Context, Failure, tree};
use crate::{plan::Process, protocol::FaultKind, sys, users};

/// A program with everything that running it needs, so that nothing can fail for want of memory later.
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    cwd: CString,
}

impl Program {
    /// Looks the program up. The process is in the container's root already.
    pub fn find(process: &Process) -> Result<Self, Failure> {
        let name = process.args.first().map(String::as_str).unwrap_or_default();
        let path = look_up(name, &process.env, &process.cwd)?;
        let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
            list.iter().map(|text| CString::new(text.as_str()).context(|| "a string with a zero byte")).collect()
        };
        let mut environment = strings(&process.env)?;
        if process.set_home {
            let home = home(process.uid).unwrap_or_else(|| "/".into());
            environment.push(CString::new(format!("HOME={home}")).context(|| "home directory")?);
        }
        Ok(Self {
            path: CString::new(path).context(|| "program name")?,
            arguments: strings(&process.args)?,
            environment,
            cwd: CString::new(process.cwd.as_str()).context(|| "working directory")?,
        })
    }

    /// Enters the working directory and runs the program.
    pub fn run(&self, process: &Process) -> Result<Infallible, Failure> {
        let name = process.args.first().map(String::as_str).unwrap_or_default();
        match rustix::process::chdir(self.cwd.as_c_str()) {
            Ok(()) => {}
            Err(error) => {
                let kind = match error {
                    Errno::ACCESS => FaultKind::ProgramNotExecutable,
                    _ => FaultKind::Other,
                };
                return Err(Failure {
                    kind,
                    message: format!("chdir to cwd ({:?}) set in config.json failed: {error}", process.cwd),
                });
            }
        }
        // A descriptor of the machine's as working directory would be a way out (CVE-2024-21626).
        let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes().starts_with(b"/"));
        if !inside {
            return Err(Failure::new(format!("working directory {:?} is outside the container", process.cwd)));
        }
        let pointers = |list: &[CString]| -> Vec<*const c_char> {
            list.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let error = sys::execve(&self.path, &arguments, &environment);
        Err(not_run(name, error))
    }
}

fn not_run(name: &str, error: Errno) -> Failure {
    let (kind, text) = match error {
        Errno::NOENT => (FaultKind::ProgramNotFound, "no such file or directory".to_owned()),
        Errno::ACCESS | Errno::PERM => (FaultKind::ProgramNotExecutable, "permission denied".to_owned()),
        Errno::NOEXEC => (FaultKind::ProgramNotExecutable, "exec format error".to_owned()),
        Errno::ISDIR => (FaultKind::ProgramNotExecutable, "is a directory".to_owned()),
        error => (FaultKind::ProgramNotExecutable, error.to_string()),
    };
    Failure { kind, message: format!("exec: {name:?}: {text}") }
}

/// The path of a program: as it is where it has a slash, else the first in `PATH` that may be executed.
fn look_up(name: &str, environment: &[String], cwd: &str) -> Result<String, Failure> {
    if name.contains('/') {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{cwd}/{name}") };
        return match executable(&path) {
            // What cannot be seen from here may be seen by the user; running it decides.
            Ok(()) | Err(Errno::ACCESS) => Ok(path),
            Err(error) => Err(not_run(name, error)),
        };
    }
    let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let mut refused = false;
    for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
        // An empty entry is the working directory, which no program should be taken from by accident.
        if !directory.starts_with('/') {
            continue;
        }
        let candidate = format!("{directory}/{name}");
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => refused = true,
            Err(_) => {}
        }
    }
    let (kind, text) = if refused {
        (FaultKind::ProgramNotExecutable, "permission denied")
    } else {
        (FaultKind::ProgramNotFound, "executable file not found in $PATH")
    };
    Err(Failure { kind, message: format!("exec: {name:?}: {text}") })
}

/// Where programs are looked for without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn executable(path: &str) -> rustix::io::Result<()> {
    let found = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// The user's home directory in the container's `/etc/passwd`.
fn home(uid: u32) -> Option<String> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let file = users::open_in(&root, "etc/passwd").ok()?;
    if tree::kind(&file).ok()? != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(std::fs::File::from(file), 4 << 20), &mut text).ok()?;
    users::home(&text, uid).map(str::to_owned)
}
