//! Control groups: which ones the machine has, and those of pods and containers.
//!
//! ```text
//! version 1 (also "hybrid")                     version 2
//! /sys/fs/cgroup/cpu/madang/podU/C              /sys/fs/cgroup/madang/podU/C
//! /sys/fs/cgroup/memory/madang/podU/C             └ cgroup.subtree_control all the way down,
//! … one tree a hierarchy; others left alone         processes only in the leaves
//! ```
//!
//! A [`Path`] names a group below the root of every hierarchy. Nothing here touches a group that is not named to it, except
//! that on version 2 controllers are switched on in the groups above.
//!
//! Specification: <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
//! <https://docs.kernel.org/admin-guide/cgroup-v1/index.html>.

mod detect;
#[cfg(feature = "client")]
pub mod devices;
#[cfg(feature = "client")]
pub mod limits;
mod stats;

use std::{
    fs, io,
    path::Path as FilePath,
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "client")]
use oci_spec::runtime::LinuxResources;

pub use detect::{Hierarchy, Version};
pub use stats::{Cpu, Device, Memory, Pids, Pressure, Stats, Waits};

/// Why a control group cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path of a group is absent, absolute in the wrong way, or climbs.
    #[error("invalid control group {0:?}")]
    Path(String),
    /// The machine has no control groups mounted, or not the ones that are needed.
    #[error("{0}")]
    Machine(String),
    /// A limit that cannot be expressed.
    #[error("{0}")]
    Limit(String),
    /// A control file refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// A group's place below the root of every hierarchy: `madang/pod1234/c0`. Never the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// From slashes and names; leading and double slashes do not count.
    pub fn new(path: &str) -> Result<Self, Error> {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let bad = |name: &&str| *name == "." || *name == ".." || name.len() > 255 || name.contains(['\0', '\n']);
        if names.is_empty() || names.len() > 32 || names.iter().any(bad) {
            return Err(Error::Path(path.into()));
        }
        Ok(Self(names.join("/")))
    }

    /// A group below this one.
    pub fn join(&self, name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.contains('/') {
            return Err(Error::Path(name.into()));
        }
        Self::new(&format!("{}/{name}", self.0))
    }

    /// The group above, unless that is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// Names and slashes, no slash in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group in every hierarchy that counts.
#[derive(Clone, Debug)]
pub struct Group {
    version: Version,
    path: Path,
}

impl Group {
    /// Makes the group, and those above it that are missing.
    pub fn create(version: &Version, path: &Path) -> Result<Self, Error> {
        for directory in version.directories(path) {
            let root = version.root_of(&directory);
            make(&directory, &root, version.is_v2())
                .map_err(io_error(format!("make control group {}", directory.display())))?;
        }
        Ok(Self::open(version, path))
    }

    /// A handle to a group, whether it exists or not.
    pub fn open(version: &Version, path: &Path) -> Self {
        Self { version: version.clone(), path: path.clone() }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.version.directories(&self.path).iter().any(|directory| directory.is_dir())
    }

    /// Sets limits; those that are absent stay as they are. Devices are not limited here but in
    /// [`compile`](crate::compile), since version 2 wants a program for them.
    #[cfg(feature = "client")]
    pub fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        for write in limits::writes(&self.version, &self.path, resources)? {
            if let Err(error) = write_file(FilePath::new(&write.file), &write.value)
                && !write.optional
            {
                return Err(io_error(format!("write {:?} to {}", write.value, write.file))(error));
            }
        }
        Ok(())
    }

    /// Moves a process into the group. On version 2 only into a group without groups below it.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        for directory in self.version.directories(&self.path) {
            let file = directory.join("cgroup.procs");
            write_file(&file, &pid.to_string()).map_err(io_error(format!("move {pid} to {}", directory.display())))?;
        }
        Ok(())
    }

    /// Processes in the group and all below it.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        if let Some(directory) = self.version.main_directory(&self.path) {
            collect(&directory, &mut found);
        }
        found
    }

    /// Kills every process in the group and below, and waits until they are gone, for up to `limit`. Returns whether all
    /// are gone. Frozen processes are thawed first.
    pub fn kill(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(500);
        loop {
            kill_once(&self.version, &self.path);
            if self.processes().is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Freezes every process in the group and below.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        freeze(&self.version, &self.path, frozen).map_err(io_error(format!("freeze control group {}", self.path)))
    }

    /// Whether its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        let Some(directory) = self.version.directory_of("freezer", &self.path) else { return false };
        let (file, line) =
            if self.version.is_v2() { ("cgroup.events", "frozen 1") } else { ("freezer.state", "FROZEN") };
        fs::read_to_string(directory.join(file)).is_ok_and(|text| text.lines().any(|found| found == line))
    }

    /// How often the kernel killed a process of the group, or below, for want of memory.
    pub fn oom_kills(&self) -> u64 {
        stats::oom_kills(&self.version, &self.path)
    }

    /// What the group has used. Controllers that the machine lacks count 0.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read(&self.version, &self.path)
    }

    /// Removes the group and those below it. They must be empty of processes; a group whose last process has just ended
    /// may need some milliseconds, for which this waits up to `limit`.
    pub fn remove(&self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        for directory in self.version.directories(&self.path) {
            while let Err(error) = remove(&directory) {
                if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
                    return Err(io_error(format!("remove control group {}", directory.display()))(error));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Groups right below, by name.
    pub fn children(&self) -> Vec<String> {
        let directory = self.version.main_directory(&self.path);
        let entries = directory.and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Writes a control file in one call.
pub(crate) fn write_file(file: &FilePath, value: &str) -> io::Result<()> {
    let file = rustix::fs::open(file, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC, 0.into())?;
    rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

/// Makes a group's directory and those above it, up to the hierarchy's root.
pub(crate) fn make(directory: &FilePath, root: &FilePath, v2: bool) -> io::Result<()> {
    let below = directory.strip_prefix(root).map_err(|_| io::ErrorKind::InvalidInput)?;
    let cpuset = !v2 && root.join("cpuset.cpus").exists();
    if !v2 && !cpuset {
        return fs::DirBuilder::new().recursive(true).create(directory);
    }
    // In these, every group on the way must be made fit for those below it.
    let mut current = root.to_owned();
    for name in below.components() {
        if v2 {
            enable_controllers(&current)?;
        }
        current.push(name);
        match fs::create_dir(&current) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if cpuset {
            inherit_cpuset(&current)?;
        }
    }
    Ok(())
}

/// Version 1: a new cpuset is empty, and nothing can join it.
fn inherit_cpuset(directory: &FilePath) -> io::Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(directory.join(name))?;
        if own.trim().is_empty() {
            let above = directory.parent().unwrap_or(directory).join(name);
            write_file(&directory.join(name), fs::read_to_string(above)?.trim())?;
        }
    }
    Ok(())
}

/// Version 2: lets the groups below `directory` use every controller that it has.
fn enable_controllers(directory: &FilePath) -> io::Result<()> {
    let has = fs::read_to_string(directory.join("cgroup.controllers"))?;
    let control = directory.join("cgroup.subtree_control");
    let on = fs::read_to_string(&control)?;
    for controller in has.split_whitespace() {
        if on.split_whitespace().any(|name| name == controller) {
            continue;
        }
        if let Err(error) = write_file(&control, &format!("+{controller}")) {
            // Without these nothing works; the others are not on every machine, and not always delegated.
            if matches!(controller, "cpu" | "memory" | "pids") {
                let text = format!("switch on controller {controller} below {}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(())
}

fn collect(directory: &FilePath, found: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect(&entry.path(), found);
    }
}

/// Removes a directory of groups, deepest first. A missing one is fine.
pub(crate) fn remove(directory: &FilePath) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sends SIGKILL to all processes of a group, once.
pub(crate) fn kill_once(version: &Version, path: &Path) {
    let Some(directory) = version.main_directory(path) else { return };
    if version.is_v2() && write_file(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Frozen, it cannot fork away from the list. Signals reach it when it thaws.
    let _ = freeze(version, path, true);
    let mut found = Vec::new();
    collect(&directory, &mut found);
    for pid in found {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = freeze(version, path, false);
}

pub(crate) fn freeze(version: &Version, path: &Path, frozen: bool) -> io::Result<()> {
    let (directory, file, value) = match version {
        Version::V2(_) => (version.main_directory(path), "cgroup.freeze", if frozen { "1" } else { "0" }),
        Version::V1(_) => {
            (version.directory_of("freezer", path), "freezer.state", if frozen { "FROZEN" } else { "THAWED" })
        }
    };
    let directory = directory.ok_or(io::ErrorKind::Unsupported)?;
    write_file(&directory.join(file), value)?;
    // It takes effect by and by; a process in an uninterruptible call delays it.
    for _ in 0..50 {
        let (file, done) = match version {
            Version::V2(_) => ("cgroup.events", if frozen { "frozen 1" } else { "frozen 0" }),
            Version::V1(_) => ("freezer.state", value),
        };
        if fs::read_to_string(directory.join(file))?.lines().any(|line| line == done) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
        if frozen && !version.is_v2() {
            // Processes that were forked meanwhile are caught by asking again.
            write_file(&directory.join(file), value)?;
        }
    }
    Ok(())
}

/// A directory as text, for the protocol.
#[cfg(feature = "client")]
pub(crate) fn directory_text(directory: &FilePath) -> Result<String, Error> {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(directory.as_os_str());
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Path(directory.display().to_string()))
}

#[cfg(test)]
mod tests;
