//! Which control groups a machine has, read from its mounts.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::{Error, Path, io_error};

/// Controllers of version 1 in whose hierarchies containers get groups.
const USED: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"];

/// The machine's control groups. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy or more with controllers of their own, also with an empty version 2 hierarchy beside them.
    V1(Arc<[Hierarchy]>),
    /// One hierarchy, mounted here.
    V2(Arc<std::path::Path>),
}

/// A mounted hierarchy of version 1, or the empty one of version 2 beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// What it controls; empty for a named one.
    pub controllers: Vec<String>,
    /// Its name, where it has one: `systemd`.
    pub name: Option<String>,
    /// Whether it is the version 2 hierarchy of a hybrid.
    pub unified: bool,
}

impl Hierarchy {
    /// Whether it has one of the controllers that containers are limited by.
    pub fn used(&self) -> bool {
        self.controllers.iter().any(|controller| USED.contains(&controller.as_str()))
    }
}

impl Version {
    /// Reads the machine's mounts, once.
    pub fn detect() -> Result<Self, Error> {
        static FOUND: OnceLock<Version> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found.clone());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(io_error("read /proc/self/mountinfo"))?;
        let found = Self::from_mounts(&mounts)?;
        Ok(FOUND.get_or_init(|| found).clone())
    }

    /// From the text of `/proc/PID/mountinfo`.
    pub fn from_mounts(mounts: &str) -> Result<Self, Error> {
        let mut hierarchies = Vec::<Hierarchy>::new();
        let mut unified = None;
        for line in mounts.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let Some(mount) = head.split(' ').nth(4).map(unescape) else { continue };
            let mut tail = tail.split(' ');
            match (tail.next(), tail.next(), tail.next()) {
                (Some("cgroup2"), ..) if unified.is_none() => unified = Some(PathBuf::from(mount)),
                (Some("cgroup"), _, Some(options)) => {
                    let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
                    let known = |option: &&str| USED.contains(option) || OTHERS.contains(option);
                    let controllers: Vec<_> = options.split(',').filter(known).map(str::to_owned).collect();
                    let seen = hierarchies.iter().any(|old| old.controllers == controllers && old.name == name);
                    if !seen && (name.is_some() || !controllers.is_empty()) {
                        hierarchies.push(Hierarchy { mount: mount.into(), controllers, name, unified: false });
                    }
                }
                _ => {}
            }
        }
        if hierarchies.iter().any(Hierarchy::used) {
            if let Some(mount) = unified {
                hierarchies.push(Hierarchy { mount, controllers: Vec::new(), name: None, unified: true });
            }
            return Ok(Self::V1(hierarchies.into()));
        }
        match unified {
            Some(mount) => Ok(Self::V2(mount.into())),
            None => Err(Error::Machine("no control groups are mounted: /sys/fs/cgroup is expected".into())),
        }
    }

    /// Whether there is only version 2.
    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    /// The directories of a group, one a hierarchy that counts.
    pub fn directories(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::V2(mount) => vec![mount.join(path.as_str())],
            Self::V1(all) => {
                all.iter().filter(|hierarchy| hierarchy.used()).map(|one| one.mount.join(path.as_str())).collect()
            }
        }
    }

    /// The directory of a group in the hierarchy with this controller.
    pub fn directory_of(&self, controller: &str, path: &Path) -> Option<PathBuf> {
        match self {
            Self::V2(mount) => Some(mount.join(path.as_str())),
            Self::V1(all) => {
                let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == controller);
                all.iter().find(has).map(|hierarchy| hierarchy.mount.join(path.as_str()))
            }
        }
    }

    /// The directory whose processes are the group's.
    pub fn main_directory(&self, path: &Path) -> Option<PathBuf> {
        ["freezer", "pids", "memory", "devices", "cpu"]
            .iter()
            .find_map(|controller| self.directory_of(controller, path))
            .or_else(|| self.directories(path).into_iter().next())
    }

    /// The mount point above a group's directory.
    pub fn root_of(&self, directory: &std::path::Path) -> PathBuf {
        match self {
            Self::V2(mount) => mount.to_path_buf(),
            Self::V1(all) => {
                let above = all.iter().find(|hierarchy| directory.starts_with(&hierarchy.mount));
                above.map(|hierarchy| hierarchy.mount.clone()).unwrap_or_default()
            }
        }
    }
}

/// Controllers that are only shown to containers.
const OTHERS: [&str; 5] = ["net_cls", "net_prio", "perf_event", "rdma", "misc"];

/// Blanks and backslashes in mount points are written in octal.
fn unescape(text: &str) -> String {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                result.push(byte);
                rest = &tail[3..];
            }
            None => {
                result.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&result).into_owned()
}
