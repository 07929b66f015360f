//! The command line of an OCI runtime.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use container::cgroup::{self, Group, Version};
use serde_json::{Value, json};

use crate::sandbox::{as_root, group_name, make_rootfs};

/// A bundle, a state directory, and a control group of its own.
struct Bundle {
    directory: tempfile::TempDir,
    group: String,
}

impl Bundle {
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        make_rootfs(&directory.path().join("rootfs"), &directory.path().join("unused"));
        let bundle = Self { directory, group: group_name() };
        let made = bundle.run(&["spec", "-b", bundle.path("").to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        let mut spec = bundle.spec();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/{}/c", bundle.group));
        change(&mut spec);
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spec(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("config.json")).unwrap()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let shim = std::env::var_os("MADANG_SHIM").unwrap_or(env!("CARGO_BIN_EXE_madang-shim").into());
        let mut command = Command::new(env!("CARGO_BIN_EXE_madang-runtime"));
        command.env("MADANG_SHIM", shim);
        command.arg("--root").arg(self.path("state")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command prints, which must succeed.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Creates a container; a pipe would be held open by it, so output goes to a file.
    fn create(&self, id: &str) {
        let out = fs::File::create(self.path("out")).unwrap();
        let status = self
            .command(&[
                "create",
                "-b",
                self.path("").to_str().unwrap(),
                "--pid-file",
                self.path("pid").to_str().unwrap(),
                id,
            ])
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        assert!(status.success(), "{}", fs::read_to_string(self.path("out")).unwrap());
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.ask(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn wait_for(&self, id: &str, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.status(id) != status {
            assert!(Instant::now() < deadline, "{id} does not become {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let path = cgroup::Path::new(&self.group).unwrap();
        let group = Group::open(&Version::detect().unwrap(), &path);
        group.kill(Duration::from_secs(2));
        let _ = group.remove(Duration::from_secs(2));
    }
}

fn args(args: &[&str]) -> impl FnOnce(&mut Value) {
    let args = json!(args);
    move |spec| spec["process"]["args"] = args
}

#[test]
fn a_container_goes_through_its_life_by_commands() {
    as_root(async {
        let bundle = Bundle::new(args(&["/bin/sh", "-c", "echo started; sleep 1000"]));
        bundle.create("one");
        let state: Value = serde_json::from_str(&bundle.ask(&["state", "one"])).unwrap();
        let pid: i64 = fs::read_to_string(bundle.path("pid")).unwrap().parse().unwrap();
        assert_eq!((state["id"].as_str(), state["status"].as_str()), (Some("one"), Some("created")));
        assert_eq!(
            (state["pid"].as_i64(), state["bundle"].as_str()),
            (Some(pid), bundle.path("").canonicalize().unwrap().to_str())
        );
        assert_eq!(fs::read_to_string(bundle.path("out")).unwrap(), "");
        assert!(bundle.refused(&["create", "-b", bundle.path("").to_str().unwrap(), "one"]).contains("exists already"));
        bundle.ask(&["start", "one"]);
        bundle.wait_for("one", "running");
        while fs::read_to_string(bundle.path("out")).unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(bundle.refused(&["start", "one"]).contains("running"));
        assert!(bundle.refused(&["delete", "one"]).contains("is running"));
        assert!(bundle.ask(&["list"]).contains("running"));
        assert_eq!(bundle.ask(&["list", "-q"]), "one\n");
        assert!(bundle.ask(&["ps", "one"]).contains("sleep 1000"));
        let pids: Vec<i64> = serde_json::from_str(&bundle.ask(&["ps", "-f", "json", "one"])).unwrap();
        assert!(pids.contains(&pid));
        bundle.ask(&["pause", "one"]);
        assert_eq!(bundle.status("one"), "paused");
        assert!(bundle.refused(&["exec", "one", "true"]).contains("paused"));
        bundle.ask(&["resume", "one"]);
        bundle.ask(&["update", "--memory", "67108864", "--pids-limit", "20", "one"]);
        let event: Value = serde_json::from_str(&bundle.ask(&["events", "--stats", "one"])).unwrap();
        assert_eq!(event["data"]["pids"]["limit"], json!(20));
        assert_eq!(event["data"]["memory"]["usage"]["limit"], json!(67_108_864));
        bundle.ask(&["kill", "one", "KILL"]);
        bundle.wait_for("one", "stopped");
        assert!(bundle.refused(&["kill", "one", "KILL"]).contains("not running"));
        bundle.ask(&["delete", "one"]);
        assert!(bundle.refused(&["state", "one"]).contains("does not exist"));
        assert!(!bundle.path("state/one").exists());
        bundle.ask(&["delete", "--force", "one"]);
        assert_eq!(fs::read_to_string(bundle.path("out")).unwrap(), "started\n");
        let path = cgroup::Path::new(&format!("{}/c", bundle.group)).unwrap();
        assert!(!Group::open(&Version::detect().unwrap(), &path).exists());
    });
}

#[test]
fn run_waits_and_gives_output_and_exit_code() {
    as_root(async {
        let bundle = Bundle::new(args(&["/bin/sh", "-c", "hostname; cat; echo err >&2; exit 42"]));
        let mut child = bundle
            .command(&["run", "-b", bundle.path("").to_str().unwrap(), "two"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"input\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(42), "{output:?}");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"madang\ninput\n"[..], &b"err\n"[..]));
        assert!(!bundle.path("state/two").exists());
    });
}

#[test]
fn signals_to_run_go_to_the_container() {
    as_root(async {
        let script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
        let bundle = Bundle::new(args(&["/bin/sh", "-c", script]));
        let mut child = bundle
            .command(&["run", "-b", bundle.path("").to_str().unwrap(), "three"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 6];
        out.read_exact(&mut first).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5));
    });
}

#[test]
fn exec_runs_further_processes() {
    as_root(async {
        let bundle = Bundle::new(args(&["sleep", "1000"]));
        bundle.create("four");
        bundle.ask(&["start", "four"]);
        assert_eq!(bundle.ask(&["exec", "four", "hostname"]), "madang\n");
        assert_eq!(
            bundle.ask(&[
                "exec",
                "-u",
                "33:44",
                "-e",
                "A=b",
                "--cwd",
                "/etc",
                "four",
                "sh",
                "-c",
                "id -u; id -g; echo $A; pwd"
            ]),
            "33\n44\nb\n/etc\n"
        );
        assert_eq!(bundle.run(&["exec", "four", "sh", "-c", "exit 9"]).status.code(), Some(9));
        let missing = bundle.run(&["exec", "four", "missing"]);
        assert_eq!(missing.status.code(), Some(127));
        assert!(String::from_utf8(missing.stderr).unwrap().contains("executable file not found in $PATH"));
        fs::write(
            bundle.path("process.json"),
            json!({"args": ["echo", "from file"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]})
                .to_string(),
        )
        .unwrap();
        assert_eq!(bundle.ask(&["exec", "-p", bundle.path("process.json").to_str().unwrap(), "four"]), "from file\n");
        let status = bundle.ask(&["exec", "four", "grep", "-E", "^(CapBnd|NoNewPrivs)", "/proc/self/status"]);
        assert!(status.contains("CapBnd:\t0000000020000420") && status.contains("NoNewPrivs:\t1"), "{status}");
        bundle.ask(&["delete", "-f", "four"]);
    });
}

#[test]
fn a_terminal_is_handed_to_the_console_socket() {
    as_root(async {
        let bundle = Bundle::new(|spec| {
            spec["process"]["terminal"] = json!(true);
            spec["process"]["args"] = json!(["/bin/sh", "-c", "tty; read x; echo got $x"]);
        });
        let socket = bundle.path("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let base = bundle.path("");
        assert!(bundle.refused(&["create", "-b", base.to_str().unwrap(), "five"]).contains("--console-socket"));
        assert!(!bundle.path("state/five").exists());
        bundle.ask(&["create", "-b", base.to_str().unwrap(), "--console-socket", socket.to_str().unwrap(), "five"]);
        let (stream, _) = listener.accept().unwrap();
        let mut terminal = receive(&stream);
        bundle.ask(&["start", "five"]);
        terminal.write_all(b"word\n").unwrap();
        let mut text = String::new();
        // The end of a terminal is an error.
        let _ = terminal.read_to_string(&mut text);
        assert!(text.contains("/dev/pts/0\r\n") && text.ends_with("got word\r\n"), "{text:?}");
        bundle.wait_for("five", "stopped");
        bundle.ask(&["delete", "five"]);
    });
}

fn receive(stream: &std::os::unix::net::UnixStream) -> fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    rustix::net::recvmsg(stream, &mut [std::io::IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .unwrap();
    let rights = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.unwrap().into()
}

#[test]
fn hooks_run_at_their_moments_and_see_the_state() {
    as_root(async {
        let bundle = Bundle::new(|_| {});
        let log = bundle.path("hooks");
        let hook = |name: &str| {
            let script = format!("echo {name} $(cat) >> {}", log.display());
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        let mut spec = bundle.spec();
        spec["process"]["args"] = json!(["true"]);
        spec["annotations"] = json!({"colour": "green"});
        spec["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
            "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer > /seen"]}],
        });
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        bundle.create("six");
        bundle.ask(&["start", "six"]);
        bundle.wait_for("six", "stopped");
        bundle.ask(&["delete", "six"]);
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
        let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
        let states: Vec<Value> = lines.iter().map(|(_, state)| serde_json::from_str(state).unwrap()).collect();
        assert_eq!(states[1]["id"], json!("six"));
        assert_eq!(states[1]["annotations"]["colour"], json!("green"));
        assert_eq!((states[1]["status"].as_str(), states[4]["status"].as_str()), (Some("creating"), Some("stopped")));
        assert!(states[1]["pid"].as_i64().unwrap() > 1);
        assert_eq!(fs::read_to_string(bundle.path("rootfs/seen")).unwrap(), "startContainer\n");
        // One that fails ends the creation, and nothing is left.
        spec["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]}]});
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        let error = bundle.refused(&["create", "-b", bundle.path("").to_str().unwrap(), "seven"]);
        assert!(error.contains("because"), "{error}");
        assert!(!bundle.path("state/seven").exists());
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        assert!(bundle.refused(&["create", "-b", bundle.path("").to_str().unwrap(), "eight"]).contains("did not end"));
    });
}

#[test]
fn errors_go_where_engines_look_for_them() {
    as_root(async {
        let bundle = Bundle::new(args(&["missing"]));
        let log = bundle.path("log.json");
        let base = bundle.path("");
        let output = bundle
            .command(&[
                "--log",
                log.to_str().unwrap(),
                "--log-format",
                "json",
                "create",
                "-b",
                base.to_str().unwrap(),
                "nine",
            ])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
        assert_eq!(line["level"], json!("error"));
        assert_eq!(line["msg"], json!("exec: \"missing\": executable file not found in $PATH"));
        assert!(bundle.refused(&["nonsense"]).contains("no command"));
        assert!(bundle.refused(&["state", "../../etc"]).contains("not a container's name"));
        assert!(bundle.refused(&["start", "absent"]).contains("does not exist"));
    });
}

#[test]
fn features_are_told() {
    as_root(async {
        let bundle = Bundle::new(|_| {});
        let features: oci_spec::runtime::Features = serde_json::from_str(&bundle.ask(&["features"])).unwrap();
        assert_eq!(features.oci_version_min(), "1.0.0");
        assert!(Path::new(&bundle.path("config.json")).exists());
    });
}

#[test]
fn descriptors_are_passed_on_when_asked() {
    as_root(async {
        let bundle = Bundle::new(args(&["/bin/sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"]));
        fs::write(bundle.path("extra"), "extra\n").unwrap();
        // A shell puts it at number 3.
        let script = "exec 3< \"$0\"; shift 0; exec \"$@\"";
        let inner = bundle.command(&["run", "--preserve-fds", "1", "-b", bundle.path("").to_str().unwrap(), "ten"]);
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(bundle.path("extra"))
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("MADANG_SHIM", std::env::var_os("MADANG_SHIM").unwrap_or(env!("CARGO_BIN_EXE_madang-shim").into()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "extra\n5\n");
        // And not otherwise.
        let inner = bundle.command(&["run", "-b", bundle.path("").to_str().unwrap(), "eleven"]);
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(bundle.path("extra"))
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("MADANG_SHIM", std::env::var_os("MADANG_SHIM").unwrap_or(env!("CARGO_BIN_EXE_madang-shim").into()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!String::from_utf8(output.stdout).unwrap().contains("extra"));
    });
}
