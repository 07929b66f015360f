//! What a deployment's status says: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{available, plan::Rolling, present, revision, wanted};

/// Whether all pods are of the current template and available.
pub fn is_complete<'a>(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: impl Iterator<Item = &'a ReplicaSet>,
) -> bool {
    let replicas = deployment.spec.replicas.unwrap_or(1);
    let (mut total, mut up) = (0, 0);
    for set in all {
        total += present(set);
        up += available(set);
    }
    new.is_some_and(|new| present(new) == replicas) && total == replicas && up == replicas
}

/// The status that follows from the sets, and when the passing of time alone will change it.
pub fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let rolling = Rolling::of(deployment);
    let sum = |of: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| of(set)).sum::<i32>();
    let up = sum(&available);
    let ready = sum(&|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
    let leaving = sum(&|set| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0));
    let some = |number: i32| Some(number).filter(|number| *number != 0);
    let total = sum(&present);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(new.map_or(0, present)),
        ready_replicas: some(ready),
        available_replicas: some(up),
        unavailable_replicas: some((sum(&wanted).max(total) - up).max(0)),
        terminating_replicas: Some(leaving),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let enough = up >= rolling.replicas - rolling.unavailable;
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, "Available", value, reason, message.into(), now);
    let again = progress(deployment, &old, &mut status, new, all, now);
    let failure = all
        .iter()
        .flat_map(|set| set.status.iter().flat_map(|status| status.conditions.iter().flatten()))
        .find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            set(&mut status, "ReplicaFailure", "True", &reason, failure.message.clone().unwrap_or_default(), now);
        }
        None => status
            .conditions
            .iter_mut()
            .for_each(|all| all.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure"))),
    }
    (status, again)
}

fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> Option<Duration> {
    const NEVER: i32 = i32::MAX;
    let spec = &deployment.spec;
    let deadline = spec.progress_deadline_seconds.unwrap_or(600);
    if deadline == NEVER {
        status
            .conditions
            .iter_mut()
            .for_each(|all| all.retain(|condition| condition.type_.as_deref() != Some("Progressing")));
        return None;
    }
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let set_name = new.map(revision::name);
    let known = find(old, "Progressing").cloned();
    if spec.paused.unwrap_or(false) {
        set(status, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
        return None;
    }
    if is_complete(deployment, new, all.iter().copied()) {
        let message = match &set_name {
            Some(set) => format!("ReplicaSet {set:?} has successfully progressed."),
            None => format!("Deployment {name:?} has successfully progressed."),
        };
        set(status, "Progressing", "True", "NewReplicaSetAvailable", message, now);
        return None;
    }
    let counts = |status: &DeploymentStatus| {
        let updated = status.updated_replicas.unwrap_or(0);
        let count = |number: Option<i32>| number.unwrap_or(0);
        (updated, count(status.replicas) - updated, count(status.ready_replicas), count(status.available_replicas))
    };
    let (is, was) = (counts(status), counts(old));
    let moved = is.0 > was.0 || is.1 < was.1 || is.2 > was.2 || is.3 > was.3;
    let resumed = known.as_ref().is_none_or(|known| known.reason.as_deref() == Some("DeploymentPaused"));
    let finished = known.as_ref().is_some_and(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"));
    // A finished rollout that has less pods than wanted is no rollout, unless its template is new.
    let renewed = finished && status.observed_generation != old.observed_generation && is.0 < was.0;
    if moved || resumed || renewed {
        let message = match &set_name {
            Some(set) => format!("ReplicaSet {set:?} is progressing."),
            None => format!("Deployment {name:?} is progressing."),
        };
        status
            .conditions
            .iter_mut()
            .for_each(|all| all.retain(|condition| condition.type_.as_deref() != Some("Progressing")));
        let mut condition = made("Progressing", "True", "ReplicaSetUpdated", message, now);
        if let Some(known) = known.filter(|known| known.status.as_deref() == Some("True")) {
            condition.last_transition_time = known.last_transition_time;
        }
        status.conditions.get_or_insert_default().push(condition);
    } else if finished {
        return None;
    }
    let since = find(status, "Progressing")
        .and_then(|condition| condition.last_update_time.as_ref())
        .map_or(now, |time| time.0);
    let left = SignedDuration::from_secs(i64::from(deadline)) - now.duration_since(since);
    if let Ok(left) = Duration::try_from(left)
        && !left.is_zero()
    {
        return Some(left + Duration::from_secs(1));
    }
    let message = match &set_name {
        Some(set) => format!("ReplicaSet {set:?} has timed out progressing."),
        None => format!("Deployment {name:?} has timed out progressing."),
    };
    set(status, "Progressing", "False", "ProgressDeadlineExceeded", message, now);
    None
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

fn made(kind: &str, value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(value.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Sets a condition; one that says the same already keeps its times.
fn set(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let all = status.conditions.get_or_insert_default();
    let mut condition = made(kind, value, reason, message, now);
    if let Some(known) = all.iter().find(|known| known.type_.as_deref() == Some(kind)) {
        if known.status.as_deref() == Some(value) && known.reason.as_deref() == Some(reason) {
            return;
        }
        if known.status.as_deref() == Some(value) {
            condition.last_transition_time = known.last_transition_time.clone();
        }
    }
    all.retain(|known| known.type_.as_deref() != Some(kind));
    all.push(condition);
}
