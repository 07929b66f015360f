//! Want of memory or disk: noticed, shown in the node's conditions, and ended by making room.
//!
//! ```text
//! every 10 s ─ meminfo, statvfs ─┬─ disk nearly full ─▶ images that nobody uses go
//!                                ├─ threshold met ─▶ condition; the pod that goes first is evicted
//!                                └─ pods with limits on what they write ─ measured ─▶ evicted above them
//! ```
//!
//! Files of pods are counted only where a limit asks for it, or when the disk is short. Taints for the conditions are set by
//! controllers. In reading order: [`policy`], and here what it looks at.

pub mod policy;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use image::image::Usage;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::{
    config::{Shared, now},
    pods::Pods,
    resources, volume,
};
use policy::{Candidate, Level, Met, Observed, Pressures, Signal, Written};

/// How often memory and disk are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Images are removed at most so often, unless the disk is short.
const IMAGES: Duration = Duration::from_secs(300);
/// Images that were used within this time are kept: a pod may be about to start from one.
const IMAGE_AGE: Duration = Duration::from_secs(120);
/// A pod that is evicted for want of something gets this to end.
const GRACE: Duration = Duration::from_secs(1);

/// Looks after the room on one node.
pub struct Warden {
    shared: Shared,
    pods: Pods,
    memory: policy::Memory,
    collected: Option<Instant>,
}

impl Warden {
    /// A warden of `shared`'s node.
    pub fn new(shared: &Shared, pods: &Pods) -> Self {
        Self { shared: shared.clone(), pods: pods.clone(), memory: policy::Memory::default(), collected: None }
    }

    /// Looks until the node's task ends.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look().await {
                tracing::warn!(error = format!("{error:#}"), "look at memory and disk");
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let mut observed = observe(&self.shared)?;
        let urgent = |observed: &Observed| policy::met(observed).iter().any(|met| met.signal != Signal::Memory);
        if self.collect_images(observed.disk, urgent(&observed)).await {
            observed = observe(&self.shared)?;
        }
        let met = policy::met(&observed);
        let pressures = self.memory.note(&met, now());
        show(&self.shared.pressures, pressures);
        // One at a time: what it leaves may be enough.
        let evicted = match met.first() {
            Some(met) => self.make_room(met).await,
            None => false,
        };
        if !evicted {
            self.check_limits().await;
        }
        Ok(())
    }

    /// Removes images where the disk is nearly full, all that can go where it is too full; whether it did.
    async fn collect_images(&mut self, disk: Level, urgent: bool) -> bool {
        if self.collected.is_some_and(|last| !urgent && last.elapsed() < IMAGES) {
            return false;
        }
        let store = self.shared.runtime.images();
        let work = async {
            let usage = store.usage().await?;
            let Some(limit) = policy::images_may_take(disk, usage.bytes) else { return Ok(None) };
            let limit = if urgent { 0 } else { limit };
            anyhow::Ok(Some(store.collect_garbage(limit, IMAGE_AGE).await?))
        };
        match work.await {
            Ok(None) => false,
            Ok(Some(removed)) => {
                self.collected = Some(Instant::now());
                if removed.bytes > 0 {
                    tracing::info!(bytes = removed.bytes, images = removed.deleted.len(), "removed unused images");
                }
                true
            }
            Err(error) => {
                self.collected = Some(Instant::now());
                let message = format!("failed to garbage collect images: {error:#}");
                self.shared.recorder.node(true, "ImageGCFailed", message);
                false
            }
        }
    }

    /// Evicts the pod that goes first; whether there was one.
    async fn make_room(&self, met: &Met) -> bool {
        let mut candidates = Vec::new();
        for pod in self.pods.active() {
            if policy::is_critical(&pod) {
                continue;
            }
            candidates.push(match met.signal {
                Signal::Memory => self.memory_of(&pod),
                Signal::Disk | Signal::Inodes => self.disk_of(&pod).await,
            });
        }
        let Some(first) = policy::first(&candidates) else { return false };
        let message = policy::explain(met, first);
        tracing::warn!(uid = first.uid, message, "evict a pod");
        self.shared.recorder.node(
            true,
            "EvictionThresholdMet",
            format!("Attempting to reclaim {}", met.signal.resource()),
        );
        let signal = match met.signal {
            Signal::Memory => "memory.available",
            Signal::Disk => "nodefs.available",
            Signal::Inodes => "nodefs.inodesFree",
        };
        self.shared.counts.add("kubelet_evictions", &[("eviction_signal", signal)]);
        self.pods.evict(&first.uid, message, true, GRACE);
        true
    }

    /// Evicts pods that have written more than they may.
    async fn check_limits(&self) {
        for pod in self.pods.active().into_iter().filter(|pod| policy::is_limited(pod)) {
            let written = self.written(&pod).await;
            if let Some(message) = policy::exceeds(&pod, &written) {
                let uid = pod.metadata.uid.as_deref().unwrap_or("");
                tracing::info!(uid, message, "evict a pod");
                let signal = [("eviction_signal", "ephemeral-storage-limit")];
                self.shared.counts.add("kubelet_evictions", &signal);
                self.pods.evict(uid, message, false, GRACE);
            }
        }
    }

    fn memory_of(&self, pod: &Pod) -> Candidate {
        let runtime = &self.shared.runtime;
        let requests = pod.spec.as_ref().map(resources::pod_requests).unwrap_or_default();
        let requested = |container: &str| {
            let spec = crate::pod::state::container_spec(pod, container).map(|spec| spec.to_container());
            spec.map_or(0, |spec| resources::requests(spec.resources.as_ref()).memory)
        };
        let sandbox = self.pods.sandbox(pod);
        // What cannot be read has just gone, and uses nothing.
        let used = sandbox.as_ref().and_then(|id| runtime.sandbox_stats(id).ok());
        let containers = runtime.list_containers(sandbox.as_deref().or(Some("")));
        let containers = containers.into_iter().filter(|record| record.exit.is_none()).filter_map(|record| {
            let stats = runtime.container_stats(&record.id).ok()?;
            let name = record.config.name;
            let request = requested(&name);
            Some((name, stats.memory.working_set, request.max(0).unsigned_abs()))
        });
        Candidate {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            used: used.map_or(0, |stats| stats.memory.working_set),
            requested: requests.memory.max(0).unsigned_abs(),
            containers: containers.collect(),
        }
    }

    async fn disk_of(&self, pod: &Pod) -> Candidate {
        let written = self.written(pod).await;
        let request = |name: &str| {
            let spec = crate::pod::state::container_spec(pod, name)?.to_container();
            let quantity = spec.resources?.requests?.get("ephemeral-storage").cloned();
            Some(resources::units(quantity.as_ref()).max(0).unsigned_abs())
        };
        let containers: Vec<(String, u64, u64)> =
            written.containers.iter().map(|(name, used)| (name.clone(), *used, request(name).unwrap_or(0))).collect();
        Candidate {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            used: written.total(),
            requested: containers.iter().map(|(_, _, requested)| requested).sum(),
            containers,
        }
    }

    async fn written(&self, pod: &Pod) -> Written {
        written(&self.shared, pod).await
    }
}

/// What a pod has written: files of its containers, their logs, and its emptyDir volumes on disk.
pub async fn written(shared: &Shared, pod: &Pod) -> Written {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let (runtime, place) = (&shared.runtime, shared.volumes(&uid));
    let sandboxes = runtime.list_sandboxes().into_iter().filter(|sandbox| sandbox.record.config.uid == uid);
    let records: Vec<_> = sandboxes.flat_map(|sandbox| runtime.list_containers(Some(&sandbox.record.id))).collect();
    let mut containers: Vec<(String, u64)> = Vec::new();
    for record in records {
        // A snapshot that is not there any more takes no room.
        let own = runtime.images().snapshot_usage(&record.id).await.map_or(0, |usage| usage.bytes);
        match containers.iter_mut().find(|(name, _)| *name == record.config.name) {
            Some((_, bytes)) => *bytes += own,
            None => containers.push((record.config.name, own)),
        }
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
    let counted = tokio::task::spawn_blocking(move || {
        for (name, bytes) in &mut containers {
            *bytes += Usage::below(&place.dir.join("logs").join(name)).bytes;
        }
        let on_disk = volumes
            .iter()
            .filter(|volume| volume.empty_dir.as_ref().is_some_and(|source| policy::on_disk(source.medium.as_deref())));
        let volumes = on_disk.filter_map(|found| Some((found.name.clone(), volume::path(&place, found)?)));
        let volumes = volumes.map(|(name, path)| (name, Usage::below(&path).bytes)).collect();
        Written { containers, volumes }
    });
    counted.await.unwrap_or_else(|error| {
        tracing::warn!(uid, %error, "count what a pod has written");
        Written::default()
    })
}

/// Shows conditions where they have changed.
fn show(shown: &watch::Sender<Pressures>, pressures: Pressures) {
    shown.send_if_modified(|present| std::mem::replace(present, pressures) != pressures);
}

/// Bytes that are used or available: what is reserved for others is not there for pods.
fn reachable(disk: &rustix::fs::StatVfs) -> u64 {
    (disk.f_blocks.saturating_sub(disk.f_bfree) + disk.f_bavail) * disk.f_frsize
}

/// Memory and disk as they are now.
pub fn observe(shared: &Shared) -> Result<Observed> {
    let capacity = u64::try_from(shared.memory).unwrap_or(0);
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let available: u64 = line.trim().trim_end_matches("kB").trim().parse().context("read MemAvailable")?;
    let dir = &shared.config.pods_dir;
    let disk = rustix::fs::statvfs(dir).with_context(|| format!("look at {}", dir.display()))?;
    Ok(Observed {
        memory: Level { available: available * 1024, capacity },
        disk: Level { available: disk.f_bavail * disk.f_frsize, capacity: reachable(&disk) },
        inodes: Level { available: disk.f_ffree, capacity: disk.f_files },
    })
}
