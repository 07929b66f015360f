//! Tests of `status`: cases as data where there are many.

use serde_json::{Value, json};

use crate::pod::decide::{Event, tests::Script};

fn condition(script: &Script, kind: &str) -> (String, Option<String>, Option<String>) {
    let list = script.state.status.conditions.as_ref().unwrap();
    let found = list.iter().find(|condition| condition.type_ == kind).unwrap().clone();
    (found.status, found.reason, found.message)
}

fn pod(extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "a", "image": "app"}]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

#[test]
fn conditions_follow_a_pod_through_its_life() {
    let mut script = Script::new(pod(json!({"restartPolicy": "Never"})));
    script.on(Event::Admitted(Ok(())));
    let unready = Some("containers with unready status: [a]".to_owned());
    assert_eq!(condition(&script, "PodReadyToStartContainers").0, "False");
    assert_eq!(condition(&script, "Initialized").0, "True");
    assert_eq!(condition(&script, "Ready"), ("False".into(), Some("ContainersNotReady".into()), unready));
    script.up();
    script.run("a");
    assert_eq!(condition(&script, "PodReadyToStartContainers").0, "True");
    assert_eq!(condition(&script, "Ready"), ("True".into(), None, None));
    assert_eq!(script.state.status.pod_ip.as_deref(), Some("10.42.0.5"));
    script.exited("a", 0);
    assert_eq!(condition(&script, "Ready"), ("False".into(), Some("PodCompleted".into()), None));
    assert_eq!(condition(&script, "Initialized"), ("True".into(), Some("PodCompleted".into()), None));
}

#[test]
fn readiness_gates_hold_a_pod_back() {
    let mut script = Script::new(pod(json!({"readinessGates": [{"conditionType": "x.example/up"}]})));
    script.up();
    script.run("a");
    let (status, reason, message) = condition(&script, "Ready");
    assert_eq!((status.as_str(), reason.as_deref()), ("False", Some("ReadinessGatesNotReady")));
    assert!(message.unwrap().contains("\"x.example/up\" does not exist"));
    let mut object = (*script.state.pod).clone();
    let mut status = script.state.status.clone();
    status
        .conditions
        .as_mut()
        .unwrap()
        .push(serde_json::from_value(json!({"type": "x.example/up", "status": "True"})).unwrap());
    object.status = Some(status);
    script.on(Event::Changed(object.into()));
    assert_eq!(condition(&script, "Ready").0, "True");
    assert_eq!(condition(&script, "x.example/up").0, "True");
}

#[test]
fn init_containers_that_are_not_done_show() {
    let mut script = Script::new(pod(json!({"initContainers": [{"name": "i", "image": "app"}]})));
    script.up();
    let wanted = Some("containers with incomplete status: [i]".to_owned());
    assert_eq!(condition(&script, "Initialized"), ("False".into(), Some("ContainersNotInitialized".into()), wanted));
    let waiting = script.state.status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(waiting.waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn transition_times_change_only_with_the_status() {
    let mut script = Script::new(pod(json!({})));
    script.on(Event::Admitted(Ok(())));
    let time = |script: &Script, kind: &str| {
        let list = script.state.status.conditions.as_ref().unwrap();
        list.iter().find(|condition| condition.type_ == kind).unwrap().last_transition_time.clone().unwrap().0
    };
    let began = time(&script, "Initialized");
    script.after(60);
    script.up();
    script.run("a");
    assert_eq!(time(&script, "Initialized"), began);
    assert_eq!(time(&script, "Ready"), script.now);
}

#[test]
fn a_deleted_pod_that_never_started_has_failed() {
    let mut script = Script::new(pod(json!({})));
    script.on(Event::Admitted(Ok(())));
    script.on(Event::Volumes(Ok(())));
    script.on(Event::SandboxFailed("no network".into()));
    script.delete(30);
    assert_eq!(script.phase(), "Failed");
}
