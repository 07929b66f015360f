//! Further processes in a container.

use std::{fs, time::Duration};

use container::shim::Error;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sandbox::{Sandbox, as_root, finish};

#[test]
fn a_process_runs_in_the_containers_namespaces_and_groups() {
    as_root(async {
        let pod = Sandbox::new().await;
        let spec = pod.spec("sleep 1000");
        let pid = pod.start("c", &spec).await.unwrap();
        let script =
            "for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup";
        let exec = pod.shim.exec("c", &pod.process(&["/bin/sh", "-c", script]), false, false).await.unwrap();
        let (exit, out, error) = finish(exec).await;
        assert_eq!((exit.code, error.as_str()), (0, ""));
        for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
            let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert!(out.contains(link.to_str().unwrap()), "{name}: {out}");
        }
        // Seen from the container's cgroup namespace its own groups are the root.
        let groups: Vec<_> = out.lines().filter(|line| line.contains(":memory:") || line.starts_with("0::")).collect();
        assert!(groups.iter().any(|line| line.ends_with(":/")), "{out}");
        pod.end().await;
    });
}

#[test]
fn input_output_and_errors_go_their_own_ways() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let script = "echo err >&2; tr a-z A-Z; exit 9";
        let mut exec = pod.shim.exec("c", &pod.process(&["/bin/sh", "-c", script]), false, true).await.unwrap();
        exec.stdin.as_mut().unwrap().write_all(b"some input\n").await.unwrap();
        let (exit, out, error) = finish(exec).await;
        assert_eq!((exit.code, out.as_str(), error.as_str()), (9, "SOME INPUT\n", "err\n"));
        pod.end().await;
    });
}

#[test]
fn much_output_arrives_whole() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let process = pod.process(&["/bin/sh", "-c", "seq 1 200000"]);
        let exec = pod.shim.exec("c", &process, false, false).await.unwrap();
        let (exit, out, _) = finish(exec).await;
        assert_eq!(exit.code, 0);
        assert_eq!(out.lines().count(), 200_000);
        assert!(out.ends_with("\n200000\n"));
        pod.end().await;
    });
}

#[test]
fn a_process_may_have_its_own_user_and_environment() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let mut process =
            serde_json::to_value(pod.process(&["/bin/sh", "-c", "id -u; id -g; id -G; pwd; echo $HOME $OWN; umask"]))
                .unwrap();
        process["user"] = json!({"uid": 33, "gid": 34, "additionalGids": [4, 7], "umask": 0o077});
        process["env"] = json!(["PATH=/bin", "OWN=yes"]);
        process["cwd"] = json!("/etc");
        let process = serde_json::from_value(process).unwrap();
        let (exit, out, error) = finish(pod.shim.exec("c", &process, false, false).await.unwrap()).await;
        assert_eq!((exit.code, error.as_str()), (0, ""));
        assert_eq!(out, "33\n34\n34 4 7\n/etc\n/home/web yes\n0077\n");
        pod.end().await;
    });
}

#[test]
fn a_terminal_is_one_and_has_a_size() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let mut process =
            serde_json::to_value(pod.process(&["/bin/sh", "-c", "tty; stty size; read x; stty size; echo got $x"]))
                .unwrap();
        process["consoleSize"] = json!({"height": 33, "width": 77});
        let process = serde_json::from_value(process).unwrap();
        let mut exec = pod.shim.exec("c", &process, true, true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        exec.terminal().unwrap().resize(44, 88).unwrap();
        exec.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
        let mut out = String::new();
        exec.stdout.as_mut().unwrap().read_to_string(&mut out).await.unwrap();
        let lines: Vec<_> = out.split("\r\n").collect();
        assert_eq!(lines, ["/dev/pts/0", "33 77", "word", "44 88", "got word", ""], "{out:?}");
        assert_eq!(exec.exit().await.unwrap().code, 0);
        pod.end().await;
    });
}

#[test]
fn failures_say_what_failed() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let error = pod.shim.exec("c", &pod.process(&["missing"]), false, false).await.unwrap_err();
        assert!(
            matches!(&error, Error::ProgramNotFound(text)
            if text == "exec: \"missing\": executable file not found in $PATH"),
            "{error:?}"
        );
        let error = pod.shim.exec("c", &pod.process(&["plain"]), true, false).await.unwrap_err();
        assert!(matches!(&error, Error::ProgramNotExecutable(_)), "{error:?}");
        let error = pod.shim.exec("d", &pod.process(&["true"]), false, false).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        pod.end().await;
    });
}

#[test]
fn a_failed_process_leaves_no_zombie_that_would_hang_the_container() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        for _ in 0..20 {
            pod.shim.exec("c", &pod.process(&["missing"]), false, false).await.unwrap_err();
        }
        let exec = pod.shim.exec("c", &pod.process(&["ps", "-o", "pid,stat,args"]), false, false).await.unwrap();
        let (_, out, _) = finish(exec).await;
        assert!(!out.contains(" Z"), "{out}");
        pod.shim.kill("c", libc::SIGKILL, false).await.unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(5), pod.exit("c")).await.expect("the end hangs");
        assert_eq!(exit.signal, Some(9));
        pod.end().await;
    });
}

#[test]
fn processes_end_with_their_container_and_are_told() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let exec = pod.shim.exec("c", &pod.process(&["sleep", "1000"]), false, false).await.unwrap();
        pod.shim.kill("c", libc::SIGKILL, false).await.unwrap();
        assert_eq!(pod.exit("c").await.code, 137);
        let (exit, ..) = finish(exec).await;
        assert_eq!(exit.signal, Some(9));
        let error = pod.shim.exec("c", &pod.process(&["true"]), false, false).await.unwrap_err();
        assert!(matches!(error, Error::State(_)), "{error:?}");
        pod.end().await;
    });
}

#[test]
fn a_process_can_be_signalled() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let exec = pod.shim.exec("c", &pod.process(&["sleep", "1000"]), false, false).await.unwrap();
        pod.shim.kill_exec("c", &exec.id, libc::SIGTERM).await.unwrap();
        assert_eq!(finish(exec).await.0.code, 143);
        assert!(matches!(pod.shim.kill_exec("c", "none", 9).await, Err(Error::NotFound(_))));
        pod.end().await;
    });
}

#[test]
fn many_at_once_do_not_mix() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let mut execs = Vec::new();
        for number in 0..30 {
            let script = format!("echo {number}; exit {number}");
            execs.push(pod.shim.exec("c", &pod.process(&["/bin/sh", "-c", &script]), false, false).await.unwrap());
        }
        for (number, exec) in execs.into_iter().enumerate() {
            let (exit, out, _) = finish(exec).await;
            assert_eq!((exit.code, out), (number as i32, format!("{number}\n")));
        }
        pod.end().await;
    });
}
