//! What dashboards look for.

use std::time::Duration;

use container::cgroup::{Pressure, Waits};
use runtime::description::{Resources, SandboxConfig};

use super::*;
use crate::api::usage::{ContainerUse, Machine, PodUse};

/// A pod of one container, at a time.
pub fn pass() -> Pass {
    let mut stats = Stats::default();
    stats.cpu.usage = Duration::from_millis(1500);
    stats.cpu.burst_periods = 3;
    stats.memory.working_set = 4096;
    stats.memory.oom_kills = 2;
    stats.pids.processes = vec![i32::MAX];
    stats.io = vec![Device { major: 1, minor: 1_000_000, read_bytes: 512, ..Device::default() }];
    let some = |millis: u64| Waits { some: Duration::from_millis(millis), full: Duration::ZERO };
    stats.pressure = Some(Pressure { cpu: some(250), ..Pressure::default() });
    let limits = Resources { cpu_quota: Some(50_000), cpu_period: Some(100_000), ..Default::default() };
    let container = ContainerUse {
        name: "web".into(),
        id: "c1".into(),
        image: "nginx:1".into(),
        started: jiff::Timestamp::from_second(100).unwrap(),
        stats: stats.clone(),
        limits,
    };
    let config = SandboxConfig { name: "shop-1".into(), namespace: "shop".into(), ..Default::default() };
    let pod = PodUse {
        config,
        group: "/pods/podu".into(),
        stats,
        links: vec![Link { name: "eth0".into(), received: [10, 0, 0, 0], sent: [20, 0, 0, 0] }],
        created: jiff::Timestamp::from_second(99).unwrap(),
        containers: vec![container],
    };
    let time = jiff::Timestamp::from_second(200).unwrap();
    Pass { time, machine: Machine { memory: 1 << 20, ..Default::default() }, pods: vec![pod], failures: 0 }
}

#[test]
fn dashboards_find_groups_by_the_labels_of_cadvisor() {
    let text = page(Path::new("/"), &pass()).text();
    let web = "image=\"nginx:1\",name=\"c1\",namespace=\"shop\",pod=\"shop-1\"}";
    let pod = "name=\"\",namespace=\"shop\",pod=\"shop-1\"}";
    for line in [
        &format!("container_cpu_usage_seconds_total{{container=\"web\",cpu=\"total\",id=\"/pods/podu/c1\",{web} 1.5"),
        &format!("container_spec_cpu_quota{{container=\"web\",id=\"/pods/podu/c1\",{web} 50000"),
        &format!("container_cpu_cfs_burst_periods_total{{container=\"web\",id=\"/pods/podu/c1\",{web} 3"),
        &format!("container_oom_events_total{{container=\"web\",id=\"/pods/podu/c1\",{web} 2"),
        &format!("container_pressure_cpu_waiting_seconds_total{{container=\"web\",id=\"/pods/podu/c1\",{web} 0.25"),
        &format!("container_memory_working_set_bytes{{container=\"\",id=\"/pods/podu\",image=\"\",{pod} 4096"),
        &format!(
            "container_network_transmit_bytes_total{{container=\"\",id=\"/pods/podu\",image=\"\",interface=\"eth0\",{pod} 20"
        ),
        &format!("container_fs_reads_bytes_total{{container=\"web\",device=\"\",id=\"/pods/podu/c1\",{web} 512"),
        &format!("container_processes{{container=\"web\",id=\"/pods/podu/c1\",{web} 1"),
        "container_memory_working_set_bytes{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} 1048576",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("machine_memory_bytes{") && line.ends_with(" 1048576")), "{text}");
}

#[test]
fn open_files_of_this_process_are_counted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let found = files(&[i32::try_from(std::process::id()).unwrap()]);
    assert!(found.all > 3 && found.sockets >= 1 && found.most.is_some(), "{found:?}");
    drop(listener);
    assert_eq!(files(&[i32::MAX]).all, 0);
}

#[test]
fn two_threads_of_a_core_are_one_physical_core() {
    let core = |socket: u8, core: u8| format!("processor\t: 0\nphysical id\t: {socket}\ncore id\t\t: {core}\n\n");
    let text = [core(0, 0), core(0, 0), core(0, 1), core(1, 0)].concat();
    assert_eq!(physical(&text), (3, 2));
    assert_eq!(physical("garbage"), (0, 0));
}
