//! Commands that only tell: `state`, `list`, `ps`, `events`, `features`, `spec`.

use std::{fs, io::Write, path::Path as FilePath, time::Duration};

use serde_json::{Value, json};

use super::{
    Global, VERSION,
    arguments::{Arguments, Option},
    state::{self, State},
};
use crate::{
    capability,
    cgroup::{Stats, Version},
    child::{Context, Failure},
    command::{self, Directory, Status},
    protocol::FaultKind,
};

fn print(value: &Value) -> Result<i32, Failure> {
    let text = serde_json::to_string_pretty(value).context(|| "write")?;
    println!("{text}");
    Ok(0)
}

fn shown(state: &State, directory: &Directory) -> Value {
    let status = command::status(directory);
    let spec = state::specification(directory).ok();
    let annotations = spec.as_ref().and_then(|spec| spec.annotations().clone()).unwrap_or_default();
    let root = spec.as_ref().and_then(|spec| spec.root().as_ref()).map(|root| root.path().clone());
    json!({
        "ociVersion": VERSION,
        "id": state.id,
        "pid": directory.living().unwrap_or(0),
        "status": status.name(),
        "bundle": state.bundle,
        "rootfs": root,
        "created": state.created,
        "annotations": annotations,
        "owner": state.owner,
    })
}

/// `state ID`.
pub fn state(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[])?;
    let (state, directory) = global.load(arguments.id()?)?;
    print(&shown(&state, &directory))
}

/// `list`.
pub fn list(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("quiet", Some('q')), Option::value("format", Some('f'))])?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&global.root).into_iter().flatten().flatten() {
        if let Some(state) = entry.file_name().to_str().and_then(|id| global.load(id).ok()) {
            found.push(state);
        }
    }
    found.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    if arguments.has("quiet") {
        found.iter().for_each(|(state, _)| println!("{}", state.id));
        return Ok(0);
    }
    let shown: Vec<_> = found.iter().map(|(state, directory)| shown(state, directory)).collect();
    if arguments.value("format") == Some("json") {
        println!("{}", Value::Array(shown));
        return Ok(0);
    }
    println!("{:<20} {:<10} {:<10} {:<30} CREATED", "ID", "PID", "STATUS", "BUNDLE");
    for one in shown {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let pid = one["pid"].to_string();
        println!("{:<20} {pid:<10} {:<10} {:<30} {}", text("id"), text("status"), text("bundle"), text("created"));
    }
    Ok(0)
}

/// `ps ID`.
pub fn ps(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::value("format", Some('f'))])?;
    let (_, directory) = global.load(arguments.id()?)?;
    let pids = match directory.group() {
        Some(group) => group.processes(),
        None => directory.living().into_iter().collect(),
    };
    if arguments.value("format") == Some("json") {
        println!("{}", json!(pids));
        return Ok(0);
    }
    println!("{:>8} {:>8} {:>8} CMD", "UID", "PID", "PPID");
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or("-").to_owned()
        };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let command = if command.is_empty() { format!("[{}]", field("Name:")) } else { command };
        println!("{:>8} {pid:>8} {:>8} {}", field("Uid:"), field("PPid:"), command.trim_end());
    }
    Ok(0)
}

/// `events ID`: statistics, once or again and again.
pub fn events(global: &Global, words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::flag("stats", None), Option::value("interval", None)])?;
    let (state, directory) = global.load(arguments.id()?)?;
    let group = directory.group().ok_or_else(|| Failure::new("it has no control group"))?;
    let interval = arguments.value("interval").unwrap_or("5s").trim_end_matches('s');
    let interval: u64 =
        interval.parse().ok().filter(|&seconds| seconds > 0).ok_or_else(|| Failure::new("--interval"))?;
    let mut kills = group.oom_kills();
    loop {
        if command::status(&directory) == Status::Stopped {
            let message = format!("container {} is not running", state.id);
            return if arguments.has("stats") { Err(Failure { kind: FaultKind::State, message }) } else { Ok(0) };
        }
        let stats = group.stats().context(|| format!("container {}", state.id))?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", json!({"type": "stats", "id": state.id, "data": stats_of(&stats)})).context(|| "write")?;
        if group.oom_kills() > kills {
            kills = group.oom_kills();
            writeln!(out, "{}", json!({"type": "oom", "id": state.id})).context(|| "write")?;
        }
        if arguments.has("stats") {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(interval));
    }
}

/// In `runc`'s shape.
fn stats_of(stats: &Stats) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let bytes = |write: bool| -> Vec<Value> {
        let entry = |device: &crate::cgroup::Device| {
            let (operation, value) = if write { ("Write", device.written_bytes) } else { ("Read", device.read_bytes) };
            json!({"major": device.major, "minor": device.minor, "op": operation, "value": value})
        };
        stats.io.iter().map(entry).collect()
    };
    let io = [bytes(false), bytes(true)].concat();
    json!({
        "cpu": {
            "usage": {
                "total": nanoseconds(stats.cpu.usage),
                "kernel": nanoseconds(stats.cpu.system),
                "user": nanoseconds(stats.cpu.user),
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": nanoseconds(stats.cpu.throttled),
            },
        },
        "memory": {
            "cache": stats.memory.cache,
            "usage": {
                "usage": stats.memory.usage,
                "max": stats.memory.max_usage,
                "failcnt": stats.memory.failures,
                "limit": stats.memory.limit.unwrap_or(u64::MAX),
            },
            "swap": {"usage": stats.memory.swap, "limit": stats.memory.swap_limit.unwrap_or(u64::MAX)},
            "raw": {
                "rss": stats.memory.rss,
                "mapped_file": stats.memory.mapped_file,
                "pgfault": stats.memory.page_faults,
                "pgmajfault": stats.memory.major_page_faults,
                "oom_kill": stats.memory.oom_kills,
                "working_set": stats.memory.working_set,
            },
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit.unwrap_or(0)},
        "blkio": {"ioServiceBytesRecursive": io},
    })
}

/// `features`.
pub fn features() -> Result<i32, Failure> {
    let names: Vec<_> =
        capability::NAMES.iter().take(capability::last() as usize + 1).map(|name| format!("CAP_{name}")).collect();
    let v2 = Version::detect().is_ok_and(|version| version.is_v2());
    let options = vec![
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "idmap",
        "lazytime",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "remount",
        "rexec",
        "ridmap",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "ro",
        "rprivate",
        "rrelatime",
        "rro",
        "rrw",
        "rshared",
        "rslave",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "runbindable",
        "rw",
        "shared",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
    ];
    print(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": names,
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": v2},
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": if cfg!(target_arch = "x86_64") { json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]) } else { json!(["SCMP_ARCH_AARCH64"]) },
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
        },
    }))
}

/// `spec`: a specification to begin with.
pub fn spec(words: &[String]) -> Result<i32, Failure> {
    let arguments = Arguments::parse(words, &[Option::value("bundle", Some('b'))])?;
    let file = FilePath::new(arguments.value("bundle").unwrap_or(".")).join("config.json");
    if file.exists() {
        return Err(Failure { kind: FaultKind::Exists, message: format!("{} exists already", file.display()) });
    }
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let bound = ["nosuid", "noexec", "nodev"];
    let spec = json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "madang",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": bound},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    let text = serde_json::to_string_pretty(&spec).context(|| "write")?;
    fs::write(&file, text + "\n").context(|| format!("write {}", file.display()))?;
    Ok(0)
}
