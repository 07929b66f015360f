//! This process, under the names that every client library of Prometheus gives these figures.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use std::{fs, time::Duration};

use crate::page::{Number, Page};

/// Linux shows programs that many ticks a second on every machine.
const TICKS: u64 = 100;

/// Writes what the kernel says of this process. What it does not say is left out.
pub fn write(page: &mut Page) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (status, stat) = (read("/proc/self/status"), read("/proc/self/stat"));
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    if let Some(bytes) = kib("VmRSS:") {
        page.gauge("process_resident_memory_bytes", &[], bytes);
    }
    if let Some(bytes) = kib("VmSize:") {
        page.gauge("process_virtual_memory_bytes", &[], bytes);
    }
    let limits = read("/proc/self/limits");
    if let Some(limit) = soft_limit(&limits, "Max address space") {
        page.gauge("process_virtual_memory_max_bytes", &[], Number(limit));
    }
    if let Some(limit) = soft_limit(&limits, "Max open files") {
        page.gauge("process_max_fds", &[], Number(limit));
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is this directory's.
        page.gauge("process_open_fds", &[], files.count().saturating_sub(1));
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
    page.counter("process_cpu_seconds_total", &[], used.as_secs_f64());
    if let (Some(ticks), Some(boot)) = (started(&stat), boot(&read("/proc/stat"))) {
        page.gauge("process_start_time_seconds", &[], Number(boot as f64 + ticks as f64 / TICKS as f64));
    }
    if let Some((received, sent)) = network(&read("/proc/self/net/netstat")) {
        page.counter("process_network_receive_bytes_total", &[], received);
        page.counter("process_network_transmit_bytes_total", &[], sent);
    }
}

/// The soft limit of a line of `/proc/self/limits`; as upstream, -1 stands for none.
fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(-1.0),
        number => number.parse().ok(),
    }
}

/// Ticks between the machine's start and this process' one: the 22nd field. The second is a name in brackets, which may hold
/// anything.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn boot(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes received and sent in this process' network.
fn network(netstat: &str) -> Option<(u64, u64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(at)?.parse().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_called_strangely_still_has_a_start() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        assert_eq!(started(&format!("7 (a) b) (c) {}", fields.join(" "))), Some(22));
        assert_eq!((started(""), started("7 (a")), (None, None));
    }

    #[test]
    fn no_limit_is_less_than_none() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n\
                    Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(soft_limit(text, "Max open files"), Some(1024.0));
        assert_eq!(soft_limit(text, "Max address space"), Some(-1.0));
        assert_eq!(soft_limit(text, "Max locked memory"), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.text();
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
        ] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}\n{text}");
        }
    }

    #[test]
    fn bytes_of_the_network_are_found_by_their_names() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 7 9\n";
        assert_eq!(network(text), Some((7, 9)));
        assert_eq!(network("IpExt: InOctets\n"), None);
    }
}
