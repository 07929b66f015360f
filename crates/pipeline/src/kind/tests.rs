//! What is written fits its definition: a field that is not in it would be dropped by the API server.

use serde_json::{Value, json};

use super::*;

/// Every field of a value is in a schema.
fn within(value: &Value, schema: &Value, path: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let known = match &schema["additionalProperties"] {
                    any if any.is_object() => any,
                    _ => &schema["properties"][name],
                };
                assert!(!known.is_null(), "{path}.{name} is not in the definition");
                within(value, known, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| within(item, &schema["items"], &format!("{path}[]"))),
        Value::String(text) => {
            if let Some(allowed) = schema["enum"].as_array() {
                assert!(allowed.contains(&json!(text)), "{path}: {text}");
            }
        }
        _ => {}
    }
}

fn schema(index: usize) -> Value {
    definitions().unwrap()[index]["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn definitions_are_those_of_the_kinds() {
    for (definition, plural) in definitions().unwrap().iter().zip([Pipelines::PLURAL, Runs::PLURAL]) {
        assert_eq!(definition["metadata"]["name"], format!("{plural}.{}", own::GROUP));
        assert_eq!(definition["spec"]["versions"][0]["name"], own::VERSION);
    }
}

#[test]
fn all_that_a_pipeline_says_is_in_its_definition() {
    let parameter = Parameter {
        name: "a".into(),
        kind: "choice".into(),
        description: "b".into(),
        default: json!("c"),
        choices: vec!["c".into()],
    };
    let triggers = Triggers {
        push: Some(true),
        cron: vec!["@daily".into()],
        poll: vec!["@hourly".into()],
        upstream: vec![Upstream { pipeline: "p".into(), threshold: Some("UNSTABLE".into()) }],
        webhook: Some(Webhook::default()),
    };
    let retention = Retention { runs: Some(1), days: Some(1), artifact_runs: Some(1), artifact_days: Some(1) };
    let spec = Spec {
        repository: Some(Named::default()),
        git: Some(Git { url: "https://a".into(), credentials_id: Some("b".into()) }),
        branches: vec!["main".into()],
        script_path: Some("a".into()),
        script: Some("b".into()),
        description: Some("c".into()),
        parameters: vec![parameter.clone()],
        triggers: Some(triggers.clone()),
        retention: Some(retention),
        service_account_name: Some("d".into()),
        agents: vec![AgentPod {
            labels: "a".into(),
            image: Some("b".into()),
            container: Some("c".into()),
            yaml: Some("d".into()),
        }],
        concurrency: Some(Concurrency::Queue),
        active_deadline_seconds: Some(1),
        suspend: true,
    };
    within(&serde_json::to_value(spec).unwrap(), &schema(0)["properties"]["spec"], "spec");
    let last = Last {
        branch: Some("a".into()),
        commit: Some("b".into()),
        started: Some(Timestamp::UNIX_EPOCH),
        finished: Some(Timestamp::UNIX_EPOCH),
        ..Last::default()
    };
    let some = || Some("a".to_owned());
    let change = Change {
        id: "7".into(),
        branch: some(),
        target: some(),
        fork: some(),
        url: some(),
        title: some(),
        author: some(),
        author_display_name: some(),
        author_email: some(),
    };
    let waiting = Waiting { number: 1, reference: some(), commit: some(), change: Some(change) };
    let status = Status {
        last: Some(last.clone()),
        last_successful: Some(last.clone()),
        last_failed: Some(last),
        parameters: vec![parameter],
        triggers: Some(triggers),
        retention: Some(retention),
        concurrency: Some(Concurrency::Replace),
        quiet: Some(1),
        milestones: [(1, 7)].into(),
        branches: vec![Branch {
            name: "a".into(),
            commit: Some("b".into()),
            number: Some(1),
            result: Some("SUCCESS".into()),
        }],
        push: Some(1),
        fired: Some(Timestamp::UNIX_EPOCH),
        looked: Some(Timestamp::UNIX_EPOCH),
        waiting: [("a".to_owned(), waiting)].into(),
        message: Some("a".into()),
        observed_generation: Some(1),
        ..Status::default()
    };
    within(&serde_json::to_value(status).unwrap(), &schema(0)["properties"]["status"], "status");
}

#[test]
fn all_that_a_run_says_is_in_its_definition() {
    let given = vec![Given { name: "a".into(), value: json!(true) }];
    let spec = RunSpec {
        branch: Some("main".into()),
        commit: Some("a".into()),
        script: Some("b".into()),
        parameters: given.clone(),
        cause: Some(Cause {
            kind: "upstream".into(),
            user: Some("a".into()),
            text: Some("b".into()),
            upstream: Some(UpstreamRun::default()),
        }),
        abort: true,
        aborted_by: Some("a".into()),
        keep: true,
        inputs: vec![Reply { id: "a".into(), abort: true, user: Some("b".into()), parameters: given }],
        ..RunSpec::default()
    };
    within(&serde_json::to_value(spec).unwrap(), &schema(1)["properties"]["spec"], "spec");
    let at = Some(Timestamp::UNIX_EPOCH);
    let some = || Some("a".to_owned());
    let status = RunStatus {
        result: Some("SUCCESS".into()),
        branch: some(),
        commit: some(),
        url: some(),
        display_name: some(),
        description: some(),
        started: at,
        finished: at,
        duration: some(),
        progress: some(),
        message: some(),
        culprits: vec!["a".into()],
        changes: Some(1),
        stages: vec![Stage {
            parent: some(),
            result: some(),
            started: at,
            finished: at,
            milliseconds: Some(1),
            reason: some(),
            pod: some(),
            dropped: Some(1),
            steps: vec![Step {
                label: some(),
                started: at,
                milliseconds: Some(1),
                from: Some(1),
                to: Some(2),
                message: some(),
                ..Step::default()
            }],
            ..Stage::default()
        }],
        inputs: vec![Question {
            ok: some(),
            submitter: some(),
            submitter_parameter: some(),
            stage: some(),
            since: at,
            parameters: vec![Parameter { choices: vec!["a".into()], default: json!(1), ..Parameter::default() }],
            ..Question::default()
        }],
        agents: vec![Agent {
            node: some(),
            label: some(),
            container: some(),
            started: at,
            finished: at,
            ..Agent::default()
        }],
        log: Some(Log { bytes: 1, truncated: true }),
        tests: Some(Tests::default()),
        artifacts: Some(Artifacts::default()),
        observed_generation: Some(1),
        ..RunStatus::default()
    };
    within(&serde_json::to_value(status).unwrap(), &schema(1)["properties"]["status"], "status");
}

#[test]
fn a_run_that_a_trigger_makes_is_owned_by_its_pipeline() {
    let mut pipeline = Pipeline::default();
    pipeline.metadata.name = Some("shop".into());
    pipeline.metadata.namespace = Some("yard".into());
    pipeline.metadata.uid = Some("1".into());
    let run = begun(&pipeline, Cause { kind: "timer".into(), ..Cause::default() });
    assert_eq!(run.metadata.generate_name.as_deref(), Some("shop-"));
    assert_eq!(run.metadata.owner_references.unwrap()[0].uid, "1");
    assert_eq!(run.spec.pipeline_ref.name, "shop");
}

#[test]
fn a_long_name_is_cut_to_a_label() {
    assert_eq!(label("shop"), "shop");
    assert_eq!(label(&format!("{}-{}", "a".repeat(62), "b".repeat(9))), "a".repeat(62));
}
