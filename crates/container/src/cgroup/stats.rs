//! What a group has used, in one shape for both versions.

use std::{fs, path::Path as FilePath, time::Duration};

use super::{Error, Path, Version};

/// What a group has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices, those that were used.
    pub io: Vec<Device>,
    /// For how long processes had to wait, where the kernel counts it.
    pub pressure: Option<Pressure>,
}

/// For how long processes had to wait since the group was made. <https://docs.kernel.org/accounting/psi.html>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Waits,
    /// For memory.
    pub memory: Waits,
    /// For a disk.
    pub io: Waits,
}

/// Waits for one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Some waited.
    pub some: Duration,
    /// All waited, so that nothing was done.
    pub full: Duration,
}

/// Processor time since the group was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub usage: Duration,
    /// In programs.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// Enforcement periods that have passed.
    pub periods: u64,
    /// Those in which the group was held back.
    pub throttled_periods: u64,
    /// For how long it was held back.
    pub throttled: Duration,
    /// Periods in which it used what it had saved.
    pub burst_periods: u64,
    /// For how long it used what it had saved.
    pub burst: Duration,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it, page cache included.
    pub usage: u64,
    /// What cannot easily be given back: usage less inactive page cache.
    pub working_set: u64,
    /// The limit.
    pub limit: Option<u64>,
    /// Highest usage so far, where the kernel counts it.
    pub max_usage: u64,
    /// Memory without a file.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// Swap.
    pub swap: u64,
    /// The limit of swap.
    pub swap_limit: Option<u64>,
    /// Page faults, those of groups below counted in.
    pub page_faults: u64,
    /// Those that needed the disk.
    pub major_page_faults: u64,
    /// Page faults of this group's own processes.
    pub own_page_faults: u64,
    /// Those that needed the disk.
    pub own_major_page_faults: u64,
    /// What the kernel holds for the group.
    pub kernel: u64,
    /// Page cache that was used of late.
    pub active_file: u64,
    /// Page cache that was not.
    pub inactive_file: u64,
    /// Page cache that must be written before it can be given back.
    pub dirty: u64,
    /// Page cache that is being written.
    pub writeback: u64,
    /// Pages looked at to be given back.
    pub scanned: u64,
    /// Pages given back.
    pub stolen: u64,
    /// Pages with a file that had to be read again soon after they were given back.
    pub refaults_file: u64,
    /// Pages without a file that had to be.
    pub refaults_anonymous: u64,
    /// How often the group was slowed down for using more than its high mark.
    pub high_events: u64,
    /// How often usage met the limit.
    pub failures: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// The limit.
    pub limit: Option<u64>,
    /// Process ids, those of groups below counted in.
    pub processes: Vec<i32>,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes.
    pub read_bytes: u64,
    /// Bytes.
    pub written_bytes: u64,
    /// Requests.
    pub reads: u64,
    /// Requests.
    pub writes: u64,
}

pub fn read(version: &Version, path: &Path) -> Result<Stats, Error> {
    if !version.main_directory(path).is_some_and(|directory| directory.is_dir()) {
        return Err(Error::Machine(format!("control group {path} does not exist")));
    }
    Ok(match version {
        Version::V1(_) => v1(version, path),
        Version::V2(mount) => v2(&mount.join(path.as_str())),
    })
}

pub fn oom_kills(version: &Version, path: &Path) -> u64 {
    let Some(directory) = version.directory_of("memory", path) else { return 0 };
    let file = if version.is_v2() { "memory.events" } else { "memory.oom_control" };
    Table::read(&directory, file).get("oom_kill")
}

fn v1(version: &Version, path: &Path) -> Stats {
    let directory = |controller| version.directory_of(controller, path).unwrap_or_default();
    let (cpu, cpuacct, memory) = (directory("cpu"), directory("cpuacct"), directory("memory"));
    let throttling = Table::read(&cpu, "cpu.stat");
    let times = Table::read(&cpuacct, "cpuacct.stat");
    // In ticks, of which Linux shows programs 100 a second on every machine.
    let ticks = |ticks: u64| Duration::from_millis(ticks.saturating_mul(10));
    let details = Table::read(&memory, "memory.stat");
    let usage = number(&memory, "memory.usage_in_bytes");
    let total = |name: &str| details.get(&format!("total_{name}"));
    let limit = |file| Some(number(&memory, file)).filter(|&limit| limit != 0 && limit < 1 << 62);
    let both = number(&memory, "memory.memsw.usage_in_bytes");
    let pids = directory("pids");
    Stats {
        cpu: Cpu {
            usage: Duration::from_nanos(number(&cpuacct, "cpuacct.usage")),
            user: ticks(times.get("user")),
            system: ticks(times.get("system")),
            periods: throttling.get("nr_periods"),
            throttled_periods: throttling.get("nr_throttled"),
            throttled: Duration::from_nanos(throttling.get("throttled_time")),
            burst_periods: throttling.get("nr_bursts"),
            burst: Duration::from_nanos(throttling.get("burst_time")),
        },
        memory: Memory {
            usage,
            working_set: usage.saturating_sub(total("inactive_file")),
            limit: limit("memory.limit_in_bytes"),
            max_usage: number(&memory, "memory.max_usage_in_bytes"),
            rss: total("rss"),
            cache: total("cache"),
            mapped_file: total("mapped_file"),
            swap: both.saturating_sub(usage),
            swap_limit: limit("memory.memsw.limit_in_bytes"),
            page_faults: total("pgfault"),
            major_page_faults: total("pgmajfault"),
            own_page_faults: details.get("pgfault"),
            own_major_page_faults: details.get("pgmajfault"),
            kernel: number(&memory, "memory.kmem.usage_in_bytes"),
            active_file: total("active_file"),
            inactive_file: total("inactive_file"),
            dirty: total("dirty"),
            writeback: total("writeback"),
            scanned: 0,
            stolen: 0,
            refaults_file: total("workingset_refault_file"),
            refaults_anonymous: total("workingset_refault_anon"),
            high_events: 0,
            failures: number(&memory, "memory.failcnt"),
            oom_kills: oom_kills(version, path),
        },
        pids: Pids {
            current: number(&pids, "pids.current"),
            limit: maximum(&pids, "pids.max"),
            processes: processes(&memory),
        },
        io: v1_io(&directory("blkio")),
        // Version 1 does not count it.
        pressure: None,
    }
}

fn v1_io(directory: &FilePath) -> Vec<Device> {
    let mut devices = Vec::<Device>::new();
    for (file, bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        let Ok(text) = fs::read_to_string(directory.join(file)) else { continue };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some((major, minor)), Some(what), Some(Ok(value))) =
                (words.next().and_then(numbers), words.next(), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            let index = devices.iter().position(|device| (device.major, device.minor) == (major, minor));
            let index = index.unwrap_or_else(|| {
                devices.push(Device { major, minor, ..Device::default() });
                devices.len() - 1
            });
            let device = &mut devices[index];
            match (what, bytes) {
                ("Read", true) => device.read_bytes = value,
                ("Write", true) => device.written_bytes = value,
                ("Read", false) => device.reads = value,
                ("Write", false) => device.writes = value,
                _ => {}
            }
        }
    }
    devices
}

fn v2(directory: &FilePath) -> Stats {
    let cpu = Table::read(directory, "cpu.stat");
    let details = Table::read(directory, "memory.stat");
    let events = Table::read(directory, "memory.events");
    let usage = number(directory, "memory.current");
    let micros = |name| Duration::from_micros(cpu.get(name));
    Stats {
        cpu: Cpu {
            usage: micros("usage_usec"),
            user: micros("user_usec"),
            system: micros("system_usec"),
            periods: cpu.get("nr_periods"),
            throttled_periods: cpu.get("nr_throttled"),
            throttled: micros("throttled_usec"),
            burst_periods: cpu.get("nr_bursts"),
            burst: micros("burst_usec"),
        },
        memory: Memory {
            usage,
            working_set: usage.saturating_sub(details.get("inactive_file")),
            limit: maximum(directory, "memory.max"),
            max_usage: number(directory, "memory.peak"),
            rss: details.get("anon"),
            cache: details.get("file"),
            mapped_file: details.get("file_mapped"),
            swap: number(directory, "memory.swap.current"),
            swap_limit: maximum(directory, "memory.swap.max"),
            page_faults: details.get("pgfault"),
            major_page_faults: details.get("pgmajfault"),
            own_page_faults: details.get("pgfault"),
            own_major_page_faults: details.get("pgmajfault"),
            kernel: details.get("kernel"),
            active_file: details.get("active_file"),
            inactive_file: details.get("inactive_file"),
            dirty: details.get("file_dirty"),
            writeback: details.get("file_writeback"),
            scanned: details.get("pgscan"),
            stolen: details.get("pgsteal"),
            refaults_file: details.get("workingset_refault_file"),
            refaults_anonymous: details.get("workingset_refault_anon"),
            high_events: events.get("high"),
            failures: events.get("max"),
            oom_kills: events.get("oom_kill"),
        },
        pids: Pids {
            current: number(directory, "pids.current"),
            limit: maximum(directory, "pids.max"),
            processes: processes(directory),
        },
        io: v2_io(directory),
        pressure: pressure(directory),
    }
}

fn processes(directory: &FilePath) -> Vec<i32> {
    let mut found = Vec::new();
    super::collect(directory, &mut found);
    found
}

/// Version 2: absent where the kernel was built or started without.
fn pressure(directory: &FilePath) -> Option<Pressure> {
    let waits = |file: &str| Some(waits(&fs::read_to_string(directory.join(file)).ok()?));
    Some(Pressure { cpu: waits("cpu.pressure")?, memory: waits("memory.pressure")?, io: waits("io.pressure")? })
}

fn waits(text: &str) -> Waits {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let micros = line.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()?;
        Some(Duration::from_micros(micros))
    };
    Waits { some: total("some").unwrap_or_default(), full: total("full").unwrap_or_default() }
}

fn v2_io(directory: &FilePath) -> Vec<Device> {
    let text = fs::read_to_string(directory.join("io.stat")).unwrap_or_default();
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next().and_then(numbers)?;
        let mut device = Device { major, minor, ..Device::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match name {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.written_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().filter_map(device).collect()
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number(directory: &FilePath, file: &str) -> u64 {
    fs::read_to_string(directory.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn maximum(directory: &FilePath, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// Lines of a name and a number.
struct Table(String);

impl Table {
    fn read(directory: &FilePath, file: &str) -> Self {
        Self(fs::read_to_string(directory.join(file)).unwrap_or_default())
    }

    fn get(&self, name: &str) -> u64 {
        let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(line).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_the_totals_of_both_lines() {
        let text =
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=20\n";
        assert_eq!(waits(text), Waits { some: Duration::from_millis(1500), full: Duration::from_micros(20) });
        for text in ["", "some total=x\n", "something total=1\n", "full\n"] {
            assert_eq!(waits(text), Waits::default(), "{text}");
        }
    }
}
