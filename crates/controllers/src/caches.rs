//! The kinds that more than one controller looks at, each cached once.

use client::cache::{Cache, Scope};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
        Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{Api, Client};
use task::Task;

/// One cache a kind. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Caches {
    /// All pods.
    pub pods: Cache<Pod>,
    /// All nodes.
    pub nodes: Cache<Node>,
    /// The heartbeats of nodes.
    pub leases: Cache<Lease>,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
    /// All services.
    pub services: Cache<Service>,
    /// All endpoint slices.
    pub slices: Cache<EndpointSlice>,
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
    /// All earlier and present templates of daemon and stateful sets.
    pub revisions: Cache<ControllerRevision>,
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
    /// All endpoints.
    pub endpoints: Cache<Endpoints>,
    /// Service accounts called [`ACCOUNT`].
    pub accounts: Cache<ServiceAccount>,
    /// Config maps called [`AUTHORITY`].
    pub bundles: Cache<ConfigMap>,
}

/// The service account that every namespace has.
pub const ACCOUNT: &str = "default";
/// The config map with the cluster's certificate authority that every namespace has.
pub const AUTHORITY: &str = "kube-root-ca.crt";

/// The namespace of the nodes' heartbeats.
pub const LEASES: &str = "kube-node-lease";

impl Caches {
    /// Caches that nobody fills yet: controllers add their listeners first.
    pub fn idle() -> Self {
        Self {
            pods: Cache::idle(),
            nodes: Cache::idle(),
            leases: Cache::idle(),
            namespaces: Cache::idle(),
            services: Cache::idle(),
            slices: Cache::idle(),
            replica_sets: Cache::idle(),
            deployments: Cache::idle(),
            replication_controllers: Cache::idle(),
            jobs: Cache::idle(),
            cron_jobs: Cache::idle(),
            daemon_sets: Cache::idle(),
            stateful_sets: Cache::idle(),
            revisions: Cache::idle(),
            budgets: Cache::idle(),
            claims: Cache::idle(),
            volumes: Cache::idle(),
            classes: Cache::idle(),
            autoscalers: Cache::idle(),
            endpoints: Cache::idle(),
            accounts: Cache::idle(),
            bundles: Cache::idle(),
        }
    }

    /// Fills them until `task` ends.
    pub fn start(&self, task: &Task, client: &Client) {
        self.pods.start(task, Api::all(client.clone()), Scope::default());
        self.nodes.start(task, Api::all(client.clone()), Scope::default());
        self.leases.start(task, Api::namespaced(client.clone(), LEASES), Scope::default());
        self.namespaces.start(task, Api::all(client.clone()), Scope::default());
        self.services.start(task, Api::all(client.clone()), Scope::default());
        self.slices.start(task, Api::all(client.clone()), Scope::default());
        self.replica_sets.start(task, Api::all(client.clone()), Scope::default());
        self.deployments.start(task, Api::all(client.clone()), Scope::default());
        self.replication_controllers.start(task, Api::all(client.clone()), Scope::default());
        self.jobs.start(task, Api::all(client.clone()), Scope::default());
        self.cron_jobs.start(task, Api::all(client.clone()), Scope::default());
        self.daemon_sets.start(task, Api::all(client.clone()), Scope::default());
        self.stateful_sets.start(task, Api::all(client.clone()), Scope::default());
        self.revisions.start(task, Api::all(client.clone()), Scope::default());
        self.budgets.start(task, Api::all(client.clone()), Scope::default());
        self.claims.start(task, Api::all(client.clone()), Scope::default());
        self.volumes.start(task, Api::all(client.clone()), Scope::default());
        self.classes.start(task, Api::all(client.clone()), Scope::default());
        self.autoscalers.start(task, Api::all(client.clone()), Scope::default());
        self.endpoints.start(task, Api::all(client.clone()), Scope::default());
        let named = |name: &str| Scope::fields(format!("metadata.name={name}"));
        self.accounts.start(task, Api::all(client.clone()), named(ACCOUNT));
        self.bundles.start(task, Api::all(client.clone()), named(AUTHORITY));
    }
}
