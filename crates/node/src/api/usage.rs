//! What the machine and its pods use: one pass over control groups, network namespaces and `/proc`, from which every page is
//! written. Nothing is read until somebody asks.

use std::{fs, time::Duration};

use container::cgroup::Stats;
use jiff::Timestamp;
use runtime::description::SandboxConfig;

use crate::config::{Shared, timestamp};

/// Everything, as it was at one time.
pub struct Pass {
    /// When.
    pub time: Timestamp,
    /// The machine.
    pub machine: Machine,
    /// Pods that run.
    pub pods: Vec<PodUse>,
    /// Groups that were not there any more or could not be read.
    pub failures: usize,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Processor time of all cores.
    pub cpu: Duration,
    /// Of it, in programs and in the kernel.
    pub cpu_parts: (Duration, Duration),
    /// Bytes of memory.
    pub memory: u64,
    /// Of it, available.
    pub available: u64,
    /// Bytes of memory without a file.
    pub rss: u64,
    /// Bytes of swap, and of it free.
    pub swap: (u64, u64),
    /// Page faults, and those that needed the disk.
    pub faults: (u64, u64),
    /// Links.
    pub links: Vec<Link>,
    /// Highest process number, and threads there are.
    pub processes: (u64, u64),
    /// When it was started.
    pub booted: Option<Timestamp>,
}

impl Machine {
    /// In the shape of a group that holds everything.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.cpu.usage = self.cpu;
        (stats.cpu.user, stats.cpu.system) = self.cpu_parts;
        let working = self.memory.saturating_sub(self.available);
        let memory = &mut stats.memory;
        (memory.usage, memory.working_set, memory.rss) = (working, working, self.rss);
        memory.swap = self.swap.0.saturating_sub(self.swap.1);
        (memory.page_faults, memory.major_page_faults) = self.faults;
        stats.pids.current = self.processes.1;
        stats
    }
}

/// One link of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Received: bytes, packets, errors, dropped.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped.
    pub sent: [u64; 4],
}

/// One pod.
pub struct PodUse {
    /// What its sandbox was asked to be.
    pub config: SandboxConfig,
    /// Its control group.
    pub group: String,
    /// Use of the whole group.
    pub stats: Stats,
    /// Links; none in the machine's network.
    pub links: Vec<Link>,
    /// When it was made.
    pub created: Timestamp,
    /// Containers that run.
    pub containers: Vec<ContainerUse>,
}

/// One container.
pub struct ContainerUse {
    /// Name in the pod.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its image, as it was asked for.
    pub image: String,
    /// When it was started.
    pub started: Timestamp,
    /// Use.
    pub stats: Stats,
    /// Limits: CPU shares, quota and period (microseconds), memory (bytes).
    pub limits: runtime::description::Resources,
}

/// Reads everything. Blocks the thread for some tenths of a millisecond a container.
pub fn pass(shared: &Shared) -> Pass {
    let runtime = &shared.runtime;
    let (mut pods, mut failures) = (Vec::new(), 0);
    for sandbox in runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.alive) {
        let id = &sandbox.record.id;
        let (Ok(stats), Ok(group)) = (runtime.sandbox_stats(id), runtime.sandbox_group(id)) else {
            failures += 1;
            continue;
        };
        let links = match runtime.netns(id) {
            Ok(netns) if !sandbox.record.config.host_network => {
                // `/proc/PID/ns/net` belongs to a process whose `/proc/PID/net` shows the same.
                let table = netns.parent().and_then(|ns| ns.parent()).map(|process| process.join("net/dev"));
                let text = table.and_then(|path| fs::read_to_string(path).ok());
                failures += usize::from(text.is_none());
                links(&text.unwrap_or_default())
            }
            _ => Vec::new(),
        };
        let mut containers = Vec::new();
        for record in runtime.list_containers(Some(id)) {
            let (Some(started), None) = (record.started_at, &record.exit) else { continue };
            match runtime.container_stats(&record.id) {
                Ok(stats) => containers.push(ContainerUse {
                    name: record.config.name,
                    id: record.id,
                    image: record.config.image_name,
                    started: timestamp(started),
                    stats,
                    limits: record.config.resources,
                }),
                Err(_) => failures += 1,
            }
        }
        let created = timestamp(sandbox.record.created_at);
        pods.push(PodUse { config: sandbox.record.config, group, stats, links, created, containers });
    }
    Pass { time: Timestamp::now(), machine: machine(), pods, failures }
}

/// The machine, as far as `/proc` shows it; what it does not show is zero.
fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, meminfo, vmstat) = (read("/proc/stat"), read("/proc/meminfo"), read("/proc/vmstat"));
    let kib = |key: &str| field(&meminfo, key) * 1024;
    let load = read("/proc/loadavg");
    let threads = load.split(' ').nth(3).and_then(|part| part.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    let most = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0);
    let booted = i64::try_from(field(&stat, "btime")).ok().filter(|seconds| *seconds > 0);
    Machine {
        cpu: busy(&stat),
        cpu_parts: parts(&stat),
        memory: kib("MemTotal:"),
        available: kib("MemAvailable:"),
        rss: kib("AnonPages:"),
        swap: (kib("SwapTotal:"), kib("SwapFree:")),
        faults: (field(&vmstat, "pgfault"), field(&vmstat, "pgmajfault")),
        links: links(&read("/proc/self/net/dev")),
        processes: (most, threads),
        booted: booted.and_then(|seconds| Timestamp::from_second(seconds).ok()),
    }
}

/// The number behind a key at the beginning of a line; 0 where there is none.
fn field(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key).filter(|rest| rest.starts_with([' ', '\t'])));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Time that all cores have worked, of `/proc/stat`.
fn busy(stat: &str) -> Duration {
    // In ticks, of which Linux shows programs 100 a second on every machine.
    const TICK: u64 = 10;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let ticks = fields.iter().take(8).sum::<u64>().saturating_sub(idle);
    Duration::from_millis(ticks.saturating_mul(TICK))
}

/// The same in programs and in the kernel.
fn parts(stat: &str) -> (Duration, Duration) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let sum =
        |at: &[usize]| at.iter().filter_map(|at| fields.get(*at)).fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(10));
    (time(sum(&[0, 1])), time(sum(&[2, 5, 6])))
}

/// Links of a `/proc/PID/net/dev`, but for the loopback.
fn links(text: &str) -> Vec<Link> {
    let link = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let received = numbers.get(0..4)?.try_into().ok()?;
        let sent = numbers.get(8..12)?.try_into().ok()?;
        Some(Link { name: name.trim().to_owned(), received, sent })
    };
    text.lines().filter_map(link).filter(|link| link.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_the_kernels_table() {
        let text = "Inter-|   Receive                            |  Transmit\n \
                    face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls\n    \
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0:  100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0\n";
        let wanted = Link { name: "eth0".into(), received: [100, 2, 3, 4], sent: [200, 5, 6, 7] };
        assert_eq!(links(text), [wanted]);
    }

    #[test]
    fn idle_time_is_no_work_and_keys_are_whole_words() {
        assert_eq!(busy("cpu  100 0 50 1000 50 0 0 0 0 0\ncpu0 1\n"), Duration::from_millis(1500));
        let (user, system) = parts("cpu  100 10 50 1000 50 2 3 0 0 0\n");
        assert_eq!((user, system), (Duration::from_millis(1100), Duration::from_millis(550)));
        let text = "pgfaultier 1\npgfault 2\npgmajfault 3\n";
        assert_eq!((field(text, "pgfault"), field(text, "pgmajfault"), field(text, "none")), (2, 3, 0));
    }
}
