//! The node's own object: registered at the start, its status written when it changes (and rarely otherwise), its Lease
//! renewed every ten seconds. <https://kubernetes.io/docs/concepts/architecture/nodes/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use client::cache::{Cache, Scope};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeCondition},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    config::{Config, Shared, VERSION},
    field::Allocatable,
    pressure::policy::Pressures,
    sandbox,
};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
/// Status is written at least this often.
const REPORT: Duration = Duration::from_secs(300);
/// How often the images are looked at, which the status lists: as often as a kubelet does.
const LOOK: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long a node that was ready before a restart may take to have its network again before it says that it has none.
const NETWORK_BACK: Duration = Duration::from_secs(5);
/// Images that the status lists.
const IMAGES: usize = 50;

/// The machine's host name.
pub fn hostname() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = text.trim().to_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// The machine's memory, bytes.
///
/// # Errors
/// The kernel does not say.
pub fn memory() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("/proc/meminfo has no MemTotal")?;
    let kib: i64 = line.trim().trim_end_matches("kB").trim().parse().context("read MemTotal of /proc/meminfo")?;
    Ok(kib * 1024)
}

/// What the machine has and what pods may use of it; the same but for a reserve of memory.
///
/// # Errors
/// Memory or disk cannot be measured.
pub fn resources(config: &Config) -> Result<(Allocatable, Allocatable)> {
    const RESERVE: i64 = 100 << 20;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = memory()?;
    let dir = &config.pods_dir;
    let disk = rustix::fs::statvfs(dir).with_context(|| format!("measure the disk of {}", dir.display()))?;
    let disk = disk.f_blocks * disk.f_frsize;
    let of = |memory: i64, disk: u64| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cores.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
            ("pods".to_owned(), Quantity(config.max_pods.to_string())),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", disk / 1024))),
            ("hugepages-1Gi".to_owned(), Quantity("0".into())),
            ("hugepages-2Mi".to_owned(), Quantity("0".into())),
        ])
    };
    Ok((of(memory, disk), of((memory - RESERVE).max(0), disk / 10 * 9)))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch().to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch().to_owned()),
    ]);
    labels.extend(config.labels.clone());
    labels
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn os_image() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

fn node_info(config: &Config) -> Value {
    let machine = read("/etc/machine-id");
    json!({
        "machineID": machine,
        "systemUUID": if machine.is_empty() { read("/proc/sys/kernel/random/boot_id") } else { machine.clone() },
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": os_image(),
        "containerRuntimeVersion": format!("madang://{}", config.version),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": arch(),
    })
}

/// What is known of the node's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether pods can have a network.
    pub network: bool,
    /// What there is a want of.
    pub pressures: Pressures,
}

/// The conditions of the node; those that have not changed keep their times of transition.
pub fn conditions(old: &[NodeCondition], health: Health, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: since.or(Some(Time(now))),
        }
    };
    let ready = if health.network {
        condition("Ready", "True", "KubeletReady", "the node is posting ready status")
    } else {
        let message = "container runtime network not ready: the node has no range of pod addresses yet";
        condition("Ready", "False", "KubeletNotReady", message)
    };
    let memory = if health.pressures.memory {
        condition("MemoryPressure", "True", "KubeletHasInsufficientMemory", "the node has too little memory available")
    } else {
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has sufficient memory available")
    };
    let disk = if health.pressures.disk {
        condition("DiskPressure", "True", "KubeletHasDiskPressure", "the node has too little room on disk")
    } else {
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node has no disk pressure")
    };
    vec![
        memory,
        disk,
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "the node has sufficient PID available"),
        ready,
    ]
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Registers and reports until the node's task ends.
pub struct Registration {
    shared: Shared,
    api: Api<Node>,
}

impl Registration {
    /// A registration of `shared`'s node.
    pub fn new(shared: &Shared) -> Self {
        Self { shared: shared.clone(), api: Api::all(shared.client.clone()) }
    }

    /// Images as the status lists them, the largest first.
    fn images(&self) -> Vec<Value> {
        let mut images = self.shared.runtime.images().list();
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        images
            .iter()
            .take(IMAGES)
            .map(|image| {
                let names: Vec<&String> = image.digests.iter().chain(&image.names).take(5).collect();
                json!({"names": names, "sizeBytes": image.size})
            })
            .collect()
    }

    /// Ends when other images are there than those that were listed, or when it is time to report anyway.
    async fn is_due(&self, listed: &[Value]) {
        let due = tokio::time::Instant::now() + REPORT;
        while tokio::time::Instant::now() < due {
            tokio::time::sleep(LOOK).await;
            if self.images() != listed {
                return;
            }
        }
    }

    fn status(&self, old: &[NodeCondition]) -> Value {
        let config = &self.shared.config;
        let (network, pressures) = (*self.shared.network_ready.borrow(), *self.shared.pressures.borrow());
        let health = Health { network, pressures };
        let features = json!({"recursiveReadOnlyMounts": true, "userNamespaces": true});
        let handlers: Vec<Value> =
            sandbox::HANDLERS.iter().map(|name| json!({"name": name, "features": features})).collect();
        json!({
            "addresses": [
                {"type": "InternalIP", "address": config.ip},
                {"type": "Hostname", "address": config.name},
            ],
            "capacity": self.shared.capacity,
            "allocatable": self.shared.allocatable,
            "conditions": conditions(old, health, Timestamp::now()),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": config.api_port}},
            "nodeInfo": node_info(config),
            "images": self.images(),
            "runtimeHandlers": handlers,
            "features": {"supplementalGroupsPolicy": true},
        })
    }

    /// Makes the object, or brings the one that is there up to date.
    pub async fn register(&self) -> Result<Node> {
        let config = &self.shared.config;
        let mut annotations = BTreeMap::new();
        annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned());
        let object: Node = serde_json::from_value(json!({
            "metadata": {"name": config.name, "labels": labels(config), "annotations": annotations},
            "spec": {},
            "status": self.status(&[]),
        }))
        .context("build node object")?;
        match self.api.create(&PostParams::default(), &object).await {
            Ok(node) => return Ok(node),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(error).with_context(|| format!("create node {}", config.name)),
        }
        let patch = json!({"metadata": {"labels": labels(config), "annotations": annotations}});
        let node = self
            .api
            .patch(&config.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("label node {}", config.name))?;
        if node.metadata.deletion_timestamp.is_some() {
            bail!("node {} is being deleted", config.name);
        }
        Ok(node)
    }

    /// Writes the status.
    pub async fn report(&self) -> Result<Node> {
        let name = &self.shared.config.name;
        let node = self.shared.node();
        let old = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.clone()).unwrap_or_default();
        let patch = json!({"status": self.status(&old)});
        self.api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .with_context(|| format!("write status of node {name}"))
    }

    /// Registers, follows the object, and keeps status and Lease current.
    pub async fn run(self) {
        let mut delay = RETRY;
        let was_ready = loop {
            match self.register().await {
                Ok(node) => {
                    let was_ready = is_ready(&node);
                    self.keep(Arc::new(node));
                    break was_ready;
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "register");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_RETRY);
                }
            }
        };
        self.shared.recorder.node(false, "Starting", "Starting kubelet.".into());
        self.follow();
        tokio::join!(
            async {
                if was_ready {
                    self.network_back().await;
                }
                self.report_always().await;
            },
            self.renew_always()
        );
    }

    /// Waits a while for the network of a node that was ready before its restart: to say in between that it is not would
    /// taint it, and make everything that waits for a node look at it twice more.
    async fn network_back(&self) {
        let mut ready = self.shared.network_ready.subscribe();
        let _ = tokio::time::timeout(NETWORK_BACK, ready.wait_for(|ready| *ready)).await;
    }

    fn keep(&self, node: Arc<Node>) {
        *self.shared.node.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(node);
    }

    fn follow(&self) {
        let cache: Cache<Node> = Cache::idle();
        let shared = self.shared.clone();
        cache.listen(move |change| {
            if let Some(node) = &change.new {
                *shared.node.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(node.clone());
            }
            shared.node_changed.notify_waiters();
            shared.node_changed.notify_one();
        });
        let scope = Scope::fields(format!("metadata.name={}", self.shared.config.name));
        cache.start(&self.shared.task, self.api.clone(), scope);
    }

    async fn report_always(&self) {
        let mut ready = self.shared.network_ready.subscribe();
        let mut pressures = self.shared.pressures.subscribe();
        let mut delay = RETRY;
        loop {
            ready.borrow_and_update();
            pressures.borrow_and_update();
            let listed = self.images();
            match self.report().await {
                Ok(node) => {
                    delay = RETRY;
                    self.keep(Arc::new(node));
                    self.lift_taint().await;
                    tokio::select! {
                        () = self.is_due(&listed) => {}
                        _ = ready.changed() => {}
                        _ = pressures.changed() => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "report");
                    if format!("{error:#}").contains("not found") {
                        // Somebody deleted the object: a node that lives registers again.
                        if let Err(error) = self.register().await {
                            tracing::warn!(error = format!("{error:#}"), "register again");
                        }
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Takes the mark of a node that is not ready away, if it is ready and nobody else has done so.
    async fn lift_taint(&self) {
        if !*self.shared.network_ready.borrow() {
            return;
        }
        let Some(node) = self.shared.node() else { return };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let kept: Vec<_> = taints.iter().filter(|taint| taint.key != "node.kubernetes.io/not-ready").collect();
        if kept.len() == taints.len() {
            return;
        }
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": kept},
        });
        if let Err(error) =
            self.api.patch(&self.shared.config.name, &PatchParams::default(), &Patch::Merge(patch)).await
        {
            tracing::debug!(%error, "lift taint");
        }
    }

    async fn renew_always(&self) {
        let api: Api<Lease> = Api::namespaced(self.shared.client.clone(), LEASE_NAMESPACE);
        let mut known: Option<Lease> = None;
        let mut delay = RETRY;
        loop {
            match self.renew(&api, known.take()).await {
                Ok(lease) => {
                    known = Some(lease);
                    delay = RETRY;
                    tokio::time::sleep(RENEW).await;
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "renew lease");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_RETRY);
                }
            }
        }
    }

    async fn renew(&self, api: &Api<Lease>, known: Option<Lease>) -> Result<Lease> {
        let name = &self.shared.config.name;
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..Default::default()
        };
        let known = match known {
            Some(lease) => Some(lease),
            None => api.get_opt(name).await.with_context(|| format!("read lease {name}"))?,
        };
        if let Some(mut lease) = known {
            lease.spec = Some(spec);
            return api
                .replace(name, &PostParams::default(), &lease)
                .await
                .with_context(|| format!("renew lease {name}"));
        }
        let owner = self.shared.node().map(|node| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..Default::default()
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.into()),
                owner_references: owner.map(|owner| vec![owner]),
                ..Default::default()
            },
            spec: Some(spec),
        };
        api.create(&PostParams::default(), &lease).await.with_context(|| format!("create lease {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_time_until_they_change() {
        let (early, late) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let first = conditions(&[], Health { network: false, pressures: Pressures::default() }, early);
        let second =
            conditions(&first, Health { network: true, pressures: Pressures { memory: true, disk: false } }, late);
        let time = |list: &[NodeCondition], kind: &str| {
            let found = list.iter().find(|condition| condition.type_ == kind).unwrap();
            (found.status.clone(), found.last_transition_time.clone().unwrap().0)
        };
        assert_eq!(time(&first, "Ready"), ("False".into(), early));
        assert_eq!(time(&second, "Ready"), ("True".into(), late));
        assert_eq!(time(&second, "DiskPressure"), ("False".into(), early));
        assert_eq!(time(&second, "MemoryPressure"), ("True".into(), late));
    }
}
