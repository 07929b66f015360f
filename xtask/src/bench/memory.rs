//! What processes take: memory as the kernel shares it out (PSS), and time.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};

const MIB: f64 = 1024.0;
/// Kernel ticks a second, which is the same on every Linux that programs see.
const TICKS: f64 = 100.0;
/// The name under which a shim runs.
const SHIM: &str = "madang-shim";

/// A process.
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    parent: u32,
}

/// All processes.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let parent = stat[close + 2..].split(' ').nth(1)?.parse().ok()?;
        Some(Process { pid, name: stat[open + 1..close].to_owned(), parent })
    })
    .collect()
}

/// A process and those below it, without shims and what they run.
pub fn family(root: u32) -> Vec<Process> {
    let mut left: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    let mut found = Vec::new();
    for process in all() {
        if process.pid == root {
            found.push(process);
        } else {
            left.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let children = left.remove(&process.pid).unwrap_or_default();
        found.extend(children.into_iter().filter(|child| child.name != SHIM));
        next += 1;
    }
    found
}

/// The shims that log below `dir`.
pub fn shims(dir: &Path) -> Vec<Process> {
    let ours = |process: &Process| {
        process.name == SHIM
            && fs::read_link(format!("/proc/{}/fd/2", process.pid)).is_ok_and(|log| log.starts_with(dir))
    };
    all().into_iter().filter(ours).collect()
}

/// The proportional set size of some processes in MiB.
pub fn pss(processes: &[Process]) -> f64 {
    processes.iter().map(|process| kilobytes(&format!("/proc/{}/smaps_rollup", process.pid), "Pss:")).sum::<f64>() / MIB
}

/// The resident set size of some processes in MiB.
pub fn rss(processes: &[Process]) -> f64 {
    processes.iter().map(|process| kilobytes(&format!("/proc/{}/status", process.pid), "VmRSS:")).sum::<f64>() / MIB
}

fn kilobytes(path: &str, field: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0.0)
}

/// Processor time that some processes have taken, in seconds.
pub fn time(processes: &[Process]) -> f64 {
    let ticks = |process: &Process| -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    processes.iter().filter_map(ticks).sum::<f64>() / TICKS
}

/// Looks at the resident memory of some processes again and again.
pub struct Peak {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Peak {
    /// Begins to look.
    pub fn watch(processes: Vec<Process>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut peak: f64 = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(rss(&processes));
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        Self { stop, thread }
    }

    /// The most that was seen, in MiB.
    pub fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the thread that looks at memory ended")
    }
}
