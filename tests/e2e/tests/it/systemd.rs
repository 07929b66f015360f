//! `madang install` and `madang uninstall` on a machine with systemd and control groups of version 2.

use e2e::{Machine, Root};

use crate::shared::{self, pod};

/// What a server makes on a machine: a line each for groups, links, tables, mounts and files.
const TRACES: &str = "find /sys/fs/cgroup -type d | grep -i madang; ip -o link | grep -v -e ': lo:' -e ': eth0:'; \
    grep -i madang /proc/mounts; ls -d /etc/systemd/system/madang* /var/lib/madang /run/madang 2> /dev/null; \
    ip -o -4 addr show lo | grep -v 127.0.0.1; ip rule | grep -v -e 'lookup local' -e 'lookup main' -e 'lookup default'; true";

#[test]
#[ignore = "boots a whole distribution: cargo xtask test --full"]
fn the_service_is_installed_restarted_and_removed_without_a_trace() {
    let Some(root) = std::env::var_os("MADANG_SYSTEMD_ROOT") else {
        shared::lacks(Some("MADANG_SYSTEMD_ROOT names no root with systemd: use cargo xtask test --full"));
        return;
    };
    let machine = Machine::boot("systemd", &Root::Systemd(root.into()), &shared::busybox()).expect("boot");
    let before = machine.run(TRACES).good();
    assert!(machine.run("systemctl --version").good().contains("systemd"));
    // Processors are emulated: parts that this is not about stay away.
    let without = "--without metrics --without gateway --without pipeline --without console";
    machine.run(&format!("madang install -- --node-name node-1 {without}")).good();
    assert_eq!(machine.run("systemctl is-active madang").good(), "active\n");
    let ready = "timeout 180 madang status --wait || { journalctl --unit=madang --no-pager | tail -n 50; madang status; exit 1; }";
    machine.run(ready).good();
    assert_eq!(machine.run("systemctl show --property=Delegate --value madang").good(), "yes\n");
    machine.fetch_kubeconfig();
    machine.run("madang load --input /image.tar").good();
    let kubectl = machine.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl.apply(&pod("counter", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"));
    if !kubectl.run(&["wait", "--for=condition=Ready", "pod/counter", "--timeout=60s"]).ok {
        let told = kubectl.run(&["describe", "pod", "counter"]).good();
        panic!("{told}\n{}", machine.run("journalctl --unit=madang --no-pager | tail -n 30").good());
    }
    let id = kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}");
    // Pods have a group of their own: systemd starts nothing in a unit's group that has groups with controllers below it.
    let own = machine.run("cat /proc/$(systemctl show --property=MainPID --value madang)/cgroup").good();
    assert_eq!(own, "0::/system.slice/madang.service\n");
    let group = "/sys/fs/cgroup/madang";
    let pods = machine.run(&format!("find {group} -name cgroup.procs -exec cat {{}} +")).good();
    assert!(pods.lines().count() >= 1, "no process of a pod is in {group}");
    let main = machine.run("systemctl show --property=MainPID --value madang").good();
    for how in ["systemctl restart madang", "systemctl kill --kill-whom=main --signal=KILL madang"] {
        machine.run(how).good();
        let next = "for i in $(seq 300); do p=$(systemctl show --property=MainPID --value madang); \
            [ $p != 0 ] && [ $p != $OLD ] && madang status > /dev/null 2>&1 && exit; sleep 0.1; done; \
            systemctl status madang; journalctl --unit=madang --no-pager | tail -n 50; exit 1";
        machine.run(&format!("OLD={}; {next}", main.trim())).good();
        kubectl.until(&["get", "pod", "counter", "-o", "jsonpath={.status.phase}"], |out| out == "Running");
        assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].containerID}"), id, "{how}");
        assert_eq!(kubectl.field("pod/counter", "{.status.containerStatuses[0].restartCount}"), "0", "{how}");
    }
    let log = kubectl.run(&["logs", "counter"]).good();
    for (n, line) in (1..).zip(log.lines()) {
        assert_eq!(line, n.to_string(), "a line is missing");
    }
    machine.run("madang uninstall --data").good();
    assert!(!machine.run("systemctl is-active madang").ok);
    assert_eq!(machine.run(TRACES).good(), before);
    assert_eq!(machine.run("pgrep -a madang; true").good(), "");
}
