//! `metadata`: names, labels, annotations, owners, finalizers; label selectors.

use serde_json::Value;

use super::format::{self, Faults};
use super::{Errors, FieldError, Path};
use crate::kinds::Kind;
use crate::meta::{self, View};

/// What is said of a field that must not change.
pub const IMMUTABLE: &str = "field is immutable";
/// What is said of a number below zero.
pub const NEGATIVE: &str = "must be greater than or equal to 0";

const LARGEST_ANNOTATIONS: usize = 256 * 1024;
const METADATA: Path<'static> = Path::new("metadata");

/// Form of an object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameForm {
    Subdomain,
    Label,
    PathSegment,
    /// Another rule of the kind's own; checked here for nothing.
    Own,
}

fn name_form(kind: &Kind) -> NameForm {
    match (kind.group, kind.kind) {
        ("", "Namespace" | "Service") | ("apps", "StatefulSet") => NameForm::Label,
        ("rbac.authorization.k8s.io", _) => NameForm::PathSegment,
        ("certificates.k8s.io", "ClusterTrustBundle") | ("networking.k8s.io", "IPAddress") => NameForm::Own,
        ("certificates.k8s.io", "CertificateSigningRequest") => NameForm::PathSegment,
        ("apiregistration.k8s.io", _) | ("policy", _) => NameForm::PathSegment,
        _ => NameForm::Subdomain,
    }
}

fn name_faults(form: NameForm, name: &str, prefix: bool) -> Faults {
    let unmasked;
    let name = if prefix && form != NameForm::PathSegment {
        unmasked = format::without_trailing_dash(name);
        &unmasked
    } else {
        name
    };
    match form {
        NameForm::Subdomain => format::dns_subdomain(name),
        NameForm::Label => format::dns_label(name),
        NameForm::PathSegment if prefix => format::path_segment_prefix(name),
        NameForm::PathSegment => format::path_segment(name),
        NameForm::Own => Faults::new(),
    }
}

pub(super) fn create(kind: &Kind, object: &Value, errors: &mut Errors) {
    let form = name_form(kind);
    if kind.kind == "Event" {
        // Events are looked at in their own way: only the newer kind's metadata is checked.
        return;
    }
    object_metadata(object, kind.namespaced, |name, prefix| name_faults(form, name, prefix), &METADATA, errors);
    if knows_finalizers(kind) {
        standard_finalizers(View::new(object).at("metadata"), &METADATA, errors);
    }
}

/// Metadata of a new object at `path`.
pub fn object_metadata(
    object: &Value,
    namespaced: bool,
    faults: impl Fn(&str, bool) -> Faults,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let view = View::new(object).at("metadata");
    let (name, generate_name) = (view.text("name"), view.text("generateName"));
    if !generate_name.is_empty() {
        for fault in faults(generate_name, true) {
            errors.invalid(&path.child("generateName"), generate_name, fault);
        }
    }
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for fault in faults(name, false) {
            errors.invalid(&path.child("name"), name, fault);
        }
    }
    let namespace = view.text("namespace");
    if !namespaced {
        if !namespace.is_empty() {
            errors.forbidden(&path.child("namespace"), "not allowed on this type");
        }
    } else if namespace.is_empty() {
        errors.required(&path.child("namespace"), "");
    } else {
        for fault in format::dns_label(namespace) {
            errors.invalid(&path.child("namespace"), namespace, fault);
        }
    }
    if let Some(generation) = view.int("generation").filter(|generation| *generation < 0) {
        errors.invalid(&path.child("generation"), generation, NEGATIVE);
    }
    common(view, path, errors);
    finalizers(view, path, errors);
}

pub(super) fn update(kind: &Kind, new: &Value, old: &Value, errors: &mut Errors) {
    let path = &METADATA;
    let (new_view, old_view) = (meta::metadata(new), meta::metadata(old));
    if old_view.has("deletionTimestamp") {
        let before = meta::finalizers(old);
        let mut added: Vec<&str> = meta::finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|name| crate::status::quote(name)).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), detail);
        }
    }
    if new_view.text("resourceVersion").is_empty() {
        errors.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    let (new_generation, old_generation) = (meta::generation(new), meta::generation(old));
    if new_generation < 0 {
        errors.invalid(&path.child("generation"), new_generation, NEGATIVE);
    }
    if new_generation < old_generation {
        errors.invalid(&path.child("generation"), new_generation, "must not be decremented");
    }
    for member in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(new_view.at(member), old_view.at(member), &path.child(member), errors);
    }
    common(new_view, path, errors);
    finalizers(new_view, path, errors);
    if knows_finalizers(kind) {
        standard_finalizers(new_view, path, errors);
    }
}

/// Whether finalizers without a domain must be Kubernetes' own: kinds of upstream's younger groups do not ask.
fn knows_finalizers(kind: &Kind) -> bool {
    const DO_NOT: &[&str] = &[
        "coordination.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "node.k8s.io",
        "policy",
    ];
    !kind.is_custom() && !DO_NOT.contains(&kind.group)
}

/// A member must be as it was.
pub fn immutable(new: View<'_>, old: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !new.same(old) {
        errors.invalid(path, shown(new, old), IMMUTABLE);
    }
}

/// The same where upstream's newer, declarative rules speak, which do not show the value.
pub fn unchanging(new: View<'_>, old: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !new.same(old) {
        errors.invalid(path, Value::Null, IMMUTABLE);
    }
}

/// A value as messages show it; one that is not there as "" where it was a text, and as `null` else.
fn shown(value: View<'_>, old: View<'_>) -> Value {
    if !value.exists() && old.as_str().is_some() { Value::String(String::new()) } else { value.value().clone() }
}

fn common(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    labels(view.at("labels"), &path.child("labels"), errors);
    annotations(view.at("annotations"), &path.child("annotations"), errors);
    owner_references(view, &path.child("ownerReferences"), errors);
    managed_fields(view, &path.child("managedFields"), errors);
}

/// Labels of an object or template.
pub fn labels(labels: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let Some(map) = labels.as_map() else { return };
    for (key, value) in sorted(map) {
        label_key(key, path, errors);
        for fault in format::label_value(value) {
            errors.invalid(path, value, fault);
        }
    }
}

fn sorted(map: &serde_json::Map<String, Value>) -> Vec<(&str, &str)> {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or(""))).collect();
    entries.sort_unstable();
    entries
}

/// The key of a label, or another qualified name.
pub fn label_key(key: &str, path: &Path<'_>, errors: &mut Errors) {
    for fault in format::qualified_name(key) {
        errors.invalid(path, key, fault);
    }
}

/// Annotations of an object or template.
pub fn annotations(annotations: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let Some(map) = annotations.as_map() else { return };
    let mut size = 0;
    for (key, value) in sorted(map) {
        // Case does not matter here, unlike in labels.
        let plain = format::qualified_name(key);
        if !plain.is_empty() {
            for fault in format::qualified_name(&key.to_lowercase()) {
                errors.invalid(path, key, fault);
            }
        }
        size += key.len() + value.len();
    }
    if size > LARGEST_ANNOTATIONS {
        errors.too_long(path, LARGEST_ANNOTATIONS);
    }
}

fn owner_references(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut controller = String::new();
    for (position, owner) in view.list("ownerReferences").enumerate() {
        let path = &path.index(position);
        let (api_version, kind, name) = (owner.text("apiVersion"), owner.text("kind"), owner.text("name"));
        let parts = meta::split_api_version(api_version);
        if api_version.is_empty() {
            errors.required(&path.child("apiVersion"), "must not be empty");
        } else if parts.is_none_or(|(_, version)| version.is_empty()) {
            let detail = "must be <group>/<version> or <version>";
            errors.invalid(&path.child("apiVersion"), api_version, detail);
        }
        for member in ["kind", "name", "uid"] {
            if owner.text(member).is_empty() {
                errors.required(&path.child(member), "must not be empty");
            }
        }
        if (api_version, kind) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid(path, owner.value().clone(), detail);
        }
        if owner.is("controller") {
            let this = format!("{kind}/{name}");
            if controller.is_empty() {
                controller = this;
            } else {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {controller} \
                     and {this}"
                );
                errors.invalid(&METADATA.child("ownerReferences"), view.at("ownerReferences").value().clone(), detail);
            }
        }
    }
}

fn finalizers(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = &path.child("finalizers");
    let (mut orphan, mut foreground) = (false, false);
    for name in view.list("finalizers").filter_map(|name| name.as_str()) {
        label_key(name, path, errors);
        orphan |= name == "orphan";
        foreground |= name == "foregroundDeletion";
    }
    if orphan && foreground {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, view.at("finalizers").value().clone(), detail);
    }
}

fn standard_finalizers(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    for (position, name) in view.list("finalizers").filter_map(|name| name.as_str()).enumerate() {
        standard_finalizer(name, &path.child("finalizers").index(position), errors);
    }
}

/// A finalizer without a domain must be one of Kubernetes' own.
pub fn standard_finalizer(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        errors.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn managed_fields(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const LONGEST_MANAGER: usize = 128;
    const LONGEST_SUBRESOURCE: usize = 256;
    for (position, entry) in view.list("managedFields").enumerate() {
        let path = &path.index(position);
        match entry.text("operation") {
            "Apply" | "Update" => {}
            "" => errors.required(&path.child("operation"), "must not be empty"),
            other => errors.not_supported(&path.child("operation"), other, &["Apply", "Update"]),
        }
        match entry.text("fieldsType") {
            "" | "FieldsV1" => {}
            other => errors.invalid(&path.child("fieldsType"), other, "must be `FieldsV1`"),
        }
        if entry.text("manager").len() > LONGEST_MANAGER {
            errors.too_long(&path.child("manager"), LONGEST_MANAGER);
        }
        if entry.text("subresource").len() > LONGEST_SUBRESOURCE {
            errors.too_long(&path.child("subresource"), LONGEST_SUBRESOURCE);
        }
    }
}

/// A LabelSelector object.
pub fn label_selector(selector: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !selector.exists() {
        return;
    }
    labels(selector.at("matchLabels"), &path.child("matchLabels"), errors);
    let path = &path.child("matchExpressions");
    for (position, expression) in selector.list("matchExpressions").enumerate() {
        let path = &path.index(position);
        let values = expression.slice("values");
        match expression.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        label_key(expression.text("key"), &path.child("key"), errors);
        for (position, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for fault in format::label_value(value) {
                errors.push(FieldError::invalid(path.child("values").index(position), value, fault));
            }
        }
    }
}

/// Metadata of a template: labels, annotations and finalizers only.
pub fn template(view: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    labels(view.at("labels"), &path.child("labels"), errors);
    annotations(view.at("annotations"), &path.child("annotations"), errors);
}
