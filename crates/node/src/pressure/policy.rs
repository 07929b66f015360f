//! What want of memory or disk means: which thresholds are met, which conditions the node shows, which pod goes first, and
//! which pods have written more than they may. Pure.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>

use std::time::Duration;

use api::quantity::{Format, Quantity};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements, Toleration},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::resources::{Qos, qos, units};

/// A condition that was seen stays this long.
pub const TRANSITION: Duration = Duration::from_secs(300);
/// Pods of this priority and above keep the system going; they stay.
const CRITICAL: i32 = 2_000_000_000;
/// Upstream's threshold of `memory.available`.
const LEAST_MEMORY: u64 = 100 << 20;
/// Upstream's `imagefs.available`, the stricter one: images, containers and pods share a file system here. On a large disk
/// so much is plenty, and less is enough.
const LEAST_DISK_PERCENT: u64 = 15;
/// The most that has to be available, whatever the percentage says.
const LEAST_DISK: u64 = 4 << 30;
/// Images that nobody uses go when less is available: this part of the disk, or so many bytes if that is less.
const IMAGES_PERCENT: u64 = 15;
const IMAGES_BYTES: u64 = 10 << 30;
/// And they go until this part, or so many bytes, are available.
const IMAGES_UNTIL_PERCENT: u64 = 20;
const IMAGES_UNTIL_BYTES: u64 = 15 << 30;
/// Upstream's `nodefs.inodesFree` and `imagefs.inodesFree`.
const LEAST_INODES_PERCENT: u64 = 5;

/// How much there is of something, and how much could be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Of it, available.
    pub available: u64,
    /// All.
    pub capacity: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Bytes of memory.
    pub memory: Level,
    /// Bytes of the file system of images and pods.
    pub disk: Level,
    /// Its inodes.
    pub inodes: Level,
}

/// What there can be a want of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Memory.
    Memory,
    /// Space on disk.
    Disk,
    /// Inodes.
    Inodes,
}

impl Signal {
    /// As messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }
}

/// A threshold that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Of what.
    pub signal: Signal,
    /// The threshold.
    pub threshold: u64,
    /// What is available.
    pub available: u64,
}

/// The thresholds that are met, the most urgent first. What has no capacity is not counted (some file systems make inodes
/// as they need them).
pub fn met(observed: &Observed) -> Vec<Met> {
    let of = |signal, level: Level, threshold: u64| {
        let short = level.capacity > 0 && level.available < threshold;
        short.then_some(Met { signal, threshold, available: level.available })
    };
    let percent = |level: Level, percent: u64| level.capacity / 100 * percent;
    [
        of(Signal::Memory, observed.memory, LEAST_MEMORY),
        of(Signal::Disk, observed.disk, percent(observed.disk, LEAST_DISK_PERCENT).min(LEAST_DISK)),
        of(Signal::Inodes, observed.inodes, percent(observed.inodes, LEAST_INODES_PERCENT)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The conditions of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    /// `MemoryPressure`.
    pub memory: bool,
    /// `DiskPressure`.
    pub disk: bool,
}

/// Remembers when want was last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
}

impl Memory {
    /// Takes in what is met now; the conditions that follow.
    pub fn note(&mut self, met: &[Met], now: Timestamp) -> Pressures {
        for met in met {
            match met.signal {
                Signal::Memory => self.memory = Some(now),
                Signal::Disk | Signal::Inodes => self.disk = Some(now),
            }
        }
        let lasts = |seen: Option<Timestamp>| seen.is_some_and(|seen| now < seen + TRANSITION);
        Pressures { memory: lasts(self.memory), disk: lasts(self.disk) }
    }
}

/// A pod that could go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its UID.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// What it uses.
    pub used: u64,
    /// What it has asked for.
    pub requested: u64,
    /// Containers: name, use, request.
    pub containers: Vec<(String, u64, u64)>,
}

/// The pod that goes first: one that uses more than it asked for, of the least priority, furthest above its request.
pub fn first(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().max_by_key(|candidate| {
        let above = i128::from(candidate.used) - i128::from(candidate.requested);
        (candidate.used > candidate.requested, std::cmp::Reverse(candidate.priority), above)
    })
}

/// Whether a pod is never ended for want of something.
pub fn is_critical(pod: &Pod) -> bool {
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"));
    mirror || pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0) >= CRITICAL
}

/// Why a pod was ended for want of something.
pub fn explain(met: &Met, candidate: &Candidate) -> String {
    let show = |amount: u64| if met.signal == Signal::Inodes { amount.to_string() } else { bytes(amount) };
    let resource = met.signal.resource();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        show(met.threshold),
        show(met.available)
    );
    for (name, used, requested) in candidate.containers.iter().filter(|(_, used, requested)| used > requested) {
        message.push_str(&format!(
            "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
            show(*used),
            show(*requested)
        ));
    }
    message
}

/// Bytes as the API writes them.
fn bytes(amount: u64) -> String {
    Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), Format::BinarySi).to_string()
}

/// Whether a pod may begin in spite of the node's conditions; else why not.
pub fn admits(pod: &Pod, pressures: Pressures) -> Result<(), String> {
    if pressures == Pressures::default() || is_critical(pod) {
        return Ok(());
    }
    if !pressures.disk {
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        if qos(pod) != Qos::BestEffort || tolerations.iter().any(tolerates_memory_pressure) {
            return Ok(());
        }
    }
    let names = [("MemoryPressure", pressures.memory), ("DiskPressure", pressures.disk)];
    let names: Vec<&str> = names.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    Err(format!("The node had condition: [{}]. ", names.join(" ")))
}

fn tolerates_memory_pressure(toleration: &Toleration) -> bool {
    let key = toleration.key.as_deref().unwrap_or("");
    let effect = matches!(toleration.effect.as_deref(), None | Some("" | "NoSchedule"));
    let exists = toleration.operator.as_deref() == Some("Exists");
    let named = key == "node.kubernetes.io/memory-pressure";
    // The taint has no value.
    let value = exists || toleration.value.as_deref().unwrap_or("").is_empty();
    effect && value && (named || (key.is_empty() && exists))
}

/// What one pod has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Containers: bytes in their own files and logs.
    pub containers: Vec<(String, u64)>,
    /// emptyDir volumes on disk: bytes.
    pub volumes: Vec<(String, u64)>,
}

impl Written {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.containers.iter().chain(&self.volumes).map(|(_, bytes)| bytes).sum()
    }
}

fn limit_of(resources: Option<&ResourceRequirements>) -> Option<&Text> {
    resources?.limits.as_ref()?.get("ephemeral-storage")
}

/// Whether anything limits what a pod writes, so that it has to be measured.
pub fn is_limited(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.empty_dir.as_ref());
    all.map(|container| limit_of(container.resources.as_ref())).any(|limit| limit.is_some())
        || volumes.filter(|source| on_disk(source.medium.as_deref())).any(|source| source.size_limit.is_some())
}

/// Whether a medium of an emptyDir is the disk; the others are limited by their file systems.
pub fn on_disk(medium: Option<&str>) -> bool {
    matches!(medium, None | Some(""))
}

/// Why a pod that has written so much has to go; none if it may stay.
pub fn exceeds(pod: &Pod, written: &Written) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let above = |limit: &Text, used: u64| units(Some(limit)) > 0 && used > units(Some(limit)).unsigned_abs();
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref());
        let used = written.volumes.iter().find(|(name, _)| *name == volume.name).map_or(0, |(_, bytes)| *bytes);
        if let Some(limit) = limit.filter(|limit| above(limit, used)) {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0));
        }
    }
    let mut sum = 0;
    for container in &spec.containers {
        sum += limit_of(container.resources.as_ref()).map_or(0, |limit| units(Some(limit)));
    }
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let limit = limit_of(container.resources.as_ref()).map_or(0, |limit| units(Some(limit)));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += limit;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + limit);
        }
    }
    let whole = (sum + sidecars).max(peak);
    if whole > 0 && written.total() > whole.unsigned_abs() {
        let limit = bytes(whole.unsigned_abs());
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let used = written.containers.iter().find(|(name, _)| *name == container.name).map_or(0, |(_, bytes)| *bytes);
        if let Some(limit) = limit_of(container.resources.as_ref()).filter(|limit| above(limit, used)) {
            let name = &container.name;
            return Some(format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", limit.0));
        }
    }
    None
}

/// Bytes that images may take where the disk is nearly full, so that there is room again; none where there is. `images` is
/// what they take now.
pub fn images_may_take(disk: Level, images: u64) -> Option<u64> {
    let least = (disk.capacity / 100 * IMAGES_PERCENT).min(IMAGES_BYTES);
    let until = (disk.capacity / 100 * IMAGES_UNTIL_PERCENT).min(IMAGES_UNTIL_BYTES);
    (disk.available < least).then(|| images.saturating_sub(until - disk.available))
}

#[cfg(test)]
mod tests;
