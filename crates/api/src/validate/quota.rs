//! What namespaces, pods and containers may use: ResourceQuota and LimitRange.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::faults;
use super::metadata::IMMUTABLE;
use super::{Errors, Path, format, resources};
use crate::meta::View;
use crate::quantity::Quantity;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// A ResourceQuota.
pub fn resource_quota(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if subresource == "status" {
        amounts(new.at("status"), "hard", &STATUS, errors);
        amounts(new.at("status"), "used", &STATUS, errors);
        return;
    }
    let spec = new.at("spec");
    amounts(spec, "hard", &SPEC, errors);
    scopes(spec, errors);
    selector(spec, errors);
    let Some(old) = old else {
        amounts(new.at("status"), "hard", &STATUS, errors);
        amounts(new.at("status"), "used", &STATUS, errors);
        return;
    };
    let set =
        |spec: View<'_>| -> BTreeSet<String> { spec.list("scopes").map(|scope| scope.string().to_owned()).collect() };
    if set(spec) != set(old.at("spec")) {
        errors.invalid(&SPEC.child("scopes"), spec.at("scopes").value().clone(), IMMUTABLE);
    }
}

fn amounts(holder: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child(member);
    for (resource, value) in holder.entries(member) {
        resources::quota_name(resource, &path.key(resource), errors);
        resources::amount(resource, value.value(), &path.key(resource), errors);
    }
}

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "VolumeAttributesClass"
            | "CrossNamespacePodAffinity"
    )
}

/// Whether a scope says anything about a resource.
fn concerns(scope: &str, resource: &str) -> bool {
    let compute =
        matches!(resource, "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory");
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || compute
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn misapplied(spec: View<'_>, scope: &str) -> usize {
    spec.entries("hard").filter(|(resource, _)| resources::is_quota(resource) && !concerns(scope, resource)).count()
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")]
        .iter()
        .filter(|(one, other)| scopes.contains(one) && scopes.contains(other))
        .count()
}

fn scopes(spec: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("scopes");
    let shown = || spec.at("scopes").value().clone();
    let mut seen = BTreeSet::new();
    for scope in spec.list("scopes").map(View::string) {
        if !is_scope(scope) {
            errors.invalid(&path, shown(), "unsupported scope");
        }
        for _ in 0..misapplied(spec, scope) {
            errors.invalid(&path, shown(), "unsupported scope applied to resource");
        }
        seen.insert(scope);
    }
    for _ in 0..conflicts(&seen) {
        errors.invalid(&path, shown(), "conflicting scopes");
    }
}

fn selector(spec: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("scopeSelector");
    let path = path.child("matchExpressions");
    let selector = spec.at("scopeSelector");
    let mut seen = BTreeSet::new();
    for requirement in selector.list("matchExpressions") {
        let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
        if !is_scope(scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..misapplied(spec, scope) {
            errors.invalid(&path, selector.value().clone(), "unsupported scope applied to resource");
        }
        let exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && is_scope(scope);
        if exists && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                          ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        let values = requirement.slice("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), values.to_vec(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        seen.insert(scope);
    }
    for _ in 0..conflicts(&seen) {
        errors.invalid(&path, spec.at("scopes").value().clone(), "conflicting scopes");
    }
}

/// A LimitRange.
pub fn limit_range(new: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("limits");
    let mut kinds = BTreeSet::new();
    for (position, limit) in new.at("spec").list("limits").enumerate() {
        let at = path.index(position);
        let kind = limit.text("type");
        let found = format::qualified_name(kind);
        if !found.is_empty() {
            faults(found, kind, &at.child("type"), errors);
        } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            errors.invalid(&at.child("type"), kind, "must be a standard limit type or fully qualified");
        }
        if !kinds.insert(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        one_limit(limit, kind, &at, errors);
    }
}

fn one_limit(limit: View<'_>, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut keys = BTreeSet::new();
    let mut members = vec!["max", "min"];
    if kind != "Pod" {
        members.extend(["default", "defaultRequest"]);
    }
    for member in members {
        limit_names(limit, member, kind, path, &mut keys, errors);
    }
    if kind == "Pod" {
        for member in ["default", "defaultRequest"] {
            if !limit.at(member).is_zero() {
                errors.forbidden(&path.child(member), "may not be specified when `type` is 'Pod'");
            }
        }
    }
    if kind == "PersistentVolumeClaim" && !limit.at("min").has("storage") && !limit.at("max").has("storage") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    limit_names(limit, "maxLimitRequestRatio", kind, path, &mut keys, errors);
    for resource in keys {
        relations(limit, kind, resource, path, errors);
    }
}

fn limit_names<'a>(
    limit: View<'a>,
    member: &str,
    kind: &str,
    path: &Path<'_>,
    keys: &mut BTreeSet<&'a str>,
    errors: &mut Errors,
) {
    let path = path.child(member);
    for (resource, _) in limit.entries(member) {
        if matches!(kind, "Pod" | "Container") {
            resources::container_name(resource, &path.key(resource), errors);
        } else {
            resources::name(resource, &path.key(resource), errors);
        }
        keys.insert(resource);
    }
}

/// Least, most and usual amounts among each other.
fn relations(limit: View<'_>, kind: &str, resource: &str, path: &Path<'_>, errors: &mut Errors) {
    let get = |member: &str| {
        let value = limit.at(member).at(resource);
        let read = kind != "Pod" || !member.starts_with("default");
        (read && value.exists()).then(|| Quantity::of(value.value()))
    };
    let (min, max, usual, request, ratio) =
        (get("min"), get("max"), get("default"), get("defaultRequest"), get("maxLimitRequestRatio"));
    let mut report = |member: &str, shown: &Quantity, detail: String| {
        let at = path.child(member);
        errors.invalid(&at.key(resource), Value::String(shown.to_string()), detail);
    };
    if let (Some(min), Some(max)) = (&min, &max)
        && min > max
    {
        report("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let (Some(request), Some(min)) = (&request, &min)
        && min > request
    {
        let detail = format!("min value {min} is greater than default request value {request}");
        report("defaultRequest", request, detail);
    }
    if let (Some(request), Some(max)) = (&request, &max)
        && request > max
    {
        report("defaultRequest", request, format!("default request value {request} is greater than max value {max}"));
    }
    if let (Some(request), Some(usual)) = (&request, &usual)
        && request > usual
    {
        let detail = format!("default request value {request} is greater than default limit value {usual}");
        report("defaultRequest", request, detail);
    }
    if let (Some(usual), Some(min)) = (&usual, &min)
        && min > usual
    {
        report("default", min, format!("min value {min} is greater than default value {usual}"));
    }
    if let (Some(usual), Some(max)) = (&usual, &max)
        && usual > max
    {
        report("default", max, format!("default value {usual} is greater than max value {max}"));
    }
    if let Some(ratio) = &ratio {
        if ratio.milli() < 1000 {
            report("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (&min, &max) {
            let most = max.approximate() / min.approximate();
            if ratio.approximate() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                report("maxLimitRequestRatio", ratio, detail);
            }
        }
    }
    if let (Some(usual), Some(request)) = (&usual, &request)
        && !resources::may_be_overcommitted(resource)
        && usual != request
    {
        let detail = format!("default value {usual} must equal to defaultRequest value {request} in {resource}");
        report("defaultRequest", request, detail);
    }
}
