//! The node's pages for Prometheus, under upstream's names: `/metrics`, `/metrics/resource`, `/metrics/cadvisor` and
//! `/metrics/probes`.
//! <https://kubernetes.io/docs/reference/instrumentation/node-metrics/>,
//! <https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md>

use std::fmt::Display;

use container::cgroup::Stats;

use super::usage::{ContainerUse, Link, Pass, PodUse};
use crate::{config::Shared, count::Page, pods::Pods, volume};

/// `/metrics`: about the node itself.
pub fn node(shared: &Shared, pods: &Pods) -> String {
    let mut page = Page::default();
    let runtime = &shared.runtime;
    page.family("kubelet_node_name", "gauge");
    page.sample("kubelet_node_name", &[("node", &shared.config.name)], 1);
    page.family("kubernetes_build_info", "gauge");
    page.sample("kubernetes_build_info", &[("git_version", crate::config::VERSION), ("platform", "linux")], 1);
    let mirrors = |is: bool| pods.list().iter().filter(|pod| is_static(pod) == is).count();
    page.family("kubelet_desired_pods", "gauge");
    page.sample("kubelet_desired_pods", &[("static", "")], mirrors(false));
    page.sample("kubelet_desired_pods", &[("static", "true")], mirrors(true));
    page.family("kubelet_active_pods", "gauge");
    page.sample("kubelet_active_pods", &[("static", "")], pods.active().len());
    let alive = runtime.list_sandboxes().iter().filter(|sandbox| sandbox.alive).count();
    page.single("kubelet_running_pods", "gauge", alive);
    let (mut created, mut running, mut exited) = (0, 0, 0);
    for record in runtime.list_containers(None) {
        match (record.started_at, &record.exit) {
            (_, Some(_)) => exited += 1,
            (Some(_), None) => running += 1,
            (None, None) => created += 1,
        }
    }
    page.family("kubelet_running_containers", "gauge");
    for (state, count) in [("created", created), ("exited", exited), ("running", running)] {
        page.sample("kubelet_running_containers", &[("container_state", state)], count);
    }
    page.single("kubelet_cgroup_version", "gauge", if runtime.is_cgroup_v2() { 2 } else { 1 });
    claims(shared, pods, &mut page);
    shared.counts.write(&mut page, "kubelet_");
    process(&mut page);
    page.text()
}

fn is_static(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"))
}

/// Room in the volumes of claims.
fn claims(shared: &Shared, pods: &Pods, page: &mut Page) {
    let mut rows = Vec::new();
    for pod in pods.active() {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        for found in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(claim) = volume::claim::reference(&pod, found) else { continue };
            let path = volume::path(&shared.volumes(uid), found);
            // A volume that is not mounted yet has no room.
            let disk = path.filter(|path| volume::disk::is_mount_point(path));
            if let Some(disk) = disk.and_then(|path| rustix::fs::statvfs(path).ok()) {
                rows.push((pod.metadata.namespace.clone().unwrap_or_default(), claim.name, disk));
            }
        }
    }
    type Value = fn(&rustix::fs::StatVfs) -> u64;
    let families: [(&str, Value); 6] = [
        ("kubelet_volume_stats_capacity_bytes", |disk| disk.f_blocks * disk.f_frsize),
        ("kubelet_volume_stats_available_bytes", |disk| disk.f_bavail * disk.f_frsize),
        ("kubelet_volume_stats_used_bytes", |disk| disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize),
        ("kubelet_volume_stats_inodes", |disk| disk.f_files),
        ("kubelet_volume_stats_inodes_free", |disk| disk.f_ffree),
        ("kubelet_volume_stats_inodes_used", |disk| disk.f_files.saturating_sub(disk.f_ffree)),
    ];
    for (name, value) in families.into_iter().filter(|_| !rows.is_empty()) {
        page.family(name, "gauge");
        for (namespace, claim, disk) in &rows {
            page.sample(name, &[("namespace", namespace), ("persistentvolumeclaim", claim)], value(disk));
        }
    }
}

/// This process.
fn process(page: &mut Page) {
    let usage = |key: &str| {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    page.single("process_resident_memory_bytes", "gauge", usage("VmRSS:"));
    page.single("process_virtual_memory_bytes", "gauge", usage("VmSize:"));
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    page.single("process_open_fds", "gauge", files);
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
    page.single("process_cpu_seconds_total", "counter", seconds.as_secs_f64());
}

/// `/metrics/probes`.
pub fn probes(shared: &Shared) -> String {
    let mut page = Page::default();
    shared.counts.write(&mut page, "prober_");
    page.text()
}

/// `/metrics/resource`: what autoscalers read.
pub fn resource(pass: &Pass) -> String {
    let mut page = Page::default();
    let at = pass.time.as_millisecond();
    let stamped = |value: f64| format!("{value} {at}");
    let whole = |value: u64| format!("{value} {at}");
    let family = |page: &mut Page, name: &str, kind: &str, value: &dyn Fn(&ContainerUse) -> String| {
        page.family(name, kind);
        for pod in &pass.pods {
            for container in &pod.containers {
                let labels = [
                    ("container", container.name.as_str()),
                    ("namespace", &pod.config.namespace),
                    ("pod", &pod.config.name),
                ];
                page.sample(name, &labels, value(container));
            }
        }
    };
    family(&mut page, "container_cpu_usage_seconds_total", "counter", &|container| {
        stamped(container.stats.cpu.usage.as_secs_f64())
    });
    family(&mut page, "container_memory_working_set_bytes", "gauge", &|container| {
        whole(container.stats.memory.working_set)
    });
    family(&mut page, "container_swap_usage_bytes", "gauge", &|container| whole(container.stats.memory.swap));
    family(&mut page, "container_start_time_seconds", "gauge", &|container| format!("{}", seconds(container.started)));
    type Value = fn(&Stats) -> f64;
    let of_pods: [(&str, &str, Value); 3] = [
        ("pod_cpu_usage_seconds_total", "counter", |stats| stats.cpu.usage.as_secs_f64()),
        ("pod_memory_working_set_bytes", "gauge", |stats| stats.memory.working_set as f64),
        ("pod_swap_usage_bytes", "gauge", |stats| stats.memory.swap as f64),
    ];
    for (name, kind, value) in of_pods {
        page.family(name, kind);
        for pod in &pass.pods {
            let labels = [("namespace", pod.config.namespace.as_str()), ("pod", &pod.config.name)];
            page.sample(name, &labels, stamped(value(&pod.stats)));
        }
    }
    let machine = &pass.machine;
    page.single("node_cpu_usage_seconds_total", "counter", stamped(machine.cpu.as_secs_f64()));
    let working = machine.memory.saturating_sub(machine.available);
    page.single("node_memory_working_set_bytes", "gauge", whole(working));
    page.single("node_swap_usage_bytes", "gauge", whole(machine.swap.0.saturating_sub(machine.swap.1)));
    let failed = u8::from(pass.failures > 0);
    page.single("scrape_error", "gauge", failed);
    page.single("resource_scrape_error", "gauge", failed);
    page.text()
}

/// Seconds since 1970, with their fraction.
fn seconds(time: jiff::Timestamp) -> f64 {
    std::time::Duration::try_from(time.duration_since(jiff::Timestamp::UNIX_EPOCH))
        .map_or(0.0, |time| time.as_secs_f64())
}

/// One control group as cAdvisor tells of it: labels and what there is of it.
struct Row<'a> {
    labels: [(&'static str, &'a str); 6],
    stats: &'a Stats,
    started: f64,
    limits: &'a runtime::description::Resources,
}

/// `/metrics/cadvisor`: everything that control groups and network namespaces count.
pub fn cadvisor(pass: &Pass) -> String {
    let mut page = Page::default();
    let ids: Vec<Vec<String>> = pass
        .pods
        .iter()
        .map(|pod| pod.containers.iter().map(|container| format!("{}/{}", pod.group, container.id)).collect())
        .collect();
    let mut rows = Vec::new();
    for (pod, ids) in pass.pods.iter().zip(&ids) {
        let (namespace, name) = (pod.config.namespace.as_str(), pod.config.name.as_str());
        rows.push(Row {
            labels: labels("", &pod.group, "", "", namespace, name),
            stats: &pod.stats,
            started: seconds(pod.created),
            limits: &pod.config.resources,
        });
        for (container, id) in pod.containers.iter().zip(ids) {
            rows.push(Row {
                labels: labels(&container.name, id, &container.image, &container.id, namespace, name),
                stats: &container.stats,
                started: seconds(container.started),
                limits: &container.limits,
            });
        }
    }
    processors(&mut page, &rows);
    memory(&mut page, &rows);
    others(&mut page, &rows, pass);
    network(&mut page, &pass.pods);
    page.single("machine_memory_bytes", "gauge", pass.machine.memory);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    page.single("machine_cpu_cores", "gauge", cores);
    page.single("container_scrape_error", "gauge", u8::from(pass.failures > 0));
    page.text()
}

fn labels<'a>(
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
) -> [(&'static str, &'a str); 6] {
    [("container", container), ("id", id), ("image", image), ("name", name), ("namespace", namespace), ("pod", pod)]
}

/// One sample a row, where there is a value.
fn family<T: Display>(
    page: &mut Page,
    rows: &[Row<'_>],
    name: &str,
    kind: &str,
    value: impl Fn(&Row<'_>) -> Option<T>,
) {
    page.family(name, kind);
    for row in rows {
        if let Some(value) = value(row) {
            page.sample(name, &row.labels, value);
        }
    }
}

fn processors(page: &mut Page, rows: &[Row<'_>]) {
    page.family("container_cpu_usage_seconds_total", "counter");
    for row in rows {
        let mut labels = row.labels.to_vec();
        labels.insert(1, ("cpu", "total"));
        page.sample("container_cpu_usage_seconds_total", &labels, row.stats.cpu.usage.as_secs_f64());
    }
    family(page, rows, "container_cpu_user_seconds_total", "counter", |row| Some(row.stats.cpu.user.as_secs_f64()));
    family(page, rows, "container_cpu_system_seconds_total", "counter", |row| Some(row.stats.cpu.system.as_secs_f64()));
    let limited = |row: &Row<'_>| row.limits.cpu_quota.is_some();
    family(page, rows, "container_cpu_cfs_periods_total", "counter", |row| {
        limited(row).then_some(row.stats.cpu.periods)
    });
    family(page, rows, "container_cpu_cfs_throttled_periods_total", "counter", |row| {
        limited(row).then_some(row.stats.cpu.throttled_periods)
    });
    family(page, rows, "container_cpu_cfs_throttled_seconds_total", "counter", |row| {
        limited(row).then_some(row.stats.cpu.throttled.as_secs_f64())
    });
    family(page, rows, "container_spec_cpu_period", "gauge", |row| row.limits.cpu_period);
    family(page, rows, "container_spec_cpu_quota", "gauge", |row| row.limits.cpu_quota);
    family(page, rows, "container_spec_cpu_shares", "gauge", |row| row.limits.cpu_shares);
}

fn memory(page: &mut Page, rows: &[Row<'_>]) {
    type Value = fn(&Stats) -> u64;
    let gauges: [(&str, Value); 7] = [
        ("container_memory_usage_bytes", |stats| stats.memory.usage),
        ("container_memory_working_set_bytes", |stats| stats.memory.working_set),
        ("container_memory_rss", |stats| stats.memory.rss),
        ("container_memory_cache", |stats| stats.memory.cache),
        ("container_memory_mapped_file", |stats| stats.memory.mapped_file),
        ("container_memory_swap", |stats| stats.memory.swap),
        ("container_memory_max_usage_bytes", |stats| stats.memory.max_usage),
    ];
    for (name, value) in gauges {
        family(page, rows, name, "gauge", |row| Some(value(row.stats)));
    }
    family(page, rows, "container_memory_failcnt", "counter", |row| Some(row.stats.memory.failures));
    family(page, rows, "container_oom_events_total", "counter", |row| Some(row.stats.memory.oom_kills));
    page.family("container_memory_failures_total", "counter");
    for row in rows {
        let faults = [("pgfault", row.stats.memory.page_faults), ("pgmajfault", row.stats.memory.major_page_faults)];
        for (kind, count) in faults {
            let [container, rest @ ..] = row.labels;
            let mut labels = vec![container, ("failure_type", kind)];
            labels.extend(rest);
            labels.push(("scope", "container"));
            page.sample("container_memory_failures_total", &labels, count);
        }
    }
    family(page, rows, "container_spec_memory_limit_bytes", "gauge", |row| {
        Some(row.limits.memory.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0))
    });
    family(page, rows, "container_spec_memory_swap_limit_bytes", "gauge", |row| {
        Some(row.stats.memory.swap_limit.unwrap_or(0))
    });
}

fn others(page: &mut Page, rows: &[Row<'_>], pass: &Pass) {
    family(page, rows, "container_processes", "gauge", |row| Some(row.stats.pids.current));
    family(page, rows, "container_threads_max", "gauge", |row| row.stats.pids.limit);
    family(page, rows, "container_start_time_seconds", "gauge", |row| Some(row.started));
    let seen = pass.time.as_second();
    family(page, rows, "container_last_seen", "gauge", |_| Some(seen));
    type Value = fn(&container::cgroup::Device) -> u64;
    let disks: [(&str, Value); 4] = [
        ("container_fs_reads_bytes_total", |device| device.read_bytes),
        ("container_fs_writes_bytes_total", |device| device.written_bytes),
        ("container_fs_reads_total", |device| device.reads),
        ("container_fs_writes_total", |device| device.writes),
    ];
    for (name, value) in disks {
        page.family(name, "counter");
        for row in rows {
            for device in &row.stats.io {
                let number = format!("{}:{}", device.major, device.minor);
                let [container, rest @ ..] = row.labels;
                let mut labels = vec![container, ("device", number.as_str())];
                labels.extend(rest);
                page.sample(name, &labels, value(device));
            }
        }
    }
}

fn network(page: &mut Page, pods: &[PodUse]) {
    type Value = fn(&Link) -> u64;
    let families: [(&str, Value); 8] = [
        ("container_network_receive_bytes_total", |link| link.received[0]),
        ("container_network_receive_packets_total", |link| link.received[1]),
        ("container_network_receive_errors_total", |link| link.received[2]),
        ("container_network_receive_packets_dropped_total", |link| link.received[3]),
        ("container_network_transmit_bytes_total", |link| link.sent[0]),
        ("container_network_transmit_packets_total", |link| link.sent[1]),
        ("container_network_transmit_errors_total", |link| link.sent[2]),
        ("container_network_transmit_packets_dropped_total", |link| link.sent[3]),
    ];
    for (name, value) in families {
        page.family(name, "counter");
        for pod in pods {
            for link in &pod.links {
                let labels = [
                    ("container", ""),
                    ("id", pod.group.as_str()),
                    ("image", ""),
                    ("interface", &link.name),
                    ("name", ""),
                    ("namespace", &pod.config.namespace),
                    ("pod", &pod.config.name),
                ];
                page.sample(name, &labels, value(link));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::description::{Resources, SandboxConfig};

    use super::*;
    use crate::api::usage::Machine;

    fn pass() -> Pass {
        let mut stats = Stats::default();
        stats.cpu.usage = Duration::from_millis(1500);
        stats.memory.working_set = 4096;
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
    fn autoscalers_find_containers_pods_and_the_node_with_their_times() {
        let text = resource(&pass());
        for line in [
            "container_cpu_usage_seconds_total{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 1.5 200000",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 4096 200000",
            "container_start_time_seconds{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 100",
            "pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"shop-1\"} 1.5 200000",
            "node_memory_working_set_bytes 1048576 200000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn dashboards_find_groups_by_the_labels_of_cadvisor() {
        let text = cadvisor(&pass());
        for line in [
            "container_cpu_usage_seconds_total{container=\"web\",cpu=\"total\",id=\"/pods/podu/c1\",image=\"nginx:1\",\
             name=\"c1\",namespace=\"shop\",pod=\"shop-1\"} 1.5",
            "container_spec_cpu_quota{container=\"web\",id=\"/pods/podu/c1\",image=\"nginx:1\",name=\"c1\",\
             namespace=\"shop\",pod=\"shop-1\"} 50000",
            "container_memory_working_set_bytes{container=\"\",id=\"/pods/podu\",image=\"\",name=\"\",namespace=\"shop\",\
             pod=\"shop-1\"} 4096",
            "container_network_transmit_bytes_total{container=\"\",id=\"/pods/podu\",image=\"\",interface=\"eth0\",\
             name=\"\",namespace=\"shop\",pod=\"shop-1\"} 20",
            "machine_memory_bytes 1048576",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
