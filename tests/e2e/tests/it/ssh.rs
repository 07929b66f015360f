//! Repositories elsewhere that are fetched over SSH: by pipelines, by builds, and what keeps them from a host that is not known.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use e2e::Kubectl;

use serde_json::{Value, json};

use crate::{
    pipelines::{log, phase, pipeline, run},
    shared::{IMAGE, cluster, fresh, good, space},
    sshd::{Like, Sshd},
    triggers::{answer, console, ended as triggered, no_tools, posted},
};

const KEY: &str = include_str!("../../../../crates/git/testdata/keys/locked");
const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK8rO/gozIpQ8fiofSZWt1FbaKU6vbnzPSvU8dkwdBJJ";
const PLAIN: &str = include_str!("../../../../crates/git/testdata/keys/ed25519");
const PLAIN_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKgzTaP1O59xnCMk1Jxv8/gh6KpCMgF1UcjblzBvmTOT";

fn git(within: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(within).env("HOME", within).args(["-c", "user.name=Kim", "-c", "user.email=kim@example.org"]);
    good(command.args(["-c", "init.defaultBranch=main"]).args(arguments)).trim().to_owned()
}

fn secret(name: &str, kind: &str, more: Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": more,
        "metadata": {"name": name, "labels": {"jenkins.io/credentials-type": kind}},
    })
    .to_string()
}

#[test]
fn pipelines_and_builds_fetch_over_ssh_from_hosts_that_are_known() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("ssh") else { return };
    if no_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let team = folder.path().join("it's app.git");
    std::fs::create_dir_all(&team).unwrap();
    git(&team, &["init", "--quiet"]);
    let script = "pipeline { agent any\n stages { stage('own') { steps { sh 'echo own $(cat README)' } } } }";
    for (name, text) in
        [("README", "from afar"), ("Jenkinsfile", script), ("Dockerfile", &format!("FROM {IMAGE}\nCOPY README /\n"))]
    {
        std::fs::write(team.join(name), text).unwrap();
    }
    git(&team, &["add", "."]);
    git(&team, &["commit", "--quiet", "--message=one"]);
    git(&team, &["branch", "side"]);
    let commit = git(&team, &["rev-parse", "HEAD"]);
    // As Debian's server: it lets nobody say which version they speak.
    let like = Like { versions: false, allowed: vec![PUBLIC.to_owned(), PLAIN_PUBLIC.to_owned()] };
    let sshd = Sshd::start(&cluster.place.machine, folder.path(), like);
    let url = sshd.url("it%27s%20app.git");
    let short = format!("me@[{}:{}]:it's app.git", cluster.place.machine, sshd.port);
    let key =
        |hosts: &str| json!({"username": "me", "privateKey": KEY, "passphrase": "pass phrase", "known_hosts": hosts});
    space.apply(&secret("deploy", "basicSSHUserPrivateKey", key(&sshd.line())));
    space.apply(&secret("naive", "basicSSHUserPrivateKey", key("")));
    let both = format!(
        "pipeline {{ agent any\n stages {{ stage('fetch') {{ steps {{
            git credentialsId: 'deploy', url: '{url}', branch: 'main'
            sh 'echo git $(cat README)'
            dir('below') {{
                checkout scmGit(branches: [[name: '*/side']], userRemoteConfigs: [[credentialsId: 'deploy', url: \"{short}\"]])
                sh 'echo checkout $(cat README)'
            }}
        }} }} }} }}"
    );
    space.apply(&pipeline("both", &both));
    space.apply(&run("both-1", "both", json!([])));
    space.apply(&pipeline("naive", &both.replace("'deploy'", "'naive'")));
    space.apply(&run("naive-1", "naive", json!([])));
    let own = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "own"},
        "spec": {"git": {"url": url, "credentialsId": "deploy"}, "agents": [{"labels": "linux", "image": IMAGE}]},
    });
    space.apply(&own.to_string());
    space.apply(&run("own-1", "own", json!([])));
    let ended = phase(&space, "both-1");
    let text = log(cluster, space.name(), "both-1", "");
    assert_eq!(ended, "Succeeded", "{text}\n{}", space.field("pipelinerun/both-1", "{.status}"));
    assert!(text.contains("git from afar") && text.contains("checkout from afar"), "{text}");
    assert!(text.contains(&commit), "{text}");
    let ended = phase(&space, "own-1");
    let text = log(cluster, space.name(), "own-1", "");
    assert!(ended == "Succeeded" && text.contains("own from afar"), "{ended}: {text}");
    // A host that nobody has named is not believed, and the log says what to do.
    let ended = phase(&space, "naive-1");
    let text = log(cluster, space.name(), "naive-1", "");
    let fingerprint = sshd.host_key.fingerprint(Default::default()).to_string();
    assert!(ended == "Failed" && text.contains(&fingerprint) && text.contains("known_hosts"), "{ended}: {text}");
    // A merge request: the forge says that there is one, and the repository what is in it.
    git(&team, &["update-ref", "refs/merge-requests/7/head", &commit]);
    let script = "pipeline { agent none\n stages {
        stage('asked') { when { changeRequest target: 'main', author: 'l.+', comparator: 'REGEXP' } steps { echo \"${BRANCH_NAME} ${CHANGE_ID} ${CHANGE_TITLE} ${CHANGE_FORK}\" } }
        stage('other') { when { changeRequest target: 'release' } steps { error 'of another target' } }
    } }";
    space.run(&["create", "secret", "generic", "hook", "--from-literal=secret=open-sesame"]).good();
    let changes = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "changes"}, "spec": {
            "git": {"url": url, "credentialsId": "deploy"}, "script": script,
            "branches": ["refs/merge-requests/*/head"], "triggers": {"webhook": {"secretName": "hook"}},
        },
    });
    space.apply(&changes.to_string());
    let told = json!({"user": {"id": 1, "username": "lee"}, "object_attributes": {
        "action": "open", "iid": 7, "author_id": 1, "source_branch": "mend", "target_branch": "main", "title": "Mend it",
        "last_commit": {"id": commit}, "source": {"path_with_namespace": "lee/app"}, "target": {"path_with_namespace": "team/app"},
    }});
    let address = format!("{}/pipelines/{}/changes/webhook", console(cluster), space.name());
    let mut taken = String::new();
    // The cache may not know of the pipeline yet that kubectl has made.
    for _ in 0..50 {
        let mut curl = cluster.place.command("curl");
        curl.args([
            "--silent",
            "--header",
            "X-Gitlab-Token: open-sesame",
            "--header",
            "X-Gitlab-Event: Merge Request Hook",
        ]);
        curl.args(["--header", "Content-Type: application/json", "--data-binary", &told.to_string(), &address]);
        taken = good(&mut curl);
        if taken.contains("starts") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(taken.contains("a run of refs/merge-requests/7/head starts"), "{taken}");
    let runs = triggered(&space, "changes", 1);
    assert_eq!(runs, [("refs/merge-requests/7/head".to_owned(), String::new())]);
    let name = space.run(&["get", "plr", "--selector=madang.dev/pipeline=changes", "--output=name"]).good();
    let name = name.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let text = log(cluster, space.name(), &name, "");
    assert!(text.contains("MR-7 7 Mend it lee"), "{text}");
    // A build, with a Secret as Kubernetes has it.
    let own = json!({"ssh-privatekey": PLAIN, "known_hosts": sshd.line()});
    let own = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/ssh-auth", "metadata": {"name": "build-key"}, "stringData": own});
    space.apply(&own.to_string());
    let build = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Build", "metadata": {"name": "afar"}, "spec": {
            "context": {"git": {"url": url, "ref": "main", "secretName": "build-key"}},
            "dockerfileText": "FROM scratch\nCOPY README /\n",
        },
    });
    space.apply(&build.to_string());
    let phase = ["get", "build", "afar", "-o", "jsonpath={.status.phase} {.status.message}"];
    let ended = space.until(&phase, |phase| phase.starts_with("Succeeded") || phase.starts_with("Failed"));
    assert!(ended.starts_with("Succeeded"), "{ended}");
    let ran = sshd.ran.lock().unwrap();
    assert!(!ran.is_empty() && ran.iter().all(|(_, version)| version.is_none()), "{ran:?}");
}

/// A pipeline that needs no Pod, of a repository that is reached over SSH.
const SCRIPT: &str =
    "pipeline { agent none\n triggers { pollSCM('* * * * *') }\n stages { stage('say') { steps { echo 'built' } } } }";

/// A commit of a change, and its id.
fn committed(folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("README"), text).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", text]);
    git(folder, &["rev-parse", "HEAD"])
}

/// As `until`, for what happens once a minute.
#[track_caller]
fn until_polled(kubectl: &Kubectl<'_>, arguments: &[&str], test: impl Fn(&str) -> bool) -> String {
    let (started, limit) = (Instant::now(), Duration::from_secs(240));
    loop {
        let found = kubectl.run(arguments).good();
        if test(&found) {
            return found;
        }
        assert!(started.elapsed() < limit, "{arguments:?}: {found}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
#[ignore = "waits for the clock, some minutes"]
fn repositories_that_are_polled_over_ssh_start_a_run_for_each_new_commit() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("polled") else { return };
    if no_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.git");
    std::fs::create_dir_all(&app).unwrap();
    git(&app, &["init", "--quiet"]);
    std::fs::write(app.join("Jenkinsfile"), SCRIPT).unwrap();
    let one = committed(&app, "one");
    let like = Like { versions: false, allowed: vec![PLAIN_PUBLIC.to_owned()] };
    let sshd = Sshd::start(&cluster.place.machine, folder.path(), like);
    let key = json!({"username": "me", "privateKey": PLAIN, "known_hosts": sshd.line()});
    space.apply(&secret("deploy", "basicSSHUserPrivateKey", key));
    let polled = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "polled"},
        "spec": {"git": {"url": sshd.url("app.git"), "credentialsId": "deploy"}},
    });
    space.apply(&polled.to_string());
    // What a script declares counts once it has run.
    space.apply(&run("polled-1", "polled", json!([])));
    assert_eq!(phase(&space, "polled-1"), "Succeeded", "{}", log(cluster, space.name(), "polled-1", ""));
    let declared = "--output=jsonpath={.status.triggers.poll}";
    space.until(&["get", "pipeline", "polled", declared], |poll| poll.contains("* * * * *"));
    // Runs that looking has started, as result, branch and commit.
    let path = "--output=jsonpath={range .items[?(@.spec.cause.kind==\"scm\")]}{.status.result} {.spec.branch} {.spec.commit}{\"\\n\"}{end}";
    let ended = |count: usize| {
        let rows = until_polled(&space, &["get", "pipelineruns", path], |rows| {
            rows.lines().filter(|row| row.starts_with("SUCCESS ")).count() >= count
        });
        let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
        rows.sort();
        rows
    };
    // The first look knows of no commit yet.
    assert_eq!(ended(1), [format!("SUCCESS main {one}")]);
    let two = committed(&app, "two");
    let mut expected = [format!("SUCCESS main {one}"), format!("SUCCESS main {two}")];
    expected.sort();
    assert_eq!(ended(2), expected);
    // A look that finds nothing new starts nothing.
    let fired = ["get", "pipeline", "polled", "--output=jsonpath={.status.fired}"];
    let last = space.run(&fired).good();
    until_polled(&space, &fired, |now| now != last);
    assert_eq!(ended(2), expected);
    let known = space.field("pipeline/polled", "{.status.branches}");
    assert!(known.contains(&two) && !known.contains(&one), "{known}");
}

#[test]
#[ignore = "kills a server"]
fn a_push_that_a_webhook_told_of_is_looked_at_over_ssh_also_after_a_kill() {
    let Some(mut cluster) = fresh(43, &[]) else { return };
    if no_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (app, away) = (folder.path().join("app.git"), folder.path().join("away.git"));
    std::fs::create_dir_all(&app).unwrap();
    git(&app, &["init", "--quiet"]);
    let commit = committed(&app, "one");
    let like = Like { versions: true, allowed: vec![PLAIN_PUBLIC.to_owned()] };
    let sshd = Sshd::start(&cluster.place.machine, folder.path(), like);
    let key = json!({"username": "me", "privateKey": PLAIN, "known_hosts": sshd.line()});
    let kubectl = cluster.kubectl("default");
    kubectl.apply(&secret("deploy", "basicSSHUserPrivateKey", key));
    kubectl.run(&["create", "secret", "generic", "hook", "--from-literal=secret=open-sesame"]).good();
    let told = json!({
        "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "told"}, "spec": {
            "git": {"url": sshd.url("app.git"), "credentialsId": "deploy"}, "script": SCRIPT.replace("triggers { pollSCM('* * * * *') }", ""),
            "triggers": {"webhook": {"secretName": "hook"}},
        },
    });
    kubectl.apply(&told.to_string());
    // It cannot be looked at.
    std::fs::rename(&app, &away).unwrap();
    let push = r#"{"ref":"refs/heads/main","after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","project":{}}"#;
    let headers = ["X-Gitlab-Token: open-sesame", "X-Gitlab-Event: Push Hook"];
    let mut taken = String::new();
    // The cache may not know of the pipeline yet that kubectl has made.
    for _ in 0..50 {
        taken = answer(&mut posted(&cluster, "default", "told", &headers, push));
        if taken != "404" {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(taken, "202");
    let waiting = ["get", "pipeline", "told", "--output=jsonpath={.status.waiting}"];
    let before = kubectl.run(&waiting).good();
    assert!(before.contains("number"), "{before}");
    cluster.kill().unwrap();
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    assert_eq!(kubectl.run(&waiting).good(), before);
    assert_eq!(answer(&mut posted(&cluster, "default", "told", &headers, push)), "409");
    std::fs::rename(&away, &app).unwrap();
    assert_eq!(triggered(&kubectl, "told", 1), [("main".to_owned(), commit)]);
    kubectl.until(&waiting, |waiting| matches!(waiting.trim(), "" | "{}"));
    assert_eq!(kubectl.run(&["get", "pipelineruns", "--output=name"]).good().lines().count(), 1);
}
