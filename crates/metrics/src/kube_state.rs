//! What the cluster's objects say of themselves, as kube-state-metrics exports it: same names, labels, types and values.
//!
//! ```text
//! caches of the controllers ─┐
//! caches of its own ─────────┴─▶ one function a kind ─▶ counts::page::Page
//! ```
//!
//! No series is kept: a page is written from cached objects when somebody asks. Kinds that nobody else in the process caches are
//! cached from the first page on, without what no sample is made of; until they are known a page waits for them, but not long.
//!
//! Exported are upstream's default resources, and endpoints. Labels and annotations become labels only where
//! [`Settings`] allows it. Unlike upstream, the `_labels` families of some kinds are there with no label of the object's by
//! default, since widely used dashboards count them. Left out are what upstream only exports on demand: roles, role bindings,
//! service accounts and ingress classes, node selectors of pods and CSI attributes of volumes.
//!
//! In reading order: [`rows`], [`pods`], [`workloads`], [`cluster`], [`network`], [`storage`], [`policy`].
//!
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs>

mod cluster;
mod network;
mod pods;
mod policy;
mod rows;
mod storage;
mod workloads;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::Duration,
};

use client::cache::{Cache, Scope};
use counts::page::Page;
use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
        ReplicationController, ResourceQuota, Secret, Service,
    },
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
    storage::v1::{StorageClass, VolumeAttachment},
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use task::Task;

/// How long a page waits for kinds that are not known yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells when a schedule is due next: the schedule, its time zone if it names one, after when.
pub type NextRun = fn(&str, Option<&str>, Timestamp) -> Option<Timestamp>;

/// Kinds of objects, by their plurals.
pub const KINDS: [&str; 29] = [
    "certificatesigningrequests",
    "configmaps",
    "cronjobs",
    "daemonsets",
    "deployments",
    "endpoints",
    "endpointslices",
    "horizontalpodautoscalers",
    "ingresses",
    "jobs",
    "leases",
    "limitranges",
    "mutatingwebhookconfigurations",
    "namespaces",
    "networkpolicies",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "poddisruptionbudgets",
    "pods",
    "replicasets",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "statefulsets",
    "storageclasses",
    "validatingwebhookconfigurations",
    "volumeattachments",
];

/// Which labels and annotations of a kind's objects become labels: none of the family, some (`*` stands for all), or the family
/// without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Labels.
    pub labels: Option<Vec<String>>,
    /// Annotations.
    pub annotations: Option<Vec<String>>,
}

/// What is exported beyond the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By plural of the kind, `pods`.
    pub allowed: BTreeMap<String, Allowed>,
}

impl Default for Settings {
    fn default() -> Self {
        let counted = [
            "namespaces",
            "deployments",
            "statefulsets",
            "daemonsets",
            "horizontalpodautoscalers",
            "networkpolicies",
            "persistentvolumeclaims",
        ];
        let empty = || Allowed { labels: Some(Vec::new()), annotations: None };
        Self { allowed: counted.into_iter().map(|plural| (plural.to_owned(), empty())).collect() }
    }
}

impl Settings {
    /// The defaults, and labels and annotations that lists such as `pods=[app,team],nodes=[*]` allow; `*` in the place of a kind
    /// stands for all of them.
    pub fn allowing(labels: &[String], annotations: &[String]) -> Result<Self, String> {
        let mut settings = Self::default();
        for (list, of_labels) in labels.iter().map(|list| (list, true)).chain(annotations.iter().map(|l| (l, false))) {
            for (kind, names) in allowlist(list)? {
                let kinds = if kind == "*" { KINDS.as_slice() } else { std::slice::from_ref(&kind) };
                for kind in kinds {
                    let allowed = settings.allowed.entry((*kind).to_owned()).or_default();
                    let place = if of_labels { &mut allowed.labels } else { &mut allowed.annotations };
                    place.get_or_insert_default().extend(names.iter().map(|name| (*name).to_owned()));
                }
            }
        }
        Ok(settings)
    }
}

/// Kinds and names of a list.
fn allowlist(list: &str) -> Result<Vec<(&str, Vec<&str>)>, String> {
    let wrong = || format!("allowlist {list:?}: expected KIND=[NAMES], as in pods=[app,team],nodes=[*]");
    let (mut found, mut rest) = (Vec::new(), list.trim());
    while !rest.is_empty() {
        let (kind, behind) = rest.split_once("=[").ok_or_else(wrong)?;
        let (names, behind) = behind.split_once(']').ok_or_else(wrong)?;
        let kind = kind.trim();
        if kind != "*" && !KINDS.contains(&kind) {
            return Err(format!("allowlist {list:?}: no objects of the kind {kind}; there are {}", KINDS.join(", ")));
        }
        found.push((kind, names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()));
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => more.trim_start(),
            None if behind.is_empty() => behind,
            _ => return Err(wrong()),
        };
    }
    Ok(found)
}

/// Caches that others keep anyway, and who knows schedules.
#[derive(Clone, Debug)]
pub struct Sources {
    /// All pods.
    pub pods: Cache<Pod>,
    /// All nodes.
    pub nodes: Cache<Node>,
    /// Leases.
    pub leases: Cache<Lease>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// All services.
    pub services: Cache<Service>,
    /// All endpoint slices.
    pub slices: Cache<EndpointSlice>,
    /// All endpoints.
    pub endpoints: Cache<Endpoints>,
    /// All replica sets.
    pub replica_sets: Cache<ReplicaSet>,
    /// All deployments.
    pub deployments: Cache<Deployment>,
    /// All replication controllers.
    pub replication_controllers: Cache<ReplicationController>,
    /// All jobs.
    pub jobs: Cache<Job>,
    /// All cron jobs.
    pub cron_jobs: Cache<CronJob>,
    /// All daemon sets.
    pub daemon_sets: Cache<DaemonSet>,
    /// All stateful sets.
    pub stateful_sets: Cache<StatefulSet>,
    /// All disruption budgets.
    pub budgets: Cache<PodDisruptionBudget>,
    /// All claims of volumes.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All volumes.
    pub volumes: Cache<PersistentVolume>,
    /// All classes of volumes.
    pub classes: Cache<StorageClass>,
    /// All autoscalers.
    pub autoscalers: Cache<HorizontalPodAutoscaler>,
    /// Who knows schedules.
    pub next_run: NextRun,
}

/// Caches that nobody else keeps.
struct Own {
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    ingresses: Cache<Ingress>,
    policies: Cache<NetworkPolicy>,
    limits: Cache<LimitRange>,
    quotas: Cache<ResourceQuota>,
    certificates: Cache<CertificateSigningRequest>,
    mutating: Cache<MutatingWebhookConfiguration>,
    validating: Cache<ValidatingWebhookConfiguration>,
    attachments: Cache<VolumeAttachment>,
}

/// The page. Clones are the same.
#[derive(Clone)]
pub struct KubeState(Arc<Inner>);

struct Inner {
    task: Task,
    client: kube::Client,
    settings: Settings,
    sources: Sources,
    own: OnceLock<Own>,
}

impl KubeState {
    /// A page over `sources`; further caches are filled with `client` below `task`, once somebody asks.
    pub fn new(task: &Task, client: kube::Client, settings: Settings, sources: Sources) -> Self {
        Self(Arc::new(Inner { task: task.child("kube-state"), client, settings, sources, own: OnceLock::new() }))
    }

    /// Writes it.
    pub async fn page(&self) -> Page {
        let inner = &*self.0;
        let own = inner.own.get_or_init(|| Own::start(&inner.task, &inner.client));
        let known = async {
            inner.sources.pods.ready().await;
            own.ready().await;
        };
        // What is not known then is missing this time.
        let _ = tokio::time::timeout(PATIENCE, known).await;
        write(&inner.sources, own, &inner.settings)
    }
}

impl Own {
    fn start(task: &Task, client: &kube::Client) -> Self {
        fn of<K>(task: &Task, client: &kube::Client, trim: fn(&mut K)) -> Cache<K>
        where
            K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        {
            let cache = Cache::idle();
            cache.start_trimmed(task, Api::all(client.clone()), Scope::default(), trim);
            cache
        }
        Self {
            config_maps: of(task, client, |map: &mut ConfigMap| (map.data, map.binary_data) = (None, None)),
            secrets: of(task, client, |secret: &mut Secret| (secret.data, secret.string_data) = (None, None)),
            ingresses: of(task, client, |_| ()),
            policies: of(task, client, |_| ()),
            limits: of(task, client, |_| ()),
            quotas: of(task, client, |_| ()),
            certificates: of(task, client, |_| ()),
            mutating: of(task, client, |_| ()),
            validating: of(task, client, |_| ()),
            attachments: of(task, client, |_| ()),
        }
    }

    async fn ready(&self) {
        self.config_maps.ready().await;
        self.secrets.ready().await;
        self.ingresses.ready().await;
        self.policies.ready().await;
        self.limits.ready().await;
        self.quotas.ready().await;
        self.certificates.ready().await;
        self.mutating.ready().await;
        self.validating.ready().await;
        self.attachments.ready().await;
    }
}

/// Writes one kind after the other.
struct Writer<'a> {
    page: Page,
    settings: &'a Settings,
}

impl Writer<'_> {
    fn kind<K>(&mut self, plural: &str, kind: &'static str, cache: &Cache<K>, write: impl Fn(&mut Page, &Allowed, &K))
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let none = Allowed::default();
        let allowed = self.settings.allowed.get(plural).unwrap_or(&none);
        cache.list().iter().for_each(|object| write(&mut self.page, allowed, object));
        // What upstream says of its own watches, by which its users notice that it sees nothing.
        let tally = cache.tally();
        for (name, well, failed) in [
            ("kube_state_metrics_list_total", tally.lists, tally.failed_lists),
            ("kube_state_metrics_watch_total", tally.watches, tally.failed_watches),
        ] {
            self.page.counter(name, &[("resource", kind), ("result", "success")], well);
            self.page.counter(name, &[("resource", kind), ("result", "error")], failed);
        }
    }
}

fn write(sources: &Sources, own: &Own, settings: &Settings) -> Page {
    let mut out = Writer { page: Page::default(), settings };
    out.kind("pods", "*v1.Pod", &sources.pods, pods::pod);
    out.kind("nodes", "*v1.Node", &sources.nodes, cluster::node);
    out.kind("namespaces", "*v1.Namespace", &sources.namespaces, cluster::namespace);
    out.kind("leases", "*v1.Lease", &sources.leases, cluster::lease);
    out.kind("deployments", "*v1.Deployment", &sources.deployments, workloads::deployment);
    out.kind("replicasets", "*v1.ReplicaSet", &sources.replica_sets, workloads::replica_set);
    let controllers = &sources.replication_controllers;
    out.kind("replicationcontrollers", "*v1.ReplicationController", controllers, workloads::replication_controller);
    out.kind("statefulsets", "*v1.StatefulSet", &sources.stateful_sets, workloads::stateful_set);
    out.kind("daemonsets", "*v1.DaemonSet", &sources.daemon_sets, workloads::daemon_set);
    out.kind("jobs", "*v1.Job", &sources.jobs, workloads::job);
    let next = sources.next_run;
    out.kind("cronjobs", "*v1.CronJob", &sources.cron_jobs, move |page, allowed, job| {
        workloads::cron_job(page, allowed, job, next);
    });
    out.kind("services", "*v1.Service", &sources.services, network::service);
    out.kind("endpoints", "*v1.Endpoints", &sources.endpoints, network::endpoints);
    out.kind("endpointslices", "*v1.EndpointSlice", &sources.slices, network::slice);
    out.kind("ingresses", "*v1.Ingress", &own.ingresses, network::ingress);
    out.kind("networkpolicies", "*v1.NetworkPolicy", &own.policies, network::policy);
    out.kind("configmaps", "*v1.ConfigMap", &own.config_maps, storage::config_map);
    out.kind("secrets", "*v1.Secret", &own.secrets, storage::secret);
    out.kind("persistentvolumeclaims", "*v1.PersistentVolumeClaim", &sources.claims, storage::claim);
    out.kind("persistentvolumes", "*v1.PersistentVolume", &sources.volumes, storage::volume);
    out.kind("storageclasses", "*v1.StorageClass", &sources.classes, storage::class);
    out.kind("volumeattachments", "*v1.VolumeAttachment", &own.attachments, storage::attachment);
    out.kind("horizontalpodautoscalers", "*v2.HorizontalPodAutoscaler", &sources.autoscalers, policy::autoscaler);
    out.kind("limitranges", "*v1.LimitRange", &own.limits, policy::limit_range);
    out.kind("resourcequotas", "*v1.ResourceQuota", &own.quotas, policy::quota);
    out.kind("poddisruptionbudgets", "*v1.PodDisruptionBudget", &sources.budgets, policy::budget);
    let requests = &own.certificates;
    out.kind("certificatesigningrequests", "*v1.CertificateSigningRequest", requests, policy::certificate);
    let hooks = &own.mutating;
    out.kind("mutatingwebhookconfigurations", "*v1.MutatingWebhookConfiguration", hooks, policy::mutating);
    let hooks = &own.validating;
    out.kind("validatingwebhookconfigurations", "*v1.ValidatingWebhookConfiguration", hooks, policy::validating);
    let mut page = out.page;
    page.gauge("kube_state_metrics_total_shards", &[], 1);
    page.gauge("kube_state_metrics_shard_ordinal", &[("shard_ordinal", "0")], 0);
    page
}

#[cfg(test)]
mod tests;
