//! Pods: what their containers share.

use std::fs;

use serde_json::json;

use crate::sandbox::{Sandbox, as_root, finish};

#[test]
fn a_shared_process_namespace_has_an_init_that_is_nothing_else() {
    as_root(async {
        let mut pod = Sandbox::with(|spec| spec.share_pid = true).await;
        let init = pod.shim.info().await.unwrap().init.unwrap();
        let mut spec = pod.spec("sleep 1000");
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
        let one = pod.start("one", &spec).await.unwrap();
        let two = pod.start("two", &spec).await.unwrap();
        let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_eq!((link(one), link(two)), (link(init), link(init)));
        assert_ne!(link(one), link(pod.shim.pid()));
        let process = pod.process(&["ps", "-o", "pid,args"]);
        let (_, out, _) = finish(pod.shim.exec("one", &process, false, false).await.unwrap()).await;
        let first = out.lines().nth(1).unwrap();
        // Only the real thing, without shared libraries, can run again from nowhere.
        if std::env::var_os("MADANG_SHIM").is_some() {
            assert_eq!(first.trim(), "1 /pause", "{out}");
        }
        assert_eq!(out.matches("sleep 1000").count(), 2, "{out}");
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000") && status.contains("Uid:\t65535"), "{status}");
        // Orphans are left to it, and it reaps them.
        let process = pod.process(&["/bin/sh", "-c", "(sleep 0.05 &); exit 0"]);
        finish(pod.shim.exec("one", &process, false, false).await.unwrap()).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let process = pod.process(&["ps", "-o", "stat,args"]);
        let (_, out, _) = finish(pod.shim.exec("one", &process, false, false).await.unwrap()).await;
        assert!(!out.contains("\nZ"), "{out}");
        // A container's end takes only its own processes.
        pod.shim.kill("one", libc::SIGKILL, false).await.unwrap();
        assert_eq!(pod.exit("one").await.code, 137);
        assert!(fs::exists(format!("/proc/{two}")).unwrap());
        pod.end().await;
        assert!(
            !fs::exists(format!("/proc/{init}/root")).unwrap() || fs::read_link(format!("/proc/{init}/exe")).is_err()
        );
    });
}

#[test]
fn host_variants_use_the_machine_s_namespaces() {
    as_root(async {
        let pod = Sandbox::with(|spec| (spec.host_network, spec.host_ipc, spec.host_pid) = (true, true, true)).await;
        let mut spec = pod.spec("sleep 1000");
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
        let pid = pod.start("c", &spec).await.unwrap();
        for name in ["net", "ipc", "uts", "pid"] {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(link(&pid.to_string()), link("self"), "{name}");
        }
        pod.end().await;
    });
}

#[test]
fn containers_of_a_pod_meet_on_the_loopback_and_the_daemon_can_dial_in() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.start("server", &pod.spec("nc -l -p 8000 -e /bin/sh -c 'read x; echo hello $x'")).await.unwrap();
        let wait = pod.spec("while ! netstat -ltn | grep -q :8000; do sleep 0.01; done");
        pod.run("wait", &wait).await;
        let mut stream = pod.shim.dial(8000).await.unwrap();
        stream.write_all(b"there\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello there\n");
        assert!(pod.shim.dial(8001).await.unwrap_err().to_string().contains("refused"));
        pod.end().await;
    });
}

#[test]
fn a_second_connection_hears_of_ends_as_well() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let other = container::shim::Shim::connect(&pod.task, &pod.path("shim.sock")).await.unwrap();
        let mut events = other.events();
        pod.run("c", &pod.spec("exit 3")).await;
        match events.next().await.unwrap() {
            container::shim::Event::Exited { id, exit } => assert_eq!((id.as_str(), exit.code), ("c", 3)),
            other => panic!("{other:?}"),
        }
        drop((other, events));
        pod.end().await;
    });
}
