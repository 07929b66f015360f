//! Further clients: docker-py and Testcontainers at the engine's socket, python-jenkins at the pipelines' remote API, whose cases are Python
//! beside this crate; and docker's command line of the version after that which distributions have.
//!
//! In the second tier. `MADANG_PYTHON` names a folder with the libraries, `MADANG_DOCKER` the command line, `MADANG_RYUK` the program
//! that cleans up after Testcontainers.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::shared::{IMAGE, cluster, good, lacks, said, space};

/// What a variable names, where that is there.
fn named(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        lacks(Some(&format!("{variable} names nothing")));
    }
    found
}

/// Runs a file of cases, with more variables; each that fails is in what it prints.
fn python(file: &str, more: &[(&str, String)]) {
    let Some(cluster) = cluster() else { return };
    let Some(libraries) = named("MADANG_PYTHON") else { return };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file);
    let mut command = cluster.place.command("python3");
    command
        .arg("-B")
        .arg(cases)
        .env("PYTHONPATH", libraries)
        .env("DOCKER_HOST", format!("unix://{}", cluster.run_dir().join("docker.sock").display()))
        .env("IMAGE", IMAGE)
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("\nOK"), "{}", said(&output));
}

#[test]
#[ignore = "needs docker-py"]
fn docker_py_does_its_everyday_operations() {
    python("docker_py.py", &[]);
}

#[test]
#[ignore = "needs testcontainers"]
fn testcontainers_finds_what_it_asks_for() {
    python("testcontainers_py.py", &[]);
}

#[test]
#[ignore = "needs testcontainers and ryuk"]
fn ryuk_reaps_what_a_run_of_testcontainers_has_left() {
    let Some(program) = named("MADANG_RYUK") else { return };
    python("ryuk_py.py", &[("RYUK", program.display().to_string())]);
}

#[test]
#[ignore = "needs python-jenkins"]
fn python_jenkins_lists_makes_starts_follows_and_stops() {
    let Some(cluster) = cluster() else { return };
    let Some(space) = space("jenkins") else { return };
    let token = cluster.madang("token").output().unwrap();
    assert!(token.status.success(), "{}", said(&token));
    let ports: serde_json::Value =
        serde_json::from_slice(&std::fs::read(cluster.run_dir().join("ports.json")).unwrap()).unwrap();
    let more = [
        ("URL", format!("http://127.0.0.1:{}/jenkins", ports["console"])),
        ("TOKEN", String::from_utf8_lossy(&token.stdout).trim().to_owned()),
        ("SPACE", space.name().to_owned()),
    ];
    python("jenkins_py.py", &more);
}

/// The newer command line.
struct Docker {
    program: PathBuf,
    config: tempfile::TempDir,
}

impl Docker {
    fn new() -> Option<Self> {
        cluster()?;
        let program = named("MADANG_DOCKER")?;
        let config = tempfile::tempdir().unwrap();
        let plugins = config.path().join("cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(named("MADANG_BUILDX")?, plugins.join("docker-buildx")).unwrap();
        Some(Self { program, config })
    }

    fn output(&self, line: &[&str]) -> Output {
        let cluster = cluster().unwrap();
        let mut command: Command = cluster.place.command(&self.program);
        command
            .args(line)
            .env("DOCKER_HOST", format!("unix://{}", cluster.run_dir().join("docker.sock").display()))
            .env("DOCKER_CONFIG", self.config.path())
            .env("BUILDX_CONFIG", self.config.path().join("buildx"))
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    fn bad(&self, line: &[&str]) -> String {
        let output = self.output(line);
        assert!(!output.status.success(), "{line:?}: {}", said(&output));
        said(&output)
    }
}

#[test]
#[ignore = "needs docker 29"]
fn docker_29_runs_looks_at_and_removes_containers() {
    let Some(docker) = Docker::new() else { return };
    assert!(docker.good(&["version", "--format", "{{.Client.Version}}"]).starts_with("29."));
    assert_eq!(docker.good(&["run", "--rm", IMAGE, "echo", "hello"]), "hello");
    docker.good(&["run", "-d", "--name", "d29", "--init", IMAGE, "sh", "-c", "echo said; sleep 1000"]);
    assert!(docker.good(&["ps", "--format", "{{.Names}} {{.State}}"]).lines().any(|line| line == "d29 running"));
    assert_eq!(docker.good(&["exec", "d29", "echo", "in"]), "in");
    assert_eq!(docker.good(&["logs", "d29"]), "said");
    assert!(docker.good(&["stats", "--no-stream", "--format", "{{.Name}}"]).lines().any(|line| line == "d29"));
    assert!(docker.good(&["top", "d29", "-o", "pid,args"]).contains("sleep 1000"));
    docker.good(&["update", "--memory", "64m", "--memory-swap", "128m", "d29"]);
    docker.good(&["exec", "d29", "touch", "/made"]);
    assert!(docker.good(&["diff", "d29"]).lines().any(|line| line == "A /made"));
    let image = docker.good(&["commit", "-m", "why", "-c", "CMD [\"ls\", \"/made\"]", "d29", "d29/made:1"]);
    assert!(image.starts_with("sha256:"), "{image}");
    assert_eq!(docker.good(&["run", "--rm", "d29/made:1"]), "/made");
    assert!(docker.good(&["history", "--format", "{{.Comment}}", "d29/made:1"]).starts_with("why"));
    // An image of its own: of another with several names only this one would go, and other tests would lose it.
    docker.good(&["run", "-d", "--name", "d29-made", "d29/made:1", "sleep", "1000"]);
    let used = docker.bad(&["rmi", "d29/made:1"]);
    assert!(used.contains("conflict: unable to") && used.contains("container"), "{used}");
    docker.good(&["rm", "-f", "d29-made"]);
    docker.good(&["rename", "d29", "d29-b"]);
    docker.good(&["restart", "-t", "1", "d29-b"]);
    docker.good(&["stop", "-t", "1", "d29-b"]);
    assert_eq!(docker.good(&["wait", "d29-b"]), docker.good(&["inspect", "-f", "{{.State.ExitCode}}", "d29-b"]));
    docker.good(&["rm", "d29-b"]);
    docker.good(&["rmi", "d29/made:1"]);
    assert!(docker.good(&["system", "df"]).contains("Build Cache"));
    assert!(docker.bad(&["service", "ls"]).contains("not a swarm manager"));
}

#[test]
#[ignore = "needs docker 29"]
fn docker_29_builds_lists_pushes_and_pulls_images() {
    let Some(docker) = Docker::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Dockerfile"), format!("FROM {IMAGE}\nRUN echo built > /built\n")).unwrap();
    let name = "127.0.0.1:5000/d29/built:1";
    docker.good(&["build", "-t", name, folder.path().to_str().unwrap()]);
    assert!(docker.good(&["images"]).contains("d29/built"));
    assert!(docker.good(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().any(|line| line == name));
    let id = docker.good(&["image", "inspect", "-f", "{{.Id}}", name]);
    good(cluster().unwrap().madang("login").arg("--file").arg(docker.config.path().join("config.json")));
    assert!(docker.good(&["push", name]).contains("digest: sha256:"));
    docker.good(&["rmi", name]);
    docker.good(&["pull", name]);
    assert_eq!(docker.good(&["image", "inspect", "-f", "{{.Id}}", name]), id);
    let archive = folder.path().join("image.tar");
    docker.good(&["save", "-o", archive.to_str().unwrap(), name]);
    docker.good(&["rmi", name]);
    assert!(docker.good(&["load", "-i", archive.to_str().unwrap()]).contains("Loaded image"));
    docker.good(&["rmi", name]);
}
