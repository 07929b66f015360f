//! `madang runtime`, and the same by the name `madang-runtime`: a bundle of busybox goes through every command.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// A bundle that `spec` began, and a state directory.
struct Bundle(tempfile::TempDir);

impl Bundle {
    /// One whose process is `command`; nothing where containers cannot be made.
    fn new(command: &[&str]) -> Option<Self> {
        let able = rustix::process::geteuid().is_root() && Path::new(BUSYBOX).exists();
        if !able {
            assert!(std::env::var_os("CI").is_none(), "containers need root and busybox-static");
            return None;
        }
        let bundle = Self(tempfile::tempdir().unwrap());
        let bin = bundle.path("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "hostname", "true"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        bundle.ask(&["spec", "--bundle", bundle.path("").to_str().unwrap()]);
        let file = bundle.path("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(command);
        spec["linux"]["cgroupsPath"] = json!(bundle.group());
        fs::write(file, spec.to_string()).unwrap();
        Some(bundle)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn group(&self) -> String {
        format!("/madang-test-{}", self.0.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.'))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_madang"));
        command.args(["runtime", "--root"]).arg(self.path("state")).args(words).current_dir(self.path(""));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn ask(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.ask(&["state", "one"])).unwrap()
    }

    #[track_caller]
    fn until(&self, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.state()["status"] != status {
            assert!(Instant::now() < deadline, "not {status}: {}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // After a failed test the container may be there still.
        let _ = self.command(&["delete", "--force", "one"]).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_container_goes_through_its_life() {
    let Some(bundle) = Bundle::new(&["sleep", "1000"]) else { return };
    // A pipe would be held open by the container.
    let null = || Stdio::null();
    let created = bundle.command(&["create", "one"]).stdin(null()).stdout(null()).stderr(null()).status().unwrap();
    assert!(created.success());
    assert_eq!(bundle.state()["status"], "created");
    bundle.ask(&["start", "one"]);
    bundle.until("running");
    assert_eq!(bundle.ask(&["exec", "one", "hostname"]), "madang\n");
    assert_eq!(bundle.run(&["exec", "one", "sh", "-c", "exit 9"]).status.code(), Some(9));
    assert!(bundle.ask(&["ps", "one"]).contains("sleep 1000"));
    assert_eq!(bundle.ask(&["list", "--quiet"]), "one\n");
    bundle.ask(&["pause", "one"]);
    assert_eq!(bundle.state()["status"], "paused");
    bundle.ask(&["resume", "one"]);
    bundle.ask(&["update", "--pids-limit", "20", "one"]);
    let event: Value = serde_json::from_str(&bundle.ask(&["events", "--stats", "one"])).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 20);
    bundle.ask(&["kill", "one", "KILL"]);
    bundle.until("stopped");
    bundle.ask(&["delete", "one"]);
    assert!(!bundle.run(&["state", "one"]).status.success());
    for hierarchy in ["", "pids", "memory", "unified"] {
        let group = format!("/sys/fs/cgroup/{hierarchy}{}", bundle.group());
        assert!(!Path::new(&group).exists(), "{group} is left");
    }
}

#[test]
fn run_passes_streams_and_the_exit_code_also_by_the_name_engines_call() {
    let Some(bundle) = Bundle::new(&["sh", "-c", "cat; echo err >&2; exit 42"]) else { return };
    let link = bundle.path("madang-runtime");
    symlink(env!("CARGO_BIN_EXE_madang"), &link).unwrap();
    let mut by_name = Command::new(&link);
    by_name.arg("--root").arg(bundle.path("state")).args(["run", "one"]).current_dir(bundle.path(""));
    for mut command in [bundle.command(&["run", "one"]), by_name] {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"input\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(42), "{output:?}");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"input\n"[..], &b"err\n"[..]));
    }
}

#[test]
fn the_words_are_the_runtimes_own() {
    let madang = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_madang")).args(words).output().unwrap();
    let version = String::from_utf8(madang(&["runtime", "--version"]).stdout).unwrap();
    assert!(version.contains("spec: 1."), "{version}");
    let features: Value = serde_json::from_slice(&madang(&["runtime", "features"]).stdout).unwrap();
    assert!(features["hooks"].as_array().is_some_and(|hooks| !hooks.is_empty()), "{features}");
    let usage = String::from_utf8(madang(&["runtime", "--help"]).stdout).unwrap();
    assert!(usage.contains("--systemd-cgroup"), "{usage}");
    let refused = madang(&["runtime", "nonsense"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no command"));
}
