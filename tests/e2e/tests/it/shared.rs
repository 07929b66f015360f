//! The one cluster of this binary, and the image that its pods run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use e2e::{Cluster, Kubectl, Options, Place};

/// The image of most tests: a static busybox.
pub const IMAGE: &str = "test.madang.dev/busybox:1";

/// The cluster, if tests that need root can run here.
pub fn cluster() -> Option<&'static Cluster> {
    // A cluster that does not start fails every test at once, and is not tried again for each.
    static SHARED: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        std::panic::catch_unwind(|| fresh(0, &[])).map_err(|panic| {
            panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the cluster did not start".into())
        })
    });
    shared.as_ref().unwrap_or_else(|error| panic!("{error}")).as_ref()
}

/// A cluster of its own for tests that kill it.
pub fn fresh(n: u32, flags: &[&str]) -> Option<Cluster> {
    if lacks(missing()) {
        return None;
    }
    Some(fresh_in(Place::new(n).expect("make a place"), n, flags))
}

/// The same in a place where something is there already.
pub fn fresh_in(place: Place, n: u32, flags: &[&str]) -> Cluster {
    let options = Options { flags: flags.iter().map(|flag| (*flag).to_owned()).collect() };
    let cluster = Cluster::start(place, n, &options).expect("start a cluster");
    cluster.load(&busybox()).expect("load the test image");
    cluster
}

/// Whether something is missing, which only matters less than everything where nobody relies on the tests.
pub fn lacks(missing: Option<&str>) -> bool {
    let Some(missing) = missing else { return false };
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("not run: {missing}");
    true
}

/// What containers need and this machine lacks.
pub fn missing() -> Option<&'static str> {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        return Some("containers need root");
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox: install busybox-static");
    }
    None
}

/// What a command has printed.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a command has printed that must succeed.
#[track_caller]
pub fn good(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of its own for one test, removed in the background afterwards.
pub struct Space {
    /// kubectl, set to the namespace.
    pub kubectl: Kubectl<'static>,
    name: String,
}

impl std::ops::Deref for Space {
    type Target = Kubectl<'static>;

    fn deref(&self) -> &Self::Target {
        &self.kubectl
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = self.kubectl.run(&["get", "pods,events", "--output=wide"]);
            eprintln!("{}{}", state.out, state.err);
        }
        let _ = self.kubectl.run(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// A new namespace on the shared cluster; `None` where tests that need root cannot run.
pub fn space(name: &str) -> Option<Space> {
    let cluster = cluster()?;
    Some(Space::new(name, |name| cluster.kubectl(name)))
}

impl Space {
    /// Makes a namespace whose name begins with `name`, and that has its service account.
    pub fn new(name: &str, kubectl: impl FnOnce(&str) -> Kubectl<'static>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let kubectl = kubectl(&name);
        kubectl.run(&["create", "namespace", &name]).good();
        kubectl
            .until(&["get", "serviceaccount", "default", "--ignore-not-found", "--output=name"], |out| !out.is_empty());
        Self { kubectl, name }
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An archive of the test image, as `docker save` writes one.
pub fn busybox() -> PathBuf {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().expect("image");
    made.get_or_insert_with(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
        let dir = dir.path();
        let root = dir.join("root");
        for name in ["bin", "etc", "tmp", "root"] {
            fs::create_dir_all(root.join(name)).expect("make image");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("copy busybox");
        let applets = Command::new("/bin/busybox").arg("--list").output().expect("list applets");
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
            let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n")
            .expect("passwd");
        // A static glibc crashes when it looks for the modules of its defaults.
        let sources = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";
        fs::write(root.join("etc/nsswitch.conf"), sources).expect("nsswitch.conf");
        fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1000:\n").expect("group");
        pack(dir, &root);
        // One for all runs: whoever reads the one before keeps reading that.
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox-image.tar");
        fs::rename(dir.join("image.tar"), &image).expect("keep the image");
        image
    })
    .clone()
}

fn pack(dir: &Path, root: &Path) {
    let tar = |arguments: &[&str]| {
        let done = Command::new("tar").current_dir(dir).args(arguments).status().expect("run tar");
        assert!(done.success(), "tar {arguments:?}");
    };
    let root = root.to_str().expect("a plain path");
    tar(&["--create", "--file=layer.tar", "--numeric-owner", "--owner=0", "--group=0", "--directory", root, "."]);
    let sum = Command::new("sha256sum").current_dir(dir).arg("layer.tar").output().expect("sha256sum");
    let digest = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().expect("a digest").to_owned();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"],"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    fs::write(dir.join("config.json"), config).expect("write config");
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{IMAGE}"],"Layers":["layer.tar"]}}]"#);
    fs::write(dir.join("manifest.json"), manifest).expect("write manifest");
    tar(&["--create", "--file=image.tar", "manifest.json", "config.json", "layer.tar"]);
}

/// A pod that runs `script`.
pub fn pod(name: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, {}]
"#,
        serde_json::to_string(script).expect("a string")
    )
}
