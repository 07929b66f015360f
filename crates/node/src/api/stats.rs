//! What the machine and its pods use: `/stats/summary`, and the same as metrics.
//! <https://kubernetes.io/docs/reference/instrumentation/node-metrics/>

use std::fmt::Write as _;

use container::cgroup::Stats;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{config::Shared, pods::Pods};

/// One container's use.
struct Used {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    started_at: Option<Timestamp>,
    stats: Stats,
}

fn containers(shared: &Shared) -> Vec<Used> {
    let mut list = Vec::new();
    for sandbox in shared.runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.alive) {
        for record in shared.runtime.list_containers(Some(&sandbox.record.id)) {
            if record.started_at.is_none() || record.exit.is_some() {
                continue;
            }
            let Ok(stats) = shared.runtime.container_stats(&record.id) else { continue };
            list.push(Used {
                namespace: sandbox.record.config.namespace.clone(),
                pod: sandbox.record.config.name.clone(),
                uid: sandbox.record.config.uid.clone(),
                container: record.config.name.clone(),
                started_at: record.started_at.map(crate::config::timestamp),
                stats,
            });
        }
    }
    list
}

fn cpu(time: Timestamp, stats: &Stats) -> Value {
    json!({"time": time, "usageCoreNanoSeconds": u64::try_from(stats.cpu.usage.as_nanos()).unwrap_or(u64::MAX)})
}

fn memory(time: Timestamp, stats: &Stats) -> Value {
    let memory = &stats.memory;
    let mut value = json!({
        "time": time, "usageBytes": memory.usage, "workingSetBytes": memory.working_set, "rssBytes": memory.rss,
        "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
    });
    if let Some(limit) = memory.limit {
        value["availableBytes"] = json!(limit.saturating_sub(memory.working_set));
    }
    value
}

/// `/stats/summary`.
pub fn summary(shared: &Shared, pods: &Pods) -> Value {
    let time = Timestamp::now();
    let used = containers(shared);
    let mut list = Vec::new();
    for sandbox in shared.runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.alive) {
        let config = &sandbox.record.config;
        let own: Vec<Value> = used
            .iter()
            .filter(|used| used.uid == config.uid)
            .map(|used| {
                json!({"name": used.container, "startTime": used.started_at, "cpu": cpu(time, &used.stats),
                       "memory": memory(time, &used.stats)})
            })
            .collect();
        let start = pods.get(&config.namespace, &config.name).and_then(|pod| pod.status.as_ref()?.start_time.clone());
        let mut pod = json!({
            "podRef": {"name": config.name, "namespace": config.namespace, "uid": config.uid},
            "startTime": start, "containers": own,
        });
        if let Ok(stats) = shared.runtime.sandbox_stats(&sandbox.record.id) {
            pod["cpu"] = cpu(time, &stats);
            pod["memory"] = memory(time, &stats);
            pod["process_stats"] = json!({"process_count": stats.pids.current});
        }
        list.push(pod);
    }
    let (busy, available) = (machine_cpu(), machine_available());
    let total = u64::try_from(shared.memory).unwrap_or(0);
    json!({
        "node": {
            "nodeName": shared.config.name,
            "cpu": {"time": time, "usageCoreNanoSeconds": busy},
            "memory": {"time": time, "availableBytes": available, "usageBytes": total.saturating_sub(available),
                       "workingSetBytes": total.saturating_sub(available)},
            "fs": file_system(shared, time),
        },
        "pods": list,
    })
}

fn file_system(shared: &Shared, time: Timestamp) -> Value {
    match rustix::fs::statvfs(&shared.config.pods_dir) {
        Ok(disk) => json!({
            "time": time, "availableBytes": disk.f_bavail * disk.f_frsize, "capacityBytes": disk.f_blocks * disk.f_frsize,
            "usedBytes": disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize, "inodesFree": disk.f_ffree,
            "inodes": disk.f_files, "inodesUsed": disk.f_files.saturating_sub(disk.f_ffree),
        }),
        Err(_) => json!({"time": time}),
    }
}

/// Nanoseconds that the machine's cores have worked.
fn machine_cpu() -> u64 {
    const TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    fields.iter().take(8).sum::<u64>().saturating_sub(idle).saturating_mul(TICK)
}

fn machine_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// `/metrics/resource`.
pub fn resource_metrics(shared: &Shared) -> String {
    let used = containers(shared);
    let mut out = String::new();
    let seconds = |stats: &Stats| stats.cpu.usage.as_secs_f64();
    let _ = writeln!(out, "# TYPE container_cpu_usage_seconds_total counter");
    for used in &used {
        let _ = writeln!(
            out,
            "container_cpu_usage_seconds_total{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}} {}",
            used.container,
            used.namespace,
            used.pod,
            seconds(&used.stats)
        );
    }
    let _ = writeln!(out, "# TYPE container_memory_working_set_bytes gauge");
    for used in &used {
        let _ = writeln!(
            out,
            "container_memory_working_set_bytes{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}} {}",
            used.container, used.namespace, used.pod, used.stats.memory.working_set
        );
    }
    let _ = writeln!(out, "# TYPE container_start_time_seconds gauge");
    for used in &used {
        let start = used.started_at.map_or(0, Timestamp::as_second);
        let _ = writeln!(
            out,
            "container_start_time_seconds{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}} {start}",
            used.container, used.namespace, used.pod
        );
    }
    let sandboxes: Vec<_> = shared.runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.alive).collect();
    let stats: Vec<_> = sandboxes
        .iter()
        .filter_map(|sandbox| Some((&sandbox.record.config, shared.runtime.sandbox_stats(&sandbox.record.id).ok()?)))
        .collect();
    let _ = writeln!(out, "# TYPE pod_cpu_usage_seconds_total counter");
    for (config, stats) in &stats {
        let _ = writeln!(
            out,
            "pod_cpu_usage_seconds_total{{namespace=\"{}\",pod=\"{}\"}} {}",
            config.namespace,
            config.name,
            seconds(stats)
        );
    }
    let _ = writeln!(out, "# TYPE pod_memory_working_set_bytes gauge");
    for (config, stats) in &stats {
        let _ = writeln!(
            out,
            "pod_memory_working_set_bytes{{namespace=\"{}\",pod=\"{}\"}} {}",
            config.namespace, config.name, stats.memory.working_set
        );
    }
    let total = u64::try_from(shared.memory).unwrap_or(0);
    let _ = writeln!(out, "# TYPE node_cpu_usage_seconds_total counter");
    let busy = std::time::Duration::from_nanos(machine_cpu()).as_secs_f64();
    let _ = writeln!(out, "node_cpu_usage_seconds_total {busy}");
    let _ = writeln!(out, "# TYPE node_memory_working_set_bytes gauge");
    let _ = writeln!(out, "node_memory_working_set_bytes {}", total.saturating_sub(machine_available()));
    out
}

/// `/metrics`: about the node itself.
pub fn metrics(shared: &Shared, pods: &Pods) -> String {
    let sandboxes = shared.runtime.list_sandboxes();
    let running = shared
        .runtime
        .list_containers(None)
        .iter()
        .filter(|record| record.started_at.is_some() && record.exit.is_none())
        .count();
    format!(
        "# TYPE kubelet_node_name gauge\nkubelet_node_name{{node=\"{}\"}} 1\n\
         # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {}\n\
         # TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n\
         # TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {running}\n",
        shared.config.name,
        pods.list().len(),
        sandboxes.iter().filter(|sandbox| sandbox.alive).count(),
    )
}
