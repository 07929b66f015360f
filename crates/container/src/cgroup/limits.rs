//! From the limits of a runtime specification to control files and what is written to them.
//!
//! | specification | version 1 | version 2 |
//! |---|---|---|
//! | `memory.limit` | `memory.limit_in_bytes` | `memory.max` |
//! | `memory.swap` (memory and swap) | `memory.memsw.limit_in_bytes` | `memory.swap.max` (swap alone) |
//! | `memory.reservation` | `memory.soft_limit_in_bytes` | `memory.low` |
//! | `cpu.shares` (2 to 262144) | `cpu.shares` | `cpu.weight` (1 to 10000) |
//! | `cpu.quota`, `cpu.period` | `cpu.cfs_quota_us`, `cpu.cfs_period_us` | `cpu.max` |
//! | `pids.limit` | `pids.max` | `pids.max` |
//! | `unified` | refused | as it stands |

use std::path::Path as FilePath;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{Error, Path, Version, directory_text};
use crate::plan::Write;

/// What is written, in order, to limit the group.
pub fn writes(version: &Version, path: &Path, resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut files = Files { version, path, writes: Vec::new() };
    match version {
        Version::V1(_) => v1(&mut files, resources)?,
        Version::V2(_) => v2(&mut files, resources)?,
    }
    Ok(files.writes)
}

struct Files<'a> {
    version: &'a Version,
    path: &'a Path,
    writes: Vec<Write>,
}

impl Files<'_> {
    fn push(&mut self, name: &str, value: impl ToString, optional: bool) -> Result<(), Error> {
        let controller = name.split('.').next().unwrap_or_default();
        let controller = if controller == "io" { "blkio" } else { controller };
        match self.version.directory_of(controller, self.path) {
            Some(directory) => {
                let file = directory_text(&directory.join(name))?;
                self.writes.push(Write { file, value: value.to_string(), optional });
                Ok(())
            }
            None if optional => Ok(()),
            None => Err(Error::Machine(format!("this machine has no control group hierarchy for {name}"))),
        }
    }

    fn set(&mut self, name: &str, value: impl ToString) -> Result<(), Error> {
        self.push(name, value, false)
    }

    fn attempt(&mut self, name: &str, value: impl ToString) -> Result<(), Error> {
        self.push(name, value, true)
    }
}

/// A limit where -1 means none.
fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn v1(files: &mut Files<'_>, resources: &LinuxResources) -> Result<(), Error> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(Error::Limit("unified resources need cgroup v2, and this machine has v1".into()));
    }
    if let Some(memory) = resources.memory() {
        v1_memory(files, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        v1_cpu(files, cpu)?;
    }
    // 0 is what a specification without a limit says in some versions of it.
    if let Some(limit) = resources.pids().map(|pids| pids.limit()).filter(|&limit| limit != 0) {
        files.set("pids.max", or_max(limit))?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let size = page_size(huge.page_size())?;
        files.attempt(&format!("hugetlb.{size}.rsvd.limit_in_bytes"), huge.limit())?;
        files.set(&format!("hugetlb.{size}.limit_in_bytes"), huge.limit())?;
    }
    if let Some(io) = resources.block_io() {
        v1_io(files, io)?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            files.set("net_cls.classid", class)?;
        }
        for priority in network.priorities().iter().flatten() {
            files.set("net_prio.ifpriomap", format!("{} {}", priority.name(), priority.priority()))?;
        }
    }
    Ok(())
}

fn v1_memory(files: &mut Files<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    // Memory may never exceed memory and swap: growing wants the one first, shrinking the other. Whichever is wrong
    // fails and is made good afterwards.
    if let (Some(swap), Some(_)) = (memory.swap(), memory.limit()) {
        files.attempt("memory.memsw.limit_in_bytes", swap)?;
    }
    if let Some(limit) = memory.limit() {
        files.set("memory.limit_in_bytes", limit)?;
    }
    if let Some(swap) = memory.swap() {
        // Where swap is not accounted there is none to limit.
        files.attempt("memory.memsw.limit_in_bytes", swap)?;
    }
    if let Some(reservation) = memory.reservation() {
        files.set("memory.soft_limit_in_bytes", reservation)?;
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Error::Limit(format!("memory swappiness {swappiness} is over 100")));
        }
        files.set("memory.swappiness", swappiness)?;
    }
    if memory.disable_oom_killer() == Some(true) {
        files.set("memory.oom_control", 1)?;
    }
    Ok(())
}

fn v1_cpu(files: &mut Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
        files.set("cpu.shares", shares)?;
    }
    if let Some(period) = cpu.period().filter(|&period| period != 0) {
        files.set("cpu.cfs_period_us", period)?;
    }
    if let Some(quota) = cpu.quota().filter(|&quota| quota != 0) {
        files.set("cpu.cfs_quota_us", quota)?;
    }
    if let Some(burst) = cpu.burst() {
        files.set("cpu.cfs_burst_us", burst)?;
    }
    if let Some(period) = cpu.realtime_period().filter(|&period| period != 0) {
        files.set("cpu.rt_period_us", period)?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|&runtime| runtime != 0) {
        files.set("cpu.rt_runtime_us", runtime)?;
    }
    if let Some(idle) = cpu.idle() {
        files.set("cpu.idle", idle)?;
    }
    cpuset(files, cpu)
}

fn cpuset(files: &mut Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            files.set(name, value)?;
        }
    }
    Ok(())
}

fn v1_io(files: &mut Files<'_>, io: &LinuxBlockIo) -> Result<(), Error> {
    if let Some(weight) = io.weight().filter(|&weight| weight != 0) {
        files.attempt("blkio.weight", weight)?;
        files.attempt("blkio.bfq.weight", weight)?;
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            files.attempt("blkio.weight_device", &value)?;
            files.attempt("blkio.bfq.weight_device", &value)?;
        }
    }
    let limits = [
        ("blkio.throttle.read_bps_device", io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", io.throttle_write_iops_device()),
    ];
    for (name, devices) in limits {
        for device in devices.iter().flatten() {
            files.set(name, format!("{}:{} {}", device.major(), device.minor(), device.rate()))?;
        }
    }
    Ok(())
}

fn v2(files: &mut Files<'_>, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        v2_memory(files, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        v2_cpu(files, cpu)?;
    }
    if let Some(limit) = resources.pids().map(|pids| pids.limit()).filter(|&limit| limit != 0) {
        files.set("pids.max", or_max(limit))?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let size = page_size(huge.page_size())?;
        files.attempt(&format!("hugetlb.{size}.rsvd.max"), or_max(huge.limit()))?;
        files.set(&format!("hugetlb.{size}.max"), or_max(huge.limit()))?;
    }
    if let Some(io) = resources.block_io() {
        v2_io(files, io)?;
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let mut value = device.clone();
        if let Some(handles) = limit.hca_handles() {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limit.hca_objects() {
            value += &format!(" hca_object={objects}");
        }
        files.set("rdma.max", value)?;
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (name, value) in unified {
        if name.contains('/') || !name.contains('.') {
            return Err(Error::Limit(format!("{name:?} is not a control file")));
        }
        // Several lines are several settings, and the kernel takes one a write.
        for line in value.lines() {
            files.set(name, line)?;
        }
    }
    Ok(())
}

fn v2_memory(files: &mut Files<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    if let Some(swap) = memory.swap() {
        let alone = match (swap, memory.limit()) {
            (..0, _) => "max".to_owned(),
            (swap, Some(limit)) if limit >= 0 && swap >= limit => (swap - limit).to_string(),
            (0, _) => "0".into(),
            (swap, _) => return Err(Error::Limit(format!("memory and swap {swap} is less than the memory limit"))),
        };
        files.attempt("memory.swap.max", alone)?;
    }
    if let Some(limit) = memory.limit() {
        files.set("memory.max", or_max(limit))?;
    }
    if let Some(reservation) = memory.reservation() {
        files.set("memory.low", or_max(reservation))?;
    }
    Ok(())
}

fn v2_cpu(files: &mut Files<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle() {
        files.set("cpu.idle", idle)?;
    }
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0)
        && cpu.idle() != Some(1)
    {
        files.set("cpu.weight", weight(shares))?;
    }
    let period = cpu.period().filter(|&period| period != 0);
    match (cpu.quota().filter(|&quota| quota != 0), period) {
        (None, None) => {}
        (quota, period) => {
            let quota = quota.map_or("max".into(), or_max);
            files.set("cpu.max", format!("{quota} {}", period.unwrap_or(100_000)))?;
        }
    }
    if let Some(burst) = cpu.burst() {
        files.set("cpu.max.burst", burst)?;
    }
    cpuset(files, cpu)
}

fn v2_io(files: &mut Files<'_>, io: &LinuxBlockIo) -> Result<(), Error> {
    if let Some(weight) = io.weight().filter(|&weight| weight != 0) {
        files.attempt("io.bfq.weight", weight)?;
        files.attempt("io.weight", 1 + (u64::from(weight).max(10) - 10) * 9999 / 990)?;
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            files.attempt("io.bfq.weight", format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    let mut limit = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| -> Result<(), Error> {
        for device in devices.iter().flatten() {
            files.set("io.max", format!("{}:{} {key}={}", device.major(), device.minor(), device.rate()))?;
        }
        Ok(())
    };
    limit("rbps", io.throttle_read_bps_device())?;
    limit("wbps", io.throttle_write_bps_device())?;
    limit("riops", io.throttle_read_iops_device())?;
    limit("wiops", io.throttle_write_iops_device())
}

/// Version 2's weight of a number of shares, such that 1024 shares, the one default, are 100, the other.
/// Formula as OCI runtimes have it since 2025: a curve through (2, 1), (1024, 100) and (262144, 10000).
pub fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

fn page_size(name: &str) -> Result<&str, Error> {
    let digits = name.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let unit = &name[digits.len()..];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(unit, "KB" | "MB" | "GB") {
        return Err(Error::Limit(format!("{name:?} is not a huge page size")));
    }
    Ok(name)
}

/// Makes a write's file relative, for tests and messages.
pub fn short(write: &Write) -> (&str, &str) {
    let name = FilePath::new(&write.file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (name, &write.value)
}
