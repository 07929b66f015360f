//! What happens to an object between its defaults and its validation: which parts a request may set at all.
//!
//! ```text
//! create   body -> defaults -> (name, uid, creationTimestamp) -> prepare_create -> (service addresses) -> validate
//! update   body -> defaults ------------------------------------> prepare_update -> (service addresses) -> validate
//! ```
//!
//! Creating resets the status, updating the object keeps it, updating `status` keeps everything else; a change of what the user
//! wants raises `metadata.generation`. Most kinds differ only by a few switches: they are rows of [`rules`]; pods and services
//! have functions of their own. Facts from `pkg/registry/*/*/strategy.go` of k8s.io/kubernetes v1.37.1.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::meta::{self, View};

mod claim;
mod job;
pub mod pod;
pub mod scale;
pub mod service;
#[cfg(test)]
mod tests;

/// What raises the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// The kind has none.
    None,
    /// It is 1 for ever.
    One,
    /// A change of any of these members.
    Of(&'static [&'static str]),
    /// A change of the spec or of annotations.
    SpecOrAnnotations,
    /// A change of anything but metadata, or of labels.
    AnythingOrLabels,
    /// A change of anything but metadata.
    Anything,
}

/// What an update of `status` may change in metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatusMeta {
    /// Everything that an update may.
    Free,
    /// Everything but these members.
    Keep(&'static [&'static str]),
    /// Nothing but `managedFields`.
    Fixed,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    generation: Generation,
    /// The status belongs to controllers: reset on creation, kept on update.
    status: bool,
    status_meta: StatusMeta,
    create_on_update: bool,
    unconditional: bool,
}

const SPEC: Generation = Generation::Of(&["spec"]);
/// What `metav1.ResetObjectMetaForStatus` keeps.
const RESET: StatusMeta = StatusMeta::Keep(&[
    "deletionTimestamp",
    "generation",
    "selfLink",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
]);

fn rules(kind: &Kind) -> Rules {
    let plain = Rules {
        generation: Generation::None,
        status: false,
        status_meta: StatusMeta::Free,
        create_on_update: false,
        unconditional: true,
    };
    let with_status = Rules { status: true, ..plain };
    let with_spec = Rules { generation: SPEC, status: true, ..plain };
    if kind.is_custom() {
        let status = kind.subresource("status").is_some();
        return Rules { generation: Generation::Anything, status, unconditional: false, ..plain };
    }
    match (kind.group, kind.kind) {
        ("", "PodTemplate") => Rules { generation: Generation::Of(&["template"]), ..plain },
        ("", "ReplicationController") => with_spec,
        ("", "Endpoints" | "Event" | "LimitRange") | ("events.k8s.io", "Event") => {
            Rules { create_on_update: true, ..plain }
        }
        ("", "Service") => Rules { create_on_update: true, ..with_status },
        ("", "Namespace" | "PersistentVolume" | "PersistentVolumeClaim" | "ResourceQuota") => with_status,
        ("", "Pod") => Rules { status_meta: StatusMeta::Keep(&["ownerReferences"]), ..with_spec },
        ("apps", "Deployment") => Rules {
            generation: Generation::SpecOrAnnotations,
            status_meta: StatusMeta::Keep(&["labels"]),
            ..with_status
        },
        ("apps", "ControllerRevision") => plain,
        ("apps" | "batch" | "autoscaling", _) => with_spec,
        ("policy", _) => Rules { unconditional: false, ..with_spec },
        ("networking.k8s.io", "Ingress") => with_spec,
        ("networking.k8s.io", "IngressClass" | "NetworkPolicy") => Rules { generation: SPEC, ..plain },
        ("networking.k8s.io", "ServiceCIDR") => Rules { status_meta: RESET, ..with_status },
        ("discovery.k8s.io", _) => Rules { generation: Generation::AnythingOrLabels, ..plain },
        ("scheduling.k8s.io", _) => Rules { generation: Generation::One, ..plain },
        ("coordination.k8s.io", _) | ("node.k8s.io", _) => {
            Rules { create_on_update: true, unconditional: false, ..plain }
        }
        ("rbac.authorization.k8s.io", _) => Rules { create_on_update: true, ..plain },
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            Rules { generation: Generation::Of(&["webhooks"]), unconditional: false, ..plain }
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            Rules { status_meta: RESET, unconditional: false, ..with_spec }
        }
        ("admissionregistration.k8s.io", _) => Rules { generation: SPEC, unconditional: false, ..plain },
        ("apiextensions.k8s.io", _) => Rules { unconditional: false, ..with_spec },
        ("apiregistration.k8s.io", _) => Rules {
            status_meta: StatusMeta::Keep(&["labels", "annotations", "finalizers", "ownerReferences"]),
            unconditional: false,
            ..with_status
        },
        ("storage.k8s.io", "CSIDriver") => Rules { generation: SPEC, unconditional: false, ..plain },
        ("storage.k8s.io", "CSINode" | "VolumeAttachment") => {
            Rules { status_meta: RESET, unconditional: false, ..with_status }
        }
        ("storage.k8s.io", "CSIStorageCapacity") => Rules { unconditional: false, ..plain },
        ("flowcontrol.apiserver.k8s.io", _) => Rules { status_meta: StatusMeta::Fixed, ..with_spec },
        ("certificates.k8s.io", "CertificateSigningRequest") => with_status,
        ("certificates.k8s.io", "PodCertificateRequest") => {
            Rules { status_meta: RESET, unconditional: false, ..with_status }
        }
        ("certificates.k8s.io", _) => Rules { unconditional: false, ..plain },
        ("resource.k8s.io", "ResourceClaim") => Rules { status_meta: RESET, ..with_status },
        ("resource.k8s.io", "DeviceTaintRule") => Rules { status_meta: RESET, unconditional: false, ..with_spec },
        ("resource.k8s.io", "DeviceClass" | "ResourceSlice") => Rules { generation: SPEC, ..plain },
        ("storagemigration.k8s.io", _) => Rules { unconditional: false, ..with_status },
        _ => plain,
    }
}

/// Whether PUT of an object that is not there creates it.
pub fn allows_create_on_update(kind: &Kind) -> bool {
    rules(kind).create_on_update
}

/// Whether an update may leave out the resourceVersion, to mean "whatever is there".
pub fn allows_unconditional_update(kind: &Kind) -> bool {
    rules(kind).unconditional
}

/// Readies an object for creation. Name, uid and creation time must be set already (jobs select by their uid).
pub fn prepare_create(kind: &Kind, object: &mut Value) {
    let rules = rules(kind);
    if rules.status {
        reset_status(kind, object);
    }
    if rules.generation == Generation::None || kind.is("storage.k8s.io", "CSIDriver") {
        // Upstream keeps a generation that a client sends for kinds that have none; nothing reads it.
    } else {
        meta::set_generation(object, 1);
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::prepare_create(object),
        ("", "Service") => service::prepare_create(object),
        ("", "Namespace") => add_namespace_finalizer(object),
        ("", "ServiceAccount") => clean_secret_references(object),
        ("", "PersistentVolumeClaim") => claim::prepare(object),
        ("", "Node") => forget_config_source(object),
        ("", "LimitRange") => name_by_uid(object),
        ("discovery.k8s.io", "EndpointSlice") => forget_topology(object, None),
        ("apps", "DaemonSet") => template_generation(object, None),
        ("batch", "Job") => job::prepare_create(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => add_stored_version(object),
        _ => {}
    }
}

/// Readies an update of an object or of one of its sub-resources ("" is the object itself): what the request may not change
/// is taken from the old object.
pub fn prepare_update(kind: &Kind, subresource: &str, new: &mut Value, old: &Value) {
    meta::set_generation(new, meta::generation(old));
    let rules = rules(kind);
    match subresource {
        "" => prepare_main(kind, rules, new, old),
        "status" => prepare_status(kind, rules, new, old),
        "ephemeralcontainers" => pod::prepare_ephemeral_containers(new, old),
        "resize" => pod::prepare_resize(new, old),
        "finalize" => copy_member(new, old, "status"),
        "approval" => {
            let conditions = new.pointer("/status/conditions").cloned();
            copy_member(new, old, "spec");
            copy_member(new, old, "status");
            if let Some(conditions) = conditions {
                meta::object_at(new, "status").insert("conditions".to_owned(), conditions);
            }
        }
        _ => {}
    }
    keep_system_metadata(new, old);
}

fn prepare_main(kind: &Kind, rules: Rules, new: &mut Value, old: &Value) {
    if rules.status {
        copy_member(new, old, "status");
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::prepare_update(new, old),
        ("", "Service") => service::prepare_update(new, old),
        ("", "Namespace") => {
            let finalizers = old.pointer("/spec/finalizers").cloned();
            set_or_remove(meta::object_at(new, "spec"), "finalizers", finalizers);
        }
        ("", "Node") => {
            copy_member(new, old, "status");
            if !View::new(old).at("spec").has("configSource") {
                forget_config_source(new);
            }
        }
        ("", "Secret") if View::new(new).text("type").is_empty() => copy_member(new, old, "type"),
        ("", "ServiceAccount") => clean_secret_references(new),
        ("", "PersistentVolumeClaim") => claim::prepare(new),
        ("discovery.k8s.io", "EndpointSlice") => forget_topology(new, Some(old)),
        ("apps", "DaemonSet") => template_generation(new, Some(old)),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => add_stored_version(new),
        ("certificates.k8s.io", "CertificateSigningRequest") => copy_member(new, old, "spec"),
        _ => {}
    }
    if changed(rules.generation, new, old) {
        meta::set_generation(new, meta::generation(old).saturating_add(1));
    }
}

fn prepare_status(kind: &Kind, rules: Rules, new: &mut Value, old: &Value) {
    if kind.is_custom() {
        let (status, managed) = (
            new.get("status").cloned(),
            new.pointer("/metadata/managedFields").filter(|value| !value.is_null()).cloned(),
        );
        let version = meta::resource_version(new).to_owned();
        *new = old.clone();
        if let Some(object) = new.as_object_mut() {
            set_or_remove(object, "status", status);
        }
        meta::set_resource_version(new, &version);
        set_or_remove(meta::metadata_mut(new), "managedFields", managed);
        return;
    }
    copy_member(new, old, "spec");
    match rules.status_meta {
        StatusMeta::Free => {}
        StatusMeta::Keep(members) => {
            let old_metadata = old.get("metadata");
            let metadata = meta::metadata_mut(new);
            for member in members {
                set_or_remove(metadata, member, old_metadata.and_then(|old| old.get(member)).cloned());
            }
        }
        StatusMeta::Fixed => {
            let (managed, version) =
                (new.pointer("/metadata/managedFields").cloned(), meta::resource_version(new).to_owned());
            copy_member(new, old, "metadata");
            set_or_remove(meta::metadata_mut(new), "managedFields", managed);
            meta::set_resource_version(new, &version);
        }
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => pod::prepare_status(new, old),
        ("certificates.k8s.io", "CertificateSigningRequest") => keep_decisions(new, old),
        _ => {}
    }
}

/// A LimitRange needs no name.
fn name_by_uid(object: &mut Value) {
    if meta::name(object).is_empty() {
        let uid = meta::uid(object).to_owned();
        meta::set_name(object, &uid);
    }
}

/// `deprecatedTopology` cannot be written any more; a node's name in it is kept in `nodeName`.
fn forget_topology(new: &mut Value, old: Option<&Value>) {
    const HOST: &str = "kubernetes.io/hostname";
    let nothing = Value::Null;
    let before = old.and_then(|old| old.get("endpoints")).unwrap_or(&nothing);
    if old.is_some() && View::new(before).same(View::new(new).at("endpoints")) {
        return;
    }
    let names: Vec<&str> = View::new(before)
        .items_slice()
        .iter()
        .map(|endpoint| View::new(endpoint).at("deprecatedTopology").text(HOST))
        .filter(|name| !name.is_empty())
        .collect();
    let list = new.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        let topology = endpoint.remove("deprecatedTopology").unwrap_or_default();
        let name = View::new(&topology).text(HOST);
        if names.contains(&name) && endpoint.get("nodeName").is_none_or(Value::is_null) {
            endpoint.insert("nodeName".to_owned(), name.into());
        }
    }
}

/// Sets the times that an update of an object implies: of a volume's change of phase, of a signing request's conditions.
/// To be called after [`prepare_create`] (without `old`) or [`prepare_update`].
pub fn stamp(kind: &Kind, new: &mut Value, old: Option<&Value>, now: Timestamp) {
    match (kind.group, kind.kind) {
        ("", "PersistentVolume") => {
            let phase = |object: &Value| View::new(object).at("status").text("phase").to_owned();
            let time = |object: &Value| object.pointer("/status/lastPhaseTransitionTime").cloned();
            let (new_time, old_time) = (time(new), old.and_then(time));
            let stamped = match old {
                Some(old) if phase(old) == phase(new) => new_time.or(old_time),
                Some(_) if new_time.is_some() && new_time != old_time => new_time,
                _ => Some(meta::rfc3339(now).into()),
            };
            set_or_remove(meta::object_at(new, "status"), "lastPhaseTransitionTime", stamped);
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => stamp_conditions(new, old, now),
        _ => {}
    }
}

fn stamp_conditions(new: &mut Value, old: Option<&Value>, now: Timestamp) {
    let now = meta::rfc3339(now);
    let old_conditions = old.map(|old| View::new(old).at("status").slice("conditions")).unwrap_or(&[]);
    let Some(conditions) = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else { return };
    for condition in conditions {
        let view = View::new(condition);
        let same = old_conditions.iter().map(View::new).find(|old| old.text("type") == view.text("type"));
        let transition = match same {
            Some(old) if old.text("status") == view.text("status") => old.text("lastTransitionTime").to_owned(),
            _ => String::new(),
        };
        let (has_update, has_transition) = (view.has("lastUpdateTime"), view.has("lastTransitionTime"));
        if let Some(condition) = condition.as_object_mut() {
            if !has_transition {
                let time = if transition.is_empty() { now.clone() } else { transition };
                condition.insert("lastTransitionTime".to_owned(), time.into());
            }
            if !has_update {
                condition.insert("lastUpdateTime".to_owned(), now.clone().into());
            }
        }
    }
}

fn changed(generation: Generation, new: &Value, old: &Value) -> bool {
    let differs = |member: &str| !View::new(new).at(member).same(View::new(old).at(member));
    let metadata_differs = |member: &str| !meta::metadata(new).at(member).same(meta::metadata(old).at(member));
    match generation {
        Generation::None | Generation::One => false,
        Generation::Of(members) => members.iter().any(|member| differs(member)),
        Generation::SpecOrAnnotations => differs("spec") || metadata_differs("annotations"),
        Generation::AnythingOrLabels => anything_differs(new, old) || metadata_differs("labels"),
        Generation::Anything => anything_differs(new, old),
    }
}

fn anything_differs(new: &Value, old: &Value) -> bool {
    let (Some(left), Some(right)) = (new.as_object(), old.as_object()) else { return new != old };
    left.keys()
        .chain(right.keys())
        .filter(|key| !matches!(key.as_str(), "metadata" | "apiVersion" | "kind"))
        .any(|key| !View::new(new).at(key).same(View::new(old).at(key)))
}

/// What no update may change, and what it need not repeat.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    let old_metadata = meta::metadata(old);
    let metadata = meta::metadata_mut(new);
    for (member, always) in [
        ("uid", false),
        ("creationTimestamp", true),
        ("deletionTimestamp", true),
        ("deletionGracePeriodSeconds", false),
    ] {
        let old = old_metadata.at(member);
        if old.exists() && (always || metadata.get(member).is_none_or(Value::is_null)) {
            metadata.insert(member.to_owned(), old.value().clone());
        }
    }
}

fn reset_status(kind: &Kind, object: &mut Value) {
    let status = match (kind.group, kind.kind) {
        ("", "Pod" | "PersistentVolume" | "PersistentVolumeClaim") => json!({"phase": "Pending"}),
        ("", "Namespace") => json!({"phase": "Active"}),
        ("", "Service") | ("networking.k8s.io", "Ingress") => json!({"loadBalancer": {}}),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => json!({"replicas": 0}),
        ("apps", "StatefulSet") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "DaemonSet") => json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0}),
        ("policy", _) => json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        ("autoscaling", _) if kind.version == "v1" => json!({"currentReplicas": 0, "desiredReplicas": 0}),
        ("autoscaling", _) => json!({"desiredReplicas": 0}),
        ("storage.k8s.io", "VolumeAttachment") => json!({"attached": false}),
        ("apiextensions.k8s.io", _) => json!({"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}),
        ("apiregistration.k8s.io", _) => json!({}),
        _ if kind.is_custom() => Value::Null,
        _ => json!({}),
    };
    if let Some(object) = object.as_object_mut() {
        set_or_remove(object, "status", Some(status).filter(|status| !status.is_null()));
    }
}

fn add_namespace_finalizer(object: &mut Value) {
    const KUBERNETES: &str = "kubernetes";
    let spec = meta::object_at(object, "spec");
    match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(list) if list.iter().any(|name| name == KUBERNETES) => {}
        Some(list) => list.push(KUBERNETES.into()),
        None => drop(spec.insert("finalizers".to_owned(), json!([KUBERNETES]))),
    }
}

fn clean_secret_references(object: &mut Value) {
    if let Some(Value::Array(secrets)) = object.get_mut("secrets") {
        for secret in secrets {
            *secret = json!({"name": View::new(secret).text("name")});
        }
    }
}

fn forget_config_source(object: &mut Value) {
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        spec.remove("configSource");
    }
}

/// A DaemonSet counts the versions of its template in an annotation, which users cannot set.
fn template_generation(new: &mut Value, old: Option<&Value>) {
    const ANNOTATION: &str = "deprecated.daemonset.template.generation";
    let generation = match old {
        None => meta::annotation(new, ANNOTATION).parse::<i64>().unwrap_or(1).max(1),
        Some(old) => {
            let before = meta::annotation(old, ANNOTATION).parse::<i64>().unwrap_or(1);
            let template = |object| View::new(object).at("spec").at("template");
            before + i64::from(!template(new).same(template(old)))
        }
    };
    meta::set_annotation(new, ANNOTATION, &generation.to_string());
}

fn add_stored_version(object: &mut Value) {
    let storage = View::new(object)
        .at("spec")
        .list("versions")
        .find(|version| version.is("storage"))
        .map(|version| version.text("name").to_owned());
    let Some(storage) = storage else { return };
    let status = meta::object_at(object, "status");
    match status.get_mut("storedVersions").and_then(Value::as_array_mut) {
        Some(list) if list.iter().any(|name| *name == storage) => {}
        Some(list) => list.push(storage.into()),
        None => drop(status.insert("storedVersions".to_owned(), json!([storage]))),
    }
}

/// Approvals and denials of a signing request are not the signer's to change.
fn keep_decisions(new: &mut Value, old: &Value) {
    let is_decision = |condition: &Value| matches!(View::new(condition).text("type"), "Approved" | "Denied");
    let kept = |object: &Value, decisions: bool| -> Vec<Value> {
        let conditions = View::new(object).at("status").slice("conditions").iter();
        conditions.filter(|condition| is_decision(condition) == decisions).cloned().collect()
    };
    let mut conditions = kept(old, true);
    conditions.extend(kept(new, false));
    let value = (!conditions.is_empty()).then(|| Value::from(conditions));
    set_or_remove(meta::object_at(new, "status"), "conditions", value);
}

/// Takes a member from the old object; one that it has not is removed.
fn copy_member(new: &mut Value, old: &Value, member: &str) {
    if let Some(new) = new.as_object_mut() {
        set_or_remove(new, member, old.get(member).cloned());
    }
}

fn set_or_remove(object: &mut Map<String, Value>, member: &str, value: Option<Value>) {
    match value {
        Some(value) if !value.is_null() => drop(object.insert(member.to_owned(), value)),
        _ => drop(object.remove(member)),
    }
}
