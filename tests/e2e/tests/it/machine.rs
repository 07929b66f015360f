//! A machine with control groups of version 2 alone and the oldest kernel that is served: one boot, a case each.

use std::{
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError, RwLock},
};

use e2e::{Machine, Root};

use crate::shared::{self, IMAGE, Space, pod};

const SLEEP: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

/// Held to read by those who want the server to stay, and to write by the one who kills it.
static SERVING: RwLock<()> = RwLock::new(());

/// The machine of this binary, with a server that has the test image; booted again if it stood still.
static MACHINE: Mutex<Option<Result<&'static Machine, String>>> = Mutex::new(None);

/// Carries out a case on the machine. If the machine, and not the case, has failed, once more on a new one.
#[track_caller]
fn on_machine(case: impl Fn(&'static Machine)) {
    let missing = match std::env::var_os("MADANG_KERNEL") {
        None => Some("MADANG_KERNEL names no kernel to boot: use cargo xtask test"),
        Some(_) => shared::missing(),
    };
    if shared::lacks(missing) {
        return;
    }
    let machine = booted(None);
    let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| case(machine))) else { return };
    if machine.answers() {
        std::panic::resume_unwind(panic);
    }
    eprintln!("the machine stands still, and the case begins again on a new one; it said last:\n{}", machine.console());
    case(booted(Some(machine)));
}

/// The machine, other than the one that is known to stand still. One that does not boot fails every case at once.
fn booted(dead: Option<&'static Machine>) -> &'static Machine {
    let mut current = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Ok(machine)) = &*current
        && dead.is_some_and(|dead| std::ptr::eq(dead, *machine))
    {
        *current = None;
    }
    let machine = current.get_or_insert_with(|| {
        let boot = std::panic::catch_unwind(|| {
            let machine =
                Machine::boot("v2", &Root::Busybox, &shared::busybox()).map_err(|error| format!("{error:#}"))?;
            // It ends with this process, in which any case may still use it.
            let machine: &'static Machine = Box::leak(Box::new(machine));
            machine.serve();
            machine.run("madang load --input /image.tar").good();
            Ok(machine)
        });
        boot.unwrap_or_else(|_| Err("the machine's server did not start".into()))
    });
    machine.clone().unwrap_or_else(|error| panic!("{error}"))
}

/// Carries out a case in a namespace of its own, while the server stays.
#[track_caller]
fn in_space(name: &str, case: impl Fn(&'static Machine, &Space)) {
    on_machine(|machine| {
        let _serving = SERVING.read().unwrap_or_else(PoisonError::into_inner);
        case(machine, &Space::new(name, |name| machine.kubectl(name)));
    });
}

/// A pod with this line before its command.
fn with(name: &str, line: &str, script: &str) -> String {
    pod(name, script).replace("    command:", &format!("    {line}\n    command:"))
}

#[test]
fn control_groups_are_version_two_alone() {
    on_machine(|machine| {
        let mounts = machine.run("cat /proc/mounts; uname -r").good();
        assert!(mounts.contains(" cgroup2 ") && !mounts.contains(" cgroup "), "{mounts}");
    });
}

#[test]
fn a_pod_runs_to_its_end_and_its_output_and_code_are_kept() {
    in_space("run", |_, kubectl| {
        kubectl.apply(&pod("one", "echo out; echo err >&2; exit 3"));
        kubectl.until(&["get", "pod", "one", "-o", "jsonpath={.status.phase}"], |out| out == "Failed");
        assert_eq!(kubectl.field("pod/one", "{.status.containerStatuses[0].state.terminated.exitCode}"), "3");
        let log = kubectl.run(&["logs", "one"]).good();
        assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
    });
}

#[test]
fn commands_run_in_the_pods_group_and_see_it_as_their_root() {
    in_space("exec", |_, kubectl| {
        kubectl.apply(&pod("one", SLEEP));
        kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
        assert_eq!(kubectl.run(&["exec", "one", "--", "cat", "/proc/self/cgroup"]).good(), "0::/\n");
        let failed = kubectl.run(&["exec", "one", "--", "sh", "-c", "exit 7"]);
        assert!(failed.err.contains("exit code 7"), "{failed:?}");
        let processes = kubectl.run(&["exec", "one", "--", "cat", "/sys/fs/cgroup/cgroup.procs"]).good();
        assert!(processes.lines().any(|pid| pid == "1"), "{processes}");
    });
}

#[test]
fn memory_is_limited_and_who_takes_more_is_killed() {
    in_space("memory", |_, kubectl| {
        let limits = "resources: {limits: {memory: 16Mi}}";
        kubectl.apply(&with("sees", limits, "cat /sys/fs/cgroup/memory.max"));
        kubectl.apply(&with("hungry", limits, "x=a; while true; do x=$x$x; done"));
        assert_eq!(kubectl.until(&["logs", "sees"], |out| !out.is_empty()), "16777216\n");
        let reason = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
        kubectl.until(&["get", "pod", "hungry", "-o", reason], |out| out == "OOMKilled");
    });
}

#[test]
fn processor_time_is_limited_and_shared_by_weight() {
    in_space("cpu", |_, kubectl| {
        let script = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight; timeout 2 sh -c 'while :; do :; done'; \
                  grep nr_throttled /sys/fs/cgroup/cpu.stat";
        kubectl.apply(&with("busy", "resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}", script));
        let log = kubectl.until(&["logs", "busy"], |out| out.contains("nr_throttled"));
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[0], "20000 100000");
        // 100m are 102 shares; the exponent of their weight is (l * l + 125 * l) / 612 - 7 / 34, l being their binary logarithm.
        assert_eq!(lines[1], "17");
        let throttled: u32 = lines.last().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(throttled > 5, "{log}");
    });
}

#[test]
fn devices_that_were_not_given_are_refused_by_the_groups_program() {
    in_space("devices", |_, kubectl| {
        // kmsg lets itself be made, but not be opened; null both.
        let script = "mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null; mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; echo $?";
        kubectl.apply(&pod("curious", script));
        let log = kubectl.until(&["logs", "curious"], |out| out.ends_with("1\n"));
        assert!(log.starts_with("null\n") && log.contains("Operation not permitted"), "{log}");
    });
}

#[test]
fn volumes_hold_maps_memory_and_directories_of_the_machine() {
    in_space("volumes", |machine, kubectl| {
        kubectl.run(&["create", "configmap", "map", "--from-literal=file=from-map"]).good();
        let name = kubectl.name().to_owned();
        let mounts = "volumeMounts: [{name: map, mountPath: /map}, {name: fast, mountPath: /fast}, {name: host, mountPath: /host}]";
        let script = "cat /map/file; grep -c ' /fast tmpfs ' /proc/mounts; echo kept > /host/file; cat /host/file";
        let volumes = format!(
            "  volumes:\n  - {{name: map, configMap: {{name: map}}}}\n  - {{name: fast, emptyDir: {{medium: Memory}}}}\n  \
         - {{name: host, hostPath: {{path: /var/{name}, type: DirectoryOrCreate}}}}\n"
        );
        kubectl.apply(&(with("volumes", mounts, script) + &volumes));
        assert_eq!(kubectl.until(&["logs", "volumes"], |out| out.ends_with("kept\n")), "from-map1\nkept\n");
        assert_eq!(machine.run(&format!("cat /var/{name}/file")).good(), "kept\n");
    });
}

#[test]
fn services_are_reached_by_name_and_from_the_machine() {
    in_space("services", |machine, kubectl| {
        kubectl.apply(&pod("web", "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"));
        kubectl.apply(&pod("client", SLEEP));
        kubectl.run(&["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"]).good();
        kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s"]).good();
        let get = |host: &str, port: &str| format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}");
        kubectl.until(&["exec", "client", "--", "sh", "-c", &get("web", "80")], |out| out.ends_with("served\n"));
        let port = kubectl.field("service/web", "{.spec.ports[0].nodePort}");
        let answer = machine.run(&get("10.0.2.15", &port)).good();
        assert!(answer.ends_with("served\n"), "{answer}");
    });
}

#[test]
fn what_pods_use_is_told() {
    in_space("stats", |_, kubectl| {
        kubectl.apply(&pod("one", SLEEP));
        kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
        let summary = kubectl.run(&["get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"]).good();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        let pods = summary["pods"].as_array().unwrap();
        let one = pods.iter().find(|pod| pod["podRef"]["namespace"] == kubectl.name()).expect("the pod");
        assert!(one["memory"]["workingSetBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{one}");
        assert!(one["cpu"]["usageCoreNanoSeconds"].as_u64().is_some_and(|time| time > 0), "{one}");
    });
}

#[test]
fn a_limit_is_changed_while_the_container_runs() {
    in_space("resize", |_, kubectl| {
        kubectl.apply(&with("one", "resources: {limits: {memory: 32Mi, cpu: 100m}}", SLEEP));
        kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
        let wider = r#"{"spec":{"containers":[{"name":"main","resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"64Mi"}}}]}}"#;
        kubectl.run(&["patch", "pod", "one", "--subresource=resize", "--patch", wider]).good();
        kubectl.until(&["exec", "one", "--", "cat", "/sys/fs/cgroup/memory.max"], |out| out == "67108864\n");
        assert_eq!(kubectl.field("pod/one", "{.status.containerStatuses[0].restartCount}"), "0");
    });
}

#[test]
fn a_deleted_pod_leaves_no_group() {
    in_space("gone", |machine, kubectl| {
        kubectl.apply(&pod("one", SLEEP));
        kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
        let id = kubectl.field("pod/one", "{.status.containerStatuses[0].containerID}");
        let id = id.trim_start_matches("madang://");
        let find = format!("find /sys/fs/cgroup/madang -type d | grep {id}; true");
        let group = machine.run(&find).good();
        assert_eq!(group.lines().count(), 1, "{group}");
        let pod = group.trim().rsplit_once('/').expect("a group in the pod's").0.to_owned();
        kubectl.run(&["delete", "pod", "one", "--timeout=60s"]).good();
        assert!(!machine.run(&format!("test -e {pod}")).ok, "{}", machine.run(&format!("find {pod}")).out);
    });
}

#[test]
fn the_runtimes_command_line_freezes_limits_and_counts() {
    on_machine(|machine| {
        let script = r#"
        set -e
        mkdir -p /tmp/bundle/rootfs/bin; cd /tmp/bundle
        cp /bin/busybox rootfs/bin/; ln -sf busybox rootfs/bin/sh; ln -sf busybox rootfs/bin/sleep
        madang runtime spec
        sed -i 's/"terminal": true/"terminal": false/; s/^\( *\)"sh"$/\1"sleep", "1000"/' config.json
        madang runtime create frozen > /dev/null 2>&1
        madang runtime start frozen
        madang runtime pause frozen
        madang runtime state frozen | grep status
        madang runtime resume frozen
        madang runtime update --pids-limit 3 frozen
        madang runtime exec frozen sh -c 'sleep 5 & sleep 5 & sleep 5 & wait' || echo refused
        madang runtime events --stats frozen | grep -o '"limit":3'
        madang runtime delete --force frozen
        find /sys/fs/cgroup -name 'frozen*'
        rm -r /tmp/bundle
    "#;
        let out = machine.run(script).good();
        assert!(out.contains("\"status\": \"paused\""), "{out}");
        assert!(out.contains("can't fork") && out.contains("\"limit\":3"), "{out}");
        assert!(!out.contains("/frozen"), "a group is left: {out}");
    });
}

#[test]
fn containers_outlive_the_server() {
    on_machine(|machine| {
        let serving = SERVING.write().unwrap_or_else(PoisonError::into_inner);
        let kubectl = Space::new("restart", |name| machine.kubectl(name));
        kubectl.apply(&pod("counter", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"));
        kubectl.apply(&pod("ending", "sleep 2; exit 5"));
        kubectl.run(&["wait", "--for=condition=Ready", "pod/counter", "--timeout=60s"]).good();
        let id = kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}");
        machine.kill();
        machine.run("sleep 3").good();
        machine.serve();
        let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        kubectl.until(&["get", "pod", "ending", "-o", code], |out| out == "5");
        assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}"), id);
        let log = kubectl.run(&["logs", "counter"]).good();
        for (n, line) in (1..).zip(log.lines()) {
            assert_eq!(line, n.to_string(), "a line is missing");
        }
        assert!(log.lines().count() > 20, "{log}");
        kubectl.run(&["exec", "counter", "--", "true"]).good();
        kubectl.run(&["delete", "pod", "counter", "--timeout=60s"]).good();
        drop(serving);
    });
}

#[test]
fn the_image_is_there_by_its_name() {
    on_machine(|machine| {
        let _serving = SERVING.read().unwrap_or_else(PoisonError::into_inner);
        let (name, tag) = IMAGE.rsplit_once(':').expect("a name with a tag");
        let images = machine.run("madang images").good();
        assert!(images.lines().any(|line| line.contains(name) && line.contains(tag)), "{images}");
    });
}
