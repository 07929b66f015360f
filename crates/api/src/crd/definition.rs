//! Whether a CustomResourceDefinition may be stored.
//!
//! Upstream lifts what is the same in all versions out of them before it validates: errors about a schema are then at
//! `spec.validation.openAPIV3Schema`, not at `spec.versions[0].schema.openAPIV3Schema`.

use serde_json::Value;

use super::schema_errors;
use crate::validate::{FieldError, Path, format};

const SPEC: Path<'static> = Path::new("spec");
/// How many fields of a version may be selectable.
const MAX_SELECTABLE: usize = 8;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// What upstream finds wrong with a definition (but for what is wrong with any object's metadata); `old` is the one that
/// it replaces.
///
/// The definition has its defaults. Faults of schemas that the old definition has too are let pass.
pub fn definition_errors(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let names = &new["spec"]["names"];
    let name = format!("{}.{}", text(names, "plural"), text(&new["spec"], "group"));
    let metadata = Path::new("metadata");
    if old.is_none() && text(&new["metadata"], "name") != name {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(metadata.child("name"), text(&new["metadata"], "name"), detail));
    }
    let mut found = spec(&new["spec"]);
    if let Some(old) = old {
        let before: Vec<String> = spec(&old["spec"]).iter().map(ToString::to_string).collect();
        found.retain(|e| !e.path.contains("openAPIV3Schema") || !before.contains(&e.to_string()));
    }
    errors.extend(found);
    if let Some(old) = old {
        immutable(new, old, &mut errors);
    }
    let status = Path::new("status");
    names_errors(&new["status"]["acceptedNames"], &status.child("acceptedNames"), &mut errors);
    stored_versions(new, &status.child("storedVersions"), &mut errors);
    approval(new, old, &mut errors);
    if new["spec"]["preserveUnknownFields"] == true && old.is_none_or(|o| o["spec"]["preserveUnknownFields"] != true) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(SPEC.child("preserveUnknownFields"), true, detail));
    }
    errors
}

fn established(definition: &Value) -> bool {
    let condition = |c: &Value| c["type"] == "Established" && c["status"] == "True";
    list(&definition["status"], "conditions").iter().any(condition)
}

fn immutable(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let mut fixed = vec!["/group", "/names/plural"];
    if established(old) {
        fixed.splice(0..0, ["/scope", "/names/kind"]);
    }
    for pointer in fixed {
        let value = new["spec"].pointer(pointer).cloned().unwrap_or_default();
        if Some(&value) != old["spec"].pointer(pointer) {
            let path = format!("spec{}", pointer.replace('/', "."));
            errors.push(FieldError::invalid(path, value, "field is immutable"));
        }
    }
}

fn spec(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = text(spec, "group");
    let faults = format::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(SPEC.child("group"), ""));
    } else if !faults.is_empty() {
        errors.push(FieldError::invalid(SPEC.child("group"), group, faults.join(",")));
    } else if !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(SPEC.child("group"), group, detail));
    }
    match text(spec, "scope") {
        "" => errors.push(FieldError::required(SPEC.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(SPEC.child("scope"), other, &["Cluster", "Namespaced"])),
    }
    let versions = list(spec, "versions");
    let in_versions = SPEC.child("versions");
    for (i, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let place = in_versions.index(i);
            let place = place.child("schema");
            errors.push(FieldError::required(place.child("openAPIV3Schema"), ""));
        }
    }
    versions_errors(spec, versions, &mut errors);
    if let Some(first) = versions.first() {
        let faults = format::dns_1035_label(text(first, "name"));
        if !faults.is_empty() {
            errors.push(FieldError::invalid(SPEC.child("version"), text(first, "name"), faults.join(",")));
        }
    }
    let names = SPEC.child("names");
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], name).is_empty() {
            errors.push(FieldError::required(names.child(name), ""));
        }
    }
    names_errors(&spec["names"], &names, &mut errors);
    let same = |part: &str| versions.windows(2).all(|w| w[0][part] == w[1][part]);
    if let Some(first) = versions.first() {
        let status = versions.iter().any(|v| v["subresources"]["status"].is_object());
        if same("schema") && first["schema"]["openAPIV3Schema"].is_object() {
            let place = SPEC.child("validation");
            errors.extend(schema_errors(&first["schema"]["openAPIV3Schema"], &place.child("openAPIV3Schema"), status));
        }
        if same("subresources") {
            subresources(&first["subresources"], &SPEC.child("subresources"), &mut errors);
        }
        if same("additionalPrinterColumns") {
            columns(first, &SPEC, &mut errors);
        }
        if same("selectableFields") {
            selectable(first, &SPEC, &mut errors);
        }
    }
    conversion(&spec["conversion"], &mut errors);
    errors
}

fn versions_errors(spec: &Value, versions: &[Value], errors: &mut Vec<FieldError>) {
    let in_versions = SPEC.child("versions");
    let same = |part: &str| versions.windows(2).all(|w| w[0][part] == w[1][part]);
    for (i, version) in versions.iter().enumerate() {
        let place = in_versions.index(i);
        let name = text(version, "name");
        let faults = format::dns_1035_label(name);
        if !faults.is_empty() {
            errors.push(FieldError::invalid(place.child("name"), name, faults.join(",")));
        }
        for fault in deprecation_warning(version) {
            let value = version["deprecationWarning"].clone();
            errors.push(FieldError::invalid(place.child("deprecationWarning"), value, fault));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        if !same("schema") && schema.is_object() {
            let status = version["subresources"]["status"].is_object();
            let place = place.child("schema");
            errors.extend(schema_errors(schema, &place.child("openAPIV3Schema"), status));
        }
        if !same("subresources") {
            subresources(&version["subresources"], &place.child("subresources"), errors);
        }
        if !same("additionalPrinterColumns") {
            columns(version, &place, errors);
        }
        if !same("selectableFields") {
            selectable(version, &place, errors);
        }
    }
    let all = || spec["versions"].clone();
    let repeated = (1..versions.len()).any(|i| versions[..i].iter().any(|v| v["name"] == versions[i]["name"]));
    if repeated {
        errors.push(FieldError::invalid(in_versions, all(), "must contain unique version names"));
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(in_versions, all(), detail));
    }
}

fn deprecation_warning(version: &Value) -> Vec<String> {
    let Some(warning) = version["deprecationWarning"].as_str() else { return Vec::new() };
    if version["deprecated"] != true {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut faults = Vec::new();
    if warning.len() > 256 {
        faults.push("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        faults.push("must not be an empty string".to_owned());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let what = "must only contain printable UTF-8 characters; non-printable character found at index";
        faults.push(format!("{what} {i}"));
    }
    faults
}

fn names_errors(names: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (name, mixed) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let value = text(names, name);
        let faults = if mixed { format::dns_1035_label(&value.to_lowercase()) } else { format::dns_1035_label(value) };
        if value.is_empty() || faults.is_empty() {
            continue;
        }
        let prefix = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
        errors.push(FieldError::invalid(path.child(name), value, format!("{prefix}{}", faults.join(","))));
    }
    let mut labels = |name: &str| {
        let place = path.child(name);
        for (i, label) in list(names, name).iter().enumerate() {
            let faults = format::dns_1035_label(label.as_str().unwrap_or_default());
            if !faults.is_empty() {
                errors.push(FieldError::invalid(place.index(i), label.clone(), faults.join(",")));
            }
        }
    };
    labels("shortNames");
    labels("categories");
    if !text(names, "kind").is_empty() && names["kind"] == names["listKind"] {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(path.child("listKind"), names["listKind"].clone(), detail));
    }
}

fn simple_path(value: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) -> bool {
    if value.starts_with('.') {
        return true;
    }
    errors.push(FieldError::invalid(path, value, "must be a simple json path starting with ."));
    false
}

fn subresources(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let scale = &value["scale"];
    if !scale.is_object() {
        return;
    }
    for (name, below) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let (value, place) = (text(scale, name), format!("scale.{name}"));
        let place = path.child(&place);
        if value.is_empty() {
            errors.push(FieldError::required(place, ""));
        } else if simple_path(value, &place, errors) && !value.starts_with(&format!(".{below}.")) {
            errors.push(FieldError::invalid(place, value, format!("should be a json path under .{below}")));
        }
    }
    let value = text(scale, "labelSelectorPath");
    let place = path.child("scale.labelSelectorPath");
    if !value.is_empty()
        && simple_path(value, &place, errors)
        && !value.starts_with(".spec.")
        && !value.starts_with(".status.")
    {
        let detail = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(place, value, detail));
    }
}

fn columns(version: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const TYPES: &str = "boolean,date,integer,number,string";
    const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
    let all = path.child("additionalPrinterColumns");
    for (i, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        let place = all.index(i);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(place.child("name"), ""));
        }
        let kind = text(column, "type");
        let detail = format!("must be one of {TYPES}");
        if kind.is_empty() {
            errors.push(FieldError::required(place.child("type"), detail));
        } else if !TYPES.split(',').any(|t| t == kind) {
            errors.push(FieldError::invalid(place.child("type"), kind, detail));
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.split(',').any(|f| f == format) {
            errors.push(FieldError::invalid(place.child("format"), format, format!("must be one of {FORMATS}")));
        }
        let json_path = text(column, "jsonPath");
        let place = place.child("JSONPath");
        if json_path.is_empty() {
            errors.push(FieldError::required(place, ""));
        } else {
            simple_path(json_path, &place, errors);
        }
    }
}

fn selectable(version: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = path.child("selectableFields");
    let mut seen: Vec<&str> = Vec::new();
    for (i, field) in list(version, "selectableFields").iter().enumerate() {
        let place = all.index(i);
        let place = place.child("jsonPath");
        let json_path = text(field, "jsonPath");
        if json_path.is_empty() {
            errors.push(FieldError::required(place, ""));
            continue;
        }
        let mut schema = &version["schema"]["openAPIV3Schema"];
        let mut problem = json_path.contains('[').then_some("array notation is not allowed");
        let mut names = json_path.split('.');
        if problem.is_none() && names.next() != Some("") {
            problem = Some("expected [ or . but got: a field");
        }
        for name in names {
            schema = &schema["properties"][name];
            if schema.is_null() {
                problem = problem.or(Some("does not refer to a valid field"));
            }
        }
        if let Some(problem) = problem {
            errors.push(FieldError::invalid(place, json_path, format!("is an invalid path: {problem}")));
            continue;
        }
        if json_path == ".metadata" || json_path.starts_with(".metadata.") {
            errors.push(FieldError::invalid(place, json_path, "must not point to fields in metadata"));
        }
        if !matches!(text(schema, "type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                          formats are allowed.";
            errors.push(FieldError::invalid(place, json_path, detail));
        }
        if seen.contains(&json_path) {
            errors.push(FieldError::duplicate(place, json_path));
        } else {
            seen.push(json_path);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(all, seen.len(), MAX_SELECTABLE));
    }
}

fn conversion(conversion: &Value, errors: &mut Vec<FieldError>) {
    if conversion.is_null() {
        return;
    }
    let place = SPEC.child("conversion");
    let strategy = text(conversion, "strategy");
    match strategy {
        "" => errors.push(FieldError::required(place.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(FieldError::not_supported(place.child("strategy"), other, &["None", "Webhook"])),
    }
    let webhook = &conversion["webhook"];
    let client = &webhook["clientConfig"];
    let in_client = place.child("webhookClientConfig");
    let reviews = list(webhook, "conversionReviewVersions");
    let in_reviews = place.child("conversionReviewVersions");
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if client.is_object() {
            errors.push(FieldError::forbidden(in_client, detail));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(in_reviews, detail));
        }
        return;
    }
    if !client.is_object() {
        errors.push(FieldError::required(in_client, "required when strategy is set to Webhook"));
    } else if client["url"].is_null() == client["service"].is_null() {
        errors.push(FieldError::required(in_client, "exactly one of url or service is required"));
    } else if let Some(url) = client["url"].as_str() {
        webhook_url(url, &in_client.child("url"), errors);
    } else {
        webhook_service(&client["service"], &in_client.child("service"), errors);
    }
    if reviews.is_empty() {
        errors.push(FieldError::required(in_reviews, ""));
        return;
    }
    for (i, version) in reviews.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if reviews[..i].contains(version) {
            errors.push(FieldError::invalid(in_reviews.index(i), name, "duplicate version"));
            continue;
        }
        let faults = format::dns_1035_label(name);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(in_reviews.index(i), name, fault)));
    }
    if !reviews.iter().any(|v| v == "v1" || v == "v1beta1") {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(in_reviews, Value::from(reviews.to_vec()), detail));
    }
}

fn webhook_url(url: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut refuse = |value: &str, detail: String| errors.push(FieldError::invalid(path, value, detail));
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        return refuse(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        refuse("", format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = authority.rsplit_once('@') {
        refuse(user, "user information is not permitted in the URL".to_owned());
    }
    if let Some((_, fragment)) = url.split_once('#') {
        refuse(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if let Some((_, query)) = url.split('#').next().unwrap_or_default().split_once('?') {
        refuse(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn webhook_service(service: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for name in ["name", "namespace"] {
        if text(service, name).is_empty() {
            errors.push(FieldError::required(path.child(name), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    let faults = format::port_number(port);
    if !faults.is_empty() {
        let detail = format!("port is not valid: {}", faults.join(","));
        errors.push(FieldError::invalid(path.child("port"), port, detail));
    }
    if let Some(url) = service["path"].as_str().filter(|p| *p != "/" && !p.is_empty()) {
        let place = path.child("path");
        if !url.starts_with('/') {
            errors.push(FieldError::invalid(place, url, "must start with a '/'"));
        }
        let mut letters = url.chars();
        letters.next();
        let rest = letters.as_str();
        for (i, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
            if segment.is_empty() {
                errors.push(FieldError::invalid(place, url, format!("segment[{i}] may not be empty")));
                continue;
            }
            for fault in format::dns_subdomain(segment) {
                errors.push(FieldError::invalid(place, url, format!("segment[{i}]: {fault}")));
            }
        }
    }
}

fn stored_versions(definition: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let stored = list(&definition["status"], "storedVersions");
    let versions = list(&definition["spec"], "versions");
    let value = || definition["status"]["storedVersions"].clone();
    if stored.is_empty() {
        errors.push(FieldError::invalid(path, value(), "must have at least one stored version"));
        return;
    }
    let mut left: Vec<(usize, &Value)> = stored.iter().enumerate().collect();
    for version in versions {
        let found = left.iter().position(|(_, name)| **name == version["name"]);
        if found.is_none() && version["storage"] == true {
            let detail = format!("must have the storage version {}", text(version, "name"));
            errors.push(FieldError::invalid(path, value(), detail));
        }
        found.map(|at| left.remove(at));
    }
    for (i, name) in left {
        let version = name.as_str().unwrap_or_default();
        let detail = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a \
             storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
        );
        errors.push(FieldError::invalid(path.index(i), version, detail));
    }
}

const APPROVED: &str = "api-approved.kubernetes.io";

/// Groups of the Kubernetes community need an annotation.
fn approval(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let group = text(&new["spec"], "group");
    let of = |domain: &str| group == domain || group.strip_suffix(domain).is_some_and(|g| g.ends_with('.'));
    if !of("k8s.io") && !of("kubernetes.io") {
        return;
    }
    #[derive(PartialEq)]
    enum State {
        Missing,
        Given,
        Bypassed,
        Wrong,
    }
    let state = |definition: &Value| {
        let value = text(&definition["metadata"]["annotations"], APPROVED);
        let host = value
            .split_once("://")
            .is_some_and(|(s, rest)| !s.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
        match value {
            "" => State::Missing,
            value if value.starts_with("unapproved") => State::Bypassed,
            _ if host => State::Given,
            _ => State::Wrong,
        }
    };
    if old.is_some_and(|old| state(old) == state(new)) {
        return;
    }
    let place = Path::new("metadata");
    let place = place.child("annotations");
    let place = place.key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state(new) {
        State::Missing => {
            let detail = format!("protected groups must have approval annotation \"{APPROVED}\", {see}");
            errors.push(FieldError::required(place, detail));
        }
        State::Wrong => {
            let detail = format!(
                "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason starting with \
                 \"unapproved\", {see}"
            );
            errors.push(FieldError::invalid(place, text(&new["metadata"]["annotations"], APPROVED), detail));
        }
        State::Given | State::Bypassed => {}
    }
}
