//! The node's pages for Prometheus, under upstream's names: `/metrics`, `/metrics/resource`, `/metrics/probes`,
//! `/metrics/kube-proxy` and `/metrics/coredns`.
//! <https://kubernetes.io/docs/reference/instrumentation/node-metrics/>

use container::cgroup::Stats;
use counts::{
    counter::Counts,
    page::{Number, Page},
    process,
};

use super::usage::{ContainerUse, Pass};
use crate::{config::Shared, pods::Pods, volume};

/// `/metrics`: about the node itself.
pub fn node(shared: &Shared, pods: &Pods) -> Page {
    let mut page = Page::default();
    let runtime = &shared.runtime;
    page.gauge("kubelet_node_name", &[("node", &shared.config.name)], 1);
    page.gauge("kubernetes_build_info", &[("git_version", crate::config::VERSION), ("platform", "linux")], 1);
    let mirrors = |is: bool| pods.list().iter().filter(|pod| is_static(pod) == is).count();
    page.gauge("kubelet_desired_pods", &[("static", "")], mirrors(false));
    page.gauge("kubelet_desired_pods", &[("static", "true")], mirrors(true));
    page.gauge("kubelet_mirror_pods", &[], mirrors(true));
    page.gauge("kubelet_active_pods", &[("static", "")], pods.active().len());
    page.gauge(
        "kubelet_working_pods",
        &[("config", "desired"), ("lifecycle", "sync"), ("static", "")],
        pods.list().len(),
    );
    let alive = runtime.list_sandboxes().iter().filter(|sandbox| sandbox.alive).count();
    page.gauge("kubelet_running_pods", &[], alive);
    let (mut created, mut running, mut exited) = (0, 0, 0);
    for record in runtime.list_containers(None) {
        match (record.started_at, &record.exit) {
            (_, Some(_)) => exited += 1,
            (Some(_), None) => running += 1,
            (None, None) => created += 1,
        }
    }
    for (state, count) in [("created", created), ("exited", exited), ("running", running)] {
        page.gauge("kubelet_running_containers", &[("container_state", state)], count);
    }
    page.gauge("kubelet_cgroup_version", &[], if runtime.is_cgroup_v2() { 2 } else { 1 });
    let names = ["kubelet_certificate_manager_client_ttl_seconds", "kubelet_certificate_manager_server_ttl_seconds"];
    for (name, end) in names.into_iter().zip(shared.config.certificates_end) {
        if let Some(end) = end {
            page.gauge(name, &[], end.as_second() - crate::config::now().as_second());
        }
    }
    claims(shared, pods, &mut page);
    volumes(pods, shared, &mut page);
    for prefix in ["kubelet_", "storage_", "volume_"] {
        shared.counts.write(&mut page, prefix);
    }
    for prefix in ["rest_client_", "workqueue_"] {
        Counts::process().write(&mut page, prefix);
    }
    process::write(&mut page);
    page
}

fn is_static(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|map| map.contains_key("kubernetes.io/config.mirror"))
}

/// Room in the volumes of claims.
fn claims(shared: &Shared, pods: &Pods, page: &mut Page) {
    let mut rows = Vec::new();
    for pod in pods.active() {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        for found in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(claim) = volume::claim::reference(&pod, found) else { continue };
            let path = volume::path(&shared.volumes(uid), found);
            // A volume that is not mounted yet has no room.
            let disk = path.filter(|path| volume::disk::is_mount_point(path));
            if let Some(disk) = disk.and_then(|path| rustix::fs::statvfs(path).ok()) {
                rows.push((pod.metadata.namespace.clone().unwrap_or_default(), claim.name, disk));
            }
        }
    }
    type Value = fn(&rustix::fs::StatVfs) -> u64;
    let families: [(&str, Value); 6] = [
        ("kubelet_volume_stats_capacity_bytes", |disk| disk.f_blocks * disk.f_frsize),
        ("kubelet_volume_stats_available_bytes", |disk| disk.f_bavail * disk.f_frsize),
        ("kubelet_volume_stats_used_bytes", |disk| disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize),
        ("kubelet_volume_stats_inodes", |disk| disk.f_files),
        ("kubelet_volume_stats_inodes_free", |disk| disk.f_ffree),
        ("kubelet_volume_stats_inodes_used", |disk| disk.f_files.saturating_sub(disk.f_ffree)),
    ];
    for (name, value) in families {
        for (namespace, claim, disk) in &rows {
            page.gauge(name, &[("namespace", namespace), ("persistentvolumeclaim", claim)], value(disk));
        }
    }
}

/// How many volumes pods want, and how many are there.
fn volumes(pods: &Pods, shared: &Shared, page: &mut Page) {
    let mut counts = std::collections::BTreeMap::<&str, [usize; 2]>::new();
    for pod in pods.active() {
        let place = shared.volumes(pod.metadata.uid.as_deref().unwrap_or(""));
        for found in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let entry = counts.entry(plugin(found)).or_default();
            entry[0] += 1;
            entry[1] += usize::from(volume::path(&place, found).is_some_and(|path| path.exists()));
        }
    }
    for (plugin, [wanted, there]) in counts {
        for (state, count) in [("desired_state_of_world", wanted), ("actual_state_of_world", there)] {
            page.gauge("volume_manager_total_volumes", &[("plugin_name", plugin), ("state", state)], count);
        }
    }
}

/// Which of upstream's plugins would look after a volume.
pub fn plugin(volume: &k8s_openapi::api::core::v1::Volume) -> &'static str {
    if volume.config_map.is_some() {
        "kubernetes.io/configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io/secret"
    } else if volume.projected.is_some() {
        "kubernetes.io/projected"
    } else if volume.downward_api.is_some() {
        "kubernetes.io/downward-api"
    } else if volume.empty_dir.is_some() {
        "kubernetes.io/empty-dir"
    } else if volume.host_path.is_some() {
        "kubernetes.io/host-path"
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        "kubernetes.io/local-volume"
    } else {
        "kubernetes.io/other"
    }
}

/// `/metrics/kube-proxy`: what the part counts that upstream's kube-proxy is.
pub fn proxy(shared: &Shared) -> Page {
    let mut page = Page::default();
    shared.counts.write(&mut page, "kubeproxy_");
    Counts::process().write(&mut page, "rest_client_");
    process::write(&mut page);
    page
}

/// `/metrics/coredns`: what the DNS server counts.
pub fn names() -> Page {
    let mut page = Page::default();
    dns::counted::write(&mut page);
    process::write(&mut page);
    page
}

/// `/metrics/probes`.
pub fn probes(shared: &Shared) -> Page {
    let mut page = Page::default();
    shared.counts.write(&mut page, "prober_");
    page
}

/// `/metrics/resource`: what autoscalers read.
pub fn resource(pass: &Pass) -> Page {
    let mut page = Page::default();
    let at = pass.time.as_millisecond();
    let stamped = |value: f64| format!("{} {at}", Number(value));
    type OfContainer = fn(&ContainerUse) -> f64;
    let of_containers: [(&'static str, &'static str, OfContainer); 3] = [
        ("container_cpu_usage_seconds_total", "counter", |container| container.stats.cpu.usage.as_secs_f64()),
        ("container_memory_working_set_bytes", "gauge", |container| container.stats.memory.working_set as f64),
        ("container_swap_usage_bytes", "gauge", |container| container.stats.memory.swap as f64),
    ];
    for pod in &pass.pods {
        for container in &pod.containers {
            let labels = [
                ("container", container.name.as_str()),
                ("namespace", &pod.config.namespace),
                ("pod", &pod.config.name),
            ];
            for (name, kind, value) in of_containers {
                page.family(name, kind).add(&labels, stamped(value(container)));
            }
            if let Some(limit) = container.stats.memory.swap_limit {
                page.gauge("container_swap_limit_bytes", &labels, stamped(limit as f64));
            }
            page.gauge("container_start_time_seconds", &labels, seconds(container.started));
        }
    }
    type OfPod = fn(&Stats) -> f64;
    let of_pods: [(&'static str, &'static str, OfPod); 3] = [
        ("pod_cpu_usage_seconds_total", "counter", |stats| stats.cpu.usage.as_secs_f64()),
        ("pod_memory_working_set_bytes", "gauge", |stats| stats.memory.working_set as f64),
        ("pod_swap_usage_bytes", "gauge", |stats| stats.memory.swap as f64),
    ];
    for (name, kind, value) in of_pods {
        let mut samples = page.family(name, kind);
        for pod in &pass.pods {
            let labels = [("namespace", pod.config.namespace.as_str()), ("pod", &pod.config.name)];
            samples.add(&labels, stamped(value(&pod.stats)));
        }
    }
    let machine = &pass.machine;
    page.counter("node_cpu_usage_seconds_total", &[], stamped(machine.cpu.as_secs_f64()));
    let working = machine.memory.saturating_sub(machine.available);
    page.gauge("node_memory_working_set_bytes", &[], stamped(working as f64));
    page.gauge("node_swap_usage_bytes", &[], stamped(machine.swap.0.saturating_sub(machine.swap.1) as f64));
    let failed = u8::from(pass.failures > 0);
    page.gauge("scrape_error", &[], failed);
    page.gauge("resource_scrape_error", &[], failed);
    page
}

/// Seconds since 1970, with their fraction.
pub fn seconds(time: jiff::Timestamp) -> f64 {
    std::time::Duration::try_from(time.duration_since(jiff::Timestamp::UNIX_EPOCH))
        .map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cadvisor;

    #[test]
    fn autoscalers_find_containers_pods_and_the_node_with_their_times() {
        let text = resource(&cadvisor::tests::pass()).text();
        for line in [
            "container_cpu_usage_seconds_total{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 1.5 200000",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 4096 200000",
            "container_start_time_seconds{container=\"web\",namespace=\"shop\",pod=\"shop-1\"} 100",
            "pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"shop-1\"} 1.5 200000",
            "node_memory_working_set_bytes 1048576 200000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
