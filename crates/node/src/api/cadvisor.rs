//! `/metrics/cadvisor`: everything that control groups and network namespaces count, under cAdvisor's names, as a kubelet
//! exports them.
//!
//! A row is one control group: the machine's (`/`), a pod's, a container's. What a pod's network counts stands at the pod's
//! row. Left out is what only Docker's own storage knows (how much of a disk each container fills: `/stats/summary` has it) and
//! what kubelets switch off (CPU by core, TCP states, schedstat, hugetlb, NUMA, perf, resctrl).
//!
//! <https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md>

use std::{collections::HashMap, fmt::Display, fs, path::Path};

use container::cgroup::{Device, Stats};
use counts::page::{Number, Page};

use super::{
    metrics::seconds,
    usage::{Link, Pass},
};

/// More processes of one group are not looked into.
const PROCESSES: usize = 1000;
/// More open files of one process are not looked at.
const FILES: usize = 10_000;

/// Labels of a row: container, id, image, name, namespace, pod.
type RowLabels<'a> = [(&'static str, &'a str); 6];

/// One control group: labels and what there is of it.
struct Row<'a> {
    labels: RowLabels<'a>,
    stats: &'a Stats,
    started: f64,
    limits: Option<&'a runtime::description::Resources>,
    links: &'a [Link],
    files: Files,
}

/// What the processes of a group have open.
#[derive(Clone, Copy, Debug, Default)]
struct Files {
    all: usize,
    sockets: usize,
    /// How many the first process may open.
    most: Option<f64>,
}

/// Names of block devices as far as they were asked for; the kernel tells numbers.
#[derive(Default)]
struct Names(HashMap<(u32, u32), String>);

impl Names {
    fn of(&mut self, device: &Device) -> &str {
        let number = (device.major, device.minor);
        self.0.entry(number).or_insert_with(|| {
            let (major, minor) = number;
            let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
            let name = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            // Without a name, cAdvisor leaves it empty too.
            name.map(|name| format!("/dev/{}", name.replace('!', "/"))).unwrap_or_default()
        })
    }
}

/// The page. `pods_dir` is on the disk whose room is told.
pub fn page(pods_dir: &Path, pass: &Pass) -> Page {
    let mut page = Page::default();
    let machine_stats = pass.machine.stats();
    let ids: Vec<Vec<String>> = pass
        .pods
        .iter()
        .map(|pod| pod.containers.iter().map(|container| format!("{}/{}", pod.group, container.id)).collect())
        .collect();
    let mut rows = vec![Row {
        labels: labels("", "/", "", "", "", ""),
        stats: &machine_stats,
        started: pass.machine.booted.map_or(0.0, seconds),
        limits: None,
        links: &pass.machine.links,
        files: Files::default(),
    }];
    for (pod, ids) in pass.pods.iter().zip(&ids) {
        let (namespace, name) = (pod.config.namespace.as_str(), pod.config.name.as_str());
        rows.push(Row {
            labels: labels("", &pod.group, "", "", namespace, name),
            stats: &pod.stats,
            started: seconds(pod.created),
            limits: Some(&pod.config.resources),
            links: &pod.links,
            files: files(&pod.stats.pids.processes),
        });
        for (container, id) in pod.containers.iter().zip(ids) {
            rows.push(Row {
                labels: labels(&container.name, id, &container.image, &container.id, namespace, name),
                stats: &container.stats,
                started: seconds(container.started),
                limits: Some(&container.limits),
                links: &[],
                files: files(&container.stats.pids.processes),
            });
        }
    }
    processors(&mut page, &rows);
    memory(&mut page, &rows);
    processes(&mut page, &rows);
    pressure(&mut page, &rows);
    disks(&mut page, &rows, &mut Names::default());
    room(&mut page, &rows[0], pods_dir);
    network(&mut page, &rows);
    family(&mut page, &rows, "container_start_time_seconds", "gauge", |row| Some(row.started));
    family(&mut page, &rows, "container_creation_time_seconds", "gauge", |row| Some(row.started.trunc()));
    let seen = pass.time.as_second();
    family(&mut page, &rows, "container_last_seen", "gauge", |_| Some(seen));
    page.gauge("container_scrape_error", &[], u8::from(pass.failures > 0));
    machine(&mut page, pass);
    page
}

fn labels<'a>(
    container: &'a str,
    id: &'a str,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
) -> RowLabels<'a> {
    [("container", container), ("id", id), ("image", image), ("name", name), ("namespace", namespace), ("pod", pod)]
}

/// A row's labels and further ones, in order of their names.
fn with<'a>(labels: &RowLabels<'a>, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    let mut all: Vec<_> = labels.iter().chain(more).copied().collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

/// One sample a row, where there is a value.
fn family<T: Display>(
    page: &mut Page,
    rows: &[Row<'_>],
    name: &'static str,
    kind: &'static str,
    value: impl Fn(&Row<'_>) -> Option<T>,
) {
    let mut samples = page.family(name, kind);
    for row in rows {
        if let Some(value) = value(row) {
            samples.add(&row.labels, value);
        }
    }
}

fn processors(page: &mut Page, rows: &[Row<'_>]) {
    let mut usage = page.family("container_cpu_usage_seconds_total", "counter");
    for row in rows {
        usage.add(&with(&row.labels, &[("cpu", "total")]), row.stats.cpu.usage.as_secs_f64());
    }
    type Value = fn(&container::cgroup::Cpu) -> f64;
    let always: [(&'static str, Value); 2] = [
        ("container_cpu_user_seconds_total", |cpu| cpu.user.as_secs_f64()),
        ("container_cpu_system_seconds_total", |cpu| cpu.system.as_secs_f64()),
    ];
    for (name, value) in always {
        family(page, rows, name, "counter", |row| Some(value(&row.stats.cpu)));
    }
    let where_limited: [(&'static str, Value); 5] = [
        ("container_cpu_cfs_periods_total", |cpu| cpu.periods as f64),
        ("container_cpu_cfs_throttled_periods_total", |cpu| cpu.throttled_periods as f64),
        ("container_cpu_cfs_throttled_seconds_total", |cpu| cpu.throttled.as_secs_f64()),
        ("container_cpu_cfs_burst_periods_total", |cpu| cpu.burst_periods as f64),
        ("container_cpu_cfs_burst_seconds_total", |cpu| cpu.burst.as_secs_f64()),
    ];
    let limited = |row: &Row<'_>| row.limits.is_some_and(|limits| limits.cpu_quota.is_some());
    for (name, value) in where_limited {
        family(page, rows, name, "counter", |row| limited(row).then(|| value(&row.stats.cpu)));
    }
    family(page, rows, "container_spec_cpu_period", "gauge", |row| {
        row.limits.map(|limits| limits.cpu_period.unwrap_or(100_000))
    });
    family(page, rows, "container_spec_cpu_quota", "gauge", |row| row.limits?.cpu_quota);
    family(page, rows, "container_spec_cpu_shares", "gauge", |row| {
        row.limits.map(|limits| limits.cpu_shares.unwrap_or(2))
    });
}

fn memory(page: &mut Page, rows: &[Row<'_>]) {
    type Value = fn(&container::cgroup::Memory) -> u64;
    let values: [(&'static str, &'static str, Value); 20] = [
        ("container_memory_usage_bytes", "gauge", |memory| memory.usage),
        ("container_memory_working_set_bytes", "gauge", |memory| memory.working_set),
        ("container_memory_rss", "gauge", |memory| memory.rss),
        ("container_memory_cache", "gauge", |memory| memory.cache),
        ("container_memory_mapped_file", "gauge", |memory| memory.mapped_file),
        ("container_memory_swap", "gauge", |memory| memory.swap),
        ("container_memory_max_usage_bytes", "gauge", |memory| memory.max_usage),
        ("container_memory_kernel_usage", "gauge", |memory| memory.kernel),
        ("container_memory_total_active_file_bytes", "gauge", |memory| memory.active_file),
        ("container_memory_total_inactive_file_bytes", "gauge", |memory| memory.inactive_file),
        ("container_memory_file_dirty_bytes", "gauge", |memory| memory.dirty),
        ("container_memory_file_writeback_bytes", "gauge", |memory| memory.writeback),
        ("container_memory_pgscan_total", "counter", |memory| memory.scanned),
        ("container_memory_pgsteal_total", "counter", |memory| memory.stolen),
        ("container_memory_workingset_refault_file_total", "counter", |memory| memory.refaults_file),
        ("container_memory_workingset_refault_anon_total", "counter", |memory| memory.refaults_anonymous),
        ("container_memory_events_high_total", "counter", |memory| memory.high_events),
        ("container_memory_events_max_total", "counter", |memory| memory.failures),
        ("container_memory_failcnt", "counter", |memory| memory.failures),
        ("container_oom_events_total", "counter", |memory| memory.oom_kills),
    ];
    for (name, kind, value) in values {
        family(page, rows, name, kind, |row| Some(value(&row.stats.memory)));
    }
    let faults: [(&'static str, &'static str, Value); 4] = [
        ("pgfault", "container", |memory| memory.own_page_faults),
        ("pgmajfault", "container", |memory| memory.own_major_page_faults),
        ("pgfault", "hierarchy", |memory| memory.page_faults),
        ("pgmajfault", "hierarchy", |memory| memory.major_page_faults),
    ];
    let mut failures = page.family("container_memory_failures_total", "counter");
    for row in rows {
        for (kind, scope, value) in faults {
            let labels = with(&row.labels, &[("failure_type", kind), ("scope", scope)]);
            failures.add(&labels, value(&row.stats.memory));
        }
    }
    family(page, rows, "container_spec_memory_limit_bytes", "gauge", |row| {
        Some(row.limits?.memory.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0))
    });
    family(page, rows, "container_spec_memory_swap_limit_bytes", "gauge", |row| {
        row.limits.map(|_| row.stats.memory.swap_limit.unwrap_or(0))
    });
    family(page, rows, "container_spec_memory_reservation_limit_bytes", "gauge", |row| row.limits.map(|_| 0));
}

fn processes(page: &mut Page, rows: &[Row<'_>]) {
    let rows = &rows[1..];
    family(page, rows, "container_processes", "gauge", |row| Some(row.stats.pids.processes.len()));
    family(page, rows, "container_threads", "gauge", |row| Some(row.stats.pids.current));
    // As cAdvisor, 0 stands for none.
    family(page, rows, "container_threads_max", "gauge", |row| Some(row.stats.pids.limit.unwrap_or(0)));
    family(page, rows, "container_file_descriptors", "gauge", |row| Some(row.files.all));
    family(page, rows, "container_sockets", "gauge", |row| Some(row.files.sockets));
    let mut limits = page.family("container_ulimits_soft", "gauge");
    for row in rows {
        if let Some(most) = row.files.most {
            limits.add(&with(&row.labels, &[("ulimit", "max_open_files")]), Number(most));
        }
    }
}

/// Looks at what processes have open. One that ends meanwhile has nothing open any more.
fn files(processes: &[i32]) -> Files {
    let mut files = Files::default();
    for process in processes.iter().take(PROCESSES) {
        let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        for entry in open.take(FILES) {
            files.all += 1;
            let target = fs::read_link(entry.path());
            files.sockets +=
                usize::from(target.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket")));
        }
    }
    let limits = processes.first().and_then(|first| fs::read_to_string(format!("/proc/{first}/limits")).ok());
    files.most = limits.as_deref().and_then(most_files);
    files
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(-1.0),
        number => number.parse().ok(),
    }
}

fn pressure(page: &mut Page, rows: &[Row<'_>]) {
    type Value = fn(&container::cgroup::Pressure) -> std::time::Duration;
    let values: [(&'static str, Value); 6] = [
        ("container_pressure_cpu_waiting_seconds_total", |pressure| pressure.cpu.some),
        ("container_pressure_cpu_stalled_seconds_total", |pressure| pressure.cpu.full),
        ("container_pressure_memory_waiting_seconds_total", |pressure| pressure.memory.some),
        ("container_pressure_memory_stalled_seconds_total", |pressure| pressure.memory.full),
        ("container_pressure_io_waiting_seconds_total", |pressure| pressure.io.some),
        ("container_pressure_io_stalled_seconds_total", |pressure| pressure.io.full),
    ];
    for (name, value) in values {
        family(page, rows, name, "counter", |row| Some(value(row.stats.pressure.as_ref()?).as_secs_f64()));
    }
}

fn disks(page: &mut Page, rows: &[Row<'_>], names: &mut Names) {
    type Value = fn(&Device) -> u64;
    let values: [(&'static str, Value); 4] = [
        ("container_fs_reads_bytes_total", |device| device.read_bytes),
        ("container_fs_writes_bytes_total", |device| device.written_bytes),
        ("container_fs_reads_total", |device| device.reads),
        ("container_fs_writes_total", |device| device.writes),
    ];
    for (name, value) in values {
        let mut samples = page.family(name, "counter");
        for row in rows {
            for device in &row.stats.io {
                samples.add(&with(&row.labels, &[("device", names.of(device))]), value(device));
            }
        }
    }
    let mut usage = page.family("container_blkio_device_usage_total", "counter");
    for row in rows {
        for device in &row.stats.io {
            let (major, minor) = (device.major.to_string(), device.minor.to_string());
            let name = names.of(device);
            for (operation, bytes) in [("Read", device.read_bytes), ("Write", device.written_bytes)] {
                let more = [("device", name), ("major", &major), ("minor", &minor), ("operation", operation)];
                usage.add(&with(&row.labels, &more), bytes);
            }
        }
    }
}

/// Room on the disk that pods are on: of the machine as a whole.
fn room(page: &mut Page, machine: &Row<'_>, path: &Path) {
    let Ok(disk) = rustix::fs::statvfs(path) else { return };
    let device = rustix::fs::stat(path).map(|stat| {
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        Names::default().of(&Device { major, minor, ..Device::default() }).to_owned()
    });
    let device = device.unwrap_or_default();
    let labels = with(&machine.labels, &[("device", &device)]);
    page.gauge("container_fs_limit_bytes", &labels, disk.f_blocks * disk.f_frsize);
    page.gauge("container_fs_usage_bytes", &labels, disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize);
    page.gauge("container_fs_inodes_total", &labels, disk.f_files);
    page.gauge("container_fs_inodes_free", &labels, disk.f_ffree);
}

fn network(page: &mut Page, rows: &[Row<'_>]) {
    type Value = fn(&Link) -> u64;
    let values: [(&'static str, Value); 8] = [
        ("container_network_receive_bytes_total", |link| link.received[0]),
        ("container_network_receive_packets_total", |link| link.received[1]),
        ("container_network_receive_errors_total", |link| link.received[2]),
        ("container_network_receive_packets_dropped_total", |link| link.received[3]),
        ("container_network_transmit_bytes_total", |link| link.sent[0]),
        ("container_network_transmit_packets_total", |link| link.sent[1]),
        ("container_network_transmit_errors_total", |link| link.sent[2]),
        ("container_network_transmit_packets_dropped_total", |link| link.sent[3]),
    ];
    for (name, value) in values {
        let mut samples = page.family(name, "counter");
        for row in rows {
            for link in row.links {
                samples.add(&with(&row.labels, &[("interface", &link.name)]), value(link));
            }
        }
    }
}

/// The machine itself.
fn machine(page: &mut Page, pass: &Pass) {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let (id, boot) = (read("/etc/machine-id"), read("/proc/sys/kernel/random/boot_id"));
    let uuid =
        Some(read("/sys/class/dmi/id/product_uuid")).filter(|uuid| !uuid.is_empty()).unwrap_or_else(|| id.clone());
    let labels = [("boot_id", boot.as_str()), ("machine_id", &id), ("system_uuid", &uuid)];
    page.gauge("machine_memory_bytes", &labels, pass.machine.memory);
    page.gauge("machine_swap_bytes", &labels, pass.machine.swap.0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    page.gauge("machine_cpu_cores", &labels, cores);
    let (physical, sockets) = physical(&read("/proc/cpuinfo"));
    if sockets > 0 {
        page.gauge("machine_cpu_physical_cores", &labels, physical);
        page.gauge("machine_cpu_sockets", &labels, sockets);
    }
    let version = rustix::system::uname();
    let labels = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", version.release().to_str().unwrap_or("")),
        ("osVersion", ""),
    ];
    page.gauge("cadvisor_version_info", &labels, 1);
}

/// Cores that are not the second thread of another, and sockets, of `/proc/cpuinfo`.
fn physical(cpuinfo: &str) -> (usize, usize) {
    let (mut cores, mut sockets, mut socket) = (std::collections::HashSet::new(), std::collections::HashSet::new(), "");
    for (key, value) in cpuinfo.lines().filter_map(|line| line.split_once(':')) {
        match key.trim() {
            "physical id" => {
                socket = value.trim();
                sockets.insert(socket);
            }
            "core id" => {
                cores.insert((socket, value.trim()));
            }
            _ => {}
        }
    }
    (cores.len(), sockets.len())
}

#[cfg(test)]
pub(super) mod tests;
