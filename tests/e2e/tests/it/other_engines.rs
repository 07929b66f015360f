//! Engines of others with `madang runtime` as their OCI runtime.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::shared::{self, IMAGE, busybox};

/// podman with directories of its own, and a link to the binary by the name that it calls.
struct Podman(PathBuf);

impl Podman {
    fn new() -> Option<Self> {
        let missing = shared::missing()
            .or_else(|| (!Path::new("/usr/bin/podman").exists()).then_some("no podman: use cargo xtask test --full"));
        if shared::lacks(missing) {
            return None;
        }
        let dir = std::env::temp_dir().join(format!("madang-podman-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        symlink(e2e::binary().unwrap(), dir.join("madang-runtime")).unwrap();
        // podman's own defaults are more than this machine may be able to give.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:2048\", \"nproc=1024:2048\"]\n";
        fs::write(dir.join("containers.conf"), limits).unwrap();
        Some(Self(dir))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.0.join("containers.conf"));
        let dir = |name: &str| self.0.join(name);
        command.arg("--root").arg(dir("root")).arg("--runroot").arg(dir("run")).arg("--tmpdir").arg(dir("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.arg("--runtime").arg(dir("madang-runtime")).args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("run podman")
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "podman {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

#[test]
#[ignore = "needs podman: cargo xtask test --full"]
fn podman_runs_containers_by_it() {
    let Some(podman) = Podman::new() else { return };
    podman.good(&["load", "--quiet", "--input", busybox().to_str().unwrap()]);
    let runtime = podman.good(&["info", "--format", "{{.Host.OCIRuntime.Path}}"]);
    assert!(runtime.trim().ends_with("madang-runtime"), "{runtime}");
    let run = ["run", "--network", "none"];
    let ran = |words: &[&str]| podman.run(&[&run, words].concat());
    let output = ran(&["--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"out\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"), "{output:?}");
    // Settings that the runtime carries out.
    let script = "id -u; cat /proc/sys/kernel/hostname; ulimit -n; grep CapEff /proc/self/status; touch /x";
    let settings = [
        "--rm",
        "--user",
        "1000",
        "--hostname",
        "box",
        "--ulimit",
        "nofile=77:77",
        "--ulimit",
        "nproc=99:99",
        "--cap-drop",
        "ALL",
    ];
    let output = ran(&[&settings[..], &["--read-only", "--memory", "64m", IMAGE, "sh", "-c", script]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("1000\nbox\n77\nCapEff:\t0000000000000000\n"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"), "{output:?}");
    // A container that stays: exec, logs, pause, stop with its code, start again, removal.
    let loops = "trap 'exit 5' TERM; echo begun; while true; do sleep 0.1; done";
    podman.good(&[&run[..], &["--detach", "--name", "stays", IMAGE, "sh", "-c", loops]].concat());
    assert_eq!(podman.good(&["exec", "stays", "echo", "inside"]), "inside\n");
    assert_eq!(podman.run(&["exec", "stays", "sh", "-c", "exit 9"]).status.code(), Some(9));
    podman.good(&["pause", "stays"]);
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.Status}}", "stays"]), "paused\n");
    podman.good(&["unpause", "stays"]);
    assert!(podman.good(&["top", "stays", "args"]).contains("begun"));
    podman.good(&["stop", "--time", "10", "stays"]);
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.ExitCode}}", "stays"]), "5\n");
    podman.good(&["start", "stays"]);
    podman.good(&["kill", "stays"]);
    assert_eq!(podman.good(&["wait", "stays"]), "137\n");
    assert!(podman.good(&["logs", "stays"]).contains("begun\n"));
    podman.good(&["rm", "stays"]);
    // Standard input, and a terminal.
    let mut cat = podman.command(&[&run[..], &["--rm", "--interactive", IMAGE, "cat"]].concat());
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through\n");
    let terminal = ran(&["--rm", "--tty", IMAGE, "sh", "-c", "test -t 1 && echo terminal"]);
    assert_eq!(String::from_utf8_lossy(&terminal.stdout), "terminal\r\n", "{terminal:?}");
    let missing = ran(&["--rm", IMAGE, "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
}
