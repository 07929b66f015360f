//! The two kinds that the controller serves. A ReplicationController is looked at as the ReplicaSet that it amounts to.

use std::sync::Arc;

use client::cache::Key;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{
            ObjectReference, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::{Api, Client, api::PostParams};

use crate::caches::Caches;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `apps/v1`.
    ReplicaSet,
    /// `v1`.
    ReplicationController,
}

impl Form {
    /// The kind's name.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
        }
    }

    /// The resource name.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicasets",
            Self::ReplicationController => "replicationcontrollers",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::ReplicaSet => "apps/v1",
            Self::ReplicationController => "v1",
        }
    }

    /// Whom events are from.
    pub fn component(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicaset-controller",
            Self::ReplicationController => "replication-controller",
        }
    }

    /// Whether the status counts pods that are being deleted.
    pub fn counts_leaving(self) -> bool {
        self == Self::ReplicaSet
    }

    /// Calls `changed` with the key of each object that changes.
    pub fn listen(self, caches: &Caches, changed: impl Fn(Key) + Send + Sync + 'static) {
        match self {
            Self::ReplicaSet => caches.replica_sets.listen(move |change| changed(change.key.clone())),
            Self::ReplicationController => {
                caches.replication_controllers.listen(move |change| changed(change.key.clone()));
            }
        }
    }

    /// Resolves once the objects are known.
    pub async fn ready(self, caches: &Caches) {
        match self {
            Self::ReplicaSet => caches.replica_sets.ready().await,
            Self::ReplicationController => caches.replication_controllers.ready().await,
        }
    }

    /// The object of that key.
    pub fn get(self, caches: &Caches, key: &Key) -> Option<Arc<ReplicaSet>> {
        match self {
            Self::ReplicaSet => caches.replica_sets.get(key),
            Self::ReplicationController => caches.replication_controllers.get(key).map(|rc| Arc::new(as_set(&rc))),
        }
    }

    /// The objects of a namespace.
    pub fn list_in(self, caches: &Caches, namespace: &str) -> Vec<Arc<ReplicaSet>> {
        match self {
            Self::ReplicaSet => caches.replica_sets.list_in(namespace),
            Self::ReplicationController => {
                let all = caches.replication_controllers.list_in(namespace);
                all.iter().map(|rc| Arc::new(as_set(rc))).collect()
            }
        }
    }

    /// What the object's pods carry.
    pub fn reference(self, set: &ReplicaSet) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version().into(),
            kind: self.kind().into(),
            name: set.metadata.name.clone().unwrap_or_default(),
            uid: set.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// What events are about.
    pub fn object_ref(self, set: &ReplicaSet) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version().into()),
            kind: Some(self.kind().into()),
            namespace: set.metadata.namespace.clone(),
            name: set.metadata.name.clone(),
            uid: set.metadata.uid.clone(),
            resource_version: set.metadata.resource_version.clone(),
            field_path: None,
        }
    }

    /// Replaces the object's status.
    pub async fn write_status(self, client: &Client, set: &ReplicaSet, status: ReplicaSetStatus) -> kube::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        match self {
            Self::ReplicaSet => {
                let api: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
                let mut whole = set.clone();
                whole.status = Some(status);
                api.replace_status(name, &PostParams::default(), &whole).await.map(drop)
            }
            Self::ReplicationController => {
                let api: Api<ReplicationController> = Api::namespaced(client.clone(), namespace);
                let whole = ReplicationController {
                    metadata: set.metadata.clone(),
                    spec: None,
                    status: Some(as_controller_status(status)),
                };
                api.replace_status(name, &PostParams::default(), &whole).await.map(drop)
            }
        }
    }
}

/// The set that a ReplicationController amounts to.
fn as_set(rc: &ReplicationController) -> ReplicaSet {
    let spec = rc.spec.as_ref();
    let status = rc.status.as_ref().map(|status| ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        terminating_replicas: None,
        observed_generation: status.observed_generation,
        conditions: status.conditions.as_ref().map(|all| {
            let as_condition = |condition: &ReplicationControllerCondition| ReplicaSetCondition {
                type_: Some(condition.type_.clone()),
                status: Some(condition.status.clone()),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                last_transition_time: condition.last_transition_time.clone(),
            };
            all.iter().map(as_condition).collect()
        }),
    });
    ReplicaSet {
        metadata: rc.metadata.clone(),
        spec: ReplicaSetSpec {
            replicas: spec.and_then(|spec| spec.replicas),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
            selector: LabelSelector {
                match_labels: spec.and_then(|spec| spec.selector.clone()),
                match_expressions: None,
            },
            template: spec.and_then(|spec| spec.template.clone()),
        },
        status,
    }
}

fn as_controller_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status.conditions.map(|all| {
            let as_condition = |condition: ReplicaSetCondition| ReplicationControllerCondition {
                type_: condition.type_.unwrap_or_default(),
                status: condition.status.unwrap_or_default(),
                reason: condition.reason,
                message: condition.message,
                last_transition_time: condition.last_transition_time,
            };
            all.into_iter().map(as_condition).collect()
        }),
    }
}
