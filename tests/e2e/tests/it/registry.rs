//! The cluster's own registry: pushed to and pulled from by other people's tools, and by the node.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::shared::{busybox, cluster, good, lacks, said, space};

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("madang-e2e-registry-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command says when the registry lets nobody in.
#[track_caller]
fn refused(command: &mut Command) {
    let output = command.output().unwrap();
    let text = said(&output).to_lowercase();
    assert!(!output.status.success(), "{command:?} was let in: {text}");
    assert!(
        ["unauthorized", "denied", "authentication required", "log in first"].iter().any(|word| text.contains(word)),
        "{text}"
    );
}

fn installed(programs: &[&str]) -> bool {
    !lacks(
        programs
            .iter()
            .any(|program| !Path::new("/usr/bin").join(program).exists())
            .then_some("no skopeo, buildah, podman"),
    )
}

#[test]
fn skopeo_pushes_with_a_login_and_a_pod_runs_what_it_pushed() {
    let (Some(cluster), Some(space)) = (cluster(), space("registry")) else { return };
    if !installed(&["skopeo"]) {
        return;
    }
    let folder = Folder::new("skopeo");
    let auth = folder.path("auth.json");
    good(cluster.madang("login").args(["--file", &auth]));
    assert_eq!(fs::metadata(&auth).unwrap().mode() & 0o777, 0o600);
    let skopeo = |arguments: &[&str]| {
        let mut command = cluster.place.command("skopeo");
        command.args(["--insecure-policy"]).args(arguments);
        command
    };
    let archive = format!("docker-archive:{}", busybox().display());
    let here = "docker://127.0.0.1:5000/team/app:1";
    refused(&mut skopeo(&["copy", "--dest-tls-verify=false", "--dest-no-creds", &archive, here]));
    good(&mut skopeo(&["copy", "--dest-tls-verify=false", "--dest-authfile", &auth, &archive, here]));
    // Loopback is open for pull, the node's address is not.
    good(&mut skopeo(&["inspect", "--tls-verify=false", "--no-creds", here]));
    let certificates = folder.path("certificates");
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(cluster.data_dir().join("pki/ca.crt"), Path::new(&certificates).join("ca.crt")).unwrap();
    let outside = format!("docker://{}:5000/team/app:1", cluster.place.address);
    refused(&mut skopeo(&["inspect", "--cert-dir", &certificates, "--no-creds", &outside]));
    let shown = good(&mut skopeo(&["inspect", "--cert-dir", &certificates, "--authfile", &auth, &outside]));
    assert!(shown.contains("\"Layers\""), "{shown}");
    let copy = format!("oci:{}:1", folder.path("copy"));
    good(&mut skopeo(&["copy", "--src-cert-dir", &certificates, "--src-authfile", &auth, &outside, &copy]));
    // The node pulls it with its own certificate, by the name that it has in every cluster.
    let image = "registry.madang.internal/team/app:1";
    space.run(&["run", "pushed", "--image", image, "--restart=Never", "--", "/bin/busybox", "true"]).good();
    space.until(&["get", "pod", "pushed", "--output=jsonpath={.status.phase}"], |out| out == "Succeeded");
    // Each blob is on the disk once.
    let blobs = fs::read_dir(cluster.data_dir().join("content/blobs/sha256")).unwrap();
    let mut blobs = blobs.map(|blob| blob.unwrap().metadata().unwrap()).filter(|blob| blob.len() > 1 << 20);
    assert!(blobs.any(|blob| (blob.nlink(), blob.mode() & 0o777, blob.uid()) == (2, 0o444, 0)));
}

#[test]
fn buildah_and_podman_push_and_pull() {
    let Some(cluster) = cluster() else { return };
    if !installed(&["buildah", "podman", "skopeo"]) {
        return;
    }
    let folder = Folder::new("podman");
    let auth = folder.path("auth.json");
    good(cluster.madang("login").args(["--file", &auth]));
    let (root, run) = (folder.path("root"), folder.path("run"));
    let engine = |program: &str, arguments: &[&str]| {
        let mut command = cluster.place.command(program);
        command.args(["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]).args(arguments);
        command
    };
    let archive = format!("docker-archive:{}", busybox().display());
    let pulled = good(&mut engine("podman", &["pull", "--quiet", &archive]));
    let id = pulled.trim();
    for (program, name) in [("podman", "127.0.0.1:5000/tools/podman:1"), ("buildah", "127.0.0.1:5000/tools/buildah:1")]
    {
        let to = format!("docker://{name}");
        refused(&mut engine(program, &["push", "--tls-verify=false", id, &to]));
        good(&mut engine(program, &["push", "--tls-verify=false", "--authfile", &auth, id, &to]));
        let again = good(&mut engine(program, &["pull", "--tls-verify=false", "--quiet", name]));
        assert!(id.contains(again.trim()) || again.trim().contains(id), "{program} pulled {again} instead of {id}");
    }
    good(&mut engine("podman", &["rmi", "--all", "--force"]));
}

#[test]
fn roles_in_a_namespace_rule_its_repositories() {
    let (Some(cluster), Some(space)) = (cluster(), space("team")) else { return };
    if !installed(&["skopeo"]) {
        return;
    }
    space.run(&["create", "serviceaccount", "pusher"]).good();
    let subject = format!("--serviceaccount={}:pusher", space.name());
    let role = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "push"},
        "rules": [{"apiGroups": ["registry.madang.dev"], "resources": ["repositories"], "verbs": ["get", "update"]}],
    });
    space.apply(&role.to_string());
    space.run(&["create", "rolebinding", "push", "--role=push", &subject]).good();
    let token = space.run(&["create", "token", "pusher"]).good();
    let archive = format!("docker-archive:{}", busybox().display());
    let push = |repository: &str, user: &str| {
        let mut command = cluster.place.command("skopeo");
        let to = format!("docker://127.0.0.1:5000/{repository}:1");
        command.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", user, &archive, &to]);
        command
    };
    let user = format!("pusher:{}", token.trim());
    good(&mut push(&format!("{}/app", space.name()), &user));
    refused(&mut push("other/app", &user));
    refused(&mut push("app", &user));
    refused(&mut push(&format!("{}/app", space.name()), "pusher:nonsense"));
}
