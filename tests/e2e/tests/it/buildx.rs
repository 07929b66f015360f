//! Docker's own client, its builder buildx among it, on the engine's socket: builds, pushes, archives.
//!
//! In the second tier: needs `docker` 28 or newer, and buildx, which `MADANG_BUILDX` names.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::shared::{IMAGE, cluster, good, lacks, said};

/// A client with a configuration of its own, and a folder for its files.
struct Docker {
    folder: tempfile::TempDir,
    socket: PathBuf,
}

impl Docker {
    /// None where this machine has no client.
    fn new() -> Option<Self> {
        let cluster = cluster()?;
        let buildx = std::env::var_os("MADANG_BUILDX").map(PathBuf::from).filter(|path| path.exists());
        let found = Command::new("docker").arg("--version").output().is_ok_and(|output| output.status.success());
        if lacks((!found).then_some("no docker: install docker-cli")) {
            return None;
        }
        let Some(buildx) = buildx else {
            lacks(Some("no buildx: MADANG_BUILDX names none"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("config/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(buildx, plugins.join("docker-buildx")).unwrap();
        Some(Self { folder, socket: cluster.run_dir().join("docker.sock") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes files of a context; paths may have directories.
    fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let context = self.path(name);
        for (path, text) in files {
            let file = context.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        context
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = cluster().unwrap().place.command("docker");
        command
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", self.path("config"))
            .env("BUILDX_CONFIG", self.path("buildx"))
            .env("BUILDKIT_PROGRESS", "plain")
            .env_remove("DOCKER_CONTEXT");
        command
    }

    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        good(&mut self.command(arguments))
    }

    /// What a command that has to fail says.
    #[track_caller]
    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[ignore = "needs docker and buildx"]
fn buildx_builds_from_a_context_and_says_which_step_failed() {
    let Some(docker) = Docker::new() else { return };
    let context = docker.context(
        "context",
        &[
            (
                "Dockerfile",
                &format!("FROM {IMAGE}\nARG WHO=nobody\nCOPY . /files\nRUN echo \"$WHO\" > /who && ls /files\n"),
            ),
            (".dockerignore", "*.log\n"),
            ("a.txt", "a"),
            ("b.log", "b"),
            ("deep/er/c.txt", "c"),
        ],
    );
    let built = docker.good(&[
        "buildx",
        "build",
        "-q",
        "-t",
        "buildx/plain:1",
        "--build-arg",
        "WHO=me",
        "--label",
        "a=b",
        text(&context),
    ]);
    assert!(built.trim().starts_with("sha256:"), "{built}");
    let found = docker.good(&["image", "inspect", "-f", "{{index .Config.Labels \"a\"}}", "buildx/plain:1"]);
    assert_eq!(found.trim(), "b");
    let files = docker.path("files");
    let output = format!("type=local,dest={}", files.display());
    docker.good(&["buildx", "build", "--build-arg", "WHO=me", "-o", &output, text(&context)]);
    assert_eq!(fs::read_to_string(files.join("who")).unwrap(), "me\n");
    assert_eq!(fs::read_to_string(files.join("files/deep/er/c.txt")).unwrap(), "c");
    assert!(files.join("files/a.txt").exists() && !files.join("files/b.log").exists());

    let context =
        docker.context("failing", &[("Dockerfile", &format!("FROM {IMAGE}\nRUN echo out of luck; exit 7\n"))]);
    let said = docker.bad(&["buildx", "build", text(&context)]);
    for part in ["out of luck", "exit code: 7", "Dockerfile:2", ">>> RUN echo out of luck"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
#[ignore = "needs docker and buildx"]
fn secrets_and_named_contexts_reach_a_build_and_stay_out_of_its_image() {
    let Some(docker) = Docker::new() else { return };
    let dockerfile = format!(
        "FROM {IMAGE}\nRUN --mount=type=secret,id=word test \"$(cat /run/secrets/word)\" = hush\nCOPY --from=more other.txt /\n"
    );
    let context = docker.context("context", &[("Dockerfile", &dockerfile)]);
    let more = docker.context("more", &[("other.txt", "other")]);
    let secret = docker.path("word");
    fs::write(&secret, "hush").unwrap();
    let files = docker.path("files");
    docker.good(&[
        "buildx",
        "build",
        "--secret",
        &format!("id=word,src={}", secret.display()),
        "--build-context",
        &format!("more={}", more.display()),
        "-o",
        &format!("type=tar,dest={}.tar", files.display()),
        text(&context),
    ]);
    let listed = good(Command::new("tar").args(["-tf", &format!("{}.tar", files.display())]));
    assert!(listed.lines().any(|line| line.trim_start_matches("./") == "other.txt"), "{listed}");
    let content = good(Command::new("tar").args(["-xOf", &format!("{}.tar", files.display()), "other.txt"]));
    assert_eq!(content, "other");
}

#[test]
#[ignore = "needs docker and buildx"]
fn bake_builds_targets_of_which_one_starts_from_the_other() {
    let Some(docker) = Docker::new() else { return };
    let bake = "group \"default\" { targets = [\"base\", \"app\"] }\n\
                target \"base\" {\n  dockerfile = \"base.Dockerfile\"\n  tags = [\"bake/base:1\"]\n}\n\
                target \"app\" {\n  dockerfile = \"app.Dockerfile\"\n  tags = [\"bake/app:1\"]\n  contexts = { base = \"target:base\" }\n}\n";
    let context = docker.context(
        "context",
        &[
            ("docker-bake.hcl", bake),
            ("base.Dockerfile", &format!("FROM {IMAGE}\nRUN echo base > /base\n")),
            ("app.Dockerfile", "FROM base\nRUN cat /base > /app\n"),
        ],
    );
    let mut command = docker.command(&["buildx", "bake"]);
    good(command.current_dir(&context));
    for name in ["bake/base:1", "bake/app:1"] {
        docker.good(&["image", "inspect", name]);
    }
    // What the one handed to the other had a name meanwhile.
    let names = docker.good(&["images", "--format", "{{.Repository}}"]);
    let left = names.lines().find(|name| name.starts_with("madang.internal/"));
    assert_eq!(left, None, "{names}");
}

#[test]
#[ignore = "needs docker and buildx"]
fn the_older_builder_takes_the_same_files() {
    let Some(docker) = Docker::new() else { return };
    let context = docker.context(
        "context",
        &[("Dockerfile", &format!("FROM {IMAGE}\nCOPY a.txt /\nRUN cat /a.txt\n")), ("a.txt", "hello\n")],
    );
    let mut command = docker.command(&["build", "-t", "classic/plain:1", text(&context)]);
    let printed = good(command.env("DOCKER_BUILDKIT", "0"));
    for part in ["Step 1/", "hello", "Successfully built", "Successfully tagged classic/plain:1"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
#[ignore = "needs docker and buildx"]
fn images_survive_save_and_load_and_hostile_archives_do_not() {
    let Some(docker) = Docker::new() else { return };
    let archive = docker.path("image.tar");
    docker.good(&["tag", IMAGE, "saved/copy:1"]);
    docker.good(&["save", "-o", text(&archive), "saved/copy:1"]);
    let id = docker.good(&["image", "inspect", "-f", "{{.Id}}", "saved/copy:1"]);
    assert!(docker.good(&["rmi", "saved/copy:1"]).contains("Untagged: saved/copy:1"));
    assert!(docker.bad(&["image", "inspect", "saved/copy:1"]).contains("No such image"));
    assert!(docker.good(&["load", "-i", text(&archive)]).contains("Loaded image: saved/copy:1"));
    assert_eq!(docker.good(&["image", "inspect", "-f", "{{.Id}}", "saved/copy:1"]), id);

    let broken = docker.path("broken.tar");
    let mut bytes = fs::read(&archive).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&broken, bytes).unwrap();
    docker.bad(&["load", "-i", text(&broken)]);
    let hostile = docker.context(
        "hostile",
        &[("manifest.json", r#"[{"Config":"../../etc/passwd","RepoTags":["x/y:1"],"Layers":[]}]"#)],
    );
    let packed = docker.path("hostile.tar");
    good(Command::new("tar").arg("-cf").arg(&packed).arg("-C").arg(&hostile).arg("manifest.json"));
    assert!(docker.bad(&["load", "-i", text(&packed)]).contains("missing"));
}

#[test]
#[ignore = "needs docker and buildx"]
fn pushes_go_to_the_registry_after_a_login_and_not_before() {
    let Some(docker) = Docker::new() else { return };
    let cluster = cluster().unwrap();
    let registry = "127.0.0.1:5000";
    let name = format!("{registry}/pushed/app:1");
    docker.good(&["tag", IMAGE, &name]);
    let refused = docker.bad(&["push", &name]).to_lowercase();
    assert!(
        refused.contains("denied") || refused.contains("unauthorized") || refused.contains("authentication"),
        "{refused}"
    );
    good(cluster.madang("login").args(["--file", text(&docker.path("config/config.json"))]));
    let pushed = docker.good(&["push", &name]);
    assert!(pushed.contains("1: digest: sha256:"), "{pushed}");
    docker.good(&["rmi", &name]);
    assert!(
        docker.good(&["pull", &name]).contains("Downloaded newer image")
            || docker.good(&["image", "inspect", &name]).len() > 2
    );
    let context =
        docker.context("context", &[("Dockerfile", &format!("FROM {IMAGE}\nRUN echo pushed > /by-the-builder\n"))]);
    docker.good(&["buildx", "build", "--push", "-t", &format!("{registry}/pushed/built:1"), text(&context)]);
    docker.good(&["rmi", &format!("{registry}/pushed/built:1")]);
    docker.good(&["pull", &format!("{registry}/pushed/built:1")]);
}

/// What a step made that makes something else each time.
fn made(files: &Path) -> Vec<u8> {
    fs::read(files.join("made")).unwrap()
}

const RANDOM: &str = "RUN head -c 16 /dev/urandom > /made\n";

#[test]
#[ignore = "needs docker and buildx"]
fn results_of_steps_travel_by_folders_of_the_client_and_inside_images() {
    let Some(docker) = Docker::new() else { return };
    let context = docker.context("context", &[("Dockerfile", &format!("FROM {IMAGE}\n{RANDOM}"))]);
    let build = |name: &str, more: &[&str]| {
        let files = docker.path(name);
        let output = format!("type=local,dest={}", files.display());
        docker.good(&[&["buildx", "build", "-o", &output], more, &[text(&context)]].concat());
        made(&files)
    };
    let folder = docker.path("cache");
    let first = build("first", &["--cache-to", &format!("type=local,dest={},mode=max", folder.display())]);
    assert!(folder.join("index.json").exists());
    docker.good(&["buildx", "prune", "--all", "--force"]);
    assert_ne!(build("other", &[]), first);
    docker.good(&["buildx", "prune", "--all", "--force"]);
    assert_eq!(build("carried", &["--cache-from", &format!("type=local,src={}", folder.display())]), first);
    // One that is not there is no error.
    build("none", &["--cache-from", &format!("type=local,src={}", docker.path("none-such").display())]);

    good(cluster().unwrap().madang("login").args(["--file", text(&docker.path("config/config.json"))]));
    let name = "127.0.0.1:5000/carried/inline:1";
    docker.good(&["buildx", "prune", "--all", "--force"]);
    docker.good(&["buildx", "build", "--push", "--cache-to", "type=inline", "-t", name, text(&context)]);
    let pushed = docker.good(&["run", "--rm", name, "sh", "-c", "od -An -tx1 /made | tr -d ' \n'"]);
    docker.good(&["rmi", name]);
    docker.good(&["buildx", "prune", "--all", "--force"]);
    let again = build("inline", &["--cache-from", &format!("type=registry,ref={name}")]);
    let again: String = again.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(again, pushed.trim());
}

#[test]
#[ignore = "needs docker and buildx"]
fn archives_and_layouts_are_packed_as_asked() {
    let Some(docker) = Docker::new() else { return };
    let context = docker.context("context", &[("Dockerfile", &format!("FROM {IMAGE}\nRUN echo packed > /packed\n"))]);
    let manifest = |read: &dyn Fn(&str) -> String| -> serde_json::Value {
        let index: serde_json::Value = serde_json::from_str(&read("index.json")).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        serde_json::from_str(&read(&format!("blobs/sha256/{digest}"))).unwrap()
    };
    for (form, compression, wanted) in
        [("oci", "zstd", "tar+zstd"), ("docker", "gzip", "tar+gzip"), ("oci", "uncompressed", "tar")]
    {
        let archive = docker.path(&format!("{form}-{compression}.tar"));
        let output = format!("type={form},dest={},compression={compression},name=packed/app:1", archive.display());
        docker.good(&["buildx", "build", "-o", &output, text(&context)]);
        let read = |member: &str| good(Command::new("tar").arg("-xOf").arg(&archive).arg(member));
        let layers = manifest(&read)["layers"].as_array().unwrap().clone();
        assert!(layers.iter().all(|layer| layer["mediaType"].as_str().unwrap().ends_with(wanted)), "{layers:?}");
    }
    let layout = docker.path("layout");
    let output = format!("type=oci,dest={},tar=false", layout.display());
    docker.good(&["buildx", "build", "-o", &output, text(&context)]);
    let read = |member: &str| fs::read_to_string(layout.join(member)).unwrap();
    for layer in manifest(&read)["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let size = fs::metadata(layout.join("blobs/sha256").join(digest)).unwrap().len();
        assert_eq!(layer["size"].as_u64(), Some(size));
    }
}

#[test]
#[ignore = "needs docker and buildx"]
fn several_platforms_become_an_index() {
    let Some(docker) = Docker::new() else { return };
    // Nothing of a foreign platform is run.
    let dockerfile = "FROM scratch\nARG TARGETPLATFORM\nCOPY ${TARGETPLATFORM} /\nENV P=$TARGETPLATFORM\n";
    let files = [("Dockerfile", dockerfile), ("linux/amd64/is", "amd64"), ("linux/arm64/is", "arm64")];
    let context = docker.context("context", &files);
    let platforms = ["buildx", "build", "--platform", "linux/amd64,linux/arm64"];
    let build = |more: &[&str]| docker.good(&[&platforms, more, &[text(&context)]].concat());
    let architectures = |index: &serde_json::Value| {
        let all = index["manifests"].as_array().unwrap().iter();
        all.map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // An archive.
    let archive = docker.path("index.tar");
    build(&["-o", &format!("type=oci,dest={}", archive.display())]);
    let read = |member: &str| -> serde_json::Value {
        serde_json::from_str(&good(Command::new("tar").arg("-xOf").arg(&archive).arg(member))).unwrap()
    };
    let digest = read("index.json")["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    assert_eq!(architectures(&read(&format!("blobs/sha256/{digest}"))), ["amd64", "arm64"]);
    // A registry.
    good(cluster().unwrap().madang("login").args(["--file", text(&docker.path("config/config.json"))]));
    let name = "127.0.0.1:5000/several/app:1";
    let metadata = docker.path("metadata.json");
    build(&["--push", "-t", name, "--metadata-file", text(&metadata)]);
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(&metadata).unwrap()).unwrap();
    let raw = docker.good(&["buildx", "imagetools", "inspect", "--raw", name]);
    assert_eq!(architectures(&serde_json::from_str(&raw).unwrap()), ["amd64", "arm64"]);
    let digest = told["containerimage.digest"].as_str().unwrap();
    let inspected = docker.good(&["buildx", "imagetools", "inspect", name]);
    assert!(inspected.contains(digest), "{digest}: {inspected}");
    // Files, a directory for each.
    let files = docker.path("files");
    build(&["-o", &format!("type=local,dest={}", files.display())]);
    for architecture in ["amd64", "arm64"] {
        let found = fs::read_to_string(files.join(format!("linux_{architecture}/is"))).unwrap();
        assert_eq!(found, architecture);
    }
    // Here the name is the image that runs here.
    build(&["-t", "several/here:1"]);
    let shown = docker.good(&["image", "inspect", "-f", "{{.Architecture}} {{.Config.Env}}", "several/here:1"]);
    assert!(shown.trim() == "amd64 [P=linux/amd64]" || shown.contains("P=linux/amd64"), "{shown}");
    let refused = docker.bad(&[&platforms[..], &["-o", "type=docker", text(&context)]].concat());
    assert!(refused.contains("manifest lists"), "{refused}");
    // What is to run has to run here.
    let foreign = docker.context("foreign", &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nRUN [\"/x\"]\n")]);
    let refused = docker.bad(&["buildx", "build", "--platform", "linux/amd64,linux/s390x", text(&foreign)]);
    assert!((refused.contains("s390x") && refused.contains("emulator")) || refused.contains("/x"), "{refused}");
}

#[test]
#[ignore = "needs docker and buildx"]
fn a_layout_of_the_client_is_a_context() {
    let Some(docker) = Docker::new() else { return };
    let base =
        docker.context("base", &[("Dockerfile", &format!("FROM {IMAGE}\nENV FROM=layout\nRUN echo kept > /kept\n"))]);
    let layout = docker.path("layout");
    let output = format!("type=oci,dest={},tar=false,name=laid/out:2", layout.display());
    docker.good(&["buildx", "build", "-o", &output, text(&base)]);
    let context = docker.context("context", &[("Dockerfile", "FROM base\nRUN echo $FROM $(cat /kept) > /said\n")]);
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for reference in [String::new(), ":2".to_owned(), format!("@{digest}")] {
        let named = format!("base=oci-layout://{}{reference}", layout.display());
        let files = docker.path(&format!("files-{}", reference.len()));
        let output = format!("type=local,dest={}", files.display());
        docker.good(&["buildx", "build", "--no-cache", "--build-context", &named, "-o", &output, text(&context)]);
        assert_eq!(fs::read_to_string(files.join("said")).unwrap(), "layout kept\n", "{named}");
        let built = docker.path(&format!("built-{}", reference.len()));
        let output = format!("type=local,dest={}", built.display());
        let mut build = cluster().unwrap().madang("build");
        good(build.args(["--no-cache", "--build-context", &named, "-o", &output, text(&context)]));
        assert_eq!(fs::read_to_string(built.join("said")).unwrap(), "layout kept\n", "{named}");
    }
    let missing = format!("base=oci-layout://{}@sha256:{}", layout.display(), "0".repeat(64));
    let refused = docker.bad(&["buildx", "build", "--build-context", &missing, text(&context)]);
    assert!(refused.contains("not found") || refused.contains("fetch blob"), "{refused}");
}

/// The key of an agent, made for one test, and the agent, ended with it.
struct Agent {
    process: std::process::Child,
    socket: PathBuf,
    key: PathBuf,
    fingerprint: String,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let (socket, key) = (folder.join("agent"), folder.join("key"));
        good(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "of the test", "-f"]).arg(&key));
        let process = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let printed = good(Command::new("ssh-keygen").arg("-lf").arg(&key));
        let fingerprint = printed.split(' ').nth(1).unwrap().to_owned();
        let agent = Self { process, socket, key, fingerprint };
        for _ in 0..500 {
            if std::os::unix::net::UnixStream::connect(&agent.socket).is_ok() {
                good(agent.add().arg("-q").arg(&agent.key));
                return agent;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the agent did not start");
    }

    fn add(&self) -> Command {
        let mut add = Command::new("ssh-add");
        add.env("SSH_AUTH_SOCK", &self.socket);
        add
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Puts programs of this machine into a context, in `root/bin`, and what they are linked with below `root`.
fn with_programs(context: &Path, programs: &[&str]) {
    let mut copied = Vec::new();
    for program in programs {
        let linked = good(Command::new("ldd").arg(program));
        let of_line = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
        copied.extend(linked.lines().filter_map(of_line).map(|path| (path.clone(), path)));
        copied.push(((*program).to_owned(), program.replace("/usr/", "/")));
    }
    for (path, to) in copied {
        let to = context.join("root").join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&path, to).unwrap();
    }
}

#[test]
#[ignore = "needs docker, buildx and OpenSSH's client"]
fn steps_use_the_keys_of_an_agent_that_the_client_forwards() {
    let Some(docker) = Docker::new() else { return };
    let missing =
        ["ssh-agent", "ssh-add", "ssh-keygen"].into_iter().find(|name| !Path::new("/usr/bin").join(name).exists());
    if lacks(missing.map(|_| "no ssh-agent, ssh-add and ssh-keygen: install openssh-client")) {
        return;
    }
    let agent = Agent::start(docker.folder.path());
    let context = docker.path("context");
    with_programs(&context, &["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"]);
    let base = format!("FROM {IMAGE}\nCOPY root /\n");
    let public = fs::read_to_string(agent.key.with_extension("pub")).unwrap();
    fs::write(context.join("public"), &public).unwrap();
    // What an agent is for, what is not for a step to do, and nothing left behind.
    let whole = format!(
        "{base}COPY public /\n\
         RUN --mount=type=ssh,required chmod 1777 /tmp && ssh-add -l > /listed && test \"$SSH_AUTH_SOCK\" = /run/buildkit/ssh_agent.0\n\
         RUN --mount=type=ssh echo signed > /signed && ssh-keygen -Y sign -f /public -n test /signed && \
         echo \"me $(cat /public)\" > /allowed && \
         ssh-keygen -Y verify -f /allowed -I me -n test -s /signed.sig < /signed > /verified\n\
         RUN --mount=type=ssh ssh-add -D 2> /refused; ssh-add -l > /kept\n\
         RUN --mount=type=ssh,id=second,target=/s/agent,mode=741,uid=100,gid=102 \
         test \"$SSH_AUTH_SOCK\" = /s/agent && stat -c '%u %g %f' /s/agent > /modes && ssh-add -l > /second\n\
         USER web\n\
         RUN --mount=type=ssh,uid=1000 ssh-add -l > /tmp/by-web\n\
         ENV SSH_AUTH_SOCK=/own\n\
         RUN --mount=type=ssh,uid=1000 test $SSH_AUTH_SOCK = /own && SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0 ssh-add -l > /tmp/own\n\
         RUN test ! -e /run/buildkit && test ! -e /s\n"
    );
    fs::write(context.join("Dockerfile"), &whole).unwrap();
    let socket = text(&agent.socket);
    let second = format!("second={}", agent.key.display());
    let build = |by: &str, more: &[&str]| {
        let mut command = match by {
            "docker" => docker.command(&["buildx", "build"]),
            _ => cluster().unwrap().madang("build"),
        };
        command.env("SSH_AUTH_SOCK", socket).args(["--no-cache", "--progress", "plain"]).args(more).arg(&context);
        command
    };
    for by in ["docker", "madang"] {
        let files = docker.path(&format!("files-{by}"));
        let output = format!("type=local,dest={}", files.display());
        good(&mut build(by, &["--ssh", "default", "--ssh", &second, "-o", &output]));
        let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
        for name in ["listed", "kept", "second", "tmp/by-web", "tmp/own"] {
            assert!(read(name).contains(&agent.fingerprint), "{by}, {name}: {}", read(name));
        }
        assert!(read("listed").contains("of the test"), "{by}: {}", read("listed"));
        assert!(read("verified").contains("Good \"test\" signature for me"), "{by}: {}", read("verified"));
        assert!(read("refused").contains("Failed to remove all identities"), "{by}: {}", read("refused"));
        assert_eq!(read("modes"), "100 102 c1e1\n", "{by}");
    }
    assert!(good(agent.add().arg("-l")).contains(&agent.fingerprint));

    // Without one: what is required is missed, everything else goes on.
    let required = format!("{base}RUN --mount=type=ssh,required=true ssh-add -l\n");
    let optional = format!("{base}RUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK && ! ssh-add -l\n");
    for by in ["docker", "madang"] {
        fs::write(context.join("Dockerfile"), &required).unwrap();
        for given in [&[][..], &["--ssh", &second]] {
            let output = build(by, given).output().unwrap();
            let said = said(&output);
            assert!(!output.status.success(), "{by} {given:?}: {said}");
            for part in ["no SSH key \"default\" forwarded from the client: pass --ssh default", "Dockerfile:3"] {
                assert!(said.contains(part), "{by} {given:?}: {part}: {said}");
            }
        }
        fs::write(context.join("Dockerfile"), &optional).unwrap();
        good(&mut build(by, &[]));
        good(&mut build(by, &["--ssh", &second]));
    }
    // An agent that has gone since is no agent.
    let mut gone = build("madang", &["--ssh", "default"]);
    let output = gone.env("SSH_AUTH_SOCK", docker.path("none")).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("No such file"), "{}", said(&output));
}
