//! `/stats/summary`: what the machine and its pods use, as one JSON document.
//! <https://kubernetes.io/docs/reference/instrumentation/node-metrics/#summary-api-source>

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use container::cgroup::Stats;
use image::image::Usage;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::usage::{Link, Machine, Pass, PodUse};
use crate::{config::Shared, pods::Pods, pressure, volume};

/// Two readings closer together than this say nothing about a rate.
const APART: Duration = Duration::from_secs(1);

/// Processor time at the last readings, by group: rates come from two of them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Rates(Arc<Mutex<HashMap<String, Reading>>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Timestamp,
    usage: Duration,
    rate: Option<u64>,
}

impl Rates {
    /// Takes in the readings of a pass, forgets groups that are gone, and gives billionths of a core by group.
    fn note(&self, readings: Vec<(String, Duration)>, at: Timestamp) -> HashMap<String, u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = readings.into_iter().map(|(id, usage)| {
            let reading = match known.get(&id) {
                None => Reading { at, usage, rate: None },
                Some(old) => {
                    let passed = Duration::try_from(at.duration_since(old.at)).unwrap_or_default();
                    if passed < APART {
                        *old
                    } else {
                        let used = usage.saturating_sub(old.usage).as_nanos();
                        let rate = used.saturating_mul(1_000_000_000) / passed.as_nanos().max(1);
                        Reading { at, usage, rate: u64::try_from(rate).ok() }
                    }
                }
            };
            (id, reading)
        });
        *known = next.collect();
        known.iter().filter_map(|(id, reading)| Some((id.clone(), reading.rate?))).collect()
    }
}

/// Where the readings of the machine itself are kept.
const MACHINE: &str = "/";

/// The document. With `only_use` nothing is said of disks and networks, which takes longest.
pub async fn summary(shared: &Shared, pods: &Pods, rates: &Rates, pass: Pass, only_use: bool) -> Value {
    let mut readings = vec![(MACHINE.to_owned(), pass.machine.cpu)];
    for pod in &pass.pods {
        readings.push((pod.group.clone(), pod.stats.cpu.usage));
        let own = pod.containers.iter();
        readings.extend(own.map(|container| (container.id.clone(), container.stats.cpu.usage)));
    }
    let rates = rates.note(readings, pass.time);
    let mut list = Vec::new();
    for pod in &pass.pods {
        list.push(of_pod(shared, pods, pod, &rates, pass.time, only_use).await);
    }
    let mut node = of_machine(&shared.config.name, &pass.machine, rates.get(MACHINE).copied(), pass.time);
    if !only_use {
        node["network"] = network(pass.time, &pass.machine.links);
        node["fs"] = file_system(&shared.config.pods_dir, pass.time, None);
        let images = shared.runtime.images().usage().await.ok();
        let images = file_system(&shared.config.pods_dir, pass.time, images);
        node["runtime"] = json!({"imageFs": images, "containerFs": images});
    }
    json!({"node": node, "pods": list})
}

fn of_machine(name: &str, machine: &Machine, rate: Option<u64>, time: Timestamp) -> Value {
    let working = machine.memory.saturating_sub(machine.available);
    let (swap, free) = machine.swap;
    json!({
        "nodeName": name,
        "startTime": machine.booted,
        "cpu": cpu(time, machine.cpu, rate),
        "memory": {
            "time": time, "availableBytes": machine.available, "usageBytes": working, "workingSetBytes": working,
            "rssBytes": machine.rss, "pageFaults": machine.faults.0, "majorPageFaults": machine.faults.1,
        },
        "swap": {"time": time, "swapAvailableBytes": free, "swapUsageBytes": swap.saturating_sub(free)},
        "rlimit": {"time": time, "maxpid": machine.processes.0, "curproc": machine.processes.1},
    })
}

async fn of_pod(
    shared: &Shared,
    pods: &Pods,
    pod: &PodUse,
    rates: &HashMap<String, u64>,
    time: Timestamp,
    only_use: bool,
) -> Value {
    let config = &pod.config;
    let object =
        pods.get(&config.namespace, &config.name).filter(|found| found.metadata.uid.as_deref() == Some(&config.uid));
    let start = object.as_ref().and_then(|pod| pod.status.as_ref()?.start_time.clone());
    let mut containers: Vec<Value> = Vec::new();
    for container in &pod.containers {
        let mut value = json!({
            "name": container.name, "startTime": container.started,
            "cpu": cpu(time, container.stats.cpu.usage, rates.get(&container.id).copied()),
            "memory": memory(time, &container.stats), "swap": swap(time, &container.stats),
        });
        if !only_use {
            // A container that ends meanwhile has no files any more.
            let own = shared.runtime.images().snapshot_usage(&container.id).await.ok();
            value["rootfs"] = file_system(&shared.config.pods_dir, time, own.or(Some(Usage::default())));
            let logs = shared.pod_dir(&config.uid).join("logs").join(&container.name);
            let used = tokio::task::spawn_blocking(move || Usage::below(&logs)).await.ok();
            value["logs"] = file_system(&shared.config.pods_dir, time, used);
        }
        containers.push(value);
    }
    let mut value = json!({
        "podRef": {"name": config.name, "namespace": config.namespace, "uid": config.uid},
        "startTime": start, "containers": containers,
        "cpu": cpu(time, pod.stats.cpu.usage, rates.get(&pod.group).copied()),
        "memory": memory(time, &pod.stats), "swap": swap(time, &pod.stats),
        "process_stats": {"process_count": pod.stats.pids.current},
    });
    if only_use {
        return value;
    }
    if !config.host_network {
        value["network"] = network(time, &pod.links);
    }
    if let Some(object) = object {
        let written = pressure::written(shared, &object).await;
        let total = Usage { bytes: written.total(), inodes: 0 };
        let mut whole = file_system(&shared.config.pods_dir, time, Some(total));
        // Inodes are not counted over all of it.
        whole.as_object_mut().map(|map| map.remove("inodesUsed"));
        value["ephemeral-storage"] = whole;
        let (place, namespace) = (shared.volumes(&config.uid), config.namespace.clone());
        let volumes = tokio::task::spawn_blocking(move || volumes(&place, &object, &namespace, time)).await;
        value["volume"] = volumes.unwrap_or_default().into();
    }
    value
}

/// Room in a pod's volumes; of those on the node's own disk, what they hold.
fn volumes(
    place: &volume::Place,
    pod: &k8s_openapi::api::core::v1::Pod,
    namespace: &str,
    time: Timestamp,
) -> Vec<Value> {
    let mut list = Vec::new();
    for found in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        // The machine's own directories are not the pod's.
        let Some(path) = volume::path(place, found).filter(|path| found.host_path.is_none() && path.exists()) else {
            continue;
        };
        let mut value = file_system(&path, time, Some(Usage::below(&path)));
        value["name"] = json!(found.name);
        if let Some(claim) = volume::claim::reference(pod, found) {
            value["pvcRef"] = json!({"name": claim.name, "namespace": namespace});
        }
        list.push(value);
    }
    list
}

fn cpu(time: Timestamp, usage: Duration, rate: Option<u64>) -> Value {
    let mut value = json!({"time": time, "usageCoreNanoSeconds": u64::try_from(usage.as_nanos()).unwrap_or(u64::MAX)});
    if let Some(rate) = rate {
        value["usageNanoCores"] = json!(rate);
    }
    value
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

fn swap(time: Timestamp, stats: &Stats) -> Value {
    let mut value = json!({"time": time, "swapUsageBytes": stats.memory.swap});
    if let Some(limit) = stats.memory.swap_limit {
        value["swapAvailableBytes"] = json!(limit.saturating_sub(stats.memory.swap));
    }
    value
}

fn network(time: Timestamp, links: &[Link]) -> Value {
    let of = |link: &Link| {
        json!({
            "name": link.name, "rxBytes": link.received[0], "rxErrors": link.received[2],
            "txBytes": link.sent[0], "txErrors": link.sent[2],
        })
    };
    let first = links.iter().find(|link| link.name == "eth0").or(links.first());
    let mut value = first.map_or_else(|| json!({}), of);
    value["time"] = json!(time);
    value["interfaces"] = links.iter().map(of).collect();
    value
}

/// The file system below a path; what is used of it in all, or as given.
fn file_system(path: &Path, time: Timestamp, used: Option<Usage>) -> Value {
    let Ok(disk) = rustix::fs::statvfs(path) else { return json!({"time": time}) };
    let all = Usage {
        bytes: disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize,
        inodes: disk.f_files.saturating_sub(disk.f_ffree),
    };
    let used = used.unwrap_or(all);
    json!({
        "time": time, "availableBytes": disk.f_bavail * disk.f_frsize, "capacityBytes": disk.f_blocks * disk.f_frsize,
        "usedBytes": used.bytes, "inodesFree": disk.f_ffree, "inodes": disk.f_files, "inodesUsed": used.inodes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_two_readings_that_are_apart() {
        let rates = Rates::default();
        let at = |millis: i64| Timestamp::from_millisecond(millis).unwrap();
        let of = |usage: u64, time: i64| rates.note(vec![("a".into(), Duration::from_millis(usage))], at(time));
        assert!(of(0, 0).is_empty());
        assert!(of(100, 500).is_empty());
        assert_eq!(of(1000, 2000)["a"], 500_000_000);
        // Too soon for a new one: the last stands.
        assert_eq!(of(1100, 2100)["a"], 500_000_000);
        assert!(rates.note(Vec::new(), at(9000)).is_empty());
        assert!(of(1200, 10_000).is_empty());
    }
}
