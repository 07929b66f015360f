//! What a container's processes are and may do, and what they cannot reach.

use std::{fs, os::unix::fs::MetadataExt};

use container::{capability, seccomp, shim::Error};
use serde_json::json;

use crate::sandbox::{Sandbox, as_root, finish};

#[test]
fn a_container_has_the_namespaces_that_it_was_given() {
    as_root(async {
        let pod = Sandbox::new().await;
        let pid = pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let other = pod.start("d", &pod.spec("sleep 1000")).await.unwrap();
        let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        let own = std::process::id() as i32;
        for name in ["mnt", "pid", "cgroup"] {
            assert_ne!(link(pid, name), link(own, name), "{name}");
            assert_ne!(link(pid, name), link(other, name), "{name}");
        }
        for name in ["net", "ipc", "uts"] {
            assert_ne!(link(pid, name), link(own, name), "{name}");
            assert_eq!(link(pid, name), link(other, name), "{name}");
        }
        let netns = pod.shim.info().await.unwrap().netns;
        assert_eq!(fs::read_link(netns).unwrap(), link(pid, "net"));
        pod.end().await;
    });
}

#[test]
fn a_process_sees_its_pod_and_nothing_else() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let script = "hostname; echo $$; ls /sys/class/net; pwd; echo $HOME $MARK";
        let (_, out) = pod.run("c", &pod.spec(script)).await;
        assert_eq!(out, "yard\n1\nlo\n/\n/root set\n");
        pod.end().await;
    });
}

#[test]
fn user_groups_and_mask_are_the_process_s_own() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec =
            pod.spec("id -u; id -g; id -G; umask; pwd; echo $HOME; echo fine > /dev/stdout; touch /f || echo refused");
        spec["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [5, 6], "umask": 0o027});
        spec["process"]["cwd"] = json!("/made/here");
        let (_, out) = pod.run("c", &spec).await;
        let out: Vec<_> = out.lines().filter(|line| !line.starts_with("touch")).collect();
        assert_eq!(out, ["33", "44", "44 5 6", "0027", "/made/here", "/home/web", "fine", "refused"]);
        assert_eq!(fs::metadata(pod.path("c-upper/made/here")).unwrap().uid(), 0);
        pod.end().await;
    });
}

fn status(out: &str, name: &str) -> u64 {
    let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {out}"));
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn capabilities_are_those_that_were_given() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let bits = |names: &[&str]| names.iter().fold(0, |mask, name| mask | 1u64 << capability::number(name).unwrap());
        let mut spec = pod.spec("cat /proc/self/status");
        spec["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
            "permitted": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
            "inheritable": ["CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"],
        });
        let (_, out) = pod.run("root", &spec).await;
        assert_eq!(status(&out, "CapBnd:"), bits(&["CHOWN", "NET_RAW", "NET_BIND_SERVICE"]));
        assert_eq!(status(&out, "NoNewPrivs:"), 1);
        assert_eq!(status(&out, "CapEff:") & !bits(&["CHOWN", "NET_RAW", "NET_BIND_SERVICE"]), 0);
        spec["process"]["user"] = json!({"uid": 33, "gid": 33});
        let (_, out) = pod.run("web", &spec).await;
        for name in ["CapEff:", "CapPrm:", "CapAmb:", "CapInh:"] {
            assert_eq!(status(&out, name), bits(&["NET_BIND_SERVICE"]), "{name}");
        }
        spec["process"].as_object_mut().unwrap().remove("capabilities");
        let (_, out) = pod.run("none", &spec).await;
        for name in ["CapEff:", "CapPrm:", "CapAmb:", "CapInh:", "CapBnd:"] {
            assert_eq!(status(&out, name), 0, "{name}");
        }
        pod.end().await;
    });
}

#[test]
fn no_descriptor_of_the_machine_s_is_open_inside() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        // The fourth is the directory that is being listed.
        let (_, out) = pod.run("c", &pod.spec_of(&["ls", "/proc/self/fd"])).await;
        assert_eq!(out, "0\n1\n2\n3\n");
        pod.start("d", &pod.spec("sleep 1000")).await.unwrap();
        let exec = pod.shim.exec("d", &pod.process(&["ls", "/proc/self/fd"]), false, false).await.unwrap();
        let (_, out, _) = finish(exec).await;
        assert_eq!(out, "0\n1\n2\n3\n");
        // Nor is the machine's null device given away as a stream.
        assert_eq!(fs::metadata("/dev/null").unwrap().uid(), 0);
        pod.end().await;
    });
}

#[test]
fn a_working_directory_through_a_descriptor_is_refused() {
    as_root(async {
        let pod = Sandbox::new().await;
        for descriptor in 0..12 {
            let mut spec = pod.spec("pwd; ls ..");
            spec["process"]["cwd"] = json!(format!("/proc/self/fd/{descriptor}"));
            let id = format!("c{descriptor}");
            let result = match pod.create(&id, &spec).await {
                Ok(_) => pod.shim.start(&id).await.map(drop),
                Err(error) => Err(error),
            };
            assert!(result.is_err(), "descriptor {descriptor}");
        }
        pod.start("d", &pod.spec("sleep 1000")).await.unwrap();
        for descriptor in 0..20 {
            let mut process = serde_json::to_value(pod.process(&["pwd"])).unwrap();
            process["cwd"] = json!(format!("/proc/self/fd/{descriptor}"));
            let process = serde_json::from_value(process).unwrap();
            if let Ok(exec) = pod.shim.exec("d", &process, false, false).await {
                let (_, out, _) = finish(exec).await;
                panic!("descriptor {descriptor} leads to {out}");
            }
        }
        pod.end().await;
    });
}

#[test]
fn the_shim_s_program_cannot_be_written_from_inside() {
    as_root(async {
        let mut pod = Sandbox::with(|spec| spec.host_pid = true).await;
        let mut spec = pod.spec("");
        spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
        for set in ["bounding", "effective", "permitted"] {
            let all: Vec<_> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
            spec["process"]["capabilities"][set] = json!(all);
        }
        let shim = pod.shim.pid();
        let script = format!(
            "echo x >> /proc/{shim}/exe && echo written; echo x > /proc/{shim}/exe && echo written; echo tried"
        );
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        let (_, out) = pod.run("c", &spec).await;
        assert!(out.contains("tried") && !out.contains("written"), "{out}");
        pod.end().await;
    });
}

#[test]
fn limits_scores_and_settings_hold_for_the_container_only() {
    as_root(async {
        let mut pod = Sandbox::with(|spec| {
            spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        })
        .await;
        let before = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.shim.pid())).unwrap();
        let mut spec = pod.spec(
            "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni",
        );
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        spec["process"]["oomScoreAdj"] = json!(777);
        spec["linux"]["sysctl"] = json!({"kernel.shmmni": "4097"});
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(out, "100\n200\n777\n80\n4097\n");
        assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.shim.pid())).unwrap(), before);
        assert_ne!(fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(), "80\n");
        assert_ne!(fs::read_to_string("/proc/sys/kernel/shmmni").unwrap(), "4097\n");
        pod.end().await;
    });
}

#[test]
fn the_default_filter_stops_what_reaches_beyond_the_container() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec(
            "grep Seccomp: /proc/self/status; unshare -m true || echo no namespace; \
             mount -t tmpfs none /tmp || echo no mount; (exec sh -c 'echo forks'); \
             chroot / true || echo no chroot; ls / >/dev/null && echo works",
        );
        spec["linux"]["seccomp"] = serde_json::to_value(seccomp::runtime_default(["CAP_CHOWN"])).unwrap();
        let (_, out) = pod.run("c", &spec).await;
        let out: Vec<_> =
            out.lines().filter(|line| !line.contains("not permitted") && !line.contains("denied")).collect();
        assert_eq!(out, ["Seccomp:\t2", "no namespace", "no mount", "forks", "no chroot", "works"]);
        // The same holds for what is run in it later, and without the promise of no new privileges.
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["process"]["args"] = json!(["sleep", "1000"]);
        pod.start("d", &spec).await.unwrap();
        let process = pod.process(&["grep", "Seccomp:", "/proc/self/status"]);
        let (_, out, _) = finish(pod.shim.exec("d", &process, false, false).await.unwrap()).await;
        assert_eq!(out, "Seccomp:\t2\n");
        pod.end().await;
    });
}

#[test]
fn devices_that_were_not_given_cannot_be_used() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec(
            "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem >/dev/null || echo refused; \
             mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero | wc -c; head -c 1 /dev/kmsg 2>/dev/null || echo none",
        );
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set]
                .as_array_mut()
                .unwrap()
                .extend([json!("CAP_MKNOD"), json!("CAP_SYS_RAWIO")]);
        }
        spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        let (_, out) = pod.run("c", &spec).await;
        let kept: Vec<_> = out.lines().filter(|line| !line.contains("not permitted")).collect();
        assert_eq!(kept, ["refused", "3", "none"], "{out}");
        spec["linux"]["resources"] = json!({"devices": [
            {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
        ]});
        spec["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
        spec["process"]["args"] =
            json!(["/bin/sh", "-c", "exec 3</dev/kmsg && echo read; exec 4>/dev/kmsg || true; echo unreached"]);
        let (_, out) = pod.run("d", &spec).await;
        assert!(out.starts_with("read\n") && !out.contains("unreached") || out.contains("not permitted"), "{out}");
        pod.end().await;
    });
}

#[test]
fn what_a_specification_may_not_say_is_refused() {
    as_root(async {
        let pod = Sandbox::new().await;
        let refuse = async |change: fn(&mut serde_json::Value)| {
            let mut spec = pod.spec("true");
            change(&mut spec);
            match pod.create("c", &spec).await {
                Err(Error::Spec(error)) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert!(refuse(|spec| spec["root"]["path"] = json!("relative")).await.contains("not absolute"));
        assert!(refuse(|spec| spec["process"]["args"] = json!([])).await.contains("no program"));
        assert!(refuse(|spec| spec["process"]["args"] = json!(["a\0b"])).await.contains("zero byte"));
        assert!(refuse(|spec| spec["process"]["cwd"] = json!("relative")).await.contains("not absolute"));
        assert!(refuse(|spec| spec["linux"]["sysctl"] = json!({"../../etc/passwd": "x"})).await.contains("sysctl"));
        pod.end().await;
    });
}
