//! What makes pods: deployments, replica sets, stateful sets, daemon sets, replication controllers, jobs and cron jobs.
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/workload>

use counts::page::Page;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::ReplicationController,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Allowed, NextRun,
    rows::{Rows, number, text, whole},
};

/// Reasons that conditions of deployments are told with; others are `unknown`.
const DEPLOYMENT_REASONS: [&str; 11] = [
    "ReplicaSetUpdated",
    "ReplicaSetCreateError",
    "NewReplicaSetCreated",
    "FoundNewReplicaSet",
    "NewReplicaSetAvailable",
    "ProgressDeadlineExceeded",
    "DeploymentPaused",
    "DeploymentResumed",
    "MinimumReplicasAvailable",
    "MinimumReplicasUnavailable",
    "",
];
const JOB_REASONS: [&str; 3] = ["BackoffLimitExceeded", "DeadlineExceeded", "Evicted"];

pub(super) fn deployment(page: &mut Page, allowed: &Allowed, object: &Deployment) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("deployment", text(&meta.name))]);
    rows.life("kube_deployment_created", Some("kube_deployment_deletion_timestamp"), meta);
    rows.allowed("kube_deployment_labels", "kube_deployment_annotations", allowed, meta);
    rows.owners("kube_deployment_owner", &meta.owner_references, false);
    rows.numbers([("kube_deployment_metadata_generation", whole(meta.generation))]);
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_deployment_status_replicas", whole(status.replicas)),
        ("kube_deployment_status_replicas_ready", whole(status.ready_replicas)),
        ("kube_deployment_status_replicas_available", whole(status.available_replicas)),
        ("kube_deployment_status_replicas_unavailable", whole(status.unavailable_replicas)),
        ("kube_deployment_status_replicas_updated", whole(status.updated_replicas)),
        ("kube_deployment_status_terminating_replicas", status.terminating_replicas.map(f64::from)),
        ("kube_deployment_status_observed_generation", whole(status.observed_generation)),
    ]);
    for condition in status.conditions.iter().flatten() {
        let reason = text(&condition.reason);
        let reason = if DEPLOYMENT_REASONS.contains(&reason) { reason } else { "unknown" };
        let labels = [("reason", reason), ("condition", text(&condition.type_))];
        rows.condition("kube_deployment_status_condition", "status", &labels, text(&condition.status));
    }
    let spec = &object.spec;
    let replicas = spec.replicas.unwrap_or(1);
    rows.numbers([
        ("kube_deployment_spec_replicas", Some(f64::from(replicas))),
        ("kube_deployment_spec_paused", Some(number(spec.paused.unwrap_or(false)))),
    ]);
    if let Some(update) = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref()) {
        let scaled = |value: &Option<IntOrString>, up: bool| scale(value.as_ref()?, replicas, up);
        rows.numbers([
            ("kube_deployment_spec_strategy_rollingupdate_max_unavailable", scaled(&update.max_unavailable, false)),
            ("kube_deployment_spec_strategy_rollingupdate_max_surge", scaled(&update.max_surge, true)),
        ]);
    }
}

/// A number, or a part of all in hundredths.
fn scale(value: &IntOrString, all: i32, up: bool) -> Option<f64> {
    match value {
        IntOrString::Int(number) => Some(f64::from(*number)),
        IntOrString::String(text) => {
            let part = text.strip_suffix('%')?.parse::<f64>().ok()? * f64::from(all) / 100.0;
            Some(if up { part.ceil() } else { part.floor() })
        }
    }
}

pub(super) fn replica_set(page: &mut Page, allowed: &Allowed, object: &ReplicaSet) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("replicaset", text(&meta.name))]);
    rows.life("kube_replicaset_created", None, meta);
    rows.allowed("kube_replicaset_labels", "kube_replicaset_annotations", allowed, meta);
    rows.owners("kube_replicaset_owner", &meta.owner_references, true);
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_replicaset_metadata_generation", whole(meta.generation)),
        ("kube_replicaset_spec_replicas", object.spec.replicas.map(f64::from)),
        ("kube_replicaset_status_replicas", whole(status.replicas)),
        ("kube_replicaset_status_fully_labeled_replicas", whole(status.fully_labeled_replicas)),
        ("kube_replicaset_status_ready_replicas", whole(status.ready_replicas)),
        ("kube_replicaset_status_terminating_replicas", status.terminating_replicas.map(f64::from)),
        ("kube_replicaset_status_observed_generation", whole(status.observed_generation)),
    ]);
}

pub(super) fn replication_controller(page: &mut Page, _: &Allowed, object: &ReplicationController) {
    let meta = &object.metadata;
    let mut rows =
        Rows::new(page, &[("namespace", text(&meta.namespace)), ("replicationcontroller", text(&meta.name))]);
    rows.life("kube_replicationcontroller_created", None, meta);
    rows.owners("kube_replicationcontroller_owner", &meta.owner_references, true);
    let status = object.status.clone().unwrap_or_default();
    let replicas = object.spec.as_ref().and_then(|spec| spec.replicas).map(f64::from);
    rows.numbers([
        ("kube_replicationcontroller_metadata_generation", whole(meta.generation)),
        ("kube_replicationcontroller_spec_replicas", replicas),
        ("kube_replicationcontroller_status_replicas", whole(status.replicas)),
        ("kube_replicationcontroller_status_fully_labeled_replicas", whole(status.fully_labeled_replicas)),
        ("kube_replicationcontroller_status_ready_replicas", whole(status.ready_replicas)),
        ("kube_replicationcontroller_status_available_replicas", whole(status.available_replicas)),
        ("kube_replicationcontroller_status_observed_generation", whole(status.observed_generation)),
    ]);
}

pub(super) fn stateful_set(page: &mut Page, allowed: &Allowed, object: &StatefulSet) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("statefulset", text(&meta.name))]);
    rows.life("kube_statefulset_created", Some("kube_statefulset_deletion_timestamp"), meta);
    rows.allowed("kube_statefulset_labels", "kube_statefulset_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_statefulset_metadata_generation", whole(meta.generation)),
        ("kube_statefulset_status_replicas", whole(status.replicas)),
        ("kube_statefulset_status_replicas_available", whole(status.available_replicas)),
        ("kube_statefulset_status_replicas_current", whole(status.current_replicas)),
        ("kube_statefulset_status_replicas_ready", whole(status.ready_replicas)),
        ("kube_statefulset_status_replicas_updated", whole(status.updated_replicas)),
        ("kube_statefulset_status_observed_generation", whole(status.observed_generation)),
    ]);
    rows.info("kube_statefulset_status_current_revision", &[("revision", text(&status.current_revision))]);
    rows.info("kube_statefulset_status_update_revision", &[("revision", text(&status.update_revision))]);
    let spec = &object.spec;
    rows.numbers([
        ("kube_statefulset_replicas", spec.replicas.map(f64::from)),
        ("kube_statefulset_ordinals_start", spec.ordinals.as_ref().and_then(|ordinals| whole(ordinals.start))),
    ]);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let (deleted, scaled) = (text(&policy.when_deleted), text(&policy.when_scaled));
        if !(deleted.is_empty() && scaled.is_empty()) {
            let labels = [("when_deleted", deleted), ("when_scaled", scaled)];
            rows.info("kube_statefulset_persistentvolumeclaim_retention_policy", &labels);
        }
    }
}

pub(super) fn daemon_set(page: &mut Page, allowed: &Allowed, object: &DaemonSet) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("daemonset", text(&meta.name))]);
    rows.life("kube_daemonset_created", Some("kube_daemonset_deletion_timestamp"), meta);
    rows.allowed("kube_daemonset_labels", "kube_daemonset_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_daemonset_metadata_generation", whole(meta.generation)),
        ("kube_daemonset_status_current_number_scheduled", whole(status.current_number_scheduled)),
        ("kube_daemonset_status_desired_number_scheduled", whole(status.desired_number_scheduled)),
        ("kube_daemonset_status_number_available", whole(status.number_available)),
        ("kube_daemonset_status_number_misscheduled", whole(status.number_misscheduled)),
        ("kube_daemonset_status_number_ready", whole(status.number_ready)),
        ("kube_daemonset_status_number_unavailable", whole(status.number_unavailable)),
        ("kube_daemonset_status_observed_generation", whole(status.observed_generation)),
        ("kube_daemonset_status_updated_number_scheduled", whole(status.updated_number_scheduled)),
    ]);
}

pub(super) fn job(page: &mut Page, allowed: &Allowed, object: &Job) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("job_name", text(&meta.name))]);
    rows.life("kube_job_created", None, meta);
    rows.allowed("kube_job_labels", "kube_job_annotations", allowed, meta);
    rows.owners("kube_job_owner", &meta.owner_references, true);
    rows.info("kube_job_info", &[]);
    if let Some(spec) = &object.spec {
        rows.numbers([
            ("kube_job_spec_parallelism", spec.parallelism.map(f64::from)),
            ("kube_job_spec_completions", spec.completions.map(f64::from)),
            ("kube_job_spec_active_deadline_seconds", spec.active_deadline_seconds.map(|wait| wait as f64)),
        ]);
    }
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_job_status_active", whole(status.active)),
        ("kube_job_status_succeeded", whole(status.succeeded)),
        ("kube_job_status_ready", whole(status.ready)),
    ]);
    rows.time("kube_job_status_start_time", status.start_time.as_ref());
    rows.time("kube_job_status_completion_time", status.completion_time.as_ref());
    let failed = status.failed.unwrap_or(0);
    let mut known = false;
    if failed == 0 {
        rows.value("kube_job_status_failed", &[], 0.0);
    }
    for condition in status.conditions.iter().flatten() {
        match text(&condition.type_) {
            "Complete" => rows.condition("kube_job_complete", "condition", &[], text(&condition.status)),
            "Failed" => {
                rows.condition("kube_job_failed", "condition", &[], text(&condition.status));
                for reason in JOB_REASONS.into_iter().filter(|_| failed > 0) {
                    let is = condition.reason.as_deref() == Some(reason);
                    known |= is;
                    rows.value("kube_job_status_failed", &[("reason", reason)], number(is));
                }
            }
            "Suspended" => rows.value("kube_job_status_suspended", &[], number(text(&condition.status) == "True")),
            _ => {}
        }
    }
    if failed > 0 && !known {
        rows.value("kube_job_status_failed", &[("reason", "")], f64::from(failed));
    }
}

pub(super) fn cron_job(page: &mut Page, allowed: &Allowed, object: &CronJob, next: NextRun) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("cronjob", text(&meta.name))]);
    rows.life("kube_cronjob_created", None, meta);
    rows.allowed("kube_cronjob_labels", "kube_cronjob_annotations", allowed, meta);
    rows.version("kube_cronjob_metadata_resource_version", meta);
    let spec = &object.spec;
    let status = object.status.clone().unwrap_or_default();
    rows.info(
        "kube_cronjob_info",
        &[
            ("schedule", &spec.schedule),
            ("concurrency_policy", text(&spec.concurrency_policy)),
            ("timezone", spec.time_zone.as_deref().unwrap_or("local")),
        ],
    );
    rows.numbers([
        ("kube_cronjob_status_active", Some(status.active.as_ref().map_or(0, Vec::len) as f64)),
        ("kube_cronjob_spec_suspend", spec.suspend.map(number)),
        ("kube_cronjob_spec_starting_deadline_seconds", spec.starting_deadline_seconds.map(|wait| wait as f64)),
        ("kube_cronjob_spec_successful_job_history_limit", spec.successful_jobs_history_limit.map(f64::from)),
        ("kube_cronjob_spec_failed_job_history_limit", spec.failed_jobs_history_limit.map(f64::from)),
    ]);
    rows.time("kube_cronjob_status_last_schedule_time", status.last_schedule_time.as_ref());
    rows.time("kube_cronjob_status_last_successful_time", status.last_successful_time.as_ref());
    let after = status.last_schedule_time.as_ref().or(meta.creation_timestamp.as_ref());
    if spec.suspend != Some(true) {
        let due = after.and_then(|after| next(&spec.schedule, spec.time_zone.as_deref(), after.0));
        rows.numbers([("kube_cronjob_next_schedule_time", due.map(|due| due.as_second() as f64))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_replicas_are_rounded_as_deployments_round_them() {
        let part = IntOrString::String("25%".into());
        assert_eq!((scale(&part, 3, true), scale(&part, 3, false)), (Some(1.0), Some(0.0)));
        assert_eq!(scale(&IntOrString::Int(2), 3, true), Some(2.0));
        assert_eq!(scale(&IntOrString::String("many".into()), 3, true), None);
    }
}
