//! Processors: time in each mode, frequencies, throttling, waits for a processor.
//! <https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat>,
//! <https://docs.kernel.org/admin-guide/pm/cpufreq.html>, <https://docs.kernel.org/scheduler/sched-stats.html>

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Entry, Failure, numbers},
};

/// Linux shows programs that many ticks a second on every machine.
const TICKS: f64 = 100.0;
/// Idle time that goes back by more seconds means that the processor was taken away and put back.
const JUMP: f64 = 3.0;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const GUESTS: [&str; 2] = ["user", "nice"];

/// Times as they were last told: the kernel lets some go back a little, which a counter must not.
#[derive(Debug, Default)]
pub(crate) struct Last(Mutex<BTreeMap<u64, [f64; 10]>>);

impl Last {
    /// Takes in what the kernel says now, and gives what to tell.
    fn note(&self, now: BTreeMap<u64, [f64; 10]>) -> BTreeMap<u64, [f64; 10]> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|number, _| now.contains_key(number));
        for (number, times) in now {
            let told = last.entry(number).or_insert(times);
            if told[IDLE] - times[IDLE] >= JUMP {
                *told = times;
            }
            for (told, time) in told.iter_mut().zip(times) {
                *told = told.max(time);
            }
        }
        last.clone()
    }
}

pub(crate) fn time(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let text = work.source.proc("stat")?;
    let mut now = BTreeMap::new();
    for line in text.lines() {
        let Some((number, rest)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        let mut times = [0.0; 10];
        for (time, ticks) in times.iter_mut().zip(numbers(rest)) {
            *time = ticks / TICKS;
        }
        now.insert(number, times);
    }
    for (number, times) in work.processors.note(now) {
        let number = number.to_string();
        for (mode, time) in MODES.iter().zip(times) {
            page.counter("node_cpu_seconds_total", &[("cpu", &number), ("mode", mode)], Number(time));
        }
        for (mode, time) in GUESTS.iter().zip(&times[MODES.len()..]) {
            page.counter("node_cpu_guest_seconds_total", &[("cpu", &number), ("mode", mode)], Number(*time));
        }
    }
    if let Some(list) = crate::source::text(&work.source.sys("devices/system/cpu/isolated")) {
        for number in ranges(&list) {
            page.gauge("node_cpu_isolated", &[("cpu", &number.to_string())], 1);
        }
    }
    let processors = processors(work);
    throttling(&processors, page);
    // Where the first cannot be switched off, upstream takes it that the machine does not tell.
    let known = processors.first().is_some_and(|first| first.text("online").is_some());
    for processor in processors.iter().filter(|_| known) {
        let online = processor.text("online").is_some_and(|text| text == "1");
        page.gauge("node_cpu_online", &[("cpu", &processor.name[3..])], u8::from(online));
    }
    Ok(())
}

/// Processors in `/sys`, in order of their numbers.
fn processors(work: &Work<'_>) -> Vec<Entry> {
    let mut found = work.source.sys_entries("devices/system/cpu").unwrap_or_default();
    found.retain(|entry| number_of(entry).is_some());
    found.sort_by_key(number_of);
    found
}

fn number_of(entry: &Entry) -> Option<u64> {
    entry.name.strip_prefix("cpu")?.parse().ok()
}

/// How often a core and its package were slowed down for heat; threads of a core tell the same, and one is asked.
fn throttling(processors: &[Entry], page: &mut Page) {
    let (mut cores, mut packages) = (BTreeMap::new(), BTreeMap::new());
    for processor in processors {
        let Some(package) = processor.text("topology/physical_package_id") else { continue };
        let Some(core) = processor.text("topology/core_id") else { continue };
        if let Some(count) = processor.number("thermal_throttle/core_throttle_count") {
            cores.entry((package.clone(), core)).or_insert(count);
        }
        if let Some(count) = processor.number("thermal_throttle/package_throttle_count") {
            packages.entry(package).or_insert(count);
        }
    }
    for ((package, core), count) in cores {
        page.counter("node_cpu_core_throttles_total", &[("core", &core), ("package", &package)], Number(count));
    }
    for (package, count) in packages {
        page.counter("node_cpu_package_throttles_total", &[("package", &package)], Number(count));
    }
}

/// Numbers of a list such as `1,3-5`, as the kernel writes it.
fn ranges(list: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        found.extend((first..=last).take(8192));
    }
    found
}

pub(crate) fn frequency(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    const FILES: [(&str, &str); 7] = [
        ("cpuinfo_cur_freq", "node_cpu_frequency_hertz"),
        ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz"),
        ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz"),
        ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz"),
        ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz"),
        ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz"),
        ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz"),
    ];
    for processor in processors(work) {
        let directory = Entry { path: processor.path.join("cpufreq"), name: processor.name[3..].to_owned() };
        if !directory.path.exists() {
            continue;
        }
        for (file, name) in FILES {
            if let Some(kilohertz) = directory.number(file) {
                page.gauge(name, &[("cpu", &directory.name)], Number(kilohertz * 1000.0));
            }
        }
        let Some(governor) = directory.text("scaling_governor").filter(|governor| !governor.is_empty()) else {
            continue;
        };
        let available = directory.text("scaling_available_governors").unwrap_or_default();
        for other in available.split(' ') {
            let labels = [("cpu", directory.name.as_str()), ("governor", other)];
            page.gauge("node_cpu_scaling_governor", &labels, u8::from(other == governor));
        }
    }
    Ok(())
}

pub(crate) fn schedule(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    for line in work.source.proc("schedstat")?.lines() {
        let Some((number, rest)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else { continue };
        let fields = numbers(rest);
        let [running, waiting, slices] = fields.get(6..9).and_then(|part| part.try_into().ok()).unwrap_or_default();
        let labels = [("cpu", number)];
        page.counter("node_schedstat_running_seconds_total", &labels, Number(running / 1e9));
        page.counter("node_schedstat_waiting_seconds_total", &labels, Number(waiting / 1e9));
        page.counter("node_schedstat_timeslices_total", &labels, Number(slices));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_but_when_a_processor_was_away() {
        let last = Last::default();
        let of = |idle: f64, user: f64| {
            let mut times = [0.0; 10];
            (times[IDLE], times[0]) = (idle, user);
            BTreeMap::from([(0, times)])
        };
        last.note(of(100.0, 50.0));
        let told = last.note(of(99.0, 51.0))[&0];
        assert_eq!((told[IDLE], told[0]), (100.0, 51.0));
        let told = last.note(of(2.0, 1.0))[&0];
        assert_eq!((told[IDLE], told[0]), (2.0, 1.0));
        assert!(last.note(BTreeMap::new()).is_empty());
    }

    #[test]
    fn lists_are_ranges_and_hostile_ones_end() {
        assert_eq!(ranges("1,3-5\n"), [1, 3, 4, 5]);
        assert!(ranges("").is_empty() && ranges("x,-,5-3").is_empty());
        assert_eq!(ranges("0-4294967295").len(), 8192);
    }
}
