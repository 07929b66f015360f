//! Runs of scripts in a world that notes what is asked, and answers as told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use pipeline::{
    result::Result,
    run::{
        self, Ended, Start,
        changes::Commit,
        world::{Answer, Ask, Event, LOST, World},
    },
};
use serde_json::{Value as Json, json};

/// Notes everything in one list, in order.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    /// Answers by key, as a world keeps them over a restart.
    kept: Mutex<BTreeMap<String, Answer>>,
    /// What files hold.
    file: Mutex<Option<String>>,
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
                    // The first time its agent goes with it.
                    _ if script == "lose" => {
                        let new = self.new.lock().unwrap();
                        match new.iter().filter(|known| known.arguments["script"] == "lose").count() {
                            1 => Answer::Failed { class: LOST.into(), message: "the Pod is gone".into() },
                            _ => Answer::Done(Json::Null),
                        }
                    }
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
            "readFile" => {
                let file = self.file.lock().unwrap().clone();
                Answer::Done(Json::from(file.unwrap_or_else(|| "{\"a\": 1}".into())))
            }
            "junit" => Answer::Done(json!({ "totalCount": 3, "failCount": 1, "result": "UNSTABLE" })),
            "input" => Answer::Done(json!({ "WHO": "me" })),
            "checkout" => Answer::Done(json!({ "GIT_COMMIT": "abc" })),
            "docker.build" => Answer::Done(json!({ "image": format!("staged/{}", text("image")), "tags": ["more:1"] })),
            "docker.container" => {
                Answer::Done(json!({ "container": "c", "id": "c", "service": ask.arguments["service"] }))
            }
            "docker.login" => Answer::Done(
                json!({ "variables": { "DOCKER_CONFIG": "/d" }, "secrets": ["hunter2"], "directory": "/d" }),
            ),
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

fn commits() -> Vec<Commit> {
    vec![Commit {
        id: "0a1b".into(),
        author: "Kim Lee".into(),
        email: "kim@example.org".into(),
        time: 7,
        message: "Mend it\n\nAll of it.\n".into(),
        paths: vec![("edit".into(), "src/a.rs".into()), ("add".into(), "Docs/B.md".into())],
    }]
}

#[test]
fn scripts_see_what_was_committed() {
    let script = "for (set in currentBuild.changeSets) { for (entry in set.items) {
        echo \"${entry.commitId} by ${entry.author} (${entry.author.fullName}, ${entry.authorEmail}) at ${entry.timestamp}: ${entry.msg}\"
        for (file in entry.getAffectedFiles()) { echo \"${file.editType.name} ${file.path}\" }
        echo entry.affectedPaths.join(',')
    } }
    echo \"${currentBuild.changeSets.size()}\"";
    let (ended, lines) = run_with(Start { commits: commits(), ..start(script) });
    assert_eq!(ended.error, None);
    let expected = [
        "0a1b by Kim Lee (Kim Lee, kim@example.org) at 7000: Mend it",
        "edit src/a.rs",
        "add Docs/B.md",
        "src/a.rs,Docs/B.md",
        "1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(run_with(start(script)).1, ["0"]);
}

#[test]
fn conditions_decide_whether_a_stage_runs() {
    let holds = |when: &str| {
        let (ended, lines) = run_with(Start {
            commits: commits(),
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
        ("changelog 'All of it[.]'", true),
        ("changelog 'Break.*'", false),
        ("changeset 'docs/*.md'", true),
        ("changeset pattern: 'docs/*.md', caseSensitive: true", false),
        ("changeset pattern: '.*[.]rs', comparator: 'REGEXP'", true),
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
fn an_agent_that_is_lost_fails_its_stage_unless_it_may_be_opened_again() {
    let post = "post { always { echo 'after' } }";
    check(
        &format!("pipeline {{ agent any\n stages {{ stage('a') {{ steps {{ sh 'lose' }} {post} }} }} }}"),
        Result::Failure,
        &["> a", "sh lose", "after", "< a FAILURE"],
    );
    // The stage's own: nothing that failed with the first counts.
    check(
        &format!(
            "pipeline {{ agent none\n stages {{ stage('a') {{ agent {{ kubernetes {{ yaml ''; retries 2 }} }} steps {{ sh 'one'; sh 'lose' }} {post} }} }} }}"
        ),
        Result::Success,
        &[
            "> a",
            "sh one",
            "sh lose",
            "ERROR: org.jenkinsci.plugins.workflow.support.steps.AgentOfflineException: the Pod is gone",
            "Retrying",
            "sh one",
            "sh lose",
            "after",
            "< a SUCCESS",
        ],
    );
    // The pipeline's: all of it is done again.
    check(
        &format!(
            "pipeline {{ agent {{ node {{ label 'x'; retries 3 }} }} stages {{ stage('a') {{ steps {{ sh 'one' }} }} stage('b') {{ steps {{ sh 'lose' }} {post} }} stage('c') {{ steps {{ sh 'two' }} }} }} {post} }}"
        ),
        Result::Success,
        &[
            "> a",
            "sh one",
            "< a SUCCESS",
            "> b",
            "sh lose",
            "< b FAILURE",
            "ERROR: org.jenkinsci.plugins.workflow.support.steps.AgentOfflineException: the Pod is gone",
            "Retrying",
            "> a",
            "sh one",
            "< a SUCCESS",
            "> b",
            "sh lose",
            "after",
            "< b SUCCESS",
            "> c",
            "sh two",
            "< c SUCCESS",
            "after",
        ],
    );
    // What the script itself does wrong is not done again.
    check(
        "pipeline { agent { node { label 'x'; retries 3 } } stages { stage('a') { steps { sh 'exit 1' } } } }",
        Result::Failure,
        &["> a", "sh exit 1", "< a FAILURE"],
    );
}

#[test]
fn retry_has_conditions() {
    let steps = |conditions: &str, script: &str| {
        let (ended, lines) =
            run_with(start(&format!("node {{ retry(count: 2, conditions: [{conditions}]) {{ sh '{script}' }} }}")));
        (ended.result, lines.iter().filter(|line| line.starts_with("sh ")).count())
    };
    for (conditions, script, expected) in [
        ("agent()", "lose", (Result::Success, 2)),
        ("kubernetesAgent(), nonresumable()", "lose", (Result::Success, 2)),
        ("kubernetesAgent(handleNonKubernetes: true)", "lose", (Result::Success, 2)),
        ("nonresumable()", "lose", (Result::Failure, 1)),
        ("agent(), nonresumable()", "exit 1", (Result::Failure, 1)),
        ("agent()", "interrupt", (Result::Aborted, 1)),
        ("string(name: 'x')", "lose", (Result::Failure, 0)),
    ] {
        assert_eq!(steps(conditions, script), expected, "{conditions} {script}");
    }
    // Declarative, as a step and as an option.
    let step = "retry(count: 2, conditions: [agent()]) { sh 'lose' }";
    let ended = run_with(start(&stages(&format!("stage('a') {{ steps {{ {step} }} }}")))).0;
    assert_eq!(ended.result, Result::Success, "{:?}", ended.error);
    let option = "stage('a') { options { retry(count: 2, conditions: [kubernetesAgent(), nonresumable()]) } steps { sh 'lose' } }";
    let ended = run_with(start(&stages(option))).0;
    assert_eq!(ended.error, None);
}

/// What a script asks of images: names of asks with the arguments that are said.
fn asked(script: &str) -> Vec<(String, Json)> {
    let world = Arc::new(Notes::default());
    let ended = run::run(start(script), world.clone());
    assert_eq!(ended.result, Result::Success, "{script}: {:?}", ended.error);
    let new = world.new.lock().unwrap();
    let of_images = new.iter().filter(|ask| ask.name.starts_with("docker.") || ask.name == "sh");
    of_images
        .map(|ask| {
            let mut said = ask.arguments.as_object().cloned().unwrap_or_default();
            said.retain(|_, value| !matches!(value, Json::Null | Json::Bool(false)) && *value != "");
            if let Some(container) = &ask.place.container {
                said.insert("in".into(), container.as_str().into());
            }
            (ask.name.clone(), Json::Object(said))
        })
        .collect()
}

fn is(name: &str, said: Json) -> (String, Json) {
    (name.to_owned(), said)
}

#[test]
fn images_are_built_used_and_pushed() {
    let found = asked(
        "node {
            def app = docker.build('me/app:1', '--build-arg A=b .')
            app.inside('-u 0') { sh 'one' }
            docker.withRegistry('https://r.example/v2/', 'creds') { app.push(); app.push('latest'); echo app.imageName() }
            app.tag('other')
            docker.image('me/app:other').withRun('-e A=b', 'serve') { c -> echo \"${c.id} ${c.port(80)}\" }
            docker.image('more:1').push('2')
            docker.image('node:22').pull()
        }",
    );
    let registry = json!({"host": "r.example", "credentialsId": "creds"});
    let container = json!({"container": "c", "id": "c"});
    let service = json!({"container": "c", "id": "c", "service": true});
    assert_eq!(
        found,
        [
            is("docker.build", json!({"image": "me/app:1", "arguments": "--build-arg A=b ."})),
            is("docker.container", json!({"image": "staged/me/app:1", "args": "-u 0"})),
            is("sh", json!({"script": "one", "in": "c"})),
            is("docker.container.end", container),
            is("docker.login", json!({"registry": registry})),
            is("docker.push", json!({"image": "staged/me/app:1", "to": "r.example/me/app:1", "registry": registry})),
            is(
                "docker.push",
                json!({"image": "staged/me/app:1", "to": "r.example/me/app:latest", "registry": registry})
            ),
            is("docker.login.end", json!({"directory": "/d"})),
            is(
                "docker.container",
                json!({"image": "staged/me/app:1", "args": "-e A=b", "command": "serve", "service": true})
            ),
            is("docker.container.end", service),
            is("docker.push", json!({"image": "staged/me/app:1", "to": "more:2"})),
            is("docker.pull", json!({"image": "node:22"})),
        ]
    );
}

#[test]
fn a_stage_may_have_a_container_of_its_own_on_the_agent_that_there_is() {
    let found = asked(
        "pipeline { agent any\n stages {
            stage('a') { agent { docker { image 'node:22'; args '-u 0'; reuseNode true } } steps { sh 'one' } }
            stage('b') { agent { dockerfile { filename 'b/Dockerfile'; dir 'ci'; additionalBuildArgs '--build-arg A=b'; reuseNode true } } steps { sh 'two' } }
        } }",
    );
    let container = json!({"container": "c", "id": "c"});
    let (build, name) = (&found[3], found[3].1["image"].as_str().unwrap());
    assert_eq!(build.0, "docker.build");
    assert_eq!(build.1["arguments"], "--build-arg A=b -f 'ci/b/Dockerfile' 'ci'");
    assert_eq!(found[0], is("docker.container", json!({"image": "node:22", "args": "-u 0"})));
    assert_eq!(found[1], is("sh", json!({"script": "one", "in": "c"})));
    assert_eq!(found[2], is("docker.container.end", container));
    assert_eq!(found[4], is("docker.container", json!({"image": format!("staged/{name}")})));
    assert_eq!(found[5], is("sh", json!({"script": "two", "in": "c"})));
}

#[test]
fn what_docker_cannot_do_here_is_said() {
    for (script, said) in [
        ("node { docker.withServer('tcp://x:2375') { } }", "there is no Docker host"),
        ("docker.build('app')", "needs an agent"),
        ("node { docker.build('App') }", "is no name of an image"),
        ("node { docker.image('a b') }", "is no name of an image"),
        ("node { docker.withRegistry('https://r.example') }", "needs a block"),
    ] {
        let (ended, _) = run_with(start(script));
        assert_eq!(ended.result, Result::Failure, "{script}");
        assert!(ended.error.as_deref().unwrap_or_default().contains(said), "{script}: {:?}", ended.error);
    }
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
            "> build/one",
            "in one",
            "< build/one SUCCESS",
            "< build SUCCESS",
        ],
    );
}

#[test]
fn a_file_is_loaded_as_a_part_of_the_script() {
    let world = Arc::new(Notes::default());
    let file = "shared = 'set there'\ndef twice(x) { helper(x) * 2 }\ndef helper(x) { echo \"helped in ${STAGE_NAME}\"; x + 1 }\nreturn this\n";
    *world.file.lock().unwrap() = Some(file.into());
    let script = "node { stage('a') { def tools = load 'ci/tools.groovy'; echo \"${tools.twice(3)} ${shared}\" } }";
    let ended = run::run(start(script), world.clone());
    assert_eq!(ended.error, None);
    let lines = world.lines.lock().unwrap().clone();
    assert!(lines.contains(&"helped in a".to_string()) && lines.contains(&"8 set there".to_string()), "{lines:?}");
    for (file, said) in [("def x( {", "load: "), ("while (true) { }", "limit"), ("throw new Exception('no')", "no")] {
        let world = Arc::new(Notes::default());
        *world.file.lock().unwrap() = Some(file.into());
        let error = run::run(start("node { load 'x' }"), world).error.unwrap();
        assert!(error.contains(said), "{file}: {error}");
    }
    for (script, said) in
        [("library 'x@1'", "no shared libraries"), ("mail to: 'a', subject: 'b', body: 'c'", "no mail server")]
    {
        let error = run_with(start(script)).0.error.unwrap();
        assert!(error.contains(said), "{script}: {error}");
    }
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
