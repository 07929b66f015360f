//! Who may do what: roles and their bindings, and requests that ask or prove it.

use serde_json::{Map, Value};

use super::check::faults;
use super::metadata::{immutable, label_selector, unchanging};
use super::{Errors, Path, format};
use crate::meta::View;
use crate::selector::Labels;

const SPEC: Path<'static> = Path::new("spec");
const GROUP: &str = "rbac.authorization.k8s.io";

/// A Role or ClusterRole.
pub fn role(new: View<'_>, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("rules");
    for (position, rule) in new.list("rules").enumerate() {
        let at = path.index(position);
        if rule.slice("verbs").is_empty() {
            errors.required(&at.child("verbs"), "");
        }
        let urls = rule.slice("nonResourceURLs");
        let nothing = |member: &str| rule.slice(member).is_empty();
        if !urls.is_empty() {
            let at = at.child("nonResourceURLs");
            if namespaced {
                errors.invalid(&at, urls.to_vec(), "namespaced rules cannot apply to non-resource URLs");
            }
            if !["apiGroups", "resources", "resourceNames"].into_iter().all(nothing) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at, urls.to_vec(), detail);
            }
            continue;
        }
        if nothing("apiGroups") {
            errors.required(&at.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if nothing("resources") {
            errors.required(&at.child("resources"), "resource rules must supply at least one resource");
        }
    }
    let aggregation = new.at("aggregationRule");
    if namespaced || !aggregation.exists() {
        return;
    }
    let path = Path::new("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    if aggregation.slice("clusterRoleSelectors").is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, detail);
    }
    for (position, selector) in aggregation.list("clusterRoleSelectors").enumerate() {
        label_selector(selector, &path.index(position), errors);
        if Labels::from_value(selector.value()).is_err() {
            errors.invalid(&path.index(position), Value::Object(Map::new()), "invalid label selector.");
        }
    }
}

/// A RoleBinding or ClusterRoleBinding.
pub fn binding(new: View<'_>, old: Option<View<'_>>, namespaced: bool, errors: &mut Errors) {
    let role = new.at("roleRef");
    let path = Path::new("roleRef");
    if role.text("apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.text("kind")) {
        errors.not_supported(&path.child("kind"), role.text("kind"), kinds);
    }
    let name = role.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        faults(format::path_segment(name), name, &path.child("name"), errors);
    }
    let subjects = Path::new("subjects");
    for (position, entry) in new.list("subjects").enumerate() {
        subject(entry, namespaced, &subjects.index(position), errors);
    }
    if let Some(old) = old {
        let check = if namespaced { immutable } else { unchanging };
        check(role, old.at("roleRef"), &path, errors);
    }
}

fn subject(subject: View<'_>, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                faults(format::dns_subdomain(name), name, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.text("namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

/// A review of the group `authorization.k8s.io`.
pub fn review(kind: &str, new: View<'_>, errors: &mut Errors) {
    if !matches!(kind, "SubjectAccessReview" | "SelfSubjectAccessReview" | "LocalSubjectAccessReview") {
        return;
    }
    let spec = new.at("spec");
    let (resource, other) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    if resource.exists() == other.exists() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&SPEC, other.value().clone(), detail);
    }
    if kind != "SelfSubjectAccessReview" && spec.text("user").is_empty() && spec.slice("groups").is_empty() {
        errors.invalid(&SPEC.child("user"), "", "at least one of user or group must be specified");
    }
    let path = SPEC.child("resourceAttributes");
    for selector in ["fieldSelector", "labelSelector"] {
        selector_attributes(resource.at(selector), &path.child(selector), errors);
    }
    let metadata = new.at("metadata");
    let local = kind == "LocalSubjectAccessReview";
    let mut others = metadata.as_map().into_iter().flatten().filter(|(member, value)| {
        *member != "managedFields" && !(local && *member == "namespace") && !View::new(value).is_zero()
    });
    if others.next().is_some() {
        let detail = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.invalid(&Path::new("metadata"), metadata.value().clone(), detail);
    }
    if local {
        let namespace = resource.text("namespace");
        if resource.exists() && namespace != metadata.text("namespace") {
            errors.invalid(&path.child("namespace"), namespace, "must match metadata.namespace");
        }
        if other.exists() {
            let detail = "disallowed on this kind of request";
            errors.invalid(&SPEC.child("nonResourceAttributes"), other.value().clone(), detail);
        }
    }
}

fn selector_attributes(selector: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !selector.exists() {
        return;
    }
    let (raw, requirements) = (selector.text("rawSelector"), selector.slice("requirements"));
    if !raw.is_empty() && !requirements.is_empty() {
        let detail = "may not specified at the same time as requirements";
        errors.invalid(&path.child("rawSelector"), raw, detail);
    }
    if raw.is_empty() && requirements.is_empty() {
        let detail = format!("when {path} is specified, requirements or rawSelector is required");
        errors.required(&path.child("requirements"), detail);
    }
    let path = path.child("requirements");
    for (position, requirement) in requirements.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let values = requirement.slice("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&at.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at.child("values"), detail);
            }
            _ => {}
        }
        if requirement.text("key").is_empty() {
            errors.required(&at.child("key"), "must be specified");
        }
    }
}

/// A TokenRequest.
pub fn token_request(new: View<'_>, errors: &mut Errors) {
    let spec = new.at("spec");
    let seconds = spec.int("expirationSeconds").unwrap_or(0);
    let path = SPEC.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
}
