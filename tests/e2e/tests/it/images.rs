//! Images between this machine and registries: pushed and pulled with a login, as private bases of builds, and with results of steps.
//!
//! In the second tier.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::Cluster;

use crate::shared::{IMAGE, cluster, fresh, good, lacks, said};

/// Somebody on the machine, with credential files of their own.
struct User<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
}

/// What a command says that has to fail.
#[track_caller]
fn bad(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// What is said to who has not logged in, and not to a node that may not.
#[track_caller]
fn unknown(command: &mut Command) {
    let text = bad(command).to_lowercase();
    assert!(["unauthorized", "log in first", "authentication"].iter().any(|word| text.contains(word)), "{text}");
    assert!(!text.contains("system:node"), "{text}");
}

impl<'a> User<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("config")).unwrap();
        Self { cluster, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("config/config.json")
    }

    fn with_files(&self, mut command: Command) -> Command {
        command
            .env("HOME", self.folder.path())
            .env("DOCKER_CONFIG", self.path("config"))
            .env("REGISTRY_AUTH_FILE", self.path("none.json"))
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null());
        command
    }

    fn madang(&self, name: &str) -> Command {
        self.with_files(self.cluster.madang(name))
    }

    fn docker(&self) -> Option<Command> {
        let there = Command::new("docker").arg("--version").output().is_ok_and(|output| output.status.success());
        if lacks((!there).then_some("no docker on this machine: only its command line is needed")) {
            return None;
        }
        let mut command = self.with_files(self.cluster.place.command("docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.cluster.run_dir().join("docker.sock").display()));
        Some(command)
    }

    fn log_in(&self) {
        good(self.madang("login").arg("--file").arg(self.config()));
    }

    fn context(&self, dockerfile: &str) -> PathBuf {
        let context = self.path("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        context
    }

    /// Builds the files of a context's target; where they are.
    fn files(&self, name: &str, context: &Path, more: &[&str]) -> PathBuf {
        let files = self.path(name);
        let output = format!("type=local,dest={}", files.display());
        good(self.madang("build").args(["--output", &output]).args(more).arg(context));
        files
    }
}

#[test]
#[ignore = "needs docker"]
fn pushes_from_the_machine_show_the_login_and_not_the_nodes_certificate() {
    let Some(cluster) = cluster() else { return };
    let user = User::new(cluster);
    let hosts = [
        "registry.madang.internal".to_owned(),
        "127.0.0.1:5000".to_owned(),
        "localhost:5000".to_owned(),
        format!("{}:5000", cluster.place.address),
    ];
    let names = hosts.clone().map(|host| format!("{host}/host/app:1"));
    for name in &names {
        good(user.madang("tag").args([IMAGE, name]));
        unknown(user.madang("push").arg(name));
        if let Some(mut docker) = user.docker() {
            unknown(docker.args(["push", name]));
        }
    }
    // The node's certificate makes no password right.
    for host in &hosts {
        let Some(mut docker) = user.docker() else { continue };
        bad(docker.args(["login", "--username", "me", "--password", "wrong", host]));
    }
    let token = good(user.madang("login").arg("--print"));
    if let Some(mut docker) = user.docker() {
        good(docker.args(["login", "--username", "me", "--password", token.trim(), &hosts[0]]));
        good(user.docker().unwrap().args(["push", &names[0]]));
        fs::remove_file(user.config()).unwrap();
        unknown(user.docker().unwrap().args(["push", &names[0]]));
    }
    user.log_in();
    for name in &names {
        assert!(good(user.madang("push").arg(name)).contains("digest: sha256:"), "{name}");
        if let Some(mut docker) = user.docker() {
            assert!(good(docker.args(["push", name])).contains("digest: sha256:"), "{name}");
        }
        good(user.madang("rmi").arg(name));
        good(user.madang("pull").arg(name));
        good(user.madang("rmi").arg(name));
    }
    let context = user.context(&format!("FROM {IMAGE}\nRUN echo pushed > /by-a-build\n"));
    let built = "registry.madang.internal/host/built:1";
    good(user.madang("build").args(["--push", "--tag", built]).arg(&context));
    good(user.madang("rmi").arg(built));
    good(user.madang("pull").arg(built));
}

#[test]
fn private_images_are_pulled_and_built_from_with_the_users_credentials() {
    let Some(cluster) = fresh(60, &["--loopback-auth"]) else { return };
    let (user, stranger) = (User::new(&cluster), User::new(&cluster));
    user.log_in();
    let base = "127.0.0.1:5000/private/base:1";
    let context = user.context(&format!("FROM {IMAGE}\nRUN echo private > /said\n"));
    good(user.madang("build").args(["--push", "--tag", base]).arg(&context));
    good(user.madang("rmi").arg(base));
    unknown(stranger.madang("pull").arg(base));
    let dockerfile = format!("FROM {base}\nRUN cat /said > /read\n");
    let context = stranger.context(&dockerfile);
    let error = bad(stranger.madang("build").arg(&context));
    assert!(error.contains(base) && error.to_lowercase().contains("unauthorized"), "{error}");
    let context = user.context(&dockerfile);
    let files = user.files("files", &context, &[]);
    assert_eq!(fs::read_to_string(files.join("read")).unwrap(), "private\n");
    good(user.madang("rmi").arg(base));
    // As what files are copied from, and as a context of a name.
    let context =
        user.context(&format!("FROM scratch\nCOPY --from={base} /said /copied\nCOPY --from=named /said /too\n"));
    let named = format!("named=docker-image://{base}");
    let files = user.files("copied", &context, &["--build-context", &named]);
    assert_eq!(fs::read_to_string(files.join("copied")).unwrap(), "private\n");
    assert_eq!(fs::read_to_string(files.join("too")).unwrap(), "private\n");
    good(user.madang("rmi").arg(base));
    good(user.madang("pull").arg(base));
}

#[test]
#[ignore = "needs docker"]
fn results_of_steps_travel_by_directories_and_inside_images() {
    let Some(cluster) = cluster() else { return };
    let user = User::new(cluster);
    let Some(mut docker) = user.docker() else { return };
    docker.args(["builder", "prune", "--all", "--force"]);
    // Something else each time that it is carried out.
    let context = user.context(&format!("FROM {IMAGE}\nRUN head -c 16 /dev/urandom > /made # and carried\n"));
    let made = |name: &str, more: &[&str]| fs::read(user.files(name, &context, more).join("made")).unwrap();
    let folder = user.path("cache");
    let to = format!("type=local,dest={},mode=max", folder.display());
    let from = format!("type=local,src={}", folder.display());
    let first = made("first", &["--cache-to", &to]);
    assert!(folder.join("index.json").exists());
    assert_eq!(made("again", &[]), first);
    good(&mut docker);
    assert_ne!(made("other", &[]), first);
    good(&mut docker);
    assert_eq!(made("carried", &["--cache-from", &from]), first);
    // One that is not there, or is none, is no error.
    fs::write(folder.join("index.json"), "{}").unwrap();
    good(&mut docker);
    assert_ne!(made("damaged", &["--cache-from", &from]), first);
    let nowhere = format!("type=local,src={}", user.path("none").display());
    made("nowhere", &["--cache-from", &nowhere]);

    user.log_in();
    good(&mut docker);
    let name = "127.0.0.1:5000/carried/inside:1";
    good(user.madang("build").args(["--push", "--cache-to", "type=inline", "--tag", name]).arg(&context));
    let pushed = made("pushed", &[]);
    good(user.madang("rmi").arg(name));
    good(&mut docker);
    assert_eq!(made("inside", &["--cache-from", &format!("type=registry,ref={name}")]), pushed);
}
