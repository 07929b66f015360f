//! How requests to the API server share it: FlowSchema and PriorityLevelConfiguration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{faults, require};
use super::{Errors, Path, format};
use crate::meta::View;

const SPEC: Path<'static> = Path::new("spec");
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// A kind of the group `flowcontrol.apiserver.k8s.io`.
pub fn check(kind: &str, subresource: &str, new: View<'_>, errors: &mut Errors) {
    let (name, spec) = (new.at("metadata").text("name"), new.at("spec"));
    match (kind, subresource) {
        ("FlowSchema", "") => schema(name, spec, errors),
        ("PriorityLevelConfiguration", "") => level(name, spec, errors),
        _ => {}
    }
    let path = Path::new("status");
    let path = path.child("conditions");
    let mut seen = BTreeSet::new();
    for (position, condition) in new.at("status").list("conditions").enumerate() {
        let at = path.index(position);
        let kind = condition.text("type");
        if !seen.insert(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        require(condition, "type", &at, errors);
    }
}

fn schema(name: &str, spec: View<'_>, errors: &mut Errors) {
    const MOST: i64 = 10_000;
    let precedence = spec.int("matchingPrecedence").unwrap_or(0);
    let path = SPEC.child("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid(&path, precedence, "must be a positive value");
    }
    if precedence > MOST {
        errors.invalid(&path, precedence, format!("must not be greater than {MOST}"));
    }
    if precedence == 1 && name != "exempt" {
        errors.invalid(&path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.at("distinguisherMethod");
    if method.exists() && !matches!(method.text("type"), "ByNamespace" | "ByUser") {
        let at = SPEC.child("distinguisherMethod");
        errors.not_supported(&at.child("type"), method.value().clone(), &["ByNamespace", "ByUser"]);
    }
    let level = spec.at("priorityLevelConfiguration").text("name");
    let at = SPEC.child("priorityLevelConfiguration");
    if level.is_empty() {
        errors.required(&at.child("name"), "must reference a priority level");
    } else {
        faults(format::dns_subdomain(level), level, &at.child("name"), errors);
    }
    let path = SPEC.child("rules");
    for (position, rule) in spec.list("rules").enumerate() {
        let at = path.index(position);
        let subjects = at.child("subjects");
        if rule.slice("subjects").is_empty() {
            errors.required(&subjects, "subjects must contain at least one value");
        }
        for (position, entry) in rule.list("subjects").enumerate() {
            subject(entry, &subjects.index(position), errors);
        }
        if rule.slice("resourceRules").is_empty() && rule.slice("nonResourceRules").is_empty() {
            errors.required(&at, "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        let list = at.child("resourceRules");
        for (position, rule) in rule.list("resourceRules").enumerate() {
            resource_rule(rule, &list.index(position), errors);
        }
        let list = at.child("nonResourceRules");
        for (position, rule) in rule.list("nonResourceRules").enumerate() {
            other_rule(rule, &list.index(position), errors);
        }
    }
}

fn subject(subject: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.text("kind");
    let Some((_, expected)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        errors.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let at = path.child(expected);
    let named = subject.at(expected);
    if !named.exists() {
        errors.required(&at, format!("{expected} is required when subject kind is '{kind}'"));
    } else {
        let name = named.text("name");
        require(named, "name", &at, errors);
        if kind == "ServiceAccount" {
            if !matches!(name, "" | "*") {
                faults(format::dns_subdomain(name), name, &at.child("name"), errors);
            }
            let namespace = named.text("namespace");
            if namespace.is_empty() {
                errors.required(&at.child("namespace"), "must specify namespace for service account");
            } else {
                faults(format::dns_label(namespace), namespace, &at.child("namespace"), errors);
            }
        }
    }
    for (name, member) in KINDS.iter().filter(|(name, member)| *name != kind && subject.has(member)) {
        let detail = format!("{member} is forbidden when subject kind is not '{name}'");
        errors.forbidden(&path.child(member), detail);
    }
}

fn texts<'a>(rule: View<'a>, member: &str) -> Vec<&'a str> {
    rule.list(member).map(View::string).collect()
}

fn verbs(rule: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = texts(rule, "verbs");
    let at = path.child("verbs");
    if list.is_empty() {
        errors.required(&at, "verbs must contain at least one value");
    } else if list.contains(&"*") {
        alone(&list, "verbs", &at, errors);
    } else if !list.iter().all(|verb| VERBS.contains(verb)) {
        errors.not_supported(&at, Value::from(list), VERBS);
    }
}

fn alone(list: &[&str], what: &str, path: &Path<'_>, errors: &mut Errors) {
    if list.len() > 1 && list.contains(&"*") {
        errors.invalid(path, list.to_vec(), format!("if '*' is present, must not specify other {what}"));
    }
}

fn resource_rule(rule: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    for (member, one, several) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let list = texts(rule, member);
        if list.is_empty() {
            errors.required(&path.child(member), format!("resource rules must supply at least one {one}"));
        }
        alone(&list, several, &path.child(member), errors);
    }
    let list = texts(rule, "namespaces");
    let at = path.child("namespaces");
    if list.is_empty() && !rule.is("clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&at, detail);
    } else if list.contains(&"*") {
        alone(&list, "namespaces", &at, errors);
    } else {
        for (position, namespace) in list.iter().enumerate() {
            for fault in format::dns_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {fault}");
                errors.invalid(&at.index(position), *namespace, detail);
            }
        }
    }
}

fn other_rule(rule: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let list = texts(rule, "nonResourceURLs");
    let at = path.child("nonResourceURLs");
    if list.is_empty() {
        errors.required(&at, "nonResourceURLs must contain at least one value");
    } else if list.contains(&"*") {
        alone(&list, "non-resource URLs", &at, errors);
    } else {
        for (position, text) in list.iter().enumerate() {
            if let Some(fault) = url_path(text) {
                errors.invalid(&at.index(position), *text, fault);
            }
        }
    }
}

fn url_path(text: &str) -> Option<&'static str> {
    let stars = text.matches('*').count();
    if text.is_empty() {
        Some("must not be empty")
    } else if text == "/" {
        None
    } else if !text.starts_with('/') {
        Some("must start with slash")
    } else if text.contains(' ') {
        Some("must not contain white-space")
    } else if text.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || (stars == 1 && !text.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn level(name: &str, spec: View<'_>, errors: &mut Errors) {
    let kind = spec.text("type");
    let (limited, exempt) = (spec.at("limited"), spec.at("exempt"));
    if (name == "exempt") != (kind == "Exempt") {
        errors.invalid(&SPEC.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    if kind != "Limited" && limited.exists() {
        errors.forbidden(&SPEC.child("limited"), "");
    }
    if kind == "Limited" && exempt.exists() {
        errors.forbidden(&SPEC.child("exempt"), "");
    }
    match kind {
        "Exempt" => shares(exempt, &SPEC.child("exempt"), errors),
        "Limited" if !limited.exists() => errors.required(&SPEC.child("limited"), ""),
        "Limited" => {
            let path = SPEC.child("limited");
            shares(limited, &path, errors);
            if let Some(percent) = limited.int("borrowingLimitPercent").filter(|percent| *percent < 0) {
                let detail = "if specified, must be a non-negative integer";
                errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
            }
            response(limited.at("limitResponse"), &path.child("limitResponse"), errors);
        }
        "" => errors.required(&SPEC.child("type"), ""),
        _ => errors.not_supported(&SPEC.child("type"), kind, &["Exempt", "Limited"]),
    }
}

fn shares(holder: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(shares) = holder.int("nominalConcurrencyShares").filter(|shares| *shares < 0) {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    if let Some(percent) = holder.int("lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&path.child("lendablePercent"), percent, format::between(0, 100));
    }
}

fn response(response: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const MOST: i64 = 10_000_000;
    const BITS: i64 = 60;
    let (kind, queuing) = (response.text("type"), response.at("queuing"));
    let at = path.child("queuing");
    if kind != "Queue" && queuing.exists() {
        errors.forbidden(&at, "");
    }
    match kind {
        "Reject" => {}
        "Queue" if !queuing.exists() => errors.required(&at, ""),
        "Queue" => {
            let number = |member: &str| queuing.int(member).unwrap_or(0);
            let (queues, hand) = (number("queues"), number("handSize"));
            for member in ["queueLengthLimit", "queues", "handSize"] {
                if number(member) <= 0 {
                    errors.invalid(&at.child(member), number(member), "must be positive");
                }
            }
            if queues > MOST {
                errors.invalid(&at.child("queues"), queues, format!("must not be greater than {MOST}"));
            }
            if hand <= 0 {
                return;
            }
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            let bits = ((queues as f64).log2() * hand as f64).ceil() as i64;
            let at = at.child("handSize");
            if hand > queues {
                errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
            } else if bits > BITS {
                let detail = format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {BITS}"
                );
                errors.invalid(&at, hand, detail);
            }
        }
        "" => errors.required(&path.child("type"), ""),
        _ => errors.not_supported(&path.child("type"), kind, &["Queue", "Reject"]),
    }
}
