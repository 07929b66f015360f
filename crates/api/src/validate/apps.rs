//! Kinds that keep pods running: Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet, ControllerRevision.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::check::{at_most_whole, faults, not_negative, number_or_percent, percentage};
use super::metadata::{self, immutable, label_selector, unchanging};
use super::{Errors, Path, format, pod, storage};
use crate::meta::View;
use crate::selector::Labels;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const MISMATCH: &str = "`selector` does not match template `labels`";

/// A kind of the group `apps`, or a ReplicationController.
pub fn check(kind: &str, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    if subresource == "status" {
        status(kind, new.at("status"), old.map_or(View::nothing(), |old| old.at("status")), errors);
        return;
    }
    let (spec, before) = (new.at("spec"), old.map(|old| old.at("spec")));
    match kind {
        "Deployment" => {
            deployment(spec, errors);
            if let Some(before) = before {
                immutable(spec.at("selector"), before.at("selector"), &SPEC.child("selector"), errors);
            }
        }
        "ReplicaSet" => {
            not_negative(spec, "replicas", &SPEC, errors);
            not_negative(spec, "minReadySeconds", &SPEC, errors);
            selected_template(spec, "deployment", "ReplicaSet", errors);
            if let Some(before) = before {
                immutable(spec.at("selector"), before.at("selector"), &SPEC.child("selector"), errors);
            }
        }
        "ReplicationController" => replication_controller(spec, errors),
        "DaemonSet" => {
            if let Some(before) = before {
                immutable(spec.at("selector"), before.at("selector"), &SPEC.child("selector"), errors);
            }
            daemon_set(spec, errors);
        }
        "StatefulSet" => {
            stateful_set(spec, before.is_none(), errors);
            if let Some(before) = before {
                // What kind a claim is of goes without saying.
                let claims = |spec: View<'_>| without_kinds(spec.at("volumeClaimTemplates"));
                let (now, was) = (claims(spec), claims(before));
                let path = SPEC.child("volumeClaimTemplates");
                unchanging(spec.at("selector"), before.at("selector"), &SPEC.child("selector"), errors);
                unchanging(View::new(&now), View::new(&was), &path, errors);
                for member in ["serviceName", "podManagementPolicy"] {
                    immutable(spec.at(member), before.at(member), &SPEC.child(member), errors);
                }
            }
        }
        "ControllerRevision" => revision(new, old, errors),
        _ => {}
    }
}

fn has_requirements(selector: View<'_>) -> bool {
    !selector.at("matchLabels").is_zero() || !selector.slice("matchExpressions").is_empty()
}

fn template_labels(spec: View<'_>) -> Map<String, Value> {
    spec.at("template").at("metadata").map("labels").cloned().unwrap_or_default()
}

/// Selectors of Deployments and ReplicaSets, and the template that they must match.
fn selected_template(spec: View<'_>, named: &str, kind: &str, errors: &mut Errors) {
    let selector = spec.at("selector");
    let path = SPEC.child("selector");
    let shown = || selector.value().clone();
    if !selector.exists() {
        errors.required(&path, "");
    } else {
        label_selector(selector, &path, errors);
        if !has_requirements(selector) {
            errors.invalid(&path, shown(), format!("empty selector is invalid for {named}"));
        }
    }
    let path_of_template = SPEC.child("template");
    match Labels::from_value(selector.value()) {
        Err(_) => errors.invalid(&path, shown(), "invalid label selector"),
        Ok(labels) => {
            let found = template_labels(spec);
            if !labels.is_everything() && !labels.matches(&found) {
                mismatch(found, &path_of_template, errors);
            }
            pod::template(spec.at("template"), &path_of_template, errors);
            always_running(spec, kind, errors);
        }
    }
}

fn mismatch(labels: Map<String, Value>, template: &Path<'_>, errors: &mut Errors) {
    let at = template.child("metadata");
    errors.invalid(&at.child("labels"), Value::Object(labels), MISMATCH);
}

/// Pods of these kinds never end by themselves.
fn always_running(spec: View<'_>, kind: &str, errors: &mut Errors) {
    let template = spec.at("template").at("spec");
    let at = SPEC.child("template");
    let at = at.child("spec");
    let policy = template.text("restartPolicy");
    if policy != "Always" {
        errors.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if template.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&at.child("activeDeadlineSeconds"), detail);
    }
}

fn is_none(value: View<'_>) -> bool {
    percentage(value).or(value.as_int()).unwrap_or(0) == 0
}

fn deployment(spec: View<'_>, errors: &mut Errors) {
    not_negative(spec, "replicas", &SPEC, errors);
    selected_template(spec, "deployment", "ReplicaSet", errors);
    let strategy = spec.at("strategy");
    let path = SPEC.child("strategy");
    let rolling = strategy.at("rollingUpdate");
    let at = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if rolling.exists() {
                errors.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" if !rolling.exists() => errors.required(&at, "this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            number_or_percent(unavailable, &at.child("maxUnavailable"), errors);
            number_or_percent(surge, &at.child("maxSurge"), errors);
            if is_none(unavailable) && is_none(surge) {
                let shown = unavailable.value().clone();
                errors.invalid(&at.child("maxUnavailable"), shown, "may not be 0 when `maxSurge` is 0");
            }
            at_most_whole(unavailable, &at.child("maxUnavailable"), errors);
        }
        _ => not_a_strategy(strategy, &path, &["Recreate", "RollingUpdate"], errors),
    }
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    not_negative(spec, "revisionHistoryLimit", &SPEC, errors);
    not_negative(spec, "progressDeadlineSeconds", &SPEC, errors);
    if let Some(deadline) = spec.int("progressDeadlineSeconds")
        && deadline <= spec.int("minReadySeconds").unwrap_or(0)
    {
        errors.invalid(&SPEC.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
}

/// Upstream shows the whole strategy as it holds it in memory.
fn not_a_strategy(strategy: View<'_>, path: &Path<'_>, allowed: &[&str], errors: &mut Errors) {
    let rolling = strategy.at("rollingUpdate").value().clone();
    errors.not_supported(path, json!({"Type": strategy.text("type"), "RollingUpdate": rolling}), allowed);
}

fn replication_controller(spec: View<'_>, errors: &mut Errors) {
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    let selector = spec.at("selector");
    if selector.is_zero() {
        errors.required(&SPEC.child("selector"), "");
    }
    if spec.has("replicas") {
        not_negative(spec, "replicas", &SPEC, errors);
    } else {
        errors.required(&SPEC.child("replicas"), "");
    }
    let path = SPEC.child("template");
    if !spec.has("template") {
        errors.required(&path, "");
        return;
    }
    let found = template_labels(spec);
    if selector.as_map().is_some_and(|selector| !Labels::from_map(selector).matches(&found)) {
        mismatch(found, &path, errors);
    }
    pod::template(spec.at("template"), &path, errors);
    always_running(spec, "ReplicationController", errors);
}

fn daemon_set(spec: View<'_>, errors: &mut Errors) {
    let selector = spec.at("selector");
    label_selector(selector, &SPEC.child("selector"), errors);
    let path = SPEC.child("template");
    let found = template_labels(spec);
    if Labels::from_value(selector.value()).is_ok_and(|labels| !labels.matches(&found)) {
        mismatch(found, &path, errors);
    }
    if selector.exists() && !has_requirements(selector) {
        let detail = "empty selector is invalid for daemonset";
        errors.invalid(&SPEC.child("selector"), selector.value().clone(), detail);
    }
    pod::template(spec.at("template"), &path, errors);
    always_running(spec, "DaemonSet", errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    let strategy = spec.at("updateStrategy");
    let path = SPEC.child("updateStrategy");
    let rolling = strategy.at("rollingUpdate");
    let at = path.child("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.exists() => errors.required(&at, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            let (unavailable_at, surge_at) = (at.child("maxUnavailable"), at.child("maxSurge"));
            number_or_percent(unavailable, &unavailable_at, errors);
            number_or_percent(surge, &surge_at, errors);
            at_most_whole(unavailable, &unavailable_at, errors);
            at_most_whole(surge, &surge_at, errors);
            match (is_none(unavailable), is_none(surge)) {
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&surge_at, surge.value().clone(), detail);
                }
                (true, true) => errors.required(&unavailable_at, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => not_a_strategy(strategy, &path, &["RollingUpdate", "OnDelete"], errors),
    }
    not_negative(spec, "revisionHistoryLimit", &SPEC, errors);
}

fn without_kinds(claims: View<'_>) -> Value {
    let mut claims = claims.value().clone();
    for claim in claims.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        claim.remove("apiVersion");
        claim.remove("kind");
    }
    claims
}

fn stateful_set(spec: View<'_>, is_new: bool, errors: &mut Errors) {
    let policy = spec.text("podManagementPolicy");
    match policy {
        "" => errors.required(&SPEC.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        _ => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&SPEC.child("podManagementPolicy"), policy, detail);
        }
    }
    update_strategy(spec.at("updateStrategy"), errors);
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    if retention.exists() {
        let path = SPEC.child("persistentVolumeClaimRetentionPolicy");
        for member in ["whenDeleted", "whenScaled"] {
            const POLICIES: &[&str] = &["Retain", "Delete"];
            let policy = retention.text(member);
            if !POLICIES.contains(&policy) {
                errors.not_supported(&path.child(member), policy, POLICIES);
            }
        }
    }
    let claims = SPEC.child("volumeClaimTemplates");
    for (position, claim) in spec.list("volumeClaimTemplates").enumerate().filter(|_| is_new) {
        storage::claim_spec(claim.at("spec"), &claims.index(position).child("spec"), errors);
    }
    not_negative(spec, "replicas", &SPEC, errors);
    not_negative(spec, "minReadySeconds", &SPEC, errors);
    not_negative(spec.at("ordinals"), "start", &SPEC.child("ordinals"), errors);
    let service = spec.text("serviceName");
    if is_new && !service.is_empty() {
        faults(format::dns_label(service), service, &SPEC.child("serviceName"), errors);
    }
    let selector = spec.at("selector");
    let path = SPEC.child("selector");
    if !selector.exists() {
        errors.required(&path, "");
    } else {
        label_selector(selector, &path, errors);
        if !has_requirements(selector) {
            errors.invalid(&path, selector.value().clone(), "empty selector is invalid for statefulset");
        }
    }
    let at = SPEC.child("template");
    match Labels::from_value(selector.value()) {
        Err(_) => errors.invalid(&path, selector.value().clone(), ""),
        Ok(labels) => {
            let found = template_labels(spec);
            if !labels.is_everything() && !labels.matches(&found) {
                mismatch(found, &at, errors);
            }
            let template = with_claimed_volumes(spec);
            pod::template(View::new(&template), &at, errors);
            metadata::template(spec.at("template").at("metadata"), &at, errors);
        }
    }
    always_running(spec, "StatefulSet", errors);
}

fn update_strategy(strategy: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("updateStrategy");
    let rolling = strategy.at("rollingUpdate");
    let at = path.child("rollingUpdate");
    match strategy.text("type") {
        "" => errors.required(&path, ""),
        "OnDelete" => {
            if rolling.exists() {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&at, rolling.value().clone(), detail);
            }
        }
        "RollingUpdate" => {
            not_negative(rolling, "partition", &at, errors);
            let unavailable = rolling.at("maxUnavailable");
            let at = at.child("maxUnavailable");
            if unavailable.exists() {
                number_or_percent(unavailable, &at, errors);
                if is_none(unavailable) {
                    errors.invalid(&at, unavailable.value().clone(), "cannot be 0");
                }
                at_most_whole(unavailable, &at, errors);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            let shown = json!({"Type": strategy.text("type"), "RollingUpdate": rolling.value()});
            errors.invalid(&path, shown, detail);
        }
    }
}

/// The template as the controller completes it: volumes for claims, and names that it sets itself left out.
fn with_claimed_volumes(spec: View<'_>) -> Value {
    let mut template = spec.at("template").value().clone();
    let claims: BTreeSet<&str> =
        spec.list("volumeClaimTemplates").map(|claim| claim.at("metadata").text("name")).collect();
    let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) else { return template };
    pod.remove("subdomain");
    pod.remove("hostname");
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Vec<Value> =
        claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
    if let Some(Value::Array(others)) = pod.remove("volumes") {
        volumes.extend(others.into_iter().filter(|other| !claims.contains(View::new(other).text("name"))));
    }
    pod.insert("volumes".to_owned(), volumes.into());
    template
}

fn status(kind: &str, new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let (counts, of_all): (&[&str], &[&str]) = match kind {
        "Deployment" => (
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
        ),
        "ReplicaSet" | "ReplicationController" => (
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        ),
        "StatefulSet" => (
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        ),
        "DaemonSet" => (
            &[
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
            &[],
        ),
        _ => return,
    };
    for count in counts {
        not_negative(new, count, &STATUS, errors);
    }
    let count = |name: &str| new.int(name).unwrap_or(0);
    for name in of_all {
        if count(name) > count("replicas") {
            errors.invalid(&STATUS.child(name), count(name), "cannot be greater than status.replicas");
        }
    }
    if !of_all.is_empty() && count("availableReplicas") > count("readyReplicas") {
        let than = if kind == "StatefulSet" { "status.readyReplicas" } else { "readyReplicas" };
        let detail = format!("cannot be greater than {than}");
        errors.invalid(&STATUS.child("availableReplicas"), count("availableReplicas"), detail);
    }
    if let Some(before) = old.int("collisionCount")
        && counts.contains(&"collisionCount")
        && new.int("collisionCount").is_none_or(|now| now < before)
    {
        errors.invalid(&STATUS.child("collisionCount"), count("collisionCount"), "cannot be decremented");
    }
}

fn revision(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    not_negative(new, "revision", &Path::ROOT, errors);
    let path = Path::new("data");
    match old {
        Some(old) => immutable(new.at("data"), old.at("data"), &path, errors),
        None if !new.has("data") => errors.required(&path, "data is mandatory"),
        None if new.at("data").as_map().is_none() => errors.required(&path, "data must be a valid JSON object"),
        None => {}
    }
}
