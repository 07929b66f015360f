//! Images of pipelines: `docker` in scripts, and agents from a Dockerfile.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    builds::{REGISTRY, SHELL, allow_push},
    pipelines::{log, no_curl, phase, pipeline, run},
    shared::{IMAGE, cluster, fresh, space},
    triggers::{commit, console, git, no_tools, token},
};

/// A Dockerfile of nothing but busybox, as a Groovy string has it.
fn dockerfile(more: &str) -> String {
    format!("{SHELL}{more}\n").replace('\\', "\\\\").replace('\n', "\\n").replace('\'', "\\'")
}

fn builds(space: &e2e::Kubectl<'_>, run: &str) -> Vec<Value> {
    let select = format!("--selector=madang.dev/pipeline-run={run}");
    let list: Value = serde_json::from_str(&space.run(&["get", "builds", &select, "--output=json"]).good()).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn a_pipeline_builds_an_image_runs_steps_in_it_and_pushes_it() {
    let (Some(cluster), Some(space)) = (cluster(), space("docker")) else { return };
    if no_curl() {
        return;
    }
    allow_push(&space);
    let name = space.name();
    let file = dockerfile(
        "ARG WHO\nRUN echo \"hello $WHO\" > /said\nCMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8099\", \"-h\", \"/\"]",
    );
    let script = format!(
        "node {{
            writeFile file: 'below/Dockerfile', text: '{file}'
            sh 'cp /bin/busybox below/busybox'
            def app = docker.build('{name}/app:1', '--build-arg WHO=you -f below/Dockerfile ./below')
            app.inside('-e GREETING=moin') {{ sh 'busybox cat /said; echo $GREETING from $PWD; echo kept > from-inside' }}
            sh 'cat from-inside'
            app.withRun('--name web') {{ c ->
                sh 'for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://web:8099/said && break; sleep 0.5; done'
            }}
            docker.withRegistry('https://{REGISTRY}') {{ app.push(); app.push('latest') }}
        }}"
    );
    space.apply(&pipeline("app", &script));
    space.apply(&run("app", "app", json!([])));
    let ended = phase(&space, "app");
    let text = log(cluster, name, "app", "");
    assert_eq!(ended, "Succeeded", "{text}\n{}", space.run(&["get", "pods,builds", "--output=yaml"]).out);
    assert_eq!(text.matches("\nhello you\n").count(), 2, "{text}");
    assert!(text.contains("moin from /madang/workspace\n") && text.contains("\nkept\n"), "{text}");
    assert!(text.contains("RUN echo \"hello $WHO\""), "the build's own log: {text}");
    // One build, and two that push it; in the account's name.
    let found = builds(&space, "app");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|build| build["spec"]["serviceAccountName"] == "default"));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runs"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": format!("{REGISTRY}/{name}/app:latest"), "command": ["/bin/busybox", "cat", "/said"],
        }]},
    });
    space.apply(&pod.to_string());
    space.until(&["get", "pod", "runs", "--output=jsonpath={.status.phase}"], |out| out == "Succeeded");
    assert_eq!(space.run(&["logs", "runs"]).good(), "hello you\n");
    // What was staged for the run is gone with it.
    let staged = found.iter().find_map(|build| build["spec"]["tags"][0].as_str().filter(|tag| tag.contains("/run-")));
    let path = staged.unwrap().strip_prefix(&format!("{REGISTRY}/")).unwrap().strip_suffix(":latest").unwrap();
    let ports: Value = serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let url = format!("http://127.0.0.1:{}/v2/{path}/manifests/latest", ports["registry"]);
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let mut curl = cluster.place.command("curl");
        let asked =
            curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url]).output().unwrap();
        String::from_utf8_lossy(&asked.stdout) == "404"
    });
    assert!(gone, "{url} is still there");
}

#[test]
fn a_build_of_a_pipeline_has_the_rights_of_its_account_and_says_what_is_wrong() {
    let (Some(cluster), Some(space)) = (cluster(), space("docker-denied")) else { return };
    if no_curl() {
        return;
    }
    space.apply(&pipeline(
        "denied",
        "node { writeFile file: 'Dockerfile', text: 'FROM scratch\\nCOPY Dockerfile /'; docker.build('app') }",
    ));
    space.apply(&pipeline(
        "wrong",
        "node { writeFile file: 'Dockerfile', text: 'FROM scratch\\nNONSENSE'; docker.build('app') }",
    ));
    space.apply(&pipeline("option", "node { docker.build('app', '--push .') }"));
    for name in ["denied", "wrong", "option"] {
        space.apply(&run(name, name, json!([])));
    }
    for (name, said) in
        [("denied", "needs the right to get and update repositories"), ("wrong", "NONSENSE"), ("option", "say push()")]
    {
        assert_eq!(phase(&space, name), "Failed", "{name}");
        let message = space.field(&format!("pipelinerun/{name}"), "{.status.message}");
        assert!(message.contains(said), "{name}: {message}\n{}", log(cluster, space.name(), name, ""));
    }
}

#[test]
fn an_agent_is_made_from_a_dockerfile() {
    let (Some(cluster), Some(space)) = (cluster(), space("dockerfile")) else { return };
    if no_tools() {
        return;
    }
    allow_push(&space);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("ci")).unwrap();
    let file = format!("{SHELL}ARG WHO\nRUN echo \"made for $WHO\" > /said\n");
    std::fs::write(folder.join("ci/Dockerfile.agent"), file).unwrap();
    std::fs::copy("/bin/busybox", folder.join("ci/busybox")).unwrap();
    let own = "dockerfile { filename 'Dockerfile.agent'; dir 'ci'; additionalBuildArgs '--build-arg WHO=it'";
    let script = format!(
        "pipeline {{ agent none\n stages {{
            stage('own') {{ agent {{ {own} }} }} steps {{ sh 'busybox cat /said; test -e a && echo has sources' }} }}
            stage('beside') {{ agent {{ label 'linux' }} stages {{ stage('in') {{
                agent {{ {own}; reuseNode true }} }}
                steps {{ sh 'busybox cat /said; echo beside' }}
            }} }} }}
        }} }}"
    );
    std::fs::write(folder.join("Jenkinsfile"), script).unwrap();
    let spec = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "made"},
        "spec": {"repository": {"name": "made"}, "agents": [{"labels": "linux", "image": IMAGE}]},
    });
    space.apply(&spec.to_string());
    git(cluster, folder, &["init", "--quiet"]);
    commit(cluster, folder, "one");
    let url = console(cluster).replace("http://", &format!("http://kim:{}@", token(cluster)));
    git(cluster, folder, &["push", "--quiet", &format!("{url}/git/{}/made.git", space.name()), "main"]);
    let name = space.until(&["get", "plr", "--output=jsonpath={.items[*].metadata.name}"], |names| !names.is_empty());
    let ended = phase(&space, name.trim());
    let text = log(cluster, space.name(), name.trim(), "");
    assert_eq!(ended, "Succeeded", "{text}");
    assert_eq!(text.matches("\nmade for it\n").count(), 2, "{text}");
    assert!(text.contains("has sources") && text.contains("beside"), "{text}");
}

#[test]
fn a_build_of_a_pipeline_outlives_the_server_and_is_not_made_twice() {
    let Some(mut cluster) = fresh(63, &[]) else { return };
    if no_curl() {
        return;
    }
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    for name in ["pipelineruns.madang.dev", "builds.madang.dev"] {
        kubectl.until(&["get", "crd", name, "--ignore-not-found", "-o", "name"], |out| !out.is_empty());
    }
    kubectl
        .run(&[
            "create",
            "clusterrolebinding",
            "push",
            "--clusterrole=cluster-admin",
            "--serviceaccount=default:default",
        ])
        .good();
    let file = dockerfile("RUN echo be''gun; sleep 4; echo mi''ddle; sleep 4; echo en''ded");
    let script = format!(
        "node {{ writeFile file: 'Dockerfile', text: '{file}'; sh 'cp /bin/busybox .'
            def app = docker.build('slow:1'); app.inside {{ sh 'echo used' }} }}"
    );
    kubectl.apply(&pipeline("slow", &script));
    kubectl.apply(&run("slow", "slow", json!([])));
    let begun = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        kubectl.field("pipelinerun/slow", "{.status.phase}") == "Running"
            && log(&cluster, "default", "slow", "").contains(" begun")
    });
    assert!(begun, "{}", log(&cluster, "default", "slow", ""));
    cluster.kill().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    let ended = phase(&kubectl, "slow");
    let text = log(&cluster, "default", "slow", "");
    assert_eq!(ended, "Succeeded", "{text}");
    let found = builds(&kubectl, "slow");
    assert_eq!(found.len(), 1, "{found:?}");
    // The engine began again, and said so; nothing of the log is missing or doubled.
    assert_eq!(found[0]["status"]["attempts"], 2);
    assert_eq!(text.matches("the build begins again").count(), 1, "{text}");
    assert_eq!((text.matches(" begun").count(), text.matches(" ended").count()), (2, 1), "{text}");
    assert!(text.contains("used"), "{text}");
    let whole = kubectl
        .run(&[
            "get",
            "--raw",
            &format!(
                "/api/v1/nodes/node-1/proxy/builds/default/{}/log",
                found[0]["metadata"]["name"].as_str().unwrap()
            ),
        ])
        .good();
    assert!(text.contains(&whole), "{text}\n---\n{whole}");
}
