//! Workloads: `apps`, `batch` and disruption budgets.

use serde_json::json;

use super::core::{labels_from_template, persistent_volume_claim};
use super::edit::{self, Object, down, items, made, set, set_text};
use super::pod;

pub fn apply(kind: &str, object: &mut Object) {
    match kind {
        "Deployment" => deployment(object),
        "ReplicaSet" => replica_set(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "ControllerRevision" => set(object, "revision", 0),
        "Job" => job(object),
        "CronJob" => cron_job(object),
        _ => {}
    }
}

fn deployment(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set(spec, "replicas", 1);
        if let Some(strategy) = made(spec, "strategy") {
            set_text(strategy, "type", "RollingUpdate");
            if edit::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", "25%");
                set(rolling, "maxSurge", "25%");
            }
        }
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "progressDeadlineSeconds", 600);
        pod::template(spec, "template");
    }
    super::empty_status(object);
}

fn replica_set(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set(spec, "replicas", 1);
        pod::template(spec, "template");
    }
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
    }
}

fn stateful_set(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set_text(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = made(spec, "updateStrategy") {
            if edit::text(strategy, "type").is_empty() {
                set_text(strategy, "type", "RollingUpdate");
                set(strategy, "rollingUpdate", json!({}));
            }
            if edit::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = edit::member(strategy, "rollingUpdate")
            {
                set(rolling, "partition", 0);
                set(rolling, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
            set_text(policy, "whenDeleted", "Retain");
            set_text(policy, "whenScaled", "Retain");
        }
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        pod::template(spec, "template");
        for claim in items(spec, "volumeClaimTemplates") {
            claim.insert("apiVersion".to_owned(), "v1".into());
            claim.insert("kind".to_owned(), "PersistentVolumeClaim".into());
            set(claim, "metadata", json!({}));
            persistent_volume_claim(claim);
        }
    }
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
        set(status, "availableReplicas", 0);
    }
}

fn daemon_set(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        if let Some(strategy) = made(spec, "updateStrategy") {
            set_text(strategy, "type", "RollingUpdate");
            if edit::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", 1);
                set(rolling, "maxSurge", 0);
            }
        }
        set(spec, "revisionHistoryLimit", 10);
        pod::template(spec, "template");
    }
    if let Some(status) = made(object, "status") {
        for key in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"] {
            set(status, key, 0);
        }
    }
}

fn job(object: &mut Object) {
    let labels = down(object, &["spec", "template", "metadata", "labels"]).map(|labels| labels.clone());
    if let Some(spec) = made(object, "spec") {
        if edit::absent(spec, "completions") && edit::absent(spec, "parallelism") {
            set(spec, "completions", 1);
        }
        set(spec, "parallelism", 1);
        let limit = if edit::absent(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
        set(spec, "backoffLimit", limit);
        set(spec, "completionMode", "NonIndexed");
        set(spec, "suspend", false);
        let replacement = if edit::absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
        set(spec, "podReplacementPolicy", replacement);
        set(spec, "manualSelector", false);
        pod_failure_policy(spec);
        pod::template(spec, "template");
    }
    labels_from_template(object, labels);
    super::empty_status(object);
}

fn pod_failure_policy(spec: &mut Object) {
    for rule in edit::member(spec, "podFailurePolicy").into_iter().flat_map(|policy| items(policy, "rules")) {
        for pattern in items(rule, "onPodConditions") {
            set_text(pattern, "status", "True");
        }
    }
}

fn cron_job(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set_text(spec, "concurrencyPolicy", "Allow");
        set(spec, "suspend", false);
        set(spec, "successfulJobsHistoryLimit", 3);
        set(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = made(spec, "jobTemplate") {
            set(template, "metadata", json!({}));
            if let Some(job) = made(template, "spec") {
                pod_failure_policy(job);
                pod::template(job, "template");
            }
        }
    }
    super::empty_status(object);
}

pub fn disruption_budget(object: &mut Object) {
    set(object, "spec", json!({}));
    if let Some(status) = made(object, "status") {
        for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            set(status, key, 0);
        }
    }
}
