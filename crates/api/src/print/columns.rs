//! The columns of each built-in kind, as data.
//!
//! One row a kind: columns between bars, `:type` where it is not `string`, `#format`, and a plus sign for those shown only with
//! `-o wide`. Kinds without a row show their name and when they were created.

use super::Column;
use crate::kinds::Kind;

#[rustfmt::skip]
const ROWS: &[(&str, &str, &str)] = &[
    ("", "Pod", "Name#name | Ready | Status | Restarts | Age | IP+ | Node+ | Nominated Node+ | Readiness Gates+"),
    ("", "PodTemplate", "Name#name | Containers | Images | Pod Labels"),
    ("policy", "PodDisruptionBudget", "Name#name | Min Available | Max Unavailable | Allowed Disruptions:integer | Age"),
    ("", "ReplicationController", "Name#name | Desired:integer | Current:integer | Ready:integer | Age | Containers+ | Images+ | Selector+"),
    ("apps", "ReplicaSet", "Name#name | Desired:integer | Current:integer | Ready:integer | Age | Containers+ | Images+ | Selector+"),
    ("apps", "DaemonSet", "Name#name | Desired:integer | Current:integer | Ready:integer | Up-to-date:integer | Available:integer | Node Selector | Age | Containers+ | Images+ | Selector+"),
    ("batch", "Job", "Name#name | Status | Completions | Duration | Age | Containers+ | Images+ | Selector+"),
    ("batch", "CronJob", "Name#name | Schedule | Timezone | Suspend:boolean | Active:integer | Last Schedule | Age | Containers+ | Images+ | Selector+"),
    ("", "Service", "Name#name | Type | Cluster-IP | External-IP | Port(s) | Age | Selector+"),
    ("networking.k8s.io", "Ingress", "Name#name | Class | Hosts | Address | Ports | Age"),
    ("networking.k8s.io", "IngressClass", "Name#name | Controller | Parameters | Age"),
    ("apps", "StatefulSet", "Name#name | Ready | Age | Containers+ | Images+"),
    ("", "Endpoints", "Name#name | Endpoints | Age"),
    ("", "Node", "Name#name | Status | Roles | Age | Version | Internal-IP+ | External-IP+ | OS-Image+ | Kernel-Version+ | Container-Runtime+"),
    ("", "Event", "Last Seen | Type | Reason | Object | Subobject+ | Source+ | Message | First Seen+ | Count+ | Name#name+"),
    ("events.k8s.io", "Event", "Last Seen | Type | Reason | Object | Subobject+ | Source+ | Message | First Seen+ | Count+ | Name#name+"),
    ("", "Namespace", "Name#name | Status | Age"),
    ("", "Secret", "Name#name | Type | Data | Age"),
    ("", "ServiceAccount", "Name#name | Age"),
    ("", "PersistentVolume", "Name#name | Capacity | Access Modes | Reclaim Policy | Status | Claim | StorageClass | VolumeAttributesClass | Reason | Age | VolumeMode+"),
    ("", "PersistentVolumeClaim", "Name#name | Status | Volume | Capacity | Access Modes | StorageClass | VolumeAttributesClass | Age | VolumeMode+"),
    ("apps", "Deployment", "Name#name | Ready | Up-to-date | Available | Age | Containers+ | Images+ | Selector+"),
    ("autoscaling", "HorizontalPodAutoscaler", "Name#name | Reference | Targets | MinPods | MaxPods | Replicas | Age"),
    ("", "ConfigMap", "Name#name | Data | Age"),
    ("networking.k8s.io", "NetworkPolicy", "Name#name | Pod-Selector | Age"),
    ("rbac.authorization.k8s.io", "RoleBinding", "Name#name | Role | Age | Users+ | Groups+ | ServiceAccounts+"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "Name#name | Role | Age | Users+ | Groups+ | ServiceAccounts+"),
    ("certificates.k8s.io", "CertificateSigningRequest", "Name#name | Age | SignerName | Requestor | RequestedDuration | Condition"),
    ("certificates.k8s.io", "ClusterTrustBundle", "Name#name | SignerName"),
    ("certificates.k8s.io", "PodCertificateRequest", "Name#name | PodName | ServiceAccountName | NodeName | SignerName | State | UnverifiedUserAnnotations"),
    ("coordination.k8s.io", "Lease", "Name#name | Holder | Age"),
    ("storage.k8s.io", "StorageClass", "Name#name | Provisioner | ReclaimPolicy | VolumeBindingMode | AllowVolumeExpansion | Age"),
    ("storage.k8s.io", "VolumeAttributesClass", "Name#name | DriverName | Age"),
    ("apps", "ControllerRevision", "Name#name | Controller | Revision | Age"),
    ("", "ResourceQuota", "Name#name | Request | Limit | Age"),
    ("scheduling.k8s.io", "PriorityClass", "Name#name | Value:integer | Global-Default:boolean | Age | PreemptionPolicy"),
    ("node.k8s.io", "RuntimeClass", "Name#name | Handler | Age"),
    ("storage.k8s.io", "VolumeAttachment", "Name#name | Attacher#name | PV | Node | Attached:boolean | Age"),
    ("discovery.k8s.io", "EndpointSlice", "Name#name | AddressType | Ports | Endpoints | Age"),
    ("storage.k8s.io", "CSINode", "Name#name | Drivers:integer | Age"),
    ("storage.k8s.io", "CSIDriver", "Name#name | AttachRequired:boolean | PodInfoOnMount:boolean | StorageCapacity:boolean | TokenRequests | RequiresRepublish:boolean | Modes | Age"),
    ("storage.k8s.io", "CSIStorageCapacity", "Name#name | StorageClassName | Capacity"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "Name#name | Webhooks:integer | Age"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "Name#name | Webhooks:integer | Age"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", "Name#name | Validations:integer | ParamKind | Age"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", "Name#name | PolicyName | ParamRef | Age"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", "Name#name | Mutations:integer | ParamKind | Age"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", "Name#name | PolicyName | ParamRef | Age"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", "Name#name | PriorityLevel | MatchingPrecedence | DistinguisherMethod | Age | MissingPL"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", "Name#name | Type | NominalConcurrencyShares | Queues | HandSize | QueueLengthLimit | Age"),
    ("autoscaling", "Scale", "Name | Desired:integer | Available:integer | Age"),
    ("resource.k8s.io", "DeviceClass", "Name#name | Age"),
    ("resource.k8s.io", "ResourceClaim", "Name#name | State | Age"),
    ("resource.k8s.io", "ResourceClaimTemplate", "Name#name | Age"),
    ("resource.k8s.io", "ResourceSlice", "Name#name | Node | Driver | Pool | Age"),
    ("resource.k8s.io", "DeviceTaintRule", "Name#name | Key | Value | Effect | TimeAdded | Age"),
    ("networking.k8s.io", "ServiceCIDR", "Name#name | CIDRs | Age"),
    ("networking.k8s.io", "IPAddress", "Name#name | ParentRef"),
    ("storagemigration.k8s.io", "StorageVersionMigration", "Name | Resource | Status"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "Name#name | Scope | Versions | Created At:date | Group+ | Kind+ | ShortNames+ | Established:boolean+"),
    ("apiregistration.k8s.io", "APIService", "Name#name | Service | Available | Age"),
];

/// A column of the kind's table.
pub fn column(name: &str, kind: &str, format: &str, priority: i64) -> Column {
    let description = match name {
        "Name" => "Name of the object, unique among its kind in its namespace.",
        "Age" => "Time since the object was created.",
        "Created At" => "When the object was created.",
        _ => "",
    };
    Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority,
    }
}

/// The column that names the object.
pub fn name() -> Column {
    column("Name", "string", "name", 0)
}

/// Columns of a built-in kind.
pub fn of(kind: &Kind) -> Vec<Column> {
    match ROWS.iter().find(|(group, name, _)| (*group, *name) == (kind.group, kind.kind)) {
        Some((_, _, columns)) => columns.split(" | ").map(parse).collect(),
        None => vec![name(), column("Created At", "date", "", 0)],
    }
}

/// Whether a kind has columns of its own.
pub fn has_own(kind: &Kind) -> bool {
    ROWS.iter().any(|(group, name, _)| (*group, *name) == (kind.group, kind.kind))
}

fn parse(text: &str) -> Column {
    let (text, priority) = text.strip_suffix('+').map_or((text, 0), |text| (text, 1));
    let (text, format) = text.split_once('#').unwrap_or((text, ""));
    let (name, kind) = text.split_once(':').unwrap_or((text, "string"));
    column(name, kind, format, priority)
}
