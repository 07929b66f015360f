//! What a container uses: `GET /containers/ID/stats`.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use container::cgroup::{Group, Stats, Version};
use http::Response;
use serde_json::{Map, Value, json};
use serve::{Body, body};

use crate::{
    Engine, answer,
    call::Query,
    container::{Container, start},
    error::Result,
    system::timestamp,
};

/// Between two samples.
const STEP: Duration = Duration::from_secs(1);
/// What upstream shows where there was no sample before.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Ticks of the kernel a second, and nanoseconds in one.
const TICKS: u64 = 100;
const TICK: u64 = 1_000_000_000 / TICKS;

/// A sample.
#[derive(Clone, Debug)]
struct Sample {
    at: SystemTime,
    stats: Stats,
    machine: u64,
    networks: Map<String, Value>,
}

fn sample(engine: &Engine, container: &Container) -> Option<Sample> {
    let record = container.record();
    if !record.state.is_running() {
        return None;
    }
    let path = start::group_of(engine, &record).ok()?.join("main").ok()?;
    let stats = Group::open(&Version::detect().ok()?, &path).stats().ok()?;
    let table = fs::read_to_string(format!("/proc/{}/net/dev", record.state.pid)).unwrap_or_default();
    let machine = machine(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let networks = if record.host.network_mode == "host" { Map::new() } else { networks(&table) };
    Some(Sample { at: SystemTime::now(), stats, machine, networks })
}

/// Nanoseconds that all processors together have had, of the first line of `/proc/stat`.
fn machine(text: &str) -> u64 {
    let first = text.lines().next().unwrap_or_default();
    let ticks: u64 = first.split_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks.saturating_mul(TICK)
}

/// Links of `/proc/PID/net/dev`, loopback left out.
fn networks(text: &str) -> Map<String, Value> {
    let mut found = Map::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let name = name.trim();
        if let (
            true,
            [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..],
        ) = (name != "lo", numbers.as_slice())
        {
            let shown = json!({
                "rx_bytes": rx_bytes, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                "tx_bytes": tx_bytes, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
            });
            found.insert(name.to_owned(), shown);
        }
    }
    found
}

fn processor(sample: Option<&Sample>) -> Value {
    let Some(sample) = sample else {
        return json!({"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
                      "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}});
    };
    let cpu = &sample.stats.cpu;
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "cpu_usage": {
            "total_usage": nanoseconds(cpu.usage), "usage_in_kernelmode": nanoseconds(cpu.system),
            "usage_in_usermode": nanoseconds(cpu.user),
        },
        "system_cpu_usage": sample.machine,
        "online_cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "throttling_data": {
            "periods": cpu.periods, "throttled_periods": cpu.throttled_periods, "throttled_time": nanoseconds(cpu.throttled),
        },
    })
}

fn shown(engine: &Engine, container: &Container, sample: Option<&Sample>, before: Option<&Sample>) -> Value {
    let time = |sample: Option<&Sample>| sample.map_or_else(|| NEVER.to_owned(), |sample| timestamp(sample.at));
    let mut shown = json!({
        "name": format!("/{}", container.name()),
        "id": container.id,
        "read": time(sample),
        "preread": time(before),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": processor(sample),
        "precpu_stats": processor(before),
        "pids_stats": {}, "memory_stats": {}, "blkio_stats": {},
    });
    let Some(Sample { stats, networks, .. }) = sample else { return shown };
    let info = rustix::system::sysinfo();
    let total = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let memory = &stats.memory;
    // Clients take the inactive part of the cache away, under the name of the version.
    let inactive = memory.usage.saturating_sub(memory.working_set);
    let (name, faults) = if engine.runtime().is_cgroup_v2() {
        ("inactive_file", ["anon", "file", "file_mapped"])
    } else {
        ("total_inactive_file", ["rss", "cache", "mapped_file"])
    };
    let mut more =
        BTreeMap::from([(name, inactive), ("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)]);
    more.extend(faults.into_iter().zip([memory.rss, memory.cache, memory.mapped_file]));
    shown["memory_stats"] = json!({
        "usage": memory.usage, "limit": memory.limit.map_or(total, |limit| limit.min(total)), "stats": more,
        "failcnt": memory.failures,
    });
    if memory.max_usage > 0 {
        shown["memory_stats"]["max_usage"] = memory.max_usage.into();
    }
    shown["pids_stats"] = json!({"current": stats.pids.current, "limit": stats.pids.limit.unwrap_or(u64::MAX)});
    let entries = |read: fn(&container::cgroup::Device) -> (u64, u64)| -> Vec<Value> {
        let both = stats.io.iter().flat_map(|device| {
            let (reads, writes) = read(device);
            [("read", reads), ("write", writes)]
                .map(|(op, value)| json!({"major": device.major, "minor": device.minor, "op": op, "value": value}))
        });
        both.collect()
    };
    shown["blkio_stats"] = json!({
        "io_service_bytes_recursive": entries(|device| (device.read_bytes, device.written_bytes)),
        "io_serviced_recursive": entries(|device| (device.reads, device.writes)),
        "io_queue_recursive": null, "io_service_time_recursive": null, "io_wait_time_recursive": null,
        "io_merged_recursive": null, "io_time_recursive": null, "sectors_recursive": null,
    });
    if !networks.is_empty() {
        shown["networks"] = networks.clone().into();
    }
    shown
}

/// `GET /containers/ID/stats`.
pub(crate) async fn answer(engine: &Engine, container: &Arc<Container>, query: &Query) -> Result<Response<Body>> {
    let stream = query.flag_or("stream", true);
    if !stream {
        let mut before = None;
        if !query.flag("one-shot") && container.running().is_ok() {
            before = sample(engine, container);
            tokio::time::sleep(STEP).await;
        }
        return answer::json(&shown(engine, container, sample(engine, container).as_ref(), before.as_ref()));
    }
    let (sender, body) = body::channel(2);
    let (engine, container) = (engine.clone(), container.clone());
    engine.task().clone().spawn_until_cancelled("stats", async move {
        let mut progress = container.progress();
        let mut before = None;
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
                _ = progress.wait_for(|now| now.removed) => return,
            }
            let now = sample(&engine, &container);
            if sender.send(answer::line(&shown(&engine, &container, now.as_ref(), before.as_ref()))).await.is_err() {
                return;
            }
            before = now;
        }
    });
    Ok(answer::typed(body, "application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(machine("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1"), 36 * TICK);
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 0 0 0 0 0 0 20 3 0 1 0 0 0 0\n";
        let found = networks(table);
        assert_eq!(found.len(), 1);
        assert_eq!((&found["eth0"]["rx_bytes"], &found["eth0"]["tx_dropped"]), (&json!(10), &json!(1)));
    }
}
