//! A machine with control groups of version 2 alone and the oldest kernel that is served: one boot, a case each.

use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use e2e::{Machine, Root};

use crate::shared::{self, IMAGE, Space, pod};

const SLEEP: &str = "trap 'exit 0' TERM; while true; do sleep 1 & wait; done";

/// Held to read by those who want the server to stay, and to write by the one who kills it.
static SERVING: RwLock<()> = RwLock::new(());

/// The machine of this binary, with a server that has the test image.
fn machine() -> Option<&'static Machine> {
    static BOOTED: OnceLock<Result<Machine, String>> = OnceLock::new();
    let missing = match std::env::var_os("MADANG_KERNEL") {
        None => Some("MADANG_KERNEL names no kernel to boot: use cargo xtask test"),
        Some(_) => shared::missing(),
    };
    if shared::lacks(missing) {
        return None;
    }
    let booted = BOOTED.get_or_init(|| {
        let machine = Machine::boot("v2", &Root::Busybox, &shared::busybox()).map_err(|error| format!("{error:#}"))?;
        machine.serve();
        machine.run("madang load --input /image.tar").good();
        Ok(machine)
    });
    Some(booted.as_ref().unwrap_or_else(|error| panic!("{error}")))
}

fn space(name: &str) -> Option<(Space, RwLockReadGuard<'static, ()>)> {
    let machine = machine()?;
    let serving = SERVING.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    Some((Space::new(name, |name| machine.kubectl(name)), serving))
}

/// A pod with this line before its command.
fn with(name: &str, line: &str, script: &str) -> String {
    pod(name, script).replace("    command:", &format!("    {line}\n    command:"))
}

#[test]
fn control_groups_are_version_two_alone() {
    let Some(machine) = machine() else { return };
    let mounts = machine.run("cat /proc/mounts; uname -r").good();
    assert!(mounts.contains(" cgroup2 ") && !mounts.contains(" cgroup "), "{mounts}");
}

#[test]
fn a_pod_runs_to_its_end_and_its_output_and_code_are_kept() {
    let Some((kubectl, _serving)) = space("run") else { return };
    kubectl.apply(&pod("one", "echo out; echo err >&2; exit 3"));
    kubectl.until(&["get", "pod", "one", "-o", "jsonpath={.status.phase}"], |out| out == "Failed");
    assert_eq!(kubectl.field("pod/one", "{.status.containerStatuses[0].state.terminated.exitCode}"), "3");
    let log = kubectl.run(&["logs", "one"]).good();
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
}

#[test]
fn commands_run_in_the_pods_group_and_see_it_as_their_root() {
    let Some((kubectl, _serving)) = space("exec") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
    assert_eq!(kubectl.run(&["exec", "one", "--", "cat", "/proc/self/cgroup"]).good(), "0::/\n");
    let failed = kubectl.run(&["exec", "one", "--", "sh", "-c", "exit 7"]);
    assert!(failed.err.contains("exit code 7"), "{failed:?}");
    let processes = kubectl.run(&["exec", "one", "--", "cat", "/sys/fs/cgroup/cgroup.procs"]).good();
    assert!(processes.lines().any(|pid| pid == "1"), "{processes}");
}

#[test]
fn memory_is_limited_and_who_takes_more_is_killed() {
    let Some((kubectl, _serving)) = space("memory") else { return };
    let limits = "resources: {limits: {memory: 16Mi}}";
    kubectl.apply(&with("sees", limits, "cat /sys/fs/cgroup/memory.max"));
    kubectl.apply(&with("hungry", limits, "x=a; while true; do x=$x$x; done"));
    assert_eq!(kubectl.until(&["logs", "sees"], |out| !out.is_empty()), "16777216\n");
    let reason = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
    kubectl.until(&["get", "pod", "hungry", "-o", reason], |out| out == "OOMKilled");
}

#[test]
fn processor_time_is_limited_and_shared_by_weight() {
    let Some((kubectl, _serving)) = space("cpu") else { return };
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
}

#[test]
fn devices_that_were_not_given_are_refused_by_the_groups_program() {
    let Some((kubectl, _serving)) = space("devices") else { return };
    // kmsg lets itself be made, but not be opened; null both.
    let script = "mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null; mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; echo $?";
    kubectl.apply(&pod("curious", script));
    let log = kubectl.until(&["logs", "curious"], |out| out.ends_with("1\n"));
    assert!(log.starts_with("null\n") && log.contains("Operation not permitted"), "{log}");
}

#[test]
fn volumes_hold_maps_memory_and_directories_of_the_machine() {
    let Some((kubectl, _serving)) = space("volumes") else { return };
    kubectl.run(&["create", "configmap", "map", "--from-literal=file=from-map"]).good();
    let name = kubectl.name().to_owned();
    let mounts =
        "volumeMounts: [{name: map, mountPath: /map}, {name: fast, mountPath: /fast}, {name: host, mountPath: /host}]";
    let script = "cat /map/file; grep -c ' /fast tmpfs ' /proc/mounts; echo kept > /host/file; cat /host/file";
    let volumes = format!(
        "  volumes:\n  - {{name: map, configMap: {{name: map}}}}\n  - {{name: fast, emptyDir: {{medium: Memory}}}}\n  \
         - {{name: host, hostPath: {{path: /var/{name}, type: DirectoryOrCreate}}}}\n"
    );
    kubectl.apply(&(with("volumes", mounts, script) + &volumes));
    assert_eq!(kubectl.until(&["logs", "volumes"], |out| out.ends_with("kept\n")), "from-map1\nkept\n");
    assert_eq!(machine().unwrap().run(&format!("cat /var/{name}/file")).good(), "kept\n");
}

#[test]
fn services_are_reached_by_name_and_from_the_machine() {
    let Some((kubectl, _serving)) = space("services") else { return };
    kubectl.apply(&pod("web", "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"));
    kubectl.apply(&pod("client", SLEEP));
    kubectl.run(&["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"]).good();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s"]).good();
    let get = |host: &str, port: &str| format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}");
    kubectl.until(&["exec", "client", "--", "sh", "-c", &get("web", "80")], |out| out.ends_with("served\n"));
    let port = kubectl.field("service/web", "{.spec.ports[0].nodePort}");
    let answer = machine().unwrap().run(&get("10.0.2.15", &port)).good();
    assert!(answer.ends_with("served\n"), "{answer}");
}

#[test]
fn what_pods_use_is_told() {
    let Some((kubectl, _serving)) = space("stats") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
    let summary = kubectl.run(&["get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"]).good();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let pods = summary["pods"].as_array().unwrap();
    let one = pods.iter().find(|pod| pod["podRef"]["namespace"] == kubectl.name()).expect("the pod");
    assert!(one["memory"]["workingSetBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{one}");
    assert!(one["cpu"]["usageCoreNanoSeconds"].as_u64().is_some_and(|time| time > 0), "{one}");
}

#[test]
fn a_limit_is_changed_while_the_container_runs() {
    let Some((kubectl, _serving)) = space("resize") else { return };
    kubectl.apply(&with("one", "resources: {limits: {memory: 32Mi, cpu: 100m}}", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
    let wider = r#"{"spec":{"containers":[{"name":"main","resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"64Mi"}}}]}}"#;
    kubectl.run(&["patch", "pod", "one", "--subresource=resize", "--patch", wider]).good();
    kubectl.until(&["exec", "one", "--", "cat", "/sys/fs/cgroup/memory.max"], |out| out == "67108864\n");
    assert_eq!(kubectl.field("pod/one", "{.status.containerStatuses[0].restartCount}"), "0");
}

#[test]
fn a_deleted_pod_leaves_no_group() {
    let Some((kubectl, _serving)) = space("gone") else { return };
    kubectl.apply(&pod("one", SLEEP));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]).good();
    let machine = machine().unwrap();
    let id = kubectl.field("pod/one", "{.status.containerStatuses[0].containerID}");
    let id = id.trim_start_matches("madang://");
    let find = format!("find /sys/fs/cgroup/madang -type d | grep {id}; true");
    let group = machine.run(&find).good();
    assert_eq!(group.lines().count(), 1, "{group}");
    let pod = group.trim().rsplit_once('/').expect("a group in the pod's").0.to_owned();
    kubectl.run(&["delete", "pod", "one", "--timeout=60s"]).good();
    assert!(!machine.run(&format!("test -e {pod}")).ok, "{}", machine.run(&format!("find {pod}")).out);
}

#[test]
fn the_runtimes_command_line_freezes_limits_and_counts() {
    let Some(machine) = machine() else { return };
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
}

#[test]
fn containers_outlive_the_server() {
    let Some(machine) = machine() else { return };
    let serving: RwLockWriteGuard<'_, ()> = SERVING.write().unwrap_or_else(std::sync::PoisonError::into_inner);
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
}

#[test]
fn the_image_is_there_by_its_name() {
    let Some(machine) = machine() else { return };
    let _serving = SERVING.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (name, tag) = IMAGE.rsplit_once(':').expect("a name with a tag");
    let images = machine.run("madang images").good();
    assert!(images.lines().any(|line| line.contains(name) && line.contains(tag)), "{images}");
}
