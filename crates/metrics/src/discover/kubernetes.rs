//! Objects of a cluster as targets.
//!
//! ```text
//! caches of the kinds that a role needs ── something changed ── a moment later ──▶ groups of all objects ── changes ──▶ pool
//! ```
//!
//! Caches are shared by all jobs that look at the same cluster, unless a job asks for objects of certain labels or fields.
//! Roles that need to know about other objects (the pods behind endpoints, the nodes below pods) look them up there.
//!
//! In reading order:
//!
//! - `labels`: labels that objects give
//! - `groups`: objects to groups
//! - [`caches`]: objects as they are now
//! - `access`: which way to the API server
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config>.

use std::{collections::HashSet, time::Duration};

use client::cache::Scope;
use task::Task;
use tokio::time::Instant;

use super::{Cluster, Teller, changes};
use crate::{
    config::discovery::{Kubernetes, Role},
    scrape::target::Group,
};

pub mod caches;

mod access;

mod groups;

mod labels;

use caches::{Caches, Kind};

/// How long further changes are waited for.
const QUIET: Duration = Duration::from_millis(100);
/// How long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// The objects that a job looks at.
struct View {
    role: Role,
    namespaces: HashSet<String>,
    settings: Kubernetes,
    pods: Option<Kind<k8s_openapi::api::core::v1::Pod>>,
    services: Option<Kind<k8s_openapi::api::core::v1::Service>>,
    endpoints: Option<Kind<k8s_openapi::api::core::v1::Endpoints>>,
    slices: Option<Kind<k8s_openapi::api::discovery::v1::EndpointSlice>>,
    ingresses: Option<Kind<k8s_openapi::api::networking::v1::Ingress>>,
    nodes: Option<Kind<k8s_openapi::api::core::v1::Node>>,
    spaces: Option<Kind<k8s_openapi::api::core::v1::Namespace>>,
    sets: Option<Kind<k8s_openapi::api::apps::v1::ReplicaSet>>,
    jobs: Option<Kind<k8s_openapi::api::batch::v1::Job>>,
}

impl View {
    fn new(settings: Kubernetes, namespaces: HashSet<String>, caches: &Caches) -> Self {
        let role = settings.role;
        let scope = |role: Role| {
            let selector = settings.selectors.iter().find(|selector| selector.role == role);
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            selector.map_or_else(Scope::default, |selector| Scope {
                labels: text(&selector.label),
                fields: text(&selector.field),
            })
        };
        let attach = &settings.attach_metadata;
        let behind = matches!(role, Role::Endpoints | Role::EndpointSlice);
        let workloads = behind || role == Role::Pod;
        Self {
            role,
            namespaces,
            pods: workloads.then(|| caches.pods(scope(Role::Pod))),
            services: (behind || role == Role::Service).then(|| caches.services(scope(Role::Service))),
            endpoints: (role == Role::Endpoints).then(|| caches.endpoints(scope(Role::Endpoints))),
            slices: (role == Role::EndpointSlice).then(|| caches.slices(scope(Role::EndpointSlice))),
            ingresses: (role == Role::Ingress).then(|| caches.ingresses(scope(Role::Ingress))),
            nodes: (role == Role::Node || (attach.node && workloads)).then(|| caches.nodes(scope(Role::Node))),
            spaces: (attach.namespace && role != Role::Node).then(|| caches.namespaces()),
            sets: (attach.deployment && workloads).then(|| caches.replica_sets()),
            jobs: (attach.cronjob && workloads).then(|| caches.jobs()),
            settings,
        }
    }

    async fn ready(&self) {
        caches::ready(&self.pods).await;
        caches::ready(&self.services).await;
        caches::ready(&self.endpoints).await;
        caches::ready(&self.slices).await;
        caches::ready(&self.ingresses).await;
        caches::ready(&self.nodes).await;
        caches::ready(&self.spaces).await;
        caches::ready(&self.sets).await;
        caches::ready(&self.jobs).await;
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = caches::changed(&mut self.pods) => {}
            () = caches::changed(&mut self.services) => {}
            () = caches::changed(&mut self.endpoints) => {}
            () = caches::changed(&mut self.slices) => {}
            () = caches::changed(&mut self.ingresses) => {}
            () = caches::changed(&mut self.nodes) => {}
            () = caches::changed(&mut self.spaces) => {}
            () = caches::changed(&mut self.sets) => {}
            () = caches::changed(&mut self.jobs) => {}
        }
    }

    fn within(&self, namespace: Option<&String>) -> bool {
        self.namespaces.is_empty() || namespace.is_some_and(|namespace| self.namespaces.contains(namespace))
    }

    fn groups(&self) -> Vec<Group> {
        let around = groups::Around {
            attach: &self.settings.attach_metadata,
            pods: self.pods.as_ref().map(|kind| &kind.cache),
            services: self.services.as_ref().map(|kind| &kind.cache),
            nodes: self.nodes.as_ref().map(|kind| &kind.cache),
            spaces: self.spaces.as_ref().map(|kind| &kind.cache),
            sets: self.sets.as_ref().map(|kind| &kind.cache),
            jobs: self.jobs.as_ref().map(|kind| &kind.cache),
        };
        match self.role {
            Role::Missing => Vec::new(),
            Role::Node => caches::list(&self.nodes).iter().filter_map(|node| groups::node(node)).collect(),
            Role::Pod => caches::list(&self.pods)
                .iter()
                .filter(|pod| self.within(pod.metadata.namespace.as_ref()))
                .map(|pod| groups::pod(pod, &around))
                .collect(),
            Role::Service => caches::list(&self.services)
                .iter()
                .filter(|service| self.within(service.metadata.namespace.as_ref()))
                .map(|service| groups::service(service, &around))
                .collect(),
            Role::Endpoints => caches::list(&self.endpoints)
                .iter()
                .filter(|endpoints| self.within(endpoints.metadata.namespace.as_ref()))
                .map(|endpoints| groups::endpoints(endpoints, &around))
                .collect(),
            Role::EndpointSlice => caches::list(&self.slices)
                .iter()
                .filter(|slice| self.within(slice.metadata.namespace.as_ref()))
                .map(|slice| groups::slice(slice, &around))
                .collect(),
            Role::Ingress => caches::list(&self.ingresses)
                .iter()
                .filter(|ingress| self.within(ingress.metadata.namespace.as_ref()))
                .map(|ingress| groups::ingress(ingress, &around))
                .collect(),
        }
    }
}

/// Tells of the objects of a role, until it is dropped. Caches of another cluster than that of `cluster` run below `task`.
pub async fn run(task: Task, settings: Kubernetes, cluster: Option<Cluster>, teller: Teller) {
    let (caches, own) = match access::caches(&task, &settings, cluster.as_ref()) {
        Ok(found) => found,
        Err(error) => {
            teller.failed();
            tracing::error!(role = settings.role.name(), error, "the cluster cannot be asked for targets");
            return;
        }
    };
    let mut namespaces: HashSet<String> = settings.namespaces.names.iter().cloned().collect();
    if settings.namespaces.own_namespace {
        namespaces.insert(own);
    }
    let mut view = View::new(settings, namespaces, &caches);
    view.ready().await;
    let mut told: Vec<Group> = Vec::new();
    loop {
        let found: Vec<Group> = view.groups().into_iter().filter(|group| !group.targets.is_empty()).collect();
        let changed = changes(&told, &found);
        told = found;
        if !changed.is_empty() {
            teller.tell(changed).await;
        }
        view.changed().await;
        let end = Instant::now() + PATIENCE;
        while tokio::time::timeout_at(end.min(Instant::now() + QUIET), view.changed()).await.is_ok() {}
    }
}

#[cfg(test)]
mod tests;
