//! What is known of containers between commands, and the commands that need no more than that.

use std::{
    fs, io,
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path as FilePath, PathBuf},
};

use oci_spec::runtime::{LinuxResources, Spec};

use super::{
    Global,
    arguments::{Arguments, Option},
};
use crate::{
    cgroup::{Path, Version},
    child::{Context, Failure},
    command::{self, Directory, Status},
    compile,
    protocol::FaultKind,
    spawn, sys,
};

/// What does not change about a container.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// Its name.
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// The user who made it.
    #[serde(default)]
    pub owner: u32,
}

/// Whether a name can be a directory's and a group's.
pub fn is_id(id: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+');
    !id.is_empty() && id.len() <= 255 && id != "." && id != ".." && id.bytes().all(good)
}

impl Global {
    /// A container's directory.
    pub fn directory(&self, id: &str) -> Directory {
        Directory(self.root.join(id))
    }

    /// Makes a container's directory; it must not exist.
    pub fn make_directory(&self, id: &str) -> Result<Directory, Failure> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.root).context(|| format!("make {}", self.root.display()))?;
        let directory = self.directory(id);
        match builder.recursive(false).create(&directory.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure { kind: FaultKind::Exists, message: format!("container {id} exists already") })
            }
            other => other.context(|| format!("make {}", directory.0.display())).map(|()| directory),
        }
    }

    /// Reads a container's state.
    pub fn load(&self, id: &str) -> Result<(State, Directory), Failure> {
        let directory = self.directory(id);
        let file = directory.0.join("state.json");
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure { kind: FaultKind::NotFound, message: format!("container {id} does not exist") });
            }
            other => other.context(|| format!("read {}", file.display()))?,
        };
        let state = serde_json::from_slice(&text).context(|| format!("understand {}", file.display()))?;
        Ok((state, directory))
    }
}

/// The specification that a container was made by.
pub fn specification(directory: &Directory) -> Result<Spec, Failure> {
    let file = directory.0.join("config.json");
    let text = fs::read(&file).context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).context(|| format!("understand {}", file.display()))
}

fn not_in(status: Status, id: &str) -> Failure {
    Failure { kind: FaultKind::State, message: format!("container {id} is not {}", status.name()) }
}

/// `start ID`.
pub fn start(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[])?;
    let (_, directory) = global.load(arguments.id()?)?;
    command::start(&directory)?;
    Ok(0)
}

/// `kill [-a] ID [SIGNAL]`.
pub fn kill(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("all", Some('a'))])?;
    let id = arguments.id()?;
    let (_, directory) = global.load(id)?;
    let signal = signal_number(arguments.rest().get(1).map_or("TERM", String::as_str))?;
    let status = command::status(&directory);
    let group = directory.group();
    match (&group, directory.living()) {
        (Some(group), _) if arguments.has("all") => {
            for pid in group.processes() {
                let _ = sys::kill_pid(pid, signal);
            }
        }
        (_, None) => return Err(not_in(Status::Running, id)),
        (_, Some(pid)) => sys::kill_pid(pid, signal).context(|| format!("signal container {id}"))?,
    }
    // A frozen process only dies once it thaws.
    if let (Status::Paused, libc::SIGKILL, Some(group)) = (status, signal, group) {
        group.freeze(false).context(|| "thaw")?;
    }
    Ok(0)
}

/// `delete [-f] ID`.
pub fn delete(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("force", Some('f'))])?;
    let id = arguments.id()?;
    let directory = match global.load(id) {
        Err(failure) if arguments.has("force") && failure.kind == FaultKind::NotFound => {
            // What an interrupted creation has left.
            let _ = fs::remove_dir_all(global.directory(id).0);
            return Ok(0);
        }
        other => other?.1,
    };
    match command::status(&directory) {
        Status::Running | Status::Paused if !arguments.has("force") => {
            let message = format!("container {id} is running: stop it first, or use --force");
            return Err(Failure { kind: FaultKind::State, message });
        }
        _ => {}
    }
    command::remove(&directory)?;
    Ok(0)
}

/// `pause ID`, `resume ID`.
pub fn freeze(global: &Global, words: &[String], frozen: bool) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[])?;
    let id = arguments.id()?;
    let (_, directory) = global.load(id)?;
    let wanted = if frozen { Status::Running } else { Status::Paused };
    if command::status(&directory) != wanted {
        return Err(not_in(wanted, id));
    }
    let group = directory.group().ok_or_else(|| Failure::new("it has no control group"))?;
    group.freeze(frozen).context(|| format!("container {id}"))?;
    Ok(0)
}

const UPDATE: &[Option] = &[
    Option::value("resources", Some('r')),
    Option::value("memory", None),
    Option::value("memory-swap", None),
    Option::value("memory-reservation", None),
    Option::value("cpu-share", None),
    Option::value("cpu-quota", None),
    Option::value("cpu-period", None),
    Option::value("cpu-idle", None),
    Option::value("cpuset-cpus", None),
    Option::value("cpuset-mems", None),
    Option::value("pids-limit", None),
];

/// `update [-r FILE] [options] ID`.
pub fn update(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, UPDATE)?;
    let id = arguments.id()?;
    let (_, directory) = global.load(id)?;
    if command::status(&directory) == Status::Stopped {
        return Err(not_in(Status::Running, id));
    }
    let resources = match arguments.value("resources") {
        Some("-") => {
            let mut text = String::new();
            io::stdin().take(1 << 20).read_to_string(&mut text).context(|| "read standard input")?;
            serde_json::from_str(&text).context(|| "understand resources")?
        }
        Some(file) => {
            let text = fs::read(file).context(|| format!("read {file}"))?;
            serde_json::from_slice(&text).context(|| format!("understand {file}"))?
        }
        None => resources(&arguments)?,
    };
    let group = directory.group().ok_or_else(|| Failure::new("it has no control group"))?;
    let version = Version::detect().context(|| "control groups")?;
    let update = compile::update(&resources, &version, group.path()).context(|| "resources")?;
    spawn::write_all(&update.writes)?;
    Ok(0)
}

fn resources(arguments: &Arguments) -> Result<LinuxResources, Failure> {
    use serde_json::{Map, Value, json};
    let mut groups = [Map::new(), Map::new(), Map::new()];
    let numbers = [
        ("memory", 0, "limit"),
        ("memory-swap", 0, "swap"),
        ("memory-reservation", 0, "reservation"),
        ("cpu-share", 1, "shares"),
        ("cpu-quota", 1, "quota"),
        ("cpu-period", 1, "period"),
        ("cpu-idle", 1, "idle"),
        ("pids-limit", 2, "limit"),
    ];
    for (option, group, name) in numbers {
        if let Some(number) = arguments.number::<i64>(option)? {
            groups[group].insert(name.into(), json!(number));
        }
    }
    for (option, name) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(list) = arguments.value(option) {
            groups[1].insert(name.into(), json!(list));
        }
    }
    let [memory, cpu, pids] = groups;
    let mut whole = Map::new();
    for (name, group) in [("memory", memory), ("cpu", cpu), ("pids", pids)] {
        if !group.is_empty() {
            whole.insert(name.into(), Value::Object(group));
        }
    }
    serde_json::from_value(Value::Object(whole)).context(|| "resources")
}

/// A control group's path as a specification gives it, or one of its own.
pub fn group_path(global: &Global, spec: &Spec, id: &str) -> Result<Path, Failure> {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = match given.as_deref().and_then(FilePath::to_str) {
        Some(path) if global.systemd && path.contains(':') => slice_path(path)?,
        Some(path) if !path.is_empty() => path.to_owned(),
        _ => format!("madang-runtime/{id}"),
    };
    Path::new(&path).context(|| "cgroupsPath")
}

/// `SLICE:PREFIX:NAME`, as systemd would place it; without asking it.
fn slice_path(path: &str) -> Result<String, Failure> {
    let mut parts = path.split(':');
    let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Failure::new(format!("cgroupsPath {path:?} is not SLICE:PREFIX:NAME")));
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or_else(|| Failure::new(format!("{slice:?} is not a slice")))?;
    let mut whole = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        whole.push_str(&format!("{}.slice/", &stem[..end]));
    }
    let unit = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
    Ok(if unit.ends_with(".slice") { whole + &unit } else { format!("{whole}{unit}.scope") })
}

/// A signal by number or name, with or without `SIG`.
pub fn signal_number(text: &str) -> Result<i32, Failure> {
    let bad = || Failure::new(format!("{text:?} is not a signal"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() { 0 } else { rest.trim_start_matches('+').parse().map_err(|_| bad())? };
        let number = offset.checked_add(34).filter(|number| (34..=64).contains(number));
        return number.ok_or_else(bad);
    }
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("RTMIN+3", 37), ("0", 0)] {
            assert_eq!(signal_number(text).ok(), Some(number), "{text}");
        }
        for text in ["", "NONE", "65", "-1", "RTMIN+99", "RTMIN+2147483647"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn slices_nest_as_systemd_has_them() {
        let cases = [
            ("system.slice:docker:abc", Some("system.slice/docker-abc.scope")),
            (":cri:abc", Some("system.slice/cri-abc.scope")),
            ("kube-pods-pod1.slice:cri:x", Some("kube.slice/kube-pods.slice/kube-pods-pod1.slice/cri-x.scope")),
            ("nonsense:a:b", None),
            ("a:b", None),
        ];
        for (path, whole) in cases {
            assert_eq!(slice_path(path).ok().as_deref(), whole, "{path}");
        }
    }

    #[test]
    fn names_are_safe_as_directories() {
        assert!(is_id("a-b_c.d+1"));
        for bad in ["", ".", "..", "a/b", "a b", "é"] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
