//! Runs of scripts in a world that notes what is asked, and answers as told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use pipeline::{
    result::Result,
    run::{
        self, Ended, Start,
        world::{Answer, Ask, Event, World},
    },
};
use serde_json::{Value as Json, json};

/// Notes everything in one list, in order.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    /// Answers by key, as a world keeps them over a restart.
    kept: Mutex<BTreeMap<String, Answer>>,
    /// What was asked and not found among what was kept.
    new: Mutex<Vec<Ask>>,
}

impl Notes {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn answer(&self, ask: &Ask) -> Answer {
        let text = |name: &str| ask.arguments[name].as_str().unwrap_or_default().to_string();
        match ask.name.as_str() {
            "agent" => Answer::Done(json!({ "id": format!("agent-{}", ask.key), "workspace": "/workspace" })),
            "sh" => {
                let script = text("script");
                self.note(format!("sh {script}"));
                let given = |name: &str| {
                    let found = ask.place.environment.iter().find(|(known, _)| known == name);
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                match script.split_once(' ') {
                    Some(("exit", code)) => Answer::Failed {
                        class: "AbortException".into(),
                        message: format!("script returned exit code {code}"),
                    },
                    Some(("print", name)) => Answer::Done(Json::from(given(name))),
                    _ if script == "interrupt" => {
                        Answer::Interrupted { message: "ended by a person".into(), result: Result::Aborted }
                    }
                    _ => Answer::Done(Json::Null),
                }
            }
            "credentials" => Answer::Done(json!({
                "variables": { text("variable"): "hunter2" }, "secrets": ["hunter2"],
            })),
            "timer" => Answer::Done(json!({ "id": format!("timer-{}", ask.key) })),
            "readFile" => Answer::Done(Json::from("{\"a\": 1}")),
            "junit" => Answer::Done(json!({ "totalCount": 3, "failCount": 1, "result": "UNSTABLE" })),
            "input" => Answer::Done(json!({ "WHO": "me" })),
            "checkout" => Answer::Done(json!({ "GIT_COMMIT": "abc" })),
            _ => Answer::Done(Json::Null),
        }
    }
}

impl World for Notes {
    fn ask(&self, ask: &Ask) -> Answer {
        if let Some(answer) = self.kept.lock().unwrap().get(&ask.key) {
            return answer.clone();
        }
        match ask.name.as_str() {
            "sh" => {}
            name => self.note(format!("{name} {}", ask.place.directory).trim().to_string()),
        }
        self.new.lock().unwrap().push(ask.clone());
        let answer = self.answer(ask);
        self.kept.lock().unwrap().insert(ask.key.clone(), answer.clone());
        answer
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Began { path, .. } => self.note(format!("> {path}")),
            Event::Finished { path, result, .. } => {
                self.note(format!("< {path} {}", result.map_or("skipped", Result::name)))
            }
            Event::Log { text, .. } => self.note(text.trim_end().lines().next().unwrap_or_default().to_string()),
            Event::Secret(secret) => self.note(format!("secret {secret}")),
            Event::Result(_) | Event::Described { .. } | Event::Declared(_) => {}
        }
    }

    fn interrupt(&self, below: &str, reason: &str) {
        self.note(format!("interrupt {} {reason}", below.len().min(1)));
    }
}

fn run_with(start: Start) -> (Ended, Vec<String>) {
    let world = Arc::new(Notes::default());
    let ended = run::run(start, world.clone());
    let lines = world.lines.lock().unwrap().clone();
    (ended, lines)
}

fn start(script: &str) -> Start {
    Start {
        name: "Jenkinsfile".into(),
        script: script.into(),
        environment: vec![("BUILD_NUMBER".into(), "7".into()), ("BRANCH_NAME".into(), "main".into())],
        ..Start::default()
    }
}

/// A run's result with what was noted, agents apart.
fn check(script: &str, result: Result, expected: &[&str]) {
    let (ended, lines) = run_with(start(script));
    let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.starts_with("agent")).collect();
    // The last line says where the script failed, which `failures_say_where` is about.
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("Jenkinsfile: ")).collect();
    assert_eq!(lines, expected, "{script}");
    assert_eq!(ended.result, result, "{script}: {:?}", ended.error);
}

fn stages(body: &str) -> String {
    format!("pipeline {{ agent any\n stages {{ {body} }} }}")
}

#[test]
fn stages_run_in_order_and_skip_after_a_failure() {
    check(
        &stages(
            "stage('a') { steps { sh 'one' } } stage('b') { steps { sh 'exit 2' } } stage('c') { steps { sh 'three' } }",
        ),
        Result::Failure,
        &[
            "> a",
            "sh one",
            "< a SUCCESS",
            "> b",
            "sh exit 2",
            "< b FAILURE",
            "> c",
            "Stage \"c\" skipped due to earlier failure(s)",
            "< c skipped",
        ],
    );
}

#[test]
fn post_conditions_run_in_their_order_after_what_they_watch() {
    let post = "post { cleanup { echo 'cleanup' } success { echo 'success' } failure { echo 'failure' } unsuccessful { echo 'unsuccessful' } changed { echo 'changed' } always { echo 'always' } }";
    check(
        &format!("pipeline {{ agent any\n stages {{ stage('a') {{ steps {{ echo 'x' }} {post} }} }} {post} }}"),
        Result::Success,
        &[
            "> a",
            "x",
            "always",
            "changed",
            "success",
            "cleanup",
            "< a SUCCESS",
            "always",
            "changed",
            "success",
            "cleanup",
        ],
    );
    let (ended, lines) = run_with(Start {
        before: Some(Result::Success),
        ..start(
            "pipeline { agent none\n stages { stage('a') { steps { error 'no' } } } post { always { echo 'always' } regression { echo 'regression' } fixed { echo 'fixed' } aborted { echo 'aborted' } failure { echo 'failure' } } }",
        )
    });
    assert_eq!(ended.result, Result::Failure);
    assert_eq!(lines[..5], ["> a", "< a FAILURE", "always", "regression", "failure"]);
}

#[test]
fn a_failing_post_condition_fails_the_run_and_the_others_still_run() {
    check(
        "pipeline { agent none\n stages { stage('a') { steps { echo 'x' } } } post { always { error 'oh' } failure { echo 'failure' } cleanup { echo 'cleanup' } } }",
        Result::Failure,
        &["> a", "x", "< a SUCCESS", "Error when executing always post condition: oh", "failure", "cleanup"],
    );
}

#[test]
fn conditions_decide_whether_a_stage_runs() {
    let holds = |when: &str| {
        let (ended, lines) = run_with(Start {
            changes: vec!["src/a.rs".into()],
            messages: vec!["Mend it".into()],
            cause: "timer".into(),
            parameters: vec![("DEPLOY".into(), json!(true))],
            ..start(&stages(&format!("stage('a') {{ when {{ {when} }} steps {{ echo 'ran' }} }}")))
        });
        assert_eq!(ended.result, Result::Success, "{when}: {:?}", ended.error);
        lines.contains(&"ran".to_string())
    };
    for (when, expected) in [
        ("branch 'main'", true),
        ("branch 'm*'", true),
        ("branch pattern: 'm.+n', comparator: 'REGEXP'", true),
        ("not { branch 'main' }", false),
        ("environment name: 'BUILD_NUMBER', value: '7'", true),
        ("expression { return params.DEPLOY }", true),
        ("expression { 'false' }", false),
        ("equals expected: 3, actual: 1 + 2", true),
        ("allOf { branch 'main'; expression { false } }", false),
        ("anyOf { branch 'x'; triggeredBy 'TimerTrigger' }", false),
        ("triggeredBy 'TimerTriggerCause'", true),
        ("changeset '**/*.rs'", true),
        ("changeset '*.rs'", false),
        ("changelog 'Mend.*'", true),
        ("buildingTag()", false),
        ("changeRequest()", false),
        ("beforeAgent true; branch 'x'", false),
    ] {
        assert_eq!(holds(when), expected, "{when}");
    }
}

#[test]
fn a_condition_before_the_agent_needs_no_agent() {
    let asked = |before: &str| {
        let script = format!(
            "pipeline {{ agent none\n stages {{ stage('a') {{ agent {{ label 'x' }} when {{ {before} branch 'x' }} steps {{ echo 'y' }} }} }} }}"
        );
        run_with(start(&script)).1.iter().any(|line| line.starts_with("agent"))
    };
    assert!(asked(""));
    assert!(!asked("beforeAgent true;"));
    assert!(!asked("beforeInput true;"));
}

#[test]
fn variables_and_secrets_reach_the_steps_within() {
    check(
        "pipeline { agent any\n environment { A = 'x'; B = \"${A}y\"; KEY = credentials('id') }\n stages { stage('a') { environment { A = 'z' } steps {
            echo sh(script: 'print A', returnStdout: true) + sh(script: 'print B', returnStdout: true)
            withEnv(['A=w', 'PATH+X=/x']) { echo \"$A ${env.KEY.length()} $BUILD_NUMBER ${env.MISSING}\" }
            script { env.LATER = 'l'; echo \"${env.LATER} ${env.STAGE_NAME}\" }
        } } } }",
        Result::Success,
        &["credentials", "secret hunter2", "> a", "sh print A", "sh print B", "zxy", "w 7 7 null", "l a", "< a SUCCESS"],
    );
}

#[test]
fn parameters_have_their_defaults() {
    check(
        "pipeline { agent none\n parameters { string(name: 'S', defaultValue: 'd'); booleanParam(name: 'B', defaultValue: true); choice(name: 'C', choices: ['one', 'two']) }\n stages { stage('a') { steps { echo \"${params.S} ${params.B} ${C} ${env.S}\" } } } }",
        Result::Success,
        &["> a", "d true one d", "< a SUCCESS"],
    );
}

#[test]
fn branches_run_side_by_side_and_one_failure_is_the_failure_of_all() {
    let (ended, mut lines) = run_with(start(&stages(
        "stage('p') { parallel { stage('a') { steps { sh 'one' } } stage('b') { steps { sh 'exit 1' } } stage('c') { steps { sh 'two' } } } }",
    )));
    assert_eq!(ended.result, Result::Failure);
    lines.sort();
    for line in ["< p/a SUCCESS", "< p/b FAILURE", "< p/c SUCCESS", "< p FAILURE", "sh one", "sh two"] {
        assert!(lines.contains(&line.to_string()), "{line}: {lines:?}");
    }
}

#[test]
fn a_failing_branch_ends_the_others_where_that_is_wanted() {
    let (ended, lines) = run_with(start(&stages(
        "stage('p') { failFast true; parallel { stage('a') { steps { sh 'exit 1' } } stage('b') { steps { sh 'two' } } } }",
    )));
    assert_eq!(ended.result, Result::Failure, "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("interrupt 1 branch a failed")), "{lines:?}");
}

#[test]
fn a_matrix_runs_a_cell_for_each_combination() {
    let (ended, lines) = run_with(start(&stages(
        "stage('m') { matrix { axes { axis { name 'OS'; values 'l', 'w' } } stages { stage('build') { steps { echo \"on ${OS}\" } } } } }",
    )));
    assert_eq!(ended.result, Result::Success, "{:?}", ended.error);
    for line in ["on l", "on w", "< m/Matrix - OS = 'l'/build SUCCESS", "< m/Matrix - OS = 'w' SUCCESS"] {
        assert!(lines.contains(&line.to_string()), "{line}: {lines:?}");
    }
}

#[test]
fn steps_around_steps_do_what_they_say() {
    check(
        &stages(
            "stage('a') { options { retry(2) } steps { catchError(buildResult: 'UNSTABLE', stageResult: 'FAILURE', message: 'caught') { sh 'exit 3' } dir('sub') { dir('deep') { deleteDir() } } retry(3) { sh 'ok' } timeout(time: 5) { sh 'in time' } junit '*.xml'; unstable 'hm'; warnError('w') { error 'e' } } }",
        ),
        Result::Unstable,
        &[
            "> a",
            "sh exit 3",
            "caught",
            "ERROR: script returned exit code 3",
            "deleteDir sub/deep",
            "sh ok",
            "timer",
            "sh in time",
            "timer.end",
            "junit",
            "WARNING: hm",
            "w",
            "ERROR: e",
            "< a FAILURE",
        ],
    );
    check(
        &stages("stage('a') { steps { retry(2) { sh 'exit 1' } } }"),
        Result::Failure,
        &[
            "> a",
            "sh exit 1",
            "ERROR: hudson.AbortException: script returned exit code 1",
            "Retrying",
            "sh exit 1",
            "< a FAILURE",
        ],
    );
}

#[test]
fn what_is_interrupted_is_aborted_and_not_begun_again() {
    let (ended, lines) = run_with(start(&stages(
        "stage('a') { steps { retry(3) { sh 'interrupt' } } post { aborted { echo 'aborted' } } }",
    )));
    assert_eq!(ended.result, Result::Aborted);
    assert_eq!(lines.iter().filter(|line| *line == "sh interrupt").count(), 1);
    assert!(lines.contains(&"aborted".to_string()));
}

#[test]
fn scripted_pipelines_run_too() {
    check(
        "def greet(name) { \"hello $name\" }
        node('linux') {
            stage('build') {
                def version = readJSON(file: 'a.json').a
                echo greet(version)
                try { sh 'exit 1' } catch (e) { echo \"caught ${e.message}\"; currentBuild.result = 'UNSTABLE' } finally { echo 'finally' }
                parallel one: { echo 'in one' }
            }
        }",
        Result::Unstable,
        &[
            "> build",
            "readFile",
            "hello 1",
            "sh exit 1",
            "caught script returned exit code 1",
            "finally",
            "in one",
            "< build SUCCESS",
        ],
    );
}

#[test]
fn what_scripts_must_not_do_they_cannot_do() {
    for script in [
        "System.exit(1)",
        "'ls'.execute()",
        "new File('/etc/passwd').text",
        "Jenkins.instance.items",
        "Thread.sleep(1)",
        "Runtime.getRuntime()",
        "nothing 'x'",
        "sh 'x'",
    ] {
        let (ended, lines) = run_with(start(script));
        assert_eq!(ended.result, Result::Failure, "{script}");
        assert!(!lines.iter().any(|line| line.starts_with("sh ")), "{script}: {lines:?}");
    }
}

#[test]
fn failures_say_where() {
    let script = "pipeline { agent any\n stages { stage('a') { steps {\n   sh 'exit 2'\n } } } }";
    let (ended, lines) = run_with(start(script));
    let expected =
        "Jenkinsfile: 3: hudson.AbortException: script returned exit code 2 @ line 3, column 4.\n   sh 'exit 2'\n   ^";
    assert_eq!(ended.error.as_deref(), Some(expected));
    assert_eq!(lines.last().map(String::as_str), expected.lines().next());
}

#[test]
fn a_script_that_is_wrong_does_nothing() {
    let (ended, lines) =
        run_with(start("pipeline { agent any\n stages { stage('a') { steps { sh 'x' } } }\n banana { } }"));
    assert_eq!(ended.result, Result::Failure);
    assert!(ended.error.unwrap().contains("Jenkinsfile: 3: undefined section \"banana\""));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn a_run_begun_again_asks_nothing_twice() {
    let script = stages(
        "stage('a') { steps { script { def x = sh(script: 'print BUILD_NUMBER', returnStdout: true); if (x == '7') { sh 'first' } } } } stage('p') { parallel { stage('b') { steps { sh 'second'; sh 'third' } } stage('c') { steps { sh 'fourth' } } } }",
    );
    let world = Arc::new(Notes::default());
    let first = run::run(start(&script), world.clone());
    assert_eq!(first.result, Result::Success, "{:?}", first.error);
    let asked = world.new.lock().unwrap().len();
    // All that was answered is kept: the same again asks for nothing.
    let again = run::run(start(&script), world.clone());
    assert_eq!((again.result, world.new.lock().unwrap().len()), (Result::Success, asked));
    // Where the world went away in between, only what is missing is asked for.
    let gone: Vec<String> = world
        .kept
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, answer)| **answer == Answer::Done(Json::Null))
        .map(|(key, _)| key.clone())
        .collect();
    let last = gone.last().unwrap().clone();
    world.kept.lock().unwrap().remove(&last);
    run::run(start(&script), world.clone());
    let new = world.new.lock().unwrap();
    assert_eq!(new.len(), asked + 1);
    assert_eq!(new[asked].key, last);
}
