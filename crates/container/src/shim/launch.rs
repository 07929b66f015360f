//! Starting the shim's process, and reaching its socket.
//!
//! ```text
//! daemon ── spawn ──▶ launcher ── fork ──▶ shim ── "ready" ──▶ daemon
//!                        └ ends once the shim is ready or has failed; process 1 adopts the shim
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use prost::Message;

use super::{Binary, Error, SandboxSpec, Users, text};
use crate::{
    cgroup, compile,
    plan::{IdMap, Setting},
    protocol::Sandbox,
};

/// What the shim is told at its start.
pub fn sandbox(spec: &SandboxSpec) -> Result<Sandbox, Error> {
    fs::create_dir_all(&spec.dir).map_err(Error::io(format!("make {}", spec.dir.display())))?;
    let cgroups = cgroup::Version::detect()?;
    let mut namespaces = 0;
    if !spec.host_network {
        namespaces |= libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
    }
    if !spec.host_ipc {
        namespaces |= libc::CLONE_NEWIPC;
    }
    let users = spec.users.clone().unwrap_or_default();
    if spec.users.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let ids = |ranges: &[super::IdRange]| {
        let map = |range: &super::IdRange| IdMap { inside: range.inside, outside: range.outside, size: range.size };
        ranges.iter().map(map).collect::<Vec<_>>()
    };
    let Users { uids, gids } = &users;
    Ok(Sandbox {
        id: spec.id.clone(),
        dir: text(&spec.dir)?,
        socket: text(&spec.socket)?,
        namespaces: namespaces as u64,
        share_pid: spec.share_pid && !spec.host_pid,
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        cgroup: Some(compile::cgroup(&cgroups, &spec.cgroup, None)?),
        init_cgroup: Some(compile::cgroup(&cgroups, &spec.cgroup.join("init")?, None)?),
        sysctls: settings(&spec.sysctls)?,
        oom_score_adj: spec.oom_score_adj,
        uids: ids(uids),
        gids: ids(gids),
        netns: String::new(),
    })
}

fn settings(sysctls: &BTreeMap<String, String>) -> Result<Vec<Setting>, Error> {
    sysctls.iter().map(|(name, value)| Ok(compile::sysctl(name, value)?)).collect()
}

/// Runs the launcher until the shim listens. Blocks for some milliseconds.
pub fn run(binary: &Binary, sandbox: &Sandbox) -> Result<(), Error> {
    let what = || format!("start shim of {}", sandbox.id);
    let log = Path::new(&sandbox.dir).join("shim.log");
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(Error::io(format!("open {}", log.display())))?;
    let mut child = Command::new(binary.path())
        .arg0("madang-shim")
        .arg("pod")
        .arg(&sandbox.id)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(Error::io(what()))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&sandbox.encode_to_vec()));
    let mut answer = String::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(64 << 10).read_to_string(&mut answer),
        None => Ok(0),
    };
    let status = child.wait().map_err(Error::io(what()))?;
    if status.success() && answer == "ready\n" {
        return Ok(());
    }
    written.map_err(Error::io(what()))?;
    read.map_err(Error::io(what()))?;
    let reason = if answer.is_empty() { status.to_string() } else { answer.trim_end().to_owned() };
    Err(Error::Failed(format!("{}: {reason}", what())))
}

/// Connects to a socket whose path may be longer than a socket address holds.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() < 100 {
        return UnixStream::connect(path);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = fs::File::open(parent)?;
    let short = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&directory).to_string()).join(name);
    UnixStream::connect(short)
}
