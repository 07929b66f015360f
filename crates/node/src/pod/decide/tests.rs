//! Scripts: what happens to a pod, and what is done about it.

use serde_json::{Value, json};

use super::*;

pub(crate) struct Script {
    pub state: State,
    pub now: Timestamp,
    pub log: Vec<Action>,
}

impl Script {
    pub fn new(spec: Value) -> Self {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1}, "spec": spec,
        }))
        .unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        Self { state: State::new(Arc::new(pod), "192.0.2.1".parse().unwrap(), now), now, log: Vec::new() }
    }

    /// One event, and what is done about it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let out = decide(&mut self.state, event, self.now);
        self.log.extend(out.iter().cloned());
        out
    }

    pub fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        self.on(Event::Wake)
    }

    /// Admitted, volumes and sandbox there; images present as they are asked for.
    pub fn up(&mut self) -> Vec<Action> {
        let mut out = self.on(Event::Admitted(Ok(())));
        out.extend(self.on(Event::Volumes(Ok(()))));
        out.extend(self.on(Event::SandboxReady("s1".into(), Some("10.42.0.5".parse().unwrap()))));
        out
    }

    pub fn image(&mut self, name: &str) -> Vec<Action> {
        let image = ImageRef { id: "sha256:1".into(), name: "app".into(), ..Default::default() };
        self.on(Event::Image(name.into(), Ok(image)))
    }

    pub fn started(&mut self, name: &str) -> Vec<Action> {
        let attempts = self.state.container(name).unwrap().attempts;
        let image = ImageRef { id: "sha256:1".into(), name: "app".into(), ..Default::default() };
        let running = Running { id: format!("{name}-{attempts}"), started_at: self.now, image, ..Default::default() };
        self.on(Event::Started(name.into(), Ok(running)))
    }

    /// Everything that is asked for to start a container happens.
    pub fn run(&mut self, name: &str) {
        self.image(name);
        assert_eq!(self.state.container(name).unwrap().run, Run::Starting, "{name}");
        self.started(name);
    }

    pub fn exited(&mut self, name: &str, code: i32) -> Vec<Action> {
        let running = self.state.container(name).unwrap().running().expect("running").clone();
        let ended = Ended {
            id: running.id,
            code,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            started_at: Some(running.started_at),
            finished_at: self.now,
            ..Default::default()
        };
        self.on(Event::Exited(name.into(), ended))
    }

    pub fn phase(&self) -> &str {
        self.state.status.phase.as_deref().unwrap_or("")
    }

    pub fn delete(&mut self, grace: i64) -> Vec<Action> {
        let mut pod = (*self.state.pod).clone();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.on(Event::Changed(Arc::new(pod)))
    }
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "app"})
}

fn stops(actions: &[Action]) -> Vec<(String, u64, bool)> {
    let stop = |action: &Action| match action {
        Action::Stop { name, grace, hook, .. } => Some((name.clone(), grace.as_secs(), *hook)),
        _ => None,
    };
    actions.iter().filter_map(stop).collect()
}

fn starts(actions: &[Action]) -> Vec<String> {
    let start = |action: &Action| match action {
        Action::Start(name, attempt, _) => Some(format!("{name}-{attempt}")),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn reasons(actions: &[Action]) -> Vec<&'static str> {
    let reason = |action: &Action| match action {
        Action::Record { reason, .. } => Some(*reason),
        _ => None,
    };
    actions.iter().filter_map(reason).collect()
}

#[test]
fn volumes_sandbox_and_images_are_asked_for_at_once() {
    let mut script = Script::new(json!({"containers": [container("a"), container("b")]}));
    let out = script.on(Event::Admitted(Ok(())));
    let wanted = [
        Action::MountVolumes,
        Action::CreateSandbox(0),
        Action::FetchImage("a".into()),
        Action::FetchImage("b".into()),
        Action::Publish,
    ];
    assert_eq!(out, wanted);
    assert!(script.image("a").is_empty());
    assert!(starts(&script.on(Event::Volumes(Ok(())))).is_empty());
    assert_eq!(starts(&script.on(Event::SandboxReady("s".into(), None))), ["a-0"]);
    assert_eq!(starts(&script.image("b")), ["b-0"]);
    script.started("a");
    assert_eq!(script.phase(), "Pending");
    script.started("b");
    assert_eq!(script.phase(), "Running");
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_others() {
    let mut script =
        Script::new(json!({"initContainers": [container("i"), container("j")], "containers": [container("a")]}));
    script.up();
    script.run("i");
    assert_eq!(script.state.container("j").unwrap().image, Image::Unknown);
    script.exited("i", 0);
    script.run("j");
    script.exited("j", 0);
    script.run("a");
    assert_eq!(script.phase(), "Running");
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let mut script = Script::new(
        json!({"restartPolicy": "Never", "initContainers": [container("i")], "containers": [container("a")]}),
    );
    script.up();
    script.run("i");
    let out = script.exited("i", 1);
    assert_eq!(script.phase(), "Failed");
    assert!(out.contains(&Action::StopSandbox("s1".into())));
    assert!(starts(&script.log).iter().all(|start| start.starts_with('i')));
}

#[test]
fn a_sidecar_starts_first_stays_and_ends_last() {
    let mut script = Script::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "image": "app", "restartPolicy": "Always"}],
        "containers": [container("a")],
    }));
    script.up();
    script.run("s");
    script.run("a");
    let out = script.exited("a", 0);
    assert_eq!(stops(&out), [("s".into(), 30, true)]);
    assert_eq!(script.phase(), "Running");
    script.exited("s", 143);
    assert_eq!(script.phase(), "Succeeded");
}

#[test]
fn a_sidecar_is_restarted_whatever_the_policy() {
    let mut script = Script::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "image": "app", "restartPolicy": "Always"}],
        "containers": [container("a")],
    }));
    script.up();
    script.run("s");
    script.run("a");
    script.exited("s", 1);
    assert_eq!(starts(&script.image("s")), ["s-1"]);
}

#[test]
fn restart_policies_hold() {
    let cases = [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ];
    for (policy, code, again, phase) in cases {
        let mut script = Script::new(json!({"restartPolicy": policy, "containers": [container("a")]}));
        script.up();
        script.run("a");
        script.exited("a", code);
        let starts = if again { starts(&script.image("a")) } else { Vec::new() };
        assert_eq!(!starts.is_empty(), again, "{policy} {code}");
        assert_eq!(script.phase(), phase, "{policy} {code}");
    }
}

#[test]
fn restart_rules_of_a_container_come_before_policies() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "app", "restartPolicy": "Never", "restartPolicyRules": rules},
    ]});
    for (code, again) in [(42, true), (1, false)] {
        let mut script = Script::new(spec.clone());
        script.up();
        script.run("a");
        let out = script.exited("a", code);
        assert_eq!(out.contains(&Action::FetchImage("a".into())), again);
    }
}

#[test]
fn crashes_are_answered_with_growing_delays() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    script.run("a");
    script.exited("a", 1);
    script.run("a");
    let out = script.exited("a", 1);
    assert_eq!(reasons(&out), ["BackOff"]);
    let waiting = script.state.status.container_statuses.as_ref().unwrap()[0].clone();
    assert_eq!(waiting.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(waiting.last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(waiting.restart_count, 1);
    assert_eq!(next_wake(&script.state, script.now), Some(script.now + Duration::from_secs(10)));
    assert!(script.after(9).is_empty());
    assert!(script.after(1).contains(&Action::FetchImage("a".into())));
    script.run("a");
    script.exited("a", 1);
    assert_eq!(next_wake(&script.state, script.now), Some(script.now + Duration::from_secs(20)));
}

#[test]
fn a_pull_that_fails_is_tried_again_later() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    let failure = ImageFailure { reason: "ErrImagePull".into(), message: "no such image".into(), again: true };
    script.on(Event::Image("a".into(), Err(failure)));
    let reason = |script: &Script| {
        let status = script.state.status.container_statuses.clone().unwrap().remove(0);
        status.state.unwrap().waiting.unwrap().reason.unwrap()
    };
    assert_eq!(reason(&script), "ErrImagePull");
    assert_eq!(next_wake(&script.state, script.now), Some(script.now + PULL_ERROR_SHOWN));
    script.after(2);
    assert_eq!(reason(&script), "ImagePullBackOff");
    assert!(script.after(8).contains(&Action::FetchImage("a".into())));
}

#[test]
fn a_name_that_is_none_is_not_tried_again_until_it_changes() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    let failure = ImageFailure { reason: "InvalidImageName".into(), message: "bad".into(), again: false };
    script.on(Event::Image("a".into(), Err(failure)));
    assert_eq!(next_wake(&script.state, script.now), None);
    let mut pod = (*script.state.pod).clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("good".into());
    assert!(script.on(Event::Changed(Arc::new(pod))).contains(&Action::FetchImage("a".into())));
}

#[test]
fn deletion_stops_containers_and_then_everything_else_and_deletes_the_object_last() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    script.run("a");
    let out = script.delete(7);
    assert_eq!(stops(&out), [("a".into(), 7, true)]);
    let out = script.exited("a", 143);
    assert!(out.contains(&Action::StopSandbox("s1".into())));
    assert!(out.contains(&Action::UnmountVolumes));
    assert_eq!(script.phase(), "Failed");
    script.on(Event::SandboxStopped);
    assert_eq!(script.on(Event::Volumes(Ok(()))).first(), Some(&Action::Remove));
    assert_eq!(script.on(Event::Cleaned(Ok(()))), [Action::Delete]);
    assert_eq!(script.on(Event::Removed), [Action::Finish]);
}

#[test]
fn a_shorter_grace_hastens_the_end() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    script.run("a");
    script.delete(30);
    assert_eq!(stops(&script.delete(0)), [("a".into(), 0, false)]);
    assert!(stops(&script.delete(30)).is_empty());
}

#[test]
fn a_pod_deleted_while_its_sandbox_is_made_waits_for_it() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.on(Event::Admitted(Ok(())));
    assert!(script.delete(30).iter().all(|action| !matches!(action, Action::Remove)));
    script.on(Event::Volumes(Ok(())));
    let out = script.on(Event::SandboxReady("s1".into(), None));
    assert!(out.contains(&Action::StopSandbox("s1".into())));
    assert!(starts(&script.log).is_empty());
}

#[test]
fn a_failed_liveness_probe_restarts_with_its_own_grace() {
    let mut script = Script::new(json!({"containers": [
        {"name": "a", "image": "app", "livenessProbe": {"terminationGracePeriodSeconds": 3}},
    ]}));
    script.up();
    script.run("a");
    let out = script.on(Event::Probed("a".into(), "a-0".into(), Probe::Liveness, false));
    assert_eq!(stops(&out), [("a".into(), 3, true)]);
    assert!(script.on(Event::Probed("a".into(), "old".into(), Probe::Liveness, false)).is_empty());
    script.exited("a", 137);
    assert_eq!(starts(&script.image("a")), ["a-1"]);
}

#[test]
fn readiness_follows_the_probes() {
    let mut script = Script::new(json!({"containers": [
        {"name": "a", "image": "app", "readinessProbe": {}, "startupProbe": {}},
    ]}));
    script.up();
    script.run("a");
    let ready = |script: &Script| script.state.status.container_statuses.as_ref().unwrap()[0].ready;
    script.on(Event::Probed("a".into(), "a-0".into(), Probe::Readiness, true));
    assert!(!ready(&script));
    script.on(Event::Probed("a".into(), "a-0".into(), Probe::Startup, true));
    assert!(ready(&script));
    script.on(Event::Probed("a".into(), "a-0".into(), Probe::Readiness, false));
    assert!(!ready(&script));
}

#[test]
fn a_post_start_hook_holds_back_later_containers_and_kills_when_it_fails() {
    let hooked = json!({"name": "a", "image": "app", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}});
    let mut script = Script::new(json!({"containers": [hooked, container("b")]}));
    script.up();
    script.image("a");
    let out = script.started("a");
    assert!(out.contains(&Action::RunHook("a".into(), "a-0".into())));
    assert_eq!(script.state.container("b").unwrap().image, Image::Unknown);
    let out = script.on(Event::Hook("a".into(), "a-0".into(), Ok(())));
    assert!(out.contains(&Action::FetchImage("b".into())));
    script.exited("a", 1);
    script.run("a");
    let out = script.on(Event::Hook("a".into(), "a-1".into(), Err("exit code 1".into())));
    assert_eq!(stops(&out).len(), 1);
    assert!(reasons(&out).contains(&"FailedPostStartHook"));
}

#[test]
fn a_new_image_replaces_the_container() {
    let mut script = Script::new(json!({"restartPolicy": "Never", "containers": [container("a")]}));
    script.up();
    script.run("a");
    let mut pod = (*script.state.pod).clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("new".into());
    let out = script.on(Event::Changed(Arc::new(pod)));
    assert_eq!(stops(&out), [("a".into(), 30, true)]);
    assert!(script.exited("a", 143).contains(&Action::FetchImage("a".into())));
    assert_eq!(script.phase(), "Running");
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut script = Script::new(json!({"activeDeadlineSeconds": 5, "containers": [container("a")]}));
    script.up();
    script.run("a");
    assert_eq!(next_wake(&script.state, script.now), Some(script.now + Duration::from_secs(5)));
    assert_eq!(stops(&script.after(5)).len(), 1);
    assert_eq!(script.phase(), "Running");
    script.exited("a", 143);
    assert_eq!(script.phase(), "Failed");
    assert_eq!(script.state.status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_rejected_pod_fails_and_nothing_is_started() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    let out = script.on(Event::Admitted(Err(("OutOfcpu".into(), "Node didn't have enough resource: cpu".into()))));
    assert_eq!(reasons(&out), ["OutOfcpu"]);
    assert_eq!(script.phase(), "Failed");
    assert_eq!(script.state.status.message.as_deref(), Some("Pod was rejected: Node didn't have enough resource: cpu"));
    assert!(!out.contains(&Action::MountVolumes));
    assert_eq!(script.delete(0).first(), Some(&Action::Remove));
}

#[test]
fn a_dead_sandbox_is_made_again_with_its_init_containers() {
    let mut script = Script::new(json!({"initContainers": [container("i")], "containers": [container("a")]}));
    script.up();
    script.run("i");
    script.exited("i", 0);
    script.run("a");
    let out = script.on(Event::SandboxDied("s1".into()));
    assert!(reasons(&out).contains(&"SandboxChanged"));
    assert!(out.contains(&Action::CreateSandbox(1)));
    script.on(Event::SandboxReady("s2".into(), None));
    assert_eq!(script.state.sandboxes, 2);
}

#[test]
fn configuration_that_comes_later_starts_the_container() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    script.image("a");
    let failure = StartFailure::Create("CreateContainerConfigError".into(), "configmap \"x\" not found".into());
    script.on(Event::Started("a".into(), Err(failure)));
    assert_eq!(script.state.container("a").unwrap().attempts, 0);
    assert_eq!(starts(&script.on(Event::ObjectsChanged)), ["a-0"]);
}

#[test]
fn an_ephemeral_container_runs_once_beside_the_others() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.up();
    script.run("a");
    let mut pod = (*script.state.pod).clone();
    let ephemeral = json!([{"name": "debug", "image": "app"}]);
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(serde_json::from_value(ephemeral).unwrap());
    script.on(Event::Changed(Arc::new(pod)));
    script.run("debug");
    assert!(!script.exited("debug", 1).contains(&Action::FetchImage("debug".into())));
    assert_eq!(script.phase(), "Running");
}

#[test]
fn a_volume_that_fails_is_reported_and_tried_again() {
    let mut script = Script::new(json!({"containers": [container("a")]}));
    script.on(Event::Admitted(Ok(())));
    let out = script.on(Event::Volumes(Err("secret \"x\" not found".into())));
    assert_eq!(reasons(&out), ["FailedMount"]);
    assert!(script.after(5).contains(&Action::MountVolumes));
}

#[test]
fn a_container_that_ends_before_its_start_is_reported_has_ended() {
    let mut script = Script::new(json!({"restartPolicy": "Never", "containers": [container("a")]}));
    script.up();
    script.image("a");
    let ended = Ended { id: "a-0".into(), code: 3, reason: "Error".into(), ..Default::default() };
    assert!(script.on(Event::Exited("a".into(), ended)).is_empty());
    script.started("a");
    assert_eq!(script.phase(), "Failed");
}

fn resized(script: &mut Script, cpu: &str) -> Vec<Action> {
    let mut pod = (*script.state.pod).clone();
    let requests = json!({"requests": {"cpu": cpu}});
    pod.spec.as_mut().unwrap().containers[0].resources = Some(serde_json::from_value(requests).unwrap());
    script.on(Event::Changed(Arc::new(pod)))
}

#[test]
fn a_resize_is_granted_applied_and_reported() {
    let spec = json!({"containers": [{"name": "a", "image": "app", "resources": {"requests": {"cpu": "100m"}}}]});
    let mut script = Script::new(spec);
    script.up();
    script.run("a");
    let granted = script.state.granted["a"].clone();
    if let Run::Running(running) = &mut script.state.container_mut("a").unwrap().run {
        running.resources = Some(granted);
    }
    assert!(resized(&mut script, "200m").contains(&Action::AskForRoom));
    let out = script.on(Event::Granted(Ok(())));
    assert!(out.contains(&Action::Resize("a".into(), "a-0".into())));
    assert!(script.state.resize.is_some());
    script.on(Event::Resized("a".into(), "a-0".into(), Ok(())));
    assert!(script.state.resize.is_none());
    let status = script.state.status.container_statuses.as_ref().unwrap()[0].clone();
    assert_eq!(status.allocated_resources.unwrap()["cpu"].0, "200m");
}

#[test]
fn a_resize_without_room_waits_and_is_tried_when_there_is_some() {
    let spec = json!({"containers": [{"name": "a", "image": "app", "resources": {"requests": {"cpu": "100m"}}}]});
    let mut script = Script::new(spec);
    script.up();
    script.run("a");
    resized(&mut script, "2");
    script.on(Event::Granted(Err(Resize::Deferred("no room".into()))));
    let pending = script.state.status.conditions.as_ref().unwrap().iter().any(|one| one.type_ == "PodResizePending");
    assert!(pending);
    assert_eq!(
        script.state.granted_pod().spec.as_ref().unwrap().containers[0]
            .resources
            .as_ref()
            .unwrap()
            .requests
            .as_ref()
            .unwrap()["cpu"]
            .0,
        "100m"
    );
    assert!(script.on(Event::Room).contains(&Action::AskForRoom));
}

#[test]
fn containers_that_have_the_pods_limits_are_resized_with_it() {
    let spec = json!({"containers": [container("a")], "resources": {"limits": {"cpu": "100m"}}});
    let mut script = Script::new(spec);
    script.up();
    script.run("a");
    if let Run::Running(running) = &mut script.state.container_mut("a").unwrap().run {
        running.resources = Some(ResourceRequirements::default());
    }
    let mut pod = (*script.state.pod).clone();
    let whole = json!({"limits": {"cpu": "200m"}});
    pod.spec.as_mut().unwrap().resources = Some(serde_json::from_value(whole).unwrap());
    assert!(script.on(Event::Changed(Arc::new(pod))).contains(&Action::AskForRoom));
    let out = script.on(Event::Granted(Ok(())));
    assert!(out.contains(&Action::Resize("a".into(), "a-0".into())));
    script.on(Event::Resized("a".into(), "a-0".into(), Ok(())));
    assert!(script.state.resize.is_none());
    let limits = script.state.status.resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits["cpu"].0, "200m");
}

#[test]
fn a_rule_may_begin_the_whole_pod_once_more() {
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let mut script = Script::new(json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "initContainers": [container("i")],
        "containers": [{"name": "a", "image": "app", "restartPolicy": "Never", "restartPolicyRules": rule}, container("b")],
    }));
    script.up();
    script.run("i");
    script.exited("i", 0);
    script.run("a");
    script.run("b");
    let out = script.exited("a", 42);
    assert_eq!(stops(&out), [("b".to_owned(), 5, true)]);
    assert!(starts(&out).is_empty());
    let restarting = |script: &Script| {
        let list = script.state.status.conditions.clone().unwrap();
        list.into_iter().find(|one| one.type_ == "AllContainersRestarting").unwrap().status
    };
    assert_eq!(restarting(&script), "True");
    // First what ran before the others, and only once all have ended.
    let out = script.exited("b", 143);
    assert!(out.contains(&Action::FetchImage("i".into())) && !out.contains(&Action::FetchImage("a".into())));
    script.run("i");
    script.exited("i", 0);
    script.run("a");
    script.run("b");
    assert_eq!(restarting(&script), "False");
    assert_eq!(script.phase(), "Running");
    let counts: Vec<u32> = script.state.containers.iter().map(|container| container.attempts).collect();
    assert_eq!(counts, [2, 2, 2]);
    // Another code ends the pod as ever.
    script.exited("a", 1);
    script.exited("b", 0);
    assert_eq!(script.phase(), "Failed");
}

#[test]
fn a_new_sandbox_begins_with_the_init_containers() {
    let mut script = Script::new(json!({"initContainers": [container("i")], "containers": [container("a")]}));
    script.up();
    script.run("i");
    script.exited("i", 0);
    script.run("a");
    let out = script.on(Event::SandboxDied("s1".into()));
    assert!(out.contains(&Action::CreateSandbox(1)), "{out:?}");
    let out = script.on(Event::SandboxReady("s2".into(), None));
    let fetched = script.log.iter().filter(|action| **action == Action::FetchImage("i".into())).count();
    assert_eq!(fetched, 2, "{out:?}");
    script.run("i");
    script.exited("i", 0);
    script.after(20);
    script.run("a");
    assert_eq!(script.phase(), "Running");
}
