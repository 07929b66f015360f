//! How long a Job waits before it replaces a pod that has failed: 10 s, doubled with each failure in a row, 10 min at most.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy>

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods::ready_condition;

const FIRST: i64 = 10;
const LAST: i64 = 600;

/// Failures since the last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// How many.
    pub failures: i32,
    /// When the last of them was.
    pub last: Option<Timestamp>,
}

impl Backoff {
    /// Takes in pods that have ended since the last turn.
    pub fn after(&self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let last_success = succeeded.iter().map(|pod| finished(pod)).max();
        let later: Vec<Timestamp> = failed
            .iter()
            .map(|pod| finished(pod))
            .filter(|time| last_success.is_none_or(|success| *time > success))
            .collect();
        let newest = later.iter().copied().max();
        let count = i32::try_from(later.len()).unwrap_or(i32::MAX);
        match last_success {
            Some(_) => Self { failures: count, last: newest },
            None => Self { failures: self.failures.saturating_add(count), last: newest.max(self.last) },
        }
    }

    /// How long the next pod has still to wait.
    pub fn left(&self, now: Timestamp) -> Duration {
        let Some(last) = self.last.filter(|_| self.failures > 0) else { return Duration::ZERO };
        let doublings = u32::try_from(self.failures - 1).unwrap_or(0).min(10);
        let whole = SignedDuration::from_secs((FIRST << doublings).min(LAST));
        Duration::try_from(whole - now.duration_since(last)).unwrap_or_default()
    }
}

/// When a pod ended, as far as it tells.
pub fn finished(pod: &Pod) -> Timestamp {
    let meta = &pod.metadata;
    let unready = || {
        let condition = ready_condition(pod).filter(|condition| condition.status == "False")?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    };
    let told_to = || {
        let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(0));
        meta.deletion_timestamp.as_ref().and_then(|time| time.0.checked_sub(grace).ok())
    };
    let created = || meta.creation_timestamp.as_ref().map(|time| time.0);
    containers_finished(pod).or_else(unready).or_else(told_to).or_else(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When the last of the containers ended; `None` if one has not.
fn containers_finished(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> = inits
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let time = |container: &ContainerStatus| {
        container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    };
    let main = status.container_statuses.iter().flatten();
    let beside =
        status.init_container_statuses.iter().flatten().filter(|status| sidecars.contains(&status.name.as_str()));
    let times: Option<Vec<Timestamp>> = main.chain(beside).map(time).collect();
    times?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(second: i64) -> Arc<Pod> {
        let time = Timestamp::from_second(second).unwrap().to_string();
        Arc::new(
            serde_json::from_value(json!({"metadata": {}, "status": {"containerStatuses": [{"name": "a", "image": "",
                "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 1, "finishedAt": time}}}]}}))
            .unwrap(),
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_and_end_with_a_success() {
        let none = Backoff::default();
        assert_eq!(none.left(at(0)), Duration::ZERO);
        let one = none.after(&[], &[pod(100)]);
        assert_eq!(one.left(at(104)), Duration::from_secs(6));
        assert_eq!(one.left(at(110)), Duration::ZERO);
        let three = one.after(&[], &[pod(120), pod(115)]);
        assert_eq!(three, Backoff { failures: 3, last: Some(at(120)) });
        assert_eq!(three.left(at(120)), Duration::from_secs(40));
        let reset = three.after(&[pod(130)], &[pod(125), pod(131)]);
        assert_eq!(reset, Backoff { failures: 1, last: Some(at(131)) });
        assert_eq!(Backoff { failures: 50, last: Some(at(0)) }.left(at(0)), Duration::from_secs(600));
    }
}
