//! Scripts and what they declare.

use serde_json::json;

use super::*;

fn declared(script: &str) -> Declared {
    let script = script.to_string();
    let work = move || {
        let program = Program::read("Jenkinsfile", &script).unwrap();
        let model = crate::read::read(&program).unwrap();
        read(&program, model.as_ref())
    };
    std::thread::Builder::new().stack_size(groovy::limit::STACK).spawn(work).unwrap().join().unwrap()
}

fn declarative(sections: &str) -> Declared {
    declared(&format!("pipeline {{ agent any\n{sections}\nstages {{ stage('a') {{ steps {{ echo 'x' }} }} }} }}"))
}

#[test]
fn sections_of_a_declarative_pipeline_are_read() {
    let found = declarative(
        r#"options { buildDiscarder(logRotator(numToKeepStr: '5', artifactDaysToKeepStr: '2'))
             disableConcurrentBuilds(abortPrevious: true)
             quietPeriod(7) }
           triggers { cron('H 4 * * 1-5'); pollSCM '''H/5 * * * *'''
             upstream(upstreamProjects: 'base, yard/lib', threshold: hudson.model.Result.UNSTABLE) }
           parameters { string(name: 'WHO', defaultValue: 'you', description: 'd'); booleanParam(name: 'FAST', defaultValue: true)
             choice(name: 'ENV', choices: ['a', 'b']); choice(name: 'OLD', choices: "c\nd"); password(name: 'P', defaultValue: 'secret') }"#,
    );
    assert_eq!(found.wrong, Vec::<String>::new());
    assert_eq!(found.retention, Some(Retention { runs: Some(5), artifact_days: Some(2), ..Retention::default() }));
    assert_eq!((found.concurrency, found.quiet), (Some(Concurrency::Replace), Some(7)));
    let triggers = found.triggers.clone().unwrap();
    assert_eq!((triggers.cron, triggers.poll), (vec!["H 4 * * 1-5".to_string()], vec!["H/5 * * * *".to_string()]));
    let names: Vec<(&str, Option<&str>)> =
        triggers.upstream.iter().map(|up| (up.pipeline.as_str(), up.threshold.as_deref())).collect();
    assert_eq!(names, [("base", Some("UNSTABLE")), ("lib", Some("UNSTABLE"))]);
    let told: Vec<(&str, &str, &Json)> =
        found.parameters.iter().map(|one| (one.name.as_str(), one.kind.as_str(), &one.default)).collect();
    assert_eq!(
        told,
        [
            ("WHO", "string", &json!("you")),
            ("FAST", "boolean", &json!(true)),
            ("ENV", "choice", &json!("a")),
            ("OLD", "choice", &json!("c")),
            ("P", "password", &json!("secret")),
        ]
    );
    assert_eq!(found.shown().parameters[4].default, Json::Null);
    assert_eq!(found.parameters[3].choices, ["c", "d"]);
}

#[test]
fn properties_of_a_scripted_pipeline_are_read() {
    let found = declared(
        "properties([disableConcurrentBuilds(), buildDiscarder(logRotator(numToKeepStr: '3')),
            parameters([string(name: 'A'), booleanParam(name: 'B')]), pipelineTriggers([cron('@daily')])])
         node { echo 'x' }",
    );
    assert_eq!(found.concurrency, Some(Concurrency::Queue));
    assert_eq!(found.retention.unwrap().runs, Some(3));
    assert_eq!(found.triggers.unwrap().cron, ["@daily"]);
    let defaults: Vec<&Json> = found.parameters.iter().map(|one| &one.default).collect();
    assert_eq!(defaults, [&json!(""), &json!(false)]);
}

#[test]
fn what_is_computed_is_as_if_nothing_were_said() {
    let found = declarative("options { buildDiscarder(logRotator(numToKeepStr: \"${KEEP}\")) }");
    assert_eq!(found.retention, Some(Retention::default()));
    let found = declarative("triggers { cron(env.BRANCH_NAME == 'main' ? '@daily' : '') }");
    assert_eq!(found, Declared::default());
}

#[test]
fn what_cannot_be_is_told() {
    let found = declarative("triggers { cron('61 * * * *') }");
    assert_eq!(found.wrong.len(), 1);
    assert!(found.triggers.is_some_and(|triggers| triggers.cron.is_empty()));
    assert_eq!(declarative("options { buildDiscarder(logRotator(numToKeepStr: 'many')) }").wrong.len(), 1);
}

#[test]
fn the_object_s_parameters_go_before_those_of_the_script() {
    let one = |name: &str, kind: &str| Parameter { name: name.into(), kind: kind.into(), ..Parameter::default() };
    let (own, script) = ([one("A", "text")], [one("A", "string"), one("B", "string")]);
    let all: Vec<(&str, &str)> =
        parameters(&own, &script).iter().map(|one| (one.name.as_str(), one.kind.as_str())).collect();
    assert_eq!(all, [("A", "text"), ("B", "string")]);
}
