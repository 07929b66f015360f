//! What is known of a pod whose owner begins anew: from the runtime's records and from the object's status. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use runtime::{SandboxStatus, record::ContainerRecord};

use super::{
    state::{Admission, ContainerState, Ended, ImageRef, Kind, Run, Running, Sandbox, State},
    status::ID_PREFIX,
};
use crate::config::timestamp;

/// Names under which a container's record remembers its image for the status.
pub const IMAGE_REFERENCE: &str = "image-reference";
/// See [`IMAGE_REFERENCE`].
pub const IMAGE_USER: &str = "image-user";
/// The resources that were granted to it, as the API writes them.
pub const RESOURCES: &str = "resources";
/// Whether the end of its log may stand for its last words.
pub const TERMINATION_FALLBACK: &str = "termination-fallback";

/// The image of a container, as its record remembers it.
pub fn image_of(record: &ContainerRecord) -> ImageRef {
    let text = |key: &str| record.config.annotations.get(key).cloned().unwrap_or_default();
    ImageRef {
        id: record.image_id.clone(),
        reference: text(IMAGE_REFERENCE),
        name: record.config.image_name.clone(),
        user: text(IMAGE_USER),
    }
}

/// Numbers of a container's user.
pub fn user_of(record: &ContainerRecord) -> Option<(i64, i64, Vec<i64>)> {
    let (uid, gid, groups) = &record.user;
    Some((i64::from(*uid), i64::from(*gid), groups.iter().map(|group| i64::from(*group)).collect()))
}

/// A running container, as its record tells.
pub fn running_of(record: &ContainerRecord) -> Running {
    Running {
        stale: false,
        id: record.id.clone(),
        started_at: record.started_at.map(timestamp).unwrap_or_default(),
        image: image_of(record),
        hook: false,
        user: user_of(record),
        resizing: false,
        resources: record.config.annotations.get(RESOURCES).and_then(|text| serde_json::from_str(text).ok()),
    }
}

/// The end of a container, as its record tells; `message` are its last words.
pub fn ended_of(record: &ContainerRecord, message: Option<String>) -> Option<Ended> {
    let common = Ended {
        id: record.id.clone(),
        image: image_of(record),
        user: user_of(record),
        started_at: record.started_at.map(timestamp),
        ..Default::default()
    };
    if let Some(failure) = &record.failure {
        return Some(Ended {
            code: 128,
            reason: "StartError".into(),
            message: Some(failure.clone()),
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: timestamp(record.created_at),
            ..common
        });
    }
    let exit = record.exit.as_ref()?;
    let reason = match (exit.lost, exit.oom && exit.code != 0, exit.code) {
        (true, ..) => "ContainerStatusUnknown",
        (_, true, _) => "OOMKilled",
        (_, _, 0) => "Completed",
        _ => "Error",
    };
    let lost = "The container could not be located when the pod was terminated";
    Some(Ended {
        code: exit.code,
        reason: reason.into(),
        message: message.or(exit.lost.then(|| lost.to_owned())),
        finished_at: timestamp(exit.finished_at),
        ..common
    })
}

/// Fills the state of a pod with what exists of it. `sandboxes` and `containers` are the pod's own, oldest first;
/// `message` gives the last words of a container.
pub fn restore(
    state: &mut State,
    sandboxes: &[SandboxStatus],
    containers: &[ContainerRecord],
    message: impl Fn(&ContainerRecord) -> Option<String>,
) {
    if !sandboxes.is_empty() {
        state.admission = Admission::Admitted;
    }
    state.sandboxes = sandboxes.iter().map(|sandbox| sandbox.record.config.attempt + 1).max().unwrap_or(0);
    if let Some(newest) = sandboxes.last() {
        let id = newest.record.id.clone();
        state.sandbox = if newest.alive && !newest.record.stopping {
            Sandbox::Ready { id, ip: newest.record.ip.map(Into::into) }
        } else {
            Sandbox::None
        };
    }
    // What runs has been granted what it has; a spec that differs by now is asked for anew.
    for record in containers {
        let granted = record.config.annotations.get(RESOURCES).and_then(|text| serde_json::from_str(text).ok());
        if let (Some(granted), None) = (granted, &record.exit) {
            state.granted.insert(record.config.name.clone(), granted);
        }
    }
    state.asked.clone_from(&state.granted);
    let alive = matches!(state.sandbox, Sandbox::Ready { .. });
    let statuses = api_statuses(&state.pod);
    for container in &mut state.containers {
        let api = statuses.iter().find(|status| status.name == container.name);
        let mut own: Vec<&ContainerRecord> =
            containers.iter().filter(|record| record.config.name == container.name).collect();
        own.sort_by_key(|record| record.config.attempt);
        let ended = |record: &ContainerRecord| ended_of(record, message(record));
        match own.pop() {
            Some(newest) => {
                container.attempts = newest.config.attempt + 1;
                container.last = own.last().and_then(|record| ended(record));
                container.run = match ended(newest) {
                    Some(ended) => Run::Ended(ended),
                    None if newest.started_at.is_some() && alive => {
                        container.started = api.is_none_or(|status| status.started != Some(false));
                        container.ready = api.is_some_and(|status| status.ready);
                        Run::Running(running_of(newest))
                    }
                    // Created and never started: it is made anew under the same number.
                    None => {
                        container.attempts = newest.config.attempt;
                        Run::Idle
                    }
                };
            }
            None => from_status(container, api),
        }
        // A new sandbox runs init containers again.
        if !alive
            && container.kind == Kind::Init
            && let Run::Ended(ended) = &mut container.run
        {
            ended.replace = true;
        }
    }
}

fn api_statuses(pod: &Pod) -> Vec<ContainerStatus> {
    let Some(status) = &pod.status else { return Vec::new() };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().cloned().collect()
}

/// What the object says of a container that the runtime does not know any more.
fn from_status(container: &mut ContainerState, status: Option<&ContainerStatus>) {
    let Some(status) = status else { return };
    let image = ImageRef { reference: status.image_id.clone(), name: status.image.clone(), ..Default::default() };
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    let state = status.state.clone().unwrap_or_default();
    if let Some(terminated) = state.terminated {
        let id = terminated.container_id.unwrap_or_default();
        container.attempts = restarts + 1;
        container.run = Run::Ended(Ended {
            id: id.strip_prefix(ID_PREFIX).unwrap_or(&id).to_owned(),
            code: terminated.exit_code,
            signal: terminated.signal,
            reason: terminated.reason.unwrap_or_default(),
            message: terminated.message,
            started_at: terminated.started_at.map(|time| time.0),
            finished_at: terminated.finished_at.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            image,
            ..Default::default()
        });
    } else if let Some(running) = state.running {
        container.attempts = restarts + 1;
        container.run = Run::Ended(Ended {
            code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: Some("The container could not be located when the pod was terminated".into()),
            started_at: running.started_at.map(|time| time.0),
            finished_at: Timestamp::now(),
            image,
            ..Default::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use runtime::record::{Exit, SandboxRecord};
    use serde_json::{Value, json};

    use super::*;

    fn state(status: Value) -> State {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web", "uid": "u"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}, "status": status}))
        .unwrap();
        State::new(Arc::new(pod), "192.0.2.1".parse().unwrap(), Timestamp::now())
    }

    fn sandbox(alive: bool) -> SandboxStatus {
        let record = SandboxRecord {
            users: None,
            id: "s".into(),
            config: Default::default(),
            ip: Some("10.42.0.5".parse().unwrap()),
            created_at: SystemTime::now(),
            boot_id: String::new(),
            stopping: false,
            stopped: false,
        };
        SandboxStatus { record, alive }
    }

    fn container(name: &str, attempt: u32, code: Option<i32>) -> ContainerRecord {
        let mut config = runtime::description::ContainerConfig { name: name.into(), attempt, ..Default::default() };
        config.image_name = "app".into();
        ContainerRecord {
            id: format!("{name}-{attempt}"),
            sandbox: "s".into(),
            config,
            image_id: "sha256:1".into(),
            user: (0, 0, vec![0]),
            stop_signal: 15,
            created_at: SystemTime::UNIX_EPOCH + Duration::from_secs(attempt.into()),
            started_at: Some(SystemTime::UNIX_EPOCH),
            exit: code.map(|code| Exit {
                code,
                signal: None,
                oom: code == 137,
                finished_at: SystemTime::UNIX_EPOCH,
                lost: false,
            }),
            failure: None,
        }
    }

    #[test]
    fn what_runs_goes_on_and_what_ended_is_remembered() {
        let mut state = state(json!({}));
        let records = [container("i", 0, Some(0)), container("a", 0, Some(137)), container("a", 1, None)];
        restore(&mut state, &[sandbox(true)], &records, |_| Some("bye".into()));
        assert_eq!(state.admission, Admission::Admitted);
        assert!(state.container("i").unwrap().init_done());
        let main = state.container("a").unwrap();
        assert_eq!(main.attempts, 2);
        assert_eq!(main.running().unwrap().id, "a-1");
        let last = main.last.as_ref().unwrap();
        assert_eq!((last.reason.as_str(), last.message.as_deref()), ("OOMKilled", Some("bye")));
    }

    #[test]
    fn without_its_sandbox_a_pod_begins_again() {
        let mut state = state(json!({}));
        restore(&mut state, &[sandbox(false)], &[container("i", 0, Some(0))], |_| None);
        assert_eq!(state.sandbox, Sandbox::None);
        assert!(!state.container("i").unwrap().init_done());
        assert_eq!(state.sandboxes, 1);
    }

    #[test]
    fn the_object_tells_what_the_runtime_has_forgotten() {
        let mut state = state(json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "image": "app",
            "imageID": "", "ready": false, "restartCount": 2,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}));
        restore(&mut state, &[], &[], |_| None);
        let main = state.container("a").unwrap();
        assert_eq!(main.attempts, 3);
        assert!(matches!(&main.run, Run::Ended(ended) if ended.reason == "Completed"));
    }
}
