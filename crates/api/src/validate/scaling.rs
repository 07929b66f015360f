//! What tells how many pods there are, which go first, and how they run: HorizontalPodAutoscaler, Scale,
//! PodDisruptionBudget, PriorityClass, RuntimeClass; and Lease.

use std::collections::BTreeSet;

use super::check::{at_most_whole, choice, faults, not_negative, number_or_percent, option, path_segment};
use super::metadata::{immutable, label_selector, labels, unchanging};
use super::pod::scheduling::tolerations;
use super::{Errors, Path, check, format, resources};
use crate::kinds::{self, Kind};
use crate::meta::View;
use crate::quantity::Quantity;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");

/// A HorizontalPodAutoscaler of either version; rules are those of `autoscaling/v2`.
pub fn autoscaler(kind: &Kind, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if subresource == "status" {
        let path = STATUS.child("conditions");
        for (position, condition) in new.at("status").list("conditions").enumerate() {
            not_negative(condition, "observedGeneration", &path.index(position), errors);
        }
        not_negative(new.at("status"), "currentReplicas", &STATUS, errors);
        not_negative(new.at("status"), "desiredReplicas", &STATUS, errors);
        return;
    }
    let mut converted = new.value().clone();
    if kind.version == "v1"
        && let Some(newer) = kinds::find_kind("autoscaling", "v2", "HorizontalPodAutoscaler")
    {
        kinds::convert(kind, newer, &mut converted);
    }
    let spec = View::new(&converted).at("spec");
    not_negative(spec, "minReplicas", &SPEC, errors);
    let most = spec.int("maxReplicas").unwrap_or(0);
    let path = SPEC.child("maxReplicas");
    if most == 0 {
        errors.required(&path, "");
    } else if most < 0 {
        errors.invalid(&path, most, "must be greater than or equal to 1");
    }
    if spec.int("minReplicas").is_some_and(|least| most < least) {
        errors.invalid(&path, most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.at("scaleTargetRef");
    let same_target = old.is_some_and(|old| {
        let before = old.at("spec").at("scaleTargetRef");
        ["apiVersion", "kind"].iter().all(|member| before.text(member) == target.text(member))
    });
    let version = if same_target {
        Version::Any
    } else if target.text("kind") == "ReplicationController" {
        Version::Core
    } else {
        Version::Group
    };
    reference(target, version, &SPEC.child("scaleTargetRef"), errors);
    let path = SPEC.child("metrics");
    for (position, metric) in spec.list("metrics").enumerate() {
        one_metric(metric, &path.index(position), errors);
    }
    let driven = spec.list("metrics").any(|metric| matches!(metric.text("type"), "Object" | "External"));
    if spec.int("minReplicas") == Some(0) && !driven {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&path, detail);
    }
    let path = SPEC.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        rules(spec.at("behavior").at(direction), &path.child(direction), errors);
    }
}

/// What is asked of a reference's `apiVersion`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Any,
    Core,
    Group,
}

fn reference(reference: View<'_>, version: Version, path: &Path<'_>, errors: &mut Errors) {
    path_segment(reference, "kind", path, errors);
    path_segment(reference, "name", path, errors);
    let text = reference.text("apiVersion");
    let at = path.child("apiVersion");
    if version == Version::Any {
        return;
    }
    if text.matches('/').count() > 1 {
        errors.invalid(&at, text, format!("unexpected GroupVersion string: {text}"));
    } else if version == Version::Group && text.split_once('/').is_none_or(|(group, _)| group.is_empty()) {
        errors.invalid(&at, text, "apiVersion must specify API group");
    }
}

const SOURCES: &[(&str, &str)] = &[
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

fn one_metric(metric: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const KINDS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = metric.text("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if !KINDS.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, KINDS);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(member, _)| *member).filter(|member| metric.has(member)).collect();
    if let Some(first) = present.first() {
        source(first, metric.at(first), &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(_, name)| *name == kind).map(|(member, _)| *member);
    match expected {
        Some(member) if !metric.has(member) => {
            errors.required(&path.child(member), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => errors.not_supported(&path.child("type"), kind, KINDS),
    }
    if present.len() > 1 {
        for member in present.into_iter().filter(|member| Some(*member) != expected) {
            errors.forbidden(&path.child(member), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let target = source.at("target");
    let at = path.child("target");
    let (value, average) = (target.has("value"), target.has("averageValue"));
    match kind {
        "object" => {
            reference(source.at("describedObject"), Version::Core, &path.child("describedObject"), errors);
            metric_name(source, path, errors);
            metric_target(target, &at, errors);
            if !value && !average {
                errors.required(&at.child("averageValue"), "must set either a target value or averageValue");
            }
        }
        "external" => {
            metric_name(source, path, errors);
            metric_target(target, &at, errors);
            if !value && !average {
                let detail = "must set either a target value for metric or a per-pod target";
                errors.required(&at.child("averageValue"), detail);
            }
            if value && average {
                let detail = "may not set both a target value for metric and a per-pod target";
                errors.forbidden(&at.child("value"), detail);
            }
        }
        "pods" => {
            metric_name(source, path, errors);
            metric_target(target, &at, errors);
            if !average {
                errors.required(&at.child("averageValue"), "must specify a positive target averageValue");
            }
        }
        _ => {
            let name = source.text("name");
            if name.is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            } else if kind == "containerResource" {
                resources::container_name(name, &path.child("name"), errors);
            }
            if kind == "containerResource" {
                let container = source.text("container");
                if container.is_empty() {
                    errors.required(&path.child("container"), "must specify a container");
                } else {
                    faults(format::dns_label(container), container, &path.child("container"), errors);
                }
            }
            metric_target(target, &at, errors);
            let utilization = target.has("averageUtilization");
            if !utilization && !average {
                let detail = "must set either a target raw value or a target utilization";
                errors.required(&at.child("averageUtilization"), detail);
            }
            if utilization && average {
                let detail = "may not set both a target raw value and a target utilization";
                errors.forbidden(&at.child("averageValue"), detail);
            }
        }
    }
}

fn metric_name(source: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = source.at("metric").text("name");
    let at = path.child("metric");
    if name.is_empty() {
        errors.required(&at.child("name"), "must specify a metric name");
    } else {
        faults(format::path_segment(name), name, &at.child("name"), errors);
    }
}

fn metric_target(target: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for member in ["value", "averageValue"] {
        let value = target.at(member);
        if value.exists() && Quantity::of(value.value()).sign() <= 0 {
            errors.invalid(&path.child(member), value.value().clone(), "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}

fn rules(rules: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    if !rules.exists() {
        return;
    }
    let at = path.child("stabilizationWindowSeconds");
    if let Some(window) = rules.int("stabilizationWindowSeconds") {
        if window < 0 {
            errors.invalid(&at, window, "must be greater than or equal to zero");
        }
        if window > LONGEST_WINDOW {
            errors.invalid(&at, window, format!("must be less than or equal to {LONGEST_WINDOW}"));
        }
    }
    option(rules, "selectPolicy", &["Disabled", "Max", "Min"], path, errors);
    let policies = path.child("policies");
    if rules.slice("policies").is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for (position, policy) in rules.list("policies").enumerate() {
        let at = policies.index(position);
        let kind = policy.text("type");
        if !matches!(kind, "Pods" | "Percent") {
            errors.not_supported(&at.child("type"), kind, &["Percent", "Pods"]);
        }
        for member in ["value", "periodSeconds"] {
            let number = policy.int(member).unwrap_or(0);
            if number <= 0 {
                errors.invalid(&at.child(member), number, check::NOT_POSITIVE);
            }
        }
        if let Some(period) = policy.int("periodSeconds").filter(|period| *period > LONGEST_PERIOD) {
            errors.invalid(
                &at.child("periodSeconds"),
                period,
                format!("must be less than or equal to {LONGEST_PERIOD}"),
            );
        }
    }
    if rules.has("tolerance") {
        resources::not_negative(rules.at("tolerance").value(), &path.child("tolerance"), errors);
    }
}

/// How many pods are wanted, through `/scale`.
pub fn scale(scale: View<'_>, errors: &mut Errors) {
    not_negative(scale.at("spec"), "replicas", &SPEC, errors);
}

/// A PodDisruptionBudget.
pub fn disruption_budget(subresource: &str, new: View<'_>, errors: &mut Errors) {
    if subresource == "status" {
        let status = new.at("status");
        conditions(status, &STATUS.child("conditions"), errors);
        for member in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            not_negative(status, member, &STATUS, errors);
        }
        return;
    }
    let spec = new.at("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        errors.invalid(&SPEC, spec.value().clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for member in ["minAvailable", "maxUnavailable"] {
        number_or_percent(spec.at(member), &SPEC.child(member), errors);
        at_most_whole(spec.at(member), &SPEC.child(member), errors);
    }
    label_selector(spec.at("selector"), &SPEC.child("selector"), errors);
    option(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], &SPEC, errors);
}

/// Conditions of the common form.
pub fn conditions(status: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (position, condition) in status.list("conditions").enumerate() {
        let at = path.index(position);
        let kind = condition.text("type");
        if !seen.insert(kind) {
            errors.duplicate(&at, kind);
        }
        if kind.is_empty() {
            errors.required(&at.child("type"), "is required");
        } else {
            faults(format::qualified_name(kind), kind, &at.child("type"), errors);
        }
        choice(condition.text("status"), &["False", "True", "Unknown"], &at.child("status"), errors);
        if let Some(generation) = condition.int("observedGeneration").filter(|generation| *generation < 0) {
            errors.invalid(&at.child("observedGeneration"), generation, "must be greater than or equal to zero");
        }
        if !condition.has("lastTransitionTime") {
            errors.required(&at.child("lastTransitionTime"), "");
        }
        let reason = condition.text("reason");
        if reason.is_empty() {
            errors.required(&at.child("reason"), "");
        } else {
            faults(check::condition_reason(reason), reason, &at.child("reason"), errors);
            if reason.len() > 1024 {
                errors.too_long(&at.child("reason"), 1024);
            }
        }
        if condition.text("message").len() > 32 * 1024 {
            errors.too_long(&at.child("message"), 32 * 1024);
        }
    }
}

/// A PriorityClass.
pub fn priority_class(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    const HIGHEST: i64 = 1_000_000_000;
    const SYSTEM: &[(&str, i64)] =
        &[("system-node-critical", 2 * HIGHEST + 1000), ("system-cluster-critical", 2 * HIGHEST)];
    let value = new.int("value").unwrap_or(0);
    if let Some(old) = old {
        if value != old.int("value").unwrap_or(0) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        immutable(new.at("preemptionPolicy"), old.at("preemptionPolicy"), &Path::new("preemptionPolicy"), errors);
        return;
    }
    let name = new.at("metadata").text("name");
    if name.starts_with("system-") {
        let fault = match SYSTEM.iter().find(|(system, _)| *system == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, fixed)) if *fixed != value => Some(format!("value of {name} PriorityClass must be {fixed}")),
            Some(_) if new.is("globalDefault") => Some(format!("globalDefault of {name} PriorityClass must be false")),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {fault}");
            errors.forbidden(&METADATA.child("name"), detail);
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&Path::new("value"), detail);
    }
    if let Some(policy) = new.at("preemptionPolicy").as_str() {
        choice(policy, &["PreemptLowerPriority", "Never"], &Path::new("preemptionPolicy"), errors);
    }
}

/// A RuntimeClass.
pub fn runtime_class(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let path = Path::new("handler");
    if let Some(old) = old {
        unchanging(new.at("handler"), old.at("handler"), &path, errors);
    }
    let handler = new.text("handler");
    if handler.is_empty() {
        errors.required(&path, "");
    } else {
        faults(format::dns_label(handler), handler, &path, errors);
    }
    let fixed = new.at("overhead").at("podFixed");
    if fixed.exists() {
        let limits = serde_json::json!({"limits": fixed.value()});
        resources::of_container(View::new(&limits), &BTreeSet::new(), &Path::new("overhead"), errors);
    }
    let scheduling = new.at("scheduling");
    let path = Path::new("scheduling");
    labels(scheduling.at("nodeSelector"), &path.child("nodeSelector"), errors);
    let at = path.child("tolerations");
    tolerations(scheduling, &at, errors);
    let list: Vec<View<'_>> = scheduling.list("tolerations").collect();
    for (position, toleration) in list.iter().enumerate() {
        let equal = |other: &View<'_>| {
            ["key", "operator", "value", "effect"].iter().all(|member| other.text(member) == toleration.text(member))
        };
        if list[..position].iter().any(equal) {
            errors.duplicate(&at.index(position), toleration.value().clone());
        }
    }
}

/// A Lease.
pub fn lease(new: View<'_>, errors: &mut Errors) {
    let spec = new.at("spec");
    if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.invalid(&SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    not_negative(spec, "leaseTransitions", &SPEC, errors);
    if !spec.text("preferredHolder").is_empty() && spec.text("strategy").is_empty() {
        errors.forbidden(&SPEC.child("preferredHolder"), "may only be specified if `strategy` is defined");
    }
}
