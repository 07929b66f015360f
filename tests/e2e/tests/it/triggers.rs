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

/// A request of a forge about a pipeline, which writes the answer's status: 000 where there is none.
pub fn posted(cluster: &Cluster, namespace: &str, name: &str, headers: &[&str], body: &str) -> Command {
    let mut curl = cluster.place.command("curl");
    curl.args(["--silent", "--max-time", "30", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    // curl would say that it is a form.
    curl.args(["--header", "Content-Type: application/json", "--data-binary", body]);
    for header in headers {
        curl.args(["--header", header]);
    }
    curl.arg(format!("{}/pipelines/{namespace}/{name}/webhook", console(cluster)));
    curl
}

/// The status of an answer.
pub fn answer(command: &mut Command) -> String {
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
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
    let post =
        |name: &str, headers: &[&str], body: &str| answer(&mut posted(cluster, space.name(), name, headers, body));
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

/// Headers of a merge request's event.
const MERGE: [&str; 2] = ["X-Gitlab-Token: open-sesame", "X-Gitlab-Event: Merge Request Hook"];

/// A merge request that has new commits, as GitLab tells it.
fn merge(id: usize, title: &str) -> String {
    json!({"user": {"id": 1, "username": "lee"}, "object_attributes": {
        "action": "open", "iid": id, "author_id": 1, "source_branch": "mend", "target_branch": "main", "title": title,
        "last_commit": {"id": "a".repeat(40)}, "source": {"path_with_namespace": "lee/app"}, "target": {"path_with_namespace": "team/app"},
    }})
    .to_string()
}

/// Titles of the changes that runs are of, in order, once there are so many and none waits.
fn titles(kubectl: &Kubectl<'_>, count: usize) -> Vec<String> {
    let path = "--output=jsonpath={range .items[*]}{.spec.change.title}{\"\\n\"}{end}";
    kubectl.until(&["get", "pipelineruns", path], |rows| rows.lines().count() >= count);
    kubectl.until(&["get", "pipeline", "changes", "--output=jsonpath={.status.waiting}"], |waiting| {
        matches!(waiting.trim(), "" | "{}")
    });
    let mut found: Vec<String> =
        kubectl.run(&["get", "pipelineruns", path]).good().lines().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
#[ignore = "kills a server again and again"]
fn each_webhook_that_was_taken_is_one_run_also_where_the_server_is_killed() {
    let Some(mut cluster) = fresh(42, &[]) else { return };
    if no_tools() {
        return;
    }
    let kubectl = cluster.kubectl("default");
    kubectl.run(&["create", "secret", "generic", "hook", "--from-literal=secret=open-sesame"]).good();
    let more = json!({
        // Runs of it fail, which is theirs.
        "git": { "url": "https://git.invalid/app.git" }, "branches": ["refs/merge-requests/*/head"],
        "triggers": { "webhook": { "secretName": "hook" } },
    });
    kubectl.apply(&pipeline("changes", more));
    let post = |cluster: &Cluster, id, title: &str| {
        answer(&mut posted(cluster, "default", "changes", &MERGE, &merge(id, title)))
    };
    // No run can be made.
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"count/pipelineruns.madang.dev": "0"}},
    });
    kubectl.apply(&quota.to_string());
    let counted = "--output=jsonpath={.status.used}";
    kubectl.until(&["get", "resourcequota", "none", counted], |used| used.contains("pipelineruns"));
    let mut first = String::new();
    // The cache may not know of the pipeline yet that kubectl has made.
    for _ in 0..50 {
        first = post(&cluster, 7, "old");
        if first != "404" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(first, "202");
    assert_eq!((post(&cluster, 8, "other"), post(&cluster, 7, "new")), ("202".to_owned(), "202".to_owned()));
    let waits = |cluster: &Cluster| {
        let waiting = cluster.kubectl("default").field("pipeline/changes", "{.status.waiting}");
        let all: Value = serde_json::from_str(&waiting).unwrap_or_else(|error| panic!("{error}: {waiting}"));
        let mut titles: Vec<String> =
            all.as_object().unwrap().values().map(|one| one["change"]["title"].as_str().unwrap().to_owned()).collect();
        titles.sort();
        titles
    };
    assert_eq!(waits(&cluster), ["new", "other"]);
    assert_eq!(kubectl.run(&["get", "pipelineruns", "--output=name"]).good(), "");
    cluster.kill().unwrap();
    cluster.serve().unwrap();
    assert_eq!(waits(&cluster), ["new", "other"]);
    // The one that a newer one has replaced, too.
    for (id, title) in [(7, "old"), (8, "other"), (7, "new")] {
        assert_eq!(post(&cluster, id, title), "409", "{title}");
    }
    let kubectl = cluster.kubectl("default");
    assert_eq!(kubectl.run(&["get", "pipelineruns", "--output=name"]).good(), "");
    kubectl.run(&["delete", "resourcequota", "none"]).good();
    assert_eq!(titles(&kubectl, 2), ["new", "other"]);
    let mut expected = vec!["new".to_owned(), "other".to_owned()];
    for round in 0..8_u64 {
        let (id, title) = (10 + round as usize, format!("round {round}"));
        let mut sending = posted(&cluster, "default", "changes", &MERGE, &merge(id, &title));
        let sending = sending.stdout(std::process::Stdio::piped()).spawn().unwrap();
        // A little later each time: while it is read, while it is written down, once it was acknowledged, while the run is made.
        std::thread::sleep(std::time::Duration::from_millis(12 * round));
        cluster.kill().unwrap();
        let heard = String::from_utf8_lossy(&sending.wait_with_output().unwrap().stdout).into_owned();
        cluster.serve().unwrap();
        // A sender who heard nothing tries again, and so does one who heard that it was taken.
        let again = post(&cluster, id, &title);
        assert!(again == "409" || heard != "202" && again == "202", "{heard}, then {again}");
        expected.push(title);
    }
    expected.sort();
    assert_eq!(titles(&cluster.kubectl("default"), expected.len()), expected);
}
