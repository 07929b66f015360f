//! Pods as controllers judge, make and adopt them.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

/// Whether the pod has neither ended nor is about to.
pub fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// `status.phase`, empty before there is one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The condition `Ready`.
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Whether the pod has been ready for `least`; if not yet but ready, how long that still takes.
pub fn availability(pod: &Pod, least: i32, now: Timestamp) -> Availability {
    let Some(condition) = ready_condition(pod).filter(|condition| condition.status == "True") else {
        return Availability::No;
    };
    if least <= 0 {
        return Availability::Yes;
    }
    let Some(since) = &condition.last_transition_time else { return Availability::No };
    let left = SignedDuration::from_secs(i64::from(least)) - now.duration_since(since.0);
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => Availability::In(left),
        _ => Availability::Yes,
    }
}

/// See [`availability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Not ready.
    No,
    /// Ready, and available after this long.
    In(Duration),
    /// Available.
    Yes,
}

/// Restarts of all containers together.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

/// Which of two pods is to go first when some must: unassigned before assigned, pending before running, not ready
/// before ready, cheap before dear, on crowded nodes before others, ready for short before long, restarted often
/// before rarely, young before old.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset>
pub fn deletion_order(a: &Pod, b: &Pod, crowd: impl Fn(&Pod) -> usize) -> Ordering {
    let assigned =
        |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| !name.is_empty());
    let progress = |pod: &Pod| match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = |pod: &Pod| {
        let text =
            pod.metadata.annotations.as_ref().and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
        text.and_then(|text| text.parse::<i32>().ok()).unwrap_or(0)
    };
    let since = |pod: &Pod| {
        ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0)
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| progress(a).cmp(&progress(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| if is_ready(a) && is_ready(b) { since(b).cmp(&since(a)) } else { Ordering::Equal })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| created(b).cmp(&created(a)))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

/// A pod of `template`, owned by `owner`, whose name begins with the owner's.
pub fn from_template(template: &PodTemplateSpec, owner: &OwnerReference, namespace: &str) -> Pod {
    let mut pod = Pod::default();
    if let Some(meta) = &template.metadata {
        pod.metadata.labels = meta.labels.clone();
        pod.metadata.annotations = meta.annotations.clone();
        pod.metadata.finalizers = meta.finalizers.clone();
    }
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.generate_name = Some(format!("{}-", owner.name));
    pod.metadata.owner_references = Some(vec![owner.clone()]);
    pod.spec = template.spec.clone();
    pod
}

/// The reference to the controller among an object's owners.
pub fn controller_of(owners: Option<&Vec<OwnerReference>>) -> Option<&OwnerReference> {
    owners?.iter().find(|owner| owner.controller == Some(true))
}

/// How an object of a selector's namespace relates to the controller with `uid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the controller's.
    Mine,
    /// It matches and nobody controls it: adopt it.
    Adopt,
    /// It is the controller's but does not match any more: release it.
    Release,
    /// It concerns somebody else.
    Foreign,
}

/// Judges one object.
pub fn claim(owners: Option<&Vec<OwnerReference>>, uid: &str, selected: bool, leaving: bool) -> Claim {
    match controller_of(owners) {
        Some(owner) if owner.uid != uid => Claim::Foreign,
        Some(_) if selected || leaving => Claim::Mine,
        Some(_) => Claim::Release,
        None if selected && !leaving => Claim::Adopt,
        None => Claim::Foreign,
    }
}

/// `None` if the object is gone, is another by now or was changed meanwhile: then the next turn sees it as it is.
pub fn forgive_missing<T>(done: kube::Result<T>) -> kube::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pods of a list that `test` holds for.
pub fn count(pods: &[Arc<Pod>], test: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
