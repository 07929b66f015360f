//! Deletes Jobs some time after they have ended, if they say so.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/>

use std::time::Duration;

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions, PropagationPolicy},
};
use task::Task;

use super::decide::is_finished;
use crate::caches::Caches;

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.jobs.listen(move |change| {
        if change.new.as_ref().is_some_and(|job| left(job, Timestamp::now()).is_some()) {
            add.add(change.key.clone());
        }
    });
    let (client, jobs) = (client.clone(), caches.jobs.clone());
    queue.run("expired job", 1, move |key| {
        let (client, jobs) = (client.clone(), jobs.clone());
        async move {
            let Some(job) = jobs.get(&key).filter(|job| job.metadata.deletion_timestamp.is_none()) else {
                return Ok(Next::Done);
            };
            match left(&job, Timestamp::now()) {
                None => Ok(Next::Done),
                Some(left) if !left.is_zero() => Ok(Next::After(left)),
                Some(_) => {
                    let params = DeleteParams {
                        propagation_policy: Some(PropagationPolicy::Foreground),
                        preconditions: Some(Preconditions {
                            uid: job.metadata.uid.clone(),
                            resource_version: job.metadata.resource_version.clone(),
                        }),
                        ..DeleteParams::default()
                    };
                    match Api::<Job>::namespaced(client, &key.namespace).delete(&key.name, &params).await {
                        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Next::Done),
                        other => other.map(|_| Next::Done),
                    }
                }
            }
        }
    });
}

/// How long the Job is still kept; `None` if it has not ended or is kept for ever.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let kept = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = is_finished(job)?.last_transition_time.as_ref()?.0;
    let left = SignedDuration::from_secs(i64::from(kept)).saturating_sub(now.duration_since(ended));
    Some(Duration::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_kept_for_so_long_after_its_end() {
        let job = |kept: Option<i32>, kind: &str| -> Job {
            serde_json::from_value(json!({"metadata": {}, "spec": {"ttlSecondsAfterFinished": kept, "template": {}},
                "status": {"conditions": [{"type": kind, "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        let now = "2026-01-01T00:00:40Z".parse().unwrap();
        assert_eq!(left(&job(Some(100), "Complete"), now), Some(Duration::from_secs(60)));
        assert_eq!(left(&job(Some(0), "Failed"), now), Some(Duration::ZERO));
        assert_eq!(left(&job(Some(100), "SuccessCriteriaMet"), now), None);
        assert_eq!(left(&job(None, "Complete"), now), None);
    }
}
