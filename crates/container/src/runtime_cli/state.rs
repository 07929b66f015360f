//! What is known of containers between commands, and the commands that need no more than that.
//!
//! ```text
//! ROOT/ID/state.json    identifier, process and its start time, bundle, control group
//! ROOT/ID/config.json   the specification, as it was when the container was made
//! ROOT/ID/start         a pipe; it exists until the container was started
//! ```

use std::{
    fs, io,
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path as FilePath, PathBuf},
    time::{Duration, Instant},
};

use oci_spec::runtime::{LinuxResources, Spec};

use super::{
    Global,
    arguments::{Arguments, Option},
};
use crate::{
    cgroup::{Group, Path, Version},
    child::{self, Context, Failure},
    compile,
    plan::Moment,
    protocol::FaultKind,
    spawn, sys,
};

/// How long processes may take to end once they are killed.
const END: Duration = Duration::from_secs(10);

/// A container, as its directory has it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct State {
    /// Its name.
    pub id: String,
    /// Its first process.
    pub pid: i32,
    /// When that was started, in the kernel's ticks: a number that is used again has another.
    pub started: u64,
    /// Absolute.
    pub bundle: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// Its control group, where it has one.
    pub cgroup: std::option::Option<String>,
    /// The user who made it.
    #[serde(default)]
    pub owner: u32,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
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

/// Whether a name can be a directory's and a group's.
pub fn is_id(id: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+');
    !id.is_empty() && id.len() <= 255 && id != "." && id != ".." && id.bytes().all(good)
}

impl Global {
    /// A container's directory.
    pub fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Makes a container's directory; it must not exist.
    pub fn make_directory(&self, id: &str) -> Result<PathBuf, Failure> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.root).context(|| format!("make {}", self.root.display()))?;
        let directory = self.directory(id);
        match builder.recursive(false).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure { kind: FaultKind::Exists, message: format!("container {id} exists already") })
            }
            other => other.context(|| format!("make {}", directory.display())).map(|()| directory),
        }
    }

    /// Reads a container's state.
    pub fn load(&self, id: &str) -> Result<State, Failure> {
        let file = self.directory(id).join("state.json");
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure { kind: FaultKind::NotFound, message: format!("container {id} does not exist") });
            }
            other => other.context(|| format!("read {}", file.display()))?,
        };
        serde_json::from_slice(&text).context(|| format!("understand {}", file.display()))
    }

    /// Writes a container's state, whole or not at all.
    pub fn save(&self, state: &State) -> Result<(), Failure> {
        let file = self.directory(&state.id).join("state.json");
        let new = file.with_extension("new");
        let text = serde_json::to_vec(state).context(|| "write the state")?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &file)).context(|| format!("write {}", file.display()))
    }

    /// The specification that a container was made by.
    pub fn specification(&self, id: &str) -> Result<Spec, Failure> {
        let file = self.directory(id).join("config.json");
        let text = fs::read(&file).context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).context(|| format!("understand {}", file.display()))
    }

    /// Where a container is in its life.
    pub fn status(&self, state: &State) -> Status {
        if start_time(state.pid) != Some(state.started) {
            return Status::Stopped;
        }
        if self.directory(&state.id).join("start").exists() {
            return Status::Created;
        }
        if state.group().is_some_and(|group| is_frozen(&group)) { Status::Paused } else { Status::Running }
    }
}

impl State {
    /// Its control group.
    pub fn group(&self) -> std::option::Option<Group> {
        let path = Path::new(self.cgroup.as_deref()?).ok()?;
        Some(Group::open(&Version::detect().ok()?, &path))
    }
}

fn is_frozen(group: &Group) -> bool {
    let Ok(version) = Version::detect() else { return false };
    let Some(directory) = version.directory_of("freezer", group.path()) else { return false };
    let (file, line) = if version.is_v2() { ("cgroup.events", "frozen 1") } else { ("freezer.state", "FROZEN") };
    fs::read_to_string(directory.join(file)).is_ok_and(|text| text.lines().any(|found| found == line))
}

/// When a living process was started; `None` for one that is gone or a zombie.
pub fn start_time(pid: i32) -> std::option::Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// `kill [-a] ID [SIGNAL]`.
pub fn kill(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("all", Some('a'))])?;
    let state = global.load(arguments.id()?)?;
    let signal = signal_number(arguments.rest().get(1).map_or("TERM", String::as_str))?;
    let status = global.status(&state);
    if arguments.has("all")
        && let Some(group) = state.group()
    {
        for pid in group.processes() {
            let _ = sys::kill_pid(pid, signal);
        }
    } else if status == Status::Stopped {
        return Err(Failure { kind: FaultKind::State, message: format!("container {} is not running", state.id) });
    } else {
        sys::kill_pid(state.pid, signal).context(|| format!("signal container {}", state.id))?;
    }
    // A frozen process only dies once it thaws.
    if status == Status::Paused
        && signal == libc::SIGKILL
        && let Some(group) = state.group()
    {
        group.freeze(false).context(|| "thaw")?;
    }
    Ok(0)
}

/// `delete [-f] ID`.
pub fn delete(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("force", Some('f'))])?;
    let id = arguments.id()?;
    let state = match global.load(id) {
        Err(failure) if arguments.has("force") && failure.kind == FaultKind::NotFound => {
            // What an interrupted creation has left.
            let _ = fs::remove_dir_all(global.directory(id));
            return Ok(0);
        }
        other => other?,
    };
    match global.status(&state) {
        Status::Running | Status::Paused if !arguments.has("force") => {
            let message = format!("container {id} is running: stop it first, or use --force");
            return Err(Failure { kind: FaultKind::State, message });
        }
        _ => {}
    }
    remove(global, &state)?;
    Ok(0)
}

/// Kills what is left of a container and removes it.
pub fn remove(global: &Global, state: &State) -> Result<(), Failure> {
    if start_time(state.pid) == Some(state.started) {
        let _ = sys::kill_pid(state.pid, libc::SIGKILL);
    }
    if let Some(group) = state.group() {
        if group.exists() && !group.kill(END) {
            return Err(Failure::new(format!("processes of container {} do not end", state.id)));
        }
        group.remove(END).context(|| format!("container {}", state.id))?;
    }
    let deadline = Instant::now() + END;
    while start_time(state.pid) == Some(state.started) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Ok(spec) = global.specification(&state.id)
        && let Ok(plan) = plan(&state.id, &state.bundle, &spec, None)
        && let Err(failure) = child::run_hooks(&plan, Moment::Poststop, "stopped", 0)
    {
        // As the specification says, that is noted and no more.
        eprintln!("{}", failure.message);
    }
    let directory = global.directory(&state.id);
    fs::remove_dir_all(&directory).context(|| format!("remove {}", directory.display()))
}

/// Compiles a specification, with what hooks are told.
pub fn plan(
    id: &str,
    bundle: &FilePath,
    spec: &Spec,
    group: std::option::Option<&Path>,
) -> Result<crate::plan::Plan, Failure> {
    let version = Version::detect().context(|| "control groups")?;
    let mut plan = compile::plan(spec, compile::Rootfs::Directory, &version, group).context(|| "config.json")?;
    let bundle = serde_json::json!(bundle);
    plan.bundle = format!("\"ociVersion\":\"{}\",\"id\":{id:?},\"bundle\":{bundle}", super::VERSION);
    Ok(plan)
}

/// `pause ID`, `resume ID`.
pub fn freeze(global: &Global, words: &[String], frozen: bool) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[])?;
    let state = global.load(arguments.id()?)?;
    let wanted = if frozen { Status::Running } else { Status::Paused };
    if global.status(&state) != wanted {
        let message = format!("container {} is not {}", state.id, wanted.name());
        return Err(Failure { kind: FaultKind::State, message });
    }
    let group = state.group().ok_or_else(|| Failure::new("it has no control group"))?;
    group.freeze(frozen).context(|| format!("container {}", state.id))?;
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
    let state = global.load(arguments.id()?)?;
    if global.status(&state) == Status::Stopped {
        return Err(Failure { kind: FaultKind::State, message: format!("container {} is not running", state.id) });
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
    let path = state.cgroup.as_deref().ok_or_else(|| Failure::new("it has no control group"))?;
    let path = Path::new(path).context(|| "control group")?;
    let version = Version::detect().context(|| "control groups")?;
    let update = compile::update(&resources, &version, &path).context(|| "resources")?;
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
        return Ok(34 + offset).and_then(|number| if (34..=64).contains(&number) { Ok(number) } else { Err(bad()) });
    }
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1).ok_or_else(bad)
}

/// Makes the group of a new container and limits it.
pub fn make_group(plan: &crate::plan::Plan) -> Result<(), Failure> {
    let version = Version::detect().context(|| "control groups")?;
    match &plan.cgroup {
        // The program stays attached to the group without a descriptor of it.
        Some(group) => spawn::make_group(&version, group).map(drop),
        None => Ok(()),
    }
}

/// Removes what a failed creation has made.
pub fn undo_group(plan: &crate::plan::Plan) {
    if let (Some(group), Ok(version)) = (&plan.cgroup, Version::detect())
        && let Ok(path) = Path::new(&group.path)
    {
        let group = Group::open(&version, &path);
        group.kill(Duration::from_secs(1));
        let _ = group.remove(Duration::from_secs(1));
    }
}

/// Everything in a directory of groups, for `ps`.
pub fn processes(state: &State) -> Vec<i32> {
    match state.group() {
        Some(group) => group.processes(),
        None => vec![state.pid],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("RTMIN+3", 37), ("0", 0)] {
            assert_eq!(signal_number(text).ok(), Some(number), "{text}");
        }
        for text in ["", "NONE", "65", "-1", "RTMIN+99"] {
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
