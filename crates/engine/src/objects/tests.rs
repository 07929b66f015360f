//! What is done about builds in every state, and that the definition fits the code.

use serde_json::json;

use super::{
    decide::{ATTEMPTS, Action, Known, decide},
    kind::{Build, Phase, installed},
};

fn build(spec: serde_json::Value, status: serde_json::Value) -> Build {
    serde_json::from_value(json!({
        "metadata": {"name": "b", "namespace": "n", "uid": "u"}, "spec": spec, "status": status,
    }))
    .unwrap()
}

const IDLE: Known = Known { runs: false, uploaded: false };
const RUNS: Known = Known { runs: true, uploaded: false };

#[test]
fn builds_are_claimed_begun_and_left_alone_once_they_are_over() {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let mine = |more: serde_json::Value| {
        let mut status = json!({"nodeName": "here"});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    };
    let upload = json!({"context": {"upload": {}}});
    let over = |phase: &str| mine(json!({"phase": phase, "completionTime": "2026-01-01T00:00:00Z"}));
    let finish = |phase, reason: &'static str, message: &str| Action::Finish(phase, reason, message.to_owned());
    for (what, spec, status, known, wanted) in [
        ("new", json!({}), json!({}), IDLE, Action::Claim),
        ("meant for this node", json!({"nodeName": "here"}), json!({}), IDLE, Action::Claim),
        ("meant for another", json!({"nodeName": "there"}), json!({}), IDLE, Action::Nothing),
        ("another's", json!({}), json!({"nodeName": "there"}), IDLE, Action::Nothing),
        ("claimed", json!({}), mine(json!({})), IDLE, Action::Start),
        ("running", json!({}), mine(json!({"phase": "Running", "attempts": 1})), RUNS, Action::Nothing),
        ("after a restart", json!({}), mine(json!({"phase": "Running", "attempts": 1})), IDLE, Action::Start),
        ("without context", upload.clone(), mine(json!({})), IDLE, Action::Await),
        ("told so", upload.clone(), mine(json!({"reason": "WaitingForContext"})), IDLE, Action::Nothing),
        ("context there", upload.clone(), mine(json!({})), Known { uploaded: true, ..IDLE }, Action::Start),
        ("cancelled", json!({"cancel": true}), mine(json!({"phase": "Running"})), RUNS, Action::Stop),
        (
            "cancelled before",
            json!({"cancel": true}),
            mine(json!({})),
            IDLE,
            finish(Phase::Cancelled, "Cancelled", "it was cancelled before it had begun"),
        ),
        (
            "two contexts",
            json!({"context": {"upload": {}, "git": {"url": "https://a"}}}),
            mine(json!({})),
            IDLE,
            finish(Phase::Failed, "InvalidSpec", "the context is one of git, volume and upload"),
        ),
        (
            "again and again",
            json!({}),
            mine(json!({"phase": "Running", "attempts": ATTEMPTS})),
            IDLE,
            finish(Phase::Failed, "Interrupted", "the server ended 3 times while it was built"),
        ),
        ("over", json!({}), over("Succeeded"), IDLE, Action::Nothing),
        ("over, yet running", json!({}), over("Failed"), RUNS, Action::Stop),
        (
            "kept a while",
            json!({"ttlSecondsAfterFinished": 90}),
            over("Failed"),
            IDLE,
            Action::Later(std::time::Duration::from_secs(30)),
        ),
        ("kept long enough", json!({"ttlSecondsAfterFinished": 60}), over("Failed"), IDLE, Action::Delete),
    ] {
        assert_eq!(decide(&build(spec, status), known, "here", now), wanted, "{what}");
    }
    let mut going = build(json!({}), mine(json!({"phase": "Running"})));
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    assert_eq!(decide(&going, RUNS, "here", now), Action::Stop);
}

#[test]
fn the_definition_describes_every_field_that_is_read() {
    let all = installed("engine").unwrap();
    assert_eq!(all[0]["kind"], "CustomResourceDefinition");
    assert_eq!(all[0]["metadata"]["name"], "builds.madang.dev");
    let schema = &all[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let spec = &schema["spec"]["properties"];
    for field in [
        "nodeName",
        "serviceAccountName",
        "context",
        "dockerfile",
        "dockerfileText",
        "target",
        "args",
        "labels",
        "secrets",
        "imagePullSecrets",
        "tags",
        "platform",
        "network",
        "noCache",
        "resources",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "cancel",
    ] {
        assert!(spec[field].is_object(), "{field}");
    }
    let status = serde_json::to_value(super::kind::Status {
        image_id: Some("i".into()),
        digest: Some("d".into()),
        log_bytes: Some(1),
        ..Default::default()
    });
    for field in status.unwrap().as_object().unwrap().keys() {
        assert!(schema["status"]["properties"][field].is_object(), "{field}");
    }
}
