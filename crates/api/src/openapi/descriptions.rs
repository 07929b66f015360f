//! What the API's types and fields are for, in the words that come with `k8s-openapi`.

use std::borrow::Cow;

use k8s_openapi::api::admissionregistration::v1 as admissionregistration;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::api::autoscaling::v1 as autoscaling;
use k8s_openapi::api::autoscaling::v2 as autoscaling_v2;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::certificates::v1 as certificates;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::api::flowcontrol::v1 as flowcontrol;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::node::v1 as node;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::api::resource::v1 as resource;
use k8s_openapi::api::scheduling::v1 as scheduling;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::api::storagemigration::v1 as storagemigration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::Resource;

/// Descriptions of the types that some resources refer to.
pub(super) struct Descriptions {
    types: Map<String, Value>,
}

struct Entry {
    name: fn() -> Cow<'static, str>,
    add: fn(&mut SchemaGenerator),
}

const fn entry<T: JsonSchema>() -> Entry {
    Entry {
        name: T::schema_name,
        add: |generator| {
            generator.subschema_for::<T>();
        },
    }
}

/// The types from which all others are reached.
const ENTRIES: &[Entry] = &[
    entry::<admissionregistration::MutatingAdmissionPolicy>(),
    entry::<admissionregistration::MutatingAdmissionPolicyBinding>(),
    entry::<admissionregistration::MutatingWebhookConfiguration>(),
    entry::<admissionregistration::ValidatingAdmissionPolicy>(),
    entry::<admissionregistration::ValidatingAdmissionPolicyBinding>(),
    entry::<admissionregistration::ValidatingWebhookConfiguration>(),
    entry::<apps::ControllerRevision>(),
    entry::<apps::DaemonSet>(),
    entry::<apps::Deployment>(),
    entry::<apps::ReplicaSet>(),
    entry::<apps::StatefulSet>(),
    entry::<authentication::SelfSubjectReview>(),
    entry::<authentication::TokenRequest>(),
    entry::<authentication::TokenReview>(),
    entry::<authorization::LocalSubjectAccessReview>(),
    entry::<authorization::SelfSubjectAccessReview>(),
    entry::<authorization::SelfSubjectRulesReview>(),
    entry::<authorization::SubjectAccessReview>(),
    entry::<autoscaling::HorizontalPodAutoscaler>(),
    entry::<autoscaling::Scale>(),
    entry::<autoscaling_v2::HorizontalPodAutoscaler>(),
    entry::<batch::CronJob>(),
    entry::<batch::Job>(),
    entry::<certificates::CertificateSigningRequest>(),
    entry::<certificates::ClusterTrustBundle>(),
    entry::<certificates::PodCertificateRequest>(),
    entry::<coordination::Lease>(),
    entry::<core::Binding>(),
    entry::<core::ConfigMap>(),
    entry::<core::Endpoints>(),
    entry::<core::Event>(),
    entry::<core::LimitRange>(),
    entry::<core::Namespace>(),
    entry::<core::Node>(),
    entry::<core::PersistentVolume>(),
    entry::<core::PersistentVolumeClaim>(),
    entry::<core::Pod>(),
    entry::<core::PodTemplate>(),
    entry::<core::ReplicationController>(),
    entry::<core::ResourceQuota>(),
    entry::<core::Secret>(),
    entry::<core::Service>(),
    entry::<core::ServiceAccount>(),
    entry::<discovery::EndpointSlice>(),
    entry::<events::Event>(),
    entry::<flowcontrol::FlowSchema>(),
    entry::<flowcontrol::PriorityLevelConfiguration>(),
    entry::<networking::IPAddress>(),
    entry::<networking::Ingress>(),
    entry::<networking::IngressClass>(),
    entry::<networking::NetworkPolicy>(),
    entry::<networking::ServiceCIDR>(),
    entry::<node::RuntimeClass>(),
    entry::<policy::Eviction>(),
    entry::<policy::PodDisruptionBudget>(),
    entry::<rbac::ClusterRole>(),
    entry::<rbac::ClusterRoleBinding>(),
    entry::<rbac::Role>(),
    entry::<rbac::RoleBinding>(),
    entry::<resource::DeviceClass>(),
    entry::<resource::DeviceTaintRule>(),
    entry::<resource::ResourceClaim>(),
    entry::<resource::ResourceClaimTemplate>(),
    entry::<resource::ResourceSlice>(),
    entry::<scheduling::PriorityClass>(),
    entry::<storage::CSIDriver>(),
    entry::<storage::CSINode>(),
    entry::<storage::CSIStorageCapacity>(),
    entry::<storage::StorageClass>(),
    entry::<storage::VolumeAttachment>(),
    entry::<storage::VolumeAttributesClass>(),
    entry::<storagemigration::StorageVersionMigration>(),
    entry::<apiextensions::CustomResourceDefinition>(),
    entry::<apiregistration::APIService>(),
    entry::<meta::DeleteOptions>(),
    entry::<meta::ObjectMeta>(),
    entry::<meta::Status>(),
];

/// The type whose `apiVersion`, `kind` and `metadata` are described as every kind's are.
pub(super) const EXAMPLE: &str = "io.k8s.api.core.v1.Namespace";
/// Types that every document refers to.
const ALWAYS: [&str; 4] = [
    EXAMPLE,
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
];

impl Descriptions {
    pub(super) fn of(resources: &[Resource<'_>]) -> Descriptions {
        let mut generator = SchemaSettings::draft07().into_generator();
        for entry in ENTRIES {
            let name = (entry.name)();
            let used = |r: &Resource<'_>| r.kind.schema == name || r.kind.subresources.iter().any(|s| s.schema == name);
            if ALWAYS.contains(&name.as_ref()) || resources.iter().any(used) {
                (entry.add)(&mut generator);
            }
        }
        Descriptions { types: generator.take_definitions(false) }
    }

    pub(super) fn of_type(&self, name: &str) -> Option<&str> {
        self.types.get(name)?.get("description")?.as_str()
    }

    pub(super) fn of_field(&self, of: &str, name: &str) -> Option<&str> {
        self.types.get(of)?.get("properties")?.get(name)?.get("description")?.as_str()
    }
}
