//! The controllers: each watches objects, compares what is with what is wanted, and writes the difference.
//!
//! ```text
//! caches (one a kind, shared) ── changes ──► queue of keys ──► reconcile(key)
//!                                                                │ decide: a pure function of what is known
//!                                                                └ act: create, patch, delete through the API
//! ```
//!
//! One file a controller. A controller that dies half-way leaves nothing that its next turn does not mend, since it
//! remembers nothing that the API does not hold, save for expectations: what it asked for and has not seen yet.

pub mod caches;
pub mod expectations;
pub mod hands;
pub mod history;
pub mod ownership;
pub mod pods;

pub mod autoscaler;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_mirror;
pub mod endpoint_slice;
pub mod endpoints;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod pod_garbage;
pub mod replica_set;
pub mod resource_quota;
pub mod service_account;
pub mod stateful_set;
pub mod volume;

use std::net::Ipv4Addr;

use caches::Caches;
use kube::Client;
use replica_set::Form;
use task::Task;

/// What the controllers need to know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// First address and prefix length of the pods' network, of which each node gets a part.
    pub cluster_cidr: (Ipv4Addr, u8),
    /// Prefix length of a node's part.
    pub node_prefix: u8,
    /// The cluster's certificate authority, PEM, which every namespace gets as ConfigMap `kube-root-ca.crt`.
    pub authority: String,
}

/// Runs all controllers until `task` ends. Each acts as the service account in `kube-system` that upstream gives it, and
/// has that account's rights: `client` makes a client for an account's name.
pub fn run(task: &Task, client: impl Fn(&'static str) -> Client, caches: &Caches, config: &Config) {
    node_ipam::run(task, &client("node-controller"), caches, config);
    service_account::run(
        task,
        &client("service-account-controller"),
        &client("root-ca-cert-publisher"),
        caches,
        config,
    );
    node_lifecycle::run(task, &client("node-controller"), caches);
    replica_set::run(Form::ReplicaSet, task, &client("replicaset-controller"), caches);
    replica_set::run(Form::ReplicationController, task, &client("replication-controller"), caches);
    deployment::run(task, &client("deployment-controller"), caches);
    endpoint_slice::run(task, &client("endpointslice-controller"), caches);
    endpoints::run(task, &client("endpoint-controller"), caches);
    job::run(task, &client("job-controller"), caches);
    job::expiry::run(task, &client("ttl-after-finished-controller"), caches);
    daemon_set::run(task, &client("daemon-set-controller"), caches);
    stateful_set::run(task, &client("statefulset-controller"), caches);
    disruption::run(task, &client("disruption-controller"), caches);
    autoscaler::run(task, &client("horizontal-pod-autoscaler"), caches);
    cron_job::run(task, &client("cronjob-controller"), caches);
    endpoint_mirror::run(task, &client("endpointslicemirroring-controller"), caches);
    volume::binder::run(task, &client("persistent-volume-binder"), caches);
    volume::local_path::run(task, &client("local-path-provisioner"), caches);
    volume::protection::run(task, &client("pvc-protection-controller"), &client("pv-protection-controller"), caches);
    volume::ephemeral::run(task, &client("ephemeral-volume-controller"), caches);
    namespace::run(task, &client("namespace-controller"), caches);
    garbage::run(task, &client("generic-garbage-collector"));
    resource_quota::run(task, &client("resourcequota-controller"), caches);
    pod_garbage::run(task, &client("pod-garbage-collector"), caches);
}
