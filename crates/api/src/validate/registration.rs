//! What makes the API server ask others, serve more or trust more: admission webhooks and policies, CustomResourceDefinitions,
//! APIServices, certificate signing requests.
//!
//! Expressions in CEL are not compiled here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{choice, faults, option};
use super::metadata::label_selector;
use super::{Errors, Path, format};
use crate::meta::View;
use crate::status::quote;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const FAILURE: &[&str] = &["Fail", "Ignore"];
const MATCH: &[&str] = &["Equivalent", "Exact"];

/// A kind of the group `admissionregistration.k8s.io`.
pub fn admission(kind: &str, new: View<'_>, errors: &mut Errors) {
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => webhooks(new, errors),
        "ValidatingAdmissionPolicy" => policy(new.at("spec"), errors),
        "MutatingAdmissionPolicy" => mutating_policy(new.at("spec"), errors),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            let spec = new.at("spec");
            if spec.text("policyName").is_empty() {
                errors.required(&SPEC.child("policyName"), "");
            } else {
                let name = spec.text("policyName");
                faults(format::dns_subdomain(name), name, &SPEC.child("policyName"), errors);
            }
            if spec.has("matchResources") {
                match_resources(spec.at("matchResources"), &SPEC.child("matchResources"), errors);
            }
            if kind == "ValidatingAdmissionPolicyBinding" {
                actions(spec, errors);
            }
        }
        _ => {}
    }
}

fn webhooks(new: View<'_>, errors: &mut Errors) {
    let path = Path::new("webhooks");
    let mut names = BTreeSet::new();
    for (position, hook) in new.list("webhooks").enumerate() {
        let at = path.index(position);
        webhook(hook, &at, errors);
        review_versions(hook, &at.child("admissionReviewVersions"), errors);
        let name = hook.text("name");
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
}

fn webhook(hook: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = hook.text("name");
    let at = path.child("name");
    let found = format::dns_subdomain(name);
    if name.is_empty() {
        errors.required(&at, "");
    } else if !found.is_empty() {
        errors.invalid(&at, name, found.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(&at, name, "should be a domain with at least three segments separated by dots");
    }
    let rules = path.child("rules");
    for (position, rule) in hook.list("rules").enumerate() {
        operations(rule, &rules.index(position), errors);
    }
    option(hook, "failurePolicy", FAILURE, path, errors);
    option(hook, "matchPolicy", MATCH, path, errors);
    if hook.has("sideEffects") {
        option(hook, "sideEffects", &["None", "NoneOnDryRun"], path, errors);
    } else {
        errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
    }
    if let Some(seconds) = hook.int("timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    label_selector(hook.at("namespaceSelector"), &path.child("namespaceSelector"), errors);
    label_selector(hook.at("objectSelector"), &path.child("objectSelector"), errors);
    option(hook, "reinvocationPolicy", &["IfNeeded", "Never"], path, errors);
    client(hook.at("clientConfig"), &path.child("clientConfig"), errors);
    conditions(hook, &path.child("matchConditions"), errors);
}

/// Where a webhook is reached.
fn client(config: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let service = config.at("service");
    match (config.at("url").as_str(), service.exists()) {
        (Some(address), false) => url(address, &path.child("url"), errors),
        (None, true) => {
            let at = path.child("service");
            // Upstream takes the name for the namespace here and the other way around, which shows only in the order.
            for member in ["namespace", "name"] {
                if service.text(member).is_empty() {
                    let shown = if member == "namespace" { "name" } else { "namespace" };
                    errors.required(&at.child(shown), "");
                }
            }
            let port = service.int("port").unwrap_or(0);
            let found = format::port_number(port);
            if !found.is_empty() {
                errors.invalid(&at.child("port"), port, format!("port is not valid: {}", found.join(", ")));
            }
            if let Some(text) = service.at("path").as_str() {
                service_path(text, &at.child("path"), errors);
            }
        }
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(text: &str, path: &Path<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest
        .split_once(':')
        .filter(|(scheme, _)| {
            scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        })
        .unwrap_or(("", rest));
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !scheme.eq_ignore_ascii_case("https") {
        errors.invalid(path, scheme.to_lowercase(), format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.invalid(path, part, what);
        }
    }
}

fn service_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        errors.invalid(path, text, "segment[0] may not be empty");
        return;
    }
    if !text.starts_with('/') {
        errors.invalid(path, text, "must start with a '/'");
    }
    let mut letters = text.chars();
    letters.next();
    let rest = letters.as_str();
    for (position, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(path, text, format!("segment[{position}] may not be empty"));
            continue;
        }
        for fault in format::dns_subdomain(step) {
            errors.invalid(path, text, format!("segment[{position}]: {fault}"));
        }
    }
}

fn review_versions(hook: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let listed = REVIEW_VERSIONS.join(", ");
    let versions: Vec<&str> = hook.list("admissionReviewVersions").map(View::string).collect();
    if versions.is_empty() {
        errors.required(path, format!("must specify one of {listed}"));
        return;
    }
    let mut seen = BTreeSet::new();
    for (position, version) in versions.iter().enumerate() {
        if !seen.insert(*version) {
            errors.invalid(&path.index(position), *version, "duplicate version");
            continue;
        }
        faults(format::dns_1035_label(version), version, &path.index(position), errors);
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        errors.invalid(path, Value::from(versions), format!("must include at least one of {listed}"));
    }
}

fn operations(rule: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let list: Vec<&str> = rule.list("operations").map(View::string).collect();
    let at = path.child("operations");
    if list.is_empty() {
        errors.required(&at, "");
    }
    alone(&list, "operations", &at, errors);
    for (position, operation) in list.iter().enumerate().filter(|(_, operation)| !OPERATIONS.contains(operation)) {
        errors.not_supported(&at.index(position), *operation, OPERATIONS);
    }
    for (member, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list: Vec<&str> = rule.list(member).map(View::string).collect();
        let at = path.child(member);
        if list.is_empty() {
            errors.required(&at, "");
        }
        alone(&list, what, &at, errors);
        if member == "apiVersions" {
            for (position, _) in list.iter().enumerate().filter(|(_, version)| version.is_empty()) {
                errors.required(&at.index(position), "");
            }
        }
    }
    resources(rule, &path.child("resources"), errors);
    option(rule, "scope", &["*", "Cluster", "Namespaced"], path, errors);
}

fn alone(list: &[&str], what: &str, path: &Path<'_>, errors: &mut Errors) {
    if list.len() > 1 && list.contains(&"*") {
        errors.invalid(path, list.to_vec(), format!("if '*' is present, must not specify other {what}"));
    }
}

fn resources(rule: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list: Vec<&str> = rule.list("resources").map(View::string).collect();
    if list.is_empty() {
        errors.required(path, "");
    }
    let (mut all_of, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (position, text) in list.iter().enumerate() {
        let at = path.index(position);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = *text != "*";
            continue;
        };
        if all_of.contains(resource) {
            errors.invalid(&at, *text, format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if of_all.contains(sub) {
            errors.invalid(&at, *text, format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            of_all.insert(sub);
        }
    }
    if list.len() > 1 && list.contains(&"*/*") {
        errors.invalid(path, list.clone(), "if '*/*' is present, must not specify other resources");
    }
    if list.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, list, detail);
    }
}

fn conditions(holder: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let conditions = holder.slice("matchConditions");
    if conditions.len() > 64 {
        errors.too_many(path, conditions.len(), 64);
    }
    let mut names = BTreeSet::new();
    for (position, condition) in conditions.iter().map(View::new).enumerate() {
        let at = path.index(position);
        if condition.text("expression").trim().is_empty() {
            errors.required(&at.child("expression"), "");
        }
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
            continue;
        }
        faults(format::qualified_name(name), name, &at.child("name"), errors);
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
}

fn match_resources(resources: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    choice(resources.text("matchPolicy"), MATCH, &path.child("matchPolicy"), errors);
    for selector in ["namespaceSelector", "objectSelector"] {
        if resources.has(selector) {
            label_selector(resources.at(selector), &path.child(selector), errors);
        } else {
            errors.required(&path.child(selector), "");
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        let at = path.child(rules);
        for (position, rule) in resources.list(rules).enumerate() {
            let at = at.index(position);
            let names = at.child("resourceNames");
            let mut seen = BTreeSet::new();
            for (position, name) in rule.list("resourceNames").map(View::string).enumerate() {
                faults(format::path_segment(name), name, &names.index(position), errors);
                if !seen.insert(name) {
                    errors.duplicate(&names.index(position), name);
                }
            }
            operations(rule, &at, errors);
        }
    }
}

/// What both kinds of policies have.
fn policy_basics(spec: View<'_>, errors: &mut Errors) {
    choice(spec.text("failurePolicy"), FAILURE, &SPEC.child("failurePolicy"), errors);
    if spec.has("paramKind") {
        let (path, kind) = (SPEC.child("paramKind"), spec.at("paramKind"));
        for member in ["apiVersion", "kind"] {
            if kind.text(member).is_empty() {
                errors.required(&path.child(member), "");
            }
        }
    }
    let path = SPEC.child("matchConstraints");
    let constraints = spec.at("matchConstraints");
    if !constraints.exists() {
        errors.required(&path, "");
    } else {
        match_resources(constraints, &path, errors);
        if constraints.slice("resourceRules").is_empty() {
            errors.required(&path.child("resourceRules"), "");
        }
    }
    conditions(spec, &SPEC.child("matchConditions"), errors);
    let path = SPEC.child("variables");
    for (position, variable) in spec.list("variables").enumerate() {
        let at = path.index(position);
        let name = variable.text("name");
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !first || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        if variable.text("expression").trim().is_empty() {
            errors.required(&at.child("expression"), "expression is not specified");
        }
    }
}

fn policy(spec: View<'_>, errors: &mut Errors) {
    policy_basics(spec, errors);
    let (validations, annotations) = (SPEC.child("validations"), SPEC.child("auditAnnotations"));
    if spec.slice("validations").is_empty() && spec.slice("auditAnnotations").is_empty() {
        const DETAIL: &str = "validations or auditAnnotations must contain at least one item";
        errors.required(&validations, DETAIL);
        errors.required(&annotations, DETAIL);
        return;
    }
    for (position, validation) in spec.list("validations").enumerate() {
        let at = validations.index(position);
        if validation.text("expression").trim().is_empty() {
            errors.required(&at.child("expression"), "expression is not specified");
        }
        for member in ["messageExpression", "message"] {
            let text = validation.text(member);
            if !text.is_empty() && text.trim().is_empty() {
                errors.invalid(&at.child(member), text, "must be non-empty if specified");
            } else if member == "message" && text.trim().contains('\n') {
                errors.invalid(&at.child(member), text, "must not contain line breaks");
            }
        }
        option(validation, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], &at, errors);
    }
    let count = spec.slice("auditAnnotations").len();
    if count > 20 {
        let shown = spec.at("auditAnnotations").value().clone();
        errors.invalid(&annotations, shown, "must not have more than 20 auditAnnotations");
    }
    let mut keys = BTreeSet::new();
    for (position, annotation) in spec.list("auditAnnotations").enumerate() {
        let at = annotations.index(position);
        let key = annotation.text("key");
        if key.is_empty() {
            errors.required(&at.child("key"), "");
        }
        if annotation.text("valueExpression").trim().is_empty() {
            errors.required(&at.child("valueExpression"), "valueExpression is not specified");
        }
        if !keys.insert(key) {
            errors.duplicate(&at.child("key"), key);
        }
    }
}

fn mutating_policy(spec: View<'_>, errors: &mut Errors) {
    policy_basics(spec, errors);
    let path = SPEC.child("mutations");
    if spec.slice("mutations").is_empty() {
        errors.required(&path, "mutations must contain at least one item");
    }
    for (position, mutation) in spec.list("mutations").enumerate() {
        let at = path.index(position);
        let kinds = &["ApplyConfiguration", "JSONPatch"];
        choice(mutation.text("patchType"), kinds, &at.child("patchType"), errors);
    }
    choice(spec.text("reinvocationPolicy"), &["IfNeeded", "Never"], &SPEC.child("reinvocationPolicy"), errors);
}

fn actions(spec: View<'_>, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
    let path = SPEC.child("validationActions");
    let list: Vec<&str> = spec.list("validationActions").map(View::string).collect();
    for (position, action) in list.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.not_supported(&path.index(position), *action, ACTIONS);
        }
        if list[..position].contains(action) {
            errors.duplicate(&path.index(position), *action);
        }
    }
    if list.contains(&"Deny") && list.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        errors.invalid(&path, list.clone(), detail);
    }
    if list.is_empty() {
        errors.required(&path, "at least one validation action is required");
    }
}

/// A CustomResourceDefinition.
pub fn definition(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if subresource.is_empty() {
        for fault in crate::crd::definition_errors(new.value(), old.map(View::value)) {
            errors.push(fault);
        }
    }
}

/// An APIService.
pub fn api_service(subresource: &str, new: View<'_>, errors: &mut Errors) {
    if subresource == "status" {
        let path = STATUS.child("conditions");
        for (position, condition) in new.at("status").list("conditions").enumerate() {
            let statuses = &["True", "False", "Unknown"];
            let status = condition.text("status");
            if !statuses.contains(&status) {
                errors.not_supported(&path.index(position).child("status"), status, statuses);
            }
        }
        return;
    }
    let spec = new.at("spec");
    let (group, version) = (spec.text("group"), spec.text("version"));
    let (name, required) = (new.at("metadata").text("name"), format!("{version}.{group}"));
    if name != required && format::path_segment(name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", quote(&required));
        errors.invalid(&METADATA.child("name"), name, detail);
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&SPEC.child("group"), detail);
    }
    if !group.is_empty() {
        faults(format::dns_subdomain(group), group, &SPEC.child("group"), errors);
    }
    faults(format::dns_1035_label(version), version, &SPEC.child("version"), errors);
    for (member, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.int(member).unwrap_or(0);
        if !(1..=most).contains(&priority) {
            errors.invalid(&SPEC.child(member), priority, format!("must be positive and less than {most}"));
        }
    }
    let (service, bundle) = (spec.at("service"), spec.text("caBundle"));
    let insecure = SPEC.child("insecureSkipTLSVerify");
    if !service.exists() {
        if !bundle.is_empty() {
            let size = base64_length(bundle);
            let detail = "local APIServices may not have a caBundle";
            errors.invalid(&SPEC.child("caBundle"), format!("{size} bytes"), detail);
        }
        if spec.is("insecureSkipTLSVerify") {
            errors.invalid(&insecure, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    let path = SPEC.child("service");
    for member in ["namespace", "name"] {
        if service.text(member).is_empty() {
            errors.required(&path.child(member), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    let found = format::port_number(port);
    if !found.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", found.join(", ")));
    }
    if spec.is("insecureSkipTLSVerify") && !bundle.is_empty() {
        errors.invalid(&insecure, true, "may not be true if caBundle is present");
    }
}

fn base64_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// A CertificateSigningRequest. The request itself, in PEM, is looked at by who signs it.
pub fn signing_request(subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    let spec = new.at("spec");
    let path = SPEC.child("usages");
    let usages: Vec<&str> = spec.list("usages").map(View::string).collect();
    if usages.is_empty() {
        errors.required(&path, "");
    }
    for (position, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.not_supported(&path.index(position), *usage, USAGES);
    }
    for (position, usage) in usages.iter().enumerate().filter(|(position, usage)| usages[..*position].contains(usage)) {
        errors.duplicate(&path.index(position), *usage);
    }
    let signer = spec.text("signerName");
    let path = SPEC.child("signerName");
    if signer == "kubernetes.io/legacy-unknown" {
        errors.invalid(&path, signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(signer, &path, errors);
    }
    if let Some(seconds) = spec.int("expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&SPEC.child("expirationSeconds"), seconds, detail);
    }
    request_conditions(new, errors);
    if let Some(old) = old {
        request_update(subresource, new, old, errors);
    }
}

/// The name of whoever signs: a domain and a path.
pub fn signer_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    const LONGEST: usize = 571;
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, name, detail);
        return;
    };
    if domain.len() > 253 {
        errors.too_long(path, 253);
    }
    labels(domain, format::dns_label, path, errors);
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    labels(rest, format::dns_subdomain, path, errors);
    if name.len() > LONGEST {
        errors.too_long(path, LONGEST);
    }
}

/// Reports the first malformed part between dots.
fn labels(text: &str, form: fn(&str) -> format::Faults, path: &Path<'_>, errors: &mut Errors) {
    if let Some(label) = text.split('.').find(|label| !form(label).is_empty()) {
        for fault in form(label) {
            errors.invalid(path, text, format!("validating label {}: {fault}", quote(label)));
        }
    }
}

fn request_conditions(new: View<'_>, errors: &mut Errors) {
    let path = STATUS.child("conditions");
    let list: Vec<View<'_>> = new.at("status").list("conditions").collect();
    for (position, condition) in list.iter().enumerate() {
        let at = path.index(position);
        let kind = condition.text("type");
        if kind.is_empty() {
            errors.required(&at.child("type"), "");
        }
        let statuses: &[&str] =
            if matches!(kind, "Approved" | "Denied" | "Failed") { &["True"] } else { &["False", "True", "Unknown"] };
        choice(condition.text("status"), statuses, &at.child("status"), errors);
        let before = |other: &str| list[..position].iter().any(|condition| condition.text("type") == other);
        if (kind == "Approved" && before("Denied")) || (kind == "Denied" && before("Approved")) {
            errors.invalid(&path, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if before(kind) {
            errors.duplicate(&at.child("type"), kind);
        }
    }
}

fn request_update(subresource: &str, new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let path = STATUS.child("conditions");
    let of = |object: View<'_>, kind: &str| -> Vec<Value> {
        let conditions = object.at("status").list("conditions");
        conditions
            .filter(|condition| condition.text("type") == kind)
            .map(|condition| condition.value().clone())
            .collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(new, kind).len() < of(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {}", quote(kind));
            errors.forbidden(&path, detail);
        }
    }
    if subresource != "approval" {
        for kind in ["Approved", "Denied"] {
            let (now, before) = (of(new, kind), of(old, kind));
            if now.len() > before.len() {
                errors.forbidden(&path, format!("updates may not add a condition of type {}", quote(kind)));
            } else if now.len() == before.len() && now != before {
                errors.forbidden(&path, format!("updates may not modify a condition of type {}", quote(kind)));
            }
        }
    }
    let certificate = |object: View<'_>| object.at("status").text("certificate").to_owned();
    if certificate(new) != certificate(old) {
        let path = STATUS.child("certificate");
        if subresource != "status" {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if !certificate(old).is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
}
