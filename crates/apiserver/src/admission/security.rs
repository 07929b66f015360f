//! PodSecurity: pods that break the standard of their namespace are refused; whoever makes controllers of such pods is told.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

use std::collections::BTreeMap;

use api::{
    admit::security::{self, Level, Standard},
    meta::{self, View},
    status::Status,
    validate::FieldError,
};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{selection::Selection, server::Server};

/// Pods of a namespace that are looked at when its standard becomes stricter: upstream's number.
const PODS: usize = 3000;

/// Looks at pods, at what makes pods, and at namespaces.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(new) = object.filter(|_| matches!(attributes.operation, Operation::Create | Operation::Update)) else {
        return Ok(());
    };
    if attributes.is("", "Namespace") {
        return namespace(server, attributes, new, old);
    }
    let pods = attributes.kind.is("", "Pod");
    let template = if pods { Some(View::new(new)) } else { template(attributes, new) };
    let ignored = if pods { matches!(attributes.sub, "status" | "binding") } else { !attributes.sub.is_empty() };
    let Some(template) = template.filter(|_| !ignored) else { return Ok(()) };
    if pods && old.is_some_and(|old| !security::is_significant(new, old)) {
        return Ok(());
    }
    let Some(space) = server.find("", "namespaces", "", attributes.namespace).await? else { return Ok(()) };
    if !space.labels().iter().any(|(key, _)| key.starts_with("pod-security.kubernetes.io/")) {
        return Ok(());
    }
    let (policy, _) = security::policy(&space.value());
    if pods && let Some(broken) = policy.enforce.broken(template) {
        let standard = policy.enforce.to_string();
        return Err(attributes.refuse(format!("violates PodSecurity {standard:?}: {broken}")));
    }
    if let (Some(broken), Some(call)) = (policy.warn.broken(template), attributes.call) {
        let standard = policy.warn.to_string();
        call.warn(format!("would violate PodSecurity {standard:?}: {broken}"));
    }
    Ok(())
}

/// The pod that a controller will make.
fn template<'a>(attributes: &Attributes<'_>, object: &'a Value) -> Option<View<'a>> {
    let view = View::new(object);
    let found = match (attributes.kind.group, attributes.kind.kind) {
        ("", "PodTemplate") => view.at("template"),
        ("", "ReplicationController")
        | ("apps", "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => view.at("spec").at("template"),
        ("batch", "CronJob") => view.at("spec").at("jobTemplate").at("spec").at("template"),
        _ => return None,
    };
    found.has("spec").then_some(found)
}

/// Labels must be understood; and whoever makes a standard stricter is told which pods break it.
fn namespace(server: &Server, attributes: &Attributes<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (policy, faults) = security::policy(new);
    let before = old.map(security::policy);
    if !faults.is_empty() && before.as_ref().is_none_or(|(_, old)| *old != faults) {
        let errors: Vec<FieldError> = faults
            .iter()
            .map(|(key, value, must)| FieldError::invalid(format!("metadata.labels[{key}]"), value.as_str(), *must))
            .collect();
        return Err(Status::invalid(attributes.kind.group_kind(), meta::name(new), &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let stricter = policy.enforce != before.enforce && policy.enforce.level != Level::Privileged;
    if let (true, Some(call)) = (stricter, attributes.call) {
        for warning in existing(server, meta::name(new), policy.enforce)? {
            call.warn(warning);
        }
    }
    Ok(())
}

/// What the pods of a namespace break of a standard.
fn existing(server: &Server, namespace: &str, standard: Standard) -> Result<Vec<String>, Status> {
    let pods = server.resource("", "pods")?;
    let all = pods.cache.all(&Selection::everything(&pods.scope(namespace)));
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in all.iter().take(PODS) {
        if let Some(broken) = standard.broken(View::new(&pod.value())) {
            let (_, count) = found.entry(broken.reasons()).or_insert_with(|| (pod.name().to_owned(), 0));
            *count += 1;
        }
    }
    let mut warnings = Vec::new();
    if all.len() > PODS {
        let total = all.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let standard = standard.to_string();
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {standard:?}"
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reasons, (first, count))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            _ => format!("{first} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    each.sort();
    warnings.extend(each);
    Ok(warnings)
}
