//! A pod to test in.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use container::{
    cgroup,
    shim::{Binary, Error, Event, Events, Exec, Exit, LogFile, Rootfs, SandboxSpec, Shim, Stdio},
};
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};
use task::Task;
use tokio::io::AsyncReadExt;

/// Runs a test that needs root, or skips it without. In CI it fails rather than skip.
pub fn as_root<F: Future<Output = ()>>(test: F) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("the test hangs") });
}

/// The shim's program: the one under test, or what `MADANG_SHIM` names.
pub fn binary() -> Binary {
    static BINARY: OnceLock<Binary> = OnceLock::new();
    let path = std::env::var_os("MADANG_SHIM").unwrap_or(env!("CARGO_BIN_EXE_madang-shim").into());
    BINARY.get_or_init(|| Binary::from_file(Path::new(&path)).unwrap()).clone()
}

/// A pod, and the directory that everything of it is in.
pub struct Sandbox {
    /// Ends the pod of a test that fails.
    _guard: Guard,
    pub task: Task,
    pub shim: Shim,
    pub events: Events,
    pub directory: tempfile::TempDir,
    pub group: cgroup::Group,
}

/// Ends what a failed test leaves.
pub struct Guard(i32, cgroup::Group);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.1.exists() {
            if let Some(pid) = rustix::process::Pid::from_raw(self.0) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            self.1.kill(Duration::from_secs(2));
            let _ = self.1.remove(Duration::from_secs(2));
        }
    }
}

/// The one group that all tests' groups are in, with this process's number.
pub fn group_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("madang-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Sandbox {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SandboxSpec)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = cgroup::Path::new(&group_name()).unwrap();
        let version = cgroup::Version::detect().unwrap();
        let group = cgroup::Group::create(&version, &path).unwrap();
        let mut guard = Guard(0, group.clone());
        let mut spec = SandboxSpec {
            id: path.to_string(),
            dir: directory.path().join("state"),
            socket: directory.path().join("shim.sock"),
            hostname: "yard".into(),
            domainname: String::new(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_pid: false,
            cgroup: path,
            sysctls: BTreeMap::new(),
            oom_score_adj: 0,
            users: None,
        };
        change(&mut spec);
        make_rootfs(&directory.path().join("image"), &directory.path().join("below"));
        let task = Task::root("test");
        let binary = binary();
        let begin = std::time::Instant::now();
        let shim = Shim::launch(&task, &binary, &spec).await.unwrap();
        if std::env::var_os("MEASURE").is_some() {
            println!("launch {:.2} ms", begin.elapsed().as_secs_f64() * 1e3);
        }
        let events = shim.events();
        guard.0 = shim.pid();
        Self { _guard: guard, task, shim, events, directory, group }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A specification as a node would write it, for `sh -c SCRIPT`.
    pub fn spec(&self, script: &str) -> Value {
        self.spec_of(&["/bin/sh", "-c", script])
    }

    /// A specification as a node would write it.
    pub fn spec_of(&self, args: &[&str]) -> Value {
        let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
        json!({
            "ociVersion": "1.2.0",
            "root": {"path": self.mountpoint()},
            "process": {
                "args": args,
                "env": ["PATH=/bin", "MARK=set"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        })
    }

    fn mountpoint(&self) -> PathBuf {
        let path = self.path("root");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// An overlay of the image, with a writable layer of the container's own.
    pub fn rootfs(&self, id: &str) -> Rootfs {
        let (upper, work) = (self.path(&format!("{id}-upper")), self.path(&format!("{id}-work")));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        Rootfs::Overlay {
            lowers: vec![self.path("image"), self.path("below")],
            upper,
            work,
            options: Vec::new(),
            mapped: false,
        }
    }

    pub fn stdio(&self, id: &str) -> Stdio {
        let log = LogFile { path: self.path(&format!("{id}.log")), max_bytes: 0, max_files: 1 };
        Stdio { log: Some(log), ..Stdio::default() }
    }

    pub async fn create(&self, id: &str, spec: &Value) -> Result<i32, Error> {
        self.shim.create(id, &typed(spec), &self.rootfs(id), &self.stdio(id)).await
    }

    pub async fn start(&self, id: &str, spec: &Value) -> Result<i32, Error> {
        let pid = self.create(id, spec).await?;
        self.shim.start(id).await?;
        Ok(pid)
    }

    /// Creates, starts, waits; then how it ended and what it wrote, errors included.
    pub async fn run(&mut self, id: &str, spec: &Value) -> (Exit, String) {
        self.start(id, spec).await.unwrap();
        let exit = self.exit(id).await;
        (exit, self.output(id))
    }

    /// The end of a container that was not yet announced.
    pub async fn exit(&mut self, wanted: &str) -> Exit {
        loop {
            match self.events.next().await.expect("the shim is gone") {
                Event::Exited { id, exit } if id == wanted => return exit,
                _ => {}
            }
        }
    }

    /// What a container has written to its log, without stamps.
    pub fn output(&self, id: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{id}.log"))).unwrap_or_default();
        let line = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n";
        text.lines().map(line).collect()
    }

    pub fn process(&self, args: &[&str]) -> Process {
        let spec = self.spec_of(args);
        serde_json::from_value(spec["process"].clone()).unwrap()
    }

    /// Ends the pod and checks that nothing is left.
    pub async fn end(self) {
        let pid = self.shim.pid();
        self.shim.shutdown().await.unwrap();
        assert!(!self.group.exists(), "{} is left", self.group.path());
        assert!(!self.path("shim.sock").exists());
        for _ in 0..100 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.is_empty() || status.contains("State:\tZ") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "the shim is left");
        let log = fs::read_to_string(self.path("state/shim.log")).unwrap_or_default();
        assert_eq!(log, "", "the shim complained");
        self.task.drain(Duration::from_secs(1)).await;
    }
}

pub fn typed(spec: &Value) -> Spec {
    serde_json::from_value(spec.clone()).unwrap()
}

/// All that an exec wrote, and how it ended.
pub async fn finish(mut exec: Exec) -> (Exit, String, String) {
    drop(exec.stdin.take());
    let (mut out, mut error) = (String::new(), String::new());
    if let Some(stream) = &mut exec.stdout {
        stream.read_to_string(&mut out).await.unwrap();
    }
    if let Some(stream) = &mut exec.stderr {
        stream.read_to_string(&mut error).await.unwrap();
    }
    (exec.exit().await.unwrap(), out, error)
}

/// A root file system of busybox, in two layers.
pub fn make_rootfs(root: &Path, below: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("these tests need busybox: apt-get install busybox-static");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "home/web"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::create_dir_all(below.join("lower")).unwrap();
    fs::write(below.join("lower/file"), "from below\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
    fs::write(root.join("bin/plain"), "not executable\n").unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let list = Command::new(busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}
