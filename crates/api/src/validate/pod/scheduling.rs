//! Where a pod may run: affinity, tolerations, spreading.

use std::collections::BTreeSet;

use super::super::metadata::{label_key, label_selector};
use super::super::{Errors, Path, format};
use crate::meta::View;

/// `affinity` of a pod.
pub fn affinity(affinity: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let node = affinity.at("nodeAffinity");
    if node.exists() {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, path) = (affinity.at(kind), path.child(kind));
        let required = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (position, term) in terms.list("requiredDuringSchedulingIgnoredDuringExecution").enumerate() {
            pod_affinity_term(term, &required.index(position), errors);
        }
        let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (position, weighted) in terms.list("preferredDuringSchedulingIgnoredDuringExecution").enumerate() {
            let at = preferred.index(position);
            weight(weighted, &at, errors);
            pod_affinity_term(weighted.at("podAffinityTerm"), &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_affinity(affinity: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution");
    if required.exists() {
        node_selector(required, &path.child("requiredDuringSchedulingIgnoredDuringExecution"), errors);
    }
    let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (position, term) in affinity.list("preferredDuringSchedulingIgnoredDuringExecution").enumerate() {
        let at = preferred.index(position);
        weight(term, &at, errors);
        node_selector_term(term.at("preference"), true, &at.child("preference"), errors);
    }
}

/// A NodeSelector.
pub fn node_selector(selector: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    if selector.slice("nodeSelectorTerms").is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (position, term) in selector.list("nodeSelectorTerms").enumerate() {
        node_selector_term(term, false, &path.index(position), errors);
    }
}

fn node_selector_term(term: View<'_>, any_value: bool, path: &Path<'_>, errors: &mut Errors) {
    let expressions = path.child("matchExpressions");
    for (position, requirement) in term.list("matchExpressions").enumerate() {
        node_requirement(requirement, any_value, &expressions.index(position), errors);
    }
    let fields = path.child("matchFields");
    for (position, requirement) in term.list("matchFields").enumerate() {
        let at = fields.index(position);
        match requirement.text("operator") {
            "In" | "NotIn" => {
                if requirement.slice("values").len() != 1 {
                    let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    errors.required(&at.child("values"), detail);
                }
            }
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        if requirement.text("key") != "metadata.name" {
            errors.invalid(&at.child("key"), requirement.text("key"), "not a valid field selector key");
            continue;
        }
        for (position, value) in requirement.list("values").enumerate() {
            for fault in format::dns_subdomain(value.string()) {
                errors.invalid(&at.child("values").index(position), value.string(), fault);
            }
        }
    }
}

fn node_requirement(requirement: View<'_>, any_value: bool, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.slice("values").len();
    let at = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values == 0 => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            errors.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values != 1 => {
            errors.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    label_key(requirement.text("key"), &path.child("key"), errors);
    if !any_value {
        for (position, value) in requirement.list("values").enumerate() {
            for fault in format::label_value(value.string()) {
                errors.invalid(&at.index(position), value.string(), fault);
            }
        }
    }
}

fn pod_affinity_term(term: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    label_selector(term.at("labelSelector"), &path.child("labelSelector"), errors);
    label_selector(term.at("namespaceSelector"), &path.child("namespaceSelector"), errors);
    for namespace in term.list("namespaces").map(|namespace| namespace.string()) {
        for fault in format::dns_label(namespace) {
            errors.invalid(&path.child("namespace"), namespace, fault);
        }
    }
    label_keys(term, &["matchLabelKeys", "mismatchLabelKeys"], path, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    label_key(key, &path.child("topologyKey"), errors);
}

/// Keys of labels whose values a pod takes from itself.
fn label_keys(holder: View<'_>, members: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let selector = holder.at("labelSelector");
    for member in members {
        let at = path.child(member);
        if holder.slice(member).is_empty() {
            continue;
        }
        if !selector.exists() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (position, key) in holder.list(member).enumerate() {
            label_key(key.string(), &at.index(position), errors);
        }
    }
    let keys: Vec<&str> = holder.list("matchLabelKeys").map(|key| key.string()).collect();
    let mut selected: BTreeSet<&str> =
        selector.map("matchLabels").into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.text("key");
        if let Some(position) = keys.iter().position(|other| *other == key)
            && selected.contains(key)
        {
            errors.invalid(&path.index(position), key, "exists in both matchLabelKeys and labelSelector");
        }
        selected.insert(key);
    }
    let other: Vec<&str> = holder.list("mismatchLabelKeys").map(|key| key.string()).collect();
    for (position, key) in keys.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.invalid(&path.child("matchLabelKeys").index(position), *key, detail);
    }
}

/// `tolerations` of a pod.
pub fn tolerations(holder: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    for (position, toleration) in holder.list("tolerations").enumerate() {
        let at = path.index(position);
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        if !key.is_empty() {
            label_key(key, &at.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let faults = format::label_value(value);
                if !faults.is_empty() {
                    errors.invalid(&at.child("operator"), value, faults.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&at.child("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                errors.not_supported(&at.child("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]);
            }
            other => errors.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(effect, &at.child("effect"), errors);
        }
    }
}

/// What a taint does to pods that do not tolerate it.
pub fn taint_effect(effect: &str, path: &Path<'_>, errors: &mut Errors) {
    match effect {
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
        other => errors.not_supported(path, other, &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    }
}

/// `topologySpreadConstraints` of a pod.
pub fn spread(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let constraints: Vec<View<'_>> = spec.list("topologySpreadConstraints").collect();
    for (position, constraint) in constraints.iter().enumerate() {
        let at = path.index(position);
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(&at.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let repeated = constraints[position + 1..]
            .iter()
            .any(|other| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action);
        if repeated {
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.int("minDomains") {
            let at = at.child("minDomains");
            if domains <= 0 {
                errors.invalid(&at, domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at, domains, detail);
            }
        }
        for member in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = constraint.at(member);
            if policy.exists() && !matches!(policy.string(), "Ignore" | "Honor") {
                errors.not_supported(&at.child(member), policy.string(), &["Honor", "Ignore"]);
            }
        }
        label_keys(*constraint, &["matchLabelKeys"], &at, errors);
        label_selector(constraint.at("labelSelector"), &at.child("labelSelector"), errors);
    }
}
