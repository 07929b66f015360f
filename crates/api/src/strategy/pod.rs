//! Pods: quality of service, scheduling gates, label keys of affinity terms, and what each sub-resource may change.

use serde_json::{Map, Value, json};

use crate::meta::{self, View};
use crate::quantity::Quantity;

/// How long a pod may take to end: what was asked for (seconds), else its own period; at once if it never started.
///
/// `None` for the requested period means that the request named none.
pub fn grace_period_seconds(pod: &Value, requested: Option<i64>) -> i64 {
    let view = View::new(pod);
    let period = requested.or(view.at("spec").int("terminationGracePeriodSeconds")).unwrap_or(0);
    let unscheduled = view.at("spec").text("nodeName").is_empty();
    let ended = matches!(view.at("status").text("phase"), "Failed" | "Succeeded");
    if unscheduled || ended {
        return 0;
    }
    if period < 0 { 1 } else { period }
}

pub(super) fn prepare_create(pod: &mut Value) {
    if !View::new(pod).at("spec").slice("schedulingGates").is_empty() {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
            "lastTransitionTime": meta::creation_timestamp(pod)});
        meta::object_at(pod, "status").insert("conditions".to_owned(), json!([condition]));
    }
    select_by_own_labels(pod);
    pod_level_requests(pod);
    let class = quality_of_service(pod);
    meta::object_at(pod, "status").insert("qosClass".to_owned(), class.into());
}

pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    let (new_spec, old_spec) = (View::new(new).at("spec"), View::new(old).at("spec"));
    if !new_spec.has("resources") && old_spec.has("resources") {
        let resources = old_spec.at("resources").value().clone();
        meta::object_at(new, "spec").insert("resources".to_owned(), resources);
    }
}

/// Raises the generation of a pod whose spec a sub-resource changed.
fn raise_generation(new: &mut Value, old: &Value) {
    if !View::new(new).at("spec").same(View::new(old).at("spec")) {
        meta::set_generation(new, meta::generation(old).saturating_add(1));
    }
}

pub(super) fn prepare_ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = new.pointer("/spec/ephemeralContainers").cloned();
    super::copy_member(new, old, "spec");
    super::copy_member(new, old, "status");
    keep_metadata(new, old);
    super::set_or_remove(meta::object_at(new, "spec"), "ephemeralContainers", containers);
    raise_generation(new, old);
}

pub(super) fn prepare_resize(new: &mut Value, old: &Value) {
    let names = |pod: &Value, list: &str| -> Vec<String> {
        View::new(pod).at("spec").list(list).map(|container| container.text("name").to_owned()).collect()
    };
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    // Other containers than before are for validation to refuse.
    if LISTS.iter().all(|list| names(new, list) == names(old, list)) {
        let wanted = new.get("spec").cloned().unwrap_or_default();
        super::copy_member(new, old, "spec");
        super::copy_member(new, old, "status");
        keep_metadata(new, old);
        let spec = meta::object_at(new, "spec");
        if let Some(resources) = wanted.get("resources") {
            spec.insert("resources".to_owned(), resources.clone());
        }
        for list in LISTS {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for (position, container) in containers.enumerate() {
                let from = wanted.get(list).and_then(|list| list.get(position));
                if let Some(container) = container.as_object_mut() {
                    for member in ["resources", "resizePolicy"] {
                        super::set_or_remove(container, member, from.and_then(|from| from.get(member)).cloned());
                    }
                }
            }
        }
    }
    raise_generation(new, old);
}

fn keep_metadata(new: &mut Value, old: &Value) {
    let old_metadata = old.get("metadata");
    let metadata = meta::metadata_mut(new);
    for member in ["deletionTimestamp", "generation", "labels", "annotations", "finalizers", "ownerReferences"] {
        super::set_or_remove(metadata, member, old_metadata.and_then(|old| old.get(member)).cloned());
    }
}

pub(super) fn prepare_status(new: &mut Value, old: &Value) {
    let old_status = View::new(old).at("status");
    let status = meta::object_at(new, "status");
    for member in [
        "qosClass",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "observedGeneration",
    ] {
        let missing = status.get(member).is_none_or(|value| value.is_null() || value == "" || value == 0);
        if missing && old_status.has(member) {
            status.insert(member.to_owned(), old_status.at(member).value().clone());
        }
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten();
    for condition in conditions.filter_map(Value::as_object_mut) {
        if !condition.get("observedGeneration").is_none_or(|value| value.is_null() || value == 0) {
            continue;
        }
        let kind = condition.get("type").and_then(Value::as_str).unwrap_or("");
        let old = old_status.list("conditions").find(|old| old.text("type") == kind);
        if let Some(generation) = old.and_then(|old| old.int("observedGeneration")) {
            condition.insert("observedGeneration".to_owned(), generation.into());
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the pod's requests and limits of CPU and memory.
pub fn quality_of_service(pod: &Value) -> &'static str {
    let spec = View::new(pod).at("spec");
    let whole = spec.at("resources");
    if whole.exists() && !(whole.at("requests").is_zero() && whole.at("limits").is_zero()) {
        return requirements(whole);
    }
    let mut class = "";
    for container in spec.list("initContainers").chain(spec.list("containers")) {
        let of_container = requirements(container.at("resources"));
        if of_container == "Burstable" || (!class.is_empty() && class != of_container) {
            return "Burstable";
        }
        class = of_container;
    }
    if class.is_empty() { "BestEffort" } else { class }
}

fn requirements(resources: View<'_>) -> &'static str {
    if resources.at("requests").is_zero() && resources.at("limits").is_zero() {
        return "BestEffort";
    }
    let of = |resource: &str| {
        let amount = |list: &str| Quantity::of(resources.at(list).at(resource).value());
        let (request, limit) = (amount("requests"), amount("limits"));
        if request.is_zero() && limit.is_zero() {
            "BestEffort"
        } else if !request.is_zero() && request == limit {
            "Guaranteed"
        } else {
            "Burstable"
        }
    };
    let (cpu, memory) = (of("cpu"), of("memory"));
    if cpu == memory { cpu } else { "Burstable" }
}

/// `matchLabelKeys` and `mismatchLabelKeys` select by the values that the pod's own labels have.
fn select_by_own_labels(pod: &mut Value) {
    let Some(labels) = meta::labels(pod).cloned() else { return };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for constraint in objects(spec.get_mut("topologySpreadConstraints")) {
        add_expressions(constraint, &labels);
    }
    let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(kind) = affinity.get_mut(kind).and_then(Value::as_object_mut) else { continue };
        for weighted in objects(kind.get_mut("preferredDuringSchedulingIgnoredDuringExecution")) {
            if let Some(term) = weighted.get_mut("podAffinityTerm").and_then(Value::as_object_mut) {
                add_expressions(term, &labels);
            }
        }
        for term in objects(kind.get_mut("requiredDuringSchedulingIgnoredDuringExecution")) {
            add_expressions(term, &labels);
        }
    }
}

fn objects(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn add_expressions(term: &mut Map<String, Value>, labels: &Map<String, Value>) {
    let mut expressions = Vec::new();
    for (member, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    if expressions.is_empty() {
        return;
    }
    match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        Some(list) => list.extend(expressions),
        None => drop(selector.insert("matchExpressions".to_owned(), expressions.into())),
    }
}

/// A pod with limits as a whole has requests as a whole: what its containers request together, else its limits.
fn pod_level_requests(pod: &mut Value) {
    let spec = View::new(pod).at("spec");
    let resources = spec.at("resources");
    if resources.at("requests").is_zero() && resources.at("limits").is_zero() {
        return;
    }
    let mut requests = resources.map("requests").cloned().unwrap_or_default();
    for resource in ["cpu", "memory"] {
        if requests.contains_key(resource) {
            continue;
        }
        if let Some(sum) = requested(spec, resource) {
            requests.insert(resource.to_owned(), sum.to_string().into());
        }
    }
    for (resource, limit) in resources.map("limits").into_iter().flatten() {
        let supported = matches!(resource.as_str(), "cpu" | "memory") || resource.starts_with("hugepages-");
        if supported && !requests.contains_key(resource) {
            requests.insert(resource.clone(), limit.clone());
        }
    }
    if !requests.is_empty() {
        let resources = meta::entry_object(meta::object_at(pod, "spec"), "resources");
        resources.insert("requests".to_owned(), requests.into());
    }
}

/// What the containers of a pod request of a resource when they need most: all containers and sidecars together, or one init
/// container with the sidecars that start before it. `None` if no container requests any.
fn requested(spec: View<'_>, resource: &str) -> Option<Quantity> {
    let of = |container: View<'_>| {
        let value = container.at("resources").at("requests").at(resource);
        value.exists().then(|| Quantity::of(value.value()))
    };
    let mut any = false;
    let mut running = Quantity::ZERO;
    for amount in spec.list("containers").filter_map(of) {
        any = true;
        running.add(&amount);
    }
    let (mut sidecars, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.list("initContainers") {
        let Some(amount) = of(container) else { continue };
        any = true;
        if container.text("restartPolicy") == "Always" {
            running.add(&amount);
            sidecars.add(&amount);
            most = most.max(sidecars.clone());
        } else {
            let mut needed = sidecars.clone();
            needed.add(&amount);
            most = most.max(needed);
        }
    }
    any.then(|| running.max(most))
}
