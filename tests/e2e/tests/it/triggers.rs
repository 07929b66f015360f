//! What starts runs of pipelines: pushes, other pipelines, webhooks; each once. What is not kept any more goes.

use std::{
    path::Path,
    process::{Command, Output},
};

use e2e::{Cluster, Kubectl};
use serde_json::{Value, json};

use crate::shared::{cluster, fresh, lacks, space};

/// A pipeline that needs no Pod.
const SCRIPT: &str =
    "pipeline { agent none\n stages { stage('say') { steps { echo \"built ${env.BRANCH_NAME}\" } } } }";

pub fn console(cluster: &Cluster) -> String {
    let ports: Value = serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    format!("http://127.0.0.1:{}", ports["console"])
}

pub fn token(cluster: &Cluster) -> String {
    String::from_utf8_lossy(&cluster.madang("token").output().unwrap().stdout).trim().to_owned()
}

#[track_caller]
pub fn git(cluster: &Cluster, within: &Path, arguments: &[&str]) -> String {
    let mut command = cluster.place.command("git");
    command.current_dir(within).env("HOME", within).env("GIT_TERMINAL_PROMPT", "0");
    command.args(["-c", "user.name=Kim", "-c", "user.email=kim@example.org", "-c", "init.defaultBranch=main"]);
    let output: Output = command.args(arguments).output().expect("run git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A commit of a change, and its id.
pub fn commit(cluster: &Cluster, folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("a"), text).unwrap();
    git(cluster, folder, &["add", "."]);
    git(cluster, folder, &["commit", "--quiet", "--message", text]);
    git(cluster, folder, &["rev-parse", "HEAD"])
}

pub fn no_tools() -> bool {
    let lacking = ["git", "curl"].into_iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    lacks(lacking.map(|_| "no git or no curl"))
}

fn pipeline(name: &str, more: Value) -> String {
    let mut spec = json!({ "script": SCRIPT });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "madang.dev/v1alpha1", "kind": "Pipeline", "metadata": { "name": name }, "spec": spec })
        .to_string()
}

/// Runs of a pipeline that have ended, as branch and commit, when there are so many.
pub fn ended(kubectl: &Kubectl<'_>, of: &str, count: usize) -> Vec<(String, String)> {
    let select = format!("--selector=madang.dev/pipeline={of}");
    let path = "--output=jsonpath={range .items[*]}{.status.result} {.spec.branch} {.spec.commit}{\"\\n\"}{end}";
    let rows = kubectl.until(&["get", "pipelineruns", &select, path], |rows| {
        rows.lines().filter(|row| row.starts_with("SUCCESS ")).count() >= count
    });
    let mut found: Vec<(String, String)> = rows
        .lines()
        .map(|row| {
            let words: Vec<&str> = row.split(' ').collect();
            (words.get(1).unwrap_or(&"").to_string(), words.get(2).unwrap_or(&"").to_string())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn pushes_to_matching_branches_start_runs_and_what_follows_them() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("triggers") else { return };
    if no_tools() {
        return;
    }
    let more =
        json!({ "repository": { "name": "shop" }, "branches": ["main", "release/*"], "retention": { "runs": 50 } });
    space.apply(&pipeline("shop", more));
    space.apply(&pipeline("after", json!({ "triggers": { "upstream": [{ "pipeline": "shop" }] } })));
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(cluster, folder, &["init", "--quiet"]);
    let url = console(cluster).replace("http://", &format!("http://kim:{}@", token(cluster)));
    let url = format!("{url}/git/{}/shop.git", space.name());
    let one = commit(cluster, folder, "one");
    git(cluster, folder, &["push", "--quiet", &url, "main"]);
    assert_eq!(ended(&space, "shop", 1), [("main".to_string(), one)]);
    let two = commit(cluster, folder, "two");
    git(cluster, folder, &["push", "--quiet", "--push-option=ci.skip", &url, "main"]);
    git(cluster, folder, &["push", "--quiet", &url, "HEAD:refs/heads/work"]);
    git(cluster, folder, &["push", "--quiet", &url, "HEAD:refs/heads/release/1", "HEAD:refs/heads/release/2"]);
    let found = ended(&space, "shop", 3);
    let release = |number: u32| (format!("release/{number}"), two.clone());
    assert_eq!(found[1..], [release(1), release(2)]);
    assert_eq!(found.len(), 3, "{found:?}");
    let select = "--selector=madang.dev/pipeline=shop";
    let causes = space.run(&["get", "plr", select, "--output=jsonpath={.items[*].spec.cause.kind}"]).good();
    assert_eq!(causes.trim(), "scm scm scm");
    // One for each that ended well, and none for more.
    assert_eq!(ended(&space, "after", 3).len(), 3);
    // What is kept is said later than the runs were.
    space
        .run(&["patch", "pipeline", "shop", "--type=merge", "--patch", "{\"spec\":{\"retention\":{\"runs\":1}}}"])
        .good();
    space.until(&["get", "plr", select, "--output=name"], |names| names.lines().count() == 1);
}

#[test]
fn webhooks_are_taken_once_and_only_with_the_secret() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("webhooks") else { return };
    if no_tools() {
        return;
    }
    space.run(&["create", "secret", "generic", "hook", "--from-literal=secret=open-sesame"]).good();
    let more = json!({ "repository": { "name": "none" }, "triggers": { "webhook": { "secretName": "hook" } } });
    space.apply(&pipeline("hooked", more));
    space.apply(&pipeline("plain", json!({})));
    let post = |name: &str, headers: &[&str], body: &str| {
        let mut curl = cluster.place.command("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary", body]);
        // curl would say that it is a form.
        curl.args(["--header", "Content-Type: application/json"]);
        for header in headers {
            curl.args(["--header", header]);
        }
        let url = format!("{}/pipelines/{}/{name}/webhook", console(cluster), space.name());
        String::from_utf8_lossy(&curl.arg(url).output().unwrap().stdout).into_owned()
    };
    let push = r#"{"ref":"refs/heads/main","after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","project":{}}"#;
    let good = ["X-Gitlab-Token: open-sesame", "X-Gitlab-Event: Push Hook", "X-Gitlab-Event-UUID: 1"];
    // The cache may not know of a pipeline yet that kubectl has made.
    let mut first = String::new();
    for _ in 0..50 {
        first = post("hooked", &good, push);
        if first != "404" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(first, "202");
    let cases: [(&str, &[&str], &str, &str); 9] = [
        ("hooked", &good, push, "409"),
        (
            "hooked",
            &["X-Gitlab-Token: open-sesame", "X-Gitlab-Event: Push Hook", "X-Gitlab-Event-UUID: 2"],
            push,
            "202",
        ),
        ("hooked", &["X-Gitlab-Token: open-sesam", "X-Gitlab-Event: Push Hook"], push, "403"),
        ("hooked", &["X-GitHub-Event: push"], push, "401"),
        ("hooked", &["X-Hub-Signature-256: sha256=00", "X-GitHub-Event: push"], push, "403"),
        ("hooked", &["X-Gitlab-Token: open-sesame", "X-Gitlab-Event: Push Hook"], "nonsense", "400"),
        ("plain", &good, push, "404"),
        ("nobody", &good, push, "404"),
        ("..%2f..%2fx", &good, push, "404"),
    ];
    for (name, headers, body, expected) in cases {
        assert_eq!(post(name, headers, body), expected, "{name} {headers:?}");
    }
}

#[test]
#[ignore = "kills a server again and again"]
fn each_push_is_one_run_also_where_the_server_is_killed() {
    let Some(mut cluster) = fresh(41, &[]) else { return };
    if no_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(&cluster, folder, &["init", "--quiet"]);
    cluster.kubectl("default").apply(&pipeline("shop", json!({ "repository": { "name": "shop" } })));
    let mut commits = Vec::new();
    for round in 0..6 {
        let url = console(&cluster).replace("http://", &format!("http://kim:{}@", token(&cluster)));
        commits.push(("main".to_string(), commit(&cluster, folder, &format!("round {round}"))));
        git(&cluster, folder, &["push", "--quiet", &format!("{url}/git/default/shop.git"), "main"]);
        // A little later each time: before the run is made, while it is, after it was noted.
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        cluster.kill().unwrap();
        cluster.serve().unwrap();
    }
    let kubectl = cluster.kubectl("default");
    let mut found = ended(&kubectl, "shop", commits.len());
    found.sort();
    commits.sort();
    assert_eq!(found, commits);
}
