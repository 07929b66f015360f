//! Names and amounts of resources: what containers request, what quotas and ranges limit.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Errors, FieldError, FieldErrorKind, Path, format};
use crate::meta::View;
use crate::quantity::Quantity;

/// What is said of an amount below zero.
const NEGATIVE: &str = "must be greater than or equal to 0";

const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const QUOTA: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether it is a size of huge pages.
pub fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Whether it is Kubernetes' own rather than a device's.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a device's, `example.com/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && format::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of it may be promised than there is.
pub fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_whole(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}

fn is_standard(name: &str) -> bool {
    QUOTA.contains(&name) || name == "storage" || is_quota_huge_pages(name)
}

/// The name of any resource.
pub fn name(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let faults = format::qualified_name(name);
    for fault in &faults {
        errors.invalid(path, name, fault.as_str());
    }
    if faults.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        return false;
    }
    faults.is_empty()
}

/// The name of a resource that a container can have.
pub fn container_name(resource: &str, path: &Path<'_>, errors: &mut Errors) {
    name(resource, path, errors);
    if !resource.contains('/') {
        if !CONTAINER.contains(&resource) && !is_huge_pages(resource) {
            errors.invalid(path, resource, "must be a standard resource for containers");
        }
    } else if !is_native(resource) && !is_extended(resource) {
        errors.invalid(path, resource, "doesn't follow extended resource name standard");
    }
}

/// The name of a resource that a pod as a whole can have.
fn pod_name(resource: &str, path: &Path<'_>, errors: &mut Errors) {
    if name(resource, path, errors) && !matches!(resource, "cpu" | "memory") && !is_huge_pages(resource) {
        errors.not_supported(path, resource, &["cpu", "hugepages-", "memory"]);
    }
}

/// Whether a quota can limit it under its own name.
pub fn is_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_quota_huge_pages(name)
}

/// The name of a resource that a quota can limit.
pub fn quota_name(resource: &str, path: &Path<'_>, errors: &mut Errors) {
    name(resource, path, errors);
    if !resource.contains('/') && !is_quota(resource) {
        errors.invalid(path, resource, "must be a standard resource for quota");
    }
}

/// An amount of a resource: not negative, and whole where only whole ones can be had.
pub fn amount(resource: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::of(value);
    not_negative(value, path, errors);
    if is_whole(resource) && quantity.milli() % 1000 != 0 {
        errors.invalid(path, quantity.to_string(), "must be an integer");
    }
}

/// An amount that is not negative.
pub fn not_negative(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::of(value);
    if quantity.sign() < 0 {
        errors.invalid(path, quantity.to_string(), NEGATIVE);
    }
}

/// `limits`, `requests` and `claims` of a container.
pub fn of_container(resources: View<'_>, claims: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    requirements(resources, container_name, claims, path, errors);
}

/// The same of a pod as a whole.
pub fn of_pod(resources: View<'_>, claims: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    requirements(resources, pod_name, claims, path, errors);
}

fn requirements(
    resources: View<'_>,
    check_name: fn(&str, &Path<'_>, &mut Errors),
    claims: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut has_compute, mut has_huge_pages) = (false, false);
    for (resource, limit) in resources.entries("limits") {
        let at = limits_path.key(resource);
        check_name(resource, &at, errors);
        amount(resource, limit.value(), &at, errors);
        if is_huge_pages(resource) {
            has_huge_pages = true;
            divisible(resource, limit.value(), &at, errors);
        }
        has_compute |= matches!(resource, "cpu" | "memory");
    }
    let limits = resources.at("limits");
    for (resource, request) in resources.entries("requests") {
        let at = requests_path.key(resource);
        check_name(resource, &at, errors);
        amount(resource, request.value(), &at, errors);
        let quantity = Quantity::of(request.value());
        if limits.has(resource) {
            let limit = Quantity::of(limits.at(resource).value());
            if quantity != limit && !may_be_overcommitted(resource) {
                let detail = format!("must be equal to {resource} limit of {limit}");
                errors.invalid(&requests_path, quantity.to_string(), detail);
            } else if quantity > limit {
                let detail = format!("must be less than or equal to {resource} limit of {limit}");
                errors.invalid(&requests_path, quantity.to_string(), detail);
            }
        } else if !may_be_overcommitted(resource) {
            errors.required(&limits_path, "Limit must be set for non overcommitable resources");
        }
        if is_huge_pages(resource) {
            has_huge_pages = true;
            divisible(resource, request.value(), &at, errors);
        }
        has_compute |= matches!(resource, "cpu" | "memory");
    }
    if has_huge_pages && !has_compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(resources, claims, &path.child("claims"), errors);
}

fn divisible(resource: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::of(value);
    let page = Quantity::parse(resource.trim_start_matches("hugepages-")).unwrap_or_default();
    let fine = page.sign() > 0 && page.milli() % 1000 == 0 && quantity.value() % page.value() == 0;
    if !fine {
        let detail = format!("{quantity} is not positive integer multiple of {resource}");
        errors.invalid(path, quantity.to_string(), detail);
    }
}

fn claim_names(resources: View<'_>, known: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (position, claim) in resources.list("claims").enumerate() {
        let at = path.index(position);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                for fault in format::dns_label(request) {
                    errors.invalid(&at.child("request"), request, fault);
                }
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.duplicate(&at, key.as_str());
            } else if request.is_empty() && seen.iter().any(|other| other.split('/').next() == Some(name)) {
                errors.duplicate(&at, name);
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().copied().collect();
            let which = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(FieldError::new(FieldErrorKind::NotFound, at, Some(name.into()), detail));
        }
    }
}
