//! Pipelines whose runs are objects and whose steps run in Pods, driven by kubectl.

use std::{process::Command, time::Duration};

use e2e::{Cluster, Kubectl};
use serde_json::{Value, json};

use crate::shared::{IMAGE, cluster, fresh, lacks, space};

/// A pipeline of one script, whose agents are Pods of busybox.
pub fn pipeline(name: &str, script: &str) -> String {
    json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": name},
        "spec": {"script": script, "agents": [{"labels": "linux", "image": IMAGE}]},
    })
    .to_string()
}

pub fn run(name: &str, of: &str, parameters: Value) -> String {
    json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "PipelineRun", "metadata": {"name": name},
        "spec": {"pipelineRef": {"name": of}, "parameters": parameters},
    })
    .to_string()
}

/// Waits for a run's end; its phase.
pub fn phase(kubectl: &Kubectl<'_>, name: &str) -> String {
    kubectl.until(&["get", "pipelinerun", name, "--output=jsonpath={.status.phase}"], |phase| {
        matches!(phase, "Succeeded" | "Unstable" | "Failed" | "NotBuilt" | "Aborted")
    })
}

/// The log of a run, as the console's port gives it to whoever has a token.
pub fn log(cluster: &Cluster, namespace: &str, run: &str, query: &str) -> String {
    let ports: Value = serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let token = cluster.madang("token").output().unwrap();
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    let url = format!("http://127.0.0.1:{}/pipelines/{namespace}/{run}/log{query}", ports["console"]);
    let mut curl = cluster.place.command("curl");
    let output =
        curl.args(["--silent", "--show-error", "--fail", "--header"]).arg(format!("Authorization: Bearer {token}"));
    let output = output.arg(&url).output().unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn no_curl() -> bool {
    lacks(Command::new("curl").arg("--version").output().is_err().then_some("no curl"))
}

#[test]
fn a_run_goes_through_its_stages_in_pods_and_tells_of_it() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("pipelines") else { return };
    if no_curl() {
        return;
    }
    let script = "pipeline {
        agent any
        environment { GREETING = 'hello' }
        parameters { string(name: 'WHO', defaultValue: 'nobody') }
        stages {
            stage('build') { steps {
                sh 'echo $GREETING $WHO > said; pwd; id -u'
                script { def said = readFile('said').trim(); echo \"read: ${said}\"; env.LONG = said.length() }
                dir('below') { writeFile file: 'a/b.json', text: '{\"n\": 3}'; echo \"n is ${readJSON(file: 'a/b.json').n}\" }
                sh(script: 'exit 7', returnStatus: true)
            } }
            stage('test') { parallel {
                stage('unit') { steps { sh 'for i in 1 2 3; do echo unit $i; sleep 0.1; done' } }
                stage('lint') { agent { label 'linux' } steps { sh 'echo lint in $HOSTNAME; test ! -e said' } }
            } }
            stage('secret') { steps { withCredentials([string(credentialsId: 'token', variable: 'TOKEN')]) {
                sh 'set +x; printf %s hun; sleep 0.2; printf \"%s\\\\n\" ter2-and-more; echo whole $TOKEN'
            } } }
            stage('never') { when { expression { false } } steps { sh 'false' } }
        }
        post { always { echo \"ended ${currentBuild.currentResult} ${LONG}\" } }
    }";
    space.run(&["create", "secret", "generic", "token", "--from-literal=text=hunter2-and-more"]).good();
    space.run(&["label", "secret", "token", "jenkins.io/credentials-type=secretText"]).good();
    space.apply(&pipeline("shop", script));
    space.apply(&run("shop-first", "shop", json!([{"name": "WHO", "value": "world"}])));
    let ended = phase(&space, "shop-first");
    let text = log(cluster, space.name(), "shop-first", "");
    assert_eq!(ended, "Succeeded", "{text}\n{}", space.field("pipelinerun/shop-first", "{.status}"));
    for expected in ["read: hello world", "n is 3", "unit 3", "lint in shop-first-", "whole ****", "ended SUCCESS 11"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("hunter2") && text.contains("\n****\n"), "{text}");
    let status: Value = serde_json::from_str(&space.field("pipelinerun/shop-first", "{.status}")).unwrap();
    assert_eq!((status["number"].as_u64(), status["result"].as_str()), (Some(1), Some("SUCCESS")));
    let stages: Vec<(&str, &str)> = status["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["path"].as_str().unwrap(), stage["phase"].as_str().unwrap()))
        .collect();
    for expected in [("build", "Finished"), ("test/unit", "Finished"), ("test/lint", "Finished"), ("never", "Skipped")]
    {
        assert!(stages.contains(&expected), "{stages:?}");
    }
    // A step's own text, and the log from any byte on.
    let unit = status["stages"].as_array().unwrap().iter().find(|stage| stage["path"] == "test/unit").unwrap();
    let step = unit["steps"][0]["id"].as_str().unwrap();
    let own = log(cluster, space.name(), "shop-first", &format!("?step={step}"));
    assert!(own.contains("unit 1\n") && !own.contains("lint in") && !own.contains("hello"), "{own}");
    assert_eq!(log(cluster, space.name(), "shop-first", "?from=20&follow=true"), text[20..]);
    // Its Pods go with it, and its pipeline knows of it.
    space.until(&["get", "pods", "--selector=madang.dev/pipeline-run=shop-first", "--output=name"], str::is_empty);
    space.until(&["get", "pipeline", "shop", "--output=jsonpath={.status.last.result}"], |result| result == "SUCCESS");
    let columns = space.run(&["get", "plr", "shop-first"]).good();
    assert!(columns.contains("PHASE") && columns.contains("Succeeded"), "{columns}");
}

#[test]
fn a_run_fails_waits_for_people_and_is_ended() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("pipelines-ends") else { return };
    if no_curl() {
        return;
    }
    space.apply(&pipeline(
        "fails",
        "pipeline { agent any\n stages { stage('a') { steps { sh 'echo out; exit 3' } } stage('b') { steps { sh 'true' } } } post { failure { echo 'so sad' } } }",
    ));
    space.apply(&pipeline(
        "asks",
        "pipeline { agent none\n stages { stage('go') { input { message 'go?'; id 'go' } agent any\n steps { sh 'echo gone' } } } }",
    ));
    space.apply(&pipeline(
        "sleeps",
        "pipeline { agent any\n stages { stage('s') { steps { sh 'trap \"echo asked to end; exit 1\" TERM; while true; do sleep 0.1; done' } } } post { aborted { echo 'was ended' } } }",
    ));
    space.apply(&pipeline(
        "late",
        "pipeline { agent any\n stages { stage('s') { steps { timeout(time: 1, unit: 'SECONDS') { sh 'sleep 100' } } } } }",
    ));
    space.apply(&pipeline("loops", "while (true) { }"));
    space.apply(&pipeline("fills", "def s = 'x' * 1000; def l = []; while (true) { l << s + l.size() }"));
    for name in ["fails", "asks", "sleeps", "late", "loops", "fills"] {
        space.apply(&run(name, name, json!([])));
    }
    assert_eq!(phase(&space, "fails"), "Failed");
    let text = log(cluster, space.name(), "fails", "");
    assert!(text.contains("out\n") && text.contains("so sad") && text.contains("exit code 3"), "{text}");
    assert!(space.field("pipelinerun/fails", "{.status.message}").contains("script returned exit code 3"));
    assert_eq!(space.field("pipelinerun/fails", "{.status.stages[1].phase}"), "Skipped");
    // Somebody answers.
    space.until(&["get", "pipelinerun", "asks", "--output=jsonpath={.status.inputs[0].id}"], |id| id == "go");
    assert_eq!(space.field("pipelinerun/asks", "{.status.phase}"), "Paused");
    let answer = r#"{"spec":{"inputs":[{"id":"go","user":"kim"}]}}"#;
    space.run(&["patch", "pipelinerun", "asks", "--type=merge", "--patch", answer]).good();
    assert_eq!(phase(&space, "asks"), "Succeeded", "{}", space.field("pipelinerun/asks", "{.status}"));
    assert!(log(cluster, space.name(), "asks", "").contains("Approved by kim"));
    // Somebody ends one.
    space.until(&["get", "pipelinerun", "sleeps", "--output=jsonpath={.status.stages[0].steps[0].name}"], |name| {
        name == "sh"
    });
    space.run(&["patch", "pipelinerun", "sleeps", "--type=merge", "--patch", r#"{"spec":{"abort":true}}"#]).good();
    assert_eq!(phase(&space, "sleeps"), "Aborted");
    let text = log(cluster, space.name(), "sleeps", "");
    assert!(text.contains("was ended"), "{text}");
    assert_eq!(phase(&space, "late"), "Aborted", "{}", space.field("pipelinerun/late", "{.status}"));
    // A script that computes for ever, or fills memory, is ended and disturbs nobody.
    for name in ["loops", "fills"] {
        assert_eq!(phase(&space, name), "Failed");
        assert!(space.field(&format!("pipelinerun/{name}"), "{.status.message}").contains("limit"));
    }
}

/// A script whose step writes down each time that it is begun, and counts.
const COUNTS: &str = "pipeline { agent any\n stages {
    stage('count') { steps { sh 'echo begun >> ../begun; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.1; done' } }
    stage('check') { steps { sh 'test $(wc -l < ../begun) = 1; echo once' } }
} }";

fn whole(text: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=60).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected, "{text}");
    assert!(text.contains("\nonce\n"), "{text}");
}

#[test]
fn a_step_outlives_the_server_and_its_log_is_whole() {
    let Some(mut cluster) = fresh(61, &[]) else { return };
    if no_curl() {
        return;
    }
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl
        .until(&["get", "crd", "pipelineruns.madang.dev", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl.apply(&pipeline("counts", COUNTS));
    kubectl.apply(&run("counts", "counts", json!([])));
    kubectl.until(&["get", "pipelinerun", "counts", "--output=jsonpath={.status.stages[0].steps[0].name}"], |name| {
        name == "sh"
    });
    std::thread::sleep(Duration::from_secs(1));
    cluster.kill().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    let ended = phase(&kubectl, "counts");
    let text = log(&cluster, "default", "counts", "");
    assert_eq!(ended, "Succeeded", "{text}\n{}", kubectl.field("pipelinerun/counts", "{.status}"));
    whole(&text);
    assert_eq!(kubectl.field("pipelinerun/counts", "{.status.number}"), "1");
}

#[test]
#[ignore = "kills the server again and again for minutes"]
fn killing_the_server_at_any_moment_runs_nothing_twice() {
    let Some(mut cluster) = fresh(62, &[]) else { return };
    if no_curl() {
        return;
    }
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl
        .until(&["get", "crd", "pipelineruns.madang.dev", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    kubectl.apply(&pipeline("counts", COUNTS));
    for (number, wait) in [0_u64, 50, 150, 300, 500, 800, 1200, 2000, 4000, 6500].into_iter().enumerate() {
        let name = format!("counts-{number}");
        cluster.kubectl("default").apply(&run(&name, "counts", json!([])));
        std::thread::sleep(Duration::from_millis(wait));
        cluster.kill().unwrap();
        cluster.serve().unwrap();
        let kubectl = cluster.kubectl("default");
        let ended = phase(&kubectl, &name);
        let text = log(&cluster, "default", &name, "");
        assert_eq!(
            ended,
            "Succeeded",
            "killed after {wait} ms: {text}\n{}",
            kubectl.field(&format!("pipelinerun/{name}"), "{.status}")
        );
        whole(&text);
    }
}

/// Whether it is the first attempt is known by a variable of the run, which a lost agent does not take with it.
const ATTEMPTS: &str = "script { env.ATTEMPT = (env.ATTEMPT ?: '0').toInteger() + 1 }\n sh 'echo attempt $ATTEMPT; test $ATTEMPT -gt 1 || sleep 600'";

#[test]
fn a_pod_that_is_lost_fails_the_run_or_is_made_again_as_the_pipeline_says() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("pipelines-lost") else { return };
    if no_curl() {
        return;
    }
    let stage = format!("stages {{ stage('s') {{ steps {{ {ATTEMPTS} }} }} }}");
    space.apply(&pipeline(
        "fails",
        &format!("pipeline {{ agent any\n {stage} post {{ failure {{ echo 'so it went' }} }} }}"),
    ));
    space.apply(&pipeline(
        "again",
        &format!("pipeline {{ agent {{ node {{ label 'linux'; retries 2 }} }}\n {stage} post {{ always {{ echo 'after all' }} }} }}"),
    ));
    space.apply(&pipeline(
        "scripted",
        &format!(
            "retry(count: 2, conditions: [kubernetesAgent(), nonresumable()]) {{ node('linux') {{ {} }} }}",
            ATTEMPTS.replace("script {", "if (true) {")
        ),
    ));
    for name in ["fails", "again", "scripted"] {
        space.apply(&run(name, name, json!([])));
    }
    for name in ["fails", "again", "scripted"] {
        let begun = (0..300).any(|_| {
            std::thread::sleep(Duration::from_millis(200));
            space.field(&format!("pipelinerun/{name}"), "{.status.phase}") == "Running"
                && log(cluster, space.name(), name, "").contains("attempt 1")
        });
        assert!(begun, "{name}: {}", space.field(&format!("pipelinerun/{name}"), "{.status}"));
        let select = format!("--selector=madang.dev/pipeline-run={name}");
        space.run(&["delete", "pod", &select, "--wait=false"]).good();
    }
    assert_eq!(phase(&space, "fails"), "Failed");
    let text = log(cluster, space.name(), "fails", "");
    assert!(text.contains("so it went") && !text.contains("attempt 2"), "{text}");
    let message = space.field("pipelinerun/fails", "{.status.message}");
    assert!(message.contains("the Pod fails-"), "{message}");
    for name in ["again", "scripted"] {
        assert_eq!(phase(&space, name), "Succeeded", "{}", log(cluster, space.name(), name, ""));
        let text = log(cluster, space.name(), name, "");
        assert!(text.contains("attempt 2") && text.contains("Retrying"), "{text}");
    }
    assert_eq!(log(cluster, space.name(), "again", "").matches("after all").count(), 1);
}

#[test]
fn runs_are_counted() {
    let Some(space) = space("pipelines-counted") else { return };
    if no_curl() {
        return;
    }
    space.apply(&pipeline("good", "echo 'x'"));
    space.apply(&pipeline("bad", "error 'x'"));
    space.apply(&pipeline("asks", "input 'go?'"));
    for name in ["good", "bad", "asks"] {
        space.apply(&run(name, name, json!([])));
    }
    assert_eq!((phase(&space, "good"), phase(&space, "bad")), ("Succeeded".into(), "Failed".into()));
    let of = |name: &str| format!("namespace=\"{}\",pipeline=\"{name}\"", space.name());
    crate::collect::until(&format!("pipeline_runs_total{{{},result=\"SUCCESS\"}}", of("good")), "\"1\"");
    crate::collect::until(&format!("pipeline_runs_total{{{},result=\"FAILURE\"}}", of("bad")), "\"1\"");
    crate::collect::until(&format!("pipeline_run_duration_seconds_count{{{}}}", of("good")), "\"1\"");
    crate::collect::until(&format!("pipeline_runs_running{{{}}}", of("asks")), "\"1\"");
    crate::collect::until(&format!("pipeline_runs_waiting{{{}}}", of("asks")), "\"0\"");
}

#[test]
#[ignore = "writes a gigabyte"]
fn a_log_of_a_gigabyte_is_cut_and_the_run_goes_on() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("pipelines-long") else { return };
    if no_curl() {
        return;
    }
    let script =
        "node { sh 'set +x; yes 0123456789012345678901234567890123456789 | head -c 1073741824'; echo 'after' }";
    space.apply(&pipeline("long", script));
    space.apply(&run("long", "long", json!([])));
    assert_eq!(phase(&space, "long"), "Succeeded");
    assert_eq!(space.field("pipelinerun/long", "{.status.log.truncated}"), "true");
    let bytes: u64 = space.field("pipelinerun/long", "{.status.log.bytes}").parse().unwrap();
    assert!(bytes < 600 << 20, "{bytes}");
    assert!(log(cluster, space.name(), "long", &format!("?from={}", bytes - 200)).contains("left out"));
}
