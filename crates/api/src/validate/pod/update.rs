//! What may become of a pod: of itself and of each of its sub-resources.

use serde_json::Value;

use super::super::check::faults;
use super::super::metadata::{immutable, label_key};
use super::super::{Errors, Path, address, format};
use super::{MAX_SECONDS, METADATA, MIRROR, SPEC, STATUS, container, pod_spec, scheduling};
use crate::meta::View;
use crate::strategy::pod::quality_of_service;

pub fn main(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    pod_spec(new, errors);
    annotation_updates(new, old, errors);
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    for list in ["containers", "initContainers"] {
        let path = SPEC.child(list);
        if new_spec.slice(list).len() != old_spec.slice(list).len() {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return;
        }
        for (position, container) in new_spec.list(list).enumerate() {
            let at = path.index(position);
            if container.text("image").is_empty() {
                errors.required(&at.child("image"), "");
            }
            container::image_without_spaces(container, &at, errors);
        }
    }
    let at = SPEC.child("activeDeadlineSeconds");
    match (new_spec.int("activeDeadlineSeconds"), old_spec.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=MAX_SECONDS).contains(&new) => {
            errors.invalid(&at, new, format::between(0, MAX_SECONDS));
            return;
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&at, new, "must be less than or equal to previous value");
            return;
        }
        (None, Some(_)) => {
            errors.invalid(&at, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
    only_added_tolerations(new_spec, old_spec, errors);
    only_removed_gates(new_spec, old_spec, errors);
    if new_spec.same(old_spec) {
        return;
    }
    let munged = with_updatable_fields_of(new_spec, old_spec, errors);
    let munged = View::new(&munged);
    if !munged.same(old_spec) {
        let detail = format!(
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{}",
            container::difference(old_spec, munged)
        );
        errors.forbidden(&SPEC, detail);
    }
}

/// The new spec with what an update may change put back to what it was.
fn with_updatable_fields_of(new: View<'_>, old: View<'_>, errors: &mut Errors) -> Value {
    let mut munged = new.value().clone();
    for list in ["containers", "initContainers"] {
        let containers = munged.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, old) in containers.zip(old.list(list)) {
            if let Some(container) = container.as_object_mut() {
                container.insert("image".to_owned(), old.at("image").value().clone());
            }
        }
    }
    let mut put_back = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if old.int("terminationGracePeriodSeconds").is_some_and(|period| period < 0)
        && new.int("terminationGracePeriodSeconds") == Some(1)
    {
        put_back.push("terminationGracePeriodSeconds");
    }
    if !old.slice("schedulingGates").is_empty() {
        // Until a pod is let go, where it may run can still be narrowed.
        let kept = |(key, value): (&String, &Value)| new.at("nodeSelector").value().get(key) == Some(value);
        if !old.map("nodeSelector").into_iter().flatten().all(kept) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&SPEC.child("nodeSelector"), new.at("nodeSelector").value().clone(), detail);
        }
        put_back.push("nodeSelector");
        node_affinity_narrowed(new, old, errors);
        let affinity = old.at("affinity").at("nodeAffinity").value().clone();
        let has_affinity = munged.get("affinity").is_some_and(Value::is_object);
        if (has_affinity || !affinity.is_null())
            && let Some(munged) = munged.as_object_mut()
        {
            let holder = crate::meta::entry_object(munged, "affinity");
            if affinity.is_null() {
                holder.remove("nodeAffinity");
            } else {
                holder.insert("nodeAffinity".to_owned(), affinity);
            }
        }
    }
    if let Some(munged) = munged.as_object_mut() {
        for member in put_back {
            munged.insert(member.to_owned(), old.at(member).value().clone());
        }
    }
    munged
}

fn node_affinity_narrowed(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms =
        |spec: View<'_>| spec.at("affinity").at("nodeAffinity").at(REQUIRED).at("nodeSelectorTerms").value().clone();
    let (new_terms, old_terms) = (terms(new), terms(old));
    let (new_list, old_list) = (View::new(&new_terms).items_slice(), View::new(&old_terms).items_slice());
    let affinity = SPEC.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    let required = affinity.child(REQUIRED);
    let path = required.child("nodeSelectorTerms");
    if !old_list.is_empty() && old_list.len() != new_list.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&path, new_terms.clone(), detail);
        return;
    }
    for (position, (new, old)) in new_list.iter().map(View::new).zip(old_list.iter().map(View::new)).enumerate() {
        let empty = old.slice("matchExpressions").is_empty() && old.slice("matchFields").is_empty();
        let grown = |member: &str| {
            let (new, old) = (new.slice(member), old.slice(member));
            new.len() >= old.len() && new[..old.len()] == *old
        };
        let added = !new.slice("matchExpressions").is_empty() || !new.slice("matchFields").is_empty();
        if (empty && added) || !grown("matchExpressions") || !grown("matchFields") {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&path.index(position), new.value().clone(), detail);
        }
    }
}

fn annotation_updates(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let path = METADATA.child("annotations");
    let (new, old) = (new.at("metadata").at("annotations"), old.at("metadata").at("annotations"));
    if old.has(MIRROR) && new.at(MIRROR) != old.at(MIRROR) {
        errors.forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation");
    }
    if new.has(MIRROR) && !old.has(MIRROR) {
        errors.forbidden(&path.key(MIRROR), "may not add mirror pod annotation");
    }
}

fn only_added_tolerations(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("tolerations");
    let alike = |left: View<'_>, right: View<'_>| {
        ["key", "operator", "value", "effect"].iter().all(|member| left.text(member) == right.text(member))
    };
    if !old.list("tolerations").all(|old| new.list("tolerations").any(|new| alike(new, old))) {
        errors.forbidden(&path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::tolerations(new, &path, errors);
}

fn only_removed_gates(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let path = SPEC.child("schedulingGates");
    let before: Vec<&str> = old.list("schedulingGates").map(|gate| gate.text("name")).collect();
    for (position, gate) in new.list("schedulingGates").enumerate() {
        let name = gate.text("name");
        if !before.contains(&name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(position).child("name"), detail);
        }
    }
}

pub fn ephemeral_containers(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    pod_spec(new, errors);
    annotation_updates(new, old, errors);
    let path = SPEC.child("ephemeralContainers");
    for old in old.at("spec").list("ephemeralContainers") {
        let name = old.text("name");
        let quoted = crate::status::quote(name);
        let found = new.at("spec").list("ephemeralContainers").find(|container| container.text("name") == name);
        match found {
            None => errors.forbidden(&path, format!("existing ephemeral containers {quoted} may not be removed\n")),
            Some(new) if !new.same(old) => {
                let difference = container::difference(old, new);
                let detail = format!("existing ephemeral containers {quoted} may not be changed\n{difference}");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}

pub fn resize(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    const ONLY: &str = "only cpu and memory resources are mutable";
    let mirror = old.at("metadata").at("annotations").has(MIRROR);
    if mirror || old.at("spec").at("os").text("name") == "windows" {
        errors.clear();
        let which = if mirror { "static" } else { "windows" };
        errors.forbidden(&Path::new("[]"), format!("{which} pods cannot be resized"));
        return;
    }
    pod_spec(new, errors);
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    let class = |pod: View<'_>| quality_of_service(pod.value());
    let before = match old.at("status").text("qosClass") {
        "" => class(old),
        class => class,
    };
    if before != class(new) {
        let shown = new.at("status").text("qosClass");
        errors.invalid(&SPEC, shown, "Pod QOS Class may not change as a result of resizing");
    }
    let mut running = old.at("status").list("containerStatuses").filter(|status| status.at("state").has("running"));
    if running.next().is_some_and(|status| !status.has("resources")) {
        errors.forbidden(&SPEC, "Pod running on node without support for resize");
    }
    if !same_containers(new_spec, old_spec, errors) {
        return;
    }
    resources_removed(new_spec, old_spec, errors);
    let differ = |new: View<'_>, old: View<'_>| {
        !View::new(&without_cpu_and_memory(new)).same(View::new(&without_cpu_and_memory(old)))
    };
    for (new, old) in new_spec.list("containers").zip(old_spec.list("containers")) {
        if differ(new, old) {
            errors.forbidden(&SPEC, ONLY);
        }
    }
    let path = SPEC.child("initContainers");
    for (position, (new, old)) in new_spec.list("initContainers").zip(old_spec.list("initContainers")).enumerate() {
        if differ(new, old) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&path.index(position), detail);
        }
        let restarts = new.list("resizePolicy").filter(|policy| policy.text("restartPolicy") == "RestartContainer");
        if new.text("restartPolicy") != "Always" && !new.same(old) {
            for _ in restarts {
                let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.forbidden(&path.index(position), detail);
            }
        }
    }
    if !new_spec.at("volumes").same(old_spec.at("volumes")) {
        let detail = "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes feature gate is \
                      disabled";
        errors.forbidden(&SPEC.child("volumes"), detail);
    }
    let others = |spec: View<'_>| {
        let mut others = spec.as_map().cloned().unwrap_or_default();
        others
            .retain(|member, _| !matches!(member.as_str(), "containers" | "initContainers" | "volumes" | "resources"));
        Value::Object(others)
    };
    if errors.is_empty() && !View::new(&others(new_spec)).same(View::new(&others(old_spec))) {
        errors.forbidden(&SPEC, ONLY);
    }
}

/// Whether both have the same containers in the same order.
fn same_containers(new: View<'_>, old: View<'_>, errors: &mut Errors) -> bool {
    let mut same = true;
    for list in ["containers", "initContainers"] {
        let path = SPEC.child(list);
        if new.slice(list).len() != old.slice(list).len() {
            errors.forbidden(&path, format!("{list} may not be added or removed on resize"));
            same = false;
            continue;
        }
        for (position, (new, old)) in new.list(list).zip(old.list(list)).enumerate() {
            if new.text("name") != old.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&path.index(position).child("name"), detail);
                same = false;
            }
        }
    }
    same
}

fn resources_removed(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    for list in ["initContainers", "containers"] {
        let path = SPEC.child(list);
        for (position, (new, old)) in new.list(list).zip(old.list(list)).enumerate() {
            let at = path.index(position);
            let at = at.child("resources");
            for (member, one) in [("requests", "request"), ("limits", "limit")] {
                let mut before = old.at("resources").map(member).into_iter().flatten();
                if before.any(|(name, _)| !new.at("resources").at(member).has(name)) {
                    errors.forbidden(&at.child(member), format!("resource {one}s cannot be removed"));
                }
            }
        }
    }
}

/// A container without what a resize may change.
fn without_cpu_and_memory(container: View<'_>) -> Value {
    let mut container = container.value().clone();
    for member in ["limits", "requests"] {
        let list = container.pointer_mut(&format!("/resources/{member}")).and_then(Value::as_object_mut);
        if let Some(list) = list {
            list.remove("cpu");
            list.remove("memory");
        }
    }
    container
}

pub fn status(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    annotation_updates(new, old, errors);
    let (new_status, old_status) = (new.at("status"), old.at("status"));
    let conditions = STATUS.child("conditions");
    for (position, condition) in new_status.list("conditions").enumerate() {
        let kind = condition.text("type");
        let at = conditions.index(position);
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            label_key(kind, &at.child("Type"), errors);
        }
        if let Some(generation) = condition.int("observedGeneration").filter(|generation| *generation < 0) {
            errors.invalid(&at.child("observedGeneration"), generation, "must be a non-negative integer");
        }
    }
    if new.at("spec").text("nodeName") != old.at("spec").text("nodeName") {
        errors.forbidden(&STATUS.child("nodeName"), "may not be changed directly");
    }
    let nominated = new_status.text("nominatedNodeName");
    if !nominated.is_empty() && nominated != old_status.text("nominatedNodeName") {
        faults(format::dns_subdomain(nominated), nominated, &STATUS.child("nominatedNodeName"), errors);
        if !old.at("spec").text("nodeName").is_empty() {
            let detail = "may not be set on pods that are already bound to a node";
            errors.forbidden(&STATUS.child("nominatedNodeName"), detail);
        }
    }
    if let Some(generation) = new_status.int("observedGeneration").filter(|generation| *generation < 0) {
        errors.invalid(&STATUS.child("observedGeneration"), generation, "must be a non-negative integer");
    }
    immutable(new_status.at("qosClass"), old_status.at("qosClass"), &STATUS.child("qosClass"), errors);
    let spec = old.at("spec");
    for (list, of) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", "ephemeralContainers"),
    ] {
        transitions(new_status, old_status, list, spec, of, errors);
    }
    addresses(new_status, old_status, "podIP", "podIPs", errors);
    if !new_status.slice("hostIPs").is_empty() {
        addresses(new_status, old_status, "hostIP", "hostIPs", errors);
    }
}

/// A container that ended for good does not run again.
fn transitions(new: View<'_>, old: View<'_>, list: &str, spec: View<'_>, of: &str, errors: &mut Errors) {
    let restarts_all = spec
        .list("containers")
        .chain(spec.list("initContainers"))
        .flat_map(|container| container.list("restartPolicyRules"))
        .any(|rule| rule.text("action") == "RestartAllContainers");
    if restarts_all {
        return;
    }
    let path = STATUS.child(list);
    for (position, old) in old.list(list).enumerate() {
        let ended = old.at("state").at("terminated");
        if !ended.exists() {
            continue;
        }
        let name = old.text("name");
        let runs_again =
            new.list(list).any(|status| status.text("name") == name && !status.at("state").has("terminated"));
        let container = spec.list(of).find(|container| container.text("name") == name);
        let allowed = of != "ephemeralContainers"
            && container.is_some_and(|container| should_restart(container, spec, ended.int("exitCode").unwrap_or(0)));
        if runs_again && !allowed {
            let detail = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(position).child("state"), detail);
        }
    }
}

fn should_restart(container: View<'_>, spec: View<'_>, exit_code: i64) -> bool {
    if container.has("restartPolicy") {
        let matches = |rule: View<'_>| {
            let codes = rule.at("exitCodes");
            let among = codes.list("values").any(|code| code.as_int() == Some(exit_code));
            match codes.text("operator") {
                "In" => among,
                "NotIn" => !among,
                _ => false,
            }
        };
        if container.list("restartPolicyRules").any(matches) {
            return true;
        }
    }
    let policy = match container.text("restartPolicy") {
        "" => spec.text("restartPolicy"),
        own => own,
    };
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

fn addresses(new: View<'_>, old: View<'_>, one: &str, all: &str, errors: &mut Errors) {
    let path = STATUS.child(all);
    let texts = |status: View<'_>| -> Vec<String> { status.list(all).map(|ip| ip.text("ip").to_owned()).collect() };
    let (addresses, before) = (texts(new), texts(old));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    for (position, text) in addresses.iter().enumerate() {
        address::ip(&path.index(position), text, &before, errors);
    }
    if addresses.len() > 1 {
        let sixes = addresses.iter().filter(|text| text.contains(':')).count();
        if addresses.len() > 2 || sixes != 1 {
            let detail = "may specify no more than one IP for each IP family";
            errors.invalid(&path, new.at(all).value().clone(), detail);
        }
    }
    let single = new.text(one);
    match addresses.first() {
        None if single.is_empty() => {}
        Some(first) if first == single => {}
        Some(first) if !single.is_empty() || one == "hostIP" => {
            errors.invalid(&path.index(0).child("ip"), first.as_str(), format!("must be equal to `{one}`"));
        }
        _ => {
            let detail = format!("{one} and {all} must either both be set or both be unset");
            errors.invalid(&path, new.at(all).value().clone(), detail);
        }
    }
}
