//! The cluster's own repositories, through `git` itself.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::shared::{cluster, lacks, space};

/// `git` within the cluster's network, in a folder, asking with a token.
fn git(within: &Path, token: &str, arguments: &[&str]) -> Output {
    let cluster = cluster().expect("a cluster");
    let mut command = cluster.place.command("git");
    command.current_dir(within).env("HOME", within).env("GIT_TERMINAL_PROMPT", "0").args([
        "-c",
        "user.name=Kim",
        "-c",
        "user.email=kim@example.org",
        "-c",
        "init.defaultBranch=main",
    ]);
    if !token.is_empty() {
        command.args(["-c", &format!("http.extraHeader=Authorization: Bearer {token}")]);
    }
    command.args(arguments).output().expect("run git")
}

#[track_caller]
fn good(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[track_caller]
fn bad(output: Output) -> String {
    assert!(!output.status.success(), "it went well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_push_makes_a_repository_and_stands_in_its_status() {
    let Some(cluster) = cluster() else { return };
    if lacks(Command::new("git").arg("version").output().is_err().then_some("no git")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(space) = space("git") else { return };
    let (path, kubectl, name) = (folder.path(), &space, space.name().to_owned());
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let url = |repository: &str| format!("http://127.0.0.1:{}/git/{name}/{repository}.git", ports["console"]);
    let token = |account: &str| {
        let mut command = cluster.madang("token");
        if !account.is_empty() {
            command.args(["--account", account]);
        }
        good(command.output().unwrap())
    };
    let all = token("");
    good(git(path, "", &["init", "--quiet", "one"]));
    let one = path.join("one");
    std::fs::write(one.join("a"), "1\n").unwrap();
    good(git(&one, "", &["add", "."]));
    good(git(&one, "", &["commit", "--quiet", "--message=one"]));
    // Nobody, and somebody without rights.
    assert!(bad(git(&one, "", &["push", &url("shop"), "main"])).contains("could not read Username"));
    let weak = token(&format!("{name}/default"));
    assert!(bad(git(&one, &weak, &["push", &url("shop"), "main"])).contains("403"));
    // As people write it: the token is the password.
    let within = url("shop").replace("http://", &format!("http://kim:{all}@"));
    good(git(&one, "", &["push", "--push-option=why=test", &within, "main"]));
    let commit = good(git(&one, "", &["rev-parse", "HEAD"]));
    kubectl.until(&["get", "repository", "shop", "-o", "jsonpath={.status.head}"], |head| head == commit);
    assert_eq!(kubectl.field("repository/shop", "{.status.pushes[0].updates[0].reference}"), "refs/heads/main");
    assert_eq!(kubectl.field("repository/shop", "{.status.pushes[0].options[0]}"), "why=test");
    assert!(!kubectl.field("repository/shop", "{.status.pushes[0].user}").is_empty());
    // A right to read is one to fetch and none to push.
    kubectl
        .run(&["create", "rolebinding", "reads", "--clusterrole=view", &format!("--serviceaccount={name}:default")])
        .good();
    good(git(path, &weak, &["clone", "--quiet", &url("shop"), "two"]));
    assert_eq!(std::fs::read_to_string(path.join("two/a")).unwrap(), "1\n");
    assert!(bad(git(&path.join("two"), &weak, &["push", &url("shop"), "main:refs/heads/x"])).contains("403"));
    // What an account may read it may build, by the name that repositories have in the cluster.
    let built = |object: &str, repository: &str| {
        let build = serde_json::json!({
            "apiVersion": "madang.dev/v1alpha1", "kind": "Build", "metadata": {"name": object}, "spec": {
                "context": {"git": {"url": format!("https://git.madang.internal/{repository}.git")}},
                "dockerfileText": "FROM scratch\nCOPY a /a\n",
            },
        });
        kubectl.apply(&build.to_string());
        let phase = ["get", "build", object, "-o", "jsonpath={.status.phase}"];
        let phase = kubectl.until(&phase, |phase| matches!(phase, "Succeeded" | "Failed"));
        phase + " " + &kubectl.field(&format!("build/{object}"), "{.status.message}")
    };
    let read = built("read", &format!("{name}/shop"));
    assert!(read.starts_with("Succeeded"), "{read}");
    let refused = built("refused", "default/shop");
    assert!(refused.starts_with("Failed") && refused.contains("403"), "{refused}");
    // Protected branches go forwards only.
    kubectl.run(&["patch", "repository", "shop", "--type=merge", "-p", r#"{"spec":{"protected":["main"]}}"#]).good();
    kubectl
        .until(&["get", "repository", "shop", "-o", "jsonpath={.status.conditions[0].observedGeneration}"], |seen| {
            seen == kubectl.field("repository/shop", "{.metadata.generation}")
        });
    good(git(&one, "", &["commit", "--quiet", "--amend", "--message=another"]));
    let told = bad(git(&one, &all, &["push", "--force", &url("shop"), "main"]));
    assert!(told.contains("cannot be set back"), "{told}");
    assert!(bad(git(path, &all, &["clone", &url("none"), "three"])).contains("not found"));
    // Its files go with the object.
    let uid = kubectl.field("repository/shop", "{.metadata.uid}");
    let files = cluster.data_dir().join("git").join(format!("{uid}.git"));
    assert!(files.join("HEAD").is_file());
    kubectl.run(&["delete", "repository", "shop", "--timeout=30s"]).good();
    assert!(!files.exists(), "files are left");
}
