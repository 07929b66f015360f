//! Limits, use, and the end of groups.

use std::time::Duration;

use container::{
    cgroup::{Group, Path, Version},
    shim::Event,
};
use serde_json::json;

use crate::sandbox::{Sandbox, as_root, finish, group_name};

fn group_of(pod: &Sandbox, id: &str) -> Group {
    Group::open(&Version::detect().unwrap(), &pod.group.path().join(id).unwrap())
}

#[test]
fn a_container_that_takes_too_much_memory_is_killed_and_marked() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec_of(&["/bin/sh", "-c", "x=a; while :; do x=$x$x; done"]);
        spec["linux"]["resources"] = json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}});
        let (exit, _) = pod.run("c", &spec).await;
        assert!(exit.oom, "{exit:?}");
        assert_eq!(exit.signal, Some(9));
        pod.end().await;
    });
}

#[test]
fn a_kill_that_the_container_survives_is_told_while_it_runs() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec("(x=a; while :; do x=$x$x; done); sleep 1000");
        spec["linux"]["resources"] = json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}});
        pod.start("c", &spec).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(20), pod.events.next()).await.unwrap().unwrap();
        assert_eq!(event, Event::Oom { id: "c".into() });
        pod.end().await;
    });
}

#[test]
fn limits_are_set_shown_and_changed() {
    as_root(async {
        let pod = Sandbox::new().await;
        let mut spec = pod.spec("sleep 1000");
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
            "pids": {"limit": 33},
        });
        pod.start("c", &spec).await.unwrap();
        let stats = group_of(&pod, "c").stats().unwrap();
        assert_eq!((stats.memory.limit, stats.pids.limit, stats.pids.current), (Some(64 << 20), Some(33), 1));
        assert!(stats.memory.usage > 0);
        let update = serde_json::from_value(json!({"memory": {"limit": 128 << 20}, "pids": {"limit": -1}})).unwrap();
        pod.shim.update("c", &update).await.unwrap();
        let stats = group_of(&pod, "c").stats().unwrap();
        assert_eq!((stats.memory.limit, stats.pids.limit), (Some(128 << 20), None));
        pod.end().await;
    });
}

#[test]
fn processor_time_is_counted() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        pod.run("c", &spec).await;
        let stats = group_of(&pod, "c").stats().unwrap();
        assert!(stats.cpu.usage > Duration::from_millis(10), "{stats:?}");
        let whole = pod.group.stats().unwrap();
        assert!(whole.cpu.usage >= stats.cpu.usage);
        pod.end().await;
    });
}

#[test]
fn too_many_processes_cannot_be_made() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; echo all");
        spec["linux"]["resources"] = json!({"pids": {"limit": 5}});
        let (_, out) = pod.run("c", &spec).await;
        assert!(out.contains("can't fork"), "{out}");
        pod.end().await;
    });
}

#[test]
fn a_frozen_container_stands_still_and_can_be_killed() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = pod.spec("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done");
        pod.start("c", &spec).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        pod.shim.pause("c").await.unwrap();
        assert!(pod.shim.info().await.unwrap().containers[0].paused);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = pod.output("c");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(pod.output("c"), before);
        assert!(pod.shim.exec("c", &pod.process(&["true"]), false, false).await.is_err());
        pod.shim.resume("c").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_ne!(pod.output("c"), before);
        pod.shim.pause("c").await.unwrap();
        pod.shim.kill("c", libc::SIGKILL, false).await.unwrap();
        assert_eq!(pod.exit("c").await.signal, Some(9));
        pod.end().await;
    });
}

#[test]
fn all_processes_go_with_their_container_also_those_that_hide() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        // In the machine's process namespace, in sessions of their own, forking all the time.
        let script =
            "for i in 1 2 3; do setsid sh -c 'while :; do sleep 0.01 & sleep 0.01; done' & done; sleep 0.1; exit 1";
        let mut spec = pod.spec(script);
        spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
        let (exit, _) = pod.run("c", &spec).await;
        assert_eq!(exit.code, 1);
        pod.shim.delete("c", false).await.unwrap();
        assert!(!group_of(&pod, "c").exists());
        pod.end().await;
    });
}

#[test]
fn a_process_run_later_counts_to_the_container() {
    as_root(async {
        let pod = Sandbox::new().await;
        pod.start("c", &pod.spec("sleep 1000")).await.unwrap();
        let exec = pod.shim.exec("c", &pod.process(&["sleep", "1000"]), false, false).await.unwrap();
        assert!(group_of(&pod, "c").processes().contains(&exec.pid));
        assert_eq!(group_of(&pod, "c").stats().unwrap().pids.current, 2);
        pod.shim.kill_exec("c", &exec.id, 9).await.unwrap();
        finish(exec).await;
        pod.end().await;
    });
}

#[test]
fn groups_are_made_limited_and_removed_by_themselves() {
    as_root(async {
        let version = Version::detect().unwrap();
        let path = Path::new(&group_name()).unwrap();
        let pod = path.join("pod").unwrap();
        let group = Group::create(&version, &pod).unwrap();
        let resources = serde_json::from_value(json!({"memory": {"limit": 16 << 20}, "cpu": {"shares": 100}})).unwrap();
        group.limit(&resources).unwrap();
        assert_eq!(group.stats().unwrap().memory.limit, Some(16 << 20));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let leaf = Group::create(&version, &pod.join("leaf").unwrap()).unwrap();
        leaf.add(child.id() as i32).unwrap();
        assert_eq!(group.processes(), [child.id() as i32]);
        let whole = Group::open(&version, &path);
        assert!(whole.remove(Duration::ZERO).is_err());
        let waiter = std::thread::spawn(move || child.wait().unwrap());
        assert!(whole.kill(Duration::from_secs(5)));
        waiter.join().unwrap();
        whole.remove(Duration::from_secs(5)).unwrap();
        assert!(!whole.exists() && !group.exists());
        assert!(Path::new("../up").is_err() && Path::new("/").is_err() && Path::new("a/./b").is_err());
        Group::create(&version, &path).unwrap().remove(Duration::ZERO).unwrap();
    });
}
