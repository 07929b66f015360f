//! Persistent volumes, claims of them, and what storage drivers say of themselves.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::{basic_amount, faults, not_negative, option, positive, require};
use super::metadata::{IMMUTABLE, immutable, label_selector, unchanging};
use super::pod::container::difference;
use super::pod::scheduling::node_selector;
use super::pod::volume::{driver_name, no_backsteps, shared_source};
use super::{Errors, FieldError, Path, format, resources};
use crate::meta::View;
use crate::quantity::Quantity;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const STORAGE: &str = "storage";

/// Members of a persistent volume that hold its source, in upstream's order, with the name in the path of their errors.
const SOURCES: &[(&str, &str)] = &[
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "persistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephfs"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];

/// A PersistentVolume or PersistentVolumeClaim.
pub fn core(kind: &str, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (kind, subresource, old) {
        ("PersistentVolume", "status", _) => {}
        ("PersistentVolume", _, old) => {
            volume_spec(new.at("spec"), false, &SPEC, errors);
            if let Some(old) = old {
                volume_update(new.at("spec"), old.at("spec"), errors);
            }
        }
        ("PersistentVolumeClaim", "status", _) => claim_status(new, errors),
        ("PersistentVolumeClaim", _, old) => {
            claim_spec(new.at("spec"), &SPEC, errors);
            if let Some(old) = old {
                claim_update(new, old, errors);
            }
        }
        _ => {}
    }
}

fn access_modes(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (mut alone, mut others) = (false, false);
    for mode in spec.list("accessModes").map(View::string) {
        if !ACCESS_MODES.contains(&mode) {
            errors.not_supported(&path.child("accessModes"), mode, ACCESS_MODES);
        }
        alone |= mode == "ReadWriteOncePod";
        others |= mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode);
    }
    if alone && others {
        errors.forbidden(&path.child("accessModes"), "may not use ReadWriteOncePod with other access modes");
    }
}

fn class_name(spec: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    let class = spec.text(member);
    if !class.is_empty() {
        faults(format::dns_subdomain(class), class, &path.child(member), errors);
    }
}

/// The spec of a persistent volume, or of one inlined in a volume attachment.
fn volume_spec(spec: View<'_>, inline: bool, path: &Path<'_>, errors: &mut Errors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    if inline {
        if spec.has("claimRef") {
            errors.forbidden(&path.child("claimRef"), INLINE);
        }
        if spec.map("capacity").is_some_and(|capacity| !capacity.is_empty()) {
            errors.forbidden(&path.child("capacity"), INLINE);
        }
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.slice("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(spec, path, errors);
    if !inline {
        capacity(spec.map("capacity"), &path.child("capacity"), errors);
    }
    let policy = spec.text("persistentVolumeReclaimPolicy");
    if inline && !matches!(policy, "" | "Retain") {
        let detail = "may only be Retain in the context of inline volumes";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    } else if !inline && !policy.is_empty() {
        option(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], path, errors);
    }
    let affinity = spec.at("nodeAffinity");
    if affinity.exists() {
        let at = path.child("nodeAffinity");
        if inline {
            errors.forbidden(&at, INLINE);
        } else if affinity.has("required") {
            node_selector(affinity.at("required"), &at.child("required"), errors);
        } else {
            errors.required(&at.child("required"), "must specify required node constraints");
        }
    }
    volume_source(spec, path, errors);
    let host = spec.at("hostPath").text("path");
    if policy == "Recycle" && !host.is_empty() && host.trim_end_matches('/').is_empty() {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
    if inline && !spec.text("storageClassName").is_empty() {
        errors.forbidden(&path.child("storageClassName"), INLINE);
    } else {
        class_name(spec, "storageClassName", path, errors);
    }
    if inline && spec.at("volumeMode").as_str().is_some_and(|mode| mode != "Filesystem") {
        let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&path.child("volumeMode"), detail);
    } else if !inline {
        option(spec, "volumeMode", VOLUME_MODES, path, errors);
    }
    if spec.has("volumeAttributesClassName") {
        if spec.text("volumeAttributesClassName").is_empty() {
            errors.required(&path.child("volumeAttributesClassName"), "an empty string is disallowed");
        }
        class_name(spec, "volumeAttributesClassName", path, errors);
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(capacity: Option<&Map<String, Value>>, path: &Path<'_>, errors: &mut Errors) {
    let count = capacity.map_or(0, Map::len);
    if count == 0 {
        errors.required(path, "");
    }
    if count > 1 || !capacity.is_some_and(|capacity| capacity.contains_key(STORAGE)) {
        let shown = capacity.map_or(Value::Null, |capacity| Value::Object(capacity.clone()));
        errors.not_supported(path, shown, &[STORAGE]);
    }
    for (resource, value) in capacity.into_iter().flatten() {
        basic_amount(value, &path.key(resource), errors);
        positive(value, &path.key(resource), errors);
    }
}

fn volume_source(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (member, place) in SOURCES {
        let source = spec.at(member);
        if !source.exists() {
            continue;
        }
        if found {
            errors.forbidden(&path.child(member), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let at = path.child(place);
        match *member {
            "local" => {
                require(source, "path", &at, errors);
                if !source.text("path").is_empty() {
                    no_backsteps(source.text("path"), &at.child("path"), errors);
                }
                if !spec.has("nodeAffinity") {
                    errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => csi_source(source, &at, errors),
            "glusterfs" => {
                shared_source(member, source, &at, errors);
                if let Some(namespace) = source.at("endpointsNamespace").as_str() {
                    if namespace.is_empty() {
                        let detail = "if the endpointnamespace is set, it must be a valid namespace name".to_owned();
                        errors.invalid(&at.child("endpointsNamespace"), namespace, detail);
                    } else {
                        faults(format::dns_label(namespace), namespace, &at.child("endpointsNamespace"), errors);
                    }
                }
            }
            _ => shared_source(member, source, &at, errors),
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn csi_source(source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    driver_name(source.text("driver"), &path.child("driver"), errors);
    require(source, "volumeHandle", path, errors);
    for member in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let secret = source.at(member);
        if !secret.exists() {
            continue;
        }
        let at = path.child(member);
        for (part, form) in [("name", format::dns_subdomain as fn(&str) -> _), ("namespace", format::dns_label)] {
            let text = secret.text(part);
            if text.is_empty() {
                errors.required(&at.child(part), "");
            } else {
                faults(form(text), text, &at.child(part), errors);
            }
        }
    }
}

fn volume_update(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let sources = |spec: View<'_>| -> Value {
        let mut sources = Map::new();
        for (member, _) in SOURCES {
            if spec.has(member) {
                sources.insert((*member).to_owned(), spec.at(member).value().clone());
            }
        }
        Value::Object(sources)
    };
    let (mut now, before) = (sources(new), sources(old));
    if old.has("csi")
        && !old.at("csi").has("controllerExpandSecretRef")
        && let Some(csi) = now.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if !View::new(&now).same(View::new(&before)) {
        let changes = difference(View::new(&before), View::new(&now));
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.forbidden(&SPEC.child("persistentvolumesource"), detail);
    }
    immutable(new.at("volumeMode"), old.at("volumeMode"), &Path::new("volumeMode"), errors);
    if old.has("nodeAffinity") && !new.at("nodeAffinity").same(old.at("nodeAffinity")) {
        let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.invalid(&Path::new("nodeAffinity"), new.at("nodeAffinity").value().clone(), detail);
    }
    if old.has("volumeAttributesClassName") && !new.has("volumeAttributesClassName") {
        let detail = "update from non-nil value to nil is forbidden";
        errors.forbidden(&SPEC.child("volumeAttributesClassName"), detail);
    }
}

/// The spec of a claim, or of a template of one.
pub fn claim_spec(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if spec.slice("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    label_selector(spec.at("selector"), &path.child("selector"), errors);
    access_modes(spec, path, errors);
    let at = path.child("resources");
    let at = at.key(STORAGE);
    let request = spec.at("resources").at("requests").at(STORAGE);
    if !request.exists() {
        errors.required(&at, "");
    } else if Quantity::of(request.value()).sign() <= 0 {
        positive(request.value(), &at, errors);
    } else {
        resources::amount(STORAGE, request.value(), &at, errors);
    }
    class_name(spec, "storageClassName", path, errors);
    option(spec, "volumeMode", VOLUME_MODES, path, errors);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    data_source(source, &path.child("dataSource"), errors);
    data_source(reference, &path.child("dataSourceRef"), errors);
    // Upstream gives the path for a value, which it shows so.
    let shown = Value::Object(Map::new());
    if !reference.text("namespace").is_empty() {
        if source.exists() {
            errors.invalid(path, shown.clone(), "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if source.exists()
        && reference.exists()
        && !["apiGroup", "kind", "name"].iter().all(|member| source.at(member).same(reference.at(member)))
    {
        errors.invalid(path, shown, "must match dataSourceRef");
    }
    class_name(spec, "volumeAttributesClassName", path, errors);
}

fn data_source(source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !source.exists() {
        return;
    }
    require(source, "name", path, errors);
    require(source, "kind", path, errors);
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        faults(format::dns_subdomain(group), group, &path.child("apiGroup"), errors);
    }
    let namespace = source.text("namespace");
    if !namespace.is_empty() {
        faults(format::dns_label(namespace), namespace, &path.child("namespace"), errors);
    }
}

fn claim_update(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
    let annotation =
        |claim: View<'_>| claim.at("metadata").at("annotations").at(CLASS_ANNOTATION).as_str().map(String::from);
    let (now, before) = (new.at("spec"), old.at("spec"));
    let (mut now_compared, mut before_compared) = (now.value().clone(), before.value().clone());
    let set = |value: &mut Value, member: &str, to: View<'_>| {
        if let Some(map) = value.as_object_mut() {
            map.insert(member.to_owned(), to.value().clone());
        }
    };
    if before.text("volumeName").is_empty() {
        set(&mut before_compared, "volumeName", now.at("volumeName"));
    }
    let (was, is) = (annotation(old), annotation(new));
    let class = now.at("storageClassName").as_str();
    let from_nothing = class.is_some() && !before.has("storageClassName");
    let matches_annotation = was.as_deref() == class && was.is_some() && (is.is_none() || is == was);
    if from_nothing && matches_annotation {
        set(&mut now_compared, "storageClassName", View::nothing());
    } else {
        let (was_text, is_text) = (was.as_deref().unwrap_or(""), is.as_deref().unwrap_or(""));
        if was_text != is_text {
            let at = Path::new("metadata");
            let at = at.child("annotations");
            errors.invalid(&at.key(CLASS_ANNOTATION), is_text, IMMUTABLE);
        }
        if from_nothing && (was.is_none() || was.as_deref() == class) {
            set(&mut now_compared, "storageClassName", before.at("storageClassName"));
        }
    }
    let bound = new.at("status").text("phase") == "Bound";
    if bound {
        if let Some(requests) = now_compared.pointer_mut("/resources/requests").and_then(Value::as_object_mut) {
            let size = before.at("resources").at("requests").at(STORAGE);
            requests.insert(STORAGE.to_owned(), size.value().clone());
        }
        set(&mut now_compared, "volumeAttributesClassName", before.at("volumeAttributesClassName"));
    }
    if !View::new(&now_compared).same(View::new(&before_compared)) {
        let changes = difference(View::new(&before_compared), View::new(&now_compared));
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{changes}"
        );
        errors.forbidden(&SPEC, detail);
    }
    let size = |claim: View<'_>| Quantity::of(claim.at("resources").at("requests").at(STORAGE).value());
    if size(now) < size(before) && size(now) <= Quantity::of(old.at("status").at("capacity").at(STORAGE).value()) {
        let at = SPEC.child("resources");
        let at = at.child("requests");
        errors.forbidden(&at.child(STORAGE), "field can not be less than status.capacity");
    }
    immutable(now.at("volumeMode"), before.at("volumeMode"), &Path::new("volumeMode"), errors);
    const MEMBER: &str = "volumeAttributesClassName";
    if !now.at(MEMBER).same(before.at(MEMBER)) && old.at("status").has("currentVolumeAttributesClassName") {
        let to = if !now.has(MEMBER) {
            Some("nil")
        } else if now.text(MEMBER).is_empty() {
            Some("empty string")
        } else {
            None
        };
        if let Some(to) = to {
            let detail = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
            errors.forbidden(&SPEC.child(MEMBER), detail);
        }
    }
}

fn claim_status(new: View<'_>, errors: &mut Errors) {
    const RESIZES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    if new.at("spec").slice("accessModes").is_empty() {
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    let status = new.at("status");
    let at = STATUS.child("capacity");
    for (resource, value) in status.entries("capacity") {
        basic_amount(value.value(), &at.key(resource), errors);
    }
    let at = STATUS.child("allocatedResourceStatuses");
    for (resource, state) in status.entries("allocatedResourceStatuses") {
        claim_resource(resource, &at, errors);
        if !RESIZES.contains(&state.string()) {
            errors.not_supported(&at, resource, RESIZES);
        }
    }
    let at = STATUS.child("allocatedResources");
    for (resource, value) in status.entries("allocatedResources") {
        if claim_resource(resource, &at, errors) {
            resources::amount(STORAGE, value.value(), &at.key(resource), errors);
        }
    }
}

fn claim_resource(resource: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let found = format::qualified_name(resource);
    if !found.is_empty() {
        faults(found, resource, path, errors);
        return false;
    }
    if resources::is_native(resource) && resource != STORAGE {
        errors.not_supported(path, resource, &[STORAGE]);
        return false;
    }
    true
}

/// A kind of the group `storage.k8s.io`.
pub fn group(kind: &str, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (kind, subresource) {
        ("StorageClass", _) => storage_class(new, old, errors),
        ("VolumeAttachment", "") => attachment(new, old, errors),
        ("CSINode", "") => node(new, old, errors),
        ("CSIDriver", _) => driver(new, old, errors),
        ("CSIStorageCapacity", _) => storage_capacity(new, old, errors),
        ("VolumeAttributesClass", _) => {
            if let Some(old) = old {
                for member in ["driverName", "parameters"] {
                    if !new.at(member).same(old.at(member)) {
                        errors.forbidden(&Path::new(member), format!("updates to {member} are forbidden."));
                    }
                }
            }
            provisioner(new.text("driverName"), &Path::new("driverName"), errors);
            parameters(new, false, errors);
        }
        _ => {}
    }
}

fn provisioner(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        let lower = name.to_lowercase();
        faults(format::qualified_name(&lower), &lower, path, errors);
    }
}

fn parameters(holder: View<'_>, may_be_empty: bool, errors: &mut Errors) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 * 1024;
    let path = Path::new("parameters");
    let count = holder.map("parameters").map_or(0, Map::len);
    if count > MOST {
        errors.too_long(&path, MOST);
        return;
    }
    let mut size = 0;
    for (key, value) in holder.entries("parameters") {
        if key.is_empty() {
            errors.invalid(&path, key, "field can not be empty.");
        }
        size += key.len() + value.string().len();
    }
    if size > LARGEST {
        errors.too_long(&path, LARGEST);
    }
    if !may_be_empty && count == 0 {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn storage_class(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if let Some(old) = old {
        for member in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            unchanging(new.at(member), old.at(member), &Path::new(member), errors);
        }
    }
    provisioner(new.text("provisioner"), &Path::new("provisioner"), errors);
    parameters(new, true, errors);
    if !new.text("reclaimPolicy").is_empty() {
        option(new, "reclaimPolicy", &["Delete", "Retain"], &Path::ROOT, errors);
    }
    if new.has("volumeBindingMode") {
        option(new, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &Path::ROOT, errors);
    } else {
        errors.required(&Path::new("volumeBindingMode"), "");
    }
    let topologies = Path::new("allowedTopologies");
    let mut seen: Vec<View<'_>> = Vec::new();
    for (position, term) in new.list("allowedTopologies").enumerate() {
        let at = topologies.index(position);
        let at = at.child("matchLabelExpressions");
        let mut keys = BTreeSet::new();
        for (number, requirement) in term.list("matchLabelExpressions").enumerate() {
            let here = at.index(number);
            let mut values = BTreeSet::new();
            if requirement.slice("values").is_empty() {
                errors.required(&here.child("values"), "");
            }
            let list = here.child("values");
            for (item, value) in requirement.list("values").map(View::string).enumerate() {
                if !values.insert(value) {
                    errors.duplicate(&list.index(item), value);
                }
            }
            let key = requirement.text("key");
            faults(format::qualified_name(key), key, &here.child("key"), errors);
            if !keys.insert(key) {
                errors.duplicate(&here.child("key"), key);
            }
        }
        // A term without expressions is taken for another one.
        if keys.is_empty() || seen.iter().any(|other| other.same(term)) {
            errors.duplicate(&at, "");
        }
        seen.push(term);
    }
}

fn attachment(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let spec = new.at("spec");
    let attacher = spec.text("attacher");
    let at = SPEC.child("attacher");
    if attacher.is_empty() {
        errors.required(&at, "");
    } else if old.is_some() {
        driver_name(attacher, &at, errors);
    } else {
        if attacher.len() > 63 {
            errors.push(FieldError::too_long_characters(at, 63));
        }
        faults(format::dns_subdomain_in_any_case(attacher), attacher, &at, errors);
    }
    let source = spec.at("source");
    let at = SPEC.child("source");
    let inline = source.at("inlineVolumeSpec");
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.exists(), source.at("persistentVolumeName").as_str()) {
        (false, None) => errors.required(&at, ONE),
        (true, Some(_)) => errors.forbidden(&at, ONE),
        (false, Some("")) => {
            errors.required(&at.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        (false, Some(_)) => {}
        (true, None) => volume_spec(inline, true, &at.child("inlineVolumeSpec"), errors),
    }
    let node = spec.text("nodeName");
    faults(format::dns_subdomain(node), node, &SPEC.child("nodeName"), errors);
    for member in ["attachError", "detachError"] {
        let at = STATUS.child(member);
        if new.at("status").at(member).text("message").len() > 1024 {
            errors.too_long(&at.child("message"), 1024);
        }
    }
    if let Some(name) = source.at("persistentVolumeName").as_str() {
        faults(format::dns_subdomain(name), name, &at.child("persistentVolumeName"), errors);
    }
    if let Some(old) = old {
        unchanging(spec, old.at("spec"), &SPEC, errors);
    }
}

fn node(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let path = SPEC.child("drivers");
    let drivers = new.at("spec");
    let mut names = BTreeSet::new();
    for (position, driver) in drivers.list("drivers").enumerate() {
        let at = path.index(position);
        let name = driver.text("name");
        driver_name(name, &at.child("name"), errors);
        let id = driver.text("nodeID");
        if id.is_empty() {
            errors.required(&at.child("nodeID"), "");
        }
        if id.len() > 256 {
            errors.invalid(&at.child("nodeID"), id, "must be 256 characters or less");
        }
        not_negative(driver.at("allocatable"), "count", &at.child("allocatable"), errors);
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let mut keys = BTreeSet::new();
        for key in driver.list("topologyKeys").map(View::string) {
            if key.is_empty() {
                errors.required(&at, "");
            }
            if !keys.insert(key) {
                errors.duplicate(&at, key);
            }
            faults(format::qualified_name(key), key, &at, errors);
        }
    }
    let Some(old) = old else { return };
    for before in old.at("spec").list("drivers") {
        for now in drivers.list("drivers").filter(|now| now.text("name") == before.text("name")) {
            let same = ["nodeID", "topologyKeys"].iter().all(|member| now.at(member).same(before.at(member)));
            if !same {
                errors.invalid(&path, now.value().clone(), IMMUTABLE);
            }
        }
    }
}

fn driver(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let spec = new.at("spec");
    for (member, place) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(member) {
            errors.required(&SPEC.child(place), "");
        }
    }
    option(spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], &SPEC, errors);
    let requests = SPEC.child("tokenRequests");
    let mut audiences = BTreeSet::new();
    for (position, request) in spec.list("tokenRequests").enumerate() {
        let at = requests.index(position);
        let audience = request.text("audience");
        if !audiences.insert(audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        let Some(seconds) = request.int("expirationSeconds") else { continue };
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.invalid(&at.child("expirationSeconds"), seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&at.child("expirationSeconds"), seconds, detail);
        }
    }
    for mode in spec.list("volumeLifecycleModes").map(View::string) {
        const MODES: &[&str] = &["Persistent", "Ephemeral"];
        if !MODES.contains(&mode) {
            errors.not_supported(&SPEC.child("volumeLifecycleModes"), mode, MODES);
        }
    }
    if !spec.has("seLinuxMount") {
        errors.required(&SPEC.child("seLinuxMount"), "");
    }
    const PERIOD: &str = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(period) = spec.int(PERIOD).filter(|period| *period < 10) {
        errors.invalid(&SPEC.child(PERIOD), period, "must be greater than or equal to 10 seconds");
    }
    const IN_SECRETS: &str = "serviceAccountTokenInSecrets";
    if spec.has(IN_SECRETS) && spec.slice("tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&SPEC.child(IN_SECRETS), spec.at(IN_SECRETS).value().clone(), detail);
    }
    if let Some(old) = old.map(|old| old.at("spec")) {
        immutable(spec.at("attachRequired"), old.at("attachRequired"), &SPEC.child("attachedRequired"), errors);
        const MODES: &str = "volumeLifecycleModes";
        unchanging(spec.at(MODES), old.at(MODES), &SPEC.child(MODES), errors);
    }
}

fn storage_capacity(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if let Some(old) = old {
        for member in ["nodeTopology", "storageClassName"] {
            immutable(new.at(member), old.at(member), &Path::new(member), errors);
        }
    }
    label_selector(new.at("nodeTopology"), &Path::new("nodeTopology"), errors);
    let class = new.text("storageClassName");
    faults(format::dns_subdomain(class), class, &Path::new("storageClassName"), errors);
    if new.has("capacity") {
        resources::not_negative(new.at("capacity").value(), &Path::new("capacity"), errors);
    }
}
