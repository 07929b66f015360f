//! `Build` objects, driven by kubectl, and the sockets by which pods build; the latter in the second tier.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::shared::{IMAGE, Space, cluster, fresh, lacks, said, space};

/// The registry of every cluster.
pub const REGISTRY: &str = "registry.madang.internal";

/// Lets the namespace's default account push to its repositories.
pub fn allow_push(space: &Space) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "push"},
        "rules": [{"apiGroups": ["registry.madang.dev"], "resources": ["repositories"], "verbs": ["get", "update"]}],
    });
    space.apply(&role.to_string());
    let subject = format!("--serviceaccount={}:default", space.name());
    space.run(&["create", "rolebinding", "push", "--role=push", &subject]).good();
}

fn build(name: &str, spec: serde_json::Value) -> String {
    json!({"apiVersion": "madang.dev/v1alpha1", "kind": "Build", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Waits for the end of a build; its phase.
fn phase(space: &Space, name: &str) -> String {
    let object = format!("build/{name}");
    space.until(&["get", &object, "--output=jsonpath={.status.phase}"], |out| {
        matches!(out, "Succeeded" | "Failed" | "Cancelled")
    })
}

/// A path of the node's API about a build.
fn path(space: &Space, name: &str, part: &str) -> String {
    format!("/api/v1/nodes/node-1/proxy/builds/{}/{name}/{part}", space.name())
}

fn log(space: &Space, name: &str, query: &str) -> String {
    space.run(&["get", "--raw", &path(space, name, &format!("log{query}"))]).good()
}

/// An archive of a context that holds a Dockerfile and a static busybox.
fn context(dir: &Path, dockerfile: &str) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    fs::copy("/bin/busybox", dir.join("busybox")).unwrap();
    let archive = dir.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&archive).arg("--directory").arg(dir).arg(".");
    assert!(tar.status().unwrap().success());
    archive
}

/// What a step of nothing but busybox is run by.
pub const SHELL: &str = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/\nSHELL [\"/bin/sh\", \"-c\"]\n";

#[test]
fn a_build_object_makes_and_pushes_an_image_that_a_pod_runs() {
    let Some(space) = space("builds") else { return };
    allow_push(&space);
    let dir = tempfile::tempdir().unwrap();
    let dockerfile = format!(
        "{SHELL}ARG WHO\nRUN --mount=type=secret,id=word /bin/busybox echo \"$WHO $(/bin/busybox cat /run/secrets/word)\" > /said\nRUN /bin/busybox cat /said\n"
    );
    let archive = context(&dir.path().join("context"), &dockerfile);
    space.run(&["create", "secret", "generic", "words", "--from-literal=first=friend"]).good();
    let image = format!("{REGISTRY}/{}/app:1", space.name());
    space.apply(&build(
        "app",
        json!({
            "context": {"upload": {}}, "tags": [image], "args": [{"name": "WHO", "value": "hello"}],
            "secrets": [{"id": "word", "secretName": "words", "key": "first"}], "labels": {"made": "here"},
            "resources": {"cpu": "500m", "memory": "512Mi"},
        }),
    ));
    space.until(&["get", "build/app", "--output=jsonpath={.status.reason}"], |out| out == "WaitingForContext");
    let to = path(&space, "app", "context");
    space.run(&["create", "--raw", &to, "--filename", archive.to_str().unwrap()]).good();
    assert_eq!(phase(&space, "app"), "Succeeded", "{}", log(&space, "app", ""));
    assert!(!space.run(&["create", "--raw", &to, "--filename", archive.to_str().unwrap()]).ok, "taken twice");
    let digest = space.field("build/app", "{.status.digest}");
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert_eq!(space.field("build/app", "{.status.conditions[?(@.type=='Complete')].status}"), "True");
    assert_eq!(space.field("build/app", "{.status.attempts}"), "1");
    // The log is there, whole and from any byte on.
    let whole = log(&space, "app", "");
    assert!(whole.contains("hello friend") && whole.contains("RUN --mount=type=secret"), "{whole}");
    assert_eq!(space.field("build/app", "{.status.logBytes}"), whole.len().to_string());
    assert_eq!(log(&space, "app", "?offset=10&follow=true"), whole[10..]);
    // The tag and the digest are the same image.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runs"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": format!("{REGISTRY}/{}/app@{digest}", space.name()),
            "command": ["/bin/busybox", "cat", "/said"],
        }]},
    });
    space.apply(&pod.to_string());
    space.until(&["get", "pod", "runs", "--output=jsonpath={.status.phase}"], |out| out == "Succeeded");
    assert_eq!(space.run(&["logs", "runs"]).good(), "hello friend\n");
}

#[test]
#[ignore = "builds a dozen times"]
fn a_build_object_has_the_rights_of_its_account_and_nothing_of_the_machine() {
    let (Some(cluster), Some(space), Some(other)) = (cluster(), space("mine"), space("theirs")) else { return };
    allow_push(&other);
    let theirs = format!("{REGISTRY}/{}/secret:1", other.name());
    let text = "FROM scratch\nCOPY <<EOF /secret\ntheirs\nEOF\n";
    other.apply(&build("secret", json!({"dockerfileText": text, "tags": [theirs]})));
    assert_eq!(phase(&other, "secret"), "Succeeded", "{}", log(&other, "secret", ""));
    let digest = other.field("build/secret", "{.status.digest}");
    let by_digest = format!("{REGISTRY}/{}/secret@{digest}", other.name());
    let at = cluster.place.address.to_string();
    for (name, text, tags, said) in [
        // Nobody has allowed it to push.
        ("push", text.to_owned(), vec![format!("{REGISTRY}/{}/app:1", space.name())], "denied"),
        ("push-theirs", text.to_owned(), vec![theirs.clone()], "denied"),
        ("pull-theirs", format!("FROM {theirs}\n"), vec![], "denied"),
        ("pull-digest", format!("FROM {by_digest}\n"), vec![], "denied"),
        ("copy-theirs", format!("FROM scratch\nCOPY --from={theirs} /secret /\n"), vec![], "denied"),
        ("by-address", format!("FROM {at}:5000/{}/secret:1\n", other.name()), vec![], ""),
        ("loopback", format!("FROM 127.0.0.1:5000/{}/secret:1\n", other.name()), vec![], "this machine itself"),
        ("url", "FROM scratch\nADD http://127.0.0.1:9090/api/v1/targets /\n".to_owned(), vec![], "this machine itself"),
        // It is on the machine, but its registry does not give it.
        ("local", format!("FROM {IMAGE}\n"), vec![], ""),
        ("host", "FROM scratch\nCOPY busybox /\nRUN --network=host [\"/busybox\"]\n".to_owned(), vec![], ""),
    ] {
        space.apply(&build(name, json!({"dockerfileText": text, "tags": tags})));
        assert_eq!(phase(&space, name), "Failed", "{name}");
        let message = space.field(&format!("build/{name}"), "{.status.message}");
        let message = message.to_lowercase();
        // Answers to HEAD have no words.
        let refused = said == "denied" && message.contains("401 unauthorized");
        assert!(message.contains(said) || refused, "{name}: {message}");
    }
    // A claim that is not there, and one of two contexts.
    space.apply(&build("claim", json!({"context": {"volume": {"claimName": "none"}}})));
    assert_eq!(phase(&space, "claim"), "Failed");
    assert_eq!(space.field("build/claim", "{.status.reason}"), "InvalidSpec");
}

#[test]
fn builds_are_ended_by_cancelling_and_by_deletion() {
    let (Some(cluster), Some(space)) = (cluster(), space("ended")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let archive = context(&dir.path().join("context"), &format!("{SHELL}RUN echo begun; sleep 1000\n"));
    let begin = |name: &str| {
        space.apply(&build(name, json!({"context": {"upload": {}}})));
        space.until(&["get", &format!("build/{name}"), "--output=jsonpath={.status.nodeName}"], |out| !out.is_empty());
        let to = path(&space, name, "context");
        let sent = || space.run(&["create", "--raw", &to, "--filename", archive.to_str().unwrap()]);
        // The node may not have heard of its own claim yet.
        while !sent().ok {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        space.until(&["get", "--raw", &path(&space, name, "log")], |out| out.contains("begun"));
    };
    begin("cancelled");
    space.run(&["patch", "build/cancelled", "--type=merge", "--patch", r#"{"spec":{"cancel":true}}"#]).good();
    assert_eq!(phase(&space, "cancelled"), "Cancelled");
    begin("deleted");
    let uid = space.field("build/deleted", "{.metadata.uid}");
    space.run(&["delete", "build/deleted"]).good();
    let dir = cluster.data_dir().join("engine/builds").join(uid);
    let gone = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        !dir.exists()
    });
    assert!(gone, "{} is still there", dir.display());
}

#[test]
fn a_build_goes_on_after_the_server_was_killed() {
    let Some(mut cluster) = fresh(40, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let archive = context(&dir.path().join("context"), &format!("{SHELL}RUN echo begun; sleep 3; echo ended\n"));
    {
        let kubectl = cluster.kubectl("default");
        kubectl.until(&["get", "crd", "builds.madang.dev", "--output=jsonpath={.status.conditions[*].type}"], |out| {
            out.contains("Established")
        });
        kubectl.apply(&build("app", json!({"context": {"upload": {}}})));
        kubectl.until(&["get", "build/app", "--output=jsonpath={.status.reason}"], |out| out == "WaitingForContext");
        let to = "/api/v1/nodes/node-1/proxy/builds/default/app/context";
        kubectl.run(&["create", "--raw", to, "--filename", archive.to_str().unwrap()]).good();
        let log = "/api/v1/nodes/node-1/proxy/builds/default/app/log";
        kubectl.until(&["get", "--raw", log], |out| out.contains("begun"));
    }
    cluster.kill().unwrap();
    cluster.serve().unwrap();
    let kubectl = cluster.kubectl("default");
    kubectl.until(&["get", "build/app", "--output=jsonpath={.status.phase}"], |out| out == "Succeeded");
    assert_eq!(kubectl.field("build/app", "{.status.attempts}"), "2");
    let log = kubectl.run(&["get", "--raw", "/api/v1/nodes/node-1/proxy/builds/default/app/log"]).good();
    assert!(log.contains("the server was restarted") && log.contains("ended"), "{log}");
}

#[test]
#[ignore = "needs docker and curl"]
fn a_pods_socket_builds_and_pushes_within_its_account_and_does_nothing_else() {
    let (Some(cluster), Some(space), Some(other)) = (cluster(), space("socket"), space("hidden")) else { return };
    let found =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if lacks((!found("docker") || !found("curl")).then_some("no docker or curl")) {
        return;
    }
    allow_push(&space);
    allow_push(&other);
    let hidden = format!("{REGISTRY}/{}/hidden:1", other.name());
    other.apply(&build("hidden", json!({"dockerfileText": "FROM scratch\nCOPY <<EOF /a\nb\nEOF\n", "tags": [hidden]})));
    assert_eq!(phase(&other, "hidden"), "Succeeded", "{}", log(&other, "hidden", ""));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ci"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": IMAGE, "securityContext": {"runAsUser": 1000},
            "command": ["sh", "-c", "until test -S /build/docker.sock; do sleep 0.1; done; echo there; sleep 1000"],
            "volumeMounts": [{"name": "docker", "mountPath": "/build"}],
        }], "volumes": [{"name": "docker", "csi": {"driver": "build.madang.dev"}}]},
    });
    space.apply(&pod.to_string());
    space.until(&["logs", "ci"], |out| out == "there\n");
    let uid = space.field("pod/ci", "{.metadata.uid}");
    let socket = cluster.run_dir().join("builds").join(&uid).join("docker.sock");
    let dir = tempfile::tempdir().unwrap();
    let docker = |arguments: &[&str]| {
        let mut command = cluster.place.command("docker");
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command
            .env("DOCKER_CONFIG", dir.path().join("config"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_CONTEXT");
        command.output().unwrap()
    };
    let good = |arguments: &[&str]| {
        let output = docker(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let bad = |arguments: &[&str], why: &str| {
        let output = docker(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        assert!(said(&output).to_lowercase().contains(why), "{arguments:?}: {}", said(&output));
    };
    // What it is for.
    let folder = dir.path().join("context");
    context(&folder, &format!("{SHELL}RUN echo built > /built\n"));
    let mine = format!("{REGISTRY}/{}/app:1", space.name());
    good(&["build", "--tag", &mine, folder.to_str().unwrap()]);
    good(&["tag", &mine, "local:1"]);
    good(&["push", &mine]);
    assert!(good(&["images"]).contains("/app"));
    // What it has built it may build on, by name and by id, and registries are not asked.
    let own = good(&["images", "--quiet", "--no-trunc"]).lines().next().unwrap().to_owned();
    for (name, from) in [("of-name", "local:1"), ("of-id", own.as_str()), ("of-digits", &own[7..20])] {
        let folder = dir.path().join(name);
        context(&folder, &format!("FROM {from}\nRUN test \"$(/bin/busybox cat /built)\" = built\n"));
        good(&["build", "--tag", "on-top:1", folder.to_str().unwrap()]);
        good(&["rmi", "on-top:1"]);
    }
    good(&["rmi", &mine, "local:1"]);
    good(&["pull", &mine]);
    let shown = good(&["images", "--format", "{{.Repository}}"]);
    assert_eq!(shown.trim(), mine.trim_end_matches(":1"), "others' images are seen");
    // What it is not for.
    let nothing = "does nothing else";
    let saved = dir.path().join("saved.tar");
    for arguments in [
        &["create", &mine][..],
        &["run", "--rm", "--volume", "/:/host", &mine, "/bin/sh"],
        &["ps"],
        &["volume", "ls"],
        &["network", "create", "n"],
        &["save", &mine, "--output", saved.to_str().unwrap()],
        &["system", "df"],
        &["builder", "prune", "--force"],
    ] {
        bad(arguments, nothing);
    }
    // Another namespace's image, by its name, by its digest, and from the machine's own store.
    let digest = other.field("build/hidden", "{.status.digest}");
    let by_digest = format!("{REGISTRY}/{}/hidden@{digest}", other.name());
    let id = other.field("build/hidden", "{.status.imageID}");
    bad(&["pull", &hidden], "denied");
    bad(&["pull", &by_digest], "denied");
    bad(&["inspect", "--type=image", &hidden], "no such");
    bad(&["inspect", "--type=image", &id], "no such");
    bad(&["tag", &id, "stolen:1"], "no such");
    bad(&["inspect", "--type=image", IMAGE], "no such");
    bad(&["push", &format!("{REGISTRY}/{}/app:2", other.name())], "");
    for (name, text) in [
        ("from", format!("FROM {hidden}\n")),
        ("digest", format!("FROM {by_digest}\n")),
        ("id", format!("FROM {id}\n")),
        ("copy", format!("FROM scratch\nCOPY --from={hidden} / /\n")),
        ("mount", format!("{SHELL}RUN --mount=type=bind,from={hidden},target=/x true\n")),
        ("loopback", format!("FROM 127.0.0.1:5000/{}/hidden:1\n", other.name())),
        ("machine", format!("FROM {IMAGE}\n")),
    ] {
        let folder = dir.path().join(name);
        context(&folder, &text);
        bad(&["build", folder.to_str().unwrap()], "");
    }
    bad(&["build", "--network=host", folder.to_str().unwrap()], "not allowed");
    bad(&["build", "--cgroup-parent=/", folder.to_str().unwrap()], "not allowed");
    // The images that it kept go with the pod.
    space.run(&["delete", "pod", "ci"]).good();
    let gone = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        !socket.exists()
    });
    assert!(gone, "{} is still there", socket.display());
}
